"""Recipes: what is saved comes back, what is damaged or another generator's is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import dissect
from dissect import FeatureEdit, GanatomyError, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
MASK = np.linspace(0, 1, 64).reshape(8, 8)
EDITS = [
    dissect.ablate("layer1", [3, 1]),
    dissect.ablate("layer1", [4], 0.5, MASK),
    dissect.ablate("layer2", [2, 0], to="other"),
    dissect.insert("layer2", [5, 1], [1.25, -0.1], MASK, 0.3),
    dissect.insert("layer1", [0], np.arange(256).reshape(1, 16, 16) / 7),
    dissect.scale("layer3", [0], 1.7),
    dissect.replace("layer3", [1, 2], seed=12, draw=2),
    FeatureEdit("layer3", (0, 9), (0.1, 0.7)),
]


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:5")


def test_a_saved_recipe_comes_back(tmp_path, planted):
    recipe = Recipe(EDITS, planted)
    path = recipe.save(tmp_path / "recipe.safetensors")
    assert path.is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.safetensors"], "one file"
    again = Recipe.load(path)
    assert again == recipe
    assert list(again) == EDITS
    assert (again.id, hash(again)) == (recipe.id, hash(recipe))
    assert again.maker == recipe.maker
    codes = planted.sample([1, 2])
    assert torch.equal(planted(codes, edits=again), planted(codes, edits=EDITS))
    assert again[3].values is not None
    assert not again[3].values.flags.writeable
    assert Recipe.load(Recipe(EDITS).save(tmp_path / "free.safetensors")).maker is None


def test_equal_recipes_have_one_id_and_others_another():
    recipe = Recipe(EDITS)
    assert recipe.id == Recipe(EDITS).id
    assert re.fullmatch(r"[0-9a-f]{16}", recipe.id)
    assert {recipe: 1}[Recipe(list(EDITS))] == 1
    others = [
        Recipe(EDITS[::-1]), Recipe(EDITS[:-1]), Recipe([*EDITS, EDITS[0]]),
        Recipe([dissect.ablate("layer1", [3, 1], 0.999), *EDITS[1:]]),
        Recipe([*EDITS[:1], dissect.ablate("layer1", [4], 0.5, MASK.T), *EDITS[2:]]),
        Recipe([*EDITS[:-1], FeatureEdit("layer3", (0, 9), (0.1, 0.70001))]),
    ]  # fmt: skip
    assert len({recipe.id, *(other.id for other in others)}) == 1 + len(others)
    assert all(recipe != other for other in others)


def test_recipes_are_sequences_that_keep_their_maker(planted):
    recipe = Recipe(EDITS, planted)
    assert recipe[0] == EDITS[0]
    assert recipe[1:3] == Recipe(EDITS[1:3], planted)
    assert recipe[:2] + recipe[2:] == recipe
    assert (Recipe(EDITS[:2]) + recipe[2:]).maker == recipe.maker
    with pytest.raises(GanatomyError, match="cannot be one recipe"):
        recipe + Recipe(EDITS[:1], dissect.load("planted:6"))


def test_another_generator_refuses_a_recipe_unless_it_is_forced(tmp_path, planted):
    recipe = Recipe.load(Recipe(EDITS[:1], planted).save(tmp_path / "recipe.safetensors"))
    other = dissect.load("planted:6")
    codes = other.sample([1, 2])
    calls = [
        lambda: other(codes, edits=recipe),
        lambda: other.capture(codes, "layer1", edits=recipe),
        lambda: other.resume(other.capture(codes, "layer1"), "layer1", edits=recipe),
        lambda: Recipe(recipe, other),
    ]
    for call in calls:
        with pytest.raises(GanatomyError, match=r"for planted:5 .*, not for planted:6 .*forced") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert torch.equal(other(codes, edits=recipe.forced()), other(codes, edits=EDITS[:1]))


def test_the_same_weights_under_other_layer_names_are_another_generator_to_a_recipe(tmp_path):
    one = dissect.load(DATA / "pggan_genforce.safetensors")
    path = dissect.convert(one, tmp_path / "other.pth", "gandissect")
    two = dissect.load(path)
    assert one.fingerprint == two.fingerprint
    assert [layer.name for layer in one.layers] != [layer.name for layer in two.layers]
    both = {layer.name for layer in one.layers} & {layer.name for layer in two.layers}
    assert "layer1" in both, "one name means two layers: the trap"
    recipe = Recipe(dissect.ablate("layer1", [0]), one)
    with pytest.raises(GanatomyError, match="the same weights, but other layer names"):
        two(two.sample([0]), edits=recipe)
    assert two(two.sample([0]), edits=recipe.forced()) is not None
    with pytest.raises(GanatomyError, match="unknown layer 'layer0'"):
        two(two.sample([0]), edits=Recipe(dissect.ablate("layer0", [0]), one).forced())


def damaged(path, header=None, tensors=None):
    """Write the file again with something in it changed."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        text = file.metadata()["recipe"]
    told = json.loads(text)
    kept = load_file(path)
    if header is not None:
        header(told)
    if tensors is not None:
        tensors(kept)
    save_file(kept, path, {"recipe": json.dumps(told)})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(b""), "not a recipe, or is damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:-7]), "not a recipe, or is damaged"),
        (lambda p: p.write_bytes(b"\x80\x04" + p.read_bytes()), "not a recipe, or is damaged"),
        (lambda p: save_file({"w": np.zeros(3)}, p), "a safetensors file, but no recipe"),
        (lambda p: save_file({"w": np.zeros(3)}, p, {"recipe": "nonsense"}), "not a recipe, or is damaged"),
        (lambda p: damaged(p, lambda h: h.update(version=99)), "recipe version 99, this ganatomy reads 2"),
        (lambda p: damaged(p, lambda h: h.update(edits=7)), "a damaged recipe"),
        (lambda p: damaged(p, lambda h: h["edits"][0].pop("layer")), "a damaged recipe"),
        (lambda p: damaged(p, lambda h: h["edits"][0].update(units=[float("inf")])), "a damaged recipe"),
        (lambda p: damaged(p, lambda h: h["edits"][0].update(units=[2, 1])), "ascending order"),
        (lambda p: damaged(p, lambda h: h.update(generator={"name": "x"})), "a damaged recipe"),
        (lambda p: damaged(p, None, lambda t: t.update({"3.values": np.zeros(5, np.float32)})), "a value for each"),
        (lambda p: damaged(p, None, lambda t: t.update({"1.mask": np.full((4, 4), 2.0)})), r"values in \[0, 1\]"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, planted, damage, words):
    path = Recipe(EDITS, planted).save(tmp_path / "recipe.safetensors")
    damage(path)
    with pytest.raises(GanatomyError, match=words) as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_does_not_fit_its_generator_is_refused_when_it_is_made(planted):
    for edit, words in [
        (dissect.ablate("layer9", [0]), "unknown layer"),
        (dissect.ablate("layer1", [64]), r"units 0\.\.63"),
        (dissect.ablate("layer1", [0], mask=np.ones((2, 3))), "another shape"),
        (dissect.insert("layer1", [0], np.zeros((1, 3, 3))), "maps of 16 x 16"),
    ]:
        with pytest.raises(GanatomyError, match=words):
            Recipe(edit, planted)
