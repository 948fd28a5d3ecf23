"""One pass over some atoms for some layers: batch by batch, with a checkpoint now and then."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from . import store
from .accumulate import Accumulator
from .checkpoint import Checkpoint
from .counts import Labels
from .forward import Batch, Forward, joined
from .manifest import Manifest, versions
from .parts import Header, LivePart
from .plan import Plan
from .resample import Float32
from .slabs import Slabs

CHECKPOINT_SECONDS = 60.0
TOGETHER_BYTES = 16 << 20  # batches up to this size are counted together: counts are fetched from memory less often

Progress = Callable[[int, int], None]
Levels = Mapping[str, Float32]


@dataclass(frozen=True, eq=False)
class Pass:
    """What is to be counted, and where it is kept while it is unfinished.

    Attributes:
        forward: the generating side, whose layers are counted.
        manifest: of the whole dissection; size: (H, W) at which pixels are counted.
        atoms: those to count; levels: layer -> [U, B], or None for a pilot's.
        keep, maxima, threads: as in ``run``.
        checkpoint: the folder; status: the small file that tells how far it is.
    """

    forward: Forward
    manifest: Manifest
    size: tuple[int, int]
    plan: Plan
    atoms: range
    levels: Levels | None
    keep: int
    maxima: bool
    threads: int
    checkpoint: Checkpoint
    status: Path

    def run(self, progress: Progress | None) -> LivePart:
        """Count what is left and return the whole."""
        accumulator, before = self._begin()
        try:
            return self._count(accumulator, before, progress)
        finally:
            accumulator.close()
            if not self.checkpoint.exists:  # else it tells of a run that nobody can resume
                self.status.unlink(missing_ok=True)

    def _begin(self) -> tuple[Accumulator, float]:
        """Return the accumulator, filled from the checkpoint if there is one, and the seconds that took before."""
        header = self.checkpoint.header()
        if header is not None and self.checkpoint.layers() != list(self.forward.shapes):
            self.checkpoint.remove()  # begun when layers were shared out among passes in another way
            header = None
        if header is not None:
            levels = self.levels or self.checkpoint.levels(list(self.forward.shapes))
            if levels is not None:
                accumulator = self._accumulator(levels)
                if self.checkpoint.restore(accumulator, header):
                    return accumulator, header.seconds
                accumulator.close()
        return self._accumulator(self.levels or self.forward.pilot(self.plan, self.size)), 0.0

    def _accumulator(self, levels: Levels) -> Accumulator:
        segmenter = self.forward.segmenter
        return Accumulator(
            self.plan, self.atoms, self.forward.samples.seeds, Slabs(self.checkpoint.folder), self.forward.shapes,
            levels, len(segmenter.concepts), self.size, self.keep, self.maxima, self.threads,
            self.forward.device,
        )  # fmt: skip

    def _count(self, accumulator: Accumulator, before: float, progress: Progress | None) -> LivePart:
        began = written = last = time.monotonic()

        def header() -> Header:
            seconds = before + time.monotonic() - began
            return Header(self.manifest, self.atoms, accumulator.next, seconds, self._where())

        samples = len(accumulator.concept_area)
        if progress is not None and accumulator.samples_done:
            progress(accumulator.samples_done, samples)
        complete: Header | None = None

        def keep() -> None:
            if accumulator.samples_done:
                self.checkpoint.save(accumulator, complete or header())

        with closing(self.forward.batches(self.plan, accumulator.left, self.size)) as batches:
            try:
                for atom in accumulator.left:
                    count_atom(self.forward, batches, accumulator, atom, progress)
                    now = time.monotonic()
                    self._report(accumulator, before + now - began)
                    # An atom later might be too late.
                    if now - written + (now - last) > CHECKPOINT_SECONDS and accumulator.left:
                        self.checkpoint.save(accumulator, header())
                        written = time.monotonic()
                    last = now
                complete = header()
                return LivePart(accumulator, complete, keep)
            except KeyboardInterrupt:
                keep()  # before anything is waited for
                raise

    def _report(self, accumulator: Accumulator, seconds: float) -> None:
        """Leave a small file that says how far the pass is, for whoever watches it."""
        done, samples = accumulator.samples_done, len(accumulator.concept_area)
        state = {
            "done": done,
            "samples": samples,
            "seconds": round(seconds, 1),
            "seconds_left": round(seconds / done * (samples - done), 1),
        }
        store.write_json(self.status, state)

    def _where(self) -> dict[str, object]:
        return {
            "device": str(self.forward.device), "threads": self.threads, "versions": versions(),
            "host": platform.node(),
        }  # fmt: skip


def count_atom(
    forward: Forward, batches: Iterator[Batch], accumulator: Accumulator, atom: int, progress: Progress | None
) -> None:
    """Count one atom, some batches at a time, once the sample is labelled whose labels their last one meets.

    Args:
        batches: those of ``forward``, from this atom's first on.
    """
    together = TOGETHER_BYTES if forward.pause is None else 0  # else whoever waits would wait for all of them
    waiting: list[Batch] = []
    first: Labels | None = None
    samples = len(accumulator.concept_area)

    def count(following: Labels) -> None:
        forward.breathe()
        batch = joined(waiting)
        waiting.clear()
        accumulator.add(
            batch.start, batch.pictures, batch.features, batch.labels, following, batch.seeds, forward.batch
        )
        if progress is not None:
            progress(batch.start + len(batch.labels) - accumulator.first, samples)

    for batch in islice(batches, len(list(accumulator.plan.batches(atom, forward.batch)))):
        forward.breathe()
        if sum(one.bytes for one in waiting) + batch.bytes > together and waiting:
            count(batch.labels[:1])
        first = batch.labels[:1] if first is None else first
        waiting.append(batch)
    assert first is not None
    count(first)
    accumulator.end_atom()
