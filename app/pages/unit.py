"""One unit: where it is on, at any of its levels; its numbers, its relatives, and what people say of it."""

from __future__ import annotations

import re
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from ..at_levels import at_levels
from ..context import Address, Context, link
from ..drawings import short
from ..facts import number, percent
from ..library import OpenRun
from ..profiles import Profile
from ..views import picture
from . import causes_panel, live_panel, notes_panel
from .frame import badge, candidate_badge, data, exports, page, section, strip


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/unit/<run>/<layer>/<unit>``."""
    opened = context.opened(slug := address.part(0, "a run"))
    layer, unit = address.part(1, "a layer"), address.number(2, "a unit")
    profile = opened.unit(layer, unit)
    level = level_of(profile, address.query.get("level"))
    main = [
        _tops(opened, profile, level), _numbers(opened, profile, level), _table(opened, profile),
        causes_panel.panel(context, opened, profile), _bands(opened, profile),
        live_panel.panel(context, opened, profile, address.query),
    ]  # fmt: skip
    return page(
        _head(opened, profile),
        html.Div(
            [html.Div(main, className="wide"), html.Aside(_side(opened, profile), className="side")], className="beside"
        ),
        dcc.Store(id="unit-data", data=_follows(opened, profile)),
        title=f"unit {unit} · {layer} · {slug}",
    )


def register(app: Dash, context: Context) -> None:
    """The slider moves in the browser alone: all that it changes is an address of a picture, or was sent before."""
    app.clientside_callback(
        ClientsideFunction("ganatomy", "unitLevel"), Output("unit-says", "children"), Input("unit-level", "value"),
        State("unit-data", "data"),
    )  # fmt: skip
    live_panel.register(app, context)
    notes_panel.register(app, context)


def level_of(profile: Profile, asked: str | None) -> int:
    """Return the level to show: the asked one, or that of the unit's threshold."""
    levels = profile.activation.levels
    if asked is not None and re.fullmatch(r"[0-9]{1,9}", asked) and int(asked) < len(levels):
        return int(asked)
    return int(np.abs(levels - profile.activation.threshold).argmin())


def _follows(opened: OpenRun, profile: Profile) -> dict[str, Any]:
    """Return what the browser needs to follow the slider."""
    activation, best, at = profile.activation, profile.best, at_levels(opened, profile)
    where = (opened.slug, profile.layer, profile.unit)
    inside = activation.inside
    columns = {
        "iou": [[number(x) for x in row] for row in at.iou.tolist()],
        "chance": [[number(x) for x in row] for row in at.chance.tolist()],
        "d": [[number(x, sign=True) for x in row] for row in (at.iou - at.chance).tolist()],
        "error": [[f" ± {number(x)}" for x in row] for row in at.error.tolist()],
    }
    return {
        "tops": link("tops", *where), "drawing": link("drawing", *where), "bands": link("bands", *where),
        "v": opened.run.id, "threshold": level_of(profile, None), "concept": best.name if best else None,
        "levels": [short(float(x)) for x in activation.levels],
        "on": [percent(float(x)) for x in activation.exceedance],
        "inside": None if inside is None else [percent(float(x)) for x in inside], "at": columns,
    }  # fmt: skip


def _head(opened: OpenRun, profile: Profile) -> Component:
    layer, unit, best = opened.layer(profile.layer), profile.unit, profile.best
    label = candidate_badge(opened, best) if profile.labelled else html.Span("not labelled", className="badge faint")
    crumbs = [
        html.A(opened.slug, href=link("run", opened.slug)), html.Span("›"),
        html.A(profile.layer, href=link("units", opened.slug, layer=profile.layer)), html.Span("›"),
        html.B(f"unit {unit}"),
    ]  # fmt: skip
    steps: list[Component] = [html.Span(id="unit-place", className="num")]
    for key, sign, other in (("ArrowLeft", "‹", unit - 1), ("ArrowRight", "›", unit + 1)):
        there = 0 <= other < layer.units
        href = link("unit", opened.slug, profile.layer, other) if there else None
        text = f"‹ {other}" if key == "ArrowLeft" else f"{other} ›"
        steps.append(html.A(text, href=href, className="step", hidden=not there, **data(key=key, sign=sign, href=href)))
    paint = link("paint", opened.slug, layer=profile.layer, units=str(unit))
    return html.Section(
        [
            html.Div([html.Nav(crumbs, className="crumbs"), html.Nav(steps, className="steps")], className="heading"),
            html.H1([f"Unit {unit}", label]),
            html.P(_verdict(profile), className="lead"),
            html.P(html.A("Paint with this unit", href=paint, className="act", id="unit-paint")),
        ],
        className="hero unit-head",
    )


def _verdict(profile: Profile) -> list[Any]:
    """Say in a sentence or two what may be called of the unit."""
    best = profile.best
    if best is None:
        return [f"Not labelled: {profile.why_not}."]
    against = f"held-out IoU {number(best.iou_heldout)} against {number(best.chance_heldout)} by chance"
    above = f"{number(best.difference, sign=True)} ± {number(best.stderr)}"
    kind = f" ({best.category})" if best.category else ""
    if profile.labelled:
        return [html.B(best.name), f"{kind}: {against}, {above}. Both halves of the samples agree."]
    return [
        f"Not labelled: {profile.why_not}. The best candidate is ",
        html.B(best.name),
        f"{kind}: {against}, {above}.",
    ]


def _tops(opened: OpenRun, profile: Profile, level: int) -> Component:
    pictures, seeds = opened.pictures, profile.tops.seeds.tolist()
    source = picture(opened, "tops", profile.layer, profile.unit, level)
    tiles = []
    for i, (seed, value) in enumerate(zip(seeds, profile.tops.values, strict=True)):
        name = opened.name_of(seed)
        masked = html.Img(src=source, className="masked", style={"--i": i}, alt=f"{name}, bright where the unit is on")
        whole = html.Img(src=picture(opened, "sample", seed), className="whole", alt="")
        caption = [html.Span(name), html.Span(short(float(value), 3, True), className="num")]
        tiles.append(html.Figure([html.Div([masked, whole], className="tile"), html.Figcaption(caption, title=name)]))
    last = len(profile.activation.levels) - 1
    slider = dmc.Slider(
        id="unit-level", value=level, min=0, max=last, step=1, updatemode="drag", label=None, size="sm", w=320,
        marks=[{"value": level_of(profile, None)}], thumbLabel="level",
    )  # fmt: skip
    style = {"--n": len(seeds), "--w": pictures.width, "--h": pictures.height}
    return section(
        "Top samples",
        html.Div([html.Span("level"), slider, html.Span(id="unit-says", className="num")], className="level"),
        html.Div(tiles, className="tops", id="tops", style=style),
        tools=[
            dmc.Checkbox(id="unit-whole", label="whole pictures", size="xs", radius="sm"),
            saves_picture(opened, "tops", profile, level),
        ],
    )  # fmt: skip


def _numbers(opened: OpenRun, profile: Profile, level: int) -> Component:
    where, best = (opened.slug, profile.layer, profile.unit), profile.best
    varies = profile.activation.levels[0] != profile.activation.levels[-1]
    address = link("drawing", *where, "histogram.svg", bare=1, level=level, v=opened.run.id)
    key: list[Any] = [html.Span(className="dash all"), "all pixels "]
    if best:
        key += [html.Span(className="dash", style={"--c": opened.colours[best.category]}), f"pixels of {best.name} "]
    histogram = [
        html.Div(className="holder", id="unit-histogram", **data(svg=address)),
        html.P([*key, "— cumulative: the share above each level"], className="key"),
    ] if varies else html.P("All of its levels are the same: it hardly varies.", className="note")  # fmt: skip
    bars: Any = html.P("No concept can be compared with it.", className="note")
    if best:
        address = link("drawing", *where, "bars.svg", bare=1, v=opened.run.id)
        key = [html.Span(className="mark"), "chance, bar to the held-out IoU, ± its standard error; dashed: 0.04"]
        bars = [html.Div(className="holder", **data(svg=address)), html.P(key, className="key")]
    files = link("drawing", *where)
    return html.Div(
        [
            section(
                "Activation", html.Div(histogram, className="card pad"),
                tools=exports(f"{files}/histogram", follows=True) if varies else None,
            ),
            section(
                "Agreement above chance", html.Div(bars, className="card pad"),
                tools=exports(f"{files}/bars") if best else None,
            ),
        ],
        className="two",
    )  # fmt: skip


def _table(opened: OpenRun, profile: Profile) -> Component | None:
    if not profile.candidates:
        return None
    groups = [("", 1), ("at the shown level", 3), ("at the best level", 2), ("held out", 3), ("", 3)]
    heads = ["concept", "IoU", "chance", "D", "IoU", "chance", "IoU", "chance", "D", "info", "AP", "threshold"]
    body = []
    for row, c in enumerate(profile.candidates):
        href = link("concepts", opened.slug, c.name)
        follows = [html.Span(**data(at=name, row=row)) for name in ("iou", "chance", "d")]
        values = [number(x) for x in (c.iou, c.chance_iou, c.iou_heldout, c.chance_heldout)]
        cells: list[Any] = [
            *follows[:2], [follows[2], html.Small(**data(at="error", row=row))], *values,
            [html.B(number(c.difference)), html.Small(f" ± {number(c.stderr)}")],
            number(c.information_ratio), number(c.average_precision), short(c.threshold, 3, True),
        ]  # fmt: skip
        name = html.Td(badge(c.name, opened.colours[c.category], True, href))
        label = "label" if row == 0 and profile.labelled else ""
        body.append(html.Tr([name, *(html.Td(cell, className="n") for cell in cells)], className=label))
    head = html.Thead(
        [
            html.Tr([html.Th(name, colSpan=span, className="group" if name else "") for name, span in groups]),
            html.Tr([html.Th(name, className="n" if place else "") for place, name in enumerate(heads)]),
        ]
    )
    table = html.Table([head, html.Tbody(body)], className="data dense")
    note = "D is IoU minus chance; ± at the shown level is the jackknife error at the nearest of eight coarse levels."
    return section("Concepts", html.Div(table, className="card scroll"), note=note)


def _bands(opened: OpenRun, profile: Profile) -> Component:
    examples, title = profile.examples, "Over its whole range"
    if examples is None:
        return section(title, note="This file keeps only the top samples of each unit.")
    source = picture(opened, "bands", profile.layer, profile.unit, level_of(profile, None))
    columns = []
    for low, high, places in examples.by_band():
        tiles = []
        for place in places:
            tile = html.Div(html.Img(src=source, className="masked", style={"--i": place}), className="tile")
            name, value = opened.name_of(int(examples.seeds[place])), float(examples.values[place])
            tiles.append(html.Figure([tile], title=f"{name}, {short(value, 3, True)}"))
        says = f"{low:.0%} to {high:.0%}"
        columns.append(html.Div([html.Div(tiles, className="band-tiles"), html.P(says, className="key")]))
    style = {"--n": len(examples.seeds), "--w": opened.pictures.width, "--h": opened.pictures.height}
    note = "Samples drawn blindly from each fifth of the unit's maxima, the highest first, at the same level."
    tools = saves_picture(opened, "bands", profile, level_of(profile, None))
    return section(title, html.Div(columns, className="bands", id="bands", style=style), note=note, tools=tools)


def saves_picture(opened: OpenRun, kind: str, profile: Profile, level: int) -> Component:
    """Return the link that saves the pictures of a kind as they are shown."""
    address = link(kind, opened.slug, profile.layer, profile.unit)
    return html.A("PNG", href=f"{address}/{level}.png", className="export", download="", **data(picture=address))


def _side(opened: OpenRun, profile: Profile) -> list[Component]:
    parts = [notes_panel.panel(opened, profile.layer, profile.unit)]
    for title, pairs in (("Moves with", profile.correlated), ("Moves against", profile.opposed)):
        if pairs:
            parts.append(section(title, html.Div([_relative(opened, profile.layer, *pair) for pair in pairs])))
    if profile.avoided:
        shown = [
            badge(f"{name} {number(ratio)}", opened.colours[kind], True, link("concepts", opened.slug, name))
            for name, kind, ratio in profile.avoided
        ]
        note = "Off more than elsewhere; the information ratio of that."
        parts.append(section("Avoids", html.P(shown, className="badges"), note=note))
    return parts


def _relative(opened: OpenRun, layer: str, unit: int, r: float) -> Component:
    known = opened.layer(layer)
    concept = int(known.label[unit])
    name = opened.run.concepts[concept].name if concept else "not labelled"
    says = [
        html.B(f"unit {unit}"), html.Span(name, className="quiet"),
        html.Span(f"r = {number(r, 2, True)}", className="num"),
    ]  # fmt: skip
    return html.A(
        [strip(opened, layer, unit), html.Span(says, className="line")],
        href=link("unit", opened.slug, layer, unit), className="relative card",
    )  # fmt: skip
