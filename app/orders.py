"""Dissections that are started from the browser: what may be asked for, and doing it as a job of the worker.

What is typed into a page is data: it names a generator and a segmenter of the catalogues, or files inside the folder of
the open runs, and a file to make there. It never names code, an address, or a place elsewhere.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import segmodels
from dissect import Job, Run
from dissect.execute import run_job
from dissect.samples import Samples, Sampling
from segmodels import GanatomyError, Segmenter
from segmodels.errors import unknown_name
from segmodels.masks import MASKS_PREFIX

from .library import Library
from .reports import Report, State
from .unfinished import Unfinished
from .weights import Weights, inside_of
from .worker import PATIENCE, Desk, Worker

KIND = "dissect"
SUFFIX = ".h5"
ENDINGS = ("", ".partial")  # under which a name is taken
NAME = re.compile(r"[^\W_][\w.+ -]{0,99}", re.ASCII)
UNFIT = re.compile(r"[^A-Za-z0-9.+-]+")
COMPANIONS = (".effects.h5", ".memory.h5")
MOST_SAMPLES, MOST_SEED = 10_000_000, 2**32

log = logging.getLogger("ganatomy.orders")


@dataclass(frozen=True)
class Order:
    """A dissection as it was asked for.

    Attributes:
        generator, segmenter: as typed. samples: how many. first_seed: of the first.
        layers: none for those that are recommended. out: name of the file; made up if "".
        truncation: 1 is none.
    """

    generator: str
    segmenter: str = "colors"
    samples: int = 1000
    first_seed: int = 0
    layers: tuple[str, ...] = ()
    out: str = ""
    truncation: float = 1.0


class Orders:
    """Takes orders, on any thread, and does them on the worker's."""

    def __init__(self, library: Library, weights: Weights, worker: Worker) -> None:
        self.library, self.weights, self.worker = library, weights, worker
        self._segmenters: dict[str, Segmenter] = {}  # touched by the worker's thread alone
        self._lock = threading.Lock()  # a name is free until its order is in the queue: one at a time chooses

    @property
    def folder(self) -> Path:
        """Where new runs go, and where files that are named in an order lie."""
        return self.library.folder

    def generators(self) -> list[str]:
        """Return what can be typed for a generator."""
        return self.weights.choices(self.folder)

    def segmenters(self) -> list[str]:
        """Return what can be typed for a segmenter, beside folders: more of them, joined by +."""
        return [entry.name for entry in segmodels.entries() if _is_name(entry)]

    def layers(
        self, generator: str, channel: object = None, turn: float | None = None, patience: float = PATIENCE
    ) -> tuple[list[str], list[str]]:
        """Return a generator's layers and the recommended ones among them; opens it. As :meth:`Worker.ask`."""
        source = self.weights.source_of(generator, self.folder)
        opened = self.worker.ask(lambda: self.weights.open(source), channel, turn, patience)
        return [layer.name for layer in opened.layers], opened.default_layers()

    def start(self, order: Order) -> int:
        """Check an order, put it into the queue, and return the job's number; GanatomyError says what is wrong."""
        with self._lock:
            order = self.checked(order)
            title = f"{order.generator} by {order.segmenter}, {order.samples:,} samples"
            if (number := self._being_made().get(order.out)) is not None:
                raise GanatomyError(f"{order.out} is being made already, by job {number}")
            return self.worker.submit(KIND, title, lambda desk: self._dissect(order, desk), details=order)

    def checked(self, order: Order) -> Order:
        """Return the order with the file's name made whole; GanatomyError if it cannot be done as it stands."""
        self.weights.source_of(order.generator, self.folder)
        self.segmenter_source(order.segmenter)
        if not 1 <= order.samples <= MOST_SAMPLES:
            raise GanatomyError(f"expected 1 to {MOST_SAMPLES:,} samples, got {order.samples:,}")
        if not 0 <= order.first_seed <= MOST_SEED - order.samples:
            raise GanatomyError(f"expected seeds between 0 and {MOST_SEED - 1}, the first is {order.first_seed}")
        return replace(order, out=self._file_name(order))

    def _file_name(self, order: Order) -> str:
        """Return the name of the file to make: a plain name, never a path."""
        if not order.out.strip():
            return self._free_name(order)
        name = order.out.strip()
        name = name if name.endswith(SUFFIX) else name + SUFFIX
        if not NAME.fullmatch(name) or name.endswith(COMPANIONS):
            raise GanatomyError(f"expected the name of a file such as faces.h5, without a folder, got {name[:120]!r}")
        if (self.folder / name).is_symlink():
            raise GanatomyError(f"{name} is a link to another place; choose another name")
        return name

    def _free_name(self, order: Order) -> str:
        """Return a name after generator and segmenter under which there is nothing, and nothing is being made."""
        stem = UNFIT.sub("-", f"{Path(order.generator).stem}-{order.segmenter.rsplit('/', 1)[-1]}").strip("-.+")[:80]
        number, name, promised = 1, f"{stem}{SUFFIX}", self._being_made()
        while name in promised or any((self.folder / f"{name}{end}").exists() for end in ENDINGS):
            number += 1
            name = f"{stem}-{number}{SUFFIX}"
        return name

    def _being_made(self) -> dict[str, int]:
        """Return the files that jobs are making or will make, with the jobs' numbers."""
        reports = [report for report in self.worker.reports() if not report.state.ended]
        return {report.details.out: report.id for report in reports if isinstance(report.details, Order)}

    def segmenter_source(self, typed: str) -> str:
        """Return what to load for a segmenter that was typed into a page."""
        parts = []
        for part in typed.strip().split("+"):
            if part in self.segmenters():
                parts.append(part)
                continue
            prefix = MASKS_PREFIX if part.startswith(MASKS_PREFIX) else ""
            inside = inside_of(self.folder, part.removeprefix(prefix))
            if inside is None or not inside.is_dir():
                raise unknown_name("segmenter", part, self.segmenters())
            parts.append(f"{prefix}{inside}")
        return "+".join(parts)

    def segmenter_of(self, run: Run) -> Segmenter:
        """Return the segmenter that a run was made with; on the worker's thread only.

        Raises:
            GanatomyError: if it cannot be found, or what goes by its name is another.
        """
        known = run.manifest["segmenter"]
        name, wanted = str(known["name"]), str(known["sha256"])
        if name not in self._segmenters:
            found = segmodels.load(self.segmenter_source(name), self.weights.device)
            if found.sha256 != wanted:
                raise GanatomyError(f"the segmenter {name} here is not the one of the run, so that it is of no use")
            self._segmenters[name] = found
        return self._segmenters[name]

    # -- on the worker's thread ----------------------------------------------------------------------------

    def _dissect(self, order: Order, desk: Desk) -> str:
        """Do an order and return the slug of the run."""
        out = self.folder / order.out
        try:
            run = self._run(order, out, desk)
        except KeyboardInterrupt:
            desk.say(_kept(out))
            raise
        except GanatomyError as error:  # paths are of this machine; a page speaks of names
            raise GanatomyError(str(error).replace(f"{self.folder}/", "")) from error
        slug = self.library.add(out)
        _fill_tables(run, desk)
        return slug

    def _run(self, order: Order, out: Path, desk: Desk) -> Run:
        def progress(done: int, total: int) -> None:
            desk.say("counting" if done < total else "writing the file")
            desk.progress(done, total)

        desk.say("opening the generator")
        generator = self.weights.open(self.weights.source_of(order.generator, self.folder))
        desk.pause()
        desk.say("opening the segmenter")
        segmenter = segmodels.load(self.segmenter_source(order.segmenter), self.weights.device)
        desk.pause()
        seeds = range(order.first_seed, order.first_seed + order.samples)
        samples = Samples(generator, seeds=seeds, sampling=Sampling(truncation=order.truncation))
        job = Job(generator, segmenter, samples, order.layers or None, out, pause=desk.pause)
        desk.say("choosing levels")
        return run_job(job, progress)


def can_go_on(report: Report) -> bool:
    """Tell whether a job has ended such that the same order goes on from where it was."""
    return isinstance(report.details, Order) and report.state in (State.CANCELLED, State.FAILED)


def _fill_tables(run: Run, desk: Desk) -> None:
    """Compute a finished run's tables, so that its pages open at once. What ends this early does not undo the run."""
    desk.say("computing its tables")
    try:
        for layer in run.layers:
            desk.pause()
            run.layer(layer).label  # noqa: B018 (which fills the cache)
    except KeyboardInterrupt:
        return
    except Exception:
        log.exception("the tables of %s", run.path)


def _kept(out: Path) -> str:
    """Say what a cancelled dissection has left."""
    done = Unfinished.of(out).done
    if not done:
        return "cancelled before anything was finished"
    return f"cancelled; {done:,} samples are kept, and the same dissection goes on from there"


def _is_name(entry: object) -> bool:
    """Whether a line of the catalogue of segmenters can be typed as it is: no folder, no code, no other's model."""
    name = getattr(entry, "name", "")
    return not any(word.isupper() for word in re.split(r"[:/.]", name)) and ":" not in name
