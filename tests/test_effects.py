"""Effects against the planted truth, intervals against statistics, and the file that keeps results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import Bands, Stop, datasets

import dissect
import segmodels
from dissect import Effect, GanatomyError, Recipe
from dissect.effects import add, areas, intervals, stored
from dissect.effects.controls import control_edits
from dissect.effects.effect import holm
from segmodels import Concept, Segmenter
from segmodels.base import UNLABELLED

DATA = Path(__file__).parent / "data"

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = range(500, 540)
NUMBER = 3


@pytest.fixture(scope="module")
def planted():
    return dissect.load(f"planted:{NUMBER}")


@pytest.fixture(scope="module")
def reader():
    return segmodels.load("planted")


def units_of(planted, layer, kind):
    return [unit for unit, found in planted.truth.kind[layer].items() if found == kind]


def painters(planted, layer, concept):
    return [u for u in units_of(planted, layer, "painting") if planted.truth.concepts[layer][u] == (concept,)]


def areas_of(labels, concepts=13):
    """Pixels per concept and image in plain NumPy; plane 0 says what is unlabelled."""
    return np.array([[(image[0 if c <= 6 else 1] == c).sum() for c in range(concepts)] for image in labels])


# -- areas -----------------------------------------------------------------------------------------------------


def test_areas_are_counted_as_by_hand():
    state = np.random.RandomState(0)
    labels = np.stack([state.randint(0, 7, (5, 9, 11)), state.choice([0, *range(7, 13)], (5, 9, 11))], 1)
    found = areas.pixels_of(torch.from_numpy(labels).short(), 13)
    assert np.array_equal(found, areas_of(labels))
    assert (found[:, :7].sum(1) == 99).all(), "plane 0's concepts and column 0 are all pixels"


# -- effects of the planted units ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["painting", "correlated", "inhibitory", "entangled", "shifted", "independent", "inert"]
)
def test_the_effect_of_a_unit_is_the_analytic_one(planted, reader, kind):
    layer = {"painting": "layer1", "inhibitory": "layer2"}.get(kind, "layer3")
    unit = units_of(planted, layer, kind)[0]
    found = dissect.effect(planted, reader, dissect.ablate(layer, [unit]), SEEDS, controls=0)
    assert np.array_equal(found.before, areas_of(planted.truth.labels(SEEDS)))
    assert np.array_equal(found.after, areas_of(planted.truth.labels(SEEDS, (layer, [unit]))))
    np.testing.assert_allclose(found.share, planted.truth.effect(SEEDS, layer, unit), rtol=0, atol=1e-15)
    changes = kind in ("painting", "inhibitory")
    assert found.share.any() == changes, "only what paints or suppresses is a cause"
    if changes:
        concept = found.concept_index(planted.truth.concepts[layer][unit][0])
        assert found.beyond_controls[concept] == (kind == "painting"), "what two images show may be chance"
        assert (found.change[concept] < 0) == (kind == "painting")
        assert found.change[concept] == pytest.approx(found.after.sum(0)[concept] / found.before.sum(0)[concept] - 1)
    else:
        assert not found.beyond_controls.any()
        assert {row["verdict"] for row in found.rows()} <= {"unchanged", "too few images"}


def test_two_units_that_paint_a_concept_together(planted, reader):
    concept = planted.world.doubled[0]
    both = painters(planted, "layer2", concept)
    assert len(both) == 2
    for gone in ([both[0]], [both[1]], both):  # half strength is no shape
        found = dissect.effect(planted, reader, dissect.ablate("layer2", gone), SEEDS, controls=0)
        index = found.concept_index(concept)
        assert np.array_equal(found.after, areas_of(planted.truth.labels(SEEDS, ("layer2", gone))))
        assert found.change[index] == -1
        assert found.change_interval[index].tolist() == [-1, -1]


def test_half_an_ablation_spoils_a_shape_and_a_quarter_of_one_unit_too(planted, reader):
    unit = next(u for u in units_of(planted, "layer2", "painting") if planted.truth.concepts["layer2"][u][0] in
                segmodels.planted.SHAPES)  # fmt: skip
    whole = dissect.effect(planted, reader, dissect.ablate("layer2", unit), SEEDS, controls=0)
    half = dissect.effect(planted, reader, dissect.ablate("layer2", unit, 0.5), SEEDS, controls=0)
    assert np.array_equal(half.after[:, 1:7], whole.after[:, 1:7])
    none = dissect.effect(planted, reader, dissect.ablate("layer2", unit, 0.0), SEEDS[:12], controls=1)
    assert np.array_equal(none.after, none.before)
    assert not none.control_square.any()
    assert {row["verdict"] for row in none.rows()} <= {"unchanged", "too few images"}


def test_inserting_a_painters_value_paints_where_nothing_was(planted, reader):
    shape = next(s for s in planted.world.drawn_shapes[1:] if s not in planted.world.doubled)
    unit = painters(planted, "layer3", shape)[0]
    value = planted.world.scales[2][unit]
    mask = np.zeros((64, 64))
    mask[16:36, 8:52] = 1
    found = dissect.effect(
        planted, reader, dissect.insert("layer3", [unit], [value], mask), SEEDS, concept=shape, controls=0
    )
    # Read off the unedited pixels: the shape appears where all three channels carry no code yet.
    steps = (planted(planted.sample(SEEDS)).numpy() + 0.5) * 32
    blank = ((steps % 16 == 0) & (steps >= 0) & (steps <= 32)).all(1)
    index = found.concept_index(shape)
    was = planted.truth.labels(SEEDS)[:, 0] == index
    new = planted.truth.features(SEEDS, "layer3")[:, unit] == 0  # where it is suppressed, the unit is on already
    expected = (was | (blank & new & (mask > 0))).sum((1, 2))
    assert np.array_equal(found.after[:, index], expected)
    assert found.share[index] > 0
    assert found.beyond_controls[index]


def test_controls_are_other_units_with_the_same_done_to_them(planted, reader):
    unit = units_of(planted, "layer2", "painting")[0]
    found = dissect.effect(planted, reader, dissect.ablate("layer2", [unit]), SEEDS, controls=4)
    assert len(found.facts["controls"]) == 4
    for index, one in enumerate(found.facts["controls"]):
        ((layer, units),) = one
        assert layer == "layer2"
        assert unit not in units
        np.testing.assert_allclose(
            found.control_share[index], planted.truth.effect(SEEDS, layer, units), rtol=0, atol=1e-15
        )
    inert = units_of(planted, "layer2", "inert")
    quiet = dissect.effect(planted, reader, dissect.ablate("layer2", inert[:2]), SEEDS[:12], controls=2)
    assert np.array_equal(quiet.after, quiet.before)


def made_up(change, controls):
    """An effect of one concept that 20 images of 100 pixels show, each changed by so many pixels."""
    facts = {"aim": None, "pixels": 100, "concepts": [["unlabelled", "", 0], ["thing", "", 0]]}
    before = np.tile([[50, 50]], (20, 1))
    after = before + np.outer(np.ones(20, int), [-change, change])
    sums = 20 * np.array([[50 - c, 50 + c] for c in controls]).reshape(-1, 2)
    return Effect(facts, np.arange(20), before, after, sums, np.zeros_like(sums))


@pytest.mark.parametrize(
    ("change", "controls", "verdict"),
    [
        (5, [-1, 2], "changed"), (-5, [-1, 2], "changed"), (5, [], "changed"), (0, [1, 2], "unchanged"),
        (5, [-1, 6], "like controls"), (-5, [-6, 2], "like controls"), (5, [5], "like controls"),
        (5, [6, 8], "like controls"), (-5, [-8, -6], "like controls"),
    ],
)  # fmt: skip
def test_a_verdict_asks_whether_random_units_do_as_much_that_way(change, controls, verdict):
    assert made_up(change, controls).verdict(1) == verdict


def test_p_values_of_all_concepts_are_holms():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.9])).tolist() == [1, 1]


def test_of_concepts_that_do_not_change_one_in_twenty_effects_says_otherwise_and_not_every_one():
    """200 concepts, 60 images, nothing but noise: each alone is called changed now and then, all together hardly."""
    alone = together = 0
    for index in range(40):
        state = np.random.RandomState(index)
        before = state.randint(40, 60, (60, 201))
        after = before + state.randint(-5, 6, before.shape)
        facts = {"aim": None, "pixels": 100, "concepts": [[str(i), "", 0] for i in range(201)]}
        none = np.zeros((0, 201), np.int64)
        found = Effect(facts, np.arange(60), before, after, none, none)
        alone += any(found.verdict(c) == "changed" for c in range(1, 201))
        together += bool((found.adjusted[1:] < 0.05).any())
        assert np.isnan(found.adjusted[0])
    assert alone == 40
    assert together <= 5


def test_what_changes_does_so_too_when_all_concepts_are_asked_about(planted, reader):
    unit = units_of(planted, "layer1", "painting")[0]
    found = dissect.effect(planted, reader, dissect.ablate("layer1", unit), SEEDS, controls=0)
    concept = found.concept_index(planted.truth.concepts["layer1"][unit][0])
    assert found.adjusted[concept] < 0.05
    few = found.images < 10
    few[0] = True
    assert np.array_equal(np.isnan(found.adjusted), few)
    still = ~few & ~(found.after != found.before).any(0)
    assert (found.adjusted[still] == 1).all()


def test_control_edits_keep_all_but_the_units(planted):
    mask = np.eye(4)
    given = [
        dissect.ablate("layer1", [0, 1, 2], 0.5, mask),
        dissect.insert("layer1", [1, 2], [5.0, 6.0]),
        dissect.replace("layer2", [7], seed=3),
        dissect.insert("layer2", [8, 9], np.arange(2 * 32 * 32).reshape(2, 32, 32)),
        dissect.FeatureEdit("layer3", (0, 1), (0.25, 0.75)),
    ]
    constants = {"layer1": np.arange(64, dtype=np.float32)}
    sets = control_edits(planted, given, 3, constants)
    assert sets == control_edits(planted, given, 3, constants), "always the same"
    assert len(set(sets)) == 3
    for first, second, third, fourth, fifth in sets:
        assert not {0, 1, 2} & set(first.units)
        assert len(first.units) == 3
        assert (first.strength, first.layer) == (0.5, "layer1")
        assert np.array_equal(first.mask, mask)
        assert set(second.units) <= set(first.units), "one stand-in for a unit"
        assert second.values.tolist() == list(second.units), "constants are the stand-ins' own"
        assert third.values == given[2].values
        assert not {7, 8, 9} & {*third.units, *fourth.units}
        assert sorted(fourth.values[:, 0, 0].tolist()) == [0, 1024]
        assert sorted(fifth.strength) == [0.25, 0.75]
    plain = control_edits(planted, given[1:2], 1)[0][0]
    assert sorted(plain.values.tolist()) == [5, 6], "given values are handed on"
    with pytest.raises(GanatomyError, match="too few for a control"):
        control_edits(planted, [dissect.ablate("layer1", range(40))], 1)
    assert control_edits(planted, [dissect.ablate("layer1", range(40))], 0) == []
    with pytest.raises(GanatomyError, match="a finite value for each of its 64 units"):
        control_edits(planted, given[:2], 1, {"layer1": np.zeros(3)})


@pytest.mark.parametrize("places", [("layer1", "layer3"), ("layer3", "layer1"), ("layer2", "layer2")])
def test_a_recipe_of_several_edits_is_the_whole_forward_pass(planted, reader, places):
    painting = [units_of(planted, layer, "painting") for layer in places]
    edits = [dissect.ablate(places[0], painting[0][:2]), dissect.insert(places[1], painting[1][2:4], [1.0, 0.5])]
    found = dissect.effect(planted, reader, edits, SEEDS[:8], controls=1)
    labels = reader(planted(planted.sample(SEEDS[:8]), edits=edits)).numpy()
    assert np.array_equal(found.after, areas_of(labels))
    control = control_edits(planted, edits, 1)[0]
    beside = areas_of(reader(planted(planted.sample(SEEDS[:8]), edits=control)).numpy())
    assert np.array_equal(found.control_after[0], beside.sum(0))
    assert np.array_equal(found.control_square[0], ((beside - found.before) ** 2).sum(0))


def test_neither_batches_nor_threads_nor_explicit_codes_change_anything(planted, reader):
    edits = [dissect.ablate("layer1", [1, 2]), dissect.ablate("layer3", [5], 0.5)]
    one = dissect.effect(planted, reader, edits, SEEDS[:14], controls=2, batch=5)
    for others in (
        dissect.effect(planted, reader, edits, SEEDS[:14], controls=2, batch=1),
        dissect.effect(planted, reader, edits, SEEDS[:14], controls=2, batch=14, threads=2),
        dissect.effect(planted, reader, edits, planted.map(planted.sample(SEEDS[:14]).z), controls=2),
    ):
        for name in ("before", "after", "control_after", "control_square"):
            assert np.array_equal(getattr(one, name), getattr(others, name)), name


def test_an_effect_can_be_stopped_and_leaves_nothing_behind(planted, reader):
    with pytest.raises(KeyboardInterrupt):
        dissect.effect(planted, reader, dissect.ablate("layer1", [1]), SEEDS, batch=4, threads=2, progress=Stop(8))
    told = []
    dissect.effect(planted, reader, dissect.ablate("layer1", [1]), SEEDS[:8], controls=0, batch=4,
                   progress=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told == [(4, 8), (8, 8)]


def test_leakage_is_the_matrix_of_what_was_aimed_at_and_what_changed(planted, reader):
    aims = [planted.world.doubled[0], planted.truth.concepts["layer2"][units_of(planted, "layer2", "inhibitory")[0]][0]]
    effects = [
        dissect.effect(planted, reader, dissect.ablate("layer2", painters(planted, "layer2", aim)), SEEDS, concept=aim,
                       controls=0)
        for aim in aims
    ]  # fmt: skip
    matrix = dissect.leakage(effects)
    assert matrix.aims == tuple(aims)
    assert matrix.change.shape == (2, 13)
    for row, made in enumerate(effects):
        np.testing.assert_array_equal(matrix.change[row], made.change)
        index = made.concept_index(aims[row])
        assert matrix.change[row, index] == -1
        assert matrix.beyond[row, 1:].nonzero()[0].tolist() == [index - 1], "a planted painter leaks nowhere"
    other = dissect.effect(planted, Bands(), dissect.ablate("layer2", [0]), SEEDS[:4], controls=0)
    with pytest.raises(GanatomyError, match="different segmenters"):
        dissect.leakage([*effects, other])
    with pytest.raises(GanatomyError, match="at least one"):
        dissect.leakage([])


class Bright(Segmenter):
    """Says "never" of nothing, and "here" of every pixel."""

    def __init__(self):
        super().__init__("bright", [UNLABELLED, Concept("here"), Concept("never")], "bright")

    def segment(self, images, keys):
        return torch.ones(len(images), 1, 4, 4, dtype=torch.long)


def test_what_no_image_shows_is_said_instead_of_noise(planted):
    edit = dissect.ablate("layer1", [0])
    with pytest.raises(GanatomyError, match="none of the 4 images shows 'never' by bright") as caught:
        dissect.effect(planted, Bright(), edit, SEEDS[:4], concept="never")
    assert "\n" not in str(caught.value)
    found = dissect.effect(planted, Bright(), edit, SEEDS[:4], concept="here", controls=1)
    assert np.isnan(found.change).tolist() == [True, False, True]
    (row,) = found.rows()
    assert (row["concept"], row["before"], row["change"], row["low"]) == ("here", 1.0, 0.0, None)
    assert row["verdict"] == "too few images"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"recipe": []}, "the recipe has no edits"),
        ({"recipe": dissect.ablate("layer1", [64])}, "units 0..63, the edit names 64"),
        ({"recipe": dissect.ablate("layer7", [0])}, "unknown layer 'layer7'"),
        ({"recipe": dissect.ablate("layer1", [0], mask=np.ones((3, 4)))}, "another shape"),
        ({"recipe": Recipe(dissect.ablate("layer1", [0]), dissect.load("planted:4"))}, "not for planted:3"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "seeds repeat"),
        ({"seeds": [-1]}, "expected seeds between"),
        ({"concept": "door"}, "unknown concept 'door'"),
        ({"controls": -1}, "controls >= 0"),
        ({"batch": 0}, "a positive batch"),
        ({"threads": 0.5}, "a positive threads"),
        ({"truncation": 0.5}, "has no truncation"),
        ({"noise": "loud"}, "noise mode"),
        ({"seeds": dissect.load("planted:3").sample([1, 2]), "classes": 1}, "codes say it all"),
        ({"recipe": dissect.ablate("layer1", range(60))}, "too few for a control"),
    ],
)
def test_bad_input_is_refused_in_one_line(planted, reader, arguments, words):
    given = {"recipe": dissect.ablate("layer1", [0]), "seeds": [1, 2]} | arguments
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.effect(planted, reader, given.pop("recipe"), given.pop("seeds"), **given)
    assert "\n" not in str(caught.value)


def test_a_segmenter_that_never_looks_is_refused(planted, tmp_path):
    from PIL import Image

    (tmp_path / "concepts.json").write_text('["thing"]')
    Image.new("L", (4, 4), 1).save(tmp_path / "1.png")
    for name in (f"masks:{tmp_path}", f"planted+masks:{tmp_path}"):
        with pytest.raises(GanatomyError, match="no edit can change them"):
            dissect.effect(planted, segmodels.load(name), dissect.ablate("layer1", [0]), [1])


# -- intervals -------------------------------------------------------------------------------------------------


def test_an_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.RandomState(0).gamma(2, 3, (400, 3))
    found = intervals.of_mean(values)
    error = values.std(0, ddof=1) / 20
    np.testing.assert_allclose(found[:, 0], values.mean(0) - 1.96 * error, atol=0.15 * error.max())
    np.testing.assert_allclose(found[:, 1], values.mean(0) + 1.96 * error, atol=0.15 * error.max())
    assert np.array_equal(found, intervals.of_mean(values)), "the same for the same seed"
    assert not np.array_equal(found, intervals.of_mean(values, seed=1))
    wider = intervals.of_mean(values, level=0.99)
    assert (wider[:, 0] < found[:, 0]).all()
    assert (wider[:, 1] > found[:, 1]).all()


def test_an_interval_of_a_ratio_is_that_of_the_delta_method():
    state = np.random.RandomState(1)
    below = state.gamma(2, 3, 500)
    above = below * 0.7 + state.randn(500)
    ratio = above.sum() / below.sum()
    error = np.sqrt(((above - ratio * below) ** 2).sum() * 500 / 499) / below.sum()
    low, high = intervals.of_ratio(above, below)
    assert low == pytest.approx(ratio - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(ratio + 1.96 * error, abs=0.15 * error)


def test_intervals_cover_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    state = np.random.RandomState(2)
    values = state.exponential(2.0, (40, 300))  # 300 experiments of 40 images each
    low, high = intervals.of_mean(values).T
    covered = ((low <= 2) & (high >= 2)).mean()
    assert 0.89 <= covered <= 0.98
    low, high = intervals.of_ratio(values, np.roll(values, 1, 1)).T
    assert 0.89 <= ((low <= 1) & (high >= 1)).mean() <= 0.98


def test_intervals_of_too_little_or_of_nothing():
    assert np.isnan(intervals.of_mean(np.ones((9, 2)))).all()
    assert intervals.of_mean(np.ones((10, 2))).tolist() == [[1, 1], [1, 1]]
    zeros = np.zeros((20, 2))
    assert np.isnan(intervals.of_ratio(np.ones((20, 2)), zeros)).all()
    assert np.isnan(intervals.pooled_change(zeros, zeros)).all()
    one = zeros.copy()
    one[3] = 5  # some draws miss the only image that shows it; they are left out
    assert intervals.of_ratio(one / 2, one).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    with pytest.raises(GanatomyError, match="as many"):
        intervals.of_ratio(np.ones(12), np.ones(13))


def test_how_much_is_drawn_at_a_time_changes_nothing(monkeypatch):
    values = np.random.RandomState(3).rand(50, 4)
    whole = intervals.of_mean(values)
    monkeypatch.setattr(intervals, "CHUNK_VALUES", 50 * 77)
    np.testing.assert_allclose(intervals.of_mean(values), whole, rtol=1e-12)


# -- the file --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(planted, reader, tmp_path_factory):
    return dissect.run(planted, reader, "layer2", samples=20, out=tmp_path_factory.mktemp("run") / "run.h5")


@pytest.fixture
def file(run):
    path = stored.effects_path(run.path)
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def results(planted, reader):
    few = SEEDS[:6]
    return [
        dissect.effect(planted, reader, dissect.ablate("layer2", [0]), few, controls=2),
        dissect.effect(planted, reader, dissect.ablate("layer2", [10]), few, controls=0),
        dissect.sweep(planted, reader, "layer2", few, [0, 10]),
        dissect.dose(planted, reader, "layer2", [10, 0], 1, SEEDS, random=1, steps=[2]),
    ]


def test_results_come_back_as_they_were(run, file, results):
    assert len(run.effects) == 0
    keys = [add(run, result) for result in results]
    assert file.is_file()
    assert file.name == "run.effects.h5"
    assert [path.name for path in file.parent.iterdir() if "effects" in path.name] == [file.name]
    again = dissect.open(run.path).effects
    assert list(again) == keys
    for key, result in zip(keys, results, strict=True):
        back = again[key]
        assert type(back) is type(result)
        assert back.header() == json.loads(json.dumps(result.header()))
        assert back.rows() == result.rows()
        for name, array in result.arrays().items():
            assert np.array_equal(back.arrays()[name], array)
            assert back.arrays()[name].dtype == array.dtype
    assert [type(found) for found in again.of("effect")] == [Effect, Effect]
    assert "effect-0000000000000000" not in again


def test_numbers_of_numpy_are_the_same_question(reader):
    generator, reader = dissect.load(DATA / "sg2ada_cond.safetensors"), segmodels.load("colors")
    layer = next(layer.name for layer in generator.layers if layer.default)

    def key(classes, truncation):
        edit = dissect.ablate(layer, 0)
        made = dissect.effect(
            generator, reader, edit, [1, 2], controls=0, classes=classes, truncation=truncation, batch=2
        )
        return stored.key_of(made)

    assert key(np.array([1, 0]), np.float32(0.5)) == key([1, 0], 0.5)
    assert key(np.int64(1), 1.0) == key(1, 1.0) != key([1, 0], 1.0)
    one, two = (
        dissect.insertion_map(generator, reader, layer, 0, 1.0, [1], 4, classes=classes) for classes in (1, np.int64(1))
    )
    assert stored.key_of(one) == stored.key_of(two)


def test_the_same_question_again_takes_the_place_of_the_first_answer(run, file, results, planted, reader):
    add(run, results[0])
    add(run, results[1])
    again = dissect.effect(planted, reader, dissect.ablate("layer2", [0]), SEEDS[:6], controls=2, batch=2)
    assert stored.key_of(again) == stored.key_of(results[0]), "how it was computed is no part of the question"
    add(run, again)
    assert len(run.effects) == 2
    differing = [
        dissect.effect(planted, reader, dissect.ablate("layer2", [0]), SEEDS[:5], controls=2),
        dissect.effect(planted, reader, dissect.ablate("layer2", [0]), SEEDS[:6], controls=1),
        dissect.effect(planted, reader, dissect.ablate("layer2", [0], to=[0.5]), SEEDS[:6], controls=2),
        dissect.sweep(planted, reader, "layer2", SEEDS[:6], [0, 10], to=0.25),
        dissect.sweep(planted, reader, "layer2", SEEDS[:6], [0]),
    ]
    assert len({stored.key_of(r) for r in [*differing, *results]}) == 9


def test_a_file_that_is_not_ours_or_damaged_is_left_as_it_is(run, file, results, planted, reader, tmp_path):
    other = dissect.run(planted, reader, "layer2", samples=12, out=tmp_path / "run.h5")
    add(other, results[0])
    theirs = stored.effects_path(other.path).read_bytes()
    add(run, results[0])
    good = file.read_bytes()
    with h5py.File(tmp_path / "plain.h5", "w") as plain:
        plain["x"] = 1
    cases = [
        (b"", "damaged"),
        (good[: len(good) // 2], "damaged"),
        (b"hello" * 100, "damaged"),
        ((tmp_path / "plain.h5").read_bytes(), "not written by ganatomy"),
        (run.path.read_bytes(), "is a dissection"),
        (theirs, "belongs to another run"),
    ]
    for content, words in cases:
        file.write_bytes(content)
        for act in (lambda: add(run, results[1]), lambda: run.effects):
            with pytest.raises(GanatomyError, match=words) as caught:
                act()
            assert "\n" not in str(caught.value)
        with pytest.raises(GanatomyError, match="move it away"):
            add(run, results[1])
        assert file.read_bytes() == content


def test_damage_inside_is_found_when_it_is_copied_and_nothing_is_overwritten(run, file, results):
    key = add(run, results[0])
    with h5py.File(file, "r") as opened:
        dataset = opened[f"results/{key}/before"]
        offset = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(file.read_bytes())
    content[offset + 3] ^= 0xFF
    file.write_bytes(content)
    assert list(run.effects) == [key], "opening reads no arrays"
    with pytest.raises(GanatomyError, match="damaged"):
        run.effects[key]
    with pytest.raises(GanatomyError, match="damaged"):
        add(run, results[1])
    assert file.read_bytes() == bytes(content)
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".tmp"] == []


def test_results_of_a_newer_kind_are_kept_and_not_read(run, file, results, monkeypatch):
    monkeypatch.setitem(stored.KINDS, "future", Effect)
    monkeypatch.setattr(Effect, "kind", "future")
    key = add(run, results[0])
    monkeypatch.undo()
    assert key.startswith("future-")
    before = datasets(file)
    add(run, results[1])
    kept = datasets(file)
    assert all(np.array_equal(kept[name], before[name]) for name in before)
    with pytest.raises(GanatomyError, match="does not know: future"):
        run.effects[key]
    assert len(run.effects.of("effect")) == 1


def test_another_generators_result_is_not_added(run, file, reader):
    other = dissect.load("planted:4")
    made = dissect.effect(other, reader, dissect.ablate("layer2", [0]), [1, 2], controls=0)
    with pytest.raises(GanatomyError, match="another generator"):
        add(run, made)
    assert not file.exists()


ADDING = """
import sys, dissect, segmodels
from dissect.effects import add
run, G, S = dissect.open(sys.argv[1]), dissect.load("planted:3"), segmodels.load("planted")
made = [dissect.effect(G, S, dissect.ablate("layer2", [u]), [1, 2], controls=0) for u in map(int, sys.argv[2:])]
for one in made:
    add(run, one)
"""


def test_two_processes_that_add_at_once_lose_nothing(run, file):
    units = ["1", "2", "3", "4"], ["11", "12", "13", "14"]
    both = [subprocess.Popen([sys.executable, "-c", ADDING, str(run.path), *some]) for some in units]
    assert [process.wait(120) for process in both] == [0, 0]
    found = {result.facts["recipe"]["edits"][0]["units"][0] for result in run.effects.of("effect")}
    assert found == {*range(1, 5), *range(11, 15)}
