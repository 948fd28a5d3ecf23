"""Units by class: against sums written out, and from a dissection of a generator with classes."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import Stop, differing
from typer.testing import CliRunner

import dissect
import segmodels
from app.cli import app
from app.cli import run as ganatomy
from app.seeds import parse_classes
from dissect import GanatomyError, passing
from dissect.by_class import by_class
from dissect.manifest import differences

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


# -- which classes are dissected -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "samples", "expected"),
    [
        ("uniform", 4, None),
        (" Uniform ", 4, None),
        ("3", 4, 3),
        ("3,1", 5, (3, 1, 3, 1, 3)),
        ("0-2", 4, (0, 1, 2, 0)),
        ("0:2, 7", 3, (0, 1, 7)),
    ],
)
def test_classes_as_people_type_them(text, samples, expected):
    assert parse_classes(text, samples) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected uniform, one class such as 207"),
        ("dogs", "expected uniform"),
        ("-1", "expected uniform"),
        ("3:3", "expected uniform"),
        ("0-9999999999", "expected uniform"),
        ("3,3", "named twice"),
        ("0-5", "6 classes cannot take turns in 5 samples"),
    ],
)
def test_classes_that_cannot_be_are_refused_in_one_line(text, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        parse_classes(text, 5)
    assert "\n" not in str(caught.value)


def dissected(out, *options):
    """The exit status of a dissection of the small SAGAN; 12 samples."""
    arguments = ["dissect", str(DATA / "sagan.safetensors"), "--samples", "12", "--layer", "blocks.1.0", "--maxima"]
    return ganatomy([*arguments, "--batch", "2", "--out", str(out), *options])


CASES = {"uniform": None, "4": [4] * 12, "4,1,5": [4, 1, 5] * 4, "0-3": [0, 1, 2, 3] * 3}


@pytest.mark.parametrize("text", CASES)
def test_classes_of_a_dissection_on_the_command_line(text, tmp_path):
    assert dissected(tmp_path / "run.h5", "--class", text) == 0
    generator = dissect.load(DATA / "sagan.safetensors")
    expected = generator.sample(range(12)).classes.tolist() if CASES[text] is None else CASES[text]
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["samples/class"][:].tolist() == expected
        described = json.loads(file.attrs["manifest"])["samples"]["classes"]
        assert described == (int(text) if text == "4" else CASES[text])
        maxima = file["layers/blocks.1.0/maxima"][:]
    features = generator.features(generator.sample(range(12), expected), "blocks.1.0")["blocks.1.0"]
    assert np.allclose(maxima, features.amax((2, 3)), atol=1e-6)
    in_python = dissect.run(
        generator, segmodels.load("colors"), ["blocks.1.0"], samples=12, out=tmp_path / "same.h5", maxima=True,
        classes=CASES[text] if text != "4" else 4, batch=2,
    )  # fmt: skip
    assert in_python.id == dissect.open(tmp_path / "run.h5").id, "one job, however it is asked for"
    assert dissected(tmp_path / "run.h5", "--class", text) == 0, "it is finished"
    assert dissected(tmp_path / "run.h5", "--class", "2") == 2, "another class is another job"


def test_shards_of_a_list_of_classes_are_the_whole(tmp_path):
    given = ("--class", "4,1,5")
    assert dissected(tmp_path / "whole.h5", *given) == 0
    plan = ("--plan", str(tmp_path / "plan.h5"))
    for some in ((), ("--shard", "1/2"), ("--shard", "2/2")):
        assert dissected(tmp_path / "run.h5", *given, *plan, *some) == 0
    shards = sorted(str(path) for path in tmp_path.glob("run.shard-*.h5"))
    done = CliRunner().invoke(app, ["merge", *shards, "--out", str(tmp_path / "run.h5")])
    assert done.exit_code == 0, done.output
    with h5py.File(tmp_path / "run.h5") as merged, h5py.File(tmp_path / "whole.h5") as whole:
        for name in ("samples/class", "layers/blocks.1.0/counts", "layers/blocks.1.0/maxima"):
            assert np.array_equal(merged[name][:], whole[name][:]), name


def test_what_was_interrupted_goes_on_with_its_list_of_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(passing, "CHECKPOINT_SECONDS", 0.0)  # after every atom
    assert dissected(tmp_path / "whole.h5", "--class", "4,1,5") == 0
    generator, out, drawn = dissect.load(DATA / "sagan.safetensors"), tmp_path / "run.h5", []
    capture = type(generator).capture

    def recording(self, codes, *arguments):
        drawn.extend(codes.seeds)
        return capture(self, codes, *arguments)

    def begin(classes, progress=None):
        dissect.run(
            generator, segmodels.load("colors"), ["blocks.1.0"], samples=12, out=out, maxima=True, batch=2,
            classes=classes, progress=progress,
        )  # fmt: skip

    for after in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            begin([4, 1, 5] * 4, Stop(after))
        kept = {path: path.read_bytes() for path in sorted((tmp_path / "run.h5.partial").iterdir())}
        assert kept
    for others in ("4,1,2", "uniform", "4"):
        assert dissected(out, "--class", others) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "was begun with another manifest (samples.classes: [4, 1, 5, 4," in said
    assert {path: path.read_bytes() for path in kept} == kept, "what was refused touched nothing"
    monkeypatch.setattr(type(generator), "capture", recording)
    assert dissected(out, "--class", "4,1,5") == 0
    assert drawn
    assert min(drawn) > 2, "what was counted is not drawn again"
    assert differing(out, tmp_path / "whole.h5") == []
    assert not (tmp_path / "run.h5.partial").exists()


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ([4, 1, 5], (4, 1, 2), "classes: [4, 1, 5] there, [4, 1, 2] here"),
        ([4, 1] * 30, [4, 1] * 29 + [4, 2], "classes: [1] from entry 59 on there, [2] from entry 59 on here"),
        ([4, 1] * 30, [4, 1] * 31, "classes: [] from entry 60 on there, [4, 1] from entry 60 on here"),
        ([4, 1] * 30, None, "classes: [4, 1, 4, 1, 4, 1, 4, 1, 4, 1, 4, 1, … there, null here"),
    ],
)
def test_lists_that_begin_alike_are_told_apart(theirs, ours, said):
    assert differences({"classes": ours}, {"classes": theirs}) == [said]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--class", "4,6"), "classes must be 0..5"),
        (("--class", "0-5", "--samples", "5"), "cannot take turns"),
        (("--class", "all"), "expected uniform"),
        (("--class", "1", "--images", "."), "--images gives pictures"),
    ],
)
def test_classes_that_do_not_fit_end_with_one_line(options, words, tmp_path, capsys):
    assert dissected(tmp_path / "run.h5", *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
