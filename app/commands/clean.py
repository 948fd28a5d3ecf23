"""``ganatomy clean``: take artifact units away, and prove what that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import dissect
from dissect import GanatomyError, Recipe, artifacts
from dissect.artifacts import Curve, Ranking
from dissect.artifacts.correct import SCALE, SHARE
from dissect.artifacts.unlike import features_of
from dissect.metrics import Drawn, Pictures
from dissect.metrics.extractors import Extractor, load
from dissect.metrics.gaussians import Float64
from dissect.samples import Sampling

from ..cleaned import Cleaning
from ..cleaned_folder import MARKER, write_folder
from ..console import out, progress, remark
from ..experiments import Ground, parse_units
from ..folders import replacing
from ..proof import Proof, Seeds, proved, seen_by, units_of
from ..subjects import is_run, keep, layer_of, layers_of, opened, own_seeds, plain_name, with_pass
from .artifacts import (
    OWN,
    ClassifierFile,
    Layer,
    PassSamples,
    Reference,
    SegmenterName,
    Source,
    Strategy,
    TagFile,
    Whose,
    check_drawn,
    ranked,
    strategy_of,
)
from .options import Accept, Device, Options

PLAIN, SEQUENTIAL = "plain", "sequential"
UNBOUNDED = ("unlike", "fid")  # strategies whose scores are distances
OWN_SAMPLES = (
    "no --reference: distances are from the generator's own samples. Units shape these too, so taking some away can "
    "hardly ever be found to help; give real images with --reference, or name --units"
)


@dataclass(frozen=True)
class Correction:
    """How suspect units are corrected: set to zero, or several layers multiplied by ``scale * (1 - score)``."""

    kind: str
    scale: float
    share: float
    stop: str | None

    @classmethod
    def of(
        cls, kind: str, scale: float | None, share: float | None, stop: str | None, units: str | None, strategy: str
    ) -> Correction:
        """Return what the options mean; GanatomyError for what does not go together."""
        if kind not in (PLAIN, SEQUENTIAL):
            raise GanatomyError(f"--correction: expected {PLAIN} or {SEQUENTIAL}, got {kind!r}")
        if kind == PLAIN and not (scale is None and share is None and stop is None):
            raise GanatomyError("--scale, --share and --stop go with --correction sequential")
        if kind == SEQUENTIAL and units is not None:
            raise GanatomyError("--correction sequential chooses its units by their scores; leave --units out")
        if kind == SEQUENTIAL and strategy in UNBOUNDED:
            raise GanatomyError(f"--correction sequential needs scores in 0..1, and {strategy} gives distances")
        made = cls(kind, SCALE if scale is None else scale, SHARE if share is None else share, stop)
        if not (0 <= made.scale <= 1 and 0 < made.share <= 0.5):
            raise GanatomyError(
                f"expected --scale in 0..1 and --share in 0..0.5 (the control is as many others), got {made.scale:g} "
                f"and {made.share:g}"
            )
        return made


def clean(
    source: Source,
    model: Whose = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="The folder to make [NAME-clean].")] = None,
    units: Annotated[str | None, typer.Option(help="Which units, 1,2,40; else they are chosen by a ranking.")] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Choose units by a ranking: what is done without --units.")
    ] = False,
    strategy: Strategy = "",
    correction: Annotated[
        str, typer.Option(help="plain: the worst units of a layer to zero; sequential: several layers, softly.")
    ] = PLAIN,
    scale: Annotated[float | None, typer.Option(help=f"Of sequential: s in s * (1 - score) [{SCALE}].")] = None,
    share: Annotated[float | None, typer.Option(help=f"Of sequential: share of a layer's units [{SHARE}].")] = None,
    stop: Annotated[str | None, typer.Option(help="Of sequential: the last layer corrected [the last].")] = None,
    layer: Layer = None,
    tags: TagFile = None,
    classifier: ClassifierFile = None,
    reference: Reference = None,
    extractor: Annotated[str | None, typer.Option(help="As in `metrics`.")] = None,
    samples: Annotated[int, typer.Option(help="Images of each protocol, of the seeds after the run's.")] = 200,
    most: Annotated[int, typer.Option(help="Units taken away at most.")] = 30,
    segmenter: SegmenterName = None,
    pass_samples: PassSamples = OWN,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Take units away, named or chosen on images that their ranking did not see, and report before and after."""
    if samples < 20 or most < 1:
        raise GanatomyError("expected at least 20 samples, and at most one unit or more")
    if auto and units is not None:
        raise GanatomyError("--auto chooses the units and --units names them; give one of the two")
    asked = strategy_of(strategy, tags, classifier, reference) if units is None else ""
    how = Correction.of(correction, scale, share, stop, units, asked)
    folder = out_folder or (Path(source).parent if is_run(source) else Path()) / f"{plain_name(source)}-clean"
    if (folder / MARKER).is_file():
        remark(f"{folder} holds an earlier cleaning, which this one will replace; --out names another folder")
    with replacing(folder, MARKER) as new:  # whole, or not there
        # What is wrong with the arguments is told before an hour's work, not after it.
        ground = opened(source, model, segmenter, device, samples, pass_samples, option, accept_licence)
        names = _layers(ground, layer, how, guess=units is None)
        given = (
            artifacts.given(ground.generator, names[0], _given(ground, names[0], units)) if units is not None else None
        )
        features, named = load(extractor, device), str(reference) if reference else "the generator's own samples"
        images = _reference(ground, reference)
        seeds = Seeds.after(ground.seeds, seen_by(tags, classifier) if units is None else set())
        if reference is None and units is None:
            remark(OWN_SAMPLES)
        if not features.inception:
            remark(f"features are those of {features.name}, not Inception's: no number here is an FID")
        rankings: list[Ranking] = []
        if units is None:
            ground = with_pass(ground, asked, names, folder.parent)
            unseen = ground.at(seeds.rank)
            rankings = ranked(unseen, asked, names, tags, classifier, reference, extractor, device)
            keep(ground, *rankings)
        with progress("looking at the reference", unit="images") as update:
            target = features_of(images, features, progress=update)
        curve, recipe = None, None
        if how.kind == SEQUENTIAL:
            recipe = artifacts.sequential(ground.generator, rankings, how.scale, how.share, how.stop)
        else:
            ranking = given if given is not None else rankings[0]
            steps = _steps(most) if given is None else [len(given.top(len(given.score)))]
            curve = _curve(ground, seeds.choose, ranking, target, features, named, steps)
            keep(ground, curve)  # at once: whatever goes wrong below, this is kept
            chosen = ranking.top(curve.best if curve.helps else 0) if given is None else ranking.top(steps[0])
            recipe = Recipe([dissect.ablate(names[0], chosen)], ground.generator) if chosen else None
        proof = proved(ground, seeds, recipe, target, features) if recipe is not None else None
        made = _made(ground, names, how, rankings, curve, recipe, proof, named, len(target))
        if reason := write_folder(new, ground, seeds, made, recipe, proof):
            remark(f"{reason}; a bundle is written instead")
    _told(folder, made)


def _layers(ground: Ground, asked: str | None, how: Correction, *, guess: bool) -> list[str]:
    """Return the layer that is cleaned; for the sequential correction all in their order, up to where it stops."""
    if how.kind == PLAIN:
        return [layer_of(ground, asked, guess=guess)]
    known = layers_of(ground) if asked is None else [layer_of(ground, asked, guess=False)]
    order = [layer.name for layer in ground.generator.layers]
    last = order.index(ground.generator.layer(how.stop).name) if how.stop is not None else len(order)
    found = sorted((name for name in known if order.index(name) <= last), key=order.index)
    if not found:
        raise GanatomyError(f"--stop: {how.stop} comes before all of {', '.join(known)}")
    return found


def _given(ground: Ground, layer: str, units: str) -> tuple[int, ...]:
    """Return the units that are named, each once; GanatomyError unless the layer has them, and as many others."""
    place, found = ground.generator.layer(layer), tuple(dict.fromkeys(parse_units(units)))
    if max(found) >= place.channels:
        raise GanatomyError(f"layer {place.name!r} has units 0..{place.channels - 1}, got {max(found)}")
    if len(found) > place.channels // 2:
        raise GanatomyError(
            f"expected at most half of the {place.channels} units of {place.name!r}, got {len(found)}: the control is "
            f"as many others"
        )
    return found


def _reference(ground: Ground, path: Path | None) -> Pictures | Drawn:
    if path is not None:
        return Pictures(path, ground.generator.resolution)
    if ground.run is not None:
        check_drawn(ground.run)
    return Drawn(ground.generator, list(own_seeds(ground)), sampling=Sampling(**ground.how))


def _steps(most: int) -> list[int]:
    return [step for step in artifacts.cleaning.STEPS if step <= most]


def _curve(
    ground: Ground, seeds: list[int], ranking: Ranking, target: Float64, features: Extractor, named: str,
    steps: Sequence[int],
) -> Curve:  # fmt: skip
    with progress("taking units away", unit="images") as update:
        return artifacts.curve(
            ground.generator, ranking, seeds, target, features, steps=steps, named=named,
            sampling=Sampling(**ground.how), progress=update,
        )  # fmt: skip


def _made(
    ground: Ground, layers: Sequence[str], how: Correction, rankings: Sequence[Ranking], curve: Curve | None,
    recipe: Recipe | None, proof: Proof | None, named: str, reference: int,
) -> Cleaning:  # fmt: skip
    soft = f"multiplied by {how.scale:g} × (1 − score), the worst {100 * how.share:g}% of each layer's units"
    return Cleaning(
        ground.generator.name, tuple(layers), units_of(recipe) if recipe is not None else {},
        rankings[0].strategy if rankings else None, curve, proof.scores if proof is not None else [],
        proof.effect if proof is not None else None, f"{named}, {reference} images", {},
        soft if how.kind == SEQUENTIAL else "set to zero",
    )  # fmt: skip


def _told(folder: Path, made: Cleaning) -> None:
    if made.curve is not None:
        remark(made.verdict)
    for protocol, done, scores in made.scores:
        told = ", ".join(f"{s.metric} {s.value:.4g}" for s in scores)
        out.print(f"{protocol}, {done}: {told}", markup=False)
    out.print(f"{made.told}: {folder / 'index.html'}", markup=False)
