"""Soft labels: they agree with the hard ones, have gradients where asked, and are refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

import dissect
import segmodels
from dissect.generators.planted_truth import CONCEPTS
from segmodels import Concept, GanatomyError, Segmenter
from segmodels.base import UNLABELLED, Planes, resize_labels
from segmodels.colors import lab_of
from segmodels.custom import Custom
from segmodels.planted import BASE, CODES, COLOUR_BITS, FULL, STEP

pytestmark = pytest.mark.usefixtures("one_thread")


def hard(segmenter, soft):
    """Labels [N, K, h, w] of soft ones, plane by plane; 0 where a plane's own rest is the likeliest."""
    planes = []
    for plane in range(segmenter.planes):
        index = [i for i, c in enumerate(segmenter.concepts) if i and c.plane == plane]
        own = soft[:, index]
        rest = soft[:, :1] if plane == 0 else 1 - own.sum(1, keepdim=True)
        planes.append(torch.tensor([0, *index])[torch.cat([rest, own], 1).argmax(1)])
    return torch.stack(planes, 1).to(torch.int16)


def drawn(seed, layer="layer2", ablated=()):
    G = dissect.load(f"planted:{seed}")
    return G(G.sample(range(40)), dissect.ablate(layer, list(ablated)))


@pytest.mark.parametrize("seed", range(4))
def test_planted_agree_with_labels(seed):
    S = segmodels.load("planted")
    kinds = dissect.load(f"planted:{seed}").truth.kind["layer2"]
    halved = [u for u, kind in kinds.items() if kind in ("painting", "inhibitory")][::2]  # half-painted concepts too
    for ablated in ((), halved):
        images = drawn(seed, ablated=ablated)
        labels, soft = S(images), S.probabilities(images)
        assert soft.dtype == torch.float32
        assert soft.shape == (40, len(CONCEPTS), 64, 64)
        assert soft.min() >= 0
        assert torch.allclose(soft[:, :7].sum(1), torch.ones(40, 64, 64), atol=1e-6)
        assert (soft[:, 7:].sum(1) <= 1 + 1e-6).all()
        assert torch.equal(hard(S, soft), labels)
        assert len(labels.unique()) > 4


def test_planted_say_how_far_a_colour_is_from_a_code():
    """The weights by hand: a shape's code c in all channels, less by d steps."""
    S = segmodels.load("planted")
    for off in (0.0, 0.25, 0.5, 1.0):
        steps = CODES[2] - off
        soft = S.probabilities(torch.full((1, 3, 1, 1), BASE + steps * STEP))[0, :, 0, 0]
        weights = np.array([1 / (1 + 3 * (steps - code) ** 2 / 0.25**2) for code in CODES])
        np.testing.assert_allclose(soft[1:7], weights / (0.25 + weights.sum()), rtol=1e-4)
    chances = []
    for off in np.linspace(0, 30, 40):  # the further from red, the less likely
        red = torch.tensor([bit * (FULL - off) + 5 for bit in COLOUR_BITS[0]])[None, :, None, None] * STEP + BASE
        chances.append(float(S.probabilities(red.float())[0, 7]))
    assert (np.diff(chances) < 0).all()
    assert chances[0] > 0.75
    assert chances[-1] < 0.1


def test_colors_agree_with_the_table():
    S = segmodels.load("colors")
    state = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 64, (2, 3, 128, 128), generator=state)
    images = levels / 63 * 2 - 1
    soft = S.probabilities(images)
    labels = S(images)
    assert soft.shape == (2, 17, 128, 128)
    assert soft[:, 0].max() == 0
    assert torch.allclose(soft[:, 1:12].sum(1), torch.ones(2, 128, 128), atol=1e-5)
    assert torch.allclose(soft[:, 12:].sum(1), torch.ones(2, 128, 128), atol=1e-5)
    assert (hard(S, soft) != labels).float().mean() < 1e-4  # all but colours that lie between two names
    large = torch.rand(1, 3, 300, 200, generator=state) * 2 - 1
    assert S.probabilities(large).shape[2:] == S(large).shape[2:]


def test_lab_is_the_usual_one():
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pixels[0, :, :4] = torch.tensor([0.0, 0.01, 1.0])[:, None, None]
    expected = rgb2lab(pixels.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(lab_of(pixels).permute(0, 2, 3, 1), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["planted", "colors", "face-parts", "planted+colors"])
def test_gradients_are_those_of_finite_differences(name):
    S = segmodels.load(name)
    state = torch.Generator().manual_seed(3)
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4, generator=state) * 1.2 - 0.6, (32, 32))
    concept = 2

    def total(x):
        return S.probabilities(x)[:, concept].double().sum()

    asked = images.clone().requires_grad_()
    value = total(asked)
    value.backward()
    assert torch.isfinite(asked.grad).all()
    step = 1e-3 * asked.grad / asked.grad.norm()
    expected = float((asked.grad * step).sum())
    assert expected > 1e-6
    measured = float(total(images + step / 2) - total(images - step / 2))
    assert measured == pytest.approx(expected, rel=0.05)
    with torch.no_grad():
        assert not S.probabilities(asked).requires_grad
    assert not S.probabilities(images).requires_grad
    assert not S(asked).requires_grad


def test_black_and_white_have_gradients_without_nan():
    S = segmodels.load("colors")
    images = torch.tensor([-1.0, 1.0])[:, None, None, None].repeat(1, 3, 4, 4).requires_grad_()
    S.probabilities(images)[:, 1].sum().backward()
    assert torch.isfinite(images.grad).all()


def test_face_parts_with_gradients_look_once(digiface):
    S = segmodels.load("face-parts")
    images = digiface(digiface.sample(range(4)))
    once = S.probabilities(images.requires_grad_()).detach()
    torch.testing.assert_close(once, S.probabilities(images.detach()))  # these faces fill the picture


class Soft:
    """A user's own segmenter: rows of the picture, one plane, and what it says of them."""

    concepts = ("unlabelled", "top", "bottom")

    def __init__(self, made=None, size=8):
        self.made, self.size = made, size

    def __call__(self, images):
        return self.probabilities(images).argmax(1)

    def probabilities(self, images):
        if self.made is not None:
            return self.made
        soft = torch.zeros(len(images), 3, self.size, self.size)
        soft[:, 1, : self.size // 2] = soft[:, 2, self.size // 2 :] = 0.75
        soft[:, 0] = 0.25
        return soft


def test_planes_put_their_parts_side_by_side():
    parts = [Custom(Soft(size=4), "four"), segmodels.load("planted"), Custom(Soft(size=8), "eight")]
    both = Planes(parts)
    images = drawn(1)[:2, :, ::4, ::4]
    soft = both.probabilities(images)
    assert soft.shape == (2, len(both.concepts), 16, 16)
    maps = [resize_labels(part.probabilities(images), 16, 16) for part in parts]
    assert torch.equal(soft[:, :3], maps[0])
    assert torch.equal(soft[:, 3:15], maps[1][:, 1:])
    assert torch.equal(soft[:, 15:], maps[2][:, 1:])
    assert torch.equal(hard(both, soft), both(images))


class OnlyLabels(Segmenter):
    def __init__(self):
        super().__init__("plain", [UNLABELLED, Concept("a")], "00")

    def segment(self, images, keys):
        return torch.zeros(len(images), 1, 4, 4, dtype=torch.long)


def masks(folder):
    (folder / "concepts.json").write_text('["a"]')
    from PIL import Image

    Image.new("L", (4, 4)).save(folder / "1.png")
    return segmodels.load(f"masks:{folder}")


def test_who_has_none_says_who_does(tmp_path):
    without = Soft()
    without.probabilities = None
    blind = [OnlyLabels(), masks(tmp_path), Custom(without, "own"), Planes([segmodels.load("planted"), OnlyLabels()])]
    for segmenter in blind:
        with pytest.raises(GanatomyError, match=r"no probabilities; those that have: face-parts, colors") as caught:
            segmenter.probabilities(torch.zeros(1, 3, 8, 8))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made", [torch.zeros(1, 3, 8), torch.zeros(2, 3, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8).long(), 7]
)
def test_wrong_probabilities_are_refused(made):
    with pytest.raises(GanatomyError, match=r"expected probabilities, numbers \[1, 3, h, w\]"):
        Custom(Soft(made), "own").probabilities(torch.zeros(1, 3, 8, 8))


def test_arrays_will_do_and_failures_are_one_line():
    made = np.full((1, 3, 8, 8), 1 / 3)
    soft = Custom(Soft(made), "own").probabilities(torch.zeros(1, 3, 8, 8))
    assert isinstance(soft, Tensor)
    assert soft.dtype == torch.float32
    broken = Soft()
    broken.probabilities = lambda images: 1 / 0
    with pytest.raises(GanatomyError, match="'own' failed: ZeroDivisionError"):
        Custom(broken, "own").probabilities(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("name", ["planted", "colors", "face-parts"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8)])
def test_what_is_no_picture_is_refused(name, shape):
    with pytest.raises(GanatomyError, match=r"expected images \[N, 3, H, W\]"):
        segmodels.load(name).probabilities(torch.zeros(shape))
