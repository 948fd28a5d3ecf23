"""How ``face-parts`` looks again: frames, faces in label maps, and what belongs to one person."""

import numpy as np
import pytest
import torch

from segmodels import Concept
from segmodels.base import resize_images
from segmodels.faces.face import Roles, best_face, fills
from segmodels.faces.frame import Frame
from segmodels.faces.person import one_person, without_face
from segmodels.faces.train.labels import CLASSES

ROLES = Roles.of([Concept("unlabelled"), *map(Concept, CLASSES)])
BACKGROUND, HAIR, SKIN, BROWS, EYES, NOSE, LIPS, MOUTH, BODY = range(1, 10)

FRAMES = [
    (Frame(64, 64, 128), (128, 128)),  # the whole picture
    (Frame(50, 40, 30), (128, 128)),
    (Frame(50.3, 40.7, 30.9), (128, 128)),
    (Frame(10, 5, 60), (128, 128)),  # over two edges
    (Frame(100, 200, 90), (300, 170)),  # a picture that is no square, over an edge
    (Frame(60, 20, 500), (40, 120)),  # all of the picture, and much more
    (Frame(3, 3, 4), (6, 6)),  # a pixel of the look is a fraction of the picture's
]


def drawn(x, y, side, size=128, without=()):
    """Labels [size, size] of a face in a frame with this middle, drawn with the proportions of a real one."""
    labels = np.full((size, size), BACKGROUND)
    rows, columns = np.mgrid[:size, :size] + 0.5
    u, v = (columns - x) / side, (rows - y) / side

    def ellipse(cx, cy, rx, ry):
        return ((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2 < 1

    labels[(abs(u) < 0.35) & (v > 0.4)] = BODY
    labels[ellipse(0, 0, 0.42, 0.46)] = HAIR
    labels[ellipse(0, 0.1, 0.27, 0.36)] = SKIN
    labels[ellipse(0, 0.075, 0.05, 0.12)] = NOSE
    labels[ellipse(-0.125, -0.028, 0.045, 0.02) | ellipse(0.125, -0.028, 0.045, 0.02)] = EYES
    labels[ellipse(-0.125, -0.1, 0.07, 0.018) | ellipse(0.125, -0.1, 0.07, 0.018)] = BROWS
    labels[ellipse(0, 0.243, 0.1, 0.04)] = LIPS
    labels[ellipse(0, 0.243, 0.06, 0.015)] = MOUTH
    labels[np.isin(labels, without)] = SKIN
    return labels


def one_hot(labels):
    return torch.nn.functional.one_hot(torch.as_tensor(labels), 10).permute(2, 0, 1).float()


@pytest.mark.parametrize(("frame", "size"), FRAMES)
def test_a_cut_knows_where_it_is_from(frame, size):
    """A picture whose channels are x and y says it itself, up to the half pixel by which edges are rounded."""
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    picture = torch.stack([columns, rows, torch.zeros(size)])[None].float()
    cut = frame.cut(picture, 128)
    assert cut.pixels.shape == (1, 3, 128, 128)
    places = torch.arange(128) + 0.5
    for channel, span, length in ((0, cut.across, width), (1, cut.down, height)):
        seen = cut.pixels[0, channel].mean(channel)  # along its own axis
        where = torch.tensor([span.position(float(place)) for place in places])
        expected = where.clamp(0.5, length - 0.5)
        inside = (where > span.first + 1) & (where < span.stop - 1)
        step = max(1.0, cut.step)
        assert torch.allclose(seen[inside], expected[inside], atol=0.51 * step)
        assert torch.allclose(seen, expected, atol=1.01 * step + 0.5)
    middle = cut.frame(64, 64, 128)
    assert middle.side == pytest.approx(frame.side)
    assert middle.x == pytest.approx(frame.x, abs=0.5 + cut.step)
    assert middle.y == pytest.approx(frame.y, abs=0.5 + cut.step)


@pytest.mark.parametrize(("frame", "size"), FRAMES)
def test_painting_keeps_probabilities(frame, size):
    random = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, *size)
    seen = torch.rand(10, 128, 128, generator=random).softmax(0)
    before = torch.rand(10, 32, 48, generator=random).softmax(0)
    after = frame.cut(picture, 128).paint(seen, before)
    assert after.shape == before.shape
    assert after.min() >= 0
    assert torch.allclose(after.sum(0), torch.ones(32, 48), atol=1e-5)


def test_painting_the_whole_picture_is_the_look_itself():
    seen = torch.rand(4, 128, 128)
    cut = Frame(100, 100, 200).cut(torch.zeros(1, 3, 200, 200), 128)
    assert torch.allclose(cut.paint(seen, torch.full((4, 128, 128), 9.0)), seen, atol=1e-5)
    halved = torch.nn.functional.avg_pool2d(seen, 2)  # areas are averaged
    assert torch.allclose(cut.paint(seen, torch.zeros(4, 64, 64)), halved, atol=1e-5)


def test_painting_a_piece_leaves_the_rest():
    """A look at the middle quarter: its inside is averaged over areas, beyond it nothing changes."""
    seen, before = torch.rand(4, 128, 128), torch.rand(4, 64, 64)
    after = Frame(64, 64, 64).cut(torch.zeros(1, 3, 128, 128), 128).paint(seen, before)
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[16:48, 16:48] = False
    assert torch.equal(after[:, outside], before[:, outside])
    assert torch.allclose(after[:, 20:44, 20:44], torch.nn.functional.avg_pool2d(seen, 4)[:, 4:28, 4:28], atol=1e-5)


@pytest.mark.parametrize("side", [30, 60, 128])
@pytest.mark.parametrize(("x", "y"), [(64, 64), (50, 70), (90, 45)])
def test_a_face_is_found_in_its_frame(x, y, side):
    face = best_face(drawn(x, y, side), ROLES)
    assert face is not None
    assert (face.x, face.y) == (pytest.approx(x, abs=0.03 * side), pytest.approx(y, abs=0.03 * side))
    assert face.side == pytest.approx(side, rel=0.08)
    assert face.likeness > 0.8


def test_what_is_no_face():
    for without in ([EYES], [NOSE], [LIPS, MOUTH]):
        assert best_face(drawn(64, 64, 80, without=without), ROLES) is None
    assert best_face(np.full((128, 128), SKIN), ROLES) is None
    assert best_face(drawn(64, 64, 80)[::-1], ROLES) is None  # upside down
    crumbs = np.full((128, 128), BACKGROUND)
    crumbs[40:42, 40:44], crumbs[50:58, 60:68], crumbs[70:72, 64:66] = EYES, NOSE, LIPS
    face = best_face(crumbs, ROLES)
    assert face is None or face.likeness < 0.1  # nothing of a face is round it


def test_of_two_faces_the_better():
    both = drawn(35, 64, 60)
    other = drawn(95, 64, 60, without=[BROWS])
    other[(other == EYES) & (np.arange(128) > 95)] = SKIN  # one eye
    both[:, 64:] = other[:, 64:]
    assert best_face(both, ROLES).x == pytest.approx(35, abs=3)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (drawn(64, 64, 128), True),
        (drawn(60, 70, 160), True),
        (drawn(64, 64, 100), True),
        (drawn(64, 64, 85), False),
        (drawn(40, 40, 40), False),
        (drawn(64, 64, 128, without=[EYES]), False),
        (drawn(64, 64, 128, without=[NOSE]), False),
        (drawn(64, 64, 128, without=[LIPS, MOUTH]), False),
        (drawn(64, 64, 128)[::-1].copy(), False),
        (drawn(64, 64, 128).T.copy(), False),
        (np.full((128, 128), BACKGROUND), False),
        (np.random.RandomState(0).randint(1, 10, (128, 128)), False),
    ],
)
def test_whether_a_face_fills_the_picture(labels, expected):
    batch = torch.tensor(np.stack([labels, drawn(64, 64, 128)]), dtype=torch.int16)
    assert fills(batch, ROLES).tolist() == [expected, True]


def test_other_skin_is_the_bodys():
    seen = torch.rand(10, 8, 8).softmax(0)
    rest = without_face(seen, ROLES)
    assert torch.equal(rest[list(ROLES.face)], torch.zeros(6, 8, 8))
    assert torch.equal(rest[[BACKGROUND, HAIR]], seen[[BACKGROUND, HAIR]])
    assert torch.allclose(rest.sum(0), torch.ones(8, 8))


def test_one_person_is_of_one_piece():
    labels = drawn(50, 50, 60)
    labels[5:12, 100:110] = HAIR  # a flag
    labels[60:66, 110:116] = SKIN  # another's ear
    labels[110:120, 2:8] = BODY  # another's arm
    labels[100:104, 48:52] = HAIR  # a button
    labels[90:94, 40:44] = BACKGROUND  # a gap
    seen = 0.9 * one_hot(labels) + 0.01
    seen[BODY, 90:104, 40:52] += 0.02  # the second guess there
    seen[BODY, 5:12, 100:110] += 0.02  # and of the flag, which then is a body of its own, and so background
    seen /= seen.sum(0)
    after = one_person(seen, ROLES, 60)
    assert torch.allclose(after.sum(0), torch.ones(128, 128))
    found = after.argmax(0).numpy()
    assert (found == drawn(50, 50, 60)).all()
    untouched = torch.from_numpy(labels == drawn(50, 50, 60))
    assert torch.equal(after[:, untouched], seen[:, untouched])


def test_a_large_gap_in_a_person_is_one():
    labels = drawn(50, 50, 60)
    labels[85:110, 35:60] = BACKGROUND  # 625 pixels, of 3600 in the frame
    assert torch.equal(one_person(one_hot(labels), ROLES, 60), one_hot(labels))


def test_a_map_without_a_face_stays():
    seen = one_hot(np.full((16, 16), HAIR))
    assert torch.equal(one_person(seen, ROLES, 8), seen)


def test_a_picture_resized_is_cut_the_same():
    picture = torch.rand(1, 3, 64, 64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    whole = Frame(64, 64, 128).cut(picture, 128).pixels
    assert torch.equal(whole, resize_images(picture, 128, 128))
