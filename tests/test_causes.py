"""Cause beside correlation: what the pages say of a unit, against what was planted."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import dissect
import segmodels
from app import report
from app.causes import LayerCauses, _causes
from app.library import OpenRun
from app.pages.causes_panel import known as panel
from dissect import GanatomyError, store
from dissect.effects import Sweep, add, effect, sweep
from dissect.effects.stored import effects_path

LAYER = "layer2"
SEEDS = range(300, 380)


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:5")


@pytest.fixture(scope="module")
def unswept(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("causes") / "run.h5"
    return dissect.run(generator, segmodels.load("planted"), [LAYER], 120, out)


@pytest.fixture(scope="module")
def run(generator, unswept):
    path = unswept.path.with_name("swept.h5")
    shutil.copy(unswept.path, path)
    made = dissect.open(path)
    segmenter = segmodels.load("planted")
    add(made, sweep(generator, segmenter, LAYER, SEEDS))
    units = made.layer(LAYER).units("diamond", 2).tolist()
    add(made, effect(generator, segmenter, dissect.ablate(LAYER, units), SEEDS, controls=2))
    return dissect.open(path)


def sure(causes):
    return {cause.name for cause in causes.causes if cause.sure}


def test_what_pages_say_is_what_was_planted(run, generator):
    """A unit that paints alone takes its concept away; one of a pair does, too, since half strength is no shape."""
    causes = LayerCauses(run, LAYER)
    roles = generator.world.roles[1]
    seen = 0
    for unit, role in enumerate(roles):
        found = causes.unit(unit)
        assert found.images == len(SEEDS)
        assert found.put == "set to zero"
        if role.kind == "painting":
            shown = sum(cause.before for cause in found.causes if cause.name == role.concepts[0])
            if shown > 0.003:
                assert role.concepts[0] in sure(found)
                seen += 1
        if role.kind in ("correlated", "shifted", "independent", "inert"):
            assert sure(found) == set()
            assert all(cause.change == 0 or np.isnan(cause.change) for cause in found.causes)
    assert seen >= 8


def test_what_is_shown_is_sure_or_asked_for(run):
    causes = LayerCauses(run, LAYER)
    inert = next(unit for unit in range(64) if not sure(causes.unit(unit)))
    assert causes.unit(inert).shown() == []
    (asked,) = causes.unit(inert).shown([run.concepts[2].name])
    assert asked.concept == 2
    assert asked in causes.unit(inert).causes


def test_few_images_say_nothing_for_sure(generator, unswept, tmp_path):
    path = tmp_path / "run.h5"
    shutil.copy(unswept.path, path)
    segmenter, painters = segmodels.load("planted"), [
        u for u, role in enumerate(generator.world.roles[1]) if role.kind == "painting"
    ]  # fmt: skip
    for seeds in (SEEDS[:1], SEEDS[:9]):
        add(dissect.open(path), sweep(generator, segmenter, LAYER, seeds, painters))
        causes = LayerCauses(dissect.open(path), LAYER)
        found = [causes.unit(unit) for unit in painters]
        assert any(cause.before != cause.after for one in found for cause in one.causes)
        assert not any(sure(one) for one in found)
        assert not any(one.enough for one in found)
    text = (
        report.report(dissect.open(path), tmp_path / "out").parent / "units" / LAYER / f"{painters[0]}.html"
    ).read_text(encoding="utf-8")
    assert "nan" not in text.lower().split('id="causes"')[1].split("</section>")[0]


def test_the_error_of_few_images_is_students():
    """Ten images of which each loses 2, 3 or 4 pixels: t = 3.5 is beyond a normal's 3.0, not beyond Student's 4.3."""
    change = -np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 4])
    assert 3.1 < abs(change.mean()) / (change.std(ddof=1) / np.sqrt(10)) < 4.4
    concepts = [["unlabelled", "", 0], *([f"c{i}", "", 0] for i in range(20))]
    before, after = np.full(21, 100), np.full((1, 21), 100)
    after[0, 1] += change.sum()
    square, product = np.zeros((2, 1, 21), int)
    square[0, 1], product[0, 1] = (change**2).sum(), 10 * change.sum()
    facts = {"layer": LAYER, "to": "zero", "pixels": 1000, "concepts": concepts}
    made = Sweep(facts, np.arange(10), np.array([0]), np.zeros(0, np.float32), np.full(21, 10), before,
                 np.full(21, 1000), after, square, product)  # fmt: skip
    assert not any(cause.sure for cause in _causes(made, 0))


def test_sets_are_told(run):
    units = run.layer(LAYER).units("diamond", 2).tolist()
    ((count, name, change, low, high),) = LayerCauses(run, LAYER).unit(units[0]).sets
    assert (count, name, change) == (2, "diamond", -1.0)
    assert low <= change <= high
    other = next(unit for unit in range(64) if unit not in units)
    assert LayerCauses(run, LAYER).unit(other).sets == []


def test_a_report_shows_causes_or_how_to_measure_them(run, unswept, tmp_path):
    unit = int(run.layer(LAYER).units("diamond", 1)[0])
    measured = report.report(run, tmp_path / "with").parent / "units" / LAYER / f"{unit}.html"
    text = measured.read_text(encoding="utf-8")
    assert "In 80 images the unit was set to zero" in text
    assert "<b>−100%</b>" in text
    assert "As one of 2 units edited together: diamond −100%" in text
    without = report.report(unswept, tmp_path / "without").parent / "units" / LAYER / f"{unit}.html"
    assert f"ganatomy sweep RUN --layer {LAYER}" in without.read_text(encoding="utf-8")


def test_of_one_image_nothing_is_sure(generator, unswept, tmp_path):
    """Its error is not known; it is not zero."""
    opened = dissect.open(shutil.copy(unswept.path, tmp_path / "one.h5"))
    add(opened, sweep(generator, segmodels.load("planted"), LAYER, [9000]))
    known = LayerCauses(opened, LAYER)
    found = [cause for unit in range(64) for cause in known.unit(unit).causes]
    assert any(cause.before != cause.after for cause in found)
    assert not any(cause.sure for cause in found)


def test_a_sweep_read_by_another_segmenter_is_shown_without_links(generator, unswept, tmp_path):
    """Its concepts, and their categories, are not the run's."""
    path = tmp_path / "other.h5"
    shutil.copy(unswept.path, path)

    class Tints(segmodels.Segmenter):
        def __init__(self):
            bright = segmodels.Concept("bright", "tint")
            super().__init__("tints", [segmodels.Concept("unlabelled", ""), bright], "0" * 64)

        def segment(self, images, keys=None):
            return (images.amax(1, keepdim=True) > -0.4).short()

    made = sweep(generator, Tints(), LAYER, SEEDS)
    add(dissect.open(path), made)
    paints = int(made.ranked("bright", 1)[0])
    opened = OpenRun("other", path)
    told = json.dumps(panel(opened, opened.unit(LAYER, paints)).to_plotly_json(), default=vars)
    assert "bright" in told
    assert "/concepts" not in told
    known = LayerCauses(opened.run, LAYER).unit(paints)
    assert [cause.name for cause in known.shown(["bright"])] == ["bright"]


def no_recipe(header, arrays):
    del header["recipe"]


def no_edits(header, arrays):
    header["recipe"]["edits"] = None


def no_pixels(header, arrays):
    header["pixels"] = "many"


def too_few_concepts(header, arrays):
    header["concepts"] = header["concepts"][:1]


def fewer_images(header, arrays):
    arrays["before"] = arrays["before"][:-1]


def flat(header, arrays):
    arrays["after"] = arrays["after"].ravel()


def a_missing_array(header, arrays):
    del arrays["after"]


@pytest.mark.parametrize("kind", ["effect", "sweep"])
@pytest.mark.parametrize(
    "harm",
    [no_recipe, no_edits, no_pixels, too_few_concepts, fewer_images, flat, a_missing_array],
)
def test_a_file_that_is_whole_and_yet_wrong_is_one_line(run, tmp_path, kind, harm):
    """With checksums that are right, as another program or version may have written it."""
    if kind == "sweep" and harm in (no_recipe, no_edits):
        pytest.skip("a sweep has no recipe")
    effects = run.effects
    (key,) = (key for key in effects if effects.kind(key) == kind)
    header = effects.header(key)
    arrays = {name.removeprefix(f"results/{key}/"): value for name, value in effects.stored(key)}
    arrays.pop("header")
    unit = int(effects[key].units[0]) if kind == "sweep" else int(header["recipe"]["edits"][0]["units"][0])
    harm(header, arrays)
    shutil.copy(run.path, tmp_path / "run.h5")
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    stored = [(f"results/{key}/{name}", value) for name, value in (("header", text), *arrays.items())]
    store.write(effects_path(tmp_path / "run.h5"), {"run": run.id, "results": [key]}, stored, store.EFFECTS)
    with pytest.raises(GanatomyError, match=r"run\.effects\.h5 is damaged: ") as told:
        LayerCauses(dissect.open(tmp_path / "run.h5"), LAYER).unit(unit)
    assert "\n" not in str(told.value)
