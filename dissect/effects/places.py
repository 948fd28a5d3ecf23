"""Where a concept is, where it could be, and what units are where it is (Bau et al., ICLR 2019, section 3.2).

Both are found in images that nothing was done to: every edit here is an argument of one pass, and none can stay on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError

from .subject import LIKELY, Subject, parts
from .tiles import Tiles

EVEN = 0.1  # of the mean popularity is added everywhere, so that no place is never tried
LEAST_GAIN = 0.01  # of probability: a place where insertion does less is no candidate

Tick = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Places:
    """Tiles of images, the best first.

    Attributes:
        seeds: int64 [n] of the images; tiles: int64 [n] in them.
        before: float32 [n], the concept's mean probability there, in the image as it is.
        score: float32 [n], what the places were chosen by.
    """

    seeds: NDArray[np.int64]
    tiles: NDArray[np.int64]
    before: NDArray[np.float32]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def best(cls, rows: Sequence[tuple[int, int, float, float]], most: int) -> Places:
        """Return the ``most`` rows (seed, tile, before, score) of largest score; among equals the first."""
        order = np.argsort(-np.array([row[3] for row in rows], np.float32), kind="stable")[:most]
        columns = list(zip(*(rows[i] for i in order), strict=True)) or [(), (), (), ()]
        return cls(
            np.array(columns[0], np.int64), np.array(columns[1], np.int64),
            np.array(columns[2], np.float32), np.array(columns[3], np.float32),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Survey:
    """What was seen of a concept in the images of some seeds.

    Attributes:
        present: in each image that shows it, the tile that has most of it.
        popularity: float64 [T], its mean share of each tile.
        constants: float32 [U], each unit's mean where it is.
    """

    present: Places
    popularity: NDArray[np.float64]
    constants: NDArray[np.float32]


def survey(subject: Subject, concept: int, seeds: Sequence[int], most: int, tick: Tick) -> Survey:
    """Look for a concept in the images of seeds.

    Raises:
        GanatomyError: if none shows it, or the segmenter has no probabilities.
    """
    rows: list[tuple[int, int, float, float]] = []
    popularity = np.zeros(subject.tiles.count)
    weighted, weight = np.zeros(subject.layer.channels), 0.0
    cells = Tiles(*subject.layer.seen, 1)
    for batch, capture in subject.captures(seeds):
        chance = chances(subject, concept, capture.images)
        there = (chance > LIKELY).float()
        shares = subject.tiles.means(there).double().cpu().numpy()
        before = subject.tiles.means(chance).cpu().numpy()
        popularity += shares.sum(0)
        by_cell = cells.means(there).double()
        seen = subject.layer.cropped(subject.features(capture)).flatten(2)
        weighted += torch.einsum("nt,nut->u", by_cell, seen.double()).cpu().numpy()
        weight += float(by_cell.sum())
        for row, seed in enumerate(batch):
            if shares[row].any():
                tile = int(shares[row].argmax())
                rows.append((seed, tile, float(before[row, tile]), float(shares[row, tile])))
        tick(len(batch))
    if not rows:
        name = subject.segmenter.concepts[concept].name
        raise GanatomyError(f"none of the {len(seeds)} images shows {name!r}; try more seeds or another concept")
    return Survey(Places.best(rows, most), popularity / len(seeds), (weighted / weight).astype(np.float32))


def candidates(
    subject: Subject,
    concept: int,
    found: Survey,
    constants: NDArray[np.float32],
    seeds: Sequence[int],
    probes: int,
    most: int,
    random: int,
    tick: Tick,
) -> Places:
    """Return places where inserting all units' ``constants`` makes the concept appear.

    In each image ``probes`` tiles are tried that do not show it, drawn by its popularity there; the one that gains most
    is the image's. Draws depend on the image's seed alone.
    """
    put = torch.from_numpy(constants)
    rows: list[tuple[int, int, float, float]] = []
    for batch, capture in subject.captures(seeds):
        chance = chances(subject, concept, capture.images)
        before, there = subject.tiles.means(chance), subject.tiles.means((chance > LIKELY).float())
        tried = [
            (row, tile)
            for row, seed in enumerate(batch)
            for tile in drawn(found.popularity, there[row].cpu().numpy(), probes, [random, seed])
        ]
        gains: dict[int, tuple[float, int]] = {}
        for chunk in parts(tried, subject.at_once):
            index, tiles = [row for row, _ in chunk], [tile for _, tile in chunk]
            chosen = subject.rows(capture, index)
            features = inserted(subject.features(chosen), torch.ones_like(put), put, subject.tiles.masks(tiles))
            after = at_tiles(subject, concept, subject.resume(chosen, features), tiles)
            gain = after - before[index, tiles]
            for row, tile, value in zip(index, tiles, gain.tolist(), strict=True):
                gains[row] = max(gains.get(row, (-np.inf, 0)), (value, -tile))  # among equals the first tile
            tick(len(chunk))
        for row, (gain_, tile) in gains.items():
            if gain_ >= LEAST_GAIN:
                rows.append((batch[row], -tile, float(before[row, -tile]), gain_))
    return Places.best(rows, most)


def drawn(popularity: NDArray[np.float64], there: NDArray[np.float32], count: int, random: Sequence[int]) -> list[int]:
    """Return up to ``count`` different tiles [T], drawn by popularity and by how much of a tile is free."""
    weight = (popularity + EVEN * popularity.mean()) * np.clip(1.0 - there, 0, None)
    some = min(count, int((weight > 0).sum()))
    if not some:
        return []
    return np.random.default_rng(list(random)).choice(len(weight), some, False, weight / weight.sum()).tolist()


def chances(subject: Subject, concept: int, images: Tensor) -> Tensor:
    """Return the concept's probability at each pixel of images, [N, h, w]."""
    return subject.segmenter.probabilities(images)[:, concept]


def at_tiles(subject: Subject, concept: int, images: Tensor, tiles: Sequence[int]) -> Tensor:
    """Return the concept's mean probability in each image's own tile, [N], with gradients if the images have them."""
    means = subject.tiles.means(chances(subject, concept, images))
    return means[torch.arange(len(tiles)), torch.as_tensor(list(tiles), dtype=torch.long)]


def ablated(features: Tensor, alpha: Tensor, masks: Tensor) -> Tensor:
    """Return (1 - alpha) f where the masks [N, 1, h, w] are 1 and f elsewhere; alpha [U]."""
    return features * (1 - masks.to(features) * alpha.to(features)[:, None, None])


def inserted(features: Tensor, alpha: Tensor, constants: Tensor, masks: Tensor) -> Tensor:
    """Return alpha k + (1 - alpha) f where the masks [N, 1, h, w] are 1 and f elsewhere; alpha and k [U]."""
    put = constants.to(features)[:, None, None] - features
    return features + masks.to(features) * alpha.to(features)[:, None, None] * put
