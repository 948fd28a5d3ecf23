"""All units of a run in one grid: to sort, to filter, to search. The view is in the address."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..context import Address, Context, link
from ..library import OpenRun
from ..notes import Notebook
from ..views import picture
from . import grids
from .frame import page
from .grids import EVERY_COLUMN, NUMBER

MOST_LAYERS = 7  # that fit side by side as buttons
ROW, STRIP = 54, 256  # pixels
DIGITS = 6  # of a number in a row
EXACT = {name: name for name in ("layer", "concept", "labelled")}  # filters with a word of their own in the address


def layout(context: Context, address: Address) -> Component:
    """Return the grid of ``/units/<run>``; the query says what is shown, and in which order."""
    opened = context.opened(address.part(0, "a run"))
    model = grids.filters(address.query, EXACT)
    return page(
        html.Div(_controls(opened, address.query), className="filters card"),
        _grid(opened, rows(opened), model, address.query),
        dcc.Store(id="units-view", data={"run": opened.slug, "q": address.query.get("q", ""), "filters": model}),
        title=f"units of {opened.slug}",
    )


def register(app: Dash, context: Context) -> None:
    """Everything that happens on this page happens in the browser."""
    ours = {"namespace": "ganatomy"}
    app.clientside_callback(
        ClientsideFunction(**ours, function_name="unitsControls"), Output("units-count", "title"),
        Input("units-layer", "value"), Input("units-concept", "value"), Input("units-labelled", "checked"),
        Input("units-search", "value"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction(**ours, function_name="unitsChanged"), Output("units-count", "children"),
        Input("units-grid", "virtualRowData"), Input("units-grid", "filterModel"), Input("units-grid", "columnState"),
        Input("units-view", "data"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction(**ours, function_name="unitsCsv"), Output("units-csv", "title"),
        Input("units-csv", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip


def rows(opened: OpenRun) -> list[dict[str, Any]]:
    """Return a row per unit: labelled ones first, then by D."""
    noted = _notes(opened)
    found = []
    for layer in opened.layers:
        for unit in layer.ranking():
            concept = int(layer.label[unit] or layer.winner[unit])
            row: dict[str, Any] = {
                "href": link("unit", opened.slug, layer.name, unit),
                "thumb": picture(opened, "thumb", layer.name, unit), "layer": layer.name, "unit": unit,
                "labelled": "yes" if layer.label[unit] else "no",
            }  # fmt: skip
            if concept:
                best = layer.candidate(unit, concept)
                row |= {
                    "concept": best.name, "category": best.category, "colour": opened.colours[best.category],
                    "iou": _plain(best.iou_heldout), "chance": _plain(best.chance_heldout),
                    "d": _plain(best.difference), "stderr": _plain(best.stderr), "ap": _plain(best.average_precision),
                    "conceptHref": link("concepts", opened.slug, best.name),
                }  # fmt: skip
            note = noted.get((layer.name, unit))
            if note is not None:
                row |= {"tags": ", ".join(note.tags), "note": note.note}
            found.append(row)
    found.sort(key=lambda row: (row["labelled"] == "no", -(row.get("d") or -1)))
    return found


def _notes(opened: OpenRun) -> dict[tuple[str, int], Any]:
    try:
        return dict(Notebook(opened.run).read())
    except GanatomyError:
        return {}  # the page of a unit says what is wrong with them


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)


def _controls(opened: OpenRun, query: dict[str, str]) -> list[Component]:
    names = opened.run.layers
    layers = [{"value": "", "label": "all layers"}, *({"value": name, "label": name} for name in names)]
    choose: Component
    if len(names) <= MOST_LAYERS:
        choose = dmc.SegmentedControl(id="units-layer", data=layers, value=query.get("layer", ""), size="xs")
    else:
        choose = dmc.Select(id="units-layer", data=layers, value=query.get("layer", ""), size="xs", searchable=True)
    return [
        choose,
        dmc.Select(
            id="units-concept", data=_concepts(opened), value=query.get("concept"), placeholder="any concept", w=190,
            size="xs", searchable=True, clearable=True, nothingFoundMessage="no such concept",
        ),
        dmc.Checkbox(
            id="units-labelled", label="labelled only", checked=query.get("labelled") == "yes", size="xs", radius="sm",
        ),
        dmc.TextInput(
            id="units-search", value=query.get("q", ""), placeholder="search names, tags, notes", size="xs", w=210,
        ),
        html.Output(id="units-count", className="num"),
        dmc.Button("CSV", id="units-csv", size="compact-xs", variant="default", n_clicks=0),
    ]  # fmt: skip


def _concepts(opened: OpenRun) -> list[dict[str, Any]]:
    """Return the concepts that are some unit's best, by category, with the number of units that are labelled so."""
    counts: Counter[int] = Counter()
    there: set[int] = set()
    for layer in opened.layers:
        counts.update(layer.per_concept)
        there.update(int(c) for c in layer.winner if c)
    groups: dict[str, list[dict[str, str]]] = {}
    for index in sorted(there, key=lambda c: (-counts[c], c)):
        concept = opened.run.concepts[index]
        item = {"value": concept.name, "label": f"{concept.name} ({counts[index]})"}
        groups.setdefault(concept.category or "other", []).append(item)
    return [{"group": name, "items": items} for name, items in groups.items()]


def _grid(opened: OpenRun, found: list[dict], model: dict[str, Any], query: dict[str, str]) -> Component:
    columns: list[dict[str, Any]] = [
        {
            "field": "thumb", "headerName": "top samples", "width": STRIP, "minWidth": STRIP, "maxWidth": STRIP,
            "cellRenderer": "Strip", "sortable": False, "filter": False, "floatingFilter": False, "resizable": False,
            "getQuickFilterText": {"function": "''"}, "cellClass": "strip-cell",
        },
        {"field": "layer", "headerName": "layer", "width": 104},
        {"field": "unit", "headerName": "unit", "width": 76, **NUMBER, "cellRenderer": "UnitLink"},
        {"field": "concept", "headerName": "concept", "width": 148, "cellRenderer": "ConceptBadge"},
        {"field": "category", "headerName": "category", "width": 104},
        {"field": "labelled", "headerName": "labelled", "width": 92},
        {"field": "iou", "headerName": "IoU", "width": 78, **NUMBER, "headerTooltip": "on held-out samples"},
        {"field": "chance", "headerName": "chance", "width": 88, **NUMBER, "headerTooltip": "labels of other images"},
        {"field": "d", "headerName": "D", "width": 78, **NUMBER, "headerTooltip": "IoU minus chance"},
        {"field": "stderr", "headerName": "±", "width": 72, **NUMBER, "headerTooltip": "standard error of D"},
        {"field": "ap", "headerName": "AP", "width": 72, **NUMBER, "headerTooltip": "average precision"},
        {"field": "tags", "headerName": "tags", "minWidth": 90, "flex": 1},
        {"field": "note", "headerName": "note", "width": 150},
    ]  # fmt: skip
    grids.sort(columns, query)
    return dag.AgGrid(
        id="units-grid", rowData=found, columnDefs=columns, filterModel=model, getRowId="params.data.href",
        defaultColDef=EVERY_COLUMN,
        dashGridOptions={
            **grids.OPTIONS, "theme": grids.theme(), "rowHeight": ROW,
            "quickFilterText": query.get("q", ""), "suppressCellFocus": False, "enableCellTextSelection": True,
            "rowBuffer": 6, "tooltipShowDelay": 300, "suppressColumnMoveAnimation": True,
        },
        className="units-grid", style={"height": "calc(100vh - 150px)", "minHeight": "420px"},
    )  # fmt: skip
