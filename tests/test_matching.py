"""Matching of units against NumPy's own correlation and against units whose places are known."""

import numpy as np
import pytest

from dissect.matching import best, concept_profile, correlate, identity


@pytest.mark.parametrize(("rows", "a", "b"), [(40, 5, 7), (3, 1, 1), (1000, 12, 3)])
def test_correlation_is_numpys(rows, a, b):
    state = np.random.RandomState(rows)
    x, y = 50 + 3 * state.randn(rows, a), state.randn(rows, b)
    y[:, 0] += x[:, 0]
    np.testing.assert_allclose(correlate(x, y), np.corrcoef(x.T, y.T)[:a, a:], atol=1e-12)


def test_constant_columns_have_no_correlation():
    x = np.random.RandomState(0).randn(30, 3)
    x[:, 1] = 0.1
    r = correlate(x, x)
    assert np.isnan(r[1]).all()
    assert np.isnan(r[:, 1]).all()
    assert r[0, 0] == pytest.approx(1)
    gaps = x.copy()
    gaps[4, 0] = np.nan
    assert np.isnan(correlate(gaps, x)[1]).all()


def test_gaps_are_left_out_pair_by_pair():
    state = np.random.RandomState(1)
    x, y = 9 + state.randn(25, 6), state.randn(25, 5)
    x[state.rand(*x.shape) < 0.3] = np.nan
    y[state.rand(*y.shape) < 0.2] = np.nan
    r = correlate(x, y)
    for i in range(6):
        for j in range(5):
            both = ~np.isnan(x[:, i]) & ~np.isnan(y[:, j])
            expected = np.corrcoef(x[both, i], y[both, j])[0, 1]
            assert r[i, j] == pytest.approx(expected, abs=1e-9)


def test_shuffled_units_are_found_again():
    state = np.random.RandomState(2)
    x = state.randn(60, 30)
    order = state.permutation(30)
    y = 3 * x[:, order] - 7 + 0.1 * state.randn(60, 30)
    found = best(correlate(x, y))
    np.testing.assert_array_equal(order[found.partner], np.arange(30))
    assert found.mutual.all()
    assert (found.r > 0.9).all()


def test_a_unit_that_is_nobodys_best_is_not_mutual():
    r = np.array([[0.9, 0.1], [0.8, 0.7]])
    found = best(r)
    assert found.partner.tolist() == [0, 0]
    assert found.mutual.tolist() == [True, False]


def test_units_without_a_correlation_have_no_partner():
    found = best(np.array([[np.nan, np.nan], [0.2, np.nan]]))
    assert found.partner.tolist() == [-1, 0]
    assert found.mutual.tolist() == [False, True]
    assert np.isnan(found.r[0])
    assert best(np.zeros((2, 0))).partner.tolist() == [-1, -1]


def test_by_index_pairs_what_both_have():
    r = np.array([[0.1, 0.9], [0.5, 0.6], [0.2, 0.3]])
    found = identity(r)
    assert found.partner.tolist() == [0, 1, -1]
    np.testing.assert_allclose(found.r, [0.1, 0.6, np.nan])
    assert found.mutual.tolist() == [False, False, False]
    assert identity(np.eye(3)).mutual.all()


def test_concept_profiles_are_in_standard_deviations():
    state = np.random.RandomState(3)
    features = np.array([1, 5, 0.5]) * state.randn(4000, 3) + [3, -2, 0]
    features[:, 2] = 0.25
    label = state.randint(0, 4, 4000)
    mean, second = features.mean(0), features.T @ features / len(features)
    concept_mean = np.stack([features[label == c].mean(0) for c in range(4)])
    profile = concept_profile(concept_mean, mean, second)
    np.testing.assert_allclose(profile[:, :2], ((concept_mean - mean) / features.std(0))[:, :2], rtol=1e-9)
    assert np.isnan(profile[:, 2]).all()
