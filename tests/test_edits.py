"""Edits: ablation against plain indexing, masks against hand-made maps, algebra on every family, what is refused."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import stylegan3_reference
import torch
from networks import Tangled, chain
from torch.nn import functional as F

import dissect
from dissect import FeatureEdit, GanatomyError

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
FEATURES = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))


def scaled(units, factor):
    expected = FEATURES.clone()
    expected[:, list(units)] *= factor
    return expected


@pytest.mark.parametrize(
    ("units", "strength", "expected"),
    [
        (2, 1.0, scaled([2], 0)),
        ([2], 1.0, scaled([2], 0)),
        ([5, 0, 5], 1.0, scaled([0, 5], 0)),
        (range(6), 1.0, torch.zeros_like(FEATURES)),
        ({1, 3}, 1.0, scaled([1, 3], 0)),
        (np.array([1, 4]), 1.0, scaled([1, 4], 0)),
        (np.int64(4), 1.0, scaled([4], 0)),
        (torch.tensor([1, 4]), 1.0, scaled([1, 4], 0)),
        ([], 1.0, FEATURES),
        ([1], 0.0, FEATURES),
        ([1], 0.25, scaled([1], 0.75)),
        ([1, 2], 0.5, scaled([1, 2], 0.5)),
    ],
)
def test_ablation_scales_the_units_and_nothing_else(units, strength, expected):
    before = FEATURES.clone()
    after = dissect.ablate("layer", units, strength)(FEATURES)
    assert torch.equal(after, expected)
    assert torch.equal(FEATURES, before)
    assert after.data_ptr() != FEATURES.data_ptr()


CHECKS = np.indices((4, 4)).sum(0) % 2


@pytest.mark.parametrize(
    ("mask", "at_layer"),
    [
        (np.ones((4, 4)), torch.ones(4, 4)),
        (CHECKS, torch.tensor(CHECKS)),
        (CHECKS.astype(bool), torch.tensor(CHECKS)),
        (torch.tensor(CHECKS), torch.tensor(CHECKS)),
        (np.kron(CHECKS, np.ones((4, 4))), torch.tensor(CHECKS)),
        (np.eye(8), torch.tensor(np.eye(4) / 2)),
        (np.eye(2), F.interpolate(torch.eye(2)[None, None], (4, 4), mode="bilinear")[0, 0]),
    ],
)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_mask_acts_where_it_says_at_the_layers_own_size(mask, at_layer, strength):
    after = dissect.ablate("layer", [1, 4], strength, mask)(FEATURES)
    expected = FEATURES.clone()
    expected[:, [1, 4]] *= 1 - strength * at_layer.float()
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-6)
    assert torch.equal(after[:, [0, 2, 3, 5]], FEATURES[:, [0, 2, 3, 5]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"units": [-1]}, "units >= 0, got -1"),
        ({"units": [1.5]}, "integer indices"),
        ({"units": 1.0}, "integer indices"),
        ({"units": "3"}, "integer indices"),
        ({"units": [True, False]}, "integer indices"),
        ({"units": np.array([True, False])}, "integer indices"),
        ({"units": [[1, 2]]}, "integer indices"),
        ({"strength": -0.1}, r"strength in \[0, 1\]"),
        ({"strength": 1.1}, r"strength in \[0, 1\]"),
        ({"strength": float("nan")}, r"strength in \[0, 1\]"),
        ({"mask": np.ones(4)}, r"mask \[H, W\], got shape \[4\]"),
        ({"mask": np.ones((1, 4, 4))}, r"mask \[H, W\]"),
        ({"mask": np.ones((0, 4))}, r"mask \[H, W\]"),
        ({"mask": np.full((4, 4), 1.5)}, r"in \[0, 1\], got 1.5"),
        ({"mask": np.full((4, 4), -1)}, r"in \[0, 1\], got -1"),
        ({"mask": np.full((4, 4), np.nan)}, r"in \[0, 1\], got nan"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.ablate(**({"layer": "layer", "units": [0]} | arguments))
    assert "\n" not in str(caught.value)


def test_a_unit_that_the_layer_lacks_is_refused():
    with pytest.raises(GanatomyError, match=r"units 0\.\.5, the edit names 6"):
        dissect.ablate("layer", [0, 6])(FEATURES)


@pytest.mark.parametrize("units", [(3, 1), (1, 1), (-1, 2)])
def test_an_edit_made_by_hand_keeps_its_units_in_order(units):
    with pytest.raises(GanatomyError, match="ascending order"):
        FeatureEdit("layer", units)


def test_edits_are_values():
    mask = np.eye(4)
    edit = dissect.ablate("layer", [3, 1], 0.5, mask)
    mask[:] = 0
    assert edit.units == (1, 3)
    assert np.array_equal(edit.mask, np.eye(4))
    assert not edit.mask.flags.writeable
    with pytest.raises(AttributeError):
        edit.strength = 1.0
    same = dissect.ablate("layer", (1, 3), 0.5, np.eye(4))
    assert edit == same
    assert hash(edit) == hash(same)
    others = [
        dissect.ablate("other", [1, 3], 0.5, np.eye(4)),
        dissect.ablate("layer", [1], 0.5, np.eye(4)),
        dissect.ablate("layer", [1, 3], 1.0, np.eye(4)),
        dissect.ablate("layer", [1, 3], 0.5),
        dissect.ablate("layer", [1, 3], 0.5, np.ones((4, 4))),
    ]
    assert all(edit != other for other in others)
    assert edit != "layer"


# -- edits in a pass, on every family --------------------------------------------------------------------------

FILES = [
    "dcgan_main.safetensors", "pggan_gandissect.safetensors", "pggan_genforce.safetensors",
    "pggan_ganzoo.safetensors", "sg2ada_uncond.safetensors", "sg2_rosinality.safetensors", "nvlabs_sg2ada.pkl",
    "mobilestylegan_tiny.safetensors", "biggan.safetensors", "sagan.safetensors", "biggan_deep_hf.safetensors",
    "sg1_interfacegan.safetensors", "sg1_rosinality_16px.safetensors",
]  # fmt: skip
OTHERS = {
    "planted": lambda: dissect.load("planted:5,units=32"),
    "opaque": lambda: dissect.load(Tangled(), z_dim=5),
    "opaque with classes": lambda: dissect.load(Tangled(num_classes=3), z_dim=5, num_classes=3),
    "chain": lambda: dissect.load(chain(), z_dim=5),
    "stylegan3": lambda: dissect.load(stylegan3_reference.random_tensors()),
}
FAMILIES = [*FILES, *OTHERS]


@functools.cache
def generator_of(family):
    return dissect.load(DATA / family) if family in FILES else OTHERS[family]()


def codes_of(generator, count=3):
    """Codes with all that the family knows: classes, random noise, truncation."""
    noise = "random" if generator.has_noise else "const"
    return generator.sample(range(50, 50 + count), truncation=0.8 if generator.truncates else 1.0, noise=noise)


def places(generator):
    """A layer early and one late, and a style if there is one."""
    names = [layer.name for layer in generator.layers if layer.kind != "style"]
    styles = [layer.name for layer in generator.layers if layer.kind == "style"]
    return dict.fromkeys([names[len(names) // 3], names[-2], *styles[len(styles) // 2 :][:1]])


def weights_hash(generator):
    digest = hashlib.sha256()
    for key, value in generator.module.state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def every_kind(generator, name):
    """Edits of a layer, one of each kind of value, strength and mask that there is."""
    layer, units = generator.layer(name), [0, 2]
    spatial = layer.height > 1
    mask = np.linspace(0, 1, 64).reshape(8, 8) if spatial else None
    maps = np.random.RandomState(1).randn(2, layer.height, layer.width) if spatial else [0.5, -0.25]
    return [
        dissect.ablate(name, units),
        dissect.ablate(name, units, 0.5, mask),
        dissect.ablate(name, units, to=[0.5, -1.0]),
        dissect.ablate(name, units, to="other"),
        dissect.insert(name, units, [1.5, -0.5], mask, 0.75),
        dissect.insert(name, units, maps),
        dissect.scale(name, units, 1.5),
        dissect.replace(name, units, seed=7, mask=mask),
        dissect.replace(name, units, draw=3, strength=0.5),
        FeatureEdit(name, (0, 2), (0.25, 1.0)),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_algebra_of_edits(family):
    generator = generator_of(family)
    codes, weights = codes_of(generator), weights_hash(generator)
    plain = generator(codes)
    for name in places(generator):
        layer = generator.layer(name)
        features = generator.features(codes, name)[name]
        nothing = [
            dissect.ablate(name, [0, 1], 0.0),
            dissect.insert(name, [0, 1], [3.0, -3.0], strength=0.0),
            dissect.replace(name, [0, 1], strength=0.0),
            dissect.scale(name, [0, 1], 1.0),
            dissect.ablate(name, []),
        ]
        if layer.height > 1:
            nothing.append(dissect.ablate(name, [0, 1], mask=np.zeros((4, 4))))
            nothing.append(dissect.insert(name, [0, 1], 2.0, mask=np.zeros((4, 4))))
        for edit in nothing:
            assert edit.idle or isinstance(edit.values, dissect.edits.Source)
            assert torch.equal(generator(codes, edits=edit), plain), edit
        one, other = dissect.ablate(name, [0]), dissect.insert(name, [1, 2], [0.5, -0.5])
        assert torch.equal(generator(codes, edits=[one, one]), generator(codes, edits=[one]))
        assert torch.equal(generator(codes, edits=[one, other]), generator(codes, edits=[other, one]))
        every = range(layer.channels)
        capture = generator.capture(codes, name)
        gone = generator.resume(capture, name, features=torch.zeros_like(features))
        assert torch.equal(generator(codes, edits=dissect.ablate(name, every)), gone)
        if layer.height > 1:
            whole = dissect.ablate(name, [0, 1], mask=np.ones((4, 4)))
            assert torch.equal(generator(codes, edits=whole), generator(codes, edits=dissect.ablate(name, [0, 1])))
        for index in range(len(codes)):  # a sample's own features in their own place
            own = generator.features(codes[index], name)[name][0]
            edit = dissect.insert(name, every, own.flatten() if layer.height == 1 else own)
            assert torch.equal(generator(codes[index], edits=edit), generator(codes[index]))
        same = generator.sample([9])
        assert torch.equal(generator(same, edits=dissect.replace(name, every, seed=9)), generator(same))
    assert torch.equal(generator(codes), plain)
    assert weights_hash(generator) == weights


@pytest.mark.parametrize("family", FAMILIES)
def test_resume_with_any_edit_is_the_forward_pass(family):
    generator = generator_of(family)
    codes, weights = codes_of(generator), weights_hash(generator)
    names = list(places(generator))
    capture = generator.capture(codes, names)
    order = [layer.name for layer in generator.layers]
    first = min(names, key=order.index)
    changed = 0
    for name in names:
        for edit in every_kind(generator, name):
            expected = generator(codes, edits=edit)
            changed += not torch.equal(expected, capture.images)
            assert torch.equal(generator.resume(capture, name, edits=edit), expected), edit
            assert torch.equal(generator.resume(capture, first, edits=edit), expected), edit
    assert changed > len(names), "some edits do something"
    late = [every_kind(generator, name)[index] for index, name in enumerate(names)]
    assert torch.equal(generator.resume(capture, first, edits=late), generator(codes, edits=late))
    assert torch.equal(generator.resume(capture, first), capture.images)
    assert weights_hash(generator) == weights


def test_what_a_random_other_image_gives_depends_on_the_seed_alone():
    generator = generator_of("dcgan_main.safetensors")
    edit = dissect.ablate("main.4", [0, 1], to="other")
    together = generator.sample([3, 4, 5])
    images = generator(together, edits=edit)
    torch.testing.assert_close(generator(generator.sample([5, 3]), edits=edit), images[[2, 0]])
    assert not torch.equal(images, generator(together, edits=dissect.replace("main.4", [0, 1], draw=1)))
    with pytest.raises(GanatomyError, match="explicit latents have none"):
        generator(generator.map(np.zeros((2, generator.z_dim))), edits=edit)


def test_no_hook_survives_an_exception():
    generator = dissect.load(Tangled(), z_dim=5)
    codes = generator.sample([1, 2])
    plain = generator(codes)

    def fail(name, value):
        if name == "up@2":
            raise RuntimeError("in the middle of a pass")
        return value

    generator.module.tap = fail
    for edit in (dissect.ablate("conv1", [0]), dissect.replace("conv2", [0])):
        with pytest.raises(GanatomyError, match="in the middle"):
            generator(codes, edits=edit)
    generator.module.tap = lambda name, value: value
    assert not any(module._forward_hooks for module in generator.module.modules())
    assert torch.equal(generator(codes), plain)
    capture = generator.capture(codes, "conv1")
    with pytest.raises(GanatomyError, match="units 0"):
        generator.resume(capture, "conv1", edits=dissect.ablate("conv1", [6]))
    assert not any(module._forward_hooks for module in generator.module.modules())


def test_two_threads_one_with_and_one_without_an_edit_get_their_own_images():
    generator = generator_of("dcgan_main.safetensors")
    codes, edit = codes_of(generator, 2), dissect.ablate("main.4", [0, 1, 2])
    wanted = {False: generator(codes), True: generator(codes, edits=edit)}
    assert not torch.equal(wanted[True], wanted[False])
    wrong = []

    def work(edited):
        for _ in range(40):
            made = generator(codes, edits=edit if edited else ())
            if not torch.equal(made, wanted[edited]):
                wrong.append(edited)

    threads = [threading.Thread(target=work, args=(edited,)) for edited in (True, False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: dissect.ablate("main.4", [6000]), "has units 0..23, the edit names 6000"),
        (lambda: dissect.ablate("main.40", [0]), "unknown layer 'main.40'; nearest"),
        (lambda: dissect.ablate("main.4", [0], mask=np.ones((4, 8))), "a mask of 4 x 8 has another shape"),
        (lambda: dissect.insert("main.4", [0, 1], [1.0]), "a value or a map for each of 2 units"),
        (lambda: dissect.insert("main.4", [0, 1], np.zeros((2, 3, 3))), "the edit puts in maps of 3 x 3"),
        (lambda: dissect.insert("main.4", [0, 1], [1.0, np.nan]), "without NaN"),
        (lambda: dissect.insert("main.4", [0, 0], [1.0, 2.0]), "each unit once"),
        (lambda: dissect.insert("main.4", [0], "high"), "values as numbers"),
        (lambda: dissect.ablate("main.4", [0], to="median"), "expected to='zero', 'other'"),
        (lambda: dissect.scale("main.4", [0], -1), "a factor >= 0"),
        (lambda: dissect.replace("main.4", [0], seed=-1), "a seed between 0"),
    ],
)
def test_edits_that_do_not_fit_are_refused_in_one_line(edit, words):
    generator = generator_of("dcgan_main.safetensors")
    with pytest.raises(GanatomyError, match=re.escape(words)) as caught:
        generator(generator.sample([0]), edits=edit())
    assert "\n" not in str(caught.value)


def test_a_style_takes_no_mask():
    generator = generator_of("sg2ada_uncond.safetensors")
    style = next(layer.name for layer in generator.layers if layer.kind == "style")
    with pytest.raises(GanatomyError, match="acts on the whole image"):
        generator(generator.sample([0]), edits=dissect.ablate(style, [0], mask=np.ones((4, 4))))
