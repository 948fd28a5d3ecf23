"""Artifacts: tag what is broken, rank the units that draw it, choose how many to take away, and export what is left.

A visitor's tags and choices are in the browser's own storage; rankings and curves lie beside the run. What the page
does is in ``artifacts_callbacks`` and ``artifacts_jobs``, tagging in ``tagging_panel``, how results are shown in
``suspects_panel``.
"""

from __future__ import annotations

import secrets

import dash_mantine_components as dmc
from dash import Dash, dcc, html
from dash.development.base_component import Component

from ..context import Address, Context
from ..library import OpenRun
from ..suspects import FEWEST, IMAGES, MOST, MOST_UNITS, STRATEGIES
from . import artifacts_callbacks, tagging_panel
from .artifacts_callbacks import BEST
from .frame import aria, page, section

POLL = 500  # milliseconds
STORES = ("job", "choice", "news", "done")


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/artifacts/<run>``."""
    opened = context.opened(address.part(0, "a run"))
    lead = (
        "Tag images that are broken and some that are fine; rank the units that draw what is broken; take the worst "
        "away, and see on unseen images what that does."
    )
    head = html.Section(
        [html.H1(["Artifacts of ", html.Em(opened.generator)]), html.P(lead, className="lead")], className="hero"
    )
    title = f"artifacts · {opened.slug}"
    if reason := context.engine.suspects.reason(opened.run):
        return page(head, html.P(f"Nothing can be done: {' '.join(reason.split())}.", className="note"), title=title)
    who = {"slug": opened.slug, "token": secrets.token_urlsafe(12)}
    return page(
        head, tagging_panel.panel(opened), _ranking(opened), _dose(), _sides(),
        dcc.Store(id={"type": "artifacts-work", "run": opened.run.id}, storage_type="local"),
        *(dcc.Store(id=f"artifacts-{name}") for name in STORES),
        dcc.Store(id="artifacts-who", data=who), dcc.Store(id="artifacts-first", data=0),
        dcc.Interval(id="artifacts-poll", interval=POLL, disabled=True), dcc.Download(id="artifacts-file"),
        title=title,
    )  # fmt: skip


def _ranking(opened: OpenRun) -> Component:
    layers = list(opened.run.layers)
    controls = [
        html.Span("layer", className="quiet"),
        dmc.Select(id="artifacts-layer", data=layers, size="xs", w=190, allowDeselect=False, **aria("layer")),
        html.Span("ranking", className="quiet"),
        dmc.Select(
            id="artifacts-strategy", data=list(STRATEGIES), size="xs", w=120, allowDeselect=False, **aria("ranking"),
        ),
        html.Button("Rank", id="artifacts-rank", className="act main"),
        html.Div(
            [
                html.Span(id="artifacts-says", role="status"),
                html.Button("Cancel", id="artifacts-cancel", className="act", hidden=True),
            ],
            className="doing",  # it stays in sight: what is begun at the end of the page is told there too
        ),
        html.Div(
            [
                html.Span("earlier ones", className="quiet"),
                dmc.Select(id="artifacts-known", data=[], size="xs", w=280, **aria("earlier rankings")),
            ],
            className="level known", id="artifacts-knowns", hidden=True,
        ),
    ]  # fmt: skip
    told = html.Ul([html.Li([html.B(name), f": {what}"]) for name, what in STRATEGIES.items()], className="note")
    return section(
        "Which units draw that", told, html.Div(controls, className="level measure"),
        html.Div(id="artifacts-suspects", className="grid"),
    )  # fmt: skip


def _dose() -> Component:
    controls = [
        html.Span("reference", className="quiet"),
        dmc.TextInput(
            id="artifacts-reference", placeholder="folder of real pictures", size="xs", w=200, debounce=True,
            **aria("reference"),
        ),
        html.Span("images", className="quiet"),
        dmc.NumberInput(
            id="artifacts-images", value=IMAGES, min=FEWEST, max=MOST, step=20, size="xs", w=90, **aria("images"),
        ),
        html.Span("features", className="quiet"),
        dmc.Select(
            id="artifacts-extractor", data=[{"value": BEST, "label": "the best here"}, "pixels"], value=BEST, size="xs",
            w=130, allowDeselect=False, **aria("features"),
        ),
        html.Button("Measure", id="artifacts-measure", className="act"),
    ]  # fmt: skip
    note = (
        "The kernel distance from the reference without the worst units, on images that the ranking did not see, "
        "beside as many random ones. The reference is a folder beside the run; without one, the run's own samples, "
        "which these units have shaped too: then nothing is likely to be found to help."
    )
    return section("How many", html.Div(controls, className="level"), html.Div(id="artifacts-curve"), note=note)


def _sides() -> Component:
    controls = [
        html.Span("units taken away", className="quiet"),
        dmc.Slider(
            id="artifacts-count", value=0, min=0, max=MOST_UNITS, step=1, w=300, size="sm", updatemode="mouseup",
            thumbLabel="units taken away",
        ),
        html.Span("but for", className="quiet"),
        dmc.TextInput(
            id="artifacts-spared", placeholder="5, 17", size="xs", w=120, debounce=True, **aria("units spared"),
        ),
        html.Span(id="artifacts-chosen", className="num"),
    ]  # fmt: skip
    return section(
        "Before and after", html.Div(controls, className="level"), html.Div(id="artifacts-sides"),
        note="Unseen images; below each pair the difference, three times as bright.",
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Tag, rank, measure, choose, export."""
    tagging_panel.register(app, context)
    artifacts_callbacks.register(app, context)
