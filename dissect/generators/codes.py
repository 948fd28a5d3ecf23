"""Codes: what a generator is given. Frozen values, made from seeds, from z, or from someone's inversion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import one_line

NOISE_MODES = ("const", "random", "none")
NO_NOISE = -1  # in place of a noise seed: no noise at all
MAX_SEED = 2**32 - 1  # numpy.random.RandomState takes 32 bits


@dataclass(frozen=True, eq=False)
class Codes:
    """N latent codes with everything else that determines their images.

    Attributes:
        z: float32 [N, z_dim], or None where only ``w`` is known.
        w: float32 [N, num_ws, w_dim] for families with an intermediate space, else None.
        classes: int64 [N], or None for unconditional generators.
        noise: int64 [N] noise seeds, -1 where there is to be no noise, or None for the constant noise stored in the
            checkpoint.
        truncation: 1.0 is the untruncated distribution.
        cutoff: how many of the first w's are truncated; None is all.
        seeds: the seeds that z came from, [N], or None for explicit codes.
    """

    z: Tensor | None
    w: Tensor | None = None
    classes: Tensor | None = None
    noise: Tensor | None = None
    truncation: float = 1.0
    cutoff: int | None = None
    seeds: tuple[int, ...] | None = None

    def __len__(self) -> int:
        first = self.z if self.z is not None else self.w
        return 0 if first is None else len(first)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Codes:
        """Return the codes of some samples, in the given order; of one sample, N = 1, for an int."""
        chosen = index if isinstance(index, (int, slice)) else np.asarray(index)
        if isinstance(chosen, np.ndarray) and not chosen.size:
            chosen = chosen.astype(int)
        rows = np.atleast_1d(np.arange(len(self))[chosen]).copy()  # torch takes no negative strides

        def pick(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[torch.from_numpy(rows)]

        seeds = None if self.seeds is None else tuple(self.seeds[i] for i in rows)
        return replace(
            self, z=pick(self.z), w=pick(self.w), classes=pick(self.classes), noise=pick(self.noise), seeds=seeds
        )


@dataclass(frozen=True)
class InTurn:
    """Classes that seeds take in turn: which one a seed has depends on the seed alone, whatever is drawn beside it.

    Attributes:
        classes: [K], in their order. first: a seed that has the first of them; the next has the next.
        known: (seed, class) of seeds that have another class than their turn's.
    """

    classes: tuple[int, ...]
    first: int = 0
    known: tuple[tuple[int, int], ...] = ()

    def of(self, seeds: Iterable[int]) -> tuple[int, ...]:
        """Return the class of each of some seeds."""
        turn, known = self.classes, self._known
        return tuple(known.get(int(s), turn[(int(s) - self.first) % len(turn)]) for s in seeds)

    @cached_property
    def _known(self) -> dict[int, int]:
        return dict(self.known)


def check_seeds(seeds: Sequence[int] | int) -> tuple[int, ...]:
    """Return ``seeds`` as a tuple of plain ints; GanatomyError if there is none or one is out of 0..2^32 - 1."""
    if not isinstance(seeds, (Iterable, int, np.integer)):
        raise GanatomyError(f"expected seeds as integers, got {type(seeds).__name__}")
    values = tuple(seeds) if isinstance(seeds, Iterable) else (seeds,)
    if not values:
        raise GanatomyError("expected at least one seed, got none")
    for seed in values:
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise GanatomyError(f"expected seeds between 0 and {MAX_SEED}, got {seed!r}")
    return tuple(int(seed) for seed in values)


def as_latents(z: Tensor | np.ndarray, z_dim: int, name: str) -> Tensor:
    """Return a float32 copy [N, z_dim] of z [N, z_dim] or [N, z_dim, 1, 1]; ``name`` is for the error."""
    try:
        with np.errstate(over="ignore"):  # infinite values are refused below
            values = torch.from_numpy(
                np.array(z.detach().cpu().float().numpy() if isinstance(z, Tensor) else z, np.float32)
            )
    except (TypeError, ValueError) as error:
        raise GanatomyError(f"{name}: expected z as numbers [N, {z_dim}], got {type(z).__name__}") from error
    if values.ndim == 4 and values.shape[2:] == (1, 1):
        values = values[:, :, 0, 0]
    if values.ndim != 2 or values.shape[1] != z_dim or not len(values):
        raise GanatomyError(f"{name}: expected z [N, {z_dim}], got {list(values.shape)}")
    if not torch.isfinite(values).all():
        raise GanatomyError(f"{name}: z holds NaN or infinite values")
    return values


def as_classes(classes: Sequence[int] | Tensor | int, samples: int, num_classes: int, name: str) -> Tensor:
    """Return int64 [N] of one class or one per sample; ``name`` is for the error."""
    given = np.array(classes.tolist() if isinstance(classes, Tensor) else classes)
    if given.dtype.kind not in "iu" or given.ndim > 1:
        raise GanatomyError(f"{name}: expected classes as integers, got {one_line(ValueError(classes), 60)}")
    values = torch.from_numpy(given.astype(np.int64).reshape(-1))
    if len(values) == 1:
        values = values.expand(samples).clone()
    if len(values) != samples:
        raise GanatomyError(f"{name}: {samples} samples but {len(values)} classes")
    if values.min() < 0 or values.max() >= num_classes:
        raise GanatomyError(f"{name}: classes must be 0..{num_classes - 1}, got {values.tolist()[:5]}")
    return values


def draw(
    seeds: Sequence[int],
    z_dim: int,
    num_classes: int | None,
    draw_class: bool,
    draw_noise: bool,
    bound: float | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Draw z, and after it from the same state a class and a noise seed where asked.

    Seed i gives ``numpy.random.RandomState(i).randn(z_dim)``, the convention of the StyleGAN line of work. With a
    ``bound``, numbers of z beyond it are drawn again from the same state, last of all, until none is.

    Returns:
        z float32 [N, z_dim], classes int64 [N] or None, noise seeds int64 [N] or None.
    """
    z = np.empty((len(seeds), z_dim), np.float32)
    classes = np.zeros(len(seeds), np.int64)
    noise = np.zeros(len(seeds), np.int64)
    for row, seed in enumerate(seeds):
        state = np.random.RandomState(seed)
        z[row] = state.randn(z_dim)
        if num_classes:
            classes[row] = state.randint(num_classes)
        noise[row] = state.randint(2**31)
        while bound is not None and (beyond := np.abs(z[row]) > bound).any():
            z[row, beyond] = state.randn(int(beyond.sum()))
    return (
        torch.from_numpy(z),
        torch.from_numpy(classes) if num_classes and draw_class else None,
        torch.from_numpy(noise) if draw_noise else None,
    )
