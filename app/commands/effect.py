"""``ganatomy effect``: what edits do to every concept, beside random units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import dissect
from dissect import Effect, GanatomyError, Recipe
from dissect.effects import add

from ..console import out, print_csv, print_json, print_table, progress
from ..experiments import TOP, Setting, edit_of, parse_units, percent, prepare, remark_used, signed, span, units_of
from ..preview import before_and_after, save
from .options import Accept, Csv, Device, Json, Options, RunFile, Seeds, check_picture

SHOWN = 8  # images in a picture of before and after

OtherModel = Annotated[str | None, typer.Argument(help="The run's generator, where it is not found by its name.")]
OtherSegmenter = Annotated[str | None, typer.Option("--segmenter", help="Another one than the run's.")]
FreshSamples = Annotated[int, typer.Option("--samples", help="How many images, of the seeds after the run's.")]
Units = Annotated[str | None, typer.Option(help="Units, 1,2,40 or A:B.")]
To = Annotated[str, typer.Option(help="What units are ablated to: zero, mean, other (a random other image).")]


@dataclass(frozen=True, eq=False)
class Question:
    """A recipe, the concept that it is aimed at, and the constants that its controls need."""

    recipe: Recipe
    aim: str | None
    constants: dict[str, np.ndarray]


def effect(
    run_file: RunFile,
    model: OtherModel = None,
    layer: Annotated[str | None, typer.Option(help="The layer whose units are edited.")] = None,
    units: Units = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What is asked about; without --units, its best units (repeatable).")
    ] = None,
    top: Annotated[int, typer.Option(help="How many units of each concept.")] = TOP,
    recipe: Annotated[Path | None, typer.Option(help="A file of edits instead.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take a recipe for another generator.")] = False,
    to: To = "zero",
    insert: Annotated[
        str | None, typer.Option(help="Insert instead of ablating: concept-mean, quantile, or a number.")
    ] = None,
    strength: Annotated[float, typer.Option(help="How much, 0 to 1.")] = 1.0,
    samples: FreshSamples = 100,
    seeds: Seeds = None,
    controls: Annotated[int, typer.Option(help="Sets of random other units.")] = 5,
    segmenter: OtherSegmenter = None,
    save_recipe: Annotated[Path | None, typer.Option(help="Write the edits to this file, too.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Draw some images before and after, .png.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples in one forward pass.")] = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Measure what units cause: ablate or insert them, and compare every concept's area with random units'."""
    if pictures is not None:
        check_picture(pictures)
    if recipe is not None and (units or layer or insert or strength != 1.0 or to != "zero"):
        raise GanatomyError("--recipe says what is edited; leave out --layer, --units, --to, --insert and --strength")
    if insert is not None and to != "zero":
        raise GanatomyError("--insert puts in instead of ablating; leave out --to")
    if save_recipe is not None:
        _check_recipe_file(save_recipe)
    setting = prepare(run_file, model, segmenter, device, samples, seeds, option, accept_licence)
    if recipe is not None or units is not None:
        remark_used(setting.run, setting.seeds)
    if recipe is not None:
        loaded = Recipe.load(recipe)
        loaded = loaded.forced() if force else loaded
        aims: list[str | None] = [*concept] if concept else [None]
        questions = [Question(loaded, aim, {}) for aim in aims]
    else:
        questions = _questions(setting, layer, units, concept or [], top, to, insert, strength)
    if save_recipe is not None:
        if len(questions) > 1:
            raise GanatomyError("--save-recipe: expected one concept, since each has a recipe of its own")
        Recipe(questions[0].recipe, setting.generator).save(save_recipe)
    effects: list[Effect] = []
    try:
        for number, question in enumerate(questions, 1):
            of = f" {number}/{len(questions)}" if len(questions) > 1 else ""
            with progress(f"editing{of} {question.aim or ''}".strip()) as update:
                made = dissect.effect(
                    setting.generator, setting.segmenter, question.recipe, setting.seeds, concept=question.aim,
                    controls=controls, constants=question.constants, batch=batch, progress=update, **setting.how,
                )  # fmt: skip
            effects.append(made)
    finally:  # what is finished is shown and kept, whatever became of the next one
        if effects:
            _show(setting, effects, as_json, as_csv)
        for made in effects:
            add(setting.run, made)
    if pictures is not None:
        codes = setting.generator.sample(list(setting.seeds)[:SHOWN], **setting.how)
        edited = [("without", q.recipe) if q.aim is None else (q.aim, q.recipe) for q in questions]
        save(before_and_after(setting.generator, codes, edited), pictures)


def _check_recipe_file(path: Path) -> None:
    """Refuse a name that no recipe should be written to: that of a folder, or of a file that is no recipe."""
    if not path.parent.is_dir():
        raise GanatomyError(f"no such folder for --save-recipe: {path.parent}")
    if path.exists():
        try:
            Recipe.load(path)
        except GanatomyError as error:
            raise GanatomyError(f"--save-recipe: {path} is there and no recipe; it is not overwritten") from error


def _questions(
    setting: Setting, layer: str | None, units: str | None, concepts: list[str], top: int, to: str,
    insert: str | None, strength: float,
) -> list[Question]:  # fmt: skip
    run = setting.run
    if layer is None:
        if len(run.layers) > 1:
            raise GanatomyError(f"--layer: expected one of the run's, {', '.join(run.layers)}")
        layer = run.layers[0]
    if units is None and not concepts:
        raise GanatomyError("give --units, a --concept whose best units are meant, or --recipe")
    if units is not None and len(concepts) > 1:
        raise GanatomyError("--units: expected one --concept to ask about")
    questions, aims = [], [*concepts] if concepts else [None]
    for aim in aims:
        chosen = parse_units(units) if units is not None else units_of(run, layer, str(aim), top)
        edit, constants = edit_of(run, layer, chosen, to, insert, strength, aim)
        questions.append(Question(Recipe(edit), aim, constants))
    return questions


def _show(setting: Setting, effects: list[Effect], as_json: bool, as_csv: bool) -> None:
    matrix = dissect.leakage(effects)
    if as_csv:
        print_csv([row for made in effects for row in made.rows()])
        return
    if as_json:
        rows = [{k: v for k, v in made.header().items() if k != "concepts"} | {"rows": made.rows()} for made in effects]
        seeds = [int(seed) for seed in setting.seeds]
        print_json({"seeds": seeds, "fresh": setting.fresh, "effects": rows, "leakage": matrix.rows()})
        return
    out.print(setting.said(), markup=False)
    for made in effects:
        out.print("")
        rows = [_row(row) for row in made.rows()]
        print_table(
            rows, None, _title(made), spare=("images", "before", "after"), whole=("95% interval", "random units")
        )
    if len(effects) > 1:
        out.print("")
        shown = [c for c in matrix.rows()[0] if c != "aim"]
        names = [c.name for c in matrix.concepts]
        table = []
        for r, row in enumerate(matrix.rows()):
            beyond = matrix.beyond[r]
            cells = {c: signed(row[c]) + ("*" if beyond[names.index(c)] else "") for c in shown}
            table.append({"aimed at": row["aim"]} | cells)
        print_table(table, None, "What changed (* beyond the controls)")


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "concept": row["concept"], "images": str(row["images"]), "before": percent(row["before"]),
        "after": percent(row["after"]), "change": signed(row["change"]), "95% interval": span(row["low"], row["high"]),
        "random units": span(row["control_low"], row["control_high"]), "verdict": row["verdict"],
        "p, all asked": "–" if row["p_adjusted"] is None else f"{row['p_adjusted']:.2g}",
    }  # fmt: skip


def _title(made: Effect) -> str:
    edits = made.facts["recipe"]["edits"]
    told = []
    for edit in edits:
        count = len(edit["units"])
        told.append(f"{count} unit{'s' if count > 1 else ''} of {edit['layer']} to {edit['put']}")
    head = f"{made.aim}: " if made.aim else ""
    if np.array_equal(made.before, made.after):
        return f"{head}{'; '.join(told)}: nothing changed in any image"
    return f"{head}{'; '.join(told)}"
