"""The static report of a run: a folder of pages that opens from disk, without a network, in any browser.

::

    index.html               the chart of units per concept and layer, a table of layers, the clearest units
    layers/<layer>.html      every unit of a layer with its strip, to filter and sort
    units/<layer>/<n>.html   one unit: top samples, examples by band, activation, best concepts, related units
    images/<layer>/<n>.jpg   its top samples side by side, bright where it is on; <n>.small.jpg, the first few;
                             <n>.bands.jpg, its examples
    samples/<seed>.jpg       the pictures themselves, as the run keeps them
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from plotly.offline import get_plotlyjs

from dissect import Run
from dissect.agreement import ALPHA, FLOOR
from segmodels import GanatomyError

from .causes import LayerCauses
from .drawings import activation_histogram, concept_bars, short
from .facts import change, facts, number, percent, sample_namer
from .figures import Panel, category_colours, least_width, units_per_concept
from .folders import file_names, replacing
from .masks import Pictures, above, jpeg, spotlight, strip, thumbnail
from .profiles import Candidate, Examples, LayerProfile, Profile

MARKER = "ganatomy-report.json"
TEMPLATES = Path(__file__).parent / "templates"
ASSETS = ("report.css", "report.js", "favicon.svg")
TOP_SAMPLES = 12
SMALL_TILES, SMALL_HEIGHT = 5, 72  # pictures of a unit in lists
CLEAREST = 12  # units on the index

Progress = Callable[[int, int], None]


def report(run: Run, out: str | Path, *, units: int | None = None, progress: Progress | None = None) -> Path:
    """Write the report of a run and return its ``index.html``.

    Args:
        run: as opened.
        out: the folder to make; an earlier report there is replaced.
        units: only the best so many units of each layer (labelled ones first, then by D) get a page. The chart and the
            tables of layers still count all.
        progress: called with (units written, units in all).

    Raises:
        GanatomyError: if ``out`` is there and is no report, or cannot be written; whatever was there remains.
    """
    if units is not None and units < 1:
        raise GanatomyError(f"expected a positive number of units, got {units}")
    out = Path(out)
    with replacing(out, MARKER) as folder:
        _Report(run, folder, units).write(progress)
    return out / "index.html"


class _Report:
    """The pages of one report, written into an empty folder."""

    def __init__(self, run: Run, folder: Path, units: int | None) -> None:
        self._run, self._folder = run, folder
        self._layers = [LayerProfile(run, name) for name in run.layers]
        self._causes = {name: LayerCauses(run, name) for name in run.layers}
        self._slugs = file_names(run.layers)
        self._shown = {layer.name: layer.ranking(units) for layer in self._layers}
        self._colours = category_colours(run.concepts)
        self._encoded = dict(run.thumbnails())
        self._pictures = Pictures(self._encoded)
        self._name_of = sample_namer(run)
        self._used: set[int] = set()
        self._env = self._environment()

    def write(self, progress: Progress | None) -> None:
        """Write everything."""
        for kind in ("layers", "samples"):
            (self._folder / kind).mkdir()
        total, done = sum(len(units) for units in self._shown.values()), 0
        for layer in self._layers:
            slug = self._slugs[layer.name]
            for kind in ("images", "units"):
                (self._folder / kind / slug).mkdir(parents=True)
            pages = _Neighbours(self._shown[layer.name])
            for profile in layer.profiles(self._shown[layer.name], TOP_SAMPLES):
                self._write_unit(layer, profile, pages)
                done += 1
                if progress is not None:
                    progress(done, total)
            self._write_layer(layer)
        self._write_index()
        self._write_files()

    # -- pages ---------------------------------------------------------------------------------------------

    def _write_unit(self, layer: LayerProfile, profile: Profile, pages: _Neighbours) -> None:
        images = self._folder / "images" / self._slugs[layer.name]
        tops, size = profile.tops, (self._pictures.height, self._pictures.width)
        masks = above(tops.maps, profile.activation.threshold, *size)
        tiles = spotlight(self._pictures.tiles(tops.seeds), masks)
        (images / f"{profile.unit}.jpg").write_bytes(jpeg(strip(tiles)))
        (images / f"{profile.unit}.small.jpg").write_bytes(thumbnail(tiles, SMALL_TILES, SMALL_HEIGHT))
        seeds = tops.seeds.tolist()
        self._used.update(seeds)
        examples = profile.examples
        if examples is not None:
            self._used.update(examples.seeds.tolist())
            masks = above(examples.maps, profile.activation.threshold, *size)
            tiles = spotlight(self._pictures.tiles(examples.seeds), masks)
            (images / f"{profile.unit}.bands.jpg").write_bytes(jpeg(strip(tiles)))
        best, causes = profile.best, self._causes[layer.name].unit(profile.unit)
        always = [best.name] if best else []
        self._page(
            f"units/{self._slugs[layer.name]}/{profile.unit}.html", "unit.html",
            layer=layer, profile=profile, best=best, pages=pages,
            samples=[(seed, self._name_of(seed), float(v)) for seed, v in zip(seeds, tops.values, strict=True)],
            smaller=examples.maps.shape[1:] if examples and examples.maps.shape[1:] != tops.maps.shape[1:] else None,
            bands=self._bands(examples) if examples is not None else [],
            pooled=None if tops.maps.shape[1:] == (layer.height, layer.width) else tops.maps.shape[1:],
            histogram=activation_histogram(
                profile.activation, best.name if best else None, self._colours[best.category] if best else None
            ),
            bars=concept_bars(profile.candidates, self._colours) if best else None,
            causes=causes, caused=causes.shown(always), alone=causes.rows_alone(always),
        )  # fmt: skip

    def _write_layer(self, layer: LayerProfile) -> None:
        rows = [(unit, bool(layer.label[unit]), self._best(layer, unit)) for unit in self._shown[layer.name]]
        counts: dict[str, dict[int, int]] = {}
        for _, _, best in rows:
            if best:
                within = counts.setdefault(best.category, {})
                within[best.index] = within.get(best.index, 0) + 1
        names = {c: concept.name for c, concept in enumerate(self._run.concepts)}
        self._page(
            f"layers/{self._slugs[layer.name]}.html", "layer.html", layer=layer, rows=rows, counts=counts, names=names
        )

    def _write_index(self) -> None:
        panels = [Panel(layer.name, layer.units, layer.per_concept) for layer in self._layers]
        figure = units_per_concept(panels, self._run.concepts)
        figure.layout.template = "none"
        chart = {
            "figure": json.loads(str(figure.to_json())),
            "links": [f"layers/{self._slugs[name]}.html" for name in self._run.layers],
        }
        self._page(
            "index.html", "index.html", layers=self._layers, chart=htmlsafe_json_dumps(chart),
            chart_size=(least_width(panels), figure.layout.height), facts=facts(self._run), clearest=self._clearest(),
            per_concept=self._best_per_concept(),
            labelled=sum(layer.labelled for layer in self._layers), units=sum(layer.units for layer in self._layers),
            concepts={c for layer in self._layers for c in layer.per_concept}, judged=int(self._run.judged.sum()),
        )  # fmt: skip

    def _write_files(self) -> None:
        for seed in sorted(self._used):
            (self._folder / "samples" / f"{seed}.jpg").write_bytes(self._encoded[seed])
        for name in ASSETS:
            shutil.copyfile(TEMPLATES / name, self._folder / name)
        (self._folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        marker = {"format": "ganatomy.report", "version": 1, "run": self._run.id}
        (self._folder / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")

    def _page(self, path: str, template: str, **context: Any) -> None:
        root = "../" * path.count("/")
        text = self._env.get_template(template).render(root=root, **context)
        (self._folder / path).write_text(text, encoding="utf-8")

    # -- what pages say ------------------------------------------------------------------------------------

    def _best(self, layer: LayerProfile, unit: int) -> Candidate | None:
        concept = int(layer.label[unit] or layer.winner[unit])
        return layer.candidate(unit, concept) if concept else None

    def _labelled_rows(self) -> list[tuple[LayerProfile, int, Candidate]]:
        """Return the labelled units that have a page, by D."""
        rows = [
            (layer, unit, layer.candidate(unit, int(layer.label[unit])))
            for layer in self._layers
            for unit in self._shown[layer.name]
            if layer.label[unit]
        ]
        return sorted(rows, key=lambda row: -row[2].difference)

    def _clearest(self) -> list[tuple[LayerProfile, int, Candidate]]:
        return self._labelled_rows()[:CLEAREST]

    def _best_per_concept(self) -> list[tuple[LayerProfile, int, Candidate, int]]:
        """Return the best unit of each concept with the number of its units in all layers, grouped by category."""
        best: dict[int, tuple[LayerProfile, int, Candidate]] = {}
        for row in self._labelled_rows():
            best.setdefault(row[2].index, row)
        counts = {c: sum(layer.per_concept.get(c, 0) for layer in self._layers) for c in best}
        order = list(self._colours)
        rows = [(*row, counts[c]) for c, row in best.items()]
        return sorted(rows, key=lambda row: (order.index(row[2].category), -row[2].difference))

    def _bands(self, examples: Examples) -> list[tuple[str, list[tuple[int, int, str, float, float]]]]:
        """Return each band's share and its (place in the strip, seed, name, maximum, quantile), the highest first."""
        seeds, values, quantiles = examples.seeds, examples.values, examples.quantiles
        return [
            (f"{100 * low:.0f}–{100 * high:.0f}%", [
                (i, int(seeds[i]), self._name_of(int(seeds[i])), float(values[i]), float(quantiles[i])) for i in places
            ])
            for low, high, places in examples.by_band()
        ]  # fmt: skip

    def _environment(self) -> jinja2.Environment:
        env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        env.filters |= {"number": number, "percent": percent, "change": change, "short": short}
        generator = self._run.manifest["generator"]["name"]
        height, width = self._pictures.height, self._pictures.width
        tiles = min(SMALL_TILES, self._run.manifest["top"])
        env.globals.update(
            generator=generator, segmenter=self._run.manifest["segmenter"]["name"], slugs=self._slugs,
            colour=lambda category: self._colours.get(category, self._colours[""]), floor=FLOOR, alpha=ALPHA,
            shown={name: frozenset(units) for name, units in self._shown.items()}, tile=(width, height),
            small=(tiles * width * SMALL_HEIGHT // height, SMALL_HEIGHT), small_tiles=tiles,
            samples_count=self._run.samples,
        )  # fmt: skip
        return env


class _Neighbours:
    """The units of a layer that have a page, in order."""

    def __init__(self, units: list[int]) -> None:
        self._after = dict(pairwise(sorted(units)))
        self._before = {after: before for before, after in self._after.items()}

    def before(self, unit: int) -> int | None:
        return self._before.get(unit)

    def after(self, unit: int) -> int | None:
        return self._after.get(unit)
