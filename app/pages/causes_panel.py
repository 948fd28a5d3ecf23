"""What a unit causes, on its page: the sweeps and effects beside the run, or how to measure them."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from segmodels import GanatomyError

from ..causes import Cause, Causes
from ..context import link
from ..facts import change, percent
from ..library import OpenRun
from ..profiles import Profile
from .frame import badge, section

TITLE = "What it causes"
HEADS = ("concept", "area before", "after", "change ± error")


def panel(opened: OpenRun, profile: Profile) -> Component:
    """Return the section; a file of effects that cannot be read is said there, and the page stands."""
    try:
        causes = opened.causes(profile.layer).unit(profile.unit)
    except GanatomyError as error:
        return section(TITLE, html.P(str(error), className="note"))
    sets = [html.P(_set(*one), className="note") for one in causes.sets]
    if not causes.images:
        command = html.Code(f"ganatomy sweep {opened.path.name} --layer {profile.layer}")
        note = ["Not measured: this page says what the unit agrees with. ", command, " measures what it causes."]
        return section(TITLE, *sets, note=note)
    shown = causes.shown([profile.best.name] if profile.best else [])
    nothing = "No concept changed beyond the error." if causes.enough else "Too few images to say what changed."
    table = _table(opened, shown) if shown else html.P(nothing, className="note")
    return section(TITLE, table, *sets, note=_note(causes))


def _note(causes: Causes) -> str:
    return (
        f"In {causes.images} images the unit was {causes.put}, everything else as it was. Bold is beyond the error, "
        f"given that every concept was looked at."
    )


def _table(opened: OpenRun, shown: list[Cause]) -> Component:
    head = html.Thead(html.Tr([html.Th(name, className="n" if i else "") for i, name in enumerate(HEADS)]))
    body = [_row(opened, cause) for cause in shown]
    return html.Div(html.Table([head, html.Tbody(body)], className="data"), className="card scroll")


def _row(opened: OpenRun, cause: Cause) -> Component:
    # A sweep may have been read by another segmenter than the run, whose concepts have no page here.
    known = any(concept.name == cause.name for concept in opened.run.concepts[1:])
    href = link("concepts", opened.slug, cause.name) if known else None
    name = badge(cause.name, opened.colours.get(cause.category, opened.colours[""]), True, href)
    told: Any = change(cause.change) if cause.change == cause.change else "new"
    moved = [
        html.B(told) if cause.sure else told,
        html.Small(f" ± {percent(cause.stderr)}" if cause.stderr == cause.stderr else ""),
    ]
    cells = [percent(cause.before), percent(cause.after), moved if cause.change == cause.change else told]
    return html.Tr(
        [html.Td(name), *(html.Td(cell, className="n") for cell in cells)], className="label" if cause.sure else ""
    )


def _set(count: int, name: str, moved: float, low: float, high: float) -> str:
    within = f" (95%: {change(low)} to {change(high)})" if low == low else ""
    return f"As one of {count} unit{'' if count == 1 else 's'} edited together: {name} {change(moved)}{within}."
