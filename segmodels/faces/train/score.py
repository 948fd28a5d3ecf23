"""How well a segmenter agrees with the teacher on pictures that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...base import Segmenter, resize_images, resize_labels
from .labels import CLASSES

SCORED = ("background", "skin", "brows", "eyes", "nose", "lips")  # over which the mean is taken

Bytes = NDArray[np.uint8]


def confusion(segmenter: Segmenter, pictures: Bytes, labels: Bytes, side: int, batch: int = 16) -> NDArray[np.int64]:
    """Return pixel counts [teacher's class, segmenter's class] at ``side`` pixels a side.

    Args:
        pictures: uint8 [N, H, W, 3]; labels: uint8 [N, h, w], indices into ``CLASSES``.
    """
    n = len(CLASSES)
    index = torch.tensor([0] + [CLASSES.index(concept.name) for concept in segmenter.concepts[1:]])
    counts = torch.zeros(n * n, dtype=torch.int64)
    for start in range(0, len(pictures), batch):
        images = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).float() / 127.5 - 1
        truth = resize_labels(torch.from_numpy(labels[start : start + batch])[:, None], side, side).long()
        found = index[resize_labels(segmenter(resize_images(images, side, side)), side, side).long()]
        counts += torch.bincount((truth * n + found).flatten(), minlength=n * n)
    return counts.view(n, n).numpy()


def iou(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return intersection over union per class, and under "mean" the mean over ``SCORED``."""
    both = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - both
    each = {name: float(b / u) if u else float("nan") for name, b, u in zip(CLASSES, both, union, strict=True)}
    return each | {"mean": float(np.mean([each[name] for name in SCORED]))}
