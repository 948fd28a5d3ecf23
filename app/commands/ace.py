"""``ganatomy ace``: which units cause a concept, by optimised ablation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import dissect
from dissect import Ace, AceSettings, GanatomyError
from dissect.effects import add

from ..console import out, print_csv, print_json, print_table, progress
from ..experiments import prepare, values_of
from .effect import OtherModel, OtherSegmenter
from .options import Accept, Csv, Device, Json, Options, RunFile

Layer = Annotated[str, typer.Option(help="The layer whose units are asked about.")]
Insert = Annotated[str, typer.Option("--insert", help="What is put in: concept-mean, quantile, or a number.")]
DEFAULT = AceSettings()


def ace(
    run_file: RunFile,
    model: OtherModel = None,
    *,
    layer: Layer,
    concept: Annotated[list[str], typer.Option(help="The concept (repeatable).")],
    top: Annotated[int, typer.Option(help="How many units are judged, of each ranking.")] = 20,
    samples: Annotated[int, typer.Option(help="Images in which places are found: the seeds after the run's.")] = 200,
    heldout: Annotated[int, typer.Option(help="Images that units are judged on: the seeds after those.")] = 100,
    epochs: Annotated[int, typer.Option(help="How often every place is used.")] = DEFAULT.epochs,
    places: Annotated[int, typer.Option(help="Places where the concept is, and where it could be.")] = DEFAULT.places,
    penalty: Annotated[float, typer.Option(help="On alpha's squares: more leaves fewer units.")] = DEFAULT.penalty,
    rate: Annotated[float, typer.Option(help="Of Adam.")] = DEFAULT.rate,
    batch: Annotated[int, typer.Option(help="Places of each kind in a step.")] = DEFAULT.batch,
    tile: Annotated[int | None, typer.Option(help="Side of a place in cells [1/16 of the map's, 1 or more].")] = None,
    insert: Insert = "concept-mean",
    random: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    segmenter: OtherSegmenter = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Find the units that cause a concept, and compare them on held-out images with those that agree best with it."""
    settings = AceSettings(epochs, places, batch=batch, rate=rate, penalty=penalty, random=random)
    if samples < 1 or heldout < 1:
        raise GanatomyError(f"expected positive numbers of images, got {samples} and {heldout}")
    setting = prepare(run_file, model, segmenter, device, samples + heldout, None, option, accept_licence)
    train, test = setting.seeds[:samples], setting.seeds[samples:]
    units, found = setting.run.layer(layer), []
    try:
        for number, name in enumerate(concept, 1):
            of = f" {number}/{len(concept)}" if len(concept) > 1 else ""
            init = units.iou[:, setting.run.concept_index(name)]
            constants = values_of(setting.run, layer, insert, name)
            with progress(f"{name}{of}", unit="passes") as update:
                result = dissect.ace(
                    setting.generator, setting.segmenter, layer, name, train, test, init=init, constants=constants,
                    top=top, settings=settings, tile=tile, progress=update, **setting.how,
                )  # fmt: skip
            found.append(result)
    finally:  # what is finished is kept, whatever became of the next one
        for result in found:
            add(setting.run, result)
    _show(found, top, as_json, as_csv)


def _show(found: list[Ace], top: int, as_json: bool, as_csv: bool) -> None:
    if as_csv:
        print_csv([{"concept": one.concept, **row} for one in found for row in one.rows()])
        return
    if as_json:
        print_json([{**one.header(), "evaluation": one.evaluation(), "units": one.rows()} for one in found])
        return
    for one in found:
        where = f"{len(one.present)} places where it is, {len(one.free)} where it could be"
        out.print(f"{one.concept} in {one.layer}: {where}", markup=False)
        if not len(one.free):
            out.print("putting all units in made it appear nowhere: only taking away was optimised", markup=False)
        print_table(one.rows()[:top], {"unit": "unit", "alpha": "alpha", "init": "IoU / best", "constant": "put in"})
        print_table([_row(row) for row in one.evaluation()], None, f"\nOn {len(one.heldout)} held-out images")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    name = str(row["set"]).replace("init", "IoU")
    change, gain = _span(row, "area", "change", "+.1%"), _span(row, "gain", "gain", "+.4f")
    return {f"{row['units']} units by": name, "area, taken away": change, "probability, put in": gain}


def _span(row: dict[str, Any], kind: str, what: str, form: str) -> str:
    value, low, high = row[f"{'insertion' if kind == 'gain' else kind}_{what}"], row[f"{kind}_low"], row[f"{kind}_high"]
    if value is None:
        return "–"
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} ({low:{form}} to {high:{form}})"
