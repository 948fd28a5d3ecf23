"""Which units cause a concept: the optimised ablation of Bau et al. (ICLR 2019), judged on images it never saw.

Where the shipped original is wrong, this is not: what insertion does is read where it was made, and what it is compared
with is the image without any edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError, Segmenter

from ..edits import FeatureEdit, ablate
from ..generators import Generator
from ..generators.codes import InTurn
from ..samples import Sampling
from ..tables import Tabled
from .heldout import HeldOut, check_shown, gains, interval, measure, shares
from .places import Places, candidates, survey
from .relaxation import Settings, optimise
from .subject import Subject, concept_of, seeds_of, values_of

Progress = Callable[[int, int], None]
DRAWS = 3  # sets of random units, whose effects are averaged
NEUTRAL = 0.5  # alpha to begin with if nothing is known of the units
PLACE_ARRAYS, HELD_ARRAYS = ("seeds", "tiles", "before", "score"), ("area", "ablated", "tiles", "before", "inserted")


@dataclass(frozen=True, eq=False, repr=False)
class Ace(Tabled):
    """What optimised ablation says of the units of a layer. U units, S sets of k units, N held-out images.

    Attributes:
        about: generator, segmenter, layer, sampling, settings: what determines the result, as JSON.
        alpha: float32 [U], how much of each unit causes the concept.
        init: float32 [U], where alpha began; constants: float32 [U], what was put in.
        history: float64 [steps, 3]: probability at the places with alpha taken away and put in, and the penalty.
        present, free: the places that alpha was found at: where the concept is, and where it could be.
        sets: int64 [S, k]: the k units of largest alpha, those of largest init (if there was one), and random ones of
            the others, as far as there are as many.
        held: what these do in the held-out images.
        seeds, heldout: int64, of the images used and of those held out; they share none.
    """

    kind: ClassVar[str] = "ace"
    about: Mapping[str, Any]
    alpha: NDArray[np.float32]
    init: NDArray[np.float32]
    constants: NDArray[np.float32]
    history: NDArray[np.float64]
    present: Places
    free: Places
    sets: NDArray[np.int64]
    held: HeldOut
    seeds: NDArray[np.int64]
    heldout: NDArray[np.int64]

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.about["layer"])

    @property
    def concept(self) -> str:
        """Name of the concept."""
        return str(self.about["concept"])

    @property
    def ranking(self) -> NDArray[np.intp]:
        """All units, those of largest alpha first; among equals by their init, then by number."""
        return best_first(self.alpha, self.init)

    def ablation(self, top: int | None = None) -> FeatureEdit:
        """Return the edit that takes the ``top`` units away; as many as were judged by default."""
        return ablate(self.layer, self.ranking[: len(self.sets[0]) if top is None else top])

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per unit in the order of the ranking."""
        return [
            {"layer": self.layer, "unit": int(u), "rank": rank, "alpha": float(self.alpha[u]),
             "init": float(self.init[u]), "constant": float(self.constants[u])}
            for rank, u in enumerate(self.ranking, 1)
        ]  # fmt: skip

    def evaluation(self) -> list[dict[str, Any]]:
        """Return a row per set, and per difference of two, with 95% bootstrap intervals over the held-out images.

        ``area_change`` is the change of the concept's pooled area with the set taken away, as a share of it;
        ``insertion_gain`` the mean change of its probability where the set is put in. Rows ``a - b`` compare pairs.
        Fewer than 10 images give no intervals (None).
        """
        names = [str(name) for name in self.about["sets"]]
        by_name = {name: [i for i, n in enumerate(names) if n == name] for name in names}
        change = interval({n: shares(self.held, r) for n, r in by_name.items()}, self._random)
        gain = interval({n: gains(self.held, r) for n, r in by_name.items()}, self._random)
        wanted = [*by_name, *(f"alpha - {name}" for name in by_name if name != "alpha")]
        keys = ("area_change", "area_low", "area_high", "insertion_gain", "gain_low", "gain_high")
        rows: list[dict[str, Any]] = []
        for name in wanted:
            values = (None if np.isnan(value) else value for value in (*change[name], *gain[name]))
            about = {"set": name, "units": self.sets.shape[1], "images": len(self.heldout)}
            rows.append(about | dict(zip(keys, values, strict=True)))
        return rows

    @property
    def _random(self) -> int:
        return int(self.about["settings"]["random"])

    def header(self) -> dict[str, Any]:
        """Return what is stored as JSON."""
        return {"kind": self.kind, **self.about}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is stored as arrays."""
        names = ("alpha", "init", "constants", "history", "sets", "seeds", "heldout")
        arrays: dict[str, np.ndarray] = {name: getattr(self, name) for name in names}
        for group in ("present", "free"):
            arrays |= {f"{group}_{name}": getattr(getattr(self, group), name) for name in PLACE_ARRAYS}
        return arrays | {f"held_{name}": getattr(self.held, name) for name in HELD_ARRAYS}

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what :meth:`header` and :meth:`arrays` gave; GanatomyError if something is missing."""
        try:
            about = {key: value for key, value in header.items() if key != "kind"}
            places = {g: Places(*(arrays[f"{g}_{name}"] for name in PLACE_ARRAYS)) for g in ("present", "free")}
            held = HeldOut(*(arrays[f"held_{name}"] for name in HELD_ARRAYS))
            names = ("alpha", "init", "constants", "history", "sets", "seeds", "heldout")
            return cls(about, **{name: arrays[name] for name in names}, **places, held=held)  # type: ignore[arg-type]
        except KeyError as error:
            raise GanatomyError(f"this stored result is damaged: it lacks {error}") from error


def ace(
    generator: Generator,
    segmenter: Segmenter,
    layer: str,
    concept: str | int,
    seeds: Sequence[int],
    heldout: Sequence[int],
    *,
    init: ArrayLike | None = None,
    constants: ArrayLike | None = None,
    top: int = 20,
    settings: Settings | None = None,
    classes: int | InTurn | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    tile: int | None = None,
    progress: Progress | None = None,
) -> Ace:
    """Find the units of a layer that cause a concept, and measure them on images that were held out.

    Args:
        segmenter: one with probabilities, with gradients.
        seeds: of the images in which places are found; more of them give better places, not more steps.
        heldout: of the images that the units are judged on. None may be among ``seeds``; those that ``init`` was read
            from had better not be either.
        init: [U], what is known of the units, such as ``run.layer(l).iou[:, c]``; alpha begins at it over its maximum
            (NaN and below 0: 0). None: all alike.
        constants: [U], what is put in, from ``dissect.constants``; None: the mean where the concept is, in the images
            of ``seeds``.
        top: how many units are judged, and taken from each ranking.
        classes, truncation, cutoff, noise: as for ``generator.sample``; one class for all images, classes that
            seeds take in turn, or each seed's own.
        tile: side of a place in cells of the layer; by default 1 up to maps of 31 cells a side, more in larger ones.
        progress: called with (passes done, passes in all).

    Raises:
        GanatomyError: for unknown names, arrays of another length, seeds on both sides, a segmenter without
            probabilities, or a concept that the images do not show.
    """
    subject = Subject.of(generator, segmenter, layer, Sampling(classes, truncation, cutoff, noise), tile)
    chosen, index = settings or Settings(), concept_of(segmenter, concept)
    units = subject.layer.channels
    if not 1 <= top <= units:
        raise GanatomyError(f"expected top between 1 and {units}, got {top}")
    start = np.full(units, NEUTRAL, np.float32) if init is None else normalised(init, units)
    given = None if constants is None else values_of(constants, units, "constants")
    train, test = seeds_of(seeds, "seeds"), seeds_of(heldout, "held-out seeds")
    if common := sorted(set(train) & set(test)):
        raise GanatomyError(f"held-out seeds must not be among the others, but {common[0]} is both (of {len(common)})")
    names = ["alpha", *([] if init is None else ["init"]), *["random"] * DRAWS]
    probed = train[: 2 * chosen.places]
    total = (
        len(train) + len(probed) * chosen.probes + 2 * chosen.batch * chosen.steps + len(test) * (1 + 2 * len(names))
    )
    tick = _counter(progress, total)

    segmenter.probabilities(generator(subject.codes(train[:1])))  # at once, if it has none
    check_shown(subject, index, test, tick)
    found = survey(subject, index, train, chosen.places, tick)
    put = found.constants if given is None else given
    free = candidates(subject, index, found, put, probed, chosen.probes, chosen.places, chosen.random, tick)
    alpha, history = optimise(subject, index, found.present, free, put, start, chosen, tick)
    sets = _sets(alpha, start, init is not None, top, chosen.random)
    held = measure(subject, index, test, sets.tolist(), put, found.popularity, chosen.random, tick)
    about = {
        **subject.header(start, put, train, test), "concept": segmenter.concepts[index].name, "sets": names,
        "settings": {name: value for name, value in asdict(chosen).items() if name != "memory"},
        "top": top, "initialised": init is not None, "constants_given": constants is not None,
    }  # fmt: skip
    return Ace(
        about, alpha, start, put, history, found.present, free, sets, held, np.array(train, np.int64),
        np.array(test, np.int64),
    )  # fmt: skip


def normalised(init: ArrayLike, units: int) -> NDArray[np.float32]:
    """Return what is known of the units over its maximum, in [0, 1]; GanatomyError if it says nothing at all."""
    with np.errstate(invalid="ignore"):
        known = np.nan_to_num(np.asarray(init, np.float32), nan=0.0, posinf=np.inf)
    values = np.clip(values_of(known, units, "init"), 0, None)
    if not values.max() > 0:
        raise GanatomyError("expected an init above 0 for at least one unit; leave it out to begin with all alike")
    return values / values.max()


def best_first(alpha: NDArray[np.float32], init: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return units by alpha, then by init, then by number."""
    return np.lexsort((np.arange(len(alpha)), -init, -alpha))


def _sets(
    alpha: NDArray[np.float32], init: NDArray[np.float32], known: bool, top: int, random: int
) -> NDArray[np.int64]:
    chosen = [best_first(alpha, init)[:top]]
    if known:
        chosen.append(np.argsort(-init, kind="stable")[:top])
    draw = np.random.default_rng([random, 4])
    ranked = np.unique(np.concatenate(chosen))
    others = np.setdiff1d(np.arange(len(alpha)), ranked)  # a control that holds what it controls for says less
    for _ in range(DRAWS):
        chosen.append(np.sort(np.concatenate([draw.permutation(others), draw.permutation(ranked)])[:top]))
    return np.stack(chosen).astype(np.int64)


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return what is called with the number of passes since the last call."""
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done = min(total, done + more)
        if progress is not None:
            progress(done, total)

    return tick
