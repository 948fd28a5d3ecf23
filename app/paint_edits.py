"""What the Paint page and the server tell each other: edits, masks and latents in JSON. Nothing of it is kept here.

An edit is ``{"kind", "layer", "units", "values", "strength", "mask", "file"}``. "erase" takes its units away, "draw"
puts ``values`` in, both where ``mask`` is: a PNG whose alpha says how much, null for everywhere. A "file" is an edit of
any other kind, as a recipe of its own in base64; ``strength`` multiplies its strength.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import math
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect import Edit, Recipe, WeightEdit, ablate, insert
from dissect.edits import FeatureEdit
from dissect.generators.arrays import read_array
from dissect.pictures import UNREADABLE
from segmodels import GanatomyError

MASK_SIDE = 256  # pixels of a mask's side at most: layers are rarely larger, and what is sent stays small
LARGEST_MASK = 1024  # of one that a recipe brings
MOST_EDITS = 64
MOST_LATENTS, LARGEST_LATENTS = 64, 64 << 20  # codes of a file; bytes that it may unpack to
PNG_ADDRESS = "data:image/png;base64,"
BYTES = 255  # the largest value of a mask's pixel

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Start:
    """The image that is painted on.

    Attributes:
        seed: of a run of explicit latents, an index; None where w is given.
        w: float32 [1, num_ws, w_dim] or [1, w_dim] of somebody's inversion, or None.
    """

    seed: int | None = None
    w: Floats | None = None

    @property
    def key(self) -> int | str:
        """What tells it from others."""
        return self.seed if self.seed is not None else hashlib.sha256(_bytes(self.w)).hexdigest()


def mask_side(resolution: int) -> int:
    """Return the side, in pixels, of masks that are painted on images of a resolution."""
    return min(resolution, MASK_SIDE)


# -- edits -------------------------------------------------------------------------------------------------------


def edits_of(given: Any) -> tuple[Edit, ...]:
    """Return the edits that a page sent; GanatomyError says what is wrong with them."""
    if not isinstance(given, list) or len(given) > MOST_EDITS:
        raise GanatomyError(f"expected a list of at most {MOST_EDITS} edits")
    return tuple(edit for entry in given for edit in _edit(entry))


def _edit(entry: Any) -> tuple[Edit, ...]:
    if not isinstance(entry, Mapping):
        raise GanatomyError(f"expected an edit as a JSON object, got {type(entry).__name__}")
    kind, strength = entry.get("kind"), number_in(entry, "strength")
    if kind == "file":
        return tuple(scaled(edit, strength) for edit in recipe_of(from_base64(entry.get("file"))))
    layer, units, mask = entry.get("layer"), entry.get("units"), mask_of(entry.get("mask"))
    if not isinstance(layer, str) or not isinstance(units, list):
        raise GanatomyError("expected an edit with a layer and a list of units")
    if kind == "erase":
        return (ablate(layer, units, strength, mask),)
    if kind == "draw":
        values = entry.get("values")
        if not isinstance(values, list):
            raise GanatomyError("expected the values that are to be drawn, one for each unit")
        return (insert(layer, units, values, mask, strength),)
    raise GanatomyError(f"expected an edit of the kind erase, draw or file, got {str(kind)[:40]!r}")


def entry_of(edit: Edit) -> dict[str, Any]:
    """Return an edit as the page has it; what the page's brushes cannot make is a file."""
    plain = {"layer": edit.layer, "units": list(getattr(edit, "units", ())), "values": None, "mask": None, "file": None}
    if not isinstance(edit, FeatureEdit) or not _paintable(edit):
        data = base64.b64encode(file_of(Recipe([edit]))).decode()
        return {**plain, "kind": "file", "strength": 1.0, "file": data}
    told = plain | {"kind": "erase", "strength": edit.strength, "mask": address_of(edit.mask)}
    if isinstance(edit.values, np.ndarray):
        told |= {"kind": "draw", "values": [float(value) for value in edit.values]}
    return told


def _paintable(edit: FeatureEdit) -> bool:
    """Whether a brush could have made an edit: its mask has 8 bits, and each unit is put at a constant."""
    if isinstance(edit.strength, tuple) or not 0 <= edit.strength <= 1:
        return False
    if edit.values is not None and not (isinstance(edit.values, np.ndarray) and edit.values.ndim == 1):
        return False
    if edit.mask is None:
        return True
    square = edit.mask.shape[0] == edit.mask.shape[1] <= LARGEST_MASK
    return bool(square and np.array_equal(_as_mask(_as_bytes(edit.mask)), edit.mask))


def scaled(edit: Edit, factor: float) -> Edit:
    """Return an edit whose strength is multiplied by a factor."""
    if isinstance(edit, WeightEdit):
        return replace(edit, strength=edit.strength * factor)
    given = edit.strength
    return replace(edit, strength=tuple(one * factor for one in given) if isinstance(given, tuple) else given * factor)


def number_in(entry: Mapping[str, Any], name: str) -> float:
    """Return a number from 0 to 1 of an object; GanatomyError if it is none."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise GanatomyError(f"expected a {name} from 0 to 1, got {str(value)[:40]!r}")
    return float(value)


# -- masks -------------------------------------------------------------------------------------------------------


def mask_of(address: Any) -> Floats | None:
    """Return a mask float32 [S, S] of a PNG in a data address: its alpha, or the brightness of one without.

    Raises:
        GanatomyError: for anything else, and for one that is not square or larger than 1024 pixels.
    """
    if address is None:
        return None
    if not isinstance(address, str) or not address.startswith(PNG_ADDRESS):
        raise GanatomyError("expected a mask as a PNG in a data address")
    try:
        with Image.open(io.BytesIO(from_base64(address.removeprefix(PNG_ADDRESS))), formats=["PNG"]) as image:
            width, height = image.size
            if width != height or width > LARGEST_MASK:  # before a pixel is unpacked
                raise GanatomyError(f"expected a square mask of at most {LARGEST_MASK} pixels, got {width} x {height}")
            alone = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L") if alone else image.convert("RGBA").getchannel("A"))
    except UNREADABLE as error:
        raise GanatomyError("expected a mask as a PNG; this one is damaged") from error
    return _as_mask(pixels)


def address_of(mask: Floats | None) -> str | None:
    """Return the data address of a mask [S, S]: white, as clear as the mask says."""
    if mask is None:
        return None
    alpha = Image.fromarray(_as_bytes(mask))
    out = io.BytesIO()
    Image.merge("LA", (Image.new("L", alpha.size, BYTES), alpha)).save(out, "PNG")
    return PNG_ADDRESS + base64.b64encode(out.getvalue()).decode()


def _as_mask(pixels: NDArray[np.uint8]) -> Floats:
    return pixels.astype(np.float32) / np.float32(BYTES)


def _as_bytes(mask: Floats) -> NDArray[np.uint8]:
    return np.rint(mask * BYTES).astype(np.uint8)


# -- files -------------------------------------------------------------------------------------------------------


def recipe_of(data: bytes) -> Recipe:
    """Return the recipe of a file's bytes; GanatomyError if it is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.safetensors"
        path.write_bytes(data)
        try:
            return Recipe.load(path)
        except GanatomyError as error:
            raise GanatomyError(str(error).replace(str(path), "this file")) from error


def file_of(recipe: Recipe) -> bytes:
    """Return the bytes of a recipe's file."""
    with tempfile.TemporaryDirectory() as folder:
        return recipe.save(Path(folder) / "recipe.safetensors").read_bytes()


def latents_of(data: bytes) -> Floats:
    """Return the array called "w", or the only one, of a ``.npy``, ``.npz``, ``.pt`` or safetensors file.

    Returns:
        float32 [N, w_dim] or [N, num_ws, w_dim], at most 64 of them.

    Raises:
        GanatomyError: if there is none. Nothing in the file is executed.
    """
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST_LATENTS:
            raise GanatomyError(f"expected at most {LARGEST_LATENTS >> 20} MB of numbers; this file unpacks to more")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents"
        path.write_bytes(data)
        try:
            found = read_array(path, "w")
        except GanatomyError as error:
            raise GanatomyError(str(error).replace(str(path), "this file")) from error
    if found.dtype.kind not in "fiu" or found.ndim not in (1, 2, 3):
        raise GanatomyError(f"expected w as numbers [N, w_dim] or [N, num_ws, w_dim], got {list(found.shape)}")
    chosen: Floats = np.atleast_2d(found).astype(np.float32)
    if not 0 < len(chosen) <= MOST_LATENTS:
        raise GanatomyError(f"expected 1 to {MOST_LATENTS} codes, got {len(chosen)}")
    return chosen


def told_latents(w: Floats) -> list[dict[str, Any]]:
    """Return each code of w [N, ...] as the page keeps it."""
    return [{"shape": list(one.shape), "data": base64.b64encode(_bytes(one)).decode()} for one in w]


def start_of(given: Any) -> Start:
    """Return the image that a page is about: ``{"seed": 5}`` or ``{"w": {"shape": …, "data": …}}``."""
    if isinstance(given, Mapping) and isinstance(given.get("w"), Mapping):
        return Start(w=_latent(given["w"]))
    seed = given.get("seed") if isinstance(given, Mapping) else None
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise GanatomyError("expected the image as a seed or as w codes")
    return Start(seed)


def _latent(given: Mapping[str, Any]) -> Floats:
    data, shape = from_base64(given.get("data")), given.get("shape")
    sizes = shape if isinstance(shape, list) and len(shape) in (1, 2) else []
    plain = bool(sizes) and all(isinstance(size, int) and 0 < size < 1 << 16 for size in sizes)
    if not plain or len(data) != 4 * math.prod(sizes):
        raise GanatomyError("expected w codes as their shape and their numbers")
    return np.frombuffer(data, "<f4").reshape(1, *sizes).astype(np.float32)


def from_base64(text: Any) -> bytes:
    """Return the bytes of a text in base64; GanatomyError if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise GanatomyError("expected data in base64; this is damaged") from error


def _bytes(array: Floats | None) -> bytes:
    return b"" if array is None else np.ascontiguousarray(array, "<f4").tobytes()
