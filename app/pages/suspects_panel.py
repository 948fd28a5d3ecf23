"""What the Artifacts page shows of its results: suspects, the curve, images before and after."""

from __future__ import annotations

from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

import dissect
from dissect import Recipe
from dissect.artifacts import Curve, Ranking

from ..cleaned import dose_figure
from ..context import Context, link
from ..experiments import parse_units
from ..facts import number
from ..library import OpenRun
from ..proof import unseen
from .frame import chart, strip

SHOWN, SUSPECTS = 8, 20
ALPHA = 0.05  # above it, a ranking by tags may be chance


def gallery(opened: OpenRun, ranking: Ranking | None) -> list[Component]:
    """Return a ranking's first units with their pictures and scores."""
    if ranking is None:
        return [html.P("Nothing has been ranked.", className="note")]
    cards: list[Component] = []
    for row in ranking.rows(SUSPECTS):
        if row["score"] is None:
            continue
        p = "" if row.get("p_adjusted") is None else f" · p {number(row['p_adjusted'])}"
        score = html.Span(f"{number(row['score'])}{p}", className="num")
        face = html.A(
            [
                strip(opened, ranking.layer, row["unit"]),
                html.Span([html.B(f"{row['rank']}. unit {row['unit']}"), score], className="line"),
            ],
            href=link("unit", opened.slug, ranking.layer, row["unit"]), className="unit-link",
        )  # fmt: skip
        name = {"type": "artifacts-spare", "unit": row["unit"]}
        spare = html.Button("spare", id=name, className="act small", title="keep this unit in any case")
        cards.append(html.Div([face, spare], className="card unit suspect"))
    adjusted = ranking.details.get("p_adjusted")
    if adjusted is not None and adjusted.min() > ALPHA:
        said = (
            "With these tags, chance alone could put such units first (p counts that all units were looked at). With "
            "more tags of both kinds a ranking says more; below is seen what taking the units away does."
        )
        cards.insert(0, html.P(said, className="note wide", id="artifacts-chance"))
    return cards or [html.P("This ranking can judge none of the units.", className="note")]


def curve(opened: OpenRun, key: str | None) -> Component | None:
    """Return the chart of a curve and what it says; None if there is none."""
    if not key or key not in opened.run.effects:
        return None
    made: Curve = opened.run.effects[key]
    facts = made.facts
    verdict = (
        f"Without {made.best} units images are nearer to the reference than with all, and than without as many random "
        "ones, beyond the error."
        if made.helps
        else "Taking units away does not bring images nearer to the reference beyond the error."
    )
    note = f"{verdict} {facts['images']} images, features of {facts['extractor'][0]}, reference: {facts['reference']}."
    says = html.P(note, className="note", id="artifacts-verdict")
    return html.Div([chart("artifacts-dose", dose_figure(made)), says])


def before_and_after(
    context: Context, opened: OpenRun, ranking: Ranking | None, count: int, spared: str
) -> tuple[Any, Any]:
    """Return which units are taken away, and pairs of unseen images with links that save the edits."""
    if ranking is None:
        return "", None
    left = set(parse_units(spared, "but for")) if spared.strip() else set()
    order = [unit for unit in ranking.top(len(ranking.score)) if unit not in left]
    units = order[: min(count, len(ranking.score) // 2)]
    if not units:
        return "none", html.P("Move the slider to take units away.", className="note")
    recipe = Recipe([dissect.ablate(ranking.layer, units)])
    edits = f"{context.engine.rewriting.shelf.put(recipe.data())}~1"
    figures = []
    for seed in unseen(opened.run, ranking, SHOWN):
        sources = [link("rewriting", opened.slug, "image", seed, edits=some) for some in ("", edits)]
        before, after = html.Img(src=sources[0], alt="before"), html.Img(src=sources[1], alt="after")
        both = html.Div([html.Img(src=source, alt="") for source in sources], className="differ", title="difference")
        figures.append(html.Figure([before, after, both, html.Figcaption(f"seed {seed}")]))
    saves: list[Component] = []
    for text, kind in (("Save the recipe", "recipe"), ("Save a bundle", "bundle")):
        address = link("rewriting", opened.slug, kind, edits=edits)
        saves.append(html.A(text, href=address, className="act", download="", id=f"artifacts-{kind}"))
    saves += [
        html.Button("Export a checkpoint", id="artifacts-checkpoint", className="act"),
        html.Button("Prove it, and save all", id="artifacts-prove", className="act main"),
        dcc.Store(id="artifacts-edits", data=edits),
        dcc.Store(id="artifacts-units", data=units),
    ]
    command = f"ganatomy clean {opened.path.name} --layer {ranking.layer} --units {','.join(map(str, units))}"
    report = html.P(
        [
            "The proof: distances before and after on images that neither the ranking nor the curve saw, beside random "
            "units, and what else changed, as a page to mail in one zip with the cleaned file. The same at a command "
            "line: ", html.Code(command),
        ],
        className="note",
    )  # fmt: skip
    return ", ".join(map(str, units)), html.Div(
        [html.Div(figures, className="sides"), html.Div(saves, className="level measure"), report]
    )
