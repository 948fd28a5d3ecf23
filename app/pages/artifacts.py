"""Artifacts: tag what is broken, rank the units that draw it, choose how many to take away, and export what is left.

A visitor's tags and choices are in the browser's own storage; rankings and curves lie beside the run.
"""

from __future__ import annotations

import secrets
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dissect.artifacts import Curve
from segmodels import GanatomyError

from ..context import Address, Context, link
from ..library import OpenRun
from ..reports import Report
from ..reports import State as JobState
from ..suspects import FEWEST, IMAGES, MOST, MOST_UNITS, STRATEGIES, Asked
from . import suspects_panel as panel
from .frame import aria, page, section
from .measure_panel import line, trouble

SHEET = 24
BEST = "best"  # of the extractors that are here
POLL = 500  # milliseconds
WORK: dict[str, Any] = {"type": "artifacts-work", "run": ALL}
TILE: dict[str, Any] = {"type": "artifacts-tile", "seed": ALL}


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/artifacts/<run>``."""
    opened = context.opened(address.part(0, "a run"))
    lead = (
        "Tag images that are broken and some that are fine; rank the units that draw what is broken; take the worst "
        "away, and see on unseen images what that does."
    )
    head = html.Section(
        [html.H1(["Artifacts of ", html.Em(opened.generator)]), html.P(lead, className="lead")], className="hero"
    )
    title = f"artifacts · {opened.slug}"
    if reason := context.engine.suspects.reason(opened.run):
        return page(head, html.P(f"Nothing can be done: {' '.join(reason.split())}.", className="note"), title=title)
    who = {"slug": opened.slug, "token": secrets.token_urlsafe(12)}
    return page(
        head, _tagging(opened), _ranking(opened), _dose(), _sides(),
        dcc.Store(id={"type": "artifacts-work", "run": opened.run.id}, storage_type="local"),
        dcc.Store(id="artifacts-who", data=who), dcc.Store(id="artifacts-job"), dcc.Store(id="artifacts-done"),
        dcc.Store(id="artifacts-first", data=0), dcc.Interval(id="artifacts-poll", interval=POLL, disabled=True),
        dcc.Download(id="artifacts-file"), title=title,
    )  # fmt: skip


def _tagging(opened: OpenRun) -> Component:
    controls = [
        html.Button("‹", id="artifacts-earlier", className="step", **aria("earlier seeds")),
        html.Button("›", id="artifacts-later", className="step", **aria("later seeds")),
        html.Span(id="artifacts-tags", className="num"),
        html.Button("Save tags", id="artifacts-save", className="act"),
    ]
    note = "A click, or Enter: broken, fine, neither. The file of tags is what `ganatomy artifacts --tags` reads."
    return section(
        "Which images are broken", html.Div(controls, className="level"),
        html.Div(_sheet(opened, 0), id="artifacts-sheet", className="tagging"), note=note,
    )  # fmt: skip


def _sheet(opened: OpenRun, first: int) -> list[Component]:
    tiles: list[Component] = []
    for seed in range(first, first + SHEET):
        image = html.Img(src=link("rewriting", opened.slug, "image", seed), alt="")
        name = {"type": "artifacts-tile", "seed": seed}
        tiles.append(html.Button(image, id=name, className="pick", title=f"seed {seed}"))
    return tiles


def _ranking(opened: OpenRun) -> Component:
    layers = list(opened.run.layers)
    controls = [
        html.Span("layer", className="quiet"),
        dmc.Select(id="artifacts-layer", data=layers, size="xs", w=190, allowDeselect=False, **aria("layer")),
        html.Span("ranking", className="quiet"),
        dmc.Select(
            id="artifacts-strategy", data=list(STRATEGIES), size="xs", w=120, allowDeselect=False, **aria("ranking"),
        ),
        html.Button("Rank", id="artifacts-rank", className="act main"),
        html.Button("Cancel", id="artifacts-cancel", className="act", hidden=True),
        html.Span(id="artifacts-says"),
    ]  # fmt: skip
    told = html.Ul([html.Li([html.B(name), f": {what}"]) for name, what in STRATEGIES.items()], className="note")
    return section(
        "Which units draw that", told, html.Div(controls, className="level measure"),
        html.Div(id="artifacts-suspects", className="grid"),
    )  # fmt: skip


def _dose() -> Component:
    controls = [
        html.Span("reference", className="quiet"),
        dmc.TextInput(
            id="artifacts-reference", placeholder="folder of real pictures", size="xs", w=200, **aria("reference"),
        ),
        html.Span("images", className="quiet"),
        dmc.NumberInput(
            id="artifacts-images", value=IMAGES, min=FEWEST, max=MOST, step=20, size="xs", w=90, **aria("images"),
        ),
        html.Span("features", className="quiet"),
        dmc.Select(
            id="artifacts-extractor", data=[{"value": BEST, "label": "the best here"}, "pixels"], value=BEST, size="xs",
            w=130, allowDeselect=False, **aria("features"),
        ),
        html.Button("Measure", id="artifacts-measure", className="act"),
    ]  # fmt: skip
    note = (
        "The kernel distance from the reference without the worst units, on images that the ranking did not see, "
        "beside as many random ones. The reference is a folder beside the run; without one, the run's own samples, "
        "which these units have shaped too: then nothing is likely to be found to help."
    )
    return section("How many", html.Div(controls, className="level"), html.Div(id="artifacts-curve"), note=note)


def _sides() -> Component:
    controls = [
        html.Span("units taken away", className="quiet"),
        dmc.Slider(
            id="artifacts-count", value=0, min=0, max=MOST_UNITS, step=1, w=300, size="sm", updatemode="mouseup",
            thumbLabel="units taken away",
        ),
        html.Span("but for", className="quiet"),
        dmc.TextInput(
            id="artifacts-spared", placeholder="5, 17", size="xs", w=120, debounce=400, **aria("units spared"),
        ),
        html.Span(id="artifacts-chosen", className="num"),
    ]  # fmt: skip
    return section(
        "Before and after", html.Div(controls, className="level"), html.Div(id="artifacts-sides"),
        note="Unseen images; below each pair the difference, three times as bright.",
    )  # fmt: skip


def register(app: Dash, context: Context) -> None:
    """Tag, rank, measure, choose, export."""
    _register_tags(app, context)
    _register_jobs(app, context)
    _register_choice(app, context)


def _register_tags(app: Dash, context: Context) -> None:
    app.clientside_callback(
        ClientsideFunction("ganatomyArtifacts", "tag"), Output(WORK, "data", allow_duplicate=True),
        Input(TILE, "n_clicks"), State(TILE, "id"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("ganatomyArtifacts", "paint"), Output(TILE, "className"), Output(TILE, "aria-label"),
        Output("artifacts-tags", "children"), Input(WORK, "data"), Input("artifacts-sheet", "children"),
        State(WORK, "data"), State(TILE, "id"),
    )  # fmt: skip

    @app.callback(
        Output("artifacts-sheet", "children"), Output("artifacts-first", "data"),
        Input("artifacts-earlier", "n_clicks"), Input("artifacts-later", "n_clicks"), State("artifacts-first", "data"),
        State("artifacts-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _turn(_earlier: int | None, _later: int | None, first: int, who: dict[str, Any]) -> tuple[Any, Any]:
        first = max(0, first + (SHEET if ctx.triggered_id == "artifacts-later" else -SHEET))
        return _sheet(context.opened(str(who["slug"])), first), first

    @app.callback(
        Output("artifacts-file", "data"), Input("artifacts-save", "n_clicks"), State(WORK, "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _save(clicks: int | None, kept: list[Any]) -> Any:
        tags = (work_of(kept).get("tags") or {}).items()
        lines = [f"{seed},{tag}" for seed, tag in sorted((int(seed), tag) for seed, tag in tags)]
        return {"content": "\n".join(["seed,tag", *lines, ""]), "filename": "tags.csv"} if clicks else no_update


def work_of(kept: list[Any] | None) -> dict[str, Any]:
    """Return what a visitor's browser keeps of a run."""
    first = kept[0] if kept else None
    return first if isinstance(first, dict) else {}


def tags_of(work: dict[str, Any]) -> tuple[tuple[int, bool], ...]:
    """Return (seed, whether it is broken), seeds ascending; GanatomyError for what no page sends."""
    try:
        kinds = {"broken": True, "fine": False}
        return tuple(sorted((int(seed), kinds[tag]) for seed, tag in (work.get("tags") or {}).items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GanatomyError("expected tags, broken or fine, by seed") from error


def _register_jobs(app: Dash, context: Context) -> None:
    suspects, worker = context.engine.suspects, context.engine.worker
    started = (
        Output("artifacts-says", "children"), Output("artifacts-job", "data"),
        Output("artifacts-poll", "disabled"), Output("artifacts-cancel", "hidden"),
    )  # fmt: skip

    def found(job: int | str | None, who: dict[str, Any]) -> Report:
        """Return how a job stands: a number is one of this page's, a token that of an export."""
        if isinstance(job, str):
            return context.engine.rewriting.report(job)
        return suspects.report(int(job or 0), who["token"])

    def begin(asked: Asked) -> tuple[Any, ...]:
        try:
            number = suspects.start(asked)
        except GanatomyError as error:
            return trouble(error), no_update, True, True
        return line(worker.report(number)), number, False, False

    @app.callback(
        *started, Input("artifacts-rank", "n_clicks"), State("artifacts-who", "data"), State(WORK, "data"),
        State("artifacts-layer", "value"), State("artifacts-strategy", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def _rank(clicks: int | None, who: dict[str, Any], kept: list[Any], layer: str, strategy: str) -> tuple[Any, ...]:
        if not clicks:
            return (no_update,) * 4
        try:
            tags = tags_of(work_of(kept)) if strategy == "tagged" else ()
        except GanatomyError as error:
            return trouble(error), no_update, True, True
        return begin(Asked(who["slug"], str(layer), str(strategy), tags, token=who["token"]))

    @app.callback(
        *(Output(one.component_id, one.component_property, allow_duplicate=True) for one in started),
        Input("artifacts-measure", "n_clicks"), State("artifacts-who", "data"), State(WORK, "data"),
        State("artifacts-reference", "value"), State("artifacts-images", "value"),
        State("artifacts-extractor", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def _measure(
        clicks: int | None, who: dict[str, Any], kept: list[Any], reference: str | None, images: Any, features: str
    ) -> tuple[Any, ...]:
        if not clicks:
            return (no_update,) * 4
        work = work_of(kept)
        if not work.get("ranking"):
            return html.Span("rank the units first", className="trouble"), no_update, True, True
        count = images if isinstance(images, int) else 0
        return begin(
            Asked(
                who["slug"], str(work.get("ranked")), ranking=str(work["ranking"]), reference=(reference or "").strip(),
                images=count, extractor="" if features == BEST else str(features), token=who["token"],
            )
        )  # fmt: skip

    @app.callback(
        *(Output(one.component_id, one.component_property, allow_duplicate=True) for one in started),
        Input("artifacts-checkpoint", "n_clicks"), State("artifacts-who", "data"), State("artifacts-edits", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _checkpoint(clicks: int | None, who: dict[str, Any], edits: str | None) -> tuple[Any, ...]:
        if not clicks:
            return (no_update,) * 4
        rewriting = context.engine.rewriting
        try:
            token = rewriting.start(who["slug"], "export", {"edits": edits or ""})
        except GanatomyError as error:
            return trouble(error), no_update, True, True
        return line(rewriting.report(token)), token, False, False

    @app.callback(
        *(Output(one.component_id, one.component_property, allow_duplicate=True) for one in (started[0], *started[2:])),
        Output(WORK, "data", allow_duplicate=True), Input("artifacts-poll", "n_intervals"),
        State("artifacts-job", "data"), State("artifacts-who", "data"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _look(_polls: int, job: int | str | None, who: dict[str, Any], kept: list[Any]) -> tuple[Any, ...]:
        try:
            report = found(job, who)
        except GanatomyError as error:
            return trouble(error), True, True, [no_update]
        if not report.state.ended:
            return line(report), False, False, [no_update]
        if report.state is not JobState.DONE:
            said = html.Span(report.error or report.message or report.state.value, className="trouble")
            return said, True, True, [no_update]
        if isinstance(job, str):
            address = link("rewriting", who["slug"], "export", report.result["file"])
            made = html.A(f"Save {report.result['name']}", href=address, download="", id="artifacts-made")
            return made, True, True, [no_update]
        asked, work = report.details, dict(work_of(kept))
        if asked.strategy:
            work |= {"ranking": report.result, "ranked": asked.layer, "curve": None}
        else:
            work |= {"curve": report.result}
            curve: Curve = context.opened(asked.slug).run.effects[report.result]
            work["count"] = curve.best if curve.helps else work.get("count") or 0
        return line(report), True, True, [work]

    @app.callback(
        Output("artifacts-cancel", "disabled"), Input("artifacts-cancel", "n_clicks"), State("artifacts-job", "data"),
        State("artifacts-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _cancel(clicks: int | None, job: int | str | None, who: dict[str, Any]) -> bool:
        if clicks and job is not None:
            worker.cancel(found(job, who).id)
        return False


def _register_choice(app: Dash, context: Context) -> None:
    app.clientside_callback(
        ClientsideFunction("ganatomyArtifacts", "keep"), Output(WORK, "data", allow_duplicate=True),
        Input("artifacts-layer", "value"), Input("artifacts-strategy", "value"), Input("artifacts-count", "value"),
        Input("artifacts-spared", "value"), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip

    @app.callback(
        Output("artifacts-layer", "value"), Output("artifacts-strategy", "value"), Output("artifacts-count", "value"),
        Output("artifacts-spared", "value"), Output("artifacts-suspects", "children"),
        Output("artifacts-curve", "children"), Output("artifacts-chosen", "children"),
        Output("artifacts-sides", "children"), Output("artifacts-done", "data"), Input(WORK, "data"),
        State("artifacts-who", "data"), State("artifacts-done", "data"),
    )  # fmt: skip
    def _show(kept: list[Any], who: dict[str, Any], done: dict[str, Any] | None) -> tuple[Any, ...]:
        opened, work, before = context.opened(str(who["slug"])), work_of(kept), done or {}
        layer = work.get("layer") if work.get("layer") in opened.run.layers else opened.run.layers[0]
        strategy = work.get("strategy") if work.get("strategy") in STRATEGIES else "tagged"
        shown = {name: work.get(name) for name in ("ranking", "curve", "count", "spared")}
        changed = {name for name in shown if shown[name] != before.get(name)}
        count, spared = int(work.get("count") or 0), str(work.get("spared") or "")
        suspects: Any = no_update
        curve: Any = no_update
        says: Any = no_update
        sides: Any = no_update
        try:
            ranking = context.engine.suspects.ranking(opened, work["ranking"]) if work.get("ranking") else None
            if "ranking" in changed or not done:
                suspects = panel.gallery(opened, ranking)
            if changed & {"ranking", "curve"} or not done:
                curve = panel.curve(opened, work.get("curve"))
            if changed or not done:
                says, sides = panel.before_and_after(context, opened, ranking, count, spared)
        except GanatomyError as error:
            says = trouble(error)
        # What a visitor moves is theirs: an answer that is late must not move it back.
        fields: tuple[Any, ...] = (layer, strategy, count, spared)
        if done is not None:
            fields = (no_update, no_update, count if "curve" in changed else no_update, no_update)
        return *fields, suspects, curve, says, sides, shown
