"""What a visitor has tagged, as it comes from a page: which images are broken, and where."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect.artifacts import Tags, read_tags
from dissect.pictures import UNREADABLE
from segmodels import GanatomyError

from .experiments import LARGEST_SEED

FEWEST_TAGS = 3  # of each kind
SIDE = 128  # of a region: pixels
ADDRESS = "data:image/png;base64,"
MOST_PIXELS = 2**22  # of a picture that comes from a page
MOST_OPENED = 2**27  # of all regions of a file that a visitor has brought
STORED = 256  # of a region that a browser keeps, of which it has not much room: pixels of a side
HALF = 0.5
KINDS = {"broken": True, "fine": False}


@dataclass(frozen=True)
class Tagged:
    """Tags as they are kept in the browser.

    Attributes:
        tags: (seed, whether it is broken), seeds ascending. regions: (seed, where it is broken as a PNG whose alpha
            says so), of broken images, seeds ascending.
    """

    tags: tuple[tuple[int, bool], ...] = ()
    regions: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def of(cls, work: Mapping[str, Any]) -> Tagged:
        """Return what a page sent; GanatomyError for what no page sends."""
        try:
            tags = {int(seed): KINDS[tag] for seed, tag in (work.get("tags") or {}).items()}
            regions = {int(seed): png_of(data) for seed, data in (work.get("regions") or {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise GanatomyError("expected tags, broken or fine, and regions as PNG, by seed") from error
        if not all(0 <= seed <= LARGEST_SEED for seed in tags):
            raise GanatomyError(f"expected seeds from 0 to {LARGEST_SEED}")
        kept = {seed: data for seed, data in regions.items() if tags.get(seed)}
        return cls(tuple(sorted(tags.items())), tuple(sorted(kept.items())))

    @property
    def broken(self) -> int:
        """How many images are broken."""
        return sum(kind for _, kind in self.tags)

    @property
    def fine(self) -> int:
        """How many images are fine."""
        return len(self.tags) - self.broken

    def read(self) -> Tags:
        """Return them with all regions of one size, 128 x 128; GanatomyError if one is no picture."""
        regions = {seed: mask_of(data, SIDE) for seed, data in self.regions}
        seeds, broken = [seed for seed, _ in self.tags], [kind for _, kind in self.tags]
        return Tags(np.array(seeds, np.int64), np.array(broken, bool), {s: r for s, r in regions.items() if r.any()})


def opened(name: str, content: str) -> dict[str, Any]:
    """Return the tags of a file that a visitor has brought, as a page keeps them.

    Args:
        name: of the file. content: a data address of it.

    Raises:
        GanatomyError: naming the line, for what cannot be read.
    """
    try:
        data = base64.b64decode(content.partition(",")[2], validate=True)
    except (ValueError, binascii.Error) as error:
        raise GanatomyError("expected a file of tags") from error
    with tempfile.TemporaryDirectory(prefix="ganatomy-tags-") as folder:
        path = Path(folder) / "tags"
        path.write_bytes(data)
        try:
            tags = read_tags(path, MOST_OPENED)
        except GanatomyError as error:
            raise GanatomyError(str(error).replace(str(path), name[:SIDE])) from error
    kinds = {True: "broken", False: "fine"}
    pairs = zip(tags.seeds.tolist(), tags.broken.tolist(), strict=True)
    return {
        "tags": {str(seed): kinds[broken] for seed, broken in pairs},
        "regions": {str(seed): _address(region) for seed, region in tags.regions.items()},
    }


def png_of(address: str) -> bytes:
    """Return the PNG of a data address; ValueError if it is none."""
    if not address.startswith(ADDRESS):
        raise ValueError("no PNG")
    return base64.b64decode(address[len(ADDRESS) :], validate=True)


def mask_of(data: bytes, side: int) -> NDArray[np.bool_]:
    """Return where the alpha of a PNG is at least half, [side, side]; GanatomyError if it is no picture."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError("too large")
            alpha = image.getchannel("A") if "A" in image.getbands() else image.convert("L")
            small = alpha.resize((side, side), Image.Resampling.BOX)
    except UNREADABLE as error:
        raise GanatomyError("a region is no PNG, or too large") from error
    return np.asarray(small) >= HALF * 255


def _address(region: NDArray[np.bool_]) -> str:
    """Return a region [H, W] as the alpha of a PNG in a data address."""
    alpha = Image.fromarray(region.astype(np.uint8) * 255)
    if max(region.shape) > STORED:
        alpha = alpha.resize((STORED, STORED), Image.Resampling.BOX)
    out = io.BytesIO()
    Image.merge("LA", (Image.new("L", alpha.size), alpha)).save(out, "PNG")
    return ADDRESS + base64.b64encode(out.getvalue()).decode()
