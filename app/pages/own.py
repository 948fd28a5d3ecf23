"""A concept of one's own: drawn on a few images, and which units agree with it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dissect import Run
from dissect.generators.codes import InTurn
from dissect.sketch import Sketch
from segmodels import GanatomyError

from ..context import Address, Context, link
from ..facts import number
from ..library import OpenRun
from ..redrawn import how_drawn
from ..sketches import Drawn
from .frame import aria, data, page, section, strip
from .measure_panel import trouble

SHEET, SHOWN, PAINTED = 24, 16, 8
WORK: dict[str, Any] = {"type": "own-work", "run": ALL}
TILE: dict[str, Any] = {"type": "own-tile", "seed": ALL}


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/own/<run>``."""
    opened = context.opened(address.part(0, "a run"))
    lead = (
        "Draw on a few images what no segmenter knows, and see which units agree with it. Images without any mark say "
        "where it is not: choose some of them too."
    )
    head = html.Section(
        [
            html.Nav(
                [html.A(opened.slug, href=link("run", opened.slug)), html.Span("›"),
                 html.A("concepts", href=link("concepts", opened.slug)), html.Span("›"), html.B("your own")],
                className="crumbs",
            ),
            html.H1("A concept of your own"), html.P(lead, className="lead"),
        ],
        className="hero",
    )  # fmt: skip
    title = f"own concept · {opened.slug}"
    if reason := context.engine.sketches.reason(opened):
        return page(head, html.P(f"Nothing can be done: {' '.join(reason.split())}.", className="note"), title=title)
    return page(
        head, _drawing(opened), _agreement(opened),
        dcc.Store(id={"type": "own-work", "run": opened.run.id}, storage_type="local"),
        dcc.Store(id="own-who", data=opened.slug), dcc.Store(id="own-first", data=0), dcc.Store(id="own-filled"),
        dcc.Store(id="own-news"), dcc.Download(id="own-file"), title=title,
    )  # fmt: skip


def _drawing(opened: OpenRun) -> Component:
    controls = [
        html.Button("‹", id="own-earlier", className="step", **aria("earlier seeds")),
        html.Button("›", id="own-later", className="step", **aria("later seeds")),
        html.Span(id="own-count", className="num"),
        html.Span("what it is", className="quiet"),
        dmc.TextInput(id="own-name", placeholder="e.g. wrinkles", size="xs", w=180, **aria("name")),
        html.Button("Save as masks", id="own-save", className="act"),
    ]  # fmt: skip
    where = html.Div(
        id="own-where", className="where", hidden=True, **data(images=link("rewriting", opened.slug, "image", ""))
    )
    return section(
        "Where it is", html.Div(controls, className="level"),
        html.Div(_sheet(opened, 0), id="own-sheet", className="tagging"), where,
        note="A click, or Enter, chooses an image; then mark it below.",
    )  # fmt: skip


def _sheet(opened: OpenRun, first: int) -> list[Component]:
    return [
        html.Button(
            html.Img(src=link("rewriting", opened.slug, "image", seed), alt=""),
            id={"type": "own-tile", "seed": seed}, className="pick", title=f"seed {seed}",
        )
        for seed in range(first, first + SHEET)
    ]  # fmt: skip


def _agreement(opened: OpenRun) -> Component:
    layers = list(opened.run.layers)
    controls = [
        html.Span("layer", className="quiet"),
        dmc.Select(
            id="own-layer", data=layers, value=layers[0], size="xs", w=190, allowDeselect=False, **aria("layer"),
        ),
        html.Button("Which units agree", id="own-look", className="act main"),
        html.Span(id="own-says"),
    ]  # fmt: skip
    return section(
        "Which units agree", html.Div(controls, className="level"),
        dcc.Loading(html.Div(id="own-units"), type="circle", delay_show=300),
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Choose, mark, compare, save."""
    _register_work(app)
    sketches = context.engine.sketches

    @app.callback(
        Output("own-sheet", "children"), Output("own-first", "data"), Input("own-earlier", "n_clicks"),
        Input("own-later", "n_clicks"), State("own-first", "data"), State("own-who", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _turn(_earlier: int | None, _later: int | None, first: int, slug: str) -> tuple[Any, Any]:
        first = max(0, first + (SHEET if ctx.triggered_id == "own-later" else -SHEET))
        return _sheet(context.opened(slug), first), first

    @app.callback(
        Output("own-units", "children"), Output("own-says", "children"), Input("own-look", "n_clicks"),
        State(WORK, "data"), State("own-layer", "value"), State("own-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _look(clicks: int | None, kept: list[Any], layer: str, slug: str) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        opened = context.opened(slug)
        try:
            drawn = Drawn.of(_work(kept))
            found = sketches.agreement(opened, str(layer), drawn)
            return _units(opened, drawn, found, context.engine.live.weights.called(opened.run)), ""
        except GanatomyError as error:
            return no_update, trouble(error)

    @app.callback(
        Output("own-file", "data"), Output("own-says", "children", allow_duplicate=True),
        Input("own-save", "n_clicks"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _save(clicks: int | None, kept: list[Any]) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            stem, content = Drawn.of(_work(kept)).folder()
        except GanatomyError as error:
            return no_update, trouble(error)
        return dcc.send_bytes(content, f"{stem}.zip"), ""


def _register_work(app: Dash) -> None:
    """What the browser does with the drawing by itself."""

    def here(name: str) -> ClientsideFunction:
        return ClientsideFunction("ganatomyOwn", name)

    app.clientside_callback(
        here("choose"), Output(WORK, "data", allow_duplicate=True), Input(TILE, "n_clicks"), State(TILE, "id"),
        State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        here("keep"), Output(WORK, "data", allow_duplicate=True), Input("own-name", "value"),
        Input("own-layer", "value"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        here("merge"), Output(WORK, "data", allow_duplicate=True), Input("own-news", "data"), State(WORK, "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        here("paint"), Output(TILE, "className"), Output(TILE, "aria-label"), Output("own-count", "children"),
        Input(WORK, "data"), Input("own-sheet", "children"), State(WORK, "data"), State(TILE, "id"),
    )  # fmt: skip
    app.clientside_callback(
        here("fill"), Output("own-name", "value"), Output("own-layer", "value"), Output("own-filled", "data"),
        Input(WORK, "data"), State("own-filled", "data"),
    )  # fmt: skip


def _work(kept: list[Any] | None) -> dict[str, Any]:
    first = kept[0] if kept else None
    return first if isinstance(first, dict) else {}


def command_of(source: str, run: Run, stem: str, seeds: Sequence[int]) -> str:
    """Return what dissects by saved masks the images of a run's seeds, which alone they fit: a command, or Python.

    A command line cannot give a class for each seed, as it takes where a run's classes take turns.
    """
    how, out = how_drawn(run), f"{stem}.h5"
    if isinstance(how["classes"], InTurn):
        call = {"seeds": list(seeds), **how, "classes": list(how["classes"].of(seeds)), "out": out}
        given = ", ".join(f"{name}={value!r}" for name, value in call.items())
        return f"dissect.run(dissect.load({source!r}), segmodels.load({'masks:' + stem!r}), {given})"
    said, usual = [shlex.quote(source)], {"class": None, "truncation": 1.0, "cutoff": None, "noise": "const"}
    for name, value in usual.items():
        given = how["classes" if name == "class" else name]
        if given != value:
            said += [f"--{name}", str(given)]
    listed = ",".join(map(str, seeds))
    return f"ganatomy dissect {' '.join(said)} --segmenter masks:{stem} --seeds {listed} --out {out}"


def _units(opened: OpenRun, drawn: Drawn, found: Sketch, source: str) -> Component:
    """Return the units that agree most, and what to do with them."""
    rows = [row for row in found.rows(SHOWN) if row["iou"] > row["chance"]]
    if not rows:
        text = f"No unit of {found.layer} agrees with it more than chance would."
        return html.P(text, className="note", id="own-none")
    cards = []
    for row in rows:
        error = "" if math.isnan(row["stderr"]) else f" ± {number(row['stderr'], 2)}"
        told = html.Span(f"IoU {number(row['iou'], 2)}{error} · chance {number(row['chance'], 2)}", className="num")
        face = [
            strip(opened, found.layer, row["unit"]),
            html.Span([html.B(f"unit {row['unit']}"), told], className="line"),
        ]
        cards.append(html.A(face, href=link("unit", opened.slug, found.layer, row["unit"]), className="card unit"))
    best = ",".join(str(row["unit"]) for row in rows[:PAINTED])
    stem, _ = drawn.folder()
    command = command_of(source, opened.run, stem, sorted(drawn.seeds))
    note = (
        f"Units of {found.layer}, on {found.images} images, each read at the level that the others chose; ± is the "
        "jackknife error over them. So few find units that may be meant; they do not label them."
    )
    more = html.P(
        ["With ten images or more, saved as masks and unpacked, they can be dissected by it: ", html.Code(command)],
        className="note",
    )
    paint = link("paint", opened.slug, layer=found.layer, units=best)
    return html.Div(
        [
            html.P(note, className="note"), html.Div(cards, className="grid"),
            html.P(html.A(f"Paint with the best {len(rows[:PAINTED])}", href=paint, className="act", id="own-paint")),
            more,
        ]
    )  # fmt: skip
