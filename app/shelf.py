"""Edits that visitors have made or brought, by the hash of their file: what an address with edits in it means.

Whose they are is not known and not kept. A visitor's browser keeps the files and says which ones a picture is to have;
who does not know a file cannot name it. The shelf is bounded: what nobody has asked for in a while is forgotten, and
the browser that still wants it is told so (:class:`Forgotten`) and brings it again.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dissect import Edit, Recipe, Run, WeightEdit
from segmodels import GanatomyError

ROOM = 256 << 20  # bytes of files
MOST_EDITS = 64  # in one stack
STRONGEST = 10.0  # more than any edit is worth looking at
KEY = re.compile(r"[0-9a-f]{64}")


class Forgotten(GanatomyError):  # noqa: N818 (nothing went wrong)
    """Files that were here are no more; the browser has them."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("the dashboard has forgotten these edits; reload the page to bring them again")
        self.missing = tuple(missing)


@dataclass(frozen=True)
class Layer:
    """One file of a stack: its key, and what its edits' strengths are multiplied by."""

    key: str
    strength: float


Stack = tuple[Layer, ...]


class Shelf:
    """Recipes by the SHA-256 of their files. May be used from any thread."""

    def __init__(self, room: int = ROOM) -> None:
        self._room, self._taken = room, 0
        self._files: OrderedDict[str, tuple[bytes, Recipe]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Take a recipe's file in and return its key; GanatomyError if it is none."""
        recipe, key = Recipe.parse(data, "this file"), hashlib.sha256(data).hexdigest()
        with self._lock:
            if key not in self._files:
                self._taken += len(data)
            self._files[key] = data, recipe
            self._files.move_to_end(key)
            while self._taken > self._room and len(self._files) > 1:
                self._taken -= len(self._files.popitem(last=False)[1][0])
        return key

    def file(self, key: str) -> bytes:
        """Return the file of a key; Forgotten if it is not here (any more)."""
        return self._get(key)[0]

    def recipe(self, key: str) -> Recipe:
        """Return the recipe of a key; Forgotten if it is not here (any more)."""
        return self._get(key)[1]

    def edits(self, stack: Stack, run: Run) -> tuple[Edit, ...]:
        """Return all edits of a stack in order, each at its strength.

        Raises:
            Forgotten: with the keys of all files that are not here.
            GanatomyError: if some are for another generator than the run's.
        """
        missing = [layer.key for layer in stack if layer.key not in self._files]
        if missing:
            raise Forgotten(missing)
        recipes = [(self.recipe(layer.key), layer.strength) for layer in stack]
        for recipe, _ in recipes:
            check_maker(recipe, run)
        return tuple(scaled(edit, strength) for recipe, strength in recipes for edit in recipe)

    def _get(self, key: str) -> tuple[bytes, Recipe]:
        with self._lock:
            if key not in self._files:
                raise Forgotten([key])
            self._files.move_to_end(key)
            return self._files[key]


def scaled(edit: Edit, factor: float) -> Edit:
    """Return an edit whose strength is multiplied by a factor."""
    if factor == 1:
        return edit
    if isinstance(edit, WeightEdit):
        return replace(edit, strength=edit.strength * factor)
    given = edit.strength
    changed = tuple(one * factor for one in given) if isinstance(given, tuple) else given * factor
    return replace(edit, strength=changed)


def parse_stack(text: str) -> Stack:
    """Return the stack of a text such as ``KEY~1,KEY~0.5``, as addresses have it; "" is none.

    Raises:
        GanatomyError: for anything else, too many, and strengths out of bounds.
    """
    layers = []
    for part in text.split(",") if text else []:
        key, _, number = part.partition("~")
        try:
            strength = float(number or 1)
        except ValueError:
            strength = float("nan")
        if not KEY.fullmatch(key) or not -STRONGEST <= strength <= STRONGEST:
            raise GanatomyError(f"expected edits as KEY~STRENGTH, at most {STRONGEST:g} strong, got {part[:80]!r}")
        layers.append(Layer(key, strength))
    if len(layers) > MOST_EDITS:
        raise GanatomyError(f"at most {MOST_EDITS} edits are stacked, got {len(layers)}")
    return tuple(layers)


def check_maker(recipe: Recipe, run: Run) -> None:
    """Raise GanatomyError if a recipe is for another generator than a run's."""
    ours = run.manifest["generator"]
    if recipe.maker is not None and recipe.maker.fingerprint != ours["fingerprint"]:
        raise GanatomyError(
            f"these edits are for {recipe.maker.name} ({recipe.maker.fingerprint[:12]}), this run is of "
            f"{ours['name']} ({str(ours['fingerprint'])[:12]})"
        )


def summary(recipe: Recipe) -> dict[str, Any]:
    """Return what people want to know of a recipe: JSON, numbers of a solved edit included."""
    layers = list(dict.fromkeys(edit.layer for edit in recipe))
    told: dict[str, Any] = {"layers": layers, "edits": len(recipe), "name": "", "kind": "units"}
    weights = [edit for edit in recipe if isinstance(edit, WeightEdit)]
    if len(recipe) == 1 and weights:
        p = weights[0].provenance
        requests = p.get("requests") or [{}]
        told |= {"kind": "weights", "rank": weights[0].rank, "name": str(requests[0].get("name", ""))}
        told |= {name: p[name] for name in ("method", "relative_norm", "disturbance", "condition") if name in p}
        told |= {"attained": p.get("attained"), "observed": p.get("observed", layers[0])}
    elif weights:
        told["kind"] = "mixed" if len(weights) < len(recipe) else "weights"
    return told
