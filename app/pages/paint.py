"""Paint: erase and draw what a run's units stand for, with a brush. What a visitor does stays in the browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from ..context import Address, Context, link
from ..library import OpenRun
from ..paint_edits import mask_side
from ..painting import MOST_BEST, takes_latents
from ..views import picture
from .frame import page

SHEET = 240  # pictures to choose from, of those that the run keeps
NUMBERS = re.compile(r"\d{1,9}([,\s]+\d{1,9})*", re.ASCII)


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/paint/<run>``; ``?concept=``, ``layer=``, ``units=``, ``seed=`` say what to begin with."""
    opened = context.opened(address.part(0, "a run"))
    reason = context.engine.live.reason(opened.run)
    lead = (
        "Say what the brush is made of: a concept, and the units that stand for it. Where you erase, those units are "
        "taken away; where you draw, they are put in. Everything else is left to the generator."
    )
    head = html.Section(
        [html.H1(["Paint with ", html.Em(opened.generator)]), html.P(lead, className="lead")], className="hero"
    )
    title = f"paint · {opened.slug}"
    if reason:
        why = html.P(f"Nothing can be drawn: {' '.join(reason.split())}.", className="note")
        return page(head, html.Section(why), title=title)
    return page(
        head, html.Div(id="paint"), dcc.Store(id="paint-facts", data=facts(opened, address.query)),
        dcc.Store(id="paint-opened"), title=title,
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """All else is done in the browser (``paint.js``)."""
    app.clientside_callback(
        ClientsideFunction("ganatomyPaint", "open"), Output("paint-opened", "data"), Input("paint-facts", "data")
    )


def facts(opened: OpenRun, query: Mapping[str, str]) -> dict[str, Any]:
    """Return what the browser has to know of a run: JSON. ``wanted``: the brush and the seed that an address names."""
    run = opened.run
    resolution = int(run.manifest["generator"]["resolution"])
    wanted = {name: query[name] for name in ("concept", "layer", "units", "seed") if query.get(name)}
    if not NUMBERS.fullmatch(wanted.get("units", "0")):
        del wanted["units"]
    return {
        "id": run.id, "slug": opened.slug, "address": link("painting", opened.slug), "wanted": wanted,
        "side": mask_side(resolution), "layers": list(run.layers), "concepts": concepts(opened),
        "sheet": sheet(opened), "most": MOST_BEST, "explicit": "codes_sha256" in run.manifest["samples"],
        "samples": run.samples, "latents": takes_latents(str(run.manifest["generator"]["family"])),
    }  # fmt: skip


def sheet(opened: OpenRun) -> list[dict[str, Any]]:
    """Return the first pictures that the run keeps, to choose one: they need no drawing."""
    seeds = sorted(opened.encoded)[:SHEET]
    return [{"seed": seed, "name": opened.name_of(seed), "src": picture(opened, "sample", seed)} for seed in seeds]


def concepts(opened: OpenRun) -> list[dict[str, Any]]:
    """Return the concepts that occur often enough to be judged, those with most labelled units first."""
    run = opened.run
    found = []
    for index, concept in enumerate(run.concepts):
        if index and run.judged[index]:
            labelled = sum(layer.per_concept.get(index, 0) for layer in opened.layers)
            found.append({"name": concept.name, "category": concept.category, "units": labelled})
    return sorted(found, key=lambda one: (-one["units"], one["name"]))
