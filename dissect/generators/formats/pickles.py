"""Plain pickles: NVIDIA's modules, TensorFlow's networks, dicts of numpy arrays or tensors."""

from __future__ import annotations

from pathlib import Path

from . import persistence, tensorflow
from .arrays import NUMPY
from .names import PLAIN
from .passive import Named, Names, PassiveUnpickler
from .stream import Stream
from .tensors import REBUILD
from .torch_legacy import blob

_LOAD = ("torch.storage", "_load_from_bytes")


def read(path: Path) -> object:
    """Return the value of a pickle; its tensors know their places.

    Raises:
        FormatError: for any name that is not in the tables, and damaged files.
    """
    with path.open("rb") as file:
        stream = Stream(file, path.stat().st_size)
        load = Named(".".join(_LOAD), lambda piece: blob(stream, piece))
        names: Names = PLAIN | NUMPY | REBUILD | persistence.NAMES | tensorflow.NAMES | {_LOAD: load}
        return PassiveUnpickler(stream, names).load()


def kind_of(top: object) -> str:
    """Return the name of the format of what a plain pickle holds."""
    parts = [top, *(top.values() if isinstance(top, dict) else top if isinstance(top, (list, tuple)) else ())]
    if any(persistence.is_module(part) for part in parts):
        return "nvidia pickle"
    return "tensorflow pickle" if any(tensorflow.is_network(part) for part in parts) else "pickle"
