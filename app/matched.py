"""Matches of a context as pictures: images in grey, and over them in colour how strongly each place is meant."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect.resample import resample

from .masks import RAMP, Bytes

TILE = 256  # pixels a side at most; at least half of it
PALE = 0.65  # brightness of what is not meant
COVER = 0.85  # of the colour where a place is meant as strongly as the context
GAMMA = 1.5  # what is meant half as strongly covers a third of that
QUALITY = 88


def pictures(images: Sequence[Bytes], shares: NDArray[np.float32]) -> list[str]:
    """Return images uint8 [R, R, 3] with their maps [N, h, w] over them, as data addresses.

    A share of 1 is as strongly as in the context and has the brightest colour; more is not brighter.
    """
    return [_picture(image, share) for image, share in zip(images, shares, strict=True)]


def _picture(image: Bytes, share: NDArray[np.float32]) -> str:
    side = image.shape[0]
    tile = min(max(side, TILE // 2), TILE)
    how = Image.Resampling.BICUBIC if tile > side else Image.Resampling.BOX
    grey = np.asarray(Image.fromarray(image).convert("L").resize((tile, tile), how), np.float32)[..., None] * PALE
    meant = resample(np.clip(share, 0, 1)[None].astype(np.float32), tile, tile)[0]
    places = np.linspace(0, 1, len(RAMP) - 1)
    colour = np.stack([np.interp(meant, places, RAMP[1:, channel]) for channel in range(3)], -1)
    cover = (COVER * meant**GAMMA)[..., None]
    out = io.BytesIO()
    mixed = np.rint((1 - cover) * grey + cover * colour).astype(np.uint8)
    Image.fromarray(mixed).save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
