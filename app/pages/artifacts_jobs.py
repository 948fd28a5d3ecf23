"""The jobs of the Artifacts page: watched, cancelled, their results taken over; a page waits for one at a time."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, html, no_update

from dissect.artifacts import Curve
from segmodels import GanatomyError

from ..context import Context, link
from ..reports import Report
from ..reports import State as JobState
from ..suspects import RANK, Asked
from .measure_panel import line, trouble


def waited_for(job: int | str, token: str = "") -> dict[str, Any]:
    """Return the news that a job has begun; a file that an earlier one made is then not offered any more."""
    return {"fields": {"job": job, "token": token, "made": None}}


def found(context: Context, job: dict[str, Any]) -> Report:
    """Return how a job stands: a number is one of this room's, a token that of an export."""
    if isinstance(job["job"], str):
        return context.engine.rewriting.report(job["job"])
    return context.engine.suspects.report(int(job["job"]), str(job["token"]))


def check_free(context: Context, job: dict[str, Any] | None) -> None:
    """Raise GanatomyError while a job is waited for: a page knows one, and what another found would be lost."""
    try:
        report = found(context, job) if job else None
    except GanatomyError:
        return  # it is not known any more
    if report is not None and not report.state.ended:
        raise GanatomyError("something else is being done for this page: wait for it, or cancel it")


def saved(context: Context, slug: str, made: Any) -> Any:
    """Return the link by which a file that a job has made is saved; no_update if it is not kept any more."""
    try:
        name = context.engine.suspects.exports.file(str(made["file"])).name
    except (GanatomyError, KeyError, TypeError):
        return no_update
    address = link("rewriting", slug, "export", made["file"])
    return html.A(f"Save {name}", href=address, download=name, id="artifacts-made", className="act main")


def register(app: Dash, context: Context) -> None:
    """Watch what was begun, take what it found, cancel it."""
    suspects, worker = context.engine.suspects, context.engine.worker

    @app.callback(
        Output("artifacts-says", "children", allow_duplicate=True),
        Output("artifacts-news", "data", allow_duplicate=True), Input("artifacts-poll", "n_intervals"),
        State("artifacts-job", "data"), State("artifacts-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _look(_polls: int, job: dict[str, Any] | None, who: dict[str, Any]) -> tuple[Any, Any]:
        if not job:
            return no_update, no_update
        ended = {"ended": job["job"]}
        try:
            report = found(context, job)
        except GanatomyError as error:
            return trouble(error), ended
        if not report.state.ended:
            return line(report), no_update
        if report.state is not JobState.DONE:
            return html.Span(report.error or report.state.value, className="trouble"), ended
        if isinstance(report.result, dict):
            made = {"file": report.result["file"]}
            return saved(context, str(who["slug"]), made), ended | {"fields": {"made": made}}
        asked: Asked = report.details
        if asked.what == RANK:
            return line(report), ended | {
                "fields": {"ranking": report.result, "ranked": asked.layer, "curve": "", "spared": ""}
            }
        curve: Curve = context.opened(asked.slug).run.effects[report.result]
        counted = {"count": curve.best} if curve.helps else {}
        return line(report), ended | {"fields": {"curve": report.result, **counted}}

    @app.callback(
        Output("artifacts-cancel", "disabled"), Input("artifacts-cancel", "n_clicks"), State("artifacts-job", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def _cancel(clicks: int | None, job: dict[str, Any] | None) -> bool:
        if clicks and job:
            worker.cancel(found(context, job).id)
        return False

    @app.callback(
        Output("artifacts-news", "data", allow_duplicate=True), Input("artifacts-known", "value"),
        State("artifacts-choice", "data"), State("artifacts-who", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def _again(key: str | None, choice: dict[str, Any] | None, who: dict[str, Any]) -> Any:
        """Go back to an earlier ranking, with its latest curve."""
        if not key or key == (choice or {}).get("ranking"):
            return no_update
        run = context.opened(str(who["slug"]))
        layer = suspects.ranking(run, key).layer
        return {"fields": {"ranking": key, "ranked": layer, "curve": suspects.curve_of(run, key), "spared": ""}}
