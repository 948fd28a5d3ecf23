"""The PGGAN family against the golden files, a network written out by hand, and the published sizes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pggan_reference as by_hand
import pytest
import torch
from safetensors.torch import load_file, save_file

import dissect
from dissect import GanatomyError
from dissect.generators import checkpoint, pggan
from dissect.generators.checkpoint import Checkpoint, Record, StoredNetwork
from dissect.generators.conversion import converted
from dissect.generators.family import open_checkpoint
from dissect.generators.pggan_network import Config, Network

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
HOSTILE = DATA / "hostile"
TOLERANCE = 2e-5  # of the largest expected value
CPU = torch.device("cpu")


def close(value, wanted, name="", tolerance=TOLERANCE):
    value, wanted = np.asarray(value), np.asarray(wanted)
    assert value.shape == wanted.shape, name
    assert np.abs(value - wanted).max() <= tolerance * np.abs(wanted).max(), name


def load(path, **options):
    return open_checkpoint(checkpoint.read(path), (pggan.FAMILY,), path.stem, CPU, options)


def network_of(tensors, arguments=None, beside=None):
    return StoredNetwork("", "", dict(tensors), None, arguments or {}, beside or {})


def made(tensors, arguments=None, beside=None, **options):
    network = network_of(tensors, arguments, beside)
    file = Checkpoint(Path("net.pth"), "0" * 64, "torch zip", (network,))
    return open_checkpoint(file, (pggan.FAMILY,), "net", CPU, options)


def refused(tensors, message, arguments=None, beside=None, **options):
    with pytest.raises(GanatomyError) as caught:
        made(tensors, arguments, beside, **options)
    assert "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), caught.value


def latents(generator, count=3):
    return generator.map(np.random.RandomState(1).randn(count, generator.z_dim))


# -- golden files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "flavour"), [(n, n) for n in ("gandissect", "genforce", "ganzoo")])
def test_golden(name, flavour):
    path, expected = DATA / f"pggan_{name}.safetensors", np.load(DATA / f"pggan_{name}.expected.npz")
    generator = load(path)
    assert (generator.family, generator.flavour, generator.resolution, generator.z_dim) == ("pggan", flavour, 32, 32)
    codes = generator.map(expected["z"])
    seen = 0
    for key in expected.files:
        kind, _, rest = key.partition("_")
        if key == "image":
            close(generator(codes), expected[key], key)
        elif key == "image_z2p5":
            close(generator(generator.map(2.5 * expected["z"][:1])), expected[key], key)
        elif rest.startswith(("lod", "alpha")):
            option = re.match("[a-z]+", rest)[0]
            close(load(path, **{option: rest.removeprefix(option)})(codes), expected[key], key)
        elif key.startswith("hook:"):
            layer = key.removeprefix("hook:")
            value = generator.capture(codes, layer).features[layer][:1]
            close(value.reshape(expected[key].shape), expected[key], key)
        else:
            assert key == "z"
            continue
        seen += 1
        assert kind
    assert seen == {"gandissect": 6, "genforce": 8, "ganzoo": 8}[name]


def test_golden_control():
    expected = np.load(HOSTILE / "content_ok_control.expected.npz")
    generator = load(HOSTILE / "content_ok_control.safetensors")
    close(generator(generator.map(expected["z"])), expected["image"])
    swapped = load(HOSTILE / "content_transposed_square.safetensors")
    difference = np.abs(swapped(swapped.map(expected["z"])).numpy() - expected["image"]).max()
    assert difference > 0.1 * np.abs(expected["image"]).max()
    assert swapped.fingerprint != generator.fingerprint


WRONG = {
    "wrong_key": r"unexpected key layer2\.conv\.wieght",
    "missing_key": r"lacks layer3\.wscale\.b",
    "extra_key": r"unexpected key layer9\.conv\.weight",
    "wrong_shape": r"layer2\.wscale\.b is \[7\], expected \[8\]",
    "wrong_kernel": r"layer2\.conv\.weight is \[8, 8, 2, 2\], expected \[8, 8, 3, 3\]",
    "nan": r"layer3\.conv\.weight holds NaN",
    "inf": r"layer1\.wscale\.b holds NaN or infinite",
    "int_dtype": r"layer2\.conv\.weight is torch\.int32",
    "transposed": r"output_8x8\.conv\.weight makes 6 channels",
}


@pytest.mark.parametrize("name", WRONG)
def test_golden_hostile_contents(name):
    with pytest.raises(GanatomyError, match=WRONG[name]) as caught:
        load(HOSTILE / f"content_{name}.safetensors")
    assert "\n" not in str(caught.value)


# -- restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gandissect", {}), ("genforce", {}), ("genforce", {"lod": 0.5}), ("genforce", {"lod": 1.25}),
        ("genforce", {"lod": 2}), ("ganzoo", {}), ("ganzoo", {"alpha": 0.35}),
    ],
)  # fmt: skip
def test_resume_is_exact_at_every_layer(name, options):
    generator = load(DATA / f"pggan_{name}.safetensors", **options)
    codes = latents(generator)
    names = [layer.name for layer in generator.layers]
    capture, plain = generator.capture(codes, names), generator(codes)
    assert torch.equal(capture.images, plain)
    for layer in generator.layers:
        assert capture.features[layer.name].shape == (3, layer.channels, layer.height, layer.width)
        assert torch.equal(generator.resume(capture, layer.name), plain), layer.name
        edit = dissect.ablate(layer.name, [0, 1])
        edited = generator(codes, edit)
        assert not torch.equal(edited, plain), layer.name
        assert torch.equal(generator.resume(capture, layer.name, edits=edit), edited), layer.name
        changed = capture.features[layer.name].clone()
        changed[:, :2] = 0
        assert torch.equal(generator.resume(capture, layer.name, changed), edited), layer.name


@pytest.mark.parametrize("lod", [0.0, 0.5])
def test_resume_keeps_earlier_edits_of_the_capture(lod):
    generator = load(DATA / "pggan_genforce.safetensors", lod=lod)
    codes, names = latents(generator), [layer.name for layer in generator.layers]
    early = dissect.ablate("layer2", [0, 1, 2])
    capture = generator.capture(codes, names, early)
    for name in names[names.index("layer2") :]:
        assert torch.equal(generator.resume(capture, name, edits=early), capture.images), name


# -- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "heads", "count"),
    [
        ([512, 512, 512, 512, 256, 128, 64, 32, 16], "all", 23_079_115),
        ([512, 512, 512, 512, 256, 128, 64, 32, 16], "last", 23_071_507),
        ([512, 512, 512, 512, 256, 128, 64, 32], "all", 23_072_120),
        ([512, 512, 512, 512, 256, 128, 64], "all", 23_044_309),
        ([512, 512, 512, 512, 256, 128], "all", 22_933_394),
        ([512, 512, 512, 256, 128, 64, 32], "last", 18_344_995),
    ],
)
def test_published_parameter_counts(sides, heads, count):
    blocks = len(sides)
    chosen = tuple(range(blocks)) if heads == "all" else (blocks - 1,)
    config = Config(512, tuple(width for width in sides for _ in range(2)), chosen)
    with torch.device("meta"):
        network = Network(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert config.resolution == 4 * 2 ** (blocks - 1)


SIZES = {
    "4 px": {"channels": (6,)},
    "8 px": {"channels": (8, 7)},
    # Not too narrow: a pixel norm of few channels, all near zero, makes large errors of small ones.
    "128 px": {"channels": (17, 16, 15, 14, 13, 12), "z_dim": 3},
    "z longer than the channels": {"z_dim": 40, "channels": (5, 5, 5)},
    "grey": {"colors": 1, "channels": (6, 4, 3)},
    "two widths at one resolution": {"channels": ((6, 5), (4, 3), (3, 4))},
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_read_from_the_weights(size):
    net = by_hand.plain(**SIZES[size])
    generator = made(by_hand.gandissect(net))
    assert (generator.resolution, generator.z_dim) == (net.resolution, net.layers[0][0].shape[0])
    codes = latents(generator, 2)
    names = [f"layer{i + 1}" for i in range(len(net.layers))]
    image, values = by_hand.run(net, codes.z)
    capture = generator.capture(codes, names)
    close(capture.images, image.expand(-1, 3, -1, -1))
    for name, value in zip(names, values):
        close(capture.features[name], value, name)
    assert generator.default_layers() == names[1::2]
    assert generator.parameters == sum(tensor.numel() for tensor in by_hand.gandissect(net).values())


def test_the_largest_published_size():
    generator = made(by_hand.gandissect(by_hand.plain(channels=(4,) * 9)))
    assert generator(latents(generator, 1)).shape == (1, 3, 1024, 1024)
    assert [generator.layer(name).height for name in generator.default_layers()] == [4 * 2**b for b in range(9)]
    refused(by_hand.gandissect(by_hand.plain(channels=(2,) * 11)), "unexpected key")


# -- names -----------------------------------------------------------------------------------------------------

NAMES = {
    "gandissect": (["layer1", "layer2", "layer3", "layer4"], "layer{}.conv", ["output_8x8"]),
    "genforce": (["layer0", "layer1", "layer2", "layer3"], None, ["output1"]),
    "tensorflow": (["layer1", "layer2", "layer3", "layer4"], "layer{}.conv", ["output_8x8"]),
}
OTHER_NAMES = {
    "gandissect": {"layer3.wscale": "layer3.conv", "layer3.relu": "layer3"},
    "gandissect-features": {"features.2": "layer3", "features.2.wscale": "layer3.conv", "output": "output_8x8"},
    "genforce": {"layer3.activate": "layer3"},
    "tensorflow": {"4x4/Dense": "layer1", "4x4/Conv": "layer2", "8x8/Conv0_up": "layer3", "ToRGB_lod0": "output_8x8"},
    "tensorflow-unfused": {"8x8/Conv0": "layer3", "8x8/Conv1": "layer4"},
}


@pytest.mark.parametrize("layout", NAMES)
def test_layers_have_the_names_of_the_file(layout):
    generator = made(by_hand.LAYOUTS[layout](by_hand.plain()))
    activations, _, heads = NAMES[layout]
    wanted = [(name, kind) for a in activations for name, kind in ((f"{a}.conv", "conv"), (a, "activation"))]
    assert [(x.name, x.kind) for x in generator.layers] == wanted + [(name, "conv") for name in heads]
    assert [x.stage for x in generator.layers] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert generator.default_layers() == activations[1::2]


@pytest.mark.parametrize("layout", OTHER_NAMES)
def test_names_of_the_public_code_are_other_names(layout):
    generator = made((by_hand.LAYOUTS | by_hand.LAST_ONLY)[layout](by_hand.plain()))
    for theirs, ours in OTHER_NAMES[layout].items():
        assert generator.layer(theirs).name == ours
    with pytest.raises(GanatomyError, match="unknown layer"):
        generator.layer("layer77")


def test_the_conv_is_what_the_leaky_relu_gets():
    generator = made(by_hand.gandissect(by_hand.plain()))
    capture = generator.capture(latents(generator), ["layer3.conv", "layer3", "layer4", "output_8x8"])
    found = capture.features
    assert torch.equal(torch.nn.functional.leaky_relu(found["layer3.conv"], 0.2), found["layer3"])
    assert torch.equal(found["output_8x8"], capture.images)


# -- layouts ---------------------------------------------------------------------------------------------------


def layout_of(name):
    return pggan.FAMILY.layout(name)


@pytest.mark.parametrize("channels", [(6, 4), (6, 6), (5, 5, 4, 3)])
def test_the_same_weights_are_the_same_generator_in_every_layout(channels):
    net = by_hand.plain(channels=channels)
    files = {name: write(net) for name, write in by_hand.LAYOUTS.items()}
    files["features"] = by_hand.features(net)
    files["last only"] = by_hand.gandissect(net)
    options = {"fused_scale": True} if len(set(channels)) == 1 else {}
    generators = {
        name: made(tensors, **(options if name == "genforce-fused" else {})) for name, tensors in files.items()
    }
    codes = latents(generators["features"])
    image, _ = by_hand.run(net, codes.z)
    first = generators["gandissect"]
    close(first(codes), image)
    for name, generator in generators.items():
        assert generator.fingerprint == first.fingerprint, name
        assert torch.equal(generator(codes), first(codes)), name
        assert generator.flavour == {"features": "gandissect-features", "last only": "gandissect"}.get(name, name)


@pytest.mark.parametrize("target", by_hand.LAYOUTS)
@pytest.mark.parametrize("source", by_hand.LAYOUTS)
def test_conversions_write_the_public_names_and_come_back_bit_for_bit(source, target):
    net = by_hand.plain(channels=(6, 5, 4))
    file = by_hand.LAYOUTS[source](net)
    inside, beside, note = converted(layout_of(source), layout_of(target), network_of(file))
    assert not beside
    assert not note
    assert_same(inside, by_hand.LAYOUTS[target](net))
    back, _, _ = converted(layout_of(target), layout_of(source), network_of(inside))
    assert_same(back, file)


@pytest.mark.parametrize("target", by_hand.LAYOUTS)
@pytest.mark.parametrize("source", by_hand.LAST_ONLY)
def test_missing_heads_are_written_as_zeros_and_come_back_as_missing(source, target):
    net = by_hand.plain(channels=(6, 5, 4))
    file = by_hand.LAST_ONLY[source](net)
    inside, _, _ = converted(layout_of(source), layout_of(target), network_of(file))
    if target != "gandissect":
        blank = by_hand.Plain(net.layers, [(w * 0, b * 0) for w, b in net.heads[:-1]] + net.heads[-1:])
        assert_same(inside, by_hand.LAYOUTS[target](blank))
    back, _, _ = converted(layout_of(target), layout_of(source), network_of(inside))
    assert_same(back, file)
    assert made(inside).fingerprint == made(file).fingerprint


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("target", ["genforce", "genforce-fused", "gandissect"])
def test_converted_files_open_without_the_option_that_the_first_one_needed(target, tmp_path):
    """Square kernels do not show whether they are fused: the converted file says it of itself."""
    net = by_hand.plain(channels=(6, 6, 6))
    save_file({k: t.contiguous() for k, t in by_hand.genforce(net, fused=True).items()}, tmp_path / "net.safetensors")
    told = dissect.load(tmp_path / "net.safetensors", fused_scale=True)
    found = dissect.load(dissect.convert(told, tmp_path / "out.safetensors", target))
    assert (found.fingerprint, found.flavour) == (told.fingerprint, target)


@pytest.mark.parametrize("name", ["gandissect", "genforce", "ganzoo"])
def test_golden_files_are_written_again_bit_for_bit(name):
    file = load_file(DATA / f"pggan_{name}.safetensors")
    layout = layout_of(name)
    again, beside = layout.write(layout.read(file, {}))
    assert not beside
    assert_same(again, file)
    generator = load(DATA / f"pggan_{name}.safetensors")
    assert_same(layout.write(generator.module.state_dict())[0], file)


def test_what_a_layout_cannot_hold_is_refused():
    net = by_hand.plain(channels=(6, 4))
    with pytest.raises(GanatomyError, match=r"gandissect-features has no place for output_4x4_of_8\.conv\.weight"):
        converted(layout_of("genforce"), layout_of("gandissect-features"), network_of(by_hand.genforce(net)))
    zoo = made(by_hand.ganzoo()).configuration
    official = made(by_hand.genforce(net)).configuration
    faded = made(by_hand.genforce(net), lod=0.5).configuration
    for layout in pggan.FAMILY.layouts:
        assert bool(layout.cannot(official)) == (layout.name == "ganzoo")
        assert bool(layout.cannot(zoo)) == (layout.name != "ganzoo")
        assert bool(layout.cannot(faded)) == ("gan" in layout.name)
    assert "biases" in layout_of("genforce").cannot(zoo)


def test_layouts_of_other_networks_are_not_recognised():
    others = [
        {"formatLayer.weight": torch.zeros(1), "main.outlayer.weight": torch.zeros(1)},
        {"layer0.weight": torch.zeros(1), "input0.weight": torch.zeros(1)},
        {"synthesis.layer0.weight": torch.zeros(1), "synthesis.output0.weight": torch.zeros(1)},
        {"layer1.conv.weight": torch.zeros(1), "layer1.epilogue.bias": torch.zeros(1)},
        {"4x4/Dense0/weight": torch.zeros(1), "4x4/Conv/weight": torch.zeros(1)},
        {"4x4/Const/const": torch.zeros(1), "4x4/Conv/weight": torch.zeros(1)},
    ]
    for tensors in others:
        assert not any(layout.recognise(tensors) for layout in pggan.FAMILY.layouts), list(tensors)


# -- level of detail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["genforce", "genforce-fused", "tensorflow", "tensorflow-unfused"])
@pytest.mark.parametrize("lod", [0.0, 0.25, 1.0, 1.75, 2.0])
def test_level_of_detail(layout, lod):
    net = by_hand.plain(channels=(6, 5, 4))
    file = by_hand.LAYOUTS[layout](net)
    stored, given = made(file | {"lod": torch.tensor(lod)}), made(file, lod=str(lod))
    codes = latents(stored)
    close(stored(codes), by_hand.run(net, codes.z, lod)[0])
    assert torch.equal(stored(codes), given(codes))
    assert stored.fingerprint == given.fingerprint
    assert (stored.fingerprint == made(file).fingerprint) == (lod == 0)
    assert stored.configuration.get("lod", 0.0) == lod
    assert stored.resolution == 16
    # What is written again holds every head, drawn or not, and the level.
    assert_same(layout_of(layout).write(given.module.state_dict())[0], file | {"lod": torch.tensor(lod)})
    running = [x for x in stored.layers if x.kind == "activation"]
    assert len(running) == 2 * (3 - int(lod))
    assert {x.height for x in running} == {4 * 2**b for b in range(3 - int(lod))}


def test_heads_that_do_not_draw_leave_the_fingerprint_alone():
    net = by_hand.plain(channels=(6, 5, 4))
    other = by_hand.Plain(net.layers, [(w + 1, b) for w, b in net.heads[:-1]] + net.heads[-1:])
    for lod, same in ((0, True), (0.5, False), (1, False)):
        pair = [made(by_hand.genforce(each), lod=lod).fingerprint for each in (net, other)]
        assert (pair[0] == pair[1]) == same
    drawn_last = by_hand.Plain(net.layers, [*net.heads[:-1], (net.heads[-1][0] + 1, net.heads[-1][1])])
    assert made(by_hand.genforce(net), lod=1).fingerprint == made(by_hand.genforce(drawn_last), lod=1).fingerprint


@pytest.mark.parametrize("kind", ["option", "dict", "record", "nothing"])
def test_alpha(kind):
    tensors = by_hand.ganzoo(channels=(6, 5, 4))
    fields = {"alpha": 0.35, "depthScale0": 6, "leakyness": 0.2}
    beside = {"dict": {"config": fields}, "record": {"config": Record("models.utils.config.BaseConfig", fields)}}
    options = {"option": {"alpha": 0.35}}
    generator = made(tensors, beside=beside.get(kind), **options.get(kind, {}))
    alpha = 0.0 if kind == "nothing" else 0.35
    codes = latents(generator)
    close(generator(codes), by_hand.run_ganzoo(tensors, codes.z, alpha))
    source = {fact.name: fact.source for fact in generator.facts}["alpha"]
    assert source == {"option": "option", "nothing": "assumed"}.get(kind, "file")
    assert generator.fingerprint == made(tensors, alpha=alpha).fingerprint
    assert (generator.fingerprint == made(tensors).fingerprint) == (alpha == 0)


def test_the_option_wins_over_the_recorded_alpha():
    tensors = by_hand.ganzoo()
    beside = {"config": {"alpha": 0.35}}
    assert made(tensors, beside=beside, alpha=0).fingerprint == made(tensors).fingerprint
    generator = made(tensors, alpha=1)
    codes = latents(generator)
    close(generator(codes), by_hand.run_ganzoo(tensors, codes.z, 1.0))


# -- classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["genforce", "genforce-fused", "tensorflow", "tensorflow-unfused"])
@pytest.mark.parametrize("how", ["option", "recorded"])
def test_classes_join_z(layout, how):
    net = by_hand.plain(z_dim=5 + 4, channels=(6, 4))
    where = {"arguments": {"label_size": 4}} if how == "recorded" else {"label_size": "4"}
    generator = made(by_hand.LAYOUTS[layout](net), **where)
    assert (generator.z_dim, generator.num_classes) == (5, 4)
    z, classes = np.random.RandomState(1).randn(4, 5), [3, 0, 1, 1]
    alone = torch.from_numpy(z)
    joined = torch.cat([by_hand.norm(alone) if "genforce" in layout else alone, torch.eye(4)[classes]], dim=1)
    close(generator(generator.map(z, classes)), by_hand.run(net, joined)[0])
    codes = generator.sample(range(3))
    assert codes.classes.shape == (3,)
    assert torch.equal(generator.resume(generator.capture(codes, "layer1"), "layer1"), generator(codes))
    with pytest.raises(GanatomyError, match="4 classes"):
        generator.map(z)
    for other in pggan.FAMILY.layouts:
        fits = other.name.split("-")[0] == layout.split("-")[0]
        assert bool(other.cannot(generator.configuration)) != fits, other.name


# -- fused upsampling ------------------------------------------------------------------------------------------


def test_fused_kernels_are_the_sum_of_four_shifts():
    net = by_hand.plain(channels=(6, 4))
    file = by_hand.genforce(net, fused=True)
    generator = made(file)
    found = generator.capture(latents(generator), ["layer1", "layer2.conv"]).features
    wanted = by_hand.fused_upsampling(by_hand.norm(found["layer1"].double()), file["layer2.weight"])
    close(found["layer2.conv"], wanted + file["layer2.bias"][:, None, None])
    variables = by_hand.tensorflow(net)
    generator = made(variables)
    found = generator.capture(latents(generator), ["layer2", "layer3.conv"]).features
    kernel = variables["8x8/Conv0_up/weight"].permute(3, 2, 0, 1)  # TensorFlow's [3, 3, out, in]
    wanted = by_hand.fused_upsampling(by_hand.norm(found["layer2"].double()), kernel)
    close(found["layer3.conv"], wanted + variables["8x8/Conv0_up/bias"][:, None, None])


def test_where_no_shape_shows_fused_kernels_they_are_asked_for():
    net = by_hand.plain(channels=(6, 6, 6))
    file = by_hand.genforce(net, fused=True)
    told, recorded, assumed = made(file, fused_scale="yes"), made(file, {"fused_scale": True}), made(file)
    codes = latents(told)
    close(told(codes), by_hand.run(net, codes.z)[0])
    assert told.fingerprint == recorded.fingerprint != assumed.fingerprint
    assert [each.flavour for each in (told, recorded, assumed)] == ["genforce-fused", "genforce-fused", "genforce"]
    assert told.origin.layout is layout_of("genforce-fused")
    assert {fact.name: fact.source for fact in assumed.facts}["fused_scale"] == "assumed"
    assert made(by_hand.genforce(net)).fingerprint == told.fingerprint


# -- refusals --------------------------------------------------------------------------------------------------


def without(tensors, *keys):
    return {key: tensor for key, tensor in tensors.items() if key not in keys}


GANDISSECT = by_hand.gandissect(by_hand.plain(channels=(6, 5, 4)), "all")
GENFORCE = by_hand.genforce(by_hand.plain(channels=(6, 5, 4)))
TENSORFLOW = by_hand.tensorflow(by_hand.plain(channels=(6, 5, 4)))
ZOO = by_hand.ganzoo(channels=(6, 5, 4))
BROKEN = {
    "two heads of three": (without(GANDISSECT, "output_8x8.conv.weight", "output_8x8.wscale.b"), "heads for 4, 16"),
    "half a head": (without(GANDISSECT, "output_8x8.wscale.b"), r"lacks output_8x8\.wscale\.b"),
    "no last head": (without(GENFORCE, "output2.weight", "output2.bias"), r"lacks output2\.weight"),
    "head of a larger network": (GANDISSECT | {"output_32x32.wscale.b": torch.ones(3)}, "unexpected key output_32x32"),
    "an odd number of layers": (
        without(GANDISSECT, "layer6.conv.weight", "layer6.wscale.b"), r"lacks layer6\.conv\.weight"),
    "a gap": (without(GENFORCE, "layer2.weight", "layer2.bias", "layer3.weight", "layer3.bias"), "output2|layer4"),
    "five colours": (GANDISSECT | {"output_16x16.conv.weight": torch.ones(5, 4, 1, 1)}, "makes 5 channels"),
    "a large head": (GENFORCE | {"output2.weight": torch.ones(3, 4, 3, 3)}, r"output2\.weight is \[3, 4, 3, 3\]"),
    "a first kernel of 3": (GENFORCE | {"layer0.weight": torch.ones(6, 5, 3, 3)}, r"layer0\.weight is \[6, 5, 3, 3\]"),
    "another layout's key": (GENFORCE | {"layer1.wscale.b": torch.ones(6)}, r"unexpected key layer1\.wscale\.b"),
    "no channels": (GENFORCE | {"layer1.weight": torch.ones(0, 6, 3, 3)}, r"layer1\.weight is \[0, 6, 3, 3\]"),
    "half precision of nothing": (GENFORCE | {"layer1.bias": torch.ones(())}, r"layer1\.bias is \[\]"),
    "lod of two numbers": (GENFORCE | {"lod": torch.ones(2)}, r"lod is \[2\]"),
    "whole lod": (GENFORCE | {"lod": torch.ones((), dtype=torch.int64)}, "lod is .*int64"),
    "negative lod": (GENFORCE | {"lod": torch.tensor(-1.0)}, "lod: -1.0 is not valid"),
    "lod of a larger network": (GENFORCE | {"lod": torch.tensor(2.5)}, "lod is 2.5, expected at most 2 .* 16 pixels"),
    "dense of odd length": (TENSORFLOW | {"4x4/Dense/weight": torch.ones(5, 97)}, r"4x4/Dense/weight .*\[5, 97\]"),
    "dense of three axes": (TENSORFLOW | {"4x4/Dense/weight": torch.ones(5, 6, 16)}, r"Dense/weight .*\[5, 6, 16\]"),
    "a kernel of TensorFlow": (
        TENSORFLOW | {"8x8/Conv0_up/weight": torch.ones(3, 3, 6, 5)}, r"8x8/Conv0_up/weight is \[3, 3, 6, 5\]"),
    "both kinds of kernels": (TENSORFLOW | {"8x8/Conv0/weight": torch.ones(3, 3, 6, 5)}, "Conv0"),
    "a size that is none": (TENSORFLOW | {"12x12/Conv1/bias": torch.ones(3)}, "unexpected key 12x12/Conv1/bias"),
    "a bias for every channel": (ZOO | {"formatLayer.module.bias": torch.ones(6)}, r"formatLayer\.module\.bias"),
    "a bias of two axes": (ZOO | {"formatLayer.module.bias": torch.ones(96, 1)}, r"formatLayer\.module\.bias"),
    "a second group": (ZOO | {"groupScale0.1.module.bias": torch.ones(6)}, r"unexpected key groupScale0\.1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_contents_are_refused(case):
    refused(*BROKEN[case])


NO_OPTIONS = {
    "lod of gandissect": (GANDISSECT, {"lod": 1}, "option lod is for the layouts genforce.*gandissect"),
    "alpha of genforce": (GENFORCE, {"alpha": 0.5}, "option alpha is for the layouts ganzoo"),
    "classes of ganzoo": (ZOO, {"label_size": 2}, "option label_size is for"),
    "fused of ganzoo": (ZOO, {"fused_scale": True}, "option fused_scale is for"),
    "text": (GENFORCE, {"lod": "all"}, "option lod: 'all' is not valid"),
    "not a number": (GENFORCE, {"lod": "nan"}, "option lod: 'nan' is not valid"),
    "too high": (GENFORCE, {"lod": 3}, "lod is 3.0, expected at most 2"),
    "too much": (ZOO, {"alpha": 1.5}, "option alpha: 1.5 is not valid"),
    "half a class": (GENFORCE, {"label_size": 1.5}, "option label_size: 1.5 is not valid"),
    "no z left": (GENFORCE, {"label_size": 5}, "label_size is 5, but the network takes 5"),
    "plain, not fused": (GENFORCE, {"fused_scale": True}, "fused_scale is True, but the shapes .* show False"),
    "perhaps fused": (GENFORCE, {"fused_scale": "perhaps"}, "option fused_scale: 'perhaps' is not valid"),
    "unknown": (GENFORCE, {"psi": 1}, "unknown option"),
    "only one head": (
        without(GENFORCE, "output0.weight", "output0.bias", "output1.weight", "output1.bias"), {"lod": 1},
        "only the head that draws at full size"),
    "nothing to fade from": (by_hand.ganzoo(channels=(6,)), {"alpha": 0.5}, "alpha is 0.5, expected at most 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_OPTIONS)
def test_options_that_do_not_fit_are_refused(case):
    tensors, options, message = NO_OPTIONS[case]
    refused(tensors, message, **options)


@pytest.mark.parametrize(
    ("tensors", "arguments", "beside"),
    [
        (TENSORFLOW, {"use_pixelnorm": False}, {}),
        (TENSORFLOW, {"normalize_latents": False}, {}),
        (GENFORCE, {"final_tanh": True}, {}),
        (ZOO, {}, {"config": {"leakyness": 0.1}}),
        (ZOO, {}, {"config": Record("config", {"perChannelNormalization": False})}),
    ],
)
def test_recorded_arithmetic_of_another_kind_is_refused(tensors, arguments, beside):
    refused(tensors, "the file records .* not supported", arguments, beside)


def test_truncation_and_noise_are_refused():
    generator = made(GENFORCE)
    with pytest.raises(GanatomyError, match="no truncation"):
        generator.sample([0], truncation=0.7)
    with pytest.raises(GanatomyError, match="no noise"):
        generator.sample([0], noise="random")
    with pytest.raises(GanatomyError, match="no intermediate latent"):
        generator.codes(np.zeros((1, 5)))
    with pytest.raises(GanatomyError, match="no classes"):
        generator.sample([0], classes=1)
