"""Images of any seeds with and without some units, drawn while somebody looks.

A :class:`Studio` is a run and its generator. It keeps, seed by seed, what a pass held at the layer that is looked at: a
changed edit runs only what comes after, and the next seed is one pass. Seeds are drawn one by one, so that an image
does not depend on which others are asked for. :class:`Live` has the studios of all runs, on the worker's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dissect import Codes, Edit, Generator, Run, WeightEdit, ablate
from dissect.generators import Capture
from dissect.generators.codes import check_seeds
from dissect.pictures import to_bytes
from segmodels import GanatomyError

from .masks import above
from .redrawn import how_drawn
from .weights import Weights
from .worker import Worker

CAPTURES_BYTES, IMAGES_BYTES = 512 << 20, 128 << 20  # kept per studio
STUDIOS_KEPT = 3
MOST_SEEDS = 12  # in one request

Bytes = NDArray[np.uint8]
K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key, the least recently used dropped when they take more than ``room`` bytes together."""

    def __init__(self, room: int, size: Callable[[V], int]) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._room, self._size, self._taken = room, size, 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, made if it is not there; the newest is kept whatever it takes."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        self._taken += self._size(value)
        while self._taken > self._room and len(self._values) > 1:
            self._taken -= self._size(self._values.popitem(last=False)[1])
        return value

    def __len__(self) -> int:
        return len(self._values)


class Studio:
    """A run's generator at work; one thread at a time."""

    def __init__(self, run: Run, generator: Generator) -> None:
        self.run, self.generator = run, generator
        self._order = {layer.name: index for index, layer in enumerate(generator.layers)}
        self._captures: Kept[tuple[str, int | str], Capture] = Kept(CAPTURES_BYTES, _bytes_of)
        self._images: Kept[tuple[int, tuple[Edit, ...]], Bytes] = Kept(IMAGES_BYTES, lambda image: image.nbytes)

    def images(self, seeds: Sequence[int], edits: Sequence[Edit] = (), layer: str | None = None) -> Bytes:
        """Return images uint8 [N, R, R, 3] of seeds, drawn as those of the run were, with edits applied.

        Args:
            seeds: of a run of explicit latents, their indices.
            edits: as in ``Generator.__call__``; those without effect are left out.
            layer: the first layer that edits will act on, where what a pass holds is kept; default: the first edit's.

        Raises:
            GanatomyError: for seeds, layers or units that there are not.
        """
        active = tuple(edit for edit in edits if not edit.idle)
        names = [self.generator.layer(edit.layer).name for edit in active]
        place = self._before(names, active) if names else self.generator.layer(layer or self.run.layers[0]).name

        def image(seed: int) -> Bytes:
            return self._images.get((seed, active), lambda: to_bytes(self._drawn(seed, place, active)))

        return np.stack([image(seed) for seed in check_seeds(seeds)])

    def _before(self, names: Sequence[str], edits: Sequence[Edit]) -> str:
        """Return the layer at which a pass with edits at layers ``names`` is best begun: the first of them.

        An edit of weights changes what makes its layer, and so the last layer of an earlier stage is better.
        """
        first = min(names, key=lambda name: self._order[name])
        if not any(isinstance(edit, WeightEdit) for name, edit in zip(names, edits, strict=True) if name == first):
            return first
        stage = self.generator.layer(first).stage
        earlier = [layer.name for layer in self.generator.layers if layer.stage < stage and layer.kind != "style"]
        return earlier[-1] if earlier else first

    def _drawn(self, seed: int, place: str, edits: tuple[Edit, ...]) -> NDArray[np.float32]:
        """Return float32 [3, R, R] of a seed; what comes before the layer ``place`` is not computed twice."""
        capture = self.capture(place, seed)
        images = self.generator.resume(capture, place, edits=edits) if edits else capture.images
        return images[0].cpu().numpy()

    def maps(self, layer: str, unit: int, seeds: Sequence[int]) -> NDArray[np.float32]:
        """Return a unit's maps float32 [N, h, w] on seeds."""
        place = self.generator.layer(layer)
        if not 0 <= unit < place.channels:
            raise GanatomyError(f"layer {layer!r} has units 0..{place.channels - 1}, got {unit}")
        captures = [self.capture(place.name, seed) for seed in check_seeds(seeds)]
        return np.stack([place.cropped(c.features[place.name])[0, unit].float().cpu().numpy() for c in captures])

    def capture(self, layer: str, seed: int | str, codes: Codes | None = None) -> Capture:
        """Return what a pass of one seed holds at a layer; or of given codes, under a name that only they have."""

        def make() -> Capture:
            given = self.codes(check_seeds(seed)[0]) if codes is None else codes  # type: ignore[arg-type]
            return self.generator.capture(given, layer)

        return self._captures.get((layer, seed), make)

    def codes(self, seed: int) -> Codes:
        """Return the codes of one seed as the run draws them; of a run of explicit latents, those it keeps."""
        samples = self.run.manifest["samples"]
        if "codes_sha256" in samples:
            return self._stored(seed)
        return self.generator.sample([seed], **self._how)

    @cached_property
    def _how(self) -> dict[str, Any]:
        return how_drawn(self.run)

    def _stored(self, index: int) -> Codes:
        if not 0 <= index < self.run.samples:
            raise GanatomyError(f"this run is of given latents, 0 to {self.run.samples - 1}; got {index}")
        reader, samples = self.run.reader, self.run.manifest["samples"]
        z, w, classes, noise = (
            torch.from_numpy(reader.read(f"samples/{name}", slice(index, index + 1)))
            if f"samples/{name}" in reader
            else None
            for name in ("z", "w", "class", "noise_seed")
        )
        return Codes(z, w, classes, noise, samples["truncation"], samples["cutoff"])


@dataclass(frozen=True, eq=False)
class Shown:
    """A unit on some seeds, with and without it.

    Attributes:
        seeds: N of them. before, after: uint8 [N, R, R, 3].
        masks: where the unit is on, bool [N, R, R].
        change: mean absolute difference of each image, as a share of full scale, [N].
    """

    seeds: tuple[int, ...]
    before: Bytes
    after: Bytes
    masks: NDArray[np.bool_]
    change: NDArray[np.float64]


class Live:
    """What needs the weights, for every run whose weights are here. May be called from any thread."""

    def __init__(self, weights: Weights, worker: Worker) -> None:
        self.weights, self.worker = weights, worker
        self._studios: OrderedDict[str, Studio] = OrderedDict()  # touched by the worker's thread alone

    def reason(self, run: Run) -> str:
        """Say in a line why nothing can be drawn of a run, "" if it can as far as is known without opening it."""
        return self.weights.reason(run)

    def unit(
        self, run: Run, layer: str, unit: int, seeds: Sequence[int], strength: float, level: float,
        channel: object = None, turn: float | None = None,
    ) -> Shown:  # fmt: skip
        """Draw seeds with and without a unit.

        Args:
            run: whose. layer, unit: which.
            seeds: at most 12. strength: how much of the unit is taken away, 0 to 1.
            level: the activation above which it is on.
            channel, turn: as in :meth:`Worker.ask`.

        Raises:
            Superseded: if a later turn made it needless.
            GanatomyError: if the weights are not here, or for what is not in the run.
        """
        chosen = check_seeds(seeds)
        if len(chosen) > MOST_SEEDS:
            raise GanatomyError(f"expected at most {MOST_SEEDS} seeds at once, got {len(chosen)}")
        if not 0 <= unit < run.layer(layer).units_count:
            raise GanatomyError(f"layer {layer!r} has no unit {unit}")
        edit = ablate(layer, [unit], strength)

        def draw() -> tuple[Bytes, Bytes, NDArray[np.float32]]:
            studio = self.studio(run)
            maps = studio.maps(layer, unit, chosen)
            return studio.images(chosen, layer=layer), studio.images(chosen, [edit]), maps

        before, after, maps = self.worker.ask(draw, channel, turn)
        change = np.abs(after.astype(np.int16) - before).mean((1, 2, 3)) / 255
        return Shown(chosen, before, after, above(maps, level, *before.shape[1:3]), change)

    def edited(
        self, run: Run, seeds: Sequence[int], edits: Sequence[Edit], channel: object = None, turn: float | None = None
    ) -> tuple[Bytes, Bytes]:
        """Return images uint8 [N, R, R, 3] of seeds as they are, and with edits. As :meth:`unit`."""
        chosen = check_seeds(seeds)
        if len(chosen) > MOST_SEEDS:
            raise GanatomyError(f"expected at most {MOST_SEEDS} seeds at once, got {len(chosen)}")

        def draw() -> tuple[Bytes, Bytes]:
            studio = self.studio(run)
            return studio.images(chosen), studio.images(chosen, studio.generator.check_edits(edits))

        return self.worker.ask(draw, channel, turn)

    def studio(self, run: Run) -> Studio:
        """Return the studio of a run; on the worker's thread only."""
        generator = self.weights.of(run)
        known = self._studios.get(run.id)
        if known is None or known.generator is not generator:
            known = self._studios[run.id] = Studio(run, generator)
        self._studios.move_to_end(run.id)
        while len(self._studios) > STUDIOS_KEPT:
            self._studios.popitem(last=False)
        return known


def _bytes_of(capture: Capture) -> int:
    """Return what a capture takes in memory: images, features, and the states at which it restarts."""
    states = [state for _, state in capture.restarts.values()]
    tensors = {id(t): t for t in [capture.images, *capture.features.values()]}
    tensors |= {id(t): t for state in states for t in (state.x, state.skip) if t is not None}
    return sum(t.numel() * t.element_size() for t in tensors.values())
