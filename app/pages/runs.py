"""The first page: the open runs, files that cannot be opened, and passes that are under way."""

from __future__ import annotations

from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from ..console import human_seconds
from ..context import Address, Context, link
from ..library import OpenRun, Unopened
from . import run as run_page
from .frame import page, section

POLL = 2000  # milliseconds between two looks at files that are not finished


def layout(context: Context, address: Address) -> Component:
    """Return the list of runs; where there is but one, its page."""
    runs, others = context.library.look()
    if len(runs) == 1 and not others:
        return run_page.layout(context, Address("run", (runs[0].slug,), address.query))
    poll = dcc.Interval(id="runs-poll", interval=POLL, disabled=not any(o.unfinished for o in others))
    return page(html.Div(_lists(runs, others), id="runs-list"), poll, title="runs")


def register(app: Dash, context: Context) -> None:
    """Look again while a pass is under way."""

    @app.callback(
        Output("runs-list", "children"), Output("runs-poll", "disabled"), Input("runs-poll", "n_intervals"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _look(_count: int) -> tuple[list[Component], bool]:
        runs, others = context.library.look()
        return _lists(runs, others), not any(o.unfinished for o in others)


def _lists(runs: list[OpenRun], others: list[Unopened]) -> list[Component]:
    parts = []
    if runs:
        parts.append(section("Runs", html.Div([_card(r) for r in runs], className="cards")))
    waiting, wrong = [o for o in others if o.unfinished], [o for o in others if not o.unfinished]
    if waiting:
        parts.append(section("Not finished", html.Div([_waiting(o) for o in waiting], className="cards")))
    if wrong:
        parts.append(section("Could not be opened", html.Div([_wrong(o) for o in wrong], className="cards")))
    if not parts:
        parts.append(html.P("No run is open. Start one on the page of jobs.", className="lead"))
    return parts


def _card(opened: OpenRun) -> Component:
    units = sum(layer.units_count for layer in map(opened.run.layer, opened.run.layers))
    return html.A(
        [
            html.B(opened.slug),
            html.Span(opened.title),
            html.Span(f"{units:,} units in {len(opened.run.layers)} layers", className="quiet"),
        ],
        href=link("run", opened.slug), className="card pad run-card",
    )  # fmt: skip


def _waiting(other: Unopened) -> Component:
    if other.samples:
        done = f"{other.done:,} of {other.samples:,} samples"
        left = f", about {human_seconds(other.seconds_left or 0)} left at its pace"
        share = (other.done or 0) / other.samples
    else:
        done, left, share = "begun", "", 0.0
    meter = html.Span(className="meter wide", style={"--v": f"{share:.4f}"})
    return html.Div(
        [html.B(other.slug), html.Span([meter, done + left]), html.Span(other.message, className="quiet")],
        className="card pad run-card",
    )


def _wrong(other: Unopened) -> Component:
    return html.Div([html.B(other.path.name), html.Span(other.message)], className="card pad run-card wrong")
