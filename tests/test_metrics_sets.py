"""Sets of images, extractors, scores with intervals, and the command."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dissect
import segmodels
from app.cli import run
from dissect import GanatomyError, metrics
from dissect.metrics import extractors, perceptual, resampling, scores
from dissect.metrics.extractors import Extractor, Pixels
from dissect.metrics.imagesets import Drawn, Pictures
from dissect.samples import Sampling


def picture(seed, mode="RGB", size=(40, 30)):
    values = np.random.RandomState(seed).randint(0, 256, (*size[::-1], 4), np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Pictures of many kinds, one of them broken."""
    for index, mode in enumerate(["RGB", "L", "RGBA", "P", "1", "RGB"]):
        picture(index, mode, (40 + index, 30 + 2 * index)).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:100])
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_of_all_kinds_become_squares(folder):
    images = Pictures(folder, 16)
    assert len(images) == 6
    assert [name.rsplit("/", 1)[-1] for name in images.skipped] == ["broken.png"]
    batches = list(images.batches(4))
    assert [len(batch) for batch in batches] == [4, 2]
    whole = torch.cat(batches)
    assert whole.shape == (6, 3, 16, 16)
    assert float(whole.min()) >= -1
    assert float(whole.max()) <= 1
    assert torch.equal(whole[1, 0], whole[1, 1])  # grey
    assert len(Pictures(folder, 16, most=2)) == 2


def test_a_zip_is_its_folder(folder, tmp_path):
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.glob("*.png")):
            file.write(path, f"deep/{path.name}")
        file.writestr("readme.txt", "no picture")
    ours, theirs = Pictures(archive, 16), Pictures(folder, 16)
    assert ours.skipped == ("deep/broken.png",)
    assert torch.equal(torch.cat(list(ours.batches(3))), torch.cat(list(theirs.batches(5))))


def test_a_zip_is_read_in_one_go(tmp_path, monkeypatch):
    """Its list of contents is read when it is opened: once a picture would be quadratic."""
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(30):
            data = io.BytesIO()
            picture(index).save(data, "PNG")
            archive.writestr(f"{index}.png", data.getvalue())
    opened = []
    real = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: opened.append(1) or real(*args))
    assert sum(len(b) for b in Pictures(tmp_path / "many.zip", 16).batches(8)) == 30
    assert len(opened) <= 3


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_a_zip_is_left_out(tmp_path, how):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", how) as archive:
        for name in ("a.bmp", "b.bmp"):
            data = io.BytesIO()
            picture(0).save(data, "BMP")
            archive.writestr(name, data.getvalue())
    damaged = bytearray(path.read_bytes())
    damaged[60:300] = bytes([255]) * 240
    path.write_bytes(damaged)
    found = Pictures(path, 16)
    assert (len(found), found.skipped) == (1, ("a.bmp",))


def test_a_zip_without_its_list(tmp_path):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"")
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"XXXX"))
    with pytest.raises(GanatomyError, match="damaged zip"):
        Pictures(path, 16)


def test_sixteen_bits_are_not_cut_to_white(tmp_path):
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray((grey // 257).astype(np.uint8)).save(tmp_path / "b.png")
    (both,) = Pictures(tmp_path, 64).batches(2)
    torch.testing.assert_close(both[0], both[1])
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "c.tiff")
    assert [Path(name).name for name in Pictures(tmp_path, 64).skipped] == ["c.tiff"]


def test_a_header_cut_off_is_no_picture(tmp_path):
    data = io.BytesIO()
    picture(0).save(data, "PNG")
    cut = bytearray(data.getvalue())
    cut[8:12] = (5).to_bytes(4, "big")  # the length of the header
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(cut)
    assert len(Pictures(tmp_path, 16)) == 1


def test_sets_without_pictures(tmp_path):
    with pytest.raises(GanatomyError, match="holds no pictures"):
        Pictures(tmp_path, 16)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(GanatomyError, match="none of 1 pictures can be read"):
        Pictures(tmp_path, 16)
    with pytest.raises(GanatomyError, match="nothing of that name"):
        Pictures(tmp_path / "none", 16)
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "empty.zip").write_bytes(empty.getvalue())
    with pytest.raises(GanatomyError, match="holds no pictures"):
        Pictures(tmp_path / "empty.zip", 16)


def test_what_a_generator_draws():
    generator = dissect.load("planted:3")
    edit = dissect.ablate("layer2", [1, 2])
    images = torch.cat(list(Drawn(generator, [5, 3, 9], edit).batches(2)))
    assert torch.equal(images, generator(generator.sample([5, 3, 9]), edit))


def test_pixels_are_block_means():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    expected = images.reshape(2, 3, 16, 2, 16, 2).mean((3, 5)).flatten(1)
    np.testing.assert_allclose(Pixels()(images), expected.numpy(), atol=1e-6)


def test_the_stand_in_says_what_it_is():
    features = extractors.load("face-parts-encoder")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    found = features(images)
    assert found.shape[0] == 2
    assert found.shape[1] > 100
    assert not np.allclose(found[0], found[1])
    assert features.name == "face-parts-encoder"
    assert not features.inception
    assert len(features.sha256) == 64
    assert features.sha256 != segmodels.load("face-parts").sha256
    assert features.posteriors(images) is None


def test_unknown_extractors(monkeypatch):
    with pytest.raises(GanatomyError, match="unknown extractor 'vgg'"):
        extractors.load("vgg")
    assert extractors.load().name == "face-parts-encoder"  # Inception's weights are not in the tests' cache


@pytest.mark.parametrize("content", ["code", "other", "tensors"])
def test_inception_takes_nothing_but_its_own_tensors(content, tmp_path):
    pytest.importorskip("torch_fidelity")
    path = tmp_path / "weights.pth"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "PWNED"), "w"))

    torch.save({"code": {"a": Evil()}, "other": {"a": 3}, "tensors": {"a": torch.zeros(2)}}[content], path)
    with pytest.raises(GanatomyError, match="plain tensors|other things|does not hold"):
        extractors.Inception(path)
    assert not (tmp_path / "PWNED").exists()


def test_inception_runs_on_the_right_weights(tmp_path, monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_args, **_named: made)
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_args, **_named: None)
    made = {}
    network = module.FeatureExtractorInceptionV3("inception-v3", ["2048"])
    monkeypatch.undo()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    features = extractors.Inception(tmp_path / "weights.pth")
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    as_bytes = ((images + 1) * 127.5).round().to(torch.uint8)
    np.testing.assert_allclose(features(images), network(as_bytes)[0].numpy(), rtol=1e-5)
    assert features.posteriors(images).sum() == pytest.approx(1)
    bias = network.fc.bias.detach().numpy()
    logits = network.fc(network(as_bytes)[0]).detach().numpy() - bias  # Salimans et al. multiply by the weights alone
    np.testing.assert_allclose(features.posteriors(images), np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)
    assert features.inception
    generator, passes = dissect.load("planted:3"), []
    with features._network.register_forward_hook(lambda *_args: passes.append(1)):
        found = metrics.look(Drawn(generator, range(3)), features, batch=2)
    assert len(passes) == 2  # one for each batch, for features and classes together
    assert (found.features.shape, found.posteriors.shape) == ((3, 2048), (3, 1008))


class Given(Extractor):
    """Features that are given, in order."""

    name, sha256 = "given", "0" * 64

    def __call__(self, images):
        raise AssertionError("not asked")


def looks(seed, count=60, shift=0.0):
    return scores.Looks(np.random.RandomState(seed).randn(count, 4) + shift)


def by_name(found):
    return {score.metric: score for score in found}


def test_scores_of_sets_that_differ_and_that_do_not():
    same = by_name(scores.compare(looks(0), looks(1), Given()))
    apart = by_name(scores.compare(looks(0), looks(1, shift=1.0), Given()))
    for name in ("frechet", "kernel", "sliced"):
        assert apart[name].low > same[name].high
        assert apart[name].value > 3 * max(apart[name].floor, 0.01)
        assert same[name].low < same[name].value < same[name].high
    assert "fid" not in apart
    assert apart["frechet"].value == pytest.approx(4, rel=0.3)
    assert dict(apart["frechet"].parts)["mean"] == pytest.approx(4, rel=0.3)
    assert same["precision"].value > apart["precision"].value


def test_intervals_cover_the_truth():
    def mean_apart(x, y):
        return float((x.mean(0) - y.mean(0))[0])

    hits = 0
    for seed in range(200):
        low, high = resampling.interval(mean_apart, looks(seed).features, looks(1000 + seed, shift=0.5).features, seed)
        hits += low <= -0.5 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_the_noise_floor_is_seldom_passed_by_what_does_not_differ():
    """One split of an unbiased distance is below zero half of the time."""
    passed = 0
    for seed in range(40):
        y = looks(seed, 200).features
        passed += metrics.kernel_distance(looks(1000 + seed, 100).features, y) > resampling.halves(
            metrics.kernel_distance, y, seed
        )
    assert passed <= 10


@pytest.mark.parametrize(("real", "generated"), [(60, 90), (40, 200)])
def test_intervals_of_precision_and_recall_cover_the_truth(real, generated):
    """Which is the mean over sets of the same sizes; not so with the cover kept fixed."""
    found, ends = [], []
    for seed in range(150):
        state = np.random.RandomState(seed)
        x, y = state.randn(real, 4), state.randn(generated, 4) + 0.5
        got = metrics.coverage(x, y)
        found.append((got.precision, got.recall))
        ends.append(resampling.coverage_intervals(x, y, got, seed, 20))
    truth = np.mean(found, 0)
    low, high = np.moveaxis(np.array(ends), 2, 0)
    assert (((low <= truth) & (truth <= high)).mean(0) >= 0.92).all()
    assert ((low >= 0) & (high <= 1)).all()
    assert ((high - low).mean(0) < 0.45).all()


def test_a_share_that_never_varies_is_not_sure():
    x = np.random.RandomState(0).randn(50, 3)
    apart = scores.compare(scores.Looks(x), scores.Looks(x + 1e3), Given())
    same = scores.compare(scores.Looks(x), scores.Looks(x), Given())
    for name in ("precision", "recall"):
        none, all_of_it = by_name(apart)[name], by_name(same)[name]
        assert (none.value, none.low, all_of_it.value, all_of_it.high) == (0, 0, 1, 1)
        # Wilson's interval of 0 of 50 ends at z^2 / (50 + z^2).
        assert none.high == pytest.approx(1.96**2 / (50 + 1.96**2))
        assert all_of_it.low <= 1 - none.high


def test_floors_of_precision_and_recall_are_the_least_of_halves():
    found = by_name(scores.compare(looks(0), looks(1), Given()))
    apart = by_name(scores.compare(looks(0, shift=3.0), looks(1), Given()))
    for name in ("precision", "recall"):
        assert found[name].low < found[name].value < found[name].high
        assert 0 < found[name].floor < 1
        assert apart[name].value < found[name].floor
    few = by_name(scores.compare(looks(0, 6), looks(1, 6), Given()))
    assert np.isnan([few["precision"].low, few["precision"].floor]).all()  # halves of three have no third neighbour
    assert few["precision"].value >= 0


def test_the_interval_of_the_inception_score_covers_the_truth():
    """Of sets of this size: the score of few images is above that of many."""
    found, ends = [], []
    for seed in range(150):
        posteriors = np.random.RandomState(seed).dirichlet([0.2] * 6, 100)
        ours = scores.Looks(looks(0, 100).features, posteriors)
        score = by_name(scores.compare(ours, looks(1), Given(), resamples=20))["inception score"]
        found.append(score.value)
        ends.append((score.low, score.high))
    low, high = np.array(ends).T
    assert 0.9 <= ((low <= np.mean(found)) & (np.mean(found) <= high)).mean() <= 0.995


def test_the_inception_score_stands_beside_the_references():
    ours, theirs = np.eye(5)[np.arange(100) % 5], np.full((40, 5), 0.2)
    x = np.random.RandomState(0).randn(100, 2)
    found = by_name(scores.compare(scores.Looks(x, ours), scores.Looks(x[:40], theirs), Given(), resamples=5))
    score = found["inception score"]
    assert score.value == pytest.approx(5, rel=0.2)
    assert dict(score.parts)["reference"] == pytest.approx(1)
    assert (score.samples, score.reference) == (100, 40)
    assert np.isnan(score.floor)


def test_the_interval_of_a_path_length_covers_the_truth():
    found, ends = [], []
    for seed in range(200):
        each = np.random.RandomState(seed).chisquare(3, 150)
        score = scores.path_score(metrics.PathLengths(each), "z", perceptual.SquaredDifference())
        assert (score.metric, score.samples, score.row()["n_reference"]) == ("path length in z", 150, None)
        found.append(score.value)
        ends.append((score.low, score.high))
    low, high = np.array(ends).T
    assert 0.9 <= ((low <= np.mean(found)) & (np.mean(found) <= high)).mean() <= 0.99


def test_the_inception_score_does_not_depend_on_the_order():
    classes = np.eye(5)[np.repeat(np.arange(5), 200)]
    sorted_by_class = scores.Looks(looks(0, 1000).features, classes)
    found = by_name(scores.compare(sorted_by_class, looks(1), Given(), resamples=0))
    assert found["inception score"].value == pytest.approx(5, rel=0.03)
    few = scores.Looks(looks(0, 10).features, np.eye(10))
    assert by_name(scores.compare(few, looks(1), Given(), resamples=0))["inception score"].value == pytest.approx(10)


def test_it_is_an_fid_only_of_inceptions_features():
    features = Given()
    features.inception = True
    assert "fid" in by_name(scores.compare(looks(0), looks(1), features, resamples=0))


def test_areas_are_shares_of_all_planes():
    generator, segmenter = dissect.load("planted:3"), segmodels.load("planted")
    images = Drawn(generator, range(6))
    found = metrics.look(images, Pixels(), segmenter, batch=4)
    labels = segmenter(generator(generator.sample(range(6)))).numpy()
    for index, concept in enumerate(segmenter.concepts):
        plane = labels[:, concept.plane]
        np.testing.assert_allclose(found.areas[:, index], (plane == index).mean((1, 2)))
    assert found.features.shape == (6, 768)


def test_too_few_images():
    with pytest.raises(GanatomyError, match="at least 4 images"):
        scores.compare(looks(0, 3), looks(1), Given())


# The command


def rows_of(captured):
    return {row["metric"]: row for row in json.loads(captured.out)}


def test_the_command_compares_and_names_its_features(capsys):
    assert run(["metrics", "planted:1", "planted:2", "--samples", "12", "--segmenter", "planted", "--extractor",
                "pixels", "--resamples", "5", "--path-length", "--paired", "--json"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    rows = rows_of(captured)
    distances = {"frechet", "kernel", "sliced", "precision", "recall", "segmentation"}
    assert set(rows) == distances | {"path length in z", "perceptual distance"}
    assert rows["frechet"]["extractor"] == "pixels"
    assert rows["segmentation"]["extractor"] == "planted"
    assert rows["path length in z"]["extractor"] == rows["perceptual distance"]["extractor"] == "face-parts-encoder"
    for name, row in rows.items():
        assert row["low"] <= row["value"] <= row["high"], name
        # A planted image changes in steps only: along its paths it does not change at all.
        assert row["low"] < row["high"] or name == "path length in z", name
        assert (row["floor"] is not None) == (name in distances), name
        assert len(row["sha256"]) == 12
        assert row["n"] == (6 if name == "path length in z" else 12)
    assert rows["perceptual distance"]["unrelated"] > 0
    assert "no number here is an FID" in captured.err
    assert "no number here is an LPIPS" in captured.err
    assert "12 images for 768 features" in captured.err


@pytest.fixture
def style(tmp_path):
    """A generator with an intermediate space, in a file."""
    from stylegan2_reference import random_tensors

    torch.save(random_tensors(), tmp_path / "style.pt")
    return str(tmp_path / "style.pt")


def test_the_path_length_is_of_the_seeds_and_the_truncation(capsys, style):
    model = dissect.load(style)
    measured = []
    given = ["--samples", "8", "--extractor", "pixels", "--resamples", "5", "--path-length", "--json"]
    for seeds, truncation, batch in (("3:11", 1.0, 2), ("3:11", 0.4, 8), ("20:28", 0.4, 3)):
        how = ["--seeds", seeds, "--truncation", str(truncation), "--batch", str(batch)]
        assert run(["metrics", style, style, *given, *how, "--distance", "squared-difference"]) == 0
        first, last = map(int, seeds.split(":"))
        expected = metrics.path_length(model, range(first, last), sampling=Sampling(truncation=truncation))
        row = rows_of(capsys.readouterr())["path length in w"]
        assert row["value"] == pytest.approx(expected.value, rel=1e-2)
        assert row["n"] == 4
        assert row["low"] < row["value"] < row["high"]
        measured.append(row["value"])
    assert measured[1] < measured[0] / 2
    assert measured[1] != pytest.approx(measured[2], rel=0.05)


def test_pairs_of_one_generator_and_its_edited_self(capsys, tmp_path):
    """A folder of what it drew, beside itself and beside itself in reverse."""
    assert run(["generators", "draw", "planted:1", "--samples", "6", "--out", str(tmp_path / "drawn")]) == 0
    capsys.readouterr()
    given = ["--samples", "6", "--extractor", "pixels", "--distance", "squared-difference", "--paired", "--json"]
    assert run(["metrics", str(tmp_path / "drawn"), "planted:1", "--reference-seeds", "0:6", *given]) == 0
    row = rows_of(capsys.readouterr())["squared difference"]
    assert row["value"] < 1e-4 < row["unrelated"]  # but for the rounding to bytes
    assert run(["metrics", "planted:1", "planted:1", "--seeds", "4:10", *given]) == 0
    row = rows_of(capsys.readouterr())["squared difference"]
    assert (row["value"], row["low"], row["high"]) == (0, 0, 0)  # the reference has the same seeds


def test_the_command_compares_folders(capsys, folder, tmp_path):
    assert run(["metrics", str(folder), "planted:2", "--samples", "10", "--extractor", "pixels", "--csv",
                "--resamples", "0"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out.startswith("metric,value,low,high,floor,extractor")
    assert "cannot be read" in captured.err
    assert "6 images for 768 features" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "planted:1"], "nothing"),
        (["planted:1", "planted:2", "--samples", "2"], "at least 4"),
        (["planted:1", "planted:2", "--extractor", "vgg"], "unknown extractor"),
        (["planted:1", "planted:2", "--seeds", "x"], "expected seeds such as"),
        (["planted:1", "planted:2", "--paired", "--distance", "ssim"], "unknown distance 'ssim'"),
        (["planted:1", "planted:2", "--paired", "--seeds", "0:8", "--reference-seeds", "0:9"], "as many images"),
        (["FOLDER", "planted:2", "--path-length"], "needs a generator"),
        (["FOLDER", "planted:2", "--paired"], "broken.png cannot be read, so that no pairs"),
        (["FEW", "planted:2"], "expected at least 4 images in each set, got 3 and 10"),
        (["BROKEN", "planted:2"], "none of 1 pictures can be read"),
        (["EMPTY", "planted:2"], "holds no pictures"),
        (["BAD.zip", "planted:2"], "BAD.zip: there is nothing of that name"),
    ],
)
def test_bad_input_is_one_line(capsys, folder, tmp_path, arguments, words):
    few, broken, empty = (tmp_path / name for name in ("few", "broken", "empty"))
    for made in (few, broken, empty):
        made.mkdir()
    for index in range(3):
        picture(index).save(few / f"{index}.png")
    (broken / "a.png").write_bytes(b"no picture")
    places = {"FOLDER": folder, "FEW": few, "BROKEN": broken, "EMPTY": empty}
    given = [str(places.get(argument, argument)) for argument in arguments]
    assert run(["metrics", "--samples", "10", "--extractor", "pixels", *given]) == 2
    error = capsys.readouterr().err.splitlines()
    assert words in error[-1]
    assert not any("Traceback" in line for line in error)


def test_what_is_clear_is_dropped(tmp_path):
    """Transparency changes no colour, in any of the forms in which a file can have it."""
    colours = np.full((20, 20, 3), (200, 30, 90), np.uint8)
    for alpha in (0, 120, 255):
        shown = np.dstack([colours, np.full((20, 20), alpha, np.uint8)])
        Image.fromarray(shown, "RGBA").save(tmp_path / f"rgba{alpha}.png")
    Image.fromarray(np.dstack([colours[..., 0], colours[..., 1]]), "LA").save(tmp_path / "z-la.png")
    palette = Image.fromarray(colours).quantize(4)
    palette.save(tmp_path / "palette.png", transparency=0)
    images = torch.cat(list(Pictures(tmp_path, 8).batches(8)))
    expected = torch.tensor([200, 30, 90]).view(3, 1, 1) / 127.5 - 1
    torch.testing.assert_close(images[:4], expected.expand(4, 3, 8, 8), atol=0.02, rtol=0)
    torch.testing.assert_close(images[4], torch.full((3, 8, 8), 200 / 127.5 - 1), atol=0.02, rtol=0)
