"""``ganatomy ace``: which units cause a concept, by optimised ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import dissect
from dissect import Ace, AceSettings

from ..causes import check_out, open_run, put_in, write
from ..console import out, print_csv, print_json, print_table, progress
from .options import Accept, Csv, Device, Json, Options, RunFile

Layer = Annotated[str, typer.Option(help="The layer whose units are asked about.")]
OtherModel = Annotated[str | None, typer.Argument(help="The run's generator, where it is not found by its name.")]
OtherSegmenter = Annotated[str | None, typer.Option("--segmenter", help="Another one than the run's.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the whole result to this file, .npz.")]
PutIn = Annotated[str, typer.Option("--put-in", help="What is put in: concept-mean, quantile, or a number.")]
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
    values: PutIn = "concept-mean",
    random: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    segmenter: OtherSegmenter = None,
    out_file: Out = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Find the units that cause a concept, and compare them on held-out images with those that agree best with it."""
    check_out(out_file)
    settings = AceSettings(epochs, places, batch=batch, rate=rate, penalty=penalty, random=random)
    opened = open_run(run_file, model, segmenter, device, option, accept_licence)
    train, test = opened.fresh(samples), opened.fresh(heldout, samples)
    units, found = opened.run.layer(layer), []
    for number, name in enumerate(concept, 1):
        of = f" {number}/{len(concept)}" if len(concept) > 1 else ""
        init = units.iou[:, opened.run.concept_index(name)]
        constants = put_in(opened.run, layer, name, values)
        with progress(f"{name}{of}", unit="passes") as update:
            result = dissect.ace(
                opened.generator, opened.segmenter, layer, name, train, test, init=init, constants=constants, top=top,
                settings=settings, tile=tile, progress=update, **opened.how,
            )  # fmt: skip
        found.append(result)
        if out_file is not None:
            write(result, out_file if len(concept) == 1 else out_file.with_stem(f"{out_file.stem}-{name}"))
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
    return "–" if value is None else f"{value:{form}} ({low:{form}} to {high:{form}})"
