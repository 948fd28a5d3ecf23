"""The pass: sample, capture, segment, count, checkpoint. One forward pass a sample for all layers and statistics."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError, Segmenter

from . import store
from .accumulate import Accumulator
from .counts import Labels
from .disk import orphans
from .exactness import reproducibly
from .forward import Batch, Forward
from .generators import Codes, Generator
from .levels import LEVELS, TAIL_FIRST, TAIL_LAST, check_given, coarse_indices, pilot_samples
from .manifest import ADOPTED, Manifest, differences, run_id, versions
from .pictures import THUMBNAIL
from .plan import Plan
from .results import Run
from .samples import Samples, Sampling

COUNT_SIZE = 256  # pixels are counted at this side at most
CHECKPOINT_SECONDS = 60.0
CPU_BATCH, GPU_BATCH = 4, 32  # small batches are the fastest on CPUs: large ones spend their time in page faults
TOP = 16

Progress = Callable[[int, int], None]


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
    progress: Progress | None = None,
) -> Run:
    """Dissect a generator and return the finished run; resume it if ``out`` is unfinished and the manifest matches.

    Args:
        generator, segmenter: as loaded.
        layers: names; None is the generator's default layers.
        samples: N; seeds 0..N-1.
        out: the HDF5 file to make. While unfinished it is called ``out.partial``.
        seeds: instead of ``samples``.
        z, codes: instead of seeds, explicit latents; they are stored in the file.
        images: a folder of real pictures, for models loaded with ``input_size=``.
        levels: layer -> [U, B] (or [U]) ascending activations, instead of a pilot's.
        classes, truncation, cutoff, noise: as in ``Generator.sample``.
        batch, threads: recorded, and kept by a resumed run.
        count_size: pixels are counted at this side at most; the default is min(resolution, 256).
        top: samples kept per unit.
        maxima: keep every sample's maximum per unit, [N, U].
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
        count_size=count_size, top=top, maxima=maxima,
    )  # fmt: skip
    return job.run(progress)


class Job:
    """A dissection that is about to run. Making one checks everything that can be checked beforehand."""

    def __init__(
        self,
        generator: Generator,
        segmenter: Segmenter,
        samples: Samples,
        layers: Sequence[str] | str | None,
        out: Path,
        *,
        levels: Mapping[str, Any] | None = None,
        batch: int | None = None,
        threads: int | None = None,
        count_size: int | None = None,
        top: int = TOP,
        maxima: bool = False,
    ) -> None:
        for name, value in (("batch", batch), ("threads", threads), ("count_size", count_size), ("top", top)):
            if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
                raise GanatomyError(f"expected a positive {name} (a whole number), got {value!r}")
        names = (
            [layers] if isinstance(layers, str) else list(layers if layers is not None else generator.default_layers())
        )
        if not names:
            raise GanatomyError(f"{generator.name} has no default layers; name some with layers=")
        self.generator, self.segmenter, self.samples, self.out = generator, segmenter, samples, out
        self.plan = Plan.of(len(samples))
        chosen = [generator.layer(name) for name in names]  # a layer may be called by its public code's name
        self.layers = {layer.name: layer for layer in chosen}
        self.shapes = {name: (layer.channels, layer.height, layer.width) for name, layer in self.layers.items()}
        unknown = [name for name in levels or {} if name not in self.layers]
        if unknown or (levels is not None and len(levels) < len(self.layers)):
            raise GanatomyError(f"levels= must name exactly the dissected layers {list(self.layers)}")
        self.given = {n: check_given(v, n, self.shapes[n][0]) for n, v in (levels or {}).items()}
        bins = {value.shape[1] for value in self.given.values()}
        if len(bins) > 1:
            raise GanatomyError(f"levels= must have the same number of levels for every layer, got {sorted(bins)}")
        self.count_size = int(count_size or 0) or min(generator.resolution, COUNT_SIZE)
        self.keep, self.with_maxima = min(int(top), len(samples)), bool(maxima)
        self._asked = {"batch": batch, "threads": threads}
        self.batch = min(
            int(batch or 0) or (GPU_BATCH if generator.device.type == "cuda" else CPU_BATCH), self.plan.atom
        )
        self.threads = int(threads or 0) or torch.get_num_threads()
        self.partial = out.with_name(out.name + ".partial")
        self.progress_file = out.with_name(out.name + ".partial.json")

    def forward(self) -> Forward:
        """Return the generating and segmenting side, at the current batch size."""
        return Forward(self.generator, self.segmenter, self.samples, self.shapes, self.batch)

    # -- what it is ----------------------------------------------------------------------------------------

    def manifest(self, size: tuple[int, int]) -> Manifest:
        """Return the manifest for labels of ``size`` (H, W)."""
        g, s = self.generator, self.segmenter
        if self.given:
            digest = hashlib.sha256(b"".join(v.tobytes() for _, v in sorted(self.given.items()))).hexdigest()
            levels: dict[str, Any] = {"kind": "given", "count": self.bins(), "sha256": digest}
        else:
            levels = {
                "kind": "pilot", "count": LEVELS, "first_tail": TAIL_FIRST, "last_tail": TAIL_LAST,
                "samples": pilot_samples(self.plan.samples),
            }  # fmt: skip
        return {
            "generator": {
                "name": g.name, "family": g.family, "flavour": g.flavour, "fingerprint": g.fingerprint,
                "file_sha256": g.file_sha256, "resolution": g.resolution,
            },
            "segmenter": {"name": s.name, "sha256": s.sha256},
            "layers": {name: list(shape) for name, shape in self.shapes.items()},
            "samples": self.samples.manifest(),
            "atom": self.plan.atom,
            "batch": self.batch,
            "device": g.device.type,
            "threads": self.threads,
            "count_size": self.count_size,
            "labels": list(size),
            "levels": levels,
            "coarse_levels": coarse_indices(self.bins()).tolist(),
            "top": self.keep,
            "maxima": self.with_maxima,
            "thumbnail": THUMBNAIL,
            "versions": versions(),
        }  # fmt: skip

    def bins(self) -> int:
        """Return the number of levels B."""
        return next(iter(self.given.values())).shape[1] if self.given else LEVELS

    # -- the pass ------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None) -> Run:
        """Do it, or what is left of it, and return the finished run."""
        if not self.out.parent.is_dir():
            raise GanatomyError(f"no such folder for the output: {self.out.parent}")
        with reproducibly(self.threads):
            size = self.forward().label_size(self.count_size)
            manifest = self.manifest(size)
            if self.out.exists():
                return self._finished(manifest)
            earlier = store.Reader(self.partial) if self.partial.exists() else None
            if earlier is not None:
                manifest = self._adopt(manifest, earlier)
        with reproducibly(self.threads):
            forward = self.forward()
            accumulator = self._accumulator(forward, size, earlier)
            try:
                self._loop(forward, accumulator, manifest, earlier, progress)
            finally:
                accumulator.close()
                if not self.partial.exists():  # else it tells of a run that nobody can resume
                    self.progress_file.unlink(missing_ok=True)
        self._tidy()
        return Run(self.out)

    def _tidy(self) -> None:
        """Remove what the run needed only while it was unfinished, or had begun to write when it was killed."""
        unfinished = (self.partial, self.progress_file)
        for leftover in [*unfinished, *(path for name in (self.out, *unfinished) for path in orphans(name))]:
            leftover.unlink(missing_ok=True)

    def _finished(self, manifest: Manifest) -> Run:
        run = Run(self.out)
        others = differences(manifest, run.manifest, ignore=("versions", "device", *ADOPTED))
        if others:
            raise GanatomyError(
                f"{self.out} is another dissection ({'; '.join(others[:3])}); choose another output or remove it"
            )
        self._tidy()  # it may have been killed between its last two steps
        return run

    def _adopt(self, manifest: Manifest, earlier: store.Reader) -> Manifest:
        """Return the unfinished run's manifest, having taken over its batch size and threads; refuse another run."""
        theirs = earlier.json("manifest")
        ignore = tuple(name for name in ADOPTED if self._asked[name] is None)
        others = differences(manifest, theirs, ignore)
        if others:
            raise GanatomyError(
                f"{self.partial} was begun with another manifest ({'; '.join(others[:3])}); "
                "repeat that command, or choose another output, or remove the file"
            )
        self.batch, self.threads = int(theirs["batch"]), int(theirs["threads"])
        return theirs

    def _accumulator(self, forward: Forward, size: tuple[int, int], earlier: store.Reader | None) -> Accumulator:
        if earlier is not None:
            arrays = {name: earlier.read(name) for name in earlier.names}
            levels = {name: arrays[f"layers/{name}/levels"] for name in self.layers}
        else:
            arrays = {}
            levels = self.given or forward.pilot(self.plan, size)
        accumulator = Accumulator(
            self.plan, self.shapes, levels, len(self.segmenter.concepts), self.segmenter.planes, size, self.keep,
            self.with_maxima, self.threads,
        )  # fmt: skip
        if earlier is not None:
            accumulator.restore(arrays, int(earlier.attributes["atoms_done"]))
        return accumulator

    def _loop(
        self,
        forward: Forward,
        accumulator: Accumulator,
        manifest: Manifest,
        earlier: store.Reader | None,
        progress: Progress | None,
    ) -> None:
        """Count every atom that is left, writing what is finished now and then, and in the end the whole."""
        before = float(earlier.attributes["seconds"]) if earlier is not None else 0.0
        began = written = time.monotonic()

        def write(path: Path, final: bool) -> None:
            self._write(path, accumulator, manifest, before + time.monotonic() - began, final)

        if progress is not None and accumulator.atoms_done:
            progress(self.plan.bounds(accumulator.atoms_done - 1)[1], self.plan.samples)
        try:
            for atom in range(accumulator.atoms_done, self.plan.atoms):
                count_atom(forward, accumulator, atom, progress)
                now = time.monotonic()
                self._report(accumulator, before + now - began)
                if now - written > CHECKPOINT_SECONDS and atom + 1 < self.plan.atoms:
                    write(self.partial, final=False)
                    written = time.monotonic()
            write(self.out, final=True)
        except KeyboardInterrupt:
            if accumulator.atoms_done and accumulator.whole and not self.out.exists():
                write(self.partial, final=False)
            raise

    def _report(self, accumulator: Accumulator, seconds: float) -> None:
        """Leave a small file that says how far the run is, for whoever watches it."""
        done = self.plan.bounds(accumulator.atoms_done - 1)[1]
        left = seconds / done * (self.plan.samples - done)
        state = {
            "done": done,
            "samples": self.plan.samples,
            "seconds": round(seconds, 1),
            "seconds_left": round(left, 1),
        }
        store.write_json(self.progress_file, state)

    def _write(self, path: Path, accumulator: Accumulator, manifest: Manifest, seconds: float, final: bool) -> None:
        concepts = self.segmenter.concepts
        arrays: dict[str, NDArray] = {
            "concepts/name": np.array([c.name for c in concepts], object),
            "concepts/category": np.array([c.category for c in concepts], object),
            "concepts/plane": np.array([c.plane for c in concepts], np.int64),
        }
        arrays |= {f"samples/{name}": value for name, value in self.samples.arrays().items()}
        arrays |= accumulator.arrays(final)
        attributes = {
            "complete": final,
            "manifest": manifest,
            "id": run_id(manifest),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "atoms_done": accumulator.atoms_done,
        }
        store.write(path, attributes, arrays)


def count_atom(forward: Forward, accumulator: Accumulator, atom: int, progress: Progress | None) -> None:
    """Count one atom. A batch waits until the next one is labelled, whose first labels its last sample meets."""
    waiting: Batch | None = None
    first: Labels | None = None
    plan = accumulator.plan

    def count(batch: Batch, following: Labels) -> None:
        accumulator.add(batch.start, batch.images, batch.features, batch.labels, following, batch.seeds)
        if progress is not None:
            progress(batch.start + len(batch.labels), plan.samples)

    for batch in forward.batches(plan, atom, accumulator.size):
        if waiting is not None:
            count(waiting, batch.labels[:1])
        first = batch.labels[:1] if first is None else first
        waiting = batch
    assert waiting is not None
    assert first is not None
    count(waiting, first)
    accumulator.end_atom()
