"""Requests whose goal lies behind a non-linearity: the loss is on what the layer makes of the values.

Both methods change W within the span of the context's directions only, as a sum Lambda times the basis: there the
projection of the original (Bau et al., ECCV 2020), which it does every tenth step, is exact at all times. ``projected``
starts from the closed form and goes by curvature until nothing improves; ``linear`` is the original's plain Adam on
Lambda from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dissect import GanatomyError

from .basis import Basis, stored
from .goal import Goal, Target
from .moments import Float64
from .patches import Patches

Progress = Callable[[int, int], None]
Optimiser = Callable[[Sequence[Goal], Basis, Float64, Progress | None], tuple[Float64, "Trace"]]

ADAM_STEPS, ADAM_RATE = 2001, 0.05  # of the original
CALM = 200  # steps without a better loss, after which Adam has converged
ROUNDINGS = (0.3, 0.1, 0.03, 0.01, 0.003)  # of |e| near 0, in means of |e| at the start: sqrt(e^2 + r^2)
STEPS = 12  # of L-BFGS in a round, and rounds of each rounding at most
ROUNDS = 4
ENOUGH = 1e-3  # a round that improves the loss by a smaller share is the last of its rounding


@dataclass(frozen=True)
class Trace:
    """How an optimisation went.

    Attributes:
        losses: mean |e| at the start and after each round or step; the result has the smallest.
        steps: how often the layer was run.
    """

    losses: tuple[float, ...]
    steps: int


class Problem:
    """The loss of Lambda: how far the observed features are from their targets, mean |e| over what is asked for."""

    def __init__(self, goals: Sequence[Goal], basis: Basis) -> None:
        self.goals = goals
        self.right = torch.from_numpy(basis.factor()).float().to(goals[0].keys.device)
        self.weight = goals[0].convolution.tensor.detach()
        self.targets: list[list[Target]] = [goal.seen_targets(goal.part.features(self.weight)) for goal in goals]
        if not all(self.targets):
            raise GanatomyError("erase asks for the mean of the convolution's values, which closed gives; use closed")
        self.total = sum(float(t.weight.sum()) * t.maps.shape[0] for targets in self.targets for t in targets)
        self.calls = 0

    def changed(self, left: Tensor) -> Tensor:
        """Return W of Lambda [O, R]."""
        change = torch.einsum("or,rixy->oixy", left.float(), self.right)
        return self.weight + stored(change, self.goals[0].convolution)

    def loss(self, left: Tensor, rounding: float = 0.0) -> Tensor:
        """Return the loss; |e| is rounded off near zero by ``rounding``."""
        self.calls += 1
        weight, total = self.changed(left), torch.zeros((), dtype=torch.float64, device=left.device)
        for goal, targets in zip(self.goals, self.targets, strict=True):
            features = goal.part.features(weight, gradient=left.requires_grad)
            for one, target in zip(features, targets, strict=True):
                error = (one - target.maps).double()
                size = (error.square() + rounding**2).sqrt() - rounding if rounding else error.abs()
                total = total + (size * target.weight).sum()
        return total / self.total


def projected(
    goals: Sequence[Goal], basis: Basis, left: Float64, progress: Progress | None = None
) -> tuple[Float64, Trace]:
    """Return Lambda [O, R] of the smallest loss found by L-BFGS from the closed form, and how it went."""
    problem, scale = Problem(goals, basis), _scales(goals, basis)
    device = problem.weight.device
    along = torch.from_numpy(scale).to(device)
    best = torch.from_numpy(left).to(device)
    with torch.no_grad():
        lowest = float(problem.loss(best))
        nothing = float(problem.loss(torch.zeros_like(best)))
    losses = [nothing, lowest]
    if nothing < lowest:
        lowest, best = nothing, torch.zeros_like(best)
    start = max(lowest, 1e-12)
    rounds = 0
    for rounding in ROUNDINGS:
        for _ in range(ROUNDS):
            z = torch.zeros(len(best), len(along), dtype=torch.float64, device=device, requires_grad=True)
            loss = _descend(problem, z, along, best, rounding * start)
            rounds += 1
            if progress is not None:
                progress(rounds, len(ROUNDINGS) * ROUNDS)
            losses.append(loss)
            better = loss < lowest * (1 - ENOUGH)
            if loss < lowest:
                lowest, best = loss, best + z.detach() @ along
            if not better:
                break
    if progress is not None:
        progress(len(ROUNDINGS) * ROUNDS, len(ROUNDINGS) * ROUNDS)
    return best.cpu().numpy(), Trace((*losses, lowest), problem.calls)


def _descend(problem: Problem, z: Tensor, along: Tensor, base: Tensor, rounding: float) -> float:
    """Take some steps of L-BFGS on z, where Lambda = base + z along; return the loss there."""
    descent = torch.optim.LBFGS([z], max_iter=STEPS, history_size=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        with torch.enable_grad():
            loss = problem.loss(base + z @ along, rounding)
            loss.backward()
        return loss.detach()

    descent.step(closure)
    with torch.no_grad():
        return float(problem.loss(base + z @ along))


def _scales(goals: Sequence[Goal], basis: Basis) -> Float64:
    """Return steps [R', R] of Lambda's rows that change typical values alike: L-BFGS then starts well scaled.

    They are the inverse root of the second moment of how strongly each row is meant where something is asked for; rows
    that are never meant there have no step.
    """
    blocks = []
    for index, phase in enumerate(basis.patches.phases):
        seen = []
        for goal in goals:
            weights = torch.stack([Patches.at(t.weight, phase) for t in goal.targets()])
            keys = goal.patches.keys(goal.keys.double(), phase).transpose(0, 1)[:, weights > 0]
            seen.append(basis.seen(index, keys) * weights[weights > 0].double().sqrt())
        x = torch.cat(seen, 1)
        moment = (x @ x.T / max(1, x.shape[1])).cpu().numpy()
        values, vectors = np.linalg.eigh(moment)
        kept = values > 1e-10 * max(float(values.max(initial=0)), 1e-300)
        blocks.append(vectors[:, kept].T / np.sqrt(values[kept])[:, None])
    whole = np.zeros((sum(len(b) for b in blocks), sum(basis.sizes)))
    row = column = 0
    for block in blocks:
        whole[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return whole


def linear(
    goals: Sequence[Goal], basis: Basis, left: Float64, progress: Progress | None = None
) -> tuple[Float64, Trace]:
    """Return Lambda [O, R] that Adam finds from zero, at most 2,001 steps, and how it went; ``left`` is not used."""
    problem = Problem(goals, basis)
    z = torch.zeros(left.shape, dtype=torch.float64, device=problem.weight.device, requires_grad=True)
    adam = torch.optim.Adam([z], lr=ADAM_RATE)
    losses: list[float] = []
    lowest, best, when = float("inf"), z.detach().clone(), 0
    for step in range(ADAM_STEPS):
        adam.zero_grad()
        with torch.enable_grad():
            loss = problem.loss(z)
            loss.backward()
        losses.append(float(loss.detach()))
        if losses[-1] < lowest * (1 - ENOUGH / 10):
            when = step
        if losses[-1] < lowest:
            lowest, best = losses[-1], z.detach().clone()
        if step - when >= CALM:
            break
        adam.step()
        if progress is not None:
            progress(step + 1, ADAM_STEPS)
    if progress is not None:
        progress(ADAM_STEPS, ADAM_STEPS)
    return best.cpu().numpy(), Trace((*losses, lowest), problem.calls)


OPTIMISERS: Mapping[str, Optimiser] = {"projected": projected, "linear": linear}
