"""Rewrites on unseen images: the planted rule has its whole effect and no other, and each number has its oracle."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

import dissect
import rewrite
import segmodels
from app.cli import run
from dissect import GanatomyError, Recipe
from dissect.effects import add
from dissect.effects.areas import Bench
from dissect.generators.convolutions import convolution_of
from dissect.metrics.extractors import Pixels
from dissect.samples import Samples, Sampling
from rewrite import Region, Request
from rewrite.aims import Aim, named_concepts, place_of
from rewrite.controls import KEYS, VALUES, controls_of, disturbance, other_keys, other_values
from rewrite.evaluate import requests_of, unseen
from rewrite.locality import change, similarity
from rewrite.sweep import default_layers, located
from rewrite.sweep_table import recommended
from rewrite.trial import copied_of, way_of

SHOWING = [1022, 1026, 1039, 1041, 1049, 1057, 1060, 1066, 1069, 1071, 1083, 1116, 1129]  # what the rule is about
FRESH = [*SHOWING, *range(1000, 1020)]
LAYER = "layer1"
SOME = "1022,1026,1039,1000-1003"


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:7")


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("planted")


@pytest.fixture(scope="module")
def rule(generator):
    """Shape, its colour, the colour that it is to have."""
    world = generator.world
    return world.drawn_shapes[1], *world.drawn_colours[:2]


@pytest.fixture(scope="module")
def request_(generator, segmenter, rule):
    shape, before, after = rule
    labels = segmenter(generator(generator.sample(range(100)))).numpy()
    names = [c.name for c in segmenter.concepts]

    def regions(colour):
        both = (labels == names.index(shape)).any(1) & (labels == names.index(colour)).any(1)
        return tuple(Region(seed, both[seed].astype(np.float32)) for seed in np.flatnonzero(both.any((1, 2))))

    theirs, ours = regions(after), regions(before)
    return Request(64, ours, theirs[0], goal="mean", name="planted")


@pytest.fixture(scope="module")
def edit(generator, request_):
    return rewrite.solve(generator, request_, LAYER, seeds=range(100), ridge=1e-9)


@pytest.fixture(scope="module")
def made(generator, segmenter, rule, edit):
    return rewrite.evaluate(generator, segmenter, edit, FRESH, rule[:2], rule[2], extractor=Pixels())


def test_the_planted_rule_has_its_whole_effect_and_nothing_else_changes_by_a_bit(made, generator, edit):
    assert made.images == len(SHOWING)
    assert made.effect[0] == 1
    assert made.works
    assert np.nanmax(made.outside[0]) == 0
    assert np.nanmin(made.similarity[0]) == 1
    assert made.attained[0] == pytest.approx(1, abs=0.01)
    assert made.cosine[0] > 0.999
    none = made.source == 0
    codes = generator.sample(made.seeds[none].tolist())
    assert torch.equal(generator(codes, edit), generator(codes))


def test_random_edits_of_the_same_size_do_neither(made):
    values, keys = made.names.index(VALUES), made.names.index(KEYS)
    assert (made.effect[1:] == 0).all()
    assert np.nanmax(made.outside[values]) == 0  # the same keys: it changes the same places
    assert made.inside[values][made.source > 0].min() > 0.01
    assert np.nanmean(made.outside[keys]) > 1e-3  # other keys: it changes other places
    assert np.isnan(made.inside[:, made.source == 0]).all()


def test_numbers_are_those_of_the_images(made, generator, segmenter, rule, edit):
    """Pixels and changes counted anew in NumPy."""
    names = [c.name for c in segmenter.concepts]
    some = np.flatnonzero(made.source > 0)[:3].tolist() + np.flatnonzero(made.source == 0)[:2].tolist()
    codes = generator.sample(made.seeds[some].tolist())
    before, after = (generator(codes, edits) for edits in ((), edit))
    labels, now = (segmenter(images).numpy() for images in (before, after))
    shape, old, new = (names.index(name) for name in rule)
    source = (labels == shape).any(1) & (labels == old).any(1) & ~(labels == new).any(1)
    ours, theirs = (np.clip(images.numpy().astype(np.float64), -1, 1) for images in (before, after))
    moved = np.abs(ours - theirs).mean(1)
    np.testing.assert_array_equal(made.source[some], source.sum((1, 2)))
    np.testing.assert_array_equal(made.became[0, some], (source & (now == new).any(1)).sum((1, 2)))
    np.testing.assert_array_equal(made.target[0, some], (labels == new).any(1).sum((1, 2)))
    np.testing.assert_array_equal(made.target[1, some], (now == new).any(1).sum((1, 2)))
    for row, i in enumerate(some):
        assert made.outside[0, i] == pytest.approx(moved[row][~source[row]].mean(), abs=1e-12)
        if source[row].any():
            assert made.inside[0, i] == pytest.approx(moved[row][source[row]].mean(), abs=1e-12)


def test_drift_is_that_of_the_metrics(made, generator, edit):
    features = [Pixels()(generator(generator.sample(FRESH), edits)) for edits in ((), edit)]
    assert made.drift[0, 0, 0] == pytest.approx(dissect.metrics.frechet_of(features[1], features[0]).value, rel=1e-6)
    assert made.drift[0, 1, 0] == pytest.approx(dissect.metrics.kernel_distance(features[1], features[0]), rel=1e-6)
    assert made.facts["extractor"][0] == "pixels"


def test_batches_do_not_matter(made, generator, segmenter, rule, edit):
    again = rewrite.evaluate(
        generator, segmenter, edit, FRESH, rule[:2], rule[2], batch=7, threads=2, extractor=Pixels()
    )
    for name, array in made.arrays().items():
        np.testing.assert_allclose(again.arrays()[name], array, rtol=1e-12, atol=1e-12, err_msg=name)


def test_half_the_strength_goes_half_the_way(generator, segmenter, rule, edit, made):
    weaker = replace(edit, strength=0.5)
    half = rewrite.evaluate(generator, segmenter, weaker, SHOWING, rule[:2], rule[2], controls=())
    assert half.attained[0] == pytest.approx(made.attained[0] / 2, rel=1e-5)
    assert np.isnan(half.drift).all()


def test_without_a_target_the_effect_is_to_be_the_source_no_longer(generator, segmenter, rule, edit):
    found = rewrite.evaluate(generator, segmenter, edit, SHOWING, rule[:2], controls=())
    assert found.facts["target"] == []
    assert found.effect[0] == 1


def test_a_recipe_of_units_is_judged_without_controls(generator, segmenter, rule):
    recipe = dissect.ablate(LAYER, [3])
    found = rewrite.evaluate(generator, segmenter, recipe, FRESH[:6], rule[0], rule[2], controls=())
    assert len(found.effect) == 1
    assert found.facts["layer"] is None
    assert np.isnan(found.attained).all()
    with pytest.raises(GanatomyError, match="random edits of weights"):
        rewrite.evaluate(generator, segmenter, recipe, FRESH[:6], rule[0], rule[2])


def test_seeds_of_the_request_are_left_out(generator, segmenter, request_, rule, edit):
    found = rewrite.evaluate(generator, segmenter, edit, [*request_.seeds, *FRESH], rule[:2], rule[2], controls=())
    assert found.seeds.tolist() == FRESH
    assert found.facts["left_out"] == len(request_.seeds)
    assert unseen([5, 6], []) == ([5, 6], 0)


def test_results_go_into_a_file_and_come_back(tmp_path, made, generator, segmenter, request_, rule):
    table, _ = swept(generator, segmenter, request_, rule, [LAYER], [1])
    for result in (made, table):
        back = type(result).from_stored(json.loads(json.dumps(result.header())), result.arrays())
        assert back.rows() == result.rows()
    dissect.run(generator, segmenter, [LAYER], 8, tmp_path / "run.h5")
    keys = [add(dissect.open(tmp_path / "run.h5"), result) for result in (made, table)]
    kept = dissect.open(tmp_path / "run.h5").effects
    assert [kept[key].rows() for key in keys] == [made.rows(), table.rows()]


# -- what numbers are made of -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [11, 40, 300, 512])
def test_similarity_is_that_of_scikit_image_where_the_mask_is(side):
    state = torch.Generator().manual_seed(side)
    a = torch.rand(2, 3, side, side, generator=state) * 2 - 1
    b = (a + 0.3 * torch.randn(a.shape, generator=state)).clamp(-1, 1)
    where = torch.rand(2, side, side, generator=state) > 0.5
    every = torch.ones_like(where)
    factor = max(1, round(side / 256))
    x, y = (image[0].double().numpy().reshape(3, side // factor, factor, -1, factor).mean((2, 4)) for image in (a, b))
    whole = structural_similarity(
        x, y, channel_axis=0, data_range=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    assert similarity(a, b, every)[0] == pytest.approx(whole.mean(), abs=1e-12)
    np.testing.assert_allclose(similarity(a, a, where), 1)
    assert (similarity(a, torch.where(where[:, None], a, b), where) == 1).all()  # what changes outside has no part
    assert (similarity(a, b, where) < 1).all()


def test_changes_are_counted_where_the_mask_is():
    state = np.random.RandomState(0)
    a, b = state.uniform(-1.5, 1.5, (2, 3, 3, 8, 8))
    where = state.rand(3, 8, 8) > 0.5
    where[2] = False
    found = change(*(torch.from_numpy(x) for x in (a, b)), torch.from_numpy(where))
    moved = np.abs(np.clip(a, -1, 1) - np.clip(b, -1, 1)).mean(1)
    np.testing.assert_allclose(found[:2], [moved[i][where[i]].mean() for i in range(2)], rtol=1e-12)
    assert np.isnan(found[2])
    assert np.isnan(similarity(*(torch.from_numpy(x) for x in (a, b)), torch.from_numpy(where))).all()  # too small


def test_a_distance_is_asked_about_what_lies_outside(generator, segmenter, rule, edit, made):
    def squared(a, b, where):
        return ((a - b) ** 2).mean(1).mul(where).flatten(1).sum(1) / where.flatten(1).sum(1)

    found = rewrite.evaluate(generator, segmenter, edit, SHOWING, rule[:2], rule[2], controls=[KEYS], distance=squared)
    assert (found.perceptual[0] == 0).all()
    assert (found.perceptual[1] > 0).any()
    assert np.isnan(made.perceptual).all()


def test_how_far_features_went():
    """Two cells in one image, one in the other, in a plane: the way is (4, 0)."""
    before = np.array([[0.0, 2.0], [0.0, 1.0]])
    after = before + np.array([[4.0, 0.0], [2.0, 3.0]])
    way, went, cosine = way_of(np.array([4.0, 1.0]), np.array([2.0, 1.0]), before, after)
    np.testing.assert_allclose(way, [2.0, 1.0])
    np.testing.assert_allclose(went, [1.0, 0.5])
    assert cosine == pytest.approx(2 / np.sqrt(5))
    for copied, cells in ((None, np.ones(2)), (np.array([4.0, 1.0]), np.zeros(2))):
        way, went, cosine = way_of(copied, cells, before, after)
        assert not way.any()
        assert not went.any()
        assert np.isnan(cosine)


def test_what_is_copied_is_a_mean_over_its_mask(generator, segmenter, request_):
    value = copied_of(generator, request_, LAYER, segmenter, Aim((), (), place_of(request_)))
    features = generator.features(generator.sample([request_.copy.seed]), LAYER)[LAYER][0].double().numpy()
    share = request_.copy.mask.astype(np.float64).reshape(16, 4, 16, 4).mean((1, 3))
    np.testing.assert_allclose(value, (features * share).sum((1, 2)) / share.sum(), rtol=1e-6)


def test_a_crop_has_a_way_of_its_own_in_each_cell(generator, segmenter):
    """Rows 2 to 4 and columns 5 to 8 of the layer's map are to become rows 9 to 11 and columns 1 to 4 of another."""
    copied, paste = Region.box(3, 64, 36, 4, 48, 20), Region.box(4, 64, 8, 20, 20, 36)
    asked = Request(64, [paste], copied)
    edit = rewrite.solve(generator, asked, LAYER, rank=3, seeds=range(20))
    found = rewrite.evaluate(generator, segmenter, edit, SHOWING, controls=())
    (theirs,) = generator.features(generator.sample([3]), LAYER)[LAYER].double().numpy()[:, :, 9:12, 1:5]
    codes = generator.sample(SHOWING)
    own, now = (generator.capture(codes, LAYER, e).features[LAYER].double().numpy()[:, :, 2:5, 5:9] for e in ((), edit))
    way, change = theirs - own, now - own
    np.testing.assert_allclose(found.way, (way**2).sum((1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.went[0], (way * change).sum((1, 2, 3)), rtol=1e-6)
    assert found.effect[0] == pytest.approx((way * change).sum() / (way**2).sum(), rel=1e-6)
    assert found.cosine[0] == pytest.approx(
        (way * change).sum() / np.sqrt((way**2).sum() * (change**2).sum()), rel=1e-6
    )


def test_controls_are_as_large(generator, edit):
    samples, state = Samples(generator, seeds=range(1000, 1040)), np.random.RandomState(0)
    wide = replace(edit, left=state.randn(64, 3), right=state.randn(3, *edit.right.shape[1:]))
    for one in (edit, wide):
        values, keys = other_values(one, np.random.RandomState(1)), other_keys(one, np.random.RandomState(1))
        for other in (values, keys):
            assert np.linalg.norm(other.delta()) == pytest.approx(np.linalg.norm(one.delta()), rel=1e-5)
        inputs = np.random.RandomState(2).randn(one.shape[1], 5)  # any keys: what is added is as large
        sizes = [np.linalg.norm(e.delta()[:, :, 0, 0] @ inputs, axis=0) for e in (one, values)]
        np.testing.assert_allclose(*sizes, rtol=1e-4)
        ((scaled,),) = controls_of(generator, [one], [KEYS], samples)
        both = disturbance(generator, convolution_of(generator, LAYER), [one, scaled], samples)
        assert both[0] == pytest.approx(both[1], rel=1e-4)
        assert both[0] > 0


def test_requests_name_concepts_themselves():
    mask = np.ones((8, 8), np.float32)
    crown, hat, hair = Region(1, mask), Region(2, concept="hat"), [Region(s, concept="hair") for s in (3, 4)]
    assert named_concepts(Request(8, hair, hat)) == ("hair", "hat")
    assert named_concepts(Request(8, [crown], hat, context=hair)) == ("hair", "hat")
    assert named_concepts(Request(8, [hair[0]], hair[1])) == ("hair", None)
    assert named_concepts(Request(8, [hair[0], hat], crown)) == (None, None)
    assert named_concepts(Request(8, [hat], goal="erase")) == ("hat", None)


# -- the sweep ----------------------------------------------------------------------------------------------


def swept(generator, segmenter, request, rule, layers, ranks, seeds=SHOWING, **options):
    return rewrite.sweep(
        generator, segmenter, request, seeds, rule[:2], rule[2], layers=layers, ranks=ranks,
        memory_seeds=range(60), ridge=1e-9, **options,
    )  # fmt: skip


def test_a_sweep_recommends_the_layer_where_the_rule_is(generator, segmenter, request_, rule):
    """At layer1 shape and colour are one key; later, whatever is of the old colour changes too."""
    steps = []
    table, edits = swept(
        generator, segmenter, request_, rule, ["layer3", LAYER], [2, 1], FRESH, extractor=Pixels(),
        solving=lambda done, whole: steps.append((done, whole)),
    )  # fmt: skip
    assert table.candidates == [(layer, rank, "closed") for layer in ("layer3", LAYER) for rank in (2, 1)]
    assert steps == [(2, 4), (4, 4)]
    assert table.recommended == 3
    assert table.effect[3] == 1
    assert table.change[3] < 1e-3
    assert table.change[:2].min() > 1e-3
    assert [edit.layer for edit in edits] == ["layer3", "layer3", LAYER, LAYER]
    assert {request.seeds for request in requests_of(edits)} == {request_.seeds}
    rows = table.rows()
    assert [row["recommended"] for row in rows] == [False, False, False, True]
    assert rows[3]["attained_values"] > 0.98
    assert rows[3]["attained_unseen"] == pytest.approx(1, abs=0.02)
    assert rows[3]["norm"] == edits[3].provenance["relative_norm"]
    alone = rewrite.evaluate(generator, segmenter, edits[3], FRESH, rule[:2], rule[2], controls=(), extractor=Pixels())
    for key in ("effect", "outside", "ssim", "frechet", "kernel"):
        assert rows[3][key] == pytest.approx(alone.rows()[0][key], rel=1e-6, abs=1e-9), key


def test_what_cannot_be_solved_is_listed_with_its_reason(generator, segmenter, request_, rule):
    table, edits = swept(generator, segmenter, request_, rule, [LAYER], [1, 0])  # nothing has rank 0
    assert len(edits) == 1
    ((layer, rank, method, reason),) = table.facts["failed"]
    assert (layer, rank, method) == (LAYER, 0, "closed")
    assert "rank of 1 or more" in reason
    with pytest.raises(GanatomyError, match="no candidate can be solved; layer1, rank 0, closed"):
        swept(generator, segmenter, request_, rule, [LAYER], [0])


@pytest.mark.parametrize(
    ("effect", "outside", "ranks", "chosen"),
    [
        ([0.5, 0.9, 1.0], [0.00, 0.02, 0.03], [1, 1, 1], 1),  # nearly the largest effect, less change elsewhere
        ([0.5, 0.8, 1.0], [0.00, 0.02, 0.03], [1, 1, 1], 2),
        ([0.5, 0.8, 1.0], [0.00, 0.02, 0.30], [1, 1, 1], 1),  # too much elsewhere
        ([1.0, 1.0, 1.0], [0.01, 0.0109, 0.02], [4, 2, 1], 1),  # a lower rank for next to nothing
        ([1.0, 1.0, 1.0], [0.01, 0.01, 0.0099], [4, 1, 1], 2),
        ([0.0, 0.0, 0.009], [0.00, 0.01, 0.01], [1, 1, 1], None),  # no effect to speak of
        ([1.0, 1.0, 1.0], [0.20, 0.30, 0.40], [1, 1, 1], None),
        ([1.0, 0.2, 0.2], [np.nan, 0.0, 0.0], [1, 1, 1], 0),  # all of every image is the source
        ([np.nan, 0.8, 1.0], [0.0, 0.0, 0.0], [1, 1, 1], 2),  # at the first layer nothing was on the way
        ([np.nan, np.nan], [0.0, 0.0], [1, 1], None),
    ],
)
def test_the_rule(effect, outside, ranks, chosen):
    assert recommended(np.array(effect), np.array(outside), ranks) == chosen


def test_default_layers_have_a_convolution_and_a_fitting_size(generator):
    assert default_layers(generator) == ["layer1", "layer2"]  # layer3 is of the image's size
    assert default_layers(dissect.load("planted:1")) == ["layer1", "layer2"]


def test_concepts_of_a_request_are_looked_up_once(generator, segmenter, rule):
    shape = rule[0]
    asked = Request(64, [Region(19, concept=shape)], Region(18, concept=shape),
                    context=[Region(s, concept=shape) for s in range(19, 25)])  # fmt: skip
    found = located(generator, asked, segmenter)
    assert not found.needs_segmenter
    names = [c.name for c in segmenter.concepts]
    labels = segmenter(generator(generator.sample(range(19, 25)))).numpy()
    masks = (labels == names.index(shape)).any(1)
    shown = [19 + i for i in range(6) if masks[i].any()]
    assert [region.seed for region in found.context] == shown
    assert len(shown) < 6
    np.testing.assert_array_equal(found.paste[0].mask, masks[0])


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "nose"}, "nose"),
        ({"target": "purple"}, "purple"),
        ({"source": ["circle", "square"]}, "none of the 33 images shows 'circle' and 'square'"),
        ({"seeds": "of the request"}, "all seeds take part"),
        ({"seeds": [1, 1]}, "repeat"),
        ({"controls": ["random pixels"]}, "random values, random keys"),
        ({"edits": ()}, "no edits"),
        ({"batch": 0}, "positive batch"),
    ],
)
def test_bad_input_is_one_line(generator, segmenter, request_, rule, edit, change, words):
    given = {"edits": edit, "seeds": FRESH, "source": rule[0], "target": rule[2]} | change
    given["seeds"] = request_.seeds if given["seeds"] == "of the request" else given["seeds"]
    edits = given.pop("edits")
    with pytest.raises(GanatomyError, match=words) as error:
        rewrite.evaluate(generator, segmenter, edits, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": ["layer9"]}, "layer9"),
        ({"layers": []}, "at least one layer"),
        ({"ranks": []}, "at least one layer"),
        ({"methods": ["guess"]}, "closed, projected, linear"),
        ({"most_outside": -1}, ">= 0"),
        ({"memory_seeds": range(3), "ridge": 0.0, "layers": [LAYER]}, "no candidate can be solved"),
    ],
)
def test_a_sweep_refuses(generator, segmenter, request_, rule, change, words):
    with pytest.raises(GanatomyError, match=words):
        rewrite.sweep(generator, segmenter, request_, FRESH, rule[:2], rule[2], **change)


def test_provenance_that_is_none_is_told(edit):
    with pytest.raises(GanatomyError, match="no list"):
        requests_of([replace(edit, provenance={"requests": "none"})])
    with pytest.raises(GanatomyError, match="format"):
        requests_of([replace(edit, provenance={"requests": [{}]})])


def test_without_a_concept_it_is_about_the_place_that_is_pasted_into(generator, segmenter, request_, rule, edit):
    """In all images alike; whether features went to what was copied is then the effect, unless a target is named."""
    found = rewrite.evaluate(generator, segmenter, edit, SHOWING, controls=())
    place = np.any([region.mask > 0 for region in request_.paste], 0)
    np.testing.assert_array_equal(place_of(request_).numpy(), place)
    assert found.facts["source"] == ["the place pasted into"]
    assert (found.source == place.sum()).all()
    np.testing.assert_array_equal(found.effect, found.attained)
    codes = generator.sample(SHOWING)
    share = place.astype(np.float64).reshape(16, 4, 16, 4).mean((1, 3))
    before, after = (
        (generator.capture(codes, LAYER, e).features[LAYER].double().numpy() * share).sum((0, 2, 3)) for e in ((), edit)
    )
    total = share.sum() * len(SHOWING)
    way = copied_of(generator, request_, LAYER, segmenter, Aim((), (), place_of(request_))) - before / total
    assert found.attained[0] == pytest.approx((after - before) @ way / (way @ way) / total, rel=1e-9)
    named = rewrite.evaluate(generator, segmenter, edit, SHOWING, target=rule[2], controls=())
    index = [c.name for c in segmenter.concepts].index(rule[2])
    blue = [(segmenter(generator(codes, e)).numpy() == index).any(1) for e in ((), edit)]
    assert named.source.tolist() == (place & ~blue[0]).sum((1, 2)).tolist()
    assert named.became[0].tolist() == (place & ~blue[0] & blue[1]).sum((1, 2)).tolist()
    table, _ = rewrite.sweep(
        generator, segmenter, request_, SHOWING, layers=[LAYER], ranks=[1], memory_seeds=range(100), ridge=1e-9
    )
    assert table.effect[0] == pytest.approx(found.effect[0], rel=1e-3)
    assert table.effect_interval[0] == pytest.approx(found.effect_interval[0], rel=1e-3)


def test_what_a_request_is_about_is_read_from_it(generator, segmenter, rule):
    bench = Bench(generator, segmenter, range(4), LAYER, Sampling())
    names, mask = [c.name for c in segmenter.concepts], np.ones((64, 64), np.float32)
    asked = Request(64, [Region(1, concept="cross")], Region(2, concept="circle"))
    assert Aim.of(bench, [asked], None, None).source == (names.index("cross"),)
    assert Aim.of(bench, [asked], None, None).target == (names.index("circle"),)
    assert Aim.of(bench, [asked], None, "red").target == (names.index("red"),)
    assert Aim.of(bench, [asked], "red", None).target == ()
    erased = Request(64, [Region(1, mask)], goal="erase")
    assert Aim.of(bench, [erased], None, None).place.all()
    edit = rewrite.solve(generator, erased, LAYER, seeds=range(20))
    for requests in ([], [asked, asked], [Request(64, [Region(1)], Region(2))]):
        with pytest.raises(GanatomyError, match="at least one concept as the source"):
            Aim.of(bench, requests, None, None)
    with pytest.raises(GanatomyError, match="no effect can be told"):
        rewrite.evaluate(generator, segmenter, edit, range(100, 104), controls=())


def test_an_aim_reads_planes(generator, segmenter):
    bench = Bench(generator, segmenter, range(4), LAYER, Sampling())
    aim = Aim.of(bench, [], ["circle", "red"], None)
    names = [c.name for c in segmenter.concepts]
    labels = torch.zeros(1, segmenter.planes, 1, 3, dtype=torch.int16)
    for x, (shape, colour) in enumerate([("circle", "red"), ("circle", "blue"), ("square", "red")]):
        for name in (shape, colour):
            labels[0, segmenter.concepts[names.index(name)].plane, 0, x] = names.index(name)
    source, target = aim.masks(bench, labels)
    assert source.tolist() == [[[True, False, False]]]
    assert target.tolist() == [[[False, True, True]]]


# -- the command line ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(generator, request_, edit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewrite")
    Recipe(edit, generator).save(folder / "edit.safetensors")
    Recipe(dissect.ablate(LAYER, [1]), generator).save(folder / "units.safetensors")
    request_.save(folder / "request.json")
    return folder


def aims(rule):
    return ["--source", rule[0], "--source", rule[1], "--target", rule[2], "--segmenter", "planted"]


def test_evaluate_makes_a_page(files, rule, tmp_path, capsys):
    arguments = ["rewrite", "evaluate", "planted:7", str(files / "edit.safetensors"), *aims(rule), "--seeds", SOME]
    by = ["--extractor", "pixels", "--perceptual", "squared-difference"]
    assert run([*arguments, *by, "--out", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr()
    assert re.search(r"share that becomes blue +100\.0%", printed.out)
    assert "random keys" in printed.out
    assert re.search(r"perceptual distance elsewhere \(squared-difference\) +0\.000", printed.out)
    assert "no number here is an FID" in printed.err
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert 'src="source.png"' in page
    assert "100.0% of the pixels of cross and red became blue" in page
    assert {p.name for p in (tmp_path / "page").iterdir()} == {
        "index.html", "source.png", "plain.png", "ganatomy-rewrite.json"
    }  # fmt: skip
    assert run([*arguments, "--extractor", "none", "--perceptual", "none", "--no-controls", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0]["effect"] == 1
    assert told["rows"][0]["frechet"] is None
    assert len(told["rows"]) == 1


def test_sweep_recommends_and_writes(files, rule, tmp_path, capsys):
    arguments = ["rewrite", "sweep", "planted:7", str(files / "request.json"), *aims(rule), "--seeds", SOME]
    arguments += ["--ranks", "1", "--extractor", "none", "--memory-samples", "60", "--ridge", "1e-9"]
    best, drawn = tmp_path / "best.safetensors", tmp_path / "drawn.png"
    assert (
        run([*arguments, "--save", str(best), "--pictures", str(drawn), "--memory", str(tmp_path / "k.memory.h5")]) == 0
    )
    printed = capsys.readouterr().out
    assert (tmp_path / "k.memory.h5").exists()
    assert "Recommended: layer1, rank 1, closed: effect 100.0%, change elsewhere" in printed
    assert "The rule: of the candidates" in printed
    assert [e.layer for e in Recipe.load(best)] == [LAYER]
    assert drawn.stat().st_size > 0
    assert run([*arguments, "--layers", LAYER, "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["effect"] == "1.0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "planted:7", "UNITS", "--segmenter", "planted", "--no-controls"], "concept as the source"),
        (["evaluate", "planted:7", "REQUEST", "--source", "red"], "not a recipe"),
        (["evaluate", "planted:8", "EDIT", "--source", "red"], "planted:7"),
        (["evaluate", "planted:7", "EDIT", "--source", "red", "--samples", "0"], "positive number"),
        (["evaluate", "planted:7", "EDIT", "--source", "nose", "--segmenter", "planted"], "nose"),
        (["evaluate", "planted:7", "EDIT", "--source", "red", "--extractor", "eyes"], "eyes"),
        (["evaluate", "planted:7", "EDIT", "--source", "red", "--run", "none.h5"], "none.h5"),
        (["sweep", "planted:7", "EDIT", "--source", "red"], "no request"),
        (["sweep", "planted:7", "REQUEST", "--source", "red", "--ranks", "one"], "--ranks"),
        (["sweep", "planted:7", "REQUEST", "--source", "red", "--save", "edit.txt"], ".safetensors"),
        (["sweep", "planted:7", "REQUEST", "--source", "red", "--layers", "layer9"], "layer9"),
    ],
)
def test_the_command_line_tells_in_one_line(files, capsys, arguments, words):
    paths = {name.upper(): str(files / f"{name}.safetensors") for name in ("edit", "units")}
    paths |= {"REQUEST": str(files / "request.json")}
    extractor = [] if "--extractor" in arguments else ["--extractor", "none"]
    extractor += ["--perceptual", "none"]
    assert run(["rewrite", *(paths.get(a, a) for a in arguments), *extractor]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]
