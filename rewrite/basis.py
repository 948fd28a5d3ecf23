"""The span within which a weight may change: some directions of its input, each with any value for every output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dissect import GanatomyError
from dissect.generators.convolutions import Convolution

from .goal import Goal
from .moments import Float64
from .patches import Patches


@dataclass(frozen=True, eq=False)
class Basis:
    """Rows of the convolution's matrices, a set for each phase; a change is Lambda times them.

    Attributes:
        patches: how the input is cut.
        rows: [r, I * taps] for each phase.
    """

    patches: Patches
    rows: tuple[Float64, ...]

    @classmethod
    def of(cls, goals: Sequence[Goal], rank: int, direction: str) -> Basis:
        """Return the basis of requests: for each, ``rank`` directions of its context.

        A direction of ``channel`` keys is one for every tap, and each tap has values of its own.
        """
        patches, memory = goals[0].patches, goals[0].memory
        rows = spans(goals, rank, direction)
        if memory.kind == "channel":
            rows = [at_each_tap(rows[0], len(phase.taps)) for phase in patches.phases]
        return cls(patches, tuple(rows))

    @property
    def sizes(self) -> list[int]:
        """How many rows each phase has."""
        return [len(rows) for rows in self.rows]

    def seen(self, phase: int, keys: Tensor) -> Tensor:
        """Return how strongly each row is meant by keys [n, m] of a phase: [r, m]."""
        return torch.from_numpy(self.rows[phase]).to(keys) @ keys

    def factor(self) -> Float64:
        """Return all rows at their places in the kernel, [R, I, kh, kw]."""
        placed = [
            self.patches.placed(torch.from_numpy(rows), phase)
            for rows, phase in zip(self.rows, self.patches.phases, strict=True)
        ]
        return torch.cat(placed).numpy()


def spans(goals: Sequence[Goal], rank: int, direction: str) -> list[Float64]:
    """Return the directions of the contexts of requests, rows [r, n] for each phase (``channel``: one for all).

    Raises:
        GanatomyError: if the contexts cover no pixel at this layer, or all of their keys are zero.
    """
    memory = goals[0].memory
    if not any(counting.any() for goal in goals for counting in goal.counting):
        raise GanatomyError("the context covers no pixel at this layer")

    def of_phase(index: int) -> Float64:
        some = [(goal.context[index], goal.counting[index]) for goal in goals]
        found = [memory.directions(*one, rank, direction, index) for one in some if one[0].shape[1]]
        return np.concatenate([np.zeros((0, memory.moments.sizes[index])), *found])

    return [of_phase(index) for index in range(len(memory.moments.count))]


def at_each_tap(directions: Float64, taps: int) -> Float64:
    """Return directions [r, I] of channels as rows [r * taps, I * taps] of patches, one for every tap."""
    rank, inputs = directions.shape
    rows = np.zeros((rank, taps, inputs, taps))
    for tap in range(taps):
        rows[:, tap, :, tap] = directions
    return rows.reshape(rank * taps, inputs * taps)


def projected(change: Float64, basis: Float64) -> Float64:
    """Return the part of a change [O, n] whose rows lie in the span of a basis [r, n]; doing it twice is the same."""
    orthogonal, _ = np.linalg.qr(basis.T)
    return (change @ orthogonal) @ orthogonal.T


def stored(change: Tensor, convolution: Convolution) -> Tensor:
    """Return a change [O, I, kh, kw] in the layout of the convolution's tensor."""
    return change.transpose(0, 1) if convolution.reading.swapped else change
