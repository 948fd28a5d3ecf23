"""Jobs: start a dissection, watch the queue, open what is finished."""

from __future__ import annotations

import math
import secrets
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..console import human_seconds
from ..context import Address, Context, link
from ..facts import NO_VALUE, percent
from ..orders import Order, can_go_on
from ..reports import Report
from ..reports import State as JobState
from ..worker import Superseded
from .frame import page, section

SOON = 2.0  # seconds that the list of layers waits for the device; its page's threads are needed by others
POLL = 700  # milliseconds between two looks at the queue
SEGMENTERS = ("face-parts+colors",)  # a useful sum, before what the catalogue lists
SAMPLES, MOST_SAMPLES = 1000, 10_000_000
FIELDS = ("generator", "segmenter", "samples", "first", "layers", "truncation", "out")
GO_ON, CANCEL = "go-on", "cancel"


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/jobs``."""
    return page(
        section("Start a dissection", _form(context)),
        section("Queue", html.Div(_queue(context), id="jobs-list", className="jobs")),
        dcc.Interval(id="jobs-poll", interval=POLL),
        dcc.Store(id="order-who", data=secrets.token_hex(8)),
        dcc.Store(id="order-asked"),
        title="jobs",
    )


def register(app: Dash, context: Context) -> None:
    """Start, watch, cancel, go on."""

    # Looking and acting are apart: of two answers on their way to one callback, browsers drop the earlier.
    @app.callback(Output("jobs-list", "children"), Input("jobs-poll", "n_intervals"), prevent_initial_call=True)
    def _look(_polls: int) -> list[Component]:
        return _queue(context)

    @app.callback(
        Output("order-says", "children"), Output("order-out", "value"),
        Output("jobs-list", "children", allow_duplicate=True),
        Input("order-start", "n_clicks"), *(State(f"order-{name}", "value") for name in FIELDS),
        prevent_initial_call=True,
    )  # fmt: skip
    def _start(_clicks: int, *values: Any) -> tuple[Any, Any, Any]:
        try:
            number = context.engine.orders.start(order_of(dict(zip(FIELDS, values, strict=True))))
        except GanatomyError as error:
            return _trouble(error), no_update, no_update
        return f"job {number} is in the queue", "", _queue(context)

    @app.callback(
        Output("order-says", "children", allow_duplicate=True), Output("jobs-list", "children", allow_duplicate=True),
        Input({"type": "job", "act": ALL, "id": ALL}, "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip
    def _act(_clicks: list[int | None]) -> tuple[Any, Any]:
        chosen = ctx.triggered_id
        if not isinstance(chosen, dict) or not ctx.triggered[0]["value"]:  # a button that has just appeared
            return no_update, no_update
        try:
            return _do(context, chosen["act"], int(chosen["id"])), _queue(context)
        except GanatomyError as error:
            return _trouble(error), no_update

    app.clientside_callback(
        ClientsideFunction("ganatomy", "generatorTyped"), Output("order-asked", "data"),
        Input("order-generator", "value"), State("order-who", "data"),
    )  # fmt: skip

    @app.callback(
        Output("order-layers", "data"), Output("order-layers", "value"), Output("order-layers", "placeholder"),
        Input("order-asked", "data"), State("order-layers", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def _layers(asked: dict[str, Any] | None, chosen: list[str] | None) -> tuple[Any, Any, Any]:
        try:
            names, recommended = _layers_of(context, asked or {})
        except Superseded:
            return no_update, no_update, no_update
        kept = [name for name in chosen or [] if name in names]
        return names, kept, f"as recommended: {', '.join(recommended)}" if recommended else "as recommended"


def order_of(values: dict[str, Any]) -> Order:
    """Return the order that the form's values make; GanatomyError for a field that is no number."""
    numbers: dict[str, Any] = {}
    kinds: dict[str, tuple[str, Any]] = {
        "samples": ("samples", int), "first": ("first seed", int), "truncation": ("truncation", float),
    }  # fmt: skip
    for name, (called, kind) in kinds.items():
        try:
            numbers[name] = kind(values[name])
            if not math.isfinite(numbers[name]):
                raise ValueError("not finite")
        except (TypeError, ValueError, OverflowError) as error:
            raise GanatomyError(f"expected a number for {called}, got {values[name]!r}") from error
    return Order(
        str(values["generator"] or ""), str(values["segmenter"] or ""), numbers["samples"], numbers["first"],
        tuple(values["layers"] or ()), str(values["out"] or ""), numbers["truncation"],
    )  # fmt: skip


def _do(context: Context, act: str, number: int) -> str:
    """Do what a job's button says, and return what to say of it."""
    engine = context.engine
    if act == CANCEL:
        engine.worker.cancel(number)
        return ""
    report = engine.worker.report(number)
    if not can_go_on(report):
        raise GanatomyError(f"job {number} cannot go on")
    return f"job {engine.orders.start(report.details)} is in the queue"


def _layers_of(context: Context, asked: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the layers of a generator and the recommended ones; nothing if it cannot be opened soon.

    Raises:
        Superseded: if another generator was typed on the same page before this one's turn came.
    """
    orders, generator = context.engine.orders, str(asked.get("generator") or "")
    if not orders.weights.is_here(generator, orders.folder):
        return [], []
    try:
        return orders.layers(generator, ("layers", str(asked.get("who"))), float(asked.get("turn") or 0), SOON)
    except GanatomyError:
        return [], []  # what is wrong with it is said when it is started


def _trouble(error: GanatomyError) -> Component:
    return html.Span(" ".join(str(error).split()), className="trouble")


def _form(context: Context) -> Component:
    orders = context.engine.orders
    generators, runs = orders.generators(), context.library.runs
    usual = runs[0].generator if runs and runs[0].generator in generators else "planted:0"
    segmenters = [*SEGMENTERS, *orders.segmenters()]
    fields = [
        dmc.Autocomplete(
            id="order-generator", label="Generator", description="of the catalogue, or a file in the folder",
            data=generators, value=usual, className="broad", limit=20,
        ),
        dmc.Autocomplete(
            id="order-segmenter", label="Segmenter", description="several are joined by +", data=segmenters,
            value="planted" if usual.startswith("planted") else segmenters[0], className="broad", limit=20,
        ),
        html.Div(
            dmc.MultiSelect(
                id="order-layers", label="Layers", description="all in one pass", data=[], value=[], searchable=True,
                hidePickedOptions=True, placeholder="as recommended",
            ),
            className="broad",
        ),
        dmc.NumberInput(
            id="order-samples", label="Samples", description="images, one per seed", value=SAMPLES, min=4,
            max=MOST_SAMPLES, step=100, allowDecimal=False, thousandSeparator=" ",
        ),
        dmc.NumberInput(
            id="order-first", label="First seed", description="others, to compare", value=0, min=0, max=2**32 - 1,
            step=1000, allowDecimal=False,
        ),
        dmc.TextInput(
            id="order-out", label="File", description=f"in the folder {orders.folder.resolve().name}", value="",
            placeholder="named after both", className="broad",
        ),
        dmc.NumberInput(
            id="order-truncation", label="Truncation", description="1 is none", value=1, min=0, max=2, step=0.1,
        ),
        html.Div(
            [html.Button("Start", id="order-start", className="act main"), html.Span(id="order-says")],
            className="finish",
        ),
    ]  # fmt: skip
    return html.Div(fields, className="order card pad")


# -- the queue -------------------------------------------------------------------------------------------------


def _queue(context: Context) -> list[Component]:
    reports = context.engine.worker.reports()
    if not reports:
        return [html.P("No job has been started.", className="note")]
    return [_job(report) for report in reports]


def _job(report: Report) -> Component:
    head = html.B([f"{report.id} · {report.title}", html.Span(report.state.value, className="state")])
    lines = [html.Div(_line(report), className="told")]
    if report.error:
        lines.append(html.Div(report.error, className="told trouble"))
    return html.Div(
        [head, *lines, html.Div(_acts(report), className="acts")],
        className=f"job card pad {report.state.value}", id=f"job-{report.id}",
    )  # fmt: skip


def _line(report: Report) -> list[Any]:
    """Return how far a job is, in a line."""
    parts: list[Any] = []
    if report.state is JobState.RUNNING:
        parts.append(html.Span(className="meter", style={"--v": f"{report.share:.4f}"}))
        parts.append(html.Span(percent(report.share) if report.total else NO_VALUE))
        if report.total:
            parts.append(html.Span(f"{report.done:,} of {report.total:,}"))
        if report.seconds_left is not None:
            parts.append(html.Span(f"{human_seconds(report.seconds_left)} left"))
    elif report.seconds:
        parts.append(html.Span(f"took {human_seconds(report.seconds)}"))
    if isinstance(report.details, Order):
        parts.append(html.Span(report.details.out))
    message = "ends as soon as it can" if report.cancelling else report.message
    if message:
        parts.append(html.Span(message))
    return parts


def _acts(report: Report) -> list[Component]:
    if not report.state.ended:
        return [_button(report, CANCEL, "Cancel", report.cancelling)]
    if report.state is JobState.DONE and report.result and isinstance(report.details, Order):
        return [html.A("Open", href=link("run", report.result), className="act")]
    return [_button(report, GO_ON, "Go on")] if can_go_on(report) else []


def _button(report: Report, act: str, text: str, disabled: bool = False) -> Component:
    return html.Button(text, id={"type": "job", "act": act, "id": report.id}, className="act", disabled=disabled)
