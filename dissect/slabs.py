"""The block counts of jackknife groups that are finished: in memory while they are few, then a file per group.

A group's slab is [2, U, C, Q + 1] per layer, and only the current group's is being counted into; so the memory of a
pass does not grow with the twenty groups. On disk, concepts that the group never met are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import store

HELD_BYTES = 32 << 20  # of slabs in memory before they go to the disk


class Slabs:
    """Slabs of the finished groups of one part; ``folder`` is made when the first is written, None keeps all here."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[int, dict[str, NDArray]] = {}
        self._written: set[int] = set()

    @property
    def groups(self) -> list[int]:
        """The groups that are here, ascending."""
        return sorted(self._held.keys() | self._written)

    def put(self, group: int, slabs: Mapping[str, NDArray]) -> None:
        """Take over a finished group's slabs: layer -> [2, U, C, Q + 1]."""
        self._held[group] = {name: slab.copy() for name, slab in slabs.items()}
        if sum(slab.nbytes for held in self._held.values() for slab in held.values()) > HELD_BYTES:
            self.spill()

    def spill(self) -> None:
        """Write what is only in memory, each group whole or not at all."""
        if self._folder is None:
            return
        for group, slabs in list(self._held.items()):
            self._folder.mkdir(parents=True, exist_ok=True)
            store.write(self._path(group), {}, packed(slabs), store.GROUP, compress=False)
            self._written.add(group)
            del self._held[group]

    def restore(self, groups: list[int]) -> None:
        """Take over slabs that an earlier process wrote; GanatomyError if one is missing or damaged."""
        for group in groups:
            store.Reader(self._path(group), store.GROUP).each(lambda name, array: None)
        self._written = set(groups)

    def read(self, group: int, layer: str, units: slice, concepts: int) -> NDArray | None:
        """Return some units' slab [2, n, C, Q + 1] of a group, or None if the group is not here."""
        if group in self._held:
            return self._held[group][layer][:, units]
        if group not in self._written:
            return None
        return unpacked(store.Reader(self._path(group), store.GROUP), "", layer, units, concepts)

    def _path(self, group: int) -> Path:
        assert self._folder is not None
        return self._folder / f"group-{group:02d}.h5"


def packed(slabs: Mapping[str, NDArray], prefix: str = "groups/") -> list[tuple[str, NDArray]]:
    """Return the datasets of one group's slabs, without the concepts that are nowhere in them."""
    arrays = []
    for name, slab in slabs.items():
        met = np.flatnonzero(slab.any((0, 1, 3)))
        arrays += [(f"{prefix}{name}/concept_index", met), (f"{prefix}{name}/slab", slab[:, :, met])]
    return arrays


def unpacked(reader: store.Reader, prefix: str, layer: str, units: slice, concepts: int) -> NDArray:
    """Undo :func:`packed` for some units."""
    where = f"groups/{prefix}{layer}"
    met, some = reader.read(f"{where}/concept_index"), reader.read(f"{where}/slab", (slice(None), units))
    slab = np.zeros((*some.shape[:2], concepts, some.shape[-1]), some.dtype)
    slab[:, :, met] = some
    return slab
