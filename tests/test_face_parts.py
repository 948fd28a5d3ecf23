"""The face-part segmenter as it ships: what it says of itself, and how it agrees with labels it never saw.

``data/face_parts.npz`` holds the teacher's labels of held-out seeds, uint8 [N, 128, 128], indices into ``CLASSES``.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import dissect
import segmodels
from segmodels.base import resize_images, resize_labels
from segmodels.faces import FOLDER
from segmodels.faces.train.labels import CLASSES
from segmodels.faces.train.recipe import HELD_OUT, Recipe
from segmodels.faces.train.score import confusion, iou

DATA = Path(__file__).parent / "data" / "face_parts.npz"
LARGEST = 8_000_000  # bytes


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("face-parts")


def bytes_of(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_what_it_says_of_itself(segmenter):
    assert segmenter.name == "face-parts"
    assert segmenter.planes == 1
    assert [c.name for c in segmenter.concepts] == ["unlabelled", *CLASSES]
    assert (FOLDER / "model.safetensors").stat().st_size <= LARGEST
    assert segmenter.sha256 == segmodels.load(str(FOLDER)).sha256
    (entry,) = (e for e in segmodels.entries() if e.name == "face-parts")
    assert (entry.concepts, entry.planes, entry.needs_network) == (len(CLASSES), 1, False)
    card = (FOLDER / "README.md").read_text()
    assert not re.search(r"@[A-Z]+@", card)
    for word in ("MediaPipe", "Apache-2.0", "non-commercial", "research", *CLASSES):
        assert word in card


def test_labels_are_the_likeliest_concepts(segmenter):
    images = torch.randn(3, 3, 90, 70, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    labels, probabilities = segmenter(images), segmenter.probabilities(images)
    assert labels.shape == (3, 1, 128, 128)
    assert probabilities.shape == (3, len(CLASSES) + 1, 128, 128)
    assert torch.equal(probabilities.argmax(1), labels[:, 0].long())
    assert torch.allclose(probabilities.sum(1), torch.ones(3, 128, 128), atol=1e-5)
    assert not (labels == 0).any()


def test_together_with_colors(segmenter):
    both = segmodels.load("face-parts+colors")
    assert both.planes == 1 + segmodels.load("colors").planes
    assert [c.name for c in both.concepts[: len(CLASSES) + 1]] == [c.name for c in segmenter.concepts]


def agreement(segmenter, images, labels):
    return iou(confusion(segmenter, bytes_of(images), labels, Recipe().side))


def test_held_out_faces_of_64_pixels(segmenter, digiface):
    with np.load(DATA) as stored:
        seeds, labels = stored["digiface_seeds"].tolist(), stored["digiface_labels"]
    assert set(seeds) <= set(HELD_OUT)
    images = digiface(digiface.sample(seeds))
    score = agreement(segmenter, images, labels)
    assert score["mean"] >= LEAST["digiface"]
    # Labels of other faces are not matched: the score is not that of an average face.
    other = agreement(segmenter, images, np.roll(labels, 1, 0))
    assert other["mean"] < score["mean"] - 0.15


def test_held_out_faces_of_1024_pixels(segmenter, mobilestylegan_folder):
    with np.load(DATA) as stored:
        seeds, labels = stored["mobilestylegan_seeds"].tolist(), stored["mobilestylegan_labels"]
    generator = dissect.load(mobilestylegan_folder)
    images = torch.cat([resize_images(generator(generator.sample([seed])), 256, 256) for seed in seeds])
    assert agreement(segmenter, images, labels)["mean"] >= LEAST["mobilestylegan"]


LEAST = {"digiface": 0.73, "mobilestylegan": 0.77}


def test_a_real_photograph(segmenter):
    """The astronaut, cut to the head: every part where it is, read off the picture by eye (x, y of 256)."""
    photo = torch.from_numpy(data.astronaut()[0:256, 96:352].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    labels = resize_labels(segmenter(photo), 256, 256)[0, 0]
    names = [c.name for c in segmenter.concepts]
    where = {
        "hair": [(130, 40), (82, 90)], "eyes": [(106, 101), (152, 104)], "nose": [(127, 131)], "skin": [(110, 135)],
        "mouth": [(128, 150)], "background": [(20, 40), (235, 60)], "body": [(128, 215)],
    }  # fmt: skip
    for name, points in where.items():
        for x, y in points:
            near = {names[i] for i in labels[y - 2 : y + 3, x - 2 : x + 3].flatten().tolist()}
            assert name in near, (name, x, y, near)
    assert {names[i] for i in labels.unique().tolist()} == set(CLASSES)
