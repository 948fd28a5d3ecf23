"""Counting in torch against the NumPy definition and the CPU kernel: bit for bit, however it is cut, on any device."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import differing, random_features, random_labels
from hypothesis import given, settings
from hypothesis import strategies as st

import dissect
import segmodels
from dissect import accumulate, counts_torch
from dissect.counts import Coded, Counter, count_reference
from dissect.counts_torch import TorchCounter
from dissect.levels import coarse_indices
from dissect.resample import resample

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
KINDS = ["normal", "ties", "relu", "constant", "heavy", "tiny"]
SHAPES = {
    "up": ((4, 6), (13, 10)),
    "down": ((13, 9), (5, 4)),
    "equal": ((7, 5), (7, 5)),
    "up and down": ((3, 11), (8, 4)),
    "one pixel": ((1, 1), (6, 5)),
    "to one pixel": ((5, 3), (1, 1)),
}
on_each_device = pytest.mark.parametrize("device", DEVICES)
pytestmark = pytest.mark.usefixtures("one_thread")


def case(seed, units=5, samples=4, planes=3, concepts=9, side=(4, 6), size=(13, 10), bins=7, kind="normal"):
    """Features, labels of one sample more, levels."""
    state = np.random.RandomState(seed)
    features = random_features(state, kind, (samples, units, *side))
    if kind == "tiny":
        features = (features * np.float32(1e-20) * np.float32(1e-20)).astype(np.float32)  # below the normal numbers
    # Levels are values that are counted, some of them more than once: ties are exact, and an ulp is a wrong bin.
    values = resample(features, *size)
    levels = np.stack([np.sort(state.choice(values[:, u].ravel(), bins)) for u in range(units)])
    labels = random_labels(state, samples + 1, planes, concepts, size)
    return features, labels, levels, concepts


def count(counter, features, labels, concepts, cuts=(), early=()):
    """Count real and by chance, cut into batches after the samples in ``cuts``, folded also after those in ``early``.

    Returns:
        int64 [2, U, B + 1, C] and the blocks, likewise.
    """
    units, levels = counter.levels.shape
    coarse = coarse_indices(levels)
    counts = np.zeros((2, units, concepts, levels + 1), np.int64)
    blocks = np.zeros((2, units, concepts, len(coarse) + 1), np.uint32)
    with ThreadPoolExecutor(2) as pool:
        for start, stop in pairwise([0, *cuts, len(features)]):
            part = torch.from_numpy(features[start:stop]).to(getattr(counter, "device", "cpu"))
            counter.add(part, Coded.of(labels[start : stop + 1]), pool, 2)
            if stop in early or stop == len(features):
                counter.fold(coarse, tuple(counts), tuple(blocks), pool, 2)
    return counts.transpose(0, 1, 3, 2), blocks.transpose(0, 1, 3, 2)


def agrees(features, labels, levels, concepts, device, **cut):
    shape, size = features.shape[2:], labels.shape[2:]
    counts, blocks = count(TorchCounter(levels, shape, size, concepts, device), features, labels, concepts, **cut)
    kernel, kernel_blocks = count(Counter(levels, shape, size, concepts), features, labels, concepts, **cut)
    return (
        np.array_equal(counts[0], count_reference(features, labels[:-1], levels, concepts))
        and np.array_equal(counts[1], count_reference(features, labels[1:], levels, concepts))
        and np.array_equal(counts, kernel)
        and np.array_equal(blocks, kernel_blocks)
    )


@on_each_device
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(), (1,), (1, 2, 3)])
def test_equals_definition_and_kernel(device, kind, cuts):
    assert agrees(*case(3, kind=kind), device, cuts=cuts)


@on_each_device
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("bins", [1, 48])
def test_sizes(device, shapes, bins):
    assert agrees(*case(4, side=shapes[0], size=shapes[1], bins=bins), device, cuts=(2,))


@on_each_device
@pytest.mark.parametrize("values", [1, 150, 1000, 4000])
def test_chunks_change_nothing(device, values, monkeypatch):
    """One map at a time, some samples, one unit, some units; and expansion a unit at a time."""
    monkeypatch.setattr(counts_torch, "MOST_VALUES", values)
    for shapes in SHAPES.values():
        assert agrees(*case(5, side=shapes[0], size=shapes[1]), device, cuts=(3,))


@on_each_device
def test_begins_again_from_zero(device):
    assert agrees(*case(6, samples=6), device, cuts=(2, 4), early=(2, 4))


@on_each_device
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    units=st.integers(1, 4),
    planes=st.integers(1, 4),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bins=st.integers(1, 60),
    kind=st.sampled_from(KINDS),
    cuts=st.sampled_from([(), (1,), (1, 2)]),
)
def test_equals_definition_and_kernel_everywhere(device, seed, units, planes, side, size, bins, kind, cuts):
    assert agrees(*case(seed, units, 3, planes, 12, side, size, bins, kind), device, cuts=cuts)


@on_each_device
def test_a_tie_goes_to_the_lower_bin(device):
    features = np.array([[[[0.0, 1.0], [2.0, 3.0]]]], np.float32)
    labels = np.array([[[[1, 1], [0, 2]]]] * 2, np.int16)
    levels = np.array([[0.5, 1.0, 2.5]], np.float32)
    counts, _ = count(TorchCounter(levels, (2, 2), (2, 2), 3, device), features, labels, 3)
    assert counts[0, 0].tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


@on_each_device
def test_features_need_not_be_contiguous(device):
    features, labels, levels, concepts = case(9)
    coded = Coded.of(labels)
    plain, other = (TorchCounter(levels, (4, 6), (13, 10), concepts, device) for _ in range(2))
    there = torch.from_numpy(features).to(device)
    plain.add(there, coded)
    other.add(there.to(memory_format=torch.channels_last), coded)
    assert torch.equal(plain._counts, other._counts)
    assert plain._counts.any()


@on_each_device
def test_refuses_what_it_cannot_count_and_counts_nothing(device):
    counter = TorchCounter(np.zeros((2, 3), np.float32), (4, 4), (5, 5), 2, device)
    good, codes = torch.ones(3, 2, 4, 4, device=device), Coded.of(np.ones((4, 1, 5, 5), np.int16))
    for value in (np.nan, np.inf, -np.inf):
        bad = good.clone()
        bad[1, 1, 2, 3] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            counter.add(bad, codes)
    with pytest.raises(ValueError, match="float32"):
        counter.add(good.half(), codes)
    with pytest.raises(ValueError, match="shape"):
        counter.add(good[:, :1], codes)
    with pytest.raises(ValueError, match="shape"):
        counter.add(good, Coded.of(np.ones((3, 1, 5, 5), np.int16)))
    counter.add(good[:0], Coded.of(np.ones((1, 1, 5, 5), np.int16)))
    assert not counter._counts.any()


@on_each_device
def test_a_job_that_counts_in_torch_writes_the_same_file(device, monkeypatch, tmp_path):
    """The whole of it with the other counter, everything that a dissection holds."""
    segmenter = segmodels.load("planted")
    files = {}
    for name in ("kernel", "torch"):
        where = device if name == "torch" else "cpu"
        generator = dissect.load("planted:3", device=where)
        if name == "torch":
            monkeypatch.setattr(accumulate, "Counter", partial(TorchCounter, device=where))
        files[name] = tmp_path / f"{name}.h5"
        dissect.run(generator, segmenter, ["layer1", "layer3"], 40, files[name], batch=3, threads=1, maxima=True)
    assert differing(files["kernel"], files["torch"]) == []
