"""A request: what is to be drawn where, and which keys are meant. Pure data, kept as JSON; no weights, no layer.

``copy`` says where the new value comes from, ``paste`` where it is to appear, ``context`` which other places are of the
same kind, so that the rule and not one image changes (Bau et al., ECCV 2020). The same request can be solved for any
layer, rank and checkpoint of the resolution.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from dissect import GanatomyError
from dissect.disk import replacing
from dissect.edit_values import as_mask
from dissect.generators.codes import check_seeds
from dissect.samples import Sampling
from segmodels.files import one_line, shown

FORMAT, VERSION = "ganatomy.request", 1
GOALS = ("crop", "mean", "erase")
PNG = "data:image/png;base64,"
MOST_BYTES = 64 << 20  # of a request's file
MOST_PIXELS = 1 << 14  # a side
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the image of a seed: a mask, or all that a segmenter calls by a name, or everything.

    Attributes:
        seed: of the image.
        mask: float32 [R, R] in [0, 1], or None.
        concept: what the segmenter has to call it, or None. With a mask: where both are.
    """

    seed: int
    mask: Floats | None = None
    concept: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seeds(self.seed)[0])
        given, checked = self.mask, as_mask(self.mask)
        frozen = isinstance(given, np.ndarray) and given.dtype == np.float32 and given.flags.owndata
        if given is None or not frozen or given.flags.writeable:  # else another region's: an entry's seeds share it
            object.__setattr__(self, "mask", checked)
        if self.mask is not None and not self.mask.any():
            raise GanatomyError(f"the mask of seed {self.seed} is empty; mark at least one pixel")

    @classmethod
    def box(cls, seed: int, resolution: int, top: int, left: int, bottom: int, right: int) -> Region:
        """Return the region of rows top..bottom-1 and columns left..right-1.

        Raises:
            GanatomyError: for a box that is empty or not within the image.
        """
        if not (0 <= top < bottom <= resolution and 0 <= left < right <= resolution):
            raise GanatomyError(
                f"expected a box [top, left, bottom, right] within {resolution} x {resolution} pixels, "
                f"got {[top, left, bottom, right]}"
            )
        mask = np.zeros((resolution, resolution), np.float32)
        mask[top:bottom, left:right] = 1
        return cls(seed, mask)

    def described(self) -> dict[str, Any]:
        """Return the region as JSON; a mask as PNG, which keeps 256 grades."""
        told: dict[str, Any] = {"seed": self.seed}
        if self.mask is not None:
            told["mask"] = _png(self.mask)
        return told | ({"concept": self.concept} if self.concept is not None else {})


@dataclass(frozen=True, eq=False)
class Request:
    """What is to change.

    Attributes:
        resolution: R of the images that masks are of.
        copy: where the value comes from; None for ``erase``.
        paste: where it is to appear.
        context: which keys are meant; empty: those of ``paste``.
        goal: ``crop`` pastes what is copied, in its own shape, at the centre of each paste; ``mean`` gives all of each
            paste the mean of what is copied, which suits colours and textures; ``erase`` gives it what the layer has in
            the mean over all images.
        sampling: how codes are drawn from seeds.
        name: for people.
    """

    resolution: int
    paste: tuple[Region, ...]
    copy: Region | None = None
    context: tuple[Region, ...] = ()
    goal: str = "crop"
    sampling: Sampling = field(default_factory=Sampling)
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "paste", tuple(self.paste))
        object.__setattr__(self, "context", tuple(self.context))
        if self.goal not in GOALS:
            raise GanatomyError(f"expected the goal as one of {', '.join(GOALS)}, got {self.goal!r}")
        if not self.paste:
            raise GanatomyError("a request needs at least one region to paste into")
        if (self.copy is None) != (self.goal == "erase"):
            wanted = "erase copies nothing" if self.goal == "erase" else "a request needs a region to copy from"
            raise GanatomyError(f"{wanted}; the goal is {self.goal!r}")
        for region in self.regions:
            if region.mask is not None and region.mask.shape != 2 * (self.resolution,):
                given = " x ".join(map(str, region.mask.shape))
                raise GanatomyError(
                    f"the mask of seed {region.seed} has {given} pixels, the request is for {self.resolution} x "
                    f"{self.resolution}"
                )

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions: copied from, pasted into, context."""
        return (*([self.copy] if self.copy else []), *self.paste, *self.context)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all images that take part, ascending; an edit is judged on others."""
        return tuple(sorted({region.seed for region in self.regions}))

    @property
    def needs_segmenter(self) -> bool:
        """Whether a region is given by a concept."""
        return any(region.concept is not None for region in self.regions)

    def described(self) -> dict[str, Any]:
        """Return the request as JSON."""
        told: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": self.name, "resolution": self.resolution}
        told |= {"goal": self.goal, "sampling": _plain(self.sampling)}
        told |= {"copy": self.copy.described()} if self.copy else {}
        told["paste"] = [region.described() for region in self.paste]
        return told | ({"context": [region.described() for region in self.context]} if self.context else {})

    def save(self, path: str | Path) -> Path:
        """Write the request to a JSON file, whole or not at all, and return its path."""
        with replacing(Path(path)) as disk:
            disk.write((json.dumps(self.described(), indent=1) + "\n").encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Request:
        """Read a request; GanatomyError if the file is none, or is not one that can be done."""
        file = Path(path)
        if not file.is_file():
            raise GanatomyError(f"no such file: {file}")
        if file.stat().st_size > MOST_BYTES:
            raise GanatomyError(f"{file} is larger than a request can be")
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise GanatomyError(f"{file} is no request: {one_line(error)}") from error
        try:
            return cls.of(told)
        except GanatomyError as error:
            raise GanatomyError(f"{file}: {error}") from error

    @classmethod
    def of(cls, told: Any) -> Request:
        """Return the request of what :meth:`described` returned.

        By hand a region may also be ``{"seed": 3, "box": [top, left, bottom, right]}``, and several of one concept
        ``{"seeds": [1, 2, 3], "concept": "hair"}``.

        Raises:
            GanatomyError: saying what is wrong with it.
        """
        if not isinstance(told, Mapping) or told.get("format") != FORMAT:
            raise GanatomyError(f'expected a JSON object with "format": "{FORMAT}"')
        if not isinstance(told.get("version"), int) or told["version"] > VERSION:
            raise GanatomyError(f"it has version {told.get('version')!r}, this ganatomy reads {VERSION}")
        known = {"format", "version", "name", "resolution", "goal", "sampling", "copy", "paste", "context"}
        if unknown := sorted(set(told) - known):
            raise GanatomyError(f"unknown entries {shown(unknown)}; known: {', '.join(sorted(known))}")
        try:
            resolution = _whole(told["resolution"], "the resolution")
            if not 1 <= resolution <= MOST_PIXELS:
                raise GanatomyError(f"expected a resolution of 1 to {MOST_PIXELS} pixels, got {resolution}")
            sampling = Sampling(**dict(told.get("sampling") or {}))
            copied = _regions([told["copy"]], resolution) if told.get("copy") else [None]
            if len(copied) != 1:
                raise GanatomyError("expected one region to copy from")
            return cls(
                resolution, tuple(_regions(told["paste"], resolution)), copied[0],
                tuple(_regions(told.get("context") or [], resolution)), str(told.get("goal", "crop")), sampling,
                str(told.get("name", "")),
            )  # fmt: skip
        except KeyError as error:
            raise GanatomyError(f"the request lacks {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise GanatomyError(f"the request cannot be read: {one_line(error)}") from error


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise GanatomyError(f"expected {what} as a whole number, got {shown([value])}")
    return value


def _regions(entries: Any, resolution: int) -> list[Region]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise GanatomyError(f"expected a list of regions, got {type(entries).__name__}")
    found: list[Region] = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise GanatomyError(f"expected a region as a JSON object, got {type(entry).__name__}")
        if unknown := sorted(set(entry) - {"seed", "seeds", "mask", "box", "concept"}):
            raise GanatomyError(f"unknown entries of a region: {shown(unknown)}")
        for one, other in (("seed", "seeds"), ("box", "mask")):
            if one in entry and other in entry:
                raise GanatomyError(f"a region has both {one!r} and {other!r}; give one of them")
        concept = entry.get("concept")
        seeds = check_seeds(list(entry["seeds"])) if "seeds" in entry else check_seeds([entry["seed"]])
        whole = Region(seeds[0])
        if "box" in entry:
            whole = Region.box(seeds[0], resolution, *(_whole(edge, "the edge of a box") for edge in entry["box"]))
        elif "mask" in entry:
            whole = Region(seeds[0], _mask(entry["mask"], resolution))
        named = None if concept is None else str(concept)
        found += [Region(seed, whole.mask, named) for seed in seeds]
    return found


def _png(mask: ArrayLike) -> str:
    """Return a mask as a PNG in a data address."""
    buffer = io.BytesIO()
    given = np.asarray(mask)
    grades = np.where(given > 0, np.maximum(np.round(given * 255), 1), 0)  # what is faint is still part of it
    Image.fromarray(grades.astype(np.uint8)).save(buffer, "PNG")
    return PNG + base64.b64encode(buffer.getvalue()).decode()


def _mask(text: Any, resolution: int) -> Floats:
    """Return the mask of a PNG in a data address: its alpha channel if it has one, else its brightness."""
    if not isinstance(text, str) or not text.startswith(PNG):
        raise GanatomyError(f"expected a mask as {PNG}…")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text[len(PNG) :], validate=True)), formats=["PNG"]) as image:
            if image.size != (resolution, resolution):  # told before it is unpacked, which may take gigabytes
                raise GanatomyError(
                    f"a mask has {image.height} x {image.width} pixels, the request is for {resolution} x {resolution}"
                )
            layer = image.getchannel("A") if "A" in image.getbands() else image.convert("L")
            return (np.asarray(layer) / 255).astype(np.float32)
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError) as error:
        raise GanatomyError(f"a mask is no PNG: {one_line(error)}") from error


def _plain(sampling: Sampling) -> dict[str, Any]:
    told = {name: value for name, value in vars(sampling).items() if value != getattr(Sampling(), name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
