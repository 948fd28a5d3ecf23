"""BigGAN-deep against the golden files; its statistics by truncation, its vectors on export, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import dissect
from dissect import GanatomyError
from dissect.generators import Codes
from dissect.generators.biggan_deep_network import Config, Network, Shape, place_of
from dissect.generators.spectral import between, vectors

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
FILE = DATA / "biggan_deep_hf.safetensors"
BLOCKS = [[False, 16, 16], [True, 16, 8], [False, 8, 8], [True, 8, 4], [True, 4, 2], [False, 2, 1]]
TOLERANCE = 2e-5  # of the largest expected value


@pytest.fixture(scope="module")
def expected():
    return np.load(DATA / "biggan_deep_hf.expected.npz")


@pytest.fixture(scope="module")
def golden():
    return dissect.load(FILE, layers=BLOCKS)


def close(value, wanted):
    wanted = np.asarray(wanted)
    return np.abs(np.asarray(value) - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_golden_images_and_layers(golden, expected):
    assert (golden.family, golden.flavour, golden.resolution) == ("biggan-deep", "huggingface", 32)
    assert (golden.z_dim, golden.num_classes) == (10, 12)
    assert golden.default_layers() == [f"generator.layers.{i}" for i in (0, 2, 4, 6)]
    classes = expected["class_vector"].argmax(1)
    codes = golden.map(expected["z"], classes)
    hooks = [key for key in expected.files if key.startswith("hook:")]
    capture = golden.capture(codes, [key.removeprefix("hook:") for key in hooks])
    assert close(capture.images, expected["image"])
    for key in hooks:
        features = capture.features[key.removeprefix("hook:")][:1]
        flat = features.permute(0, 2, 3, 1).flatten(1) if key.endswith("gen_z") else features  # channels last there
        assert close(flat, expected[key]), key
    for truncation in (0.7, 0.405, 0.58):
        images = golden(golden.map(expected["z"][:1], classes[:1], truncation))
        assert close(images, expected[f"image_truncation{truncation}"])
    mixed = golden.embedding(torch.tensor(classes)).mean(0)[None, None]
    assert close(golden(Codes(torch.tensor(expected["z"][:1]), w=mixed)), expected["image_mixed_class"])
    for layer in golden.layers:
        capture = golden.capture(codes, layer.name)
        assert capture.features[layer.name].shape[1:] == (layer.channels, layer.height, layer.width)
        assert torch.equal(golden.resume(capture, layer.name), capture.images)


@pytest.mark.parametrize(
    ("truncation", "place"),
    [(1.0, 50), (0.7, 35), (0.02, 1), (0.01, 0.5), (0.405, 20.25), (0.58, 28), (0.94, 46), (0.14, 7), (0.28, 14)],
)
def test_where_a_truncation_lies(truncation, place):
    """0.58 and 0.94 come out just below 29 and 47, 0.14 and 0.28 just above 7 and 14."""
    index, share = place_of(truncation, 51)
    assert index == int(place)
    if place in (28, 46):
        assert 0.999 < share < 1
    elif place in (7, 14):
        assert 0 < share < 1e-9
    else:
        assert index + share == pytest.approx(place)


def test_statistics_between_two_truncations_as_published_and_corrected(golden):
    corrected = dissect.load(FILE, layers=BLOCKS, statistics="corrected")
    means = golden.module.generator.bn.running_means
    assert torch.allclose(golden.module.generator.bn.statistics(0.405)[0], means[20] * 0.25 + means[21] * 0.75)
    assert torch.allclose(corrected.module.generator.bn.statistics(0.405)[0], means[20] * 0.75 + means[21] * 0.25)
    for generator in (golden, corrected):
        assert torch.equal(generator.module.generator.bn.statistics(0.7)[0], means[35])
    assert torch.allclose(corrected.module.generator.bn.statistics(0.58)[0], means[29], atol=1e-6)
    assert torch.allclose(golden.module.generator.bn.statistics(0.58)[0], means[28], atol=1e-6)
    assert golden.fingerprint != corrected.fingerprint
    same, other = (generator(generator.sample([1], truncation=t)) for generator in (golden, corrected) for t in (0.7,))
    assert torch.equal(same, other)


@pytest.mark.parametrize(
    ("resolution", "widths", "parameters"),
    [
        (128, (16, 16, 16, 16, 8, 8, 4, 4, 2, 2, 1), 50_388_609),
        (256, (16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1), 55_880_833),
        (512, (16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1, 1, 1), 56_163_905),
    ],
)
def test_parameters_of_the_published_sizes(resolution, widths, parameters):
    places = [place for place in range(len(widths)) if place != 8]
    pairs = zip([128 * w for w in widths], [128 * w for w in widths[1:]])
    blocks = [(p, Shape(i % 2 == 1, a, a // 4, b)) for i, (p, (a, b)) in enumerate(zip(places, pairs))]
    attended = blocks[7][1].outputs
    config = Config(128, 128, 1000, tuple(blocks), (8, attended // 8, attended // 2), 128, 51, 1e-4, False)
    with torch.device("meta"):
        network = Network(config)
    assert config.resolution == resolution
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


# -- which blocks double the side ------------------------------------------------------------------------------


def test_the_config_beside_the_file_is_read(tmp_path, golden):
    shutil.copy(FILE, tmp_path / "pytorch_model.safetensors")
    config = {"layers": BLOCKS, "z_dim": 10, "class_embed_dim": 10, "eps": 1e-4, "attention_layer_position": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    generator = dissect.load(tmp_path / "pytorch_model.safetensors")
    assert generator.fingerprint == golden.fingerprint
    assert {(fact.name, fact.source) for fact in generator.facts} >= {("layers", "file"), ("eps", "file")}
    (tmp_path / "other").mkdir()
    out = dissect.export(generator, tmp_path / "other" / "cut.safetensors", dissect.ablate("generator.relu", 0))
    cut = dissect.load(out, layers=BLOCKS)
    codes = golden.sample([1])
    assert torch.equal(cut(codes), golden(codes, dissect.ablate("generator.relu", 0)))
    (tmp_path / "config.json").write_text(json.dumps(config | {"layers": [[False, 16, 16]] * 6}))
    with pytest.raises(GanatomyError, match="other channels than the file's tensors"):
        dissect.load(tmp_path / "pytorch_model.safetensors")
    assert dissect.load(tmp_path / "pytorch_model.safetensors", layers=BLOCKS).fingerprint == golden.fingerprint
    (tmp_path / "config.json").write_text("no JSON")
    assert dissect.load(tmp_path / "pytorch_model.safetensors").resolution == 32
    (tmp_path / "elsewhere.json").write_text(json.dumps(config))
    given = dissect.load(FILE, layers=str(tmp_path / "elsewhere.json"))
    assert given.fingerprint == golden.fingerprint


def test_the_blocks_survive_a_conversion(tmp_path, golden):
    for suffix in ("safetensors", "pth"):
        other = dissect.load(dissect.convert(golden, tmp_path / f"other.{suffix}"))
        assert other.fingerprint == golden.fingerprint
        assert torch.equal(other(other.sample([1])), golden(golden.sample([1])))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[True, 16, 16]], "layers lists 1 blocks, but the file has 6"),
        ("[[true, 16]]", "is not valid"),
        ("nothing.json", "is not valid|No such file"),
        ("{}", "is not valid|layers"),
        ([], "is not valid"),
        (3, "is not valid"),
    ],
)
def test_wrong_lists_of_blocks_are_refused(value, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(FILE, layers=value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"eps": -1}, {"statistics": "better"}, {"BN_eps": 1e-4}])
def test_wrong_options_are_refused(option):
    with pytest.raises(GanatomyError, match="option"):
        dissect.load(FILE, **option)


# -- spectral norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("seed", range(4))
def test_vectors_between_which_a_weight_has_the_norm_1(rows, seed):
    state = torch.Generator().manual_seed(seed)
    matrix = torch.randn(9, 30, generator=state).double()
    matrix[rows:] = 0
    for scale in (1.0, 0.0):  # with 0 what was kept says nothing of the weight
        u, v = (torch.randn(n, generator=state) for n in (9, 30))
        found = vectors(matrix, u * scale if rows < 9 else u, v, "w")
        assert between(matrix, *found) == 1
        assert all(torch.isfinite(x).all() for x in found)
    with pytest.raises(GanatomyError, match="w would be all zeros"):
        vectors(matrix * 0, u, v, "w")


def test_a_baked_file_divides_by_1_and_keeps_the_rest(tmp_path, golden):
    layer = "generator.layers.1.conv_1"
    out = dissect.export(golden, tmp_path / "cut.safetensors", dissect.ablate(layer, [0, 3]))
    before, after = load_file(FILE), load_file(out)
    different = {key for key in before if not torch.equal(before[key], after[key])}
    assert different - {f"{layer}.weight_v"} == {f"{layer}.{part}" for part in ("weight_orig", "weight_u", "bias")}
    flat = after[f"{layer}.weight_orig"].flatten(1).double()
    norm = after[f"{layer}.weight_u"].double() @ flat @ after[f"{layer}.weight_v"].double()
    assert float(norm) == pytest.approx(1, abs=1e-7)
    assert not after[f"{layer}.weight_orig"][[0, 3]].any()
    codes = golden.sample([1, 2], truncation=0.4)
    baked = dissect.load(out, layers=BLOCKS)
    assert torch.equal(baked(codes), golden(codes, dissect.ablate(layer, [0, 3])))


# -- state dicts that are none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("generator.gen_z.bias", None, r"lacks generator\.gen_z\.bias"),
        ("generator.gen_z.weight_u", None, r"lacks generator\.gen_z\.weight_u"),
        ("generator.layers.0.conv_0.weight_v", lambda t: t[:-1], r"weight_v is \[63\], expected \[64\]"),
        ("generator.layers.0.conv_0.weight_orig", None, r"lacks generator\.layers\.0\.conv_0\.weight_orig"),
        ("generator.layers.2.conv_3.weight_orig", lambda t: t[:5], "makes 5 channels, expected 32 or 16"),
        ("generator.bn.running_vars", lambda t: -t, "holds negative values"),
        (
            "generator.bn.running_means",
            lambda t: t[:50],
            r"running_vars is \[51, 4\], expected \[50, 4\]|running_means",
        ),
        ("generator.gen_z.weight_orig", lambda t: t[:-1], "has the unexpected shape"),
        ("generator.conv_to_rgb.weight_orig", lambda t: t[:2], "makes 2 channels"),
        ("embeddings.weight", lambda t: t.repeat(3, 1), "expected more than the embedding's"),
        ("generator.layers.4.gamma", lambda t: t.repeat(2), "gamma has the unexpected shape"),
        ("generator.layers.1.conv_0.weight_orig", lambda t: t * 0, "cannot be normalised"),
        ("extra", torch.zeros(1), "unexpected key extra"),
        ("generator.layers.9.conv_0.bias", torch.zeros(1), "one after the other"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line_that_names_them(key, change, words, tmp_path):
    tensors = load_file(FILE)
    if change is None:
        del tensors[key]
    else:
        tensors[key] = (change(tensors[key]) if callable(change) else change).contiguous()
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(tmp_path / "wrong.safetensors")
    assert "\n" not in str(caught.value)
