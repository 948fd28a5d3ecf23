"""What the Artifacts page does.

The browser owns a visitor's work: the server sends it ``news``, of which the browser takes what is new into the work as
it is then, so that no answer undoes what was done meanwhile. The server is sent ``choice``, the work without its tags,
and the tags only where they are asked about. A job's number and token are part of the work: a page that is loaded anew
finds it again.
"""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, no_update

from segmodels import GanatomyError

from ..context import Context
from ..suspects import CURVE, PROVE, RANK, STRATEGIES, Asked
from ..tagging import Tagged
from . import artifacts_jobs
from . import suspects_panel as panel
from .artifacts_jobs import check_free, saved, waited_for
from .measure_panel import line, trouble
from .tagging_panel import WORK, work_of

BEST = "best"  # of the extractors that are here
SPARE: dict[str, Any] = {"type": "artifacts-spare", "unit": ALL}
FIELDS = ("layer", "strategy", "count", "spared", "reference", "images", "extractor")


def register(app: Dash, context: Context) -> None:
    """Rank, measure, choose, export."""
    _register_work(app)
    _register_questions(app, context)
    _register_distances(app, context)
    artifacts_jobs.register(app, context)
    _register_choice(app, context)


def _here(name: str) -> ClientsideFunction:
    return ClientsideFunction("ganatomyArtifacts", name)


def _register_work(app: Dash) -> None:
    """What the browser does with the work by itself."""
    app.clientside_callback(
        _here("keep"), Output(WORK, "data", allow_duplicate=True),
        *(Input(f"artifacts-{name}", "value") for name in FIELDS), State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        _here("merge"), Output(WORK, "data", allow_duplicate=True), Input("artifacts-news", "data"),
        State(WORK, "data"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        _here("split"), Output("artifacts-choice", "data"), Output("artifacts-job", "data"),
        Output("artifacts-poll", "disabled"), Output("artifacts-cancel", "hidden"), Input(WORK, "data"),
        State("artifacts-choice", "data"), State("artifacts-job", "data"),
    )  # fmt: skip
    app.clientside_callback(
        _here("spare"), Output("artifacts-spared", "value", allow_duplicate=True), Input(SPARE, "n_clicks"),
        State(SPARE, "id"), State("artifacts-spared", "value"), prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        _here("mark"), Output(SPARE, "children"), Output(SPARE, "aria-pressed"),
        Input("artifacts-spared", "value"), Input("artifacts-suspects", "children"), State(SPARE, "id"),
    )  # fmt: skip


STARTED = (
    Output("artifacts-says", "children", allow_duplicate=True),
    Output("artifacts-news", "data", allow_duplicate=True),
)  # fmt: skip
# As they stand in the fields: the work may not have them yet while an answer that fills other fields is under way.
SAID = tuple(State(f"artifacts-{name}", "value") for name in ("reference", "images", "extractor"))


def _begin(context: Context, asked: Asked) -> tuple[Any, Any]:
    """Begin a job; return what the page says of it, and the news that it is waited for."""
    number = context.engine.suspects.start(asked)
    return line(context.engine.worker.report(number)), waited_for(number, asked.token)


def _of_distances(
    what: str, who: dict[str, Any], choice: dict[str, Any] | None, said: tuple[Any, ...], units: list[int]
) -> Asked:
    """Return what is asked about distances, by the ranking that was chosen; GanatomyError if there is none."""
    choice, (reference, images, features) = choice or {}, said
    if not choice.get("ranking"):
        raise GanatomyError("rank the units first")
    return Asked(
        what, who["slug"], str(choice.get("ranked")), ranking=str(choice["ranking"]), units=tuple(units),
        curve=str(choice.get("curve") or ""), reference=str(reference or "").strip(),
        images=images if isinstance(images, int) else 0, token=who["token"],
        extractor="" if features in (None, BEST) else str(features),
    )  # fmt: skip


def _register_questions(app: Dash, context: Context) -> None:
    """Begin a job: rank the units, or write a checkpoint."""

    @app.callback(
        *STARTED, Input("artifacts-rank", "n_clicks"), State("artifacts-who", "data"), State(WORK, "data"),
        State("artifacts-layer", "value"), State("artifacts-strategy", "value"), State("artifacts-job", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _rank(
        clicks: int | None, who: dict[str, Any], kept: list[Any], layer: str, strategy: str, job: dict[str, Any] | None
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        check_free(context, job)
        try:
            tags = Tagged.of(work_of(kept)) if strategy in ("tagged", "defect") else Tagged()
            return _begin(context, Asked(RANK, who["slug"], str(layer), str(strategy), tags, token=who["token"]))
        except GanatomyError as error:
            return trouble(error), no_update

    @app.callback(
        *STARTED, Input("artifacts-checkpoint", "n_clicks"), State("artifacts-who", "data"),
        State("artifacts-edits", "data"), State("artifacts-job", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _checkpoint(
        clicks: int | None, who: dict[str, Any], edits: str | None, job: dict[str, Any] | None
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        check_free(context, job)
        rewriting = context.engine.rewriting
        try:
            token = rewriting.start(who["slug"], "export", {"edits": edits or ""})
            return line(rewriting.report(token)), waited_for(token)
        except GanatomyError as error:
            return trouble(error), no_update


def _register_distances(app: Dash, context: Context) -> None:
    """Begin a job about distances: measure the curve of a ranking, or prove a choice of units."""

    @app.callback(
        *STARTED, Input("artifacts-measure", "n_clicks"), State("artifacts-who", "data"),
        State("artifacts-choice", "data"), State("artifacts-job", "data"), *SAID, prevent_initial_call=True,
    )  # fmt: skip
    def _measure(
        clicks: int | None, who: dict[str, Any], choice: dict[str, Any] | None, job: dict[str, Any] | None, *said: Any
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        check_free(context, job)
        try:
            return _begin(context, _of_distances(CURVE, who, choice, said, []))
        except GanatomyError as error:
            return trouble(error), no_update

    @app.callback(
        *STARTED, Input("artifacts-prove", "n_clicks"), State("artifacts-who", "data"),
        State("artifacts-choice", "data"), State("artifacts-job", "data"), State("artifacts-units", "data"), *SAID,
        prevent_initial_call=True,
    )  # fmt: skip
    def _prove(
        clicks: int | None, who: dict[str, Any], choice: dict[str, Any] | None, job: dict[str, Any] | None,
        units: list[int], *said: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        if not clicks:
            return no_update, no_update
        check_free(context, job)
        try:
            return _begin(context, _of_distances(PROVE, who, choice, said, units))
        except GanatomyError as error:
            return trouble(error), no_update


def _register_choice(app: Dash, context: Context) -> None:
    @app.callback(
        *(Output(f"artifacts-{name}", "value") for name in FIELDS), Output("artifacts-suspects", "children"),
        Output("artifacts-curve", "children"), Output("artifacts-chosen", "children"),
        Output("artifacts-sides", "children"), Output("artifacts-known", "data"), Output("artifacts-known", "value"),
        Output("artifacts-knowns", "hidden"), Output("artifacts-done", "data"),
        Output("artifacts-says", "children", allow_duplicate=True), Input("artifacts-choice", "data"),
        State("artifacts-who", "data"), State("artifacts-done", "data"), prevent_initial_call="initial_duplicate",
    )  # fmt: skip
    def _show(choice: dict[str, Any] | None, who: dict[str, Any], done: dict[str, Any] | None) -> tuple[Any, ...]:
        if choice is None:
            return (no_update,) * (len(FIELDS) + 9)
        run, before = context.opened(str(who["slug"])), done or {}
        shown = {name: choice.get(name) for name in ("ranking", "curve", "count", "spared")}
        changed = {name for name in shown if shown[name] != before.get(name)} if done else set(shown)
        results = _results(context, run.slug, choice, changed)
        known = context.engine.suspects.earlier(run) if "ranking" in changed else None
        earlier: tuple[Any, ...] = (no_update,) * 3
        if known is not None:
            earlier = [{"value": k, "label": v} for k, v in known.items()], choice.get("ranking") or None, not known
        said = no_update if done else saved(context, run.slug, choice.get("made"))  # what was made before a reload
        return *_fields(run.run.layers, choice, done is None, changed), *results, *earlier, shown, said


def _fields(layers: Any, choice: dict[str, Any], first: bool, changed: set[str]) -> tuple[Any, ...]:
    """Return what the fields hold: all of it at first; then only what a result has changed.

    What a visitor moves is theirs: an answer that is late must not move it back.
    """
    if not first:
        values = {
            "layer": choice.get("ranked") if "ranking" in changed and choice.get("ranked") in layers else no_update,
            "count": choice.get("count") or 0 if "curve" in changed else no_update,
            "spared": choice.get("spared") or "" if "ranking" in changed else no_update,
        }
        return tuple(values.get(name, no_update) for name in FIELDS)
    usual = {"layer": next(iter(layers)), "strategy": "tagged", "count": 0, "spared": ""}
    values = {name: choice.get(name) if choice.get(name) is not None else usual.get(name, no_update) for name in FIELDS}
    if values["layer"] not in layers:
        values["layer"] = usual["layer"]
    if values["strategy"] not in STRATEGIES:
        values["strategy"] = usual["strategy"]
    return tuple(values.values())


def _results(context: Context, slug: str, choice: dict[str, Any], changed: set[str]) -> tuple[Any, ...]:
    """Return the gallery, the curve, which units are taken away, and images before and after, where they changed."""
    run = context.opened(slug)
    suspects: Any = no_update
    curve: Any = no_update
    says: Any = no_update
    sides: Any = no_update
    try:
        ranking = context.engine.suspects.ranking(run, choice["ranking"]) if choice.get("ranking") else None
        if "ranking" in changed:
            suspects = panel.gallery(run, ranking)
        if changed & {"ranking", "curve"}:
            curve = panel.curve(run, choice.get("curve"))
        if changed:
            count, spared = int(choice.get("count") or 0), str(choice.get("spared") or "")
            says, sides = panel.before_and_after(context, run, ranking, count, spared)
    except GanatomyError as error:
        says = trouble(error)
    return suspects, curve, says, sides
