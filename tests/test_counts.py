"""The CPU kernel against the NumPy definition: bit for bit, however it is cut."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from helpers import random_features, random_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dissect.counts import Coded, Counter, _guides, count_reference
from dissect.kernels import GUIDE
from dissect.levels import coarse_indices


def kernel(features, labels, following, levels, concepts, cuts=(), parts=2, folded=()):
    """Count with the kernel, the batch cut after the samples in ``cuts``; return counts and blocks, (real, chance)."""
    units, bins = levels.shape
    counter = Counter(levels, features.shape[2:], labels.shape[2:], concepts)
    counts = np.zeros((2, units, concepts, bins + 1), np.int64)
    coarse = coarse_indices(bins)
    blocks = np.zeros((2, units, concepts, len(coarse) + 1), np.uint32)
    chain = np.concatenate([labels, following])
    with ThreadPoolExecutor(parts) as pool:
        for start, stop in pairwise([0, *cuts, len(features)]):
            counter.add(features[start:stop], Coded.of(chain[start : stop + 1]), pool, parts)
            if stop in folded:
                counter.fold(coarse, tuple(counts), tuple(blocks), pool, parts)
        counter.fold(coarse, tuple(counts), tuple(blocks), pool, parts)
    return counts.transpose(0, 1, 3, 2), blocks.transpose(0, 1, 3, 2)


def case(seed, units=5, samples=4, planes=2, concepts=9, side=(4, 6), size=(13, 10), bins=7, kind="normal"):
    state = np.random.RandomState(seed)
    features = random_features(state, kind, (samples, units, *side))
    if kind == "huge":
        features = features * np.float32(1e38)
    levels = np.sort(np.quantile(features, state.rand(bins), axis=(0, 2, 3)).T.astype(np.float32), 1)
    if kind in ("ties", "relu"):
        levels = np.sort(state.choice(np.unique(features), (units, bins)), 1)
    labels = random_labels(state, samples + 1, planes, concepts, size)
    return features, labels[:-1], labels[-1:], levels.astype(np.float32), concepts


@pytest.mark.parametrize("kind", ["normal", "ties", "relu", "constant", "heavy", "huge"])
@pytest.mark.parametrize("cuts", [(), (1,), (1, 2, 3)])
def test_kernel_equals_definition(kind, cuts):
    features, labels, following, levels, concepts = case(3, kind=kind)
    shifted = np.concatenate([labels[1:], following])
    counts, blocks = kernel(features, labels, following, levels, concepts, cuts)
    assert np.array_equal(counts[0], count_reference(features, labels, levels, concepts))
    assert np.array_equal(counts[1], count_reference(features, shifted, levels, concepts))
    coarse = levels[:, coarse_indices(levels.shape[1])]
    assert np.array_equal(blocks[0], count_reference(features, labels, coarse, concepts))


def test_folding_begins_again_from_zero():
    features, labels, following, levels, concepts = case(4, samples=6)
    plain, _ = kernel(features, labels, following, levels, concepts, (2, 4))
    early, _ = kernel(features, labels, following, levels, concepts, (2, 4), folded=(2, 4))
    assert np.array_equal(plain, early)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    units=st.integers(1, 4),
    planes=st.integers(1, 4),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bins=st.integers(1, 60),
    kind=st.sampled_from(["normal", "ties", "relu", "constant", "heavy"]),
    parts=st.integers(1, 3),
)
def test_kernel_equals_definition_everywhere(seed, units, planes, side, size, bins, kind, parts):
    """One-pixel maps, maps larger than the labels, one level, more parts than units."""
    features, labels, following, levels, concepts = case(seed, units, 3, planes, 12, side, size, bins, kind)
    counts, _ = kernel(features, labels, following, levels, concepts, (1,), parts)
    assert np.array_equal(counts[0], count_reference(features, labels, levels, concepts))


def test_definition_by_hand():
    features = np.array([[[[0.0, 1.0], [2.0, 3.0]]]], np.float32)
    labels = np.array([[[[1, 1], [0, 2]]]], np.int16)
    levels = np.array([[0.5, 1.0, 2.5]], np.float32)  # 1.0 is not above 1.0: a tie goes to the lower bin
    counts = count_reference(features, labels, levels, 3)
    assert counts[0].tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_definition_refuses_what_is_not_finite(bad):
    features, labels, _, levels, concepts = case(0)
    features[1, 2, 0, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        count_reference(features, labels, levels, concepts)


def test_permuted_labels_permute_columns():
    features, labels, following, levels, concepts = case(5, planes=1)
    order = np.concatenate([[0], 1 + np.random.RandomState(0).permutation(concepts - 1)]).astype(np.int16)
    counts, _ = kernel(features, labels, following, levels, concepts)
    permuted, _ = kernel(features, order[labels], order[following], levels, concepts)
    assert np.array_equal(permuted[..., order], counts)


@pytest.mark.parametrize("power", [-3, 5])
def test_scaling_a_unit_by_a_power_of_two_changes_nothing(power):
    features, labels, following, levels, concepts = case(6)
    counts, _ = kernel(features, labels, following, levels, concepts)
    scale = np.ones((1, 5, 1, 1), np.float32)
    scale[0, 2] = 2.0**power
    scaled, _ = kernel(features * scale, labels, following, levels * scale[0, :, 0], concepts)
    assert np.array_equal(scaled, counts)


@pytest.mark.parametrize(("planes", "concepts", "side"), [(6, 30_000, 5), (3, 4, 9), (1, 2, 40), (2, 200, 40)])
def test_combinations_are_those_of_the_pixels(planes, concepts, side):
    labels = np.random.RandomState(0).randint(0, concepts, (2, planes, side, side + 1)).astype(np.int16)
    coded = Coded.of(labels)
    for i, (image, numbers, found, pixels) in enumerate(zip(labels, coded.numbers, coded.found, coded.pixels)):
        rows = coded.rows[i]
        assert np.array_equal(rows[numbers], image.transpose(1, 2, 0))
        assert len(np.unique(rows[:found], axis=0)) == found
        assert np.array_equal(np.bincount(numbers.ravel(), minlength=len(pixels)), pixels)
    assert np.array_equal(coded.downwards, coded.numbers.transpose(0, 2, 1))


def test_areas_of_concepts():
    labels = np.array([[[[0, 1], [1, 2]], [[0, 0], [3, 3]]]], np.int16)
    coded = Coded.of(labels)
    assert coded.areas(5).tolist() == [[1, 2, 1, 2, 0]]
    assert coded.concepts.tolist() == [0, 1, 2, 3]
    assert Coded.of(np.maximum(labels, np.array([1, 0], np.int16)[:, None, None])).concepts.tolist() == [1, 2, 3]


def test_a_map_of_one_combination_holds_more_pixels_than_a_short_integer():
    labels = np.ones((2, 1, 300, 300), np.int16)
    counts, _ = kernel(np.ones((1, 1, 300, 300), np.float32), labels[:1], labels[1:], np.zeros((1, 2), np.float32), 2)
    assert counts[0, 0].tolist() == [[0, 0], [0, 0], [0, 90_000]]


def test_guide_is_a_lower_bound_of_the_bin():
    levels = np.sort(np.random.RandomState(0).standard_cauchy((20, 48)).astype(np.float32), 1)
    _, low, scale, guide, steps = _guides(levels)
    for unit in range(20):
        values = np.concatenate([levels[unit], np.nextafter(levels[unit], np.float32(np.inf), dtype=np.float32)])
        slot = np.minimum((values - low[unit]) * scale[unit], GUIDE - 1).astype(int)
        bins = np.searchsorted(levels[unit], values, side="left")
        assert (guide[unit, slot] <= bins).all()
        assert (bins - guide[unit, slot] <= steps[unit]).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    side=st.integers(1, 4),
    factor=st.integers(12, 36),
    lowest=st.sampled_from([0.0, -0.0, 1.0, -1.0, 1 / 3, -1e-3, 1e-40, -1e-40, 1e30, -1e30]),
    bins=st.integers(1, 6),
)
def test_pixels_next_to_the_lowest_level_are_on_the_right_side(seed, side, factor, lowest, bins):
    """Enlarged maps, most of whose values are the lowest level or the next float beside it."""
    state, low = np.random.RandomState(seed), np.float32(lowest)
    up, down = (np.nextafter(low, np.float32(end), dtype=np.float32) for end in (np.inf, -np.inf))
    far = np.float32([low - abs(low) - 1, low + abs(low) + 1, -1e-38, 0, 1e-38])
    features = state.choice(np.concatenate([[low, up, down] * 3, far]), (3, 4, side, side)).astype(np.float32)
    above = np.sort(state.choice(np.unique(features[features >= low]), (4, bins)), 1)
    levels = np.concatenate([np.full((4, 1), low), above], 1).astype(np.float32)
    labels = random_labels(state, 4, 2, 6, (side * factor, side * factor))
    counts, _ = kernel(features, labels[:3], labels[3:], levels, 6, (2,))
    assert np.array_equal(counts[0], count_reference(features, labels[:3], levels, 6))
    assert np.array_equal(counts[1], count_reference(features, labels[1:], levels, 6))
