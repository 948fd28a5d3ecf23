"""What people say of a unit: tags and a note, kept in a file beside the run."""

from __future__ import annotations

import secrets
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..context import Context
from ..library import OpenRun
from ..notes import MOST_TAGS, Conflict, Notebook, Writer
from .frame import section

PAUSE = 600  # milliseconds without a key, after which a note is written
SHOWN = 300  # characters of another's note


def panel(opened: OpenRun, layer: str, unit: int) -> Component:
    """Return the part of a unit's page."""
    book = Notebook(opened.run)
    try:
        note, known = book.of(layer, unit), book.tags()
    except GanatomyError as error:
        return section("Tags and notes", html.P(" ".join(str(error).split()), className="note"))
    where = {
        "run": opened.slug,
        "layer": layer,
        "unit": unit,
        "panel": secrets.token_hex(8),
        "turn": 0,
        "refused": None,
    }
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
        dcc.Store(id="unit-where", data=where | {"tags": list(note.tags), "note": note.note, "refused": None}),
        dcc.Store(id="unit-change"),
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Write what changed, and say where.

    Of two answers on their way the browser drops the earlier, so what was confirmed last says too little of what was
    asked. The browser therefore numbers the changes and says of each which tags it puts on and takes off.
    """
    app.clientside_callback(
        ClientsideFunction("ganatomy", "noteChanged"), Output("unit-change", "data"),
        Input("unit-tags", "value"), Input("unit-note", "value"),
        State("unit-where", "data"), State("unit-change", "data"), prevent_initial_call=True,
    )  # fmt: skip

    @app.callback(
        Output("unit-noted", "children"), Output("unit-where", "data"), Output("unit-tags", "value"),
        Input("unit-change", "data"), State("unit-where", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _write(change: dict[str, Any] | None, where: dict[str, Any]) -> tuple[Any, Any, Any]:
        if not change:
            return no_update, no_update, no_update
        book = Notebook(context.library.get(where["run"]).run)
        try:
            said, now = keep(book, change, where)
        except GanatomyError as error:  # the file itself cannot be read
            return " ".join(str(error).split()), no_update, no_update
        same = now["tags"] == list(change["tags"])
        return said, now, no_update if same else now["tags"]


def keep(book: Notebook, change: dict[str, Any], where: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Write what a panel changed, each tag and the note for itself, so that one that cannot be kept hinders no other.

    Args:
        book: the run's.
        change: ``tags`` and ``text`` as they are in the panel, ``on`` and ``off``, the tags that this change put on
            and took off, and ``turn``, its number.
        where: ``layer``, ``unit``, ``panel``; what was in the file as far as the panel knows, ``tags`` and ``note``;
            and ``refused``, a text that is not to be tried again.

    Returns:
        What to say, and ``where`` with what is in the file now.

    Raises:
        GanatomyError: if the file cannot be read.
    """
    layer, unit, text = where["layer"], int(where["unit"]), change["text"] or ""
    wanted, before = set(change["tags"] or []), set(where["tags"])
    troubles, refused = [], None
    takes = ((before - wanted) | set(change["off"])) & set(book.of(layer, unit).tags)
    for on, tags in ((False, takes), (True, (wanted - before) | set(change["on"]))):
        for tag in sorted(tags):
            try:
                book.tag(layer, unit, tag, on)
            except GanatomyError as error:
                troubles.append(str(error))
    try:
        if text == where["refused"]:
            refused = text
        else:
            book.write(layer, unit, text, where["note"], Writer(where["panel"], change["turn"]))
    except Conflict:
        theirs, refused = " ".join(book.of(layer, unit).note.split()), text
        theirs = theirs if len(theirs) <= SHOWN else theirs[:SHOWN] + "…"
        troubles.append(
            f"someone else has written this note meanwhile: “{theirs}”; change yours to put it in its place"
        )
    except GanatomyError as error:
        troubles.append(str(error))
    note = book.of(layer, unit)
    said = " ".join("; ".join(troubles).split()) or f"kept in {book.path.name}"
    now = {"tags": list(note.tags), "note": note.note, "turn": change["turn"], "refused": refused}
    return said, where | now
