"""The ordered samples of a job: seeds, explicit latents, or a folder of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError

from .generators import Codes, Generator, PictureModel
from .generators.codes import NO_NOISE, InTurn, as_classes, check_seeds, draw
from .pictures import list_pictures, load_picture

DRAWN_AT_ONCE = 1024  # seeds whose classes and noise are drawn together: z comes with them, and need not all be kept


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn from seeds: the arguments of ``Generator.sample`` beside the seeds."""

    classes: int | tuple[int, ...] | InTurn | None = None
    truncation: float = 1.0
    cutoff: int | None = None
    noise: str = "const"

    def __post_init__(self) -> None:
        """Make plain numbers of NumPy's and torch's: they go into files' headers."""
        for name in ("classes", "truncation", "cutoff"):
            given = getattr(self, name)
            value = given.tolist() if isinstance(given, (np.generic, np.ndarray, Tensor)) else given
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)


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
        self._classes: Tensor | None = None  # given ones, [N]
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
            given = self._sampling.classes
            if isinstance(given, InTurn):
                given = given.of(self.seeds.tolist())
                self._sampling = replace(self._sampling, classes=given)
            if given is not None and generator.num_classes:
                self._classes = as_classes(given, len(self.seeds), generator.num_classes, generator.name)
        self.keys: list[int] | list[str] = [p.name for p in self._files] or [int(s) for s in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def codes(self, start: int, stop: int, generator: Generator | None = None) -> Codes:
        """Return the codes of samples start..stop-1, mapped by ``generator``, a replica of the samples' own."""
        if self._files:
            size = self._generator.resolution
            pictures = np.stack([load_picture(p, size) for p in self._files[start:stop]])
            return Codes(torch.from_numpy(pictures).flatten(1))
        if self._codes is not None:
            return self._codes[start:stop]
        s = self._sampling
        classes = s.classes if self._classes is None else self._classes[start:stop].tolist()
        seeds = [int(seed) for seed in self.seeds[start:stop]]
        return (generator or self._generator).sample(seeds, classes, s.truncation, s.cutoff, s.noise)

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
            described |= {"truncation": float(s.truncation), "cutoff": s.cutoff}
        if self._codes is None and not self._files:
            described |= {"classes": self._sampling.classes, "noise": self._sampling.noise}
        return described

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the datasets of ``/samples`` that are known beforehand."""
        arrays: dict[str, np.ndarray] = {"seed": self.seeds.astype(np.int64)}
        if self._files:
            return arrays | {"file": np.array([p.name for p in self._files], object)}
        if self._codes is None:
            z = w = None  # these follow from the seeds
            classes, noise = self._drawn
        else:
            z, w, classes, noise = self._codes.z, self._codes.w, self._codes.classes, self._codes.noise
        for name, value in (("z", z), ("w", w), ("class", classes), ("noise_seed", noise)):
            if value is not None:
                arrays[name] = value.numpy()
        return arrays

    @cached_property
    def _drawn(self) -> tuple[Tensor | None, Tensor | None]:
        """Classes and noise seeds [N] as :meth:`codes` draws them from the seeds, without mapping any z."""
        generator, mode = self._generator, self._sampling.noise
        classes = self._classes
        noise = torch.full((len(self),), NO_NOISE) if mode == "none" else None
        draw_class, draw_noise = bool(generator.num_classes) and classes is None, mode == "random"
        if draw_class or draw_noise:
            seeds = self.seeds.tolist()
            parts = [
                draw(seeds[i : i + DRAWN_AT_ONCE], generator.z_dim, generator.num_classes, draw_class, draw_noise)[1:]
                for i in range(0, len(seeds), DRAWN_AT_ONCE)
            ]
            drawn_classes, drawn_noise = ([v for v in column if v is not None] for column in zip(*parts, strict=True))
            classes = torch.cat(drawn_classes) if draw_class else classes
            noise = torch.cat(drawn_noise) if draw_noise else noise
        return classes, noise


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
