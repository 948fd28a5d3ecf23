"""Resampling against torch, and against its own definition tap by tap."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dissect.resample import area_matrix, resample, taps

SIZES = [(1, 1), (1, 7), (4, 4), (4, 64), (8, 64), (16, 64), (7, 20), (5, 64), (64, 64)]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_up_agrees_with_torch(source, target):
    maps = np.random.RandomState(0).randn(2, 3, source, source).astype(np.float32)
    ours = resample(maps, target, target)
    theirs = F.interpolate(torch.from_numpy(maps), (target, target), mode="bilinear", align_corners=False).numpy()
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-6 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize(("source", "target"), [(64, 16), (64, 64), (148, 64), (20, 7), (9, 1), (65, 64)])
def test_down_averages_by_area(source, target):
    maps = np.random.RandomState(1).randn(2, source, source).astype(np.float32)
    exact = area_matrix(source, target) @ maps.astype(np.float64) @ area_matrix(source, target).T
    assert np.abs(resample(maps, target, target) - exact).max() < 1e-6
    if source % target == 0:
        theirs = F.avg_pool2d(torch.from_numpy(maps), source // target).numpy()
        assert np.abs(exact - theirs).max() < 1e-6


@pytest.mark.parametrize(("source", "target"), [(4, 64), (64, 4), (148, 64), (64, 148), (1, 5), (5, 1), (6, 6)])
def test_taps_are_averages(source, target):
    t = taps(source, target)
    assert t.index.min() >= 0
    assert t.index.max() < source
    assert np.allclose(t.weight.sum(1), 1, atol=1e-6)
    assert np.allclose(area_matrix(source, target).sum(1), 1)
    assert np.allclose(resample(np.full((1, source, source), 3.5, np.float32), target, target), 3.5, atol=1e-6)


def test_each_axis_goes_its_own_way():
    maps = np.random.RandomState(2).randn(3, 4, 32).astype(np.float32)
    assert np.array_equal(resample(maps, 16, 8), resample(resample(maps, 16, 32), 16, 8))
