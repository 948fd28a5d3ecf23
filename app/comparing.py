"""Two layers of the same or different runs, unit by unit: by what they are matched, and what became of their labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect import Run
from dissect.matching import LEAST_CONCEPTS, Matches, best, concept_profile, correlate, identity
from segmodels import GanatomyError

from .library import OpenRun
from .profiles import Candidate

LEAST_SAMPLES = 30  # in common, for a correlation over samples
MAXIMA, PROFILES = "maxima", "profiles"


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike the units of two layers are.

    Attributes:
        r: [A, B], Pearson's r; over: "maxima" of samples in common or "profiles" over concepts in common.
        count: over how many of these.
    """

    r: NDArray[np.float64]
    over: str
    count: int


@dataclass(frozen=True)
class Pair:
    """A unit of the first layer and its partner in the second.

    Attributes:
        a, b: indices. r: their correlation; mutual: whether each is the other's best.
        first, second: each one's best concept, None if it has none; labelled: whether each is labelled.
        tops: how many top samples both have, of how many; None if the samples have nothing to do with each other.
    """

    a: int
    b: int
    r: float
    mutual: bool
    first: Candidate | None
    second: Candidate | None
    labelled: tuple[bool, bool]
    tops: tuple[int, int] | None

    @property
    def change(self) -> str:
        """What became of the label: "same", "other", "lost", "gained" or "none"."""
        before, after = self.labelled
        if before and after:
            return "same" if self.first and self.second and self.first.name == self.second.name else "other"
        return "lost" if before else "gained" if after else "none"


def same_weights(a: Run, b: Run) -> bool:
    """Tell whether two runs are of the very same generator."""
    first, second = (run.manifest["generator"]["fingerprint"] for run in (a, b))
    return bool(first) and first == second


def by_index(a: Run, layer_a: str, b: Run, layer_b: str) -> bool:
    """Tell whether unit 7 of one layer may be unit 7 of the other, as for other samples or an edited generator.

    Two generators that were trained apart look the same here, and only who made them knows: see :func:`same_weights`.
    """
    return layer_a == layer_b and a.layer(layer_a).units_count == b.layer(layer_b).units_count and (
        a.manifest["generator"]["family"] == b.manifest["generator"]["family"]
    )  # fmt: skip


def likeness(a: Run, layer_a: str, b: Run, layer_b: str) -> Likeness:
    """Correlate the units of two layers by the best that both files know.

    Raises:
        GanatomyError: if the files have too little in common.
    """
    names = [f"layers/{name}/maxima" for name in (layer_a, layer_b)]
    if _same_codes(a, b) and names[0] in a.reader and names[1] in b.reader:
        common, rows_a, rows_b = np.intersect1d(a.seeds, b.seeds, return_indices=True)
        if len(common) >= LEAST_SAMPLES:
            r = correlate(a.layer(layer_a).maxima[rows_a], b.layer(layer_b).maxima[rows_b])
            return Likeness(r, MAXIMA, len(common))
    index_a, index_b = _common_concepts(a, b)
    if len(index_a) < LEAST_CONCEPTS:
        raise GanatomyError(
            f"these runs have {len(index_a)} concepts in common that both may judge; to match units takes "
            f"{LEAST_CONCEPTS}, or runs made with --maxima on the same samples"
        )
    r = correlate(_profile(a, layer_a)[index_a], _profile(b, layer_b)[index_b])
    return Likeness(r, PROFILES, len(index_a))


def pairs(a: OpenRun, layer_a: str, b: OpenRun, layer_b: str, alike: Likeness, index: bool) -> list[Pair]:
    """Return every unit of the first layer with its partner: the unit of the same ``index``, or the most alike."""
    found: Matches = identity(alike.r) if index else best(alike.r)
    tops = _shared_tops(a.run, layer_a, b.run, layer_b, found) if _same_codes(a.run, b.run) else None
    result = []
    for unit, partner in enumerate(found.partner.tolist()):
        if partner < 0:
            continue
        first, labelled_a = _named(a, layer_a, unit)
        second, labelled_b = _named(b, layer_b, partner)
        result.append(
            Pair(
                unit, partner, float(found.r[unit]), bool(found.mutual[unit]), first, second, (labelled_a, labelled_b),
                None if tops is None else tops[unit],
            )
        )  # fmt: skip
    return result


def changes(found: list[Pair]) -> dict[str, int]:
    """Count what became of the labels."""
    counts = Counter(pair.change for pair in found)
    return {name: counts[name] for name in ("same", "other", "lost", "gained", "none")}


def _named(opened: OpenRun, layer: str, unit: int) -> tuple[Candidate | None, bool]:
    profile = opened.layer(layer)
    concept = int(profile.label[unit] or profile.winner[unit])
    return (profile.candidate(unit, concept) if concept else None), bool(profile.label[unit])


def _same_codes(a: Run, b: Run) -> bool:
    """Tell whether a seed means the same code in both runs: drawn from seeds, at the same settings, of one size."""
    first, second = (run.manifest["samples"] for run in (a, b))
    if any("codes_sha256" in s or "pictures_sha256" in s for s in (first, second)):
        return a.id == b.id
    settings = [{k: v for k, v in s.items() if k != "count" and not k.startswith("seeds")} for s in (first, second)]
    kinds = [[run.manifest["generator"][k] for k in ("family", "resolution")] for run in (a, b)]
    return settings[0] == settings[1] and kinds[0] == kinds[1]


def _common_concepts(a: Run, b: Run) -> tuple[list[int], list[int]]:
    there = {concept.name: i for i, concept in enumerate(b.concepts) if i and b.judged[i]}
    shared = [(i, there[c.name]) for i, c in enumerate(a.concepts) if i and a.judged[i] and c.name in there]
    return [i for i, _ in shared], [j for _, j in shared]


def _profile(run: Run, name: str) -> NDArray[np.float64]:
    layer = run.layer(name)
    return concept_profile(layer.concept_mean, layer.mean, layer.second_moment)


def _shared_tops(a: Run, layer_a: str, b: Run, layer_b: str, found: Matches) -> list[tuple[int, int]] | None:
    """Count the top samples that partners share, among seeds that both runs have; None if there are too few such."""
    common = np.intersect1d(a.seeds, b.seeds)
    if len(common) < LEAST_SAMPLES:
        return None
    first, second = (run.reader.read(f"layers/{name}/top/seed") for run, name in ((a, layer_a), (b, layer_b)))
    result = []
    for unit, partner in enumerate(found.partner.tolist()):
        mine, theirs = (set(row[row >= 0].tolist()) & set(common.tolist()) for row in (first[unit], second[partner]))
        result.append((len(mine & theirs), min(len(mine), len(theirs))))
    return result
