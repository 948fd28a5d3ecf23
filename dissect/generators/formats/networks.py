"""Which parts of what a checkpoint holds are networks, the likeliest generator first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import persistence, tensorflow
from .arrays import Dtype
from .names import Record
from .passive import Instance, Named
from .persistence import Leaf, leaf
from .stored import FormatError, Odd, Reader, Storage, StoredTensor

# Where training scripts put a generator: averaged weights before the raw ones.
CONTAINERS = (
    "g_ema", "G_ema", "netG_ema", "generator_smooth", "avgG", "Gs", "g_running", "params_ema", "ema",
    "netG_state_dict", "netG", "generator", "G", "g", "generator_state_dict", "state_dict", "model_state_dict",
    "params", "model",
)  # fmt: skip
OTHERS = ("D", "d", "netD", "D_ema", "discriminator", "discriminator_smooth", "netD_state_dict")  # these come last
MAX_NETWORKS = 200
MAX_VALUES = 4096  # numbers that an argument may have


@dataclass(frozen=True, eq=False)
class Found:
    """A network in a checkpoint: where, and which tensors, under the file's own names."""

    where: str
    prefix: str
    tensors: Mapping[str, StoredTensor]
    class_name: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a checkpoint holds.

    Attributes:
        format: the kind of file.
        found: its networks, the likeliest generator first.
        beside: its other entries, plain.
    """

    format: str
    found: list[Found]
    beside: Mapping[str, object]


def find(top: object, reader: Reader) -> tuple[list[Found], dict[str, object]]:
    """Return the networks in what a pickle holds, and its other entries, plain.

    Args:
        top: as the readers return it, measured.
        reader: for the tensors in the other entries and in constructors' arguments.

    Raises:
        FormatError: if it is nothing that a checkpoint holds.
    """
    if isinstance(top, Instance) and _is_network("", top):
        return [_network("", top, reader)], {}
    if isinstance(top, (tuple, list)) and top and all(tensorflow.is_network(part) for part in top):
        names = tensorflow.ORDER if len(top) == len(tensorflow.ORDER) else map(str, range(len(top)))
        top = dict(zip(names, top, strict=True))
    if not isinstance(top, dict):
        kind = top.name if isinstance(top, (Instance, Named)) else type(top).__name__
        raise FormatError(f"holds a {kind}, expected a state dict")
    found = {key: value for key, value in top.items() if _is_network(key, value)}
    rest = {str(key): value for key, value in top.items() if key not in found}
    if not found and any(leaf(value) is not None for value in top.values()):
        found = {"": {key: value for key, value in top.items() if leaf(value) is not None}}
        rest = {str(key): value for key, value in top.items() if leaf(value) is None}
    if len(found) > MAX_NETWORKS:
        raise FormatError(f"refused, it holds {len(found)} networks, expected at most {MAX_NETWORKS}")
    rank = {key: place for place, key in enumerate(CONTAINERS)}
    rank |= {key: len(CONTAINERS) + 1 + place for place, key in enumerate(OTHERS)}
    ordered = sorted(found, key=lambda key: rank.get(key, len(CONTAINERS)))
    networks = [_network(str(key), found[key], reader) for key in ordered]
    return networks, {key: plain(value, reader) for key, value in rest.items()}


def _is_network(key: object, value: object) -> bool:
    """Whether an entry is a network: a module of a known kind, or a dict of tensors.

    Where a generator is expected, plain values may be among the tensors, such as a counter.
    """
    if isinstance(value, Instance):
        if persistence.is_module(value):
            return persistence.class_of(value) in ("Generator", "Discriminator")
        return tensorflow.is_network(value)
    if not isinstance(value, dict) or not value:
        return False
    if key not in CONTAINERS:
        return all(isinstance(leaf(part), StoredTensor) for part in value.values())
    tensors = sum(leaf(part) is not None for part in value.values())
    return tensors > 0 and not any(isinstance(part, (dict, Instance)) for part in value.values())


def _network(where: str, value: object, reader: Reader) -> Found:
    class_name: str | None = None
    arguments: dict[str, object] = {}
    tensors: dict[str, Leaf]
    if not isinstance(value, Instance):
        assert isinstance(value, dict), "nothing else is taken for a network"
        tensors = {str(key): tensor for key, part in value.items() if (tensor := leaf(part)) is not None}
    elif persistence.is_module(value):
        tensors, class_name = persistence.tensors_of(value), persistence.class_of(value)
        arguments = persistence.arguments_of(value)
    else:
        tensors, class_name = tensorflow.tensors_of(value), tensorflow.function_of(value)
        arguments = tensorflow.arguments_of(value)
    if not tensors:
        raise FormatError(f"refused, its network {where!r:.60} has no tensors")
    prefix = "module." if all(key.startswith("module.") for key in tensors) else ""
    result = {}
    for key, tensor in tensors.items():
        if isinstance(tensor, Odd):
            clean = "".join(c if c.isprintable() else "?" for c in key[:80])
            raise FormatError(f"{clean} is not a plain tensor of real numbers ({tensor.what})")
        result[key.removeprefix(prefix)] = tensor
    return Found(where, prefix, result, class_name, {k: plain(v, reader, True) for k, v in arguments.items()})


def plain(value: object, reader: Reader, lists: bool = False) -> object:
    """Return a value of a checkpoint with nothing in it but plain values, tensors and records.

    Args:
        value: measured before: this recurses.
        reader: for its tensors.
        lists: whether tensors become lists of numbers, as for a constructor's arguments.
    """
    tensor = leaf(value)
    if isinstance(tensor, StoredTensor):
        return _numbers(tensor, reader) if lists else reader.tensor(tensor)
    if isinstance(tensor, Odd):
        return tensor.what
    if isinstance(value, dict):
        return {_key(key): plain(part, reader, lists) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [plain(part, reader, lists) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, Instance):
        if persistence.is_module(value):
            return _module(value, reader, lists)
        state = {} if value.state is None else value.state if isinstance(value.state, dict) else {"": value.state}
        fields = ({"*": value.arguments} if value.arguments else {}) | state
        return Record(value.name, {str(key): plain(part, reader, lists) for key, part in fields.items()})
    if isinstance(value, Named):
        return value.name
    if isinstance(value, Dtype):
        return value.code
    if isinstance(value, Storage):
        return f"storage of {value.count} numbers"
    return bytes(value) if isinstance(value, bytes) else value


def _key(key: object) -> object:
    return bytes(key) if isinstance(key, bytes) else key


def _module(module: Instance, reader: Reader, lists: bool) -> Record:
    """Return what is known of a module that is no generator."""
    arguments = {key: plain(part, reader, True) for key, part in persistence.arguments_of(module).items()}
    tensors = {key: plain(part, reader, lists) for key, part in persistence.tensors_of(module).items()}
    return Record(persistence.class_of(module), {"arguments": arguments, "tensors": tensors})


def _numbers(tensor: StoredTensor, reader: Reader) -> object:
    """Return a small tensor as nested lists, a large one as its shape."""
    if math.prod(tensor.shape) > MAX_VALUES:
        return Record("tensor", {"shape": tensor.shape})
    return reader.tensor(tensor).tolist()
