"""What the commands that prove things share: a run, the generator it was made of, a segmenter, and fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import dissect
import segmodels
from dissect import FeatureEdit, Generator, Run, constants
from dissect.effects import Ace, Sweep
from dissect.generators.codes import draw
from segmodels import GanatomyError, Segmenter
from segmodels.custom import FACTORY
from segmodels.masks import MASKS_PREFIX

from .commands.options import ask_licence, parse_options, parse_seeds
from .console import remark
from .redrawn import drawn_in_words, how_drawn
from .weights import Weights

TOP = 20  # units of a concept
LARGEST_SEED = 2**32 - 1
MOST_NAMED = 100_000  # units in a list: more than any layer has
TO = ("zero", "mean", "other")
INSERTED = ("concept-mean", "quantile")


@dataclass(frozen=True, eq=False)
class Ground:
    """What an experiment is done with, when it may be done without a run.

    Attributes:
        run: whose units, or None. generator: the one that it was made of. segmenter: what reads the images.
        seeds: of the images. how: classes, truncation, cutoff and noise, as in the run.
        fresh: whether no seed is a sample of the run, by which units were chosen.
    """

    run: Run | None
    generator: Generator
    segmenter: Segmenter
    seeds: Sequence[int]
    how: dict[str, Any]
    fresh: bool

    def at(self, seeds: Sequence[int]) -> Self:
        """Return the same with other seeds."""
        return replace(self, seeds=seeds)


@dataclass(frozen=True, eq=False)
class Setting(Ground):
    """What an experiment is done with: a run, and what belongs to it."""

    run: Run

    def said(self) -> str:
        """Say in a line on which images the experiment is."""
        first, last = self.seeds[0], self.seeds[-1]
        row = list(self.seeds) == list(range(first, last + 1))
        which = f"seeds {first} to {last}" if row and len(self.seeds) > 1 else f"{len(self.seeds)} seeds"
        known = "none of them a sample of the run" if self.fresh else "some of them samples of the run"
        return f"{self.generator.name} by {self.segmenter.name}, {which} ({known})"


def prepare(
    run_file: Path,
    model: str | None,
    segmenter: str | None,
    device: str,
    samples: int,
    seeds: str | None,
    options: list[str] | None = None,
    accept: bool = False,
) -> Setting:
    """Open a run and what an experiment on it needs.

    Args:
        run_file: the dissection.
        model, segmenter: names; None for those of the run.
        device: where both run.
        samples: how many images, of the seeds after the run's. seeds: others instead, as text.
        options, accept: as for any command that opens a generator.

    Raises:
        GanatomyError: if something cannot be had, or is not what the run was made of.
    """
    run = dissect.open(run_file)
    run.effects  # noqa: B018 (a damaged file is told before an hour's work, not after it)
    chosen, fresh = _seeds(run, samples, seeds)
    generator = _generator(run, model, device, options, accept)
    found, how = _segmenter(run, segmenter, device), how_drawn(run)
    if told := drawn_in_words(how, generator.num_classes):
        remark(f"images are drawn as the run's samples were: {told}")
    return Setting(run, generator, found, chosen, how, fresh)


def _generator(run: Run, model: str | None, device: str, options: list[str] | None, accept: bool) -> Generator:
    if model is None:
        return Weights(device=device, naming="name it after the run").of(run)
    ask_licence(model, accept)
    generator = dissect.load(model, device, **parse_options(options or []))
    wanted = str(run.manifest["generator"]["fingerprint"])
    if generator.fingerprint != wanted:
        raise GanatomyError(
            f"{model} is not what {run.path} was made of (fingerprint {generator.fingerprint[:12]}, the run's is "
            f"{wanted[:12]}); its units are others"
        )
    return generator


def _segmenter(run: Run, name: str | None, device: str) -> Segmenter:
    known = run.manifest["segmenter"]
    if name is None:
        parts = [part for part in known["name"].split("+") if not part.startswith(MASKS_PREFIX)]
        if any(FACTORY.fullmatch(part) for part in parts):
            raise GanatomyError(
                f"the run's segmenter is code ({known['name']}), which is not run unasked; name it with --segmenter"
            )
        found = segmodels.load(known["name"], device)
        if found.sha256 != known["sha256"]:
            raise GanatomyError(
                f"segmenter {known['name']!r} here is not the one of the run ({found.sha256[:12]}, the run's is "
                f"{known['sha256'][:12]}); --segmenter {known['name']} takes it all the same"
            )
        return found
    found = segmodels.load(name, device)
    if found.sha256 != known["sha256"]:
        remark(f"{name} is not the segmenter of the run, {known['name']}; units were chosen by that one")
    return found


def _seeds(run: Run, samples: int, text: str | None) -> tuple[Sequence[int], bool]:
    described = run.manifest["samples"]
    if "pictures_sha256" in described:
        raise GanatomyError(f"{run.path} is of pictures; it has no generator whose units could be edited")
    if text is not None:
        chosen: Sequence[int] = parse_seeds(text)
    else:
        if samples <= 0:
            raise GanatomyError(f"expected a positive number of samples, got {samples}")
        first = int(run.seeds.max()) + 1  # of explicit codes, these are 0 to N - 1: most likely they came from such
        if first + samples > LARGEST_SEED:
            raise GanatomyError(f"there are no {samples} seeds after the run's; name some with --seeds")
        chosen = range(first, first + samples)
    explicit = "codes_sha256" in described
    shared = len(_of_codes(run, chosen)) if explicit else _shared(run.seeds.tolist(), chosen)
    if shared:
        remark(f"{shared} of the {len(chosen)} seeds are samples of the run, by which units are chosen")
    return chosen, not shared


def _of_codes(run: Run, seeds: Sequence[int]) -> set[int]:
    """Return which seeds give a z that is among a run's explicit codes."""
    if "samples/z" not in run.reader:
        return set()
    z = run.reader.read("samples/z").astype(np.float32)
    known = {row.tobytes() for row in z}
    drawn = draw(list(seeds), z.shape[1], None, False, False)[0].numpy()
    return {seed for seed, row in zip(seeds, drawn, strict=True) if row.tobytes() in known}


def _shared(known: Sequence[int], seeds: Sequence[int]) -> int:
    """Return how many of some known seeds are among ``seeds``; a range may be long, and is not written out."""
    among = seeds if isinstance(seeds, range) else set(seeds)
    return sum(seed in among for seed in known)


def remark_used(run: Run, seeds: Sequence[int]) -> None:
    """Remark if some seeds are those by which an earlier sweep or optimised ablation may have chosen the units."""
    found, used = run.effects, 0
    for key in found:
        if found.kind(key) in (Sweep.kind, Ace.kind):
            used = max(used, _shared(found[key].seeds.tolist(), seeds))
    if used:
        remark(
            f"{used} of the {len(seeds)} seeds were used by an earlier sweep or ace; if these units were chosen by it, "
            f"name others with --seeds"
        )


def fresh_seeds(run: Run, samples: int) -> Sequence[int]:
    """Return the seeds after a run's, none of which is a sample of it; GanatomyError if it has none, or too few."""
    return _seeds(run, samples, None)[0]


def parse_units(text: str, option: str = "--units") -> list[int]:
    """Return the numbers of a list like ``1,2,40``; ``A:B`` is A up to B - 1."""
    units: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            some = range(int(first), int(last)) if colon else [int(first)]
            if len(some[: MOST_NAMED + 1]) + len(units) > MOST_NAMED:  # each would be an object of its own
                raise GanatomyError(f"{option}: expected at most {MOST_NAMED:,} numbers, got {text[:80]!r}")
            units += some
    except ValueError as error:
        raise GanatomyError(f"{option}: expected a list like 1,2,40 or A:B, got {text!r}") from error
    if not units or min(units) < 0:
        raise GanatomyError(f"{option}: expected numbers >= 0, got {text!r}")
    return units


def units_of(run: Run, layer: str, concept: str, top: int) -> list[int]:
    """Return the units of a layer that agree best with a concept; GanatomyError if none can be judged."""
    if top < 1:
        raise GanatomyError(f"--top: expected at least 1 unit, got {top}")
    units = run.layer(layer).units(concept, top)
    if not len(units):
        raise GanatomyError(f"{concept!r} is too rare in {run.path} to say which units of {layer} agree with it")
    return [int(unit) for unit in units]


def edit_of(
    run: Run, layer: str, units: Sequence[int], to: str, inserted: str | None, strength: float, concept: str | None
) -> tuple[FeatureEdit, dict[str, np.ndarray]]:
    """Return the edit that a command's options ask for, and what its controls need.

    Args:
        run, layer, units: which units.
        to: what they are ablated to: zero, mean, other. inserted: instead, what is put in: concept-mean, quantile, or
            a number.
        strength: how much. concept: whose mean.
    """
    if inserted is None:
        if to not in TO:
            raise GanatomyError(f"--to: expected {', '.join(TO)}, got {to!r}")
        if to != "mean":
            return dissect.ablate(layer, units, strength, to=to), {}
        values = constants.mean(run.layer(layer))
    else:
        values = values_of(run, layer, inserted, concept)
    if max(units) >= len(values):
        raise GanatomyError(f"layer {layer!r} has units 0..{len(values) - 1}, got {max(units)}")
    return dissect.insert(layer, units, values[list(units)], strength=strength), {layer: values}


def values_of(run: Run, layer: str, inserted: str, concept: str | None) -> NDArray[np.float32]:
    """Return what is put in for each unit of a layer, [U]: ``concept-mean``, ``quantile`` or a number for all."""
    if inserted == "concept-mean":
        if concept is None:
            raise GanatomyError("--insert concept-mean needs the --concept whose mean it is")
        return constants.concept_mean(run.layer(layer), concept)
    if inserted == "quantile":
        return constants.quantile(run.layer(layer))
    try:
        return np.full(run.layer(layer).units_count, float(inserted), np.float32)
    except ValueError as error:
        raise GanatomyError(f"--insert: expected {', '.join(INSERTED)} or a number, got {inserted!r}") from error


def percent(value: float | None) -> str:
    """Return a share for people: ``12.3%``; a dash for none."""
    return (
        "–" if value is None else f"{100 * value:.1f}%" if abs(value) >= 0.001 or value == 0 else f"{100 * value:.3f}%"
    )


def signed(value: float | None) -> str:
    """Return a change for people: ``+12%``; a dash for none."""
    return "–" if value is None else f"{100 * value:+.1f}%"


def span(low: float | None, high: float | None) -> str:
    """Return an interval of changes for people."""
    return "–" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}%"
