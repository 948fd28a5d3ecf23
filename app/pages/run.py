"""A run: what was dissected, and what was found in each layer."""

from __future__ import annotations

from dash import ClientsideFunction, Dash, Input, Output, State, html
from dash.development.base_component import Component

from dissect.agreement import ALPHA

from ..context import Address, Context, link
from ..facts import facts, number, percent
from ..figures import Panel, Point, iou_against_chance, labelled_shares, units_per_concept
from ..library import OpenRun
from ..profiles import LayerProfile
from .frame import chart, exports_of_chart, page, section


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/run/<run>``."""
    opened = context.opened(address.part(0, "a run"))
    layers = opened.layers
    return page(
        _head(opened, layers),
        _chart(opened, layers),
        _against_chance(opened, layers),
        _table(opened, layers),
        _facts(opened),
        title=opened.slug,
    )


def register(app: Dash, context: Context) -> None:
    """A click into a chart leads to what was clicked."""
    for name in ("run-chart", "run-agreement"):
        app.clientside_callback(
            ClientsideFunction("ganatomy", "chartClicked"), Output(name, "className"), Input(name, "clickData"),
            State(f"{name}-links", "data"), prevent_initial_call=True,
        )  # fmt: skip


def _head(opened: OpenRun, layers: list[LayerProfile]) -> Component:
    units, labelled = sum(layer.units for layer in layers), sum(layer.labelled for layer in layers)
    found, judged = {c for layer in layers for c in layer.per_concept}, int(opened.run.judged.sum())
    numbers = [
        ("units", f"{units:,}", ""), ("labelled", f"{labelled:,}", percent(labelled / units)),
        ("concepts found", str(len(found)), f"of {judged}"), ("samples", f"{opened.run.samples:,}", ""),
    ]  # fmt: skip
    return html.Section(
        [
            html.H1(["What the units of ", html.Em(opened.generator), " do"]),
            html.P(opened.title, className="lead"),
            html.Dl(
                [html.Div([html.Dt(n), html.Dd([v + " ", html.Small(more)])]) for n, v, more in numbers],
                className="figures",
            ),
        ],
        className="hero",
    )


def _chart(opened: OpenRun, layers: list[LayerProfile]) -> Component:
    panels = [Panel(layer.name, layer.units, layer.per_concept) for layer in layers]
    links = {
        f"{index},{c}": link(
            "units", opened.slug, layer=layer.name, concept=opened.run.concepts[c].name, labelled="yes"
        )
        for index, layer in enumerate(layers)
        for c in layer.per_concept
    }
    return section(
        "Units per concept", chart("run-chart", units_per_concept(panels, opened.run.concepts), links),
        note="Every bar counts the labelled units of one concept in one layer. Click a bar to see them.",
        tools=exports_of_chart(),
    )  # fmt: skip


def _against_chance(opened: OpenRun, layers: list[LayerProfile]) -> Component:
    shares = labelled_shares(
        [layer.name for layer in layers], [layer.labelled / layer.units for layer in layers],
        [layer.by_chance / layer.units for layer in layers], ALPHA,
    )  # fmt: skip
    points = []
    for layer in layers:
        for unit in map(int, layer.label.nonzero()[0]):
            c = layer.candidate(unit, int(layer.label[unit]))
            href = link("unit", opened.slug, layer.name, unit)
            text = f"{c.name}, {layer.name} · {unit}"
            points.append(Point(c.chance_heldout, c.iou_heldout, opened.colours[c.category], text, href))
    agreement = section(
        "IoU against chance", chart("run-agreement", iou_against_chance(points)), tools=exports_of_chart(),
        note="Every point is a labelled unit. On the dotted line it would be no better than chance.",
    )  # fmt: skip
    note = (
        "By chance: the same rule, with each image's labels and the next one's exchanged in every other group of "
        "samples. Dashed: of units without relation to the concepts it labels at most that share."
    )
    return html.Div(
        [section("Labelled share", chart("run-shares", shares), tools=exports_of_chart(), note=note), agreement],
        className="two",
    )


def _table(opened: OpenRun, layers: list[LayerProfile]) -> Component:
    heads = (
        "layer",
        "maps",
        "units",
        "labelled",
        "share",
        "concepts",
        "by chance",
        "median IoU",
        "median chance",
        "median D",
    )
    rows = []
    for layer in layers:
        medians, share = layer.medians(), layer.labelled / layer.units
        cells = [
            html.Td(html.A(html.B(layer.name), href=link("units", opened.slug, layer=layer.name))),
            html.Td(f"{layer.height} × {layer.width}", className="n"), html.Td(layer.units, className="n"),
            html.Td(layer.labelled, className="n"),
            html.Td([meter(share), html.Span(percent(share), className="num")]),
            html.Td(len(layer.per_concept), className="n"), html.Td(layer.by_chance, className="n"),
            html.Td(number(medians["iou"]), className="n"), html.Td(number(medians["chance"]), className="n"),
            html.Td(html.B(number(medians["difference"])), className="n"),
        ]  # fmt: skip
        rows.append(html.Tr(cells))
    head = html.Thead(html.Tr([html.Th(h, className="" if h in ("layer", "share") else "n") for h in heads]))
    return section("Layers", html.Div(html.Table([head, html.Tbody(rows)], className="data"), className="card scroll"))


def meter(share: float) -> Component:
    """Return a small bar that is filled to a share."""
    return html.Span(className="meter", style={"--v": f"{share:.4f}"})


def _facts(opened: OpenRun) -> Component:
    pairs = [part for name, value in facts(opened.run) for part in (html.Dt(name), html.Dd(value))]
    return section("This run", html.Dl(pairs, className="facts card"))
