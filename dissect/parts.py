"""Parts of a dissection: some consecutive atoms of some layers, and how parts become the finished file.

A pass that counted everything is the only part of its run; a shard is a part in a file of its own. Counts are integers
and add up exactly in any order; float sums are added in the order of the atoms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import store
from .accumulate import TOP, Accumulator, pack_thumbnails, unpack_thumbnails
from .examples import PARTS as EXAMPLES
from .examples import examples_of
from .manifest import Manifest
from .plan import GROUPS
from .slabs import packed, unpacked
from .statistics import Sums, best_of

STATIC = ("concepts/", "samples/seed", "samples/file", "samples/z", "samples/w", "samples/class", "samples/noise_seed")
"""Datasets of the finished file that are known before anything is counted."""


@dataclass(frozen=True)
class Header:
    """What a part says of itself.

    Attributes:
        manifest: of the whole dissection.
        atoms: those that the part is to hold; next: the first that it does not hold yet.
        seconds: how long it took.
        where: device, threads, versions and host that it was made with.
    """

    manifest: Manifest
    atoms: range
    next: int
    seconds: float
    where: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all its atoms are counted."""
        return self.next == self.atoms.stop

    def attributes(self) -> dict[str, Any]:
        """Return it as attributes of a file."""
        return {
            "manifest": self.manifest, "first": self.atoms.start, "stop": self.atoms.stop, "next": self.next,
            "seconds": self.seconds, "where": dict(self.where),
        }  # fmt: skip

    @staticmethod
    def of(reader: store.Reader) -> Header:
        """Return the header of a file."""
        a = reader.attributes
        atoms = range(int(a["first"]), int(a["stop"]))
        return Header(reader.json("manifest"), atoms, int(a["next"]), float(a["seconds"]), reader.json("where"))


class Part(ABC):
    """Something that holds the state of counted atoms: a pass that has just ended, or a file.

    Attributes:
        header: what it says of itself; layers: the names it has.
    """

    header: Header
    layers: list[str]

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """Return an array of ``Accumulator.arrays``."""

    @abstractmethod
    def slab(self, group: int, layer: str, units: slice) -> NDArray | None:
        """Return the block counts of some units in a group, [2, n, C, Q + 1], or None if it has none of the group."""


class LivePart(Part):
    """A pass in this process. ``keep()`` saves it where an unfinished pass is looked for."""

    def __init__(self, accumulator: Accumulator, header: Header, keep: Callable[[], None]) -> None:
        self.header, self.layers, self.keep = header, list(accumulator.layers), keep
        self._slabs, self._concepts = accumulator.slabs, accumulator.concepts
        self._arrays = accumulator.arrays()

    def read(self, name: str) -> np.ndarray:
        """Return an array."""
        return self._arrays[name]

    def slab(self, group: int, layer: str, units: slice) -> NDArray | None:
        """Return a slab."""
        return self._slabs.read(group, layer, units, self._concepts)

    def write(self, path: Path, static: Sequence[tuple[str, np.ndarray]]) -> None:
        """Write it as a file that can be merged."""
        store.write(path, self.header.attributes(), self._datasets(static), store.PART)

    def _datasets(self, static: Sequence[tuple[str, np.ndarray]]) -> Iterator[tuple[str, store.Array]]:
        yield from static
        yield from self._arrays.items()
        for group in self._slabs.groups:
            for layer in self.layers:
                slab = self.slab(group, layer, slice(None))
                assert slab is not None
                yield from packed({layer: slab}, f"groups/{group:02d}/")


class StoredPart(Part):
    """A part in a file.

    Raises:
        GanatomyError: if the file is no part, unfinished, or damaged (every checksum is tested).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = store.Reader(path, store.PART)
        self._reader.each(lambda name, array: None)
        self.header = Header.of(self._reader)
        state = self._reader.names
        self.layers = [name for name in self.header.manifest["layers"] if f"state/{name}/levels" in state]
        self._concepts = self._reader.read("samples/concept_area").shape[1]
        self._groups = {int(name.split("/")[1]) for name in self._reader.names if name.startswith("groups/")}

    def read(self, name: str) -> np.ndarray:
        """Return an array."""
        return self._reader.read(name)

    def static(self) -> list[tuple[str, np.ndarray]]:
        """Return the datasets that are known before anything is counted."""
        return [(name, self._reader.read(name)) for name in self._reader.names if name.startswith(STATIC)]

    def slab(self, group: int, layer: str, units: slice) -> NDArray | None:
        """Return a slab."""
        if group not in self._groups:
            return None
        return unpacked(self._reader, f"{group:02d}/", layer, units, self._concepts)


class _Blocks(store.Lazy):
    """``block_counts`` of the finished file, [20, U, Q + 1, C], put together from slabs a few units at a time."""

    def __init__(self, parts: Sequence[Part], layer: str, kind: int, shape: tuple[int, int, int]) -> None:
        units, bins, concepts = shape
        self.shape, self.dtype = (GROUPS, units, bins, concepts), np.dtype(np.int64)
        self._parts, self._layer, self._kind = parts, layer, kind

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        units = index[1]
        result = np.zeros((GROUPS, len(range(self.shape[1])[units]), *self.shape[2:]), np.int64)
        for part in self._parts:
            for group in range(GROUPS):
                slab = part.slab(group, self._layer, units)
                if slab is not None:
                    result[group] += np.moveaxis(slab[self._kind], -1, -2)
        return result


def finished(parts: Sequence[Part]) -> Iterator[tuple[str, store.Array]]:
    """Yield the datasets of the finished dissection that parts make up, one layer after the other.

    Args:
        parts: complete ones that together hold every atom of every layer exactly once.
    """
    ordered = sorted(parts, key=lambda part: part.header.atoms.start)
    layers = list(ordered[0].header.manifest["layers"])
    whole = [part for part in ordered if layers[0] in part.layers]  # what does not depend on the layer
    yield "samples/concept_area", np.concatenate([part.read("samples/concept_area") for part in whole])
    wanted: set[int] = set()
    for name in layers:
        of_layer = [part for part in ordered if name in part.layers]
        top = best_of([{key: part.read(f"state/{name}/top/{key}") for key in TOP} for part in of_layer])
        wanted |= set(top["seed"].ravel().tolist())
        yield from ((f"layers/{name}/top/{key}", value) for key, value in top.items())
        examples = examples_of(
            [{key: part.read(f"state/{name}/examples/{key}") for key in EXAMPLES} for part in of_layer]
        )
        wanted |= set(examples["seed"].ravel().tolist())
        yield from ((f"layers/{name}/examples/{key}", value) for key, value in examples.items())
        yield from _layer(of_layer, name)
    pictures: dict[int, bytes] = {}
    for part in ordered:
        pictures |= {seed: data for seed, data in unpack_thumbnails(part.read).items() if seed in wanted}
    yield from pack_thumbnails(pictures).items()


def _layer(parts: list[Part], name: str) -> Iterator[tuple[str, store.Array]]:
    state, group = f"state/{name}/", f"layers/{name}/"
    levels = parts[0].read(f"{state}levels")
    yield f"{group}levels", levels
    for kind, prefix in ((0, ""), (1, "chance_")):
        counts = parts[0].read(f"{state}{prefix}counts")  # of the live part itself: it must not be added to
        for part in parts[1:]:
            counts = counts + part.read(f"{state}{prefix}counts")
        yield f"{group}{prefix}counts", np.moveaxis(counts, -1, -2)
        units, concepts = counts.shape[1:3]
        blocks = parts[0].read(f"{state}slab").shape[-1]
        yield f"{group}{prefix}block_counts", _Blocks(parts, name, kind, (units, blocks, concepts))
    total = Sums(units, concepts)
    for part in parts:
        sums = Sums(units, concepts)
        sums.restore({key: part.read(f"{state}sums/{key}") for key in sums.arrays()})
        total.merge(sums)
    yield f"{group}mean", total.feature / total.pixels
    yield f"{group}second_moment", total.product / total.pixels
    weight = total.weight[:, None]
    mean = np.divide(total.concept, weight, out=np.full(total.concept.shape, np.nan), where=weight > 0)
    yield f"{group}concept_mean", mean
    if parts[0].header.manifest["maxima"]:
        yield f"{group}maxima", np.concatenate([part.read(f"{state}maxima") for part in parts])
