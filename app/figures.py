"""Plotly figures. Colours of the page (text, grid) are left to whoever shows them; the data's are set here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from segmodels import Concept

from .facts import percent

# Distinct in hue and readable on white and on near-black; in the order in which a segmenter's categories appear.
PALETTE = ("#3f7fd6", "#e0803a", "#2fa37c", "#b05cc6", "#d9536f", "#a08a1f", "#2b9fb8", "#8a7a6d")
OTHER = "#8b8f98"  # concepts without a category
PANEL, GAP, TOP, BOTTOM = 190, 160, 78, 112  # pixels: a layer's bars, what is between two, above and below all
SIDE_BY_SIDE = {3: 12, 2: 18}  # panels in a row, if they have no more concepts than these
BETWEEN = 0.06  # of the width, between two
MANY = 30  # concepts; names of more stand upright
NAME_LENGTH = 18  # characters of a name that fit below a bar
FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
CHANCE = "#8b8f98"  # lines that say what chance gives
AREA_BINS = 40
LEAST_WIDTH, BAR = 640, 13  # pixels: of a chart, and of a bar whose name can be read


@dataclass(frozen=True)
class Panel:
    """The bars of one layer: units per concept index, out of ``units``."""

    layer: str
    units: int
    per_concept: Mapping[int, int]


def category_colours(concepts: Sequence[Concept]) -> dict[str, str]:
    """Return a colour per category, in order of appearance; more than eight share colours."""
    names = [name for name in dict.fromkeys(c.category for c in concepts[1:]) if name]
    return {"": OTHER} | {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def units_per_concept(panels: Sequence[Panel], concepts: Sequence[Concept]) -> go.Figure:
    """Return the bar chart of Network and GAN Dissection: how many units are labelled with each concept.

    One panel per layer, concepts grouped and coloured by category, the most frequent category and concept first.
    A bar's ``customdata`` is (index of the panel, index of the concept).
    """
    colours = category_colours(concepts)
    total = dict.fromkeys(colours, 0)
    for panel in panels:
        for concept, count in panel.per_concept.items():
            total[concepts[concept].category] += count
    categories = sorted((name for name in total if total[name]), key=lambda name: -total[name])
    columns = _columns(panels)
    rows = -(-len(panels) // columns)
    height = rows * PANEL + (rows - 1) * GAP
    width = (1 - BETWEEN * (columns - 1)) / columns
    figure = go.Figure(layout=_layout(height + TOP + BOTTOM))
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = column * (width + BETWEEN), 1 - row * (PANEL + GAP) / height
        x, y = (left, min(1.0, left + width)), (max(0.0, top - PANEL / height), top)
        _add_panel(figure, index, panel, concepts, categories, colours, x, y)
    for category in categories:  # a legend that does not depend on which panel has the category
        marker = {"color": colours[category]}
        figure.add_bar(x=[None], y=[None], name=_plain(category or "other"), marker=marker, showlegend=True)
    return figure


def _columns(panels: Sequence[Panel]) -> int:
    """Return how many panels fit side by side, with no row that is much emptier than the others."""
    widest = max(len(panel.per_concept) for panel in panels)
    fitting = [n for n, most in SIDE_BY_SIDE.items() if n <= len(panels) and widest <= most]
    return min(fitting, key=lambda n: -len(panels) % n, default=1)


def _add_panel(
    figure: go.Figure, index: int, panel: Panel, concepts: Sequence[Concept], categories: Sequence[str],
    colours: Mapping[str, str], x_domain: tuple[float, float], y_domain: tuple[float, float],
) -> None:  # fmt: skip
    suffix = str(index + 1) if index else ""
    order: list[str] = []
    ticks: list[str] = []
    for category in categories:
        found = [(c, n) for c, n in panel.per_concept.items() if concepts[c].category == category]
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        names = [_plain(concepts[c].name) for c, _ in found]
        order += names
        ticks += [_plain(_shortened(concepts[c].name)) for c, _ in found]
        if found:
            figure.add_bar(
                x=names, y=[n for _, n in found], customdata=[[index, c] for c, _ in found],
                marker={"color": colours[category]}, xaxis=f"x{suffix}", yaxis=f"y{suffix}", showlegend=False,
                hovertemplate=f"<b>%{{x}}</b> · {_plain(category or 'other')}<br>%{{y}} units<extra></extra>",
            )  # fmt: skip
    labelled, kinds = sum(panel.per_concept.values()), len(panel.per_concept)
    most = max(panel.per_concept.values(), default=1)
    figure.layout[f"xaxis{suffix}"] = {
        "domain": x_domain, "anchor": f"y{suffix}", "type": "category", "categoryorder": "array",
        "categoryarray": order, "tickmode": "array", "tickvals": order, "ticktext": ticks, "fixedrange": True,
        "tickangle": -45 if len(order) <= MANY else -90, "tickfont": {"size": 12 if len(order) <= MANY else 10.5},
        "showgrid": False, "range": [-0.5, max(len(order), 1) - 0.5], "visible": bool(order),
    }  # fmt: skip
    figure.layout[f"yaxis{suffix}"] = {
        "domain": y_domain, "anchor": f"x{suffix}", "rangemode": "tozero", "fixedrange": True, "nticks": 5,
        "title": {"text": "units", "standoff": 8}, "visible": bool(order), **({"dtick": 1} if most < 5 else {}),
    }  # fmt: skip
    figure.add_annotation(
        text=f"<b>{_plain(panel.layer)}</b><br>{labelled} of {panel.units} units, {kinds} concept{'s' * (kinds != 1)}",
        xref="paper", yref="paper", x=x_domain[0], y=y_domain[1], yshift=12, xanchor="left", yanchor="bottom",
        align="left", showarrow=False, font={"size": 13},
    )  # fmt: skip


def _layout(height: int) -> dict[str, Any]:
    return _plain_layout(height) | {
        "margin": {"l": 56, "r": 12, "t": TOP, "b": BOTTOM}, "bargap": 0.25, "barmode": "stack", "showlegend": True,
        "legend": {
            "orientation": "h", "x": 1, "xanchor": "right", "yref": "container", "y": 1, "yanchor": "top",
            "itemclick": False, "itemdoubleclick": False, "traceorder": "normal",
        },
    }  # fmt: skip


def _plain_layout(height: int) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "template": "none", "height": height, "paper_bgcolor": clear, "plot_bgcolor": clear,
        "font": {"size": 12.5, "family": FONTS}, "hovermode": "closest",
        "margin": {"l": 58, "r": 14, "t": 16, "b": 46}, "showlegend": False,
    }  # fmt: skip


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "zeroline": False, "fixedrange": True, "nticks": 6, **more}


def labelled_shares(
    names: Sequence[str], shares: Sequence[float], by_chance: Sequence[float], bound: float
) -> go.Figure:  # fmt: skip
    """Return the share of units that are labelled, a layer each, beside the share that is by chance.

    Args:
        names: of the layers. shares: of their units, labelled. by_chance: labelled by chance, as counted in the run.
        bound: what the rule promises of units that have nothing to do with the concepts, at most.
    """
    names = [f"{_plain(n)}<br>{percent(c)} by chance" for n, c in zip(names, by_chance, strict=True)]
    highest = max([*shares, *by_chance, bound])
    layout = _plain_layout(320) | {
        "xaxis": _axis("", type="category", showgrid=False),
        "yaxis": _axis("units labelled", range=[0, min(1.08, 1.2 * highest)], tickformat=".0%"),
        "bargap": 0.35, "bargroupgap": 0.08, "margin": {"l": 58, "r": 14, "t": 40, "b": 60}, "showlegend": True,
        "legend": {
            "orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "itemclick": False,
            "itemdoubleclick": False,
        },
    }  # fmt: skip
    figure = go.Figure(layout=layout)
    for called, values, colour in (("labelled", shares, PALETTE[0]), ("by chance", by_chance, CHANCE)):
        figure.add_bar(
            x=names, y=list(values), name=called, marker={"color": colour}, textposition="outside", cliponaxis=False,
            text=[percent(value) for value in values] if called == "labelled" else None,
            hovertemplate=f"%{{y:.2%}} {called}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=bound, line={"color": CHANCE, "width": 1.5, "dash": "dash"})
    return figure


@dataclass(frozen=True)
class Point:
    """A unit in a scatter: where, which colour, what is said of it, and the address of its page."""

    x: float
    y: float
    colour: str
    text: str
    href: str


def iou_against_chance(points: Sequence[Point]) -> go.Figure:
    """Return labelled units by the IoU that chance gives (x) and the one they have (y), both on held-out samples."""
    return _scatter(points, "IoU by chance", "IoU", 300)


def iou_of_pairs(points: Sequence[Point], x: str, y: str) -> go.Figure:
    """Return matched units by their IoU in one run (x) and the other (y)."""
    return _scatter(points, f"IoU in {x}", f"IoU in {y}", 380)


def _scatter(points: Sequence[Point], x: str, y: str, height: int) -> go.Figure:
    most = 1.05 * max([0.1, *(max(p.x, p.y) for p in points)])
    layout = _plain_layout(height) | {
        "xaxis": _axis(_plain(x), range=[0, most]), "yaxis": _axis(_plain(y), range=[0, most]),
    }  # fmt: skip
    figure = go.Figure(layout=layout)
    figure.add_shape(type="line", x0=0, y0=0, x1=most, y1=most, line={"color": CHANCE, "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=[p.x for p in points], y=[p.y for p in points], mode="markers", cliponaxis=False,
        marker={"color": [p.colour for p in points], "size": 7, "opacity": 0.75, "line": {"width": 0}},
        text=[_plain(p.text) for p in points], customdata=[p.href for p in points],
        hovertemplate="%{text}<br>%{y:.3f} against %{x:.3f}<extra></extra>",
    )  # fmt: skip
    return figure


def area_histogram(shares: Sequence[float], colour: str) -> go.Figure:
    """Return how many samples have how much of a concept: shares of the picture, [N], in 40 bins."""
    layout = _plain_layout(260) | {
        "xaxis": _axis("share of the picture", ticksuffix="%", showgrid=False, rangemode="tozero"),
        "yaxis": _axis("samples"), "bargap": 0.06,
    }  # fmt: skip
    percents = [100 * share for share in shares]
    most = max([*percents, 1e-6])
    figure = go.Figure(layout=layout)
    figure.add_histogram(
        x=percents, xbins={"start": 0, "end": most * (1 + 1e-9), "size": most / AREA_BINS},
        marker={"color": colour}, hovertemplate="%{x}<br>%{y} samples<extra></extra>",
    )  # fmt: skip
    return figure


def fading(curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> go.Figure:
    """Return what is left of a concept by how many units are taken away: a line a layer, beside its random orders.

    Args:
        curves: (layer, the rows of its :class:`dissect.Dose`).
    """
    layout = _plain_layout(320) | {
        "xaxis": _axis("units taken away", rangemode="tozero"),
        "yaxis": _axis("of its area left", ticksuffix="%", rangemode="tozero"), "showlegend": True,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "itemclick": False},
        "margin": {"l": 58, "r": 14, "t": 34, "b": 46},
    }  # fmt: skip
    figure = go.Figure(layout=layout)

    def percents(rows: Sequence[Mapping[str, Any]], name: str) -> list[float | None]:
        return [None if row[name] is None else 100 * row[name] for row in rows]

    for index, (layer, rows) in enumerate(curves):
        colour, x = PALETTE[index % len(PALETTE)], [row["units"] for row in rows]
        error = None
        if all(row[name] is not None for row in rows for name in ("left", "low", "high")):
            error = {
                "type": "data", "symmetric": False, "array": [100 * (row["high"] - row["left"]) for row in rows],
                "arrayminus": [100 * (row["left"] - row["low"]) for row in rows], "thickness": 1.2, "width": 3,
            }  # fmt: skip
        figure.add_scatter(
            x=x, y=percents(rows, "random"), mode="lines", name=f"{_plain(layer)}, random units",
            line={"color": colour, "dash": "dot", "width": 1.5},
            hovertemplate="%{x} random units<br>%{y:.1f}% left<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=percents(rows, "left"), mode="lines+markers", name=_plain(layer), error_y=error,
            line={"color": colour}, hovertemplate="%{x} units<br>%{y:.1f}% left<extra></extra>",
        )  # fmt: skip
    return figure


def concepts_side_by_side(
    names: Sequence[str], first: Sequence[int], second: Sequence[int], titles: tuple[str, str]
) -> go.Figure:
    """Return how many units are labelled with each concept in two layers, two bars a concept."""
    layout = _plain_layout(380) | {
        "xaxis": _axis("", type="category", showgrid=False, tickangle=-45, nticks=None), "yaxis": _axis("units"),
        "margin": {"l": 58, "r": 14, "t": 34, "b": 96}, "barmode": "group", "bargap": 0.3, "showlegend": True,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "itemclick": False},
    }  # fmt: skip
    figure = go.Figure(layout=layout)
    for title, counts, colour in zip(titles, (first, second), PALETTE[:2], strict=True):
        hover = "<b>%{x}</b><br>%{y} units<extra></extra>"
        figure.add_bar(
            x=[_plain(_shortened(n)) for n in names], y=list(counts), name=_plain(title),
            marker={"color": colour}, hovertemplate=hover,
        )  # fmt: skip
    return figure


def least_width(panels: Sequence[Panel]) -> int:
    """Return how wide the chart must be, in pixels, for every concept's name to be readable."""
    return max([LEAST_WIDTH, *(BAR * len(panel.per_concept) for panel in panels)])


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"


def _plain(text: str) -> str:
    """Plotly reads a few HTML tags in every text: show a name as it is."""
    return escape(text, quote=False)
