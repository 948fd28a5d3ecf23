"""``ganatomy units``: what each unit does, as a table."""

from __future__ import annotations

from typing import Annotated

import typer

import dissect

from ..console import columns_of, show
from .options import Csv, Json, RunFile

SHOWN = (
    "layer", "unit", "concept", "category", "iou_heldout", "chance_heldout", "stderr", "iou", "chance_iou", "threshold",
    "labelled",
)  # fmt: skip


def units(
    run_file: RunFile,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer (repeatable).")] = None,
    concept: Annotated[
        str | None, typer.Option(help="The units that agree best with this concept, whatever their own.")
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Only units that may be called labelled.")] = False,
    top: Annotated[int | None, typer.Option(help="At most so many rows, the best first.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List units with their best concept, agreement, chance and error."""
    run = dissect.open(run_file)
    names = layer or run.layers
    rows = [row for name in names for row in _rows(run.layer(name), concept, run)]
    if labelled:
        rows = [row for row in rows if row["labelled"]]
    if top is not None or concept is not None:
        rows = sorted(rows, key=_gain, reverse=True)[:top]
    columns = {k: v for k, v in columns_of(rows[0]).items() if k in SHOWN} if rows else None
    show(rows, columns, as_json, as_csv)


def _rows(layer: dissect.LayerResult, concept: str | None, run: dissect.Run) -> list[dict]:
    if concept is None:
        return [layer.row(unit) for unit in range(layer.units_count)]
    index = run.concept_index(concept)
    return [layer.row(int(unit), index) for unit in layer.units(index, top=layer.units_count)]


def _gain(row: dict) -> float:
    """Held-out IoU above chance; units without any number come last."""
    return -1.0 if row["iou_heldout"] is None else row["iou_heldout"] - row["chance_heldout"]
