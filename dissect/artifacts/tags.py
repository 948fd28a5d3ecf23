"""What people say of images: a CSV file with a line for each image, ``seed,tag`` and perhaps ``region``.

A tag is ``broken`` or ``fine`` (``artifact``, ``bad``, ``1`` and ``good``, ``ok``, ``0`` mean the same). A region is
the name of a picture beside the file, bright where the image is broken. All of it may be in one zip.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segmodels import GanatomyError

from ..metrics.imagesets import DAMAGED
from ..pictures import UNREADABLE

BROKEN, FINE = {"broken", "artifact", "bad", "1"}, {"fine", "good", "ok", "0"}
MIDDLE = 128  # grey from which on a region is meant
MOST_BYTES = 2**26  # of a file in a zip
MOST_PIXELS = 2**31  # of all regions together: a byte each
LONGEST_NAME = 80  # of an answer that quotes one

Beside = Callable[[str], Path | io.BytesIO]  # a picture by its name in the table


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


def read_tags(path: Path, most: int = MOST_PIXELS) -> Tags:
    """Read a CSV file of tags, or a zip of one and its regions.

    Args:
        most: pixels that its regions may have together: a small file can hold huge empty pictures.

    Raises:
        GanatomyError: naming the line, for a file that cannot be read, a seed that is none or is there with two tags,
            an unknown tag, a region that is no picture, regions of several sizes, or too large ones.
    """
    text, beside = _zipped(path) if zipfile.is_zipfile(path) else _plain(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if not {"seed", "tag"} <= set(reader.fieldnames or ()):
            raise GanatomyError(f"{path}: expected a first line with the columns seed and tag")
        lines = list(reader)
    except csv.Error as error:
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
            regions[seed] = _region(beside(name), f"{path}, line {number}", name, most)
            most -= regions[seed].size
    sizes = {region.shape for region in regions.values()}
    if len(sizes) > 1:
        raise GanatomyError(f"{path}: regions have {len(sizes)} sizes, expected one")
    if not said:
        raise GanatomyError(f"{path} has no tags")
    return Tags(np.array(list(said), np.int64), np.array(list(said.values()), bool), regions)


def write_tags(path: Path, tags: Tags) -> None:
    """Write tags: as a CSV file, regions as pictures in a folder beside it, or all of it as one ``.zip``."""
    files = _files(tags, path.stem)
    if path.suffix.lower() == ".zip":
        path.write_bytes(packed(tags))
        return
    for name, content in files.items():
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(content)
    path.write_text(_table(tags, path.stem), encoding="utf-8", newline="")


def packed(tags: Tags) -> bytes:
    """Return tags with their regions as a zip, which :func:`read_tags` reads."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tags.csv", _table(tags, "tags"))
        for name, content in _files(tags, "tags").items():
            archive.writestr(name, content)
    return out.getvalue()


def _table(tags: Tags, stem: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["seed", "tag", *(["region"] if tags.regions else [])])
    for seed, broken in zip(tags.seeds.tolist(), tags.broken.tolist(), strict=True):
        region = [_name(stem, seed) if seed in tags.regions else ""] if tags.regions else []
        writer.writerow([seed, "broken" if broken else "fine", *region])
    return out.getvalue()


def _files(tags: Tags, stem: str) -> dict[str, bytes]:
    """Return the regions as pictures, by their names beside the table."""
    found = {}
    for seed, region in tags.regions.items():
        out = io.BytesIO()
        Image.fromarray(region.astype(np.uint8) * 255).save(out, "PNG")
        found[_name(stem, seed)] = out.getvalue()
    return found


def _name(stem: str, seed: int) -> str:
    return f"{stem}-regions/{seed}.png"


def _plain(path: Path) -> tuple[str, Beside]:
    def beside(name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise GanatomyError(f"{path}: expected regions beside the file, got {name[:LONGEST_NAME]}")
        return path.parent / name

    try:
        return path.read_text(encoding="utf-8-sig"), beside
    except FileNotFoundError as error:
        raise GanatomyError(f"no such file of tags: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GanatomyError(f"{path} cannot be read as CSV: {error}") from error


def _zipped(path: Path) -> tuple[str, Beside]:
    """Return the one table in a zip, and how pictures beside it are read."""

    def content(name: str) -> bytes:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise GanatomyError(f"{path}: {name[:LONGEST_NAME]} is too large")
            return archive.read(name)

    try:
        with zipfile.ZipFile(path) as archive:
            tables = [name for name in archive.namelist() if PurePosixPath(name).suffix.lower() == ".csv"]
        if len(tables) != 1:
            raise GanatomyError(f"{path}: expected one CSV file of tags in it, found {len(tables)}")
        text = content(tables[0]).decode("utf-8-sig")
    except (*DAMAGED, UnicodeDecodeError) as error:
        raise GanatomyError(f"{path} is damaged: {error}") from error

    def beside(name: str) -> io.BytesIO:
        try:
            return io.BytesIO(content(str(PurePosixPath(tables[0]).parent / name)))
        except DAMAGED as error:
            raise GanatomyError(f"{path}: the region {name[:LONGEST_NAME]} is not in it, or damaged") from error

    return text, beside


def _region(source: Path | io.BytesIO, where: str, name: str, most: int) -> NDArray[np.bool_]:
    try:
        with Image.open(source) as image:
            if image.width * image.height > most:
                raise GanatomyError(f"{where}: the regions are too large together; a side of 256 pixels is enough")
            return np.asarray(image.convert("L")) >= MIDDLE
    except UNREADABLE as error:
        raise GanatomyError(f"{where}: the region {name[:LONGEST_NAME]} cannot be read as a picture") from error
