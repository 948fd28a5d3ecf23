"""One dissection by many processes under ``torchrun``: a plan, a shard a rank, a merge. Files are the only exchange.

Ranks need a folder that all of them see. A rank that dies is started again by torchrun, and goes on from its own
unfinished shard. CUDA ranks take the device of their local number. The process group (gloo, whatever the device) is
used for waiting alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from .execute import run_job, run_shard, write_plan
from .job import Job
from .merge import merge
from .passing import Progress
from .results import Run

PATIENCE = timedelta(days=30)  # ranks wait for the slowest


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
    with _together():
        if ranks.rank == 0 and not job.out.exists() and not plan.exists():
            write_plan(job.at(plan))
        dist.barrier()
        if plan.exists():  # else an earlier start has finished everything
            run_shard(job.at(shards[ranks.rank]), plan, ranks.rank + 1, ranks.world, progress)
            dist.barrier()
            if ranks.rank == 0:
                if not job.out.exists():
                    merge(shards, job.out)
                for path in (*shards, plan):
                    path.unlink(missing_ok=True)
            dist.barrier()
    return Run(job.out) if ranks.rank else run_job(job)  # which compares the finished file with what was asked


@contextmanager
def _together() -> Iterator[None]:
    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()
