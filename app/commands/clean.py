"""``ganatomy clean``: take artifact units away, and prove what that did."""

from __future__ import annotations

import json
from dataclasses import replace
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
from ..experiments import Setting, parse_units, prepare
from ..folders import replacing
from .artifacts import ClassifierFile, Layer, Reference, Strategy, TagFile, ranked
from .options import Accept, Device, Options, RunFile

MARKER = "ganatomy-clean.json"
PICTURES = 16  # of each protocol
KEPT = ("fid", "frechet", "kernel")
CANDIDATES = 4  # times as many images, of which those that most activate the units are chosen


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
        ranking = None
        if units is None:
            ranking = ranked(setting, strategy, layer, tags, classifier, reference, extractor, device)
            add(setting.run, ranking)
        name = ranking.layer if ranking else _named(setting, layer)
        features, named = load(extractor, device), str(reference) if reference else "the run's own samples"
        if not features.inception:
            remark(f"features are those of {features.name}, not Inception's: no number here is an FID")
        with progress("looking at the reference", unit="images") as update:
            target = features_of(_reference(setting, reference), features, progress=update)
        curve = _curve(setting, ranking, target, features, named, most) if ranking else None
        chosen = tuple(parse_units(units)) if units else ()
        if ranking and curve and curve.helps:
            chosen = tuple(ranking.top(curve.best))
        recipe = Recipe([dissect.ablate(name, chosen)], setting.generator) if chosen else None
        made = _proved(setting, name, chosen, recipe, ranking, curve, target, features, named)
        _write(new, setting, made, recipe)
    if curve is not None:
        add(setting.run, curve)
    _told(folder, made)


def _named(setting: Setting, layer: str | None) -> str:
    if layer is None and len(setting.run.layers) > 1:
        raise GanatomyError(f"--layer: expected one of the run's, {', '.join(setting.run.layers)}")
    return setting.generator.layer(layer or setting.run.layers[0]).name


def _reference(setting: Setting, path: Path | None) -> Pictures | Drawn:
    if path is not None:
        return Pictures(path, setting.generator.resolution)
    return Drawn(setting.generator, setting.run.seeds.tolist(), sampling=Sampling(**setting.how))


def _curve(setting: Setting, ranking: Ranking, target: Float64, features: Extractor, named: str, most: int) -> Curve:
    steps = [step for step in artifacts.cleaning.STEPS if step <= most]
    with progress("taking units away", unit="images") as update:
        return artifacts.curve(
            setting.generator, ranking, list(setting.seeds), target, features, steps=steps, named=named,
            sampling=Sampling(**setting.how), progress=update,
        )  # fmt: skip


def _proved(
    setting: Setting, layer: str, units: tuple[int, ...], recipe: Recipe | None, ranking: Ranking | None,
    curve: Curve | None, target: Float64, features: Extractor, named: str,
) -> Cleaning:  # fmt: skip
    """Measure before and after by both protocols, with random units, and what concepts did."""
    scores: list[tuple[str, str, list[Score]]] = []
    effect: Effect | None = None
    if recipe is not None:
        generator, sampling = setting.generator, Sampling(**setting.how)
        chosen = _activating(setting, layer, units, len(setting.seeds))
        others = np.setdiff1d(np.arange(generator.layer(layer).channels), units)
        control = np.random.RandomState(0).choice(others, min(len(units), len(others)), replace=False)
        variants = (("before", ()), ("after", recipe), ("random units", [dissect.ablate(layer, control)]))
        for protocol, seeds in (("plain", list(setting.seeds)), ("chosen", chosen)):
            for done, edits in variants:
                with progress(f"{protocol}, {done}", unit="images") as update:
                    found = features_of(Drawn(generator, seeds, edits, sampling), features, progress=update)
                kept = [
                    s
                    for s in compare(Looks(found), Looks(target), features)
                    if s.metric in ("fid", "frechet", "kernel")
                ]
                scores.append((protocol, done, kept))
        with progress("concepts") as update:
            effect = dissect.effect(
                generator, setting.segmenter, recipe, list(setting.seeds), progress=update, **setting.how
            )
    files = {"recipe.safetensors": "the edits"} if recipe is not None else {}
    return Cleaning(setting.generator.name, layer, units, ranking, curve, scores, effect, named, files)


def _activating(setting: Setting, layer: str, units: tuple[int, ...], count: int) -> list[int]:
    """Return, of the seeds after those that are measured anyway, those whose images most activate the units."""
    first = max(setting.seeds) + 1
    pool = range(first, first + CANDIDATES * len(setting.seeds))
    return artifacts.activating(setting.generator, layer, units, pool, count, Sampling(**setting.how))


def _write(folder: Path, setting: Setting, made: Cleaning, recipe: Recipe | None) -> None:
    pictures = []
    if recipe is not None:
        recipe.save(folder / "recipe.safetensors")
        made = replace(made, files=made.files | _exported(setting.generator, recipe, folder))
        seeds = list(setting.seeds)[:PICTURES]
        pool = range(max(setting.seeds) + 1, max(setting.seeds) + 1 + CANDIDATES * len(setting.seeds))
        strong = artifacts.activating(
            setting.generator, made.layer, made.units, pool, PICTURES, Sampling(**setting.how)
        )
        for name, some in (("A plain sample", seeds), ("Images that most activate the units", strong)):
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
