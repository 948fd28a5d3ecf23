"""Edits as weights: the written file, read again, draws what the hooks draw; and what would not is refused."""

from __future__ import annotations

import re
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pggan_reference as by_hand
import pytest
import stylegan3_reference
import torch
from networks import Tangled, dcgan_reference, dcgan_tensors
from safetensors.torch import load_file, save_file
from stylegan2_reference import random_tensors

import dissect
from dissect import BakeError, GanatomyError
from dissect.generators import bake, catalog, checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
OTHERS = [100, 101, 102]  # seeds that the export itself does not look at


def stored(tensors, path):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def zipped(tensors, path):
    torch.save(tensors, path)
    return path


def still(tensors):
    """StyleGAN2 whose noise has no strength."""
    return {key: value * 0 if key.endswith("noise_strength") else value for key, value in tensors.items()}


MODELS = {
    "dcgan": lambda f: DATA / "dcgan_main.safetensors",
    "dcgan with biases": lambda f: zipped({"netG": dcgan_tensors(bias=True)}, f / "net.pth"),
    "dcgan, grey": lambda f: stored(dcgan_tensors(channels=1), f / "net.safetensors"),
    "pggan gandissect": lambda f: DATA / "pggan_gandissect.safetensors",
    "pggan genforce": lambda f: DATA / "pggan_genforce.safetensors",
    "pggan ganzoo": lambda f: DATA / "pggan_ganzoo.safetensors",
    "pggan fused": lambda f: stored(by_hand.genforce(by_hand.plain(), fused=True), f / "net.safetensors"),
    "stylegan2 nvlabs pickle": lambda f: DATA / "nvlabs_sg2ada.pkl",
    "stylegan2 nvlabs": lambda f: DATA / "sg2ada_uncond.safetensors",
    "stylegan2 rosinality": lambda f: DATA / "sg2_rosinality.safetensors",
    "stylegan2 genforce": lambda f: dissect.convert(DATA / "sg2ada_uncond.safetensors", f / "net.pth", "genforce"),
    "stylegan2 orig": lambda f: stored(random_tensors(architecture="orig"), f / "net.safetensors"),
    "stylegan2 resnet": lambda f: stored(random_tensors(architecture="resnet"), f / "net.safetensors"),
    "stylegan2 without noise": lambda f: stored(random_tensors(noise=False), f / "net.safetensors"),
    "stylegan2 resnet without noise": lambda f: stored(
        random_tensors(architecture="resnet", noise=False), f / "net.safetensors"
    ),
    "stylegan2 with noise of strength 0": lambda f: stored(still(random_tensors()), f / "net.safetensors"),
    "stylegan2 in float16": lambda f: stored(
        {k: v.half() * 0.5 for k, v in random_tensors().items()}, f / "net.safetensors"
    ),
    "mobilestylegan": lambda f: DATA / "mobilestylegan_tiny.safetensors",
    "biggan": lambda f: DATA / "biggan.safetensors",
    "sagan in a zip": lambda f: zipped(load_file(DATA / "sagan.safetensors"), f / "net.pth"),
    "biggan-deep": lambda f: DATA / "biggan_deep_hf.safetensors",
    "stylegan3 t": lambda f: stored(stylegan3_reference.random_tensors(), f / "net.safetensors"),
    "stylegan3 r": lambda f: zipped({"G_ema": stylegan3_reference.random_tensors(radial=True)}, f / "net.pth"),
    "stylegan interfacegan": lambda f: DATA / "sg1_interfacegan.safetensors",
    "stylegan rosinality": lambda f: DATA / "sg1_rosinality_16px.safetensors",
}
NOISY = {name for name in MODELS if name.startswith("stylegan2") and "noise" not in name}


# Blocks that are made like another one, which is tried.
LIKE_OTHERS = re.compile(r"(generator\.layers\.[02356]|blocks\.[013])\b")
WHY = "(demodulates|self-attention mixes|what entered the block)"


def refused(name, generator, layer):
    """Whether no weights do what zeros at the layer do: maps of StyleGAN2 that get noise, unless only toRGB reads.

    And what attention or, in BigGAN-deep, a block adds to what entered it. Of StyleGAN3 all maps, unless only the image
    reads.
    """
    if name.startswith("stylegan3"):
        return layer.kind == "activation" and layer.name != "synthesis.L3_32_4"
    if generator.family.startswith("biggan"):
        own = str(type(generator._sites[layer.name].module).__name__)
        return own == "Attention" or (own == "Sum" and generator.family == "biggan-deep")
    last = f"synthesis.b{generator.resolution}.conv1"
    maps = "conv" in layer.name and layer.kind == "activation"
    return name in NOISY and maps and (layer.name != last or name == "stylegan2 resnet")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each model's file, made once."""
    torch.set_num_threads(1)
    made = {}

    def file(name):
        if name not in made:
            made[name] = MODELS[name](tmp_path_factory.mktemp("model"))
        return made[name]

    return file


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_baked_or_refused(name, models, tmp_path):
    """Images of the written file equal the hooked ones to the bit here; 1e-5 of their range would be rounding."""
    source = models(name)
    generator = dissect.load(source)
    codes = generator.sample(OTHERS, noise="random" if generator.has_noise else "const")
    for index, layer in enumerate(layer for layer in generator.layers if not LIKE_OTHERS.match(layer.name)):
        for units in ([layer.channels - 1], range(layer.channels))[: 2 if layer.default else 1]:
            edit = dissect.ablate(layer.name, units)
            out = tmp_path / f"{index}-{len(units)}{source.suffix}"
            if refused(name, generator, layer):
                with pytest.raises(BakeError, match=rf"{WHY}.*export a bundle instead") as caught:
                    dissect.export(generator, out, edit)
                assert "\n" not in str(caught.value)
                continue
            dissect.export(generator, out, edit, overwrite=True)
            baked = dissect.load(out)
            assert baked.flavour == generator.flavour
            assert baked.fingerprint != generator.fingerprint
            wanted = generator(codes, edits=edit)
            span = max(1.0, float(wanted.max() - wanted.min()))
            assert (baked(codes) - wanted).abs().max() <= 1e-5 * span, layer.name
            assert torch.isfinite(baked(codes)).all()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_every_unit_of_a_layer_alone(tmp_path):
    generator = dissect.load(DATA / "pggan_gandissect.safetensors")
    before = load_file(DATA / "pggan_gandissect.safetensors")
    codes = generator.sample(OTHERS)
    for unit in range(generator.layer("layer4").channels):
        edit = dissect.ablate("layer4", unit)
        out = dissect.export(generator, tmp_path / "net.safetensors", edit, overwrite=True)
        after = load_file(out)
        expected = {key: value.clone() for key, value in before.items()}
        expected["layer4.conv.weight"][unit] = 0
        expected["layer4.wscale.b"][unit] = 0
        assert after.keys() == expected.keys()
        assert all(torch.equal(after[key], value) for key, value in expected.items()), unit
        assert torch.equal(dissect.load(out)(codes), generator(codes, edits=edit))


def test_networks_of_torch_alone_agree(tmp_path):
    """The oracle without hooks: torch's own modules, with zeros between them, and with the file's tensors."""
    tensors = dcgan_tensors(bias=True)
    generator = dissect.load(zipped(tensors, tmp_path / "net.pth"))
    z = torch.randn(4, generator.z_dim, 1, 1, generator=torch.Generator().manual_seed(0))
    plain = dcgan_reference(tensors)
    for index, module in enumerate(plain):
        units = [0, 2]
        out = dissect.export(generator, tmp_path / f"{index}.pth", dissect.ablate(f"main.{index}", units))
        with torch.no_grad():
            x = z
            for place, stage in enumerate(plain):
                x = stage(x)
                if place == index:
                    x[:, units] = 0
            found = dcgan_reference(torch.load(out))(z)
        assert (found - x).abs().max() < 1e-6, (index, module)


def test_only_the_units_numbers_change_in_the_file(tmp_path):
    """genforce stores biases without a +1 that is rounded; float64 has more digits than the network: all stay."""
    genforce = dissect.convert(stored(random_tensors(), tmp_path / "n.safetensors"), tmp_path / "g.pth", "genforce")
    contents = torch.load(genforce)
    for key, value in contents["generator_smooth"].items():
        if key.endswith("style.bias"):
            contents["generator_smooth"][key] = torch.randn_like(value) * 1e-3
    wide = {key: value.double() / 3 for key, value in random_tensors().items() if "resample" not in key}
    files = [
        (zipped(contents, genforce), "synthesis.layer1.style", -1.0),
        (stored(wide, tmp_path / "wide.safetensors"), "synthesis.b8.conv0.affine", 0.0),
    ]
    for source, key, zero in files:
        generator = dissect.load(source)
        out = tmp_path / f"out{source.suffix}"
        dissect.export(generator, out, dissect.ablate("synthesis.b8.conv0.affine", [1, 3]))
        before, after = checkpoint.read(source).networks[0].tensors, checkpoint.read(out).networks[0].tensors
        expected = {name: value.clone() for name, value in before.items()}
        expected[f"{key}.weight"][[1, 3]] = 0
        expected[f"{key}.bias"][[1, 3]] = zero
        assert all(torch.equal(after[name], value) for name, value in expected.items())
        assert all(after[name].dtype == value.dtype for name, value in before.items())
        changed = np.count_nonzero(
            np.frombuffer(source.read_bytes(), np.uint8) != np.frombuffer(out.read_bytes(), np.uint8)
        )
        row = before[f"{key}.weight"][0].nbytes + before[f"{key}.bias"][0].nbytes
        assert 0 < changed <= 2 * row + (8 * 4 if source.suffix == ".pth" else 0), "a zip has checksums, too"


def test_a_training_checkpoint_keeps_everything_else(tmp_path):
    tensors = load_file(DATA / "sg2_rosinality.safetensors")
    whole = {"g": {k: v * 0.9 for k, v in tensors.items()}, "d": {"w": torch.randn(4)}, "g_ema": tensors, "iter": 7}
    generator = dissect.load(zipped(whole, tmp_path / "train.pt"))
    out = dissect.export(generator, tmp_path / "out.pt", dissect.ablate("to_rgb1", 0))
    after = torch.load(out)
    assert after["iter"] == 7
    for part in ("g", "d"):
        assert all(torch.equal(after[part][key], value) for key, value in whole[part].items())
    changed = [key for key in tensors if not torch.equal(after["g_ema"][key], tensors[key])]
    assert sorted(changed) == ["to_rgb1.bias", "to_rgb1.conv.weight"]


RECIPES = {
    "two layers": lambda: [dissect.ablate("layer2", [0, 3]), dissect.ablate("layer7.conv", [1])],
    "one layer twice": lambda: [dissect.ablate("layer4", [0, 1]), dissect.ablate("layer4", [1, 5])],
    "zeros put in": lambda: [dissect.insert("layer4", [2, 4], 0.0), dissect.insert("layer4", 1, np.zeros((1, 8, 8)))],
    "a strength for each unit": lambda: [dissect.FeatureEdit("layer4", (0, 2, 5), (1.0, 0.0, 1.0))],
    "scaled by 0 and by 1": lambda: [dissect.scale("layer4", 3, 0.0), dissect.scale("layer6", 3, 1.0)],
    "edits that do nothing": lambda: [
        dissect.ablate("layer4", []),
        dissect.ablate("layer4", 1, strength=0.0),
        dissect.ablate("layer4", 2, mask=np.zeros((8, 8))),
    ],
    "one that does nothing": lambda: [dissect.ablate("layer4", 1, strength=0.0), dissect.ablate("layer4", 2)],
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes_are_baked_as_a_whole(case, tmp_path):
    generator = dissect.load(DATA / "pggan_gandissect.safetensors")
    recipe = dissect.Recipe(RECIPES[case](), generator)
    out = dissect.export(generator, tmp_path / "net.safetensors", recipe)
    codes = generator.sample(OTHERS)
    assert torch.equal(dissect.load(out)(codes), generator(codes, edits=recipe))
    if case == "edits that do nothing":
        assert out.read_bytes() == (DATA / "pggan_gandissect.safetensors").read_bytes()
    else:
        assert not torch.equal(generator(codes), generator(codes, edits=recipe))


NOT_WEIGHTS = {
    "mask": (dissect.ablate("layer4", 0, mask=np.eye(8)), "inside a mask"),
    "mask everywhere": (dissect.ablate("layer4", 0, mask=np.ones((8, 8))), "inside a mask"),
    "strength": (dissect.ablate("layer4", 0, strength=0.75), "strength 0.75"),
    "stronger": (dissect.scale("layer4", 0, 2.0), "strength -1"),
    "strengths": (dissect.FeatureEdit("layer4", (0, 1), (1.0, 0.25)), "strength 0.25"),
    "values": (dissect.insert("layer4", [0, 1], [0.0, 2.0]), "puts in values"),
    "another image": (dissect.ablate("layer4", 0, to="other"), "another image"),
    "one of two": ([dissect.ablate("layer4", 0), dissect.ablate("layer6", 0, strength=0.5)], "layer6: .*strength 0.5"),
}


@pytest.mark.parametrize("case", NOT_WEIGHTS)
def test_what_weights_cannot_do_is_refused(case, tmp_path):
    edits, words = NOT_WEIGHTS[case]
    generator = dissect.load(DATA / "pggan_gandissect.safetensors")
    with pytest.raises(BakeError, match=words) as caught:
        dissect.export(generator, tmp_path / "net.safetensors", edits)
    assert "export a bundle instead" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_is_refused(tmp_path):
    planted = dissect.load("planted:3")
    module = dissect.load(Tangled(), z_dim=Tangled.Z_DIM)
    for generator, layer in ((planted, "layer2"), (module, "conv2")):
        with pytest.raises(GanatomyError, match="did not come from a checkpoint"):
            dissect.export(generator, tmp_path / "net.pth", dissect.ablate(layer, 0))
        with pytest.raises(BakeError, match="not known which weights"):
            bake.bake(generator, dissect.ablate(layer, 0))
    other = dissect.load(DATA / "dcgan_main.safetensors")
    recipe = dissect.Recipe(dissect.ablate("layer4", 0), dissect.load(DATA / "pggan_gandissect.safetensors"))
    with pytest.raises(GanatomyError, match="the recipe is for pggan_gandissect"):
        dissect.export(other, tmp_path / "net.safetensors", recipe)
    assert list(tmp_path.iterdir()) == []


# -- bakes that are wrong --------------------------------------------------------------------------------------


@pytest.fixture
def mutant(monkeypatch):
    """Give a family another opinion on what makes a unit zero."""

    def install(family, change):
        def changed(known):
            return replaced(known, zeroed_by=lambda g, module: change(g, module, known.zeroed_by(g, module)))

        families = tuple(changed(known) if known.name == family else known for known in catalog.FAMILIES)
        monkeypatch.setattr(catalog, "FAMILIES", families)

    return install


def assert_caught(generator, edit, folder):
    suffix = generator.origin.path.suffix
    with pytest.raises(BakeError, match=r"draw something else than the edits: they differ by") as caught:
        dissect.export(generator, folder / f"out{suffix}", edit)
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir() if path.name.startswith((".", "out"))] == []


WRONG = [
    ("dcgan", "main.5"), ("dcgan", "main.4"), ("dcgan with biases", "main.3"), ("pggan gandissect", "layer4"),
    ("pggan genforce", "output3"), ("stylegan2 nvlabs", "synthesis.b8.conv0.affine"),
    ("stylegan2 rosinality", "to_rgb1"), ("stylegan2 nvlabs", "synthesis.b32.conv1"),
    ("stylegan2 without noise", "synthesis.b8.conv0"), ("mobilestylegan", "synthesis.layers.1.conv1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layer"), WRONG)
def test_a_bake_that_forgets_a_tensor_is_caught(name, layer, models, mutant, tmp_path):
    generator = dissect.load(models(name))
    slices = len(catalog.family(generator.family).zeroed_by(generator, module_of(generator, layer)))
    edit = dissect.ablate(layer, range(2))
    for forgotten in range(slices):
        mutant(generator.family, lambda g, module, all_, i=forgotten: all_[:i] + all_[i + 1 :])
        assert_caught(generator, edit, tmp_path)


def module_of(generator, layer):
    site = generator._sites[generator.layer(layer).name]
    return next(name for name, module in generator.module.named_modules() if module is site.module)


def test_the_next_conv_without_the_image_is_caught(mutant, tmp_path):
    """A map that fades into the image has two readers; of their columns, one forgotten shows."""
    net = by_hand.plain(channels=(6, 5, 4))
    source = stored(by_hand.genforce(net), tmp_path / "net.safetensors")
    generator = dissect.load(source, lod=0.5)
    edit = dissect.ablate("layer3", [0, 2])  # the second map of 8 pixels: layer4 here
    columns = (("layer5.conv.weight", 1), ("output_8x8_of_16.conv.weight", 1))
    for one in columns:
        mutant("pggan", lambda g, module, _, one=one: (one,))
        assert_caught(generator, edit, tmp_path)
    # Both readers begin with a pixel norm, to which the unit still belongs: columns are wrong for this family.
    mutant("pggan", lambda g, module, _: columns)
    assert_caught(generator, edit, tmp_path)


def test_zeroing_what_demodulates_is_caught(models, mutant, tmp_path):
    """Row and bias of a StyleGAN2 map leave its noise; columns of its readers change their demodulation."""
    generator = dissect.load(models("stylegan2 nvlabs"))
    block = "synthesis.b8"
    edit = dissect.ablate(f"{block}.conv1", [0, 1])
    for slices in (
        ((f"{block}.conv1.weight", 0), (f"{block}.conv1.bias", 0)),
        (("synthesis.b16.conv0.weight", 1), (f"{block}.torgb.weight", 1)),
        (
            ("synthesis.b16.conv0.affine.weight", 0), ("synthesis.b16.conv0.affine.bias", 0),
            (f"{block}.torgb.affine.weight", 0), (f"{block}.torgb.affine.bias", 0),
        ),
    ):  # fmt: skip
        mutant("stylegan2", lambda g, module, _, slices=slices: slices)
        assert_caught(generator, edit, tmp_path)


def test_a_file_that_is_not_what_was_asked_for_is_caught():
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    edit = dissect.ablate("main.5", [0])
    weights = bake.bake(generator, edit)
    with pytest.raises(GanatomyError, match=r"other weights than asked for: 4\.bias, 4\.weight"):
        bake.check_baked(dissect.load(DATA / "dcgan_main.safetensors"), generator, edit, weights)


def test_nan_is_caught(tmp_path, monkeypatch):
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    monkeypatch.setattr(type(generator), "finish", lambda self, state: state.x * float("nan"))
    with pytest.raises(GanatomyError, match="draws NaN"):
        dissect.export(generator, tmp_path / "net.safetensors", dissect.ablate("main.5", [0]))
    assert list(tmp_path.iterdir()) == []


def test_the_bound_follows_range_and_effect():
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    whole = bake.compare(generator, generator, dissect.ablate("main.5", range(4)))
    nothing = bake.compare(generator, generator, ())
    assert whole.largest == whole.effect > 1000 * whole.bound > 0
    assert not whole.same
    assert nothing.same
    assert (nothing.largest, nothing.effect) == (0, 0)
    assert nothing.bound < whole.bound


# -- what no tensor says ---------------------------------------------------------------------------------------


def test_the_written_file_is_opened_with_the_same_options(tmp_path):
    path = stored(random_tensors(), tmp_path / "net.safetensors")
    mean = np.linspace(-1, 1, 7).astype(np.float32)
    edit = dissect.ablate("synthesis.b8.conv1.affine", [0])
    generator = dissect.load(path, conv_clamp="0.5", lr_multiplier=0.02, w_avg=mean)
    out = dissect.export(generator, tmp_path / "out.safetensors", edit)
    baked = dissect.load(out, conv_clamp="0.5", lr_multiplier=0.02, w_avg=mean)
    codes = generator.sample(OTHERS, truncation=0.5)
    assert torch.equal(baked(codes), generator(codes, edits=edit))
    fused = stored(by_hand.genforce(by_hand.plain(channels=(6, 6, 6)), fused=True), tmp_path / "fused.safetensors")
    generator = dissect.load(fused, fused_scale="yes")
    out = dissect.export(generator, tmp_path / "out2.safetensors", dissect.ablate("layer3", [0]))
    codes = generator.sample(OTHERS)
    wanted = generator(codes, edits=dissect.ablate("layer3", [0]))
    assert torch.equal(dissect.load(out, fused_scale="yes")(codes), wanted)


def test_what_cannot_be_changed_in_place_says_so(tmp_path):
    import h5py

    with h5py.File(tmp_path / "net.h5", "w") as file:
        for key, value in dcgan_tensors().items():
            file[key] = value.numpy()
    generator = dissect.load(tmp_path / "net.h5")
    with pytest.raises(GanatomyError, match="convert it to safetensors"):
        dissect.export(generator, tmp_path / "out.h5", dissect.ablate("main.5", 0))
    assert [path.name for path in tmp_path.iterdir()] == ["net.h5"]


def test_what_is_there_is_replaced_only_by_what_was_checked(tmp_path, mutant):
    generator = dissect.load(DATA / "dcgan_main.safetensors")
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(GanatomyError, match="exists"):
        dissect.export(generator, out, dissect.ablate("main.5", 0))
    mutant("dcgan", lambda g, module, all_: all_[1:])
    with pytest.raises(BakeError):
        dissect.export(generator, out, dissect.ablate("main.5", 0), overwrite=True)
    assert out.read_bytes() == b"mine"
    mutant("dcgan", lambda g, module, _: (("4.weight", 0), ("4.bias", 0)))
    seen = []
    edit = dissect.ablate("main.5", 0)
    dissect.export(generator, out, edit, overwrite=True, progress=lambda done, total: seen.append((done, total)))
    assert dissect.load(out).family == "dcgan"
    assert seen[-1] == (16, 16)


# -- real weights ----------------------------------------------------------------------------------------------


def test_five_units_of_the_real_face_generator(digiface, tmp_path):
    recipe = dissect.Recipe(dissect.ablate("main.5", [3, 17, 60, 101, 154]), digiface)
    out = dissect.export(digiface, tmp_path / "faces.tar", recipe)
    baked = dissect.load(out)
    result = bake.compare(baked, digiface, recipe, range(16))
    assert result.same
    assert result.effect > 0.01
    fresh = bake.compare(baked, digiface, recipe, range(1000, 1016))
    assert fresh.largest <= 1e-5
    assert out.stat().st_size == digiface.origin.path.stat().st_size
