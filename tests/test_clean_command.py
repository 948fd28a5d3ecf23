"""``ganatomy artifacts`` and ``ganatomy clean``: what they print, keep and write, against planted garbage."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from networks import dcgan_tensors
from PIL import Image

import dissect
import segmodels
from app.cleaned import Cleaning, write_page
from app.cli import run
from app.commands import clean
from app.proof import Seeds, seen_by
from app.subjects import is_run, plain_name
from dissect import GanatomyError, artifacts
from dissect.metrics import Score
from dissect.pictures import to_bytes

LAYER = "layer2"


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:4")


@pytest.fixture(scope="module")
def garbage(generator):
    return sorted(unit for unit, role in enumerate(generator.world.roles[1]) if role.kind == "garbage")


@pytest.fixture(scope="module")
def folder(generator, garbage, tmp_path_factory):
    """A run with maxima, clean pictures, and tags with regions."""
    folder = tmp_path_factory.mktemp("clean")
    dissect.run(generator, segmodels.load("planted"), [LAYER], 200, folder / "run.h5", maxima=True)
    (folder / "real").mkdir()
    edit = dissect.ablate(LAYER, garbage)
    for seed in range(9000, 9200):
        Image.fromarray(to_bytes(generator(generator.sample([seed]), edit)[0].numpy())).save(
            folder / f"real/{seed}.png"
        )
    lines = ["seed,tag,region"]
    for seed in range(60):
        codes = generator.sample([seed])
        region = (generator(codes) != generator(codes, edit)).any(1)[0].numpy()
        name = f"{seed}.png" if region.any() else ""
        if name:
            Image.fromarray(region.astype(np.uint8) * 255).save(folder / name)
        lines.append(f"{seed},{'broken' if name else 'fine'},{name}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")
    return folder


def rows_of(capsys, *arguments):
    assert run(["artifacts", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_regions_rank_the_garbage_first_and_the_ranking_is_kept(folder, garbage, capsys):
    rows = rows_of(capsys, folder / "run.h5", "--tags", folder / "tags.csv", "--top", "5")
    assert sorted(row["unit"] for row in rows[:2]) == garbage
    assert {row["strategy"] for row in rows} == {"defect"}
    (kept,) = [r for r in dissect.open(folder / "run.h5").effects.of("ranking") if r.strategy == "defect"]
    assert kept.top(2) == [row["unit"] for row in rows[:2]]


def test_tags_without_regions_rank_the_garbage_first(folder, garbage, tmp_path, capsys):
    tags = (folder / "tags.csv").read_text().splitlines()
    (tmp_path / "tags.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in tags))
    rows = rows_of(capsys, "rank", folder / "run.h5", "--tags", tmp_path / "tags.csv")
    assert sorted(row["unit"] for row in rows[:2]) == garbage
    assert rows[0]["strategy"] == "tagged"


def test_a_classifier_is_trained_and_finds_flaws(folder, tmp_path, capsys):
    made = tmp_path / "classifier.safetensors"
    assert run(["artifacts", "train", "planted:4", "--tags", str(folder / "tags.csv"), "--out", str(made)]) == 0
    assert "area under the ROC curve" in capsys.readouterr().out
    rows = rows_of(capsys, folder / "run.h5", "--classifier", made, "--samples", "30")
    assert rows[0]["strategy"] == "defect"
    assert all(0 <= row["score"] <= 1 for row in rows)


def test_without_anything_rare_units_are_ranked(folder, capsys):
    rows = rows_of(capsys, folder / "run.h5", "--top", "3")
    assert rows[0]["strategy"] == "rare"


def test_clean_takes_the_garbage_away_and_proves_it(folder, garbage, generator, capsys):
    out = folder / "clean"
    arguments = ["clean", folder / "run.h5", "--tags", folder / "tags.csv", "--reference", folder / "real",
                 "--extractor", "pixels", "--samples", "150", "--most", "3", "--out", out]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    captured = capsys.readouterr()
    assert "2 units of layer2 taken away" in captured.out
    numbers = {line.split(":")[0]: line for line in captured.out.splitlines() if ": frechet" in line}
    assert set(numbers) == {f"{p}, {d}" for p in ("plain", "chosen") for d in ("before", "after", "random units")}
    kernel = {name: float(line.split("kernel ")[1]) for name, line in numbers.items()}
    assert kernel["chosen, after"] < kernel["chosen, before"] / 3
    assert kernel["chosen, random units"] > kernel["chosen, before"] / 2
    recipe = dissect.Recipe.load(out / "recipe.safetensors")
    assert recipe.maker.fingerprint == generator.fingerprint
    assert [list(edit.units) for edit in recipe] == [garbage]
    cleaned = dissect.load(out / "cleaned.bundle")
    codes = generator.sample(range(5))
    assert torch.equal(cleaned(codes), generator(codes, recipe))
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "random units" in page
    assert 'src="http' not in page
    (curve,) = dissect.open(folder / "run.h5").effects.of("curve")
    assert curve.best == 2
    assert run(["clean", str(folder / "run.h5"), "--units", "1", "--extractor", "pixels", "--samples", "20",
                "--out", str(out)]) == 0  # fmt: skip
    told = capsys.readouterr().err
    assert "holds an earlier cleaning, which this one will replace" in told
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "unit 1, each set to zero." in page
    for text in (told, page):  # unit 1 is none of the garbage
        assert "did not bring the images nearer to the reference" in text
        assert "for the eye to say" in text


@pytest.mark.parametrize("named", ["both", "one"])
def test_named_units_are_judged_as_chosen_ones_are(folder, garbage, tmp_path, capsys, named):
    units = garbage if named == "both" else garbage[:1]
    arguments = ["clean", folder / "run.h5", "--units", ",".join(map(str, units)), "--reference", folder / "real",
                 "--extractor", "pixels", "--samples", "150", "--out", tmp_path / "out"]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "the images are nearer to the reference without these units" in told
    assert "the units named" in (tmp_path / "out/index.html").read_text(encoding="utf-8")


def test_units_that_people_name_are_a_ranking_in_their_order(generator):
    made = artifacts.given(generator, LAYER, [5, 2, 9])
    assert made.top(99) == [5, 2, 9]
    assert made.strategy == artifacts.GIVEN


def test_a_classifier_that_knows_nothing_is_warned_of(folder, tmp_path, capsys):
    random = np.random.RandomState(0).permutation([True] * 20 + [False] * 20)
    tags = "\n".join(f"{seed},{'broken' if kind else 'fine'}" for seed, kind in enumerate(random))
    (tmp_path / "tags.csv").write_text(f"seed,tag\n{tags}\n")
    made = tmp_path / "classifier.safetensors"
    assert run(["artifacts", "train", "planted:4", "--tags", str(tmp_path / "tags.csv"), "--out", str(made)]) == 0
    assert "hardly tells broken images from fine ones" in " ".join(capsys.readouterr().err.split())


def test_no_step_sees_the_images_of_another(folder, monkeypatch, capsys):
    """Neither does the proof see those by which the number was chosen, nor the choice those that were tagged."""
    lines = (folder / "tags.csv").read_text().splitlines()
    tagged = set(range(200, 260))
    shifted = [lines[0], *(f"{int(line.split(',')[0]) + 200},{line.split(',')[1]}," for line in lines[1:])]
    (folder / "late.csv").write_text("\n".join(shifted))  # the first seeds after the run's, as if they had been tagged
    seen = {}
    steps = [("curve", lambda a: a[2]), ("activating", lambda a: a[2])]
    for name, seeds_of in steps:
        real = getattr(artifacts, name)
        monkeypatch.setattr(
            artifacts, name,
            lambda *a, _n=name, _r=real, _s=seeds_of, **k: seen.setdefault(_n, set(_s(a))) and _r(*a, **k),
        )  # fmt: skip
    real_effect = dissect.effect
    monkeypatch.setattr(
        dissect, "effect", lambda *a, **k: seen.setdefault("effect", set(a[3])) and real_effect(*a, **k)
    )
    arguments = ["clean", folder / "run.h5", "--tags", folder / "late.csv", "--reference", folder / "real",
                 "--extractor", "pixels", "--samples", "60", "--most", "2", "--out", folder / "apart"]  # fmt: skip
    monkeypatch.setattr(artifacts.Curve, "helps", True)
    monkeypatch.setattr(artifacts.Curve, "best", 1)
    assert run([str(a) for a in arguments]) == 0
    assert set(seen) == {"curve", "effect", "activating"}
    everything = [set(range(200)), tagged, *seen.values()]
    assert sum(map(len, everything)) == len(set().union(*everything))


def test_a_ranking_of_its_own_images_is_judged_on_others(folder, tmp_path, monkeypatch, capsys):
    made, seen = tmp_path / "classifier.safetensors", []
    assert run(["artifacts", "train", "planted:4", "--tags", str(folder / "tags.csv"), "--out", str(made)]) == 0

    def ranked(ground, *_):
        seen.append(set(ground.seeds))
        return [artifacts.rare(ground.run, LAYER)]

    def curve(_generator, _ranking, seeds, *_, **_named):
        seen.append(set(seeds))
        raise GanatomyError("far enough")

    monkeypatch.setattr(clean, "ranked", ranked)
    monkeypatch.setattr(artifacts, "curve", curve)
    assert run(["clean", str(folder / "run.h5"), "--classifier", str(made), "--extractor", "pixels", "--samples", "20",
                "--out", str(folder / "no")]) == 2  # fmt: skip
    assert len(seen) == 2
    assert not seen[0] & seen[1]


def test_what_was_measured_is_kept_when_a_later_step_fails(folder, monkeypatch, capsys):
    """The folder is not there, but the curve, which took the time, is beside the run."""

    def fail(*_, **_named):
        raise GanatomyError("no")

    monkeypatch.setattr(clean, "write_folder", fail)
    before = len(dissect.open(folder / "run.h5").effects.of("curve"))
    assert run(["clean", str(folder / "run.h5"), "--extractor", "pixels", "--samples", "24", "--most", "1",
                "--out", str(folder / "no")]) == 2  # fmt: skip
    assert len(dissect.open(folder / "run.h5").effects.of("curve")) == before + 1


def test_that_nothing_can_help_is_said_before_the_work(folder, capsys, monkeypatch):
    """An hour's work against the generator's own samples, whose end is known beforehand."""

    def stop(*_, **_named):
        raise GanatomyError("the work begins")

    monkeypatch.setattr(clean, "ranked", stop)
    monkeypatch.setattr(clean, "features_of", stop)
    said = "hardly ever be found to help"
    for more, expected in (([], True), (["--reference", str(folder / "real")], False), (["--units", "1"], False)):
        assert run(["clean", str(folder / "run.h5"), *more, "--extractor", "pixels", "--out", str(folder / "no")]) == 2
        error = capsys.readouterr().err
        assert "the work begins" in error
        assert (said in error) == expected


def test_no_step_sees_the_images_that_a_classifier_was_trained_on(folder, generator, tmp_path):
    made = tmp_path / "classifier.safetensors"
    lines = (folder / "tags.csv").read_text().splitlines()
    shifted = [lines[0], *(f"{int(line.split(',')[0]) + 210},{line.split(',')[1]}," for line in lines[1:])]
    (tmp_path / "tags.csv").write_text("\n".join(shifted))
    assert run(["artifacts", "train", "planted:4", "--tags", str(tmp_path / "tags.csv"), "--out", str(made)]) == 0
    seeds = Seeds.after(range(200, 220), seen_by(None, made))
    every = [seeds.rank, seeds.choose, seeds.prove, seeds.pool]
    assert [len(some) for some in every] == [20, 20, 20, 80]
    assert not set(range(210, 270)) & set().union(*every)
    assert len(set().union(*every)) == 140


def test_the_images_that_most_activate_units_are_looked_for_once(folder, monkeypatch, capsys):
    calls, real = [], artifacts.activating
    monkeypatch.setattr(artifacts, "activating", lambda *a, **k: calls.append(1) or real(*a, **k))
    assert run(["clean", str(folder / "run.h5"), "--units", "3", "--extractor", "pixels", "--samples", "20",
                "--out", str(folder / "once")]) == 0  # fmt: skip
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "nowhere"], "nothing of that name"),
        (["--extractor", "eyes"], "eyes"),
        (["--units", "99"], "units 0..63, got 99"),
        (["--units", "0:64"], "at most half of the 64 units"),
        (["--units", "1", "--samples", "4000000000"], "too few seeds"),
        (["--units", "1", "--auto"], "give one of the two"),
        (["--correction", "soft"], "expected plain or sequential, got 'soft'"),
        (["--scale", "0.5"], "go with --correction sequential"),
        (["--units", "1", "--correction", "sequential"], "leave --units out"),
        (["--correction", "sequential", "--strategy", "unlike"], "needs scores in 0..1"),
        (["--correction", "sequential", "--share", "0.7"], "--share in 0..0.5"),
        (["--correction", "sequential", "--stop", "layer1"], "layer1 comes before all of layer2"),
        (["--correction", "sequential", "--layer", "layer2", "--stop", "layer1"], "layer1 comes before all of layer2"),
    ],
)
def test_bad_input_is_told_before_the_work(folder, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(clean, "features_of", lambda *_, **_named: pytest.fail("an hour's work"))
    monkeypatch.setattr(clean, "ranked", lambda *_: pytest.fail("an hour's work"))
    assert run(["clean", str(folder / "run.h5"), *arguments, "--out", str(folder / "no")]) == 2
    assert words in capsys.readouterr().err


def test_samples_that_do_not_follow_from_seeds_are_no_reference(generator, tmp_path, capsys):
    """Their numbers are indices: as seeds they would draw other images, the very ones that are judged."""
    codes = generator.sample(range(5000, 5040))
    dissect.run(generator, segmodels.load("planted"), [LAYER], codes=codes, out=tmp_path / "run.h5", maxima=True)
    for arguments in (["artifacts"], ["clean"]):
        assert run([*arguments, str(tmp_path / "run.h5"), "--strategy", "unlike", "--extractor", "pixels"]) == 2
        assert "latents given sample by sample" in capsys.readouterr().err


def test_what_does_not_help_is_not_taken_away(folder, capsys):
    """Against its own samples no unit can be spared."""
    out = folder / "nothing"
    arguments = ["clean", folder / "run.h5", "--tags", folder / "tags.csv", "--extractor", "pixels", "--samples", "40",
                 "--most", "2", "--out", out]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    captured = capsys.readouterr()
    first, last = captured.err.index("hardly ever be found to help"), captured.err.index("nothing was taken away")
    assert first < last
    assert not (out / "recipe.safetensors").exists()
    assert "Nothing of layer2 taken away" in (out / "index.html").read_text(encoding="utf-8")


def test_small_distances_are_not_shown_as_zero_and_names_are_text(tmp_path):
    score = Score("kernel", 0.00041, 0.0003, 0.0005, 0.0001, "<b>eye</b>", "0" * 64, 20, 20)
    said = Cleaning(
        "<img src=x>", ("layer",), {"layer": (1,)}, None, None, [("plain", "after", [score])], None, "</p><script>"
    )
    text = write_page(tmp_path, said, []).read_text(encoding="utf-8")
    assert "<b>0.00041</b>" in text
    assert "0.0003 to 0.0005" in text
    assert not any(markup in text for markup in ("<img src=x>", "<b>eye", "</p><script>"))


def test_given_units_need_no_ranking(folder, garbage, capsys):
    units = ",".join(map(str, garbage))
    arguments = ["clean", folder / "run.h5", "--units", units, "--reference", folder / "real", "--extractor", "pixels",
                 "--samples", "20", "--out", folder / "given"]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    assert "Given by name" in (folder / "given" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "best"], "expected rare, unlike, defect, tagged"),
        (["--strategy", "tagged"], "tagged needs --tags"),
        (["--strategy", "defect"], "needs --tags with regions"),
        (["--layer", "layer9"], "layer9"),
        (["--tags", "none.csv"], "no such file of tags"),
        (["--classifier", "none.safetensors"], "no classifier"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, words):
    for command in ("artifacts", "clean"):
        assert (
            run([command, str(folder / "run.h5"), *arguments, *(["--out", str(folder / "no")] * (command == "clean"))])
            == 2
        )
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert not (folder / "no").exists()


def test_a_folder_of_something_else_is_left_alone(folder, capsys):
    assert run(["clean", str(folder / "run.h5"), "--units", "1", "--out", str(folder / "real")]) == 2
    assert len(list((folder / "real").iterdir())) == 200


@pytest.mark.parametrize("name", ["net.pth", "net"])  # what was fetched lies under its hash, without a suffix
def test_a_checkpoint_is_cleaned_where_edits_are_weights(name, tmp_path, capsys):
    """A small DCGAN of random weights: units of its activations are exactly rows of weights and norms."""
    torch.save(dcgan_tensors(), tmp_path / name)
    generator = dissect.load(tmp_path / name)
    layer = generator.default_layers()[0]
    dissect.run(generator, segmodels.load("colors"), [layer], 40, tmp_path / "run.h5")
    arguments = ["clean", str(tmp_path / "run.h5"), "--units", "0,2", "--samples", "20", "--extractor", "pixels"]
    assert run(arguments) == 0
    out = tmp_path / "run-clean"
    cleaned, codes = dissect.load(out / "cleaned.pth"), generator.sample(range(5))
    expected = generator(codes, dissect.ablate(layer, [0, 2]))
    torch.testing.assert_close(cleaned(codes), expected, rtol=0, atol=1e-5)
    assert not torch.equal(expected, generator(codes))
    assert "cleaned.pth" in (out / "index.html").read_text(encoding="utf-8")


# A model without a run


def test_units_of_a_model_are_taken_away_without_a_run(garbage, generator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    units = ",".join(map(str, garbage))
    arguments = ["clean", "planted:4", "--layer", LAYER, "--units", units, "--extractor", "pixels", "--samples", "20"]
    assert run([*arguments, "--pass-samples", "30"]) == 0
    assert "2 units of layer2 taken away" in capsys.readouterr().out
    (out,) = tmp_path.iterdir()  # and no run
    assert out.name == "planted-4-clean"
    recipe = dissect.Recipe.load(out / "recipe.safetensors")
    assert [(edit.layer, list(edit.units)) for edit in recipe] == [(LAYER, garbage)]
    assert "30 images" in (out / "index.html").read_text(encoding="utf-8")
    assert json.loads((out / "ganatomy-clean.json").read_text())["fingerprint"] == generator.fingerprint


def test_a_model_is_cleaned_by_a_pass_that_is_made_once(folder, tmp_path, capsys):
    arguments = ["clean", "planted:4", "--auto", "--layer", LAYER, "--pass-samples", "60", "--samples", "20",
                 "--most", "2", "--extractor", "pixels", "--reference", folder / "real",
                 "--out", tmp_path / "out"]  # fmt: skip
    for told in ("is made, 60 samples of layer2 by colors", "is taken"):
        assert run([str(a) for a in arguments]) == 0
        assert told in capsys.readouterr().err
    (made,) = (path for path in tmp_path.glob("*.h5") if not path.name.endswith("effects.h5"))
    kept = dissect.open(made)
    assert kept.layer(LAYER).maxima.shape == (60, 64)
    assert [one.strategy for one in kept.effects.of("ranking")] == ["unlike"]  # from the reference
    assert len(kept.effects.of("curve")) == 1


def test_a_model_is_ranked_by_tags_without_a_pass(folder, garbage, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = rows_of(capsys, "planted:4", "--layer", LAYER, "--tags", folder / "tags.csv")
    assert sorted(row["unit"] for row in rows[:2]) == garbage
    assert not list(tmp_path.iterdir())


def test_a_model_is_ranked_by_a_pass_of_the_layer_nearest_to_8_pixels(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["artifacts", "planted:4", "--pass-samples", "40", "--top", "2", "--json"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    heights = {name: generator.layer(name).height for name in generator.default_layers()}
    assert heights[rows[0]["layer"]] == min(heights.values()) >= 8
    assert f"no --layer: {rows[0]['layer']} is taken" in captured.err
    assert [path.name for path in tmp_path.glob("*artifacts.h5")] == [f"planted-4-{rows[0]['layer']}-artifacts.h5"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clean", "planted:4", "--units", "1"], "--layer: expected one of planted:4's, layer1, layer2"),
        (["clean", "planted:4", "planted:4", "--units", "1"], "one too many"),
        (["clean", "missing.h5", "--units", "1"], "no such file"),
        (["clean", "planted:x", "--units", "1"], "planted"),
        (["clean", "planted:4", "--layer", "layer2", "--units", "1", "--pass-samples", "2"], "4 samples or more"),
        (["artifacts", "planted:4", "--layer", "layer9"], "layer9"),
        (["artifacts", "planted:4", "--layer", "layer2", "--reference", "nowhere"], "nothing of that name"),
    ],
)
def test_a_model_that_cannot_be_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_a_run_and_what_a_model(folder, tmp_path):
    (tmp_path / "damaged.h5").write_bytes((folder / "run.h5").read_bytes()[:2000])
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file["weights"] = np.zeros(3)
    (tmp_path / "net.pth").write_bytes(b"x")
    found = {name: is_run(str(tmp_path / name)) for name in ("damaged.h5", "keras.h5", "net.pth", "none.h5", "none")}
    assert found == {"damaged.h5": True, "keras.h5": False, "net.pth": False, "none.h5": True, "none": False}
    assert is_run(str(folder / "run.h5"))
    assert not is_run("https://example.org/net.h5#sha256=00")
    assert not is_run("planted:4")
    assert plain_name("https://example.org/some/net.pth#sha256=00") == "net.pth"
    assert plain_name(str(folder / "run.h5")) == "run"


# Soft correction


def test_layers_are_corrected_softly_in_order(folder, generator, garbage, tmp_path, capsys):
    arguments = ["clean", "planted:4", "--tags", folder / "tags.csv", "--correction", "sequential", "--scale", "0.5",
                 "--share", "0.05", "--stop", LAYER, "--reference", folder / "real", "--extractor", "pixels",
                 "--samples", "20", "--out", tmp_path / "soft"]  # fmt: skip
    assert run([str(a) for a in arguments]) == 0
    captured = capsys.readouterr()
    recipe = dissect.Recipe.load(tmp_path / "soft" / "recipe.safetensors")
    assert [edit.layer for edit in recipe] == ["layer1", LAYER]
    assert set(garbage) <= set(recipe[1].units)
    codes, regions = generator.sample(range(60)), artifacts.read_tags(folder / "tags.csv").regions
    ranking = artifacts.defect(
        generator, LAYER, codes[list(regions)], np.stack(list(regions.values())), source="people"
    )
    worst = recipe[1].units.index(garbage[0])
    assert recipe[1].strength[worst] == pytest.approx(1 - 0.5 * (1 - ranking.score[garbage[0]]))
    page = (tmp_path / "soft" / "index.html").read_text(encoding="utf-8")
    assert "multiplied by 0.5 × (1 − score)" in page
    assert "How much was asked for, not chosen" in page
    assert "damped" in captured.out
