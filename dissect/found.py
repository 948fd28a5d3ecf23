"""What a job finds where it is to write: a finished run, one that was begun, a plan, a shard; its own or another's."""

from __future__ import annotations

from pathlib import Path

from segmodels import GanatomyError

from . import store
from .checkpoint import Checkpoint, set_aside
from .disk import orphans
from .job import Job
from .manifest import ADOPTED, Manifest, differences
from .parts import StoredPart
from .passing import Levels
from .results import Run
from .tuning import settle_batch

OWN_TO_A_SHARD = ("batch", "threads", "device", "versions")  # what a shard may not share with its plan


def tidy(job: Job) -> None:
    """Remove what the run needed only while it was unfinished, or had begun to write when it was killed."""
    Checkpoint(job.partial).remove()
    job.status.unlink(missing_ok=True)
    for leftover in (path for name in (job.out, job.status) for path in orphans(name)):
        leftover.unlink(missing_ok=True)


def finished(job: Job, manifest: Manifest) -> Run:
    """Return the run that is finished already; refuse another one."""
    run = Run(job.out)
    older = () if "examples" in run.manifest else ("examples",)  # but finished all the same
    others = differences(manifest, run.manifest, ("versions", "device", *ADOPTED, *older))
    if others:
        raise GanatomyError(
            f"{job.out} is another dissection ({'; '.join(others[:3])}); choose another output or remove it"
        )
    tidy(job)  # it may have been killed between its last two steps
    return run


def adopt(job: Job, manifest: Manifest, size: tuple[int, int]) -> Manifest:
    """Return the unfinished run's manifest, having taken over its batch size and threads; refuse another run."""
    theirs = begun(job)
    if theirs is None:
        settle_batch(job, size)
        return job.manifest(size)
    refuse_another(job, manifest, theirs, tuple(name for name in ADOPTED if job.asked[name] is None))
    job.batch, job.threads = int(theirs["batch"]), int(theirs["threads"])
    return theirs


def begun(job: Job) -> Manifest | None:
    """Return the manifest of the job that left something unfinished here."""
    passes = (path for path in sorted(job.partial.glob("pass-*")) if path.is_dir())
    for folder in (job.partial, *passes):
        if (header := Checkpoint(folder).header()) is not None:
            return header.manifest
    for file in sorted(job.partial.glob("pass-*.h5")):
        if (part := sound(file)) is not None:
            return part.header.manifest
    return None


def refuse_another(job: Job, ours: Manifest, theirs: Manifest, ignore: tuple[str, ...] = ()) -> None:
    """Refuse to go on with what was begun with another manifest, and say what differs."""
    if others := differences(ours, theirs, ignore):
        raise GanatomyError(
            f"{job.partial} was begun with another manifest ({'; '.join(others[:3])}); "
            "repeat that command, or choose another output, or remove the folder"
        )


def of_plan(job: Job, path: Path, size: tuple[int, int]) -> tuple[Manifest, Levels]:
    """Return manifest and levels of a plan, having taken over its batch size; refuse the plan of another run."""
    reader = store.Reader(path, store.PLAN)
    theirs = reader.json("manifest")
    ignore = OWN_TO_A_SHARD if job.asked["batch"] is None else OWN_TO_A_SHARD[1:]
    if others := differences(job.manifest(size), theirs, ignore):
        raise GanatomyError(f"{path} is the plan of another dissection ({'; '.join(others[:3])})")
    job.batch = int(theirs["batch"])
    return theirs, {name: reader.read(f"layers/{name}/levels") for name in job.shapes}


def shard_exists(job: Job, manifest: Manifest, atoms: range) -> bool:
    """Whether the shard is there already; one that is damaged is set aside."""
    part = sound(job.out)
    if part is None:
        return False
    if part.header.manifest != manifest or part.header.atoms != atoms:
        raise GanatomyError(f"{job.out} is a shard of another dissection, or other atoms; choose another output")
    tidy(job)
    return True


def sound(path: Path) -> StoredPart | None:
    """Return the complete part at ``path``, None if there is none; one that is damaged is set aside."""
    if not path.is_file():
        return None
    try:
        part = StoredPart(path)
    except GanatomyError as error:
        set_aside(path, error)
        return None
    return part if part.header.complete else None
