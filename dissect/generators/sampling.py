"""From seeds and latents to codes: what every generator can be given."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.errors import unknown_name

from .codes import NO_NOISE, NOISE_MODES, Codes, InTurn, as_classes, as_latents, check_seeds, draw


class Sampler(ABC):
    """The half of a generator that makes codes."""

    name: str
    family: str
    z_dim: int
    num_classes: int | None
    truncates = False  # whether truncation other than 1.0 means anything
    has_noise = False  # whether noise other than "const" means anything
    redrawn_above: float | None = None  # the bound of a normal latent that truncation other than 1.0 draws

    def sample(
        self,
        seeds: Sequence[int] | int,
        classes: Sequence[int] | int | InTurn | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str = "const",
    ) -> Codes:
        """Return the codes of some seeds: seed i is ``numpy.random.RandomState(i).randn(z_dim)``.

        Args:
            seeds: integers in 0..2^32 - 1.
            classes: one class, one per seed, or classes that seeds take in turn; drawn from the seed's state when the
                model has classes and none are given.
            truncation, cutoff: refused (other than 1.0 and None) by families without truncation.
            noise: ``"const"`` uses the stored noise, ``"random"`` a noise seed drawn from the seed's state,
                ``"none"`` no noise.
        """
        chosen = check_seeds(seeds)
        classes = classes.of(chosen) if isinstance(classes, InTurn) else classes
        self._check_noise(noise)
        bound = self.redrawn_above if truncation != 1.0 else None
        z, drawn, noise_seeds = draw(chosen, self.z_dim, self.num_classes, classes is None, noise == "random", bound)
        given = self._classes(classes, len(chosen)) if classes is not None else drawn
        codes = self.map(z, given, truncation, cutoff, "none" if noise == "none" else "const")
        return replace(codes, noise=codes.noise if noise_seeds is None else noise_seeds, seeds=chosen)

    def map(
        self,
        z: Tensor | np.ndarray,
        classes: Sequence[int] | Tensor | int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | Sequence[int] = "const",
    ) -> Codes:
        """Return codes from explicit latents ``z`` [N, z_dim] (float; finite).

        Args:
            noise: ``"const"``, ``"none"``, or one noise seed per latent.
        """
        values = as_latents(z, self.z_dim, self.name)
        if (truncation != 1.0 or cutoff is not None) and not self.truncates:
            raise GanatomyError(f"{self.name} ({self.family}) has no truncation; use truncation=1.0")
        given, seeds = self._classes(classes, len(values)), self._noise_seeds(noise, len(values))
        return Codes(values, classes=given, noise=seeds, truncation=truncation, cutoff=cutoff)

    def codes(self, w: Tensor | np.ndarray | str | Path, noise: str | Sequence[int] = "const") -> Codes:
        """Return codes from intermediate latents; GanatomyError for families that have none."""
        raise GanatomyError(f"{self.name} ({self.family}) has no intermediate latent space; use map(z)")

    def _check_noise(self, noise: str) -> None:
        if noise not in NOISE_MODES:
            raise unknown_name("noise mode", noise, NOISE_MODES)
        if noise != "const" and not self.has_noise:
            raise GanatomyError(f"{self.name} ({self.family}) has no noise inputs; use noise='const'")

    def _noise_seeds(self, noise: str | Sequence[int], samples: int) -> Tensor | None:
        """Return int64 [N] of what ``map`` and ``codes`` were given, or None for constant noise."""
        if isinstance(noise, str):
            self._check_noise(noise)
            if noise == "random":
                raise GanatomyError(f"{self.name}: explicit latents have no seeds; give one noise seed for each")
            return torch.full((samples,), NO_NOISE) if noise == "none" else None
        self._check_noise("random")
        seeds = check_seeds(noise)
        if len(seeds) != samples:
            raise GanatomyError(f"{self.name}: {samples} latents but {len(seeds)} noise seeds")
        return torch.tensor(seeds)

    def _classes(self, classes: Sequence[int] | Tensor | int | None, samples: int) -> Tensor | None:
        if classes is None:
            if self.num_classes:
                raise GanatomyError(f"{self.name} has {self.num_classes} classes; say which with classes=")
            return None
        if not self.num_classes:
            raise GanatomyError(f"{self.name} has no classes, got classes={classes!r}")
        return as_classes(classes, samples, self.num_classes, self.name)
