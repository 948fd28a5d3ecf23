"""Small drawings as inline SVG: the activation histogram and the concept bars of a unit. Style sheets colour them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from dissect.agreement import FLOOR

from .profiles import Activation, Candidate

WIDTH = 520
CURVE_HEIGHT = 270
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 30, 44
LOWEST = 1e-4  # share of pixels at the foot of the histogram
SHARES = {1.0: "100%", 0.1: "10%", 0.01: "1%", 1e-3: "0.1%", LOWEST: "0.01%"}
ROW, LABEL = 27, 132  # pixels of a concept's row, and of its name
NAME_LENGTH = 19  # characters that fit there

Scale = Callable[[float], float]


def activation_histogram(activation: Activation, concept: str | None, colour: str | None) -> Markup | None:
    """Draw the cumulative histogram: which share of the pixels is above each activation (logarithmic).

    One curve is of all pixels, the other, in ``colour``, of those of the unit's best ``concept``, if it has one.
    None if the levels are all the same.
    """
    low, high = float(activation.levels[0]), float(activation.levels[-1])
    if low == high:
        return None
    margin = 0.04 * (high - low)
    x = _linear(low - margin, high + margin, LEFT, WIDTH - RIGHT)
    right, bottom = WIDTH - RIGHT, CURVE_HEIGHT - BOTTOM

    def y(share: float) -> float:
        return TOP + (bottom - TOP) * math.log10(max(share, LOWEST)) / math.log10(LOWEST)

    parts = []
    for share, text in SHARES.items():
        parts += [_line("grid", LEFT, y(share), right, y(share)), _text(text, LEFT - 8, y(share) + 4, "end")]
    for tick in ticks(low - margin, high + margin):
        parts += [_line("grid", x(tick), bottom - 4, x(tick), bottom), _text(short(tick), x(tick), bottom + 17)]
    edge = x(activation.threshold)
    parts += [
        _box("on", edge, TOP, right - edge, bottom - TOP),
        _curve("curve", activation.levels, activation.exceedance, x, y),
    ]
    if activation.inside is not None:
        parts.append(_curve("curve", activation.levels, activation.inside, x, y, colour))
    parts += [
        _line("threshold", edge, TOP, edge, bottom),
        _dot("threshold", edge, y(activation.share_on), 3.5),
        _text(
            f"on above {short(activation.threshold)}",
            edge,
            TOP - 10,
            "end" if edge > 0.7 * WIDTH else "start",
            "strong",
        ),
        _text("activation", (LEFT + right) / 2, CURVE_HEIGHT - 6),
    ]
    description = "Cumulative histogram of the activation, of all pixels"
    return _svg(CURVE_HEIGHT, parts, description + (f" and of the pixels of {concept}" if concept else ""))


def concept_bars(candidates: Sequence[Candidate], colours: Mapping[str, str]) -> Markup:
    """Draw, per concept, a bar from the chance IoU to the held-out IoU, with its standard error at the end."""
    most = max([FLOOR, *(max(c.iou_heldout + _error(c), c.chance_heldout) for c in candidates)])
    height = TOP + ROW * len(candidates) + BOTTOM
    bottom = height - BOTTOM
    x = _linear(0, most * 1.04, LABEL, WIDTH - RIGHT)
    parts = []
    for tick in ticks(0, most * 1.04):
        parts += [_line("grid", x(tick), TOP - 6, x(tick), bottom), _text(short(tick), x(tick), bottom + 17)]
    parts.append(_line("floor", x(FLOOR), TOP - 6, x(FLOOR), bottom))
    for row, candidate in enumerate(candidates):
        parts += _bar(candidate, TOP + ROW * (row + 0.5), x, colours.get(candidate.category, "currentColor"))
    parts.append(_text("IoU on held-out samples", (LABEL + WIDTH - RIGHT) / 2, height - 6))
    return _svg(height, parts, "Held-out IoU and chance IoU of the best concepts")


def _bar(c: Candidate, middle: float, x: Scale, colour: str) -> list[Markup]:
    name = c.name if len(c.name) <= NAME_LENGTH else c.name[: NAME_LENGTH - 1] + "…"
    chance, iou = x(c.chance_heldout), x(c.iou_heldout)
    parts = [
        _text(name, LABEL - 12, middle + 4, "end"),
        _box("bar" if c.difference >= 0 else "bar below", min(chance, iou), middle - 6, abs(iou - chance), 12, colour),
        _line("chance", chance, middle - 9, chance, middle + 9),
    ]
    error = _error(c)
    if not error:
        return [*parts, _dot("error", iou, middle, 2.5)]
    low, high = x(max(c.iou_heldout - error, 0)), x(c.iou_heldout + error)
    ends = [_line("error", end, middle - 4, end, middle + 4) for end in (low, high)]
    return [*parts, _line("error", low, middle, high, middle), *ends]


def _error(c: Candidate) -> float:
    return 0.0 if math.isnan(c.stderr) else c.stderr


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers between ``low`` and ``high``."""
    rough = (high - low) / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def short(value: float, digits: int = 3, zeros: bool = False) -> str:
    """Format a number with a few significant digits and a true minus sign; NaN is a dash.

    ``zeros`` keeps trailing ones, for columns of numbers.
    """
    if math.isnan(value):
        return "–"
    value = 0.0 if abs(value) < 1e-12 else value
    text = f"{value:#.{digits}g}".rstrip(".") if zeros and value else f"{value:.{digits}g}"
    return text.replace("-", "−")


# -- primitives ------------------------------------------------------------------------------------------------


def _linear(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (stop - start) * (value - low) / (high - low)


def _curve(
    kind: str, levels: Iterable[float], shares: np.ndarray, x: Scale, y: Scale, colour: str | None = None
) -> Markup:
    foot = int((shares >= LOWEST).sum())  # the first level whose share is off the scale ends the curve
    points = [(x(float(v)), y(float(s))) for v, s in zip(levels, shares, strict=True)][: foot + 1]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return Markup('<polyline class="{}"{} points="{}"/>').format(kind, _style("stroke", colour), path)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _box(kind: str, x: float, y: float, width: float, height: float, colour: str | None = None) -> Markup:
    return Markup('<rect class="{}"{} x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, _style("fill", colour), x, y, max(width, 1.0), height
    )


def _dot(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(kind, x, y, radius)


def _text(text: str, x: float, y: float, anchor: str = "middle", kind: str = "quiet") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _style(property_: str, colour: str | None) -> Markup:
    return Markup(' style="{}:{}"').format(property_, colour) if colour else Markup("")


def _svg(height: int, parts: Iterable[Markup], description: str) -> Markup:
    return Markup('<svg class="drawing" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, description, Markup("").join(parts)
    )
