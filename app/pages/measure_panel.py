"""A button that measures what the page is about, and how far that is: on the pages of a unit and of a concept.

Each page has its question in ``measure-what``, and what is known in ``measure-result``; this is what joins them. What
runs is a job like any other: it goes on when the page is left, and a page that is opened meanwhile shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..console import human_seconds
from ..context import Context
from ..facts import percent
from ..library import OpenRun
from ..measures import FEWEST, IMAGES, MOST, MOST_UNITS, TOP, Measure
from ..reports import Report
from ..reports import State as JobState
from .frame import aria

POLL = 500  # milliseconds
Known = Callable[[Context, dict[str, Any]], Component]  # what is known of a question, shown


def panel(
    context: Context, opened: OpenRun, asked: Measure, known: Component, layers: list[str] | None = None
) -> Component:
    """Return what is known, and below it the button; or the line that says why nothing can be measured.

    Args:
        asked: what the page is about. known: what is shown of it now. layers: among which people choose, if they do.
    """
    reason = context.engine.measures.reason(opened)
    if reason:
        note = html.P(f"Nothing can be measured here: {' '.join(reason.split())}.", className="note")
        return html.Div([html.Div(known), note])
    running = context.engine.measures.running(asked)
    what = {"slug": asked.slug, "unit": asked.unit, "concept": asked.concept}
    return html.Div(
        [
            html.Div(known, id="measure-result"),
            html.Div(
                [
                    *_choices(asked, layers),
                    html.Span("images", className="quiet"),
                    dmc.NumberInput(
                        id="measure-images", value=IMAGES, min=FEWEST, max=MOST, step=50, allowDecimal=False, size="xs",
                        w=96, **aria("images"),
                    ),
                    html.Button("Measure now", id="measure-start", className="act"),
                    html.Button("Cancel", id="measure-cancel", className="act", hidden=running is None),
                    html.Span(line(running) if running else "", id="measure-says"),
                ],
                className="level measure",
            ),
            dcc.Store(id="measure-what", data=what),
            dcc.Store(id="measure-job", data=running.id if running else None),
            dcc.Interval(id="measure-poll", interval=POLL, disabled=running is None),
        ]
    )  # fmt: skip


def _choices(asked: Measure, layers: list[str] | None) -> list[Component]:
    if layers is None:
        return [
            dcc.Input(id="measure-layer", type="hidden", value=asked.layer),
            dcc.Input(id="measure-units", type="hidden", value=str(TOP)),
        ]
    return [
        html.Span("layer", className="quiet"),
        dmc.Select(
            id="measure-layer", data=layers, value=asked.layer, size="xs", w=190, allowDeselect=False, **aria("layer"),
        ),
        html.Span("its best units", className="quiet"),
        dmc.NumberInput(
            id="measure-units", value=asked.units, min=1, max=MOST_UNITS, step=10, allowDecimal=False, size="xs", w=84,
            **aria("units"),
        ),
    ]  # fmt: skip


def register(app: Dash, context: Context, known: dict[str, Known]) -> None:
    """Start, watch, cancel.

    Args:
        known: of ``unit`` and ``concept``: how what is known is shown.
    """
    measures, worker = context.engine.measures, context.engine.worker

    @app.callback(
        Output("measure-says", "children"), Output("measure-job", "data"), Output("measure-poll", "disabled"),
        Output("measure-cancel", "hidden"), Input("measure-start", "n_clicks"), State("measure-what", "data"),
        State("measure-layer", "value"), State("measure-units", "value"), State("measure-images", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _start(clicks: int | None, what: dict[str, Any], layer: str, units: Any, images: Any) -> tuple[Any, ...]:
        if not clicks:
            return (no_update,) * 4
        try:
            number = measures.start(_asked(what, layer, units, images))
        except GanatomyError as error:
            return trouble(error), no_update, True, True
        return line(worker.report(number)), number, False, False

    @app.callback(
        Output("measure-says", "children", allow_duplicate=True),
        Output("measure-poll", "disabled", allow_duplicate=True),
        Output("measure-cancel", "hidden", allow_duplicate=True), Output("measure-result", "children"),
        Input("measure-poll", "n_intervals"), State("measure-job", "data"), State("measure-what", "data"),
        State("measure-layer", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def _look(_polls: int, number: int | None, what: dict[str, Any], layer: str) -> tuple[Any, ...]:
        if number is None:
            return no_update, True, True, no_update
        try:
            report = worker.report(int(number))
            if not report.state.ended:
                return line(report), False, False, no_update
            if report.state is not JobState.DONE:
                said = html.Span(report.error or report.message or report.state.value, className="trouble")
                return said, True, True, no_update
            kind = "unit" if what.get("unit") is not None else "concept"
            return line(report), True, True, known[kind](context, {**what, "layer": layer})
        except GanatomyError as error:
            return trouble(error), True, True, no_update

    @app.callback(
        Output("measure-cancel", "disabled"), Input("measure-cancel", "n_clicks"), State("measure-job", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _cancel(clicks: int | None, number: int | None) -> bool:
        if clicks and number is not None:
            worker.cancel(int(number))
        return False


def _asked(what: dict[str, Any], layer: str, units: Any, images: Any) -> Measure:
    """Return the question that a page's fields make; GanatomyError for a field that is no number."""
    numbers = []
    for called, value in (("units", units), ("images", images)):
        try:
            numbers.append(int(value))
        except (TypeError, ValueError) as error:
            raise GanatomyError(f"expected a number of {called}, got {value!r}") from error
    return Measure(str(what["slug"]), str(layer), what.get("unit"), what.get("concept"), *numbers)


def line(report: Report) -> list[Any]:
    """Return how far a job is."""
    if report.state is JobState.WAITING:
        return ["waits for its turn"]
    if report.state is JobState.DONE:
        return [f"measured in {human_seconds(report.seconds)}, kept beside the run"]
    parts: list[Any] = [html.Span(className="meter", style={"--v": f"{report.share:.4f}"})]
    if report.total:
        parts.append(f" {percent(report.share)}")
    if report.seconds_left is not None:
        parts.append(f" {human_seconds(report.seconds_left)} left")
    return [*parts, f" {'ends as soon as it can' if report.cancelling else report.message}"]


def trouble(error: GanatomyError) -> Component:
    """Return what is wrong, in a line."""
    return html.Span(" ".join(str(error).split()), className="trouble")
