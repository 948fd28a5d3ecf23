"""Painting: images with edits under masks, brushes from a run's numbers, and what was painted as files.

A question says all that it is about; of a visitor nothing is kept but an exported checkpoint until it is fetched.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dissect
from dissect import Codes, Edit, Generator, Recipe, constants
from dissect.generators.bake import BakeError, bake
from dissect.generators.bundles import SUFFIX
from dissect.generators.stylebased import StyleGenerator
from dissect.pictures import to_bytes
from segmodels import GanatomyError

from .exports import Exports
from .library import OpenRun
from .live import Bytes, Live, Studio
from .paint_edits import Floats, Start, file_of
from .reports import Report
from .worker import Desk, Worker

FEWEST_BEST, MOST_BEST = 5, 64  # units of a concept, unasked at least and at most
PUTS = ("high", "mean")  # what "draw" may put in a unit's place
KIND = "paint export"


@dataclass(frozen=True)
class Brush:
    """Units of a layer, and what to put in their place.

    Attributes:
        units: ascending. values: for each, by what it is: "high", the level that it exceeds at 0.5% of the pixels;
            "mean", its mean where the concept is (None without a concept).
        name: what the units are about, "" if they agree on nothing.
    """

    layer: str
    units: tuple[int, ...]
    values: dict[str, list[float] | None]
    name: str


@dataclass(frozen=True)
class Task:
    """An export under way: the token is known to whoever began it."""

    token: str


class Painting:
    """Draws and exports what pages ask for. May be called from any thread."""

    def __init__(self, live: Live, worker: Worker, exports: Exports) -> None:
        self.live, self.worker, self.exports = live, worker, exports

    def drawn(
        self, opened: OpenRun, start: Start, edits: Sequence[Edit], layer: str,
        channel: object = None, turn: float | None = None,
    ) -> tuple[Bytes, Bytes]:  # fmt: skip
        """Return an image uint8 [R, R, 3] without edits and with them.

        Args:
            start: which image. edits: in order; those without effect are left out.
            layer: where the next edit will be; what a pass holds there, or at the first edit's layer, is kept.
            channel, turn: as in :meth:`Worker.ask`.
        """

        def draw() -> tuple[Bytes, Bytes]:
            return painted(self.live.studio(opened.run), start, edits, layer)

        return self.worker.ask(draw, channel, turn)

    def checked(self, opened: OpenRun, w: Floats) -> Floats:
        """Return w codes [N, ...] as they came; GanatomyError if the run's generator takes none, or others."""

        def check() -> None:
            self.live.weights.of(opened.run).codes(w)

        self.worker.ask(check)
        return w

    # -- files -----------------------------------------------------------------------------------------------

    def recipe(self, opened: OpenRun, edits: Sequence[Edit]) -> bytes:
        """Return the file of a recipe, tied to the run's generator."""
        active = _some(edits)
        return self.worker.ask(lambda: file_of(Recipe(active, self.live.weights.of(opened.run))))

    def accepted(self, opened: OpenRun, recipe: Recipe) -> tuple[Edit, ...]:
        """Return the edits of a recipe under the generator's own layer names; GanatomyError if they are not for it."""
        return self.worker.ask(lambda: self.live.weights.of(opened.run).check_edits(recipe))

    def bundle(self, opened: OpenRun, edits: Sequence[Edit]) -> bytes:
        """Return the file of a bundle: any edits, and which generator they are for, without its weights."""
        active = _some(edits)

        def write() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                generator = self.live.weights.of(opened.run)
                return dissect.export(generator, Path(folder) / f"painted{SUFFIX}", active, bundle=True).read_bytes()

        return self.worker.ask(write)

    def checkpoint(self, opened: OpenRun, edits: Sequence[Edit]) -> tuple[str | None, str]:
        """Begin to write the edits as a checkpoint of the generator's own kind.

        Returns:
            The token of the job and "", or None and why the edits are not exactly weights.
        """
        active = _some(edits)

        def why_not() -> str:
            generator = self.live.weights.of(opened.run)
            if generator.origin is None and generator.original is None:
                return f"{generator.name} did not come from a checkpoint"
            try:
                bake(generator.original or generator, (*generator.recipe, *active))
            except BakeError as error:
                return str(error).partition(";")[0]
            return ""

        reason = self.worker.ask(why_not)
        if reason:
            return None, reason
        task = Task(secrets.token_urlsafe(18))
        title = f"Export of {opened.generator}, painted"
        self.worker.submit(KIND, title, lambda desk: self._write(opened, active, task, desk), details=task)
        return task.token, ""

    def report(self, token: str) -> Report:
        """Return how an export stands; GanatomyError if it is not known (any more)."""
        for report in self.worker.reports():
            if isinstance(report.details, Task) and secrets.compare_digest(report.details.token, token):
                return report
        raise GanatomyError("this export is not known any more; export again")

    def _write(self, opened: OpenRun, edits: tuple[Edit, ...], task: Task, desk: Desk) -> None:
        desk.say("writing the checkpoint, and comparing what it draws")
        generator = self.live.weights.of(opened.run)
        origin = (generator.original or generator).origin
        assert origin is not None, "which was asked before"
        with self.exports.made(task.token) as folder:
            dissect.export(
                generator, folder / f"{opened.slug}-painted{origin.ending}", edits, progress=desk.progress
            )  # fmt: skip


def painted(studio: Studio, start: Start, edits: Sequence[Edit], layer: str) -> tuple[Bytes, Bytes]:
    """Return an image without edits and with them; before the first edit's layer nothing is computed twice."""
    generator = studio.generator
    order = {known.name: index for index, known in enumerate(generator.layers)}
    active = tuple(edit for edit in generator.check_edits(tuple(edits)) if not edit.idle)
    places = [edit.layer for edit in active] or [generator.layer(layer).name]
    place = min(places, key=order.__getitem__)
    codes = None if start.w is None else latent_codes(generator, start.w)
    capture = studio.capture(place, start.key, codes)
    images = generator.resume(capture, place, edits=active) if active else capture.images
    before, after = (to_bytes(one[0].float().cpu().numpy()) for one in (capture.images, images))
    return before, after


def latent_codes(generator: Generator, w: Floats) -> Codes:
    """Return the codes of w [1, ...]; GanatomyError if the generator has no such latents."""
    return generator.codes(w)


def takes_latents(family: str) -> bool:
    """Whether generators of a family take w codes, as far as its name says; opens nothing."""
    kinds: list[type] = [StyleGenerator]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return any(family == kind.__module__.rpartition(".")[2] for kind in kinds)


def best(opened: OpenRun, concept: str, layer: str, count: int | None = None) -> tuple[int, ...]:
    """Return the units of a layer that agree best with a concept, ascending; by default as many as it names."""
    named = opened.layer(layer).per_concept.get(opened.run.concept_index(concept), 0)
    count = min(max(named, FEWEST_BEST), MOST_BEST) if count is None else count
    if not 1 <= count <= MOST_BEST:
        raise GanatomyError(f"expected 1 to {MOST_BEST} units, got {count}")
    found = opened.run.layer(layer).units(concept, top=count)
    if not len(found):
        raise GanatomyError(f"no unit of {layer} can be compared with {concept!r}")
    return tuple(sorted(int(unit) for unit in found))


def best_layer(opened: OpenRun, concept: str) -> str:
    """Return the layer in which most units are labelled with a concept; where none are, that of the best candidate.

    Where many units carry a concept the generator still makes something of what is put in; near the image it is paint.
    """
    index = opened.run.concept_index(concept)

    def worth(layer: str) -> tuple[int, float]:
        known, units = opened.layer(layer), opened.run.layer(layer).units(index, top=1)
        difference = known.candidate(int(units[0]), index).difference if len(units) else -np.inf
        return known.per_concept.get(index, 0), float(difference)

    return max(opened.run.layers, key=worth)


def brush(opened: OpenRun, layer: str, units: Sequence[int], concept: str = "") -> Brush:
    """Return the brush of some units; GanatomyError if the layer has no such units."""
    known = opened.layer(layer)
    chosen = tuple(sorted(set(units)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= known.units:
        raise GanatomyError(f"expected units of {layer}, 0 to {known.units - 1}, got {list(units)[:5]}")
    numbers, index = opened.run.layer(layer), list(chosen)
    values: dict[str, list[float] | None] = {"high": [float(v) for v in constants.quantile(numbers)[index]]}
    values["mean"] = [float(v) for v in constants.concept_mean(numbers, concept)[index]] if concept else None
    return Brush(layer, chosen, values, concept or about(opened, layer, chosen))


def about(opened: OpenRun, layer: str, units: Sequence[int]) -> str:
    """Return the concept that most of some units are labelled with, "" if there is none."""
    if layer not in opened.run.layers or not units:
        return ""
    labels = opened.layer(layer).label[[unit for unit in units if unit < opened.layer(layer).units]]
    counts = np.bincount(labels, minlength=1)
    most = int(counts.argmax())
    return opened.run.concepts[most].name if most and 2 * counts[most] > len(labels) else ""


def _some(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    active = tuple(edit for edit in edits if not edit.idle)
    if not active:
        raise GanatomyError("nothing has been painted yet, or every edit is switched off")
    return active


def described(made: Brush) -> dict[str, Any]:
    """Return a brush as JSON."""
    return {"layer": made.layer, "units": list(made.units), "values": made.values, "name": made.name}
