"""Rows of pictures of a unit on some seeds: with it, without it, what that changes, and where it is on."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Collection

import numpy as np
from flask import Flask, Response, request
from PIL import Image

from segmodels import GanatomyError

from .context import Context
from .facts import percent
from .live import MOST_SEEDS, Bytes, Shown
from .masks import RAMP, png, sheet, spotlight, strip
from .seeds import parse_seeds
from .views import PNG, file, told
from .worker import Superseded

ROWS = ("before", "after", "difference", "where")
LARGEST_TILE, OUTLINED_TILE = 256, 192  # pixels a side of an image at most; at least, where it is outlined
LARGEST_IN_FILE, GAP = 512, 6  # of a file that is saved: a tile's side at most, and the white between two rows
QUALITY = 92
GAIN = 4.0  # of differences: a quarter of full scale is the brightest
LONGEST_NAME = 40  # of a visitor's panel


def heat(before: Bytes, after: Bytes) -> Bytes:
    """Return where and how much images [N, H, W, 3] differ: the largest difference of the channels, as colours."""
    largest = np.abs(after.astype(np.int16) - before).max(-1)
    index = np.minimum(255, largest * GAIN).astype(np.uint8)
    places = np.linspace(0, 255, len(RAMP))
    table = np.stack([np.interp(np.arange(256), places, RAMP[:, channel]) for channel in range(3)], 1)
    return np.rint(table).astype(np.uint8)[index]


def draw_row(shown: Shown, row: str) -> bytes:
    """Return one of ``ROWS`` as a JPEG: N square tiles side by side.

    Small images go as they are, and browsers enlarge them; only the outline of masks needs more pixels.
    """
    side = shown.before.shape[1]
    tile = min(max(side, OUTLINED_TILE if row == "where" else 1), LARGEST_TILE)
    out = io.BytesIO()
    strip(_tiles(shown, row, tile)).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def draw_file(shown: Shown) -> bytes:
    """Return all rows, one below the other, as a PNG."""
    tile = min(max(shown.before.shape[1], OUTLINED_TILE), LARGEST_IN_FILE)
    return png(sheet([_tiles(shown, row, tile) for row in ROWS], GAP))


def _tiles(shown: Shown, row: str, tile: int) -> Bytes:
    """Return the tiles of a row, uint8 [N, tile, tile, 3]."""
    images = {"after": shown.after, "difference": heat(shown.before, shown.after)}.get(row, shown.before)
    side = images.shape[1]
    if tile != side:
        how = Image.Resampling.BICUBIC if tile > side else Image.Resampling.BOX
        images = np.stack([np.asarray(Image.fromarray(image).resize((tile, tile), how)) for image in images])
    if row != "where":
        return images
    nearest = np.arange(tile) * side // tile
    return spotlight(images, shown.masks[:, nearest][:, :, nearest])


def answer(shown: Shown, rows: Collection[str], name_of: Callable[[int], str]) -> dict[str, object]:
    """Return what the page is sent: the seeds' names, how much each image changes, and the rows as data addresses."""
    pictures = {row: base64.b64encode(draw_row(shown, row)).decode() for row in ROWS if row in rows}
    return {
        "seeds": list(shown.seeds),
        "names": [name_of(seed) for seed in shown.seeds],
        "change": [percent(float(share)) for share in shown.change],
        "rows": {row: f"data:image/jpeg;base64,{data}" for row, data in pictures.items()},
    }


def register(server: Flask, context: Context) -> None:
    """Answer ``/live/RUN/LAYER/UNIT?seeds=0:6&without=1&level=12&rows=after,difference&who=…&turn=17``.

    With ``.png`` after UNIT it is a picture of all rows, to be saved. Else the answer is JSON with ``rows``, or with
    ``error``, one line; nothing (204) if a later turn has made it needless.
    """

    @server.get("/live/<slug>/<path:layer>/<int:unit>")
    def live(slug: str, layer: str, unit: int) -> Response:
        try:
            shown = _shown(context, slug, layer, unit)
            wanted = request.args.get("rows", ",".join(ROWS)).split(",")
            text = json.dumps(answer(shown, wanted, context.opened(slug).name_of))
        except Superseded:
            return Response(status=204)
        except GanatomyError as error:
            text = json.dumps({"error": " ".join(str(error).split())})
        return Response(text, mimetype="application/json", headers={"Cache-Control": "no-store"})

    @server.get("/live/<slug>/<path:layer>/<int:unit>.png")
    @told
    def live_file(slug: str, layer: str, unit: int) -> Response:
        shown = _shown(context, slug, layer, unit)
        seeds = "-".join(map(str, shown.seeds))
        return file(draw_file(shown), PNG, f"{slug}-{layer}-{unit}-seeds-{seeds}.png")


def _shown(context: Context, slug: str, layer: str, unit: int) -> Shown:
    """Draw what the query asks for."""
    opened, given = context.opened(slug), request.args
    seeds = parse_seeds(given.get("seeds", "0:6"), MOST_SEEDS)
    without, level = given.get("without", 1.0, float), given.get("level", -1, int)
    activation = opened.unit(layer, unit).activation
    threshold = float(activation.levels[level]) if 0 <= level < len(activation.levels) else activation.threshold
    who, turn = given.get("who", "")[:LONGEST_NAME], given.get("turn", None, float)
    channel = ("unit", who) if who else None
    return context.engine.live.unit(opened.run, layer, unit, seeds, without, threshold, channel, turn)
