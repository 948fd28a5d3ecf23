"""``ganatomy insertion``: what appears where units are put in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dissect
from dissect import GanatomyError
from dissect.effects import add
from dissect.effects.areas import concept_index
from dissect.effects.tiles import Tiles

from ..console import columns_of, out, print_csv, print_json, print_table, progress
from ..experiments import parse_units, prepare, units_of, values_of
from ..heat import draw
from ..preview import save
from .ace import Insert, Layer
from .effect import OtherModel, OtherSegmenter
from .options import Accept, Csv, Device, Json, Options, RunFile, check_picture

SHOWN = ("under", "places", "near_change", "near_std", "overall_change")


def insertion(
    run_file: RunFile,
    model: OtherModel = None,
    *,
    layer: Layer,
    concept: Annotated[str, typer.Option(help="The concept that is to appear.")],
    units: Annotated[str | None, typer.Option(help="Units, 1,2,40; by default the concept's best.")] = None,
    top: Annotated[int, typer.Option(help="How many units, without --units.")] = 20,
    insert: Insert = "concept-mean",
    samples: Annotated[int, typer.Option(help="How many images, of the seeds after the run's.")] = 10,
    stride: Annotated[int | None, typer.Option(help="Side of a place in cells [1/16 of the map's, 1 or more].")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the map of the concept's change to this file, .png.")
    ] = None,
    segmenter: OtherSegmenter = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Put units in at one place at a time, and say what appears, by what was there before."""
    if picture is not None:
        check_picture(picture)
    setting = prepare(run_file, model, segmenter, device, samples, None, option, accept_licence)
    place = setting.generator.layer(layer)
    chosen = sorted(set(parse_units(units))) if units is not None else units_of(setting.run, layer, concept, top)
    constants = values_of(setting.run, layer, insert, concept)
    if max(chosen) >= len(constants):
        raise GanatomyError(f"layer {layer!r} has units 0..{len(constants) - 1}, --units names {max(chosen)}")
    concept_index(setting.segmenter.concepts, concept)  # what is wrong is told before the work
    side = Tiles.of(*place.seen, stride).side
    with progress("putting in", unit="places") as update:
        found = dissect.insertion_map(
            setting.generator, setting.segmenter, layer, chosen, constants[chosen], setting.seeds, side,
            progress=update, **setting.how,
        )  # fmt: skip
    add(setting.run, found)
    if picture is not None:
        save(draw(found, concept, setting.generator, setting.how), picture)
    rows = found.rows()
    if as_json:
        print_json({**found.header(), "rows": rows})
    elif as_csv:
        print_csv(rows)
    else:
        said = f"{len(chosen)} units of {layer} put in, {found.under[0]} of the places unlabelled; pixels of {concept}"
        out.print(said, markup=False)
        own = sorted((row for row in rows if row["appears"] == concept), key=lambda row: -row["near_change"])
        print_table(own, columns_of(SHOWN))
