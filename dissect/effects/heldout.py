"""What sets of units do in images that had no part in choosing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError

from .intervals import FEWEST
from .places import Tick, at_tiles, chances, drawn
from .subject import LIKELY, Subject, parts

Float64 = NDArray[np.float64]
REPEATS = 2000  # bootstrap samples of images
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Effects of sets of units, image by image. S sets, N images.

    Attributes:
        area: int64 [N], pixels of the concept in the images as they are.
        ablated: int64 [S, N], with a set taken away (to zero) everywhere.
        tiles: int64 [N], a place that does not show the concept, drawn by its popularity; -1 if there is none.
        before: float32 [N], the concept's mean probability there; inserted: float32 [S, N], with a set's constants put
            in there. NaN where there is no place.
    """

    area: NDArray[np.int64]
    ablated: NDArray[np.int64]
    tiles: NDArray[np.int64]
    before: NDArray[np.float32]
    inserted: NDArray[np.float32]


def check_shown(subject: Subject, concept: int, seeds: Sequence[int], tick: Tick) -> None:
    """Raise GanatomyError if no image of ``seeds`` shows a concept: then nothing could be said of its units."""
    shown = 0
    for batch, capture in subject.captures(seeds):
        shown += int(_areas(subject, concept, capture.images, batch).sum())
        tick(len(batch))
    if not shown:
        name = subject.segmenter.concepts[concept].name
        raise GanatomyError(f"none of the {len(seeds)} held-out images shows {name!r}; give more of them")


def measure(
    subject: Subject,
    concept: int,
    seeds: Sequence[int],
    sets: Sequence[Sequence[int]],
    constants: NDArray[np.float32],
    popularity: Float64,
    random: int,
    tick: Tick,
) -> HeldOut:
    """Take each set of units away everywhere, and put it in at one place, in the images of seeds."""
    count = len(seeds)
    area, ablated_ = np.zeros(count, np.int64), np.zeros((len(sets), count), np.int64)
    tiles, before = np.full(count, -1, np.int64), np.full(count, np.nan, np.float32)
    inserted_ = np.full((len(sets), count), np.nan, np.float32)
    put, start = torch.from_numpy(constants), 0
    for batch, capture in subject.captures(seeds):
        own = slice(start, start + len(batch))
        start += len(batch)
        area[own] = _areas(subject, concept, capture.images, batch)
        chance = chances(subject, concept, capture.images)
        there = subject.tiles.means((chance > LIKELY).float()).cpu().numpy()
        places = [drawn(popularity, there[row], 1, [random, seed, 2]) for row, seed in enumerate(batch)]
        some = [row for row, place in enumerate(places) if place]
        where = [places[row][0] for row in some]
        at = start - len(batch) + np.array(some, np.int64)
        tiles[at] = where
        before[at] = subject.tiles.means(chance)[some, where].cpu().numpy()
        for index, units in enumerate(sets):
            chosen = list(units)
            gone = subject.features(capture).clone()
            gone[:, chosen] = 0
            ablated_[index, own] = _areas(subject, concept, subject.resume(capture, gone), batch)
            if some:
                rows = subject.rows(capture, some)
                features = with_units(subject.features(rows), chosen, put[chosen], subject.tiles.masks(where))
                seen = at_tiles(subject, concept, subject.resume(rows, features), where)
                inserted_[index, at] = seen.cpu().numpy()
            tick(2 * len(batch))
    return HeldOut(area, ablated_, tiles, before, inserted_)


def with_units(features: Tensor, units: Sequence[int], values: Tensor, masks: Tensor) -> Tensor:
    """Return features [N, U, h, w] with units at exactly their values [k] where the masks [N, 1, h, w] are 1."""
    changed, chosen = features.clone(), list(units)
    changed[:, chosen] = torch.where(masks.to(features) > 0, values.to(features)[:, None, None], features[:, chosen])
    return changed


def shares(of: HeldOut, rows: Sequence[int]) -> tuple[Float64, Float64]:
    """Return numerator and denominator [N] of a change of area, for a bootstrap of images; sets ``rows`` are averaged.

    The change is that of the pooled area, as a share of it: sum of (after - before) over sum of before.
    """
    return of.ablated[list(rows)].mean(0) - of.area, of.area.astype(np.float64)


def gains(of: HeldOut, rows: Sequence[int]) -> tuple[Float64, Float64]:
    """Return the same for the mean gain of probability where units are put in; images without a place count nothing."""
    some = of.tiles >= 0
    gain = np.where(some, of.inserted[list(rows)].mean(0) - of.before, 0.0)
    return gain.astype(np.float64), some.astype(np.float64)


def interval(parts_: Mapping[str, tuple[Float64, Float64]], random: int) -> dict[str, tuple[float, float, float]]:
    """Return each pooled ratio with its percentile bootstrap over images: (value, low, high).

    All are drawn together: the same images for each set, so that differences are of pairs. ``a - b`` for two of them is
    asked for by that name. For fewer than 10 images there is no interval (NaN), as everywhere.
    """
    first = next(iter(parts_.values()))[0]
    draws = np.random.default_rng([random, 3]).integers(0, len(first), (REPEATS, len(first)))
    weights = np.stack([np.bincount(draw, minlength=len(first)) for draw in draws]).astype(np.float64)
    found: dict[str, tuple[Float64, float]] = {}
    for name, (top, bottom) in parts_.items():
        found[name] = (_ratio(weights @ top, weights @ bottom), float(_ratio(top.sum()[None], bottom.sum()[None])[0]))
    for a in parts_:
        for b in parts_:
            if a != b:
                found[f"{a} - {b}"] = (found[a][0] - found[b][0], found[a][1] - found[b][1])
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    result = {}
    for name, (values, value) in found.items():
        defined = values[~np.isnan(values)]
        enough = len(first) >= FEWEST and len(defined)
        low, high = np.percentile(defined, tails) if enough else (np.nan, np.nan)
        result[name] = (value, float(low), float(high))
    return result


def _ratio(top: Float64, bottom: Float64) -> Float64:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def _areas(subject: Subject, concept: int, images: Tensor, seeds: Sequence[int]) -> NDArray[np.int64]:
    plane = subject.segmenter.concepts[concept].plane
    labels = torch.cat([
        subject.segmenter(chunk, list(keys))[:, plane]
        for chunk, keys in zip(images.split(subject.at_once), parts(seeds, subject.at_once), strict=True)
    ])  # fmt: skip
    return (labels == concept).sum((1, 2)).cpu().numpy().astype(np.int64)
