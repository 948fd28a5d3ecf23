"""Sweeps against single effects and the planted truth, what is left out, standard errors; dose curves."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from helpers import Stop

import dissect
import segmodels
from dissect import GanatomyError
from dissect.effects import intervals

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
SEEDS = range(700, 710)
SUMS = ("shown", "before", "before_square", "after", "square", "product")


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:3,units=40")


@pytest.fixture(scope="module")
def reader():
    return segmodels.load("planted")


@pytest.fixture(scope="module")
def whole(planted, reader):
    return dissect.sweep(planted, reader, "layer2", SEEDS, batch=4)


def areas_of(labels):
    return np.array([[(image[0 if c <= 6 else 1] == c).sum() for c in range(13)] for image in labels])


def test_every_unit_has_its_analytic_effect(planted, whole):
    before = areas_of(planted.truth.labels(SEEDS))
    assert np.array_equal(whole.before, before.sum(0))
    assert np.array_equal(whole.before_square, (before**2).sum(0))
    assert np.array_equal(whole.shown, (before > 0).sum(0))
    assert whole.units.tolist() == list(range(40))
    for unit in range(40):
        after = areas_of(planted.truth.labels(SEEDS, ("layer2", [unit])))
        assert np.array_equal(whole.after[unit], after.sum(0)), planted.truth.kind["layer2"][unit]
        assert np.array_equal(whole.square[unit], ((after - before) ** 2).sum(0))
        assert np.array_equal(whole.product[unit], ((after - before) * before).sum(0))
        np.testing.assert_allclose(whole.share[unit], planted.truth.effect(SEEDS, "layer2", unit), rtol=0, atol=1e-15)


def test_what_cannot_change_is_left_out_and_changes_nothing(planted, reader, whole):
    features = planted.truth.features(SEEDS, "layer2")
    zero = int((features == 0).all((2, 3)).sum())
    assert whole.facts["how"]["skipped"] == zero > 100
    assert whole.facts["how"]["run"] == 40 * len(SEEDS) - zero
    every = dissect.sweep(planted, reader, "layer2", SEEDS, batch=4, skip=False)
    assert every.facts["how"]["skipped"] == 0
    for name in SUMS:
        assert np.array_equal(getattr(every, name), getattr(whole, name)), name
    values = features[0, :, 0, 0]
    same = dissect.sweep(planted, reader, "layer2", SEEDS[:4], to=values)
    assert same.facts["how"]["skipped"] == int((features[:4] == values[:, None, None]).all((2, 3)).sum())


@pytest.mark.parametrize(
    ("to", "strength"), [("zero", 1.0), ("zero", 0.5), ("other", 1.0), ("other", 0.25), (0.5, 1.0), ("each", 0.75)]
)
def test_a_sweep_is_the_effect_of_each_unit(planted, reader, to, strength):
    given = np.linspace(0, 2, 40) if to == "each" else to
    units = [2, 7, 11, 30, 33]
    found = dissect.sweep(planted, reader, "layer1", SEEDS[:6], units, given, strength=strength, batch=3)
    for index, unit in enumerate(units):
        put = given if isinstance(given, str) else [np.broadcast_to(given, 40)[unit]]
        edit = dissect.ablate("layer1", [unit], strength, to=put)
        one = dissect.effect(planted, reader, edit, SEEDS[:6], controls=0, batch=3)
        assert np.array_equal(found.after[index], one.after.sum(0)), unit
        assert np.array_equal(found.square[index], ((one.after - one.before) ** 2).sum(0))


def test_batches_and_threads_change_nothing(planted, reader, whole):
    for batch, threads in ((1, 1), (10, 2)):
        other = dissect.sweep(planted, reader, "layer2", SEEDS, batch=batch, threads=threads)
        for name in SUMS:
            assert np.array_equal(getattr(other, name), getattr(whole, name)), name


@pytest.mark.parametrize(
    "name", ["dcgan_main.safetensors", "sg2ada_uncond.safetensors", "mobilestylegan_tiny.safetensors"]
)
def test_real_families_and_styles(name):
    generator, reader = dissect.load(DATA / name), segmodels.load("colors")
    layers = [layer for layer in generator.layers if layer.default][1:2]
    layers += [layer for layer in generator.layers if layer.kind == "style"][2:3]
    for layer in layers:
        found = dissect.sweep(generator, reader, layer.name, range(6), [0, 3], batch=6)
        for index, unit in enumerate([0, 3]):
            one = dissect.effect(generator, reader, dissect.ablate(layer.name, unit), range(6), controls=0, batch=6)
            assert np.array_equal(found.before, one.before.sum(0))
            wrong = np.abs(found.after[index] - one.after.sum(0)).sum()
            assert wrong <= 4, "rounding where part of a batch was run"


def test_standard_errors(planted, reader):
    seeds = range(700, 740)
    unit = next(u for u, kind in planted.truth.kind["layer3"].items() if kind == "painting")
    edit = dissect.ablate("layer3", [unit], 0.25)
    found = dissect.sweep(planted, reader, "layer3", seeds, [unit], strength=0.25)
    one = dissect.effect(planted, reader, edit, seeds, controls=1)
    change = one.after - one.before
    expected = change.std(0, ddof=1) / np.sqrt(len(seeds)) / one.pixels
    np.testing.assert_allclose(found.share_stderr[0], expected, rtol=1e-9, atol=1e-15)
    ratio = np.nan_to_num(one.change)
    left = change - ratio * one.before
    total = one.before.sum(0)
    shown = total > 0
    error = np.sqrt((left**2).sum(0)[shown] * len(seeds) / (len(seeds) - 1)) / total[shown]
    np.testing.assert_allclose(found.stderr[0][shown], error, rtol=1e-6, atol=1e-9)
    assert np.isnan(found.stderr[0][~shown]).all()
    control = one.facts["controls"][0][0][1]
    again = dissect.sweep(planted, reader, "layer3", seeds, control, strength=0.25)
    np.testing.assert_allclose(one.control_stderr[0], again.share_stderr[0], rtol=1e-9, atol=1e-15)


def test_a_single_image_has_no_error(planted, reader):
    found = dissect.sweep(planted, reader, "layer2", [700])
    assert found.square.any()
    assert np.isnan(found.stderr).all()
    assert np.isnan(found.share_stderr).all()
    one = dissect.effect(planted, reader, dissect.ablate("layer2", 0), [700], controls=2)
    assert np.isnan(one.control_stderr).all()


def test_parts_of_a_batch_do_not_pile_up(planted, reader, whole, monkeypatch):
    module = sys.modules["dissect.effects.sweep"]  # its name is the function's, too
    made, most, original = [], [], module.rows_of

    def counted(capture, rows):
        part = original(capture, rows)
        made.append(weakref.ref(part))
        most.append(sum(one() is not None for one in made))
        return part

    monkeypatch.setattr(module, "rows_of", counted)
    monkeypatch.setattr(module, "KEPT", 2)
    found = dissect.sweep(planted, reader, "layer2", SEEDS, batch=20, threads=1)
    assert len(made) > module.KEPT + 1
    assert max(most) <= module.KEPT + 2
    for name in SUMS:
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name


def test_rows_and_rankings(planted, whole):
    concept = planted.world.doubled[0]
    both = {
        u for u, c in planted.truth.concepts["layer2"].items()
        if c == (concept,) and planted.truth.kind["layer2"][u] == "painting"
    }  # fmt: skip
    assert set(whole.ranked(concept, 2).tolist()) == both
    rows = whole.rows(concept)
    assert {row["unit"] for row in rows[:2]} == both
    assert rows[0]["change"] == -1
    assert len(rows) == 40
    plain = {row["unit"]: row for row in whole.rows()}
    inert = next(u for u, kind in planted.truth.kind["layer2"].items() if kind == "inert")
    assert plain[inert]["concept"] is None
    assert plain[inert]["share"] == 0
    painter = min(both)
    assert plain[painter]["concept"] == concept
    nobodys = sorted(set(segmodels.planted.SHAPES + segmodels.planted.COLOURS) - set(planted.world.drawn_shapes)
                     - set(planted.world.drawn_colours))  # fmt: skip
    with pytest.raises(GanatomyError, match=f"none of the 10 images shows '{nobodys[0]}'"):
        whole.ranked(nobodys[0])
    with pytest.raises(GanatomyError, match="unknown concept"):
        whole.rows("door")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": "layer9"}, "unknown layer"),
        ({"units": [40]}, r"units 0\.\.39, got \[40\]"),
        ({"units": []}, r"units 0\.\.39, got none"),
        ({"units": [-1]}, "units >= 0"),
        ({"to": [1.0, 2.0]}, "one for each of the 40 units"),
        ({"to": "median"}, "expected to='zero', 'other'"),
        ({"to": np.full(40, np.nan)}, "without NaN"),
        ({"strength": 1.5}, r"strength in \[0, 1\]"),
        ({"seeds": []}, "at least one seed"),
    ],
)
def test_bad_sweeps_are_refused_in_one_line(planted, reader, arguments, words):
    given = {"layer": "layer1", "seeds": [1, 2]} | arguments
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.sweep(planted, reader, given.pop("layer"), given.pop("seeds"), **given)
    assert "\n" not in str(caught.value)


def test_a_sweep_can_be_stopped(planted, reader):
    with pytest.raises(KeyboardInterrupt):
        dissect.sweep(planted, reader, "layer2", SEEDS, batch=2, threads=2, progress=Stop(30))
    told = []
    dissect.sweep(planted, reader, "layer2", SEEDS[:4], [0, 1], batch=3,
                  progress=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told == [(3, 8), (6, 8), (7, 8), (8, 8)]


# -- dose ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve(planted, reader):
    concept = planted.world.drawn_shapes[3]
    kinds = planted.truth.kind["layer2"]
    inert = [u for u, kind in kinds.items() if kind == "inert"]
    painter = next(u for u in kinds if kinds[u] == "painting" and planted.truth.concepts["layer2"][u] == (concept,))
    order = [inert[0], inert[1], painter, inert[2]]
    return dissect.dose(planted, reader, "layer2", order, concept, range(700, 715), random=2, batch=4), order


def test_a_curve_is_the_analytic_one(planted, curve):
    found, order = curve
    index = ("unlabelled", *segmodels.planted.SHAPES).index(found.concept)
    assert found.steps.tolist() == [0, 1, 2, 3, 4]
    assert found.orders[0].tolist() == order
    for which, units in enumerate(found.orders):
        assert len(set(units)) == 4
        for step in found.steps:
            labels = planted.truth.labels(range(700, 715), ("layer2", units[:step].tolist()))
            expected = (labels[:, 0] == index).sum((1, 2))
            assert np.array_equal(found.areas[which, step], expected)
    assert found.left[0].tolist() == [1, 1, 1, 0, 0]
    assert found.auc[0] == pytest.approx((1 + 1 + 0.5) / 4)
    rows = found.rows()
    assert [row["left"] for row in rows] == [1, 1, 1, 0, 0]
    assert rows[3]["random"] == pytest.approx(found.left[1:, 3].mean())


def test_intervals_of_a_curve(curve):
    found, _ = curve
    assert found.left_interval.shape == (3, 5, 2)
    assert found.left_interval[0, 3].tolist() == [0, 0]
    assert found.left_interval[0, 1].tolist() == [1, 1]
    assert found.auc_interval.tolist() == pytest.approx([0.625, 0.625])
    spread = intervals.of_ratio(
        (found.areas[1:, :-1] + found.areas[1:, 1:]).mean(0).T.sum(1) / 8 - found.areas[0, 0] * 0.625,
        found.areas[0, 0],
    )
    np.testing.assert_allclose(found.gain_interval, spread, atol=1e-12)


def test_random_orders_are_of_all_units_and_always_the_same(planted, reader):
    one, two = (dissect.dose(planted, reader, "layer1", range(10), "red" if "red" in planted.world.drawn_colours else
                             "green", range(700, 712), random=3, steps=[10]) for _ in range(2))  # fmt: skip
    assert np.array_equal(one.orders, two.orders)
    assert np.array_equal(one.areas, two.areas)
    assert len({tuple(order) for order in one.orders}) == 4
    assert one.orders[1:].max() > 9
    assert one.steps.tolist() == [0, 10]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"order": []}, "an order of units"),
        ({"order": [1, 1]}, "none twice"),
        ({"order": [40]}, r"units 0\.\.39"),
        ({"steps": [3]}, "steps between 1 and the 2 units"),
        ({"steps": []}, "steps between 1 and the 2 units"),
        ({"random": -1}, "random orders >= 0"),
        ({"concept": "door"}, "unknown concept"),
        ({"to": "median"}, "expected to="),
    ],
)
def test_bad_doses_are_refused_in_one_line(planted, reader, arguments, words):
    given = {"order": [1, 2], "concept": "red", "seeds": [1, 2]} | arguments
    order, concept, seeds = (given.pop(name) for name in ("order", "concept", "seeds"))
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.dose(planted, reader, "layer1", order, concept, seeds, **given)
    assert "\n" not in str(caught.value)


def test_a_concept_that_no_image_shows_has_no_curve(planted, reader):
    rare = planted.world.drawn_shapes[0]
    index = ("unlabelled", *segmodels.planted.SHAPES).index(rare)
    without = [s for s in range(40) if not (planted.truth.labels([s])[:, 0] == index).any()][:3]
    with pytest.raises(GanatomyError, match=f"none of the 3 images shows '{rare}'"):
        dissect.dose(planted, reader, "layer1", [1], rare, without, random=0)
