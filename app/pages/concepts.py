"""Concepts: which there are, and of one, its units in all layers, its area over the samples, and examples."""

from __future__ import annotations

import numpy as np
from dash import Dash, html
from dash.development.base_component import Component

from ..context import Address, Context, link
from ..facts import number, percent
from ..figures import area_histogram
from ..library import OpenRun
from ..profiles import Candidate
from ..views import picture
from . import causes_panel, dose_panel, measure_panel
from .frame import badge, chart, data, exports_of_chart, page, section, strip

MOST_UNITS, EXAMPLES = 24, 24


def layout(context: Context, address: Address) -> Component:
    """Return the page of ``/concepts/<run>`` or ``/concepts/<run>/<concept>``."""
    opened = context.opened(address.part(0, "a run"))
    if len(address.parts) < 2:
        return _all(opened)
    return _one(context, opened, opened.run.concept_index(address.parts[1]))


def register(app: Dash, context: Context) -> None:
    """What is measured at a button: here and on the page of a unit."""
    measure_panel.register(app, context, {"unit": causes_panel.of_unit, "concept": dose_panel.of_concept})


def shares(opened: OpenRun, concept: int) -> np.ndarray:
    """Return a concept's share of each sample's pixels, [N]."""
    return opened.run.concept_area[:, concept] / opened.run.pixels_per_image


def _all(opened: OpenRun) -> Component:
    run, layers = opened.run, opened.layers
    heads = [("concept", ""), ("category", ""), ("of the pixels", "n"), ("in samples", "n")]
    heads += [(layer.name, "n") for layer in layers] + [
        ("best unit", ""),
        ("", ""),
        ("IoU", "n"),
        ("chance", "n"),
        ("D", "n"),
    ]
    area = run.concept_area
    found = []
    for index, concept in enumerate(run.concepts[1:], start=1):
        counts = [layer.per_concept.get(index, 0) for layer in layers]
        best = max(_pairs(opened, index), key=lambda pair: pair[2].difference, default=None)
        found.append((sum(counts), index, concept, counts, best))
    order = list(opened.colours)
    found.sort(key=lambda row: (order.index(row[2].category), -row[0], row[1]))
    body = []
    for _, index, concept, counts, best in found:
        href = link("concepts", opened.slug, concept.name)
        cells = [
            html.Td(badge(concept.name, opened.colours[concept.category], bool(run.judged[index]), href)),
            html.Td(concept.category, className="quiet"),
            html.Td(percent(area[:, index].sum() / (run.pixels_per_image * run.samples)), className="n"),
            html.Td(percent((area[:, index] > 0).mean()), className="n"),
            *(html.Td(html.A(n, href=_units(opened, concept.name, layer.name)) if n else "·", className="n")
              for layer, n in zip(layers, counts, strict=True)),
            *_best(opened, best),
        ]  # fmt: skip
        body.append(html.Tr(cells))
    head = html.Thead(html.Tr([html.Th(name, className=kind) for name, kind in heads]))
    table = html.Table([head, html.Tbody(body)], className="data pictures")
    draw = html.A("Draw one of your own", href=link("own", opened.slug), className="act", id="concepts-own")
    note = "How often each concept occurs, and how many units of each layer it names. Dashed: too rare to be judged."
    return page(
        section("Concepts", html.Div(table, className="card scroll"), note=note, tools=[draw]),
        title=f"concepts of {opened.slug}",
    )


def _best(opened: OpenRun, best: tuple[str, int, Candidate] | None) -> list[Component]:
    if best is None:
        return [html.Td() for _ in range(5)]
    layer, unit, c = best
    href = link("unit", opened.slug, layer, unit)
    return [
        html.Td(html.A(strip(opened, layer, unit), href=href)), html.Td(html.A(f"{layer} · {unit}", href=href)),
        html.Td(number(c.iou_heldout), className="n"), html.Td(number(c.chance_heldout), className="n"),
        html.Td(html.B(number(c.difference)), className="n"),
    ]  # fmt: skip


def _units(opened: OpenRun, concept: str, layer: str | None = None) -> str:
    return link("units", opened.slug, layer=layer, concept=concept, labelled="yes")


def _pairs(opened: OpenRun, concept: int, each: int = 1) -> list[tuple[str, int, Candidate]]:
    """Return each layer's best units for a concept, whatever their own label."""
    return [
        (layer.name, int(unit), layer.candidate(int(unit), concept))
        for layer in opened.layers
        for unit in opened.run.layer(layer.name).units(concept, top=each)
    ]


def _one(context: Context, opened: OpenRun, index: int) -> Component:
    concept, colour = opened.run.concepts[index], opened.colours[opened.run.concepts[index].category]
    area = shares(opened, index)
    there = area > 0
    paint = link("paint", opened.slug, concept=concept.name)
    head = html.Section(
        [
            html.Nav(
                [html.A(opened.slug, href=link("run", opened.slug)), html.Span("›"),
                 html.A("concepts", href=link("concepts", opened.slug)), html.Span("›"), html.B(concept.name)],
                className="crumbs",
            ),
            html.H1(badge(concept.name, colour)),
            html.P(_says(opened, index, area), className="lead"),
            html.P(
                html.A("Paint with this concept", href=paint, className="act", id="concept-paint"),
                hidden=not opened.run.judged[index],
            ),
        ],
        className="hero",
    )  # fmt: skip
    parts = [head, *_gallery(opened, index), dose_panel.panel(context, opened, index)]
    if there.any():
        figure = area_histogram(area.tolist(), colour)
        graph = chart("concept-area", figure)
        parts.append(
            html.Div(
                [
                    section("Area over samples", graph, tools=exports_of_chart()),
                    _examples(opened, area),
                ],
                className="two",
            )
        )
    return page(*parts, title=f"{concept.name} · {opened.slug}")


def _says(opened: OpenRun, index: int, area: np.ndarray) -> str:
    if not (area > 0).any():
        return "It occurs in none of the samples."
    text = f"{percent(area.mean())} of all pixels, in {percent((area > 0).mean())} of the samples"
    labelled = sum(layer.per_concept.get(index, 0) for layer in opened.layers)
    if not opened.run.judged[index]:
        return f"{text}: too rare to be judged, so no unit is labelled with it."
    return f"{text}. {labelled} unit{'s are' if labelled != 1 else ' is'} labelled with it."


def _gallery(opened: OpenRun, index: int) -> list[Component]:
    """Return the labelled units of each layer, or its best candidates."""
    parts = []
    name = opened.run.concepts[index].name
    for layer in opened.layers:
        ranked = [int(u) for u in opened.run.layer(layer.name).units(index, top=layer.units)]
        labelled = [unit for unit in ranked if layer.label[unit] == index]
        shown = labelled[:MOST_UNITS] or ranked[:3]
        if not shown:
            continue
        if labelled:
            more = f" of {len(labelled)}" if len(labelled) > len(shown) else ""
            title = [layer.name, html.Small(f" {len(shown)}{more} labelled")]
            tools = html.A("in the grid", href=_units(opened, name, layer.name))
        else:
            title, tools = [layer.name, html.Small(" none is labelled; the nearest")], None
        cards = [_card(opened, layer.name, unit, layer.candidate(unit, index), bool(labelled)) for unit in shown]
        parts.append(
            section(title, html.Div(cards, className="grid", **data(sequence=f"{name} in {layer.name}")), tools=tools)
        )
    return parts


def _card(opened: OpenRun, layer: str, unit: int, c: Candidate, labelled: bool) -> Component:
    above = f"D {number(c.difference)} ± {number(c.stderr)}"
    iou = f"IoU {number(c.iou_heldout)} · chance {number(c.chance_heldout)}"
    return html.A(
        [
            strip(opened, layer, unit),
            html.Span([html.B(f"unit {unit}"), html.Span(above, className="num")], className="line"),
            html.Span([html.Span(layer), html.Span(iou, className="num")], className="line quiet"),
        ],
        href=link("unit", opened.slug, layer, unit), className="card unit unit-link" + ("" if labelled else " faint"),
    )  # fmt: skip


def _examples(opened: OpenRun, area: np.ndarray) -> Component:
    """Return the pictures, of those that the run keeps, that show most of the concept."""
    kept, seeds = opened.encoded, opened.run.seeds
    order = [int(i) for i in np.argsort(-area, kind="stable") if area[i] > 0 and int(seeds[i]) in kept][:EXAMPLES]
    tiles = []
    for i in order:
        image = html.Img(src=picture(opened, "sample", int(seeds[i])), alt="")
        caption = html.Figcaption(percent(float(area[i])))
        tiles.append(html.Figure([image, caption], title=opened.name_of(int(seeds[i]))))
    note = f"Those with most of it, of the {len(kept):,} pictures that the run keeps (top samples of some unit)."
    return section("Samples", html.Div(tiles, className="samples"), note=note)
