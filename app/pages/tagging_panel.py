"""The Artifacts page's sheet of pictures: which are broken, where, and tags as files."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dissect.artifacts.tags import packed
from segmodels import GanatomyError

from ..context import Context, link
from ..library import OpenRun
from ..tagging import Tagged, opened
from .frame import aria, data, section
from .measure_panel import trouble

SHEET = 24
WORK: dict[str, Any] = {"type": "artifacts-work", "run": ALL}
TILE: dict[str, Any] = {"type": "artifacts-tile", "seed": ALL}


def panel(run: OpenRun) -> Component:
    """Return the section: the sheet, its buttons, and where one image is marked."""
    controls = [
        html.Button("‹", id="artifacts-earlier", className="step", **aria("earlier seeds")),
        html.Button("›", id="artifacts-later", className="step", **aria("later seeds")),
        html.Span(id="artifacts-tags", className="num"),
        html.Button("Save tags", id="artifacts-save", className="act"),
        dcc.Upload(
            html.Button("Open tags", className="act"), id="artifacts-open", max_size=2**28, accept=".csv,.zip",
        ),
        dcc.Store(id="artifacts-brought"),
        html.Span(id="artifacts-opened"),
    ]  # fmt: skip
    note = [
        "A click, or Enter: broken, fine, neither. Where a broken image is broken can be marked below. The file of "
        "tags is what ", html.Code("ganatomy artifacts --tags"), " reads.",
    ]  # fmt: skip
    where = html.Div(
        id="artifacts-where", className="where", hidden=True, **data(images=link("rewriting", run.slug, "image", ""))
    )
    return section(
        "Which images are broken", html.Div(controls, className="level"),
        html.Div(sheet(run, 0), id="artifacts-sheet", className="tagging"), where, note=note,
    )  # fmt: skip


def sheet(run: OpenRun, first: int) -> list[Component]:
    """Return the pictures of a page of seeds, each a button."""
    tiles: list[Component] = []
    for seed in range(first, first + SHEET):
        image = html.Img(src=link("rewriting", run.slug, "image", seed), alt="")
        name = {"type": "artifacts-tile", "seed": seed}
        tiles.append(html.Button(image, id=name, className="pick", title=f"seed {seed}"))
    return tiles


def register(app: Dash, context: Context) -> None:
    """Tag by clicks, turn the sheet, save and open tags."""
    app.clientside_callback(
        _here("tag"), Output(WORK, "data", allow_duplicate=True), Input(TILE, "n_clicks"), State(TILE, "id"),
        State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        _here("paint"), Output(TILE, "className"), Output(TILE, "aria-label"), Output("artifacts-tags", "children"),
        Input(WORK, "data"), Input("artifacts-sheet", "children"), State(WORK, "data"), State(TILE, "id"),
    )  # fmt: skip

    app.clientside_callback(
        _here("brought"), Output("artifacts-brought", "data"), Output("artifacts-opened", "children"),
        Output("artifacts-open", "contents"), Input("artifacts-open", "contents"), State("artifacts-open", "filename"),
        prevent_initial_call=True,
    )  # fmt: skip

    @app.callback(
        Output("artifacts-sheet", "children"), Output("artifacts-first", "data"),
        Input("artifacts-earlier", "n_clicks"), Input("artifacts-later", "n_clicks"), State("artifacts-first", "data"),
        State("artifacts-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _turn(_earlier: int | None, _later: int | None, first: int, who: dict[str, Any]) -> tuple[Any, Any]:
        first = max(0, first + (SHEET if ctx.triggered_id == "artifacts-later" else -SHEET))
        return sheet(context.opened(str(who["slug"])), first), first

    @app.callback(
        Output("artifacts-file", "data"), Output("artifacts-opened", "children", allow_duplicate=True),
        Input("artifacts-save", "n_clicks"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _save(clicks: int | None, kept: list[Any]) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            tagged = Tagged.of(work_of(kept))
            tags = tagged.read()
        except GanatomyError as error:
            return no_update, trouble(error)
        if tags.regions:
            return dcc.send_bytes(packed(tags), "tags.zip"), ""
        lines = [f"{seed},{'broken' if broken else 'fine'}" for seed, broken in tagged.tags]
        return {"content": "\n".join(["seed,tag", *lines, ""]), "filename": "tags.csv"}, ""

    @app.callback(
        Output("artifacts-news", "data", allow_duplicate=True),
        Output("artifacts-opened", "children", allow_duplicate=True), Input("artifacts-brought", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _open(brought: dict[str, Any] | None) -> tuple[Any, Any]:
        if not brought:
            return no_update, no_update
        name = str(brought.get("name"))
        try:
            found = opened(name, str(brought.get("content")))
        except GanatomyError as error:
            return no_update, trouble(error)
        return {"fields": found, "at": brought.get("at")}, f"{len(found['tags'])} tags of {name}"


def work_of(kept: list[Any] | None) -> dict[str, Any]:
    """Return what a visitor's browser keeps of a run."""
    first = kept[0] if kept else None
    return first if isinstance(first, dict) else {}


def _here(name: str) -> ClientsideFunction:
    return ClientsideFunction("ganatomyArtifacts", name)
