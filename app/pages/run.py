"""A run: what was dissected, and what was found in each layer."""

from __future__ import annotations

import math

from dash import Dash, dcc, html
from dash.development.base_component import Component

from dissect.agreement import ALPHA

from ..context import Address, Context, link
from ..facts import facts, number, percent
from ..figures import Panel, units_per_concept
from ..library import OpenRun
from ..profiles import LayerProfile
from .frame import page, section


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/run/<run>``."""
    opened = context.library.get(address.parts[0] if address.parts else "")
    layers = opened.layers
    return page(
        _head(opened, layers), _chart(opened, layers), _table(opened, layers), _facts(opened), title=opened.slug
    )


def register(app: Dash, context: Context) -> None:
    """The page has no callbacks of its own."""


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
    figure = units_per_concept(panels, opened.run.concepts)
    graph = dcc.Graph(
        id="run-chart",
        figure=figure,
        config={"displayModeBar": False},
        responsive=True,
        style={"height": figure.layout.height},
    )
    note = "Every bar counts the labelled units of one concept in one layer. Click a bar to see them."
    return section("Units per concept", html.Div(graph, className="card chart"), note=note)


def _table(opened: OpenRun, layers: list[LayerProfile]) -> Component:
    heads = (
        "layer",
        "maps",
        "units",
        "labelled",
        "share",
        "concepts",
        "by chance, at most",
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
            html.Td(len(layer.per_concept), className="n"), html.Td(math.ceil(ALPHA * layer.units), className="n"),
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
