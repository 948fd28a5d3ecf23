"""Images with and without edits of weights, side by side, and what is counted of them, a batch at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect import GanatomyError, Generator
from dissect.edits import Edit, mask_at
from dissect.effects.areas import Bench, Progress
from dissect.metrics.extractors import Extractor
from segmodels import Segmenter
from segmodels.base import resize_labels

from .aims import PLACE, Aim
from .goal import masks_of
from .locality import Distance, change, similarity
from .moments import Float64
from .request import Request

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Variant:
    """Edits that are tried, and the layer whose features are looked at where the source is; None for none."""

    edits: tuple[Edit, ...]
    layer: str | None = None


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted, of N images and V variants.

    Attributes:
        source: pixels of the source that are not the target already, in the images as they are, [N].
        became: how many of these each variant makes the target, [V, N].
        target: pixels of the target in the whole image: as it is, and by each variant, [1 + V, N].
        inside, outside: mean absolute change where the source is, and elsewhere, [V, N]; NaN where there is nothing.
        similarity: SSIM outside, [V, N]. perceptual: what the given distance says, outside, [V, N]; NaN without one.
        cells: how many cells of the variant's layer the source covers, [V, N]; 0 where none is looked at.
        before, after: for each variant the sums of the layer's features over these cells, [N, U].
        features: what the extractor makes of the images as they are, and of each variant's, [1 + V, N, D], or None.
    """

    source: Int64
    became: Int64
    target: Int64
    inside: Float64
    outside: Float64
    similarity: Float64
    perceptual: Float64
    cells: Float64
    before: list[Float64]
    after: list[Float64]
    features: Float64 | None


@dataclass(eq=False)
class _Batch:
    """What one batch adds: each list has an entry for each variant."""

    source: Int64
    target: list[Int64]
    features: list[Float64] = field(default_factory=list)
    became: list[Int64] = field(default_factory=list)
    apart: list[tuple[Float64, ...]] = field(default_factory=list)
    cells: list[tuple[Float64, Float64, Float64]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Trial:
    """Variants of edits on the same images.

    Attributes:
        bench: the generator, the segmenter, the images. aim: what is to become what.
        extractor: what images are compared by as sets, or None. distance: a perceptual one, or None.
    """

    bench: Bench
    aim: Aim
    extractor: Extractor | None = None
    distance: Distance | None = None
    _alone: threading.Lock = field(default_factory=threading.Lock)  # extractors promise nothing about threads

    def run(self, variants: Sequence[Variant], progress: Progress | None = None) -> Counted:
        """Make all images, and count.

        Raises:
            GanatomyError: if no image shows the source where the target is not already.
        """
        bench = self.bench

        def make(worker: Generator, bounds: tuple[int, int]) -> tuple[int, _Batch]:
            return bounds[1], self._batch(worker, bounds, variants)

        batches: list[_Batch] = []
        with bench.computing(), closing(bench.each(make, bench.bounds())) as made:
            for stop, batch in made:
                batches.append(batch)
                if progress is not None:
                    progress(stop, len(bench))
        counted = _joined(batches, len(variants), self.extractor is not None)
        if not counted.source.any():
            names = "' and '".join(bench.concepts[c].name for c in self.aim.source) or PLACE
            raise GanatomyError(
                f"none of the {len(bench)} images shows '{names}' by {bench.segmenter.name} where the target is not "
                f"already; give other seeds, or more"
            )
        return counted

    def _batch(self, worker: Generator, bounds: tuple[int, int], variants: Sequence[Variant]) -> _Batch:
        bench, which = self.bench, range(*bounds)
        codes = bench.samples.codes(*bounds, worker)
        watched = tuple(dict.fromkeys(v.layer for v in variants if v.layer is not None))
        plain = worker.capture(codes, watched)
        source, target = self.aim.masks(bench, bench.labels(plain.images, which))
        source &= ~target
        inside = resize_labels(source[:, None], *plain.images.shape[2:])[:, 0].to(plain.images.device)
        shares = {name: _shares(source, plain.features[name]) for name in watched}
        batch = _Batch(_count(source), [_count(target)])
        batch.features += self._features(plain.images)
        for variant in variants:
            made = worker.capture(codes, () if variant.layer is None else variant.layer, variant.edits)
            _, now = self.aim.masks(bench, bench.labels(made.images, which))
            batch.became.append(_count(source & now))
            batch.target.append(_count(now))
            batch.features += self._features(made.images)
            batch.apart.append(self._apart(plain.images, made.images, inside))
            if variant.layer is None:
                nothing = np.zeros(len(which))
                batch.cells.append((nothing, nothing[:, None], nothing[:, None]))
            else:
                share = shares[variant.layer]
                before, after = (_sums(one.features[variant.layer], share) for one in (plain, made))
                batch.cells.append((share.flatten(1).sum(1).cpu().numpy(), before, after))
        return batch

    def _features(self, images: Tensor) -> list[Float64]:
        if self.extractor is None:
            return []
        with self._alone:
            return [self.extractor(images)]

    def _apart(self, before: Tensor, after: Tensor, inside: Tensor) -> tuple[Float64, ...]:
        outside = ~inside
        perceptual = np.full(len(before), np.nan)
        if self.distance is not None:
            with self._alone:
                perceptual = self.distance(before, after, outside).double().cpu().numpy()
        return (
            change(before, after, inside),
            change(before, after, outside),
            similarity(before, after, outside),
            perceptual,
        )


def _count(mask: Tensor) -> Int64:
    return mask.flatten(1).sum(1).cpu().numpy().astype(np.int64)


def _shares(source: Tensor, features: Tensor) -> Tensor:
    """Return how much of each cell of features [N, U, h, w] the source covers, float64 [N, h, w]."""
    height, width = features.shape[2:]
    return torch.stack([mask_at(one.double(), height, width) for one in source]).to(features.device)


def _sums(features: Tensor, share: Tensor) -> Float64:
    """Return the sums [N, U] of features over cells, each as often as its share."""
    return torch.einsum("nuyx,nyx->nu", features.double(), share).cpu().numpy()


def _joined(batches: Sequence[_Batch], count: int, compared: bool) -> Counted:
    every = range(count)
    apart = np.array([[np.concatenate([b.apart[v][i] for b in batches]) for v in every] for i in range(4)])
    cells, before, after = ([np.concatenate([b.cells[v][i] for b in batches]) for v in every] for i in range(3))
    features = [np.concatenate([b.features[v] for b in batches]) for v in range(1 + count)] if compared else None
    return Counted(
        source=np.concatenate([b.source for b in batches]),
        became=np.array([np.concatenate([b.became[v] for b in batches]) for v in every]),
        target=np.array([np.concatenate([b.target[v] for b in batches]) for v in range(1 + count)]),
        inside=apart[0], outside=apart[1], similarity=apart[2], perceptual=apart[3],
        cells=np.array(cells), before=before, after=after,
        features=None if features is None else np.array(features),
    )  # fmt: skip


def copied_value(generator: Generator, request: Request, layer: str, segmenter: Segmenter | None) -> Float64:
    """Return the mean of a layer's features [U] over what a request copies, in the image as it is.

    Raises:
        GanatomyError: if it copies nothing; as :func:`rewrite.goal.masks_of`.
    """
    if request.copy is None:
        raise GanatomyError("the request copies nothing, so there is no value that others could reach")
    mask = masks_of(generator, replace(request, paste=(request.copy,), context=()), segmenter)[0]
    s = request.sampling
    codes = generator.sample([request.copy.seed], s.classes, s.truncation, s.cutoff, s.noise)
    features = generator.features(codes, layer)[layer].double()
    share = mask_at(mask.double(), *features.shape[2:])[None].to(features.device)
    return _sums(features, share)[0] / float(share.sum())
