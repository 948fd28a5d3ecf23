"""Every family end to end: checkpoint, pass, numbers; and the same generator whatever file it lies in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dissect
import segmodels
from dissect.generators import catalog

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
FILES = [
    "dcgan_main.safetensors",
    "pggan_gandissect.safetensors",
    "pggan_genforce.safetensors",
    "pggan_ganzoo.safetensors",
    "sg2ada_uncond.safetensors",
    "sg2_rosinality.safetensors",
    "nvlabs_sg2ada.pkl",
    "mobilestylegan_tiny.safetensors",
    "dcgan_fbhub.safetensors",
    "biggan.safetensors",
    "biggan_deep_hf.safetensors",
    "sg3t.safetensors",
    "sg3r.safetensors",
    "sg1_interfacegan.safetensors",
    "sg1_rosinality_16px.safetensors",
    "sg1_genforce.safetensors",
    "sagan.safetensors",
    "sngan.safetensors",
]


def test_every_family_is_tried():
    assert {dissect.load(DATA / name).family for name in FILES} == {family.name for family in catalog.FAMILIES} - {
        "keras"  # whose files its own tests make
    }


@pytest.mark.parametrize("name", FILES)
def test_a_dissection_of_the_default_layers(name, tmp_path):
    generator = dissect.load(DATA / name)
    names = generator.default_layers()
    smallest = 16 if generator.family == "stylegan3" else 4
    sizes = [generator.layer(layer).seen[0] for layer in names]
    assert sizes == [smallest * 2**index for index in range(len(names))], "one layer for each size from 4 x 4 on"
    styles = [layer.name for layer in generator.layers if layer.kind == "style"]
    options = {"truncation": 0.7} if generator.truncates else {}
    run = dissect.run(
        generator, segmodels.load("colors"), layers=names + styles[:1], samples=24, out=tmp_path / "run.h5", batch=3,
        **options,
    )  # fmt: skip
    assert list(run.layers) == names + styles[:1]
    for layer in run.layers:
        place, result = generator.layer(layer), run.layer(layer)
        assert result.iou.shape == (place.channels, len(run.concepts))
        assert (result.height, result.width) == place.seen
        assert np.isfinite(result.iou[:, 1:]).any(), "some concept occurs often enough"
    assert dissect.verify(tmp_path / "run.h5") == []


@pytest.mark.parametrize("name", FILES)
def test_a_generator_is_what_its_file_says(name):
    one, two = dissect.load(DATA / name), dissect.load(DATA / name)
    assert one.fingerprint == two.fingerprint
    assert one.origin.path == DATA / name
    assert one.parameters > 10_000
    assert {fact.source for fact in one.facts} <= {"tensors", "file", "option", "tried", "assumed"}
    codes = one.sample([1, 2, 3], noise="random" if one.has_noise else "const")
    assert torch.equal(one(codes), two(codes))
    aliases = one._aliases
    assert all(one.layer(theirs).name == ours for theirs, ours in aliases.items() if ours in one._by_name)
