"""In a browser: what a unit causes and how a concept fades, measured at a button, kept in the file, seen everywhere."""

import shutil
import time

import numpy as np
import pytest
from dashboard import LAYERS, chromium, planted_file, serving, visitors  # noqa: F401

import dissect
from app.cli import run as command
from app.library import Library
from app.measures import Measure
from app.report import report
from app.server import context_of
from dissect import GanatomyError

LAYER = LAYERS[1]
ALONE = "() => document.querySelector('#causes-alone')"


@pytest.fixture(scope="module")
def painter(planted_file):  # noqa: F811
    """A labelled unit that paints its concept, and that concept's name."""
    run, truth = dissect.open(planted_file), dissect.load("planted:0").truth
    names = [run.concepts[index].name for index in run.layer(LAYER).label]
    painters = (u for u, kind in truth.kind[LAYER].items() if kind == "painting" and names[u] == truth[LAYER][u])
    unit = next(painters)
    return unit, names[unit]


@pytest.fixture
def home(planted_file, tmp_path):  # noqa: F811
    shutil.copy(planted_file, tmp_path / "faces.h5")
    with serving([tmp_path / "faces.h5"]) as (address, _):
        yield tmp_path / "faces.h5", address


@pytest.fixture
def engine(planted_file, tmp_path):  # noqa: F811
    shutil.copy(planted_file, tmp_path / "faces.h5")
    context = context_of(Library([tmp_path / "faces.h5"]))
    yield context.engine
    context.engine.close()


def measured(visitor):
    visitor.until("() => document.querySelector('#measure-says').innerText.includes('measured in')")


def test_what_a_unit_causes_is_measured_now_kept_and_in_the_report(home, visitors, painter, tmp_path, capsys):  # noqa: F811
    path, address = home
    unit, concept = painter
    visitor = visitors(address).visit(f"/unit/faces/{LAYER}/{unit}", "#measure-start")
    page = visitor.page
    assert "Not measured" in page.inner_text("#measure-result")
    page.fill("#measure-images", "80")
    page.focus("#measure-start")
    page.keyboard.press("Enter")
    measured(visitor)
    visitor.until(ALONE)
    told = page.inner_text("#causes-alone")
    assert concept in told
    assert "changed" in told
    (effect,) = dissect.open(path).effects.of("effect")
    index = effect.concept_index(concept)
    assert len(effect.seeds) == 80
    assert not set(effect.seeds.tolist()) & set(dissect.open(path).seeds.tolist())
    assert effect.verdict(index) == "changed"
    assert len(effect.control_share) == 5
    page.reload()
    visitor.settle("#causes-alone")
    assert page.inner_text("#causes-alone") == told
    other = visitors(address).visit(f"/unit/faces/{LAYER}/{unit}", "#causes-alone")  # it is in the run's file
    assert other.page.inner_text("#causes-alone") == told
    report(dissect.open(path), tmp_path / "report")
    (made,) = (tmp_path / "report/units").rglob(f"{LAYER}/{unit}.html")
    assert "random other units" in made.read_text(encoding="utf-8")
    # From the command line meanwhile: the file is not held open.
    assert (
        command(["effect", str(path), "--layer", LAYER, "--units", f"{unit},{(unit + 1) % 64}", "--samples", "12"]) == 0
    )
    capsys.readouterr()
    assert len(dissect.open(path).effects.of("effect")) == 2
    page.reload()
    visitor.settle("#causes-alone")
    assert "As one of 2 units" in page.inner_text("#measure-result")


def test_a_concept_fades_with_its_units(home, visitors, painter):  # noqa: F811
    path, address = home
    _, concept = painter
    visitor = visitors(address).visit(f"/concepts/faces/{concept}", "#measure-start")
    page = visitor.page
    assert "Not measured" in page.inner_text("#measure-result")
    page.fill("#measure-units", "6")
    page.fill("#measure-images", "15")
    page.click("#measure-start")
    measured(visitor)
    visitor.until("() => document.querySelector('#concept-dose .main-svg')")
    (dose,) = dissect.open(path).effects.of("dose")
    assert dose.concept == concept
    assert (dose.steps[-1], len(dose.seeds)) == (6, 15)
    left = f"{100 * dose.rows()[-1]['left']:.0f}"
    assert f"without 6 units {left}" in page.inner_text("#dose-known").replace("\n", " ")
    visitor.visit(f"/concepts/faces/{concept}", "#concept-dose .main-svg")


def test_what_runs_is_seen_by_who_comes_and_can_be_cancelled(home, visitors, painter):  # noqa: F811
    path, address = home
    unit, _ = painter
    first = visitors(address).visit(f"/unit/faces/{LAYER}/{unit}", "#measure-start")
    first.page.fill("#measure-images", "9000")
    first.page.click("#measure-start")
    first.until("() => !document.querySelector('#measure-cancel').hidden")
    second = visitors(address).visit(f"/unit/faces/{LAYER}/{unit}", "#measure-start")
    second.until("() => !document.querySelector('#measure-cancel').hidden")
    elsewhere = visitors(address).visit(f"/unit/faces/{LAYER}/{(unit + 1) % 64}", "#measure-start")
    assert elsewhere.page.evaluate("document.querySelector('#measure-cancel').hidden")
    second.page.click("#measure-cancel")
    for visitor in (first, second):
        visitor.until("() => document.querySelector('#measure-cancel').hidden")
    assert not path.with_name("faces.effects.h5").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Measure("faces", LAYER, 3, images=9), "expected 10 to 10,000 images"),
        (Measure("faces", LAYER, 64), "has units 0..63"),
        (Measure("faces", "layer9", 3), "layer9"),
        (Measure("none", LAYER, 3), "none"),
        (Measure("faces", LAYER, concept="nothing"), "nothing"),
        (Measure("faces", LAYER, concept="sky", units=0), "expected 1 to"),
    ],
)
def test_questions_that_cannot_be_answered_are_one_line(engine, asked, words):
    with pytest.raises(GanatomyError, match=words) as told:
        engine.measures.start(asked)
    assert "\n" not in str(told.value)


def test_the_same_question_is_asked_once(engine, painter):
    asked = Measure("faces", LAYER, painter[0], images=30)
    number = engine.measures.start(asked)
    assert engine.measures.start(asked) == number
    end = time.monotonic() + 60
    while not engine.worker.report(number).state.ended and time.monotonic() < end:
        time.sleep(0.05)
    assert engine.worker.report(number).error == ""
    assert np.unique([r.id for r in engine.worker.reports()]).size == 1
