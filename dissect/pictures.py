"""Pictures in and out: folders of real ones, and the thumbnails that a dissection keeps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
THUMBNAIL = 128  # largest side
QUALITY = 92
# What Pillow raises for files that are none, damaged, or bombs.
UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)

Bytes = NDArray[np.uint8]


def to_bytes(image: NDArray[np.float32]) -> Bytes:
    """Return uint8 [H, W, 3] for an image float32 [3, H, W] in [-1, 1], clamped."""
    scaled = np.rint((np.clip(image, -1, 1) + 1) * 127.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def small_pictures(images: Tensor) -> Bytes:
    """Return uint8 [N, h, w, 3] of images float32 [N, 3, H, W] in [-1, 1]: averaged down to at most 128 a side."""
    height, width = images.shape[-2:]
    scale = THUMBNAIL / max(height, width)
    images = images.float().clamp(-1, 1)
    if scale < 1:
        images = F.interpolate(images, (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")
    return np.stack([to_bytes(image) for image in images.cpu().numpy()])


def encode_thumbnail(picture: Bytes) -> bytes:
    """Return a JPEG (no chroma subsampling) of a picture uint8 [h, w, 3]."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def decode(data: bytes) -> Bytes:
    """Return uint8 [H, W, 3] of encoded image bytes."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder (not below it), sorted by name."""
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is nothing of that name"
        raise GanatomyError(f"expected a folder of pictures, got {folder}: {what}")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise GanatomyError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return found


def _in_bytes(image: Image.Image) -> Image.Image:
    """Return a picture of 16 bits as one of 8: Pillow would cut all that is above 255 down to white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers without a white (mode {image.mode})")
    return image


def load_picture(path: Path | IO[bytes], size: int) -> NDArray[np.float32]:
    """Return float32 [3, size, size] in [-1, 1]: the centre square, resized with antialiasing."""
    try:
        with Image.open(path) as image:
            clear = "transparency" in image.info  # of a palette: Pillow asks for this way round
            plain = _in_bytes(image)
            picture = (plain.convert("RGBA") if clear else plain).convert("RGB")
    except UNREADABLE as error:
        name = path if isinstance(path, Path) else "this"
        raise GanatomyError(f"{name} cannot be read as a picture: {error}") from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1)
