"""Levels: order statistics with the promised exceedance, read as they will be counted."""

import numpy as np
import pytest

from dissect import GanatomyError
from dissect.levels import (
    check_given,
    coarse_indices,
    order_statistics,
    pilot_pixels,
    pilot_samples,
    read_sample,
    tail_fractions,
)  # fmt: skip
from dissect.resample import resample, taps


def test_fractions():
    fractions = tail_fractions()
    assert len(fractions) == 48
    assert fractions[0] == pytest.approx(0.5)
    assert fractions[-1] == pytest.approx(0.0005)
    assert np.allclose(fractions[1:] / fractions[:-1], fractions[1] / fractions[0])


@pytest.mark.parametrize(("levels", "indices"), [(48, [3, 9, 15, 21, 27, 33, 39, 45]), (1, [0]), (8, list(range(8)))])
def test_coarse(levels, indices):
    assert coarse_indices(levels).tolist() == indices


@pytest.mark.parametrize(("samples", "pilot"), [(4, 4), (20, 16), (1000, 62), (10_000, 256), (300, 18)])
def test_pilot_samples(samples, pilot):
    assert pilot_samples(samples) == pilot


def test_pilot_pixels_are_fixed_and_few():
    pixels = pilot_pixels(62, 64, 64)
    assert len(pixels) == 65_536 // 62
    assert np.array_equal(pixels, pilot_pixels(62, 64, 64))
    assert np.array_equal(pilot_pixels(4, 8, 8), np.arange(64))


def test_order_statistics_have_the_exceedance():
    values = np.random.RandomState(0).randn(6, 4000).astype(np.float32)
    values[1] = np.maximum(values[1], 0)
    values[2] = 7
    levels = order_statistics(values, tail_fractions())
    above = (values[:, None] > levels[:, :, None]).mean(2)
    assert (np.diff(levels, axis=1) >= 0).all()
    assert (above <= tail_fractions()).all()
    assert np.abs(above[[0, 3, 4, 5]] - tail_fractions()).max() <= 1 / 4000
    assert (levels[2] == 7).all()
    assert np.isin(levels, values).all()


@pytest.mark.parametrize(("side", "size"), [(4, 12), (12, 4), (6, 6), (9, 4), (1, 5)])
def test_reading_equals_resampling(side, size):
    maps = np.random.RandomState(0).randn(3, side, side).astype(np.float32)
    pixels = pilot_pixels(5000, size, size)
    out = np.empty((3, len(pixels)), np.float32)
    read_sample(maps, taps(side, size), taps(side, size), pixels, out)
    assert np.array_equal(out, resample(maps, size, size).reshape(3, -1)[:, pixels])


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([[1.0, 2.0]], r"expected \[3, B\]"),
        ([[2.0, 1.0]] * 3, "ascend"),
        ([[np.nan]] * 3, "NaN"),
        ([1.0, 2.0], "expected"),
    ],
)
def test_given_levels_are_checked(levels, message):
    with pytest.raises(GanatomyError, match=message):
        check_given(levels, "layer", 3)


def test_given_levels_may_be_one_per_unit():
    assert check_given([1.0, 2.0, 3.0], "layer", 3).shape == (3, 1)
