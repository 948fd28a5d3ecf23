"""Metrics against closed forms, other implementations and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.stats import wasserstein_distance
from torch import nn

import dissect
from dissect import GanatomyError, metrics
from dissect.metrics import kernels, neighbours, resampling, sliced
from dissect.metrics.gaussians import frechet_distance, resampled_frechet
from dissect.metrics.paths import great_circle
from dissect.samples import Sampling


def features(seed, count=300, size=8):
    state = np.random.RandomState(seed)
    return state.randn(count, size) @ state.randn(size, size) + state.randn(size)


def distance(a, b):
    return metrics.frechet(metrics.Gaussian.of(a), metrics.Gaussian.of(b))


def rotation(size, seed=0):
    return np.linalg.qr(np.random.RandomState(seed).randn(size, size))[0]


# The Fréchet distance


def test_a_set_is_at_no_distance_from_itself():
    x = features(0)
    assert distance(x, x).value == pytest.approx(0, abs=1e-6)
    assert distance(x[:5], x[:5]).value == pytest.approx(0, abs=1e-6)  # fewer samples than dimensions


def test_a_shift_is_its_square_and_only_in_the_mean():
    x, shift = features(0), np.arange(8) / 3
    found = distance(x, x + shift)
    assert found.mean == pytest.approx(shift @ shift)
    assert found.covariance == pytest.approx(0, abs=1e-6)


def test_commuting_covariances():
    state = np.random.RandomState(0)
    x = state.randn(4000, 5)
    white = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # of covariance exactly 1
    one, two = np.array([1.0, 2, 3, 0.5, 0]), np.array([2.0, 2, 1, 0.25, 4])
    found = distance(white * one, white * two)
    assert found.covariance == pytest.approx(((one - two) ** 2).sum())
    assert found.mean == pytest.approx(0, abs=1e-9)


def test_rotated_together_nothing_changes_and_order_does_not_matter():
    x, y = features(0), features(1)
    turn = rotation(8)
    assert distance(x @ turn, y @ turn).value == pytest.approx(distance(x, y).value)
    assert distance(y, x).value == pytest.approx(distance(x, y).value)


@pytest.mark.parametrize("count", [300, 6])
def test_it_equals_the_formula_with_a_root_of_a_matrix(count):
    x, y = features(0, count), features(1, count + 1)
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert distance(x, y).value == pytest.approx(expected, rel=1e-5)


def test_it_equals_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = features(0), features(1)
    compute = fid._compute_fid
    given = [torch.from_numpy(v) for v in (x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))]
    assert distance(x, y).value == pytest.approx(float(compute(*given)), rel=1e-4)


@pytest.mark.parametrize(("count", "others"), [(300, 200), (6, 200), (5, 7)])
def test_of_features_at_once_it_is_the_same(count, others):
    x, y = features(0, count), features(1, others)
    found, expected = metrics.frechet_of(x, y), distance(x, y)
    assert found.mean == pytest.approx(expected.mean)
    assert found.covariance == pytest.approx(expected.covariance)


def test_gaussians_merge():
    x = features(0)
    parts = [metrics.Gaussian.of(part, origin=x[0]) for part in np.array_split(x, 7)]
    merged = sum(parts[1:], parts[0])
    assert merged.count == len(x)
    np.testing.assert_allclose(merged.mean, x.mean(0))
    np.testing.assert_allclose(merged.covariance, np.cov(x.T))
    with pytest.raises(GanatomyError, match="one origin"):
        metrics.Gaussian.of(x) + metrics.Gaussian.of(x + 1)


def test_segmentation_distance_is_in_per_cent():
    state = np.random.RandomState(0)
    a, b = state.dirichlet([1] * 6, 200), state.dirichlet([2] * 6, 200)
    assert metrics.segmentation_distance(a, b).value == pytest.approx(distance(100 * a, 100 * b).value)
    bright = a * 0.5
    assert metrics.segmentation_distance(a, bright).mean == pytest.approx(((50 * a.mean(0)) ** 2).sum())


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(3), r"\[N, D\]"),
        (np.zeros((1, 3)), "at least 2 samples"),
        (np.array([[0.0, np.nan], [1, 2]]), "NaN"),
    ],
)
def test_bad_features(bad, words):
    with pytest.raises(GanatomyError, match=words):
        distance(bad, features(0))


def test_features_of_two_lengths():
    for measure in (distance, metrics.kernel_distance, metrics.sliced_distance, metrics.coverage):
        with pytest.raises(GanatomyError, match="one length, got 8 and 7"):
            measure(features(0), features(0)[:, :7])


@pytest.mark.parametrize(
    ("count", "others", "size"), [(40, 50, 30), (40, 9, 30), (40, 200, 30), (300, 200, 8), (20, 20, 50)]
)
def test_frechet_distances_of_resampled_sets_are_those_of_the_sets(count, others, size):
    x, y, state = features(0, count, size), features(1, others, size), np.random.RandomState(0)
    x[:, 3] = y[:, 3] = 0.5  # a feature that is always the same: no covariance has full rank
    a = resampling.times_of([state.randint(0, count, count) for _ in range(4)])
    b = resampling.times_of([state.randint(0, others, others) for _ in range(4)])
    expected = [frechet_distance(np.repeat(x, s, 0), np.repeat(y, t, 0)) for s, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(resampled_frechet(x, y, a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(resampled_frechet(x, x, a, a), 0, atol=1e-4)


def test_resampled_frechet_distances_are_torchmetrics(wide):
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = wide
    counts = np.random.RandomState(2).multinomial(len(x), np.full(len(x), 1 / len(x)), 2)
    for some, found in zip(counts, resampled_frechet(x, y, counts, counts), strict=True):
        a, b = np.repeat(x, some, 0), np.repeat(y, some, 0)
        given = [torch.from_numpy(v) for v in (a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))]
        assert found == pytest.approx(float(fid._compute_fid(*given)), rel=1e-4)


@pytest.fixture
def wide():
    """Fewer images than features, as so often."""
    return features(0, 60, 150), features(1, 60, 150) + 0.2


# The kernel distance


def test_kernel_distance_is_the_estimate_over_all_pairs():
    x, y = features(0, 9), features(1, 7)

    def kernel(a, b):
        return (a @ b / 8 + 1) ** 3

    one = np.mean([kernel(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
    two = np.mean([kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    both = np.mean([kernel(a, b) for a in x for b in y])
    assert metrics.kernel_distance(x, y) == pytest.approx(one + two - 2 * both)


def test_kernel_distances_of_resampled_sets_are_those_of_the_sets():
    x, y, state = features(0, 40), features(1, 2100) + 0.3, np.random.RandomState(0)
    drawn = [(state.randint(0, 40, 40), state.randint(0, 2100, 2100)) for _ in range(3)]
    found = kernels.resampled_distances(x, y, *(resampling.times_of(rows) for rows in zip(*drawn, strict=True)))
    np.testing.assert_allclose(found, [metrics.kernel_distance(x[a], y[b]) for a, b in drawn])
    found = metrics.KernelTarget(y).resampled(x, resampling.times_of([a for a, _ in drawn]))
    np.testing.assert_allclose(found, [metrics.kernel_distance(x[a], y) for a, _ in drawn])


def test_kernel_distance_is_unbiased():
    state = np.random.RandomState(0)
    found = [metrics.kernel_distance(state.randn(20, 4), state.randn(15, 4)) for _ in range(600)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


# The inception score


def test_inception_score_of_known_posteriors():
    certain = np.eye(10)[np.arange(500) % 10]
    np.testing.assert_allclose(metrics.inception_score(certain), np.full(10, 10.0))
    np.testing.assert_allclose(metrics.inception_score(np.full((50, 10), 0.1)), np.ones(10))
    mixed = np.random.RandomState(0).dirichlet([0.3] * 10, 400)
    (whole,) = metrics.inception_score(mixed, splits=1)
    marginal = mixed.mean(0)
    assert whole == pytest.approx(np.exp(np.mean((mixed * np.log(mixed / marginal)).sum(1))))
    assert 1 <= whole <= 10


def test_posteriors_must_be_distributions():
    with pytest.raises(GanatomyError, match="distribution"):
        metrics.inception_score(np.ones((20, 3)))
    with pytest.raises(GanatomyError, match="splits"):
        metrics.inception_score(np.full((5, 2), 0.5))


# Sliced Wasserstein


def test_sliced_distance_of_a_shift():
    x, shift = features(0), np.arange(8.0)
    found = metrics.sliced_distance(x, x + shift, directions=20_000)
    assert found == pytest.approx(shift @ shift / 8, rel=0.02)
    assert metrics.sliced_distance(x, np.random.RandomState(0).permutation(x)) == pytest.approx(0, abs=1e-20)


def test_sliced_distances_of_resampled_sets_are_those_of_the_sets():
    x, y, state = features(0, 30), features(1, 37), np.random.RandomState(0)
    a, b = state.multinomial(30, np.full(30, 1 / 30), 3), state.multinomial(37, np.full(37, 1 / 37), 3)
    expected = [metrics.sliced_distance(np.repeat(x, s, 0), np.repeat(y, t, 0)) for s, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(sliced.resampled_sliced(x, y, a, b), expected)


@pytest.mark.parametrize("count", [40, 37, 80, 3])
def test_in_one_dimension_it_is_the_exact_distance(count):
    x, y = features(0, 40, 1), features(1, count, 1)
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert metrics.sliced_distance(x, y, directions=3, power=1) == pytest.approx(expected)
    repeated = np.repeat(x, count, 0), np.repeat(y, 40, 0)  # the same distributions, in equal numbers
    assert metrics.sliced_distance(x, y, 3) == pytest.approx(metrics.sliced_distance(*repeated, 3))


def test_the_pyramid_adds_up_to_the_image():
    image = np.random.RandomState(0).rand(3, 64, 64)
    levels = sliced.pyramid(image)
    assert [level.shape[1] for level in levels] == [64, 32, 16]
    again = levels[-1]
    for level in reversed(levels[:-1]):
        again = sliced.expanded(again) + level
    np.testing.assert_allclose(again, image)


def test_the_pyramid_knows_flat_from_fine():
    flat = np.full((1, 3, 64, 64), 0.3)
    levels = sliced.pyramid(flat[0])
    for level in levels[:-1]:
        np.testing.assert_allclose(level, 0, atol=1e-12)
    np.testing.assert_allclose(levels[-1], 0.3)


def test_pyramid_distances_tell_at_which_scale_images_differ():
    state = np.random.RandomState(0)
    plain, others = state.randn(2, 20, 3, 64, 64)
    checks = 3.0 * (-1) ** np.indices((64, 64)).sum(0)  # which the first smoothing removes
    same = metrics.pyramid_distances(plain, others, directions=64)
    fine = metrics.pyramid_distances(plain, others + checks, directions=64)
    assert list(same) == [64, 32, 16]
    assert fine[64] > 3 * same[64]
    assert fine[32] == pytest.approx(same[32], abs=0.02)
    assert fine[16] == pytest.approx(same[16], abs=0.02)


@pytest.mark.parametrize("shape", [(2, 3, 48, 48), (2, 3, 8, 8), (2, 3, 32, 16)])
def test_images_without_a_pyramid(shape):
    with pytest.raises(GanatomyError, match="expected"):
        metrics.pyramid_distances(np.zeros(shape), np.zeros(shape))


# Precision and recall


def test_coverage_of_known_sets():
    x = features(0, 100)
    assert metrics.coverage(x, x) == metrics.Coverage(1, 1)
    assert metrics.coverage(x, x + 1e4) == metrics.Coverage(0, 0)
    line = np.arange(100.0)[:, None]
    inside = metrics.coverage(line, line[:50])  # nested: all of it is real, half of the reals are reached
    assert inside.precision == 1
    assert inside.recall == pytest.approx(0.5, abs=0.04)


def test_coverage_by_hand():
    real, generated = np.array([[0.0], [1], [3], [7]]), np.array([[2.0], [9], [20], [1.5]])
    # Radii to the nearest neighbour: real 1 1 2 4, generated .5 7 11 .5
    found = metrics.coverage(real, generated, neighbour=1)
    assert found.precision == 3 / 4  # 2, 9 and 1.5; 20 is 13 from 7
    assert found.recall == 3 / 4  # 1 is within .5 of 1.5, 3 within 7 of 9, 7 too; 0 is not
    with pytest.raises(GanatomyError, match="at least 4"):
        metrics.coverage(real[:3], generated)


@pytest.mark.parametrize(("count", "others"), [(30, 50), (90, 2200)])
def test_coverage_of_parts_is_that_of_the_parts(count, others):
    """Also of more samples than there are rows at a time, and than there are neighbours kept."""
    x, y, state = features(0, count, 4), features(1, others, 4), np.random.RandomState(0)
    some, more = resampling.some_of(count, 3, state), resampling.some_of(others, 3, state)
    assert (some.sum(1) == count // 2).all()
    found = neighbours.coverages(x, y, some, more)
    expected = [metrics.coverage(x[a], y[b]) for a, b in zip(some, more, strict=True)]
    np.testing.assert_array_equal(found, [(e.precision, e.recall) for e in expected])
    for precision, recall in found:
        assert 0 < precision < 1 or 0 < recall < 1


def test_parts_of_fewer_than_the_neighbours():
    x = features(0, 7, 4)
    with pytest.raises(GanatomyError, match="at least 4 samples in each part"):
        neighbours.coverages(x, x, np.arange(7)[None] < 3, np.arange(7)[None] < 5)


# Path length


class Linear(nn.Module):
    """The image is a linear map of z."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(3 * 16 * 16, 12, generator=torch.Generator().manual_seed(0)).double() / 40
        )

    def forward(self, z):
        return (z.double() @ self.weight.T).reshape(-1, 3, 16, 16)


def test_path_length_of_a_linear_generator():
    generator = dissect.load(Linear(), z_dim=12)
    epsilon = 0.05
    found = metrics.path_length(generator, range(3, 64), space="z", epsilon=epsilon, at_ends=True)
    assert len(found.each) == 30  # an odd seed is left out
    weight = generator.module.weight.detach().numpy()
    for i, value in enumerate(found.each):
        a, b = (generator.sample(3 + 2 * i + k).z for k in (0, 1))
        step = great_circle(a, b, torch.tensor([[epsilon]])) - a
        expected = ((step.double().numpy()[0] @ weight.T) ** 2).mean() / epsilon**2
        assert value == pytest.approx(expected, rel=1e-3)
    assert found.value < found.each.max()


def test_path_length_in_w(mobile):
    first, second = mobile.sample([0]), mobile.sample([1])
    found = metrics.path_length(mobile, [0, 1], epsilon=0.5, at_ends=True)
    images = [mobile(mobile.codes(first.w.lerp(second.w, t))) for t in (0.0, 0.5)]
    assert found.each[0] == pytest.approx(float(((images[0] - images[1]) ** 2).mean()) / 0.25, rel=1e-4)


@pytest.mark.parametrize("space", ["w", "z"])
@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_ends_are_those_of_the_seeds_and_truncated(mobile, space, truncation):
    sampling = Sampling(truncation=truncation, noise="none")
    seeds = [7, 2, 9, 4]
    found = metrics.path_length(mobile, seeds, space=space, epsilon=1.0, at_ends=True, sampling=sampling, batch=1)
    images = mobile(mobile.sample(seeds, truncation=truncation, noise="none"))
    np.testing.assert_allclose(found.each, ((images[::2] - images[1::2]) ** 2).mean((1, 2, 3)), rtol=1e-3)
    together = metrics.path_length(mobile, seeds, space=space, epsilon=1.0, at_ends=True, sampling=sampling, batch=2)
    np.testing.assert_allclose(together.each, found.each, rtol=1e-3)


def test_classes_of_paths_are_those_of_their_first_ends():
    class Classes(nn.Module):
        def forward(self, z, c):
            return c[:, None, None, None].float() + 0 * z.sum() + torch.zeros(len(z), 3, 16, 16)

    asked = []
    generator = dissect.load(Classes(), z_dim=4, num_classes=9)

    def seen(a, b):
        asked.extend(a[:, 0, 0, 0].round().int().tolist())
        return (a - b).abs().flatten(1).mean(1)

    for classes in (5, (1, 8, 2, 8, 3, 8)):
        metrics.path_length(generator, range(6), seen, "z", sampling=Sampling(classes=classes), batch=2)
    assert asked == [5, 5, 5, 1, 2, 3]


@pytest.fixture(scope="module")
def mobile():
    from stylegan2_reference import random_tensors

    return dissect.load(random_tensors())


def test_path_lengths_outermost_are_left_out():
    each = np.r_[np.ones(998), 1e9, 1e9]
    assert metrics.PathLengths(each).value == 1


def test_great_circle():
    a, b = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 2, 0]])
    half = great_circle(a, b, torch.tensor([[0.5]]))
    torch.testing.assert_close(half, torch.tensor([[1.5 / 2**0.5, 1.5 / 2**0.5, 0]]))
    torch.testing.assert_close(great_circle(a, b, torch.tensor([[1.0]])), b)
    torch.testing.assert_close(great_circle(a, a, torch.tensor([[0.3]])), a)


def test_no_path_in_w_without_w():
    with pytest.raises(GanatomyError, match="no intermediate latents; use space='z'"):
        metrics.path_length(dissect.load("planted:0"), [0, 1])
    with pytest.raises(GanatomyError, match="unknown space 'y'"):
        metrics.path_length(dissect.load("planted:0"), [0, 1], space="y")
    with pytest.raises(GanatomyError, match="two seeds at least"):
        metrics.path_length(dissect.load("planted:0"), [0], space="z")
