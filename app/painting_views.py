"""What the Paint page asks for. Each question says all that it is about; the edits are in the visitor's browser.

====================================================  ==========================================================
``GET  /painting/RUN/brush?concept=…&layer=…``        a concept's best units, or ``units=…``, and their constants
``POST /painting/RUN/shown``                          an image, edits: before, after and difference
``POST /painting/RUN/open``                           a recipe's file: its edits
``POST /painting/RUN/latents``                        a file of w codes: the codes
``POST /painting/RUN/recipe``, ``…/bundle``           edits: the file
``POST /painting/RUN/picture``                        an image, edits: it with them, as PNG
``POST /painting/RUN/checkpoint``                     edits: the token of a job that writes a checkpoint, or why not
``GET  /painting/RUN/checkpoint/TOKEN``               how it stands; ``…/file``: what it has written
====================================================  ==========================================================
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flask import Flask, Response, request
from PIL import Image

from segmodels import GanatomyError

from . import painting
from .answers import answer, answers
from .context import Context
from .facts import percent
from .live import Bytes
from .masks import jpeg, png
from .paint_edits import edits_of, entry_of, latents_of, recipe_of, start_of, told_latents
from .rows import LONGEST_NAME, heat
from .seeds import parse_seeds
from .views import JPEG, PNG, file

EXACT, LARGEST = 256, 512  # pixels a side up to which images are sent as they are, without loss; that are sent at most
QUALITY = 90
BINARY = "application/octet-stream"
ROWS = ("before", "after", "difference")


def register(server: Flask, context: Context) -> None:
    """Answer the addresses above."""
    _pictures(server, context)
    _files(server, context)
    _checkpoints(server, context)


def _pictures(server: Flask, context: Context) -> None:
    act = context.engine.painting

    @server.get("/painting/<slug>/brush")
    @answers
    def painting_brush(slug: str) -> Response:
        opened, given = context.opened(slug), request.args
        concept, units = given.get("concept", ""), given.get("units", "")
        layer = given.get("layer") or (painting.best_layer(opened, concept) if concept else opened.run.layers[0])
        if units:
            chosen = tuple(parse_seeds(units, opened.layer(layer).units))
        elif concept:
            chosen = painting.best(opened, concept, layer, given.get("count", None, int))
        else:
            raise GanatomyError("expected a concept, or units such as 3, 17, 40")
        return answer(painting.described(painting.brush(opened, layer, chosen, concept)))

    @server.post("/painting/<slug>/shown")
    @answers
    def painting_shown(slug: str) -> Response:
        opened, given = context.library.get(slug), asked()
        who, turn = str(given.get("who", ""))[:LONGEST_NAME], given.get("turn")
        channel = ("paint", who) if who and isinstance(turn, (int, float)) else None
        layer = str(given.get("layer") or opened.run.layers[0])
        before, after = act.drawn(opened, start_of(given), edits_of(given.get("edits")), layer, channel, turn)
        rows = given.get("rows")
        return answer(shown(before, after, [row for row in ROWS if not isinstance(rows, list) or row in rows]))

    @server.post("/painting/<slug>/picture")
    @answers
    def painting_picture(slug: str) -> Response:
        opened, given = context.library.get(slug), asked()
        _, after = act.drawn(opened, start_of(given), edits_of(given.get("edits")), opened.run.layers[0])
        return file(png(Image.fromarray(after)), PNG, f"{opened.slug}-painted.png")


def _files(server: Flask, context: Context) -> None:
    act = context.engine.painting

    @server.post("/painting/<slug>/open")
    @answers
    def painting_open(slug: str) -> Response:
        opened = context.opened(slug)
        edits = act.accepted(opened, recipe_of(request.get_data()))
        entries = [entry_of(edit) for edit in edits]
        return answer(
            {"edits": [one | {"name": painting.about(opened, one["layer"], one["units"])} for one in entries]}
        )

    @server.post("/painting/<slug>/latents")
    @answers
    def painting_latents(slug: str) -> Response:
        opened = context.library.get(slug)
        return answer({"latents": told_latents(act.checked(opened, latents_of(request.get_data())))})

    @server.post("/painting/<slug>/<any(recipe, bundle):kind>")
    @answers
    def painting_save(slug: str, kind: str) -> Response:
        opened, edits = context.library.get(slug), edits_of(asked().get("edits"))
        if kind == "recipe":
            return file(act.recipe(opened, edits), BINARY, f"{opened.slug}-painted.safetensors")
        return file(act.bundle(opened, edits), BINARY, f"{opened.slug}-painted{painting.SUFFIX}")


def _checkpoints(server: Flask, context: Context) -> None:
    act = context.engine.painting

    @server.post("/painting/<slug>/checkpoint")
    @answers
    def painting_checkpoint(slug: str) -> Response:
        token, why = act.checkpoint(context.library.get(slug), edits_of(asked().get("edits")))
        return answer({"token": token, "why": why})

    @server.get("/painting/<slug>/checkpoint/<token>")
    @answers
    def painting_stands(slug: str, token: str) -> Response:
        report = act.report(token)
        return answer(
            {"state": report.state.value, "done": report.done, "total": report.total, "message": report.message,
             "error": report.error}
        )  # fmt: skip

    @server.get("/painting/<slug>/checkpoint/<token>/file")
    @answers
    def painting_file(slug: str, token: str) -> Response:
        path = context.engine.exports.file(token)
        return file(path.read_bytes(), BINARY, path.name)


def asked() -> Mapping[str, Any]:
    """Return the question that came as JSON; GanatomyError if it is none."""
    try:
        found = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise GanatomyError("expected a question in JSON") from error
    if not isinstance(found, Mapping):
        raise GanatomyError("expected a question as a JSON object")
    return found


def shown(before: Bytes, after: Bytes, rows: list[str]) -> dict[str, Any]:
    """Return an image uint8 [R, R, 3] before and after as the page shows them, and by how much they differ."""
    change = float(np.abs(after.astype(np.int16) - before).mean()) / 255
    small = {"before": reduced(before, LARGEST), "after": reduced(after, LARGEST)}
    if "difference" in rows:
        small["difference"] = heat(small["before"][None], small["after"][None])[0]
    return {"change": percent(change), "rows": {row: address(small[row]) for row in rows}}


def reduced(image: Bytes, largest: int) -> Bytes:
    """Return an image uint8 [R, R, 3], averaged down if it is larger than ``largest`` a side."""
    if image.shape[0] <= largest:
        return image
    return np.asarray(Image.fromarray(image).resize((largest, largest), Image.Resampling.BOX))


def address(image: Bytes) -> str:
    """Return an image as a data address: without loss, or if it is large, as a JPEG."""
    exact = image.shape[0] <= EXACT
    data = png(Image.fromarray(image)) if exact else jpeg(Image.fromarray(image), QUALITY)
    return f"data:{PNG if exact else JPEG};base64,{base64.b64encode(data).decode()}"
