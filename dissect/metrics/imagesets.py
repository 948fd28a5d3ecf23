"""Sets of images to measure: a folder or a zip of pictures, or what a generator draws."""

from __future__ import annotations

import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError

from ..edits import FeatureEdit
from ..generators import Generator
from ..pictures import SUFFIXES, list_pictures, load_picture
from ..samples import Sampling

MOST_PIXELS = 2**28  # of a picture in a zip: more is refused before it is unpacked


class ImageSet(ABC):
    """Images in order, in batches. ``name`` is for people, ``skipped`` names what could not be read."""

    name: str
    skipped: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield images float32 [N, 3, H, W] in [-1, 1], at most ``size`` at a time."""


class Drawn(ImageSet):
    """What a generator draws for some seeds, with or without edits."""

    def __init__(
        self,
        generator: Generator,
        seeds: Sequence[int],
        edits: Sequence[FeatureEdit] | FeatureEdit = (),
        sampling: Sampling | None = None,
    ) -> None:
        self.name = f"{generator.name}, {len(seeds)} seeds"
        self._generator, self._seeds, self._edits = generator, list(seeds), edits
        self._sampling = sampling or Sampling()

    def __len__(self) -> int:
        return len(self._seeds)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Generate them."""
        s = self._sampling
        for start in range(0, len(self), size):
            seeds = self._seeds[start : start + size]
            classes = s.classes[start : start + size] if isinstance(s.classes, tuple) else s.classes
            yield self._generator(self._generator.sample(seeds, classes, s.truncation, s.cutoff, s.noise), self._edits)


class Pictures(ImageSet):
    """The pictures of a folder or a zip, cut to the centre square and resized with antialiasing.

    Grey pictures become RGB, transparency is dropped; what cannot be read is left out, and named in ``skipped``.

    Args:
        side: pixels a side at which they are read.
        most: so many at most, the first by name.

    Raises:
        GanatomyError: if there is none that can be read.
    """

    def __init__(self, path: Path, side: int, most: int | None = None) -> None:
        self.name, self._path, self._side = str(path), path, side
        members = _members(path) if zipfile.is_zipfile(path) else [str(p) for p in list_pictures(path)]
        readable: list[str] = []
        wrong: list[str] = []
        for member in members:
            if most is not None and len(readable) == most:
                break
            try:
                self._picture(member)
            except GanatomyError:
                wrong.append(member)
            else:
                readable.append(member)
        if not readable:
            raise GanatomyError(f"{path}: none of {len(members)} pictures can be read")
        self._members, self.skipped = readable, tuple(wrong)

    def __len__(self) -> int:
        return len(self._members)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Read them."""
        for start in range(0, len(self), size):
            yield torch.from_numpy(np.stack([self._picture(m) for m in self._members[start : start + size]]))

    def _picture(self, member: str) -> np.ndarray:
        if not zipfile.is_zipfile(self._path):
            return load_picture(Path(member), self._side)
        try:
            with zipfile.ZipFile(self._path) as archive:
                if archive.getinfo(member).file_size > MOST_PIXELS:
                    raise GanatomyError(f"{self._path}: {member} is too large")
                return load_picture(io.BytesIO(archive.read(member)), self._side)
        except (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, NotImplementedError) as error:
            raise GanatomyError(f"{self._path}: {member} is damaged") from error


def _members(path: Path) -> list[str]:
    """Return the pictures in a zip, also below folders, by name."""
    with zipfile.ZipFile(path) as archive:
        found = sorted(
            info.filename for info in archive.infolist()
            if PurePosixPath(info.filename).suffix.lower() in SUFFIXES and not info.is_dir()
        )  # fmt: skip
    if not found:
        raise GanatomyError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return found
