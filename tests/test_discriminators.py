"""Discriminators against a definition of their own in float64, and against what their makers say of their size."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dissect
from dissect import GanatomyError
from dissect.generators.checkpoint import Checkpoint, StoredNetwork
from dissect.generators.discriminators import opening
from dissect.generators.discriminators.stylegan2 import build

CPU = torch.device("cpu")
CLAMP = 0.4  # small, so that it clamps
WIDTHS = {16: 5, 8: 6, 4: 7}
HIDDEN = 9
FILTER = torch.tensor([[1.0, 3, 3, 1], [3, 9, 9, 3], [3, 9, 9, 3], [1, 3, 3, 1]]) / 64  # as files have it
BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def residual_tensors(classes=0, deviations=1, seed=0):
    """Tensors under NVIDIA's names, of an image of 16 x 16."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    found = {"b16.fromrgb.weight": draw(WIDTHS[16], 3, 1, 1), "b16.fromrgb.bias": draw(WIDTHS[16])}
    for size in (16, 8):
        into, out = WIDTHS[size], WIDTHS[size // 2]
        found |= {
            f"b{size}.conv0.weight": draw(into, into, 3, 3), f"b{size}.conv0.bias": draw(into),
            f"b{size}.conv1.weight": draw(out, into, 3, 3), f"b{size}.conv1.bias": draw(out),
            f"b{size}.skip.weight": draw(out, into, 1, 1), f"b{size}.conv1.resample_filter": FILTER,
        }  # fmt: skip
    last = 4 if classes else 1
    found |= {
        "b4.conv.weight": draw(7, 7 + deviations, 3, 3), "b4.conv.bias": draw(7),
        "b4.fc.weight": draw(HIDDEN, 7 * 16), "b4.fc.bias": draw(HIDDEN),
        "b4.out.weight": draw(last, HIDDEN), "b4.out.bias": draw(last),
    }  # fmt: skip
    if classes:
        found |= {"mapping.embed.weight": draw(8, classes), "mapping.embed.bias": draw(8)}
        found |= {"mapping.fc0.weight": draw(4, 8), "mapping.fc0.bias": draw(4)}
        found |= {"mapping.fc1.weight": draw(4, 4), "mapping.fc1.bias": draw(4)}
    return found


# -- the definition: loops over taps, in float64 -------------------------------------------------------------------


def convolved(x, weight, pad, stride=1):
    """Correlate x [N, I, H, W] with weight [O, I, k, k] / sqrt(fan-in), tap by tap."""
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[-1] - k) // stride + 1
    out = np.zeros((len(x), len(weight), size, size))
    for row in range(k):
        for column in range(k):
            part = x[
                :, :, row : row + stride * (size - 1) + 1 : stride, column : column + stride * (size - 1) + 1 : stride
            ]
            out += np.einsum("nihw,oi->nohw", part, weight[:, :, row, column])
    return out / math.sqrt(weight[0].size)


def blurred(x, pad):
    taps = np.array([1, 3, 3, 1]) / 8
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = sum(t * x[:, :, i : x.shape[2] - 3 + i] for i, t in enumerate(taps))
    return sum(t * rows[..., i : x.shape[3] - 3 + i] for i, t in enumerate(taps))


def lrelu(x, bias, clamp, gain=1.0):
    x = x + (bias[:, None, None] if x.ndim == 4 else bias)
    return np.clip(np.where(x > 0, x, 0.2 * x) * math.sqrt(2) * gain, -clamp * gain, clamp * gain)


def residual(t, images, group, classes=None, clamp=math.inf):
    """Score images in groups, by the papers."""
    t = {key: value.double().numpy() for key, value in t.items()}
    scores = []
    for start in range(0, len(images), group):
        x = images[start : start + group]
        x = lrelu(convolved(x, t["b16.fromrgb.weight"], 0), t["b16.fromrgb.bias"], clamp)
        for size in (16, 8):
            half = math.sqrt(0.5)
            beside = convolved(blurred(x, 1)[:, :, ::2, ::2], t[f"b{size}.skip.weight"], 0) * half
            beside = np.clip(beside, -clamp * half, clamp * half)
            x = lrelu(convolved(x, t[f"b{size}.conv0.weight"], 1), t[f"b{size}.conv0.bias"], clamp)
            x = convolved(blurred(x, 2), t[f"b{size}.conv1.weight"], 0, 2)
            x = beside + lrelu(x, t[f"b{size}.conv1.bias"], clamp, half)
        many = t["b4.conv.weight"].shape[1] - x.shape[1]
        spread = np.sqrt(x.var(0) + 1e-8).reshape(many, -1).mean(1) if many else np.zeros(0)
        x = np.concatenate([x, np.tile(spread[None, :, None, None], (len(x), 1, 4, 4))], 1)
        x = lrelu(convolved(x, t["b4.conv.weight"], 1), t["b4.conv.bias"], clamp)
        x = x.reshape(len(x), -1) @ t["b4.fc.weight"].T / math.sqrt(t["b4.fc.weight"].shape[1])
        x = lrelu(x, t["b4.fc.bias"], math.inf)
        x = x @ t["b4.out.weight"].T / math.sqrt(HIDDEN) + t["b4.out.bias"]
        if classes is not None:
            y = t["mapping.embed.weight"].T[classes[start : start + group]]
            y = y / math.sqrt(t["mapping.embed.weight"].shape[1]) + t["mapping.embed.bias"]
            y = y / np.sqrt((y**2).mean(1, keepdims=True) + 1e-8)
            for layer in ("fc0", "fc1"):
                weight = t[f"mapping.{layer}.weight"]
                y = lrelu(
                    y @ weight.T * (0.01 / math.sqrt(weight.shape[1])), t[f"mapping.{layer}.bias"] * 0.01, math.inf
                )
            x = (x * y).sum(1, keepdims=True) / math.sqrt(y.shape[1])
        scores.append(x[:, 0])
    return np.concatenate(scores)


def images_of(count, side=16, seed=1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("deviations", [1, 0])
@pytest.mark.parametrize("classes", [0, 5])
def test_the_residual_one_is_its_definition(classes, deviations):
    tensors = residual_tensors(classes, deviations)
    found = dissect.load_discriminator(tensors, group=3)
    assert (found.family, found.flavour, found.resolution) == ("stylegan2", "nvlabs", 16)
    assert found.num_classes == (classes or None)
    assert found.group == (3 if deviations else 1)
    images = images_of(7)  # the last group has one
    chosen = torch.arange(7) % classes if classes else None
    expected = residual(tensors, images.double().numpy(), found.group, None if chosen is None else chosen.numpy())
    scores = found(images, chosen)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0.01 * np.abs(expected).max()


def test_what_is_clamped_is_clamped_where_the_paper_does():
    tensors = residual_tensors()
    network = build({key: value for key, value in tensors.items() if "filter" not in key}, CLAMP)
    images = images_of(4)
    expected = residual(tensors, images.double().numpy(), 4, clamp=CLAMP)
    free = residual(tensors, images.double().numpy(), 4)
    assert np.abs(expected - free).max() > 0.01
    with torch.no_grad():
        np.testing.assert_allclose(network(images, None).numpy(), expected, rtol=0, atol=2e-5)


def rosinality(tensors):
    """The same network under rosinality's names."""
    found = {"convs.0.0.weight": tensors["b16.fromrgb.weight"], "convs.0.1.bias": tensors["b16.fromrgb.bias"]}
    for number, size in ((1, 16), (2, 8)):
        found |= {
            f"convs.{number}.conv1.0.weight": tensors[f"b{size}.conv0.weight"],
            f"convs.{number}.conv1.1.bias": tensors[f"b{size}.conv0.bias"],
            f"convs.{number}.conv2.0.kernel": FILTER,
            f"convs.{number}.conv2.1.weight": tensors[f"b{size}.conv1.weight"],
            f"convs.{number}.conv2.2.bias": tensors[f"b{size}.conv1.bias"],
            f"convs.{number}.skip.0.kernel": FILTER,
            f"convs.{number}.skip.1.weight": tensors[f"b{size}.skip.weight"],
        }  # fmt: skip
    ends = {
        "final_conv.0.weight": "conv.weight", "final_conv.1.bias": "conv.bias", "final_linear.0.weight": "fc.weight",
        "final_linear.0.bias": "fc.bias", "final_linear.1.weight": "out.weight", "final_linear.1.bias": "out.bias",
    }  # fmt: skip
    return found | {new: tensors[f"b4.{old}"] for new, old in ends.items()}


def test_both_layouts_are_one_network(tmp_path):
    tensors = residual_tensors()
    generator = {"style.1.weight": torch.zeros(2, 2)}
    torch.save({"g_ema": generator, "d": rosinality(tensors), "args": {}}, tmp_path / "net.pt")
    ours, theirs = dissect.load_discriminator(tensors), dissect.load_discriminator(tmp_path / "net.pt")
    assert (theirs.flavour, theirs.where, theirs.group) == ("rosinality", "d", 4)
    assert torch.equal(ours(images_of(5)), theirs(images_of(5)))
    assert ours.fingerprint == theirs.fingerprint
    assert ours.fingerprint != dissect.load_discriminator(residual_tensors(seed=1)).fingerprint


@pytest.mark.parametrize(("recorded", "group"), [({"epilogue_kwargs": {"mbstd_group_size": None}}, None), ({}, 4)])
def test_a_group_of_all_is_all_the_images_of_a_call(recorded, group):
    tensors = residual_tensors()
    network = StoredNetwork("D", "", tensors, None, recorded, {})
    learnt = {key: value for key, value in tensors.items() if "filter" not in key}
    found = opening._residual(network, learnt, "nvlabs", "D", torch.device("cpu"), None)
    images = images_of(6)
    expected = residual(tensors, images.double().numpy(), group or 6)
    assert found.group == group
    np.testing.assert_allclose(found(images).numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert found(images[:0]).shape == (0,)


def test_an_image_of_its_own_group_is_scored_as_alone_and_one_of_a_batch_in_its_order():
    found = dissect.load_discriminator(residual_tensors(), group=2)
    images = images_of(4)
    assert torch.equal(found(images), torch.cat([found(images[:2]), found(images[2:])]))
    alone = dissect.load_discriminator(residual_tensors(), group=1)
    assert torch.equal(alone(images)[[2]], alone(images[2:3]))


def test_the_size_of_the_published_one():
    """FFHQ at 1024 x 1024, configuration F: 29,012,513 values, as its training log has it."""
    widths = {size: min(512, 32768 // size) for size in (1024, 512, 256, 128, 64, 32, 16, 8, 4)}
    shapes = {"b1024.fromrgb.weight": (widths[1024], 3, 1, 1), "b1024.fromrgb.bias": (widths[1024],)}
    for size in list(widths)[:-1]:
        into, out = widths[size], widths[size // 2]
        shapes |= {
            f"b{size}.conv0.weight": (into, into, 3, 3), f"b{size}.conv0.bias": (into,),
            f"b{size}.conv1.weight": (out, into, 3, 3), f"b{size}.conv1.bias": (out,),
            f"b{size}.skip.weight": (out, into, 1, 1),
        }  # fmt: skip
    shapes |= {
        "b4.conv.weight": (512, 513, 3, 3), "b4.conv.bias": (512,), "b4.fc.weight": (512, 8192), "b4.fc.bias": (512,),
        "b4.out.weight": (1, 512), "b4.out.bias": (1,),
    }  # fmt: skip
    found = dissect.load_discriminator({key: torch.zeros(shape) for key, shape in shapes.items()})
    assert found.parameters == 29_012_513
    assert found.resolution == 1024


def strided_tensors(bias=False, seed=0):
    random = torch.Generator().manual_seed(seed)
    found, widths = {}, [3, 4, 6, 8, 1]
    numbers = [0, 2, 5, 8]  # each but the first and the last with a norm after it
    for place, number in enumerate(numbers):
        found[f"main.{number}.weight"] = torch.randn(widths[place + 1], widths[place], 4, 4, generator=random) * 0.2
        if bias:
            found[f"main.{number}.bias"] = torch.randn(widths[place + 1], generator=random)
        if 0 < place < len(numbers) - 1:
            for name in ("weight", "bias", "running_mean"):
                found[f"main.{number + 1}.{name}"] = torch.randn(widths[place + 1], generator=random)
            found[f"main.{number + 1}.running_var"] = torch.rand(widths[place + 1], generator=random) + 0.5
            found[f"main.{number + 1}.num_batches_tracked"] = torch.tensor(3)
    return found


@pytest.mark.parametrize("bias", [False, True])
def test_the_chain_of_dcgan_is_its_definition(bias, tmp_path):
    tensors = strided_tensors(bias)
    torch.save(tensors, tmp_path / "netD.pth")
    found = dissect.load_discriminator(tmp_path / "netD.pth")
    assert (found.family, found.flavour, found.resolution, found.group) == ("dcgan", "main", 32, 1)
    images = images_of(3, 32)
    x = images.double()
    t = {key: value.double() for key, value in tensors.items()}
    for place, number in enumerate((0, 2, 5, 8)):
        last = number == 8
        x = F.conv2d(x, t[f"main.{number}.weight"], t.get(f"main.{number}.bias"), 1 if last else 2, 0 if last else 1)
        if 0 < place < 3:
            n = f"main.{number + 1}"
            x = (x - t[f"{n}.running_mean"][:, None, None]) / (t[f"{n}.running_var"][:, None, None] + 1e-5).sqrt()
            x = x * t[f"{n}.weight"][:, None, None] + t[f"{n}.bias"][:, None, None]
        x = x if last else torch.where(x > 0, x, 0.2 * x)
    torch.testing.assert_close(found(images).double(), x.flatten(), rtol=0, atol=1e-5)


def projecting_tensors(classes=3, blocks=5, seed=0):
    """BigGAN's, of an image of 64 x 64 (or 32 x 32 with four blocks), attention after the second block."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random) * 0.3

    widths = [3, 4, 5, 6, 6, 6][: blocks + 1]
    found = {}

    def add(key, *shape, bias=True):
        found[f"{key}.weight"] = draw(*shape)
        found[f"{key}.u0"], found[f"{key}.sv0"] = draw(1, shape[0]), torch.ones(1)
        if bias:
            found[f"{key}.bias"] = draw(shape[0])

    for index, (into, out) in enumerate(pairwise(widths)):
        add(f"blocks.{index}.0.conv1", 7, into, 3, 3)
        add(f"blocks.{index}.0.conv2", out, 7, 3, 3)
        if into != out or index < blocks - 1:
            add(f"blocks.{index}.0.conv_sc", out, into, 1, 1)
    for name, shape in (("theta", (2, 5)), ("phi", (2, 5)), ("g", (3, 5)), ("o", (5, 3))):
        add(f"blocks.1.1.{name}", *shape, 1, 1, bias=False)
    found["blocks.1.1.gamma"] = torch.tensor(0.7)
    add("linear", 1, widths[-1])
    if classes:
        add("embed", classes, widths[-1], bias=False)
    return found


def projecting(t, images, classes, halved):
    """Score images by the papers, in float64."""
    t = {key: value.double() for key, value in t.items()}

    def weight(key):
        w = t[f"{key}.weight"]
        matrix, u = w.flatten(1), t[f"{key}.u0"]
        v = F.normalize(u @ matrix, eps=1e-6)
        u = F.normalize(v @ matrix.T, eps=1e-6)
        return w / (v @ matrix.T @ u.T)

    x = images.double()
    for index, halves in enumerate(halved):
        k = f"blocks.{index}.0"
        h = x if not index else x.clamp(min=0)
        h = F.conv2d(h, weight(f"{k}.conv1"), t[f"{k}.conv1.bias"], padding=1).clamp(min=0)
        h = F.conv2d(h, weight(f"{k}.conv2"), t[f"{k}.conv2.bias"], padding=1)
        if f"{k}.conv_sc.weight" in t:  # a 1x1 convolution and an average may change places
            x = F.conv2d(x, weight(f"{k}.conv_sc"), t[f"{k}.conv_sc.bias"])
        x = F.avg_pool2d(x + h, 2) if halves else x + h
        if index == 1 and "blocks.1.1.gamma" in t:
            n, _, height, width = x.shape
            theta, phi, g = (F.conv2d(x, weight(f"blocks.1.1.{name}")) for name in ("theta", "phi", "g"))
            phi, g = (F.max_pool2d(part, 2).flatten(2) for part in (phi, g))
            share = (theta.flatten(2).transpose(1, 2) @ phi).softmax(-1)
            mixed = (g @ share.transpose(1, 2)).view(n, -1, height, width)
            x = t["blocks.1.1.gamma"] * F.conv2d(mixed, weight("blocks.1.1.o")) + x
    x = x.clamp(min=0).sum((2, 3))
    score = (x @ weight("linear").T + t["linear.bias"])[:, 0]
    return score if classes is None else score + (weight("embed")[classes] * x).sum(1)


@pytest.mark.parametrize(("blocks", "resolution"), [(5, 64), (4, 32)])
@pytest.mark.parametrize("attention", [True, False], ids=["attention", "plain as SNGAN's"])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_projecting_one_is_its_definition(classes, attention, blocks, resolution, tmp_path):
    tensors = projecting_tensors(classes, blocks)
    tensors = {key: value for key, value in tensors.items() if attention or not key.startswith("blocks.1.1.")}
    torch.save(tensors, tmp_path / "D.pth")
    found = dissect.load_discriminator(tmp_path / "D.pth")
    assert (found.family, found.resolution, found.num_classes) == ("biggan", resolution, classes or None)
    images = images_of(3, resolution)
    chosen = torch.tensor([0, 2, 1]) if classes else None
    halved = [True] * 4 + [False] if blocks == 5 else [True, True, False, False]
    expected = projecting(tensors, images, chosen, halved)
    torch.testing.assert_close(found(images, chosen).double(), expected, rtol=2e-5, atol=2e-5)


def growing_tensors(deviation=True, seed=0):
    """pytorch_GAN_zoo's, of an image of 16 x 16."""
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "fromRGBLayers.0": (7, 3, 1, 1), "fromRGBLayers.1": (6, 3, 1, 1), "fromRGBLayers.2": (5, 3, 1, 1),
        "scaleLayers.0.0": (6, 6, 3, 3), "scaleLayers.0.1": (7, 6, 3, 3), "scaleLayers.1.0": (5, 5, 3, 3),
        "scaleLayers.1.1": (6, 5, 3, 3), "groupScaleZero.0": (7, 7 + deviation, 3, 3), "groupScaleZero.1": (7, 7 * 16),
        "decisionLayer": (1, 7),
    }  # fmt: skip
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.module.weight"] = torch.randn(*shape, generator=random)
        found[f"{name}.module.bias"] = torch.randn(shape[0], generator=random)
    return found


@pytest.mark.parametrize("deviation", [True, False])
def test_the_one_that_grew_is_its_definition(deviation, tmp_path):
    tensors = growing_tensors(deviation)
    torch.save({"netG": {"a": torch.zeros(1)}, "netD": tensors}, tmp_path / "zoo.pth")
    found = dissect.load_discriminator(tmp_path / "zoo.pth", group=3)
    assert (found.family, found.where, found.resolution) == ("pggan", "netD", 16)
    assert found.group == (3 if deviation else 1)
    t = {key: value.double() for key, value in tensors.items()}

    def layer(x, name):
        weight, bias = t[f"{name}.module.weight"], t[f"{name}.module.bias"]
        gain = math.sqrt(2 / weight[0].numel())
        if weight.ndim == 2:
            return (x @ weight.T + bias) * gain
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2) * gain

    def lrelu(x):
        return torch.where(x > 0, x, 0.2 * x)

    images, expected = images_of(4), []  # the last group has one
    for start in range(0, 4, found.group):
        x = lrelu(layer(images[start : start + found.group].double(), "fromRGBLayers.2"))
        for scale in (1, 0):
            for place in (0, 1):
                x = lrelu(layer(x, f"scaleLayers.{scale}.{place}"))
            x = F.avg_pool2d(x, 2)
        if deviation:
            value = 0.0 if len(x) == 1 else float((x.var(0, unbiased=True) + 1e-8).sqrt().mean())
            x = torch.cat([x, torch.full_like(x[:, :1], value)], 1)
        x = lrelu(layer(lrelu(layer(x, "groupScaleZero.0")).flatten(1), "groupScaleZero.1"))
        expected.append(layer(x, "decisionLayer")[:, 0])
    torch.testing.assert_close(found(images).double(), torch.cat(expected), rtol=2e-5, atol=2e-5)


def port_tensors(activated=False, seed=0):
    """rosinality's port of the first StyleGAN, of an image of 32 x 32: the first block is fused."""
    random = torch.Generator().manual_seed(seed)
    found, widths = {}, [4, 5, 6, 7]

    def add(name, *shape, weight="weight_orig"):
        found[f"{name}.{weight}"] = torch.randn(*shape, generator=random)
        found[f"{name}.bias"] = torch.randn(shape[0], generator=random)

    for index, width in enumerate(widths):
        add(f"from_rgb.{index}{'.0' if activated else ''}.conv", width, 3, 1, 1)
        last, out = index == 3, widths[min(index + 1, 3)]
        add(f"progression.{index}.conv1.0.conv", out, width + last, 3, 3)
        if last:
            add(f"progression.{index}.conv2.0.conv", out, out, 4, 4)
            continue
        for name in ("weight", "weight_flip"):
            found[f"progression.{index}.conv2.0.{name}"] = BLUR.repeat(out, 1, 1, 1)
        if index:
            add(f"progression.{index}.conv2.1.conv", out, out, 3, 3)
        else:
            add(f"progression.{index}.conv2.1", out, out, 3, 3, weight="weight")
    add("linear.linear", 1, widths[-1])
    return found


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("step", [None, 1])
def test_the_port_of_the_first_stylegan_is_its_definition(step, activated, tmp_path):
    tensors = port_tensors(activated)
    torch.save({"generator": {"a": torch.zeros(1)}, "discriminator": tensors}, tmp_path / "train.model")
    found = dissect.load_discriminator(tmp_path / "train.model", group=3, step=step)
    side, first = (32, 0) if step is None else (8, 2)
    assert (found.family, found.flavour, found.where, found.resolution) == (
        "stylegan", "rosinality", "discriminator", side,
    )  # fmt: skip
    t = {key: value.double() for key, value in tensors.items()}

    def weight(name, key="weight_orig"):
        w = t[f"{name}.{key}"]
        return w * math.sqrt(2 / w[0].numel()), t[f"{name}.bias"]

    def lrelu(x):
        return torch.where(x > 0, x, 0.2 * x)

    images, expected = images_of(4, side), []
    for start in (0, 3):
        x = F.conv2d(images[start : start + 3].double(), *weight(f"from_rgb.{first}{'.0' if activated else ''}.conv"))
        x = lrelu(x) if activated else x
        for index in range(first, 4):
            k = f"progression.{index}"
            if index == 3:
                spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
                x = torch.cat([x, torch.full_like(x[:, :1], float(spread))], 1)
            x = lrelu(F.conv2d(x, *weight(f"{k}.conv1.0.conv"), padding=1))
            if index == 3:
                x = lrelu(F.conv2d(x, *weight(f"{k}.conv2.0.conv")))
                continue
            taps = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
            y = F.pad(x, (1, 1, 1, 1))
            y = sum(tap * y[:, :, at : at + x.shape[2]] for at, tap in enumerate(taps))
            y = sum(tap * y[..., at : at + x.shape[3]] for at, tap in enumerate(taps))
            if index:
                x = F.avg_pool2d(F.conv2d(y, *weight(f"{k}.conv2.1.conv"), padding=1), 2)
            else:  # a kernel of 4 x 4 of means is an average of the four shifted convolutions
                w, bias = weight(f"{k}.conv2.1", "weight")
                z = F.conv2d(F.pad(y, (1, 1, 1, 1)), w, padding=1)
                x = (
                    sum(z[:, :, a : a + 32 : 2, b : b + 32 : 2] for a in (1, 2) for b in (1, 2)) / 4
                    + bias[:, None, None]
                )
            x = lrelu(x)
        expected.append((x.flatten(1) @ weight("linear.linear")[0].T + t["linear.linear.bias"])[:, 0])
    torch.testing.assert_close(found(images).double(), torch.cat(expected), rtol=2e-5, atol=2e-5)
    with pytest.raises(GanatomyError, match="a step from 0 to 3, got 4"):
        dissect.load_discriminator(tmp_path / "train.model", step=4)


# -- PGGAN's and the first StyleGAN's, as NVIDIA trained them ------------------------------------------------------


def official_tensors(family="stylegan", scores=1, deviation=1, seed=0):
    """genforce's, of an image of 16 x 16."""
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "input0": (5, 3, 1, 1), "input1": (6, 3, 1, 1), "input2": (7, 3, 1, 1),
        "layer0": (5, 5, 3, 3), "layer1": (6, 5, 3, 3), "layer2": (6, 6, 3, 3), "layer3": (7, 6, 3, 3),
        "layer4": (7, 7 + deviation, 3, 3), "layer5": (9, 7 * 16), "layer6": (scores, 9),
    }  # fmt: skip
    found = {"lod": torch.zeros(())}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = torch.randn(*shape, generator=random)
        found[f"{name}.bias"] = torch.randn(shape[0], generator=random)
    if family == "stylegan":
        found |= {"layer1.blur.kernel": BLUR.repeat(5, 1, 1, 1), "layer3.blur.kernel": BLUR.repeat(6, 1, 1, 1)}
    return found


def turned(value):
    """A tensor with the axes of TensorFlow."""
    return value.permute(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value


def of_nvidia(tensors, down="Conv1_down"):
    """genforce's of 16 x 16 as NVIDIA's variables."""
    names = {f"input{b}": f"FromRGB_lod{b}" for b in range(3)}
    names |= {"layer0": "16x16/Conv0", "layer1": f"16x16/{down}", "layer2": "8x8/Conv0", "layer3": f"8x8/{down}"}
    names |= {"layer4": "4x4/Conv", "layer5": "4x4/Dense0", "layer6": "4x4/Dense1"}
    found = {"lod": tensors["lod"]}
    for key, value in tensors.items():
        name, _, part = key.rpartition(".")
        if name in names:
            found[f"{names[name]}/{part}"] = turned(value)
    return found


def official(t, images, family, fused, group, classes=None):
    """Scores in float64: halving by shifted sums."""
    t = {key: value.double() for key, value in t.items()}

    def conv(x, name, pad):
        w = t[f"{name}.weight"]
        return F.conv2d(F.pad(x, (pad, pad, pad, pad)), w * math.sqrt(2 / w[0].numel()))

    def lrelu(x):
        return torch.where(x > 0, x, 0.2 * x)

    def halved(x):
        return sum(x[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)) / 4

    scores = []
    for start in range(0, len(images), group):
        x = images[start : start + group].double()
        x = lrelu(conv(x, "input0", 0) + t["input0.bias"][:, None, None])
        for block in (0, 1):
            first, second = f"layer{2 * block}", f"layer{2 * block + 1}"
            x = lrelu(conv(x, first, 1) + t[f"{first}.bias"][:, None, None])
            if family == "stylegan":
                taps, side, y = (0.25, 0.5, 0.25), x.shape[2], F.pad(x, (1, 1, 1, 1))
                y = sum(tap * y[:, :, at : at + side] for at, tap in enumerate(taps))
                x = sum(tap * y[..., at : at + side] for at, tap in enumerate(taps))
            bias = t[f"{second}.bias"][:, None, None]
            if fused:  # a mean of four kernels is a mean of what they give, the rim with it
                z = conv(F.pad(x, (1, 1, 1, 1)), second, 1)
                side = x.shape[2]
                x = lrelu(sum(z[:, :, a : a + side : 2, b : b + side : 2] for a in (1, 2) for b in (1, 2)) / 4 + bias)
            elif family == "stylegan":
                x = lrelu(halved(conv(x, second, 1)) + bias)
            else:
                x = halved(lrelu(conv(x, second, 1) + bias))
        if t["layer4.weight"].shape[1] > 7:
            spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
            x = torch.cat([x, torch.full_like(x[:, :1], float(spread))], 1)
        x = lrelu(conv(x, "layer4", 1) + t["layer4.bias"][:, None, None]).flatten(1)
        x = lrelu(x @ t["layer5.weight"].T * math.sqrt(2 / 112) + t["layer5.bias"])
        x = x @ t["layer6.weight"].T / 3 + t["layer6.bias"]
        scores.append(x[:, 0] if classes is None else x.gather(1, classes[start : start + group, None])[:, 0])
    return torch.cat(scores)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("family", ["stylegan", "pggan"])
def test_nvidias_own_are_their_definition(family, fused):
    tensors = official_tensors(family)
    found = dissect.load_discriminator(tensors, group=3, fused_scale=fused)
    assert (found.family, found.flavour, found.resolution, found.group) == (family, "genforce", 16, 3)
    images = images_of(4)
    expected = official(tensors, images, family, fused, 3)
    torch.testing.assert_close(found(images).double(), expected, rtol=2e-5, atol=2e-5)
    usual = dissect.load_discriminator(tensors)
    assert usual.group == (4 if family == "stylegan" else 16)  # neither fuses at 16 pixels by genforce's code
    torch.testing.assert_close(
        usual(images).double(), official(tensors, images, family, False, 4), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize(
    ("function", "told", "down", "family", "fused"),
    [
        ("training.networks_stylegan.D_basic", {}, "Conv1_down", "stylegan", False),  # auto: from 128 pixels on
        ("D_basic", {"fused_scale": True}, "Conv1_down", "stylegan", True),
        ("networks.D_paper", {}, "Conv1_down", "pggan", True),
        ("D_paper", {"fused_scale": False}, "Conv1", "pggan", False),
        (None, {}, "Conv1", "pggan", False),
    ],
)
def test_pickles_of_tensorflow_say_how_they_halve(function, told, down, family, fused):
    tensors = official_tensors(family)
    network = StoredNetwork("D", "", of_nvidia(tensors, down), function, told | {"mbstd_group_size": 2}, {})
    found = opening._opened(
        network, Checkpoint(Path("x.pkl"), "", "tensorflow pickle", (network,)), CPU, None, None, None
    )
    assert (found.family, found.flavour, found.where, found.group) == (family, "tensorflow", "D", 2)
    images = images_of(4)
    expected = official(tensors, images, family, fused, 2)
    torch.testing.assert_close(found(images).double(), expected, rtol=2e-5, atol=2e-5)


def test_one_of_stylegan_with_classes_has_a_score_for_each():
    tensors, images, classes = official_tensors(scores=5), images_of(4), torch.tensor([4, 0, 2, 2])
    found = dissect.load_discriminator(tensors, group=4)
    assert found.num_classes == 5
    expected = official(tensors, images, "stylegan", False, 4, classes)
    torch.testing.assert_close(found(images, classes).double(), expected, rtol=2e-5, atol=2e-5)
    grown = dissect.load_discriminator(official_tensors("pggan", scores=5), group=4)  # the others guess the class
    assert grown.num_classes is None
    grown(images)


def recorded(tensors, **told):
    """What is made of a pickled discriminator that says this of itself."""
    network = StoredNetwork("D", "", tensors, "D_basic", told, {})
    return opening._opened(network, Checkpoint(Path("x.pkl"), "", "nvidia pickle", (network,)), CPU, None, None, None)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: of_nvidia(official_tensors()), {"nonlinearity": "relu"}),
        (lambda: of_nvidia(official_tensors()), {"blur_filter": None}),
        (lambda: of_nvidia(official_tensors()), {"use_wscale": False}),
        (residual_tensors, {"resample_kernel": [1, 2, 1]}),
        (residual_tensors, {"architecture": "skip"}),
        (residual_tensors, {"conv_clamp": -1}),
        (residual_tensors, {"conv_clamp": math.nan}),
        (residual_tensors, {"conv_clamp": 10**400}),
    ],
)
def test_what_a_file_records_is_not_passed_over(make, told):
    with pytest.raises(GanatomyError, match=f"x.pkl: the file records {next(iter(told))}="):
        recorded(make(), **told)
    recorded(make(), blur_filter=(1, 2, 1), resample_kernel=(1, 3, 3, 1), conv_clamp=None)


def test_options_of_another_kind_are_refused():
    with pytest.raises(GanatomyError, match="step is of rosinality's StyleGAN, this is stylegan2"):
        dissect.load_discriminator(residual_tensors(), step=1)
    with pytest.raises(GanatomyError, match="fused_scale is of PGGAN and StyleGAN"):
        dissect.load_discriminator(residual_tensors(), fused_scale=True)
    for wrong in (1, "all", torch.ones(2)):
        with pytest.raises(GanatomyError, match="expected fused_scale"):
            dissect.load_discriminator(official_tensors(), fused_scale=wrong)
    plain = dissect.load_discriminator(official_tensors(), fused_scale=False)
    assert plain.fingerprint == dissect.load_discriminator(official_tensors()).fingerprint


LONG = "9" * 5000


@pytest.mark.parametrize(
    "odd",
    [
        {"skip_layer0.weight": torch.zeros(1), "input0.weight": torch.zeros(1)},
        {"foo/Skip/weight": torch.zeros(1), "4x4/Dense0/weight": torch.zeros(1)},
        {"FromRGB_lod0/weight": torch.zeros(1), "4x4/Dense0/weight": torch.zeros(1)},
        {f"layer{LONG}.weight": torch.zeros(1)} | official_tensors(),
        {f"{LONG}x{LONG}/Conv0/weight": torch.zeros(1)} | of_nvidia(official_tensors()),
        {f"b{LONG}.conv1.weight": torch.zeros(1)} | residual_tensors(),
        {f"convs.{LONG}.conv2.1.weight": torch.zeros(1), "final_conv.0.weight": torch.zeros(1)},
        {f"main.{LONG}.weight": torch.zeros(1)} | strided_tensors(),
        {f"blocks.{LONG}.0.conv1.weight": torch.zeros(1)} | projecting_tensors(),
        {f"layer{10**12}.weight": torch.zeros(1)} | official_tensors(),
        {"layer9998.weight": torch.zeros(1)} | official_tensors(),
        {"layer00.weight": torch.zeros(1)} | official_tensors(),
        {"layer\u0661.weight": torch.zeros(1)} | official_tensors(),
        {"bad\nkey": torch.zeros(1)} | official_tensors(),
        {"bad\nkey": torch.zeros(1)} | residual_tensors(),
        {"k" * 100_000: torch.zeros(1)} | residual_tensors(),
        {f"skip_layer{place}.weight": torch.zeros(1) for place in range(9999)} | {"input0.weight": torch.zeros(1)},
        {"9x9/Conv0/weight": torch.zeros(1)} | of_nvidia(official_tensors()),
        {"8x8/Conv1/weight": torch.zeros(1), "lod": torch.zeros(())} | of_nvidia(official_tensors()),
        {"4x4/Conv0/weight": torch.zeros(1)} | of_nvidia(official_tensors()),
        {"layer0.blur.kernel": BLUR.repeat(5, 1, 1, 1)} | official_tensors("pggan"),
        official_tensors() | {"layer1.blur.kernel": BLUR.repeat(50, 1, 1, 1)},
        official_tensors() | {"layer0.weight": torch.ones(5, 5, 3, 3, dtype=torch.int32)},
        residual_tensors() | {"b4.conv.weight": torch.zeros(7, 3, 3, 3)},
        residual_tensors() | {"b4.conv.weight": torch.zeros(7, 12, 3, 3)},
        residual_tensors() | {"b4.fc.weight": torch.zeros(HIDDEN, 100)},
        residual_tensors(5) | {"b4.out.weight": torch.zeros(1, HIDDEN), "b4.out.bias": torch.zeros(1)},
        residual_tensors(5) | {"b4.out.weight": torch.zeros(3, HIDDEN), "b4.out.bias": torch.zeros(3)},
        {"x": torch.zeros(2, 2).to_sparse()},
    ],
    ids=range(29),
)  # fmt: skip
def test_whatever_a_file_holds_the_message_is_one_short_line(odd):
    with pytest.raises(GanatomyError) as told:
        dissect.load_discriminator(odd)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize("scores", [1, 3])
def test_the_residual_one_of_other_names_is_the_same(scores):
    tensors = residual_tensors()
    tensors |= {"b4.out.weight": torch.randn(scores, HIDDEN), "b4.out.bias": torch.randn(scores)}
    names = {"b16.fromrgb": "input0", "b4.conv": "layer4", "b4.fc": "layer5", "b4.out": "layer6"}
    names |= {"b16.conv0": "layer0", "b16.conv1": "layer1", "b8.conv0": "layer2", "b8.conv1": "layer3"}
    names |= {"b16.skip": "skip_layer0", "b8.skip": "skip_layer1"}
    genforce = {f"{name}.filter.kernel": FILTER[None, None] for name in ("layer1", "layer3", "skip_layer0")}
    scopes = {"b4.conv": "4x4/Conv", "b4.fc": "4x4/Dense0", "b4.out": "Output"}
    words = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    scopes |= {f"b{r}.{old}": f"{r}x{r}/{new}" for r in (8, 16) for old, new in words.items()}
    nvidia = {}
    for key, value in tensors.items():
        module, _, part = key.rpartition(".")
        if part != "resample_filter":
            genforce[f"{names[module]}.{part}"] = value
            nvidia[f"{scopes[module]}/{part}"] = turned(value)
    first, images = dissect.load_discriminator(tensors, group=2), images_of(4)
    classes = None if scores == 1 else torch.tensor([0, 2, 1, 1])
    assert first.num_classes == (None if scores == 1 else 3)
    for flavour, stored in (("genforce", genforce), ("tensorflow", nvidia)):
        found = dissect.load_discriminator(stored, group=2)
        assert (found.family, found.flavour, found.resolution) == ("stylegan2", flavour, 16)
        assert found.fingerprint == first.fingerprint
        assert torch.equal(found(images, classes), first(images, classes))
    if classes is not None:
        each = [first(images, int(one))[place] for place, one in enumerate(classes)]
        assert torch.equal(first(images, classes), torch.stack(each))


def test_classes_of_the_last_years_of_tensorflow_are_mapped():
    tensors, images = residual_tensors(5), images_of(4)
    names = {"b4.conv": "4x4/Conv", "b4.fc": "4x4/Dense0", "b4.out": "Output", "mapping.embed": "LabelEmbed"}
    names |= {"mapping.fc0": "Mapping0", "mapping.fc1": "Mapping1"}
    words = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    names |= {f"b{r}.{old}": f"{r}x{r}/{new}" for r in (8, 16) for old, new in words.items()}
    split = {key: key.rpartition(".") for key in tensors if not key.endswith("resample_filter")}
    stored = {f"{names[module]}/{part}": turned(tensors[key]) for key, (module, _, part) in split.items()}
    first, found = (dissect.load_discriminator(t, group=2) for t in (tensors, stored))
    assert found.fingerprint == first.fingerprint
    assert torch.equal(found(images, 3), first(images, 3))


def test_the_size_of_nvidias_own():
    """The published discriminators of 1,024 pixels: StyleGAN's and PGGAN's table 2 agree on 23.1M parameters."""
    widths = {side: min(8192 * 2 // side, 512) for side in (1024, 512, 256, 128, 64, 32, 16, 8, 4)}
    tensors = {"lod": torch.zeros(())}

    def add(name, *shape):
        tensors.update({f"{name}.weight": torch.empty(*shape).fill_(0.0), f"{name}.bias": torch.zeros(shape[0])})

    for block, side in enumerate(widths):
        add(f"input{block}", widths[side], 3, 1, 1)
        if side > 4:
            add(f"layer{2 * block}", widths[side], widths[side], 3, 3)
            add(f"layer{2 * block + 1}", widths[side // 2], widths[side], 3, 3)
    add("layer16", 512, 513, 3, 3)
    add("layer17", 512, 8192)
    add("layer18", 1, 512)
    found = dissect.load_discriminator(tensors)
    assert found.resolution == 1024
    assert round(found.parameters / 1e6, 1) == 23.1


def changed(tensors, **parts):
    return tensors | {key.replace("_", "."): value for key, value in parts.items()}


def without(tensors, *parts):
    return {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


R, S = residual_tensors, strided_tensors
BAD = {
    "a generator": (
        lambda: {"main.0.weight": torch.zeros(7, 8, 4, 4), "main.3.weight": torch.zeros(8, 3, 4, 4)},
        "no discriminator",
    ),
    "nothing": (lambda: {"x": torch.zeros(1)}, "no discriminator that is known"),
    "a block lacks": (lambda: without(R(), "b8"), "in a row"),
    "a tensor lacks": (lambda: without(R(), "b8.skip.weight"), "is missing"),
    "one too many": (lambda: R() | {"b8.extra": torch.zeros(1)}, "unexpected key b8.extra"),
    "a shape": (lambda: changed(R(), b4_fc_bias=torch.zeros(2)), r"expected b4.fc.bias \[9\], got \[2\]"),
    "not a kernel": (lambda: changed(R(), b16_conv0_weight=torch.zeros(2)), "4 dimensions"),
    "NaN": (lambda: changed(R(), b4_fc_bias=torch.full((9,), math.nan)), "NaN"),
    "an embedding": (lambda: projecting_tensors() | {"embed.weight": torch.zeros(3)}, "2 dimensions"),
    "a projection lacks": (lambda: without(projecting_tensors(), "0.0.conv1.bias"), "0.0.conv1.bias is missing"),
    "a start": (lambda: projecting_tensors() | {"linear.u0": torch.ones(1, 2)}, "linear.u0 of 1 values, got 2"),
    "a port lacks": (lambda: without(port_tensors(), "2.conv2.1.conv.bias"), "2.conv2.1.conv.bias is missing"),
    "a port's shape": (
        lambda: port_tensors() | {"linear.linear.weight_orig": torch.zeros(1, 3)}, r"\[outputs, 7\], got \[1, 3\]",
    ),
    "a scale lacks": (lambda: without(growing_tensors(), "scaleLayers.0.1"), "0.1.module.weight is missing"),
    "scales that do not join": (
        lambda: growing_tensors() | {"decisionLayer.module.weight": torch.zeros(1, 3)}, "with 7 inputs, it has 3",
    ),
    "an official one lacks": (lambda: without(official_tensors(), "layer2.bias"), "layer2.bias is missing"),
    "an official one's shape": (
        lambda: official_tensors() | {"layer5.weight": torch.zeros(9, 3)}, r"\[outputs, 112\], got \[9, 3\]",
    ),
    "an official one's place": (
        lambda: official_tensors() | {"layer7.weight": torch.zeros(9, 3)}, "unexpected key layer7",
    ),
    "not grown": (lambda: official_tensors() | {"lod": torch.tensor(1.5)}, "its lod is"),
    "another blur in the official one": (
        lambda: official_tensors() | {"layer1.blur.kernel": torch.ones(5, 1, 3, 3)}, "layer1.blur.kernel is not the",
    ),
    "of which family": (lambda: of_nvidia(official_tensors()), "nothing tells which"),
    "a chain lacks": (lambda: without(S(), "main.3.bias"), "main.3.bias is missing"),
    "another filter": (
        lambda: R() | {"b16.conv1.resample_filter": torch.eye(4)}, "b16.conv1.resample_filter is not the standard",
    ),
    "another filter in the port": (
        lambda: rosinality(R()) | {"convs.1.skip.0.kernel": torch.eye(4)}, "convs.1.skip.0.kernel is not the standard",
    ),
    "another blur": (
        lambda: port_tensors() | {"progression.1.conv2.0.weight": torch.ones(6, 1, 3, 3) / 9}, "standard filter",
    ),
    "no values": (lambda: R() | {"b16.fromrgb.weight": torch.zeros(5, 0, 1, 1)}, "b16.fromrgb.weight is empty"),
    "no outputs": (
        lambda: growing_tensors() | {"decisionLayer.module.weight": torch.zeros(1, 0)}, "decisionLayer.*is empty",
    ),
    "complex": (
        lambda: R() | {"b4.fc.bias": torch.zeros(9, dtype=torch.complex64)},
        "b4.fc.bias is torch.complex64, expected floating",
    ),
    "no tensor": (lambda: R() | {"b4.fc.bias": 3}, "b4.fc.bias is none"),
    "larger than memory": (
        lambda: R() | {
            "b16.fromrgb.weight": torch.zeros(300_000, 3, 1, 1), "b16.conv0.weight": torch.zeros(300_000, 1, 3, 3),
        }, "expected b16",
    ),
    "a projection larger than memory": (
        lambda: projecting_tensors() | {
            "blocks.0.0.conv1.weight": torch.zeros(100_000, 3, 3, 3),
            "blocks.0.0.conv2.weight": torch.zeros(100_000, 1, 3, 3),
        }, "expected blocks",
    ),
    "projecting blocks that do not join": (
        lambda: projecting_tensors() | {"blocks.4.0.conv1.weight": torch.zeros(7, 5, 3, 3)}, "with 6 inputs, it has 5",
    ),
    "no shortcut": (lambda: without(projecting_tensors(), "blocks.1.0.conv_sc"), "1.0.conv_sc.weight is missing"),
    "attention": (lambda: projecting_tensors() | {"blocks.1.1.g.weight": torch.ones(())}, "g.weight with 4 dimensions"),
    "another kernel": (lambda: changed(S(), main_2_weight=torch.zeros(6, 4, 3, 3)), "kernel of 4 x 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_none_is_told_in_a_line(name):
    make, words = BAD[name]
    with pytest.raises(GanatomyError, match=words) as told:
        dissect.load_discriminator(make())
    assert "\n" not in str(told.value)


def test_what_cannot_be_scored_is_told_in_a_line(tmp_path):
    plain, of_classes = (dissect.load_discriminator(residual_tensors(classes)) for classes in (0, 5))
    images = images_of(2)
    for call, words in (
        (lambda: plain(images_of(2, 8)), r"expected images float32 \[N, 3, 16, 16\], got float32 \[2, 3, 8, 8\]"),
        (lambda: plain(images.long()), "got int64"),
        (lambda: plain(images, 1), "has no classes"),
        (lambda: of_classes(images), "give classes, 0 to 4"),
        (lambda: of_classes(images, 5), "from 0 to 4"),
        (lambda: of_classes(images, torch.tensor([1])), r"int64 \[2\], got \[1\]"),
        (lambda: dissect.load_discriminator(tmp_path / "none.pt"), "no such checkpoint"),
        (lambda: dissect.load_discriminator(residual_tensors(), group=0), "a group of 1 image"),
    ):
        with pytest.raises(GanatomyError, match=words):
            call()
    assert torch.equal(of_classes(images, 3), of_classes(images, torch.tensor([3, 3])))
    assert plain(images[:0]).shape == (0,)


@pytest.mark.parametrize("make", [R, S, projecting_tensors, growing_tensors, port_tensors, official_tensors])
def test_it_does_not_change_with_the_tensors_it_was_made_of(make):
    tensors = make()
    found = dissect.load_discriminator(tensors)
    images, classes = images_of(2, found.resolution), 1 if found.num_classes else None
    before = found(images, classes)
    for value in tensors.values():
        value.zero_()
    assert torch.equal(found(images, classes), before)


def test_how_many_batches_a_norm_has_seen_is_of_no_account():
    odd = dissect.load_discriminator(S() | {"main.3.num_batches_tracked": torch.zeros(2, 2)})
    assert torch.equal(odd(images_of(2, 32)), dissect.load_discriminator(S())(images_of(2, 32)))
