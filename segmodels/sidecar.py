"""The file beside an smp model that says what its classes are called and what it wants to see.

segmentation-models-pytorch stores neither class names nor preprocessing. ``ganatomy.json``, in the model's folder,
does::

    {"concepts": ["sky", "tree", null],        one name per output class; null: that class is "unlabelled"
     "categories": ["nature", "nature", null], optional: a list as long, or one string for all
     "mean": [0.485, 0.456, 0.406],            subtracted from images in [0, 1], per channel R, G, B
     "std": [0.229, 0.224, 0.225],             then divided by
     "input_size": 256}                        the image is resized to this, or to [height, width]
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .base import UNLABELLED, Concept
from .errors import GanatomyError
from .files import read_json

SIDECAR_FILE = "ganatomy.json"
REQUIRED = ("concepts", "mean", "std", "input_size")
OPTIONAL = ("categories", "source")

_SHIPPED = Path(__file__).parent / "sidecars"
_SIZE = re.compile(r"(?<![0-9])(\d{2,4})x(\d{2,4})(?![0-9])")


@dataclass(frozen=True)
class Sidecar:
    """Names and preprocessing of an smp model.

    Attributes:
        concepts: one name per output class; None is "unlabelled".
        categories: as long; "" where there is none.
        mean, std: per channel R, G, B, for images in [0, 1].
        input_size: height and width in pixels of what the model sees.
    """

    concepts: tuple[str | None, ...]
    categories: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]

    @property
    def named(self) -> list[Concept]:
        """Concepts for a Segmenter: "unlabelled", then the named classes in order."""
        pairs = zip(self.concepts, self.categories, strict=True)
        return [UNLABELLED, *(Concept(name, category) for name, category in pairs if name is not None)]

    @property
    def label_of_class(self) -> list[int]:
        """Index into :attr:`named` of every output class; 0 for the unnamed ones."""
        labels, used = [], 0
        for name in self.concepts:
            used += name is not None
            labels.append(used if name is not None else 0)
        return labels

    def canonical(self) -> str:
        """Text that is equal for equal sidecars, for hashing."""
        return json.dumps(asdict(self), sort_keys=True)


def read_sidecar(path: Path) -> Sidecar:
    """Read and check a sidecar. Raises GanatomyError that names the missing or wrong key."""
    if not path.is_file():
        raise GanatomyError(
            f"no {SIDECAR_FILE} in {path.parent}: put one there, a JSON object with {', '.join(REQUIRED)} (optional:"
            " categories), since smp models store no class names"
        )
    data = read_json(path)
    if not isinstance(data, dict):
        raise GanatomyError(f"{path}: expected a JSON object, got {type(data).__name__}")
    if missing := [key for key in REQUIRED if key not in data]:
        raise GanatomyError(f"{path} lacks {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    if unknown := sorted(data.keys() - {*REQUIRED, *OPTIONAL}):
        raise GanatomyError(f"{path}: unknown key {', '.join(unknown)}; known are {', '.join(REQUIRED + OPTIONAL)}")
    concepts = _names(data["concepts"], path)
    sidecar = Sidecar(
        concepts=concepts,
        categories=_categories(data.get("categories", ""), len(concepts), path),
        mean=_channels(data["mean"], "mean", path),
        std=_channels(data["std"], "std", path),
        input_size=_size(data["input_size"], path),
    )
    if min(sidecar.std) <= 0:
        raise GanatomyError(f"{path}: std must be positive, got {list(sidecar.std)}")
    return sidecar


def shipped_sidecar(hub_id: str, architecture: str) -> Sidecar | None:
    """Return the sidecar that comes with this package for a hub id, or None.

    Known are the SegFormer and UPerNet models of ADE20K ("ade" in the id, and ``smp-hub/upernet-*``) and of
    Cityscapes ("city" in the id). Others, DPT for one, want other preprocessing, so a matching name alone is not
    enough. ``HxW`` in the id sets the input size.
    """
    words = set(re.split(r"[^a-z0-9]+", hub_id.lower()))
    if architecture not in ("Segformer", "UPerNet"):
        return None
    if words & {"ade", "ade20k"} or hub_id.lower().startswith("smp-hub/upernet-"):
        sidecar = read_sidecar(_SHIPPED / "ade20k.json")
    elif words & {"city", "cityscapes"}:
        sidecar = read_sidecar(_SHIPPED / "cityscapes.json")
    else:
        return None
    if size := _SIZE.search(hub_id):
        return replace(sidecar, input_size=(int(size.group(1)), int(size.group(2))))
    return sidecar


def _names(value: Any, path: Path) -> tuple[str | None, ...]:
    if not isinstance(value, list) or not all(v is None or (isinstance(v, str) and v.strip()) for v in value):
        raise GanatomyError(f"{path}: concepts must be a list of names (null for an unlabelled class)")
    names = [v for v in value if v is not None]
    if not names:
        raise GanatomyError(f"{path}: concepts names no class")
    if UNLABELLED.name in names:
        raise GanatomyError(f"{path}: write null instead of {UNLABELLED.name!r} in concepts")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise GanatomyError(f"{path}: concepts repeat: {', '.join(twice[:5])}")
    return tuple(value)


def _categories(value: Any, count: int, path: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) * count
    if not isinstance(value, list) or len(value) != count or not all(v is None or isinstance(v, str) for v in value):
        raise GanatomyError(f"{path}: categories must be one string or a list of {count}, as long as concepts")
    return tuple(v or "" for v in value)


def _channels(value: Any, key: str, path: Path) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v) for v in value):
        raise GanatomyError(f"{path}: {key} must be three numbers (R, G, B, for images in [0, 1]), got {value!r}")
    if max(value) > 2:  # the other convention in use is 0..255
        raise GanatomyError(f"{path}: {key} is for images in [0, 1], got {value!r}; divide by 255")
    return tuple(float(v) for v in value)


def _size(value: Any, path: Path) -> tuple[int, int]:
    pair = [value, value] if isinstance(value, int) else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(v) is int and v > 0 for v in pair):
        raise GanatomyError(f"{path}: input_size must be pixels or [height, width], got {value!r}")
    return pair[0], pair[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
