"""Two layers side by side: other samples, another layer, another segmenter, before and after an edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..comparing import MAXIMA, Likeness, Pair, by_index, changes, likeness, pairs, same_weights
from ..context import Address, Context, link
from ..facts import number
from ..figures import Point, concepts_side_by_side, iou_of_pairs
from ..library import OpenRun
from ..profiles import Candidate
from ..views import picture
from . import grids
from .frame import aria, chart, exports_of_chart, page, section
from .grids import EVERY_COLUMN, NUMBER

CHANGES = {
    "same": ("same label", "#2fa37c"), "other": ("other label", "#e0803a"), "lost": ("label lost", "#d9536f"),
    "gained": ("label gained", "#3f7fd6"), "none": ("neither labelled", "#8b8f98"),
}  # fmt: skip
EXACT = {"change": "only"}
BY_INDEX, BY_LIKENESS = "index", "r"
ROW = 54


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/compare/<run>?layer=&with=&layer2=&by=``."""
    a = context.opened(address.part(0, "a run"))
    query = address.query
    b = _other(context, a, query.get("with"))
    layer = query.get("layer") or a.run.layers[0]
    second = query.get("layer2") or _default(a, b, layer)
    for opened, name in ((a, layer), (b, second)):
        opened.layer(name)
    indexed = by_index(a.run, layer, b.run, second)
    by = query.get("by") or (BY_INDEX if same_weights(a.run, b.run) else BY_LIKENESS)
    by = by if indexed else BY_LIKENESS
    head = html.Section(
        [html.H1("Compare"), html.Div(_choices(context, a, layer, b, second, by, indexed), className="filters card")],
        className="hero",
    )
    if (a.slug, layer) == (b.slug, second):
        return page(head, html.P("Choose another layer or another run to compare with.", className="lead"))
    try:
        alike = likeness(a.run, layer, b.run, second)
    except GanatomyError as error:
        return page(head, html.P(" ".join(str(error).split()), className="lead"), title="compare")
    found = pairs(a, layer, b, second, alike, by == BY_INDEX)
    return page(
        head, _summary(a, layer, b, second, alike, found, by), _charts(a, layer, b, second, found),
        _table(a, layer, b, second, found, query), title=f"{a.slug} and {b.slug}",
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Every choice is an address."""
    chosen = [State(f"compare-{name}", "value") for name in ("a", "layer", "b", "layer2", "by")]
    app.clientside_callback(
        ClientsideFunction("ganatomy", "compare"), Output("compare-a", "error"),
        *(Input(state.component_id, "value") for state in chosen), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("ganatomy", "chartClicked"), Output("compare-pairs", "className"),
        Input("compare-pairs", "clickData"), State("compare-pairs-links", "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("ganatomy", "pairsOnly"), Output("compare-count", "title"), Input("compare-only", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("ganatomy", "pairsChanged"), Output("compare-count", "children"),
        Input("compare-grid", "virtualRowData"), Input("compare-grid", "filterModel"),
        Input("compare-grid", "columnState"), Input("compare-run", "data"),
    )  # fmt: skip


def _other(context: Context, a: OpenRun, asked: str | None) -> OpenRun:
    """Return the run to compare with: the asked one, else the next, else the same."""
    if asked:
        return context.opened(asked)
    runs = context.library.runs
    others = [run for run in runs if run.slug != a.slug]
    return next((run for run in others if same_weights(run.run, a.run)), others[0] if others else a)


def _default(a: OpenRun, b: OpenRun, layer: str) -> str:
    """Return the layer to compare with: of that name in another run, the next one in the same."""
    if a.slug != b.slug:
        return layer if layer in b.run.layers else b.run.layers[0]
    return next((name for name in a.run.layers if name != layer), layer)


def _choices(
    context: Context, a: OpenRun, layer: str, b: OpenRun, second: str, by: str, indexed: bool
) -> list[Component]:  # fmt: skip
    runs = [{"value": run.slug, "label": run.slug} for run in context.library.runs]

    def select(name: str, options: list[Any], value: str, label: str) -> Component:
        return dmc.Select(
            id=f"compare-{name}", data=options, value=value, size="xs", w=150, allowDeselect=False, label=label,
            searchable=len(options) > 10,
        )  # fmt: skip

    ways = [{"value": BY_LIKENESS, "label": "most alike"}]
    if indexed:
        ways.insert(0, {"value": BY_INDEX, "label": "same number"})
    return [
        select("a", runs, a.slug, "run"), select("layer", list(a.run.layers), layer, "layer"),
        html.Span("with", className="quiet with"),
        select("b", runs, b.slug, "run"), select("layer2", list(b.run.layers), second, "layer"),
        select("by", ways, by, "match units by"),
    ]  # fmt: skip


def _summary(
    a: OpenRun, layer: str, b: OpenRun, second: str, alike: Likeness, found: list[Pair], by: str
) -> Component:  # fmt: skip
    counts = changes(found)
    mutual = sum(pair.mutual for pair in found)
    numbers = [(CHANGES[name][0], counts[name], CHANGES[name][1]) for name in CHANGES]
    over = (
        f"over each sample's maximum in {alike.count:,} samples of both runs"
        if alike.over == MAXIMA
        else f"over how much {alike.count} concepts of both runs move them from their mean"
    )
    how = {
        BY_INDEX: "Units of the same number are side by side",
        BY_LIKENESS: "Every unit of the first is beside the most alike of the second",
    }[by]
    weights = "Both are of the same weights." if same_weights(a.run, b.run) else "They are of different weights."
    best = f"{mutual} of {len(found)} pairs are each other's best."
    caution = "" if alike.over == MAXIMA else "That is weak evidence; runs with --maxima on common seeds give better."
    return html.Section(
        [
            html.P(f"{weights} {how}; r is their correlation {over}. {best} {caution}", className="note"),
            html.Dl(
                [
                    html.Div([html.Dt([html.Span(className="dash", style={"--c": colour}), name]), html.Dd(count)])
                    for name, count, colour in numbers
                ],
                className="figures",
            ),
        ]
    )


def _charts(a: OpenRun, layer: str, b: OpenRun, second: str, found: list[Pair]) -> Component:
    points = []
    for pair in found:
        if pair.first is None or pair.second is None or pair.change == "none":
            continue
        names = pair.first.name if pair.first.name == pair.second.name else f"{pair.first.name} → {pair.second.name}"
        points.append(
            Point(
                pair.first.iou_heldout, pair.second.iou_heldout, CHANGES[pair.change][1],
                f"{pair.a} and {pair.b}: {names}", link("unit", a.slug, layer, pair.a),
            )
        )  # fmt: skip
    titles = _titles(a, layer, b, second)
    counts = [_per_concept(opened, name) for opened, name in ((a, layer), (b, second))]
    order = sorted(counts[0].keys() | counts[1].keys(), key=lambda n: -(counts[0].get(n, 0) + counts[1].get(n, 0)))
    first, other = ([count.get(n, 0) for n in order] for count in counts)
    bars = concepts_side_by_side(order, first, other, titles)
    return html.Div(
        [
            section("IoU of pairs", chart("compare-pairs", iou_of_pairs(points, *titles)), tools=exports_of_chart()),
            section("Units per concept", chart("compare-concepts", bars), tools=exports_of_chart()),
        ],
        className="two",
    )


def _titles(a: OpenRun, layer: str, b: OpenRun, second: str) -> tuple[str, str]:
    if a.slug == b.slug:
        return layer, second
    return (a.slug, b.slug) if layer == second else (f"{a.slug} {layer}", f"{b.slug} {second}")


def _per_concept(opened: OpenRun, layer: str) -> dict[str, int]:
    return {opened.run.concepts[c].name: n for c, n in opened.layer(layer).per_concept.items()}


def _table(a: OpenRun, layer: str, b: OpenRun, second: str, found: list[Pair], query: Mapping[str, str]) -> Component:
    rows = [_row(a, layer, b, second, pair) for pair in found]
    order = list(CHANGES)
    rows.sort(key=lambda row: (order.index(row["changeKey"]) in (0, 4), -abs(row["dd"] or 0)))
    tops = any(pair.tops for pair in found)
    columns: list[dict[str, Any]] = [
        {"field": "change", "headerName": "label", "width": 146, "cellRenderer": "Change"},
        *_side("a", _titles(a, layer, b, second)[0]),
        *_side("b", _titles(a, layer, b, second)[1]),
        {"field": "dd", "headerName": "ΔIoU", "width": 84, **NUMBER},
        {"field": "r", "headerName": "r", "width": 76, **NUMBER},
        {"field": "mutual", "headerName": "mutual", "width": 82},
        *([{"field": "tops", "headerName": "tops shared", "width": 96}] if tops else []),
    ]
    grids.sort(columns, query)
    model = grids.filters(query, EXACT)
    grid = dag.AgGrid(
        rowData=rows, columnDefs=columns, id="compare-grid", filterModel=model, defaultColDef=EVERY_COLUMN,
        dashGridOptions={**grids.OPTIONS, "theme": grids.theme(), "rowHeight": ROW},
        className="units-grid", style={"height": "640px"},
    )  # fmt: skip
    only = dmc.Select(
        id="compare-only", data=[called for called, _ in CHANGES.values()], value=query.get("only"), size="xs", w=170,
        placeholder="all pairs", clearable=True, **aria("only pairs with"),
    )  # fmt: skip
    return section(
        "Pairs", grid, dcc.Store(id="compare-run", data=a.slug),
        note="Changed labels first, then the largest change of IoU.",
        tools=[html.Output(id="compare-count", className="num quiet"), only],
    )  # fmt: skip


def _side(side: str, title: str) -> list[dict[str, Any]]:
    return [
        {
            "field": f"{side}Thumb", "headerName": title, "width": 174, "cellRenderer": "Strip", "sortable": False,
            "filter": False, "floatingFilter": False, "cellClass": "strip-cell short",
            "cellRendererParams": {"side": side},
        },
        {
            "field": f"{side}Unit", "headerName": "unit", "width": 72, **NUMBER, "cellRenderer": "UnitLink",
            "cellRendererParams": {"side": side},
        },
        {
            "field": f"{side}Concept", "headerName": "concept", "width": 140, "cellRenderer": "ConceptBadge",
            "cellRendererParams": {"side": side},
        },
        {"field": f"{side}Iou", "headerName": "IoU", "width": 76, **NUMBER},
    ]  # fmt: skip


def _row(a: OpenRun, layer: str, b: OpenRun, second: str, pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {
        "change": CHANGES[pair.change][0], "changeKey": pair.change, "changeColour": CHANGES[pair.change][1],
        "r": None if number(pair.r) == "–" else round(pair.r, 4), "mutual": "yes" if pair.mutual else "no",
        "tops": None if pair.tops is None else f"{pair.tops[0]} of {pair.tops[1]}",
        **_cells("a", a, layer, pair.a, pair.first, pair.labelled[0]),
        **_cells("b", b, second, pair.b, pair.second, pair.labelled[1]),
    }  # fmt: skip
    both = row["aIou"] is not None and row["bIou"] is not None
    return row | {"dd": round(row["bIou"] - row["aIou"], 6) if both else None}


def _cells(side: str, opened: OpenRun, layer: str, unit: int, best: Candidate | None, labelled: bool) -> dict[str, Any]:
    cells = {
        "Unit": unit, "Thumb": picture(opened, "thumb", layer, unit), "Href": link("unit", opened.slug, layer, unit),
        "Labelled": "yes" if labelled else "no", "Concept": best.name if best else None,
        "Colour": opened.colours[best.category] if best else None,
        "ConceptHref": link("concepts", opened.slug, best.name) if best else None,
        "Iou": round(best.iou_heldout, 6) if best else None,
    }  # fmt: skip
    return {f"{side}{name}": value for name, value in cells.items()}
