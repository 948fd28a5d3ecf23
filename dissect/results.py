"""A finished dissection, read only. Every number is computed from the stored counts when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segmodels import Concept, GanatomyError
from segmodels.errors import unknown_name

from . import agreement
from .layer_result import LayerResult, TopSample
from .manifest import Manifest
from .notes import Notes, notes_path, read_notes
from .store import Reader
from .tables import table

if TYPE_CHECKING:
    from .effects.stored import Results

__all__ = ["LayerResult", "Run", "TopSample"]


class Run:
    """A finished dissection in one HDF5 file.

    Attributes:
        path: of the file; id: of the run; manifest: what determined it.
        concepts: as in the segmenter. samples: N. layers: names, in the order they were asked for.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.reader = Reader(self.path)
        if not self.reader.attributes.get("complete"):
            raise GanatomyError(f"{self.path} is unfinished; run the same dissect command to resume it")
        self.manifest: Manifest = self.reader.json("manifest")
        try:
            self.id = str(self.reader.attributes["id"])
            self.seconds = float(self.reader.attributes["seconds"])
            self.created = str(self.reader.attributes["created"])
            self.layers = list(self.manifest["layers"])
            self.samples = int(self.manifest["samples"]["count"])
            rows = (self.reader.read(f"concepts/{name}") for name in ("name", "category", "plane"))
            self.concepts = [Concept(str(n), str(c), int(p)) for n, c, p in zip(*rows, strict=True)]
        except (KeyError, TypeError, ValueError) as error:
            raise GanatomyError(f"{self.path} is damaged: it does not say what was dissected") from error
        self.first_plane = np.array([i == 0 or c.plane == 0 for i, c in enumerate(self.concepts)])
        self._layers: dict[str, LayerResult] = {}

    def __repr__(self) -> str:
        g, s = self.manifest["generator"]["name"], self.manifest["segmenter"]["name"]
        return f"<Run {self.path}: {g} by {s}, {self.samples} samples, layers {', '.join(self.layers)}>"

    def _repr_html_(self) -> str:
        """Return what it is of, and for each layer how many units are labelled."""
        rows = [
            {
                "layer": name, "map": f"{layer.height} x {layer.width}", "units": layer.units_count,
                "labelled": int((layer.label > 0).sum()), "by_chance": int((layer.chance_label > 0).sum()),
            }
            for name, layer in ((name, self.layer(name)) for name in self.layers)
        ]  # fmt: skip
        generator, segmenter = self.manifest["generator"]["name"], self.manifest["segmenter"]["name"]
        return table(rows, f"{generator} by {segmenter} · {self.samples:,} samples")

    @cached_property
    def concept_area(self) -> NDArray[np.int64]:
        """Pixels of each concept in each sample, [N, C]."""
        return self.reader.read("samples/concept_area")

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        """The samples' seeds, [N]; for explicit latents and pictures their index."""
        return self.reader.read("samples/seed")

    @property
    def pixels_per_image(self) -> int:
        """Number of counted pixels in an image."""
        height, width = self.manifest["labels"]
        return int(height * width)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """Which concepts are frequent enough to be judged, [C]."""
        return agreement.judged_concepts(self.concept_area, self.pixels_per_image)

    def concept_index(self, concept: str | int) -> int:
        """Return the index of a concept given by name or index; GanatomyError with the nearest names otherwise."""
        names = [c.name for c in self.concepts]
        if isinstance(concept, (int, np.integer)) and 0 <= concept < len(names):
            return int(concept)
        if concept not in names:
            raise unknown_name("concept", str(concept), names[1:])
        return names.index(str(concept))

    def layer(self, name: str) -> LayerResult:
        """Return the numbers of one layer; GanatomyError with the nearest names otherwise."""
        if name not in self.layers:
            raise unknown_name("layer", name, self.layers)
        if name not in self._layers:
            self._layers[name] = LayerResult(self, name)
        return self._layers[name]

    def table(self) -> list[dict[str, Any]]:
        """Return one row per unit of every layer: its best concept, labelled or not, with all numbers."""
        return [self.layer(name).row(unit) for name in self.layers for unit in range(self.layer(name).units_count)]

    def notes(self) -> Notes:
        """Return the tags and notes that people gave to units, by (layer, unit), as they are now.

        Raises:
            GanatomyError: if ``run.notes.json`` is damaged or another run's.
        """
        return read_notes(notes_path(self.path), self.id)

    @property
    def effects(self) -> Results:
        """What edits were found to cause, by key, from ``run.effects.h5`` as it is now; empty if there is none.

        Raises:
            GanatomyError: if the file is damaged, from a newer version, or another run's.
        """
        from .effects.stored import read  # it reads and writes what this module defines

        return read(self)

    def thumbnails(self) -> Iterator[tuple[int, bytes]]:
        """Yield (seed, encoded image) of every sample that is a top sample or an example of some unit."""
        offset, data = self.reader.read("thumbnails/offset"), self.reader.read("thumbnails/data")
        for index, seed in enumerate(self.reader.read("thumbnails/seed")):
            yield int(seed), data[offset[index] : offset[index + 1]].tobytes()
