"""Generators that nobody told us of: each odd one works, or is refused in a line that says what to do."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dissect
import rewrite
import segmodels
from dissect import GanatomyError
from dissect.generators.calling import Caller
from dissect.generators.convolutions import convolution_of
from dissect.generators.steady import Steady
from segmodels.errors import GanatomyWarning

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::rewrite.RewriteWarning")]

PAGE = Path(__file__).parent.parent / "docs/bring-your-own.md"


def body(channels=3, last=nn.Tanh):
    """A map [N, 5, 1, 1] to an image of 8 x 8, with in-place ReLUs and an instance norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.ConvTranspose2d(5, 6, 4), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.ConvTranspose2d(6, 6, 4, 2, 1),
            nn.InstanceNorm2d(6, affine=True), nn.ReLU(inplace=True), nn.Conv2d(6, channels, 3, padding=1), last(),
        )  # fmt: skip


class Wrap(nn.Module):
    """Calls ``make(net, z)`` with z as a map of one pixel."""

    def __init__(self, make, net=None, **attributes):
        super().__init__()
        self.net, self.make = net or body(), make
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, z):
        return self.make(self.net, z[:, :, None, None])


class Functional(nn.Module):
    """Everything but the convolutions is a function, and one of these is used twice."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.linear = nn.Linear(5, 6 * 16)
            self.conv = nn.Conv2d(6, 6, 3, padding=1)
            self.out = nn.Conv2d(6, 3, 1)

    def forward(self, z):
        x = functional.relu(self.linear(z)).view(-1, 6, 4, 4)
        x = functional.relu_(self.conv(functional.interpolate(x, scale_factor=2)))
        x = functional.leaky_relu(self.conv(functional.interpolate(x, scale_factor=2)), 0.2, inplace=True)
        return torch.tanh(self.out(x))


class OneHot(nn.Module):
    """Takes classes one-hot."""

    def __init__(self):
        super().__init__()
        self.embed, self.net = nn.Linear(10, 5), body()

    def forward(self, z, classes):
        return self.net((z + self.embed(classes))[:, :, None, None])


def nested():
    parts = list(body())
    return nn.Sequential(nn.Sequential(*parts[:3]), nn.Sequential(nn.Sequential(*parts[3:6]), *parts[6:]))


def noisy(net, z):
    x = net(z)
    x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.rand(len(x), 1, 8, 8) + 0.1 * torch.randn(x.shape)
    return x + torch.empty(1, 1, 8, 8).normal_(0.0, 0.1) + torch.empty(len(x), 1, 1, 1).uniform_(-0.2, 0.2)


def scripted(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it, people have such files all the same
        return torch.jit.script(net)


ODD = {
    "tuple with z first": (lambda: Wrap(lambda net, z: (z, net(z)))),
    "dict": (lambda: Wrap(lambda net, z: {"w": z, "image": net(z)})),
    "object": (lambda: Wrap(lambda net, z: SimpleNamespace(images=net(z), loss=None))),
    "small and large": (lambda: Wrap(lambda net, z: (lambda x: (functional.avg_pool2d(x, 2), x))(net(z)))),
    "0 to 1": (lambda: Wrap(lambda net, z: net(z), body(last=nn.Sigmoid), image_range=(0, 1))),
    "0 to 255": (lambda: Wrap(lambda net, z: (net(z) + 1) * 127.5, image_range=(0, 255))),
    "bytes": (lambda: Wrap(lambda net, z: ((net(z) + 1) * 127.5).to(torch.uint8), image_range=(0, 255))),
    "functional": Functional,
    "DataParallel": (lambda: nn.DataParallel(body())),
    "nested": nested,
    "double": (lambda: body().double()),
    "half": (lambda: Wrap(lambda net, z: net(z), body().half())),
    "bfloat16": (lambda: body().bfloat16()),
    "channels last": (lambda: body().to(memory_format=torch.channels_last)),
    "grey": (lambda: body(1)),
    "noise": (lambda: Wrap(noisy)),
    "one-hot classes": OneHot,
    "spectral norm": (lambda: nn.Sequential(nn.ConvTranspose2d(5, 6, 4), nn.utils.spectral_norm(nn.Conv2d(6, 3, 1)))),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_generators_work(name, tmp_path):
    torch.manual_seed(4)
    generator = dissect.load(ODD[name](), z_dim=5, num_classes=10 if "classes" in name else None)
    codes = generator.sample(range(3))
    images = generator(codes)
    assert images.shape == (3, 3, generator.resolution, generator.resolution)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1 or name in ("noise", "spectral norm")
    loose = {"half": 2e-3, "bfloat16": 2e-2}.get(name, 1e-5)
    alone = torch.cat([generator(codes[i]) for i in range(3)])
    assert (alone - images).abs().max() <= loose, "an image depends on its own code alone"
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        cut = dissect.ablate(layer.name, [0])
        assert torch.equal(generator.resume(capture, layer.name), images), layer.name
        assert torch.equal(generator.resume(capture, layer.name, edits=cut), generator(codes, edits=cut)), layer.name
    place = next(x for x in generator.layers if x.channels > 4)
    segmenter = segmodels.load("colors")
    run = dissect.run(generator, segmenter, [place.name], samples=4, out=tmp_path / "run.h5")
    assert run.layer(place.name).iou.shape[0] == place.channels
    found = dissect.effect(generator, segmenter, dissect.Recipe([dissect.ablate(place.name, [0, 1])]), range(4))
    assert len(found.before) == 4
    assert not torch.equal(generator(codes, edits=dissect.ablate(place.name, range(place.channels))), images)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: Wrap(lambda net, z: (net(z) + 1) * 127.5), {}, r"they reach 2\d\d; say their range with image_range="),
        (lambda: body(4), {}, r"returned \[N, 4, 8, 8\]; wrap it in a module that returns the image"),
        (lambda: Wrap(lambda net, z: net(z).permute(0, 2, 3, 1)), {}, r"\[N, 8, 8, 3\]; wrap it"),
        (lambda: Wrap(lambda net, z: net(z).flatten(1)), {}, r"\[N, 192\]; wrap it"),
        (lambda: Wrap(lambda net, z: net(z)[:, :, :6]), {}, "square images, the module makes 6 x 8; wrap it"),
        (OneHot, {}, "missing 1 required positional argument: 'classes'.* num_classes= if it takes classes"),
        (body, {"z_dim": 7}, "expected input.* to have 5 channels.*check z_dim=7"),
        (lambda: scripted(body().eval()), {}, "got TorchScript.*give the nn.Module that it was made of"),
        (lambda: Wrap(lambda net, z: functional.dropout(net(z), 0.5, True)), {}, "another image each time.*dropout"),
        (lambda: Wrap(lambda net, z: net(z), image_range="wide"), {}, "expected image_range"),
    ],
)
def test_what_does_not_work_says_what_to_do(make, options, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(make(), **{"z_dim": 5, **options})
    assert "\n" not in str(caught.value)


def test_what_trying_has_shown_is_told():
    told = {
        name: [(fact.name, fact.source) for fact in dissect.load(network, z_dim=5).facts]
        for name, network in {
            "plain": body(),
            "noise": Wrap(noisy),
            "batches": Wrap(lambda net, z: net(z) - net(z).mean(0, keepdim=True)),
        }.items()
    }
    assert told == {"plain": [], "noise": [("noise", "tried")], "batches": [("batches", "tried")]}


def test_constant_noise_is_normal_or_uniform_and_the_same_for_every_sample():
    state = torch.get_rng_state()

    def draw(batch):
        with Steady(batch):
            like = torch.zeros(batch, 2, 40, 40)
            return [
                torch.randn(batch, 2, 40, 40), torch.rand((batch, 2, 40, 40)), torch.randn_like(like),
                torch.rand_like(like), like.clone().normal_(3.0, 2.0), like.clone().uniform_(-4.0, 2.0),
                torch.randn(size=(batch, 2, 40, 40), dtype=torch.float64).float(),
            ]  # fmt: skip

    one, four = draw(1), draw(4)
    for a, b in zip(one, four, strict=True):
        assert torch.equal(b, a.expand(4, -1, -1, -1))
    assert not torch.equal(one[0], one[2]), "each draw is another"
    for value, mean, std in zip(one, (0, 0.5, 0, 0.5, 3, -1, 0), (1, 12**-0.5, 1, 12**-0.5, 2, 3**0.5, 1), strict=True):
        assert float(value.mean()) == pytest.approx(mean, abs=0.1)
        assert float(value.std()) == pytest.approx(std, rel=0.05)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plain_module_is_not_made_steady():
    with torch.no_grad():
        assert not Caller(body().eval(), "plain", 5, None, torch.device("cpu")).steady


# -- the example of the documentation, as it stands there ------------------------------------------------------


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """The generator of docs/bring-your-own.md, of small weights in a file, through its factory."""
    folder = tmp_path_factory.mktemp("theirs")
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    (folder / "wgan_resnet.py").write_text(source)
    space: dict = {}
    exec(compile(source, "wgan_resnet.py", "exec"), space)  # our own page
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = space["ResidualGenerator"](4)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), folder / "generator.pth")
    small = f"import functools\n\nmake = functools.partial(factory, {str(folder / 'generator.pth')!r}, 4)\n"
    (folder / "wgan_resnet.py").write_text(f"{source}\n{small}")
    sys.path.insert(0, str(folder))
    yield dissect.load("wgan_resnet:make"), network.eval()
    sys.path.remove(str(folder))
    sys.modules.pop("wgan_resnet", None)


def test_the_example_draws_what_its_module_draws(residual):
    generator, network = residual
    assert (generator.z_dim, generator.resolution) == (128, 64)
    inside = ("norm1", "conv1", "norm2", "conv2", "shortcut")
    blocks = [f"blocks.{i}{part}" for i in range(4) for part in (*(f".{x}" for x in inside), "")]
    assert {layer.name for layer in generator.layers} == {*blocks, "blocks", "norm", "relu", "out"}
    codes = generator.sample(range(3))
    with torch.no_grad():
        assert torch.equal(generator(codes), network(codes.z))
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert torch.equal(generator.resume(capture, layer.name), capture.images)


def test_the_example_is_dissected_its_units_cut_and_a_rule_rewritten(residual, tmp_path):
    generator, _ = residual
    segmenter = segmodels.load("colors")
    run = dissect.run(generator, segmenter, ["blocks.1", "relu"], samples=8, out=tmp_path / "run.h5")
    assert {name: run.layer(name).iou.shape[0] for name in run.layers} == {"blocks.1": 16, "relu": 4}
    assert np.nanmax(run.layer("blocks.1").iou_at(tail=0.1)) > 0
    found = dissect.effect(generator, segmenter, dissect.Recipe([dissect.ablate("blocks.1", range(6))]), range(20, 26))
    assert not np.array_equal(found.before, found.after)
    request = rewrite.Request(
        64, (rewrite.Region.box(21, 64, 16, 16, 24, 24),), rewrite.Region.box(20, 64, 40, 40, 48, 48)
    )
    with pytest.raises(GanatomyError, match=r"no convolution makes layer 'blocks.1'.*blocks.1.conv2"):
        rewrite.solve(generator, request, "blocks.1", seeds=range(8))
    edit = rewrite.solve(generator, request, "blocks.1.conv2", seeds=range(8))
    assert edit.weight == convolution_of(generator, "blocks.1.conv2").weight == "blocks.1.conv2.weight"
    codes = generator.sample([21])
    change = (generator(codes, edits=edit) - generator(codes)).abs().mean((0, 1))
    assert change[14:26, 14:26].mean() > change.mean() > 0, "most where it was asked for"


class Sized(nn.Module):
    """16 x 16, with a convolution to colours before the last function."""

    def __init__(self, last):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.linear, self.conv = nn.Linear(5, 6 * 64), nn.Conv2d(6, 6, 3, padding=1)
            self.colours, self.last = nn.Conv2d(6, 3, 1), last

    def forward(self, z):
        x = functional.interpolate(self.linear(z).view(-1, 6, 8, 8), scale_factor=2)
        return self.last(self.colours(functional.relu(self.conv(x))))


def test_the_image_before_its_last_function_is_no_default_layer():
    generator = dissect.load(Sized(torch.tanh), z_dim=5)
    assert "colours" in [layer.name for layer in generator.layers]
    assert generator.default_layers() == ["conv"]


def test_images_without_anything_dark_are_warned_of():
    with pytest.warns(GanatomyWarning, match=r"image_range=\(0, 1\)"):
        dissect.load(Sized(torch.sigmoid), z_dim=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GanatomyWarning)
        dissect.load(Sized(torch.sigmoid), z_dim=5, image_range=(0, 1))
        dissect.load(Sized(torch.tanh), z_dim=5)


def test_one_image_for_several_latents_is_refused():
    """Public StyleGAN2 code takes a list of tensors; of a tensor it would take the first row."""

    class Listed(Sized):
        def forward(self, styles):
            return super().forward(styles[0][None])

    with pytest.raises(GanatomyError, match="2 latents gave 1; wrap it"):
        dissect.load(Listed(torch.tanh), z_dim=5)
