"""Folders of hand-made label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from segmodels import GanatomyError, load
from segmodels.base import resize_labels

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (6, 5))


def save(path, labels, mode="L"):
    if mode == "I;16":
        Image.fromarray(labels.astype(np.uint16)).save(path)
    elif mode == "1":
        Image.fromarray(labels.astype(bool)).save(path)
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        if mode == "P":
            image.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())  # any colours: the index counts
        image.save(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "concepts.json").write_text(
        json.dumps(["tree", {"name": "roof", "category": "house"}, {"name": "sky"}])
    )
    save(tmp_path / "0003.png", LABELS)
    return tmp_path


def blank(n=1):
    return torch.zeros(n, 3, 8, 8)


def test_names_and_categories(folder):
    masks = load(f"masks:{folder}")
    assert [(c.name, c.category) for c in masks.concepts] == [
        *(("unlabelled", ""), ("tree", ""), ("roof", "house"), ("sky", ""))
    ]
    assert masks.name == f"masks:{folder}"


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize(
    ("file", "key"),
    [("17", 17), ("0017", 17), ("seed0017", 17), ("seed17", 17), ("Seed_00017", 17), ("17", np.int64(17)), ("0", 0)]
    + [("face", "face.jpg"), ("face", "photos/face.png"), ("face.v2", "face.v2.jpg"), ("17", "17.jpg")],
)
def test_lookup_by_key(folder, file, key, mode):
    labels = 3 - LABELS
    save(folder / f"{file}.png", labels, mode)
    got = load(f"masks:{folder}")(blank(2), [key, 3])
    assert got.dtype == torch.int16
    assert np.array_equal(got.numpy(), np.stack([labels, LABELS])[:, None])


def test_bilevel_masks_are_zero_and_one(folder):
    save(folder / "4.png", LABELS > 1, "1")
    assert np.array_equal(load(f"masks:{folder}")(blank(), [4])[0, 0].numpy(), (LABELS > 1).astype(int))


def test_values_beyond_a_byte(folder):
    (folder / "concepts.json").write_text(json.dumps([f"c{i}" for i in range(1, 1001)]))
    labels = RNG.integers(0, 1001, (6, 5))
    save(folder / "9.png", labels, "I;16")
    assert np.array_equal(load(f"masks:{folder}")(blank(), [9])[0, 0].numpy(), labels)


def test_other_sizes_follow_the_first(folder):
    labels = RNG.integers(0, 4, (13, 9))
    save(folder / "4.png", labels)
    expected = resize_labels(torch.from_numpy(labels)[None, None], 6, 5)
    assert torch.equal(load(f"masks:{folder}")(blank(), [4]).long(), expected)


def test_hash_covers_names_bytes_and_concepts(folder):
    hashes = [load(f"masks:{folder}").sha256, load(f"masks:{folder}").sha256]
    assert hashes[0] == hashes[1]
    save(folder / "4.png", LABELS)
    hashes.append(load(f"masks:{folder}").sha256)
    (folder / "4.png").rename(folder / "5.png")
    hashes.append(load(f"masks:{folder}").sha256)
    save(folder / "5.png", 3 - LABELS)
    hashes.append(load(f"masks:{folder}").sha256)
    (folder / "concepts.json").write_text('["a", "b", "c"]')
    hashes.append(load(f"masks:{folder}").sha256)
    assert len(set(hashes)) == 5


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (17, r"no mask for key 17; tried 17\.png, 0017\.png, seed0017\.png"),
        ("x/face.jpg", r"no mask for key 'x/face\.jpg'; tried face\.png"),
        ("3", r"tried 3\.png"),
    ],
)
def test_missing_mask_names_key_and_files(folder, key, words):
    with pytest.raises(GanatomyError, match=words):
        load(f"masks:{folder}")(blank(), [key])


def test_keys_are_needed(folder):
    with pytest.raises(GanatomyError, match="needs keys"):
        load(f"masks:{folder}")(blank())


def write(name, content):
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "concepts.json").unlink(), "no concepts.json"),
        (lambda f: (f / "0003.png").unlink(), "no PNG file"),
        (lambda f: save(f / "seed3.png", LABELS), "0003.png and seed3.png are both seed 3"),
        (write("concepts.json", "["), r"concepts\.json is not JSON: line 1"),
        (write("concepts.json", "[]"), "an empty list"),
        (write("concepts.json", '{"a": 1}'), "got dict"),
        (write("concepts.json", '["a", 3]'), "got 3 for value 2"),
        (write("concepts.json", '[{"category": "x"}]'), "for value 1"),
        (write("concepts.json", '[{"name": "a", "category": 3}]'), "category of value 1"),
        (write("concepts.json", '["unlabelled", "a"]'), "leave 'unlabelled' out"),
        (write("concepts.json", '["a", "b", "a"]'), "names repeat: a"),
        (write("0003.png", "not a picture"), r"0003\.png cannot be read as PNG"),
    ],
)
def test_wrong_folders(folder, spoil, words):
    spoil(folder)
    with pytest.raises(GanatomyError, match=words) as caught:
        load(f"masks:{folder}")
    assert "\n" not in str(caught.value)


def test_wrong_masks(folder):
    save(folder / "4.png", LABELS + 1)
    Image.new("RGB", (5, 6)).save(folder / "5.png")
    whole = (folder / "0003.png").read_bytes()
    (folder / "6.png").write_bytes(whole[:-30])
    masks = load(f"masks:{folder}")
    for key, words in [(4, r"4\.png: pixel value 4; .* up to 3"), (5, "got RGB"), (6, r"6\.png cannot be read")]:
        with pytest.raises(GanatomyError, match=words):
            masks(blank(), [key])
