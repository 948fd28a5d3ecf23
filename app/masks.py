"""Where a unit is on, drawn on pictures: the inside bright, a thin light outline, the outside dimmed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect.pictures import decode
from dissect.resample import resample
from segmodels import GanatomyError

Bytes = NDArray[np.uint8]

TILE = 128  # pixels, the longer side of a picture in a strip
PICTURES_KEPT = 1024  # decoded ones, 48 KiB each
STRIP_QUALITY, THUMBNAIL_QUALITY = 86, 82
DIM, FOG = 0.3, (26, 29, 38)  # outside: brightness that is left, and what is added so that black is not the same inside
OUTLINE, OUTLINE_STRENGTH = (255, 247, 214), 0.9
MUCH_BORDER = 0.12  # share of a picture; where more of it is border, the outline fades, or it would hide the picture
# Of heat, from nothing to the most: dark to light through violet and orange, so that it reads without colours too.
RAMP = np.array([(13, 14, 20), (87, 24, 120), (214, 66, 78), (250, 160, 60), (252, 253, 190)], float)
FADES = 8  # steps of that
NEIGHBOURHOOD = 9  # pixels over which a border is smoothed


def above(
    maps: NDArray[np.floating], thresholds: float | NDArray[np.floating], height: int, width: int
) -> NDArray[np.bool_]:
    """Return where maps exceed their thresholds once they are brought to a picture's size.

    The arithmetic is that of the counts (:func:`dissect.resample.resample`: bilinear upwards, averages downwards).

    Args:
        maps: activations [..., h, w].
        thresholds: one for all, or one per map [...].
        height, width: of the result.

    Returns:
        bool [..., height, width].
    """
    limit = np.asarray(thresholds, np.float32)[..., None, None]
    return resample(np.asarray(maps, np.float32), height, width) > limit


def spotlight(pictures: Bytes, masks: NDArray[np.bool_]) -> Bytes:
    """Return pictures uint8 [N, H, W, 3] with what is outside ``masks`` [N, H, W] dimmed and the border outlined.

    The border is smoothed over one pixel. A mask that reaches the picture's edge has no outline there.
    """
    inside = _blur(masks)
    border = ((inside > 0) & (inside < NEIGHBOURHOOD)).mean((1, 2))
    fade = np.rint((FADES - 1) * np.minimum(1, MUCH_BORDER / np.maximum(border, 1e-9))).astype(int)
    gain, light = _blend()
    lit = pictures * gain[fade[:, None, None], inside][..., None]  # at most 255 * 256, which fits in uint16
    for channel in range(3):
        lit[..., channel] += light[channel][fade[:, None, None], inside]
    return (lit >> 8).astype(np.uint8)


def _blur(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of each pixel and its 8 neighbours are inside, 0..9."""
    padded = np.pad(masks.astype(np.uint8), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]


@lru_cache(maxsize=1)
def _blend() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return what a pixel is multiplied by and what is added to it, in 1/256.

    Both depend on the strength of the outline (8 steps) and on how many of 9 neighbours are inside: [8, 10] and, for
    each channel, [3, 8, 10].
    """
    share = np.arange(NEIGHBOURHOOD + 1) / NEIGHBOURHOOD
    outline = np.linspace(0, OUTLINE_STRENGTH, FADES)[:, None] * 4 * share * (1 - share)
    gain = (DIM + (1 - DIM) * share) * (1 - outline)
    light = [(1 - share) * (1 - outline) * fog + outline * line for fog, line in zip(FOG, OUTLINE, strict=True)]
    return np.floor(256 * gain).astype(np.uint16), np.floor(256 * np.stack(light)).astype(np.uint16)


class Pictures:
    """The encoded thumbnails of a run, decoded to one size when asked for.

    Attributes:
        height, width: of a tile: the first picture's proportions, its longer side 128.
    """

    def __init__(self, encoded: Mapping[int, bytes]) -> None:
        self._encoded = encoded
        self.height = self.width = TILE
        self._tile = lru_cache(maxsize=PICTURES_KEPT)(self._decode)
        if encoded:
            height, width = self._read(next(iter(encoded))).shape[:2]
            scale = TILE / max(height, width)
            self.height, self.width = max(1, round(height * scale)), max(1, round(width * scale))

    def tiles(self, seeds: NDArray[np.int64]) -> Bytes:
        """Return uint8 [N, height, width, 3] of the samples ``seeds`` [N]; GanatomyError if one has no picture."""
        return np.stack([self._tile(int(seed)) for seed in seeds])

    def _read(self, seed: int) -> Bytes:
        try:
            return decode(self._encoded[seed])
        except (KeyError, OSError) as error:
            raise GanatomyError(f"the picture of sample {seed} is missing or damaged; verify the run") from error

    def _decode(self, seed: int) -> Bytes:
        image = Image.fromarray(self._read(seed))
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.BICUBIC)
        return np.asarray(image)


def strip(tiles: Bytes) -> Image.Image:
    """Return tiles uint8 [N, H, W, 3] side by side, without gaps."""
    return Image.fromarray(np.concatenate(list(tiles), axis=1))


def sheet(rows: Sequence[Bytes], gap: int = 0) -> Image.Image:
    """Return rows of tiles, uint8 [N, H, W, 3] each, one below the other; white where a row is shorter.

    Args:
        gap: white pixels between two rows.
    """
    strips = [strip(tiles) for tiles in rows if len(tiles)]
    width, height = max(one.width for one in strips), sum(one.height + gap for one in strips) - gap
    whole, top = Image.new("RGB", (width, height), "white"), 0
    for one in strips:
        whole.paste(one, (0, top))
        top += one.height + gap
    return whole


def png(image: Image.Image) -> bytes:
    """Encode a picture without loss."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def jpeg(image: Image.Image, quality: int = STRIP_QUALITY) -> bytes:
    """Encode a picture."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def thumbnail(tiles: Bytes, count: int, height: int) -> bytes:
    """Return the first ``count`` tiles side by side, ``height`` pixels high, as a JPEG."""
    image = strip(tiles[:count])
    width = max(1, round(image.width * height / image.height))
    return jpeg(image.resize((width, height), Image.Resampling.BOX, reducing_gap=None), THUMBNAIL_QUALITY)
