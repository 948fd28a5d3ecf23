"""NVIDIA's pickles: modules written as (class, embedded source, state). The source is never looked at.

The state of a module names its parameters, buffers and submodules as ``nn.Module`` does; together they give the
names that ``state_dict()`` would give.
"""

from __future__ import annotations

from collections.abc import Iterator

from .arrays import Array
from .names import named
from .passive import Instance, Named
from .stored import FormatError, Odd, StoredTensor

NAME = "torch_utils.persistence._reconstruct_persistent_obj"
MAX_VERSION = 6
CLASSES = frozenset(
    {"Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer", "SynthesisInput",
     "ToRGBLayer", "FullyConnectedLayer", "Conv2dLayer", "Discriminator", "DiscriminatorBlock",
     "DiscriminatorEpilogue", "MinibatchStdLayer", "AugmentPipe"}
)  # fmt: skip
KEYS = {"type", "version", "module_src", "class_name", "state"}

Leaf = StoredTensor | Odd


def _record(*arguments: object) -> Instance:
    if len(arguments) != 1 or type(arguments[0]) is not dict:
        raise FormatError("damaged: a module without its description")
    return Instance(NAME, arguments)


NAMES: dict[tuple[str, str], Named] = named({NAME: _record})


def is_module(value: object) -> bool:
    """Say whether a value of a pickle is such a module."""
    return type(value) is Instance and value.name == NAME


def leaf(value: object) -> Leaf | None:
    """Return a value as a tensor, or None if it is none."""
    if isinstance(value, Array):
        return value.tensor
    return value if isinstance(value, (StoredTensor, Odd)) else None


def state_of(module: Instance) -> dict[str, object]:
    """Return the state of a module.

    Raises:
        FormatError: if it is not one of the known classes, in a known version.
    """
    meta = module.arguments[0]
    assert type(meta) is dict, "checked when it was made"
    if meta.get("type") != "class":
        raise FormatError(f"refused, it holds a persistent {meta.get('type')!r:.40}, expected a class")
    version = meta.get("version")
    if type(version) is not int or not 0 < version <= MAX_VERSION:
        raise FormatError(f"refused, a module is of version {version!r:.40}, known: 1 to {MAX_VERSION}")
    if meta.get("class_name") not in CLASSES:
        raise FormatError(f"refused, it holds a module of the unknown class {meta.get('class_name')!r:.60}")
    state = meta.get("state")
    if type(state) is not dict or not set(meta) <= KEYS:
        raise FormatError("damaged: a module without its state")
    return state


def class_of(module: Instance) -> str:
    """Return the name of the class of a module that was checked."""
    return str(module.arguments[0]["class_name"])  # type: ignore[index]


def arguments_of(module: Instance) -> dict[str, object]:
    """Return what the module was constructed with, by name; without names under ``"*"``."""
    state = state_of(module)
    given, keywords = state.get("_init_args", ()), state.get("_init_kwargs", {})
    if type(given) not in (tuple, list) or type(keywords) is not dict:
        raise FormatError("damaged: a module without its arguments")
    return {str(key): value for key, value in keywords.items()} | ({"*": given} if given else {})


def tensors_of(module: Instance) -> dict[str, Leaf]:
    """Return the tensors of a module under the names of ``state_dict()``, in its order.

    Raises:
        FormatError: naming what is not as in any known file. The value was measured before: this recurses.
    """
    return dict(_walk(module, ""))


def _walk(module: Instance, prefix: str) -> Iterator[tuple[str, Leaf]]:
    state = state_of(module)
    passing = state.get("_non_persistent_buffers_set", frozenset())
    for group, kind in (("_parameters", "parameter"), ("_buffers", "buffer")):
        for name, value in _members(state, group):
            if value is None or (kind == "buffer" and isinstance(passing, frozenset) and name in passing):
                continue
            tensor = leaf(value)
            if tensor is None:
                raise FormatError(f"damaged: the {kind} {prefix + name!r:.100} is no tensor")
            yield prefix + name, tensor
    for name, value in _members(state, "_modules"):
        if value is None:
            continue
        if not is_module(value):
            raise FormatError(f"refused, {prefix + name!r:.100} is no module of a known kind")
        yield from _walk(value, f"{prefix}{name}.")  # type: ignore[arg-type]


def _members(state: dict[str, object], group: str) -> list[tuple[str, object]]:
    members = state.get(group)
    if type(members) is not dict or not all(type(name) is str for name in members):
        raise FormatError(f"damaged: a module without its {group[1:]}")
    return list(members.items())
