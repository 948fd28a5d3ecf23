"""From parts to the finished file: the parts of this process, or shards that other processes and machines made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segmodels import GanatomyError

from . import store
from .manifest import differences, run_id
from .parts import Part, StoredPart, finished
from .plan import Plan
from .results import Run


def merge(shards: Sequence[str | Path], out: str | Path) -> Run:
    """Put shards together, in any order, and return the finished run.

    Args:
        shards: files made by ``dissect --shard``; together they hold every sample once.
        out: the file to make.

    Raises:
        GanatomyError: naming what is damaged, unfinished, of another dissection, there twice, or missing; nothing is
            written then.
    """
    target = Path(out)
    if target.exists():
        raise GanatomyError(f"{target} exists; choose another output or remove it")
    if not shards:
        raise GanatomyError("no shards to merge")
    parts = [StoredPart(Path(path)) for path in shards]
    plan = _check(parts)
    write_finished(target, parts, parts[0].static(), plan)
    return Run(target)


def write_finished(
    out: Path, parts: Sequence[Part], static: Sequence[tuple[str, np.ndarray]], plan: Plan | None = None
) -> None:
    """Write the finished dissection that complete parts make up."""
    manifest = parts[0].header.manifest
    plan = plan or Plan.of(int(manifest["samples"]["count"]))
    attributes = {
        "complete": True,
        "manifest": manifest,
        "id": run_id(manifest),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": sum(part.header.seconds for part in parts),
        "parts": [
            {"samples": list(plan.span(part.header.atoms)), "seconds": part.header.seconds, **part.header.where}
            for part in sorted(parts, key=lambda part: part.header.atoms.start)
        ],
    }
    arrays = (pair for source in (static, finished(parts)) for pair in source)
    store.write(out, attributes, arrays)


def _check(parts: Sequence[StoredPart]) -> Plan:
    """Return the plan of shards that make up a whole; GanatomyError otherwise."""
    first = parts[0]
    plan = Plan.of(int(first.header.manifest["samples"]["count"]))
    for part in parts:
        if others := differences(part.header.manifest, first.header.manifest):
            raise GanatomyError(f"{part.path} and {first.path} are of two dissections ({'; '.join(others[:3])})")
        if not part.header.complete:
            raise GanatomyError(f"{part.path} is unfinished; run its command again")
    done, before = 0, first
    for part in sorted(parts, key=lambda part: part.header.atoms.start):
        start, stop = part.header.atoms.start, part.header.atoms.stop
        if start < done:
            span = plan.span(range(start, min(stop, done)))
            raise GanatomyError(f"samples {span[0]}:{span[1]} are in both {before.path} and {part.path}")
        if start > done:
            raise _missing(plan, done, start)
        done, before = stop, part
    if done < plan.atoms:
        raise _missing(plan, done, plan.atoms)
    return plan


def _missing(plan: Plan, start: int, stop: int) -> GanatomyError:
    span = plan.span(range(start, stop))
    return GanatomyError(f"samples {span[0]}:{span[1]} are in none of the shards")
