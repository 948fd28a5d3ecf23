"""Moments of keys against NumPy, merging, and memories against the original's linear algebra (golden files)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dissect
from dissect import GanatomyError
from dissect.generators.convolutions import convolution_of
from dissect.samples import Sampling
from rewrite import Memory, Moments, moments
from rewrite.basis import at_each_tap, projected
from rewrite.patches import Patches

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
GOLDEN = ("pggan", "stylegan2")


def golden(name):
    return dict(np.load(DATA / f"rewrite_{name}.expected.npz"))


def of_second(second, count=1000):
    """A memory of one phase with a given second moment."""
    facts = {"kind": "channel", "layer": "l", "weight": "w", "generator": {"name": "g", "fingerprint": "f"}}
    return Memory.of(Moments(facts, (0,), np.array([count]), (np.zeros(len(second)),), (count * second,)), ridge=0)


def close(ours, theirs):
    """The mark for golden files: 2e-5 of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("name", GOLDEN)
def test_whitening_and_directions_are_the_originals(name):
    g = golden(name)
    memory = of_second(g["second_moment_C"])
    k = g["k_vec"][:, None]
    close(memory.solve(k, 0)[:, 0], g["Cinv_k_vec"])
    # Any root of C^-1 whitens; lengths and angles of whitened keys are the same.
    np.testing.assert_allclose(np.linalg.norm(memory.whiten(k, 0)), np.linalg.norm(g["Zca_k_vec"]), rtol=1e-6)
    keys, weights = [], []
    for image, mask in zip((2, 5), g["key_masks"], strict=True):
        chosen = mask > 0
        keys.append(g[f"key_features_img{image}"][0][:, chosen])
        weights.append(mask[chosen].astype(float))
    keys, weights = np.concatenate(keys, 1), np.concatenate(weights)
    close(memory.directions(keys, weights, 1, "singular", 0), g["context_zca_rank1"])
    three = memory.directions(keys, weights, 3, "singular", 0)
    assert np.linalg.matrix_rank(three) == 3
    theirs = g["context_zca_rank3"]  # made orthonormal one after the other; the span is what matters
    np.testing.assert_allclose(projected(theirs, three), theirs, atol=1e-5)
    np.testing.assert_allclose(projected(three, theirs), three, atol=1e-5)
    for rank in (1, 3):
        rows = at_each_tap(g[f"context_zca_rank{rank}"], 9)
        update = g["random_update"].reshape(10, -1)
        close(projected(update, rows), g[f"random_update_projected_D{rank}"].reshape(10, -1))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_mean_direction_is_the_originals(name):
    g = golden(name)
    memory = of_second(g["second_moment_C"])
    keys, mask = g["key_features_img2"][0].reshape(10, -1), g["key_masks"][0].ravel().astype(float)
    close(memory.directions(keys, mask, 1, "mean", 0)[0], g["query_key"])


def test_the_second_moment_of_a_generator_is_the_originals():
    g = golden("pggan")
    generator = dissect.load(DATA / "rewrite_pggan.safetensors")
    convolution = convolution_of(generator, "layer4")
    found = np.zeros((10, 10))
    for z in g["z"].reshape(-1, 12).astype(np.float32):
        x = dissect.generators.segments.segment(generator, generator.map(z[None]), convolution).keys()
        found += np.einsum("iyx,jyx->ij", x[0].double().numpy(), x[0].double().numpy())
    close(found / (40 * 64), g["second_moment_C"])


KEYED = {
    "dcgan": ("dcgan_main.safetensors", "main.3"),
    "pggan": ("rewrite_pggan.safetensors", "layer4"),
    "stylegan2 up": ("sg2ada_uncond.safetensors", "synthesis.b8.conv0"),
    "mobilestylegan": ("mobilestylegan_tiny.safetensors", "synthesis.layers.0.conv1"),
    "stylegan up": ("sg1_interfacegan.safetensors", "synthesis.layer4"),
}


@pytest.mark.parametrize("kind", ["patch", "channel"])
@pytest.mark.parametrize("name", KEYED)
def test_moments_are_sums_over_all_keys(name, kind):
    file, layer = KEYED[name]
    generator = dissect.load(DATA / file)
    convolution = convolution_of(generator, layer)
    found = moments(generator, convolution, range(3, 8), kind=kind, cells=None, batch=2)
    segments = dissect.generators.segments
    x = torch.cat([segments.segment(generator, generator.sample([s]), convolution).keys() for s in range(3, 8)])
    if kind == "channel":
        wanted = [x.double().numpy().transpose(1, 0, 2, 3).reshape(x.shape[1], -1)]
    else:
        patches = Patches.of(convolution)
        wanted = [patches.keys(x, phase).double().transpose(0, 1).flatten(1).numpy() for phase in patches.phases]
    assert found.count.tolist() == [keys.shape[1] for keys in wanted]
    for index, keys in enumerate(wanted):
        for sums, exact in ((found.total[index], keys.sum(1)), (found.second[index], keys @ keys.T)):
            # Features round with the batch, and where large terms cancel that is more than 1e-5 of what is left.
            np.testing.assert_allclose(sums, exact, rtol=1e-5, atol=max(1e-4, 1e-6 * np.abs(exact).max()))
    first, second = (
        moments(generator, convolution, seeds, kind=kind, cells=None) for seeds in (range(6, 8), range(3, 6))
    )
    both = first.merge(second)
    assert both.seeds == found.seeds
    assert np.array_equal(both.count, found.count)
    for ours, theirs in zip(both.second, found.second, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


def test_cells_are_drawn_by_the_images_own_seed():
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    convolution = convolution_of(generator, "main.6")
    some = moments(generator, convolution, range(4), cells=5)
    assert some.count.tolist() == [20] * 4
    apart = [moments(generator, convolution, [seed], cells=5, batch=1) for seed in range(4)]
    together = apart[0].merge(apart[1]).merge(apart[2]).merge(apart[3])
    for ours, theirs in zip(together.second, some.second, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_merged():
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    convolution = convolution_of(generator, "main.3")
    one = moments(generator, convolution, range(3))
    with pytest.raises(GanatomyError, match="seed 2 is in both"):
        one.merge(moments(generator, convolution, range(2, 5)))
    with pytest.raises(GanatomyError, match="they differ in kind"):
        one.merge(moments(generator, convolution, range(5, 6), kind="channel"))
    with pytest.raises(GanatomyError, match="seeds repeat"):
        moments(generator, convolution, [1, 1])
    with pytest.raises(GanatomyError, match="kind of keys"):
        moments(generator, convolution, [1], kind="pixel")
    with pytest.raises(GanatomyError, match="no truncation"):
        moments(generator, convolution, [1], sampling=Sampling(truncation=0.5))


def test_a_singular_moment_is_refused_or_given_a_ridge():
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    few = moments(generator, convolution_of(generator, "main.3"), range(1))
    with pytest.raises(GanatomyError, match=r"singular; ask for more images .* or a ridge above 0 "):
        Memory.of(few, ridge=0)
    with pytest.raises(GanatomyError, match="ridge >= 0"):
        Memory.of(few, ridge=-1)
    memory = Memory.of(few, ridge=1e-3)
    assert memory.condition > 1
    for phase, factor in enumerate(memory.factors):
        scale = np.trace(memory.second(phase)) / len(factor)
        wanted = memory.second(phase) + 1e-3 * scale * np.eye(len(factor))
        np.testing.assert_allclose(factor @ factor.T, wanted, atol=1e-12 * scale * len(factor))
        assert memory.conditions[phase] == pytest.approx(np.linalg.cond(wanted, 1), rel=2)


def test_large_sets_of_keys_give_the_directions_of_small_ones():
    state = np.random.RandomState(0)
    keys = state.randn(90, 3) @ state.randn(3, 400) + 0.01 * state.randn(90, 400)
    memory = of_second(np.cov(state.randn(90, 500)) + np.eye(90))
    weights = state.rand(400)
    by_lanczos = memory.directions(keys, weights, 2, "singular", 0)
    whitened = memory.whiten(keys, 0) * weights
    exact = memory.unwhiten(np.linalg.svd(whitened)[0][:, :2], 0)
    exact = (exact / np.linalg.norm(exact, axis=0)).T
    np.testing.assert_allclose(np.abs((by_lanczos * exact).sum(1)), 1, atol=1e-8)
    again = memory.directions(keys, weights, 2, "singular", 0)
    assert np.array_equal(again, by_lanczos)
    with pytest.raises(GanatomyError, match="zero everywhere"):
        memory.directions(keys, 0 * weights, 1, "mean", 0)
