"""The names that a pickle of any kind may ask for, and the passive values that stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .passive import Instance, Named, checked_key
from .stored import FormatError


@dataclass(frozen=True, eq=False)
class Record:
    """What a checkpoint says about an object that was not made: the name of its class, and its attributes."""

    name: str
    fields: Mapping[str, object]


def _mapping(*arguments: object) -> dict[object, object]:
    """Stand in for every kind of dict: empty, or of pairs, or of a dict."""
    if not arguments:
        return {}
    (content,) = arguments
    if type(content) is dict:
        return dict(content)
    if type(content) not in (list, tuple):
        raise FormatError("damaged: a dict is made of something else than pairs")
    result = {}
    for key, value in content:  # type: ignore[attr-defined]
        result[checked_key(key)] = value
    return result


def _default(*arguments: object) -> dict[object, object]:
    """Stand in for ``collections.defaultdict``: what would make the missing values is not kept."""
    return _mapping(*arguments[1:])


def _set(*arguments: object) -> frozenset[object]:
    values = arguments[0] if arguments else ()
    if type(values) not in (list, tuple):
        raise FormatError("damaged: a set is made of something else than a list")
    return frozenset(checked_key(value) for value in values)  # type: ignore[attr-defined]


def _encode(*arguments: object) -> bytes:
    """Stand in for ``_codecs.encode``: how pickles of old protocols write bytes."""
    text, encoding = (*arguments, None)[:2]
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise FormatError("refused, it encodes something else than bytes")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if arguments:
        raise FormatError("refused, it makes bytes of something")
    return b""


def _reconstruct(*arguments: object) -> object:
    """Stand in for ``copyreg._reconstructor``: how pickles of protocols 0 and 1 make objects."""
    made, _, state = arguments
    if type(made) is not Named or made.call is None or state is not None:
        raise FormatError("refused, it makes an object in an unknown way; nothing was run")
    return made.call()


def instances(*names: str) -> dict[tuple[str, str], Named]:
    """Return a table of classes whose objects are kept as what was written of them."""
    table = {}
    for name in names:
        module, _, own = name.rpartition(".")
        table[module, own] = Named(name, lambda *arguments, name=name: Instance(name, arguments))
    return table


_CALLS = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _default,
    "dnnlib.util.EasyDict": _mapping,
    "dnnlib.EasyDict": _mapping,
    "config.EasyDict": _mapping,
    "easydict.EasyDict": _mapping,
    "munch.Munch": _mapping,
    "_codecs.encode": _encode,
    **{f"{module}.{name}": call for module in ("builtins", "__builtin__")
       for name, call in (("set", _set), ("frozenset", _set), ("bytes", _bytes), ("dict", _mapping))},
    **{f"{module}._reconstructor": _reconstruct for module in ("copyreg", "copy_reg")},
    **{f"{module}.{name}": None for module in ("builtins", "__builtin__")
       for name in ("object", "list", "int", "float", "str", "tuple", "bool")},
}  # fmt: skip


def named(calls: Mapping[str, object]) -> dict[tuple[str, str], Named]:
    """Return a table from dotted names to stand-ins (None for names that may be mentioned, not called)."""
    result = {}
    for name, call in calls.items():
        module, _, own = name.rpartition(".")
        result[module, own] = Named(name, call)  # type: ignore[arg-type]
    return result


PLAIN = named(_CALLS) | instances(
    "argparse.Namespace",
    "types.SimpleNamespace",
    "models.utils.config.BaseConfig",
    "pytorch_GAN_zoo.models.utils.config.BaseConfig",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
)
