"""Codes: the seeds' convention, slicing, explicit latents, and everything that is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from networks import Tangled, dcgan_tensors

import dissect
from dissect import Codes, GanatomyError
from dissect.generators.codes import MAX_SEED
from dissect.generators.loading import from_tensors


@pytest.fixture(scope="module")
def plain():
    return from_tensors(dcgan_tensors(), "plain")


@pytest.fixture(scope="module")
def classy():
    return dissect.load(Tangled(num_classes=7), z_dim=5, num_classes=7)


@pytest.fixture(scope="module")
def noisy():
    return dissect.load("planted:1,noise=0.25")


SEEDS = [0, 1, 2**31, MAX_SEED, 7, 7]


def test_a_seed_is_randomstate_randn(plain):
    codes = plain.sample(SEEDS)
    expected = np.stack([np.random.RandomState(seed).randn(7) for seed in SEEDS]).astype(np.float32)
    assert codes.z.dtype == torch.float32
    assert np.array_equal(codes.z.numpy(), expected)
    assert codes.seeds == tuple(SEEDS)
    assert (codes.w, codes.classes, codes.noise, codes.truncation, codes.cutoff) == (None, None, None, 1.0, None)
    assert len(codes) == 6


@pytest.mark.parametrize(
    "seeds", [range(3), (0, 1, 2), np.arange(3), np.arange(3, dtype=np.uint8), [np.int64(0), 1, 2], iter(range(3))]
)
def test_seeds_may_come_in_any_form(plain, seeds):
    assert plain.sample(seeds).seeds == (0, 1, 2)


def test_one_seed_is_one_sample(plain):
    assert plain.sample(5).seeds == (5,)
    assert plain.sample(np.int64(5)).z.shape == (1, 7)


def test_class_and_noise_come_after_z_from_the_same_state(classy, noisy):
    codes = classy.sample(range(9))
    assert codes.classes.dtype == torch.int64
    for seed in range(9):
        state = np.random.RandomState(seed)
        state.randn(5)
        assert codes.classes[seed] == state.randint(7)
    drawn = noisy.sample(range(9), noise="random")
    for seed in range(9):
        state = np.random.RandomState(seed)
        state.randn(noisy.z_dim)
        assert drawn.noise[seed] == state.randint(2**31)
    assert noisy.sample(range(9)).noise is None
    assert torch.equal(noisy.sample(range(9)).z, drawn.z)
    assert torch.equal(classy.sample(range(9), classes=2).z, codes.z)


@pytest.mark.parametrize("which", ["plain", "classy", "noisy"])
def test_a_prefix_of_the_seeds_gives_a_prefix_of_the_codes(which, request):
    generator = request.getfixturevalue(which)
    noise = "random" if generator.has_noise else "const"
    long, short = generator.sample(range(20, 50), noise=noise), generator.sample(range(20, 25), noise=noise)
    for name in ("z", "classes", "noise"):
        first, second = getattr(long[:5], name), getattr(short, name)
        assert (first is None and second is None) or torch.equal(first, second)
    assert long[:5].seeds == short.seeds


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(2, 4), [2, 3]),
        (slice(None), list(range(6))),
        (slice(4, 99), [4, 5]),
        (slice(None, None, -2), [5, 3, 1]),
        (slice(3, 3), []),
        ([4, 0, 4], [4, 0, 4]),
        ([-1], [5]),
        ([], []),
        (2, [2]),
        (-1, [5]),
        (np.int64(3), [3]),
        (np.array([1, 2]), [1, 2]),
        (torch.tensor([1, 2]), [1, 2]),
        ([True, False, False, True, False, False], [0, 3]),
        (range(2), [0, 1]),
    ],
)
def test_slicing_takes_every_part_along(classy, index, rows):
    codes = dataclasses.replace(classy.sample(SEEDS), noise=torch.arange(6), w=torch.rand(6, 2, 3), truncation=0.7)
    part = codes[index]
    assert len(part) == len(rows)
    assert part.seeds == tuple(SEEDS[row] for row in rows)
    for name in ("z", "w", "classes", "noise"):
        assert torch.equal(getattr(part, name), getattr(codes, name)[rows])
    assert part.truncation == 0.7


@pytest.mark.parametrize("index", [6, -7, [6], [0, -7]])
def test_a_sample_that_is_not_there_is_an_index_error(plain, index):
    with pytest.raises(IndexError):
        plain.sample(SEEDS)[index]


def test_codes_can_be_gone_through_one_by_one(plain):
    assert [part.seeds for part in plain.sample(range(3))] == [(0,), (1,), (2,)]


def test_codes_are_frozen(plain):
    codes = plain.sample(0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        codes.z = None
    assert len(Codes(None)) == 0


@pytest.mark.parametrize(
    "convert",
    [
        lambda z: z,
        lambda z: z.astype(np.float64),
        lambda z: z[:, :, None, None],
        lambda z: torch.tensor(z),
        lambda z: torch.tensor(z).double().requires_grad_(),
        lambda z: z.tolist(),
        lambda z: z[:, ::-1].copy()[:, ::-1],
    ],
)
def test_explicit_z_in_any_form(plain, convert):
    z = np.random.RandomState(3).randn(4, 7).astype(np.float32)
    codes = plain.map(convert(z))
    assert codes.z.dtype == torch.float32
    assert np.array_equal(codes.z.numpy(), z)
    assert codes.seeds is None
    assert torch.equal(plain(codes), plain(Codes(torch.tensor(z))))


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_codes_are_a_copy_of_z(plain, kind):
    z = kind(np.zeros((2, 7), np.float32))
    codes = plain.map(z)
    z[:] = 5
    assert not codes.z.any()


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.zeros((2, 8)), r"expected z \[N, 7\], got \[2, 8\]"),
        (np.zeros(7), r"got \[7\]"),
        (np.zeros((0, 7)), r"got \[0, 7\]"),
        (np.zeros((2, 7, 2, 2)), r"got \[2, 7, 2, 2\]"),
        (np.full((2, 7), np.nan), "NaN or infinite"),
        (np.full((2, 7), 1e300), "NaN or infinite"),
        (torch.full((2, 7), float("inf")), "NaN or infinite"),
        ([["a"] * 7], "z as numbers"),
        (None, "z"),
        ([[0.0] * 7, [0.0] * 6], "z as numbers"),
    ],
)
def test_latents_that_do_not_fit_are_refused(plain, z, words):
    with np.errstate(over="ignore"), pytest.raises(GanatomyError, match=words) as caught:
        plain.map(z)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "seeds", [[], [-1], [MAX_SEED + 1], [0.5], [0.0], ["0"], "12", [None], None, [True], 1.5, -1, np.array([0.5])]
)
def test_seeds_that_are_none_are_refused(plain, seeds):
    with pytest.raises(GanatomyError, match="seed") as caught:
        plain.sample(seeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"truncation": 0.7}, "has no truncation; use truncation=1.0"),
        ({"truncation": 0}, "has no truncation"),
        ({"cutoff": 3}, "has no truncation"),
        ({"noise": "random"}, "has no noise inputs; use noise='const'"),
        ({"noise": "rnadom"}, "unknown noise mode 'rnadom'; nearest: random"),
        ({"classes": 0}, "has no classes, got classes=0"),
        ({"classes": [0, 1]}, "has no classes"),
    ],
)
def test_what_a_family_lacks_is_refused(plain, arguments, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        plain.sample(range(2), **arguments)
    assert "\n" not in str(caught.value)


def test_truncation_of_one_is_no_truncation(plain):
    assert torch.equal(plain.sample(3, truncation=1).z, plain.sample(3).z)


def test_families_without_w_say_so(plain, noisy, classy):
    for generator in (plain, noisy, classy):
        with pytest.raises(GanatomyError, match="no intermediate latent space"):
            generator.codes(np.zeros((1, 512)))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(3, [3, 3]), ([3], [3, 3]), ([0, 6], [0, 6]), (torch.tensor([0, 6]), [0, 6]), (np.int64(2), [2, 2])],
)
def test_classes_are_one_for_all_or_one_each(classy, classes, expected):
    assert classy.sample(range(2), classes=classes).classes.tolist() == expected
    assert classy.map(np.zeros((2, 5)), classes).classes.tolist() == expected


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (7, r"classes must be 0\.\.6"),
        (-1, r"classes must be 0\.\.6"),
        ([0, 1, 2], "2 samples but 3 classes"),
        ([], "classes"),
        (0.5, "classes as integers"),
        ("cat", "classes as integers"),
        ([True, False], "classes as integers"),
        ([[0, 1]], "classes as integers"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classy, classes, words):
    for ask in (lambda: classy.sample(range(2), classes=classes), lambda: classy.map(np.zeros((2, 5)), classes)):
        with pytest.raises(GanatomyError, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_explicit_z_of_a_conditional_model_needs_classes(classy):
    with pytest.raises(GanatomyError, match="7 classes; say which with classes="):
        classy.map(np.zeros((2, 5)))
