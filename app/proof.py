"""Whether a cleaning helped: on which seeds each step is done, and what is measured before and after."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import dissect
from dissect import Effect, FeatureEdit, GanatomyError, Recipe, Run, artifacts
from dissect.artifacts import Classifier, Curve, Ranking
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
Watch = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]  # says what is done, then how far it is
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
    def after(cls, first: Sequence[int], known: Collection[int] = ()) -> Seeds:
        """Return as many for each step as ``first`` has, from its first on, none of them ``known``.

        Raises:
            GanatomyError: if there are too few.
        """
        if first[0] + (3 + CANDIDATES) * len(first) + len(known) > LARGEST_SEED:
            raise GanatomyError(f"there are too few seeds after the run's for {len(first)} samples; ask for fewer")
        free = (seed for seed in count(first[0]) if seed not in known)
        return cls(*(list(islice(free, times * len(first))) for times in (1, 1, 1, CANDIDATES)))


def seen_by(tags: Path | None, classifier: Path | None) -> set[int]:
    """Return the seeds that people have tagged, or that a classifier was trained on."""
    known = set(artifacts.read_tags(tags).seeds.tolist()) if tags is not None else set()
    if classifier is not None:
        known |= set(Classifier.load(classifier).seeds.tolist())
    return known


def unseen(run: Run, ranking: Ranking, images: int) -> Sequence[int]:
    """Return seeds after a run's that a ranking's tags do not hold; GanatomyError if there are too few."""
    first, known = int(run.seeds.max()) + 1, set(ranking.facts.get("seeds", ()))
    if first + images + len(known) > LARGEST_SEED:
        raise GanatomyError(f"there are too few seeds after the run's for {images} images")
    return list(islice((seed for seed in count(first) if seed not in known), images))


def chosen_on(run: Run, ranking: Ranking, curves: Iterable[Curve]) -> set[int]:
    """Return the seeds by which units, and how many of them, were chosen.

    Args:
        curves: of the ranking, whoever measured them: the command line takes other seeds than the page.
    """
    known = set(ranking.facts.get("seeds", ()))
    for curve in curves:
        facts = curve.facts  # of one that was measured before seeds were kept, the page's own are the best guess
        known.update(facts["seeds"] if "seeds" in facts else unseen(run, ranking, int(facts["images"])))
    return known


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


def proved(
    ground: Ground, seeds: Seeds, recipe: Recipe, target: Float64, features: Extractor, watch: Watch = progress
) -> Proof:
    """Measure before and after by both protocols, with the same done to random other units, and what concepts did.

    Args:
        target: features of the reference [M, D]. watch: how it is said what is being done.
    """
    generator, sampling = ground.generator, Sampling(**ground.how)
    strongest = artifacts.activating(generator, units_of(recipe), seeds.pool, len(seeds.prove), sampling)
    (control,) = control_edits(generator, list(recipe), 1)
    variants = ((BEFORE, ()), (AFTER, recipe), (CONTROL, control))
    scores = []
    for protocol, some in ((PLAIN, seeds.prove), (CHOSEN, strongest)):
        for done, edits in variants:
            with watch(f"{protocol}, {done}") as update:
                found = features_of(Drawn(generator, some, edits, sampling), features, progress=update)
            scores.append((protocol, done, compare(Looks(found), Looks(target), features, only=KEPT)))
    with watch("concepts") as update:
        effect = dissect.effect(generator, ground.segmenter, recipe, seeds.prove, progress=update, **ground.how)
    return Proof(scores, effect, strongest)
