"""Doing a job: the whole of it in this process, or its plan, or one shard of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from segmodels import GanatomyError, Segmenter

from . import found, store
from .checkpoint import Checkpoint
from .disk import check_folder_of
from .exactness import reproducibly
from .generators import Codes, Generator
from .job import TOP, Job
from .manifest import Manifest
from .merge import write_finished
from .parts import LivePart, Part, StoredPart
from .passing import Levels, Pass, Progress
from .results import Run
from .samples import Samples, Sampling
from .tuning import settle_batch


def run(
    generator: Generator,
    segmenter: Segmenter,
    layers: Sequence[str] | str | None = None,
    samples: int = 1000,
    out: str | Path = "run.h5",
    *,
    seeds: Sequence[int] | None = None,
    z: Tensor | np.ndarray | None = None,
    codes: Codes | None = None,
    images: str | Path | None = None,
    levels: Mapping[str, Any] | None = None,
    classes: int | Sequence[int] | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    batch: int | None = None,
    threads: int | None = None,
    count_size: int | None = None,
    top: int = TOP,
    maxima: bool = False,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """Dissect a generator and return the finished run; resume it if ``out`` is unfinished and the manifest matches.

    Args:
        generator, segmenter: as loaded.
        layers: names; None is the generator's default layers.
        samples: N; seeds 0..N-1.
        out: the HDF5 file to make. What is unfinished is kept in the folder ``out.partial``.
        seeds: instead of ``samples``.
        z, codes: instead of seeds, explicit latents; they are stored in the file.
        images: a folder of real pictures, for models loaded with ``input_size=``.
        levels: layer -> [U, B] (or [U]) ascending activations, instead of a pilot's.
        classes, truncation, cutoff, noise: as in ``Generator.sample``.
        batch, threads: recorded, and kept by a resumed run.
        count_size: pixels are counted at this side at most; the default is min(resolution, 256).
        top: samples kept per unit.
        maxima: keep every sample's maximum per unit, [N, U].
        memory: bytes that counting may take; layers that do not fit together are counted in several passes.
        progress: called with (samples done, N).

    Raises:
        GanatomyError: for wrong input, before anything is written; for NaN in a feature; for a full disk.
        KeyboardInterrupt: passed on after the finished atoms were written.
    """
    if sum(given is not None for given in (seeds, z, codes, images)) > 1:
        raise GanatomyError("give only one of seeds=, z=, codes= and images=")
    if codes is not None and not isinstance(codes, Codes):
        raise GanatomyError(f"expected codes= as Codes, got {type(codes).__name__}; latents are given with z=")
    if classes is not None:
        plain = np.asarray(classes).tolist()
        classes = tuple(plain) if isinstance(plain, list) else plain
    sampling = Sampling(classes, truncation, cutoff, noise)
    if z is not None:
        codes = generator.map(z, classes, truncation, cutoff, noise)
    if codes is None and images is None and seeds is None:
        if samples <= 0:
            raise GanatomyError(f"expected a positive number of samples, got {samples}")
        seeds = range(samples)
    source = Samples(
        generator, seeds=seeds, codes=codes, images=Path(images) if images is not None else None, sampling=sampling
    )
    job = Job(
        generator, segmenter, source, layers, Path(out), levels=levels, batch=batch, threads=threads,
        count_size=count_size, top=top, maxima=maxima, memory=memory,
    )  # fmt: skip
    return run_job(job, progress)


def run_job(job: Job, progress: Progress | None = None) -> Run:
    """Do a job, or what is left of it, and return the finished run."""
    check_folder_of(job.out)
    with reproducibly(job.threads_each):
        size = job.forward().label_size(job.count_size)
        manifest = job.manifest(size)
        if job.out.exists():
            return found.finished(job, manifest)
        manifest = found.adopt(job, manifest, size)
    with reproducibly(job.threads_each):
        parts = _parts(job, manifest, size, range(job.plan.atoms), job.given or None, progress)
        with _keeping(parts, job.out):
            write_finished(job.out, parts, job.static())
    found.tidy(job)
    return Run(job.out)


def run_shard(job: Job, plan: Path, index: int, count: int, progress: Progress | None = None) -> Path:
    """Count shard ``index`` (from 1) of ``count`` of a plan, into ``job.out``, and return that; see ``merge``.

    Device, threads and versions may differ from the plan's; batch size and levels are the plan's.

    Raises:
        GanatomyError: for the plan of another dissection, naming what differs; for a shard that does not exist.
    """
    check_folder_of(job.out)
    atoms = job.plan.shard(index, count)
    if job.memory is not None:
        raise GanatomyError("a shard counts all layers in one pass; take more shards instead of memory=")
    with reproducibly(job.threads_each):
        size = job.forward().label_size(job.count_size)
        manifest, levels = found.of_plan(job, plan, size)
        if found.shard_exists(job, manifest, atoms):
            return job.out
        found.refuse_another(job, manifest, found.begun(job) or manifest)
        (part,) = _parts(job, manifest, size, atoms, levels, progress)
        assert isinstance(part, LivePart)
        with _keeping([part], job.out):
            part.write(job.out, job.static())
    found.tidy(job)
    return job.out


def write_plan(job: Job) -> Path:
    """Write to ``job.out`` what all shards must share, manifest and levels, and return ``job.out``."""
    check_folder_of(job.out)
    if job.out.exists():
        raise GanatomyError(f"{job.out} exists; choose another output or remove it")
    with reproducibly(job.threads_each):
        size = job.forward().label_size(job.count_size)
        settle_batch(job, size)
        levels = job.given or job.forward().pilot(job.plan, size)
        arrays = [(f"layers/{name}/levels", value) for name, value in levels.items()]
        store.write(job.out, {"manifest": job.manifest(size)}, arrays, store.PLAN)
    return job.out


def _parts(
    job: Job, manifest: Manifest, size: tuple[int, int], atoms: range, levels: Levels | None, progress: Progress | None
) -> list[Part]:
    """Return the parts of all layers, counting what is left of them."""
    groups = job.layer_groups()

    def a_pass(layers: list[str], folder: Path) -> Pass:
        chosen = None if levels is None else {name: levels[name] for name in layers}
        return Pass(
            job.forward(layers), manifest, size, job.plan, atoms, chosen, job.keep, job.with_maxima, job.threads,
            Checkpoint(folder), job.status,
        )  # fmt: skip

    if len(groups) == 1:
        return [a_pass(groups[0], job.partial).run(progress)]
    parts: list[Part] = []
    for number, layers in enumerate(groups):
        folder = job.partial / f"pass-{number + 1}"
        file = folder.with_suffix(".h5")
        stored = found.sound(file)
        if stored is None or stored.layers != layers:
            part = a_pass(layers, folder).run(_share(progress, number, len(groups)))
            folder.parent.mkdir(exist_ok=True)
            with _keeping([part], file):
                part.write(file, [])
            del part
            Checkpoint(folder).remove()
            stored = StoredPart(file)
        parts.append(stored)
    return parts


@contextmanager
def _keeping(parts: Sequence[Part], out: Path) -> Iterator[None]:
    """Save what was counted if writing it to ``out`` is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        for part in parts:
            if isinstance(part, LivePart) and not out.exists():
                part.keep()
        raise


def _share(progress: Progress | None, number: int, passes: int) -> Progress | None:
    """Return a progress function for one of several passes over the same samples."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, passes * total)
