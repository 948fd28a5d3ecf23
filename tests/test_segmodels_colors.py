"""Colour names against what people call them, bands against L*, and sameness across batches and threads."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from segmodels import GanatomyError, load
from segmodels.colors import BAND_EDGES, BANDS, STEPS, TERMS


@pytest.fixture(scope="module")
def colors():
    return load("colors")


def names(colors, *rgb):
    """Colour and band of each sRGB triple, as a row of pixels."""
    pixels = torch.tensor(rgb, dtype=torch.float32).T.reshape(1, 3, 1, -1) / 127.5 - 1
    labels = colors(pixels)[0, :, 0]
    return [tuple(colors.concepts[int(i)].name for i in column) for column in labels.T]


def test_concepts(colors):
    assert [c.name for c in colors.concepts if c.plane == 0 and c.category == "colour"] == list(TERMS)
    assert len(TERMS) == 11
    assert [c.name for c in colors.concepts if c.plane == 1 and c.category == "lightness"] == list(BANDS)
    assert colors.planes == 2


@pytest.mark.parametrize(
    ("term", "examples"),
    [
        ("black", [(0, 0, 0), (20, 20, 20), (15, 10, 8)]),
        ("white", [(255, 255, 255), (245, 245, 245), (255, 255, 240), (240, 248, 255)]),
        ("red", [(255, 0, 0), (220, 20, 60), (178, 34, 34), (139, 0, 0), (205, 92, 92)]),
        (
            "green",
            [(0, 255, 0), (0, 128, 0), (34, 139, 34), (0, 100, 0), (107, 142, 35), (144, 238, 144), (85, 107, 47)],
        ),
        ("yellow", [(255, 255, 0), (255, 215, 0), (240, 230, 140), (255, 250, 205)]),
        (
            "blue",
            [(0, 0, 255), (0, 0, 128), (65, 105, 225), (135, 206, 235), (173, 216, 230), (70, 130, 180), (25, 25, 112)],
        ),
        ("brown", [(139, 69, 19), (160, 82, 45), (101, 67, 33), (210, 180, 140), (92, 56, 40), (60, 40, 25)]),
        ("purple", [(128, 0, 128), (75, 0, 130), (138, 43, 226), (147, 112, 219), (221, 160, 221)]),
        ("pink", [(255, 192, 203), (255, 105, 180), (255, 20, 147), (255, 228, 225)]),
        ("orange", [(255, 165, 0), (255, 140, 0), (255, 127, 80), (255, 100, 20)]),
        ("grey", [(128, 128, 128), (64, 64, 64), (169, 169, 169), (192, 192, 192), (211, 211, 211), (112, 128, 144)]),
        ("pink", [(233, 194, 175), (246, 224, 203)]),  # light skin
        ("brown", [(198, 134, 66), (141, 85, 36)]),  # darker skin
    ],
)
def test_colours_get_their_names(colors, term, examples):
    assert [colour for colour, _ in names(colors, *examples)] == [term] * len(examples)


def test_the_focal_colour_of_each_term_has_its_name(colors):
    focal = [prototypes[0] for prototypes in TERMS.values()]
    assert [colour for colour, _ in names(colors, *focal)] == list(TERMS)


def test_labels_are_those_of_the_nearest_prototype_in_lab(colors):
    levels = np.random.default_rng(0).integers(0, STEPS, (40, 50, 3)) / (STEPS - 1)
    lab = rgb2lab(levels)
    owners = [index for index, prototypes in enumerate(TERMS.values(), start=1) for _ in prototypes]
    points = rgb2lab(np.array([p for prototypes in TERMS.values() for p in prototypes])[None] / 255)[0]
    nearest = np.linalg.norm(lab[:, :, None] - points, axis=-1).argmin(-1)
    labels = colors(torch.from_numpy(levels).float().permute(2, 0, 1)[None] * 2 - 1)[0].numpy()
    assert np.array_equal(labels[0], np.array(owners)[nearest])
    assert np.array_equal(labels[1], 12 + np.digitize(lab[..., 0], BAND_EDGES))


@pytest.mark.parametrize(
    ("level", "band"),
    [(0, "very dark"), (40, "very dark"), (60, "dark"), (90, "dark"), (100, "medium"), (140, "medium"), (150, "light")]
    + [(190, "light"), (205, "very light"), (255, "very light")],  # L* of 20, 40, 60, 80 is at grey 48, 94, 145, 198
)
def test_bands(colors, level, band):
    assert names(colors, (level,) * 3)[0][1] == band


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(8, 8, (8, 8)), (256, 100, (256, 100)), (512, 512, (256, 256)), (300, 600, (128, 256)), (1024, 2, (256, 1))],
)
def test_large_images_are_averaged_down(colors, height, width, expected):
    assert colors(torch.zeros(1, 3, height, width)).shape == (1, 2, *expected)


def test_averaging_mixes_colours(colors):
    """A fine checkerboard of black and white is grey from afar."""
    rows = torch.arange(512)
    board = ((rows[:, None] + rows) % 2).float().mul(2).sub(1).expand(1, 3, 512, 512)
    middle = colors(board)[0, 0, 8:-8, 8:-8]
    assert {colors.concepts[int(i)].name for i in middle.unique()} == {"grey"}


def test_out_of_range_is_clamped_and_every_pixel_labelled(colors):
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2
    labels = colors(noise)
    assert int(labels.min()) > 0
    assert torch.equal(labels, colors(noise.clamp(-1, 1)))
    assert torch.equal(noise, torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2)  # not changed


def test_nan_is_refused(colors):
    bad = torch.zeros(1, 3, 4, 4)
    bad[0, 1, 2, 3] = float("nan")
    with pytest.raises(GanatomyError, match="NaN"):
        colors(bad)


@pytest.mark.parametrize("size", [37, 64, 300])
def test_labels_do_not_depend_on_batch_or_threads(colors, size):
    batch = torch.rand(7, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2.2 - 1.1
    together = colors(batch)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for step in (1, 3):
                assert torch.equal(torch.cat([colors(part) for part in batch.split(step)]), together)
            strided = batch.to(memory_format=torch.channels_last)
            assert size > 256 or torch.equal(colors(strided), together)
    finally:
        torch.set_num_threads(before)


def test_hash_is_stable_and_speed_is_a_lookup(colors):
    assert colors.sha256 == load("colors").sha256
    batch = torch.rand(16, 3, 64, 64) * 2 - 1
    colors(batch)
    start = time.perf_counter()
    colors(batch)
    assert (time.perf_counter() - start) / 16 < 0.02  # it takes 0.0003; the margin is for a busy machine
