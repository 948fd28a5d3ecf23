"""The StyleGAN2 family against the golden files, a network written out by hand, and the paper's sizes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stylegan2_reference import Reference, random_tensors

import dissect
from dissect import GanatomyError
from dissect.generators import stylegan2
from dissect.generators.checkpoint import Checkpoint, StoredNetwork
from dissect.generators.family import open_checkpoint
from dissect.generators.stylegan2_network import Config, Network

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-5  # of the largest expected value


def close(value, wanted, name, tolerance=TOLERANCE):
    value, wanted = np.asarray(value), np.asarray(wanted)
    assert value.shape == wanted.shape, name
    assert np.abs(value - wanted).max() <= tolerance * np.abs(wanted).max(), name


def golden(name, **options):
    return dissect.load(DATA / f"{name}.safetensors", **options), np.load(DATA / f"{name}.expected.npz")


# -- golden files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "clamp"), [("sg2ada_uncond", 256), ("sg2ada_cond", 1.5)])
def test_golden_nvlabs(name, clamp):
    generator, expected = golden(name, conv_clamp=clamp)
    classes = expected["c"].argmax(1) if "c" in expected.files else None
    first = None if classes is None else classes[:1]
    codes = generator.map(expected["z"], classes)
    close(codes.w, expected["ws"], "ws")
    hooks = [key for key in expected.files if key.startswith("hook:")]
    capture = generator.capture(codes, [key.removeprefix("hook:") for key in hooks])
    close(capture.images, expected["image"], "image")
    assert len(hooks) == 4
    for key in hooks:
        close(capture.features[key.removeprefix("hook:")][:1], expected[key], key)
    short = generator.map(expected["z"], classes, 0.7)
    close(short.w, expected["ws_psi07"], "ws_psi07")
    close(generator(short), expected["image_psi07"], "image_psi07")
    part = generator.map(expected["z"][:1], first, 0.7, 3)
    close(part.w, expected["ws_psi07_cutoff3"], "ws_psi07_cutoff3")
    close(generator(part), expected["image_psi07_cutoff3"], "image_psi07_cutoff3")
    close(generator(generator.map(expected["z"][:1], first, noise="none")), expected["image_noise_none"], "no noise")


def test_golden_truncation_at_every_cutoff():
    generator, expected = golden("sg2ada_uncond")[0], np.load(DATA / "probe_truncation_sg2.expected.npz")
    seen = 0
    for key in expected.files:
        found = re.fullmatch(r"(ws|image)_psi(.+)_cutoff(.+)", key)
        if found:
            cutoff = None if found[3] == "None" else int(found[3])
            codes = generator.map(expected["z"], truncation=float(found[2]), cutoff=cutoff)
            close(codes.w if found[1] == "ws" else generator(codes), expected[key], key)
            seen += 1
    assert seen > 20


def rosinality_file(folder, wrap=True):
    """A checkpoint as its repository writes them."""
    mean = torch.tensor(np.load(DATA / "sg2_rosinality.expected.npz")["latent_avg"])
    tensors = load_file(DATA / "sg2_rosinality.safetensors")
    torch.save({"g_ema": tensors, "latent_avg": mean, "g": tensors, "d": {"x": mean}} if wrap else tensors, folder)
    return folder


def test_golden_rosinality(tmp_path):
    generator, expected = golden("sg2_rosinality")
    generator = dissect.load(rosinality_file(tmp_path / "net.pt"))
    assert (generator.flavour, generator.family, generator.resolution) == ("rosinality", "stylegan2", 32)
    codes = generator.map(expected["z"])
    close(codes.w, expected["latents"], "latents")
    close(codes.w[:, 0], expected["w"], "w")
    hooks = [key for key in expected.files if key.startswith("hook:")]
    capture = generator.capture(codes, [key.removeprefix("hook:") for key in hooks])
    close(capture.images, expected["image"], "image")
    assert len(hooks) == 5
    for key in hooks:
        close(capture.features[key.removeprefix("hook:")][:1], expected[key], key)
    short = generator.map(expected["z"], truncation=0.7)
    close(short.w, expected["latents_psi07"], "latents_psi07")
    close(generator(short), expected["image_psi07"], "image_psi07")
    plus = np.stack([np.roll(expected["w"][:1], k, axis=1) for k in range(generator.num_ws)], axis=1)
    close(generator(generator.codes(plus)), expected["image_wplus"], "image_wplus")


def test_a_mean_w_that_is_not_in_the_file_is_given_or_estimated():
    given = np.load(DATA / "sg2_rosinality.expected.npz")
    generator, expected = golden("sg2_rosinality", w_avg=given["latent_avg"])
    close(generator(generator.map(expected["z"], truncation=0.7)), expected["image_psi07"], "image_psi07")
    without, _ = golden("sg2_rosinality")
    z = np.random.RandomState(5).randn(20_000, 32)
    sampled = without.map(z).w[:, 0].double()
    error = (without.w_avg - sampled.mean(0)).abs().max()
    assert error < 6 * sampled.std(0).max() / 4096**0.5
    assert torch.equal(without.map(z[:2], truncation=0.0).w[0, 0], without.w_avg)


# -- against the network written out by hand -----------------------------------------------------------------------

VARIANTS = {
    "skip": {},
    "resnet": {"architecture": "resnet"},
    "orig": {"architecture": "orig"},
    "conditional": {"num_classes": 4},
    "conditional resnet": {"num_classes": 3, "architecture": "resnet", "channels": (4, 6, 3, 5)},
    "deep mapping": {"mapping_layers": 8, "w_dim": 5, "z_dim": 9},
    "no noise inputs": {"noise": False},
    "grey": {"colors": 1},
    "8 px": {"channels": (3, 2)},
}


def saved(tensors, path):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_images_equal_the_reference(variant, clamp, tmp_path):
    tensors = random_tensors(**VARIANTS[variant])
    generator = dissect.load(saved(tensors, tmp_path / "net.safetensors"), conv_clamp=clamp)
    reference = Reference(tensors, clamp)
    codes = generator.sample(range(3))
    ws = torch.stack(
        [reference.w(z, None if codes.classes is None else codes.classes[i]) for i, z in enumerate(codes.z)]
    )
    close(codes.w[:, 0], ws, "w")
    assert codes.w.shape[1] == generator.num_ws == 2 * len(VARIANTS[variant].get("channels", (1, 2, 3)))
    wanted = torch.stack([reference.image(w.expand(generator.num_ws, -1)) for w in ws])
    close(generator(codes), wanted.expand(-1, 3, -1, -1), "image")
    quiet = generator.map(codes.z, codes.classes, noise="none") if generator.has_noise else codes
    wanted = torch.stack([reference.image(w.expand(generator.num_ws, -1), "none") for w in ws])
    close(generator(quiet), wanted.expand(-1, 3, -1, -1), "no noise")
    plus = torch.randn(2, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(1))
    wanted = torch.stack([reference.image(w.double()) for w in plus])
    close(generator(generator.codes(plus)), wanted.expand(-1, 3, -1, -1), "w+")


@pytest.mark.parametrize("variant", ["skip", "conditional resnet", "orig", "grey"])
def test_resume_equals_forward_at_every_layer(variant, tmp_path):
    generator = dissect.load(saved(random_tensors(**VARIANTS[variant]), tmp_path / "net.safetensors"))
    codes = generator.sample(range(2), noise="random")
    whole = generator(codes)
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert capture.features[layer.name].shape == (2, layer.channels, layer.height, layer.width)
        assert torch.equal(capture.images, whole)
        assert torch.equal(generator.resume(capture, layer.name), whole), layer
        edit = dissect.ablate(layer.name, range(layer.channels))
        edited = generator(codes, edits=edit)
        assert torch.equal(generator.resume(capture, layer.name, edits=edit), edited), layer
    styles = [layer for layer in generator.layers if layer.kind == "style"]
    assert len(styles) * 2 == len(generator.layers)
    assert [generator.layer(name).height for name in generator.default_layers()] == [4, 8, 16, 32][: len(styles) // 2][
        : len(generator.default_layers())
    ]


def test_a_style_channel_can_be_cut(tmp_path):
    """Without the style of one channel the conv no longer sees that channel."""
    tensors = random_tensors()
    generator = dissect.load(saved(tensors, tmp_path / "net.safetensors"))
    codes = generator.sample([0])
    cut = generator(codes, edits=dissect.ablate("synthesis.b8.conv0.affine", [2]))
    tensors["synthesis.b8.conv0.affine.weight"][2] = 0
    tensors["synthesis.b8.conv0.affine.bias"][2] = 0
    wanted = dissect.load(saved(tensors, tmp_path / "cut.safetensors"))(codes)
    close(cut, wanted, "image")
    assert not torch.equal(cut, generator(codes))


# -- NVIDIA's variables of the TensorFlow years ----------------------------------------------------------------------


def variables(tensors):
    """A network of PyTorch's names as the code of config F calls its variables: axes [H, W, I, O], biases of styles
    without their 1, kernels that enlarge turned by 180 degrees."""
    found = {}
    for key, value in tensors.items():
        module, _, part = key.rpartition(".")
        if key in ("mapping.w_avg", "synthesis.b4.const"):
            found["dlatent_avg" if part == "w_avg" else "synthesis/4x4/Const/const"] = (
                value if "w" in part else value[None]
            )
        elif module.startswith("mapping."):
            scope = module.removeprefix("mapping.").replace("fc", "Dense").replace("embed", "LabelEmbed")
            found[f"mapping/{scope}/{part}"] = value.T if part == "weight" else value
        elif part == "noise_const":
            side, conv = re.fullmatch(r"synthesis\.b(\d+)\.conv(\d)", module).groups()
            found[f"synthesis/noise{2 * int(np.log2(int(side))) - 5 + int(conv)}"] = value[None, None]
        else:
            side, name, style = re.fullmatch(r"synthesis\.b(\d+)\.(conv\d|torgb|skip)(\.affine)?", module).groups()
            theirs = {
                "conv0": "Conv0_up",
                "conv1": "Conv" if side == "4" else "Conv1",
                "torgb": "ToRGB",
                "skip": "Skip",
            }
            if style:
                value = value.T if part == "weight" else value - 1
            elif part == "weight":
                value = (value.flip(2, 3) if name == "conv0" else value).permute(2, 3, 1, 0)
            found[f"synthesis/{side}x{side}/{theirs[name]}/{'mod_' if style else ''}{part}"] = value
    return {key: value.contiguous() for key, value in found.items()} | {"lod": torch.zeros(())}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variables_of_tensorflow_are_the_same_network(variant, tmp_path):
    tensors = random_tensors(**VARIANTS[variant])
    first = dissect.load(tensors, conv_clamp="none")
    found = dissect.load(saved(variables(tensors), tmp_path / "variables.safetensors"))
    assert (found.family, found.flavour, found.fingerprint) == ("stylegan2", "tensorflow", first.fingerprint)
    codes = first.sample(range(2))
    assert torch.equal(found(found.map(codes.z, codes.classes)), first(codes))
    assert found.layer("synthesis/4x4/Conv").name == "synthesis.b4.conv1"
    again = dissect.load(dissect.convert(found, tmp_path / "nvlabs.pth", "nvlabs"))
    assert (again.flavour, again.fingerprint) == ("nvlabs", first.fingerprint)
    back = dissect.load(dissect.convert(again, tmp_path / "tensorflow.pth", "tensorflow"))
    assert (back.flavour, back.fingerprint) == ("tensorflow", first.fingerprint)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("source", ["nvlabs", "tensorflow"])
def test_a_clamp_travels(source, kind, tmp_path):
    tensors = random_tensors()
    first = dissect.load(saved(tensors if source == "nvlabs" else variables(tensors), tmp_path / "net.safetensors"),
                         conv_clamp=0.5, lr_multiplier=0.02)  # fmt: skip
    for layout in ("tensorflow", "nvlabs"):
        found = dissect.load(dissect.convert(first, tmp_path / f"{layout}.{kind}", layout))
        assert (found.config.conv_clamp, found.config.lr_multiplier) == (0.5, 0.02)
        assert found.fingerprint == first.fingerprint
    plain = dissect.load(saved(variables(tensors), tmp_path / "plain.safetensors"))
    found = dissect.load(dissect.convert(plain, tmp_path / f"again.{kind}", "nvlabs"))
    assert found.config.conv_clamp is None, "these years did not clamp"
    assert found.fingerprint == plain.fingerprint


def test_what_a_pickle_of_tensorflow_records_counts():
    def opened(**arguments):
        network = StoredNetwork("Gs", "", variables(random_tensors()), "G_main", arguments, {})
        held = Checkpoint(Path("net.pkl"), "", "tensorflow pickle", (network,))
        return open_checkpoint(held, (stylegan2.FAMILY,), "net", torch.device("cpu"), {})

    assert opened().config.conv_clamp is None
    assert opened(conv_clamp=0.8, resample_kernel=[1, 3, 3, 1]).config.conv_clamp == 0.8
    assert opened(resample_kernel=(1, 3, 3, 1)).config.conv_clamp is None
    assert opened(mapping_lrmul=0.02).config.lr_multiplier == 0.02
    for wrong in ({"resample_kernel": [1, 2, 1]}, {"normalize_latents": False}, {"architecture": "resnet"}):
        with pytest.raises(GanatomyError, match="the file records"):
            opened(**wrong)


# -- noise -----------------------------------------------------------------------------------------------------


def test_random_noise_follows_the_seed_and_nothing_else(tmp_path):
    generator = dissect.load(saved(random_tensors(), tmp_path / "net.safetensors"))
    together = generator.sample([3, 4, 5], noise="random")
    assert torch.equal(together.w, generator.sample([3, 4, 5]).w)
    close(generator(together)[1:2], generator(generator.sample([4], noise="random")), "alone", 1e-6)
    assert not torch.allclose(generator(together), generator(generator.sample([3, 4, 5])), atol=1e-3)
    given = generator.map(together.z, noise=together.noise.tolist())
    assert torch.equal(generator(given), generator(together))
    other = generator.map(together.z, noise=[7, 8, 9])
    assert not torch.allclose(generator(other), generator(together), atol=1e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g: g.map(np.zeros((2, 8)), noise="random"), "one noise seed for each"),
        (lambda g: g.map(np.zeros((2, 8)), noise=[1]), "2 latents but 1 noise seeds"),
        (lambda g: g.map(np.zeros((2, 8)), noise="loud"), "unknown noise mode"),
        (lambda g: g.sample([0], noise="loud"), "unknown noise mode"),
        (lambda g: g.map(np.zeros((2, 9))), r"expected z \[N, 8\]"),
        (lambda g: g.map(np.zeros((2, 8)), truncation=0.5, cutoff=-1), "cutoff"),
        (lambda g: g.codes(np.zeros((2, 6))), r"w \[N, 7\] or w\+ \[N, 6, 7\]"),
        (lambda g: g.codes(np.zeros((2, 5, 7))), "w+"),
        (lambda g: g.codes(np.full((2, 7), np.nan)), "NaN"),
        (lambda g: g.codes(np.full((2, 7), 1e300)), "infinite"),
        (lambda g: g.map(np.full((2, 8), 1e300)), "infinite"),
        (lambda g: g.sample([0], truncation=float("nan")), "finite number"),
        (lambda g: g.sample([0], truncation="0.5"), "finite number"),
        (lambda g: g.codes("nowhere.npy"), "no such file"),
        (lambda g: g.codes("n" * 300), "no such file"),
        (lambda g: g.codes(np.array(["a"])), "as numbers"),
        (lambda g: g.sample([0], classes=1), "no classes"),
    ],
)
def test_wrong_codes_are_one_line(call, words, tmp_path):
    generator = dissect.load(saved(random_tensors(), tmp_path / "net.safetensors"))
    with pytest.raises(GanatomyError, match=words) as caught:
        call(generator)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "safetensors"])
def test_w_comes_from_files(suffix, tmp_path):
    generator = dissect.load(saved(random_tensors(), tmp_path / "net.safetensors"))
    w = torch.randn(2, 6, 7).bfloat16().float()  # inversions are saved in half precision too
    path = tmp_path / f"w.{suffix}"
    {
        "npy": lambda: np.save(path, w.numpy()),
        "npz": lambda: np.savez(path, w=w.numpy(), other=np.zeros(3)),
        "pt": lambda: torch.save(w.bfloat16(), path),
        "safetensors": lambda: save_file({"w": w}, path),
    }[suffix]()
    assert torch.equal(generator.codes(path).w, w)
    assert torch.equal(generator.codes(w[:, 0]).w, w[:, :1].expand(-1, 6, -1))


# -- sizes, configuration, wrong files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [
        ((512, 512, 512, 512, 512, 256, 128, 64, 32), 30_370_060),  # 1024 px
        ((512, 512, 512, 512, 512, 256, 128, 64), 30_276_583),  # 512 px
        ((512, 512, 512, 512, 512, 256, 128), 30_034_338),  # 256 px
        ((512, 512, 512, 512, 256, 128, 64), 24_767_458),  # 256 px, half width
    ],
)
def test_parameter_counts_of_the_papers_networks(channels, parameters):
    with torch.device("meta"):
        network = Network(Config(512, 512, 512, 8, channels))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_state_dict_in_memory_may_come_from_data_parallel(tmp_path):
    tensors = random_tensors()
    wrapped = dissect.load({f"module.{key}": value for key, value in tensors.items()})
    assert wrapped.fingerprint == dissect.load(tensors).fingerprint


def test_a_recorded_constructor_without_a_clamp_has_none():
    network = StoredNetwork("G_ema", "", random_tensors(), "Generator", {"img_resolution": 16, "c_dim": 0}, {})
    held = Checkpoint(Path("net.pkl"), "", "nvidia pickle", (network,))
    generator = open_checkpoint(held, (stylegan2.FAMILY,), "net", torch.device("cpu"), {})
    assert ("conv_clamp", None, "file") in [(fact.name, fact.value, fact.source) for fact in generator.facts]


def test_what_is_known_and_what_is_guessed(tmp_path):
    generator = dissect.load(saved(random_tensors(num_classes=4), tmp_path / "net.safetensors"), lr_multiplier="0.02")
    facts = {fact.name: (fact.value, fact.source) for fact in generator.facts}
    assert facts["conv_clamp"] == (256.0, "assumed")
    assert facts["lr_multiplier"] == (0.02, "option")
    assert facts["channels"] == ([6, 5, 4], "tensors")
    assert generator.num_classes == 4
    plain = dissect.load(tmp_path / "net.safetensors")
    assert plain.fingerprint != generator.fingerprint
    assert plain.fingerprint == dissect.load(tmp_path / "net.safetensors", conv_clamp="none").fingerprint
    assert plain.fingerprint != dissect.load(tmp_path / "net.safetensors", conv_clamp=1.5).fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conv_clam": 1}, "unknown option of StyleGAN2 'conv_clam'; nearest: conv_clamp"),
        ({"conv_clamp": "wide"}, "option conv_clamp: 'wide' is not valid"),
        ({"conv_clamp": -1}, "not valid"),
        ({"lr_multiplier": float("nan")}, "not valid"),
        ({"w_avg": np.zeros(3)}, "expected"),
        ({"w_avg": "nowhere.npy"}, "no such file"),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path):
    path = saved(random_tensors(), tmp_path / "net.safetensors")
    with pytest.raises(GanatomyError, match=words):
        dissect.load(path, **options)


def without(key):
    return lambda t: t.pop(key)


def changed(key, value):
    return lambda t: t.update({key: value(t[key]) if key in t else value(None)})


WRONG = {
    "missing bias": (without("synthesis.b8.conv1.bias"), "lacks synthesis.b8.conv1.bias"),
    "missing block": (without("synthesis.b8.conv1.weight"), "lacks"),
    "missing mapping": (without("mapping.fc1.weight"), "lacks|fc1"),
    "missing noise of one layer": (without("synthesis.b16.conv0.noise_const"), "lacks synthesis.b16.conv0.noise_const"),
    "extra key": (changed("synthesis.b8.conv9.weight", lambda _: torch.ones(2)), "unexpected key synthesis.b8.conv9"),
    "transposed": (changed("synthesis.b8.conv0.weight", lambda t: t.transpose(0, 1).contiguous()), "conv0.weight is"),
    "5x5 kernel": (changed("synthesis.b8.conv0.weight", lambda t: torch.ones(5, 6, 5, 5)), "conv0.weight is"),
    "flat": (changed("synthesis.b8.conv1.weight", lambda t: t.flatten()), "expected 4 axes"),
    "empty": (changed("synthesis.b8.conv1.weight", lambda t: t[:0]), "expected 4 axes"),
    "integers": (changed("synthesis.b8.conv1.bias", lambda t: t.to(torch.int32)), "floating-point"),
    "not a number": (changed("synthesis.b8.conv1.bias", lambda t: t * float("nan")), "NaN"),
    "another filter": (changed("synthesis.b8.resample_filter", lambda _: torch.ones(4, 4) / 16), "standard filter"),
    "four colours": (changed("synthesis.b16.torgb.weight", lambda t: t.repeat(2, 1, 1, 1)), "expected an image|is"),
    "const of another size": (changed("synthesis.b4.const", lambda t: t.repeat(1, 2, 2)), "b4.const is"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_one_line(case, tmp_path):
    change, words = WRONG[case]
    tensors = random_tensors()
    change(tensors)
    path = saved(tensors, tmp_path / "net.safetensors")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(path)
    assert str(caught.value).startswith("net.safetensors: ")
    assert "\n" not in str(caught.value)


def test_filters_may_be_there_or_not(tmp_path):
    tensors = random_tensors()
    row = torch.tensor([1.0, 3, 3, 1]) / 8
    with_filter = tensors | {"synthesis.b8.conv0.resample_filter": torch.outer(row, row)}
    one = dissect.load(saved(tensors, tmp_path / "one.safetensors"))
    two = dissect.load(saved(with_filter, tmp_path / "two.safetensors"))
    assert one.fingerprint == two.fingerprint
    assert torch.equal(one(one.sample([1])), two(two.sample([1])))


def test_every_layout_knows_its_own_names():
    for layout in stylegan2.LAYOUTS:
        assert len(layout.by_key) == len(layout.by_name) == len(layout.places)
