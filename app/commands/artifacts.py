"""``ganatomy artifacts``: which units draw what should not be there, and a classifier of broken images from tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from typer.core import TyperGroup

import segmodels
from dissect import GanatomyError, Run, artifacts
from dissect.artifacts import Classifier, Eye, Ranking, Tags
from dissect.artifacts.classifier import pooled, train
from dissect.artifacts.rare import ADVISED
from dissect.artifacts.unlike import features_of
from dissect.metrics import Drawn, Pictures
from dissect.metrics.extractors import load
from dissect.samples import Sampling
from segmodels.smp import SmpSegmenter

from ..console import out, progress, remark, show
from ..experiments import Ground
from ..proof import seen_by
from ..subjects import keep, layer_of, opened, own_seeds, run_of, with_pass
from .options import Accept, Csv, Device, Json, Model, Options, open_model

STRATEGIES = ("rare", "unlike", "defect", "tagged")
RANK = "rank"


class _RankByDefault(TyperGroup):
    """``ganatomy artifacts run.h5`` is ``ganatomy artifacts rank run.h5``."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Put the command in that was left out."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [RANK, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RankByDefault, help="Rank units that draw what should not be there; without a command: rank.",
    no_args_is_help=True,
)  # fmt: skip

Source = Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A dissection, run.h5, or a model as in `dissect`.")]
Whose = Annotated[str | None, typer.Argument(help="The run's generator, where it is not found by its name.")]
Strategy = Annotated[str, typer.Option(help="rare, unlike (with Inception and --reference: fid), defect, tagged.")]
Layer = Annotated[
    str | None, typer.Option(help="The layer; default: the only one, or of several the one nearest to 8 pixels a side.")
]
SegmenterName = Annotated[str | None, typer.Option("--segmenter", help="Default: the run's; of a model: colors.")]
PassSamples = Annotated[
    int, typer.Option(help="Of a model: samples of the pass that some rankings need, seeds 0 to N - 1.")
]
WEAK = 0.7  # area under the ROC curve: below it people are warned (its error with 30 images of a kind is 0.07)
OWN = 1000  # samples of such a pass, as of `dissect`
TagFile = Annotated[
    Path | None, typer.Option(help="What people say of images: seed,tag[,region] as CSV, or a zip of it.")
]
ClassifierFile = Annotated[
    Path | None, typer.Option("--classifier", help="From `artifacts train`: where images are broken.")
]
Reference = Annotated[
    Path | None, typer.Option(help="A folder or zip of real images; else the generator's own samples, and so called.")
]


@app.command(RANK)
def rank(
    source: Source,
    model: Whose = None,
    strategy: Strategy = "",
    layer: Layer = None,
    tags: TagFile = None,
    classifier: ClassifierFile = None,
    reference: Reference = None,
    extractor: Annotated[str | None, typer.Option(help="As in `metrics`.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="For defect without tags: images looked at.")] = 200,
    top: Annotated[int, typer.Option(help="How many units are listed.")] = 20,
    segmenter: SegmenterName = None,
    pass_samples: PassSamples = OWN,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the units of a layer, the most suspect first, and keep the ranking beside the run."""
    chosen = strategy_of(strategy, tags, classifier, reference)
    ground = opened(source, model, segmenter, device, samples, pass_samples, option, accept_licence)
    names = [layer_of(ground, layer, guess=True)]
    if reference is not None:
        Pictures(reference, ground.generator.resolution)  # what is wrong with it is told before a pass is made
    ground = with_pass(ground, chosen, names, Path())
    (ranking,) = ranked(ground, chosen, names, tags, classifier, reference, extractor, device)
    keep(ground, ranking)
    show(ranking.rows(top), None, as_json, as_csv, f"{ranking.strategy}: {_told(ranking)}")


@app.command("train")
def train_(
    model: Model,
    tags: Annotated[Path, typer.Option(help="What people say of its images: seed,tag as CSV.")],
    out_file: Annotated[Path, typer.Option("--out", help="The classifier, .safetensors.")],
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Train the small classifier of broken images from people's tags."""
    said = artifacts.read_tags(tags)
    if out_file.suffix != ".safetensors" or not out_file.parent.is_dir():
        raise GanatomyError(f"expected --out to end in .safetensors, in a folder that is there; got {out_file}")
    generator, encoder = open_model(model, device, options=option, accept=accept_licence), _encoder(device)
    features = []
    with progress("looking", unit="images") as update:
        for images in Drawn(generator, said.seeds.tolist()).batches(4):
            features.append(pooled(encoder, images))
            update(sum(map(len, features)), len(said))
    made = train(np.concatenate(features), said.broken, encoder.sha256, said.seeds)
    made.save(out_file)
    _warn_of_weak(made)
    out.print(
        f"{out_file}: trained on {int(said.broken.sum())} broken and {int((~said.broken).sum())} fine images; area "
        f"under the ROC curve {made.auc:.3f} on images not trained on (0.5 is chance)", markup=False,
    )  # fmt: skip


def strategy_of(strategy: str, tags: Path | None, classifier: Path | None, reference: Path | None) -> str:
    """Return the strategy that is meant; it follows from what is given if none is named.

    Raises:
        GanatomyError: for an unknown one, or one that lacks what it needs.
    """
    said = artifacts.read_tags(tags) if tags is not None else None
    if classifier is not None:
        _warn_of_weak(Classifier.load(classifier))
    if not strategy:
        strategy = "defect" if classifier or (said and said.regions) else "tagged" if said else "rare"
        return "unlike" if strategy == "rare" and reference is not None else strategy
    if strategy not in (*STRATEGIES, "fid"):
        raise GanatomyError(f"--strategy: expected {', '.join(STRATEGIES)}, got {strategy!r}")
    if strategy == "tagged" and said is None:
        raise GanatomyError("tagged needs --tags")
    if strategy == "defect" and classifier is None and not (said and said.regions):
        raise GanatomyError("defect needs --tags with regions, or a --classifier that finds them")
    return strategy


def ranked(
    ground: Ground, strategy: str, layers: Sequence[str], tags: Path | None, classifier: Path | None,
    reference: Path | None, extractor: str | None, device: str,
) -> list[Ranking]:  # fmt: skip
    """Return a ranking of each layer by the strategy that :func:`strategy_of` found."""
    said = artifacts.read_tags(tags) if tags is not None else None
    if strategy == "rare":
        run = run_of(ground)
        if run.samples < ADVISED:
            remark(f"rare: {run.samples} samples; what is rare shows only in {ADVISED} and more")
        return [artifacts.rare(run, name) for name in layers]
    if strategy in ("unlike", "fid"):
        return _unlike(ground, layers, reference, extractor, device)
    if strategy == "tagged":
        assert said is not None  # strategy_of has seen to it
        codes = ground.generator.sample(said.seeds.tolist(), **ground.how)
        return [artifacts.tagged(ground.generator, name, codes, said) for name in layers]
    seeds, regions, told = _flaws(ground, said, classifier, device)
    codes = ground.generator.sample(seeds, **ground.how)
    # All that were looked at are kept: what is judged later would else have those in it that were found fine.
    looked = sorted(seen_by(tags, classifier) | (set() if said is not None else set(ground.seeds)))
    return [artifacts.defect(ground.generator, name, codes, regions, source=told, seeds=looked) for name in layers]


def _unlike(
    ground: Ground, layers: Sequence[str], reference: Path | None, extractor: str | None, device: str
) -> list[Ranking]:
    # What is wrong with the arguments is told before an hour's work, not after it.
    features, sampling, run = load(extractor, device), Sampling(**ground.how), run_of(ground)
    check_drawn(run)
    for name in layers:
        run.layer(name).maxima  # noqa: B018
    pictures = Pictures(reference, ground.generator.resolution) if reference is not None else None
    with progress("looking at the run's samples", unit="images") as update:
        drawn = Drawn(ground.generator, list(own_seeds(ground)), sampling=sampling)
        images = features_of(drawn, features, progress=update)
    if pictures is None:
        remark("no --reference: units are compared with the generator's own samples, which is no FID")
        return [artifacts.unlike(run, name, images, None, features) for name in layers]
    if not features.inception:
        remark(f"features are those of {features.name}, not Inception's: this is no FID")
    with progress("looking at the reference", unit="images") as update:
        real = features_of(pictures, features, progress=update)
    return [artifacts.unlike(run, name, images, real, features, named=str(reference)) for name in layers]


def check_drawn(run: Run) -> None:
    """Raise GanatomyError if a run's samples do not follow from its seeds: others would be drawn in their place."""
    if "codes_sha256" in run.manifest["samples"]:
        raise GanatomyError(f"{run.path} is of latents given sample by sample, which cannot be drawn anew from seeds")


def _flaws(
    ground: Ground, said: Tags | None, classifier: Path | None, device: str
) -> tuple[list[int], NDArray[np.bool_], str]:
    """Return seeds of flawed images, where they are flawed [N, H, W], and who says so."""
    if classifier is None:
        assert said is not None  # strategy_of has seen to it
        seeds = list(said.regions)
        return seeds, np.stack([said.regions[seed] for seed in seeds]), "people"
    generator, eye = ground.generator, Eye(Classifier.load(classifier), _encoder(device))
    seeds = said.seeds[said.broken].tolist() if said is not None else list(ground.seeds)
    size = 2 * (min(generator.resolution, 128),)
    found, flawed = [], []
    with progress("looking for flaws", unit="images") as update:
        for images in Drawn(generator, seeds, sampling=Sampling(**ground.how)).batches(4):
            probability, regions = eye.look(images, size)
            found.append(probability)
            flawed.append(regions)
            update(sum(map(len, found)), len(seeds))
    chosen = np.flatnonzero((np.concatenate(found) >= 0.5) if said is None else np.ones(len(seeds), bool))
    if not len(chosen):
        raise GanatomyError(f"the classifier calls none of {len(seeds)} images broken; give --tags, or more --samples")
    return [seeds[i] for i in chosen], np.concatenate(flawed)[chosen], f"classifier {classifier.name}"


def _warn_of_weak(classifier: Classifier) -> None:
    if classifier.auc < WEAK:
        remark(
            f"the classifier hardly tells broken images from fine ones: area under the ROC curve {classifier.auc:.2f} "
            f"on images not trained on, where 0.5 is chance; tag more images before you trust what it finds"
        )


def _encoder(device: str) -> SmpSegmenter:
    segmenter = segmodels.load("face-parts", device)
    assert isinstance(segmenter, SmpSegmenter)
    return segmenter


def _told(ranking: Ranking) -> str:
    facts = {k: v for k, v in ranking.facts.items() if k in ("reference", "regions", "samples", "images", "extractor")}
    return ", ".join(f"{k} {v[0] if isinstance(v, list) else v}" for k, v in facts.items()) or ranking.layer
