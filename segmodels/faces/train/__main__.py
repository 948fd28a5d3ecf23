"""``python -m segmodels.faces.train``: pictures, labels, training, scores; stop it and run it again to go on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ...catalog import load
from ...errors import GanatomyError
from ...files import one_line
from .export import export
from .fit import Pool, train
from .labelling import check, label_folder
from .pictures import draw, read
from .recipe import HELD_OUT, Recipe, Source
from .score import confusion, iou

log = logging.getLogger("face-parts")

SAY_EVERY = 10.0  # seconds


def main() -> None:
    """Run the command line."""
    arguments = parse(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        run(arguments)
    except GanatomyError as error:
        log.error("face-parts: %s", error)
        sys.exit(2)
    except OSError as error:
        log.error("face-parts: %s: %s", error.filename or "a file", error.strerror or one_line(error))
        sys.exit(2)
    except KeyboardInterrupt:
        log.error("face-parts: interrupted; run the same command again to go on")
        sys.exit(130)


def parse(words: list[str]) -> argparse.Namespace:
    """Return the options."""
    default = Recipe()
    parser = argparse.ArgumentParser("python -m segmodels.faces.train", description="Train the face-part segmenter.")
    parser.add_argument("--out", type=Path, default=Path("face-parts"), help="folder for everything (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=default.steps, help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=default.batch, help="pictures a step (%(default)s)")
    parser.add_argument("--accept-licence", action="store_true", help="accept the licences of the generators' weights")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Do whatever is not done yet, and return the scores per generator."""
    recipe = dataclasses.replace(Recipe(), seed=arguments.seed, batch=arguments.batch)
    if arguments.steps != recipe.steps:
        recipe = recipe.shortened(arguments.steps)
    recipe.check()
    check()
    out: Path = arguments.out
    trained, held_out = [], {}
    for source in recipe.sources:
        for seeds in (range(source.images), HELD_OUT):
            log.info("%s: images of seeds %d:%d", source.generator, seeds.start, seeds.stop)
            draw(source.generator, seeds, source.side, out / "pictures" / source.generator, arguments.device,
                 arguments.accept_licence)  # fmt: skip
        trained.append(pool(source, range(source.images), out, recipe.least_confidence))
        held_out[source.generator] = pool(source, HELD_OUT, out, recipe.least_confidence)
    log.info("training on %d pictures", sum(len(p.pictures) for p in trained))
    model = train(recipe, trained, out / "checkpoint.pt", arguments.device, telling("step"))
    export(model, recipe, out / "model")
    segmenter = load(str(out / "model"))
    scores = {
        name: iou(confusion(segmenter, p.pictures.numpy(), p.labels.numpy(), recipe.side))
        for name, p in held_out.items()
    }
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    for name, score in scores.items():
        log.info("%s, held out: %s", name, ", ".join(f"{key} {value:.3f}" for key, value in score.items()))
    return scores


def pool(source: Source, seeds: range, out: Path, least: float) -> Pool:
    """Return the pictures in which the teacher is sure of a face, with their labels."""
    pictures, labels = out / "pictures" / source.generator, out / "labels" / source.generator
    sure = label_folder(pictures, seeds, labels, telling(f"{source.generator}: labelled"))
    kept = [seed for seed, confidence in sure.items() if confidence >= least]
    log.info("%s: %d of %d pictures show a face", source.generator, len(kept), len(sure))
    if not kept:
        raise GanatomyError(f"{source.generator}: the teacher finds no face in seeds {seeds.start}:{seeds.stop}")
    return Pool(read(pictures, kept), read(labels, kept) - 1)


def telling(what: str) -> Callable[..., None]:
    """Return a progress function that logs now and then."""
    began = last = time.monotonic()
    first: int | None = None

    def say(done: int, total: int, loss: float | None = None) -> None:
        nonlocal began, last, first
        now = time.monotonic()
        if first is None:  # what was there before says nothing of the speed
            first, began = done, now
        if now - last < SAY_EVERY and done < total:
            return
        last = now
        left = (now - began) / max(1, done - first) * (total - done)
        extra = "" if loss is None else f", loss {loss:.3f}"
        log.info("%s %d of %d%s, %.0f min left", what, done, total, extra, left / 60)

    return say


if __name__ == "__main__":
    main()
