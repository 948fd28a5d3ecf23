"""From what a user types to a segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from .base import Planes, Segmenter
from .custom import FACTORY, adapt, load_custom
from .errors import GanatomyError, unknown_name
from .hub import HUB_ID, HUB_PREFIX
from .masks import MASKS_PREFIX, Masks


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue.

    ``name`` is what to type (capitals are to be replaced), ``concepts`` the number of names without "unlabelled"
    (None if that depends on the folder or model), ``planes`` the number of label planes, and ``needs_network`` says
    whether the first use downloads something.
    """

    name: str
    summary: str
    concepts: int | None
    planes: int
    needs_network: bool = False


Device: TypeAlias = str | torch.device


def _colors(_device: Device) -> Segmenter:
    from .colors import Colors

    return Colors()


def _planted(_device: Device) -> Segmenter:
    from .planted import Planted

    return Planted()


def _face_parts(device: Device) -> Segmenter:
    from .faces import face_parts

    return face_parts(device)


@dataclass(frozen=True)
class _BuiltIn:
    """A segmenter that comes with the package; ``entry`` says what it has, so that listing need not make it."""

    entry: Entry
    make: Callable[[Device], Segmenter]


_BUILT_IN = {
    built.entry.name: built
    for built in (
        _BuiltIn(Entry("colors", "the eleven basic colour terms, and five bands of lightness", 16, 2), _colors),
        _BuiltIn(
            Entry("face-parts", "hair, skin, brows, eyes, nose, lips, mouth, body and background of a face", 9, 1),
            _face_parts,
        ),
        _BuiltIn(
            Entry("planted", "the exact concepts of the planted generators, whose truth is known", 12, 2), _planted
        ),
    )
}

_OTHERS = (
    Entry("masks:FOLDER", "your own label PNGs, one per seed or image, with concepts.json", None, 1),
    Entry("FOLDER", "any segmentation-models-pytorch model, with ganatomy.json beside it", None, 1),
    Entry("package.module:factory", "your own code, called without arguments", None, 1),
    Entry("smp-hub/segformer-b0-512x512-ade-160k", "SegFormer-B0 (fast): 150 things of scenes", 150, 1, True),
    Entry("smp-hub/segformer-b5-640x640-ade-160k", "SegFormer-B5 (accurate): 150 things of scenes", 150, 1, True),
    Entry("smp-hub/segformer-b0-1024x1024-city-160k", "SegFormer-B0: 19 things of streets", 19, 1, True),
    Entry("hub:ORG/NAME", "any segmentation-models-pytorch model of the hub", None, 1, True),
)


def entries() -> list[Entry]:
    """Return the catalogue: the built-in segmenters first, then the forms that name a folder, a model or code."""
    return [built.entry for built in _BUILT_IN.values()] + list(_OTHERS)


def load(source: Any, device: str | torch.device = "cpu") -> Segmenter:
    """Return the segmenter that ``source`` names.

    Args:
        source: one of

            - a catalogue name: ``colors``, ``planted``;
            - ``masks:FOLDER``, label PNGs keyed by seed or file name;
            - a folder with config.json, weights and ganatomy.json: a segmentation-models-pytorch model;
            - ``hub:ORG/NAME``, or ``ORG/NAME`` where no such path exists: one from the hub;
            - ``package.module:factory``, imported (also from the working directory) and called without arguments;
            - ``a+b``, the planes of several (a path that exists is taken whole, even with a + in it);
            - a Segmenter, which is returned as it is, or an object that :class:`segmodels.custom.Custom` can wrap.

        device: where models run; labels come back on the device of the images.

    Raises:
        GanatomyError: if there is no such segmenter (the nearest names are listed) or it cannot be made.
    """
    if not isinstance(source, str | Path):
        return adapt(source, type(source).__name__)
    parts = _split(str(source))
    if len(parts) > 1:
        return Planes([_load_one(part, device) for part in parts])
    return _load_one(parts[0], device)


def _load_one(source: str, device: str | torch.device) -> Segmenter:
    if source in _BUILT_IN:
        return _BUILT_IN[source].make(device)
    if source.startswith(MASKS_PREFIX):
        return Masks(source.removeprefix(MASKS_PREFIX))
    path = Path(source)
    if source and path.exists():
        return _load_folder(path, source, device)
    if source.startswith(HUB_PREFIX) or HUB_ID.fullmatch(source):
        from .smp import SmpSegmenter

        return SmpSegmenter(source, device)
    if FACTORY.fullmatch(source):
        return load_custom(source)
    raise unknown_name("segmenter", source, [*_BUILT_IN, *(entry.name for entry in _OTHERS)])


def _load_folder(path: Path, source: str, device: str | torch.device) -> Segmenter:
    from .smp import CONFIG_FILE, SmpSegmenter

    if (path / CONFIG_FILE).is_file():
        return SmpSegmenter(source, device)
    if path.is_dir() and any(path.glob("*.png")):
        raise GanatomyError(
            f"segmenter {source!r} is a folder without {CONFIG_FILE}; for label PNGs type masks:{source}"
        )
    raise GanatomyError(f"segmenter {source!r}: expected a folder with {CONFIG_FILE}, weights and ganatomy.json")


def _split(source: str) -> list[str]:
    """Split ``a+b`` at its plus signs, except those inside a path that exists: the longest such path wins."""
    pieces = source.split("+")
    parts = []
    while pieces:
        end = len(pieces)
        while end > 1 and not _exists("+".join(pieces[:end])):
            end -= 1
        parts.append("+".join(pieces[:end]))
        pieces = pieces[end:]
    return parts


def _exists(part: str) -> bool:
    return Path(part.removeprefix(MASKS_PREFIX)).exists()
