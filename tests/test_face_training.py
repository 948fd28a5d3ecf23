"""How ``face-parts`` was trained: every step against an oracle, and the real teacher on a real face."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch.nn import functional as F

import segmodels
from app import cli
from segmodels import Concept, GanatomyError, Segmenter
from segmodels.base import UNLABELLED
from segmodels.faces.train import export as exporting
from segmodels.faces.train import fit, labelling, labels, mesh, pictures, score
from segmodels.faces.train.labels import BACKGROUND, BODY, BROW, CLASSES, EYE, HAIR, LIP, MOUTH_, NOSE_, SIDE, SKIN
from segmodels.faces.train.recipe import TEACHER, Phase, Recipe, Source
from segmodels.faces.train.teacher import ENLARGED, Square, Teacher, around, cut
from segmodels.fetch import fetch

augmenting = importlib.import_module("segmodels.faces.train.augment")
command = importlib.import_module("segmodels.faces.train.__main__")

pytestmark = pytest.mark.usefixtures("one_thread")

CENTRES = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1) + 0.5  # [y, x] of pixels: (x, y)


# The mesh and its polygons


def area(points):
    x, y = points.T.astype(float)
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def perimeter(points):
    return np.hypot(*(points - np.roll(points, 1, 0)).T).sum()


def ellipse(count, cx, cy, rx, ry, start=0.0, turn=0.0):
    """Points going round clockwise as one sees them, from the left end at ``start`` = 0."""
    angle = np.pi + start + np.arange(count) * 2 * np.pi / count
    x, y = rx * np.cos(angle), ry * np.sin(angle)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], 1).astype(np.float32)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_loops_are_loops():
    loops = [mesh.OVAL, *mesh.BROWS, *mesh.EYES, mesh.NOSE, mesh.LIPS, mesh.MOUTH]
    for loop in loops:
        assert len(set(loop)) == len(loop) >= 10
        assert min(loop) >= 0
        assert max(loop) < mesh.LANDMARKS
    for pair in (mesh.BROWS, mesh.EYES):
        assert len(pair[0]) == len(pair[1])
        assert not set(pair[0]) & set(pair[1])
    assert not set(mesh.LIPS) & set(mesh.MOUTH)
    assert {mesh.CHIN, mesh.FOREHEAD} <= set(mesh.OVAL)
    assert set(mesh.EYE_CORNERS) <= {*mesh.EYES[0], *mesh.EYES[1]}


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.3])
@pytest.mark.parametrize(("count", "rx", "ry"), [(36, 60, 80), (20, 50, 40), (16, 14, 5)])
def test_polygons_have_their_area_and_place(count, rx, ry, turn):
    points = ellipse(count, 121.3, 133.8, rx, ry, turn=turn)
    mask = labels.polygon(points, tuple(range(count)))
    assert mask.shape == (SIDE, SIDE)
    rim = 0.0 if rx > 20 else 0.2  # pixels all round, by which small ones may come out too large
    assert abs(mask.sum() - area(points)) < 0.01 * area(points) + rim * perimeter(points)
    # The mean of the pixels' centres is the centre: pixel (0, 0) reaches from 0 to 1.
    assert np.abs(CENTRES[mask].mean(0) - [121.3, 133.8]).max() < 0.1
    inside = ((CENTRES - [121.3, 133.8]) @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / [rx, ry]
    assert iou(mask, np.hypot(*np.moveaxis(inside, -1, 0)) < 1) > (0.98 if rx > 20 else 0.85)


def test_polygons_of_several_loops_and_beyond_the_picture():
    points = np.concatenate([ellipse(16, 60, 60, 20, 10), ellipse(16, 200, 250, 30, 20)])
    first, second = tuple(range(16)), tuple(range(16, 32))
    both = labels.polygon(points, first, second)
    assert np.array_equal(both, labels.polygon(points, first) | labels.polygon(points, second))
    assert both[-1].sum() == pytest.approx(60 * np.sqrt(1 - 0.275**2), abs=3)  # cut off by the lower edge
    assert not both[:, :39].any()


def test_pieces_that_touch_the_seed_are_kept():
    mask = np.array(
        [[1, 1, 0, 0, 1], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]],
        bool,
    )
    seed = np.zeros_like(mask)
    seed[2, 0] = seed[0, 3] = True  # the second lies on nothing
    expected = np.zeros_like(mask)
    expected[2:4, 0] = expected[3, 1] = True
    assert np.array_equal(labels.of_one_piece(mask, seed), expected)
    seed[0, 4] = True  # diagonal neighbours are not connected
    expected[0, 4] = True
    assert np.array_equal(labels.of_one_piece(mask, seed), expected)
    assert not labels.of_one_piece(mask, ~mask).any()
    assert not labels.of_one_piece(np.zeros_like(mask), seed).any()


# Label maps


COLOURS = {
    BACKGROUND: (70, 140, 80), HAIR: (58, 40, 28), SKIN: (222, 172, 142), BROW: (70, 48, 36), EYE: (235, 235, 235),
    NOSE_: (214, 160, 130), LIP: (190, 90, 90), MOUTH_: (250, 245, 240), BODY: (50, 70, 170),
}  # fmt: skip


class Drawing:
    """A face of ellipses, as a picture, as landmarks, as a person's outline and as the truth."""

    def __init__(self, scale=1.0, tilt=0.0, middle=(128.0, 126.0), person_elsewhere=False):
        self.scale, self.tilt, self.middle = scale, tilt, middle
        rng = np.random.default_rng(0)
        self.points = rng.uniform(0, SIDE, (mesh.LANDMARKS, 2)).astype(np.float32)  # those in no loop mean nothing
        self.place(mesh.OVAL, 0, 0, 48, 64, np.pi / 2)  # from the forehead
        for side, brow, eye in zip((-1, 1), mesh.BROWS, mesh.EYES, strict=True):
            self.place(brow, side * 21, -29, 13, 4)
            self.place(eye, side * 21, -16, 9, 4, 0 if side < 0 else np.pi)  # from the outer corner
        self.place(mesh.NOSE, 0, 2, 9, 17)
        self.place(mesh.LIPS, 0, 36, 20, 9)
        self.place(mesh.MOUTH, 0, 36, 13, 3)
        self.exact = {
            part: labels.polygon(self.points, *loops)
            for part, loops in [
                (BROW, mesh.BROWS), (EYE, mesh.EYES), (NOSE_, [mesh.NOSE]), (LIP, [mesh.LIPS]), (MOUTH_, [mesh.MOUTH]),
            ]
        }  # fmt: skip
        u, v = self.face_coordinates()
        self.oval = (u / 48) ** 2 + (v / 64) ** 2 < 1
        truth = np.full((SIDE, SIDE), BACKGROUND)
        truth[(v > 76) & (np.abs(u) < 40 + (v - 76))] = BODY
        truth[((u / 72) ** 2 + ((v + 12) / 84) ** 2 < 1) & (v < 40)] = HAIR
        truth[(np.abs(u) < 20) & (v > 30) & (v < 78)] = SKIN  # the neck
        truth[self.oval] = SKIN
        for part, mask in self.exact.items():
            truth[mask] = part
        self.truth = truth
        person = truth != BACKGROUND
        painted = truth.copy()
        self.other = np.zeros_like(person)
        if person_elsewhere:
            self.other = np.hypot(*np.moveaxis(CENTRES - [18, 30], -1, 0)) < 14
            assert not (self.other & person).any()
            painted[self.other] = SKIN
        self.person = np.where(person | self.other, 0.93, 0.04).astype(np.float32)
        picture = np.array([COLOURS[i] for i in range(len(CLASSES))])[painted] + rng.normal(0, 5, (SIDE, SIDE, 3))
        self.picture = picture.clip(0, 255).astype(np.uint8)

    def place(self, loop, x, y, rx, ry, start=0.0):
        own = ellipse(len(loop), x, y, rx, ry, start) * self.scale
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        self.points[list(loop)] = own @ np.array([[c, s], [-s, c]]) + self.middle

    def face_coordinates(self):
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return np.moveaxis((CENTRES - self.middle) @ np.array([[c, -s], [s, c]]) / self.scale, -1, 0)

    def paint(self, mask, colour):
        self.picture[mask] = colour

    def label_map(self):
        found = labels.label_map(self.picture, self.points, self.person)
        assert (found.dtype, found.shape) == (np.uint8, (SIDE, SIDE))
        return found

    def patch(self, u0, v0, radius):
        u, v = self.face_coordinates()
        return np.hypot(u - u0, v - v0) < radius


@pytest.mark.parametrize("how", [{}, {"tilt": 0.25}, {"scale": 0.7, "tilt": -0.2, "middle": (110.0, 120.0)}])
def test_a_drawn_face_is_labelled(how):
    drawing = Drawing(**how, person_elsewhere=True)
    found = drawing.label_map()
    for part in (HAIR, SKIN, BODY):
        assert iou(found == part, drawing.truth == part) > 0.85, CLASSES[part]
    lips = drawing.exact[LIP] & ~drawing.exact[MOUTH_]
    for part, mask in (drawing.exact | {LIP: lips}).items():
        assert mask.sum() > 20
        assert np.array_equal(found == part, mask), CLASSES[part]
    assert iou(found == BACKGROUND, drawing.truth == BACKGROUND) > 0.99
    assert (found[drawing.other] == BACKGROUND).all()
    # Without the face's person, someone elsewhere is still nobody, and the oval is still the face.
    drawing.person[~drawing.other] = 0
    alone = drawing.label_map()
    assert (alone[drawing.other] == BACKGROUND).all()
    assert iou(alone != BACKGROUND, drawing.oval) > 0.97


@pytest.mark.parametrize("colour", [(255, 252, 246), (60, 42, 30)])  # a shine, and a mole as dark as the hair
def test_a_spot_on_the_forehead_is_skin(colour):
    drawing = Drawing()
    spot = drawing.patch(3, -45, 6)
    drawing.paint(spot, colour)
    assert (drawing.label_map()[spot] == SKIN).all()


def test_hair_that_falls_over_a_brow_hides_it():
    drawing = Drawing()
    u, v = drawing.face_coordinates()
    fringe = (u < -6) & (v < -22) & drawing.oval
    drawing.paint(fringe, COLOURS[HAIR])
    found = drawing.label_map()
    assert iou((found == HAIR) & drawing.oval, fringe) > 0.8
    left, right = (drawing.exact[BROW] & side for side in (u < 0, u > 0))
    assert (found[left] == HAIR).mean() > 0.75  # down there, hair is not expected any more
    assert (found[right] == BROW).all()


# The teacher


def dot(height, width, x, y, sigma):
    """A picture of one bright dot, float [height, width]; (0, 0) is the upper left corner."""
    v, u = np.mgrid[:height, :width] + 0.5
    return np.exp(-((u - x) ** 2 + (v - y) ** 2) / 2 / sigma**2)


def centroid(picture):
    v, u = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(picture * u).sum(), (picture * v).sum()]) / picture.sum()


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
@pytest.mark.parametrize(
    ("height", "width", "square", "side"),
    [
        (256, 256, Square(120, 140, 150), 192),  # enlarged
        (256, 200, Square(100, 120, 330), 192),  # reaching beyond the picture
        (300, 411, Square(205, 150, 700), 192),  # made smaller first, by a factor that is no whole number
        (700, 611, Square(300, 350, 1500), 96),
    ],
)
def test_cutting_out_and_mapping_back_agree(height, width, square, side, angle):
    square = dataclasses.replace(square, angle=angle)
    step = square.side / side
    for x, y in ((0.4, 0.45), (0.6, 0.35), (0.35, 0.65)):
        x, y = x * width, y * height
        picture = np.repeat(dot(height, width, x, y, max(3, 1.5 * step))[..., None] * 255, 3, 2).astype(np.uint8)
        seen = np.asarray(cut(Image.fromarray(picture), square, side), float)[..., 0]
        assert seen.shape == (side, side)
        back = square.to_picture(centroid(seen)[None] / side)
        assert back.dtype == np.float32
        assert np.abs(back[0] - [x, y]).max() < max(0.2, 0.05 * step)
        # The same way by hand: turn back, scale, count from the square's corner.
        offset = np.array([x - square.x, y - square.y])
        c, s = np.cos(angle), np.sin(angle)
        own = np.array([c * offset[0] + s * offset[1], -s * offset[0] + c * offset[1]]) / square.side + 0.5
        assert np.abs(centroid(seen) - own * side).max() < 0.2


def test_outside_the_picture_is_black():
    seen = np.asarray(cut(Image.new("RGB", (60, 60), (200, 200, 200)), Square(30, 30, 120), 120))
    assert (seen[31:89, 31:89] == 200).all()
    seen = seen.copy()
    seen[29:91, 29:91] = 0
    assert not seen.any()


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2])
def test_the_square_round_landmarks(angle):
    rng = np.random.default_rng(1)
    own = rng.uniform(-0.5, 0.5, (mesh.LANDMARKS, 2)) * [40, 60]  # x and y before turning; 40 wide, 60 high
    own[mesh.EYE_CORNERS[0]], own[mesh.EYE_CORNERS[1]] = (-12, -9), (12, -9)
    own[0], own[1], own[2], own[3] = (-20, 0), (20, 0), (0, -30), (0, 30)
    c, s = np.cos(angle), np.sin(angle)
    points = (own @ np.array([[c, s], [-s, c]]) + [90, 70]).astype(np.float32)
    square = around(points)
    assert square.angle == pytest.approx(angle, abs=1e-5)
    assert (square.x, square.y) == pytest.approx((90, 70), abs=1e-3)
    assert square.side == pytest.approx(60 * ENLARGED, abs=1e-3)
    corner = Square(90, 70, 60, angle).to_picture(np.array([[0.5, 0.0], [1.0, 0.5]]))
    assert np.abs(corner - [[90 + 30 * s, 70 - 30 * c], [90 + 30 * c, 70 + 30 * s]]).max() < 1e-3


@pytest.fixture
def teacher_files(users_cache):
    """The two networks, from the user's own cache or the network; skips where they cannot be had."""
    pytest.importorskip("ai_edge_litert")
    try:
        folder = fetch(TEACHER)
    except GanatomyError as error:
        if "nothing is cached" not in str(error):
            raise
        pytest.skip(f"the teacher cannot be had here: {error}")
    return [folder / name for name, _ in TEACHER.members]


def astronaut():
    return np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])


def test_the_teacher_finds_a_face(teacher_files):
    teacher = Teacher(*teacher_files)
    picture = astronaut()
    face = teacher.face(picture)
    points = face.points
    assert (points.shape, points.dtype) == ((mesh.LANDMARKS, 2), np.float32)
    assert 0.9 < face.confidence <= 1
    eyes, brows, nose, lips = (
        points[list(part)].mean(0) for part in (sum(mesh.EYES, ()), sum(mesh.BROWS, ()), mesh.NOSE, mesh.LIPS)
    )
    assert brows[1] < eyes[1] < nose[1] < lips[1] < points[mesh.CHIN][1]
    assert points[mesh.EYE_CORNERS[0]][0] < nose[0] < points[mesh.EYE_CORNERS[1]][0]
    oval = labels.polygon(points, mesh.OVAL)
    inner = labels.polygon(points, *mesh.BROWS, *mesh.EYES, mesh.NOSE, mesh.LIPS)
    assert (inner & oval).sum() > 0.98 * inner.sum()
    assert 40 < np.sqrt(oval.sum()) < 120
    person = teacher.person(picture)
    assert (person.shape, person.dtype) == ((256, 256), np.float32)
    assert person[oval].mean() > 0.95
    assert person[:120, :24].mean() < 0.2
    # Of a picture half the size, the same face at half the size.
    half = teacher.face(np.asarray(Image.fromarray(picture).resize((128, 128), Image.Resampling.BOX)))
    assert np.abs(half.points * 2 - points).mean() < 2
    found = labels.label_map(picture, points, person)
    assert set(np.unique(found)) >= {BACKGROUND, HAIR, SKIN, BROW, EYE, NOSE_, LIP, BODY}


def test_the_mirrored_face_has_mirrored_landmarks(teacher_files):
    teacher = Teacher(*teacher_files)
    points = teacher.face(astronaut()).points
    mirrored = teacher.face(np.ascontiguousarray(astronaut()[:, ::-1]))
    assert mirrored.confidence > 0.9
    back = [256, 0] + mirrored.points * [-1, 1]
    for one, other in mesh.MIRRORED.items():
        assert np.abs(back[other] - points[one]).max() < 0.01
    oval, lips = mesh.OVAL, mesh.LIPS
    pairs = [*zip(*mesh.EYES, strict=True), *zip(*mesh.BROWS, strict=True)]
    pairs += [(right, left) for left, right in pairs]
    pairs += [(oval[k], oval[-k]) for k in range(len(oval))] + [(lips[k], lips[10 - k]) for k in range(len(lips))]
    here, there = (list(column) for column in zip(*pairs, strict=True))
    apart = np.hypot(*(points[here] - back[there]).T)
    assert apart.mean() < 2.5
    assert apart.max() < 7


def test_no_face_no_confidence(teacher_files):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert Teacher(*teacher_files).face(noise).confidence < 0.5


# Labelling folders


@pytest.fixture
def pretended(monkeypatch):
    """A teacher that is as sure as a picture is red, and sees one class; in threads, where it can be replaced."""
    asked = []

    class Pretender:
        def __init__(self, *files):
            assert [file.name for file in files] == ["face_landmark.tflite", "selfie_segmentation.tflite"]

        def face(self, picture):
            assert picture.shape == (SIDE, SIDE, 3)
            asked.append(round(float(picture[..., 0].mean())))
            return dataclasses.make_dataclass("Found", ["points", "confidence"])(None, picture[..., 0].mean() / 255)

        def person(self, picture):
            return picture

    monkeypatch.setattr(labelling, "_teacher", None)
    monkeypatch.setattr(labelling, "Teacher", Pretender)
    monkeypatch.setattr(labelling, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(labelling, "TOGETHER", 2)
    monkeypatch.setattr(labelling, "fetch", lambda source: labelling.Path("nowhere"))
    monkeypatch.setattr(labelling, "label_map", lambda picture, points, person: picture[..., 0] % len(CLASSES))
    return asked


def coloured(folder, reds, side=64):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, red in reds.items():
        Image.new("RGB", (side, side), (red, 9, 9)).save(pictures.path_of(folder, seed))


def test_labelling_goes_on_where_it_stopped(pretended, tmp_path):
    reds = {0: 10, 1: 20, 2: 30, 3: 40, 1_000_000: 250}
    coloured(tmp_path / "pictures", reds)
    folder, told = tmp_path / "labels", []

    def stop(done, total):
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        labelling.label_folder(tmp_path / "pictures", range(4), folder, stop)
    assert sorted(pretended) == [10, 20]
    told.clear()
    sure = labelling.label_folder(tmp_path / "pictures", range(4), folder, lambda *what: told.append(what))
    assert sure == pytest.approx({seed: red / 255 for seed, red in reds.items() if seed < 4})
    assert sorted(pretended) == [10, 20, 30, 40]
    assert told == [(4, 4)]
    # Other seeds come into the same folder, and are not mixed up in what is returned.
    more = labelling.label_folder(tmp_path / "pictures", range(1_000_000, 1_000_001), folder)
    assert more == pytest.approx({1_000_000: 250 / 255})
    assert labelling.label_folder(tmp_path / "pictures", range(1, 3), folder) == {1: sure[1], 2: sure[2]}
    assert len(pretended) == 5


def test_every_landmark_of_a_loop_has_its_mirror_image():
    for one, other in mesh.MIRRORED.items():
        assert mesh.MIRRORED[other] == one
    middle = {i for i in mesh.MIRRORED if mesh.MIRRORED[i] == i}
    assert middle == {10, 152, 168, 2, 0, 17, 13, 14}  # forehead, chin, root and base of the nose, lips
    assert {mesh.MIRRORED[i] for i in mesh.BROWS[0]} == set(mesh.BROWS[1])
    for loop in (mesh.OVAL, mesh.NOSE, mesh.LIPS, mesh.MOUTH):
        assert {mesh.MIRRORED[i] for i in loop} == set(loop)


def test_labelled_folders_are_masks(pretended, tmp_path):
    reds = {seed: 90 + seed for seed in range(9)}  # each seed's picture is its own class
    coloured(tmp_path / "pictures", reds)
    labelling.label_folder(tmp_path / "pictures", range(9), tmp_path / "labels")
    masks = segmodels.load(f"masks:{tmp_path / 'labels'}")
    assert [concept.name for concept in masks.concepts] == ["unlabelled", *CLASSES]
    found = masks(torch.zeros(9, 3, 8, 8), list(range(9)))
    assert found.shape == (9, 1, SIDE, SIDE)
    for seed in range(9):
        assert (found[seed] == reds[seed] % len(CLASSES) + 1).all()
        assert masks.concepts[int(found[seed].max())].name == CLASSES[reds[seed] % len(CLASSES)]
    read = pictures.read(tmp_path / "labels", [4, 2])
    assert (read.dtype, read.shape) == (np.uint8, (2, SIDE, SIDE))
    assert np.array_equal(read, found[[4, 2], 0].numpy())
    assert pictures.read(tmp_path / "pictures", [4]).shape == (1, 64, 64, 3)


def test_labelling_with_the_real_teacher(teacher_files, tmp_path):
    folder = tmp_path / "labels"
    (tmp_path / "pictures").mkdir()
    Image.fromarray(astronaut()).save(pictures.path_of(tmp_path / "pictures", 0))
    coloured(tmp_path / "pictures", {1: 128})
    sure = labelling.label_folder(tmp_path / "pictures", range(2), folder)
    assert sure[0] > 0.9 > 0.5 > sure[1]
    noted = json.loads((folder / labelling.CONFIDENCES).read_text())
    assert noted["confidences"] == {str(k): v for k, v in sure.items()}
    teacher = Teacher(*teacher_files)
    expected = labels.label_map(astronaut(), teacher.face(astronaut()).points, teacher.person(astronaut()))
    assert np.array_equal(pictures.read(folder, [0])[0], expected + 1)
    assert segmodels.load(f"masks:{folder}")(torch.zeros(2, 3, 8, 8), [0, 1]).max() <= len(CLASSES)


# Augmentation


def painted(side, label_side, rng):
    """Three overlapping discs, one per colour channel; the label has a bit for each."""

    def at(n):
        v, u = (np.mgrid[:n, :n] + 0.5) / n
        return np.stack([np.hypot(u - x, v - y) < r for x, y, r in discs], -1)

    discs = rng.uniform((0.25, 0.25, 0.15), (0.75, 0.75, 0.35), (3, 3))
    return (at(side) * 255).astype(np.uint8), (at(label_side) @ [1, 2, 4]).astype(np.uint8)


def many(side, label_side=256, count=4, seed=0):
    rng = np.random.default_rng(seed)
    both = zip(*(painted(side, label_side, rng) for _ in range(count)), strict=True)
    return tuple(torch.from_numpy(np.stack(part)) for part in both)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("side", [64, 256])
def test_augmenting_is_repeatable_and_in_range(side):
    images, marks = many(side)
    state = torch.get_rng_state()
    first, again, other = (augmenting.augment(images, marks, 48, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])
    for seed in range(12):
        picture, label = augmenting.augment(images, marks, 48, seeded(seed))
        assert (picture.shape, picture.dtype) == ((4, 3, 48, 48), torch.float32)
        assert (label.shape, label.dtype) == ((4, 48, 48), torch.int64)
        assert picture.isfinite().all()
        assert picture.min() >= 0
        assert picture.max() <= 1
        around = {augmenting.BACKGROUND, augmenting.BODY}
        assert set(label.unique().tolist()) <= set(marks.unique().tolist()) | around


def test_surroundings_are_nobody_but_for_a_body_below():
    """Of small pictures, all that lies beyond them is new in two thirds, and drawn out of their borders in the rest."""
    count = 300
    sources, skin = torch.rand(count, 3, 8, 8, generator=seeded(0)), 2
    grid = F.affine_grid(3 * torch.eye(2, 3).repeat(count, 1, 1), [count, 1, 24, 24], align_corners=False)
    images = F.grid_sample(sources, grid, "bilinear", "border", align_corners=False)
    marks = torch.full((count, 1, 24, 24), float(skin))
    pictures, labels = augmenting.surround(images, marks, sources, grid, seeded(1))
    inside = (grid.abs() <= 1).all(3)
    assert torch.equal(pictures.movedim(1, 3)[inside], images.movedim(1, 3)[inside])
    assert (labels[:, 0][inside] == skin).all()
    new = (labels[:, 0] != skin).flatten(1).any(1)
    assert abs(new.float().mean() - augmenting.ROOM) < 0.08
    assert torch.equal(pictures[~new], images[~new])
    assert (labels[new][:, 0][~inside[new]] != skin).all()
    assert set(labels[new][:, 0][~inside[new]].unique().tolist()) == {augmenting.BACKGROUND, augmenting.BODY}
    assert (grid[..., 1][labels[:, 0] == augmenting.BODY] > 1).all()
    assert (pictures[new] - images[new]).abs().amax((1, 2, 3)).min() > 0.05


def test_textures_differ_from_one_another():
    made = augmenting.textures(many(64)[0].permute(0, 3, 1, 2).float() / 255, 32, seeded(0))
    assert made.shape == (4, 3, 32, 32)
    assert made.min() >= 0
    assert made.max() <= 1
    assert all((made[i] - made[j]).abs().mean() > 0.02 for i in range(4) for j in range(i))


@pytest.mark.parametrize("side", [64, 256])
def test_picture_and_label_move_together(side, monkeypatch):
    monkeypatch.setattr(augmenting, "surround", lambda images, marks, *rest: (images, marks))
    for name in ("_coarser", "_colours", "_patches", "_noise"):  # what spoils pictures but moves nothing
        monkeypatch.setattr(augmenting, name, lambda images, random, *how: images)
    images, marks = many(side, count=8)
    agree, moved = [], []
    for seed in range(6):
        picture, label = augmenting.augment(images, marks, 96, seeded(seed))
        seen = ((picture > 0.5).long() * torch.tensor([1, 2, 4]).view(1, 3, 1, 1)).sum(1)
        agree.append((seen == label).float().mean((1, 2)))
        small = F.interpolate(marks[:, None].float(), (96, 96))[:, 0]
        moved.append((small != label).float().mean())
    assert torch.stack(agree).min() > 0.95
    assert torch.stack(agree).mean() > 0.98
    assert min(moved) > 0.15


def test_what_spoils_a_picture_moves_nothing():
    images = many(96)[0].permute(0, 3, 1, 2).float() / 255
    for seed in range(4):
        spoilt = augmenting._coarser(images, seeded(seed), 24)
        assert spoilt.shape == images.shape
        here = (spoilt - spoilt.mean((2, 3), keepdim=True)).flatten()
        for shift in (-4, 4):  # matches in place better than displaced
            there = (images - images.mean((2, 3), keepdim=True)).roll(shift, 3).flatten()
            assert here @ (images - images.mean((2, 3), keepdim=True)).flatten() > here @ there
    flat = torch.full((64, 3, 16, 16), 0.5)
    noisy = augmenting._noise(flat, seeded(0)) - flat
    assert noisy.mean().abs() < 1e-2
    assert noisy.std() < 0.06
    assert 0.2 < (noisy.abs().amax((1, 2, 3)) > 0).float().mean() < 0.6
    clean = torch.rand(64, 3, 32, 32, generator=seeded(1))
    spoilt_share = (augmenting._patches(clean, seeded(0)) != clean).any(1).float().mean((1, 2))
    assert spoilt_share.max() < 0.19**2
    assert 0.1 < (spoilt_share > 0).float().mean() < 0.4


# The training loop


TINY = dataclasses.replace(
    Recipe(),
    sources=(Source("first", 6, 48), Source("second", 6, 32)),
    phases=(
        Phase(3, 2e-3, 5, True, (0.625, 0.375), (0.8, 1.6), 0.25, 24, False),
        Phase(1, 1e-3, 2, False, (0.5, 0.5), (0.9, 1.2), 0.5, 16, True),
    ),
    decoder_channels=(16, 16, 8, 8, 8),
    side=32,
    batch=4,
    checkpoint_every=2,
)


def pools(recipe=TINY):
    made = []
    for i, source in enumerate(recipe.sources):
        images, marks = many(source.side, 64, source.images, i)
        made.append(fit.Pool(images.numpy(), marks.numpy()))
    return made


def stopping_after(steps):
    def progress(done, total, loss):
        if done == steps:
            raise KeyboardInterrupt

    return progress


def test_a_resumed_training_is_the_same_training(tmp_path):
    straight, told = tmp_path / "straight.pt", []
    state = torch.get_rng_state()
    expected = fit.train(TINY, pools(), straight, "cpu", lambda *what: told.append(what))
    assert torch.equal(torch.get_rng_state(), state)
    assert [what[:2] for what in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(np.isfinite(loss) for _, _, loss in told)
    assert not expected.training
    stopped = tmp_path / "stopped.pt"
    with pytest.raises(KeyboardInterrupt):
        fit.train(TINY, pools(), stopped, "cpu", stopping_after(3))  # after the note of two
    assert torch.load(stopped, weights_only=True)["step"] == 2
    again = []
    resumed = fit.train(TINY, pools(), stopped, "cpu", lambda *what: again.append(what))
    assert again == told[2:]
    assert same(resumed.state_dict(), expected.state_dict())
    ends = [torch.load(path, weights_only=True) for path in (straight, stopped)]
    assert same(ends[0]["model"], ends[1]["model"])
    assert not same(ends[0]["model"], ends[0]["average"])
    # A finished training is only read.
    finished = fit.train(TINY, pools(), straight, "cpu")
    assert same(finished.state_dict(), expected.state_dict())
    for other in (dataclasses.replace(TINY, seed=1), dataclasses.replace(TINY, batch=8)):
        with pytest.raises(GanatomyError, match=r"straight\.pt is of another recipe"):
            fit.train(other, pools(), straight, "cpu")


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_every_step_draws_anew_from_both_pools(monkeypatch, tmp_path):
    seen = []

    def augment(images, marks, side, random, *how):
        seen.append((images.shape[:2], random.get_state().numpy().tobytes(), how))
        return augmenting.augment(images, marks, side, random, *how)

    monkeypatch.setattr(fit, "augment", augment)
    fit.train(TINY, pools(), tmp_path / "checkpoint.pt", "cpu")
    assert [shape for shape, _, _ in seen] == [(2, 48), (2, 32)] * 4
    assert [how for _, _, how in seen] == [((0.8, 1.6), 0.25, 24)] * 6 + [((0.9, 1.2), 0.5, 16)] * 2
    assert len({state for _, state, _ in seen}) == 8


def test_the_first_weights_follow_from_the_seed():
    state = torch.get_rng_state()
    first, again = fit.build(TINY).state_dict(), fit.build(TINY).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, again)
    assert not same(first, fit.build(dataclasses.replace(TINY, seed=1)).state_dict())


def test_overfitting_one_batch():
    model = fit.build(TINY)
    images, marks = many(32, 32)
    x = images.permute(0, 3, 1, 2).float() / 255 - 0.5
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(15):
        loss = fit.loss_of(model(x), marks.long(), torch.ones(len(CLASSES)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_loss_is_weighted_entropy_plus_dice():
    rng = np.random.default_rng(0)
    logits, marks = rng.normal(0, 2, (2, 9, 5, 7)), rng.integers(0, 4, (2, 5, 7))  # classes 4 to 8 do not occur
    weight = rng.uniform(0.5, 2, 9)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.moveaxis(np.eye(9)[marks], -1, 1)
    entropy = -(np.log((p * truth).sum(1)) * weight[marks]).sum() / weight[marks].sum()
    dice = [1 - (2 * (p[:, k] * truth[:, k]).sum() + 1) / ((p + truth)[:, k].sum() + 1) for k in range(4)]
    got = fit.loss_of(*(torch.from_numpy(v) for v in (logits, marks, weight.astype(np.float32))))
    assert float(got) == pytest.approx(entropy + np.mean(dice), rel=1e-5)
    sure = torch.from_numpy(truth * 50).float()
    assert float(fit.loss_of(sure, torch.from_numpy(marks), torch.ones(9))) < 1e-4


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 16, 33])
@pytest.mark.parametrize("parts", [(0.625, 0.375), (1.0,), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.25, 0.25)])
def test_shares_make_a_batch(batch, parts):
    counts = fit.shares(dataclasses.replace(TINY.phases[0], shares=parts), batch)
    assert sum(counts) == batch
    assert all(abs(count - share * batch) <= len(parts) / 2 for count, share in zip(counts, parts, strict=True))
    assert [fit.shares(phase, 16) for phase in Recipe().phases] == [[10, 6], [8, 8], [7, 9], [7, 9], [6, 10]]


def test_phases_follow_each_other():
    recipe = Recipe()
    assert recipe.steps == sum(phase.steps for phase in recipe.phases)
    first, second, *_, last = recipe.phases
    assert recipe.phase_of(0) == (first, 0)
    assert recipe.phase_of(first.steps - 1) == (first, first.steps - 1)
    assert recipe.phase_of(first.steps) == (second, 0)
    assert recipe.phase_of(recipe.steps - 1) == (last, last.steps - 1)
    with pytest.raises(IndexError):
        recipe.phase_of(recipe.steps)
    short = recipe.shortened(recipe.steps // 10)
    assert abs(short.steps - recipe.steps // 10) <= 1
    assert short.phases[0].cosine == first.cosine // 10


def test_the_loss_without_weights():
    logits, marks = torch.randn(1, 9, 4, 4, generator=seeded(0)), torch.randint(0, 9, (1, 4, 4), generator=seeded(1))
    assert torch.allclose(fit.loss_of(logits, marks, None), fit.loss_of(logits, marks, torch.ones(9)))


def test_what_is_no_checkpoint_is_told_in_a_line(tmp_path):
    for content in (b"", b"nothing", b"PK\x03\x04"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(GanatomyError, match=r"checkpoint\.pt is no checkpoint of this training") as caught:
            fit.train(TINY, pools(), tmp_path / "checkpoint.pt", "cpu")
        assert "\n" not in str(caught.value)


def test_the_schedule_rises_and_falls_to_nothing():
    steps = np.linspace(0, 1, 1001)
    values = np.array([fit.schedule(step) for step in steps])
    top = round(fit.WARM_UP * 1000)
    assert values.argmax() == top
    assert values[top] == pytest.approx(1)
    assert (np.diff(values[: top + 1]) > 0).all()
    assert (np.diff(values[top:]) < 0).all()
    assert 0 < values[0] < 0.05
    assert abs(values[-1]) < 1e-12
    assert fit.schedule(4999 / 5000) < 1e-6
    assert np.abs(np.diff(values)).max() < 0.03  # no jump where the two meet
    assert values[top + (1000 - top) // 2] == pytest.approx(0.5, abs=0.01)


def test_class_weights():
    rng = np.random.default_rng(0)
    first = rng.choice(9, (600, 4, 4), p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02, 0, 0]).astype(np.uint8)
    first[500:] = 8  # beyond the 500 pictures that are counted
    second = rng.integers(0, 3, (5, 8, 8)).astype(np.uint8)
    made = [fit.Pool(np.zeros((len(m), 2, 2, 3), np.uint8), m) for m in (first, second)]
    counts = np.bincount(np.concatenate([first[:500].ravel(), second.ravel()]), minlength=9)
    expected = 1 / np.sqrt(np.maximum(counts / counts.sum(), 1e-4))
    got = fit.class_weights(made)
    assert got.dtype == torch.float32
    assert np.allclose(got.numpy(), expected / expected.mean(), rtol=1e-6)


def test_a_pool_draws_pictures_with_their_labels():
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((7, 4, 4, 3), np.uint8)
    pool = fit.Pool(images, images[..., 0] + 100)
    drawn, marks = pool.draw(200, seeded(0))
    assert torch.equal(drawn[..., 0] + 100, marks)
    assert len(drawn) == 200
    assert set(drawn.unique().tolist()) == set(range(7))
    assert torch.equal(pool.draw(200, seeded(0))[0], drawn)


# Scores


class Reader(Segmenter):
    """Reads its answer out of the red channel, under names in another order than the teacher's."""

    ORDER = (8, 3, 0, 1, 2, 7, 6, 5, 4)

    def __init__(self):
        super().__init__("reader", [UNLABELLED, *(Concept(CLASSES[k]) for k in self.ORDER)], "reader")
        self.asked = []

    def segment(self, images, keys):
        self.asked.append(tuple(images.shape))
        classes = ((images[:, :1] + 1) * 127.5 / 20).round().long()
        return torch.argsort(torch.tensor(self.ORDER))[classes] + 1


def test_confusion_and_iou():
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 9, (37, 12, 12)), rng.integers(0, 9, (37, 24, 24)).astype(np.uint8)
    images = np.repeat((found * 20)[..., None], 3, -1).astype(np.uint8)
    reader = Reader()
    counts = score.confusion(reader, images, truth, 12, batch=16)
    assert reader.asked == [(16, 3, 12, 12), (16, 3, 12, 12), (5, 3, 12, 12)]
    expected = np.zeros((9, 9), int)
    np.add.at(expected, (truth[:, 1::2, 1::2], found), 1)  # label maps shrink by nearest neighbour
    assert np.array_equal(counts, expected)
    assert not np.array_equal(counts, counts.T)
    got = score.iou(counts)
    near = truth[:, 1::2, 1::2]
    for k, name in enumerate(CLASSES):
        assert got[name] == pytest.approx(iou(near == k, found == k))
    assert got["mean"] == pytest.approx(np.mean([got[CLASSES[k]] for k in (0, 2, 3, 4, 5, 6)]))
    assert set(got) == {*CLASSES, "mean"}
    perfect = score.iou(np.diag(np.arange(9)))
    assert np.isnan(perfect["background"])
    assert all(perfect[name] == 1 for name in CLASSES[1:])


def test_unlabelled_counts_as_background():
    class Nothing(Reader):
        def segment(self, images, keys):
            return torch.zeros(len(images), 1, 4, 4, dtype=torch.long)

    truth = np.arange(9, dtype=np.uint8)[:, None, None] * np.ones((9, 8, 8), np.uint8)
    counts = score.confusion(Nothing(), np.zeros((9, 8, 8, 3), np.uint8), truth, 8)
    assert np.array_equal(counts[:, 0], np.full(9, 64))
    assert not counts[:, 1:].any()


# What ships


def test_the_exported_folder_is_the_model(tmp_path):
    recipe = Recipe()
    model = fit.build(recipe)
    with torch.no_grad():
        for seed in range(8):  # running statistics of its own, which float16 would change
            model.train()(torch.randn(4, 3, 64, 64, generator=seeded(seed)))
    model.eval()
    folder = tmp_path / "deep" / "model"
    exporting.export(model, recipe, folder)
    exporting.export(model, recipe, folder)  # over itself
    assert {path.name for path in folder.iterdir()} == {"config.json", "ganatomy.json", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert all(value.dtype == torch.float32 for value in model.parameters())
    segmenter = segmodels.load(str(folder))
    assert [concept.name for concept in segmenter.concepts] == ["unlabelled", *CLASSES]
    categories = {concept.name: concept.category for concept in segmenter.concepts[1:]}
    assert categories == dict.fromkeys(CLASSES, "face") | {"background": "scene", "body": "person"}
    assert segmenter.sidecar.input_size == (recipe.side, recipe.side)
    pixels = torch.rand(2, 3, recipe.side, recipe.side, generator=seeded(2))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (fit.MEAN, fit.STD))
    with torch.no_grad():
        before = model((pixels - mean) / std).softmax(1)
        for value in model.parameters():
            value.copy_(value.half())
        rounded = model((pixels - mean) / std).softmax(1)
    found = segmenter.probabilities(pixels * 2 - 1)
    assert before.std() > 0.02  # or anything would agree
    assert not found[:, 0].any()
    assert (found[:, 1:] - rounded).abs().max() < 1e-5
    assert 1e-5 < (found[:, 1:] - before).abs().max() < 0.01
    assert torch.equal(segmenter(pixels * 2 - 1)[:, 0].long(), found.argmax(1))


# The command


def test_help():
    done = subprocess.run([sys.executable, "-m", "segmodels.faces.train", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--accept-licence" in done.stdout


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(GanatomyError("no such folder"), 2, "no such folder"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_errors_are_one_line(error, status, words, monkeypatch, caplog):
    def fails(arguments):
        assert (arguments.seed, arguments.steps, arguments.batch) == (5, Recipe().steps, Recipe().batch)
        raise error

    monkeypatch.setattr(command, "run", fails)
    monkeypatch.setattr(sys, "argv", ["train", "--seed", "5"])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == status
    assert len(caplog.messages) == 1
    assert words in caplog.messages[0]
    assert "\n" not in caplog.messages[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--batch", "1"], "a batch of at least 4"), (["--batch", "-1"], "a batch of at least 4"),
     (["--steps", "0"], "at least 5 steps"), (["--steps", "4"], "at least 5 steps"),
     (["--seed", "-1"], "a seed from 0"), (["--seed", str(2**70)], "a seed from 0")],
)  # fmt: skip
def test_numbers_that_cannot_be_trained_with(options, words, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(sys, "argv", ["train", "--out", str(tmp_path / "x"), *options])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert words in caplog.messages[0]
    assert not (tmp_path / "x").exists()


def test_without_litert_nothing_is_begun(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setattr(sys, "argv", ["train", "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "LiteRT, which is not installed" in caplog.messages[0]
    assert not (tmp_path / "x").exists()


def test_labels_of_other_rules_are_refused(pretended, monkeypatch, tmp_path):
    coloured(tmp_path / "pictures", {0: 90})
    labelling.label_folder(tmp_path / "pictures", range(1), tmp_path / "labels")
    monkeypatch.setattr(labelling, "RULES", labelling.RULES + 1)
    with pytest.raises(GanatomyError, match="other rules"):
        labelling.label_folder(tmp_path / "pictures", range(1), tmp_path / "labels")


def test_drawing_calls_the_command_line(monkeypatch, tmp_path):
    noted = tmp_path / "words.json"
    script = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w')); sys.exit('planted:0' not in sys.argv)"
    monkeypatch.setattr(pictures, "GANATOMY", (sys.executable, "-c", script, str(noted)))
    folder = tmp_path / "images"
    pictures.draw("planted:0", range(5, 9), 48, folder, "cpu", True)
    words = json.loads(noted.read_text())
    assert "--accept-licence" in words
    assert cli.run(words) == 0
    assert pictures.read(folder, range(5, 9)).shape == (4, 48, 48, 3)
    assert len(list(folder.glob("*.png"))) == 4
    with pytest.raises(GanatomyError, match="images of other ended with status 1"):
        pictures.draw("other", range(2), 48, folder, "cpu", False)
    assert "--accept-licence" not in json.loads(noted.read_text())


def test_only_pictures_of_a_face_are_used(pretended, tmp_path, caplog):
    source = TINY.sources[0]
    coloured(tmp_path / "pictures" / source.generator, {0: 250, 1: 100, 2: 240}, source.side)
    with caplog.at_level(logging.INFO):
        pool = command.pool(source, range(3), tmp_path, 0.9)
    assert pool.pictures[:, 0, 0, 0].tolist() == [250, 240]
    assert pool.labels.shape == (2, SIDE, SIDE)
    assert pool.labels[:, 0, 0].tolist() == [250 % 9, 240 % 9]
    assert "2 of 3 pictures show a face" in caplog.text
    with pytest.raises(GanatomyError, match=r"first: .* no face in seeds 1:2"):
        command.pool(source, range(1, 2), tmp_path, 0.9)


def test_the_whole_way(pretended, monkeypatch, tmp_path):
    drawn = []

    def draw(generator, seeds, side, folder, device, accept):
        drawn.append((generator, seeds))
        rng = np.random.default_rng(seeds.start)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            picture = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(picture).save(pictures.path_of(folder, seed))

    monkeypatch.setattr(command, "draw", draw)
    monkeypatch.setattr(command, "check", lambda: None)
    monkeypatch.setattr(command, "HELD_OUT", range(1_000_000, 1_000_002))
    monkeypatch.setattr(command, "Recipe", lambda: dataclasses.replace(TINY, least_confidence=0.0))
    arguments = command.parse(["--out", str(tmp_path), "--device", "cpu", "--steps", "2"])
    scores = command.run(arguments)
    assert drawn == [(s.generator, seeds) for s in TINY.sources for seeds in (range(6), command.HELD_OUT)]
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    assert set(scores) == {"first", "second"}
    assert all(0 <= value <= 1 for score_ in scores.values() for value in score_.values())
    assert segmodels.load(str(tmp_path / "model")).sidecar.input_size == (32, 32)
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    asked = len(pretended)
    assert asked == 2 * (6 + 2)
    assert command.run(arguments) == scores
    assert len(pretended) == asked
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
