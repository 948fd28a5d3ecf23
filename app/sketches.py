"""Concepts that a visitor draws on a few images: which units agree with one, and its masks as a folder.

Nothing of it is kept here: the drawing is in the browser, and comes with each question.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dissect.sketch import FEWEST, Sketch, sketch
from segmodels import GanatomyError
from segmodels.base import UNLABELLED
from segmodels.masks import CONCEPTS_FILE

from .experiments import LARGEST_SEED
from .library import UNFIT, OpenRun
from .live import Live
from .redrawn import drawn_anew, how_drawn
from .tagging import mask_of, png_of
from .worker import Worker

MOST = 24  # images: an answer is waited for
SIDE = 128  # pixels at which units and masks are compared, as far as the run counts as many
SAVED = 256  # pixels of a mask that is saved
LONGEST = 60  # of a name


@dataclass(frozen=True)
class Drawn:
    """What a page sends of a drawing.

    Attributes:
        name: of the concept. masks: (seed, PNG whose alpha says where the concept is, b"" for nowhere), as chosen.
    """

    name: str
    masks: tuple[tuple[int, bytes], ...]

    @classmethod
    def of(cls, work: Mapping[str, Any]) -> Drawn:
        """Return what the browser keeps; GanatomyError for what is too much, too little, or no drawing."""
        try:
            given, seeds = work.get("masks") or {}, [int(seed) for seed in work.get("chosen") or []]
            masks = {seed: png_of(given[str(seed)]) if str(seed) in given else b"" for seed in seeds}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise GanatomyError("expected masks as PNG, by seed") from error
        name = " ".join(str(work.get("name") or "").split())[:LONGEST] or "my concept"
        if name == UNLABELLED.name:
            raise GanatomyError(f"call it something else than {name}: that is what has no concept")
        if not all(0 <= seed <= LARGEST_SEED for seed in masks):
            raise GanatomyError(f"expected seeds from 0 to {LARGEST_SEED}")
        if len(masks) > MOST:
            raise GanatomyError(f"expected at most {MOST} images, {len(masks)} are chosen")
        if sum(map(bool, masks.values())) < FEWEST:
            raise GanatomyError(f"choose {FEWEST} images or more, and mark where it is in them")
        return cls(name, tuple(masks.items()))

    @property
    def seeds(self) -> list[int]:
        """Of the images."""
        return [seed for seed, _ in self.masks]

    def read(self, side: int) -> np.ndarray:
        """Return the masks, bool [N, side, side]."""
        nowhere = np.zeros((side, side), bool)
        return np.stack([mask_of(data, side) if data else nowhere for _, data in self.masks])

    def folder(self) -> tuple[str, bytes]:
        """Return the name and a zip of the folder that the segmenter ``masks:`` reads."""
        stem, out = UNFIT.sub("-", self.name).strip("-.+") or "concept", io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{stem}/{CONCEPTS_FILE}", json.dumps([self.name], ensure_ascii=False) + "\n")
            for seed, mask in zip(self.seeds, self.read(SAVED), strict=True):
                picture = io.BytesIO()
                Image.fromarray(mask.astype(np.uint8)).save(picture, "PNG")
                archive.writestr(f"{stem}/{seed}.png", picture.getvalue())
        return stem, out.getvalue()


class Sketches:
    """Compares drawings with units. May be called from any thread."""

    def __init__(self, live: Live, worker: Worker) -> None:
        self.live, self.worker = live, worker

    def reason(self, opened: OpenRun) -> str:
        """Say in a line why nothing can be compared, "" if it may be."""
        try:
            drawn_anew(opened.run)
        except GanatomyError as error:
            return str(error)
        return self.live.reason(opened.run)

    def agreement(self, opened: OpenRun, layer: str, drawn: Drawn) -> Sketch:
        """Return how a layer's units agree with a drawing, at the run's levels."""
        known, side = opened.run.layer(opened.layer(layer).name), min(SIDE, int(opened.run.manifest["count_size"]))

        def compare() -> Sketch:
            generator = self.live.weights.of(opened.run)
            codes = generator.sample(drawn.seeds, **how_drawn(opened.run))
            return sketch(generator, layer, codes, drawn.read(side), known.levels)

        return self.worker.ask(compare)
