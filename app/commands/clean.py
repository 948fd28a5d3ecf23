"""``ganatomy clean``: take artifact units away, and prove what that did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import dissect
from dissect import BakeError, Effect, GanatomyError, Generator, Recipe, artifacts
from dissect.artifacts import Curve, Ranking
from dissect.artifacts.unlike import features_of
from dissect.effects import add
from dissect.metrics import Drawn, Looks, Pictures, Score, compare
from dissect.metrics.extractors import Extractor, load
from dissect.metrics.gaussians import Float64
from dissect.samples import Sampling

from ..cleaned import Cleaning, compared, write_page
from ..console import out, progress, remark
from ..experiments import LARGEST_SEED, Setting, parse_units, prepare
from ..folders import replacing
from .artifacts import ClassifierFile, Layer, Reference, Strategy, TagFile, check_drawn, ranked
from .options import Accept, Device, Options, RunFile

MARKER = "ganatomy-clean.json"
PICTURES = 16  # of each protocol
KEPT = ("fid", "frechet", "kernel")
CANDIDATES = 4  # times as many images, of which those that most activate the units are chosen


@dataclass(frozen=True)
class Seeds:
    """Seeds for each step. None is there twice, a sample of the run, or tagged.

    How many units are taken away is chosen on images that the ranking did not see, and proved on images that neither
    saw: the best of several numbers looks better where it was chosen than it is.

    Attributes:
        rank: for a ranking that draws images of its own. choose: for the number of units. prove: for before and after.
        pool: from which those that most activate the units are taken.
    """

    rank: list[int]
    choose: list[int]
    prove: list[int]
    pool: list[int]

    @classmethod
    def apart(cls, after: Sequence[int], tags: Path | None) -> Seeds:
        """Return as many for each step as ``after`` has, from its first on; GanatomyError if there are too few."""
        known = set(artifacts.read_tags(tags).seeds.tolist()) if tags is not None else set()
        if after[0] + (3 + CANDIDATES) * len(after) + len(known) > LARGEST_SEED:
            raise GanatomyError(f"there are too few seeds after the run's for {len(after)} samples; ask for fewer")
        free = (seed for seed in count(after[0]) if seed not in known)
        return cls(*(list(islice(free, times * len(after))) for times in (1, 1, 1, CANDIDATES)))


def clean(
    run_file: RunFile,
    model: Annotated[str | None, typer.Argument(help="The run's generator, where it is not found by its name.")] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="The folder to make [run-clean].")] = None,
    units: Annotated[str | None, typer.Option(help="Which units, 1,2,40; else they are chosen by a ranking.")] = None,
    strategy: Strategy = "",
    layer: Layer = None,
    tags: TagFile = None,
    classifier: ClassifierFile = None,
    reference: Reference = None,
    extractor: Annotated[str | None, typer.Option(help="As in `metrics`.")] = None,
    samples: Annotated[int, typer.Option(help="Images of each protocol, of the seeds after the run's.")] = 200,
    most: Annotated[int, typer.Option(help="Units taken away at most.")] = 30,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Rank units, choose how many to take away on images that the ranking did not see, and report before and after."""
    if samples < 20 or most < 1:
        raise GanatomyError("expected at least 20 samples, and at most one unit or more")
    setting = prepare(run_file, model, None, device, samples, None, option, accept_licence)
    folder = out_folder or run_file.with_name(f"{run_file.stem}-clean")
    with replacing(folder, MARKER) as new:  # whole, or not there
        # What is wrong with the arguments is told before an hour's work, not after it.
        given = _given(setting, layer, units) if units is not None else ()
        features, named = load(extractor, device), str(reference) if reference else "the run's own samples"
        images = _reference(setting, reference)
        seeds = Seeds.apart(setting.seeds, tags if units is None else None)
        ranking = None
        if units is None:
            unseen = replace(setting, seeds=seeds.rank)
            ranking = ranked(unseen, strategy, layer, tags, classifier, reference, extractor, device)
            add(setting.run, ranking)
        name = ranking.layer if ranking else _named(setting, layer)
        if not features.inception:
            remark(f"features are those of {features.name}, not Inception's: no number here is an FID")
        with progress("looking at the reference", unit="images") as update:
            target = features_of(images, features, progress=update)
        curve = _curve(setting, seeds.choose, ranking, target, features, named, most) if ranking else None
        chosen = given
        if curve is not None:
            add(setting.run, curve)  # at once: whatever goes wrong below, this is kept
        if ranking and curve and curve.helps:
            chosen = tuple(ranking.top(curve.best))
        recipe = Recipe([dissect.ablate(name, chosen)], setting.generator) if chosen else None
        made = _proved(setting, seeds, name, chosen, recipe, ranking, curve, target, features, named)
        _write(new, setting, seeds, made, recipe)
    _told(folder, made)


def _named(setting: Setting, layer: str | None) -> str:
    if layer is None and len(setting.run.layers) > 1:
        raise GanatomyError(f"--layer: expected one of the run's, {', '.join(setting.run.layers)}")
    return setting.generator.layer(layer or setting.run.layers[0]).name


def _given(setting: Setting, layer: str | None, units: str) -> tuple[int, ...]:
    """Return the units that are named, each once; GanatomyError unless the layer has them, and as many others."""
    place, found = setting.generator.layer(_named(setting, layer)), tuple(dict.fromkeys(parse_units(units)))
    if max(found) >= place.channels:
        raise GanatomyError(f"layer {place.name!r} has units 0..{place.channels - 1}, got {max(found)}")
    if len(found) > place.channels // 2:
        raise GanatomyError(
            f"expected at most half of the {place.channels} units of {place.name!r}, got {len(found)}: the control is "
            f"as many others"
        )
    return found


def _reference(setting: Setting, path: Path | None) -> Pictures | Drawn:
    if path is not None:
        return Pictures(path, setting.generator.resolution)
    check_drawn(setting.run)
    return Drawn(setting.generator, setting.run.seeds.tolist(), sampling=Sampling(**setting.how))


def _curve(
    setting: Setting, seeds: list[int], ranking: Ranking, target: Float64, features: Extractor, named: str, most: int
) -> Curve:  # fmt: skip
    steps = [step for step in artifacts.cleaning.STEPS if step <= most]
    with progress("taking units away", unit="images") as update:
        return artifacts.curve(
            setting.generator, ranking, seeds, target, features, steps=steps, named=named,
            sampling=Sampling(**setting.how), progress=update,
        )  # fmt: skip


def _proved(
    setting: Setting, seeds: Seeds, layer: str, units: tuple[int, ...], recipe: Recipe | None, ranking: Ranking | None,
    curve: Curve | None, target: Float64, features: Extractor, named: str,
) -> Cleaning:  # fmt: skip
    """Measure before and after by both protocols, with random units, and what concepts did."""
    scores: list[tuple[str, str, list[Score]]] = []
    effect: Effect | None = None
    if recipe is not None:
        generator, sampling = setting.generator, Sampling(**setting.how)
        chosen = _activating(setting, seeds, layer, units, len(seeds.prove))
        others = np.setdiff1d(np.arange(generator.layer(layer).channels), units)
        control = np.random.RandomState(0).choice(others, len(units), replace=False).tolist()
        variants = (("before", ()), ("after", recipe), ("random units", [dissect.ablate(layer, control)]))
        for protocol, some in (("plain", seeds.prove), ("chosen", chosen)):
            for done, edits in variants:
                with progress(f"{protocol}, {done}", unit="images") as update:
                    found = features_of(Drawn(generator, some, edits, sampling), features, progress=update)
                scores.append((protocol, done, compare(Looks(found), Looks(target), features, only=KEPT)))
        with progress("concepts") as update:
            effect = dissect.effect(generator, setting.segmenter, recipe, seeds.prove, progress=update, **setting.how)
    files = {"recipe.safetensors": "the edits"} if recipe is not None else {}
    return Cleaning(setting.generator.name, layer, units, ranking, curve, scores, effect, named, files)


def _activating(setting: Setting, seeds: Seeds, layer: str, units: tuple[int, ...], count: int) -> list[int]:
    """Return, of seeds that nothing else is measured on, those whose images most activate the units."""
    return artifacts.activating(setting.generator, layer, units, seeds.pool, count, Sampling(**setting.how))


def _write(folder: Path, setting: Setting, seeds: Seeds, made: Cleaning, recipe: Recipe | None) -> None:
    pictures = []
    if recipe is not None:
        recipe.save(folder / "recipe.safetensors")
        made = replace(made, files=made.files | _exported(setting.generator, recipe, folder))
        strong = _activating(setting, seeds, made.layer, made.units, PICTURES)
        for name, some in (("A plain sample", seeds.prove[:PICTURES]), ("Images that most activate the units", strong)):
            codes = setting.generator.sample(some, **setting.how)
            pictures.append((name, compared(setting.generator, codes, recipe)))
    write_page(folder, made, pictures)
    marker = {"format": "ganatomy.clean", "version": 1, "run": setting.run.id, "units": list(made.units)}
    (folder / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")


def _exported(generator: Generator, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Write the cleaned checkpoint where the edits are exactly weights, else a bundle; return what it is by name."""
    origin = generator.origin
    if origin is not None:
        name = f"cleaned{origin.path.suffix or ''}"
        try:
            dissect.export(generator, folder / name, recipe)
            return {name: "the cleaned checkpoint, in the flavour that the original came in"}
        except BakeError as error:
            remark(f"{error}; a bundle is written instead")
    dissect.export(generator, folder / "cleaned.bundle", recipe, bundle=True)
    return {"cleaned.bundle": "the edits with the fingerprint of their generator; dissect.load opens it as one"}


def _told(folder: Path, made: Cleaning) -> None:
    if made.curve is not None and not made.curve.helps:
        remark(
            "taking units away does not bring images nearer to the reference beyond the error: nothing was taken away"
        )
    for protocol, done, scores in made.scores:
        told = ", ".join(f"{s.metric} {s.value:.4g}" for s in scores)
        out.print(f"{protocol}, {done}: {told}", markup=False)
    told = (
        f"{len(made.units)} units of {made.layer} taken away" if made.units else f"nothing of {made.layer} taken away"
    )
    out.print(f"{told}: {folder / 'index.html'}", markup=False)
