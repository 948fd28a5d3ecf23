"""The ordered samples of a job: seeds, explicit latents, or a folder of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError

from .generators import Codes, Generator, PictureModel
from .generators.codes import check_seeds
from .pictures import list_pictures, load_picture


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn from seeds: the arguments of ``Generator.sample`` beside the seeds."""

    classes: int | tuple[int, ...] | None = None
    truncation: float = 1.0
    cutoff: int | None = None
    noise: str = "const"


class Samples:
    """N samples in order. ``seeds`` [N] names them; explicit codes and pictures are named by their index.

    Attributes:
        keys: what segmenters look labels up by: seeds, or file names of pictures.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        seeds: Sequence[int] | None = None,
        codes: Codes | None = None,
        images: Path | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._generator = generator
        self._sampling = sampling or Sampling()
        self._codes = codes
        self._files: list[Path] = []
        if isinstance(generator, PictureModel) != (images is not None):
            wanted = "images=FOLDER" if isinstance(generator, PictureModel) else "seeds or codes, not images="
            raise GanatomyError(f"{generator.name} ({generator.family}) is dissected with {wanted}")
        if images is not None:
            self._files = list_pictures(images)
            self.seeds = np.arange(len(self._files))
        elif codes is not None:
            self.seeds = np.arange(len(codes))
        else:
            self.seeds = np.array(check_seeds(seeds if seeds is not None else ()), np.int64)
            if len(np.unique(self.seeds)) != len(self.seeds):
                raise GanatomyError("seeds repeat; a dissection counts every sample once")
        self.keys: list[int] | list[str] = [p.name for p in self._files] or [int(s) for s in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def codes(self, start: int, stop: int) -> Codes:
        """Return the codes of samples start..stop-1."""
        if self._files:
            size = self._generator.resolution
            pictures = np.stack([load_picture(p, size) for p in self._files[start:stop]])
            return Codes(torch.from_numpy(pictures).flatten(1))
        if self._codes is not None:
            return self._codes[start:stop]
        s = self._sampling
        classes = list(s.classes[start:stop]) if isinstance(s.classes, tuple) else s.classes
        seeds = [int(seed) for seed in self.seeds[start:stop]]
        return self._generator.sample(seeds, classes, s.truncation, s.cutoff, s.noise)

    def manifest(self) -> dict[str, Any]:
        """Return what identifies the samples."""
        first, count = int(self.seeds[0]), len(self)
        consecutive = bool((np.diff(self.seeds) == 1).all())
        described: dict[str, Any] = {"count": count}
        if self._files:
            described["pictures_sha256"] = _hash_files(self._files)
        elif self._codes is not None:
            described["codes_sha256"] = _hash_codes(self._codes)
        elif consecutive:
            described["seeds"] = [first, first + count]
        else:
            described["seeds_sha256"] = hashlib.sha256(self.seeds.tobytes()).hexdigest()
        s = self._codes or self._sampling
        if not self._files:
            described |= {"truncation": s.truncation, "cutoff": s.cutoff}
        if self._codes is None and not self._files:
            described |= {"classes": self._sampling.classes, "noise": self._sampling.noise}
        return described

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the datasets of ``/samples`` that are known beforehand."""
        arrays: dict[str, np.ndarray] = {"seed": self.seeds.astype(np.int64)}
        if self._files:
            return arrays | {"file": np.array([p.name for p in self._files], object)}
        codes = self._codes
        if codes is None:
            if not self._generator.num_classes and self._sampling.noise == "const":
                return arrays
            codes = self.codes(0, len(self))
            codes = replace(codes, z=None, w=None)  # these follow from the seeds
        for name, value in (("z", codes.z), ("w", codes.w), ("class", codes.classes), ("noise_seed", codes.noise)):
            if value is not None:
                arrays[name] = value.numpy()
        return arrays


def _hash_codes(codes: Codes) -> str:
    digest = hashlib.sha256()
    for name in ("z", "w", "classes", "noise"):
        value: Tensor | None = getattr(codes, name)
        if value is not None:
            digest.update(f"{name}{list(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()


def _hash_files(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
