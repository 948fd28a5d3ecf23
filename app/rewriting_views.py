"""What the Rewrite page asks for: images with edits, edits' files, jobs. Each question says all that it is about.

====================================================  ==========================================================
``GET  /rewriting/RUN/image/SEED``                    a seed's image, ``?edits=…`` with edits
``GET  /rewriting/RUN/shown?seeds=…&edits=…``         images before and after, and what differs: JSON
``GET  /rewriting/RUN/where/SEED?concept=…``          what the run's segmenter calls so in a seed's image: a mask
``POST /rewriting/RUN/request``                       a request's file is brought: the same, in full
``POST /rewriting/RUN/edits``                         a recipe's file is brought: its key, and what it is
``GET  /rewriting/RUN/edits/KEY``                     the file of a key
``GET  /rewriting/RUN/recipe``, ``…/bundle``          the edits as one file to save
``POST /rewriting/RUN/jobs/WHAT``                     a question begins a job: its token
``GET  /rewriting/RUN/job/TOKEN``                     how it stands, and its result
``POST /rewriting/RUN/job/TOKEN/cancel``              it is to end
``GET  /rewriting/RUN/export/TOKEN``                  the checkpoint that an export has written
====================================================  ==========================================================

``edits=KEY~STRENGTH,…`` names edits by the hash of their files. Where one is not here (any more) the answer is 410 with
its key: the browser has the file, brings it, and asks again.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flask import Flask, Response, request
from PIL import Image

import dissect
from dissect import Edit, Recipe
from rewrite import Region, Request
from rewrite.goal import masks_of
from segmodels import GanatomyError

from .answers import answer, answers
from .context import Context
from .facts import percent
from .library import OpenRun
from .live import Bytes
from .masks import jpeg, png
from .reports import Report
from .rewriting import sampling_of
from .rows import LONGEST_NAME, heat
from .seeds import parse_seeds
from .shelf import Forgotten, check_maker, parse_stack, summary
from .views import JPEG, PNG, file

EXACT = 256  # pixels a side up to which images are sent as they are, without loss; larger ones are made smaller
MOST_SHOWN = 12
QUALITY = 92
RECIPE = "application/octet-stream"


def register(server: Flask, context: Context) -> None:
    """Answer the addresses above."""
    _pictures(server, context)
    _files(server, context)
    _jobs(server, context)


def _pictures(server: Flask, context: Context) -> None:
    engine = context.engine

    @server.get("/rewriting/<slug>/image/<int:seed>")
    @told
    def rewriting_image(slug: str, seed: int) -> Response:
        opened = context.library.get(slug)
        edits = _edits(context, opened)
        (image,) = engine.live.edited(opened.run, [seed], edits)[1]
        data, kind = encoded(image, None)
        return Response(data, mimetype=kind, headers={"Cache-Control": "no-cache"})

    @server.get("/rewriting/<slug>/shown")
    @told
    def rewriting_shown(slug: str) -> Response:
        opened, given = context.library.get(slug), request.args
        seeds, edits = parse_seeds(given.get("seeds", ""), MOST_SHOWN), _edits(context, opened)
        who, turn = given.get("who", "")[:LONGEST_NAME], given.get("turn", None, float)
        before, after = engine.live.edited(opened.run, list(seeds), edits, ("rewriting", who) if who else None, turn)
        return answer(shown(opened, list(seeds), before, after))

    @server.get("/rewriting/<slug>/where/<int:seed>")
    @told
    def rewriting_where(slug: str, seed: int) -> Response:
        opened = context.library.get(slug)
        edits = _edits(context, opened)
        concept = request.args.get("concept", "")

        def look() -> torch.Tensor:
            generator = engine.live.weights.of(opened.run)
            region = Region(seed, concept=concept)
            asked = Request(generator.resolution, (region,), goal="erase", sampling=sampling_of(opened.run))
            return masks_of(generator, asked, engine.orders.segmenter_of(opened.run), edits)[0]

        mask = np.rint(engine.worker.ask(look).numpy() * 255).astype(np.uint8)
        return Response(png(Image.fromarray(mask)), mimetype=PNG, headers={"Cache-Control": "no-store"})


def _files(server: Flask, context: Context) -> None:
    shelf = context.engine.rewriting.shelf

    @server.post("/rewriting/<slug>/edits")
    @told
    def rewriting_bring(slug: str) -> Response:
        opened, data = context.library.get(slug), request.get_data()
        check_maker(Recipe.parse(data, "this file"), opened.run)
        key = shelf.put(data)
        return answer({"key": key, "summary": summary(shelf.recipe(key))})

    @server.post("/rewriting/<slug>/request")
    @told
    def rewriting_request(slug: str) -> Response:
        opened = context.library.get(slug)
        asked = Request.of(parsed(request.get_data()))
        resolution, ours = opened.run.manifest["generator"]["resolution"], sampling_of(opened.run)
        if asked.resolution != resolution:
            raise GanatomyError(
                f"the request is for images of {asked.resolution} x {asked.resolution} pixels, this run's have "
                f"{resolution} x {resolution}"
            )
        remark = "" if asked.sampling == ours else "The request draws codes another way; here they are the run's."
        told = {name: value for name, value in asked.described().items() if name in ("name", "goal")}
        told |= {"copy": asked.copy and region(asked.copy)}
        told |= {"paste": [*map(region, asked.paste)], "context": [*map(region, asked.context)]}
        return answer({"request": told, "remark": remark})

    @server.get("/rewriting/<slug>/edits/<key>")
    @told
    def rewriting_file(slug: str, key: str) -> Response:
        context.library.get(slug)
        return Response(shelf.file(key), mimetype=RECIPE, headers={"Cache-Control": "no-store"})

    @server.get("/rewriting/<slug>/<any(recipe, bundle):kind>")
    @told
    def rewriting_save(slug: str, kind: str) -> Response:
        opened = context.library.get(slug)
        edits = _edits(context, opened)
        if not edits:
            raise GanatomyError("no edit is switched on; there is nothing to export")
        data = context.engine.worker.ask(lambda: saved(context, opened, edits, kind))
        ending = {"recipe": ".safetensors", "bundle": ".bundle"}[kind]
        return file(data, RECIPE, f"{opened.slug}-edits{ending}")


def _jobs(server: Flask, context: Context) -> None:
    rewriting, worker = context.engine.rewriting, context.engine.worker

    @server.post("/rewriting/<slug>/jobs/<what>")
    @told
    def rewriting_start(slug: str, what: str) -> Response:
        return answer({"token": rewriting.start(slug, what, parsed(request.get_data()))})

    @server.get("/rewriting/<slug>/job/<token>")
    @told
    def rewriting_job(slug: str, token: str) -> Response:
        return answer(standing(rewriting.report(token), worker.reports()))

    @server.post("/rewriting/<slug>/job/<token>/cancel")
    @told
    def rewriting_cancel(slug: str, token: str) -> Response:
        return answer({"cancelled": worker.cancel(rewriting.report(token).id)})

    @server.get("/rewriting/<slug>/export/<token>")
    @told
    def rewriting_export(slug: str, token: str) -> Response:
        path = context.engine.exports.file(token)
        return file(path.read_bytes(), RECIPE, path.name)


def parsed(data: bytes) -> Any:
    """Return what JSON says; GanatomyError if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GanatomyError("expected a file, or a question, in JSON") from error


def told(view: Callable[..., Response]) -> Callable[..., Response]:
    """Turn what cannot be done into JSON with ``error``, one line; 410 with the keys of edits that are missing."""

    @wraps(view)
    def told(**arguments: Any) -> Response:
        try:
            return view(**arguments)
        except Forgotten as error:
            return answer({"error": str(error), "missing": list(error.missing)}, 410)

    return answers(told)


def _edits(context: Context, opened: OpenRun) -> tuple[Edit, ...]:
    return context.engine.rewriting.shelf.edits(parse_stack(request.args.get("edits", "")), opened.run)


def standing(report: Report, every: tuple[Report, ...]) -> dict[str, Any]:
    """Return how a job stands, as JSON; ``before`` is how many jobs come before it."""
    before = sum(other.id < report.id and not other.state.ended for other in every)
    return {
        "state": report.state.value, "done": report.done, "total": report.total, "message": report.message,
        "error": report.error, "result": report.result, "left": report.seconds_left, "before": before,
        "seconds": report.seconds, "cancelling": report.cancelling,
    }  # fmt: skip


def shown(opened: OpenRun, seeds: list[int], before: Bytes, after: Bytes) -> dict[str, Any]:
    """Return images [N, R, R, 3] before and after as the page shows them, and by how much they differ."""
    change = np.abs(after.astype(np.int16) - before).mean((1, 2, 3)) / 255
    rows = {"before": before, "after": after, "difference": heat(before, after)}
    return {
        "seeds": seeds, "names": [opened.name_of(seed) for seed in seeds],
        "change": [percent(float(share)) for share in change],
        "rows": {name: [address(image) for image in images] for name, images in rows.items()},
    }  # fmt: skip


def encoded(image: Bytes, largest: int | None = EXACT) -> tuple[bytes, str]:
    """Return an image [R, R, 3] as a file and its kind: as it is, without loss, or smaller and as a JPEG."""
    side = image.shape[0]
    picture = Image.fromarray(image)
    if side <= EXACT:
        return png(picture), PNG
    if largest is not None:
        picture = picture.resize((largest, largest), Image.Resampling.BOX)
    return jpeg(picture, QUALITY), JPEG


def address(image: Bytes) -> str:
    """Return an image as a data address."""
    data, kind = encoded(image)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def region(of: Region) -> dict[str, Any]:
    """Return a region as JSON, its mask as the alpha of a PNG, which is what browsers draw with."""
    told = of.described()
    if of.mask is not None:
        alpha = Image.fromarray(np.rint(of.mask * 255).astype(np.uint8))
        picture = Image.merge("LA", (Image.new("L", alpha.size), alpha))
        told["mask"] = f"data:{PNG};base64,{base64.b64encode(png(picture)).decode()}"
    return told


def saved(context: Context, opened: OpenRun, edits: tuple[Edit, ...], kind: str) -> bytes:
    """Return edits as the file of a recipe or a bundle; on the worker's thread."""
    generator = context.engine.live.weights.of(opened.run)
    if kind == "recipe":
        return Recipe(edits, generator).data()
    with tempfile.TemporaryDirectory() as folder:
        path = dissect.export(generator, Path(folder) / "edited.bundle", edits, bundle=True)
        return path.read_bytes()
