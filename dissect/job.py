"""The pass: sample, capture, segment, count, checkpoint. One forward pass a sample for all layers and statistics."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError, Segmenter
from segmodels.base import resize_labels

from . import store
from .accumulate import Accumulator, to_cpu
from .counts import Labels
from .generators import Codes, Generator
from .levels import (
    LEVELS, TAIL_FIRST, TAIL_LAST, check_given, coarse_indices, order_statistics, pilot_pixels, pilot_samples,
    read_sample, tail_fractions,
)  # fmt: skip
from .manifest import ADOPTED, Manifest, differences, run_id, versions
from .pictures import THUMBNAIL
from .plan import Plan
from .resample import Float32, taps
from .results import Run
from .samples import Samples, Sampling

COUNT_SIZE = 256  # pixels are counted at this side at most
CHECKPOINT_SECONDS = 60.0
CPU_BATCH, GPU_BATCH = 4, 32  # small batches are the fastest on CPUs: large ones spend their time in page faults
TOP = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Estimate:
    """What a dissection will cost: seconds, peak bytes of memory beside the generator, bytes of the file."""

    seconds: float
    memory: int
    file: int
    seconds_per_sample: float


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
    sampling = Sampling(tuple(classes) if isinstance(classes, Sequence) else classes, truncation, cutoff, noise)
    if z is not None:
        codes = generator.map(z, None if classes is None else classes, truncation, cutoff)
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
            if value is not None and value < 1:
                raise GanatomyError(f"expected a positive {name}, got {value}")
        names = [layers] if isinstance(layers, str) else list(layers if layers is not None else generator.default_layers())
        if not names:
            raise GanatomyError(f"{generator.name} has no default layers; name some with layers=")
        self.generator, self.segmenter, self.samples, self.out = generator, segmenter, samples, out
        self.plan = Plan.of(len(samples))
        self.layers = {name: generator.layer(name) for name in dict.fromkeys(names)}
        self.shapes = {name: (layer.channels, layer.height, layer.width) for name, layer in self.layers.items()}
        unknown = [name for name in levels or {} if name not in self.layers]
        if unknown or (levels is not None and len(levels) < len(self.layers)):
            raise GanatomyError(f"levels= must name exactly the dissected layers {list(self.layers)}")
        self.given = {n: check_given(v, n, self.shapes[n][0]) for n, v in (levels or {}).items()}
        bins = {value.shape[1] for value in self.given.values()}
        if len(bins) > 1:
            raise GanatomyError(f"levels= must have the same number of levels for every layer, got {sorted(bins)}")
        self.count_size = count_size or min(generator.resolution, COUNT_SIZE)
        self.keep, self.with_maxima = min(top, len(samples)), maxima
        self._asked = {"batch": batch, "threads": threads}
        self.batch = min(batch or (GPU_BATCH if generator.device.type == "cuda" else CPU_BATCH), self.plan.atom)
        self.threads = threads or torch.get_num_threads()
        self.partial = out.with_name(out.name + ".partial")
        self.progress_file = out.with_name(out.name + ".partial.json")

    # -- what it is ----------------------------------------------------------------------------------------

    def manifest(self, size: tuple[int, int]) -> Manifest:
        """Return the manifest for labels of ``size`` (H, W)."""
        g, s = self.generator, self.segmenter
        if self.given:
            digest = hashlib.sha256(b"".join(v.tobytes() for _, v in sorted(self.given.items()))).hexdigest()
            levels: dict[str, Any] = {"kind": "given", "count": self._bins(), "sha256": digest}
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
            "coarse_levels": coarse_indices(self._bins()).tolist(),
            "top": self.keep,
            "maxima": self.with_maxima,
            "thumbnail": THUMBNAIL,
            "versions": versions(),
        }  # fmt: skip

    def _bins(self) -> int:
        return next(iter(self.given.values())).shape[1] if self.given else LEVELS

    # -- the pass ------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None) -> Run:
        """Do it, or what is left of it, and return the finished run."""
        if not self.out.parent.is_dir():
            raise GanatomyError(f"no such folder for the output: {self.out.parent}")
        with _threads(self.threads):
            size = self._label_size()
            manifest = self.manifest(size)
            if self.out.exists():
                return self._finished(manifest)
            earlier = store.Reader(self.partial) if self.partial.exists() else None
            if earlier is not None:
                manifest = self._adopt(manifest, earlier)
        with _threads(self.threads):
            accumulator = self._accumulator(size, earlier)
            try:
                seconds = self._loop(accumulator, manifest, earlier, progress)
                self._write(self.out, accumulator, manifest, seconds, final=True)
            finally:
                accumulator.close()
        for leftover in (self.partial, self.progress_file):
            leftover.unlink(missing_ok=True)
        return Run(self.out)

    def _finished(self, manifest: Manifest) -> Run:
        run = Run(self.out)
        others = differences(manifest, run.manifest, ignore=("versions", "device", *ADOPTED))
        if others:
            raise GanatomyError(f"{self.out} is another dissection ({'; '.join(others[:3])}); choose another output or remove it")
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

    def _accumulator(self, size: tuple[int, int], earlier: store.Reader | None) -> Accumulator:
        if earlier is not None:
            arrays = {name: earlier.read(name) for name in earlier.names}
            levels = {name: arrays[f"layers/{name}/levels"] for name in self.layers}
        else:
            arrays = {}
            levels = self.given or self._pilot(size)
        accumulator = Accumulator(
            self.plan, self.shapes, levels, len(self.segmenter.concepts), self.segmenter.planes, size, self.keep,
            self.with_maxima, self.threads,
        )  # fmt: skip
        if earlier is not None:
            accumulator.restore(arrays, int(earlier.attributes["atoms_done"]))
        return accumulator

    def _label_size(self) -> tuple[int, int]:
        """Return the size at which pixels are counted: the segmenter's own, at most ``count_size``."""
        codes = self.samples.codes(0, 1)
        labels = self.segmenter(self.generator(codes), self.samples.keys[:1])
        height, width = labels.shape[-2:]
        if max(height, width) <= self.count_size:
            return height, width
        scale = self.count_size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _pilot(self, size: tuple[int, int]) -> dict[str, Float32]:
        """Return levels from order statistics of activations at fixed pixels of the first samples."""
        count = pilot_samples(self.plan.samples)
        pixels = pilot_pixels(count, *size)
        values = {n: np.empty((s[0], count * len(pixels)), np.float32) for n, s in self.shapes.items()}
        axes = {n: (taps(s[1], size[0]), taps(s[2], size[1])) for n, s in self.shapes.items()}
        for start in range(0, count, self.batch):
            stop = min(start + self.batch, count)
            capture = self.generator.capture(self.samples.codes(start, stop), list(self.layers))
            for name, features in to_cpu(capture.features).items():
                self._check_finite(f"layer {name!r}", features, start)
                for index in range(stop - start):
                    column = (start + index) * len(pixels)
                    out = values[name][:, column : column + len(pixels)]
                    read_sample(features[index].numpy(), *axes[name], pixels, out)
        return {name: order_statistics(value, tail_fractions()) for name, value in values.items()}

    def _batches(self, atom: int, size: tuple[int, int]) -> Iterator[tuple[int, Tensor, dict[str, Tensor], Labels]]:
        """Generate and segment the batches of an atom: (first sample, images, features, labels)."""
        for start, stop in self.plan.batches(atom, self.batch):
            capture = self.generator.capture(self.samples.codes(start, stop), list(self.layers))
            features = to_cpu(capture.features)
            self._check_finite("the image", capture.images, start)
            for name, value in features.items():
                self._check_finite(f"layer {name!r}", value, start)
            labels = self.segmenter(capture.images, self.samples.keys[start:stop])
            resized = resize_labels(labels, *size).cpu().contiguous().numpy()
            yield start, capture.images.cpu(), features, resized

    def _check_finite(self, what: str, values: Tensor, start: int) -> None:
        # The sum is finite if all are, and far cheaper to take; only if it is not are the values looked at.
        if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            bad = int(torch.nonzero(~torch.isfinite(values).flatten(1).all(1))[0, 0])
            key = self.samples.keys[start + bad]
            raise GanatomyError(f"{what} holds NaN or infinite values at sample {key}; this generator cannot be counted")

    def _count_atom(self, accumulator: Accumulator, atom: int, progress: Progress | None) -> None:
        """Count one atom. A batch waits until the next one is labelled, whose first labels its last sample meets."""
        waiting: tuple[int, Tensor, dict[str, Tensor], Labels] | None = None
        first: Labels | None = None

        def count(following: Labels) -> None:
            assert waiting is not None
            start, images, features, labels = waiting
            seeds = self.samples.seeds[start : start + len(labels)]
            accumulator.add(start, images, features, labels, following, seeds)
            if progress is not None:
                progress(start + len(labels), self.plan.samples)

        for batch in self._batches(atom, accumulator.size):
            if first is None:
                first = batch[3][:1]
            else:
                count(batch[3][:1])
            waiting = batch
        assert first is not None
        count(first)
        accumulator.end_atom()

    def _loop(
        self, accumulator: Accumulator, manifest: Manifest, earlier: store.Reader | None, progress: Progress | None
    ) -> float:
        """Count every atom that is left, writing what is finished now and then; return the seconds spent in all."""
        before = float(earlier.attributes["seconds"]) if earlier is not None else 0.0
        began = written = time.monotonic()
        if progress is not None and accumulator.atoms_done:
            progress(self.plan.bounds(accumulator.atoms_done - 1)[1], self.plan.samples)
        try:
            for atom in range(accumulator.atoms_done, self.plan.atoms):
                self._count_atom(accumulator, atom, progress)
                now = time.monotonic()
                self._report(accumulator, before + now - began)
                if now - written > CHECKPOINT_SECONDS and atom + 1 < self.plan.atoms:
                    self._write(self.partial, accumulator, manifest, before + now - began, final=False)
                    written = time.monotonic()
        except KeyboardInterrupt:
            if accumulator.atoms_done and accumulator.whole:
                self._write(self.partial, accumulator, manifest, before + time.monotonic() - began, final=False)
            raise
        return before + time.monotonic() - began

    def _report(self, accumulator: Accumulator, seconds: float) -> None:
        """Leave a small file that says how far the run is, for whoever watches it."""
        done = self.plan.bounds(accumulator.atoms_done - 1)[1]
        left = seconds / done * (self.plan.samples - done)
        state = {"done": done, "samples": self.plan.samples, "seconds": round(seconds, 1), "seconds_left": round(left, 1)}
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

    # -- what it will cost ---------------------------------------------------------------------------------

    def estimate(self) -> Estimate:
        """Time two batches, and compute from the shapes what memory and disk the whole will take."""
        with _threads(self.threads):
            size = self._label_size()
            stop = min(2 * self.batch, self.plan.samples)
            trial = Plan(stop, max(stop, 2))
            levels = self.given or {
                n: np.repeat(np.linspace(0, 1, LEVELS, dtype=np.float32)[None], s[0], 0) for n, s in self.shapes.items()
            }
            concepts, planes = len(self.segmenter.concepts), self.segmenter.planes
            accumulator = Accumulator(
                trial, self.shapes, levels, concepts, planes, size, self.keep, False, self.threads
            )
            whole, self.plan = self.plan, trial
            try:
                self._count_atom(accumulator, 0, None)  # compiles the kernel
                accumulator.atoms_done = 0
                began = time.monotonic()
                self._count_atom(accumulator, 0, None)
                each = (time.monotonic() - began) / stop
            finally:
                self.plan = whole
                accumulator.close()
        bins, blocks = self._bins() + 1, len(coarse_indices(self._bins())) + 1
        counts = sum(s[0] for s in self.shapes.values()) * concepts * (4 * bins * 8 + 2 * 20 * blocks * 4)
        tops = sum(s[0] * self.keep * min(s[1], 64) * min(s[2], 64) * 2 for s in self.shapes.values())
        moments = sum(2 * s[0] * s[0] * 8 for s in self.shapes.values())
        batch = 2 * self.batch * sum(4 * s[0] * s[1] * s[2] for s in self.shapes.values())
        n = self.plan.samples
        maxima = n * sum(4 * s[0] for s in self.shapes.values()) if self.with_maxima else 0
        seconds = each * (n + pilot_samples(n))
        # Counts are sparse and compress about eightfold, feature maps and moments hardly at all.
        file = int(counts / 8 + tops + moments / 2 + maxima + n * 4000)
        return Estimate(seconds, int(counts + tops + moments + batch + maxima + n * 4000), file, each)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
