"""Chains of Keras layers that draw images, such as its DCGANs: an HDF5 file of weights with a description of the model.

The description (``model_config``, JSON) is data: it names layers, of which those that are known are built. Files of
weights alone have none; it is then an option. Layers are called as in the description; those before the vector becomes
a map make one layer, under the name of the one that reshapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segmodels import GanatomyError

from .base import State
from .family import Family, Opening, Option, Slices
from .keras_layers import Reshape, Resting, SameConvTranspose, Upsampling, activation, completed, module_of
from .layers import rgb
from .layouts import Layout, Place, Tensors, same
from .sequential import SequentialGenerator

FAMILY_NAME = "keras"
MAX_LAYERS = 256
MAX_RESOLUTION = 4096
KEY = re.compile(r"(?:model_weights/)?([^/]+)/(?:[^/]+/)*([a-z_]+)(?::0)?")
PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}  # fmt: skip


def _turned(tensor: Tensor) -> Tensor:
    """Return a kernel in torch's axes; all three kinds of layers take the same order."""
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor


def _back(tensor: Tensor) -> Tensor:
    return tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor


class KerasLayout(Layout):
    """Keys that name a layer and one of its variables."""

    def fitted(self, tensors: Tensors) -> Layout:
        """Return the layout with a place for each tensor of a file: ``LAYER.weight`` and so on."""
        places = []
        for key in tensors:
            found = KEY.fullmatch(key)
            if found is not None and found[2] in PARTS and not _extra(key):
                change = (_turned, _back) if found[2] == "kernel" else (same, same)
                places.append(Place(f"{found[1]}.{PARTS[found[2]]}", key, *change))
        return Layout(self.name, self.recognise, tuple(places), ignored=_extra)


def _extra(key: str) -> bool:
    """Whether a key is of training."""
    return key.startswith(("optimizer_weights/", "top_level_model_weights/"))


def _recognise(tensors: Tensors) -> bool:
    found = [(KEY.fullmatch(key), tensor) for key, tensor in tensors.items() if not _extra(key)]
    return any(match is not None and match[2] == "kernel" and tensor.ndim == 4 for match, tensor in found)


class KerasChain(SequentialGenerator):
    """A chain of Keras layers."""

    low = -1.0  # the darkest value of an image

    def finish(self, state: State) -> Tensor:
        """The last map is the image; one of a sigmoid is brought to [-1, 1]."""
        assert state.x is not None
        return rgb(state.x) if self.low else rgb(state.x) * 2 - 1


class Start(nn.Module):
    """The layers before the vector is a map, and the one that makes it one; their owner is another."""

    def __init__(self, parts: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, h, w] of x [N, z_dim, 1, 1]."""
        x = x.flatten(1)
        for part in self.parts:
            x = part(x)
        return x


def make(opening: Opening) -> KerasChain:
    """Return the generator of a stored network."""
    described = opening.setting("model_config")
    if not described:
        raise GanatomyError(
            "this Keras file has weights only, not what it is made of: give the description that model.to_json() "
            "writes (model_config=FILE, --option model_config=FILE)"
        )
    try:
        chain, modules, used = _chain(layers_of(json.loads(described)), opening)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise GanatomyError("model_config does not describe a chain of Keras layers as expected") from error
    extra = sorted(opening.tensors.keys() - used)
    if extra:
        raise GanatomyError(f"checkpoint has the unexpected key {extra[0][:80]}, of a layer that is not described")
    start = chain[0][1]
    first = next((part for part in start.parts if isinstance(part, nn.Linear)), None)  # type: ignore[union-attr]
    if first is None:
        raise GanatomyError("expected a Keras chain that begins with Dense, and reshapes to a map after it")
    try:
        generator = KerasChain(
            chain,
            **opening.common,
            family=FAMILY_NAME,
            module=modules,
            z_dim=first.in_features,
            configuration={"model_config": _plain(json.loads(described))},
        )
    except RuntimeError as error:
        raise GanatomyError("the layers that model_config describes do not fit each other") from error
    last = generator.layers[-1]
    if last.channels not in (1, 3) or last.height != last.width:
        raise GanatomyError(f"the chain makes {last.channels} x {last.height} x {last.width}, expected a square image")
    generator.low = 0.0 if isinstance(chain[-1][1], nn.Sigmoid) else -1.0
    opening.read_off(layers=len(chain))
    return generator


def _chain(
    layers: list[tuple[str, str, Mapping[str, Any]]], opening: Opening
) -> tuple[list[tuple[str, nn.Module]], nn.ModuleDict, set[str]]:
    """Return the chain (name, module), all modules by layer, and the names of the tensors that they took."""
    chain: list[tuple[str, nn.Module]] = []
    side = 1
    modules, flat, used = nn.ModuleDict(), [], set[str]()
    for name, kind, config in layers:
        if kind == "InputLayer":
            continue
        own = {n.rpartition(".")[2]: t for n, t in opening.tensors.items() if n.rpartition(".")[0] == name}
        used |= {f"{name}.{part}" for part in own}
        module = module_of(kind, config, own, flat=not chain)
        _fill(module, completed(own, kind), name)
        if isinstance(module, (Reshape, SameConvTranspose, Upsampling)):
            side *= max(module.grows)
            if side > MAX_RESOLUTION:
                raise GanatomyError(f"the chain draws more than {MAX_RESOLUTION} pixels a side; not supported")
        modules[name] = module
        then = config.get("activation", "linear") if kind != "Activation" else "linear"
        parts = [(name, module)]
        if then != "linear":
            modules[f"{name}:{then}"] = activation(then)
            parts.append((f"{name}.{then}", modules[f"{name}:{then}"]))
        for called, part in parts:
            if isinstance(part, Resting):
                continue
            if chain:
                chain.append((called, part))
                continue
            flat.append(part)
            if isinstance(part, Reshape):
                modules[name] = Start(tuple(flat))
                chain.append((called, modules[name]))
    if not chain:
        raise GanatomyError("expected a Keras chain that begins with Dense, and reshapes to a map after it")
    return chain, modules, used


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Give a layer exactly its tensors."""
    expected = {k: v for k, v in module.state_dict().items() if k != "num_batches_tracked"}
    if expected.keys() != tensors.keys():
        raise GanatomyError(f"layer {name[:80]} has {sorted(tensors)}, expected {sorted(expected)}")
    for part, wanted in expected.items():
        if tensors[part].shape != wanted.shape:
            given = list(tensors[part].shape)
            raise GanatomyError(f"layer {name[:80]}: its {part} is {given}, expected {list(wanted.shape)}")
    if "running_var" in tensors and (tensors["running_var"] < 0).any():
        raise GanatomyError(f"layer {name[:80]}: its moving_variance holds negative values")
    module.load_state_dict({part: tensor.float() for part, tensor in tensors.items()}, strict=False)


def layers_of(description: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (name, class, configuration) of the layers of a description."""
    if description["class_name"] != "Sequential":
        raise GanatomyError(f"the file describes a {description['class_name']!r:.40}, expected a Sequential chain")
    config = description["config"]
    listed = config["layers"] if isinstance(config, Mapping) else config
    if len(listed) > MAX_LAYERS:
        raise GanatomyError(f"the file describes {len(listed)} layers, expected at most {MAX_LAYERS}")
    found = [(str(layer["config"]["name"]), str(layer["class_name"]), layer["config"]) for layer in listed]
    if len({name for name, *_ in found}) < len(found) or any("." in name for name, *_ in found):
        raise GanatomyError("the layers that the file describes need names of their own, without dots")
    return found


def _plain(description: Any) -> list[list[object]]:
    """Return what determines the images of a description: not how training began, nor what the layers are called."""
    wanted = ("activation", "strides", "padding", "target_shape", "epsilon", "alpha", "negative_slope", "size")
    return [[kind, {k: config.get(k) for k in wanted}] for _, kind, config in layers_of(description)]


def zeroed_by(generator: KerasChain, module: str) -> Slices | str:
    """Return what makes a unit zero (see :class:`Family`), or that it is not known."""
    part = generator.module.get_submodule(module) if module else None
    if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
        axis = 1 if isinstance(part, nn.ConvTranspose2d) else 0
        return ((f"{module}.weight", axis), *(((f"{module}.bias", 0),) if part.bias is not None else ()))
    return "only its convolutions are baked"


def description(value: object) -> str:
    """Return a description as text; a path that ends in .json is read."""
    try:
        text = Path(str(value)).read_text("utf-8") if str(value).endswith(".json") else str(value)
        if text and not isinstance(json.loads(text), dict):
            raise ValueError(value)
    except (OSError, RecursionError) as error:
        raise ValueError(value) from error
    return text


OPTIONS = (Option("model_config", description, "", "the JSON that describes the model, or a file of it"),)
KERAS = KerasLayout("keras", _recognise, ())
FAMILY = Family(FAMILY_NAME, "Keras", (KERAS,), make, OPTIONS, zeroed_by=zeroed_by)
