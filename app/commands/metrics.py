"""``ganatomy metrics``: how near one set of images is to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import segmodels
from dissect import GanatomyError, Generator
from dissect.metrics import (
    Drawn,
    ImageSet,
    Pictures,
    Score,
    compare,
    extractors,
    look,
    pair_distances,
    pair_score,
    path_length,
    path_score,
    perceptual,
)
from dissect.samples import Sampling

from ..console import progress, remark, show
from .options import Accept, Csv, Device, Json, Options, Truncation, open_model, parse_seeds

SIDE = 256  # pixels a side at which pictures are read, where no generator says
COLUMNS = {
    "metric": "metric", "value": "value", "low": "low", "high": "high", "floor": "noise floor",
    "extractor": "features of", "sha256": "hash", "n": "n", "n_reference": "n reference",
}  # fmt: skip


def metrics(
    images: Annotated[str, typer.Argument(help="A folder or zip of pictures, or a generator.")],
    reference: Annotated[str, typer.Argument(help="What they are compared with: likewise.")],
    samples: Annotated[int, typer.Option(help="At most so many of each.")] = 1000,
    seeds: Annotated[str | None, typer.Option(help="A:B or 1,5,9: of the first, if it is a generator.")] = None,
    reference_seeds: Annotated[
        str | None,
        typer.Option(
            help="Of the reference, if it is a generator; default: those after the first's, of pairs the same."
        ),
    ] = None,
    truncation: Truncation = 1.0,
    extractor: Annotated[
        str | None,
        typer.Option(help="inception-v3, face-parts-encoder or pixels; default: Inception if its weights are there."),
    ] = None,
    segmenter: Annotated[str | None, typer.Option(help="For the segmentation distance.")] = None,
    side: Annotated[int | None, typer.Option(help="Pixels a side at which pictures are read.")] = None,
    resamples: Annotated[int, typer.Option(help="Of images and paths, for the intervals; 0 for none.")] = 50,
    path: Annotated[
        bool, typer.Option("--path-length", help="Also the first generator's, a path for every two seeds.")
    ] = False,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Also the distance of each image from the one in its place in the reference."),
    ] = False,
    distance: Annotated[
        str | None,
        typer.Option(
            help="Of pairs and paths: lpips-alex, lpips-vgg, face-parts-encoder or squared-difference; default: LPIPS"
            " if its weights are there."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 8,
    device: Device = "cpu",
    option: Options = None,
    accept: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare two sets of images; beside each number stand its interval, the noise floor and its features' name."""
    if samples < 4 or batch < 1 or resamples < 0 or resamples == 1:
        raise GanatomyError("expected at least 4 samples, a batch of at least 1, and 0 or at least 2 resamples")
    models = {
        name: open_model(name, device, options=option, accept=accept)
        for name in dict.fromkeys((images, reference))
        if not Path(name).is_dir() and Path(name).suffix.lower() != ".zip"
    }
    read_at = side or max((model.resolution for model in models.values()), default=SIDE)
    first = parse_seeds(seeds)[:samples] if seeds else range(samples)
    after = max(first) + 1
    default = first if paired else range(after, after + samples)
    second = parse_seeds(reference_seeds)[:samples] if reference_seeds else default
    if path and images not in models:
        raise GanatomyError(f"--path-length needs a generator, {images} is a set of pictures")
    sampling = Sampling(truncation=truncation)
    features, labels = extractors.load(extractor, device), segmodels.load(segmenter, device) if segmenter else None
    apart = perceptual.load(distance, device) if path or paired else None
    sets = [
        _set(name, models.get(name), list(chosen), sampling, read_at, samples)
        for name, chosen in ((images, first), (reference, second))
    ]
    for skipped in (name for some in sets for name in some.skipped):
        remark(f"left out, cannot be read: {skipped}")
    last: list[Score] = []
    if apart is not None and paired:
        with progress("pairs", unit="pairs") as update:
            pairs = pair_distances(sets[0], sets[1], apart, batch, update)
        last.append(pair_score(pairs, apart, resamples=resamples))
    looks = []
    for images_of in sets:
        with progress(f"looking at {images_of.name}", unit="images") as update:
            looks.append(look(images_of, features, labels, batch, update))
    if not features.inception:
        remark(f"features are those of {features.name}, not Inception's: no number here is an FID")
    for got, name in zip(looks, (images, reference), strict=True):
        if len(got) <= got.features.shape[1]:
            remark(f"{name}: {len(got)} images for {got.features.shape[1]} features; trust the kernel distance more")
    if apart is not None and path:
        last.append(_path(models[images], list(first), apart, sampling, batch, resamples))
    if apart is not None and apart.name == extractors.STAND_IN:
        remark(f"the distance of pairs and along paths is that of {apart.name}: no number here is an LPIPS")
    rows = [score.row() for score in [*compare(looks[0], looks[1], features, labels, resamples=resamples), *last]]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    full = [{key: row.get(key) for key in keys} for row in rows]
    shown = [{key: None if value != value else value for key, value in row.items()} for row in full]  # NaN: no value
    show(shown, COLUMNS, as_json, as_csv)


def _set(name: str, model: Generator | None, seeds: list[int], sampling: Sampling, side: int, samples: int) -> ImageSet:
    return Pictures(Path(name), side, samples) if model is None else Drawn(model, seeds, sampling=sampling)


def _path(
    model: Generator, seeds: list[int], distance: perceptual.Distance, sampling: Sampling, batch: int, resamples: int
) -> Score:
    space = "w" if hasattr(model, "w_dim") else "z"
    with progress("path length", unit="paths") as update:
        found = path_length(
            model, seeds, distance, space, sampling=sampling, batch=max(1, batch // 2), progress=update
        )  # fmt: skip
    return path_score(found, space, distance, resamples=resamples)
