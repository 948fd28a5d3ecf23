"""Capture, resume and edits on every family: resume(capture(l)) is the forward pass, bit for bit, for every layer."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
import torch
from networks import Tangled, chain, dcgan_tensors
from torch import nn

import dissect
from dissect import GanatomyError
from dissect.generators.loading import from_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

MAKERS = {
    "dcgan": lambda: from_tensors(dcgan_tensors(), "dcgan"),
    "planted": lambda: dissect.load("planted:5"),
    "planted with noise": lambda: dissect.load("planted:5,units=36,noise=0.25"),
    "opaque": lambda: dissect.load(Tangled(), z_dim=5),
    "opaque with classes": lambda: dissect.load(Tangled(num_classes=3), z_dim=5, num_classes=3),
    "chain": lambda: dissect.load(chain(), z_dim=5),
}
LAYERS = {
    "dcgan": [f"main.{i}" for i in range(11)],
    "planted": ["layer1", "layer2", "layer3"],
    "planted with noise": ["layer1", "layer2", "layer3"],
    "opaque": list(Tangled.LAYERS),
    "opaque with classes": list(Tangled.LAYERS),
    "chain": ["0", "1", "2.0", "2.1", "2", "3", "4.0", "4.1", "4"],
}
CASES = [(family, layer) for family, layers in LAYERS.items() for layer in layers]
GENERATORS: dict[str, dissect.Generator] = {}


def generator_of(family):
    if family not in GENERATORS:
        GENERATORS[family] = MAKERS[family]()
    return GENERATORS[family]


def codes_of(generator, count=3):
    return generator.sample(range(100, 100 + count), noise="random" if generator.has_noise else "const")


def weights_hash(generator):
    digest = hashlib.sha256()
    for key, value in generator.module.state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("family", LAYERS)
def test_the_table_below_has_every_layer(family):
    assert [layer.name for layer in generator_of(family).layers] == LAYERS[family]


def edits_around(generator, layer):
    """Edits before, at and after a layer (None where there is none)."""
    names = [known.name for known in generator.layers]
    at = names.index(layer)
    mask = np.linspace(0, 1, 64).reshape(8, 8)

    def edit(name, strength):
        return dissect.ablate(name, [0, 1], strength, mask if strength == 0.5 else None)

    before = edit(names[at // 2], 0.75) if at else None
    return before, edit(layer, 0.5), edit(names[(at + len(names)) // 2], 0.9) if at + 1 < len(names) else None


@pytest.mark.parametrize(("family", "layer"), CASES)
def test_resume_of_capture_is_the_forward_pass(family, layer):
    generator = generator_of(family)
    codes = codes_of(generator)
    weights = weights_hash(generator)
    plain = generator(codes)
    capture = generator.capture(codes, layer)
    assert torch.equal(capture.images, plain)
    assert torch.equal(generator.resume(capture, layer), plain)
    before, at, after = edits_around(generator, layer)
    for late in ([at], [after], [at, after], [after, at], [at, at]):
        edits = [edit for edit in late if edit]
        expected = generator(codes, edits=edits)
        assert torch.equal(generator.resume(capture, layer, edits=edits), expected)
        again = generator.capture(codes, layer, edits=edits)
        assert torch.equal(again.images, expected)
        assert torch.equal(again.features[layer], capture.features[layer]), "kept after an edit of its own layer"
        assert torch.equal(generator.resume(again, layer, edits=edits), expected)
    if before:
        edits = [edit for edit in (before, at, after) if edit]
        early = generator.capture(codes, layer, edits=before)
        expected = generator(codes, edits=edits)
        assert torch.equal(early.images, generator(codes, edits=before))
        assert torch.equal(generator.resume(early, layer, edits=edits), expected)
        assert torch.equal(generator.resume(early, layer, edits=edits[1:]), expected), "what was active stays active"
        assert torch.equal(generator.resume(early, layer), early.images)
    assert torch.equal(generator.resume(capture, layer), plain), "a pass left something behind"
    assert torch.equal(generator(codes), plain)
    assert weights_hash(generator) == weights


@pytest.mark.parametrize("family", LAYERS)
def test_resume_of_capture_is_the_forward_pass_with_two_threads_too(family):
    torch.set_num_threads(2)
    generator = generator_of(family)
    codes = codes_of(generator, 8)
    capture = generator.capture(codes, LAYERS[family])
    assert torch.equal(capture.images, generator(codes))
    for layer in LAYERS[family]:
        assert torch.equal(generator.resume(capture, layer), capture.images)


@pytest.mark.parametrize(("family", "layer"), CASES)
def test_features_in_place_of_the_captured_ones(family, layer):
    generator = generator_of(family)
    codes, others = codes_of(generator), generator.sample(range(3))
    if codes.classes is not None or codes.noise is not None:
        others = type(codes)(others.z, classes=codes.classes, noise=codes.noise)
    capture = generator.capture(codes, layer)
    edit = dissect.ablate(layer, [0, 1])
    features = edit(capture.features[layer])
    assert torch.equal(generator.resume(capture, layer, features), generator(codes, edits=edit))
    kept = features.clone()
    array = generator.resume(capture, layer, features.double().numpy())
    assert torch.equal(array, generator(codes, edits=edit))
    assert torch.equal(features, kept)
    twice = generator.resume(capture, layer, features, edits=dissect.ablate(layer, [2]))
    assert torch.equal(twice, generator(codes, edits=dissect.ablate(layer, [0, 1, 2])))
    if generator.family != "module":  # nothing bypasses a layer of a chain
        theirs = generator.capture(others, layer)
        assert torch.equal(generator.resume(capture, layer, theirs.features[layer]), theirs.images)


@pytest.mark.parametrize("family", LAYERS)
def test_all_layers_at_once_are_each_layer_alone(family):
    generator = generator_of(family)
    codes = codes_of(generator)
    together = generator.capture(codes, LAYERS[family])
    assert set(together.features) == set(together.restarts) == set(LAYERS[family])
    for layer in LAYERS[family]:
        alone = generator.capture(codes, layer)
        assert torch.equal(alone.features[layer], together.features[layer])
        assert torch.equal(generator.resume(together, layer), together.images)
        known = generator.layer(layer)
        assert alone.features[layer].shape == (3, known.channels, known.height, known.width)


@pytest.mark.parametrize(
    ("family", "edited", "resumed", "earliest"),
    [
        ("dcgan", ["main.2"], "main.5", "main.2"),
        ("dcgan", ["main.4", "main.2", "main.9"], "main.5", "main.2"),
        ("planted", ["layer1"], "layer3", "layer1"),
        ("planted", ["layer2", "layer3"], "layer3", "layer2"),
        ("opaque", ["act"], "act@2", "act"),
        ("opaque", ["rgb.1"], "rgb", "rgb.1"),
    ],
)
def test_an_edit_before_the_layer_raises_and_names_where_to_resume(family, edited, resumed, earliest):
    generator = generator_of(family)
    capture = generator.capture(codes_of(generator), [resumed, earliest])
    edits = [dissect.ablate(name, [0]) for name in edited]
    with pytest.raises(GanatomyError, match=f"resume from '{earliest}' or earlier") as caught:
        generator.resume(capture, resumed, edits=edits)
    assert "\n" not in str(caught.value)
    assert torch.equal(generator.resume(capture, earliest, edits=edits), generator(codes_of(generator), edits=edits))


def test_an_equal_edit_made_anew_counts_as_the_one_that_was_active():
    generator = generator_of("dcgan")
    codes = codes_of(generator)
    capture = generator.capture(codes, "main.5", edits=dissect.ablate("main.2", [1], 0.5, np.eye(4)))
    same = dissect.ablate("main.2", [1], 0.5, np.eye(4))
    assert torch.equal(generator.resume(capture, "main.5", edits=same), capture.images)
    with pytest.raises(GanatomyError, match=r"before 'main\.5'"):
        generator.resume(capture, "main.5", edits=dissect.ablate("main.2", [1], 0.25, np.eye(4)))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda G, c: G.resume(c, "main.8"), r"'main\.8' was not captured; captured: main\.5"),
        (lambda G, c: G.resume(c, "main.55"), "unknown layer"),
        (lambda G, c: G.resume(c, "main.5", c.features["main.5"][:1]), r"expected features \[3, 6, 8, 8\], got \[1,"),
        (lambda G, c: G.resume(c, "main.5", edits=dissect.ablate("main.5", 6)), r"units 0\.\.5, the edit names 6"),
        (lambda G, c: G(codes_of(G), edits=dissect.ablate("main.5", [0, 99])), r"units 0\.\.5, the edit names 99"),
        (lambda G, c: G(codes_of(G), edits=dissect.ablate("main.99", 0)), r"unknown layer 'main\.99'; nearest: main"),
        (lambda G, c: G.capture(codes_of(G), ["main.5", "mian.5"]), r"unknown layer 'mian\.5'; nearest: main\.5"),
        (lambda G, c: G(dissect.Codes(torch.zeros(2, 8))), r"codes with z \[N, 7\], got \[2, 8\]"),
        (lambda G, c: G(dissect.Codes(None, w=torch.zeros(2, 8))), "needs codes with z"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(ask, words):
    generator = generator_of("dcgan")
    capture = generator.capture(codes_of(generator), "main.5")
    with pytest.raises(GanatomyError, match=words) as caught:
        ask(generator, capture)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", LAYERS)
def test_codes_without_z_are_refused(family):
    with pytest.raises(GanatomyError, match="needs codes with z"):
        generator_of(family)(dissect.Codes(None, w=torch.zeros(1, 4)))


@pytest.mark.parametrize("family", ["dcgan", "opaque"])
def test_edits_are_applied_in_the_order_given(family):
    """With only ablation the order does not show, so functions of another kind stand in."""
    generator = generator_of(family)
    codes = codes_of(generator)
    name = LAYERS[family][1]

    class Shift(dissect.FeatureEdit):
        def __call__(self, features):
            return features + 3

    class Double(dissect.FeatureEdit):
        def __call__(self, features):
            return features * 2

    shift, double = Shift(name, (0,)), Double(name, (0,))
    captured = generator.capture(codes, name)
    for edits, result in (([shift, double], lambda f: (f + 3) * 2), ([double, shift], lambda f: f * 2 + 3)):
        expected = generator.resume(captured, name, result(captured.features[name]))
        assert torch.equal(generator(codes, edits=edits), expected)
        assert torch.equal(generator.resume(captured, name, edits=edits), expected)


def test_a_later_capture_sees_earlier_edits_and_ablated_units_are_zero_downstream():
    generator = generator_of("dcgan")
    codes = codes_of(generator)
    edit = dissect.ablate("main.2", range(8))
    capture = generator.capture(codes, ["main.2", "main.3"], edits=edit)
    assert capture.features["main.2"].abs().sum() > 0
    assert not capture.features["main.3"].any(), "a conv without bias of nothing is nothing"
    assert capture.edits == (edit,)


def test_captured_features_are_not_shared_with_later_passes():
    for family in LAYERS:
        generator = generator_of(family)
        codes = codes_of(generator)
        capture = generator.capture(codes, LAYERS[family])
        kept = {name: value.clone() for name, value in capture.features.items()}
        for name in LAYERS[family]:
            generator.resume(capture, name, edits=dissect.ablate(name, [0, 1]))
        assert all(torch.equal(capture.features[name], kept[name]) for name in kept), family


def test_passes_need_no_gradients_and_leave_none():
    generator = generator_of("dcgan")
    capture = generator.capture(codes_of(generator), "main.5")
    assert not capture.images.requires_grad
    assert not capture.features["main.5"].requires_grad
    assert not any(p.requires_grad for p in generator.module.parameters())
    assert not generator.module.training


@pytest.mark.parametrize("family", ["dcgan", "planted", "opaque"])
def test_threads_with_different_edits_give_what_each_gives_alone(family):
    generator = generator_of(family)
    codes = codes_of(generator, 5)  # of 5, matrix products with one and with two threads differ
    names = LAYERS[family]
    units = 8 if family == "planted" else 1  # many of those are inert
    edits = [dissect.ablate(names[i % len(names)], range(i % 3 * units, (i % 3 + 1) * units)) for i in range(4)]
    alone = []
    for edit in edits:
        capture = generator.capture(codes, names[-1], edits=edit)
        alone.append((capture.images, capture.features[names[-1]]))
    wrong, start = [], threading.Barrier(4)

    def work(index):
        start.wait()
        for _ in range(5):
            images = generator(codes, edits=edits[index])
            capture = generator.capture(codes, names[-1], edits=edits[index])
            same = torch.equal(images, alone[index][0]) and torch.equal(capture.images, alone[index][0])
            if not same or not torch.equal(capture.features[names[-1]], alone[index][1]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_generators_around_one_module_share_its_lock():
    network = Tangled()
    first, second = (dissect.load(network, z_dim=5) for _ in range(2))
    assert first.lock is second.lock
    assert first.fingerprint == second.fingerprint
    assert first.lock is not dissect.load(Tangled(), z_dim=5).lock


def test_a_pass_waits_for_the_lock():
    generator = generator_of("dcgan")
    codes = codes_of(generator)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (generator(codes), done.set()))
    with generator.lock:
        thread.start()
        assert not done.wait(0.2)
    thread.join(30)
    assert done.is_set()


def test_a_failing_pass_lets_the_lock_go():
    class Fails(nn.Module):
        broken = False  # not yet while it is opened

        def forward(self, z):
            if self.broken:
                raise ValueError("no")
            return torch.zeros(len(z), 3, 4, 4)

    network = Fails()
    generator = dissect.load(network, z_dim=3)
    network.broken = True
    with pytest.raises(GanatomyError, match="ValueError: no"):
        generator(generator.sample(0))
    taken = []
    thread = threading.Thread(target=lambda: taken.append(generator.lock.acquire(timeout=5)))
    thread.start()
    thread.join()
    assert taken == [True]
