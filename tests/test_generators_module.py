"""Any nn.Module: which layers are found, how z goes in, classes, grey and scaled images, factories, pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from networks import Tangled, chain
from torch import nn

import dissect
from dissect import GanatomyError
from dissect.generators import ModuleGenerator, PictureModel

pytestmark = pytest.mark.usefixtures("one_thread")

# name: (channels, side, kind, default)
TANGLED = {
    "act": (6, 4, "activation", False),
    "conv1": (6, 4, "conv", False),
    "act@2": (6, 4, "activation", True),
    "up": (6, 8, "block", False),
    "split.conv": (6, 8, "conv", False),
    "split:0": (6, 8, "block", False),
    "split:1:half": (6, 8, "block", True),
    "up@2": (6, 16, "block", False),
    "conv2": (5, 16, "conv", True),
    "rgb.0": (3, 16, "conv", False),  # the image before its last activation
    "rgb.1": (3, 16, "activation", False),
    "rgb": (3, 16, "block", False),
}


@pytest.fixture(scope="module")
def tangled():
    return dissect.load(Tangled(), z_dim=Tangled.Z_DIM)


def test_layers_are_every_map_that_a_module_returns(tangled):
    found = {layer.name: (layer.channels, layer.height, layer.kind, layer.default) for layer in tangled.layers}
    assert found == TANGLED
    assert list(found) == list(TANGLED) == list(Tangled.LAYERS)
    assert all(layer.height == layer.width and layer.stage == 0 for layer in tangled.layers)
    assert tangled.default_layers() == ["act@2", "split:1:half", "conv2"]
    assert (tangled.family, tangled.resolution, tangled.z_dim, tangled.num_classes) == ("module", 16, 5, None)
    assert tangled.name == "Tangled"
    assert tangled.flavour == "networks.Tangled"
    assert tangled.file_sha256 is None


def tapped(generator, tap, codes):
    """Run the bare network, with ``tap`` at every layer: no hook of ours, the same arithmetic."""
    network = generator.module
    network.tap = tap
    try:
        with torch.no_grad():
            return network(codes.z, *([] if codes.classes is None else [codes.classes]))
    finally:
        network.tap = lambda name, value: value


# Values inside containers or child modules that the taps do not reach on their own.
TAPPED = [name for name in Tangled.LAYERS if name not in ("split.conv", "rgb.0", "rgb.1")]


def test_captured_values_are_those_returned_even_where_the_next_module_works_in_place(tangled):
    codes = tangled.sample(range(4))
    expected = {}

    def keep(name, value):
        expected[name] = value.clone()
        return value

    image = tapped(tangled, keep, codes)
    capture = tangled.capture(codes, [layer.name for layer in tangled.layers])
    assert (expected["conv1"] < 0).any(), "nothing to overwrite"
    assert list(expected) == TAPPED
    for name, value in expected.items():
        assert torch.equal(capture.features[name], value), name
    assert torch.equal(capture.images, image)
    assert torch.equal(capture.features["rgb"], image)


@pytest.mark.parametrize("name", TAPPED)
def test_an_edit_at_a_layer_is_that_change_in_the_network_itself(tangled, name):
    codes = tangled.sample(range(3))
    edit = dissect.ablate(name, [0, 2], 0.75)
    expected = tapped(tangled, lambda at, value: edit(value) if at == name else value, codes)
    assert torch.equal(tangled(codes, edits=edit), expected)
    assert not torch.equal(expected, tangled(codes))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fc", r"'fc' is not a layer: it returned \[N, 96\]; expected a 4-D map \[N, U, h, w\]"),
        ("unused", "'unused' is not a layer: it returned no tensor or did not run; expected a 4-D map"),
        ("conv3", "unknown layer 'conv3'; nearest: conv2, conv1"),
        ("act@3", "unknown layer 'act@3'; nearest: act@2"),
        ("", "unknown layer ''"),
    ],
)
def test_what_is_no_layer_is_said_to_be_none(tangled, name, words):
    codes = tangled.sample(0)
    for ask in (
        lambda: tangled.layer(name),
        lambda: tangled.capture(codes, [name]),
        lambda: tangled(codes, edits=dissect.ablate(name, 0)),
        lambda: tangled.resume(tangled.capture(codes, "act"), name),
    ):
        with pytest.raises(GanatomyError, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)


class Makes(nn.Module):
    """Calls ``make(self, z)``; children are given by name."""

    def __init__(self, make, **children):
        super().__init__()
        self.make = make
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, z):
        return self.make(self, z)


def square(z, side=4, channels=3):
    """An image in which z can be seen."""
    return z.sum(1)[:, None, None, None].expand(-1, channels, side, side) / 100


class Named(nn.Module):
    """Returns a fixed function of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        # the last of each resolution, the outermost where several are the same moment
        ({"a": (5, 4, 4), "b": (6, 4, 4), "c": (5, 8, 8)}, ["b", "c"]),
        ({"a": (5, 8, 8), "b": (6, 4, 4), "c": (5, 8, 8)}, ["b", "c"]),
        # below 4 x 4 there is no where
        ({"a": (5, 1, 1), "b": (5, 2, 2), "c": (5, 3, 3), "d": (5, 4, 4)}, ["d"]),
        # not square: a resolution of its own
        ({"a": (5, 4, 8), "b": (5, 4, 4), "c": (5, 2, 8)}, ["a", "b"]),
        # not maps of the batch: three axes, integers, nothing inside
        ({"a": (5, 4), "b": (5, 8, 8)}, ["b"]),
    ],
)
def test_default_layers_of_an_opaque_module(shapes, expected):
    children = {name: Named(lambda z, shape=shape: torch.zeros(len(z), *shape)) for name, shape in shapes.items()}

    def make(net, z):
        for name in shapes:
            getattr(net, name)(z)
        return square(z, 16)

    assert ModuleGenerator(Makes(make, **children), 4).default_layers() == expected


@pytest.mark.parametrize(
    ("returned", "described"),
    [
        (lambda z: torch.zeros(len(z), 5, 4, 4, dtype=torch.long), r"\[N, 5, 4, 4\] of int64"),
        (lambda z: torch.zeros(len(z), 0, 4, 4), r"\[N, 0, 4, 4\]"),
        (lambda z: torch.zeros(7, 5, 4, 4), r"\[7, 5, 4, 4\]"),
        (lambda z: torch.zeros(1, 5, 4, 4), r"\[1, 5, 4, 4\]"),
        (lambda z: None, "no tensor"),
        (lambda z: [torch.zeros(3), torch.zeros(len(z))], r"\[3\], \[N\]"),
    ],
)
def test_values_that_are_no_maps_of_the_batch_are_no_layers(returned, described):
    def make(net, z):
        net.odd(z)
        return square(z)

    generator = ModuleGenerator(Makes(make, odd=Named(returned)), 4)
    assert generator.layers == []
    with pytest.raises(GanatomyError, match=f"'odd' is not a layer: it returned {described}"):
        generator.layer("odd")


def test_the_image_is_excluded_whatever_its_name_and_nothing_else_is():
    inner = nn.Sequential(nn.ConvTranspose2d(4, 6, 4), nn.ReLU(), nn.Conv2d(6, 3, 1))
    wrapped = nn.Sequential(nn.Sequential(inner, nn.Identity()))
    generator = ModuleGenerator(wrapped, 4)
    assert [layer.name for layer in generator.layers][-2:] == ["0.1", "0"]
    assert generator.default_layers() == ["0.0.1"], "the wrappers hand on the image, the ReLU is the last map"

    both = Makes(
        lambda net, z: (net.image(z), net.features(z)),
        image=Named(square),
        features=Named(lambda z: torch.zeros(len(z), 9, 4, 4)),
    )
    assert ModuleGenerator(both, 4).default_layers() == ["features"], "what goes with the image is no image"

    views = Makes(lambda net, z: net.features(z)[:, :3], features=Named(lambda z: torch.zeros(len(z), 9, 4, 4)))
    assert ModuleGenerator(views, 4).default_layers() == ["features"], "an image that is a slice of the last map"


def test_two_layers_of_one_name_are_refused():
    child = Named(lambda z: (torch.zeros(len(z), 2, 4, 4), torch.zeros(len(z), 2, 4, 4)))
    net = Makes(lambda net, z: (net.a(z), getattr(net, "a:0")(z), square(z))[2], a=child)
    net._modules["a:0"] = Named(lambda z: torch.zeros(len(z), 2, 4, 4))
    with pytest.raises(GanatomyError, match="two layers would be called 'a:0'"):
        ModuleGenerator(net, 4)


# -- what goes in and comes out --------------------------------------------------------------------------------


def only(shape):
    """An image for latents of this shape after the batch, an error for others."""

    def make(net, z):
        if z.shape[1:] != shape:
            raise ValueError(f"first line\nsecond line {tuple(z.shape)}")
        return square(z.flatten(1))

    return Makes(make)


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1)])
def test_z_goes_in_as_the_module_wants_it(shape):
    generator = ModuleGenerator(only(shape), 4)
    codes = generator.sample([3, 5])
    assert torch.equal(generator(codes), square(codes.z))


def test_a_module_that_runs_on_both_shapes_gets_the_one_that_makes_an_image():
    net = Makes(lambda net, z: z.sum(1, keepdim=True).expand(-1, 3, 4, 4) if z.ndim == 4 else z)
    assert ModuleGenerator(net, 4).resolution == 4


@pytest.mark.parametrize(
    ("module", "z_dim", "words"),
    [
        (only((9,)), 4, r"neither z \[2, 4\] \(first line second line \(2, 4\)\) nor z \[2, 4, 1, 1\]"),
        (nn.Sequential(nn.Linear(4, 8)), 4, r"an image \[N, 3, H, W\], it returned \[N, 8\]"),
        (Makes(lambda net, z: square(z, channels=4)), 4, r"it returned \[N, 4, 4, 4\]"),
        (Makes(lambda net, z: square(z).long()), 4, r"\[N, 3, 4, 4\] of int64"),
        (Makes(lambda net, z: None), 4, "it returned NoneType"),
        (Makes(lambda net, z: 1 / 0), 4, "division by zero"),
        (Makes(lambda net, z: (_ for _ in ()).throw(AssertionError())), 4, r"\(AssertionError\)"),
        (Makes(lambda net, z: torch.zeros(len(z), 3, 4, 6)), 4, "square images, the module makes 4 x 6"),
        (only((4,)), 0, "z_dim to be a positive integer, got 0"),
        (only((4,)), -1, "z_dim to be a positive integer, got -1"),
        (only((4,)), 2.5, "z_dim to be an integer, got 2.5"),
        (only((4,)), "4", "z_dim to be an integer, got '4'"),
        (only((4,)), None, "say how long its latent is with z_dim="),
    ],
)
def test_modules_that_are_no_generators_are_refused_in_one_line(module, z_dim, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(module, z_dim=z_dim)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_later_fails_in_one_line():
    def make(net, z):
        if len(z) == 3:
            raise RuntimeError("three\nis too many")
        return square(z)

    generator = ModuleGenerator(Makes(make), 4, name="moody")
    with pytest.raises(GanatomyError, match=r"moody failed on \[3, 4\]: RuntimeError: three is too many"):
        generator(generator.sample(range(3)))


def test_a_layer_that_does_not_run_in_a_pass_is_said_not_to():
    def make(net, z):
        return net.sometimes(square(z)) + 0 if len(z) == 2 else square(z)

    generator = ModuleGenerator(Makes(make, sometimes=nn.Identity()), 4)
    with pytest.raises(GanatomyError, match="layer 'sometimes' did not run in this pass"):
        generator.capture(generator.sample(range(3)), "sometimes")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (lambda z: square(z, channels=1), lambda z: square(z)),
        (lambda z: (square(z, 8, 16), square(z)), lambda z: square(z)),
        (lambda z: {"mask": square(z, 4, 1) * 0, "image": square(z)}, lambda z: square(z)),
        (lambda z: square(z).double(), lambda z: square(z)),
        (lambda z: square(z).half(), lambda z: square(z).half().float()),
    ],
)
def test_images_are_float32_rgb_whatever_the_module_returns(output, expected):
    generator = ModuleGenerator(Makes(lambda net, z: output(z)), 4)
    codes = generator.sample(range(2))
    images = generator(codes)
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 4, 4)
    torch.testing.assert_close(images, expected(codes.z))


@pytest.mark.parametrize("given", [(0, 1), (0, 255), (-1, 1), (-0.5, 0.5)])
def test_image_range_is_brought_to_minus_one_to_one(given):
    low, high = given
    net = Makes(lambda net, z: torch.linspace(low, high, 16).expand(len(z), 3, 16).reshape(-1, 3, 4, 4))
    generator = dissect.load(net, z_dim=4, image_range=given)
    expected = torch.linspace(-1, 1, 16).reshape(4, 4).expand(1, 3, 4, 4)
    torch.testing.assert_close(generator(generator.sample(0)), expected, rtol=0, atol=1e-6)


def test_image_range_belongs_to_the_fingerprint():
    net = Tangled()
    prints = {dissect.load(net, z_dim=5, image_range=r).fingerprint for r in ((-1, 1), (0, 1), (0, 1.0))}
    assert len(prints) == 2


@pytest.mark.parametrize("given", [(1, 1), (1, 0), (0, float("nan"))])
def test_an_empty_image_range_is_refused(given):
    with pytest.raises(GanatomyError, match="low < high"):
        dissect.load(Tangled(), z_dim=5, image_range=given)


# -- classes ---------------------------------------------------------------------------------------------------


def test_a_class_conditional_module_draws_classes_after_z_from_the_same_state():
    generator = dissect.load(Tangled(num_classes=10), z_dim=5, num_classes=10)
    codes = generator.sample(range(20))
    for seed in range(20):
        state = np.random.RandomState(seed)
        assert np.array_equal(codes.z[seed], state.randn(5).astype(np.float32))
        assert codes.classes[seed] == state.randint(10)
    assert len(set(codes.classes.tolist())) > 5
    expected = tapped(generator, lambda name, value: value, codes)
    assert torch.equal(generator(codes), expected)
    assert not torch.equal(generator(generator.sample(range(20), classes=3)), expected)
    assert generator.num_classes == 10
    assert "embed" in dict(generator.module.named_modules())
    with pytest.raises(GanatomyError, match=r"'embed' is not a layer: it returned \[N, 96\]"):
        generator.layer("embed")


def test_z_dim_and_classes_may_be_the_modules_own():
    net = Tangled(num_classes=4)
    net.z_dim, net.num_classes = np.int64(5), 4
    generator = dissect.load(net)
    assert (generator.z_dim, generator.num_classes) == (5, 4)
    net.num_classes = "four"
    with pytest.raises(GanatomyError, match="num_classes to be an integer, got 'four'"):
        dissect.load(net)


def test_the_number_of_classes_must_be_positive():
    with pytest.raises(GanatomyError, match="num_classes to be a positive integer, got -2"):
        dissect.load(Tangled(), z_dim=5, num_classes=-2)
    assert dissect.load(Tangled(), z_dim=5, num_classes=0).num_classes is None


# -- "package.module:factory" ----------------------------------------------------------------------------------

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    z_dim = 3
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(3, 3, 4)
    def forward(self, z):
        return torch.tanh(self.conv(z))

class Deep:
    @staticmethod
    def make():
        return Net()

ready = Net()

def bare():
    net = Net()
    net.z_dim = None
    return net

def raises():
    raise ValueError("no weights\\nhere")

def leaves():
    raise SystemExit(3)

def dictionary():
    return {}

def needs(argument):
    return Net()
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """The name of a module on sys.path."""
    (tmp_path / "their_nets.py").write_text(SOURCE)
    (tmp_path / "their_broken.py").write_text("import does_not_exist_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    yield "their_nets"
    for name in ("their_nets", "their_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("what", ["Net", "Deep.make", "ready"])
def test_factories_make_generators(factory, what):
    generator = dissect.load(f"{factory}:{what}")
    assert isinstance(generator, ModuleGenerator)
    assert (generator.name, generator.z_dim, generator.resolution) == (f"{factory}:{what}", 3, 4)
    assert generator(generator.sample(range(2))).shape == (2, 3, 4, 4)


def test_a_factory_may_take_its_z_dim_from_the_caller_or_return_a_generator(factory, monkeypatch):
    assert dissect.load(f"{factory}:bare", z_dim=3).z_dim == 3
    made = dissect.load(f"{factory}:Net")
    monkeypatch.setattr(sys.modules[factory], "ready", lambda: made)
    assert dissect.load(f"{factory}:ready") is made
    assert dissect.load(made) is made


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("their_nets:raises", "ValueError: no weights here"),
        ("their_nets:leaves", "SystemExit: 3"),
        ("their_nets:dictionary", "returned a dict, expected an nn.Module or a Generator"),
        ("their_nets:needs", "TypeError: .*argument"),
        ("their_nets:bare", "say how long its latent is with z_dim="),
        ("their_nets:nothing", "AttributeError: .*nothing"),
        ("their_broken:Net", "ModuleNotFoundError: .*does_not_exist_anywhere"),
        ("not_there_at_all:Net", "ModuleNotFoundError: .*not_there_at_all"),
        (".relative:Net", "TypeError"),
        ("digiface-dcgan46", "unknown generator 'digiface-dcgan46'; nearest: digiface-dcgan64"),
        ("qqqqqq", "unknown generator 'qqqqqq'; nearest: digiface-dcgan64, .*planted"),
        ("", "is a folder"),
        ("a/b/c", "no such checkpoint: a/b/c"),
        ("weights.pth", "no such checkpoint: weights.pth"),
        ("x" * 5000, "unknown generator"),
        ("~nobody-of-that-name/x.pth", "no such checkpoint"),
        ("a\0b", "unknown generator"),
    ],
)
def test_sources_that_cannot_be_loaded_say_why_in_one_line(factory, source, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "mps:0"])
def test_devices_that_cannot_be_used_are_refused(device):
    with pytest.raises(GanatomyError, match="device") as caught:
        dissect.load(Tangled(), device, z_dim=5)
    assert "\n" not in str(caught.value)


# -- pictures --------------------------------------------------------------------------------------------------


def looker():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Flatten())


def test_a_model_of_pictures_has_layers_and_gives_the_pictures_back():
    net = looker()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    generator = dissect.load(net, input_size=8, mean=mean, std=std)
    assert isinstance(generator, PictureModel)
    assert [(x.name, x.channels, x.height, x.default) for x in generator.layers] == [
        ("0", 6, 8, False), ("1", 6, 8, True), ("2", 6, 4, True),
    ]  # fmt: skip
    pictures = torch.rand(5, 3, 8, 8) * 2 - 1
    codes = generator.map(pictures.flatten(1))
    capture = generator.capture(codes, ["0", "2"])
    assert torch.equal(capture.images, pictures)
    scaled = (pictures / 2 + 0.5 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(capture.features["0"], net[0](scaled), rtol=0, atol=1e-5)
    assert torch.equal(capture.features["2"], net[2](capture.features["0"].relu()))
    with pytest.raises(GanatomyError, match=r"'3' is not a layer: it returned \[N, 96\]"):
        generator.layer("3")


def test_the_output_of_a_model_of_pictures_is_no_image():
    generator = PictureModel(nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1))), 8)
    assert generator.default_layers() == ["0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_size": 0}, "input_size to be a positive integer"),
        ({"input_size": 8, "std": (0.0, 1.0, 1.0)}, "three positive stds"),
        ({"input_size": 8, "mean": (0.5,)}, "three means"),
        ({"input_size": 1}, r"Sequential failed on \[2, 3, 1, 1\]: RuntimeError"),
    ],
)
def test_models_of_pictures_refuse_what_makes_no_sense(arguments, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(looker(), **arguments)
    assert "\n" not in str(caught.value)


def test_a_plain_chain_is_a_stage_for_each_of_its_modules():
    network = chain()
    generator = dissect.load(network, z_dim=5)
    assert [(layer.name, layer.stage) for layer in generator.layers] == [
        ("0", 0), ("1", 1), ("2.0", 2), ("2.1", 2), ("2", 2), ("3", 3), ("4.0", 4), ("4.1", 4), ("4", 4),
    ]  # fmt: skip
    codes = generator.sample(range(3))
    with torch.no_grad():
        assert torch.equal(generator(codes), network(codes.z[:, :, None, None].clone()))
    ran = []
    hooks = [child.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, child in enumerate(network)]
    capture = generator.capture(codes, ["1", "2.0"])
    ran.clear()
    generator.resume(capture, "1")
    assert ran == [2, 3, 4], "what comes before the layer does not run again"
    ran.clear()
    generator.resume(capture, "2.0")
    assert ran == [2, 3, 4]
    for hook in hooks:
        hook.remove()


class OwnForward(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 0.5


class Twin(nn.Module):
    def forward(self, x):
        return x, x


class Untwin(nn.Module):
    def forward(self, pair):
        return pair[0]


def convs():
    return [nn.ConvTranspose2d(5, 6, 4), nn.Conv2d(6, 3, 1)]


def shared():
    act = nn.ReLU()
    return nn.Sequential(nn.ConvTranspose2d(5, 6, 4), act, nn.Conv2d(6, 3, 1), nn.Sequential(act, nn.Tanh()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnForward(*convs()),
        lambda: nn.Sequential(convs()[0], Twin(), Untwin(), convs()[1]),
        shared,
        lambda: nn.Sequential(nn.Sequential(*convs())),
        lambda: nn.ModuleDict({"net": nn.Sequential(*convs())})["net"].requires_grad_(),
    ],
    ids=["own forward", "tuples between", "shared modules", "one module", "none of these"],
)
def test_what_cutting_could_change_stays_one_stage(make, request):
    network = make()
    generator = dissect.load(network, z_dim=5)
    cut = "none" in request.node.callspec.id
    assert (len(generator.stages) > 1) == cut
    codes = generator.sample(range(2))
    with torch.no_grad():
        assert torch.equal(generator(codes), network(codes.z[:, :, None, None]))
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert torch.equal(generator.resume(capture, layer.name), capture.images)
