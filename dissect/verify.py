"""Whether a dissection file is sound: checksums, shapes, and sums that must agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segmodels import GanatomyError

from .agreement import tally
from .examples import BANDS, EACH, NAMES
from .levels import coarse_indices
from .manifest import run_id
from .results import LayerResult, Run
from .statistics import half


def verify(path: str | Path) -> list[str]:
    """Return what is wrong with a finished dissection, one line each; an empty list means that it is sound.

    Every dataset is read, so that its checksums are tested. Then: the manifest matches the run's id; levels
    ascend; counts are not negative; each half, the chance counts and the jackknife blocks account for the same
    pixels; a concept's pixels agree between counts and areas; every top sample and every example has its thumbnail;
    examples lie in their bands, in order, and their maps have their maxima.

    Raises:
        GanatomyError: if the file cannot be opened at all.
    """
    run = Run(path)
    problems: list[str] = []
    for name in run.reader.names:
        try:
            array = run.reader.read(name)
        except GanatomyError as error:
            problems.append(str(error))
            continue
        if array.dtype.kind == "f" and not name.endswith("concept_mean") and np.isnan(array).any():
            problems.append(f"{name} holds NaN")
    if problems:
        return problems
    if run_id(run.manifest) != run.id:
        problems.append("the manifest was changed: it does not give the run's id")
    if run.concept_area.shape != (run.samples, len(run.concepts)):
        problems.append(
            f"samples/concept_area is {run.concept_area.shape}, expected {(run.samples, len(run.concepts))}"
        )
        return problems
    seeds = {seed for seed, _ in run.thumbnails()}
    for name in run.layers:
        problems += [f"{name}: {line}" for line in _layer(run, run.layer(name), seeds)]
    return problems


def _layer(run: Run, layer: LayerResult, thumbnails: set[int]) -> list[str]:
    problems = []
    counts, chance = layer.counts, layer.chance_counts
    units, bins, concepts = layer.units_count, layer.levels.shape[1] + 1, len(run.concepts)
    if counts.shape != (2, units, bins, concepts) or chance.shape != counts.shape:
        return [f"counts are {counts.shape}, expected {(2, units, bins, concepts)}"]
    if (np.diff(layer.levels, axis=1) < 0).any():
        problems.append("levels do not ascend")
    if counts.min() < 0 or chance.min() < 0:
        problems.append("counts are negative")
    total = tally(counts.sum(0), run.first_plane)
    if (total.pixels != run.samples * run.pixels_per_image).any():
        problems.append("counts do not sum to all pixels")
    if (total.area != run.concept_area.sum(0)).any():
        problems.append("counts and concept areas disagree")
    if (tally(chance.sum(0), run.first_plane).on != total.on).any():
        problems.append("chance counts and counts disagree on how often units are on")
    bin_of = np.searchsorted(coarse_indices(bins - 1), np.arange(bins), side="left")
    for kind, fine in (("block_counts", counts), ("chance_block_counts", chance)):
        blocks = run.reader.read(f"layers/{layer.name}/{kind}")
        halves = np.stack([blocks[half::2].sum(0) for half in (0, 1)])
        coarse = np.zeros_like(halves)
        for b in range(bins):
            coarse[:, :, bin_of[b]] += fine[:, :, b]
        if (halves != coarse).any():
            problems.append(f"{kind} and counts disagree")
    top = run.reader.read(f"layers/{layer.name}/top/seed")
    if not set(top[top >= 0].tolist()) <= thumbnails:
        problems.append("a top sample has no thumbnail")
    return problems + _examples(run, layer, thumbnails)


def _examples(run: Run, layer: LayerResult, thumbnails: set[int]) -> list[str]:
    examples = run.reader.select(f"layers/{layer.name}/examples")
    if not examples and "examples" not in run.manifest:
        return []  # an older file
    if set(examples) != set(NAMES):
        return [f"examples has {sorted(examples)}, expected {sorted(NAMES)}"]
    seed, value, quantile = (examples[name] for name in ("seed", "value", "quantile"))
    if seed.shape != (layer.units_count, BANDS, EACH):
        return [f"examples are {seed.shape}, expected {(layer.units_count, BANDS, EACH)}"]
    problems, there = [], seed >= 0
    if not set(seed[there].tolist()) <= thumbnails & set(run.seeds.tolist()):
        problems.append("an example is none of the samples or has no thumbnail")
    if (np.floor(quantile * BANDS) != np.arange(BANDS)[:, None])[there].any():
        problems.append("an example is not in its band")
    for row in (quantile, value):
        ascending = [(np.diff(one[mask]) >= 0).all() for one, mask in zip(row, there, strict=True)]
        if not all(ascending):
            problems.append("examples are not in order")
            break
    feature, (y, x) = examples["feature"], np.moveaxis(examples["yx"], -1, 0)
    whole = feature.shape[3:] == (layer.height, layer.width)  # else the maximum may have been averaged away
    if whole and (there & (feature[(*np.indices(seed.shape), y, x)] != half(value))).any():
        problems.append("the map of an example does not have its maximum")
    return problems
