"""With and without this unit: images drawn on demand, where the generator's weights are present."""

from __future__ import annotations

from collections.abc import Mapping

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from ..context import Context, link
from ..library import OpenRun
from ..profiles import Profile
from .frame import aria, section

SEEDS = 6  # shown unasked: the unit's first top samples, where it does something
CALLED = {  # the rows, from top to bottom
    "before": "with the unit", "after": "without it", "difference": "what that changes", "where": "where it is on",
}  # fmt: skip


def panel(context: Context, opened: OpenRun, profile: Profile, query: Mapping[str, str] | None = None) -> Component:
    """Return the part of a unit's page, or the line that says why nothing can be drawn.

    Args:
        context, opened, profile: what the page is about.
        query: of its address: ``seeds`` and ``without``.
    """
    title = "With and without this unit"
    reason = context.engine.live.reason(opened.run)
    if reason:
        return section(title, html.P(f"Nothing can be drawn: {' '.join(reason.split())}.", className="note"))
    given, usual = query or {}, ", ".join(str(seed) for seed in profile.tops.seeds[:SEEDS].tolist()) or "0:6"
    controls = html.Div(
        [
            html.Span("seeds", className="quiet"),
            html.Button("‹", id="live-earlier", className="step", title="Shift ←", **aria("earlier seeds")),
            dmc.TextInput(
                id="live-seeds", value=given.get("seeds", usual), size="xs", w=236, debounce=300, **aria("seeds"),
            ),
            html.Button("›", id="live-later", className="step", title="Shift →", **aria("later seeds")),
            html.Span("taken away", className="quiet"),
            dmc.Slider(
                id="live-without", value=_percentage(given.get("without")), min=0, max=100, step=1, updatemode="drag",
                label=None, size="sm", w=260, thumbLabel="how much of the unit is taken away",
            ),
            html.Span(id="live-share", className="num"),
            html.Span(id="live-says", className="trouble"),
        ],
        className="level",
    )  # fmt: skip
    rows = [
        html.Div([html.Span(says, className="quiet"), html.Img(id=f"live-{row}", alt=says)], className="row")
        for row, says in CALLED.items()
    ]  # fmt: skip
    names = html.Div([html.Span(), html.Div(id="live-names")], className="row names")
    address = link("live", opened.slug, profile.layer, profile.unit)
    return section(
        title,
        controls,
        html.Div([*rows, names], id="live-rows", className="live"),
        dcc.Store(id="live-where", data={"address": address, "run": opened.run.id, "usual": usual}),
        dcc.Store(id="live-shown"),
        note="Drawn now by the generator itself. What comes before the layer is not computed again.",
        tools=html.A("PNG", id="live-png", className="export", download="", hidden=True),
    )


def register(app: Dash, context: Context) -> None:
    """The browser asks for rows itself, so that the last place of a slider is what is shown in the end."""
    app.clientside_callback(
        ClientsideFunction("ganatomyLive", "show"), Output("live-shown", "data"),
        Input("live-without", "value"), Input("live-seeds", "value"), Input("unit-level", "value"),
        State("live-where", "data"),
    )  # fmt: skip
    for button in ("live-earlier", "live-later"):
        app.clientside_callback(
            ClientsideFunction("ganatomyLive", "later" if button == "live-later" else "earlier"),
            Output("live-seeds", "value", allow_duplicate=True), Input(button, "n_clicks"),
            State("live-seeds", "value"), prevent_initial_call=True,
        )  # fmt: skip


def _percentage(text: str | None) -> int:
    """Return 0..100 of a share in the address; all of it if there is none."""
    try:
        return min(100, max(0, round(100 * float(text or 1))))
    except (ValueError, OverflowError):
        return 100
