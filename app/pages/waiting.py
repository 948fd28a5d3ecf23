"""What is shown while a run's tables are computed: how far they are, until the page itself can be."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..console import human_seconds
from ..context import Context, NotYet
from ..reports import Report
from .frame import page

POLL = 400  # milliseconds between two looks


def layout(error: NotYet) -> Component:
    """Return the page that stands for one whose run is not ready yet, and gives way to it."""
    shown: Any = page(
        html.H1(["Reading ", html.Em(error.opened.slug)]),
        html.P("Its tables are computed from its counts, once; then its pages open at once.", className="lead"),
        html.P(_says(error.report), id="waiting-says", className="num"),
        dcc.Interval(id="waiting-poll", interval=POLL),
        dcc.Store(id="waiting-run", data=error.opened.slug),
        dcc.Store(id="waiting-done"),
        title=error.opened.slug,
    )
    shown.id = "waiting"
    return shown


def register(app: Dash, context: Context) -> None:
    """Look until it is done, then let the address be shown anew; of a page that was left meanwhile nothing is left."""

    @app.callback(
        Output("waiting-says", "children"), Output("waiting-done", "data"), Input("waiting-poll", "n_intervals"),
        State("waiting-run", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _look(count: int, slug: str) -> tuple[Any, Any]:
        try:
            context.opened(slug)
        except NotYet as error:
            return _says(error.report), no_update
        except GanatomyError:
            pass  # the page says what is wrong
        return no_update, count

    app.clientside_callback(
        ClientsideFunction("ganatomy", "again"), Output("again", "data"), Input("waiting-done", "data"),
        State("again", "data"), prevent_initial_call=True,
    )  # fmt: skip


def _says(report: Report) -> list[Any]:
    meter = html.Span(className="meter wide", style={"--v": f"{report.share:.4f}"})
    if not report.total:
        return [meter, "waiting for another run's"]
    left = f", about {human_seconds(report.seconds_left)} left" if report.seconds_left is not None else ""
    return [meter, f"layer {report.done + 1} of {report.total}, {report.message}{left}"]
