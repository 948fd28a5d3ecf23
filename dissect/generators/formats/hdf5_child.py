"""Reads an HDF5 file in a process of its own, and writes its datasets to the standard output.

HDF5's library is a large body of C that was not written for files of strangers. Whatever such a file makes it do
happens here: a process with bounded memory and time, which imports nothing of this project. The output is a line of
JSON, then the numbers: ``{"tensors": {name: [type, shape, offset]}, "attributes": {...}, "error": null}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
MAX_OBJECTS = 100_000
MAX_DEPTH = 32
MAX_TEXT = 1 << 20  # characters of an attribute
DESCRIPTION = "model_config"


class RefusedError(Exception):
    """What the parent says about the file."""


def restrict(memory: int, seconds: int) -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: str, limit: int) -> None:
    """Write the datasets of a file, of at most ``limit`` bytes together."""
    restrict(limit * 2 + (2 << 30), 600)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            tensors, attributes = _walk(file, limit)
            places, offset = {}, 0
            for name, dataset in tensors.items():
                places[name] = [dataset.dtype.newbyteorder("<").str[1:], list(dataset.shape), offset]
                offset += dataset.size * dataset.dtype.itemsize
            blocks = [_values(dataset) for dataset in tensors.values()]
        answer: dict[str, Any] = {"tensors": places, "attributes": attributes, "error": None}
    except RefusedError as error:
        answer, blocks = {"error": str(error)}, []
    except Exception as error:
        answer, blocks = {"error": "damaged HDF5 file: " + " ".join(str(error).split())[:200]}, []
    out = sys.stdout.buffer
    out.write(json.dumps(answer).encode() + b"\n")
    for block in blocks:
        out.write(block)
    out.flush()


def _walk(file: Any, limit: int) -> tuple[dict[str, Any], dict[str, object]]:
    import h5py

    tensors: dict[str, Any] = {}
    attributes: dict[str, object] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", file, 0)]
    total = 0
    while todo:
        name, item, depth = todo.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            raise RefusedError("refused, its groups hold each other, nest too deeply, or are too many")
        seen.add(address)
        attributes |= _attributes(item, name)
        if isinstance(item, h5py.Dataset):
            total += _size(item, name, limit)
            if total > limit:
                raise RefusedError(f"refused, its tensors claim {total} bytes, far more than the file has")
            tensors[name] = item
        elif isinstance(item, h5py.Group):
            for key in sorted(item, reverse=True):
                kind = item.get(key, getlink=True)
                if not isinstance(kind, h5py.HardLink):
                    raise RefusedError(f"refused, {_shown(name, key)} is a link, perhaps out of the file")
                todo.append((f"{name}/{key}" if name else key, item[key], depth + 1))
    return tensors, attributes


def _shown(name: str, key: str = "") -> str:
    return repr(f"{name}/{key}" if key and name else key or name)[:100]


def _size(dataset: Any, name: str, limit: int) -> int:
    """Return the bytes of a dataset whose every property is one of the plain ones."""
    import h5py

    if not isinstance(dataset.id.get_type(), (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeEnumID)):
        raise RefusedError(f"refused, {_shown(name)} is no array of numbers")
    if dataset.dtype.str[1:] not in TYPES or dataset.shape is None:
        raise RefusedError(f"refused, {_shown(name)} is an array of {dataset.dtype}, expected plain numbers")
    made = dataset.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        raise RefusedError(f"refused, {_shown(name)} keeps its numbers in another file")
    for place in range(made.get_nfilters()):
        if made.get_filter(place)[0] not in FILTERS:
            raise RefusedError(
                f"refused, {_shown(name)} is packed by a filter other than {', '.join(FILTERS.values())}"
            )
    size = dataset.dtype.itemsize
    chunk = size
    if dataset.chunks:
        for length in dataset.chunks:
            chunk *= length
    if chunk > max(limit, 1 << 20):
        raise RefusedError(f"refused, {_shown(name)} claims chunks of {chunk} bytes")
    for length in dataset.shape:
        size *= length
    return size


def _values(dataset: Any) -> bytes:
    import numpy as np

    values = np.asarray(dataset[()])
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _attributes(item: Any, name: str) -> dict[str, object]:
    """Return the attributes that are numbers or text, or lists of these; others are left out.

    Text of any length lies elsewhere in the file; only Keras's description of a model is fetched from there.
    """
    import h5py
    import numpy as np

    result: dict[str, object] = {}
    for key in list(item.attrs):
        kind = item.attrs.get_id(key).get_type()
        fixed = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        told = not name and key == DESCRIPTION and isinstance(kind, h5py.h5t.TypeStringID)
        if not (fixed or told) and not isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
            continue
        if item.attrs.get_id(key).get_storage_size() > MAX_TEXT:
            continue
        value = np.asarray(item.attrs[key])
        if told and value.dtype.kind in "UO" and not value.ndim:
            text = value.item()
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            if len(text) <= MAX_TEXT:
                result[key] = text
            continue
        if value.dtype.kind in "fiub":
            result[f"{name}/{key}" if name else key] = value.tolist()
        elif value.dtype.kind == "S":
            texts = [part.decode("utf-8", "replace") for part in value.reshape(-1).tolist()]
            result[f"{name}/{key}" if name else key] = texts if value.ndim else texts[0]
    return result


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
