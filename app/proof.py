"""Whether a cleaning helped: on which seeds each step is done, and what is measured before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import dissect
from dissect import Effect, FeatureEdit, GanatomyError, Recipe, artifacts
from dissect.artifacts import Classifier
from dissect.artifacts.unlike import features_of
from dissect.effects.controls import control_edits
from dissect.metrics import Drawn, Looks, Score, compare
from dissect.metrics.extractors import Extractor
from dissect.metrics.gaussians import Float64
from dissect.samples import Sampling

from .console import progress
from .experiments import LARGEST_SEED, Ground

KEPT = ("fid", "frechet", "kernel")
CANDIDATES = 4  # times as many images, of which those that most activate the units are chosen
PLAIN, CHOSEN = "plain", "chosen"
BEFORE, AFTER, CONTROL = "before", "after", "random units"


@dataclass(frozen=True)
class Seeds:
    """Seeds for each step. None is there twice, a sample of the run, tagged, or one that a classifier was trained on.

    How many units are taken away is chosen on images that the ranking did not see, and proved on images that neither
    saw: the best of several numbers looks better where it was chosen than it is.

    Attributes:
        rank: for a ranking that draws images of its own. choose: for the number of units. prove: for before and after.
        pool: from which those that most activate the units are taken.
    """

    rank: list[int]
    choose: list[int]
    prove: list[int]
    pool: list[int]

    @classmethod
    def apart(cls, after: Sequence[int], tags: Path | None, classifier: Path | None = None) -> Seeds:
        """Return as many for each step as ``after`` has, from its first on; GanatomyError if there are too few."""
        known = set(artifacts.read_tags(tags).seeds.tolist()) if tags is not None else set()
        if classifier is not None:
            known |= set(Classifier.load(classifier).seeds.tolist())
        if after[0] + (3 + CANDIDATES) * len(after) + len(known) > LARGEST_SEED:
            raise GanatomyError(f"there are too few seeds after the run's for {len(after)} samples; ask for fewer")
        free = (seed for seed in count(after[0]) if seed not in known)
        return cls(*(list(islice(free, times * len(after))) for times in (1, 1, 1, CANDIDATES)))


@dataclass(frozen=True, eq=False)
class Proof:
    """What was measured of a recipe.

    Attributes:
        scores: (protocol, what was done, its scores against the reference).
        effect: of the recipe on concepts. strongest: seeds whose images most activate the units, the strongest first.
    """

    scores: list[tuple[str, str, list[Score]]]
    effect: Effect
    strongest: list[int]


def units_of(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the units that a recipe changes, by layer."""
    found: dict[str, tuple[int, ...]] = {}
    for edit in recipe:
        assert isinstance(edit, FeatureEdit)  # that is all that cleaning makes
        found[edit.layer] = tuple(dict.fromkeys((*found.get(edit.layer, ()), *edit.units)))
    return found


def proved(ground: Ground, seeds: Seeds, recipe: Recipe, target: Float64, features: Extractor) -> Proof:
    """Measure before and after by both protocols, with the same done to random other units, and what concepts did."""
    generator, sampling = ground.generator, Sampling(**ground.how)
    strongest = artifacts.activating(generator, units_of(recipe), seeds.pool, len(seeds.prove), sampling)
    (control,) = control_edits(generator, list(recipe), 1)
    variants = ((BEFORE, ()), (AFTER, recipe), (CONTROL, control))
    scores = []
    for protocol, some in ((PLAIN, seeds.prove), (CHOSEN, strongest)):
        for done, edits in variants:
            with progress(f"{protocol}, {done}", unit="images") as update:
                found = features_of(Drawn(generator, some, edits, sampling), features, progress=update)
            scores.append((protocol, done, compare(Looks(found), Looks(target), features, only=KEPT)))
    with progress("concepts") as update:
        effect = dissect.effect(generator, ground.segmenter, recipe, seeds.prove, progress=update, **ground.how)
    return Proof(scores, effect, strongest)
