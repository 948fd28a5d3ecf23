"""What a unit causes, on its page: the sweeps and effects beside the run, and the button that measures one."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from dissect import Effect
from dissect.effects.effect import CHANGED
from segmodels import GanatomyError

from ..causes import Cause, Causes
from ..context import Context, link
from ..facts import NO_VALUE, change, percent
from ..library import OpenRun
from ..measures import Measure
from ..profiles import Profile
from . import measure_panel
from .frame import badge, section

TITLE = "What it causes"
HEADS = ("concept", "area before", "after", "change ± error")
HEADS_ALONE = ("concept", "area before", "after", "change", "95%", "random units", "verdict")


def panel(context: Context, opened: OpenRun, profile: Profile) -> Component:
    """Return the section, with the button that measures it."""
    label = profile.best.name if profile.best and profile.labelled else None
    asked = Measure(opened.slug, profile.layer, profile.unit, label)
    return section(TITLE, measure_panel.panel(context, opened, asked, known(opened, profile)))


def of_unit(context: Context, what: dict[str, Any]) -> Component:
    """Return what is known of the unit that a page's question names."""
    opened = context.opened(str(what["slug"]))
    return known(opened, opened.unit(str(what["layer"]), int(what["unit"])))


def known(opened: OpenRun, profile: Profile) -> Component:
    """Return what is known; a file of effects that cannot be read is said there, and the page stands."""
    try:
        causes = opened.causes(profile.layer).unit(profile.unit)
    except GanatomyError as error:
        return html.P(str(error), className="note")
    best = [profile.best.name] if profile.best else []
    parts: list[Component] = []
    if causes.alone is not None:
        parts += [html.P(_note_alone(causes.alone), className="note"), _table_alone(opened, causes.rows_alone(best))]
    if causes.images:
        shown = causes.shown(best)
        nothing = "No concept changed beyond the error." if causes.enough else "Too few images to say what changed."
        table = _table(opened, shown) if shown else html.P(nothing, className="note")
        parts += [html.P(_note(causes), className="note"), table]
    parts += [html.P(_set(*one), className="note") for one in causes.sets]
    if causes.alone is None and not causes.images:
        command = html.Code(f"ganatomy sweep {opened.path.name} --layer {profile.layer}")
        says: list[Any] = [
            "Not measured: this page says what the unit agrees with. ",
            command,
            " measures the whole layer.",
        ]
        parts.append(html.P(says, className="note"))
    return html.Div(parts)


# -- the unit alone, beside random others --------------------------------------------------------------------


def _note_alone(effect: Effect) -> str:
    return (
        f"In {len(effect.seeds)} images that are no samples of the run the unit was set to zero, everything else as it "
        f"was; beside it the same done to {len(effect.control_share)} random other units, one at a time. Bold changed, "
        f"and more than with any of these."
    )


def _table_alone(opened: OpenRun, shown: list[dict[str, Any]]) -> Component:
    if not shown:
        return html.P("No concept changed beyond what random units do.", className="note", id="causes-alone")
    last = len(HEADS_ALONE) - 1
    heads = [html.Th(name, className="n" if 0 < i < last else "") for i, name in enumerate(HEADS_ALONE)]
    body = html.Tbody([_row_alone(opened, row) for row in shown])
    table = html.Table([html.Thead(html.Tr(heads)), body], className="data", id="causes-alone")
    return html.Div(table, className="card scroll")


def _row_alone(opened: OpenRun, row: dict[str, Any]) -> Component:
    told, sure = _changed(row["change"]), row["verdict"] == CHANGED
    cells = [
        percent(row["before"]), percent(row["after"]), html.B(told) if sure else told,
        span(row["low"], row["high"]), span(row["control_low"], row["control_high"]),
    ]  # fmt: skip
    name = html.Td(_name(opened, row["concept"], row["category"]))
    verdict = html.Td(row["verdict"], className="quiet")
    return html.Tr(
        [name, *(html.Td(cell, className="n") for cell in cells), verdict], className="label" if sure else ""
    )


def _changed(share: float | None) -> str:
    return "new" if share is None else change(share)


def span(low: float | None, high: float | None) -> str:
    """Return an interval of changes, a dash for none."""
    return NO_VALUE if low is None or high is None else f"{change(low)} to {change(high)}"


# -- a sweep of the layer ------------------------------------------------------------------------------------


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
    told: Any = change(cause.change) if cause.change == cause.change else "new"
    moved = [
        html.B(told) if cause.sure else told,
        html.Small(f" ± {percent(cause.stderr)}" if cause.stderr == cause.stderr else ""),
    ]
    cells = [percent(cause.before), percent(cause.after), moved if cause.change == cause.change else told]
    name = _name(opened, cause.name, cause.category)
    return html.Tr(
        [html.Td(name), *(html.Td(cell, className="n") for cell in cells)], className="label" if cause.sure else ""
    )


def _name(opened: OpenRun, concept: str, category: str) -> Component:
    # What measured it may have been another segmenter than the run's, whose concepts have no page here.
    there = any(known.name == concept for known in opened.run.concepts[1:])
    href = link("concepts", opened.slug, concept) if there else None
    return badge(concept, opened.colours.get(category, opened.colours[""]), True, href)


def _set(count: int, name: str, moved: float, low: float, high: float) -> str:
    within = f" (95%: {change(low)} to {change(high)})" if low == low else ""
    return f"As one of {count} unit{'' if count == 1 else 's'} edited together: {name} {change(moved)}{within}."
