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
from segmodels.smp import SmpSegmenter

DATA = Path(__file__).parent / "data" / "face_parts.npz"
LARGEST = 8_000_000  # bytes


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("face-parts")


@pytest.fixture(scope="module")
def once():
    """The same weights, looking once."""
    return SmpSegmenter(FOLDER)


@pytest.fixture(scope="module")
def astronaut():
    """A portrait, float32 [1, 3, 512, 512], whose face is a quarter of its side."""
    return from_bytes(data.astronaut())


@pytest.fixture(scope="module")
def held_out_faces(mobilestylegan_folder):
    """Images of 256 pixels and labels of 128 by the teacher."""
    with np.load(DATA) as stored:
        seeds, labels = stored["mobilestylegan_seeds"].tolist(), stored["mobilestylegan_labels"]
    generator = dissect.load(mobilestylegan_folder)
    return torch.cat([resize_images(generator(generator.sample([seed])), 256, 256) for seed in seeds]), labels


def from_bytes(picture):
    return torch.from_numpy(np.ascontiguousarray(picture[..., :3])).permute(2, 0, 1)[None].float() / 127.5 - 1


def bytes_of(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_what_it_says_of_itself(segmenter):
    assert segmenter.name == "face-parts"
    assert segmenter.planes == 1
    assert [c.name for c in segmenter.concepts] == ["unlabelled", *CLASSES]
    assert (FOLDER / "model.safetensors").stat().st_size <= LARGEST
    assert re.fullmatch("[0-9a-f]{64}", segmenter.sha256)
    assert segmenter.sha256 != segmodels.load(str(FOLDER)).sha256  # the same weights, which look once
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


def test_held_out_faces_of_1024_pixels(segmenter, held_out_faces):
    images, labels = held_out_faces
    assert agreement(segmenter, images, labels)["mean"] >= LEAST["mobilestylegan"]


LEAST = {"digiface": 0.73, "mobilestylegan": 0.77}


def test_aligned_faces_are_looked_at_once(segmenter, once, digiface, held_out_faces):
    """Also broken ones: 146 to 267 are the first of the few in which no face that fills the picture was seen."""
    seeds = [*range(96), 146, 235, 249, 252, 267]
    for images in (digiface(digiface.sample(seeds)), held_out_faces[0]):
        for part in images.split(16):
            assert torch.equal(segmenter(part), once(part))


def names_near(segmenter, labels, x, y, reach=2):
    near = labels[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return {segmenter.concepts[i].name for i in near.flatten().tolist()}


def test_a_real_photograph_cut_to_the_head(segmenter, astronaut):
    """Every part where it is, read off the picture by eye (x, y of 256)."""
    labels = resize_labels(segmenter(astronaut[..., 0:256, 96:352]), 256, 256)[0, 0]
    where = {
        "hair": [(130, 40), (82, 90)], "eyes": [(106, 101), (152, 104)], "nose": [(127, 131)], "skin": [(110, 135)],
        "mouth": [(128, 150)], "background": [(20, 40), (235, 60)], "body": [(128, 215)],
    }  # fmt: skip
    for name, points in where.items():
        for x, y in points:
            assert name in names_near(segmenter, labels, x, y), (name, x, y)
    assert {segmenter.concepts[i].name for i in labels.unique().tolist()} == set(CLASSES)


WHERE = {
    "hair": [(226, 40), (178, 90), (280, 80)],
    "brows": [(196, 89), (252, 90)],
    "eyes": [(202, 101), (248, 104)],
    "nose": [(223, 131)],
    "skin": [(206, 135), (250, 135), (224, 170)],
    "mouth": [(224, 150)],
    "lips": [(210, 148), (224, 155)],
    "body": [(225, 205), (225, 270), (120, 300), (70, 420), (200, 400), (290, 300), (160, 330), (110, 480), (45, 330)],
    "background": [(40, 60), (15, 200), (120, 60), (350, 60), (330, 200), (410, 100), (480, 200), (400, 260)],
}
"""Parts of the whole portrait (x and y of 512): the face; the suit and its badge; the flag, the shuttle, the table."""


def test_a_whole_portrait(segmenter, astronaut):
    labels = resize_labels(segmenter(astronaut), 512, 512)[0, 0]
    for name, points in WHERE.items():
        for x, y in points:
            assert name in names_near(segmenter, labels, x, y, 3), (name, x, y)
    index = {concept.name: i for i, concept in enumerate(segmenter.concepts)}
    suit, flag = labels[280:480, 60:250], labels[:230, :50]
    assert (suit == index["body"]).float().mean() > 0.98
    assert (flag == index["background"]).float().mean() > 0.9
    face = torch.tensor([index[name] for name in ("skin", "brows", "eyes", "nose", "lips", "mouth")])
    rows, columns = torch.nonzero(torch.isin(labels, face), as_tuple=True)
    assert 60 <= rows.min() <= rows.max() <= 185  # forehead to chin
    assert 160 <= columns.min() <= columns.max() <= 285  # ear to ear


def test_a_whole_portrait_is_seen_as_its_head_alone(segmenter, once, astronaut):
    """The oracle: the head, cut out by hand so that it fills the picture, and looked at once."""
    rows, columns = slice(15, 185), slice(137, 307)
    head = resize_labels(once(astronaut[..., rows, columns]), 170, 170)[0, 0]
    for portrait, height in (
        (astronaut, 512),
        (resize_images(astronaut, 200, 200), 512),
        (astronaut[..., :350, :], 350),
    ):
        labels = resize_labels(segmenter(portrait), height, 512)[0, 0, rows, columns]
        assert (labels == head).float().mean() > 0.9
    assert (resize_labels(once(astronaut), 512, 512)[0, 0, rows, columns] == head).float().mean() < 0.75


def test_an_image_does_not_depend_on_its_batch(segmenter, astronaut, digiface):
    faces = resize_images(digiface(digiface.sample(range(3))), 512, 512)
    small = resize_images(astronaut, 256, 256)
    pasted = torch.nn.functional.pad(small, (200, 56, 100, 156), mode="replicate")
    images = torch.cat([faces[:1], astronaut, faces[1:], pasted, astronaut.flip(3)])
    together, alone = segmenter(images), torch.cat([segmenter(images[i : i + 1]) for i in range(len(images))])
    assert (together != alone).float().mean() < 1e-4  # equal but for rounding in the network
    together = segmenter.probabilities(images)
    alone = torch.cat([segmenter.probabilities(images[i : i + 1]) for i in range(len(images))])
    assert torch.allclose(together, alone, atol=1e-3)


def test_probabilities_of_what_was_looked_at_again(segmenter, once, astronaut):
    images = torch.cat([astronaut, astronaut.flip(3), torch.zeros_like(astronaut)])
    labels, probabilities = segmenter(images), segmenter.probabilities(images)
    assert (labels[:2] != once(images[:2])).float().mean() > 0.2
    assert torch.equal(probabilities.argmax(1), labels[:, 0].long())
    assert torch.allclose(probabilities.sum(1), torch.ones(3, 128, 128), atol=1e-5)
    assert probabilities.min() >= 0
    assert probabilities[:, 0].max() == 0


def nothing(kind):
    random = torch.Generator().manual_seed(1)
    if kind == "noise":
        return torch.rand(1, 3, 256, 256, generator=random) * 2 - 1
    if kind == "clouds":
        coarse = torch.randn(1, 3, 9, 9, generator=random)
        return torch.nn.functional.interpolate(coarse, (256, 256), mode="bicubic").clamp(-1, 1)
    picture = getattr(data, kind)()
    return from_bytes(picture if picture.ndim == 3 else np.stack([picture] * 3, -1))


@pytest.mark.parametrize(
    "kind", ["coffee", "chelsea", "rocket", "brick", "grass", "gravel", "coins", "noise", "clouds"]
)
def test_where_there_is_no_face_the_first_look_stands(segmenter, once, kind):
    assert torch.equal(segmenter(nothing(kind)), once(nothing(kind)))


@pytest.mark.parametrize(("scale", "least"), [(0.25, 0.5), (0.4, 0.55)])
def test_faces_in_other_surroundings(segmenter, once, held_out_faces, scale, least):
    """Against the labels of each face by itself, put where the face was put; the second look is to do much better."""
    random, side = np.random.RandomState(0), 512
    faces = held_out_faces[0][:9]
    counts = {id(segmenter): 0, id(once): 0}
    for face, kind in zip(faces, ["coffee", "rocket", "brick", "grass", "gravel", "noise", "clouds"] * 2, strict=False):
        size = round(side * scale / 4) * 4
        x, y = (random.randint(0, (side - size) // 4 + 1) * 4 for _ in range(2))
        picture = resize_images(nothing(kind), side, side).clone()
        picture[..., y : y + size, x : x + size] = resize_images(face[None], size, size)
        truth = torch.ones(1, 1, side, side, dtype=torch.int16)
        truth[..., y : y + size, x : x + size] = resize_labels(once(face[None]), size, size)
        truth = resize_labels(truth, 128, 128).long()
        for each in (segmenter, once):
            counts[id(each)] += torch.bincount(((truth - 1) * 9 + each(picture) - 1).flatten(), minlength=81)
    again, first = (iou(counts[id(each)].view(9, 9).numpy())["mean"] for each in (segmenter, once))
    assert again >= least
    assert again >= first + 0.25
