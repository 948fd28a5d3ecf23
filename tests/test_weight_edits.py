"""Edits of weights: against networks whose weights were changed for good, on every family; keys against the calls."""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import Tangled, chain
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import dissect
from dissect import GanatomyError, Recipe, WeightEdit
from dissect.generators.convolutions import convolution_of
from dissect.generators.segments import keys_of, segment
from dissect.weight_edits import changed

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
FILES = [
    "dcgan_main.safetensors", "pggan_gandissect.safetensors", "pggan_genforce.safetensors",
    "sg2ada_uncond.safetensors", "sg2_rosinality.safetensors", "nvlabs_sg2ada.pkl", "mobilestylegan_tiny.safetensors",
]  # fmt: skip
OTHERS = {
    "planted": lambda: dissect.load("planted:5,units=32"),
    "opaque": lambda: dissect.load(Tangled(), z_dim=5),
    "chain": lambda: dissect.load(chain(), z_dim=5),
}
FAMILIES = [*FILES, *OTHERS]


@functools.cache
def generator_of(family):
    return dissect.load(DATA / family) if family in FILES else OTHERS[family]()


def convolutions(generator):
    """Every convolution once, by the first layer that has it."""
    found = {}
    for layer in generator.layers:
        with contextlib.suppress(GanatomyError):
            convolution = convolution_of(generator, layer.name)
            found.setdefault(convolution.weight, convolution)
    return list(found.values())


def some_edit(generator, convolution, seed=0, size=0.3, strength=1.0):
    """A random change of rank 2, about ``size`` times as large as the weights."""
    state, c = np.random.RandomState(seed), convolution
    left, right = state.randn(c.outputs, 2), state.randn(2, c.inputs, *c.kernel)
    scale = size * float(c.tensor.std()) / 2**0.5
    return WeightEdit(c.layer, c.weight, left * scale, right, c.reading.swapped, strength, {"seed": seed})


@contextlib.contextmanager
def for_good(generator, edit):
    """Change the weights themselves, and put the old numbers back."""
    parameter = dict(generator.module.named_parameters())[edit.weight]
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.copy_((before.double() + torch.from_numpy(edit.delta())).float())
    yield
    with torch.no_grad():
        parameter.copy_(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_draws_what_the_changed_network_draws(family):
    generator = generator_of(family)
    codes = generator.sample([3, 4])
    plain = generator(codes)
    found = convolutions(generator)
    assert found
    for convolution in found:
        edit = some_edit(generator, convolution)
        with for_good(generator, edit):
            wanted = generator(codes)
        assert torch.equal(generator(codes, edit), wanted)
        assert not torch.equal(wanted, plain) or "to_img" in convolution.weight
        assert torch.equal(generator(codes), plain)  # nothing is left behind
        assert torch.equal(generator(codes, [some_edit(generator, convolution, strength=0.0)]), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_resume_is_the_whole_pass_from_the_edits_layer_back(family):
    generator = generator_of(family)
    codes = generator.sample([3, 4])
    order = {layer.name: index for index, layer in enumerate(generator.layers)}
    convolution = convolutions(generator)[-1]
    edit = some_edit(generator, convolution)
    unit = dissect.ablate(convolution.layer, [0])
    whole, both = generator(codes, edit), generator(codes, [edit, unit])
    for layer in generator.layers:
        captured = generator.capture(codes, layer.name)
        assert torch.equal(generator.resume(captured, layer.name), captured.images)
        active = generator.capture(codes, layer.name, edit)
        assert torch.equal(active.images, whole)
        assert torch.equal(generator.resume(active, layer.name, edits=edit), whole)
        if order[layer.name] <= order[convolution.layer]:
            assert torch.equal(generator.resume(captured, layer.name, edits=edit), whole)
            assert torch.equal(generator.resume(captured, layer.name, edits=[unit, edit]), both)
            assert torch.equal(generator.resume(active, layer.name, edits=[edit, unit]), both)
        else:
            with pytest.raises(GanatomyError, match="acts at"):
                generator.resume(captured, layer.name, edits=edit)


def test_a_stage_that_runs_again_takes_other_images_features_without_the_edits_of_this_one():
    generator = generator_of("opaque")
    codes = generator.sample([3, 4])
    edits = [dissect.replace("conv1", [0], seed=9), some_edit(generator, convolution_of(generator, "conv1"))]
    whole = generator(codes, edits)
    captured = generator.capture(codes, "split:0", edits)
    assert torch.equal(generator.resume(captured, "split:0", edits=edits), whole)


class Calls(TorchFunctionMode):
    """Keeps the inputs of every convolution whose weight has a shape."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.inputs = tuple(shape), []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.conv2d, torch.conv_transpose2d, F.conv2d, F.conv_transpose2d) and len(args) > 1:
            shape = tuple(args[1].shape)
            if shape in (self.shape, (self.shape[1], self.shape[0], *self.shape[2:])):
                self.inputs.append(args[0])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_what_enters_the_convolution(family):
    generator = generator_of(family)
    codes = generator.sample([3, 4, 9])
    for convolution in convolutions(generator):
        part = segment(generator, codes, convolution)
        with Calls(convolution.tensor.shape) as calls:
            part.features()
        keys = part.keys()
        assert keys.shape[:2] == (3, convolution.inputs)
        given = [x for x in calls.inputs if x.shape[1] == convolution.inputs]
        if family == "mobilestylegan_tiny.safetensors":  # a sample at a time
            assert len(given) == 3
            given = [torch.cat(given)]
        assert any(x.shape == keys.shape and torch.equal(x, keys) for x in given)
    together = keys_of(generator, codes, convolutions(generator))
    apart = [segment(generator, codes, convolution).keys() for convolution in convolutions(generator)]
    assert all(torch.equal(one, other) for one, other in zip(together, apart, strict=True))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "planted"])  # all at kinks of its ReLUs
def test_a_segment_is_the_pass_and_its_gradient_is_right(family):
    generator = generator_of(family)
    codes = generator.sample([3, 4])
    for convolution in convolutions(generator):
        part = segment(generator, codes, convolution)
        observed = convolution.observed
        assert torch.equal(part.features(), generator.features(codes, observed)[observed])
        edit = some_edit(generator, convolution, size=0.1)
        weight = changed(convolution.tensor, [edit])
        assert torch.equal(part.features(weight), generator.features(codes, observed, edit)[observed])
        leaf = convolution.tensor.detach().clone().requires_grad_()
        target = torch.randn(part.features().shape, generator=torch.Generator().manual_seed(1))
        (part.features(leaf, gradient=True) * target).sum().backward()
        step = 1e-3 * torch.from_numpy(edit.delta()).float()
        up, down = (float((part.features(leaf.detach() + s * step) * target).double().sum()) for s in (1, -1))
        slope = float((leaf.grad * step).double().sum())
        size = float((leaf.grad * step).double().norm())
        assert size > 0
        assert abs((up - down) / 2 - slope) <= 0.02 * size


def test_edits_of_one_weight_add_up_and_others_do_not_meet():
    generator = generator_of("dcgan_main.safetensors")
    codes = generator.sample([3, 4])
    first, second = convolutions(generator)[:2]
    one, two = some_edit(generator, first, 1), some_edit(generator, first, 2)
    other = some_edit(generator, second, 3)
    joined = WeightEdit(
        one.layer, one.weight, np.hstack([one.left, two.left]), np.concatenate([one.right, two.right]), one.transposed
    )
    assert torch.allclose(generator(codes, [one, two]), generator(codes, joined), atol=1e-6)
    assert torch.equal(generator(codes, [one, two, other]), generator(codes, [other, one, two]))
    half = WeightEdit(one.layer, one.weight, one.left / 2, one.right, one.transposed)
    weak = WeightEdit(one.layer, one.weight, one.left, one.right, one.transposed, strength=0.5)
    assert torch.allclose(generator(codes, half), generator(codes, weak), atol=1e-6)


def test_a_recipe_keeps_them_with_edits_of_features(tmp_path):
    generator = generator_of("dcgan_main.safetensors")
    codes = generator.sample([3, 4])
    edit = some_edit(generator, convolutions(generator)[1])
    recipe = Recipe([dissect.ablate(edit.layer, [1]), edit], generator)
    again = Recipe.load(recipe.save(tmp_path / "both.safetensors"))
    assert again == recipe
    assert again.id == recipe.id
    assert dict(again[1].provenance) == {"seed": 0}
    assert torch.equal(generator(codes, again), generator(codes, recipe))
    assert not torch.equal(generator(codes, again), generator(codes, recipe[:1]))
    with pytest.raises(GanatomyError, match="the recipe is for"):
        generator_of("pggan_gandissect.safetensors").check_edits(again)


@pytest.mark.parametrize("family", FILES)
def test_they_bake_and_they_bundle(family, tmp_path):
    generator = generator_of(family)
    codes = generator.sample([3, 4])
    convolution = convolutions(generator)[1]
    edit = some_edit(generator, convolution)
    path = dissect.export(generator, tmp_path / f"baked{Path(family).suffix}", edit)
    baked = dissect.load(path)
    assert baked.flavour == generator.flavour
    assert torch.equal(baked(codes), generator(codes, edit))
    bundle = dissect.load(dissect.export(generator, tmp_path / "edited.bundle", edit, bundle=True, with_weights=True))
    assert torch.equal(bundle(codes), generator(codes, edit))
    later = some_edit(generator, convolutions(generator)[-1], seed=5)
    assert torch.equal(bundle(codes, later), generator(codes, [edit, later]))


def test_zeros_and_changes_bake_together(tmp_path):
    generator = generator_of("pggan_gandissect.safetensors")
    codes = generator.sample([3, 4])
    convolution = convolutions(generator)[2]
    edits = [some_edit(generator, convolution), dissect.ablate(convolution.observed, [0, 2])]
    baked = dissect.load(dissect.export(generator, tmp_path / "baked.safetensors", edits))
    assert torch.allclose(baked(codes), generator(codes, edits), atol=1e-6)


def test_replicas_do_not_see_each_others_edits():
    generator = generator_of("dcgan_main.safetensors")
    one, two = generator.replicas(2)
    codes = generator.sample([3])
    plain = one(codes)
    edit = some_edit(generator, convolutions(generator)[1])
    with one.changed([edit]):
        assert not torch.equal(one(codes), plain)
        assert torch.equal(two(codes), plain)
    assert torch.equal(two(codes, edit), one(codes, edit))


def test_the_weight_is_the_networks_own_while_a_pass_has_another():
    generator = generator_of("dcgan_main.safetensors")
    own = convolution_of(generator, "main.3").tensor
    started, done, found = threading.Event(), threading.Event(), []

    def run():
        with generator._passing(), generator.changed([some_edit(generator, convolution)]):
            started.set()
            done.wait(0.2)

    def ask():
        found.append(convolution_of(generator, "main.3").tensor)
        done.set()

    convolution = convolutions(generator)[1]
    threads = [threading.Thread(target=run), threading.Thread(target=ask)]
    threads[0].start()
    started.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert convolution.weight == "3.weight"
    assert found[0] is own


def test_of_a_weight_that_two_modules_share_one_is_changed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = [nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2)]
        module = nn.Sequential(nn.ConvTranspose2d(6, 6, 8), *parts, nn.Conv2d(6, 3, 1)).eval()
    parts[1].weight = parts[0].weight
    generator = dissect.load(module, z_dim=6)
    codes = generator.sample([3])
    edit = some_edit(generator, convolution_of(generator, "2"))
    edited = generator(codes, edit)
    with torch.no_grad():
        parts[1].weight = nn.Parameter((parts[0].weight.double() + torch.from_numpy(edit.delta())).float())
        assert torch.equal(edited, module(codes.z[:, :, None, None]))


@pytest.mark.parametrize(
    ("family", "layer", "message"),
    [
        ("mobilestylegan_tiny.safetensors", "synthesis.layers.0.up", "no convolution makes layer"),
        ("mobilestylegan_tiny.safetensors", "synthesis.conv1.modulation", "no convolution makes layer"),
        ("opaque", "act", "no convolution makes layer"),
        ("opaque", "act@2", "no convolution makes layer"),
        ("dcgan_main.safetensors", "main.99", "unknown layer"),
    ],
)
def test_layers_without_a_weight_are_refused(family, layer, message):
    with pytest.raises(GanatomyError, match=message):
        convolution_of(generator_of(family), layer)


@pytest.mark.parametrize(
    ("family", "layer", "weight", "first"),
    [
        ("dcgan_main.safetensors", "main.5", "3.weight", "main.3"),
        ("dcgan_main.safetensors", "main.4", "3.weight", "main.3"),
        ("dcgan_main.safetensors", "main.3", "3.weight", "main.3"),
        ("pggan_gandissect.safetensors", "layer3", "layer3.conv.weight", "layer3.conv"),
        ("pggan_gandissect.safetensors", "layer3.conv", "layer3.conv.weight", "layer3.conv"),
        ("planted", "layer2", "layer2.conv.weight", "layer2"),
        ("chain", "1", "0.weight", "0"),
        ("chain", "2", "2.0.weight", "2.0"),
        ("chain", "4.0", "2.0.weight", "2.0"),
        ("chain", "4", "4.1.weight", "4.1"),
        ("opaque", "split:1:half", "split.conv.weight", "split.conv"),
        ("opaque", "conv2", "conv2.weight", "conv2"),
        ("sg2ada_uncond.safetensors", "synthesis.b8.conv0", "synthesis.b8.conv0.weight", "synthesis.b8.conv0"),
    ],
)
def test_which_convolution_makes_a_layer(family, layer, weight, first):
    convolution = convolution_of(generator_of(family), layer)
    assert (convolution.weight, convolution.layer) == (weight, first)
    assert convolution.observed == generator_of(family).layer(layer).name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": np.ones((8, 1))}, "expected factors"),
        ({"left": np.full((8, 2), np.nan)}, "NaN"),
        ({"left": np.full((8, 2), 1e300)}, "NaN or infinite"),
        ({"strength": np.inf}, "finite strength"),
        ({"strength": 1e300}, "make weights that are infinite"),
        ({"weight": "nothing.weight"}, "is made by the weight '3.weight'"),
        ({"layer": "main.9", "weight": "3.weight"}, "is made by the weight '9.weight'"),
        ({"layer": "main.5"}, r"is made by the weight '3.weight' \(of layer 'main.3'\)"),
        ({"right": np.ones((2, 7, 3, 3))}, "the edit is for"),
        ({"layer": "main.98"}, "unknown layer"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    generator = generator_of("dcgan_main.safetensors")
    edit = some_edit(generator, convolutions(generator)[1])
    fields = {name: getattr(edit, name) for name in ("layer", "weight", "left", "right", "transposed", "strength")}
    fields["left"] = np.ones((len(edit.left), 2))
    with pytest.raises(GanatomyError, match=message):
        generator(generator.sample([3]), WeightEdit(**(fields | change)))


def test_the_effect_of_one_is_measured_without_controls():
    generator, segmenter = generator_of("planted"), dissect_segmenter()
    edit = some_edit(generator, convolution_of(generator, "layer2"), size=2.0)
    found = dissect.effect(generator, segmenter, edit, range(8), controls=0)
    before = dissect.effect(generator, segmenter, dissect.ablate("layer2", [0], 0.0), range(8), controls=0).before
    assert np.array_equal(found.before, before)
    assert not np.array_equal(found.after, found.before)
    with pytest.raises(GanatomyError, match="controls=0"):
        dissect.effect(generator, segmenter, edit, range(8))


def dissect_segmenter():
    import segmodels

    return segmodels.load("planted")
