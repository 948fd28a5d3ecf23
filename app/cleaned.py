"""What a cleaning did, as one page to mail: pictures before and after, the dose curve, the metrics."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

from dissect import Codes, Effect, Generator, Recipe
from dissect.artifacts import GIVEN, Curve
from dissect.metrics import Score
from dissect.pictures import to_bytes

from .facts import number, percent
from .figures import CHANCE, FONTS, PALETTE

TEMPLATES = Path(__file__).parent / "templates"
TILE, PER_ROW, GAP = 128, 8, 4  # pixels, pairs in a row
DIFFERENCE = 3.0  # times, so that small changes are seen
QUALITY = 88
CLEAR = "rgba(0,0,0,0)"


@dataclass(frozen=True, eq=False)
class Cleaning:
    """What there is to say.

    Attributes:
        layers: that were looked at. units: those that were corrected, by layer; none if nothing was done.
        strategy: of the ranking by which units were chosen, or None for given ones.
        curve: distance by number of units, or None.
        scores: (protocol, what was done, its scores against the reference).
        effect: of the recipe on concepts, or None. reference: what the reference is.
        files: name -> what it is. correction: what was done to the units.
    """

    generator: str
    layers: tuple[str, ...]
    units: Mapping[str, tuple[int, ...]]
    strategy: str | None
    curve: Curve | None
    scores: Sequence[tuple[str, str, Sequence[Score]]]
    effect: Effect | None
    reference: str
    files: dict[str, str] = field(default_factory=dict)
    correction: str = "set to zero"

    @property
    def count(self) -> int:
        """How many units were corrected."""
        return sum(map(len, self.units.values()))

    @property
    def plain(self) -> bool:
        """Whether units were taken away altogether."""
        return self.correction == "set to zero"

    @property
    def told(self) -> str:
        """What was done, in a few words."""
        where = ", ".join(self.units or self.layers)
        if not self.count:
            return f"nothing of {where} taken away"
        return (
            f"{self.count} unit{'' if self.count == 1 else 's'} of {where} {'taken away' if self.plain else 'damped'}"
        )

    @property
    def verdict(self) -> str:
        """Whether it helped, by the dose curve, in a sentence; empty without one."""
        if self.curve is None:
            return ""
        first = self.curve.orders[0][: self.curve.best].tolist()
        if self.strategy and self.count and sorted(u for some in self.units.values() for u in some) != sorted(first):
            told = f"the first {len(first)} of the ranking" if self.curve.helps else "none"
            return f"which units go was chosen by hand; by the curve it would be {told}"
        images = (
            f"on {self.curve.facts['images']} images {'that the ranking did not see' if self.strategy else 'apart'}"
        )
        than = f"than with none taken away, and than without any of {len(self.curve.orders) - 1} sets of random others"
        if self.curve.helps:
            return f"{images}, the images are nearer to the reference without these units {than}, beyond the error"
        end = "nothing was taken away" if self.strategy else "whether they are to go is for the eye to say"
        did = "taking units away did not bring the images nearer to the reference"
        return f"{images}, {did} {than}, beyond the error: {end}"


def write_page(folder: Path, cleaning: Cleaning, pictures: Sequence[tuple[str, Image.Image]]) -> Path:
    """Write ``index.html`` into a folder, with everything inside it, and return its path."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters |= {"number": number, "percent": percent}
    shown = [(name, _inline(image)) for name, image in pictures]
    chart = None if cleaning.curve is None else json.loads(str(dose_figure(cleaning.curve).to_json()))
    text = env.get_template("cleaned.html").render(
        c=cleaning, pictures=shown, chart=chart, style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs() if chart else "",
    )  # fmt: skip
    (folder / "index.html").write_text(text, encoding="utf-8")
    return folder / "index.html"


def dose_figure(curve: Curve) -> go.Figure:
    """Return the chart of a distance against the number of units that are taken away."""
    figure = go.Figure(
        layout={
            "height": 380, "font": {"family": FONTS},
            "xaxis": {"title": {"text": "units taken away", "standoff": 6}, "automargin": True},
            "yaxis": {"title": "kernel distance", "rangemode": "tozero", "automargin": True}, "template": "none",
            "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "legend": {"orientation": "h", "y": 1.12},
            "margin": {"l": 70, "r": 20, "t": 40, "b": 50},
        }
    )  # fmt: skip
    steps = curve.steps
    for index, values in enumerate(curve.distance[1:]):
        figure.add_scatter(
            x=steps, y=values, mode="lines", name="random units", legendgroup="random", showlegend=not index,
            line={"color": CHANCE, "dash": "dot"},
        )  # fmt: skip
    error = {"type": "data", "symmetric": False, "array": curve.high[0] - curve.distance[0],
             "arrayminus": curve.distance[0] - curve.low[0]}  # fmt: skip
    figure.add_scatter(
        x=steps, y=curve.distance[0], mode="lines+markers", error_y=error, line={"color": PALETTE[0]},
        name="the units named" if curve.facts["strategy"] == GIVEN else "the most suspect first",
    )  # fmt: skip
    figure.add_hline(y=curve.floor, line={"color": CHANCE, "width": 1}, annotation_text="halves of the reference")
    return figure


def compared(generator: Generator, codes: Codes, recipe: Recipe) -> Image.Image:
    """Draw each code's image, below it the edited one and their difference, three times as strong; rows of eight."""
    side = TILE + GAP
    rows = -(-len(codes) // PER_ROW)
    picture = Image.new("RGB", (PER_ROW * side - GAP, rows * (3 * side + 2 * GAP)), (127, 127, 127))
    for index in range(len(codes)):
        before, after = (generator(codes[index], edits)[0].cpu().numpy() for edits in ((), recipe))
        x, y = index % PER_ROW * side, index // PER_ROW * (3 * side + 2 * GAP)
        difference = np.clip(np.abs(after - before) * DIFFERENCE - 1, -1, 1).astype(np.float32)
        for row, image in enumerate((before, after, difference)):
            picture.paste(_tile(image), (x, y + row * side))
    return picture


def _tile(image: NDArray[np.float32]) -> Image.Image:
    how = Image.Resampling.LANCZOS if image.shape[1] > TILE else Image.Resampling.NEAREST
    return Image.fromarray(to_bytes(image)).resize((TILE, TILE), how)


def _inline(image: Image.Image) -> str:
    data = BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
