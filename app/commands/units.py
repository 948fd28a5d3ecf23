"""``ganatomy units``: what each unit does, as a table."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

import dissect

from ..console import columns_of, show
from .options import Csv, Json, RunFile

SHOWN = (
    "layer", "unit", "concept", "category", "iou_heldout", "chance_heldout", "stderr", "iou", "chance_iou", "threshold",
    "labelled",
)  # fmt: skip

BY_CLASS = ("layer", "unit", "concept", "labelled", "class", "class_maximum", "mean_maximum", "class_share")


def units(
    run_file: RunFile,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer (repeatable).")] = None,
    concept: Annotated[
        str | None, typer.Option(help="The units that agree best with this concept, whatever their own.")
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Only units that may be called labelled.")] = False,
    top: Annotated[int | None, typer.Option(help="At most so many rows, the best first.")] = None,
    classes: Annotated[
        bool, typer.Option("--by-class", help="Which class drives each unit most; for runs made with --maxima.")
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List units with their best concept, agreement, chance and error."""
    run = dissect.open(run_file)
    names = layer or run.layers
    rows = [row for name in names for row in _rows(run.layer(name), concept, run)]
    if classes:
        driven = [row for name in names for row in _by_class(run.layer(name))]
        of = {(row["layer"], row["unit"]): row for row in rows}
        rows = [of[row["layer"], row["unit"]] | row for row in driven if (row["layer"], row["unit"]) in of]
    if labelled:
        rows = [row for row in rows if row["labelled"]]
    if top is not None or concept is not None:
        rows = sorted(rows, key=_share if classes and concept is None else _gain, reverse=True)[:top]
    shown = BY_CLASS if classes else SHOWN
    columns = {k: v for k, v in columns_of(rows[0]).items() if k in shown} if rows else None
    certain = ("labelled",) if labelled else ()
    show(rows, columns, as_json, as_csv, spare=(*certain, "threshold", "category", "iou", "chance_iou"))


def _rows(layer: dissect.LayerResult, concept: str | None, run: dissect.Run) -> list[dict]:
    if concept is None:
        return [layer.row(unit) for unit in range(layer.units_count)]
    index = run.concept_index(concept)
    return [layer.row(int(unit), index) for unit in layer.units(index, top=layer.units_count)]


def _by_class(layer: dissect.LayerResult) -> list[dict]:
    """Return for each unit the class that drives it most, and how much of its maxima classes explain."""
    found = layer.by_class
    strongest = found.maximum.argmax(0)
    mean = found.samples @ found.maximum / found.samples.sum()
    return [
        {
            "layer": layer.name,
            "unit": unit,
            "class": int(found.classes[best]),
            "class_maximum": float(found.maximum[best, unit]),
            "mean_maximum": float(mean[unit]),
            "class_share": None if np.isnan(found.share[unit]) else float(found.share[unit]),
        }
        for unit, best in enumerate(strongest)
    ]


def _share(row: dict) -> float:
    """How much of a unit classes explain; units without any number come last."""
    return -np.inf if row["class_share"] is None else row["class_share"]


def _gain(row: dict) -> float:
    """Held-out IoU above chance; units without any number come last."""
    return -1.0 if row["iou_heldout"] is None else row["iou_heldout"] - row["chance_heldout"]
