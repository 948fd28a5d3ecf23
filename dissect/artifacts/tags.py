"""What people say of images: a CSV file with a line for each image, ``seed,tag`` and perhaps ``region``.

A tag is ``broken`` or ``fine`` (``artifact``, ``bad``, ``1`` and ``good``, ``ok``, ``0`` mean the same). A region is
the name of a picture beside the file, bright where the image is broken.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segmodels import GanatomyError

from ..pictures import UNREADABLE

BROKEN, FINE = {"broken", "artifact", "bad", "1"}, {"fine", "good", "ok", "0"}
MIDDLE = 128  # grey from which on a region is meant


@dataclass(frozen=True, eq=False)
class Tags:
    """Images that people have looked at.

    Attributes:
        seeds: int64 [N], each once. broken: bool [N]. regions: seed -> bool [H, W], all of one size.
    """

    seeds: NDArray[np.int64]
    broken: NDArray[np.bool_]
    regions: dict[int, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.seeds)


def read_tags(path: Path) -> Tags:
    """Read a CSV file of tags.

    Raises:
        GanatomyError: naming the line, for a file that cannot be read, a seed that is none or is there with two tags,
            an unknown tag, a region that is no picture, or regions of several sizes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"seed", "tag"} <= set(reader.fieldnames or ()):
                raise GanatomyError(f"{path}: expected a first line with the columns seed and tag")
            lines = list(reader)
    except FileNotFoundError as error:
        raise GanatomyError(f"no such file of tags: {path}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GanatomyError(f"{path} cannot be read as CSV: {error}") from error
    said: dict[int, bool] = {}
    regions: dict[int, NDArray[np.bool_]] = {}
    for number, line in enumerate(lines, 2):
        try:
            seed = int(line["seed"])
        except (TypeError, ValueError) as error:
            raise GanatomyError(f"{path}, line {number}: expected a seed, got {line['seed']!r}") from error
        if not 0 <= seed < 2**32:
            raise GanatomyError(f"{path}, line {number}: expected a seed from 0 to {2**32 - 1}, got {seed}")
        tag = str(line["tag"]).strip().lower()
        if tag not in BROKEN | FINE:
            raise GanatomyError(f"{path}, line {number}: expected the tag broken or fine, got {line['tag']!r}")
        if said.setdefault(seed, tag in BROKEN) != (tag in BROKEN):
            raise GanatomyError(f"{path}, line {number}: seed {seed} has two tags")
        if (name := (line.get("region") or "").strip()) and tag in BROKEN:
            regions[seed] = _region(path.parent / name, f"{path}, line {number}")
    sizes = {region.shape for region in regions.values()}
    if len(sizes) > 1:
        raise GanatomyError(f"{path}: regions have {len(sizes)} sizes, expected one")
    if not said:
        raise GanatomyError(f"{path} has no tags")
    return Tags(np.array(list(said), np.int64), np.array(list(said.values()), bool), regions)


def write_tags(path: Path, tags: Tags) -> None:
    """Write tags without regions."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "tag"])
        for seed, broken in zip(tags.seeds.tolist(), tags.broken.tolist(), strict=True):
            writer.writerow([seed, "broken" if broken else "fine"])


def _region(path: Path, where: str) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) >= MIDDLE
    except UNREADABLE as error:
        raise GanatomyError(f"{where}: the region {path.name} cannot be read as a picture") from error
