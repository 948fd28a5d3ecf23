"""What people say of a unit: tags and a note, kept in a file beside the run."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..context import Context
from ..library import OpenRun
from ..notes import MOST_TAGS, Notebook
from .frame import section

PAUSE = 600  # milliseconds without a key, after which a note is written


def panel(opened: OpenRun, layer: str, unit: int) -> Component:
    """Return the part of a unit's page."""
    book = Notebook(opened.run)
    try:
        note, known = book.of(layer, unit), book.tags()
    except GanatomyError as error:
        return section("Tags and notes", html.P(" ".join(str(error).split()), className="note"))
    where = {"run": opened.slug, "layer": layer, "unit": unit}
    return section(
        "Tags and notes",
        dmc.TagsInput(
            id="unit-tags", value=list(note.tags), data=known, placeholder="artifact, interesting, own…", size="xs",
            clearable=False, maxTags=MOST_TAGS, splitChars=[",", ";"],
        ),
        dmc.Textarea(
            id="unit-note", value=note.note, placeholder="a note", autosize=True, minRows=3, maxRows=12, size="xs",
            debounce=PAUSE, mt=8,
        ),
        html.P("", id="unit-noted", className="key"),
        dcc.Store(id="unit-where", data=where | {"tags": list(note.tags), "note": note.note}),
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Write what changed, and say where."""

    @app.callback(
        Output("unit-noted", "children"), Output("unit-where", "data"),
        Input("unit-tags", "value"), Input("unit-note", "value"), State("unit-where", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _write(tags: list[str], text: str, where: dict[str, Any]) -> tuple[Any, Any]:
        opened = context.library.get(where["run"])
        book, layer, unit = Notebook(opened.run), where["layer"], int(where["unit"])
        wanted, before = set(tags or []), set(where["tags"])
        if wanted == before and (text or "") == where["note"]:
            return no_update, no_update
        try:
            for tag in wanted - before:
                book.tag(layer, unit, tag)
            for tag in before - wanted:
                book.tag(layer, unit, tag, on=False)
            if (text or "") != where["note"]:
                book.write(layer, unit, text or "", before=where["note"])
        except GanatomyError as error:
            return " ".join(str(error).split()), no_update
        note = book.of(layer, unit)
        said = f"kept in {book.path.name}"
        return said, where | {"tags": sorted(wanted), "note": note.note}
