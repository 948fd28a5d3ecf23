"""What a dissection will cost, before it is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .accumulate import Accumulator
from .counts import ROOM
from .exactness import reproducibly
from .forward import KEPT_BYTES
from .job import Job, count_atom
from .levels import COARSE, PILOT_VALUES, pilot_samples
from .plan import GROUPS, Plan
from .statistics import LARGEST_STORED_MAP

THUMBNAIL_BYTES = 4000  # of a JPEG, roughly
COUNTS_SHRINK = 8  # counts are sparse and compress about eightfold; feature maps and moments hardly at all


@dataclass(frozen=True)
class Estimate:
    """What a dissection will cost: seconds, peak bytes of memory beside the generator, bytes of the file."""

    seconds: float
    memory: int
    file: int
    seconds_per_sample: float


def estimate(job: Job) -> Estimate:
    """Time two batches, and compute from the shapes what memory and disk the whole will take; writes nothing."""
    each, samples, concepts = _seconds_per_sample(job), job.plan.samples, len(job.segmenter.concepts)
    shapes, bins = list(job.shapes.values()), job.bins() + 1
    units = sum(s[0] for s in shapes)
    counts = units * concepts * (4 * bins * 8 + 2 * GROUPS * (min(COARSE, job.bins()) + 1) * 4)
    tables = 2 * units * ROOM * job.bins() * 4  # more of them if more combinations of labels occur
    sides = [(min(s[1], LARGEST_STORED_MAP), min(s[2], LARGEST_STORED_MAP)) for s in shapes]
    tops = sum(s[0] * job.keep * h * w * 2 for s, (h, w) in zip(shapes, sides, strict=True))
    moments = sum(2 * s[0] * s[0] * 8 for s in shapes)
    sample = sum(4 * s[0] * s[1] * s[2] for s in shapes)
    pilot = 0 if job.given else min(KEPT_BYTES, pilot_samples(samples) * sample)
    levels = 0 if job.given else 4 * PILOT_VALUES * (units + max(s[0] for s in shapes))  # and a layer's, sorted
    per_sample = min(samples, units * job.keep) * THUMBNAIL_BYTES + samples * 4 * units * job.with_maxima
    areas = samples * concepts * 8
    counting = counts + tables + tops + moments + per_sample + areas
    return Estimate(
        seconds=each * (samples + pilot_samples(samples)),
        memory=2 * job.batch * sample + pilot + max(levels, counting),
        file=counts // COUNTS_SHRINK + tops + moments // 2 + per_sample + areas // COUNTS_SHRINK,
        seconds_per_sample=each,
    )


def _seconds_per_sample(job: Job) -> float:
    with reproducibly(job.threads):
        forward = job.forward()
        size = forward.label_size(job.count_size)
        count = min(2 * job.batch, job.plan.samples)
        trial = Plan(count, max(count, 2))
        # Any levels will do, if about as many pixels as usual lie above the lowest.
        levels = job.given or {
            name: np.repeat(np.linspace(0, 1, job.bins(), dtype=np.float32)[None], shape[0], 0)
            for name, shape in job.shapes.items()
        }
        accumulator = Accumulator(
            trial, job.shapes, levels, len(job.segmenter.concepts), job.segmenter.planes, size, job.keep, False,
            job.threads,
        )  # fmt: skip
        try:
            count_atom(forward, accumulator, 0, None)  # the first time, the kernel is compiled
            accumulator.atoms_done = 0
            began = time.monotonic()
            count_atom(forward, accumulator, 0, None)
            return (time.monotonic() - began) / count
        finally:
            accumulator.close()
