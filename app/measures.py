"""What is measured at the press of a button: what taking a unit away causes, and how a concept fades with its units.

Both are what ``ganatomy effect`` and ``ganatomy dose`` do, on as many seeds after the run's, done as a job of the
worker and kept beside the run, where every page, the report and the command line find them.
"""

from __future__ import annotations

from dataclasses import dataclass

import dissect
from dissect import Dose, Effect
from dissect.effects import add
from segmodels import GanatomyError

from .experiments import fresh_seeds, units_of
from .library import Library, OpenRun
from .live import Live
from .orders import Orders
from .redrawn import how_drawn
from .reports import Report
from .worker import Desk, Worker

KIND = "measure"
IMAGES, FEWEST, MOST = 50, 10, 10_000  # fewer than ten images give no interval, and so no verdict
TOP, MOST_UNITS = 20, 4096
CONTROLS = 5


@dataclass(frozen=True)
class Measure:
    """What is to be measured: one unit, or a concept's best units of a layer.

    Attributes:
        slug, layer: of the run. unit: that is taken away, or None.
        concept: whose area is looked at; of a unit that it is labelled with, or None. units: how many of its best.
        images: how many.
    """

    slug: str
    layer: str
    unit: int | None = None
    concept: str | None = None
    units: int = TOP
    images: int = IMAGES

    def same_place(self, other: object) -> bool:
        """Whether another question is about the same unit, or concept and layer."""
        if not isinstance(other, Measure) or (self.slug, self.unit) != (other.slug, other.unit):
            return False
        return self.layer == other.layer if self.unit is not None else self.concept == other.concept


class Measures:
    """Takes questions on any thread, and answers them on the worker's."""

    def __init__(self, library: Library, orders: Orders, live: Live, worker: Worker) -> None:
        self.library, self.orders, self.live, self.worker = library, orders, live, worker

    def reason(self, opened: OpenRun) -> str:
        """Say in a line why nothing of a run can be measured here, "" if it may be."""
        return self.live.reason(opened.run)

    def start(self, asked: Measure) -> int:
        """Check a question, put it into the queue, and return the job's number; that of the same one if it is there.

        Raises:
            GanatomyError: for more or fewer images or units than can be; a unit, layer or concept that is not there.
        """
        opened = self.library.get(asked.slug)
        layer = opened.layer(asked.layer)
        if not FEWEST <= asked.images <= MOST:
            raise GanatomyError(f"expected {FEWEST} to {MOST:,} images, got {asked.images:,}")
        if asked.unit is not None and not 0 <= asked.unit < layer.units:
            raise GanatomyError(f"layer {asked.layer!r} has units 0..{layer.units - 1}, got {asked.unit}")
        if asked.unit is None:
            if not 1 <= asked.units <= MOST_UNITS:
                raise GanatomyError(f"expected 1 to {MOST_UNITS:,} units, got {asked.units:,}")
            units_of(opened.run, asked.layer, str(asked.concept), asked.units)
        reason = self.reason(opened)
        if reason:
            raise GanatomyError(f"nothing can be measured: {reason}")
        running = self.running(asked)
        if running is not None and running.details == asked:
            return running.id
        what = f"unit {asked.unit}" if asked.unit is not None else f"{asked.concept}, {asked.units} units"
        title = f"what {what} of {asked.layer} {'causes' if asked.unit is not None else 'draw'}, {asked.images} images"
        return self.worker.submit(
            KIND, f"{asked.slug}: {title}", lambda desk: self._measure(asked, desk), details=asked
        )

    def running(self, asked: Measure) -> Report | None:
        """Return the job that is about the same place and has not ended, if there is one."""
        return next((r for r in self.worker.reports() if not r.state.ended and asked.same_place(r.details)), None)

    # -- on the worker's thread ----------------------------------------------------------------------------

    def _measure(self, asked: Measure, desk: Desk) -> str:
        """Measure, keep the result beside the run, and return its key."""
        opened = self.library.get(asked.slug)
        desk.say("opening the generator")
        self.live.weights.of(opened.run)
        desk.pause()
        desk.say("opening the segmenter")
        self.orders.segmenter_of(opened.run)
        desk.pause()
        desk.say("looking at images without it" if asked.unit is not None else "looking at images without them")
        made = self._effect(opened, asked, desk) if asked.unit is not None else self._dose(opened, asked, desk)
        return add(opened.run, made)

    def _effect(self, opened: OpenRun, asked: Measure, desk: Desk) -> Effect:
        run = opened.run
        edit = dissect.ablate(asked.layer, [int(asked.unit or 0)])
        return dissect.effect(
            self.live.weights.of(run), self.orders.segmenter_of(run), edit, fresh_seeds(run, asked.images),
            controls=CONTROLS, progress=desk.progress, **how_drawn(run),
        )  # fmt: skip

    def _dose(self, opened: OpenRun, asked: Measure, desk: Desk) -> Dose:
        run, concept = opened.run, str(asked.concept)
        order = units_of(run, asked.layer, concept, asked.units)
        return dissect.dose(
            self.live.weights.of(run), self.orders.segmenter_of(run), asked.layer, order, concept,
            fresh_seeds(run, asked.images), progress=desk.progress, **how_drawn(run),
        )  # fmt: skip
