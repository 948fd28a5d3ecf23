"""The file ``run.memory.h5``, beside a run or anywhere: second moments of keys with their factors, by layer.

They take minutes to make and serve every request for the layer. Adding some writes the file anew, the others included,
and puts it in the old one's place; who adds at the same time waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dissect import GanatomyError, Generator, store
from dissect.disk import exclusively
from dissect.edits import Edit
from dissect.generators.convolutions import Convolution
from dissect.generators.segments import without
from dissect.samples import Sampling

from .memory import RIDGE, Memory
from .moments import CELLS, Float64, Moments, facts_of, moments_of

Progress = Callable[[int, int], None]
HEADER = "header"
SUFFIX = ".memory.h5"
DIGITS = 16


def memory_path(path: Path) -> Path:
    """Return where the memories of a run lie, or the path itself if it is that of memories."""
    return path if path.name.endswith(SUFFIX) else path.with_name(path.stem + SUFFIX)


def key_of(facts: dict[str, Any], seeds: Sequence[int], ridge: float) -> str:
    """Return under what name a memory is kept: 16 hex digits over what determines it."""
    told = json.dumps([facts, sorted(map(int, seeds)), float(ridge)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:DIGITS]


class Memories:
    """The memories of one file; each is read when it is asked for.

    Attributes:
        path: of the file; there need not be one.
        keys: those that it holds, in the order of adding.

    Raises:
        GanatomyError: if the file is none of ours, is damaged, or of another generator.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._reader = store.Reader(path, store.MEMORY) if path.exists() else None
        self.keys: list[str] = []
        if self._reader is None:
            return
        if self._reader.attributes.get("generator") != fingerprint:
            raise GanatomyError(f"{path} holds memories of another generator; name another file")
        listed = self._reader.json("memories")
        if not isinstance(listed, list) or not all(f"memories/{key}/{HEADER}" in self._reader for key in listed):
            raise GanatomyError(f"{path} is damaged: what it lists is not there; move it away")
        self.keys = [str(key) for key in listed]

    def header(self, key: str) -> dict[str, Any]:
        """Return what a memory is of, without its numbers."""
        try:
            header = json.loads(self._read(key, HEADER).tobytes())
            return dict(header)
        except (ValueError, TypeError) as error:
            raise GanatomyError(f"{self.path} is damaged: the header of {key} cannot be read") from error

    def get(self, key: str) -> Memory | None:
        """Return a memory, or None if the file has none of that key."""
        if key not in self.keys:
            return None
        header = self.header(key)
        try:
            if key_of(header["facts"], header["seeds"], header["ridge"]) != key:
                raise ValueError("what it says it is of")
            count = self._read(key, "count")
            sizes = [int(size) for size in header["sizes"]]
            total = tuple(self._read(key, f"total/{i}") for i in range(len(sizes)))
            second, factors = (
                tuple(unpacked(self._read(key, f"{name}/{i}"), n) for i, n in enumerate(sizes))
                for name in ("second", "factor")
            )
            if not sizes or count.shape != (len(sizes),) or count.min() < 1 or len(header["conditions"]) != len(sizes):
                raise ValueError("a number of keys and a condition for each phase")
            if [len(some) for some in total] != sizes:
                raise ValueError("sums of the size of its keys")
            symmetric = tuple(lower + np.tril(lower, -1).T for lower in second)
            found = Moments(header["facts"], tuple(header["seeds"]), count, total, symmetric)
            return Memory(found, float(header["ridge"]), factors, tuple(header["conditions"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise GanatomyError(f"{self.path} is damaged: {key} lacks {error}; move it away") from error

    def add(self, memories: Sequence[Memory]) -> None:
        """Write memories to the file, beside those that it has."""
        new = {key_of(dict(m.moments.facts), m.moments.seeds, m.ridge): m for m in memories}
        with exclusively(self.path):
            known = Memories(self.path, self.fingerprint)
            kept = [key for key in known.keys if key not in new]

            def arrays() -> Iterator[tuple[str, np.ndarray]]:
                for key in kept:
                    yield from known._stored(key)
                for key, memory in new.items():
                    yield from _arrays(key, memory)

            attributes = {"generator": self.fingerprint, "memories": [*kept, *new]}
            # Floats of this kind hardly shrink, and compressing takes longer than making a factor.
            store.write(self.path, attributes, arrays(), store.MEMORY, compress=False)
        self.__init__(self.path, self.fingerprint)  # type: ignore[misc]

    def _stored(self, key: str) -> Iterator[tuple[str, np.ndarray]]:
        assert self._reader is not None
        for name in self._reader.names:
            if name.startswith(f"memories/{key}/"):
                yield name, self._reader.read(name)

    def _read(self, key: str, name: str) -> np.ndarray:
        assert self._reader is not None
        return self._reader.read(f"memories/{key}/{name}")


def recall(
    generator: Generator,
    convolutions: Sequence[Convolution],
    seeds: Sequence[int],
    *,
    kind: str = "patch",
    ridge: float = RIDGE,
    sampling: Sampling | None = None,
    cells: int | None = CELLS,
    edits: Sequence[Edit] | Edit = (),
    path: Path | None = None,
    progress: Progress | None = None,
) -> list[Memory]:
    """Return the memory of each convolution: from a file if it has them, else made in one pass and put there.

    Args:
        path: of the file (:func:`memory_path`); None keeps nothing. Everything else as for :func:`rewrite.moments`.
    """
    how, active = sampling or Sampling(), generator.check_edits(edits)
    file = None if path is None else Memories(memory_path(path), generator.fingerprint)
    found: dict[str, Memory] = {}
    keys = [
        key_of(facts_of(generator, one, kind, how, cells, without(active, one.weight)), seeds, ridge)
        for one in convolutions
    ]
    if file is not None:
        found = {key: memory for key in keys if (memory := file.get(key)) is not None}
    missing = [one for key, one in zip(keys, convolutions, strict=True) if key not in found]
    if missing:
        made = _made(generator, missing, seeds, kind, ridge, how, cells, active, progress)
        if file is not None:
            file.add(made)
        found |= {key_of(dict(m.moments.facts), m.moments.seeds, ridge): m for m in made}
    return [found[key] for key in keys]


def _made(
    generator: Generator, convolutions: Sequence[Convolution], seeds: Sequence[int], kind: str, ridge: float,
    sampling: Sampling, cells: int | None, edits: tuple[Edit, ...], progress: Progress | None,
) -> list[Memory]:  # fmt: skip
    """Make memories, in one pass where none of the active edits is of one of the weights."""
    weights = [one.weight for one in convolutions]
    together = [convolutions] if all(without(edits, w) == edits for w in weights) else [[one] for one in convolutions]
    made: list[Memory] = []
    for some in together:
        active = without(edits, some[0].weight) if len(some) == 1 else edits
        found = moments_of(
            generator, some, seeds, kind=kind, sampling=sampling, cells=cells, edits=active, progress=progress
        )  # fmt: skip
        made += [Memory.of(one, ridge) for one in found]
    return made


def packed(lower: Float64) -> Float64:
    """Return the lower triangle of a matrix [n, n], row by row."""
    size = len(lower)
    values = np.empty(size * (size + 1) // 2, lower.dtype)
    for row, part in enumerate(_rows(values, size)):
        part[:] = lower[row, : row + 1]
    return values


def unpacked(values: Float64, size: int) -> Float64:
    """Return the matrix [n, n] of a lower triangle; zeros above. ValueError for another number of values."""
    if values.shape != (size * (size + 1) // 2,):
        raise ValueError(f"a triangle of {size} rows")
    lower = np.zeros((size, size))
    for row, part in enumerate(_rows(values, size)):
        lower[row, : row + 1] = part
    return lower


def _rows(values: Float64, size: int) -> Iterator[Float64]:
    """Yield the part of each row: indices of 10 million numbers took ten times as long."""
    start = 0
    for row in range(size):
        yield values[start : start + row + 1]
        start += row + 1


def _arrays(key: str, memory: Memory) -> Iterator[tuple[str, np.ndarray]]:
    m, start = memory.moments, f"memories/{key}"
    header = {
        "facts": dict(m.facts), "seeds": list(m.seeds), "ridge": memory.ridge, "sizes": list(m.sizes),
        "conditions": list(memory.conditions),
    }  # fmt: skip
    yield f"{start}/{HEADER}", np.frombuffer(json.dumps(header).encode(), np.uint8)
    yield f"{start}/count", m.count
    for index in range(len(m.count)):
        yield f"{start}/total/{index}", m.total[index]
        yield f"{start}/second/{index}", packed(m.second[index])
        yield f"{start}/factor/{index}", packed(memory.factors[index])
