"""Small drawings as inline SVG: the activation curve and the concept bars of a unit. Style sheets colour them."""

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
LOWEST = 1e-4  # share of pixels at the foot of the curve
ROW, LABEL = 27, 132  # pixels of a concept's row, and of its name
NAME_LENGTH = 19  # characters that fit there

Scale = Callable[[float], float]


def activation_curve(activation: Activation, concept: str | None, colour: str) -> Markup:
    """Draw which share of the pixels is above each activation, of all pixels and of the best concept's (log scale)."""
    low, high = float(activation.levels[0]), float(activation.levels[-1])
    margin = 0.04 * (high - low) or 0.5  # a constant unit has one level
    x = _linear(low - margin, high + margin, LEFT, WIDTH - RIGHT)
    bottom = CURVE_HEIGHT - BOTTOM

    def y(share: float) -> float:
        return TOP + (bottom - TOP) * math.log10(max(share, LOWEST)) / math.log10(LOWEST)

    parts = [
        _grid_y(y(s), text) for s, text in ((1, "100%"), (0.1, "10%"), (0.01, "1%"), (1e-3, "0.1%"), (1e-4, "0.01%"))
    ]
    parts += [_tick_x(x(t), bottom, short(t)) for t in ticks(low - margin, high + margin)]
    edge, on = x(activation.threshold), y(activation.share_on)
    parts.append(
        Markup('<rect class="on" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>').format(
            edge, TOP, max(0.0, WIDTH - RIGHT - edge), bottom - TOP
        )
    )
    parts.append(_curve(activation.levels, activation.exceedance, x, y, "all", None))
    if activation.inside is not None:
        parts.append(_curve(activation.levels, activation.inside, x, y, "inside", colour))
    parts.append(
        Markup('<line class="threshold" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(edge, TOP, bottom)
    )
    parts.append(Markup('<circle class="all-dot" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(edge, on))
    right = edge > WIDTH * 0.72
    parts.append(
        Markup('<text class="strong" x="{:.1f}" y="{}" text-anchor="{}">on above {}</text>').format(
            edge, TOP - 10, "end" if right else "start", short(activation.threshold, 4)
        )
    )
    parts.append(_axis_title("activation", (LEFT + WIDTH - RIGHT) / 2, CURVE_HEIGHT - 6))
    text = f"Share of pixels above each activation; on above {activation.threshold:.4g}"
    return _svg(CURVE_HEIGHT, parts, text + (f", for all pixels and for {concept}" if concept else ""))


def concept_bars(candidates: Sequence[Candidate], colours: Mapping[str, str]) -> Markup:
    """Draw, per concept, a bar from the chance IoU to the held-out IoU, with its standard error at the end."""
    errors = [0.0 if math.isnan(c.stderr) else c.stderr for c in candidates]
    most = max([FLOOR, *(max(c.iou_heldout + e, c.chance_heldout) for c, e in zip(candidates, errors, strict=True))])
    height = TOP + ROW * len(candidates) + BOTTOM
    bottom = height - BOTTOM
    x = _linear(0, most * 1.04, LABEL, WIDTH - RIGHT)
    parts = [_tick_x(x(t), bottom, short(t), TOP - 6) for t in ticks(0, most * 1.04)]
    parts.append(
        Markup('<line class="floor" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x(FLOOR), TOP - 6, bottom)
    )
    for row, (candidate, error) in enumerate(zip(candidates, errors, strict=True)):
        parts.append(
            _bar(candidate, error, TOP + ROW * (row + 0.5), x, colours.get(candidate.category, "currentColor"))
        )
    parts.append(_axis_title("IoU on held-out samples", (LABEL + WIDTH - RIGHT) / 2, height - 6))
    return _svg(height, parts, "Held-out IoU and chance IoU of the best concepts")


def _bar(c: Candidate, error: float, middle: float, x: Scale, colour: str) -> Markup:
    name = c.name if len(c.name) <= NAME_LENGTH else c.name[: NAME_LENGTH - 1] + "…"
    start, end = sorted((x(c.chance_heldout), x(c.iou_heldout)))
    tip = x(c.iou_heldout)
    parts = [
        Markup('<text x="{}" y="{:.1f}" text-anchor="end"><title>{}</title>{}</text>').format(
            LABEL - 12, middle + 4, c.name, name
        ),
        Markup('<rect class="bar{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="12" rx="2" fill="{}"/>').format(
            " below" if c.difference < 0 else "", start, middle - 6, max(end - start, 1), colour
        ),
        Markup('<line class="chance" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
            x(c.chance_heldout), middle - 9, middle + 9
        ),
    ]
    if error:
        low, high = x(max(c.iou_heldout - error, 0)), x(c.iou_heldout + error)
        parts.append(
            Markup(
                '<path class="error" d="M{0:.1f} {2:.1f}H{1:.1f}M{0:.1f} {3:.1f}V{4:.1f}M{1:.1f} {3:.1f}V{4:.1f}"/>'
            ).format(low, high, middle, middle - 4, middle + 4)
        )
    else:
        parts.append(Markup('<circle class="error" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(tip, middle))
    return Markup("").join(parts)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers between ``low`` and ``high``."""
    rough = (high - low) / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _linear(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (stop - start) * (value - low) / (high - low)


def _curve(levels: Iterable[float], shares: np.ndarray, x: Scale, y: Scale, kind: str, colour: str | None) -> Markup:
    points = [(x(float(v)), y(float(s))) for v, s in zip(levels, shares, strict=True) if s >= LOWEST]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    style = Markup(' style="stroke:{}"').format(colour) if colour else Markup("")
    return Markup('<polyline class="curve {}"{} points="{}"/>').format(kind, style, path)


def _grid_y(y: float, text: str) -> Markup:
    return Markup(
        '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
        '<text x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
    ).format(LEFT, WIDTH - RIGHT, y, LEFT - 8, y + 4, text)


def _tick_x(x: float, bottom: float, text: str, top: float | None = None) -> Markup:
    start = bottom - 4 if top is None else top
    return Markup(
        '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        '<text x="{0:.1f}" y="{3}" text-anchor="middle">{4}</text>'
    ).format(x, start, bottom, bottom + 17, text)


def _axis_title(text: str, x: float, y: float) -> Markup:
    return Markup('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>').format(x, y, text)


def _svg(height: int, parts: Iterable[Markup], description: str) -> Markup:
    body = Markup("").join(parts)
    return Markup('<svg class="drawing" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, description, body
    )


def short(value: float, digits: int = 3) -> str:
    """Format a number with a few significant digits and a true minus sign; NaN is a dash."""
    if math.isnan(value):
        return "–"
    text = f"{0 if abs(value) < 1e-12 else value:.{digits}g}"
    return text.replace("-", "−")
