"""BigGAN, SAGAN and SNGAN against the golden files and a network written out by hand; layouts; what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from biggan_reference import Reference, random_tensors
from safetensors.torch import load_file, save_file

import dissect
import segmodels
from dissect import GanatomyError
from dissect.generators import Codes
from dissect.generators.biggan_layouts import TFHUB
from dissect.generators.biggan_network import Config, Network
from dissect.generators.loading import from_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-5  # of the largest expected value


def close(value, wanted, tolerance=TOLERANCE):
    wanted = np.asarray(wanted)
    return np.abs(np.asarray(value) - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["biggan", "sagan", "sngan"])
def test_golden_images_and_layers(name):
    expected = np.load(DATA / f"{name}.expected.npz")
    generator = dissect.load(DATA / f"{name}.safetensors", SN_eps=1e-6 if name == "biggan" else 1e-8)
    assert (generator.family, generator.flavour) == ("biggan", "ajbrock")
    codes = generator.map(expected["z"], expected["y"])
    hooks = [key for key in expected.files if key.startswith("hook:")]
    capture = generator.capture(codes, [key.removeprefix("hook:") for key in hooks])
    assert close(capture.images, expected["image"])
    for key in hooks:
        assert close(capture.features[key.removeprefix("hook:")][:1].reshape(expected[key].shape), expected[key]), key
    half = generator.map(expected["z"][:1], expected["y"][:1], truncation=0.5)
    assert close(generator(half), expected["image_half_z"])
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert capture.features[layer.name].shape[1:] == (layer.channels, layer.height, layer.width)
        assert torch.equal(generator.resume(capture, layer.name), capture.images)


def test_golden_mixture_of_two_classes():
    expected = np.load(DATA / "biggan.expected.npz")
    generator = dissect.load(DATA / "biggan.safetensors")
    embeddings = generator.embedding(torch.tensor(expected["y"]))
    assert close(embeddings, expected["shared_embedding"])
    mixed = Codes(torch.tensor(expected["z"][:1]), w=embeddings[:2].mean(0)[None, None])
    assert close(generator(mixed), expected["image_mixed_embedding"])
    own = Codes(torch.tensor(expected["z"]), w=embeddings[:, None])
    assert torch.equal(generator(own), generator(generator.map(expected["z"], expected["y"])))
    with pytest.raises(GanatomyError, match=r"expected codes with w \[N, 1, 16\], got \[1, 16\]"):
        generator(Codes(torch.tensor(expected["z"][:1]), w=embeddings[:1]))
    with pytest.raises(GanatomyError, match="needs codes with z and classes"):
        generator(Codes(torch.tensor(expected["z"][:1])))
    assert torch.equal(generator.embedding(3), generator.embedding([3]))
    for wrong in (999, -1, [0.5], torch.tensor([0.5]), "a", [[1]], [], None):
        with pytest.raises(GanatomyError, match="classes"):
            generator.embedding(wrong)


VARIANTS = {
    "as published": {},
    "z in the first layer only": {"hier": False},
    "a table for each norm": {"shared": 0, "hier": False},
    "no attention": {"attention": ()},
    "attention twice": {"attention": (0, 2)},
    "not normalised": {"spectral": False},
    "not normalised, tables": {"spectral": False, "shared": 0, "hier": False},
    "grey, 8 px": {"widths": (5, 7), "attention": (), "colors": 1},
    "one class": {"num_classes": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_read_from_the_weights(variant):
    tensors = random_tensors(**VARIANTS[variant])
    generator = from_tensors(tensors, "net")
    codes = generator.sample([1, 2], truncation=0.7)
    reference = Reference(tensors)
    wanted = [reference.image(z * 0.7, int(label)) for z, label in zip(codes.z, codes.classes)]
    assert close(generator(codes), torch.stack(wanted).expand(-1, 3, -1, -1))
    widths = VARIANTS[variant].get("widths", (12, 8, 8, 4))
    assert generator.resolution == 4 * 2 ** (len(widths) - 1)
    assert [generator.layer(name).channels for name in generator.default_layers()] == list(widths)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"BN_eps": 0.1}, {"bn_eps": 0.1}),
        ({"SN_eps": 4.0}, {"sn_eps": 4.0}),
        ({"num_G_SV_itrs": 4}, {"steps": 4}),
        ({"BN_eps": "1e-2", "num_G_SV_itrs": "2"}, {"bn_eps": 1e-2, "steps": 2}),
    ],
)
def test_options_change_what_they_say(options, arguments, tmp_path):
    tensors = random_tensors()
    generator = dissect.load(tensors, **options)
    codes = generator.sample([1])
    wanted = Reference(tensors, **arguments).image(codes.z[0], int(codes.classes[0]))
    assert close(generator(codes), wanted[None])
    assert not close(generator(codes), Reference(tensors).image(codes.z[0], int(codes.classes[0]))[None])


@pytest.mark.parametrize(
    ("resolution", "attention", "chunk", "parameters"),
    [(512, 3, 20, 82_468_068), (512, 3, 16, 82_296_804), (256, 4, 20, 82_097_604), (128, 3, 20, 70_433_988)],
)
def test_parameters_of_the_published_sizes(resolution, attention, chunk, parameters):
    widths = {128: (16, 8, 4, 2, 1), 256: (16, 8, 8, 4, 2, 1), 512: (16, 8, 8, 4, 2, 1, 1)}[resolution]
    outputs = tuple(96 * width for width in widths)
    heads = ((attention, outputs[attention] // 8, outputs[attention] // 2),)
    with torch.device("meta"):
        network = Network(Config(chunk, True, 1000, 128, (96 * 16, *outputs), outputs, heads))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


# -- codes -----------------------------------------------------------------------------------------------------


def test_truncation_is_a_truncated_normal_that_depends_on_the_seed_alone():
    generator = from_tensors(random_tensors(chunk=40), "net")
    plain, cut = generator.sample(range(50)), generator.sample(range(50), truncation=0.5)
    assert np.array_equal(plain.z[3], np.random.RandomState(3).randn(generator.z_dim).astype(np.float32))
    within = plain.z.abs() <= 2
    assert not within.all()
    assert torch.equal(cut.z[within], plain.z[within])
    assert cut.z.abs().max() <= 2
    assert torch.equal(cut.classes, plain.classes)
    assert torch.equal(generator.sample([7], truncation=0.9).z, cut.z[7:8])
    # The variance of a normal number within ±2 is 0.7737.
    assert float(cut.z.square().mean()) == pytest.approx(0.7737, abs=0.02)
    again = generator.map(cut.z * 0.5, cut.classes)
    assert torch.equal(generator(cut[:3]), generator(again[:3]))


@pytest.mark.parametrize("truncation", [0, -0.5, 1.1, float("nan"), "0.5", True])
def test_other_truncations_are_refused(truncation):
    generator = from_tensors(random_tensors(), "net")
    with pytest.raises(GanatomyError, match="truncation above 0 and at most 1"):
        generator.sample([0], truncation=truncation)
    with pytest.raises(GanatomyError, match="cutoff=None"):
        generator.sample([0], truncation=0.5, cutoff=2)


@pytest.mark.parametrize("classes", [None, 2, [i % 3 for i in range(24)]])
def test_classes_are_drawn_or_given_for_a_dissection(classes, tmp_path):
    generator = from_tensors(random_tensors(), "net")
    run = dissect.run(
        generator, segmodels.load("colors"), ["blocks.0.0"], samples=24, out=tmp_path / "run.h5", classes=classes,
        truncation=0.6,
    )  # fmt: skip
    with h5py.File(tmp_path / "run.h5") as file:
        kept = file["samples/class"][:]
    drawn = generator.sample(range(24)).classes.numpy()
    wanted = (
        {None: drawn}.get(classes, np.broadcast_to(classes, 24)) if classes is None else np.broadcast_to(classes, 24)
    )
    assert np.array_equal(kept, wanted)
    codes = generator.sample(range(24), wanted.tolist(), truncation=0.6)
    features = generator.features(codes, "blocks.0.0")["blocks.0.0"]
    assert np.allclose(run.layer("blocks.0.0").mean, features.double().mean((0, 2, 3)), atol=1e-6)


# -- layouts ---------------------------------------------------------------------------------------------------


def renamed(mean, variance):
    def change(tensors):
        ends = {"stored_mean": mean, "stored_var": variance}
        parts = {key: key.rpartition(".") for key in tensors}
        return {f"{parts[key][0]}.{ends.get(parts[key][2], parts[key][2])}": value for key, value in tensors.items()}

    return change


def counted(tensors):
    changed = renamed("bn.stored_mean", "bn.stored_var")(tensors)
    return changed | {"output_layer.0.bn.accumulation_counter": torch.zeros(1)}


FILES = {
    "ajbrock": lambda tensors: tensors,
    "ajbrock-mybn": counted,
    "ajbrock-sync": renamed("bn.running_mean", "bn.running_var"),
}


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize("to", FILES)
def test_the_fingerprint_and_every_bit_survive_conversion(layout, to, tmp_path):
    tensors = random_tensors()
    save_file({k: v.contiguous() for k, v in FILES[layout](tensors).items()}, tmp_path / "a.safetensors")
    generator = dissect.load(tmp_path / "a.safetensors", BN_eps=1e-3)
    assert generator.flavour == layout
    assert generator.fingerprint == from_tensors(tensors, "b", options={"BN_eps": 1e-3}).fingerprint
    other = dissect.load(dissect.convert(generator, tmp_path / "b.safetensors", to))
    assert (other.flavour, other.fingerprint) == (to, generator.fingerprint)
    back = load_file(dissect.convert(other, tmp_path / "c.safetensors", layout))
    assert all(torch.equal(back[k], v) for k, v in FILES[layout](tensors).items() if k in back)
    assert len(back) >= len([key for key in tensors if not key.endswith("sv0")])


def hub_file(tensors, path):
    """The tensors as the converter of the TensorFlow Hub modules dumps them, raw weights beside the averaged ones."""
    stored = {key: value for key, value in tensors.items() if not key.endswith("sv0")}
    names = {place.name: place for place in TFHUB.places}
    with h5py.File(path, "w") as file:
        for key, value in stored.items():
            array = value.numpy()
            if key == "linear.weight":
                array = array.reshape(-1, 4, 4, array.shape[1]).transpose(3, 1, 2, 0).reshape(array.shape[1], -1)
            elif key in ("linear.bias", "linear.u0"):
                array = array.reshape(-1, 4, 4).transpose(1, 2, 0).reshape(value.shape)
            elif array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            elif ".bn" in key and array.ndim == 2 and "u0" not in key:
                width = stored["shared.weight"].shape[1]
                array = np.concatenate([array[:, width:], array[:, :width]], 1).T
            elif key.startswith("output_layer.0") and "stored" not in key:
                array = array.reshape(1, 1, 1, -1)
            place = names[key].key
            file[place] = array
            if place.endswith("/ema_b999900:0"):
                file[place.replace("/ema_b999900", "")] = array + 1
        file["module/Generator/GBlock/CrossReplicaBN/accumulation_counter:0"] = np.float32(1)
    return path


def test_a_dump_of_the_tensorflow_hub_modules(tmp_path):
    tensors = random_tensors(attention=(2,))
    generator = dissect.load(hub_file(tensors, tmp_path / "biggan-32.h5"))
    assert (generator.flavour, generator.resolution) == ("tfhub", 32)
    codes = generator.sample([1, 2], truncation=0.5)
    reference = Reference(tensors, bn_eps=1e-4, sn_eps=1e-4)
    wanted = torch.stack([reference.image(z * 0.5, int(label)) for z, label in zip(codes.z, codes.classes)])
    assert close(generator(codes), wanted)
    for suffix in ("safetensors", "pth"):
        other = dissect.load(dissect.convert(generator, tmp_path / f"converted.{suffix}"))
        assert (other.flavour, other.fingerprint) == ("ajbrock", generator.fingerprint)
        assert torch.equal(other(codes), generator(codes))
    with pytest.raises(GanatomyError, match="cannot be changed in place; convert it"):
        dissect.export(generator, tmp_path / "cut.h5", dissect.ablate("output_layer.1", 0))


# -- baking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["linear", "blocks.0.0", "blocks.1.0.conv1", "blocks.1.0.act2", "output_layer.1"])
def test_a_baked_file_draws_what_the_cut_network_draws(layer, tmp_path):
    """Against the network by hand, which reads the file as the public code does."""
    tensors = random_tensors()
    torch.save(tensors, tmp_path / "net.pth")
    generator = dissect.load(tmp_path / "net.pth")
    out = dissect.export(generator, tmp_path / "cut.pth", dissect.ablate(layer, [0, 1, 2]))
    after = torch.load(out)
    if layer == "output_layer.1":
        assert after.keys() == tensors.keys()
        different = [key for key in tensors if not torch.equal(tensors[key], after[key])]
        assert different == ["output_layer.0.gain", "output_layer.0.bias"]
    else:
        assert not [key for key in after if key.endswith(("u0", "sv0"))]
    codes = generator.sample([5, 6])
    for z, label in zip(codes.z, codes.classes):
        wanted = Reference(tensors).image(z, int(label), cut=(layer, [0, 1, 2]))
        assert (Reference(after).image(z, int(label)) - wanted).abs().max() < 1e-6
        assert (wanted - Reference(tensors).image(z, int(label))).abs().max() > 1e-4
    assert dissect.load(out).fingerprint != generator.fingerprint


def test_weights_divided_for_good_are_the_same_generator(tmp_path):
    generator = dissect.load(random_tensors())
    plain = dict(generator.module.state_dict().items())
    plain["linear.weight"] = plain["linear.weight"].flatten(1).T
    plain["linear.bias"] = plain["linear.bias"].flatten()
    other = dissect.load(plain)
    assert other.fingerprint == generator.fingerprint


# -- state dicts that are none ---------------------------------------------------------------------------------


def changed(**to):
    def make():
        tensors = random_tensors()
        for name, value in to.items():
            key = name.replace("__", ".")
            if value is None:
                del tensors[key]
            else:
                tensors[key] = value(tensors[key]) if callable(value) else value
        return tensors

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (changed(linear__bias=None), r"lacks linear\.bias"),
        (changed(linear__u0=None), r"lacks linear\.u0"),
        (changed(blocks__0__0__conv_sc__weight=None), r"lacks blocks\.0\.0\.conv_sc\.weight"),
        (changed(blocks__1__1__g__weight=None), r"lacks blocks\.1\.1\.g\.weight"),
        (changed(blocks__1__0__conv1__weight=None), "unexpected key|lacks"),
        (changed(extra=torch.zeros(1)), "unexpected key extra"),
        (changed(linear__u1=torch.zeros(1)), r"unexpected key linear\.u1"),
        (changed(shared__u0=torch.zeros(1)), r"unexpected key shared\.u0"),
        (changed(linear__weight=lambda w: w[:-1]), r"linear\.weight has the unexpected shape \[191, 3\]"),
        (changed(linear__weight=lambda w: w[:, :2]), r"bn1\.gain\.weight is \[12, 9\], expected 6 or 8 columns"),
        (changed(blocks__0__0__conv1__weight=lambda w: w[..., :1]), r"conv1\.weight is \[8, 12, 3, 1\], expected"),
        (changed(blocks__0__0__conv1__weight=lambda w: w[0]), r"conv1\.weight is \[12, 3, 3\], expected 4 axes"),
        (changed(blocks__0__0__bn1__gain__u0=lambda u: u[:, :-1]), r"u0 is \[1, 11\], expected \[1, 12\]"),
        (changed(blocks__0__0__bn1__stored_var=lambda v: -v), "holds negative values"),
        (changed(output_layer__2__weight=lambda w: w[:2]), "makes 2 channels"),
        (changed(blocks__0__0__conv1__weight=lambda w: w * 0), "cannot be normalised"),
        (changed(blocks__0__0__conv1__u0=lambda u: u * torch.nan), "holds NaN"),
        (changed(shared__weight=lambda w: w[0]), "expected 2 axes"),
        (changed(blocks__1__1__gamma=lambda g: g[None]), r"gamma is \[1\], expected \[\]"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line_that_names_them(make, words, tmp_path):
    torch.save(make(), tmp_path / "wrong.pth")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(tmp_path / "wrong.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"BN_eps": 0}, {"SN_eps": "x"}, {"num_G_SV_itrs": 0}, {"eps": 1}])
def test_wrong_options_are_refused(option):
    with pytest.raises(GanatomyError, match="option"):
        dissect.load(random_tensors(), **option)
