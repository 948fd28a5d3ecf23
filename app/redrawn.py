"""How a run's samples were drawn, so that other images are drawn in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dissect import Run
from dissect.generators.codes import InTurn
from dissect.samples import Sampling
from segmodels import GanatomyError

NAMED = 6  # classes that are named; of more, only how many


def how_drawn(run: Run) -> dict[str, Any]:
    """Return how a run's samples were drawn, as arguments of ``Generator.sample``: for its seeds and for any others."""
    described = run.manifest["samples"]
    return {
        "classes": classes_of(run),
        "truncation": float(described.get("truncation", 1.0)),
        "cutoff": described.get("cutoff"),
        "noise": described.get("noise", "const"),
    }


def drawn_anew(run: Run) -> Sampling:
    """Return the same; GanatomyError for a run of pictures or of given latents, which no seeds draw again."""
    described = run.manifest["samples"]
    if "pictures_sha256" in described:
        raise GanatomyError("this run is of pictures, and has no generator whose units could be edited")
    if "codes_sha256" in described:
        raise GanatomyError("this run is of given latents, which cannot be drawn anew from seeds")
    return Sampling(**how_drawn(run))


def classes_of(run: Run) -> int | InTurn | None:
    """Return the classes of a run: one, those that its samples take in turn, or None where each seed draws its own."""
    given = run.manifest["samples"].get("classes")
    if "codes_sha256" in run.manifest["samples"] and "samples/class" in run.reader:
        given = run.reader.read("samples/class").tolist()
    return in_turn(given, run.seeds.tolist()) if isinstance(given, list) else given


def in_turn(given: Sequence[int], seeds: Sequence[int]) -> int | InTurn:
    """Return the classes of other seeds where some have given ones, N of each.

    Classes that take turns go on doing so. Other lists are shuffled, always in the same way, and then taken in turn, so
    that any stretch of seeds has about the classes of the whole.
    """
    if len(set(given)) == 1:
        return given[0]
    turn, first = _turn(given), max(seeds) + 1 - len(given)
    known = []
    for seed, own in zip(seeds, given, strict=True):
        if turn[(seed - first) % len(turn)] != own:
            known.append((seed, own))
    return InTurn(turn, first, tuple(known))


def _turn(given: Sequence[int]) -> tuple[int, ...]:
    """Return what a list repeats, each class once; all of it, shuffled, if it repeats nothing."""
    period = list(dict.fromkeys(given))
    if all(own == period[i % len(period)] for i, own in enumerate(given)):
        return tuple(period)
    return tuple(given[i] for i in np.random.RandomState(0).permutation(len(given)))


def drawn_in_words(how: dict[str, Any], num_classes: int | None) -> str:
    """Say how images are drawn where there is anything to say, else "".

    Args:
        how: of :func:`how_drawn`. num_classes: of the generator.
    """
    told = []
    if num_classes:
        told.append("a class of its own for each seed" if how["classes"] is None else classes_in_words(how["classes"]))
    if how["truncation"] != 1.0:
        cut = "" if how["cutoff"] is None else f" of the first {how['cutoff']} w's"
        told.append(f"truncation {how['truncation']:g}{cut}")
    if how["noise"] != "const":
        told.append("no noise" if how["noise"] == "none" else f"{how['noise']} noise")
    return ", ".join(told)


def classes_in_words(classes: int | InTurn) -> str:
    """Say which classes images have: ``class 207``, ``classes 3, 7, 207 in turn``."""
    if isinstance(classes, int):
        return f"class {classes}"
    names = sorted(set(classes.classes))
    if len(names) < len(classes.classes):
        return f"{len(names)} classes, as often as in the run"
    if len(names) > NAMED:
        return f"{len(names)} classes in turn, {names[0]} to {names[-1]}"
    return f"classes {', '.join(map(str, classes.classes))} in turn"
