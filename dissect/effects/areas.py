"""How much of each image every concept covers, with and without edits.

Samples are generated once, up to the first layer that any edit acts on; from there on everything is run again from
what the pass held there (:meth:`Generator.resume`). Several batches, or several edits of one, are made side by side.
"""

from __future__ import annotations

import collections.abc
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segmodels import Concept, GanatomyError, Segmenter
from segmodels.errors import unknown_name
from segmodels.masks import Masks

from ..ahead import ahead
from ..edits import Edit, Source
from ..exactness import division, reproducibly
from ..generators import Capture, Codes, Generator
from ..generators.others import others
from ..job import CPU_BATCH, GPU_BATCH
from ..manifest import versions
from ..recipes import Recipe
from ..samples import Samples, Sampling
from ..weight_edits import WeightEdit

Int64 = NDArray[np.int64]
Item = TypeVar("Item")
Made = TypeVar("Made")
Progress = Callable[[int, int], None]
Side: TypeAlias = "collections.abc.Generator[Made, None, None]"


def pixels_of(labels: Tensor, concepts: int) -> Int64:
    """Return the pixels of each concept in each image, [N, C], of labels [N, K, h, w].

    Column 0 counts what plane 0 leaves unlabelled, so that column 0 and plane 0's concepts sum to all pixels.
    """
    samples, planes = labels.shape[:2]
    offset = concepts * torch.arange(samples * planes, device=labels.device)
    index = labels.reshape(samples * planes, -1).long() + offset[:, None]
    areas = torch.bincount(index.flatten(), minlength=samples * planes * concepts).reshape(samples, planes, concepts)
    areas[:, 1:, 0] = 0
    return areas.sum(1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Unedited:
    """A batch of samples as they are.

    Attributes:
        start, stop: which of the samples.
        capture: what the pass held at the layer from which on edits are run.
        area: pixels of each concept, [n, C].
    """

    start: int
    stop: int
    capture: Capture
    area: Int64


class Bench:
    """A generator, a segmenter and samples, ready to be looked at with and without edits.

    Args:
        generator: whose images. segmenter: what reads them.
        seeds: of the samples, or their codes.
        layer: the first layer that is edited.
        sampling: how codes are drawn from seeds.
        batch: samples in one pass. threads: CPU threads; default: as many as torch has.

    Attributes:
        pixels: pixels that every plane labels in each image, once an image was read.

    Raises:
        GanatomyError: for an unknown layer, seeds that repeat, a segmenter that does not look at the images.
    """

    def __init__(
        self,
        generator: Generator,
        segmenter: Segmenter,
        seeds: Sequence[int] | Codes,
        layer: str,
        sampling: Sampling,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value in (("batch", batch), ("threads", threads)):
            if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
                raise GanatomyError(f"expected a positive {name} (a whole number), got {value!r}")
        if any(isinstance(part, Masks) for part in getattr(segmenter, "parts", [segmenter])):
            raise GanatomyError(f"segmenter {segmenter.name!r} looks labels up and no image; no edit can change them")
        if isinstance(seeds, Codes) and sampling != Sampling():
            raise GanatomyError("codes say it all; classes, truncation, cutoff and noise go with seeds")
        self.generator, self.segmenter = generator, segmenter
        given = {"codes": seeds} if isinstance(seeds, Codes) else {"seeds": seeds}
        self.samples = Samples(generator, sampling=sampling, **given)
        self.layer = generator.layer(layer).name
        self.concepts = tuple(segmenter.concepts)
        on_cpu = generator.device.type == "cpu"
        self.batch = min(int(batch or (CPU_BATCH if on_cpu else GPU_BATCH)), len(self.samples))
        self.threads = int(threads or torch.get_num_threads())
        self.pixels = 0
        apart = division(self.threads) if on_cpu and segmenter.concurrent else 1
        self._workers = generator.replicas(apart)

    def __len__(self) -> int:
        return len(self.samples)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Share the threads out among what is made side by side, within the block."""
        with reproducibly(max(1, self.threads // len(self._workers))):
            yield

    def bounds(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of each batch."""
        return ((i, min(i + self.batch, len(self.samples))) for i in range(0, len(self.samples), self.batch))

    def unedited(self, generator: Generator, start: int, stop: int) -> Unedited:
        """Generate and read samples start..stop-1."""
        capture = generator.capture(self.samples.codes(start, stop, generator), self.layer)
        return Unedited(start, stop, capture, self.read(capture.images, range(start, stop)))

    def read(self, images: Tensor, which: Sequence[int]) -> Int64:
        """Return the pixels of each concept [n, C] in images of the samples ``which``."""
        return pixels_of(self.labels(images, which), len(self.concepts))

    def labels(self, images: Tensor, which: Sequence[int]) -> Tensor:
        """Return labels [n, K, h, w] of images of the samples ``which``."""
        if not torch.isfinite(images.sum()) and not torch.isfinite(images).all():
            bad = int(torch.nonzero(~torch.isfinite(images).flatten(1).all(1))[0, 0])
            raise GanatomyError(f"sample {self.samples.keys[which[bad]]}: the image holds NaN or infinite values")
        labels = self.segmenter(images, [self.samples.keys[i] for i in which])
        self.pixels = math.prod(labels.shape[2:])
        return labels

    def each(self, make: Callable[[Generator, Item], Made], items: Iterable[Item]) -> Side[Made]:
        """Yield ``make(generator, item)`` in order, several side by side; close it if it is left unfinished."""
        return ahead(make, items, self._workers)

    def described(self) -> dict[str, Any]:
        """Return the part of a result's header that says of what and by what: JSON."""
        g, s = self.generator, self.segmenter
        return {
            "generator": {"name": g.name, "family": g.family, "fingerprint": g.fingerprint},
            "segmenter": {"name": s.name, "sha256": s.sha256},
            "concepts": [[c.name, c.category, c.plane] for c in self.concepts],
            "samples": self.samples.manifest(),
            "pixels": self.pixels,
            "how": {"batch": self.batch, "device": g.device.type, "threads": self.threads, "versions": versions()},
        }

    def concept(self, wanted: str | int) -> int:
        """Return a concept's index; GanatomyError with the nearest names otherwise."""
        return concept_index(self.concepts, wanted)


def concept_index(concepts: Sequence[Concept], wanted: str | int) -> int:
    """Return the index of a concept given by name or index; GanatomyError with the nearest names otherwise."""
    names = [c.name for c in concepts]
    if isinstance(wanted, (int, np.integer)) and 0 <= wanted < len(names):
        return int(wanted)
    if wanted not in names:
        raise unknown_name("concept", str(wanted), names[1:])
    return names.index(str(wanted))


def concepts_of(header: Mapping[str, Any]) -> tuple[Concept, ...]:
    """Return the concepts of a result's header."""
    return tuple(Concept(str(name), str(category), int(plane)) for name, category, plane in header["concepts"])


def check_recipe(generator: Generator, recipe: Sequence[Edit] | Edit) -> tuple[Edit, ...]:
    """Return a recipe's edits under the generator's own layer names; GanatomyError if there are none that fit."""
    edits = generator.check_edits(recipe)
    if not edits:
        raise GanatomyError("the recipe has no edits")
    return edits


def first_layer(generator: Generator, edits: Sequence[Edit]) -> str:
    """Return the earliest layer that any of some edits acts on."""
    order = {layer.name: index for index, layer in enumerate(generator.layers)}
    return min((edit.layer for edit in edits), key=lambda name: order[name])


def described_recipe(edits: Sequence[Edit]) -> dict[str, Any]:
    """Return what a recipe does, as JSON: its id, and of each edit where it acts and what it puts in."""
    listed = []
    for edit in edits:
        if isinstance(edit, WeightEdit):
            listed.append(edit.described())
            continue
        put: Any = "zero"
        if isinstance(edit.values, Source):
            put = "another image" if edit.values.seed is None else f"seed {edit.values.seed}"
        elif edit.values is not None:
            put = "values" if edit.values.ndim == 1 else "maps"
        listed.append(
            {
                "layer": edit.layer, "units": list(edit.units), "strength": edit.strength,
                "mask": edit.mask is not None, "put": put,
            }
        )  # fmt: skip
    return {"id": Recipe(edits).id, "edits": listed}


class Put:
    """What is put in the place of single units: zero, each unit's value, or what it is in another image.

    Args:
        to: ``"zero"``, ``"other"``, one number for all units, or one for each unit of the layer, [U].
    """

    def __init__(self, generator: Generator, layer: str, to: ArrayLike | str) -> None:
        self.layer = generator.layer(layer)
        self.values: NDArray[np.float32] | None = None
        if isinstance(to, str):
            if to not in ("zero", "other"):
                raise GanatomyError(f"expected to='zero', 'other' or a value for each unit, got {to!r}")
            self.kind = to
            return
        self.kind = "values"
        try:
            given = np.array(to, np.float32)
            self.values = np.broadcast_to(given, (self.layer.channels,)).copy()
        except (TypeError, ValueError) as error:
            wanted = f"one value, or one for each of the {self.layer.channels} units of {layer!r}"
            raise GanatomyError(f"expected {wanted}, got {list(np.shape(to))}") from error
        if not np.isfinite(self.values).all():
            raise GanatomyError("expected values without NaN or infinite numbers")

    def of(self, generator: Generator, codes: Codes, features: Tensor) -> Tensor:
        """Return what is put in the place of all units, to be broadcast with features [n, U, h, w]."""
        if self.kind == "other":
            return generator.features(others(generator, codes, Source()), self.layer.name)[self.layer.name]
        axes = [1] * (features.ndim - 2)
        if self.values is None:
            return torch.zeros(1, features.shape[1], *axes, dtype=features.dtype, device=features.device)
        return torch.tensor(self.values, dtype=features.dtype, device=features.device).reshape(1, -1, *axes)


def digest(*inputs: ArrayLike) -> str:
    """Return 16 hex digits over arrays that determine a result and are too long for its header."""
    found = hashlib.sha256()
    for given in inputs:
        array = np.ascontiguousarray(given)
        found.update(f"{array.dtype.str}{list(array.shape)}".encode() + array.tobytes())
    return found.hexdigest()[:16]


def rows_of(capture: Capture, rows: Sequence[int]) -> Capture:
    """Return what a pass held of some of its samples, in the given order, repeated where they are."""
    index = torch.as_tensor(list(rows), dtype=torch.long)
    count = len(capture.images)

    def pick(value: Tensor | None) -> Tensor | None:
        return value[index.to(value.device)] if value is not None and len(value) == count else value

    restarts = {}
    for name, (stage, state) in capture.restarts.items():
        restarts[name] = stage, replace(state, codes=state.codes[list(rows)], x=pick(state.x), skip=pick(state.skip))
    features = {name: pick(value) for name, value in capture.features.items()}
    return Capture(pick(capture.images), features, capture.edits, restarts)  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    """Return a number or text as JSON has it; NaN as None."""
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value
