"""``ganatomy rewrite``: change a rule of a generator, from a request file to an edit, a checkpoint or a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import dissect
import rewrite
import segmodels
from dissect import GanatomyError, Generator, Recipe, WeightEdit
from dissect.samples import Sampling
from rewrite import Region, Request
from rewrite.memory import RIDGE
from rewrite.request import GOALS
from rewrite.solve import METHODS, SAMPLES
from rewrite.stored import SUFFIX

from ..console import columns_of, late_progress, out, progress, remark, show
from ..preview import before_and_after, save
from ..seeds import parse_seeds
from .options import Accept, Csv, Device, Json, Model, OneClass, Options, Truncation, check_picture, open_model

SHOWN = 8  # images in a picture of before and after
UNSEEN = 1_000_000  # seeds from here on are shown beside those of the request

app = typer.Typer(help="Change a rule of a generator instead of an image.", no_args_is_help=True)

Requests = Annotated[list[Path], typer.Argument(help="What is wanted: request files, solved at once.")]
EditFiles = Annotated[list[Path], typer.Argument(help="Edits, in order: from `rewrite solve`, or any recipe.")]
LayerName = Annotated[str, typer.Option("--layer", help="The layer whose convolution changes.")]
Rank = Annotated[int, typer.Option(help="How many directions of the context's keys.")]
MemoryFile = Annotated[
    Path | None,
    typer.Option("--memory", help="Where second moments of keys are kept: FILE.memory.h5, or a run.h5 to lie beside."),
]
MemorySamples = Annotated[int, typer.Option(help="Images whose keys say what is typical.")]
SegmenterName = Annotated[str, typer.Option("--segmenter", help="Finds the concepts that a request names.")]
With = Annotated[list[Path] | None, typer.Option("--with", help="Edits that are active already (repeatable).")]
Pictures = Annotated[Path | None, typer.Option(help="Draw some images before and after, .png.")]


@app.command("request")
def request_(
    out_file: Annotated[Path, typer.Argument(metavar="REQUEST.json", help="The file to write.")],
    paste: Annotated[list[str], typer.Option(help="Where it is to appear: SEEDS, SEEDS:CONCEPT or SEEDS:T,L,B,R.")],
    resolution: Annotated[int, typer.Option(help="Pixels a side of the images that boxes are of.")],
    copy: Annotated[str | None, typer.Option(help="Where the value comes from, likewise.")] = None,
    context: Annotated[list[str] | None, typer.Option(help="Which other places are meant (repeatable).")] = None,
    goal: Annotated[str, typer.Option(help=f"{', '.join(GOALS)}.")] = "crop",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    class_: OneClass = None,
    truncation: Truncation = 1.0,
) -> None:
    """Write a request from seeds, and boxes or concepts in their images: --copy 47:hair --paste 1,2:hair."""
    path = _written(out_file)
    copied = [] if copy is None else regions_of(copy, resolution)
    if len(copied) > 1:
        raise GanatomyError(f"--copy: expected one seed, got {len(copied)}")
    made = Request(
        resolution, tuple(r for text in paste for r in regions_of(text, resolution)), copied[0] if copied else None,
        tuple(r for text in context or [] for r in regions_of(text, resolution)), goal,
        Sampling(class_, truncation), name,
    )  # fmt: skip
    out.print(str(made.save(path)), markup=False)


@app.command()
def solve(
    model: Model,
    requests: Requests,
    layer: LayerName,
    out_file: Annotated[Path, typer.Option("--out", help="The edit, .safetensors.")],
    rank: Rank = 1,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "closed",
    kind: Annotated[str | None, typer.Option(help="Of keys: patch, channel; default: by the method.")] = None,
    direction: Annotated[str | None, typer.Option(help="mean or singular; default: mean for rank 1.")] = None,
    strength: Annotated[float, typer.Option(help="1 is all of the change, 0 none.")] = 1.0,
    ridge: Annotated[float, typer.Option(help="Added to the second moment, in its mean variances.")] = RIDGE,
    memory: MemoryFile = None,
    memory_samples: MemorySamples = SAMPLES,
    segmenter: SegmenterName = "face-parts",
    with_: With = None,
    pictures: Pictures = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Find the change of a layer's weights that does what requests ask for, and write it as an edit."""
    wanted = [Request.load(path) for path in requests]
    _check_edit(out_file)
    if pictures is not None:
        check_picture(pictures)
    if memory_samples < 1:
        raise GanatomyError(f"--memory-samples: expected 1 or more, got {memory_samples}")
    generator = open_model(model, device, options=option, accept=accept_licence)
    active = stacked(generator, with_ or [])
    eyes = segmodels.load(segmenter, device) if any(one.needs_segmenter for one in wanted) else None
    file = memory or out_file.with_name(f"{_plain(generator.name)}{SUFFIX}")
    with late_progress("reading keys" if method == "closed" else "reading keys, optimising", unit="steps") as update:
        edit = rewrite.solve(
            generator, wanted, layer, rank, method, kind=kind, direction=direction, strength=strength,
            memory_file=file, seeds=range(memory_samples), ridge=ridge, segmenter=eyes, edits=active, progress=update,
        )  # fmt: skip
    Recipe(edit, generator).save(out_file)
    row = row_of(edit)
    show([row], columns_of(row), as_json, as_csv, f"{out_file}: a change of {edit.weight}, which makes {edit.layer}")
    if pictures is not None:
        _draw(generator, wanted[0], [("without", active)] if active else [], (*active, edit), pictures)


@app.command()
def apply(
    model: Model,
    edits: EditFiles,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The edited checkpoint in the flavour it came in, or FILE.bundle.")
    ] = None,
    save_recipe: Annotated[Path | None, typer.Option(help="All edits as one recipe, .safetensors.")] = None,
    pictures: Pictures = None,
    seeds: Annotated[str | None, typer.Option(help="Of the pictures; default: unseen ones.")] = None,
    strength: Annotated[float, typer.Option(help="Of all edits of weights, times their own.")] = 1.0,
    truncation: Truncation = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Take edits for another generator.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")] = False,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Stack edits: write the edited checkpoint, a bundle or one recipe, and draw images before and after."""
    if out_file is None and save_recipe is None and pictures is None:
        raise GanatomyError("nothing to write; give --out, --save-recipe or --pictures")
    if pictures is not None:
        check_picture(pictures)
    if save_recipe is not None:
        _check_edit(save_recipe)
    generator = open_model(model, device, options=option, accept=accept_licence)
    chosen = Recipe(tuple(_scaled(edit, strength) for edit in stacked(generator, edits, force)), generator)
    if out_file is not None:  # first: what may be refused leaves nothing behind
        with late_progress("comparing") as update:
            path = dissect.export(
                generator, out_file, chosen, overwrite=overwrite, bundle=out_file.suffix == ".bundle", progress=update
            )
        out.print(str(path), markup=False)
    if save_recipe is not None:
        out.print(str(chosen.save(save_recipe)), markup=False)
    if pictures is not None:
        some = parse_seeds(seeds) if seeds else range(UNSEEN, UNSEEN + SHOWN)
        codes = generator.sample(list(some), truncation=truncation)
        save(before_and_after(generator, codes, [("edited", chosen)]), pictures)
        out.print(str(pictures), markup=False)


def stacked(generator: Generator, files: Sequence[Path], force: bool = False) -> tuple[dissect.Edit, ...]:
    """Return the edits of files in order; GanatomyError if one is for another generator."""
    found: list[dissect.Edit] = []
    for path in files:
        recipe = Recipe.load(path)
        found += generator.check_edits(recipe.forced() if force else recipe)
    return tuple(found)


def row_of(edit: WeightEdit) -> dict[str, Any]:
    """Return what people want to know of a solved edit."""
    p = edit.provenance
    losses = p.get("losses") or {}
    return {
        "layer": edit.layer, "method": p["method"], "kind": p["kind"], "rank": p["rank"], "products": edit.rank,
        "attained": p["attained"]["values"], "attained_in_layer": p["attained"]["seen"],
        "relative_norm": p["relative_norm"], "disturbance": p["disturbance"], "condition": p["condition"],
        "loss_before": losses.get("first"), "loss": losses.get("last"),
    }  # fmt: skip


def regions_of(text: str, resolution: int) -> list[Region]:
    """Return the regions of ``SEEDS``, ``SEEDS:CONCEPT`` or ``SEEDS:TOP,LEFT,BOTTOM,RIGHT``; seeds are 1,5,9 or A-B."""
    seeds, colon, where = text.partition(":")
    chosen = parse_seeds(seeds)
    numbers = where.split(",")
    if not colon:
        return [Region(seed) for seed in chosen]
    if len(numbers) == 4 and all(number.strip().isdigit() for number in numbers):
        return [Region.box(seed, resolution, *(int(number) for number in numbers)) for seed in chosen]
    if not where or len(numbers) > 1:
        raise GanatomyError(f"expected a region as SEEDS, SEEDS:CONCEPT or SEEDS:TOP,LEFT,BOTTOM,RIGHT, got {text!r}")
    return [Region(seed, concept=where) for seed in chosen]


def _scaled(edit: dissect.Edit, strength: float) -> dissect.Edit:
    return replace(edit, strength=edit.strength * strength) if isinstance(edit, WeightEdit) else edit


def _draw(
    generator: Generator, request: Request, before: list[tuple[str, Sequence[dissect.Edit]]],
    edits: Sequence[dissect.Edit], path: Path,
) -> None:  # fmt: skip
    """Draw images that the request names, then some that it does not."""
    known = list(dict.fromkeys(region.seed for region in request.paste))[: SHOWN // 2]
    seeds = [*known, *range(UNSEEN, UNSEEN + SHOWN - len(known))]
    s = request.sampling
    with progress("drawing"):
        codes = generator.sample(seeds, s.classes, s.truncation, s.cutoff, s.noise)
        save(before_and_after(generator, codes, [*before, ("edited", edits)]), path)
    remark(f"{path}: the first {len(known)} images are pasted into, the others are unseen")


def _plain(name: str) -> str:
    """Return a generator's name as the start of a file's."""
    return re.sub(r"[^A-Za-z0-9.,=_-]+", "-", name)


def _written(path: Path) -> Path:
    if path.suffix != ".json" or not path.parent.is_dir():
        raise GanatomyError(f"expected a file that ends in .json, in a folder that is there; got {path}")
    return path


def _check_edit(path: Path) -> None:
    """Refuse a name that no edit should be written to."""
    if path.suffix != ".safetensors" or not path.parent.is_dir():
        raise GanatomyError(f"expected a file that ends in .safetensors, in a folder that is there; got {path}")
    if path.exists():
        try:
            Recipe.load(path)
        except GanatomyError as error:
            raise GanatomyError(f"{path} is there and no recipe; it is not overwritten") from error
