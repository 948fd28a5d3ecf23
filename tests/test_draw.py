"""``ganatomy generators draw``: a folder of samples that is added to, and never mixed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dissect
import segmodels
from app import cli
from app.images import MANIFEST, draw_images, file_of
from dissect import GanatomyError
from dissect.pictures import to_bytes
from segmodels.base import resize_images

CONDITIONAL = Path(__file__).parent / "data" / "sg2ada_cond.safetensors"  # 16 pixels, 5 classes, truncates


def draw(capsys, *arguments):
    status = cli.run(["generators", "draw", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *arguments):
    status, out, err = draw(capsys, *arguments)
    assert (status, out) == (2, ""), (out, err)
    assert err.strip().count("\n") == 0  # the bar may end in an empty line
    return err


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def state(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_the_files_are_the_generators_pixels(capsys, tmp_path):
    folder = tmp_path / "new" / "images"
    status, out, _ = draw(capsys, "planted:0", "--out", folder, "--seeds", "3,1000000,0")
    assert (status, out) == (0, f"{folder}: 3 images, 3 of them new\n")
    assert {path.name for path in folder.iterdir()} == {"000000.png", "000003.png", "1000000.png", MANIFEST}
    generator = dissect.load("planted:0")
    images = generator(generator.sample([0, 3, 1_000_000])).numpy()
    assert not np.array_equal(images[0], images[1])
    for seed, image in zip([0, 3, 1_000_000], images, strict=True):
        assert np.array_equal(pixels(file_of(folder, seed)), to_bytes(image))


@pytest.mark.parametrize("size", [24, 100])
def test_size(size, capsys, tmp_path):
    assert draw(capsys, "planted:0", "--out", tmp_path, "--samples", 2, "--size", size)[0] == 0
    generator = dissect.load("planted:0")
    images = resize_images(generator(generator.sample([0, 1])), size, size).numpy()
    for seed, image in enumerate(images):
        assert pixels(file_of(tmp_path, seed)).shape == (size, size, 3)
        assert np.array_equal(pixels(file_of(tmp_path, seed)), to_bytes(image))


def test_class_and_truncation_reach_the_generator(capsys, tmp_path):
    status, _, err = draw(
        capsys, CONDITIONAL, "--out", tmp_path, "--samples", 2, "--class", 3, "--truncation", 0.6, "--size", 16
    )
    assert status == 0, err
    generator = dissect.load(CONDITIONAL)
    drawn = np.stack([pixels(file_of(tmp_path, seed)) for seed in range(2)]).astype(int)

    def expected(*how):
        return np.stack([to_bytes(image) for image in generator(generator.sample([0, 1], *how)).numpy()]).astype(int)

    assert np.abs(drawn - expected(3, 0.6)).max() <= 1
    assert np.abs(drawn - expected(2, 0.6)).max() > 1
    assert np.abs(drawn - expected(3, 1.0)).max() > 1


def test_only_what_is_missing_is_made(capsys, tmp_path):
    draw(capsys, "planted:0", "--out", tmp_path, "--seeds", "0:3")
    before = state(tmp_path)
    status, out, _ = draw(capsys, "planted:0", "--out", tmp_path, "--seeds", "1:6")
    assert (status, out) == (0, f"{tmp_path}: 5 images, 3 of them new\n")
    after = state(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"000003.png", "000004.png", "000005.png"}
    assert draw(capsys, "planted:0", "--out", tmp_path, "--seeds", "0:6")[1].endswith("6 images, 0 of them new\n")
    assert state(tmp_path) == after
    file_of(tmp_path, 2).unlink()
    assert draw(capsys, "planted:0", "--out", tmp_path, "--seeds", "0:6")[1].endswith("6 images, 1 of them new\n")
    assert state(tmp_path)["000002.png"][1] == before["000002.png"][1]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["planted:1"], "generator"),
        (["planted:0", "--size", 32], "size"),
        (["planted:1", "--size", 32], "generator, size"),
    ],
)
def test_another_set_in_the_same_folder_is_refused(arguments, what, capsys, tmp_path):
    draw(capsys, "planted:0", "--out", tmp_path, "--samples", 2)
    before = state(tmp_path)
    err = refused(capsys, *arguments, "--out", tmp_path, "--samples", 4)
    assert f"holds images of another {what};" in err
    assert str(tmp_path) in err
    assert state(tmp_path) == before
    assert draw(capsys, "planted:0", "--out", tmp_path, "--samples", 2, "--size", 64)[0] == 0  # the same, said aloud


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--class", 2, "--truncation", 0.5], "class"),
        (["--truncation", 0.5], "class"),
        (["--class", 1], "truncation"),
        (["--class", 1, "--truncation", 0.50001], "truncation"),
    ],
)
def test_another_class_or_truncation_is_refused(arguments, what, capsys, tmp_path):
    assert draw(capsys, CONDITIONAL, "--out", tmp_path, "--samples", 1, "--class", 1, "--truncation", 0.5)[0] == 0
    before = state(tmp_path)
    assert f"holds images of another {what};" in refused(capsys, CONDITIONAL, "--out", tmp_path, *arguments)
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", 0], "size of at least 1 pixel, got 0"),
        (["--size", -3], "size of at least 1 pixel, got -3"),
        (["--samples", 0], "positive number of samples"),
        (["--seeds", "4:4"], "is an empty range"),
        (["--seeds", "0,-4"], "-4"),
        (["--class", 1], "class"),
        (["--truncation", 0.5], "truncation"),
    ],
)
def test_what_cannot_be_drawn_leaves_the_folder_free(arguments, words, capsys, tmp_path):
    folder = tmp_path / "images"
    assert words in refused(capsys, "planted:0", "--out", folder, *arguments)
    assert not folder.exists()


def test_folders_that_cannot_be_used(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "below"):
        assert f"cannot use the folder {folder}" in refused(capsys, "planted:0", "--out", folder)
    assert file.read_text() == "mine"
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for content in (b'{"generator": ', b"\xff\xfe", b"[1]", b"7"):
        (spoilt / MANIFEST).write_bytes(content)
        assert str(spoilt) in refused(capsys, "planted:0", "--out", spoilt)
        assert (spoilt / MANIFEST).read_bytes() == content
        assert len(list(spoilt.iterdir())) == 1


def test_an_interrupted_folder_is_finished(tmp_path):
    generator = dissect.load("planted:0")
    told = []

    def stop(done, total):
        told.append((done, total))
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_images(generator, range(12), tmp_path, progress=stop)
    assert told == [(0, 12), (8, 12)]
    told.clear()
    assert draw_images(generator, range(12), tmp_path, progress=lambda *pair: told.append(pair)) == 4
    assert told == [(8, 12), (12, 12)]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [f"{seed:06d}.png" for seed in range(12)]
    with pytest.raises(GanatomyError, match="size"):
        draw_images(generator, range(12), tmp_path, size=0)


def test_masks_drawn_on_the_images_are_found_by_seed(capsys, tmp_path):
    draw(capsys, "planted:0", "--out", tmp_path / "images", "--seeds", "7,1000000")
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "concepts.json").write_text(json.dumps(["dark", "light"]))
    files = sorted((tmp_path / "images").glob("*.png"))
    assert len(files) == 2
    for path in files:
        grey = pixels(path).mean(2)
        Image.fromarray(np.where(grey < 128, 1, 2).astype(np.uint8)).save(masks / path.name)
    generator = dissect.load("planted:0")
    images = generator(generator.sample([7, 1_000_000]))
    labels = segmodels.load(f"masks:{masks}")(images, [7, 1_000_000])
    light = np.stack([to_bytes(image).mean(2) for image in images.numpy()]) >= 128
    assert torch.equal(labels[:, 0] == 2, torch.from_numpy(light))
    assert 0 < light.mean() < 1
