"""The planted generators against their own truth: labels, features and effects, for seeds 0 to 9."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dissect
import segmodels
from dissect import GanatomyError
from dissect.generators.planted_truth import CONCEPTS
from segmodels.planted import COLOURS, SHAPES

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = range(10)
SAMPLES = 60
LAYERS = ("layer1", "layer2", "layer3")


@lru_cache(maxsize=1)  # tests run seed by seed
def world(seed):
    """(generator, samples, capture of all layers, labels read from the images)."""
    generator = dissect.load(f"planted:{seed}")
    samples = [*range(SAMPLES), *rare_samples(generator, 2)]
    capture = generator.capture(generator.sample(samples), LAYERS)
    return generator, samples, capture, segmodels.load("planted")(capture.images).numpy()


def rare_samples(generator, count):
    """Further samples in which the rare shape is drawn: too few of the first have it."""
    rare = generator.world.blobs[0]
    found = []
    for seed in range(1000, 9000):
        z = np.random.RandomState(seed).randn(generator.z_dim)
        if round(z[rare.presence_dim] * 64) > rare.threshold:
            found.append(seed)
            if len(found) == count:
                return found
    raise AssertionError("the rare shape is never drawn")


def pytest_generate_tests(metafunc):
    """Group everything that asks about one seed, so that its pass is made once."""
    if "planted" in metafunc.fixturenames:
        metafunc.parametrize("planted", SEEDS, scope="module")


def areas(labels):
    """Share of each concept in all pixels, float64 [C]."""
    return np.array([(labels[:, 1 if c > len(SHAPES) else 0] == c).mean() for c in range(len(CONCEPTS))])


def test_the_segmenter_reads_what_truth_says_is_drawn(planted):
    generator, samples, _, labels = world(planted)
    assert [concept.name for concept in segmodels.load("planted").concepts] == list(CONCEPTS)
    assert np.array_equal(labels, generator.truth.labels(samples))
    assert labels.dtype == np.int16


def test_features_are_those_of_truth_bit_for_bit(planted):
    generator, samples, capture, _ = world(planted)
    for layer in LAYERS:
        expected = generator.truth.features(samples, layer)
        assert expected.dtype == np.float32
        assert np.array_equal(capture.features[layer].numpy(), expected)


def some_units(generator, layer):
    """One unit of every kind, and of the kinds that draw every one."""
    kinds = generator.truth.kind[layer]
    seen = Counter()
    for unit, kind in kinds.items():
        seen[kind] += 1
        if seen[kind] == 1 or kind in ("painting", "rare", "garbage"):
            yield unit


@pytest.mark.parametrize("layer", ["layer1", "layer3"])
def test_the_effect_of_an_ablation_is_the_one_that_truth_says(planted, layer):
    generator, samples, capture, labels = world(planted)
    (inhibitory,) = [unit for unit, kind in generator.truth.kind["layer1"].items() if kind == "inhibitory"]
    inhibited = torch.nonzero(capture.features["layer1"][:, inhibitory].any(2).any(1)).flatten()
    rows = sorted({*range(0, SAMPLES, 8), *inhibited[:2].tolist(), SAMPLES, SAMPLES + 1})
    chosen = [samples[row] for row in rows]
    part = generator.capture(generator.sample(chosen), layer)
    assert torch.equal(part.images, capture.images[rows])
    reader, before = segmodels.load("planted"), areas(labels[rows])
    effects = {}
    for unit in some_units(generator, layer):
        images = generator.resume(part, layer, edits=dissect.ablate(layer, unit))
        measured = areas(reader(images).numpy()) - before
        kind = generator.truth.kind[layer][unit]
        assert np.array_equal(measured, generator.truth.effect(chosen, layer, unit)), (kind, unit)
        effects.setdefault(kind, []).append(np.abs(measured).max())
    for kind in ("painting", "rare", "inhibitory"):
        assert max(effects[kind]) > 0, f"no {kind} unit had an effect, so nothing was compared"
    assert max(effects["rare"]) < max(effects["painting"])
    for kind in ("shifted", "entangled", "correlated", "independent", "inert"):
        assert max(effects[kind]) == 0, f"a {kind} unit is not causal"


def test_what_several_units_do_together_is_known_too(planted):
    generator, samples, _, labels = world(planted)
    truth = generator.truth
    concept = generator.world.doubled[0]
    both = [
        unit for unit, kind in truth.kind["layer2"].items() if kind == "painting" and truth["layer2"][unit] == concept
    ]
    assert len(both) == 2
    edits = dissect.ablate("layer2", both)
    found = segmodels.load("planted")(generator(generator.sample(samples[:20]), edits=edits)).numpy()
    assert np.array_equal(found, truth.labels(samples[:20], ("layer2", both)))
    assert not (found == CONCEPTS.index(concept)).any()
    assert (labels[:20] == CONCEPTS.index(concept)).any()


def test_without_the_garbage_units_the_garbage_is_gone(planted):
    generator, samples, capture, labels = world(planted)
    some = slice(0, 24)
    labels, images, codes = labels[some], capture.images[some], generator.sample(samples[some])
    painted = (capture.features["layer3"][some, garbage_of(generator, "layer3")] > 0).any(1).numpy()
    for layer in ("layer1", "layer3"):
        units = garbage_of(generator, layer)
        assert len(units) == 2
        changed = (generator(codes, edits=dissect.ablate(layer, units)) != images).any(1).numpy()
        assert np.array_equal(changed, painted)
        assert not labels[np.broadcast_to(changed[:, None], labels.shape)].any(), "garbage has no concept"


def garbage_of(generator, layer):
    return [unit for unit, kind in generator.truth.kind[layer].items() if kind == "garbage"]


def test_the_iou_of_truth_is_the_one_counted_from_features_and_labels(planted):
    """By ``F.interpolate`` and plain indexing: another way through every step."""
    generator, samples, capture, labels = world(planted)
    chosen = slice(0, 10)
    size = generator.resolution
    pixels = np.stack([labels[chosen, 1 if c > len(SHAPES) else 0] == c for c in range(len(CONCEPTS))])
    pixels = torch.from_numpy(pixels.reshape(len(CONCEPTS), -1).astype(np.float64))
    for layer, level in (("layer1", 0.3), ("layer2", np.linspace(0.1, 2, 64)), ("layer3", 0.0)):
        maps = F.interpolate(capture.features[layer][chosen], (size, size), mode="bilinear", align_corners=False)
        limit = torch.as_tensor(np.broadcast_to(np.float32(level), (64,)).copy())
        on = (maps > limit[:, None, None]).transpose(0, 1).reshape(64, -1).double()
        both = on @ pixels.T
        union = on.sum(1)[:, None] + pixels.sum(1)[None] - both
        expected = np.where(union > 0, both / union.clamp(min=1), np.nan)
        assert np.array_equal(generator.truth.iou(samples[chosen], layer, level), expected, equal_nan=True)


# -- what the family promises ----------------------------------------------------------------------------------


def test_the_cast_is_complete(planted):
    generator, _, _, _ = world(planted)
    assert [(x.name, x.channels, x.height, x.default) for x in generator.layers] == [
        ("layer1", 64, 16, True), ("layer2", 64, 32, True), ("layer3", 64, 64, True),
    ]  # fmt: skip
    assert (generator.family, generator.resolution, generator.name) == ("planted", 64, f"planted:{planted}")
    assert list(generator.truth) == list(LAYERS)
    for layer in LAYERS:
        kinds = generator.truth.kind[layer]
        assert sorted(kinds) == list(range(64))
        count = Counter(kinds.values())
        assert count["rare"] == count["inhibitory"] == 1
        assert count["shifted"] == count["entangled"] == count["garbage"] == 2
        assert count["independent"] >= 1
        assert count["correlated"] >= 1
        assert count["inert"] >= 2
        painted = Counter(generator.truth[layer][unit] for unit, kind in kinds.items() if kind in ("painting", "rare"))
        assert len(painted) == 11, "all concepts but one are painted"
        assert sorted(painted.values()) == [1] * 8 + [2] * 3
        named = {kind for unit, kind in kinds.items() if generator.truth[layer][unit] is not None}
        assert named == {"painting", "rare", "shifted", "entangled", "correlated"}


def test_units_of_a_kind_lie_elsewhere_in_every_layer(planted):
    generator, _, _, _ = world(planted)
    places = [[unit for unit, kind in generator.truth.kind[layer].items() if kind == "painting"] for layer in LAYERS]
    assert places[0] != places[1] != places[2]


def test_shifted_units_are_half_a_shape_aside(planted):
    generator, samples, capture, _ = world(planted)
    features, truth = capture.features["layer1"].numpy(), generator.truth
    for unit in (unit for unit, kind in truth.kind["layer1"].items() if kind == "shifted"):
        concept = truth["layer1"][unit]
        shape = next(blob for blob in generator.world.blobs if blob.name == concept)
        scenes = [truth._scene(seed) for seed in samples]
        whole = np.stack([scene.whole[shape.name] for scene in scenes])
        here = features[:, unit] > 0
        assert np.array_equal(here[:, :, 2:], whole[:, :, :-2] > 0)
        assert not here[:, :, :2].any()


def test_a_concept_is_never_painted_and_twelve_there_are():
    concepts = segmodels.load("planted").concepts[1:]
    assert [concept.plane for concept in concepts] == [0] * 6 + [1] * 6
    assert {concept.category for concept in concepts} == {"shape", "colour"}
    missing = Counter()
    for seed in SEEDS:
        generator = dissect.load(f"planted:{seed}")
        drawn = {*generator.world.drawn_shapes, *generator.world.drawn_colours}
        (absent,) = {*SHAPES, *COLOURS} - drawn
        assert not (generator.truth.labels(range(150)) == CONCEPTS.index(absent)).any()
        assert absent not in {name for layer in LAYERS for name in generator.truth[layer].values()}
        missing["shape" if absent in SHAPES else "colour"] += 1
    assert set(missing) == {"shape", "colour"}, "both kinds of concept should be missing somewhere"


def test_how_often_things_are_there():
    """From z alone: the rare shape in 2% of the images, garbage of each unit in 30%, the other shapes in about half."""
    z = np.stack([np.random.RandomState(seed).randn(64).astype(np.float32) for seed in range(8_000)])
    z = np.rint(z * 64)
    for seed in SEEDS:
        generator = dissect.load(f"planted:{seed}")
        kinds = {"rare": 0.02, "garbage": 0.3}
        rare = generator.truth.kind["layer1"]
        (unit,) = [unit for unit, kind in rare.items() if kind == "rare"]
        for blob in generator.world.blobs:
            share = (z[:, blob.presence_dim] > blob.threshold).mean()
            if blob.name == generator.truth["layer1"][unit]:
                assert abs(share - kinds["rare"]) < 0.005
            elif blob.name.startswith("garbage"):
                assert abs(share - kinds["garbage"]) < 0.015
            else:
                assert 0.3 < share < 0.7


def test_every_entry_of_z_is_used_for_one_thing():
    for seed in SEEDS:
        plan = dissect.load(f"planted:{seed}").world
        dims = [d for blob in plan.blobs for d in (blob.presence_dim, blob.row_dim, blob.column_dim)]
        dims += [*plan.colour_dims.values(), plan.suppress_dim]
        assert len(dims) == len(set(dims))


def test_seeds_make_different_worlds_and_the_same_seed_the_same():
    assert len({dissect.load(f"planted:{seed}").fingerprint for seed in SEEDS}) == len(SEEDS)
    assert dissect.load("planted:3").fingerprint == dissect.load("planted:3").fingerprint
    assert dissect.load("planted").fingerprint == dissect.load("planted:0").fingerprint
    assert dissect.load("planted").name == "planted:0"


# -- sameness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["planted:7,units=40", "planted:8,units=29,noise=0.25"])
def test_bits_do_not_depend_on_batch_size_or_threads(source):
    generator = dissect.load(source)
    codes = generator.sample(range(66), noise="random")
    expected = generator.capture(codes, LAYERS)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for batch, count in ((1, 8), (7, 21), (64, 66)):
            parts = [generator.capture(codes[i : i + batch], LAYERS) for i in range(0, count, batch)]
            assert torch.equal(torch.cat([part.images for part in parts]), expected.images[:count])
            for name in LAYERS:
                features = torch.cat([part.features[name] for part in parts])
                assert torch.equal(features, expected.features[name][:count]), (threads, batch)


def test_weights_are_dyadic_so_that_arithmetic_is_exact():
    for name, value in dissect.load("planted:4,noise=0.5").module.state_dict().items():
        assert torch.equal(value * 2**12, (value * 2**12).round()), name
        assert value.abs().max() < 2**12


def test_z_is_rounded_in_the_first_stage():
    generator = dissect.load("planted:2")
    z = generator.sample(range(8)).z
    rounded = torch.round(z * 64) / 64
    assert not torch.equal(z, rounded)
    assert torch.equal(generator(generator.map(z)), generator(generator.map(rounded)))


# -- options ---------------------------------------------------------------------------------------------------


def test_noise_is_seen_by_the_layers_and_not_by_the_images():
    plain, noisy = dissect.load("planted:6"), dissect.load("planted:6,noise=0.25")
    assert noisy.name == "planted:6,noise=0.25"
    seeds = range(12)
    calm = plain.capture(plain.sample(seeds), LAYERS)
    constant = noisy.capture(noisy.sample(seeds), LAYERS)
    drawn = noisy.capture(noisy.sample(seeds, noise="random"), LAYERS)
    again = noisy.capture(noisy.sample(seeds, noise="random"), LAYERS)
    for name in LAYERS:
        assert np.array_equal(constant.features[name].numpy(), noisy.truth.features(seeds, name))
        for capture in (constant, drawn):
            added = capture.features[name] - calm.features[name]
            assert added.min() >= 0
            assert added.max() < 0.25
            assert added.unique().numel() == 64
        assert not torch.equal(drawn.features[name], constant.features[name])
        assert torch.equal(drawn.features[name], again.features[name])
        pattern = drawn.features[name] - calm.features[name]
        assert not torch.equal(pattern[0], pattern[1]), "every sample has noise of its own"
        assert not torch.equal(pattern[:, 0], pattern[:, 1]), "every unit has noise of its own"
    for capture in (constant, drawn):
        assert torch.equal(capture.images, calm.images)


@pytest.mark.parametrize(
    ("source", "units", "layers", "resolution"),
    [
        ("planted:1,units=40", 40, 3, 64),
        ("planted:1,units=200", 200, 3, 64),
        ("planted:1,layers=4", 64, 4, 128),
        ("planted:1,layers=5,units=36", 36, 5, 256),
        ("planted:1,noise=0.5,layers=4,units=48", 48, 4, 128),
    ],
)
def test_units_and_layers(source, units, layers, resolution):
    generator = dissect.load(source)
    assert generator.resolution == resolution
    assert [layer.channels for layer in generator.layers] == [units] * layers
    assert set(generator.name.split(",")) == set(source.split(","))
    assert dissect.load(generator.name).fingerprint == generator.fingerprint
    capture = generator.capture(generator.sample(range(2)), generator.default_layers())
    labels = segmodels.load("planted")(capture.images).numpy()
    assert np.array_equal(labels, generator.truth.labels(range(2)))
    for name, features in capture.features.items():
        assert np.array_equal(features.numpy(), generator.truth.features(range(2), name))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("x", "expected planted:SEED"),
        ("-1", "a seed between 0 and"),
        ("4294967296", "a seed between 0 and"),
        ("1.5", "expected planted:SEED"),
        ("3,units=8", "expected 29 to 4096 units, got 8"),
        ("3,units=5000000000", "to 4096 units"),
        ("3,units=64.5", "expected planted:SEED"),
        ("3,units=inf", "expected planted:SEED"),
        ("3,units", "expected planted:SEED"),
        ("3,units=64,units=64", "expected planted:SEED"),
        ("3,layers=2", "expected 3 to 5 layers, got 2"),
        ("3,layers=6", "expected 3 to 5 layers, got 6"),
        ("3,noise=0.3", "noise as a multiple of 1/64"),
        ("3,noise=-0.25", "noise as a multiple of 1/64"),
        ("3,noise=2", r"noise as a multiple of 1/64 in \[0, 1\], got 2"),
        ("3,noise=nan", "noise as a multiple"),
        ("3,noise=inf", "noise as a multiple"),
        ("3,colour=red", "expected planted:SEED"),
        ("3,", "expected planted:SEED"),
        (",", "expected planted:SEED"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(f"planted:{options}")
    assert "\n" not in str(caught.value)


def test_truth_knows_no_other_layer():
    truth = dissect.load("planted:3").truth
    for ask in (lambda: truth["layer4"], lambda: truth.features([0], "layer4"), lambda: truth.effect([0], "layer4", 0)):
        with pytest.raises(GanatomyError, match="unknown layer 'layer4'; nearest: layer3"):
            ask()


@pytest.mark.parametrize("device_threads", [1, 2])
def test_ablating_everything_leaves_the_background(device_threads):
    torch.set_num_threads(device_threads)
    generator = dissect.load("planted:9")
    for layer in LAYERS:
        images = generator(generator.sample(range(3)), edits=dissect.ablate(layer, range(64)))
        assert torch.equal(images, torch.full_like(images, -0.5))
