"""Writing checkpoints: the same flavour byte for byte, other layouts and back bit for bit."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import dcgan_tensors
from safetensors.torch import load_file, save_file
from stylegan2_reference import random_tensors

import dissect
from dissect import GanatomyError
from dissect.generators import checkpoint, stylegan2

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
NET = {"channels": (6, 5, 4), "mapping_layers": 2}


def nvlabs(path, **options):
    save_file({k: v.contiguous() for k, v in random_tensors(**(NET | options)).items()}, path)
    return path


def training_checkpoint(path):
    """What a training script saves: more than the generator."""
    tensors = load_file(DATA / "sg2_rosinality.safetensors")
    optimizer = {"state": {0: {"step": 5, "exp_avg": torch.randn(3)}}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    raw = {key: value * 0.9 for key, value in tensors.items()}
    torch.save({"g": raw, "d": {"w": torch.randn(4)}, "g_ema": tensors, "g_optim": optimizer, "iter": 7}, path)
    return path


FILES = {
    "nvlabs pickle": lambda folder: DATA / "nvlabs_sg2ada.pkl",
    "safetensors": lambda folder: DATA / "sg2ada_uncond.safetensors",
    "torch zip": lambda folder: training_checkpoint(folder / "train.pt"),
    "torch legacy": lambda folder: legacy(folder / "legacy.pth"),
    "dcgan": lambda folder: torch_zip(dcgan_tensors(), folder / "dcgan.pth"),
}


def torch_zip(tensors, path):
    torch.save(tensors, path)
    return path


def legacy(path):
    torch.save({"netG": dcgan_tensors()}, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_an_export_is_the_file_it_came_from(kind, tmp_path):
    source = FILES[kind](tmp_path)
    generator = dissect.load(source)
    out = dissect.export(generator, tmp_path / "out.bin")
    assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("kind", FILES)
def test_an_export_changes_the_given_weights_and_nothing_else(kind, tmp_path):
    source = FILES[kind](tmp_path)
    generator = dissect.load(source)
    names = [name for name, value in generator.module.state_dict().items() if value.ndim == 4][1:3]
    weights = {name: generator.module.state_dict()[name] * 0.5 + 0.25 for name in names}
    out = dissect.export(generator, tmp_path / "out.bin", weights=weights)
    changed = dissect.load(out)
    assert changed.fingerprint != generator.fingerprint
    assert changed.flavour == generator.flavour
    assert changed.origin.format == generator.origin.format
    for name, value in changed.module.state_dict().items():
        assert torch.equal(value, weights.get(name, generator.module.state_dict()[name])), name
    before, after = checkpoint.read(source), checkpoint.read(out)
    assert [network.where for network in before.networks] == [network.where for network in after.networks]
    for old, new in zip(before.networks, after.networks, strict=True):
        same = [key for key in old.tensors if torch.equal(old.tensors[key], new.tensors[key])]
        expected = len(names) if old.where == generator.origin.where else 0
        assert len(old.tensors) - len(same) == expected, old.where
    codes = generator.sample([0, 1])
    assert not torch.equal(changed(codes), generator(codes))


def test_an_exported_pickle_keeps_its_records_and_its_source(tmp_path):
    source = DATA / "nvlabs_sg2ada.pkl"
    generator = dissect.load(source)
    weights = {"synthesis.b8.conv0.weight": torch.zeros_like(generator.module.synthesis["b8"].conv0.weight)}
    out = dissect.export(generator, tmp_path / "out.pkl", weights=weights)

    def operations(path):
        return [
            (operation.name, None if isinstance(argument, bytes) and len(argument) > 1000 else argument, place)
            for operation, argument, place in pickletools.genops(path.read_bytes())
        ]

    assert operations(out) == operations(source)
    assert not dissect.load(out).module.synthesis["b8"].conv0.weight.any()
    with pytest.raises((RuntimeError, ImportError, AttributeError)):  # the embedded source, untouched, says no
        pickle.loads(out.read_bytes())


@pytest.mark.parametrize("target", ["nvlabs", "rosinality", "genforce"])
@pytest.mark.parametrize("source", ["nvlabs", "rosinality", "genforce"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_conversions_keep_picture_fingerprint_and_every_bit(source, target, suffix, tmp_path):
    first = nvlabs(tmp_path / "first.safetensors", seed=3)
    if source != "nvlabs":
        first = dissect.convert(first, tmp_path / f"first-{source}.{suffix}", source)
    there = dissect.convert(first, tmp_path / f"there.{suffix}", target)
    back = dissect.convert(there, tmp_path / f"back.{suffix}", source)
    one, two, three = (dissect.load(path) for path in (first, there, back))
    assert (one.flavour, two.flavour, three.flavour) == (source, target, source)
    assert one.fingerprint == two.fingerprint == three.fingerprint
    codes = one.sample(range(2), truncation=0.7)
    assert torch.allclose(one(codes), two(two.sample(range(2), truncation=0.7)), atol=2e-5)
    before, after = (network_of(path) for path in (first, back))
    assert all(torch.equal(after[key], value) for key, value in before.items())


def network_of(path):
    return checkpoint.read(path).networks[0].tensors


@pytest.mark.parametrize("middle", ["nvlabs", "rosinality"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_a_conversion_rounds_comes_back(middle, suffix, tmp_path):
    """A style bias near 0 loses digits when 1 is added; they are kept beside the network."""
    genforce = dissect.convert(nvlabs(tmp_path / "n.safetensors"), tmp_path / "g.pth", "genforce")
    contents = torch.load(genforce)
    biases = [key for key in contents["generator_smooth"] if key.endswith("style.bias")]
    for key in biases:
        contents["generator_smooth"][key] = torch.randn_like(contents["generator_smooth"][key]) * 1e-3
    torch.save({"generator_smooth": contents["generator_smooth"]}, genforce)
    there = dissect.convert(genforce, tmp_path / f"there.{suffix}", middle)
    back = dissect.convert(there, tmp_path / "back.pth", "genforce")
    before, after = network_of(genforce), network_of(back)
    rounded = [key for key in biases if not torch.equal((before[key] + 1) - 1, before[key])]
    assert rounded
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert dissect.load(there).fingerprint == dissect.load(genforce).fingerprint
    # Once a number has been changed, the old digits are no longer its.
    edited = dissect.load(there)
    name = stylegan2.FAMILY.layout("genforce").by_key[rounded[0]].name
    value = edited.module.state_dict()[name] + 0.5
    changed = dissect.export(edited, tmp_path / f"edited.{suffix}", weights={name: value})
    again = network_of(dissect.convert(changed, tmp_path / "again.pth", "genforce"))
    assert torch.equal(again[rounded[0]], value - 1)
    assert all(torch.equal(again[key], before[key]) for key in before if key != rounded[0])


@pytest.mark.parametrize("source", ["nvlabs", "rosinality"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_style_biases_far_from_1_come_back_from_genforce(source, suffix, tmp_path):
    tensors = random_tensors(**NET)
    for key in [key for key in tensors if key.endswith("affine.bias")]:
        tensors[key] = torch.randn_like(tensors[key]) * 0.2
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "n.safetensors")
    first = dissect.convert(tmp_path / "n.safetensors", tmp_path / f"first.{suffix}", source)
    there = dissect.convert(first, tmp_path / f"there.{suffix}", "genforce")
    bare = dissect.load(dict(network_of(there)))
    back = dissect.convert(there, tmp_path / f"back.{suffix}", source)
    before, after = network_of(first), network_of(back)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert bare.fingerprint == dissect.load(first).fingerprint == dissect.load(there).fingerprint


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_a_conversion_rounds_survives_a_detour(suffix, tmp_path):
    tensors = random_tensors(**NET)
    for key in [key for key in tensors if key.endswith("affine.bias")]:
        tensors[key] = torch.randn_like(tensors[key]) * 0.2
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "n.safetensors")
    first = dissect.convert(tmp_path / "n.safetensors", tmp_path / "0.pth", "genforce")
    genforce = load_file(dissect.convert(first, tmp_path / "g.safetensors"))
    for way in (["genforce", "rosinality", "nvlabs"], ["rosinality", "rosinality", "genforce", "nvlabs"]):
        path = tmp_path / "n.safetensors"
        for step, layout in enumerate(way):
            path = dissect.convert(path, tmp_path / f"{step}{way[0]}.{suffix}", layout)
        assert all(torch.equal(network_of(path)[key], value) for key, value in tensors.items()), way
    for key in [key for key in genforce if key.endswith("style.bias")]:
        genforce[key] = torch.randn_like(genforce[key]) * 1e-3
    save_file(genforce, tmp_path / "small.safetensors")
    path = tmp_path / "small.safetensors"
    for step, layout in enumerate(["nvlabs", "nvlabs", "rosinality", "genforce"]):
        path = dissect.convert(path, tmp_path / f"{step}.back.{suffix}", layout)
    assert all(torch.equal(network_of(path)[key], value) for key, value in genforce.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_precisions_keep_picture_and_every_bit(dtype, suffix, tmp_path):
    tensors = {key: (value * 0.7).to(dtype).contiguous() for key, value in random_tensors(**NET).items()}
    tensors = {key: value for key, value in tensors.items() if "resample" not in key}
    save_file(tensors, tmp_path / "n.safetensors")
    there = dissect.convert(tmp_path / "n.safetensors", tmp_path / f"there.{suffix}", "genforce")
    back = dissect.convert(there, tmp_path / f"back.{suffix}", "nvlabs")
    assert dissect.load(there).fingerprint == dissect.load(tmp_path / "n.safetensors").fingerprint
    after = network_of(back)
    assert {key: after[key].dtype for key in tensors} == dict.fromkeys(tensors, dtype)
    assert all(torch.equal(after[key], value) for key, value in tensors.items())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_conversion_keeps_what_no_tensor_says(suffix, tmp_path):
    recorded = dissect.load(DATA / "nvlabs_sg2ada.pkl")
    there = dissect.load(dissect.convert(recorded, tmp_path / f"clamp.{suffix}"))
    assert there.fingerprint == recorded.fingerprint
    assert {fact.name: (fact.value, fact.source) for fact in there.facts}["conv_clamp"] == (1.5, "file")
    again = dissect.load(dissect.convert(there, tmp_path / f"again.{suffix}"))
    assert again.fingerprint == recorded.fingerprint
    path = nvlabs(tmp_path / "n.safetensors")
    faster = dissect.load(path, lr_multiplier=0.05)
    assert dissect.load(dissect.convert(faster, tmp_path / f"lr.{suffix}")).fingerprint == faster.fingerprint
    for layout in ("rosinality", "genforce"):
        with pytest.raises(GanatomyError, match=r"the gain 0\.01"):
            dissect.convert(faster, tmp_path / f"x.{suffix}", layout)
    meant = dissect.load(path, w_avg=np.ones(dissect.load(path).w_dim, np.float32))
    for layout in ("nvlabs", "rosinality"):
        written = dissect.load(dissect.convert(meant, tmp_path / f"w-{layout}.{suffix}", layout))
        assert written.fingerprint == meant.fingerprint


@pytest.mark.parametrize(
    "note",
    [
        '{"float32": 5, "shape": 3}',
        '{"layout":"genforce","originals":{"synthesis.early_layer.const":{"float32":"AACAPw==","shape":[]}}}',
        '{"layout":"genforce","originals":{"synthesis.early_layer.const":{"float32":"AAA","shape":[1]}}}',
        '{"options":[1]}',
        "[" * 100_000,
    ],
)
def test_somebody_elses_note_does_no_harm(note, tmp_path):
    plain = nvlabs(tmp_path / "n.safetensors")
    save_file(load_file(plain), tmp_path / "noted.safetensors", {"ganatomy": note})
    written = [
        load_file(dissect.convert(path, tmp_path / f"{path.stem}-out.safetensors", "genforce"))
        for path in (plain, tmp_path / "noted.safetensors")
    ]
    assert all(torch.equal(written[1][key], value) for key, value in written[0].items())


def test_a_conversion_to_safetensors_keeps_the_layout(tmp_path):
    out = dissect.convert(DATA / "nvlabs_sg2ada.pkl", tmp_path / "net.safetensors")
    expected = load_file(DATA / "sg2ada_cond.safetensors")
    written = load_file(out)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], value) for key, value in expected.items())


def used(tmp_path):
    (tmp_path / "used.pth").write_bytes(b"mine")
    return tmp_path / "used.pth"


WRONG = {
    "exists": (lambda g, f: dissect.export(g, used(f)), "used.pth exists"),
    "its own file": (lambda g, f: dissect.export(g, g.origin.path, overwrite=True), "own file"),
    "another kind": (lambda g, f: dissect.export(g, f / "x.safetensors"), "the kind of file it came from"),
    "no folder": (lambda g, f: dissect.export(g, f / "no" / "net.pth"), "no such folder"),
    "edits": (
        lambda g, f: dissect.export(g, f / "x", edits=dissect.ablate("conv1", [0])),
        r"synthesis\.b8\.conv0\.affine and .*export a bundle instead",
    ),
    "edits and weights": (
        lambda g, f: dissect.export(
            g, f / "x", dissect.ablate("to_rgb1", [0]), weights={"mapping.fc0.bias": g.module.mapping.fc0.bias + 1}
        ),
        "not both",
    ),
    "name of a bundle": (lambda g, f: dissect.export(g, f / "x.bundle"), "is for bundles"),
    "no name of a bundle": (lambda g, f: dissect.export(g, f / "x.pth", bundle=True), r"ends in \.bundle"),
    "no bundle": (lambda g, f: dissect.export(g, f / "x.pth", with_weights=True), "is for bundles"),
    "no weight": (lambda g, f: dissect.export(g, f / "x", weights={"a": torch.ones(1)}), "no weight of that name"),
    "wrong shape": (
        lambda g, f: dissect.export(g, f / "x", weights={"mapping.fc0.bias": torch.ones(1)}),
        "no weight of that name and shape",
    ),
    "planted": (lambda g, f: dissect.export(dissect.load("planted:1"), f / "x.pth"), "did not come from a checkpoint"),
    "no number": (
        lambda g, f: dissect.export(g, f / "x", weights={"mapping.fc0.bias": g.module.mapping.fc0.bias * float("nan")}),
        "NaN",
    ),
    "too long": (lambda g, f: dissect.export(g, f / ("a" * 300)), "cannot write"),
    "NUL": (lambda g, f: dissect.convert(g, f / "a\0b.pth"), "cannot write"),
    "unknown layout": (lambda g, f: dissect.convert(g, f / "x.pth", "rosinalty"), "nearest: rosinality"),
    "unknown suffix": (lambda g, f: dissect.convert(g, f / "x.pkl"), "suffix: .safetensors, .pth, .pt"),
    "clamp": (
        lambda g, f: dissect.convert(dissect.load(DATA / "nvlabs_sg2ada.pkl"), f / "x.pth", "genforce"),
        "does not clamp",
    ),
    "classes": (
        lambda g, f: dissect.convert(dissect.load(DATA / "nvlabs_sg2ada.pkl"), f / "x.pth", "rosinality"),
        "no classes",
    ),
    "no source": (lambda g, f: dissect.convert(f / "none.pth", f / "x.pth"), "no such checkpoint"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_one_line_and_leave_nothing(case, tmp_path):
    generator = dissect.load(training_checkpoint(tmp_path / "train.pt"))
    before = sorted(tmp_path.iterdir())
    call, words = WRONG[case]
    with pytest.raises(GanatomyError, match=words) as caught:
        call(generator, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before] in ([], [tmp_path / "used.pth"])
    if case == "exists":
        assert (tmp_path / "used.pth").read_bytes() == b"mine"


def test_a_file_that_has_changed_since_is_not_exported(tmp_path):
    generator = dissect.load(training_checkpoint(tmp_path / "train.pt"))
    training_checkpoint(tmp_path / "train.pt")
    with pytest.raises(GanatomyError, match="has changed since"):
        dissect.export(generator, tmp_path / "out.pt")
