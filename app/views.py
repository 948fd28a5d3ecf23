"""Pictures, drawings and tables by address. Each answer follows from its address alone, so browsers may keep it.

================================================  ==============================================================
``/sample/RUN/SEED.jpg``                          a sample, as the run keeps it
``/thumb/RUN/LAYER/UNIT.jpg``                     a unit's first top samples, bright where it is on
``/tops/RUN/LAYER/UNIT/LEVEL.jpg``                its top samples side by side, bright above one of its levels
``/bands/RUN/LAYER/UNIT/LEVEL.jpg``               its examples over the whole range, the same way
``….png``                                         either as a file: rows of tiles, ``?whole`` without the brightness
``/drawing/RUN/LAYER/UNIT/KIND.FORM``             "histogram" or "bars" as svg (``?bare`` for the page) or pdf
``/units/RUN.csv``                                all units as a table
``POST /pdf``                                     a figure's SVG, as the browser draws it, as PDF
================================================  ==============================================================
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
from flask import Flask, Response, abort, request

from segmodels import GanatomyError

from .context import Context, NotYet, link
from .drawings import activation_histogram, concept_bars
from .library import OpenRun
from .masks import Bytes, above, jpeg, png, sheet, spotlight, strip
from .pdf import pdf_of_svg, standalone
from .profiles import Activation, Examples

DAY = 86400
SVG, PDF, JPEG, PNG = "image/svg+xml", "application/pdf", "image/jpeg", "image/png"
TILES_A_ROW = 6  # of top samples, on the page and in the file


def register(server: Flask, context: Context) -> None:
    """Answer the addresses above."""

    @server.get("/sample/<slug>/<int:seed>.jpg")
    @told
    def sample(slug: str, seed: int) -> Response:
        opened = _asked(context.library.get(slug))
        if seed not in opened.encoded:
            raise GanatomyError(f"the run keeps no picture of sample {seed}")
        return _kept(opened.encoded[seed], JPEG)

    @server.get("/thumb/<slug>/<path:layer>/<int:unit>.jpg")
    @told
    def thumb(slug: str, layer: str, unit: int) -> Response:
        return _kept(_asked(context.opened(slug)).thumb(layer, unit), JPEG)

    @server.get("/<any(tops, bands):kind>/<slug>/<path:layer>/<int:unit>/<int:level>.jpg")
    @told
    def strips(kind: str, slug: str, layer: str, unit: int, level: int) -> Response:
        return _kept(STRIPS[kind](_asked(context.opened(slug)), layer, unit, level), JPEG)

    @server.get("/<any(tops, bands):kind>/<slug>/<path:layer>/<int:unit>/<int:level>.png")
    @told
    def sheets(kind: str, slug: str, layer: str, unit: int, level: int) -> Response:
        data = picture_file(context.opened(slug), kind, layer, unit, None if "whole" in request.args else level)
        return file(data, PNG, f"{slug}-{layer}-{unit}-{kind}.png")

    @server.get("/drawing/<slug>/<path:layer>/<int:unit>/<kind>.<form>")
    @told
    def drawing(slug: str, layer: str, unit: int, kind: str, form: str) -> Response:
        markup = draw(_asked(context.opened(slug)), layer, unit, kind, request.args.get("level", type=int))
        if form == "svg" and "bare" in request.args:
            return _kept(markup.encode(), SVG)
        if form not in ("svg", "pdf"):
            abort(404)
        alone = standalone(markup)
        name = f"{slug}-{layer}-{unit}-{kind}.{form}"
        return file(alone.encode() if form == "svg" else pdf_of_svg(alone), SVG if form == "svg" else PDF, name)

    @server.get("/units/<slug>.csv")
    @told
    def table(slug: str) -> Response:
        rows = context.opened(slug).run.table()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file(text.getvalue().encode(), "text/csv", f"{slug}-units.csv")

    @server.post("/pdf")
    @told
    def pdf() -> Response:
        return file(pdf_of_svg(request.get_data(as_text=True)), PDF, "figure.pdf")


def picture(opened: OpenRun, kind: str, *parts: object, form: str = ".jpg") -> str:
    """Return the address of a picture. The run's id in it lets browsers keep the picture for good."""
    return link(kind, opened.slug, *parts[:-1], f"{parts[-1]}{form}", v=opened.run.id)


def tops_strip(opened: OpenRun, layer: str, unit: int, level: int) -> bytes:
    """Return a unit's top samples side by side, bright where its activation exceeds its ``level``-th level, JPEG."""
    tops = opened.unit(layer, unit).tops
    return jpeg(strip(_tiles(opened, layer, unit, level, tops.seeds, tops.maps)))


def bands_strip(opened: OpenRun, layer: str, unit: int, level: int) -> bytes:
    """Return a unit's examples of all bands side by side, the highest band first, as :func:`tops_strip`, JPEG."""
    examples = _examples(opened, layer, unit)
    return jpeg(strip(_tiles(opened, layer, unit, level, examples.seeds, examples.maps)))


STRIPS = {"tops": tops_strip, "bands": bands_strip}


def picture_file(opened: OpenRun, kind: str, layer: str, unit: int, level: int | None) -> bytes:
    """Return a unit's "tops" or "bands" as a PNG, rows as on its page; without a level, as they are."""
    if kind == "tops":
        tops = opened.unit(layer, unit).tops
        seeds, maps, places = tops.seeds, tops.maps, np.arange(len(tops.seeds))
        rows = [places[start : start + TILES_A_ROW] for start in range(0, len(places), TILES_A_ROW)]
    else:
        examples = _examples(opened, layer, unit)
        seeds, maps, rows = examples.seeds, examples.maps, [np.array(p, int) for *_, p in examples.by_band()]
    tiles = opened.pictures.tiles(seeds) if level is None else _tiles(opened, layer, unit, level, seeds, maps)
    return png(sheet([tiles[row] for row in rows]))


def _examples(opened: OpenRun, layer: str, unit: int) -> Examples:
    examples = opened.unit(layer, unit).examples
    if examples is None:
        raise GanatomyError(f"{opened.slug} keeps no examples of bands")
    return examples


def _tiles(opened: OpenRun, layer: str, unit: int, level: int, seeds: np.ndarray, maps: np.ndarray) -> Bytes:
    levels = opened.unit(layer, unit).activation.levels
    if not 0 <= level < len(levels):
        raise GanatomyError(f"expected a level between 0 and {len(levels) - 1}, got {level}")
    pictures = opened.pictures
    masks = above(maps, float(levels[level]), pictures.height, pictures.width)
    return spotlight(pictures.tiles(seeds), masks)


def draw(opened: OpenRun, layer: str, unit: int, kind: str, level: int | None = None) -> str:
    """Return a drawing of a unit as SVG for the page: "histogram", marked at a level, or "bars"."""
    profile = opened.unit(layer, unit)
    best = profile.best
    if kind == "histogram":
        colour = opened.colours[best.category] if best else None
        markup = activation_histogram(at_level(profile.activation, level), best.name if best else None, colour)
    elif kind == "bars":
        markup = concept_bars(profile.candidates, opened.colours) if best else None
    else:
        raise GanatomyError(f"expected a drawing named histogram or bars, got {kind!r}")
    if markup is None:
        raise GanatomyError(f"unit {unit} of {layer} has no {kind}")
    return str(markup)


def at_level(activation: Activation, level: int | None) -> Activation:
    """Return an activation's summary with another of its levels marked."""
    if level is None:
        return activation
    if not 0 <= level < len(activation.levels):
        raise GanatomyError(f"expected a level between 0 and {len(activation.levels) - 1}, got {level}")
    return replace(activation, threshold=float(activation.levels[level]), share_on=float(activation.exceedance[level]))


def told(view: Callable[..., Response]) -> Callable[..., Response]:
    """Turn wrong input into one line and status 404, and what cannot be shown yet into 503."""

    @wraps(view)
    def told(**arguments: Any) -> Response:
        try:
            return view(**arguments)
        except GanatomyError as error:
            text, waits = " ".join(str(error).split()) + "\n", isinstance(error, NotYet)
            return Response(text, 503 if waits else 404, {"Retry-After": "1"} if waits else {}, mimetype="text/plain")

    return told


def _asked(opened: OpenRun) -> OpenRun:
    """Return a run if it is the one that the address means; GanatomyError if its file has been replaced since."""
    wanted = request.args.get("v", opened.run.id)
    if wanted != opened.run.id:
        raise GanatomyError(f"{opened.slug} is another run by now; load the page anew")
    return opened


def _kept(data: bytes, kind: str) -> Response:
    """Return what browsers may keep, if the address names the run's id (:func:`_asked`); else they must ask again."""
    answer = Response(data, mimetype=kind)
    answer.headers["Cache-Control"] = f"private, max-age={DAY}, immutable" if "v" in request.args else "no-cache"
    return answer


def file(data: bytes, kind: str, name: str) -> Response:
    """Return what is to be saved."""
    answer = Response(data, mimetype=kind)
    answer.headers.set("Content-Disposition", "attachment", filename=name.replace("/", "-"))
    return answer
