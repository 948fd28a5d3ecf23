"""The StyleGAN3 family against the golden files, a network written out by hand, and the paper's tables and sizes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stylegan3_reference import SMALL, Reference, random_tensors, upfirdn

import dissect
import rewrite
import segmodels
from dissect import GanatomyError
from dissect.edits import mask_at
from dissect.effects.subject import Subject
from dissect.generators.convolutions import convolution_of
from dissect.generators.stylegan3_filters import DENSE, Rates, filtered_leaky_relu
from dissect.generators.stylegan3_network import Config, LayerConfig, Network
from dissect.samples import Sampling
from rewrite import Memory, Region, Request, moments
from rewrite.goal import goal_of

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-5  # of the largest expected value


def close(value, wanted, name, tolerance=TOLERANCE):
    value, wanted = np.asarray(value), np.asarray(wanted)
    assert value.shape == wanted.shape, name
    assert np.abs(value - wanted).max() <= tolerance * np.abs(wanted).max(), name


def saved(tensors, path):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


# -- golden files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sg3t", "sg3r"])
def test_golden(name):
    file, expected = DATA / f"{name}.safetensors", np.load(DATA / f"{name}.expected.npz")
    generator = dissect.load(file)
    codes = generator.map(expected["z"])
    close(codes.w, expected["ws"], "ws")
    hooks = [key.removeprefix("hook:") for key in expected.files if key.startswith("hook:")]
    assert len(hooks) == 4
    capture = generator.capture(codes, hooks)
    close(capture.images, expected["image"], "image")
    for hook in hooks:
        close(capture.features[hook][:1], expected[f"hook:{hook}"], hook)
    for kept, cutoff in (("", None), ("_cutoff3", 3)):
        short = generator.map(expected["z"][: 1 if kept else 2], truncation=0.7, cutoff=cutoff)
        close(short.w, expected[f"ws_psi07{kept}"], f"ws{kept}")
        close(generator(short), expected[f"image_psi07{kept}"], f"image{kept}")
    for move in ("transform_rot", "transform_scale"):
        moved = dissect.load(file, transform=expected[move])
        close(moved(moved.map(expected["z"][:1])), expected[f"image_{move}"], move)
        assert moved.fingerprint != generator.fingerprint


def test_golden_truncation_at_every_cutoff_from_the_pickle():
    expected = np.load(DATA / "probe_truncation_sg3.expected.npz")
    generator = dissect.load(DATA / "nvlabs_sg3.pkl")
    assert generator.fingerprint == dissect.load(DATA / "sg3t.safetensors").fingerprint
    assert ("conv_clamp", 256.0, "file") in [(fact.name, fact.value, fact.source) for fact in generator.facts]
    seen = 0
    for key in expected.files:
        found = re.fullmatch(r"(ws|image)_psi(.+)_cutoff(.+)", key)
        if found:
            cutoff = None if found[3] == "None" else int(found[3])
            codes = generator.map(expected["z"], truncation=float(found[2]), cutoff=cutoff)
            close(codes.w if found[1] == "ws" else generator(codes), expected[key], key)
            seen += 1
    assert seen == 38


# -- against the network written out by hand -----------------------------------------------------------------------

STEEP = ((28, 8, 4), (52, 32, 3), (36, 16, 5), (32, 32, 4), (32, 32, 1))  # up by 8, and down by 4; grey
BARE = ((16, 16, 4), (32, 32, 5), (32, 32, 3))  # no margin
VARIANTS = {
    "t": ({}, {}),
    "r": ({"radial": True}, {}),
    "conditional": ({"num_classes": 3}, {}),
    "deep mapping": ({"mapping_layers": 5, "w_dim": 5, "z_dim": 9}, {}),
    "a clamp that is reached": ({}, {"conv_clamp": 0.7}),
    "other rates, grey": ({"layers": STEEP}, {}),
    "no margin": ({"layers": BARE}, {"margin_size": 0}),
    "no finer nonlinearity": ({"high": 1}, {"lrelu_upsampling": 1}),
    "a finer nonlinearity": ({"high": 4, "filter_size": 3}, {"lrelu_upsampling": 4}),
    "other constants": ({}, {"output_scale": 0.5, "first_cutoff": 3.0}),
}
NAMES = {"conv_clamp": "clamp", "margin_size": "margin", "lrelu_upsampling": "high", "output_scale": "scale",
         "first_cutoff": "cutoff"}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_and_features_equal_the_reference(variant, tmp_path):
    shape, options = VARIANTS[variant]
    tensors = random_tensors(**shape)
    generator = dissect.load(saved(tensors, tmp_path / "net.safetensors"), **options)
    reference = Reference(tensors, **{NAMES[name]: value for name, value in options.items()})
    codes = generator.sample(range(3))
    labels = None if codes.classes is None else generator.one_hot(codes.classes)
    close(codes.w[:, 0], reference.w(codes.z, labels), "w")
    plus = torch.randn(3, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(1))
    for some in (codes, generator.codes(plus)):
        names = [layer.name for layer in generator.layers if layer.kind != "style"]
        capture, wanted = generator.capture(some, names), reference.features(some.w)
        for name in names:
            close(capture.features[name], wanted[name.removeprefix("synthesis.")], name)
        close(capture.images, reference.image(some.w).expand(-1, 3, -1, -1), "image")


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(("inputs", "size", "up", "down"), [(DENSE + 22, 160, 2, 2), (140, 276, 4, 2), (150, 75, 2, 4)])
def test_long_axes_are_filtered_in_blocks(inputs, size, up, down, radial):
    """The banded products give what one dense product gives, and what zeros, padding and a convolution give."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, inputs, inputs, generator=random, dtype=torch.float64)
    taps = torch.rand(6 * up, generator=random, dtype=torch.float64)
    shape = (6 * down,) * (2 if radial else 1)
    last = torch.rand(shape, generator=random, dtype=torch.float64)
    rates = Rates.of(inputs, size, up, down, len(taps), len(last))
    total = (size - 1) * down + 1 - inputs * up + len(taps) + len(last) - 2
    wanted = upfirdn(x, taps * up, up, (total + up) // 2, total - (total + up) // 2, 1)
    wanted = upfirdn((torch.where(wanted > 0, wanted, 0.2 * wanted) * 2**0.5).clamp(-9, 9), last, 1, 0, 0, down)
    close(filtered_leaky_relu(x, taps, last, rates, 2**0.5, 9.0), wanted, "maps", 1e-12)


def test_images_do_not_depend_on_their_batch():
    """The published normalisation of styles over the batch cancels but for 1e-8: alone, each image is the same."""
    tensors = random_tensors()
    generator, reference = dissect.load(tensors), Reference(tensors)
    codes = generator.sample(range(6))
    together = generator(codes)
    for index in range(6):
        close(generator(codes[index]), together[index : index + 1], "alone", 2e-6)
    alone = torch.cat([reference.image(codes.w[i : i + 1]) for i in range(6)])
    gap = float((reference.image(codes.w) - alone).abs().max() / alone.abs().max())
    assert 0 < gap < 1e-7, "the published arithmetic itself depends on the batch, by less than float32 shows"


# -- layers, resume, edits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("radial", [False, True])
def test_resume_equals_forward_at_every_layer(radial):
    generator = dissect.load(random_tensors(radial=radial))
    codes = generator.sample(range(2), truncation=0.8)
    whole = generator(codes)
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert capture.features[layer.name].shape == (2, layer.channels, layer.height, layer.width)
        assert torch.equal(capture.images, whole)
        assert torch.equal(generator.resume(capture, layer.name), whole), layer
        edit = dissect.ablate(layer.name, range(layer.channels))
        edited = generator(codes, edits=edit)
        assert torch.isfinite(edited).all()
        assert torch.equal(generator.resume(capture, layer.name, edits=edit), edited), layer
        assert not torch.equal(edited, whole), layer


def test_layers_margins_and_defaults():
    generator = dissect.load(DATA / "sg3t.safetensors")
    layers = {layer.name: layer for layer in generator.layers}
    assert len(layers) == 31
    assert generator.num_ws == 16
    assert generator.default_layers() == ["synthesis.L4_36_20", "synthesis.L13_32_8"]
    for name, margin, seen in (
        ("synthesis.input", 10, 16), ("synthesis.L4_36_20", 10, 16), ("synthesis.L5_52_20", 10, 32),
        ("synthesis.L13_32_8", 0, 32), ("synthesis.L14_32_3", 0, 32), ("synthesis.L5_52_20.affine", 0, 1),
    ):  # fmt: skip
        assert (layers[name].margin, layers[name].seen) == (margin, (seen, seen)), name
    assert not generator.has_noise
    with pytest.raises(GanatomyError, match="noise"):
        generator.sample([0], noise="random")


def test_a_style_channel_can_be_cut(tmp_path):
    tensors = random_tensors()
    generator = dissect.load(tensors)
    codes = generator.sample([0])
    cut = generator(codes, edits=dissect.ablate("synthesis.L2_52_6.affine", [2]))
    tensors["synthesis.L2_52_6.affine.weight"][2] = 0
    tensors["synthesis.L2_52_6.affine.bias"][2] = 0
    close(cut, dissect.load(tensors)(codes), "image")
    assert not torch.equal(cut, generator(codes))


# -- margins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", ["replicate", "constant"])
def test_a_mask_is_of_the_picture(beyond):
    mask = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    found = mask_at(mask, 36, 36, 10, beyond)
    inner = mask.reshape(16, 2, 16, 2).mean((1, 3))
    assert torch.allclose(found[10:26, 10:26], inner)
    assert torch.equal(mask_at(mask, 16, 16, 0, beyond), mask_at(mask, 16, 16))
    corner = inner[0, 0] if beyond == "replicate" else torch.zeros(())
    assert torch.allclose(found[:10, :10], corner.expand(10, 10))


def test_an_edit_in_a_mask_acts_there_in_the_picture():
    """Cutting all of the last maps in a quarter changes that quarter and a seam; the other half stays as it was."""
    generator = dissect.load(DATA / "sg3r.safetensors")
    codes = generator.sample([1])
    mask = np.zeros((32, 32))
    mask[:16, :16] = 1
    name = "synthesis.L12_52_8"
    place = generator.layer(name)
    changed = generator(codes, edits=dissect.ablate(name, range(place.channels), mask=mask)) - generator(codes)
    size = changed.abs().sum(1)[0]
    inside = float(size[:12, :12].mean())
    assert inside > 0
    assert float(size[20:, 20:].mean()) < 0.05 * inside
    assert float(size[20:, :12].mean()) < 0.05 * inside
    assert float(size[:12, 20:].mean()) < 0.05 * inside
    assert place.margin == 10


def test_only_the_picture_is_counted(tmp_path):
    """Counts, moments, maxima and stored maps are those of the maps without their margin."""
    generator = dissect.load(random_tensors())
    layer = "synthesis.L1_36_5"
    run = dissect.run(generator, segmodels.load("colors"), layers=layer, samples=8, out=tmp_path / "run.h5")
    result = run.layer(layer)
    maps = generator.features(generator.sample(range(8)), layer)[layer][:, :, 10:-10, 10:-10]
    assert (result.height, result.width) == (16, 16)
    np.testing.assert_allclose(result.mean, maps.double().mean((0, 2, 3)), rtol=1e-5)
    best = maps.amax((2, 3))
    for unit in range(5):
        top = result.top(unit)[0]
        shown = maps[top.seed, unit].numpy()
        np.testing.assert_allclose(top.value, best[:, unit].max(), rtol=1e-5)
        assert shown[top.y, top.x] == shown.max()
        np.testing.assert_allclose(top.feature, shown, atol=2e-3 * np.abs(shown).max())
    assert dissect.verify(tmp_path / "run.h5") == []


def test_a_convolutions_values_lie_round_the_picture():
    """With kernels of 3 a conv's own values have one more cell on each side than its input."""
    generator = dissect.load(random_tensors())
    for name, margins in (("synthesis.L2_52_6", (10, 11)), ("synthesis.L4_32_3", (0, 0))):
        reading = convolution_of(generator, name).reading
        assert (reading.margin, reading.margin_out) == margins
    flat = convolution_of(dissect.load(random_tensors(radial=True)), "synthesis.L2_52_6").reading
    assert (flat.margin, flat.margin_out) == (10, 10)


def test_places_are_of_the_picture():
    """Tiles lie in the picture, and what is put in at one is seen there."""
    generator = dissect.load(DATA / "sg3r.safetensors")
    place = generator.layer("synthesis.L12_52_8")
    subject = Subject.of(generator, segmodels.load("colors"), place.name, Sampling(), 8)
    tiles = subject.tiles
    assert (tiles.count, tiles.height, tiles.margin) == (16, 32, 10)
    masks = tiles.masks(range(16))
    assert masks.shape == (16, 1, 52, 52)
    assert torch.equal(masks.sum((0, 1)), torch.nn.functional.pad(torch.ones(32, 32), (10,) * 4))
    assert masks[6, 0, 18:26, 26:34].all()
    capture = subject.capture([4])
    features = subject.features(capture)
    for tile in (0, 6, 15):
        moved = subject.resume(capture, features * (1 - masks[[tile]])) - capture.images
        share = tiles.means(moved.abs().sum(1))[0]
        assert int(share.argmax()) == tile
        assert float(share[tile]) > 0.5 * float(share.sum())


@pytest.mark.parametrize("kind", ["patch", "channel"])
@pytest.mark.parametrize("radial", [False, True])
def test_a_request_is_of_the_picture(kind, radial):
    """A box of the picture is the same box of the convolution's own values and of what enters it, margins aside."""
    generator = dissect.load(random_tensors(radial=radial))
    convolution = convolution_of(generator, "synthesis.L3_32_4")
    region, other = Region.box(1, 32, 4, 8, 12, 16), Region.box(0, 32, 20, 20, 28, 28)
    request = Request(32, (region,), other)
    memory = Memory.of(moments(generator, convolution, range(8), kind=kind), 1e-4)
    goal = goal_of(generator, request, convolution, memory)
    (target,) = goal.targets()
    margin = 10 if radial else 11
    wanted = torch.zeros(32 + 2 * margin, 32 + 2 * margin, dtype=torch.float64)
    wanted[margin + 4 : margin + 12, margin + 8 : margin + 16] = 1
    assert torch.equal(target.weight, wanted)
    (seen,) = goal.seen_targets(goal.part.features())
    assert torch.equal(seen.weight.double(), wanted[margin:-margin, margin:-margin])
    copied = goal.patches.values(goal.copied.keys().double(), convolution.tensor.double())[0]
    there = [slice(margin + top, margin + top + 8) for top in (20, 20)]
    assert torch.equal(
        target.maps[:, margin + 4 : margin + 12, margin + 8 : margin + 16], copied[:, there[0], there[1]]
    )
    assert [len(counting) for counting in goal.counting] == [64]
    edit = rewrite.solve(generator, request, "synthesis.L3_32_4", rank=4, memory=memory)
    changed = (generator(generator.sample([1]), edits=edit) - generator(generator.sample([1]))).abs().sum(1)[0]
    assert changed.max() > 0


# -- sizes, configuration, wrong files -----------------------------------------------------------------------------


def tables(resolution, base, most, kernel, critical=2, count=14):
    """The paper's tables (Karras et al., NeurIPS 2021, section 3.2): cutoffs and stopbands in geometric progression."""
    end = np.minimum(np.arange(count + 1) / (count - critical), 1)
    cutoffs = 2 * (resolution / 2 / 2) ** end
    stop = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** end
    rates = np.exp2(np.ceil(np.log2(np.minimum(stop * 2, resolution)))).astype(int)
    sizes = [*(rates[:-2] + 20), resolution, resolution]
    channels = np.rint(np.minimum(base / 2 / cutoffs, most)).astype(int)
    channels[-1] = 3
    layers, inputs = [], int(channels[0])
    for index in range(count + 1):
        layers.append(
            LayerConfig(
                f"L{index}_{sizes[index]}_{channels[index]}", inputs, int(channels[index]),
                kernel if index < count else 1, int(sizes[index]), int(rates[index]), 12, (12,),
            )
        )  # fmt: skip
        inputs = int(channels[index])
    return Config(512, 512, 512, 2, int(channels[0]), tuple(layers))


@pytest.mark.parametrize(
    ("resolution", "base", "most", "kernel", "parameters"),
    [
        (1024, 32768, 512, 3, 22_313_167),
        (512, 32768, 512, 3, 24_873_519),
        (256, 32768, 512, 3, 28_472_133),
        (256, 16384, 512, 3, 23_320_443),
        (1024, 65536, 1024, 1, 15_093_151),
        (512, 65536, 1024, 1, 16_665_594),
        (256, 65536, 1024, 1, 18_816_387),
        (256, 32768, 1024, 1, 15_779_565),
    ],
)
def test_parameter_counts_of_the_papers_networks(resolution, base, most, kernel, parameters):
    config = tables(resolution, base, most, kernel)
    with torch.device("meta"):
        network = Network(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    names = [layer.name for layer in config.layers]
    if parameters == 22_313_167:
        assert names[7:] == ["L7_276_323", "L8_276_203", "L9_532_128", "L10_1044_81", "L11_1044_51", "L12_1044_32",
                             "L13_1024_32", "L14_1024_3"]  # fmt: skip
    if parameters == 15_093_151:
        assert (names[7], names[13]) == ("L7_276_645", "L13_1024_64")


def test_what_is_known_and_what_is_guessed():
    facts = {fact.name: (fact.value, fact.source) for fact in dissect.load(random_tensors(radial=True)).facts}
    assert facts["use_radial_filters"] == (True, "tensors")
    assert facts["conv_kernel"] == (1, "tensors")
    assert facts["conv_clamp"] == (256.0, "assumed")
    assert facts["margin_size"] == (10, "assumed")
    assert facts["num_ws"] == (len(SMALL) + 1, "tensors")
    plain = dissect.load(random_tensors())
    assert plain.fingerprint == dissect.load(random_tensors(), conv_clamp="none").fingerprint
    assert plain.fingerprint != dissect.load(random_tensors(), conv_clamp=1.5).fingerprint
    assert plain.fingerprint != dissect.load(random_tensors(), output_scale=0.5).fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conv_clam": 1}, "unknown option of StyleGAN3 'conv_clam'; nearest: conv_clamp"),
        ({"conv_clamp": "wide"}, "option conv_clamp: 'wide' is not valid"),
        ({"margin_size": -1}, "option margin_size: -1 is not valid"),
        ({"margin_size": 1.5}, "not valid"),
        ({"margin_size": 9}, "L0_36_6 is no power of two without a margin of 9"),
        ({"lrelu_upsampling": 0}, "not valid"),
        ({"first_cutoff": 8}, "option first_cutoff: expected less than 8"),
        ({"output_scale": float("inf")}, "not valid"),
        ({"transform": "1,0,0"}, "option transform"),
        ({"transform": np.full((3, 3), np.nan)}, "option transform"),
        ({"transform": "nowhere.npy"}, "no such file"),
        ({"w_avg": np.zeros(3)}, "expected"),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path):
    path = saved(random_tensors(), tmp_path / "net.safetensors")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(path, **options)
    assert "\n" not in str(caught.value)


def test_a_transform_moves_the_picture():
    """A quarter of a turn of the plane, given as text; the translation of the picture by w is part of it."""
    tensors = random_tensors()
    tensors["synthesis.input.transform"] = torch.eye(3)
    plain, turned = dissect.load(tensors), dissect.load(tensors, transform="0,-1,0,1,0,0,0,0,1")
    own = [net.features(net.sample([3]), "synthesis.input")["synthesis.input"] for net in (plain, turned)]
    close(own[1], own[0].rot90(1, (2, 3)), "turned", 1e-4)


def without(key):
    return lambda t: t.pop(key)


def changed(key, value):
    return lambda t: t.update({key: value(t[key]) if key in t else value(None)})


L2 = "synthesis.L2_52_6"
WRONG = {
    "missing bias": (without(f"{L2}.bias"), f"lacks {L2}.bias"),
    "missing filter": (without(f"{L2}.up_filter"), f"lacks {L2}.up_filter"),
    "missing magnitude": (without(f"{L2}.magnitude_ema"), f"lacks {L2}.magnitude_ema"),
    "missing mapping": (without("mapping.fc1.weight"), "lacks|fc1|unexpected"),
    "missing layer": (lambda t: [t.pop(k) for k in list(t) if k.startswith(L2)], "without a gap"),
    "two layers of one number": (changed("synthesis.L2_52_7.bias", lambda _: torch.ones(7)), "without a gap"),
    "extra key": (changed(f"{L2}.noise", lambda _: torch.ones(2)), f"unexpected key {L2}.noise"),
    "extra filter": (changed("synthesis.L4_32_3.up_filter", lambda _: torch.ones(12)), "unexpected key synthesis.L4"),
    "a smaller size in a name": (lambda t: rename(t, L2, "synthesis.L2_37_6"), "L2_37_6 is no power of two"),
    "size in a name": (lambda t: rename(t, L2, "synthesis.L2_53_6"), "L2_53_6 has 53 cells a side, the image 32"),
    "channels in a name": (lambda t: rename(t, L2, "synthesis.L2_52_9"), "L2_52_9.bias is"),
    "a huge size": (lambda t: rename(t, L2, "synthesis.L2_65556_6"), "65556 cells a side, the image 32"),
    "another last size": (lambda t: rename(t, "synthesis.L3_32_4", "synthesis.L3_64_4"), "64 cells a side"),
    "other inputs": (changed(f"{L2}.weight", lambda t: t[:, :4].contiguous()), f"{L2}.weight is"),
    "oblong kernel": (changed(f"{L2}.weight", lambda t: t[:, :, :, :1].contiguous()), f"{L2}.weight is"),
    "flat": (changed(f"{L2}.weight", lambda t: t.flatten()), "expected 4 axes"),
    "empty": (changed(f"{L2}.weight", lambda t: t[:0]), "expected 4 axes"),
    "a filter of two axes": (changed(f"{L2}.up_filter", lambda t: torch.outer(t, t)), f"filters of {L2}"),
    "an oblong filter": (changed(f"{L2}.down_filter", lambda _: torch.ones(12, 6)), f"filters of {L2}"),
    "a long filter": (changed(f"{L2}.up_filter", lambda _: torch.ones(5000)), f"filters of {L2}"),
    "integers": (changed(f"{L2}.bias", lambda t: t.to(torch.int32)), "floating-point"),
    "not a number": (changed(f"{L2}.bias", lambda t: t * float("nan")), "NaN"),
    "a dead unit": (changed(f"{L2}.weight", lambda t: t * (torch.arange(6) != 4)[:, None, None, None]), "unit 4 are"),
    "no styles": (lambda t: [t[f"{L2}.affine.{p}"].zero_() for p in ("weight", "bias")], "affine is not above 0"),
    "no direction": (lambda t: [t[f"synthesis.input.affine.{p}"][:2].zero_() for p in ("weight", "bias")], "not above"),
    "no magnitude": (changed(f"{L2}.magnitude_ema", torch.zeros_like), "magnitude_ema is not above 0"),
    "four colours": (lambda t: rename(t, "synthesis.L4_32_3", "synthesis.L4_32_4"), "expected an image|is"),
}


def rename(tensors, old, new):
    for key in [key for key in tensors if key.startswith(f"{old}.")]:
        tensors[key.replace(old, new)] = tensors.pop(key)


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


# -- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_conversion_keeps_picture_fingerprint_and_options(suffix, tmp_path):
    options = {"conv_clamp": 0.9, "transform": [[0.9, 0.1, 0.2], [-0.1, 0.9, 0], [0, 0, 1]], "margin_size": "10"}
    source = saved(random_tensors(), tmp_path / "net.safetensors")
    plain, moved = dissect.load(source), dissect.load(source, **options)
    for generator in (plain, moved):
        again = dissect.load(dissect.convert(generator, tmp_path / f"{generator is plain}.{suffix}"))
        assert again.fingerprint == generator.fingerprint
        assert torch.equal(again(again.sample([1, 2])), generator(generator.sample([1, 2])))
    back = load_file(dissect.convert(tmp_path / f"True.{suffix}", tmp_path / "back.safetensors"))
    assert all(torch.equal(back[key], value) for key, value in load_file(source).items())


def test_the_pickle_is_exported_with_baked_styles(tmp_path):
    generator = dissect.load(DATA / "nvlabs_sg3.pkl")
    edit = dissect.ablate("synthesis.L8_52_16.affine", [0, 3])
    baked = dissect.load(dissect.export(generator, tmp_path / "cut.pkl", edit))
    codes = generator.sample([5])
    assert torch.equal(baked(codes), generator(codes, edits=edit))
    assert baked.origin.format == generator.origin.format


@pytest.mark.parametrize(
    ("layer", "words"), [("synthesis.L2_52_6", "a row of zeros draws NaN"), ("synthesis.L2_52_6.affine", "not above 0")]
)
def test_what_the_published_network_could_not_draw_is_not_written(layer, words, tmp_path):
    """It divides by the size of each row, and of all styles: rows of zeros are refused, and all styles at once."""
    generator = dissect.load(saved(random_tensors(), tmp_path / "net.safetensors"))
    every = range(generator.layer(layer).channels)
    assert torch.isfinite(generator(generator.sample([0]), edits=dissect.ablate(layer, every))).all()
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.export(generator, tmp_path / "out.safetensors", dissect.ablate(layer, every))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
