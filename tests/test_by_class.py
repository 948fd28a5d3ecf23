"""Units by class: against sums written out, and from a dissection of a generator with classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dissect
import segmodels
from app.cli import app
from dissect import GanatomyError
from dissect.by_class import by_class

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"


def test_means_and_shares_against_sums_written_out():
    state = np.random.RandomState(0)
    classes = state.randint(4, size=60) * 3
    values = state.randn(60, 5) + np.outer(classes, [0, 0.1, 1, 0, 0])
    values[:, 3], values[:, 4] = 7, classes
    found = by_class(values, classes)
    assert found.classes.tolist() == [0, 3, 6, 9]
    for k, name in enumerate(found.classes):
        assert found.samples[k] == (classes == name).sum()
        assert np.allclose(found.maximum[k], values[classes == name].mean(0))
    within = sum(values[classes == name].var(0) * (classes == name).sum() for name in found.classes)
    wanted = 1 - (within / 56) / values.var(0, ddof=1).clip(1e-300)
    assert np.allclose(found.share[[0, 1, 2, 4]], wanted[[0, 1, 2, 4]])
    assert np.isnan(found.share[3])
    assert found.share[4] == pytest.approx(1)


def test_classes_that_say_nothing_explain_nothing_on_average():
    state = np.random.RandomState(1)
    found = by_class(state.randn(40, 3000), np.arange(40) % 10)
    assert abs(float(found.share.mean())) < 0.01  # unadjusted it would be 9 / 39


@pytest.mark.parametrize("classes", [[0, 0, 0], [0, 1, 2]])
def test_one_class_or_one_sample_a_class_explain_nothing(classes):
    assert np.isnan(by_class(np.random.RandomState(0).randn(3, 2), classes).share).all()


@pytest.mark.parametrize(("maxima", "classes"), [([1.0], [1]), ([[1.0]], [1, 2]), ([[1.0]], [0.5])])
def test_what_does_not_fit_is_refused(maxima, classes):
    with pytest.raises(GanatomyError, match="expected maxima"):
        by_class(maxima, classes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    generator = dissect.load(DATA / "sagan.safetensors")
    return dissect.run(
        generator, segmodels.load("colors"), ["blocks.1.0", "blocks.2.0"], samples=36, out=folder / "run.h5",
        classes=[i % 6 for i in range(36)], maxima=True,
    )  # fmt: skip


def test_of_a_run(run):
    generator = dissect.load(DATA / "sagan.safetensors")
    found = run.layer("blocks.2.0").by_class
    codes = generator.sample(range(3, 36, 6), 3)
    features = generator.features(codes, "blocks.2.0")["blocks.2.0"]
    assert found.samples.tolist() == [6] * 6
    assert np.allclose(found.maximum[3], features.amax((2, 3)).double().mean(0), atol=1e-6)
    assert found.share.max() > 0.3, "norms by class: some units depend on it"


def test_on_the_command_line(run):
    done = CliRunner().invoke(app, ["units", str(run.path), "--by-class", "--json", "--top", "3"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    share = np.concatenate([run.layer(name).by_class.share for name in run.layers])
    assert [row["class_share"] for row in rows] == pytest.approx(sorted(share, reverse=True)[:3])
    best = run.layer(rows[0]["layer"]).by_class.maximum[:, rows[0]["unit"]]
    assert (rows[0]["class"], rows[0]["class_maximum"]) == (int(best.argmax()), pytest.approx(float(best.max())))
    plain = CliRunner().invoke(app, ["units", str(run.path), "--by-class"])
    assert "class_share" in plain.stdout or "share" in plain.stdout


def test_runs_without_classes_or_maxima_are_refused(tmp_path):
    segmenter = segmodels.load("colors")
    plain = dissect.load(DATA / "dcgan_main.safetensors")
    run = dissect.run(plain, segmenter, ["main.2"], samples=8, out=tmp_path / "a.h5", maxima=True)
    with pytest.raises(GanatomyError, match="without classes"):
        _ = run.layer("main.2").by_class
    classed = dissect.load(DATA / "sngan.safetensors")
    run = dissect.run(classed, segmenter, ["blocks.0.0"], samples=8, out=tmp_path / "b.h5")
    with pytest.raises(GanatomyError, match="without --maxima"):
        _ = run.layer("blocks.0.0").by_class
