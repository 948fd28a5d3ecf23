"""TensorFlow-era pickles of NVIDIA: networks as (function, embedded source, variables). Nothing of it is built."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .names import instances
from .passive import Instance
from .persistence import Leaf, leaf
from .stored import FormatError, Storage, whole

CLASSES = ("dnnlib.tflib.network.Network", "tfutil.Network", "network.Network")
ORDER = ("G", "D", "Gs")  # of the three networks of a file

NAMES = instances(*CLASSES)


def is_network(value: object) -> bool:
    """Say whether a value of a pickle is such a network."""
    return type(value) is Instance and value.name in CLASSES


def state_of(network: Instance) -> dict[str, object]:
    """Return what was written of a network. Raises FormatError if that is nothing."""
    state = network.state
    if type(state) is not dict:
        raise FormatError("damaged: a network without its state")
    return state


def function_of(network: Instance) -> str | None:
    """Return the name of the function that would have built the network."""
    name = state_of(network).get("build_func_name")
    return name if isinstance(name, str) else None


def arguments_of(network: Instance) -> dict[str, object]:
    """Return what that function was given."""
    arguments = state_of(network).get("static_kwargs", {})
    if type(arguments) is not dict:
        raise FormatError("damaged: a network without its arguments")
    return {str(key): value for key, value in arguments.items()}


def tensors_of(network: Instance) -> dict[str, Leaf]:
    """Return the variables of a network, those of its components as ``component/name``.

    Raises:
        FormatError: naming what is not as in any known file. The value was measured before: this recurses.
    """
    return dict(_walk(network, ""))


def _walk(network: Instance, prefix: str) -> Iterator[tuple[str, Leaf]]:
    state = state_of(network)
    variables = state.get("variables")
    if type(variables) not in (list, tuple):
        raise FormatError("damaged: a network without its variables")
    for pair in variables:  # type: ignore[attr-defined]
        if type(pair) not in (list, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise FormatError("damaged: a variable without its name")
        name, value = prefix + pair[0], pair[1]
        if type(value) in (int, float, bool):
            raw = np.array([value], np.float32).tobytes()
            tensor: Leaf | None = whole(Storage(torch.float32, 1, data=raw), ())
        else:
            tensor = leaf(value)
        if tensor is None:
            raise FormatError(f"damaged: the variable {name!r:.100} is no array")
        yield name, tensor
    components = state.get("components", {})
    if type(components) is not dict:
        raise FormatError("damaged: a network without its components")
    for name, component in components.items():
        if not is_network(component):
            raise FormatError(f"refused, the component {prefix + str(name)!r:.100} is no network of a known kind")
        yield from _walk(component, f"{prefix}{name}/")
