"""An insertion map as a picture: how much of a concept appeared, place by place, over the mean of the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dissect import Generator, InsertionMap
from dissect.pictures import to_bytes
from segmodels.base import resize_images
from segmodels.errors import unknown_name

from .preview import at_once

SIDE, GAP, FOOT = 384, 8, 22
MORE, LESS = np.array([0.80, 0.28, 0.05]), np.array([0.10, 0.35, 0.75])  # appeared, vanished


def draw(found: InsertionMap, concept: str, generator: Generator, how: Mapping[str, Any]) -> Image.Image:
    """Return two pictures side by side: the mean of the images, and the concept's change where units were put in.

    Orange is more of it near the place, blue less; full colour is the largest change of the map.
    """
    if concept not in found.concepts:
        raise unknown_name("concept", concept, found.concepts[1:])
    change = found.mean()[:, :, found.concepts.index(concept)]
    largest = float(np.abs(change).max())
    mean = _mean_image(found, generator, how)
    sheet = Image.new("RGB", (2 * SIDE + GAP, SIDE + FOOT), "white")
    sheet.paste(mean.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (0, 0))
    over = Image.blend(mean.convert("L").convert("RGB"), Image.new("RGB", mean.size, "white"), 0.55)
    heat = _heat(change / largest if largest else change, found)
    sheet.paste(Image.composite(heat[0], over.resize((SIDE, SIDE)), heat[1]), (SIDE + GAP, 0))
    said = f"{concept}: {change.min():+.2f} to {change.max():+.2f} px near the place, mean of {len(found.seeds)} images"
    ImageDraw.Draw(sheet).text((SIDE + GAP, SIDE + 5), said, fill="black")
    ImageDraw.Draw(sheet).text((0, SIDE + 5), f"the mean of the images; {found.layer}", fill="black")
    return sheet


def _heat(change: NDArray[np.float64], found: InsertionMap) -> tuple[Image.Image, Image.Image]:
    """Return colour and coverage of a change in [-1, 1], of the sheet's size."""
    height, width = found.about["map"]
    rows = (np.arange(SIDE) * height // SIDE) // found.about["tile"]
    columns = (np.arange(SIDE) * width // SIDE) // found.about["tile"]
    cells = change[rows][:, columns]
    colour = np.where(cells[..., None] >= 0, MORE, LESS)
    cover = Image.fromarray((np.abs(cells) ** 0.6 * 235).astype(np.uint8))  # small changes are to be seen, too
    return Image.fromarray((colour * 255).astype(np.uint8)), cover


def _mean_image(found: InsertionMap, generator: Generator, how: Mapping[str, Any]) -> Image.Image:
    seeds, step = found.seeds.tolist(), at_once(generator)
    total = np.zeros((3, SIDE, SIDE))
    for start in range(0, len(seeds), step):
        images = resize_images(generator(generator.sample(seeds[start : start + step], **how)).clamp(-1, 1), SIDE, SIDE)
        total += images.double().sum(0).cpu().numpy()
    return Image.fromarray(to_bytes((total / len(seeds)).astype(np.float32)))
