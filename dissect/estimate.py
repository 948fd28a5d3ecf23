"""What a dissection will cost, before it is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .accumulate import Accumulator
from .exactness import reproducibly
from .examples import BANDS, EACH, LARGEST_EXAMPLE
from .forward import KEPT_BYTES, KEPT_SAMPLES
from .job import Job
from .levels import COARSE, PILOT_VALUES, pilot_samples
from .memory import stored_values
from .passing import TOGETHER_BYTES, count_atom
from .plan import GROUPS, Plan
from .slabs import Slabs

COUNTS_SHRINK = 8  # counts are sparse and compress about eightfold; feature maps and moments hardly at all


@dataclass(frozen=True)
class Estimate:
    """What a dissection will cost: seconds, peak bytes of memory beside the generator, bytes of the file, passes.

    Attributes:
        seconds_per_sample: of one pass.
    """

    seconds: float
    memory: int
    file: int
    seconds_per_sample: float
    passes: int = 1


def estimate(job: Job) -> Estimate:
    """Time two batches, and compute from the shapes what memory and disk the whole will take; writes nothing."""
    each, samples = _seconds_per_sample(job), job.plan.samples
    shapes = list(job.shapes.values())
    units = sum(s[0] for s in shapes)
    groups = job.layer_groups()
    passes = [job.memory_of(layers) for layers in groups]
    whole = job.memory_of(list(job.shapes))
    sample = sum(4 * s[0] * s[1] * s[2] for s in shapes)
    pilot = 0 if job.given else min(KEPT_BYTES, min(pilot_samples(samples), KEPT_SAMPLES) * sample)
    levels = 0 if job.given else 4 * PILOT_VALUES * (units + max(s[0] for s in shapes))  # and a layer's, sorted
    blocks = 2 * GROUPS * units * len(job.segmenter.concepts) * (min(COARSE, job.bins()) + 1) * 8
    maps = whole.top + 2 * BANDS * EACH * stored_values(shapes, LARGEST_EXAMPLE)
    return Estimate(
        seconds=each * (samples + pilot_samples(samples)) * len(groups),
        memory=(job.at_a_time + 2) * job.batch * sample
        + 2 * TOGETHER_BYTES
        + pilot
        + max(levels, *(memory.total for memory in passes)),
        file=(2 * whole.counts + blocks) // COUNTS_SHRINK + maps + whole.moments // 2 + whole.samples,
        seconds_per_sample=each,
        passes=len(groups),
    )


def _seconds_per_sample(job: Job) -> float:
    with reproducibly(job.threads_each):
        forward = job.forward()
        size = forward.label_size(job.count_size)
        count = min(2 * job.batch * len(forward.generators), job.plan.samples)
        trial = Plan(count, max(count, 2))
        # Any levels will do, if about as many pixels as usual lie above the lowest.
        levels = job.given or {
            name: np.repeat(np.linspace(0, 1, job.bins(), dtype=np.float32)[None], shape[0], 0)
            for name, shape in job.shapes.items()
        }
        accumulator = Accumulator(
            trial, range(trial.atoms), job.samples.seeds[:count], Slabs(None), job.shapes, levels,
            len(job.segmenter.concepts), size, job.keep, False, job.threads, job.generator.device,
        )  # fmt: skip
        try:
            count_atom(forward, forward.batches(trial, range(1), size), accumulator, 0, None)  # compiles the kernel
            accumulator.next = 0
            began = time.monotonic()
            count_atom(forward, forward.batches(trial, range(1), size), accumulator, 0, None)
            return (time.monotonic() - began) / count
        finally:
            accumulator.close()
