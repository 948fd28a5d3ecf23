"""How a concept fades as its best units are taken away, on its page: what was measured, and the button that does."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from dissect import Dose
from segmodels import GanatomyError

from ..context import Context
from ..facts import number, percent
from ..figures import fading
from ..library import OpenRun
from ..measures import TOP, Measure
from . import measure_panel
from .frame import chart, exports_of_chart, section

TITLE = "Without its units"


def panel(context: Context, opened: OpenRun, concept: int) -> Component | None:
    """Return the section; None for a concept that is too rare to say which units agree with it."""
    if not opened.run.judged[concept]:
        return None
    layers = [layer for layer in opened.layers if len(opened.run.layer(layer.name).units(concept, top=1))]
    if not layers:
        return None
    name = opened.run.concepts[concept].name
    most = max(layers, key=lambda layer: layer.per_concept.get(concept, 0))
    units = max(1, min(TOP, most.units // 2))
    asked = Measure(opened.slug, most.name, concept=name, units=units)
    shown = known(opened, name)
    note = "The units of a layer that agree best with it, taken away together; beside it as many random units."
    return section(
        TITLE, measure_panel.panel(context, opened, asked, shown, [layer.name for layer in layers]), note=note,
        tools=exports_of_chart(),
    )  # fmt: skip


def of_concept(context: Context, what: dict[str, Any]) -> Component:
    """Return what is known of the concept that a page's question names."""
    return known(context.opened(str(what["slug"])), str(what["concept"]))


def known(opened: OpenRun, concept: str) -> Component:
    """Return the latest curve of each layer, or that there is none; a damaged file is told in its place."""
    try:
        latest = {
            str(dose.facts["layer"]): dose for dose in opened.run.effects.of(Dose.kind) if dose.concept == concept
        }
    except (GanatomyError, LookupError, TypeError, ValueError) as error:
        return html.P(" ".join(str(error).split()), className="note")
    if not latest:
        command = html.Code(f"ganatomy dose {opened.path.name} --concept {concept}")
        says: list[Any] = [
            "Not measured: that units agree with a concept does not say that they draw it. ",
            command,
            " does so too.",
        ]
        return html.P(says, className="note")
    curves = list(latest.items())
    parts: list[Component] = [chart("concept-dose", fading([(layer, dose.rows()) for layer, dose in curves]))]
    parts += [html.P(_says(layer, dose), className="note") for layer, dose in curves]
    return html.Div(parts, id="dose-known")


def _says(layer: str, dose: Dose) -> str:
    last = dose.rows()[-1]
    others = "" if last["random"] is None else f", without as many random ones {percent(last['random'])}"
    low, high = dose.gain_interval.tolist()
    order = "; that these units matter more than random ones is beyond the error" if low > 0 else ""
    if low == low and low <= 0:
        order = "; they do not matter more than random ones beyond the error"
    return (
        f"{layer}, {len(dose.seeds)} images: without {last['units']} units {percent(last['left'])} of its area is left"
        f"{others}{order} (gain in area under the curve {number(low)} to {number(high)})."
    )
