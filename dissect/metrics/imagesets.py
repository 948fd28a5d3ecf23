"""Sets of images to measure: a folder or a zip of pictures, or what a generator draws."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError

from ..edits import Edit
from ..generators import Generator
from ..pictures import SUFFIXES, list_pictures, load_picture
from ..samples import Sampling

MOST_BYTES = 2**28  # of a picture in a zip: more is refused before it is unpacked
DAMAGED = (
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    zlib.error,
    lzma.LZMAError,
)


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
        edits: Sequence[Edit] | Edit = (),
        sampling: Sampling | None = None,
    ) -> None:
        self.name = f"{generator.name}, {len(seeds)} seeds"
        self._generator, self._seeds, self._edits = generator, list(seeds), edits
        self._sampling = sampling or Sampling()

    def __len__(self) -> int:
        return len(self._seeds)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Generate them, float32 [n, 3, S, S] in [-1, 1]."""
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
        if not path.exists():
            raise GanatomyError(f"expected a folder or a zip of pictures, got {path}: there is nothing of that name")
        self._zipped = zipfile.is_zipfile(path)
        members = _members(path) if self._zipped else [str(p) for p in list_pictures(path)]
        readable: list[str] = []
        wrong: list[str] = []
        with self._archive() as archive:
            for member in members:
                if most is not None and len(readable) == most:
                    break
                try:
                    self._picture(member, archive)
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
        """Read them, float32 [n, 3, S, S] in [-1, 1]."""
        with self._archive() as archive:
            for start in range(0, len(self), size):
                pictures = [self._picture(m, archive) for m in self._members[start : start + size]]
                yield torch.from_numpy(np.stack(pictures))

    def _archive(self) -> AbstractContextManager[zipfile.ZipFile | None]:
        """Open the zip once for all pictures: its list of contents is read anew each time it is opened."""
        return _opened(self._path) if self._zipped else nullcontext()

    def _picture(self, member: str, archive: zipfile.ZipFile | None) -> np.ndarray:
        if archive is None:
            return load_picture(Path(member), self._side)
        try:
            if archive.getinfo(member).file_size > MOST_BYTES:
                raise GanatomyError(f"{self._path}: {member} is too large")
            data = archive.read(member)
        except DAMAGED as error:
            raise GanatomyError(f"{self._path}: {member} is damaged") from error
        return load_picture(io.BytesIO(data), self._side)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise GanatomyError(f"{path} is a damaged zip: {error}") from error


def _members(path: Path) -> list[str]:
    """Return the pictures in a zip, also below folders, by name."""
    with _opened(path) as archive:
        found = sorted(
            info.filename for info in archive.infolist()
            if PurePosixPath(info.filename).suffix.lower() in SUFFIXES and not info.is_dir()
        )  # fmt: skip
    if not found:
        raise GanatomyError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return found
