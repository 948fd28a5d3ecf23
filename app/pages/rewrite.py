"""Rewrite: change a rule of a run's generator. What a visitor does stays in the browser."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from rewrite.request import GOALS
from rewrite.solve import METHODS

from ..context import Address, Context, link
from ..library import OpenRun
from ..rewriting import sampling_of
from .frame import page

LOOK, SEEDS, JUDGE = "1000:1012", "1000:1006", "1000:1100"  # beyond those whose keys say what is typical


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/rewrite/<run>``."""
    opened = context.library.get(address.part(0, "a run"))
    reason = context.engine.rewriting.reason(opened.run)
    lead = (
        "A layer is a memory: which patch means which value. Copy a value, paste it where it is to appear, say which "
        "other places are of the same kind, and the rule changes in every image."
    )
    head = html.Section(
        [html.H1(["Rewrite a rule of ", html.Em(opened.generator)]), html.P(lead, className="lead")], className="hero"
    )
    if reason:
        why = html.P(f"Nothing can be rewritten: {' '.join(reason.split())}.", className="note")
        return page(head, html.Section(why), title=f"rewrite · {opened.slug}")
    return page(
        head, html.Div(id="rewrite"), dcc.Store(id="rewrite-facts", data=facts(opened)), dcc.Store(id="rewrite-opened"),
        title=f"rewrite · {opened.slug}",
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """All else is done in the browser (``rewrite.js``)."""
    app.clientside_callback(
        ClientsideFunction("ganatomyRewrite", "open"), Output("rewrite-opened", "data"), Input("rewrite-facts", "data")
    )


def facts(opened: OpenRun) -> dict[str, Any]:
    """Return what the browser has to know of a run: JSON."""
    run = opened.run
    sampling = {name: value for name, value in vars(sampling_of(run)).items() if value is not None}
    return {
        "id": run.id, "slug": opened.slug, "address": link("rewriting", opened.slug),
        "resolution": int(run.manifest["generator"]["resolution"]), "layers": list(run.layers),
        "concepts": [concept.name for concept in run.concepts[1:]], "sampling": sampling, "goals": list(GOALS),
        "methods": list(METHODS), "look": LOOK, "seeds": SEEDS, "judge": JUDGE,
    }  # fmt: skip
