"""What is to be dissected, by what, on which samples: checked beforehand, and described by its manifest."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segmodels import GanatomyError, Segmenter

from .exactness import division
from .examples import described
from .forward import Forward, Pause
from .generators import Generator
from .levels import LEVELS, TAIL_FIRST, TAIL_LAST, check_given, coarse_indices, pilot_samples
from .manifest import Manifest, versions
from .memory import Memory, memory_of
from .pictures import THUMBNAIL
from .plan import Plan
from .samples import Samples

COUNT_SIZE = 256  # pixels are counted at this side at most
CPU_BATCH, GPU_BATCH = 4, 32  # small batches are the fastest on CPUs: large ones spend their time in page faults
TOP = 16


class Job:
    """A dissection that is about to run. Making one checks everything that can be checked beforehand.

    ``pause`` is called after every batch was made and before it is counted: there the device may do something else for
    a moment, and a KeyboardInterrupt ends the pass as Ctrl-C does. With it every batch is counted by itself, which
    takes 3% longer. The other arguments are those of :func:`dissect.run`.
    """

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
        memory: float | None = None,
        pause: Pause | None = None,
    ) -> None:
        for name, value in (("batch", batch), ("threads", threads), ("count_size", count_size), ("top", top)):
            if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
                raise GanatomyError(f"expected a positive {name} (a whole number), got {value!r}")
        names = (
            [layers] if isinstance(layers, str) else list(layers if layers is not None else generator.default_layers())
        )
        if not names:
            raise GanatomyError(f"{generator.name} has no default layers; name some with layers=")
        self.generator, self.segmenter, self.samples = generator, segmenter, samples
        self.plan = Plan.of(len(samples))
        chosen = [generator.layer(name) for name in names]  # a layer may be called by its public code's name
        self.layers = {layer.name: layer for layer in chosen}
        self.shapes = {name: (layer.channels, *layer.seen) for name, layer in self.layers.items()}
        unknown = [name for name in levels or {} if name not in self.layers]
        if unknown or (levels is not None and len(levels) < len(self.layers)):
            raise GanatomyError(f"levels= must name exactly the dissected layers {list(self.layers)}")
        self.given = {n: check_given(v, n, self.shapes[n][0]) for n, v in (levels or {}).items()}
        bins = {value.shape[1] for value in self.given.values()}
        if len(bins) > 1:
            raise GanatomyError(f"levels= must have the same number of levels for every layer, got {sorted(bins)}")
        self.count_size = int(count_size or 0) or min(generator.resolution, COUNT_SIZE)
        self.keep, self.with_maxima = min(int(top), len(samples)), bool(maxima)
        self.asked = {"batch": batch, "threads": threads}
        self.batch = min(
            int(batch or 0) or (GPU_BATCH if generator.device.type == "cuda" else CPU_BATCH), self.plan.atom
        )
        self.threads = int(threads or 0) or torch.get_num_threads()
        self.memory = memory
        self.pause = pause
        self.out = out

    @property
    def partial(self) -> Path:
        """The folder for what is unfinished."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def status(self) -> Path:
        """The small file that tells how far it is."""
        return self.out.with_name(self.out.name + ".partial.json")

    def at(self, out: Path) -> Job:
        """Return the same job with another output."""
        other = copy.copy(self)
        other.out = out
        return other

    def forward(self, layers: Sequence[str] | None = None) -> Forward:
        """Return the generating and segmenting side for some layers (default: all), at the current batch size."""
        shapes = {name: self.shapes[name] for name in layers or self.shapes}
        return Forward(self._generators, self.segmenter, self.samples, shapes, self.batch, self.threads, self.pause)

    @property
    def at_a_time(self) -> int:
        """How many batches are made at a time."""
        return len(self._generators)

    @property
    def threads_each(self) -> int:
        """Threads for each of them."""
        return max(1, self.threads // self.at_a_time)

    @property
    def _generators(self) -> list[Generator]:
        """The generator, and replicas of it that work at the same time, if the segmenter can, too."""
        apart = self.generator.device.type == "cpu" and self.segmenter.concurrent
        return self.generator.replicas(division(self.threads) if apart else 1)

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
            "examples": described(self.plan.samples),
            "thumbnail": THUMBNAIL,
            "versions": versions(),
        }  # fmt: skip

    def bins(self) -> int:
        """Return the number of levels B."""
        return next(iter(self.given.values())).shape[1] if self.given else LEVELS

    # -- the pass ------------------------------------------------------------------------------------------

    def static(self) -> list[tuple[str, NDArray]]:
        """Return the datasets that are known before anything is counted: name, and array [N, …], [C] or [U, B]."""
        concepts = self.segmenter.concepts
        arrays: list[tuple[str, NDArray]] = [
            ("concepts/name", np.array([c.name for c in concepts], object)),
            ("concepts/category", np.array([c.category for c in concepts], object)),
            ("concepts/plane", np.array([c.plane for c in concepts], np.int64)),
        ]
        return arrays + [(f"samples/{name}", value) for name, value in self.samples.arrays().items()]

    def layer_groups(self) -> list[list[str]]:
        """Return the layers of each pass: one pass for all, or as many as ``memory`` allows together.

        Raises:
            GanatomyError: if one layer alone takes more.
        """
        if self.memory is None:
            return [list(self.shapes)]
        groups: list[list[str]] = []
        for name in self.shapes:
            if groups and self.memory_of([*groups[-1], name]).total <= self.memory:
                groups[-1].append(name)
            else:
                groups.append([name])
        largest = max(self.memory_of(group).total for group in groups)
        if largest > self.memory:
            raise GanatomyError(
                f"one layer alone takes {largest / 1e6:.0f} MB to count, more than the {self.memory / 1e6:.0f} MB"
                " given; fewer concepts, a smaller count_size or fewer top samples take less"
            )
        return groups

    def memory_of(self, layers: Sequence[str]) -> Memory:
        """Return what counting some layers in one pass takes."""
        return memory_of(
            [self.shapes[name] for name in layers], len(self.segmenter.concepts), self.bins(), self.plan,
            (self.count_size, self.count_size), self.keep, self.with_maxima,
        )  # fmt: skip
