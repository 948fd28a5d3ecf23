"""The StyleGAN family against the golden files, its own algebra, and the published sizes."""

from __future__ import annotations

import functools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from formats_files import forget, stand_in
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import dissect
from dissect import GanatomyError
from dissect.generators import stylegan
from dissect.generators.checkpoint import Checkpoint, StoredNetwork
from dissect.generators.conversion import converted
from dissect.generators.family import open_checkpoint
from dissect.generators.stylegan_network import Config, Network

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-5  # of the largest expected value
NAMES = ("genforce", "interfacegan", "rosinality")


def close(value, wanted, name="", tolerance=TOLERANCE):
    value, wanted = np.asarray(value), np.asarray(wanted)
    assert value.shape == wanted.shape, name
    assert np.abs(value - wanted).max() <= tolerance * np.abs(wanted).max(), name


def load(name, **options):
    return dissect.load(DATA / f"sg1_{name}.safetensors", **options)


@functools.cache
def tensors_of(name):
    return load_file(DATA / f"sg1_{name}.safetensors")


def made(tensors, arguments=None, beside=None, **options):
    network = StoredNetwork("", "", dict(tensors), None, arguments or {}, beside or {})
    file = Checkpoint(Path("net.pth"), "0" * 64, "torch zip", (network,))
    return open_checkpoint(file, (stylegan.FAMILY,), "net", torch.device("cpu"), options)


def expected_of(name):
    return np.load(DATA / f"sg1_{name}.expected.npz")


def latents(generator, count=2, **options):
    return generator.map(np.random.RandomState(1).randn(count, generator.z_dim), **options)


# -- golden files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flavour", "short"),
    [("genforce", "genforce", "psi07_layers8"), ("interfacegan", "interfacegan-fused", "trunc")],
)
def test_golden(name, flavour, short):
    generator, expected = load(name), expected_of(name)
    assert (generator.family, generator.flavour) == ("stylegan", flavour)
    codes = generator.map(expected["z"])
    close(codes.w[:, 3], expected["w"], "w")
    hooks = [key for key in expected.files if key.startswith("hook:")]
    capture = generator.capture(codes, [key.removeprefix("hook:") for key in hooks] + ["synthesis.layer0.style"])
    close(capture.images, expected["image"], "image")
    assert len(hooks) == 4
    for key in hooks:
        close(capture.features[key.removeprefix("hook:")][:1], expected[key], key)
    if "style00" in expected.files:
        close(capture.features["synthesis.layer0.style"][:, :, 0, 0], expected["style00"], "style")
    truncated = generator.map(expected["z"][:1], truncation=0.7, cutoff=8)
    close(truncated.w, expected[f"wp_{short}"], "w+")
    close(generator(truncated), expected[f"image_{short}"], "truncated")


def with_noise(sample, **options):
    """The port with the explicit noise that the golden images of a sample were made with."""
    return load("rosinality", noise=maps_of(sample), **options)


def maps_of(sample):
    expected = expected_of("rosinality")
    return {key: expected[key][sample : sample + 1] for key in expected.files if key.startswith("noise_")}


def test_golden_port():
    expected = expected_of("rosinality")
    for sample in (0, 1):
        generator = with_noise(sample, w_avg=expected["mean_style"])
        assert (generator.flavour, generator.resolution) == ("rosinality", 128)
        z = expected["z"][sample : sample + 1]
        close(generator.map(z).w[:, 0], expected["w"][sample : sample + 1], "w")
        close(generator(generator.map(z)), expected["image"][sample : sample + 1], "image")
        early = with_noise(sample, step=3, alpha=0.4)
        assert early.resolution == 32
        close(early(early.map(z)), expected["image_step3_alpha0p4"][sample : sample + 1], "step 3")
    generator, z = with_noise(0, w_avg=expected["mean_style"]), expected["z"][:1]
    close(generator(generator.map(z, truncation=0.7)), expected["image_psi07"], "image_psi07")
    hooks = [key.removeprefix("hook:") for key in expected.files if key.startswith("hook:")]
    found = generator.capture(generator.map(z), hooks).features
    assert len(hooks) == 3
    for name in hooks:
        close(found[name], expected[f"hook:{name}"], name)


# -- restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("interfacegan", {}), ("interfacegan", {"lod": 1.25}), ("interfacegan", {"lod": 2}),
        ("rosinality", {"step": 3}), ("rosinality", {"step": 2, "alpha": 0.3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("noise", ["const", "random"])
def test_resume_is_exact_at_every_layer(name, options, noise):
    generator = load(name, **options)
    codes = generator.sample([1, 2], noise=noise)
    names = [layer.name for layer in generator.layers]
    capture, plain = generator.capture(codes, names), generator(codes)
    assert torch.equal(capture.images, plain)
    assert plain.shape == (2, 3, generator.resolution, generator.resolution)
    for layer in generator.layers:
        assert capture.features[layer.name].shape == (2, layer.channels, layer.height, layer.width)
        assert torch.equal(generator.resume(capture, layer.name), plain), layer.name
        edit = dissect.ablate(layer.name, [0, 1])
        edited = generator(codes, edit)
        assert not torch.equal(edited, plain), layer.name
        assert torch.equal(generator.resume(capture, layer.name, edits=edit), edited), layer.name


def test_every_layer_of_the_golden_files_resumes():
    for name in NAMES:
        generator = load(name)
        codes = latents(generator, 1)
        capture = generator.capture(codes, [layer.name for layer in generator.layers])
        for layer in generator.layers:
            assert torch.equal(generator.resume(capture, layer.name), capture.images), layer.name


# -- sizes and names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "count"), [(False, 26_219_627), (True, 26_219_115)])
def test_published_parameter_counts(port, count):
    sides = (512, 512, 512, 512, 256, 128, 64, 32, 16)
    channels = tuple(width for width in sides for _ in range(2))
    config = Config(512, 512, 512, 8, channels, tuple(range(9)), port=port, fused=(5, 6, 7, 8) if port else (), shown=8)
    with torch.device("meta"):
        network = Network(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert config.resolution == 1024
    noise = [tensor.numel() for name, tensor in network.named_buffers() if name.endswith("noise_const")]
    assert sum(noise) == 2 * sum((4 * 2**block) ** 2 for block in range(9))


def test_layers():
    generator = load("interfacegan")
    assert [(x.name, x.kind, x.stage) for x in generator.layers][:5] == [
        ("synthesis.layer0.style", "style", 0), ("synthesis.layer0", "norm", 0), ("synthesis.layer1.conv", "conv", 1),
        ("synthesis.layer1.style", "style", 1), ("synthesis.layer1", "norm", 1),
    ]  # fmt: skip
    assert generator.default_layers() == [f"synthesis.layer{i}" for i in (1, 3, 5, 7)]
    assert generator.layers[-1].name == "synthesis.output3"
    assert generator.layer("synthesis.layer4.epilogue").name == "synthesis.layer4"
    assert generator.layer("synthesis.layer4.epilogue.style_mod.dense").name == "synthesis.layer4.style"
    port = load("rosinality")
    assert port.layer("generator.progression.2").name == "synthesis.layer5"
    assert port.layer("generator.progression.2.conv1").name == "synthesis.layer4.conv"
    assert port.layer("generator.to_rgb.5").name == "synthesis.output5"
    with pytest.raises(GanatomyError, match="unknown layer"):
        port.layer("generator.progression.9")


def test_lod_draws_with_earlier_heads():
    generator = load("interfacegan")
    codes = latents(generator)
    features = generator.capture(codes, ["synthesis.layer5", "synthesis.layer3"]).features
    file = tensors_of("interfacegan")

    def image(block):
        x, key = features[f"synthesis.layer{2 * block + 1}"], f"synthesis.output{block}"
        weight = file[f"{key}.conv.weight"] / x.shape[1] ** 0.5
        drawn = F.conv2d(x, weight, file[f"{key}.bias"])
        return F.interpolate(drawn, scale_factor=2 ** (2 - block), mode="nearest")

    one, two = image(2), image(1)
    for lod, wanted in ((1, one), (2, two), (1.25, 0.75 * one + 0.25 * two)):
        drawn = load("interfacegan", lod=lod)
        assert "synthesis.layer7" not in [layer.name for layer in drawn.layers]
        close(drawn(codes), F.interpolate(wanted, scale_factor=2), f"lod {lod}")
        stored = tensors_of("interfacegan") | {"synthesis.lod": torch.tensor(float(lod))}
        assert torch.equal(made(stored)(codes), drawn(codes))
        assert made(stored).fingerprint == drawn.fingerprint != generator.fingerprint


def test_classes_join_z_before_it_is_normalised():
    state = np.random.RandomState(3)
    file = dict(tensors_of("genforce"))
    file["mapping.label_weight"] = torch.from_numpy(state.randn(5, 24).astype(np.float32))
    file["mapping.dense0.weight"] = torch.from_numpy(state.randn(24, 48).astype(np.float32) * 100)
    generator = made(file)
    assert (generator.num_classes, generator.z_dim) == (5, 24)
    z = state.randn(2, 24).astype(np.float32)
    x = np.concatenate([z, file["mapping.label_weight"].numpy()[[4, 1]]], axis=1).astype(np.float64)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    for index in range(8):
        weight, bias = (file[f"mapping.dense{index}.{part}"].double().numpy() for part in ("weight", "bias"))
        x = x @ weight.T * 0.01 * np.sqrt(2 / x.shape[1]) + 0.01 * bias
        x = np.where(x > 0, x, 0.2 * x)
    close(generator.map(z, [4, 1]).w[:, 0], x, "w")
    assert "no classes" in stylegan.FAMILY.layout("interfacegan").cannot(generator.configuration)


def test_noise_of_the_port_is_one_map_for_each_resolution():
    generator = load("rosinality")
    assert "noise" in {fact.name for fact in generator.facts if fact.source == "assumed"}
    z = np.random.RandomState(2).randn(2, 16)
    assert torch.equal(generator(generator.map(z)), generator(generator.map(z, noise=[0, 0])))
    assert not torch.equal(generator(generator.map(z)), generator(generator.map(z, noise="none")))
    assert with_noise(0).fingerprint != generator.fingerprint == load("rosinality").fingerprint


# -- layouts ---------------------------------------------------------------------------------------------------

ORIGINAL = [layout.name for layout in stylegan.LAYOUTS if layout.name != "rosinality"]


def network_of(tensors):
    return StoredNetwork("", "", dict(tensors), None, {}, {})


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("target", ORIGINAL)
@pytest.mark.parametrize(("name", "layout"), [("genforce", "genforce"), ("interfacegan", "interfacegan-fused")])
def test_conversions_keep_the_images_and_come_back_bit_for_bit(name, layout, target):
    file, family = tensors_of(name), stylegan.FAMILY
    source, wanted = family.layout(layout), family.layout(target)
    inside, beside, note = converted(source, wanted, network_of(file))
    assert not note
    kept = name == "interfacegan" and not target.startswith("interfacegan")
    assert set(beside) == ({"truncation_psi"} if kept else set())
    back, _, _ = converted(wanted, source, network_of(inside | beside))
    assert_same(back, file)
    first = load(name)
    other = made(inside, beside=beside, **wanted.implied)
    codes = latents(first)
    # Below 128 pixels nothing is fused by itself, so that the keys do not tell these two apart.
    assert other.flavour == ("interfacegan" if (name, target) == ("interfacegan", "interfacegan-unfused") else target)
    assert other.fingerprint == first.fingerprint
    assert torch.equal(other(codes), first(codes))


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_files_that_conversions_write_open_without_options(kind, tmp_path):
    codes = latents(load("genforce"))
    for target in ("interfacegan", "interfacegan-unfused", "genforce-unfused", "genforce-fused", None):
        generator = load("genforce")
        path = dissect.convert(generator, tmp_path / f"{target}.{kind}", target)
        again = dissect.load(path)
        assert again.fingerprint == generator.fingerprint, target
        assert torch.equal(again(codes), generator(codes))
        home = dissect.load(dissect.convert(again, tmp_path / f"{target}-home.{kind}", "genforce"))
        assert (home.flavour, home.fingerprint) == ("genforce", generator.fingerprint), target


def test_golden_files_are_written_again_bit_for_bit(tmp_path):
    for name in NAMES:
        file, generator = DATA / f"sg1_{name}.safetensors", load(name)
        path = dissect.export(generator, tmp_path / f"{name}.safetensors")
        assert path.read_bytes() == file.read_bytes()
        layout = stylegan.FAMILY.layout(generator.flavour)
        inside, beside = layout.write(generator.module.state_dict())
        assert_same(inside | beside, tensors_of(name))


def variables(blocks=6):
    """The genforce golden network as NVIDIA's TensorFlow code calls its variables."""
    file, found = (
        tensors_of("genforce"),
        {"dlatent_avg": GENFORCE["truncation.w_avg"], "lod": 0.0, "synthesis/lod": 0.0},
    )
    for index in range(8):
        for part in ("weight", "bias"):
            found[f"mapping/Dense{index}/{part}"] = file[f"mapping.dense{index}.{part}"].t()
    for index in range(2 * blocks):
        side, key = 4 * 2 ** (index // 2), f"synthesis.layer{index}"
        scope = {0: "4x4/Const", 1: "4x4/Conv"}.get(index, f"{side}x{side}/{('Conv0_up', 'Conv1')[index % 2]}")
        if index:
            found[f"synthesis/{scope}/weight"] = file[f"{key}.weight"].permute(2, 3, 1, 0)
        found[f"synthesis/{scope}/bias"] = file[f"{key}.bias"]
        found[f"synthesis/{scope}/Noise/weight"] = file[f"{key}.apply_noise.weight"]
        found[f"synthesis/{scope}/StyleMod/weight"] = file[f"{key}.style.weight"].T
        found[f"synthesis/{scope}/StyleMod/bias"] = file[f"{key}.style.bias"]
        found[f"synthesis/noise{index}"] = file[f"{key}.apply_noise.noise"]
    found["synthesis/4x4/Const/const"] = file["synthesis.layer0.const"]
    for block in range(blocks):
        head = f"synthesis/ToRGB_lod{blocks - 1 - block}"
        found[f"{head}/weight"] = file[f"synthesis.output{block}.weight"].permute(2, 3, 1, 0)
        found[f"{head}/bias"] = file[f"synthesis.output{block}.bias"]
    return {key: torch.as_tensor(value).contiguous() for key, value in found.items()}


def pickled(path):
    """A pickle as NVIDIA's StyleGAN files are built: (G, D, Gs), a generator with mapping and synthesis inside."""
    kind = stand_in("dnnlib.tflib.network", "Network", __getstate__=lambda self: self.state)
    everything = {key: value.numpy() for key, value in variables().items()}

    def network(name, prefix, parts=()):
        inside = {k.removeprefix(prefix): v for k, v in everything.items() if k.startswith(prefix)}
        made = kind.__new__(kind)
        made.state = {
            "version": 2, "name": name, "build_func_name": name, "static_kwargs": {"resolution": 128},
            "build_module_src": "raise RuntimeError('executed')",
            "components": {part: network(f"G_{part}", f"{part}/") for part in parts},
            "variables": [(k, v) for k, v in inside.items() if "/" not in k or prefix],
        }  # fmt: skip
        return made

    try:
        value = (*(network(name, "", ("mapping", "synthesis")) for name in ("G_style", "D_basic", "G_style")),)
        path.write_bytes(pickle.dumps(value, 2))
    finally:
        forget("dnnlib.tflib.network")
    return path


def test_a_pickle_of_tensorflow_becomes_other_files(tmp_path):
    first, found = load("genforce"), dissect.load(pickled(tmp_path / "net.pkl"))
    assert (found.flavour, found.fingerprint, found.origin.where) == ("tensorflow", first.fingerprint, "Gs")
    assert ("discriminator", "in the file (D)") in [(fact.name, fact.value) for fact in found.facts]
    expected = expected_of("genforce")
    close(found(found.map(expected["z"])), expected["image"], "image")
    for layout in ("genforce", "interfacegan", "tensorflow"):
        again = dissect.load(dissect.convert(found, tmp_path / f"{layout}.pth", layout))
        assert (again.flavour, again.fingerprint) == (layout, first.fingerprint)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_suggested_truncation_is_kept(kind, tmp_path):
    first = dissect.load(DATA / "sg1_interfacegan.safetensors")
    facts = [fact for fact in first.facts if fact.name == "truncation"]
    assert facts
    for layout in ("tensorflow", "genforce", "interfacegan"):
        found = dissect.load(dissect.convert(first, tmp_path / f"{layout}.{kind}", layout))
        assert [fact for fact in found.facts if fact.name == "truncation"] == facts
        back = dissect.load(dissect.convert(found, tmp_path / f"{layout}-back.{kind}", "interfacegan"))
        assert [fact for fact in back.facts if fact.name == "truncation"] == facts


def test_the_variables_of_tensorflow_are_the_same_generator():
    first, found = load("genforce"), made(variables())
    codes = latents(first)
    assert found.flavour == "tensorflow"
    assert found.fingerprint == first.fingerprint
    assert torch.equal(found(codes), first(codes))
    assert found.layer("synthesis/128x128/Conv0_up").name == "synthesis.layer10"
    layout = stylegan.FAMILY.layout("tensorflow")
    assert_same(layout.write(layout.read(variables(), {}))[0], variables())
    inside, beside, note = converted(layout, stylegan.FAMILY.layout("genforce"), network_of(variables()))
    assert not beside
    assert not note
    assert_same(inside, tensors_of("genforce"))
    plain = made(variables(), {"fused_scale": False})
    assert (plain.flavour, plain.fingerprint) == ("tensorflow-unfused", load("genforce", fused_scale=False).fingerprint)
    with pytest.raises(GanatomyError, match="records use_instance_norm=False"):
        made(variables(), {"use_instance_norm": False})


def test_of_two_levels_of_detail_the_outer_one_counts():
    """A run of NVIDIA's network assigns the outer one to the inner one first."""
    found = variables()
    inner = {key: tensor for key, tensor in found.items() if key != "lod"}
    wanted = load("genforce", lod=1.5).fingerprint
    assert made(found | {"lod": torch.tensor(1.5)}).fingerprint == wanted
    assert made(inner | {"synthesis/lod": torch.tensor(1.5)}).fingerprint == wanted
    assert made(found | {"synthesis/lod": torch.tensor(1.5)}).fingerprint == load("genforce").fingerprint
    with pytest.raises(GanatomyError, match="lod is .* expected one floating-point number"):
        made(found | {"lod": torch.ones(2)})


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("options", [{"step": 2}, {"step": 0}, {"step": 1, "alpha": 0.25}, {"alpha": 0.5}])
def test_how_far_a_port_has_grown_travels_with_a_conversion(options, kind, tmp_path):
    generator = load("rosinality", **options)
    found = dissect.load(dissect.convert(generator, tmp_path / f"net.{kind}"))
    assert (found.fingerprint, found.resolution) == (generator.fingerprint, generator.resolution)
    assert found.fingerprint != load("rosinality").fingerprint
    assert load("rosinality", step="last").fingerprint == load("rosinality").fingerprint


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_given_noise_of_a_port_travels_with_a_conversion(kind, tmp_path):
    generator = with_noise(0, step=3)
    found = dissect.load(dissect.convert(generator, tmp_path / f"net.{kind}"))
    again = dissect.load(dissect.convert(found, tmp_path / "again.safetensors"))
    codes = generator.sample([1, 2])
    for one in (found, again):
        assert one.fingerprint == generator.fingerprint != load("rosinality", step=3).fingerprint
        assert torch.equal(one(codes), generator(codes))
    other = dissect.load(tmp_path / f"net.{kind}", noise=maps_of(1))
    assert other.fingerprint == with_noise(1, step=3).fingerprint, "what is given wins"
    damaged = (tmp_path / "again.safetensors").read_bytes().replace(b"noise_8", b"noise_9")
    (tmp_path / "bad.safetensors").write_bytes(damaged)
    with pytest.raises(GanatomyError, match="expected noise_8"):
        dissect.load(tmp_path / "bad.safetensors")


def test_the_port_is_no_other_layout(tmp_path):
    with pytest.raises(GanatomyError, match="rosinality's port"):
        dissect.convert(load("rosinality"), tmp_path / "net.pth", "genforce")
    with pytest.raises(GanatomyError, match="rosinality's port"):
        dissect.convert(load("genforce"), tmp_path / "net.pth", "rosinality")
    path = dissect.convert(load("rosinality"), tmp_path / "net.pth")
    assert set(torch.load(path)) == {"g_running"}
    assert dissect.load(path).fingerprint == load("rosinality").fingerprint


@pytest.mark.parametrize("fused", [(), (1,), (1, 3, 5), (1, 2, 3, 4, 5)])
def test_fused_convs_of_the_port_are_the_transposed_convs_of_the_paper(fused):
    file = dict(tensors_of("rosinality"))
    blocks = {b: f"generator.progression.{b}.conv1" for b in range(1, 6)}
    for block, key in blocks.items():
        if (f"{key}.0.weight" in file) == (block in fused):
            continue
        for part in ("bias", "weight"):
            ours, theirs = f"{key}.1.conv.{part}" + "_orig" * (part == "weight"), f"{key}.0.{part}"
            old, new = (ours, theirs) if block in fused else (theirs, ours)
            turned = file.pop(old)
            file[new] = turned.transpose(0, 1).contiguous() if part == "weight" else turned
        for flip in ("", "_flip"):
            blur = file.pop(f"{key}.{2 if block in fused else 1}.weight{flip}")
            file[f"{key}.{1 if block in fused else 2}.weight{flip}"] = blur
    generator = made(file)
    assert generator.config.fused == fused
    names = [f"{key}" for key in blocks.values()] + [f"generator.progression.{b}" for b in range(6)]
    found = generator.capture(latents(generator, 1, noise="none"), names).features
    for block, key in blocks.items():
        x = found[f"generator.progression.{block - 1}"]
        if block in fused:
            weight = F.pad(file[f"{key}.0.weight"] * (2 / (9 * x.shape[1])) ** 0.5, (1, 1, 1, 1))
            weight = (weight[:, :, 1:, 1:] + weight[:, :, :-1, 1:] + weight[:, :, 1:, :-1] + weight[:, :, :-1, :-1]) / 4
            y = F.conv_transpose2d(x, weight, file[f"{key}.0.bias"], stride=2, padding=1)
        else:
            weight = file[f"{key}.1.conv.weight_orig"] * (2 / (9 * x.shape[1])) ** 0.5
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            y = F.conv2d(x, weight, file[f"{key}.1.conv.bias"], padding=1)
        blur = torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1]))[None, None] / 16
        y = F.conv2d(y, blur.expand(y.shape[1], 1, 3, 3), padding=1, groups=y.shape[1])
        close(found[key], y, key)


def test_what_a_checkpoint_says(tmp_path):
    torch.save({"generator": tensors_of("genforce"), "generator_smooth": tensors_of("genforce"),
                "discriminator": {"x": torch.ones(2)}}, tmp_path / "net.pth")  # fmt: skip
    facts = {fact.name: (fact.value, fact.source) for fact in dissect.load(tmp_path / "net.pth").facts}
    assert facts["discriminator"] == ("in the file (discriminator)", "file")
    assert facts["fused_scale"] == ("auto", "assumed")
    facts = {fact.name: (fact.value, fact.source) for fact in load("interfacegan").facts}
    assert facts["truncation"] == ("the file suggests 0.7", "file")
    assert facts["fused_scale"] == ("fused", "tensors")


# -- what is refused -------------------------------------------------------------------------------------------

GENFORCE, FACES, PORT = tensors_of("genforce"), tensors_of("interfacegan"), tensors_of("rosinality")


def without(tensors, *names):
    return {key: tensor for key, tensor in tensors.items() if key not in names}


REFUSED = {
    "missing": (without(GENFORCE, "synthesis.layer3.bias"), {}, r"lacks synthesis\.layer3\.bias"),
    "extra": (GENFORCE | {"synthesis.layer1.wieght": torch.ones(1)}, {}, r"unexpected key synthesis\.layer1\.wieght"),
    "a gap": (without(GENFORCE, "synthesis.layer5.apply_noise.weight"), {}, "unexpected key|has the unexpected"),
    "shape": (GENFORCE | {"synthesis.layer3.bias": torch.ones(7)}, {}, r"layer3\.bias is \[7\], expected \[16\]"),
    "axes": (FACES | {"synthesis.layer2.weight": torch.ones(16, 20)}, {}, r"layer2\.weight has the unexpected shape"),
    "filter": (
        GENFORCE | {"synthesis.layer2.blur.kernel": torch.ones(16, 1, 3, 3)}, {}, "not the standard filter"),
    "integers": (
        GENFORCE | {"synthesis.layer1.weight": torch.ones(16, 16, 3, 3, dtype=torch.int32)}, {}, "is torch.int32"),
    "NaN": (GENFORCE | {"synthesis.layer1.bias": torch.full((16,), float("nan"))}, {}, "holds NaN"),
    "two channels": (
        FACES | {"synthesis.output3.conv.weight": torch.ones(2, 12, 1, 1), "synthesis.output3.bias": torch.ones(2)},
        {}, "makes 2 channels"),
    "no last head": (without(FACES, "synthesis.output3.conv.weight"), {}, r"lacks synthesis\.output3\.conv\.weight"),
    "no early head": (
        without(FACES, "synthesis.output2.conv.weight", "synthesis.output2.bias"), {"lod": 1}, "no head that draws 16"),
    "no mapping": ({k: v for k, v in FACES.items() if "mapping" not in k}, {}, r"lacks mapping\.dense0"),
    "lod of two": (FACES | {"synthesis.lod": torch.zeros(2)}, {}, r"synthesis\.lod is \[2\]"),
    "lod too high": (FACES, {"lod": 4}, "lod is 4.0, expected at most 3"),
    "a step too far": (PORT, {"step": 6}, "step is 6, expected 0 to 5"),
    "nothing to fade from": (PORT, {"step": 0, "alpha": 0.5}, "step is 0, expected 1 to 5"),
    "alpha": (PORT, {"alpha": 2}, "option alpha: 2 is not valid"),
    "a port's option": (GENFORCE, {"alpha": 0.5}, "option alpha is not for the layout genforce"),
    "another's option": (PORT, {"lod": 1}, "option lod is not for the layout rosinality"),
    "shown by keys": (FACES, {"fused_scale": True}, "not for interfacegan-fused, whose keys show it"),
    "perhaps fused": (GENFORCE, {"fused_scale": "perhaps"}, "option fused_scale: 'perhaps' is not valid"),
    "noise": (PORT, {"noise": {"noise_4": np.zeros((1, 1, 4, 4))}}, r"expected noise_8 \[1, 1, 8, 8\], got nothing"),
    "mean": (PORT, {"w_avg": np.zeros(7)}, r"mean_style is \[7\], expected \[16\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case):
    tensors, options, message = REFUSED[case]
    with pytest.raises(GanatomyError) as caught:
        made(tensors, **options)
    assert "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), caught.value


def outcome(tensors):
    """What opening says: nothing where it opens."""
    try:
        made(tensors)
    except GanatomyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_whatever_shape_a_tensor_has_the_message_is_one_line(name):
    """Some tensors in turn: missing, with fewer axes, with one more, empty."""
    file, refusals = tensors_of(name), 0
    for key in np.random.RandomState(0).permutation(sorted(file))[:10]:
        tensor = file[key]
        for other in (None, tensor.flatten()[0], tensor[None], tensor.flatten(), tensor.flatten()[:0]):
            message = outcome(without(file, key) if other is None else file | {key: other})
            assert "\n" not in message
            refusals += bool(message)
    assert refusals > 25


def test_a_file_in_half_precision(tmp_path):
    half = {k: v.half() for k, v in tensors_of("interfacegan").items()}
    save_file(half, tmp_path / "net.safetensors")
    generator = dissect.load(tmp_path / "net.safetensors")
    assert torch.isfinite(generator(latents(generator))).all()
