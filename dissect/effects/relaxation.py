"""Which units cause a concept, as a continuous question: alpha in [0, 1]^U (Bau et al., ICLR 2019, Eq. 6 and 7).

Taking units away by alpha, where the concept is, shall make it less likely *there*; putting in alpha times their
constants, where it could be, shall make it likelier *there*. A penalty on alpha's squares keeps only units that pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError

from ..generators import Capture
from .places import Places, Tick, ablated, at_tiles, inserted
from .subject import Subject, parts

Edited = Callable[[Tensor, Tensor, Tensor], Tensor]  # features, alpha, masks -> features


@dataclass(frozen=True)
class Settings:
    """How alpha is found.

    Attributes:
        epochs: how often every place is used, if there are as many as were asked for.
        places: how many there are to be of each kind; probes: tiles tried in an image for one where it could be.
        batch: places of each kind in a step; rate: Adam's; penalty: times the sum of alpha's squares.
        random: seed of all draws.
        memory: bytes of what passes held that are kept; the rest is made anew when it is its turn.
    """

    epochs: int = 10
    places: int = 48
    probes: int = 5
    batch: int = 4
    rate: float = 0.02
    penalty: float = 0.005
    random: int = 0
    memory: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("epochs", "places", "probes", "batch"):
            if getattr(self, name) < 1:
                raise GanatomyError(f"expected {name} of 1 or more, got {getattr(self, name)}")
        if not (0 < self.rate < np.inf and 0 <= self.penalty < np.inf):
            raise GanatomyError(f"expected a rate > 0 and a penalty >= 0, got {self.rate:g} and {self.penalty:g}")
        if self.random < 0 or self.memory < 0:
            raise GanatomyError(f"expected random and memory >= 0, got {self.random} and {self.memory}")

    @property
    def steps(self) -> int:
        """Number of steps of the optimiser."""
        return self.epochs * -(-self.places // self.batch)


class Chunks:
    """Places in fixed runs of a few, with what their passes held at the layer, as far as memory is given for it."""

    def __init__(self, subject: Subject, places: Places, size: int, memory: int) -> None:
        self._subject, self._room = subject, memory
        self.places = places
        self.index = list(parts(range(len(places)), size))
        self._kept: dict[int, Capture] = {}

    def capture(self, chunk: int) -> Capture:
        """Return what the pass of a chunk's unedited images held."""
        if chunk in self._kept:
            return self._kept[chunk]
        whole = self._subject.capture(self.places.seeds[list(self.index[chunk])].tolist())
        made = self._subject.rows(whole, range(len(self.index[chunk])))
        taken = _bytes(made)
        if taken <= self._room:
            self._room -= taken
            self._kept[chunk] = made
        return made

    def tiles(self, chunk: int) -> list[int]:
        """Return the tiles of a chunk's places."""
        return self.places.tiles[list(self.index[chunk])].tolist()

    def turns(self, count: int, random: np.random.Generator) -> Iterator[list[int]]:
        """Yield ``count`` chunks at a time, for ever: all in a random order, then all in another."""
        order: list[int] = []
        while True:
            while len(order) < count:
                order += random.permutation(len(self.index)).tolist()
            yield order[:count]
            order = order[count:]


def optimise(
    subject: Subject,
    concept: int,
    present: Places,
    free: Places,
    constants: NDArray[np.float32],
    init: NDArray[np.float32],
    settings: Settings,
    tick: Tick,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return alpha float32 [U] and the history float64 [steps, 3].

    The history has, before each step: the mean probability at the places of ``present`` with alpha taken away, that at
    those of ``free`` with alpha put in (NaN if there are none), and the penalty. Their loss is first - second + third.
    """
    alpha = torch.from_numpy(init.copy()).to(subject.generator.device).requires_grad_()
    put = torch.from_numpy(constants).to(alpha)
    adam = torch.optim.Adam([alpha], lr=settings.rate)
    # As many as fit in a pass, so that a step has exactly a batch.
    size = max(n for n in range(1, min(subject.at_once, settings.batch) + 1) if settings.batch % n == 0)
    halves: list[tuple[float, Edited, Chunks]] = [
        (1.0, ablated, Chunks(subject, present, size, settings.memory // 2)),
        (-1.0, lambda f, a, m: inserted(f, a, put, m), Chunks(subject, free, size, settings.memory // 2)),
    ]
    random = np.random.default_rng([settings.random, 1])
    turns = [chunks.turns(settings.batch // size, random) if len(chunks.places) else None
             for _, _, chunks in halves]  # fmt: skip
    history = np.full((settings.steps, 3), np.nan)
    for step in range(settings.steps):
        adam.zero_grad()
        for half, (sign, edited, chunks) in enumerate(halves):
            turn = turns[half]
            if turn is not None:
                history[step, half] = _add_gradients(subject, concept, alpha, sign, edited, chunks, next(turn))
            tick(settings.batch)
        penalty = settings.penalty * alpha.square().sum()
        penalty.backward()
        history[step, 2] = penalty.item()
        adam.step()
        with torch.no_grad():
            alpha.clamp_(0, 1)
    return alpha.detach().cpu().numpy().copy(), history


def _add_gradients(
    subject: Subject, concept: int, alpha: Tensor, sign: float, edited: Edited, chunks: Chunks, turn: Sequence[int]
) -> float:
    """Add the gradient of sign times the mean probability at the chunks' own places to alpha's; return that mean."""
    count, total = sum(len(chunks.index[chunk]) for chunk in turn), 0.0
    for chunk in turn:
        capture, tiles = chunks.capture(chunk), chunks.tiles(chunk)
        features = edited(subject.features(capture), alpha, subject.tiles.masks(tiles))
        seen = at_tiles(subject, concept, subject.resume(capture, features, gradient=True), tiles)
        loss = sign * seen.sum() / count
        loss.backward()
        total += float(seen.detach().sum())
    return total / count


def _bytes(capture: Capture) -> int:
    tensors = dict.fromkeys([*capture.features.values()])
    for _, state in capture.restarts.values():
        codes = (state.codes.z, state.codes.w)
        tensors |= dict.fromkeys(t for t in (state.x, state.skip, *codes) if t is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
