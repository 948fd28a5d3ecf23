"""``ganatomy artifacts``: which units draw what should not be there, and a classifier of broken images from tags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from typer.core import TyperGroup

import segmodels
from dissect import GanatomyError, Run, artifacts
from dissect.artifacts import Classifier, Eye, Ranking, Tags
from dissect.artifacts.classifier import pooled, train
from dissect.artifacts.rare import ADVISED
from dissect.artifacts.unlike import features_of
from dissect.effects import add
from dissect.metrics import Drawn, Pictures
from dissect.metrics.extractors import load
from dissect.samples import Sampling
from segmodels.smp import SmpSegmenter

from ..console import out, progress, remark, show
from ..experiments import Setting, prepare
from .options import Accept, Csv, Device, Json, Model, Options, RunFile, open_model

STRATEGIES = ("rare", "unlike", "defect", "tagged")
RANK = "rank"


class _RankByDefault(TyperGroup):
    """``ganatomy artifacts run.h5`` is ``ganatomy artifacts rank run.h5``."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Put the command in that was left out."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [RANK, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RankByDefault, help="Rank units that draw what should not be there.", no_args_is_help=True)

Strategy = Annotated[str, typer.Option(help="rare, unlike (with Inception and --reference: fid), defect, tagged.")]
Layer = Annotated[str | None, typer.Option(help="The layer; default: the run's only one.")]
TagFile = Annotated[Path | None, typer.Option(help="What people say of images: seed,tag[,region] as CSV.")]
ClassifierFile = Annotated[
    Path | None, typer.Option("--classifier", help="From `artifacts train`: where images are broken.")
]
Reference = Annotated[
    Path | None, typer.Option(help="A folder or zip of real images; else the generator's own samples, and so called.")
]


@app.command(RANK)
def rank(
    run_file: RunFile,
    model: Annotated[str | None, typer.Argument(help="The run's generator, where it is not found by its name.")] = None,
    strategy: Annotated[
        str, typer.Option(help="rare, unlike (with Inception and --reference: fid), defect, tagged.")
    ] = "",
    layer: Layer = None,
    tags: TagFile = None,
    classifier: ClassifierFile = None,
    reference: Reference = None,
    extractor: Annotated[str | None, typer.Option(help="As in `metrics`.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="For defect without tags: images looked at.")] = 200,
    top: Annotated[int, typer.Option(help="How many units are listed.")] = 20,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the units of a layer, the most suspect first, and keep the ranking beside the run."""
    setting = prepare(run_file, model, None, device, samples, None, option, accept_licence)
    ranking = ranked(setting, strategy, layer, tags, classifier, reference, extractor, device)
    add(setting.run, ranking)
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
    made = train(np.concatenate(features), said.broken, encoder.sha256)
    made.save(out_file)
    out.print(
        f"{out_file}: trained on {int(said.broken.sum())} broken and {int((~said.broken).sum())} fine images; area "
        f"under the ROC curve {made.auc:.3f} on images not trained on (0.5 is chance)", markup=False,
    )  # fmt: skip


def ranked(
    setting: Setting, strategy: str, layer: str | None, tags: Path | None, classifier: Path | None,
    reference: Path | None, extractor: str | None, device: str,
) -> Ranking:  # fmt: skip
    """Return the ranking that a command's options ask for; the strategy follows from what is given if none is named."""
    run, name = setting.run, layer or _only_layer(setting.run)
    said = artifacts.read_tags(tags) if tags is not None else None
    if not strategy:
        strategy = "defect" if classifier or (said and said.regions) else "tagged" if said else "rare"
        strategy = "unlike" if strategy == "rare" and reference is not None else strategy
    if strategy == "rare":
        if run.samples < ADVISED:
            remark(f"rare: {run.samples} samples; what is rare shows only in {ADVISED} and more")
        return artifacts.rare(run, name)
    if strategy in ("unlike", "fid"):
        return _unlike(setting, name, reference, extractor, device)
    if strategy == "tagged":
        if said is None:
            raise GanatomyError("tagged needs --tags")
        codes = setting.generator.sample(said.seeds.tolist(), **setting.how)
        return artifacts.tagged(setting.generator, name, codes, said)
    if strategy == "defect":
        return _defect(setting, name, said, classifier, device)
    raise GanatomyError(f"--strategy: expected {', '.join(STRATEGIES)}, got {strategy!r}")


def _unlike(setting: Setting, layer: str, reference: Path | None, extractor: str | None, device: str) -> Ranking:
    # What is wrong with the arguments is told before an hour's work, not after it.
    features, sampling = load(extractor, device), Sampling(**setting.how)
    check_drawn(setting.run)
    setting.run.layer(layer).maxima  # noqa: B018
    pictures = Pictures(reference, setting.generator.resolution) if reference is not None else None
    with progress("looking at the run's samples", unit="images") as update:
        images = features_of(
            Drawn(setting.generator, setting.run.seeds.tolist(), sampling=sampling), features, progress=update
        )
    if pictures is None:
        remark("no --reference: units are compared with the generator's own samples, which is no FID")
        return artifacts.unlike(setting.run, layer, images, None, features)
    if not features.inception:
        remark(f"features are those of {features.name}, not Inception's: this is no FID")
    with progress("looking at the reference", unit="images") as update:
        real = features_of(pictures, features, progress=update)
    return artifacts.unlike(setting.run, layer, images, real, features, named=str(reference))


def check_drawn(run: Run) -> None:
    """Raise GanatomyError if a run's samples do not follow from its seeds: others would be drawn in their place."""
    samples = run.manifest["samples"]
    if "codes_sha256" in samples or isinstance(samples.get("classes"), list):
        given = "latents" if "codes_sha256" in samples else "classes"
        raise GanatomyError(f"{run.path} is of {given} given sample by sample, which cannot be drawn anew from seeds")


def _defect(setting: Setting, layer: str, said: Tags | None, classifier: Path | None, device: str) -> Ranking:
    generator = setting.generator
    if classifier is None:
        if said is None or not said.regions:
            raise GanatomyError("defect needs --tags with regions, or a --classifier that finds them")
        seeds = list(said.regions)
        regions = np.stack([said.regions[seed] for seed in seeds])
        return artifacts.defect(generator, layer, generator.sample(seeds, **setting.how), regions, source="people")
    eye = Eye(Classifier.load(classifier), _encoder(device))
    seeds = said.seeds[said.broken].tolist() if said is not None else list(setting.seeds)
    size = 2 * (min(generator.resolution, 128),)
    found, flawed = [], []
    with progress("looking for flaws", unit="images") as update:
        for images in Drawn(generator, seeds, sampling=Sampling(**setting.how)).batches(4):
            probability, regions = eye.look(images, size)
            found.append(probability)
            flawed.append(regions)
            update(sum(map(len, found)), len(seeds))
    chosen = np.flatnonzero((np.concatenate(found) >= 0.5) if said is None else np.ones(len(seeds), bool))
    if not len(chosen):
        raise GanatomyError(f"the classifier calls none of {len(seeds)} images broken; give --tags, or more --samples")
    codes = generator.sample([seeds[i] for i in chosen], **setting.how)
    return artifacts.defect(
        generator, layer, codes, np.concatenate(flawed)[chosen], source=f"classifier {classifier.name}"
    )


def _encoder(device: str) -> SmpSegmenter:
    segmenter = segmodels.load("face-parts", device)
    assert isinstance(segmenter, SmpSegmenter)
    return segmenter


def _only_layer(run: Run) -> str:
    if len(run.layers) > 1:
        raise GanatomyError(f"--layer: expected one of the run's, {', '.join(run.layers)}")
    return run.layers[0]


def _told(ranking: Ranking) -> str:
    facts = {k: v for k, v in ranking.facts.items() if k in ("reference", "regions", "samples", "images", "extractor")}
    return ", ".join(f"{k} {v[0] if isinstance(v, list) else v}" for k, v in facts.items()) or ranking.layer
