"""What is being measured: a layer of a generator, looked at by a segmenter; and the passes that this takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segmodels import GanatomyError, Segmenter
from segmodels.errors import unknown_name

from ..generators import Capture, Codes, Generator, Layer
from ..generators.codes import InTurn, check_seeds
from ..manifest import versions
from ..samples import Sampling
from .tiles import Tiles

PIXELS_AT_ONCE = 1 << 20  # of images in one pass, so that it fits in memory with its gradients
MOST_AT_ONCE = 8  # more are slower on a CPU: each map is then fetched from memory anew
LIKELY = 0.5  # a concept is where its probability is above this


@dataclass(frozen=True, eq=False)
class Subject:
    """A layer whose units are changed at places, and the segmenter that says what became of the images.

    Attributes:
        sampling: how codes are drawn from seeds; with one class for all, some in turn, or each seed's own.
        tiles: the places.
    """

    generator: Generator
    segmenter: Segmenter
    layer: Layer
    sampling: Sampling
    tiles: Tiles

    @classmethod
    def of(
        cls, generator: Generator, segmenter: Segmenter, layer: str, sampling: Sampling, side: int | None
    ) -> Subject:
        """Return the subject of a layer's name; GanatomyError if there is no such layer, or it has no map."""
        place = generator.layer(layer)
        if not isinstance(sampling.classes, (int, np.integer, InTurn, type(None))):
            raise GanatomyError("expected one class for all images, InTurn, or none for each seed's own")
        return cls(generator, segmenter, place, sampling, Tiles.of(*place.seen, side, place.margin))

    @property
    def at_once(self) -> int:
        """How many images are made in one pass."""
        return int(np.clip(PIXELS_AT_ONCE // self.generator.resolution**2, 1, MOST_AT_ONCE))

    def codes(self, seeds: Sequence[int]) -> Codes:
        """Return the codes of seeds."""
        s = self.sampling
        return self.generator.sample(list(seeds), s.classes, s.truncation, s.cutoff, s.noise)

    def captures(self, seeds: Sequence[int]) -> Iterator[tuple[Sequence[int], Capture]]:
        """Yield seeds and what their pass held at the layer, a batch at a time."""
        for batch in parts(seeds, self.at_once):
            yield batch, self.capture(batch)

    def capture(self, seeds: Sequence[int]) -> Capture:
        """Return images and features of seeds from one pass."""
        return self.generator.capture(self.codes(seeds), self.layer.name)

    def features(self, capture: Capture) -> Tensor:
        """Return the layer's features [N, U, h, w], before any edit."""
        return capture.features[self.layer.name]

    def rows(self, capture: Capture, rows: Sequence[int]) -> Capture:
        """Return some rows of a capture, in any order and as often as asked; without images, which are made anew."""
        index = torch.as_tensor(list(rows), dtype=torch.long)

        def picked(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index.to(value.device)]

        stage, state = capture.restarts[self.layer.name]
        chosen = self.features(capture)[index.to(self.features(capture).device)]
        # Most families restart from the features themselves; these are not copied twice.
        x = chosen if state.x is self.features(capture) else picked(state.x)
        again = replace(state, codes=state.codes[list(rows)], x=x, skip=picked(state.skip))
        nothing = capture.images[:0]
        return Capture(nothing, {self.layer.name: chosen}, capture.edits, {self.layer.name: (stage, again)})

    def resume(self, capture: Capture, features: Tensor, gradient: bool = False) -> Tensor:
        """Return the images [N, 3, R, R] that changed features of a capture make."""
        return self.generator.resume(capture, self.layer.name, features, gradient=gradient)

    def header(self, *inputs: ArrayLike) -> dict[str, Any]:
        """Return what identifies generator, segmenter, layer and ``inputs``, as JSON; ``how`` does not identify."""
        g, s = self.generator, self.segmenter
        return {
            "generator": {"name": g.name, "family": g.family, "fingerprint": g.fingerprint},
            "segmenter": {"name": s.name, "sha256": s.sha256},
            "layer": self.layer.name,
            "sampling": asdict(self.sampling),
            "tile": self.tiles.side,
            "concepts": [[c.name, c.category, c.plane] for c in s.concepts],
            "inputs": _digest(inputs),
            "how": {"device": g.device.type, "versions": versions()},
        }


def concept_of(segmenter: Segmenter, concept: str | int) -> int:
    """Return the index of a concept; GanatomyError with the nearest names, or for unlabelled, which is none."""
    names = [c.name for c in segmenter.concepts]
    if isinstance(concept, (int, np.integer)) and not isinstance(concept, bool):
        index = int(concept)
    else:
        index = names.index(concept) if concept in names else -1
    if not 0 < index < len(names):
        raise unknown_name("concept", str(concept), names[1:])
    return index


def values_of(values: ArrayLike | Tensor, count: int, what: str) -> NDArray[np.float32]:
    """Return float32 [count] of numbers; GanatomyError for another number of them, or any that is not finite."""
    try:
        given = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        array = np.array(given, np.float32)
    except (TypeError, ValueError) as error:
        raise GanatomyError(f"expected {what} as {count} numbers, got {type(values).__name__}") from error
    if array.shape != (count,):
        raise GanatomyError(f"expected {what} as {count} numbers, one for each unit, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise GanatomyError(f"expected {what} without NaN or infinite numbers")
    return array


def seeds_of(seeds: Sequence[int] | int, what: str) -> list[int]:
    """Return seeds as a list; GanatomyError if there are none, or one comes twice."""
    chosen = check_seeds(seeds)
    if len(set(chosen)) < len(chosen):
        raise GanatomyError(f"{what} repeat; each is one image")
    return list(chosen)


def parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield values in runs of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _digest(inputs: Sequence[ArrayLike]) -> str:
    """Return 16 hex digits over arrays."""
    digest = hashlib.sha256()
    for given in inputs:
        array = np.ascontiguousarray(given)
        digest.update(f"{array.dtype.str}{list(array.shape)}".encode() + array.tobytes())
    return digest.hexdigest()[:16]
