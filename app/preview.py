"""Sheets of samples, and what a segmenter sees in them: labels in colour, and a legend with areas."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dissect import Codes, Edit, Generator
from dissect.disk import replacing
from dissect.pictures import to_bytes
from segmodels import Segmenter
from segmodels.base import resize_labels

TILE = 128  # pixels a side of a drawn image
GAP = 6
PER_ROW = 4  # samples side by side
BATCH = 8  # images of up to 256 pixels made at once; of larger ones fewer, for the memory
SMALL_TILE = 64  # what smaller images are enlarged to, by a whole number
COMPARED_TILE = 160  # pixels a side of an image before and after
MARGIN = 110  # pixels at least for what a row of them is called
SHEET_TILE = 256  # pixels a side of an image that is drawn alone
BACKGROUND, INK = (250, 250, 248), (30, 30, 30)
GOLDEN = 0.61803398875  # hues this far apart (modulo 1) stay distinct for any number of concepts

Bytes = NDArray[np.uint8]


def palette(concepts: int) -> Bytes:
    """Return a colour per concept, uint8 [C, 3]; unlabelled is dark grey."""
    colours = [(60, 60, 60)]
    for i in range(1, concepts):
        value, saturation = (0.95, 0.75) if i % 2 else (0.75, 0.55)
        red, green, blue = colorsys.hsv_to_rgb(i * GOLDEN % 1, saturation, value)
        colours.append((int(255 * red), int(255 * green), int(255 * blue)))
    return np.array(colours, np.uint8)


def at_once(generator: Generator) -> int:
    """Return how many images are made in one pass."""
    return max(1, BATCH * SHEET_TILE**2 // max(generator.resolution, SHEET_TILE) ** 2)


def sheet(generator: Generator, codes: Codes) -> Image.Image:
    """Draw images side by side, 64 to 256 pixels each."""
    side = min(SHEET_TILE, generator.resolution * max(1, SMALL_TILE // generator.resolution))
    how = Image.Resampling.NEAREST if side >= generator.resolution else Image.Resampling.LANCZOS
    tiles: list[Image.Image] = []
    step = at_once(generator)
    for start in range(0, len(codes), step):
        for image in generator(codes[start : start + step]).cpu().numpy():
            tiles.append(Image.fromarray(to_bytes(image)).resize((side, side), how))
    return _grid(tiles)


def before_and_after(generator: Generator, codes: Codes, edited: Sequence[tuple[str, Sequence[Edit]]]) -> Image.Image:
    """Draw each code's image, and below it the same one with every list of edits, each with its name."""
    font = ImageFont.load_default(14)
    lines = [("as they are", ()), *edited]
    widths = [font.getlength(part) for name, _ in lines for part in name.splitlines()]
    margin = max(MARGIN, int(max(widths)) + 2 * GAP)
    side = COMPARED_TILE + GAP
    picture = Image.new("RGB", (margin + side * len(codes) + GAP, side * len(lines) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index in range(len(codes)):
        for line, (name, edits) in enumerate(lines):
            image = Image.fromarray(to_bytes(generator(codes[index], edits=edits)[0].cpu().numpy()))
            smaller = generator.resolution > COMPARED_TILE
            how = Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST
            picture.paste(image.resize((COMPARED_TILE, COMPARED_TILE), how), (margin + side * index, GAP + side * line))
            draw.text((GAP, GAP + side * line), name, INK, font)
    return picture


def preview(generator: Generator, segmenter: Segmenter, codes: Codes) -> Image.Image:
    """Draw each code's image beside its label planes, and below a legend of the concepts that occur."""
    images, planes = [], []
    step = at_once(generator)
    for start in range(0, len(codes), step):
        part = codes[start : start + step]
        made = generator(part)
        labels = segmenter(made, part.seeds)
        images += [to_bytes(image) for image in made.cpu().numpy()]
        planes += list(resize_labels(labels.cpu(), TILE, TILE).numpy())
    colours = palette(len(segmenter.concepts))
    cells = [_sample(image, labels, colours) for image, labels in zip(images, planes, strict=True)]
    grid = _grid(cells)
    return _stack(grid, _legend(segmenter, np.stack(planes), colours, grid.width))


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture; GanatomyError if it cannot be written."""
    data = BytesIO()
    picture.save(data, "PNG")
    with replacing(path) as file:
        file.write(data.getvalue())


def _sample(image: Bytes, labels: NDArray[np.int16], colours: Bytes) -> Image.Image:
    tiles = [Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC)]
    tiles += [Image.fromarray(colours[plane]) for plane in labels]
    strip = Image.new("RGB", (TILE * len(tiles), TILE), BACKGROUND)
    for index, tile in enumerate(tiles):
        strip.paste(tile, (index * TILE, 0))
    return strip


def _grid(cells: list[Image.Image]) -> Image.Image:
    columns = min(PER_ROW, len(cells))
    rows = -(-len(cells) // columns)
    width, height = cells[0].size
    grid = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), BACKGROUND)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        grid.paste(cell, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return grid


def _legend(segmenter: Segmenter, labels: NDArray[np.int16], colours: Bytes, width: int) -> Image.Image:
    """Draw a colour, a name and an area for every concept that occurs, plane by plane, the largest first."""
    font = ImageFont.load_default(14)
    line, column_width = 20, 190
    columns = max(1, width // column_width)
    entries = []
    for plane in range(labels.shape[1]):
        area = np.bincount(labels[:, plane].ravel(), minlength=len(colours)) / labels[:, plane].size
        order = [c for c in np.argsort(-area) if area[c] > 0]
        entries.append([(int(c), f"{segmenter.concepts[c].name}  {area[c]:.1%}") for c in order])
    height = sum(line * (1 + -(-len(e) // columns)) + GAP for e in entries) + GAP
    legend = Image.new("RGB", (width, height), BACKGROUND)
    draw, top = ImageDraw.Draw(legend), GAP
    for plane, items in enumerate(entries):
        draw.text((GAP, top), f"plane {plane}", INK, font)
        top += line
        for index, (concept, text) in enumerate(items):
            x, y = GAP + index % columns * column_width, top + index // columns * line
            draw.rectangle((x, y + 2, x + 14, y + 16), fill=tuple(int(v) for v in colours[concept]))
            draw.text((x + 20, y), text, INK, font)
        top += line * -(-len(items) // columns) + GAP
    return legend


def _stack(upper: Image.Image, lower: Image.Image) -> Image.Image:
    both = Image.new("RGB", (upper.width, upper.height + lower.height), BACKGROUND)
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height))
    return both
