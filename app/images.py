"""A generator's samples as a folder of PNG files, one per seed: to draw masks on, to train on, to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from dissect import GanatomyError, Generator
from dissect.disk import replacing
from dissect.generators.codes import check_seeds
from dissect.pictures import to_bytes
from segmodels.base import resize_images

from .preview import at_once, save

MANIFEST = "images.json"


def file_of(folder: Path, seed: int) -> Path:
    """Return where a seed's image lies; ``masks:FOLDER`` finds masks of the same name."""
    return folder / f"{seed:06d}.png"


def draw_images(
    generator: Generator,
    seeds: Sequence[int],
    folder: Path,
    *,
    size: int | None = None,
    class_: int | None = None,
    truncation: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write one PNG per seed and return how many were missing; those that are there are not made again.

    Args:
        size: pixels a side, bilinear upwards, antialiased downwards; the generator's own by default.
        progress: called with (images there, images wanted).

    Raises:
        GanatomyError: if the folder holds images of another generator, size, class or truncation, or cannot be written.
    """
    size = generator.resolution if size is None else size
    if size < 1:
        raise GanatomyError(f"expected a size of at least 1 pixel, got {size}")
    # What cannot be drawn is refused before the folder is claimed for it.
    generator.sample(check_seeds(seeds)[:1], class_, truncation)
    _claim(folder, {"generator": generator.fingerprint, "size": size, "class": class_, "truncation": truncation})
    missing = [seed for seed in seeds if not file_of(folder, seed).is_file()]
    there = len(seeds) - len(missing)
    progress(there, len(seeds))
    step = at_once(generator)
    for start in range(0, len(missing), step):
        part = missing[start : start + step]
        with torch.inference_mode():
            images = resize_images(generator(generator.sample(part, class_, truncation)), size, size).cpu().numpy()
        for seed, image in zip(part, images, strict=True):
            save(Image.fromarray(to_bytes(image)), file_of(folder, seed))
        progress(there + start + len(part), len(seeds))
    return len(missing)


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Note in the folder what its images are, or compare with what was noted."""
    path = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise GanatomyError(f"cannot use the folder {folder}: {error}") from error
    if noted is None and any(folder.glob("*.png")):
        raise GanatomyError(f"{folder} holds PNG files that were not drawn here; choose another folder")
    if noted is None:
        with replacing(path) as file:
            file.write(json.dumps(settings, indent=1).encode())
    elif noted != settings:
        known = noted if isinstance(noted, dict) else {}
        differing = ", ".join(key for key, value in settings.items() if known.get(key) != value) or "settings"
        raise GanatomyError(f"{folder} holds images of another {differing}; choose another folder")
