"""The tables that are computed from a run's counts, and the disposable file beside it that keeps them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from . import agreement
from .disk import replacing
from .manifest import ganatomy_version
from .store import Reader

UNITS_AT_ONCE = 32  # bounds the memory that the tables take while they are computed
PER_HALF = ("halves_iou", "halves_difference")  # [2, U, C], all others [U, C] or [U]
TABLES = (
    "iou", "chance_iou", "information_ratio", "negative_ratio", "threshold", "accuracy", "average_precision",
    "iou_heldout", "chance_heldout", "stderr", "chance_label", *PER_HALF,
)  # fmt: skip

Tables = dict[str, np.ndarray]


def derive(reader: Reader, layer: str, judged: NDArray[np.bool_], first_plane: NDArray[np.bool_]) -> Tables:
    """Compute every table of a layer, a few units at a time.

    Args:
        reader: of the run.
        layer: its name.
        judged: [C], which concepts are frequent enough.
        first_plane: [C], as :func:`agreement.tally` wants it.
    """
    levels = reader.read(f"layers/{layer}/levels")
    parts = [
        _some(reader, f"layers/{layer}", levels, slice(start, start + UNITS_AT_ONCE), judged, first_plane)
        for start in range(0, len(levels), UNITS_AT_ONCE)
    ]
    return {n: np.concatenate([p[n] for p in parts], axis=1 if n in PER_HALF else 0) for n in TABLES}


def _some(
    reader: Reader, group: str, levels: NDArray, units: slice, judged: NDArray[np.bool_], plane: NDArray[np.bool_]
) -> Tables:
    def counts(name: str) -> NDArray[np.int64]:
        return reader.read(f"{group}/{name}", (slice(None), units))

    real = agreement.tally(counts("counts").sum(0), plane)
    chance = agreement.tally(counts("chance_counts").sum(0), plane)
    index, ratio = agreement.best_level(real, judged)
    threshold = np.take_along_axis(levels[units], np.maximum(index, 0), 1).astype(np.float64)
    blocks = counts("block_counts"), counts("chance_block_counts")
    held = agreement.held_out(*blocks, plane, judged)
    null = agreement.held_out(*agreement.exchanged(*blocks), plane, judged)
    return {
        "iou": agreement.iou_at(real, index),
        "chance_iou": agreement.iou_at(chance, index),
        "information_ratio": ratio,
        "negative_ratio": agreement.negative_ratio(real, judged),
        "threshold": np.where(index < 0, np.nan, threshold),
        "accuracy": agreement.accuracy_at(real, index),
        "average_precision": np.where(judged, agreement.average_precision(real), np.nan),
        "iou_heldout": held.iou,
        "chance_heldout": held.chance,
        "stderr": held.stderr,
        "chance_label": agreement.labels(null, judged),
        "halves_iou": held.halves_iou,
        "halves_difference": held.halves_difference,
    }


class TableCache:
    """``run.cache.npz`` beside ``run.h5``, keyed by run and package version; deletable at any time."""

    def __init__(self, run_path: Path, run_id: str) -> None:
        self.path = run_path.with_name(run_path.stem + ".cache.npz")
        self._key = f"{run_id}/{ganatomy_version()}"

    def get(self, layer: str, compute: Callable[[], Tables]) -> Tables:
        """Return a layer's tables, from the cache if it is this run's, else computed and kept."""
        kept = self._load(_names(layer))
        if len(kept) == len(TABLES):
            return {name: kept[f"{layer}/{name}"] for name in TABLES}
        tables = compute()
        self._save(self._load() | {f"{layer}/{name}": value for name, value in tables.items()})
        return tables

    def holds(self, layers: Iterable[str]) -> bool:
        """Tell whether the tables of some layers are there, without reading them."""
        wanted = {name for layer in layers for name in _names(layer)}
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return str(file["key"]) == self._key and wanted <= set(file.files)
        except Exception:
            return False

    def _load(self, wanted: set[str] | None = None) -> Tables:
        """Return the tables that are there, all or of those names."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                if str(file["key"]) != self._key:
                    return {}
                return {name: file[name] for name in file.files if name != "key" and (not wanted or name in wanted)}
        except Exception:  # no cache, another version's, or a damaged one: all mean "compute"
            return {}

    def _save(self, tables: Tables) -> None:
        with contextlib.suppress(GanatomyError), replacing(self.path) as disk:  # if it cannot be, it only costs time
            np.savez(disk, key=np.array(self._key), **tables)  # type: ignore[arg-type]


def _names(layer: str) -> set[str]:
    return {f"{layer}/{name}" for name in TABLES}
