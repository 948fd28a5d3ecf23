"""``ganatomy rewrite evaluate`` and ``sweep``: what a rewrite does to unseen images; which layer, which rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import dissect
import rewrite
import segmodels
from dissect import Edit, GanatomyError, Generator, Recipe, Run
from dissect.effects import add
from dissect.metrics.extractors import Extractor, load
from dissect.metrics.perceptual import load as load_distance
from dissect.samples import Sampling
from rewrite import Evaluation, Request, RewriteSweep
from rewrite.evaluate import requests_of
from rewrite.memory import RIDGE
from rewrite.solve import SAMPLES
from rewrite.sweep import RANKS
from rewrite.sweep_table import MOST_OUTSIDE

from ..console import late_progress, out, print_csv, print_json, print_table, remark
from ..experiments import LARGEST_SEED, parse_units, percent
from ..folders import replacing
from ..preview import before_and_after, save
from ..rewritten import MARKER, aim_of, measures, told, write_page
from .options import Accept, Csv, Device, Json, Model, Options, Seeds, check_picture, open_model, parse_seeds

SHOWN = 8  # images in a picture of candidates

Source = Annotated[
    list[str] | None,
    typer.Option(help="What is to change; repeated: pixels with all of them. Default: what the request is about."),
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="What it is to become, likewise; default: what is copied, if that is a concept."),
]
SegmenterName = Annotated[str, typer.Option("--segmenter", help="What reads the images; a+b for concepts of both.")]
ExtractorName = Annotated[str | None, typer.Option("--extractor", help="As in `metrics`; none for no drift.")]
PerceptualName = Annotated[
    str | None,
    typer.Option("--perceptual", help="lpips-alex, lpips-vgg, face-parts-encoder, squared-difference, none."),
]
Fresh = Annotated[int, typer.Option("--samples", help="How many images, of the seeds after the request's.")]
Beside = Annotated[Path | None, typer.Option("--run", help="A dissection of the generator, to keep the result beside.")]
Batch = Annotated[int | None, typer.Option(help="Samples in one forward pass.")]


def evaluate(
    model: Model,
    edit: Annotated[Path, typer.Argument(help="A recipe with edits of weights, .safetensors.")],
    source: Source = None,
    target: Target = None,
    segmenter: SegmenterName = "face-parts",
    samples: Fresh = 100,
    seeds: Seeds = None,
    truncation: Annotated[float | None, typer.Option(help="Another one than the request's.")] = None,
    class_: Annotated[int | None, typer.Option("--class", help="Another class than the request's.")] = None,
    controls: Annotated[bool, typer.Option(help="Also judge random edits of the same size.")] = True,
    extractor: ExtractorName = None,
    perceptual: PerceptualName = None,
    force: Annotated[bool, typer.Option("--force", help="Take a recipe for another generator.")] = False,
    run: Beside = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="A folder to make: a page, before and after.")
    ] = None,
    batch: Batch = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Measure what a rewrite does to images that its request has not seen: its aim, and everything else."""
    recipe = Recipe.load(edit)
    recipe = recipe.forced() if force else recipe
    requests = requests_of(recipe)
    generator, kept = _opened(model, run, device, option, accept_licence)
    generator.check_edits(recipe)
    sampling = requests[0].sampling if requests else Sampling()
    sampling = sampling if truncation is None else replace(sampling, truncation=truncation)
    sampling = sampling if class_ is None else replace(sampling, classes=class_)
    chosen = _seeds(requests, samples, seeds)
    named, features = segmodels.load(segmenter, device), _extractor(extractor, device)
    distance = None if perceptual == "none" else load_distance(perceptual, device)

    def judged() -> Evaluation:
        with late_progress("editing") as update:
            made = rewrite.evaluate(
                generator, named, recipe, chosen, source, target, controls=rewrite.CONTROLS if controls else (),
                extractor=features, distance=distance, sampling=sampling, batch=batch, progress=update,
            )  # fmt: skip
        if kept is not None:
            add(kept, made)
        _remark_left_out(made.facts["left_out"])
        return made

    if out_folder is None:
        _show(judged(), as_json, as_csv)
        return
    with replacing(out_folder, MARKER) as new:  # whole, or not there
        made = judged()
        write_page(new, made, generator, Recipe(recipe), sampling)
    _show(made, as_json, as_csv)
    remark(f"{out_folder / 'index.html'}")


def sweep(
    model: Model,
    request: Annotated[Path, typer.Argument(help="A request, .json.")],
    source: Source = None,
    target: Target = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers, a,b,c; default: those dissected by default, from 8 pixels a side.")
    ] = None,
    ranks: Annotated[str, typer.Option(help="Ranks, 1,2,4.")] = ",".join(map(str, RANKS)),
    methods: Annotated[str, typer.Option(help="closed, projected, linear; several with commas.")] = "closed",
    segmenter: SegmenterName = "face-parts",
    samples: Fresh = 50,
    seeds: Seeds = None,
    memory: Annotated[
        Path | None,
        typer.Option("--memory", help="Where second moments of keys are kept: FILE.memory.h5, or a run.h5."),
    ] = None,
    memory_samples: Annotated[int, typer.Option(help="Images whose keys say what is typical.")] = SAMPLES,
    ridge: Annotated[float, typer.Option(help="Of the keys' second moment.")] = RIDGE,
    most_outside: Annotated[
        float, typer.Option(help="Mean change elsewhere that is allowed, of a range of 2.")
    ] = MOST_OUTSIDE,
    extractor: ExtractorName = None,
    perceptual: PerceptualName = "none",
    run: Beside = None,
    save_edit: Annotated[Path | None, typer.Option("--save", help="Write the recommended edit, .safetensors.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Draw some images by every candidate, .png.")] = None,
    batch: Batch = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Solve a request at several layers, with several ranks, judge all edits alike, and recommend one."""
    asked = Request.load(request)
    if pictures is not None:
        check_picture(pictures)
    if save_edit is not None and (save_edit.suffix != ".safetensors" or not save_edit.parent.is_dir()):
        raise GanatomyError(f"expected --save to end in .safetensors, in a folder that is there; got {save_edit}")
    if memory_samples < 1:
        raise GanatomyError(f"--memory-samples: expected at least 1, got {memory_samples}")
    every = parse_units(ranks, "--ranks")
    generator, kept = _opened(model, run, device, option, accept_licence)
    chosen = _seeds([asked], samples, seeds)
    named, features = segmodels.load(segmenter, device), _extractor(extractor, device)
    distance = None if perceptual == "none" else load_distance(perceptual, device)
    with late_progress("solving", "candidates") as solving, late_progress("judging") as update:
        made, edits = rewrite.sweep(
            generator, named, asked, chosen, source, target, layers=_listed(layers), ranks=every,
            methods=_listed(methods) or (), memory_seeds=range(memory_samples), memory_file=memory, ridge=ridge,
            most_outside=most_outside, extractor=features, distance=distance, batch=batch, solving=solving,
            progress=update,
        )  # fmt: skip
    if kept is not None:
        add(kept, made)
    _remark_left_out(made.facts["left_out"])
    for layer, rank, method, reason in made.facts["failed"]:
        remark(f"left out: {layer}, rank {rank}, {method}: {reason}")
    _show_sweep(made, as_json, as_csv)
    best = made.recommended
    if save_edit is not None and best is not None:
        Recipe([edits[best]], generator).save(save_edit)
    if pictures is not None:
        _draw(made, edits, generator, asked.sampling, pictures)


def _opened(
    model: str, run_file: Path | None, device: str, option: list[str] | None, accept: bool
) -> tuple[Generator, Run | None]:
    """Return the generator, and the run that results are kept beside; GanatomyError if it is another generator's."""
    generator = open_model(model, device, options=option, accept=accept)
    if run_file is None:
        return generator, None
    run = dissect.open(run_file)
    if run.manifest["generator"]["fingerprint"] != generator.fingerprint:
        raise GanatomyError(f"--run: {run_file} is of another generator than {model}")
    run.effects  # noqa: B018 (a damaged file is told before an hour's work, not after it)
    return generator, run


def _seeds(requests: Sequence[Request], samples: int, text: str | None) -> Sequence[int]:
    if text is not None:
        return parse_seeds(text)
    if samples < 1:
        raise GanatomyError(f"expected a positive number of samples, got {samples}")
    first = max([SAMPLES, *(seed + 1 for request in requests for seed in request.seeds)])  # a memory's come first
    if first + samples > LARGEST_SEED:
        raise GanatomyError(f"there are no {samples} seeds after the request's; name some with --seeds")
    return range(first, first + samples)


def _extractor(name: str | None, device: str) -> Extractor | None:
    if name == "none":
        return None
    found = load(name, device)
    if not found.inception:
        remark(f"features are those of {found.name}, not Inception's: no number here is an FID")
    return found


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _remark_left_out(count: int) -> None:
    if count:
        remark(f"{count} of the seeds take part in the request and were left out")


def _show(made: Evaluation, as_json: bool, as_csv: bool) -> None:
    if as_csv:
        print_csv(made.rows())
    elif as_json:
        facts = {name: value for name, value in made.header().items() if name != "concepts"}
        print_json(facts | {"works": made.works, "rows": made.rows()})
    else:
        by = f"{made.facts['generator']['name']} by {made.facts['segmenter']['name']}, {len(made.seeds)} images"
        print_table(measures(made), None, by)
        out.print(told(made), markup=False)


def _show_sweep(made: RewriteSweep, as_json: bool, as_csv: bool) -> None:
    rows, best = made.rows(), made.recommended
    if as_csv:
        print_csv(rows)
        return
    if as_json:
        facts = {name: value for name, value in made.header().items() if name != "concepts"}
        print_json(facts | {"rule": made.rule, "rows": rows})
        return
    source, target = aim_of(made.facts)
    showing = int((made.source > 0).sum())
    shown = f"{showing} of {len(made.seeds)} images show it" if made.facts["counted"] else f"{showing} images"
    print_table([_row(row) for row in rows], None, f"{source} to {target}, {shown}")
    if best is None:
        out.print("Recommended: none; no candidate has an effect without changing too much else.", markup=False)
    else:
        layer, rank, method = made.candidates[best]
        did = f"effect {percent(float(made.effect[best]))}, change elsewhere {made.change[best]:.2g}"
        out.print(f"Recommended: {layer}, rank {rank}, {method}: {did}.", markup=False)
    out.print(
        "values, features: how much of what was missing is made up in the request's own images; unseen: how far "
        "features go on the way to the copied in these.", markup=False,
    )  # fmt: skip
    out.print(
        f"The rule: {made.rule}. It was chosen on these images; `rewrite evaluate` judges it on others.", markup=False
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    drift = next(name for name in ("fid", "frechet") if name in row)
    interval = "" if row["low"] is None else f" ({percent(row['low'])} to {percent(row['high'])})"
    shown = {
        "": "*" if row["recommended"] else "", "layer": row["layer"], "rank": row["rank"], "method": row["method"],
        "effect": percent(row["effect"]) + interval, "elsewhere": row["outside"], "SSIM": row["ssim"],
        "values": percent(row["attained_values"]), "features": percent(row["attained_seen"]),
        "unseen": percent(row["attained_unseen"]), "norm": row["norm"], "disturbance": row["disturbance"],
        drift: row[drift], "seconds": row["seconds"], "memory": row["memory_seconds"],
    }  # fmt: skip
    return {key: value for key, value in shown.items() if key != drift or value is not None}


def _draw(made: RewriteSweep, edits: Sequence[Edit], generator: Generator, sampling: Sampling, path: Path) -> None:
    """Draw the first images that show the source, as they are and by every candidate."""
    some = [int(seed) for seed in made.seeds[made.source > 0]][:SHOWN]
    codes = generator.sample(some, sampling.classes, sampling.truncation, sampling.cutoff, sampling.noise)
    lines = [
        (f"{layer}\nrank {rank}\n{method}", [edit])
        for (layer, rank, method), edit in zip(made.candidates, edits, strict=True)
    ]
    save(before_and_after(generator, codes, lines), path)
