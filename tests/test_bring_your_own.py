"""Generators by others that no catalogue knows: what their authors write, and everything that is done with them."""

import warnings

import numpy as np
import pytest
import residual
import torch
from torch import nn
from torch.nn import functional as F

import dissect
import rewrite
import segmodels
from dissect import GanatomyError
from dissect.generators.module import ModuleGenerator
from segmodels.errors import GanatomyWarning

Z = residual.Residual.z_dim


class Around(nn.Module):
    """A generator whose output is handed on in another form."""

    def __init__(self, how):
        super().__init__()
        self.net, self.how = residual.make(), how

    def forward(self, z, *others):
        return self.how(self.net(z), z, *others)


class Shared(nn.Module):
    """One convolution used at two sizes, activations in place."""

    def __init__(self):
        super().__init__()
        self.project, self.conv, self.out = nn.Linear(Z, 8 * 64), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = F.relu_(self.conv(self.project(z).view(-1, 8, 8, 8)))
        return torch.tanh(self.out(F.relu_(self.conv(F.interpolate(x, scale_factor=2.0)))))


def nested():
    deep = nn.Sequential(nn.ConvTranspose2d(Z, 8, 4), nn.InstanceNorm2d(8), nn.LeakyReLU(0.2, True))
    return nn.Sequential(
        nn.Unflatten(1, (Z, 1, 1)), deep, nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 1), nn.Tanh())
    )


def noisy():
    return Around(lambda x, z: torch.tanh(x + 0.3 * torch.randn_like(x)))


WORK = {
    "a residual one": residual.make,
    "an image and its latent": lambda: Around(lambda x, z: (x, z)),
    "a latent, then the image": lambda: Around(lambda x, z: (z, x)),
    "an image by name": lambda: Around(lambda x, z: {"latent": z, "image": x}),
    "a mask beside the image": lambda: Around(lambda x, z: [x[:, :1], x]),
    "grey": lambda: Around(lambda x, z: x.mean(1, keepdim=True)),
    "double precision": lambda: residual.make().double(),
    "half precision": lambda: residual.make().half(),
    "bfloat16": lambda: residual.make().bfloat16(),
    "on several devices": lambda: nn.DataParallel(residual.make()),
    "channels last": lambda: residual.make().to(memory_format=torch.channels_last),
    "left in training": lambda: residual.make().train(),
    "a module used twice": Shared,
    "chains of chains": nested,
    "noise of its own": noisy,
}


@pytest.mark.parametrize("name", WORK)
def test_it_is_opened_captured_and_resumed(name):
    generator = dissect.load(WORK[name](), z_dim=Z)
    codes = generator.sample(range(3))
    images = generator(codes)
    assert images.dtype == torch.float32
    assert images.shape == (3, 3, generator.resolution, generator.resolution)
    assert torch.equal(images, generator(codes)), "a pass is the same each time"
    assert generator.default_layers()
    assert all(generator.layer(layer).channels > 3 for layer in generator.default_layers()), "the image is no layer"
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert capture.features[layer.name].dtype == torch.float32
        assert torch.equal(generator.resume(capture, layer.name), images), layer.name
    place = generator.default_layers()[-1]
    changed = generator(codes, dissect.ablate(place, [0, 1, 2]))
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("name", ["double precision", "half precision", "on several devices"])
def test_precision_and_wrappers_change_nothing_that_shows(name):
    plain, other = (dissect.load(WORK[some](), z_dim=Z) for some in ("a residual one", name))
    codes = plain.sample(range(4))
    assert [layer.name for layer in other.layers] == [layer.name for layer in plain.layers]
    torch.testing.assert_close(other(codes), plain(codes), rtol=0, atol=5e-3 if "half" in name else 0)


def test_noise_that_a_network_draws_leaves_the_process_as_it_was():
    generator = dissect.load(noisy(), z_dim=Z)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generator(generator.sample(range(2)))
    assert torch.equal(torch.rand(3), expected)


REFUSED = {
    "channels at the end": (lambda: Around(lambda x, z: x.permute(0, 2, 3, 1)), r"it returned \[N, 32, 32, 3\]"),
    "flat": (lambda: Around(lambda x, z: x.flatten(1)), r"it returned \[N, 3072\]"),
    "with transparency": (lambda: Around(lambda x, z: torch.cat([x, x[:, :1]], 1)), r"it returned \[N, 4, 32, 32\]"),
    "not square": (lambda: Around(lambda x, z: x[:, :, :20]), "square images, the module makes 20 x 32"),
    "a list of latents": (lambda: ListOfLatents(), r"returned \[1, 3, 32, 32\]"),
    "TorchScript": (lambda: torch.jit.trace(residual.make().eval(), torch.zeros(1, Z)), "TorchScript"),
    "another call": (lambda: Around(lambda x, z: z.missing), "give one that wraps it"),
}


class ListOfLatents(nn.Module):
    """What public StyleGAN2 code expects: a list of tensors. Of a tensor, it takes the first row."""

    def __init__(self):
        super().__init__()
        self.net = residual.make()

    def forward(self, styles):
        return self.net(styles[0][None])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_in_a_line(name):
    make, words = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        module = make()
    with pytest.raises(GanatomyError, match=words) as told:
        dissect.load(module, z_dim=Z)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("how", "range_"),
    [(lambda x, z: (x + 1) / 2, (0, 1)), (lambda x, z: (x + 1) * 127.5, (0, 255))],
)
def test_another_range_is_noticed_and_may_be_the_modules_own(how, range_):
    with pytest.warns(GanatomyWarning, match=rf"image_range=\(0, {range_[1]}\)"):
        dissect.load(Around(how), z_dim=Z)
    module = Around(how)
    module.image_range, module.z_dim = range_, Z
    with warnings.catch_warnings():
        warnings.simplefilter("error", GanatomyWarning)
        generator = dissect.load(module)
    plain = dissect.load(residual.make())
    codes = plain.sample(range(2))
    torch.testing.assert_close(generator(codes), plain(codes), rtol=0, atol=1e-5)
    module.image_range = "wide"
    with pytest.raises(GanatomyError, match="image_range"):
        dissect.load(module)


def test_a_residual_generator_is_dissected_changed_and_rewritten(tmp_path):
    """By the name of its factory, as the command line has it."""
    generator, segmenter = dissect.load("residual:make"), segmodels.load("colors")
    assert isinstance(generator, ModuleGenerator)
    layers = generator.default_layers()
    assert layers == ["blocks.0.norm1", "blocks.1.norm1", "blocks.2.norm1", "norm"]
    run = dissect.run(generator, segmenter, layers, 60, tmp_path / "run.h5")
    assert run.layer("blocks.1.norm1").counts.sum() > 0
    effect = dissect.effect(generator, segmenter, dissect.ablate("blocks.1", range(6)), range(60, 80), controls=2)
    assert np.abs(effect.after - effect.before).max() > 0
    mask = np.zeros((32, 32), np.float32)
    mask[4:20, 4:20] = 1
    request = rewrite.Request(32, paste=(rewrite.Region(3, mask),), copy=rewrite.Region(5, mask))
    edit = rewrite.solve(generator, request, "blocks.1.conv2", seeds=range(64))
    codes = generator.sample([3, 7])
    assert not torch.equal(generator(codes, edit), generator(codes))
    recipe = dissect.Recipe(edit, generator)
    recipe.save(tmp_path / "rule.safetensors")
    again = dissect.Recipe.load(tmp_path / "rule.safetensors")
    assert torch.equal(generator(codes, again), generator(codes, edit))
