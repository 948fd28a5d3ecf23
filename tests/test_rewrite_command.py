"""``ganatomy rewrite request``, ``solve`` and ``apply``: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import dissect
from app.cli import run
from app.commands.rewrite import regions_of
from dissect import GanatomyError, Recipe
from rewrite import Request

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A request, and an edit that was solved from it."""
    folder = tmp_path_factory.mktemp("rewrite")
    made = run([
        "rewrite", "request", str(folder / "blue.json"), "--copy", "18:cross", "--paste", "19,50:cross",
        "--resolution", "64", "--context", "0-20:cross", "--goal", "mean", "--name", "blue crosses",
    ])  # fmt: skip
    assert made == 0
    assert solve(folder, "edit.safetensors", "--pictures", str(folder / "grid.png")) == 0
    return folder


def solve(folder, out, *more, request="blue.json", layer="layer1"):
    return run([
        "rewrite", "solve", "planted:7", str(folder / request), "--layer", layer, "--segmenter", "planted", "--out",
        str(folder / out), "--memory-samples", "30", *more,
    ])  # fmt: skip


def test_a_request_is_what_was_asked_for(folder):
    request = Request.load(folder / "blue.json")
    assert (request.name, request.goal, request.resolution) == ("blue crosses", "mean", 64)
    assert (request.copy.seed, request.copy.concept) == (18, "cross")
    assert [region.seed for region in request.context] == list(range(20 + 1))


@pytest.mark.parametrize(
    ("text", "seeds", "concept", "pixels"),
    [
        ("3", [3], None, None), ("3,5", [3, 5], None, None), ("3-5:hair", [3, 4, 5], "hair", None),
        ("3:1,2,4,8", [3], None, 18), ("1,2:0,0,1,1", [1, 2], None, 1),
    ],
)  # fmt: skip
def test_regions_as_text(text, seeds, concept, pixels):
    found = regions_of(text, 8)
    assert [region.seed for region in found] == seeds
    assert {region.concept for region in found} == {concept}
    assert all(region.mask is None if pixels is None else region.mask.sum() == pixels for region in found)


@pytest.mark.parametrize("text", ["", ":hair", "3:", "3:1,2,3", "3:0,0,9,9", "x:hair"])
def test_regions_that_are_none(text):
    with pytest.raises(GanatomyError):
        regions_of(text, 8)


def test_an_edit_is_written_with_its_memory_and_a_picture(folder, capsys):
    generator = dissect.load("planted:7")
    recipe = Recipe.load(folder / "edit.safetensors")
    assert recipe.maker.fingerprint == generator.fingerprint
    assert recipe[0].provenance["requests"][0]["name"] == "blue crosses"
    assert (folder / "planted-7.memory.h5").exists()
    assert Image.open(folder / "grid.png").width > 1000
    capsys.readouterr()
    assert solve(folder, "again.safetensors", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["layer"] == "layer1"
    assert row["attained"] > 0.9
    assert Recipe.load(folder / "again.safetensors") == recipe


def test_edits_stack_scale_bundle_and_draw(folder, capsys):
    one, out = str(folder / "weak.safetensors"), folder / "both.bundle"
    assert solve(folder, "weak.safetensors", "--strength", "0.1") == 0  # so that a cross is still one
    boxes = ["--copy", "18:0,0,32,32", "--paste", "19:16,16,48,48", "--resolution", "64"]
    assert run(["rewrite", "request", str(folder / "boxes.json"), *boxes]) == 0
    assert solve(folder, "second.safetensors", "--with", one, request="boxes.json", layer="layer2") == 0
    both = ["rewrite", "apply", "planted:7", one, str(folder / "second.safetensors")]
    assert run([
        *both, "--out", str(out), "--save-recipe", str(folder / "both.safetensors"), "--pictures",
        str(folder / "both.png"), "--seeds", "1,2", "--strength", "0.5",
    ]) == 0  # fmt: skip
    generator = dissect.load("planted:7")
    recipe = Recipe.load(folder / "both.safetensors")
    assert [edit.strength for edit in recipe] == [0.05, 0.5]
    codes = generator.sample([19, 50])
    assert torch.equal(dissect.load(out)(codes), generator(codes, recipe))
    assert not torch.equal(generator(codes, recipe), generator(codes))
    assert Image.open(folder / "both.png").width > 300


SOLVE = ["solve", "planted:7", "REQUEST", "--layer", "layer1", "--out", "OUT"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "planted:7", "REQUEST", "--layer", "layer9", "--out", "OUT"], "unknown layer 'layer9'"),
        (["solve", "planted:7", "nothing.json", "--layer", "layer1", "--out", "OUT"], "no such file: nothing.json"),
        (["solve", "planted:7", "REQUEST", "--layer", "layer1", "--out", "edit.txt"], "ends in .safetensors"),
        ([*SOLVE, "--rank", "0"], "rank of 1 or more"),
        ([*SOLVE, "--method", "x"], "closed, projected"),
        (
            [*SOLVE, "--segmenter", "colors"],
            "unknown concept",
        ),
        ([*SOLVE, "--memory-samples", "0"], "1 or more"),
        ([*SOLVE, "--pictures", "x.gif"], ".png"),
        (
            ["solve", "planted:7,layers=4", "REQUEST", "--layer", "layer1", "--out", "OUT"],
            "the request is for images of",
        ),
        (["apply", "planted:7", "EDIT"], "nothing to write"),
        (["apply", "planted:8", "EDIT", "--pictures", "x.png"], "the recipe is for planted:7"),
        (["apply", "planted:7", "REQUEST", "--pictures", "x.png"], "is not a recipe"),
        (["request", "x.txt", "--paste", "1", "--resolution", "8"], "ends in .json"),
        (["request", "x.json", "--paste", "1", "--resolution", "8"], "needs a region to copy from"),
        (["request", "x.json", "--paste", "1", "--copy", "1,2", "--resolution", "8"], "--copy: expected one seed"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"REQUEST": str(folder / "blue.json"), "EDIT": str(folder / "edit.safetensors"), "OUT": "out.safetensors"}
    capsys.readouterr()
    assert run(["rewrite", *(places.get(argument, argument) for argument in arguments)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.strip().count("\n") == 0
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".memory.h5")]
