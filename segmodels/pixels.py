"""Pixels as the segmenters want them."""

from __future__ import annotations

from torch import Tensor

from .errors import GanatomyError


def unit_images(images: Tensor, segmenter: str) -> Tensor:
    """Return float32 images in [0, 1] from images in [-1, 1], any shape; values outside are clamped.

    ``segmenter`` is the name for the message. Raises GanatomyError for NaN, which no clamp removes and which would
    become an arbitrary label.
    """
    if bool(images.isnan().any()):
        raise GanatomyError(f"segmenter {segmenter!r}: the images hold NaN; expected float32 in [-1, 1]")
    return images.float().clamp(-1.0, 1.0).add_(1.0).mul_(0.5)
