"""What all pages share: the bar at the top, messages, and small pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from ..context import Address, Context, link
from ..library import OpenRun
from ..profiles import Candidate
from ..report import SMALL_HEIGHT, SMALL_TILES
from ..views import picture

Children = Any
PAGES = (  # those about one run
    ("run", "Run"), ("units", "Units"), ("concepts", "Concepts"), ("compare", "Compare"), ("paint", "Paint"),
    ("artifacts", "Artifacts"), ("rewrite", "Rewrite"),
)  # fmt: skip
ABOUT_ONE_RUN = frozenset({"run", "units", "unit", "concepts", "compare", "paint", "artifacts", "rewrite", "own"})
BELONGS_TO = {"unit": "units", "own": "concepts"}  # a page that has no place of its own in the bar


def bar(context: Context, address: Address) -> list[Component]:
    """Return the bar: the runs, the pages about the current one, jobs, and the switch between light and dark."""
    runs = context.library.runs
    current = _current(runs, address)
    here = BELONGS_TO.get(address.page, address.page)
    links: list[Component] = []
    if current is not None:
        links = [_tab(name, link(page, current.slug), page == here) for page, name in PAGES]
    links.append(_tab("Jobs", link("jobs"), here == "jobs"))
    page = here if here in ABOUT_ONE_RUN else "run"
    several = len(runs) > 1
    choice = dmc.Select(
        id="run-choice", data=[{"value": link(page, r.slug), "label": r.slug} for r in runs],
        value=link(page, current.slug) if current else None, placeholder="choose a run", searchable=several,
        allowDeselect=False, size="xs", w=190, checkIconPosition="right", comboboxProps={"width": 260},
        persistence=False,
    )  # fmt: skip
    return [
        html.A([html.Img(src="/style/favicon.svg", alt=""), "ganatomy"], href="/", className="brand"),
        html.Div(choice, className="which", hidden=not several),
        html.Nav(links, className="links", **aria("Pages")),
    ]


def _tab(name: str, href: str, here: bool) -> Component:
    return html.A(name, href=href, className="page-link here" if here else "page-link")


def _current(runs: Sequence[OpenRun], address: Address) -> OpenRun | None:
    """Return the run that the address is about, or the only one there is."""
    wanted = address.parts[0] if address.page in ABOUT_ONE_RUN and address.parts else None
    return next((r for r in runs if r.slug == wanted), runs[0] if len(runs) == 1 or (wanted is None and runs) else None)


def aria(label: str) -> dict[str, Any]:
    """Return the attribute that names an element for those who do not see it."""
    return {"aria-label": label}


def data(**values: object) -> dict[str, Any]:
    """Return ``data-…`` attributes, which the script of the dashboard reads."""
    return {f"data-{name.replace('_', '-')}": str(value) for name, value in values.items() if value is not None}


def message(title: str, text: str) -> Component:
    """Return a page that says what is wrong, and the way out."""
    return html.Main([html.H1(title), html.P(text, className="lead"), html.P(html.A("All runs", href="/"))])


def page(*children: Children, title: str = "") -> Component:
    """Return the body of a page."""
    return html.Main(list(children), **data(title=title))


def section(title: Children, *children: Children, note: Children = None, tools: Children = None) -> Component:
    """Return a titled part of a page; ``tools`` stand at the right of its title."""
    head = html.Div([html.H2(title), html.Div(tools, className="tools")], className="heading")
    return html.Section([head, *([html.P(note, className="note")] if note else []), *children])


def badge(name: str, colour: str, labelled: bool = True, href: str | None = None) -> Component:
    """Return a concept's name with its category's colour."""
    look = "badge" if labelled else "badge faint"
    style = {"--c": colour}
    return (
        html.A(name, href=href, className=look, style=style) if href else html.Span(name, className=look, style=style)
    )


def strip(opened: OpenRun, layer: str, unit: int) -> Component:
    """Return a unit's first top samples, bright where it is on."""
    pictures = opened.pictures
    tiles = min(SMALL_TILES, int(opened.run.manifest["top"]))
    width = tiles * pictures.width * SMALL_HEIGHT // pictures.height
    image = html.Img(
        src=picture(opened, "thumb", layer, unit), width=width, height=SMALL_HEIGHT, alt=f"top samples of unit {unit}",
    )  # fmt: skip
    return html.Span(image, className="strip", style={"--n": tiles})


def chart(name: str, figure: go.Figure, links: dict[str, str] | None = None) -> Component:
    """Return a figure on a card; ``links``: where a click leads, by the point's ``customdata`` joined with commas."""
    graph = dcc.Graph(
        id=name, figure=figure, config={"displayModeBar": False}, style={"height": figure.layout.height},
        responsive=True,
    )  # fmt: skip
    width = {"minWidth": 0}
    return html.Div(
        [html.Div(graph, className="card chart", style=width), dcc.Store(id=f"{name}-links", data=links or {})]
    )


def exports(address: str, follows: bool = False) -> list[Component]:
    """Return links to a drawing as SVG and PDF; ``follows``: at the level that is shown."""
    return [
        html.A(
            form.upper(),
            href=f"{address}.{form}",
            className="export",
            download="",
            **data(follows="" if follows else None),
        )
        for form in ("svg", "pdf")
    ]


def exports_of_chart() -> list[Component]:
    """Return buttons that save the chart of the same section as SVG or PDF."""
    return [html.Button(form.upper(), className="export", **data(export=form)) for form in ("svg", "pdf")]


def candidate_badge(opened: OpenRun, best: Candidate | None, labelled: bool = True) -> Component:
    """Return the badge of a unit's best concept, which leads to the concept's page."""
    if best is None:
        return html.Span("no candidate", className="badge faint")
    href = link("concepts", opened.slug, best.name)
    return badge(best.name, opened.colours.get(best.category, opened.colours[""]), labelled, href)
