"""The contract of segmenters, the planes of a+b, nearest-neighbour labels, and the catalogue."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segmodels
from segmodels import Concept, GanatomyError, Segmenter
from segmodels.base import UNLABELLED, Planes, resize_labels
from segmodels.custom import Custom


class Fixed(Segmenter):
    """Returns what it was given."""

    def __init__(self, labels, concepts=None, name="fixed"):
        concepts = concepts or [UNLABELLED, Concept("a"), Concept("b"), Concept("c", plane=1)]
        super().__init__(name, concepts, "00")
        self.labels = labels

    def segment(self, images, keys):
        return self.labels


def images(n=2, size=4):
    return torch.zeros(n, 3, size, size)


GOOD = torch.tensor([[[[0, 1], [2, 0]], [[3, 0], [3, 3]]]] * 2)


def with_label(value, plane=0):
    labels = GOOD.clone()
    labels[1, plane, 0, 1] = value
    return labels


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_good_labels_come_back_as_int16(dtype):
    labels = Fixed(GOOD.to(dtype))(images())
    assert labels.dtype == torch.int16
    assert torch.equal(labels.long(), GOOD)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (with_label(4), "label 4; labels must be 0..3"),
        (with_label(-1), "label -1"),
        (with_label(3), "'c' in plane 0; it belongs to 1"),
        (with_label(2, plane=1), "'b' in plane 1; it belongs to 0"),
        (GOOD.float(), "float32"),
        (GOOD.bool(), "bool"),
        (GOOD[:1], r"\[1, 2, 2, 2\], expected labels \[2, 2, h, w\]"),
        (GOOD[:, :1], "expected labels"),
        (GOOD[:, 0], "expected labels"),
        (GOOD.numpy(), "ndarray"),
    ],
)
def test_wrong_labels_are_refused(labels, words):
    with pytest.raises(GanatomyError, match=words):
        Fixed(labels)(images())


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        ([Concept("a")], "concept 0 must be 'unlabelled'"),
        ([UNLABELLED, Concept("a"), Concept("a")], "repeat: a"),
        ([UNLABELLED, Concept("a", plane=2)], "planes must be"),
    ],
)
def test_wrong_concepts_are_refused(concepts, words):
    with pytest.raises(GanatomyError, match=words):
        Fixed(GOOD, concepts)


@pytest.mark.parametrize(
    ("batch", "keys", "words"),
    [
        (torch.zeros(3, 4, 4), None, r"\[3, 4, 4\]"),
        (torch.zeros(1, 1, 4, 4), None, "images"),
        (images(), [1], "1 keys"),
    ],
)
def test_wrong_input_is_refused(batch, keys, words):
    with pytest.raises(GanatomyError, match=words):
        Fixed(GOOD)(batch, keys)


def test_planes_stack_rename_and_resize():
    first = Fixed(torch.tensor([[[[0, 1], [2, 1]]]]), [UNLABELLED, Concept("red", "colour"), Concept("sky")], "x")
    second = Fixed(torch.arange(16).reshape(1, 1, 4, 4) % 3, [UNLABELLED, Concept("red"), Concept("sea")], "y")
    joined = Planes([first, second])
    assert [(c.name, c.category, c.plane) for c in joined.concepts] == [
        *(("unlabelled", "", 0), ("red", "colour", 0), ("sky", "", 0)),
        *(("y:red", "", 1), ("sea", "", 1)),
    ]
    labels = joined(images(1))
    assert labels.shape == (1, 2, 4, 4)
    assert torch.equal(labels[0, 0], first.labels[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1).short())
    expected = torch.tensor([0, 3, 4])[second.labels[0, 0]]  # 0 stays 0, the others move past red and sky
    assert torch.equal(labels[0, 1], expected.short())
    assert joined.name == "x+y"
    assert joined.sha256 == "00+00"


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (8, 4), (13, 29), (16, 6)])
def test_resize_labels_takes_the_pixel_under_the_centre(size):
    labels = torch.randint(0, 100, (2, 3, 7, 6), generator=torch.Generator().manual_seed(0))
    rows = np.floor((np.arange(size[0]) + 0.5) * 7 / size[0]).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) * 6 / size[1]).astype(int)
    expected = labels.numpy()[:, :, rows][:, :, :, columns]
    assert np.array_equal(resize_labels(labels, *size).numpy(), expected)


# The catalogue


def test_entries_describe_what_loads():
    listed = {entry.name: entry for entry in segmodels.entries()}
    for name in ("colors", "face-parts", "planted"):
        made = segmodels.load(name)
        assert made.name == name
        assert (listed[name].concepts, listed[name].planes) == (len(made.concepts) - 1, made.planes)
        assert not listed[name].needs_network
    assert listed["smp-hub/segformer-b0-512x512-ade-160k"].needs_network
    assert all(entry.summary for entry in listed.values())


def test_a_segmenter_passes_through():
    made = Fixed(GOOD)
    assert segmodels.load(made) is made


MINE = '''
import torch
import neighbour_of_mine
from segmodels import Concept

class Halves:
    """Upper half "up", lower half "down"."""
    concepts = ["unlabelled", Concept("up", "place"), "down"]

    def __call__(self, images):
        labels = torch.ones(len(images), *images.shape[-2:], dtype=torch.long)
        labels[:, images.shape[-2] // 2 :] = 2
        return labels

class ByKey(Halves):
    def __call__(self, images, keys):
        return torch.tensor([int(k) for k in keys]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).numpy()

class Holder:
    @staticmethod
    def make():
        return Halves()

class Fails(Halves):
    def __call__(self, images):
        raise ValueError("first line\\nsecond line")

def raises():
    raise RuntimeError("no weights\\nanywhere")

def nothing():
    return None

def wrong_concepts():
    made = Halves()
    made.concepts = ["up", "down"]
    return made

def needs_argument(path):
    return Halves()
'''


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(MINE)
    (tmp_path / "neighbour_of_mine.py").write_text("")
    (tmp_path / "broken_of_test.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield
    for name in ("mine_of_test", "neighbour_of_mine"):
        sys.modules.pop(name, None)


def test_own_code_from_the_working_directory(own_code):
    halves = segmodels.load("mine_of_test:Halves")
    assert isinstance(halves, Custom)
    assert [(c.name, c.category) for c in halves.concepts] == [("unlabelled", ""), ("up", "place"), ("down", "")]
    assert halves(images())[:, 0, :, 0].tolist() == [[1, 1, 2, 2]] * 2
    assert segmodels.load("mine_of_test:Holder.make").planes == 1
    assert segmodels.load("mine_of_test:ByKey")(images(), ["1", "2"])[:, 0, 0, 0].tolist() == [1, 2]
    assert len(halves.sha256) == 64
    joined = segmodels.load("colors+mine_of_test:Halves")
    assert joined.planes == 3
    assert joined(images()).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no_such_module_here:f", "ModuleNotFoundError: No module named"),
        ("mine_of_test:absent", "has no attribute 'absent'"),
        ("broken_of_test:f", "SyntaxError"),
        ("mine_of_test:raises", "RuntimeError: no weights anywhere"),
        ("mine_of_test:needs_argument", "missing 1 required positional argument"),
        ("mine_of_test:nothing", "expected a Segmenter, or an object"),
        ("mine_of_test:wrong_concepts", "concept 0 must be 'unlabelled'"),
    ],
)
def test_faults_in_own_code_are_one_line(own_code, source, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        segmodels.load(source)
    assert "\n" not in str(caught.value)
    assert source in str(caught.value)


def test_a_failing_call_is_one_line(own_code):
    with pytest.raises(GanatomyError, match="ValueError: first line second line"):
        segmodels.load("mine_of_test:Fails")(images())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("colours", "unknown segmenter 'colours'; nearest: colors"),
        ("", "unknown segmenter ''"),
        ("colors+", "unknown segmenter ''"),
        ("masks:/no/such/folder", "there is no folder '/no/such/folder'"),
        ("/no/such/folder", "unknown segmenter"),
        ("hub:noslash", "neither a folder nor a hub id"),
        (3, "int"),
    ],
)
def test_unknown_sources(source, words):
    with pytest.raises(GanatomyError, match=words):
        segmodels.load(source)


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(GanatomyError, match=r"expected a folder with config\.json"):
        segmodels.load(tmp_path)
    Image.new("L", (2, 2)).save(tmp_path / "1.png")
    with pytest.raises(GanatomyError, match=f"masks:{tmp_path}"):
        segmodels.load(str(tmp_path))


def test_a_path_with_plus_is_taken_whole(tmp_path):
    for folder in ("a", "a+b", "a+colors"):
        (tmp_path / folder).mkdir()
        Image.new("L", (2, 2), 1).save(tmp_path / folder / "1.png")
        (tmp_path / folder / "concepts.json").write_text(f'["thing of {folder}"]')

    def names(source):
        made = segmodels.load(source)
        parts = made.parts if isinstance(made, Planes) else [made]
        return [Path(part.name).name for part in parts]

    at = f"masks:{tmp_path}"
    assert names(f"{at}/a+b") == ["a+b"]
    assert names(f"{at}/a+colors") == ["a+colors"]
    assert names(f"{at}/a+planted") == ["a", "planted"]
    assert names(f"colors+{at}/a+b+{at}/a") == ["colors", "a+b", "a"]
