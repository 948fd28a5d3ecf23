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
from dissect.edit_values import mask_at
from dissect.edits import Edit
from dissect.effects.areas import Bench, Progress
from dissect.metrics.extractors import Extractor
from segmodels import Segmenter
from segmodels.base import resize_labels

from .aims import PLACE, Aim
from .goal import masks_of, pasted
from .locality import Distance, change, similarity
from .moments import Float64
from .request import Request

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Crop:
    """What is pasted at one place of every image: maps [U, h, w] of a layer in the image that is copied from.

    Attributes:
        copy, place: [h, w], which part of it, and around what centre it is pasted (:func:`rewrite.goal.pasted`).
    """

    maps: Tensor
    copy: Tensor
    place: Tensor

    def ways(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is missing in features [N, U, h, w], and how much each cell counts, [N, h, w]; float64."""
        targets = [pasted(own, self.maps, self.copy, self.place) for own in features.double()]
        return torch.stack([t.maps for t in targets]) - features.double(), torch.stack([t.weight for t in targets])


@dataclass(frozen=True, eq=False)
class Variant:
    """Edits that are tried, and where it is looked how far features went on the way to those that are copied.

    Attributes:
        edits: in order.
        layer: whose features; None for none.
        copied: what they are to become: the mean over what is copied, [U], for all of the source; or a crop.
    """

    edits: tuple[Edit, ...]
    layer: str | None = None
    copied: Float64 | Crop | None = None


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted, of N images and V variants.

    Attributes:
        source: pixels of the source that are not the target already, in the images as they are, [N].
        became: how many of these each variant makes the target, [V, N].
        target: pixels of the target in the whole image: as it is, and by each variant, [1 + V, N].
        inside, outside: mean absolute change where the source is, and elsewhere, [V, N]; NaN where there is nothing.
        similarity: SSIM outside, [V, N]. perceptual: what the given distance says, outside, [V, N]; NaN without one.
        way: how much the way of the source's features counts in each image: how many cells of the layer it covers, or
            of a crop the squared length of what is missing, [V, N]; 0 where no layer is looked at.
        went: how far they went on it, times that, [V, N]. cosine: of their change and the way, [V], or NaN.
        features: what the extractor makes of the images as they are, and of each variant's, [1 + V, N, D], or None.
    """

    source: Int64
    became: Int64
    target: Int64
    inside: Float64
    outside: Float64
    similarity: Float64
    perceptual: Float64
    way: Float64
    went: Float64
    cosine: Float64
    features: Float64 | None


@dataclass(eq=False)
class _Batch:
    """What one batch adds: each list has an entry for each variant."""

    source: Int64
    target: list[Int64]
    features: list[Float64] = field(default_factory=list)
    became: list[Int64] = field(default_factory=list)
    apart: list[tuple[Float64, ...]] = field(default_factory=list)
    sums: list[tuple[Float64, Float64, Float64]] = field(default_factory=list)


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
        counted = _joined(batches, variants, self.extractor is not None)
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
        copied = {v.layer: v.copied for v in variants if v.layer is not None}
        crops = {n: crop.ways(plain.features[n]) for n, crop in copied.items() if isinstance(crop, Crop)}
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
                nothing = np.zeros((len(which), 1))
                batch.sums.append((nothing[:, 0], nothing, nothing))
                continue
            own, after = (one.features[variant.layer].double() for one in (plain, made))
            if isinstance(variant.copied, Crop):
                batch.sums.append(_along(after - own, *crops[variant.layer]))
            else:
                share = shares[variant.layer]
                batch.sums.append((share.flatten(1).sum(1).cpu().numpy(), _sums(own, share), _sums(after, share)))
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


def _along(change: Tensor, way: Tensor, weight: Tensor) -> tuple[Float64, Float64, Float64]:
    """Return for each image [N] the squares of the way and of the change, and their product, over weighted cells."""
    weighted = way * weight[:, None]
    products = (way * weighted, change * weighted, change.square() * weight[:, None])
    length, went, square = (product.flatten(1).sum(1).cpu().numpy() for product in products)
    return length, went, square


def _joined(batches: Sequence[_Batch], variants: Sequence[Variant], compared: bool) -> Counted:
    every = range(len(variants))
    apart = np.array([[np.concatenate([b.apart[v][i] for b in batches]) for v in every] for i in range(4)])
    sums = [[np.concatenate([b.sums[v][i] for b in batches]) for i in range(3)] for v in every]
    ways = [way_of(variant.copied, *of) for variant, of in zip(variants, sums, strict=True)]
    features = [np.concatenate([b.features[v] for b in batches]) for v in (*every, len(every))] if compared else None
    return Counted(
        source=np.concatenate([b.source for b in batches]),
        became=np.array([np.concatenate([b.became[v] for b in batches]) for v in every]),
        target=np.array([np.concatenate([b.target[v] for b in batches]) for v in (*every, len(every))]),
        inside=apart[0], outside=apart[1], similarity=apart[2], perceptual=apart[3],
        way=np.array([w for w, _, _ in ways]), went=np.array([w for _, w, _ in ways]),
        cosine=np.array([c for _, _, c in ways]), features=None if features is None else np.array(features),
    )  # fmt: skip


def way_of(
    copied: Float64 | Crop | None, counts: Float64, before: Float64, after: Float64
) -> tuple[Float64, Float64, float]:
    """Return how much the way counts in each image, how far features went on it times that, [N] each, and the cosine.

    Args:
        counts, before, after: of a mean: cells [N], and sums of features over them without and with edits, [N, U]; the
            way is from the mean of all to ``copied``. Of a crop, what :func:`_along` returns.
    """
    if isinstance(copied, Crop):
        length = float(np.sqrt(counts.sum() * after.sum()))
        return counts, before, float(before.sum()) / length if length else float("nan")
    total = counts.sum()
    if copied is None or not total:
        return np.zeros(len(counts)), np.zeros(len(counts)), float("nan")
    way, changes = copied - before.sum(0) / total, after - before
    length, change = float(way @ way), changes.sum(0) / total
    if not length:
        return np.zeros(len(counts)), np.zeros(len(counts)), float("nan")
    cosine = float(change @ way) / np.sqrt(length * float(change @ change)) if change.any() else float("nan")
    return counts, changes @ way / length, cosine


def copied_of(
    generator: Generator, request: Request, layer: str, segmenter: Segmenter | None, aim: Aim
) -> Float64 | Crop | None:
    """Return what the features of a layer are to become, by a request that has one place: a crop, if it asks for one.

    Otherwise it is their mean [U] over what is copied, in the image as it is; None if nothing is copied.
    """
    if request.copy is None:
        return None
    mask = masks_of(generator, replace(request, paste=(request.copy,), context=()), segmenter)[0]
    s = request.sampling
    codes = generator.sample([request.copy.seed], s.classes, s.truncation, s.cutoff, s.noise)
    features = generator.features(codes, layer)[layer].double()
    size = int(features.shape[2]), int(features.shape[3])
    share = mask_at(mask.double(), *size).to(features.device)
    if request.goal == "crop" and aim.place is not None:
        return Crop(features[0], share, mask_at(aim.place.double(), *size).to(features.device))
    return _sums(features, share[None])[0] / float(share.sum())
