"""A concept drawn on a few images: planted truth finds its units, and NumPy reads the same numbers."""

import numpy as np
import pytest

import dissect
import segmodels
from dissect.counts import count_reference
from dissect.resample import resample
from dissect.sketch import read, sketch
from segmodels import GanatomyError

LAYER, CONCEPT, SIDE = "layer2", "cross", 32


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A generator, a run's levels, and images that show a concept with where it is."""
    generator, segmenter = dissect.load("planted:7"), segmodels.load("planted")
    run = dissect.run(generator, segmenter, LAYER, 120, tmp_path_factory.mktemp("sketch") / "run.h5")
    index = [concept.name for concept in segmenter.concepts].index(CONCEPT)
    seeds = range(1000, 1200)
    labels = segmenter.segment(generator(generator.sample(seeds)), list(seeds))
    masks = (labels == index).any(1).numpy()
    chosen = np.flatnonzero(masks.any((1, 2)))[:4]
    return generator, run, [seeds[i] for i in chosen], masks[chosen]


def test_units_of_a_concept_are_found_by_drawing_it(drawn):
    generator, run, seeds, masks = drawn
    found = sketch(generator, LAYER, generator.sample(seeds), masks, run.layer(LAYER).levels)
    known = generator.truth.concepts[LAYER]
    assert CONCEPT in known[int(found.order[0])]
    best = found.rows(1)[0]
    assert best["iou"] > 0.5 > 5 * best["chance"]
    assert best["stderr"] < 0.3
    assert found.images == 4


def test_the_numbers_are_those_of_numpy(drawn):
    """For each image, the level that does best on the others, tried one by one."""
    generator, run, seeds, masks = drawn
    levels = run.layer(LAYER).levels
    found = sketch(generator, LAYER, generator.sample(seeds), masks, levels)
    features = generator.features(generator.sample(seeds), LAYER)[LAYER].numpy()
    values = resample(features, *masks.shape[1:])
    for unit in found.order[:3]:
        on = values[:, unit, None] > levels[unit][None, :, None, None]  # [N, B, H, W]
        both, union = np.zeros(len(seeds)), np.zeros(len(seeds))
        for image in range(len(seeds)):
            others = [i for i in range(len(seeds)) if i != image]
            best = max(range(levels.shape[1]), key=lambda b: _ratio(on[others, b], masks[others]))
            both[image] = (on[image, best] & masks[image]).sum()
            union[image] = (on[image, best] | masks[image]).sum()
        assert found.iou[unit] == pytest.approx(both.sum() / union.sum(), abs=1e-12)
        left = np.array([(both.sum() - b) / (union.sum() - u) for b, u in zip(both, union, strict=True)])
        assert found.stderr[unit] == pytest.approx(np.sqrt(3 / 4 * ((left - left.mean()) ** 2).sum()), abs=1e-12)


def _ratio(on, mask):
    """Eq. 8 of the survey where the association is positive and 100 pixels are on, else nothing."""
    if on.sum() < 100 or (on & mask).mean() <= on.mean() * mask.mean():
        return -1
    joint = np.array([[(on & mask).mean(), (on & ~mask).mean()], [(~on & mask).mean(), (~on & ~mask).mean()]])
    expected = np.outer([on.mean(), 1 - on.mean()], [mask.mean(), 1 - mask.mean()])
    positive = joint > 0
    mutual = (joint[positive] * np.log(joint[positive] / expected[positive])).sum()
    return mutual / -(joint[positive] * np.log(joint[positive])).sum()


def test_a_unit_that_knows_nothing_agrees_as_chance_does():
    random = np.random.RandomState(0)
    levels = np.linspace(-2, 2, 12, dtype=np.float32)[None].repeat(300, 0)
    masks = np.zeros((6, 1, 1, SIDE, SIDE), np.int16)
    masks[..., :12, :12] = 1
    counts = [count_reference(random.randn(1, 300, 8, 8).astype(np.float32), mask, levels, 2) for mask in masks]
    found = read("x", np.stack(counts), levels)
    known = found.iou > 0
    assert known.sum() > 100
    assert abs((found.iou - found.chance)[known].mean()) < 0.02


def test_two_images_have_no_error_and_fewer_no_answer(drawn):
    generator, run, seeds, masks = drawn
    levels = run.layer(LAYER).levels
    codes = generator.sample(seeds)
    assert np.isnan(sketch(generator, LAYER, codes[[0, 1]], masks[:2], levels).stderr).all()
    for some, many, words in (
        (masks[:1], [0], "2 images or more"),
        (np.zeros_like(masks), [0, 1, 2, 3], "has to be drawn on 2 images"),
        (masks[:, 0], [0, 1, 2, 3], "expected masks bool"),
    ):
        with pytest.raises(GanatomyError, match=words):
            sketch(generator, LAYER, codes[many], some, levels)
    with pytest.raises(GanatomyError, match="the levels are of 3"):
        sketch(generator, LAYER, codes, masks, levels[:3])
