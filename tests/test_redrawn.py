"""What is drawn after a run has the run's classes, in every command that draws images again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dissect
import segmodels
from app.cli import run as ganatomy
from app.facts import samples_in_words
from app.live import Studio
from app.redrawn import classes_in_words, drawn_anew, drawn_in_words, how_drawn, in_turn
from dissect import GanatomyError
from dissect.generators.codes import InTurn
from dissect.generators.sampling import Sampler

pytestmark = pytest.mark.usefixtures("one_thread")

DATA, LAYER = Path(__file__).parent / "data", "blocks.1.0"


# -- which class a seed has ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seeds", "after", "words"),
    [
        ([3, 3, 3], range(3), [3, 3, 3], "class 3"),
        ([3, 1, 3, 1, 3], range(5), [1, 3, 1, 3], "classes 3, 1 in turn"),
        ([4, 1, 5, 4], range(10, 14), [1, 5, 4, 1], "classes 4, 1, 5 in turn"),
        ([2, 0, 1], range(3), [2, 0, 1, 2], "classes 2, 0, 1 in turn"),
        ([3, 1, 3, 1], [9, 2, 5, 4], [3, 1, 3, 1], "classes 3, 1 in turn"),
        (list(range(7)) * 2, range(14), list(range(7)), "7 classes in turn, 0 to 6"),
    ],
)
def test_a_run_goes_on_with_its_classes(given, seeds, after, words):
    found = in_turn(given, list(seeds))
    assert classes_in_words(found) == words
    if isinstance(found, int):
        assert {found} == {*given, *after}
        return
    last = max(seeds)
    assert list(found.of(seeds)) == given, "the run's own seeds have what they had"
    assert list(found.of(range(last + 1, last + 1 + len(after)))) == after
    assert found.of([last + 3, last + 1, last + 3]) == tuple(found.of([s])[0] for s in (last + 3, last + 1, last + 3))


@pytest.mark.parametrize("given", [[0] * 30 + [1] * 30 + [2] * 60, np.random.RandomState(3).randint(5, size=120)])
def test_a_list_without_turns_is_drawn_as_often_as_it_says(given):
    given = list(map(int, given))
    found = in_turn(given, list(range(100, 220)))
    assert list(found.of(range(100, 220))) == given
    after = np.bincount(found.of(range(220, 340)), minlength=5)
    assert after.tolist() == np.bincount(given, minlength=5).tolist(), "as many seeds have each class as often"
    few = np.bincount(found.of(range(220, 250)), minlength=5) / 30
    assert np.abs(few - after / 120).max() < 0.2, "a few have about as many, whichever class came first"
    assert classes_in_words(found) == f"{len(set(given))} classes, as often as in the run"


def test_classes_in_turn_are_those_of_a_list():
    generator = dissect.load(DATA / "sagan.safetensors")
    turns = InTurn((4, 1, 5), first=2, known=((3, 0),))
    codes = generator.sample([2, 3, 4, 8], turns)
    assert codes.classes.tolist() == [4, 0, 5, 4]
    same = generator.sample([2, 3, 4, 8], [4, 0, 5, 4])
    assert np.array_equal(codes.z, same.z)
    segmenter, edit = segmodels.load("colors"), dissect.ablate(LAYER, [0, 1])
    one, other = (
        dissect.effect(generator, segmenter, edit, [2, 3, 4, 8], controls=1, classes=given)
        for given in (turns, [4, 0, 5, 4])
    )
    assert np.array_equal(one.after, other.after)
    assert one.facts == other.facts, "a file says which class each image had"
    with pytest.raises(GanatomyError, match=r"classes must be 0\.\.5"):
        generator.sample([2], InTurn((7,)))


@pytest.mark.parametrize(
    ("how", "num_classes", "words"),
    [
        ({}, None, ""),
        ({}, 10, "a class of its own for each seed"),
        ({"classes": 207}, 1000, "class 207"),
        ({"truncation": 0.5, "cutoff": 8}, None, "truncation 0.5 of the first 8 w's"),
        ({"classes": 2, "truncation": 0.7, "noise": "random"}, 10, "class 2, truncation 0.7, random noise"),
        ({"noise": "none"}, None, "no noise"),
    ],
)
def test_what_is_said_of_images(how, num_classes, words):
    assert (
        drawn_in_words({"classes": None, "truncation": 1.0, "cutoff": None, "noise": "const"} | how, num_classes)
        == words
    )


# -- every command ---------------------------------------------------------------------------------------------


CLASSES = {"one": "4", "list": "4,1,5", "uniform": "uniform"}
SAID = {
    "one": "class 4", "list": "classes 4, 1, 5 in turn", "uniform": "a class of its own for each seed",
    "codes": "classes 5, 2 in turn",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    generator = dissect.load(DATA / "sagan.safetensors")
    for name, text in CLASSES.items():
        arguments = ["--samples", "16", "--layer", LAYER, "--maxima", "--class", text]
        out = folder / f"{name}.h5"
        assert ganatomy(["dissect", str(DATA / "sagan.safetensors"), *arguments, "--out", str(out)]) == 0
    codes = generator.sample(range(16), [5, 2] * 8)
    dissect.run(generator, segmodels.load("colors"), [LAYER], codes=codes, out=folder / "codes.h5", maxima=True)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Every (seed, class) that is drawn."""
    found, sample = set(), Sampler.sample

    def recording(self, *arguments, **named):
        codes = sample(self, *arguments, **named)
        found.update(zip(codes.seeds, codes.classes.tolist(), strict=True))
        return codes

    monkeypatch.setattr(Sampler, "sample", recording)
    return found


def class_of(name, seed, generator):
    """The class that a run of 16 samples says a seed has."""
    if name == "uniform":
        return int(generator.sample([seed]).classes[0])
    turns = {"one": [4], "list": [4, 1, 5], "codes": [5, 2]}[name]
    return turns[seed % len(turns)]


COMMANDS = {
    "effect": ("--layer", LAYER, "--units", "0,1", "--samples", "10", "--controls", "1", "--pictures", "{}.png"),
    "sweep": ("--layer", LAYER, "--units", "0", "--samples", "10"),
    "dose": ("--layer", LAYER, "--concept", "{concept}", "--units", "0,1", "--samples", "10", "--orders", "1"),
    "ace": (
        "--layer",
        LAYER,
        "--concept",
        "{concept}",
        "--samples",
        "6",
        "--heldout",
        "3",
        "--epochs",
        "1",
        "--places",
        "4",
        "--top",
        "2",
    ),
    "insertion": ("--layer", LAYER, "--concept", "{concept}", "--units", "0", "--samples", "2", "--stride", "8"),
    "clean": ("--units", "0", "--layer", LAYER, "--samples", "20", "--extractor", "pixels", "--out", "{}-clean"),
}


CASES = [("list", command) for command in COMMANDS] + [(name, "effect") for name in ("one", "uniform", "codes")]


@pytest.mark.parametrize(("name", "command"), CASES)
def test_a_command_draws_as_the_run_did(name, command, runs, drawn, tmp_path, capsys):
    run = dissect.open(runs / f"{name}.h5")
    areas = run.reader.read("samples/concept_area").sum(0)
    concept = run.concepts[1 + int(areas[1:].argmax())].name
    arguments = [text.replace("{concept}", concept).replace("{}", str(tmp_path / "out")) for text in COMMANDS[command]]
    capsys.readouterr()
    model = [str(DATA / "sagan.safetensors")]
    assert ganatomy([command, str(run.path), *model, *arguments]) == 0, capsys.readouterr().err
    told = " ".join(capsys.readouterr().err.split())
    assert f"images are drawn as the run's samples were: {SAID[name]}" in told
    pairs, generator = set(drawn), dissect.load(DATA / "sagan.safetensors")
    expected = {(seed, class_of(name, seed, generator)) for seed, _ in pairs}
    assert len([seed for seed, _ in expected if seed >= 16]) >= 2
    if command == "clean":  # the file that it writes is compared on seeds 0 to 15 of whatever class
        assert expected <= pairs, "its reference are the run's own samples"
        pairs = {pair for pair in pairs if pair[0] >= 16} | {pair for pair in expected if pair[0] < 16}
    assert pairs == expected


def test_what_is_written_says_the_class_of_each_image(runs, capsys):
    arguments = ["--layer", LAYER, "--units", "2", "--samples", "5", "--controls", "0", "--json"]
    capsys.readouterr()
    assert ganatomy(["effect", str(runs / "list.h5"), str(DATA / "sagan.safetensors"), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["effects"][0]["samples"]["classes"] == [1, 5, 4, 1, 5]


def test_the_dashboard_and_the_report_draw_and_say_the_same(runs):
    run, generator = dissect.open(runs / "list.h5"), dissect.load(DATA / "sagan.safetensors")
    studio = Studio(run, generator)
    assert [int(studio.codes(seed).classes[0]) for seed in (0, 4, 16, 17)] == [4, 1, 1, 5]
    assert drawn_anew(run).classes.of([15, 16, 17]) == (4, 1, 5)
    assert samples_in_words(run.manifest["samples"]) == "16, seeds 0 to 15, classes 4, 1, 5 in turn"
    assert samples_in_words(dissect.open(runs / "one.h5").manifest["samples"]) == "16, seeds 0 to 15, class 4"
    given = dissect.open(runs / "codes.h5")
    assert how_drawn(given)["classes"].of(range(16, 19)) == (5, 2, 5)
    with pytest.raises(GanatomyError, match="given latents"):
        drawn_anew(given)
