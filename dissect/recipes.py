"""Recipes: edits in order, tied to the generator they were made for, saved as one file.

A recipe is a safetensors file. Its header holds the edits as JSON; masks, values, strengths that differ between units
and the factors of edits of weights are its tensors. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import safetensors
from safetensors.numpy import load, save

from segmodels import GanatomyError
from segmodels.files import one_line

from .disk import replacing
from .edit_values import Floats, as_mask
from .edits import Edit, FeatureEdit, Source
from .tables import table
from .weight_edits import WeightEdit

if TYPE_CHECKING:
    from .generators import Generator
    from .generators.layers import Layer

FORMAT, VERSION = "ganatomy.recipe", 2  # 1: without edits of weights
LENGTH = 8  # bytes at the start of a safetensors file that say how long its header is
TENSOR = re.compile(r"\d+\.(strength|mask|values|left|right)")  # a bundle is a recipe's file with more in it


@dataclass(frozen=True)
class Maker:
    """The generator that a recipe is for: its fingerprint, its name for people, and a hash of its layers' names.

    The same weights have other layer names in another file layout; there the recipe would mean other layers.
    """

    fingerprint: str
    name: str
    layers: str


@dataclass(frozen=True, init=False)
class Recipe(Sequence[Edit]):
    """Edits that are done in order. Equal recipes do the same; a recipe can be a key.

    Args:
        edits: in order.
        generator: what they are for. Another generator refuses the recipe; without it any takes it.

    Attributes:
        edits: as given, with the generator's own layer names.
        maker: which generator they are for, or None.
    """

    edits: tuple[Edit, ...]
    maker: Maker | None

    def __init__(self, edits: Iterable[Edit] | Edit, generator: Generator | None = None) -> None:
        chosen = (edits,) if isinstance(edits, Edit) else tuple(edits)
        maker = edits.maker if isinstance(edits, Recipe) else None
        if generator is not None:
            if isinstance(edits, Recipe):
                edits.check(generator)
            chosen = generator.check_edits(chosen)
            maker = Maker(generator.fingerprint, generator.name, names_of(generator.layers))
        object.__setattr__(self, "edits", chosen)
        object.__setattr__(self, "maker", maker)

    def __len__(self) -> int:
        return len(self.edits)

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Edit]: ...
    def __getitem__(self, index: int | slice) -> Edit | Sequence[Edit]:
        """Return an edit; a slice is a recipe for the same generator."""
        return self._with(self.edits[index]) if isinstance(index, slice) else self.edits[index]

    def _repr_html_(self) -> str:
        """Return its edits in order: what, where, which units."""
        rows = [
            {
                "edit": type(edit).__name__, "layer": edit.layer, "units": getattr(edit, "units", None),
                "strength": edit.strength,
            }
            for edit in self.edits
        ]  # fmt: skip
        return table(rows, f"Recipe for {self.maker.name}" if self.maker else "Recipe for any generator")

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)

    def __add__(self, other: Iterable[Edit] | Edit) -> Recipe:
        """Return the recipe that does ``other`` after this; GanatomyError if they are for two generators."""
        theirs = Recipe(other)
        if self.maker and theirs.maker and self.maker != theirs.maker:
            raise GanatomyError(f"a recipe for {self.maker.name} and one for {theirs.maker.name} cannot be one recipe")
        both = self._with((*self.edits, *theirs.edits))
        object.__setattr__(both, "maker", self.maker or theirs.maker)
        return both

    def forced(self) -> Recipe:
        """Return the same edits for any generator that has the layers."""
        return Recipe(self.edits)

    def check(self, generator: Generator) -> None:
        """Raise GanatomyError if the recipe is for another generator."""
        if self.maker is None:
            return
        if self.maker.fingerprint != generator.fingerprint:
            raise GanatomyError(
                f"the recipe is for {self.maker.name} ({self.maker.fingerprint[:12]}), not for {generator.name} "
                f"({generator.fingerprint[:12]}); recipe.forced() (--force) applies it all the same"
            )
        if self.maker.layers != names_of(generator.layers):
            raise GanatomyError(
                f"the recipe names the layers as in {self.maker.name}; {generator.name} has the same weights, but "
                f"other layer names"
            )

    @property
    def id(self) -> str:
        """16 hex digits over all that the recipe does."""
        header, tensors = self.contents()
        told = [{key: value for key, value in entry.items() if key != "provenance"} for entry in header["edits"]]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for key, array in sorted(tensors.items()):
            digest.update(f"{key}{list(array.shape)}".encode() + array.tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> Path:
        """Write the recipe to one file, whole or not at all, and return its path."""
        with replacing(Path(path)) as disk:
            disk.write(self.data())
        return Path(path)

    def data(self) -> bytes:
        """Return the recipe's file."""
        header, tensors = self.contents()
        return save(tensors, {"recipe": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe; GanatomyError if the file is none, is damaged, or comes from a newer version."""
        return cls.of(*_read(Path(path)), str(path))

    @classmethod
    def parse(cls, data: bytes, file: str) -> Recipe:
        """Return the recipe of a file's bytes; GanatomyError, naming ``file``, as :meth:`load`."""
        try:
            tensors = load(data)
            head = json.loads(data[LENGTH : LENGTH + int.from_bytes(data[:LENGTH], "little")])
            header = json.loads((head.get("__metadata__") or {}).get("recipe", "null"))
        except (ValueError, RecursionError, AttributeError, TypeError, safetensors.SafetensorError) as error:
            raise GanatomyError(f"{file} is not a recipe, or is damaged: {one_line(error)}") from error
        own = {key: array for key, array in tensors.items() if TENSOR.fullmatch(key)}
        return cls.of(checked(header, file), own, file)

    @classmethod
    def of(cls, header: dict[str, Any], tensors: dict[str, np.ndarray], file: str) -> Recipe:
        """Return the recipe of a file's header and tensors; GanatomyError, naming ``file``, if they are none."""
        try:
            edits = [_edit(entry, index, tensors) for index, entry in enumerate(header["edits"])]
            recipe = cls(edits)
            maker = None if header["generator"] is None else Maker(**header["generator"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise GanatomyError(f"{file} is a damaged recipe: {type(error).__name__} {one_line(error)}") from error
        object.__setattr__(recipe, "maker", maker)
        return recipe

    def _with(self, edits: tuple[Edit, ...]) -> Recipe:
        made = Recipe(edits)
        object.__setattr__(made, "maker", self.maker)
        return made

    def contents(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the header and the tensors of the recipe's file."""
        entries: list[dict[str, Any]] = []
        tensors: dict[str, np.ndarray] = {}
        for index, edit in enumerate(self.edits):
            if isinstance(edit, WeightEdit):
                entries.append(edit.described())
                tensors |= {f"{index}.left": edit.left, f"{index}.right": edit.right}
                continue
            entry: dict[str, Any] = {"layer": edit.layer, "units": list(edit.units)}
            if isinstance(edit.strength, tuple):
                tensors[f"{index}.strength"] = np.array(edit.strength, np.float64)
            else:
                entry["strength"] = edit.strength
            if edit.mask is not None:
                tensors[f"{index}.mask"] = edit.mask
            if isinstance(edit.values, Source):
                entry["source"] = {"seed": edit.values.seed, "draw": edit.values.draw}
            elif edit.values is not None:
                tensors[f"{index}.values"] = edit.values
            entries.append(entry)
        maker = None if self.maker is None else vars(self.maker)
        version = VERSION if any(isinstance(edit, WeightEdit) for edit in self.edits) else 1
        return {"format": FORMAT, "version": version, "generator": maker, "edits": entries}, tensors


def names_of(layers: Sequence[Layer]) -> str:
    """Return 16 hex digits over the names and sizes of a generator's layers, in order."""
    listed = [[layer.name, layer.channels, layer.height, layer.width] for layer in layers]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise GanatomyError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            header = json.loads((file.metadata() or {}).get("recipe", "null"))
            own = [key for key in file.keys() if TENSOR.fullmatch(key)]  # noqa: SIM118 (it is no dict)
            tensors = {key: file.get_tensor(key) for key in own}
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise GanatomyError(f"{path} is not a recipe, or is damaged: {one_line(error)}") from error
    return checked(header, str(path)), tensors


def checked(header: object, file: str) -> dict[str, Any]:
    """Return the header of a recipe; GanatomyError, naming ``file``, if it is none or of a newer version."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise GanatomyError(f"{file} is a safetensors file, but no recipe")
    if not isinstance(header.get("version"), int) or header["version"] > VERSION:
        raise GanatomyError(f"{file} has recipe version {header.get('version')}, this ganatomy reads {VERSION}")
    return header


def _edit(entry: dict[str, Any], index: int, tensors: dict[str, np.ndarray]) -> Edit:
    if "weight" in entry:
        return WeightEdit(
            str(entry["layer"]), str(entry["weight"]), tensors[f"{index}.left"], tensors[f"{index}.right"],
            bool(entry["transposed"]), float(entry["strength"]), dict(entry.get("provenance") or {}),
        )  # fmt: skip
    units = tuple(int(unit) for unit in entry["units"])
    per_unit = tensors.get(f"{index}.strength")
    strength = float(entry["strength"]) if per_unit is None else tuple(per_unit.tolist())
    values: Floats | Source | None = None
    if "source" in entry:
        values = Source(**entry["source"])
    elif f"{index}.values" in tensors:
        values = np.array(tensors[f"{index}.values"], np.float32)
        values.flags.writeable = False
    return FeatureEdit(str(entry["layer"]), units, strength, as_mask(tensors.get(f"{index}.mask")), values)
