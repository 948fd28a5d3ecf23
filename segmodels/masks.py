"""Label maps that people drew: a folder of PNG files, one per seed or per image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import UNLABELLED, Concept, Segmenter, resize_labels
from .errors import GanatomyError
from .files import hash_files, one_line, read_json

CONCEPTS_FILE = "concepts.json"
MASKS_PREFIX = "masks:"
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow modes whose pixel is one integer. In "P" that is the index into the palette, whatever its colours."""

SEED = re.compile(r"(?:seed[-_]?)?(\d+)", re.IGNORECASE)  # what counts as a seed in a file's stem


class Masks(Segmenter):
    """Looks the labels of a sample up by its key, and never looks at the image.

    The folder holds ``concepts.json``, a list whose item i (counted from 1) names pixel value i: a string, or an
    object ``{"name": …, "category": …}``. Pixel value 0 is unlabelled and is not in the list. Beside it, one PNG per
    sample, of mode L, P or 16-bit grey. Seed 17 is in ``17.png``, ``0017.png`` or ``seed0017.png``; the image file
    ``photos/a.jpg`` has its mask in ``a.png``.

    Every mask has the size of the first (by file name): another one is resized to it by nearest neighbour.
    """

    concurrent = True

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        name = f"{MASKS_PREFIX}{folder}"
        if not self.folder.is_dir():
            raise GanatomyError(f"segmenter {name!r}: there is no folder {str(self.folder)!r}")
        listing = self.folder / CONCEPTS_FILE
        if not listing.is_file():
            raise GanatomyError(
                f"segmenter {name!r}: no {CONCEPTS_FILE} in the folder; expected the names of pixel values 1, 2, …"
            )
        files = sorted(f for f in self.folder.iterdir() if f.suffix.lower() == ".png" and f.is_file())
        if not files:
            raise GanatomyError(f"segmenter {name!r}: no PNG file in the folder; expected one mask per seed or image")
        self._by_stem = {file.stem: file for file in files}
        self._by_seed = _index_seeds(files, name)
        with _png(files[0]) as image:
            self._size = image.height, image.width
        super().__init__(name, _read_concepts(listing), hash_files([listing, *files]))

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Return the masks of ``keys`` as int64 [N, 1, h, w] in the masks' own size; ``images`` only say the device."""
        if keys is None:
            raise GanatomyError(f"segmenter {self.name!r} needs keys: the seeds or the file names of the images")
        masks = [self._read(self._find(key)) for key in keys]
        return torch.stack(masks).to(images.device)

    def _find(self, key: int | str) -> Path:
        if isinstance(key, Integral):
            found, tried = self._by_seed.get(int(key)), f"{key}.png, {key:04d}.png, seed{key:04d}.png"
        else:
            stem = Path(str(key)).stem
            found, tried = self._by_stem.get(stem), f"{stem}.png"
        if found is None:
            raise GanatomyError(f"segmenter {self.name!r}: no mask for key {key!r}; tried {tried}")
        return found

    def _read(self, path: Path) -> Tensor:
        with _png(path) as image:
            mode, pixels = image.mode, np.asarray(image)
        if mode not in MODES:
            raise GanatomyError(
                f"{path}: expected a mask of mode L, P or 16-bit grey, got {mode}; save one integer per pixel"
            )
        pixels = pixels.astype(np.int64)
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high >= len(self.concepts):
            bad, most = low if low < 0 else high, len(self.concepts) - 1
            raise GanatomyError(f"{path}: pixel value {bad}; {CONCEPTS_FILE} names values up to {most}")
        return resize_labels(torch.from_numpy(pixels)[None, None], *self._size)[0]


@contextmanager
def _png(path: Path) -> Iterator[Image.Image]:
    """Open a PNG file; whatever fails while it is open says that it cannot be read."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            yield image
    except (OSError, SyntaxError, ValueError) as error:
        raise GanatomyError(f"{path} cannot be read as PNG: {one_line(error)}") from error


def _index_seeds(files: Sequence[Path], name: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in files:
        match = SEED.fullmatch(file.stem)
        if match is None:
            continue
        other = found.setdefault(int(match.group(1)), file)
        if other != file:
            raise GanatomyError(
                f"segmenter {name!r}: {other.name} and {file.name} are both seed {int(match.group(1))}; keep one"
            )
    return found


def _read_concepts(path: Path) -> list[Concept]:
    listed = read_json(path)
    form = 'expected a list of names or of {"name": …, "category": …}'
    if not isinstance(listed, list) or not listed:
        raise GanatomyError(f"{path}: {form}, got {type(listed).__name__ if listed != [] else 'an empty list'}")
    concepts = [UNLABELLED]
    for index, item in enumerate(listed, start=1):
        fields = {"name": item} if isinstance(item, str) else item
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str) or not fields["name"].strip():
            raise GanatomyError(f"{path}: {form}, got {item!r} for value {index}")
        category = fields.get("category", "")
        if not isinstance(category, str):
            raise GanatomyError(f"{path}: the category of value {index} must be a string, got {category!r}")
        concepts.append(Concept(fields["name"], category))
    if any(c.name == UNLABELLED.name for c in concepts[1:]):
        raise GanatomyError(f"{path}: leave {UNLABELLED.name!r} out; it is pixel value 0, and the list begins at 1")
    twice = [name for name, count in Counter(c.name for c in concepts).items() if count > 1]
    if twice:
        raise GanatomyError(f"{path}: names repeat: {', '.join(twice[:5])}")
    return concepts
