"""``ganatomy effect``, ``sweep`` and ``dose`` as people use them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import dissect
import segmodels
from app import cli
from app.experiments import parse_units, percent
from dissect import GanatomyError, Recipe
from dissect.effects.stored import effects_path

pytestmark = pytest.mark.usefixtures("one_thread")

FEW, MORE = ("--samples", "12"), ("--samples", "36")


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "run.h5"
    dissect.run(dissect.load("planted:3"), segmodels.load("planted"), ["layer1", "layer2"], samples=80, out=path)
    return path


@pytest.fixture(autouse=True)
def _no_effects(run_file):
    yield
    effects_path(run_file).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:3")


def painters(planted, layer):
    """The first shape that one unit alone paints, not the rare one, and that unit."""
    kinds, concepts = planted.truth.kind[layer], planted.truth.concepts[layer]
    for shape in planted.world.drawn_shapes[1:]:
        if shape not in (*planted.world.doubled, planted.world.suppressed):
            return shape, next(u for u in kinds if kinds[u] == "painting" and concepts[u] == (shape,))
    raise AssertionError


def call(capsys, *arguments):
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_effect_of_named_units(run_file, planted, capsys):
    shape, unit = painters(planted, "layer2")
    chosen = ["--layer", "layer2", "--units", unit, "--concept", shape]
    status, out, _ = call(capsys, "effect", run_file, *chosen, "--controls", 2, *MORE, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["seeds"] == list(range(80, 116)), "the seeds after the run's"
    assert found["fresh"] is True
    (one,) = found["effects"]
    assert one["aim"] == shape
    assert one["recipe"]["edits"] == [
        {"layer": "layer2", "units": [unit], "strength": 1.0, "mask": False, "put": "zero"}
    ]
    row = next(row for row in one["rows"] if row["concept"] == shape)
    expected = planted.truth.effect(range(80, 116), "layer2", unit)
    assert row["share"] == pytest.approx(expected[1 + segmodels.planted.SHAPES.index(shape)])
    assert (row["change"], row["verdict"]) == (-1, "changed")
    (kept,) = dissect.open(run_file).effects.values()
    assert kept.rows() == one["rows"]


def test_tables_for_people_and_for_programs(run_file, planted, capsys):
    shape, _ = painters(planted, "layer2")
    arguments = ["effect", run_file, "--layer", "layer2", "--concept", shape, "--top", 1, "--controls", 2, *MORE]
    status, out, _ = call(capsys, *arguments)
    assert status == 0
    assert "planted:3 by planted, seeds 80 to 115 (none of them a sample of the run)" in out
    assert f"{shape}: 1 unit of layer2 to zero" in out
    line = next(line for line in out.splitlines() if line.startswith(shape) and ":" not in line)
    assert "-100.0%" in line
    assert "changed" in line
    _, out, _ = call(capsys, *arguments, "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert {row["aim"] for row in table} == {shape}
    assert float(next(row for row in table if row["concept"] == shape)["change"]) == -1
    assert len(dissect.open(run_file).effects) == 1, "the same question is kept once"


def test_several_concepts_make_the_leakage_matrix(run_file, planted, capsys):
    shapes = [painters(planted, "layer2")[0], planted.world.drawn_shapes[-1]]
    assert shapes[0] != shapes[1]
    some = [x for shape in shapes for x in ("--concept", shape)]
    arguments = ["effect", run_file, "--layer", "layer2", *some, "--top", 1, "--controls", 1, *MORE]
    _, out, err = call(capsys, *arguments)
    assert not err.strip()
    assert "What changed (* beyond the controls)" in out
    _, out, _ = call(capsys, *arguments, "--json")
    matrix = json.loads(out)["leakage"]
    assert [row["aim"] for row in matrix] == shapes
    assert matrix[0][shapes[1]] == 0
    assert len(dissect.open(run_file).effects) == 2


def test_what_is_finished_is_kept_when_the_next_question_has_no_answer(run_file, planted, capsys):
    shape, unit = painters(planted, "layer2")
    nobodys = next(c for c in segmodels.planted.SHAPES + segmodels.planted.COLOURS
                   if c not in (*planted.world.drawn_shapes, *planted.world.drawn_colours))  # fmt: skip
    file = Recipe(dissect.ablate("layer2", unit)).save(run_file.with_name("recipe.safetensors"))
    both = ["--concept", shape, "--concept", nobodys]
    status, out, err = call(capsys, "effect", run_file, "--recipe", file, *both, "--controls", 0, *FEW)
    assert status == 2
    assert f"none of the 12 images shows {nobodys!r}" in err
    assert f"{shape}: 1 unit of layer2 to zero" in out
    assert [one.aim for one in dissect.open(run_file).effects.values()] == [shape]


@pytest.mark.parametrize(
    ("options", "put"),
    [
        (["--to", "mean"], "values"), (["--to", "other"], "another image"), (["--insert", "concept-mean"], "values"),
        (["--insert", "quantile"], "values"), (["--insert", "0.5", "--strength", "0.5"], "values"),
    ],
)  # fmt: skip
def test_what_is_put_in(run_file, planted, capsys, options, put, tmp_path):
    shape, unit = painters(planted, "layer2")
    file = tmp_path / "recipe.safetensors"
    chosen = ["--layer", "layer2", "--units", unit, "--concept", shape, "--controls", 1, *FEW]
    status, out, err = call(capsys, "effect", run_file, *chosen, *options, "--save-recipe", file, "--json")
    assert status == 0, err
    assert json.loads(out)["effects"][0]["recipe"]["edits"][0]["put"] == put
    (edit,) = Recipe.load(file)
    layer = dissect.open(run_file).layer("layer2")
    wanted = {
        "mean": layer.mean[unit], "concept-mean": layer.concept_mean[layer.run.concept_index(shape), unit],
        "quantile": dissect.constants.quantile(layer)[unit], "0.5": 0.5,
    }  # fmt: skip
    if put == "values":
        np.testing.assert_array_equal(edit.values, np.float32([wanted[options[1]]]))
    status, again, _ = call(
        capsys, "effect", run_file, "--recipe", file, "--concept", shape, "--controls", 1, *FEW, "--json"
    )
    assert status == 0
    first, second = json.loads(out)["effects"][0], json.loads(again)["effects"][0]
    assert first["recipe"] == second["recipe"]
    assert [r["after"] for r in first["rows"]] == [r["after"] for r in second["rows"]]


def test_pictures_before_and_after(run_file, planted, capsys, tmp_path):
    shape, unit = painters(planted, "layer2")
    out = tmp_path / "grid.png"
    status, _, _ = call(
        capsys, "effect", run_file, "--layer", "layer2", "--units", unit, "--concept", shape, *FEW, "--controls", 0,
        "--pictures", out,
    )  # fmt: skip
    assert status == 0
    with Image.open(out) as picture:
        assert picture.width > 8 * 160
        above, below = (
            np.asarray(picture.crop((110, 6 + 166 * row, picture.width, 166 * (row + 1)))) for row in (0, 1)
        )
    assert (above != below).any()


def test_a_sweep(run_file, planted, capsys):
    shape, unit = painters(planted, "layer1")
    status, out, _ = call(
        capsys,
        "sweep",
        run_file,
        "--layer",
        "layer1",
        "--units",
        f"{unit},0:5",
        "--concept",
        shape,
        "--samples",
        6,
        "--json",
    )
    found = json.loads(out)
    assert status == 0
    assert found["rows"][0]["unit"] == unit
    assert found["rows"][0]["change"] == -1
    assert len(found["rows"]) == len({unit, 0, 1, 2, 3, 4})
    assert found["seeds"] == list(range(80, 86))
    status, out, _ = call(
        capsys, "sweep", run_file, "--layer", "layer1", "--units", unit, "--samples", 6, "--top", 1, "--to", "mean"
    )
    assert status == 0
    assert "could not change" in out
    _, out, _ = call(capsys, "sweep", run_file, "--layer", "layer1", "--units", unit, "--samples", 6, "--csv")
    assert next(csv.DictReader(io.StringIO(out)))["unit"] == str(unit)
    assert len(dissect.open(run_file).effects.of("sweep")) == 3


def test_a_dose(run_file, planted, capsys):
    shape, unit = painters(planted, "layer2")
    arguments = ["dose", run_file, "--layer", "layer2", "--concept", shape, "--units", f"{unit},0", "--orders", 1, *FEW]
    status, out, _ = call(capsys, *arguments, "--json")
    found = json.loads(out)
    assert status == 0
    assert [row["left"] for row in found["rows"]] == [1, 0, 0]
    assert found["auc"] == pytest.approx(0.25)
    assert found["order"] == [unit, 0]
    status, out, _ = call(capsys, *arguments)
    assert "area under the curve 0.250" in out
    assert len(dissect.open(run_file).effects.of("dose")) == 1
    some = ["dose", run_file, "--layer", "layer2", "--concept", shape, "--samples", 10]
    _, out, _ = call(capsys, *some, "--top", 2, "--steps", "2", "--json")
    assert [row["units"] for row in json.loads(out)["rows"]] == [0, 2]
    assert "--steps: expected a list" in call(capsys, *some, "--steps", "few")[2]


def test_seeds_of_the_run_are_remarked(run_file, capsys):
    status, out, err = call(
        capsys, "effect", run_file, "--layer", "layer2", "--units", 0, "--seeds", "75:85", "--controls", 0, "--json"
    )
    assert status == 0
    assert "5 of the 10 seeds are samples of the run" in err
    assert json.loads(out)["fresh"] is False


def test_seeds_by_which_units_may_have_been_chosen_are_remarked(run_file, capsys):
    call(capsys, "sweep", run_file, "--layer", "layer1", "--units", "0:2", "--samples", 3)
    some = ["--layer", "layer1", "--samples", 5, "--controls", 0]
    _, _, err = call(capsys, "effect", run_file, *some, "--units", 0)
    assert "3 of the 5 seeds were used by an earlier sweep or ace" in err
    _, _, err = call(capsys, "effect", run_file, *some, "--units", 0, "--seeds", "83:88")
    assert "earlier" not in err


def test_seeds_behind_the_codes_of_a_run_are_known(planted, capsys, tmp_path):
    path = tmp_path / "codes.h5"
    dissect.run(planted, segmodels.load("planted"), ["layer1"], codes=planted.sample(range(20, 60)), out=path)
    some = ["effect", path, "--layer", "layer1", "--units", 0, "--controls", 0, "--json"]
    status, out, err = call(capsys, *some, "--samples", 30)
    assert status == 0
    assert json.loads(out)["seeds"] == list(range(40, 70))
    assert json.loads(out)["fresh"] is False
    assert "20 of the 30 seeds are samples of the run" in err
    assert json.loads(call(capsys, *some, "--seeds", "60:64")[1])["fresh"] is True


def test_a_recipe_never_takes_the_place_of_another_file(run_file, capsys, tmp_path):
    kept, file = run_file.read_bytes(), tmp_path / "r.safetensors"
    some = ["effect", run_file, "--layer", "layer1", "--units", 0, "--samples", 2, "--controls", 0]
    status, _, err = call(capsys, *some, "--save-recipe", run_file)
    assert status == 2
    assert "is there and no recipe" in err
    assert run_file.read_bytes() == kept
    assert "no such folder" in call(capsys, *some, "--save-recipe", tmp_path / "none" / "r")[2]
    for _ in range(2):
        assert call(capsys, *some, "--save-recipe", file)[0] == 0
    assert Recipe.load(file)[0] == dissect.ablate("layer1", 0)


def test_a_sweep_is_kept_though_no_image_shows_the_concept(run_file, planted, capsys):
    rare = planted.world.drawn_shapes[0]
    some = ["sweep", run_file, "--layer", "layer1", "--units", 0, "--samples", 1]
    status, _, err = call(capsys, *some, "--concept", rare)
    assert status == 2
    assert "none of the 1 images shows" in err
    assert len(dissect.open(run_file).effects.of("sweep")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["effect", "RUN", "--units", "0"], "--layer: expected one of the run's, layer1, layer2"),
        (["effect", "RUN", "--layer", "layer2"], "give --units, a --concept"),
        (["effect", "RUN", "--layer", "layer9", "--units", "0"], "unknown layer"),
        (["effect", "RUN", "--layer", "layer2", "--units", "64"], "units 0..63"),
        (["effect", "RUN", "--layer", "layer2", "--units", "x"], "--units: expected a list"),
        (["effect", "RUN", "--layer", "layer2", "--concept", "door"], "unknown concept"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--to", "median"], "--to: expected zero, mean, other"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--insert", "much"], "--insert: expected concept-mean"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--insert", "concept-mean"], "needs the --concept"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--strength", "2"], "strength in [0, 1]"),
        (["effect", "RUN", "--recipe", "none.safetensors"], "no such file"),
        (["effect", "RUN", "--recipe", "none.safetensors", "--layer", "layer2"], "--recipe says what is edited"),
        (["effect", "RUN", "planted:4", "--layer", "layer2", "--units", "0"], "is not what"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--samples", "0"], "positive number of samples"),
        (["effect", "none.h5", "--units", "0"], "no such file"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--pictures", "grid.jpg"], "end in .png"),
        (["effect", "RUN", "--layer", "layer2", "--units", "0", "--insert", "3", "--to", "mean"], "leave out --to"),
        (["sweep", "RUN"], "--layer: expected one of"),
        (["sweep", "RUN", "--layer", "layer1", "--concept", "door"], "unknown concept"),
        (["sweep", "RUN", "--layer", "layer1", "--to", "none"], "--to: expected"),
        (["dose", "RUN", "--layer", "layer1"], "--concept: expected"),
        (["dose", "RUN", "--layer", "layer1", "--concept", "door"], "unknown concept"),
    ],
)
def test_wrong_input_is_one_line_and_status_two(run_file, capsys, arguments, words):
    status, out, err = call(capsys, *[run_file if a == "RUN" else a for a in arguments])
    assert status == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not effects_path(run_file).exists()


def test_a_damaged_file_is_told_before_anything_is_computed(run_file, capsys):
    effects_path(run_file).write_bytes(b"something else")
    status, out, err = call(capsys, "effect", run_file, "--layer", "layer2", "--units", 0)
    assert (status, out) == (2, "")
    assert "not readable HDF5 or is damaged" in err
    assert effects_path(run_file).read_bytes() == b"something else"


def test_a_recipe_of_another_generator_needs_force(run_file, capsys, tmp_path):
    other = dissect.load("planted:4")
    file = Recipe(dissect.ablate("layer1", [0]), other).save(tmp_path / "other.safetensors")
    status, _, err = call(capsys, "effect", run_file, "--recipe", file, *FEW)
    assert status == 2
    assert "--force" in err
    assert call(capsys, "effect", run_file, "--recipe", file, "--force", "--controls", 0, *FEW)[0] == 0


def test_another_segmenter_is_taken_if_it_is_named(run_file, capsys):
    status, out, err = call(
        capsys,
        "effect",
        run_file,
        "--layer",
        "layer2",
        "--units",
        0,
        "--segmenter",
        "colors",
        *FEW,
        "--controls",
        0,
        "--json",
    )
    assert status == 0
    assert "colors is not the segmenter of the run, planted" in err
    assert json.loads(out)["effects"][0]["segmenter"]["name"] == "colors"


def test_units_and_shares_as_text():
    assert parse_units("3,1:4") == [3, 1, 2, 3]
    for text in ("", "1,", "2:1", "-1", "1.5", "0:99999999999", f"3,0:{10**40}"):
        with pytest.raises(GanatomyError, match="--units"):
            parse_units(text)
    assert [percent(v) for v in (None, 0, 0.5, 0.00012)] == ["–", "0.0%", "50.0%", "0.012%"]
