"""Spectral norm: a file holds weights and what they are divided by; a generator holds the quotients.

Miyato et al. (ICLR 2018) divide a weight, as a matrix [outputs, all the rest], by an estimate of its largest singular
value. Networks here hold the quotients, so that a weight is what is multiplied, and a zero in it touches nothing else.
The estimate is taken in float64, so that it is the same float32 number on every machine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from .start import Start

TRIES = 20  # of finding vectors that give exactly 1; where one output is left, about every second pair does
SMALL = 1e-6  # relative: below it the kept vectors say nothing of a changed weight


def normalised(network: nn.Module) -> dict[str, bool]:
    """Return the names of the weights that a network would normalise: of its convolutions and linear maps.

    The value is whether the outputs are the second axis.
    """
    kinds = (nn.Conv2d, nn.Linear, Start)
    return {f"{n}.weight": isinstance(m, Start) for n, m in network.named_modules() if isinstance(m, kinds)}


def as_matrix(weight: Tensor, swapped: bool) -> Tensor:
    """Return a weight as the matrix float64 [outputs, all the rest]."""
    return (weight.flatten(1).T if swapped else weight.flatten(1)).double()


def iterated(matrix: Tensor, start: Tensor, steps: int, eps: float) -> Tensor:
    """Return the estimate after some steps of power iteration from ``start`` [1, outputs]: a float32 number."""
    u = start.double().reshape(1, -1)
    for _ in range(steps):
        v = _unit(u @ matrix, eps)
        u = _unit(v @ matrix.T, eps)
    return (v @ matrix.T @ u.T).reshape(()).float()


def between(matrix: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return u^T W v, the estimate with vectors that were kept: a float32 number."""
    return (u.double() @ (matrix @ v.double())).float()


def divided(weight: Tensor, by: Tensor, key: str) -> Tensor:
    """Return the quotient; GanatomyError, naming the file's ``key``, if there is none."""
    quotient = weight.float() / by
    if not torch.isfinite(quotient).all():
        raise GanatomyError(f"checkpoint: {key} cannot be normalised, its spectral norm comes out as {float(by):g}")
    return quotient


def vectors(matrix: Tensor, u: Tensor, v: Tensor, key: str) -> tuple[Tensor, Tensor]:
    """Return float32 vectors near to ``u`` and ``v`` between which a changed weight has the norm 1 exactly.

    Raises:
        GanatomyError: for a weight of zeros, which has none.
    """
    row = matrix[int(matrix.square().sum(1).argmax())]
    if not row.any():
        raise GanatomyError(f"{key} would be all zeros, which the public code divides by a norm of 0")
    if float(between(matrix, u, v).abs()) <= SMALL * float(u.norm() * v.norm() * row.norm()):
        v = (row / row.norm()).float()
        u = (matrix @ v.double()).float()
    for attempt in range(TRIES):
        v = (v.double() * (1 + attempt / TRIES)).float()
        reached = matrix @ v.double()
        u = (u.double() / (u.double() @ reached)).float()
        # The output that matters least can make up for what rounding took from all the others.
        least = int(torch.where(reached == 0, torch.inf, reached.abs()).argmin())
        u[least] += ((1 - u.double() @ reached) / reached[least]).float()
        if between(matrix, u, v) == 1:
            return u, v
    raise GanatomyError(f"{key}: no vectors give the changed weight a spectral norm of exactly 1")


def _unit(x: Tensor, eps: float) -> Tensor:
    return x / x.norm().clamp_min(eps)
