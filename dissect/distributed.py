"""One dissection by many processes under ``torchrun``: a plan, a shard a rank, a merge. Files are the only exchange.

Ranks need a folder that all of them see. A rank that dies is started again by torchrun, and goes on from its own
unfinished shard. CUDA ranks take the device of their local number. There is no process group: ranks wait for each
other's finished files, which appear whole, under their names, or not at all. So a rank that waits can be ended at any
moment, and one that starts again meets no half-open connection. Nothing tells a rank that another has failed for
good but torchrun, which ends it; between hosts that takes the ``c10d`` rendezvous, not the static one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segmodels import GanatomyError

from .execute import run_job, run_shard, write_plan
from .job import Job
from .merge import merge
from .parts import StoredPart
from .passing import Progress
from .results import Run

LOOK_EVERY = 0.2  # seconds between two looks at the folder


@dataclass(frozen=True)
class Ranks:
    """Which process this is: ``rank`` of ``world``, ``local`` on its host."""

    rank: int
    local: int
    world: int

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> Ranks | None:
        """Return what torchrun says in the environment, or None if this process is alone."""
        try:
            values = [int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
        except (KeyError, ValueError):
            return None
        return Ranks(*values) if values[2] > 1 and "MASTER_ADDR" in environment else None

    def device(self, asked: str) -> str:
        """Return this rank's device for what was asked of all."""
        return f"cuda:{self.local}" if asked == "cuda" else asked


def plan_file(out: Path) -> Path:
    """Return where the ranks keep their plan."""
    return out.with_name(f"{out.name}.plan")


def shard_file(out: Path, index: int, count: int) -> Path:
    """Return where shard ``index`` (from 1) of ``count`` goes: ``run.shard-03-of-16.h5`` for ``run.h5``."""
    return out.with_name(f"{out.stem}.shard-{index:0{len(str(count))}d}-of-{count}{out.suffix}")


def run_ranked(job: Job, ranks: Ranks, progress: Progress | None = None) -> Run:
    """Do this rank's share of a job, and return the finished run once rank 0 has put all shares together.

    Raises:
        GanatomyError: as ``run_job`` does, on every rank that notices.
    """
    plan = plan_file(job.out)
    shards = [shard_file(job.out, number + 1, ranks.world) for number in range(ranks.world)]
    if job.out.exists() and not plan.exists():
        return run_job(job)  # which compares the finished file with what was asked
    if ranks.rank == 0 and not plan.exists():
        write_plan(job.at(plan))
    _wait(lambda: plan.exists() or job.out.exists())
    if not job.out.exists():
        run_shard(job.at(shards[ranks.rank]), plan, ranks.rank + 1, ranks.world, progress)
    if ranks.rank == 0 and not job.out.exists():
        _wait(lambda: all(shard.exists() for shard in shards) and all(map(_sound, shards)))
        merge(shards, job.out)
    _wait(job.out.exists)
    run = run_job(job)  # which compares the file with what was asked, before anything is removed
    # Everyone removes the own shard, so that none vanishes while its rank still looks at it; the plan goes last.
    shards[ranks.rank].unlink(missing_ok=True)
    if ranks.rank == 0:
        _wait(lambda: not any(shard.exists() for shard in shards))
        plan.unlink(missing_ok=True)
    return run


def _sound(shard: Path) -> bool:
    """Whether a shard can be merged; one that is damaged is set aside and counted again by its own rank."""
    try:
        return StoredPart(shard).header.complete
    except GanatomyError:
        return False


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(LOOK_EVERY)
