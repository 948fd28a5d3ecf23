"""From samples to features and labels: the forward side of the pass."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError, Segmenter
from segmodels.base import resize_labels

from .ahead import ahead
from .counts import Labels
from .generators import Generator
from .levels import order_statistics, pilot_pixels, pilot_samples, read_sample, tail_fractions
from .pictures import Bytes, small_pictures
from .plan import Plan
from .resample import Float32, taps
from .samples import Samples

KEPT_BYTES = 128 << 20  # of the pilot's batches
KEPT_SAMPLES = 64  # of them: long runs have longer pilots, and must not take more memory

Batches: TypeAlias = "collections.abc.Generator[Batch, None, None]"

Pause = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: features where the generator is, the rest on the CPU.

    Attributes:
        start: index of its first sample; seeds: int64 [N].
        pictures: uint8 [N, h, w, 3], at most 128 a side.
        features: layer -> float32 [N, U, h, w]; labels: int16 [N, K, H, W].
    """

    start: int
    seeds: np.ndarray
    pictures: Bytes
    features: dict[str, Tensor]
    labels: Labels

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        tensors = self.features.values()
        return self.labels.nbytes + self.pictures.nbytes + sum(t.numel() * t.element_size() for t in tensors)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return consecutive batches as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        batches[0].start,
        np.concatenate([batch.seeds for batch in batches]),
        np.concatenate([batch.pictures for batch in batches]),
        {name: torch.cat([batch.features[name] for batch in batches]) for name in batches[0].features},
        np.concatenate([batch.labels for batch in batches]),
    )


@dataclass(frozen=True, eq=False)
class Forward:
    """Generates and segments samples.

    Attributes:
        generators: the generator, and replicas of it that make other batches at the same time.
        shapes: layer -> (U, h, w), the layers to capture; h and w without a margin, which is not counted.
        batch: samples in one forward pass; threads: for the levels.
        pause: called before every batch is counted and after it was made: who waits for the device may have it there.
    """

    generators: Sequence[Generator]
    segmenter: Segmenter
    samples: Samples
    shapes: Mapping[str, tuple[int, int, int]]
    batch: int
    threads: int
    pause: Pause | None = None
    _kept: dict[int, Batch] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.generators[0].device

    def breathe(self) -> None:
        """Let whoever waits for the device have it; KeyboardInterrupt from there ends the pass, its atoms kept."""
        if self.pause is not None:
            self.pause()

    def label_size(self, largest: int) -> tuple[int, int]:
        """Return (H, W) at which pixels are counted: the segmenter's own size, at most ``largest`` a side."""
        labels = self.segmenter(self.generators[0](self.samples.codes(0, 1)), self.samples.keys[:1])
        height, width = labels.shape[-2:]
        if max(height, width) <= largest:
            return height, width
        scale = largest / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def pilot(self, plan: Plan, size: tuple[int, int]) -> dict[str, Float32]:
        """Return levels [U, B] per layer: order statistics of activations at fixed pixels of the first samples.

        The pilot's batches are those of the pass; up to 64 samples, in up to 128 MB, are kept and
        not generated twice.
        """
        count = pilot_samples(plan.samples)
        pixels = pilot_pixels(count, *size)
        values = {n: np.empty((s[0], count, len(pixels)), np.float32) for n, s in self.shapes.items()}
        axes = {n: (taps(s[1], size[0]), taps(s[2], size[1])) for n, s in self.shapes.items()}
        room, keep = KEPT_BYTES, KEPT_SAMPLES
        first = takewhile(lambda b: b[0] < count, self._bounds(plan, range(plan.atoms)))
        with closing(self._made(first, size)) as batches:
            for batch in batches:
                self.breathe()
                room -= batch.bytes
                keep -= len(batch.seeds)
                if room >= 0 and keep >= 0:
                    self._kept[batch.start] = batch
                for name, features in batch.features.items():
                    for index in range(min(len(features), count - batch.start)):
                        out = values[name][:, batch.start + index]
                        read_sample(features[index].cpu().numpy(), *axes[name], pixels, out)
        return {n: order_statistics(v.reshape(len(v), -1), tail_fractions(), self.threads) for n, v in values.items()}

    def batches(self, plan: Plan, atoms: range, size: tuple[int, int]) -> Batches:
        """Generate and segment atoms, batch by batch, labels brought to ``size``; close it if it is left unfinished."""
        return self._made(self._bounds(plan, atoms), size)

    def _bounds(self, plan: Plan, atoms: range) -> Iterator[tuple[int, int]]:
        return (bounds for atom in atoms for bounds in plan.batches(atom, self.batch))

    def _made(self, bounds: Iterable[tuple[int, int]], size: tuple[int, int]) -> Batches:
        def make(generator: Generator, of: tuple[int, int]) -> Batch:
            kept = self._kept.pop(of[0], None)
            return self._make(generator, *of, size) if kept is None else kept

        return ahead(make, bounds, self.generators)

    def _make(self, generator: Generator, start: int, stop: int, size: tuple[int, int]) -> Batch:
        capture = generator.capture(self.samples.codes(start, stop, generator), list(self.shapes))
        layers = {name: generator.layer(name) for name in self.shapes}
        features = {n: layers[n].cropped(f.detach()).float().contiguous() for n, f in capture.features.items()}
        self._check_finite("the image", capture.images, start)
        for name, value in features.items():
            self._check_finite(f"layer {name!r}", value, start)
        labels = self.segmenter(capture.images, self.samples.keys[start:stop])
        resized = resize_labels(labels, *size).cpu().contiguous().numpy()
        return Batch(start, self.samples.seeds[start:stop], small_pictures(capture.images), features, resized)

    def _check_finite(self, what: str, values: Tensor, start: int) -> None:
        # The sum is finite if all are, and far cheaper to take; only if it is not are the values looked at.
        if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            bad = int(torch.nonzero(~torch.isfinite(values).flatten(1).all(1))[0, 0])
            key = self.samples.keys[start + bad]
            raise GanatomyError(
                f"{what} holds NaN or infinite values at sample {key}; this generator cannot be counted"
            )
