"""How many samples to generate at a time: measured once for a generator on a machine, kept, and used from then on.

What is best differs by a factor of three between machines and generators. But the last bits of a float may depend on
the batch size, so it must not change from run to run: what was measured is kept beside the downloaded weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from contextlib import closing
from pathlib import Path

import torch

from segmodels.fetch import cache_dir

from . import store
from .job import Job
from .plan import Plan

CANDIDATES = {"cpu": (1, 2, 4, 8), "cuda": (8, 16, 32, 64)}
ENOUGH = 4  # samples timed for each of the batches that are made at a time, or one batch if that is more
LEAST_SHARE = 4  # a job must have so many times the samples that one timing takes, for the largest batch
QUICKER = 0.95  # a larger batch takes more memory, and must be worth it
FILE = "batches.json"


def settle_batch(job: Job, size: tuple[int, int]) -> None:
    """Set the job's batch size to the kept one, or measure and keep it; leave it if the user chose, or for few samples.

    Args:
        size: (H, W) of the labels.
    """
    if job.asked["batch"] is not None:
        return
    candidates = [b for b in CANDIDATES.get(job.generator.device.type, ()) if b <= job.plan.atom]
    if len(candidates) < 2 or job.plan.samples < LEAST_SHARE * _trial(job, candidates[-1]):
        return
    path, key = cache_dir().parent / FILE, _key(job, candidates)
    found = _read(path).get(key)
    if found is None:
        found = _quickest(job, size, candidates)
        with contextlib.suppress(OSError):  # if it cannot be kept, it is measured again
            path.parent.mkdir(parents=True, exist_ok=True)
            store.write_json(path, _read(path) | {key: found})
    job.batch = found


def _quickest(job: Job, size: tuple[int, int], candidates: list[int]) -> int:
    """Return the smallest batch that is about as quick as any, going up until they become slower or do not fit."""
    best, least = candidates[0], float("inf")
    for batch in candidates:
        job.batch = batch
        try:
            seconds = _seconds_per_sample(job, size)
        except torch.OutOfMemoryError:
            if batch == candidates[0]:
                raise
            torch.cuda.empty_cache()
            break
        if seconds < least * QUICKER:
            best, least = batch, seconds
        elif seconds > least / QUICKER:
            break
    return best


def _trial(job: Job, batch: int) -> int:
    """Return how many samples one timing takes."""
    return job.at_a_time * max(ENOUGH, batch)


def _seconds_per_sample(job: Job, size: tuple[int, int]) -> float:
    """Return the time of generating and segmenting a sample, with all batches that are made at a time."""
    forward = job.forward()
    count = min(job.plan.samples, _trial(job, job.batch))
    times = []
    for samples in (min(job.batch, count), count):  # the first time, memory is fetched and algorithms are chosen
        began = time.perf_counter()
        with closing(forward.batches(Plan(samples, samples), range(1), size)) as batches:
            for _ in batches:
                forward.breathe()
        if job.generator.device.type == "cuda":
            torch.cuda.synchronize(job.generator.device)
        times.append((time.perf_counter() - began) / samples)
    return times[-1]


def _key(job: Job, candidates: list[int]) -> str:
    """Return what the measurement holds for."""
    generator = job.generator
    device = torch.cuda.get_device_name(generator.device) if generator.device.type == "cuda" else platform.processor()
    parts = [
        generator.fingerprint, job.segmenter.sha256, sorted(job.shapes), device, platform.node(), job.threads,
        torch.__version__, candidates,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, int]:
    """Return what was kept; a file that is none is as good as none."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict)
    return {k: v for k, v in known.items() if isinstance(v, int) and not isinstance(v, bool) and v > 0} if sound else {}
