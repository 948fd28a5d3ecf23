"""smp models from a folder and from the hub's cache, against a direct computation; never the network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from segmodels import GanatomyError, load
from segmodels.base import resize_images
from segmodels.sidecar import Sidecar, read_sidecar, shipped_sidecar
from segmodels.smp import SmpSegmenter

ENCODER = "tu-mobilenetv3_small_050"  # 0.3 M parameters
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIDECAR = {
    "concepts": ["sky", None, "tree", None, "house"],
    "categories": ["nature", None, "nature", None, "building"],
    "mean": list(MEAN),
    "std": list(STD),
    "input_size": 32,
}


def tiny(architecture=smp.Unet, classes=5, **settings):
    """A small model with seeded weights whose logits vary from place to place."""
    if architecture is smp.Unet:
        settings |= {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    torch.manual_seed(0)
    model = architecture(ENCODER, encoder_weights=None, classes=classes, **settings)
    head = model.segmentation_head[0]
    torch.nn.init.normal_(head.weight, std=1.0)
    torch.nn.init.normal_(head.bias, std=0.01)
    return model.eval()


def save(model, folder, **sidecar):
    model.save_pretrained(folder)
    (folder / "ganatomy.json").write_text(json.dumps(SIDECAR | sidecar))
    return folder


def edit(path, **changes):
    data = json.loads(path.read_text())
    for key, value in changes.items():
        data.pop(key, None)
        if value is not ...:
            data[key] = value
    path.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tiny(), tmp_path_factory.mktemp("models") / "unet")


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "unet")
    return tmp_path / "unet"


@pytest.fixture
def no_network(monkeypatch):
    """Make every attempt to open a connection fail at once, and list them."""
    attempts = []

    def refuse(*args, **kwargs):
        attempts.append(args)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


def pictures(n=3, size=(48, 48)):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(3)) * 2.4 - 1.2


def direct_logits(model, images, size, stride):
    """What the segmenter is to compute, written out."""
    pixels = resize_images((images.clamp(-1, 1) + 1) / 2, *size)
    pixels = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    height, width = ((edge + stride - 1) // stride * stride for edge in size)
    canvas = torch.zeros(len(images), 3, height, width)
    canvas[:, :, : size[0], : size[1]] = pixels
    with torch.no_grad():
        logits = model(canvas)
    logits = logits[0] if isinstance(logits, tuple) else logits
    if logits.shape[-1] != width:
        logits = functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
    return logits[:, :, : size[0], : size[1]]


CASES = {
    "square, one string of categories": (tiny, {"categories": "thing"}, 32, 8),
    "size given as height and width": (tiny, {}, [24, 40], 8),
    "padded to the stride": (tiny, {}, [30, 21], 8),
    "with a classification head": (lambda: tiny(aux_params={"classes": 2}), {}, 32, 8),
    "logits at a quarter of the size": (lambda: tiny(smp.FPN, upsampling=1), {}, [40, 32], 32),
    "segformer": (lambda: tiny(smp.Segformer), {}, 64, 32),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_and_probabilities_are_the_models_own(case, tmp_path, no_network):
    make, sidecar, size, stride = CASES[case]
    model = make()
    made = load(str(save(model, tmp_path / "m", input_size=size, **sidecar)))
    size = (size, size) if isinstance(size, int) else tuple(size)
    logits = direct_logits(model, pictures(), size, stride)
    assert made.stride == stride
    assert [c.name for c in made.concepts] == ["unlabelled", "sky", "tree", "house"]
    assert made.concepts[1].category == sidecar.get("categories", "nature")

    labels = made(pictures())
    assert labels.dtype == torch.int16
    expected = torch.tensor([1, 0, 2, 0, 3])[logits.argmax(1)]
    assert torch.equal(labels[:, 0].long(), expected)
    assert len(labels.unique()) > 2  # the case is worth something

    chances = logits.softmax(1)
    expected = torch.stack([chances[:, 1] + chances[:, 3], chances[:, 0], chances[:, 2], chances[:, 4]], 1)
    torch.testing.assert_close(made.probabilities(pictures()), expected)
    assert not no_network


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_binary_models_threshold_the_logit(tmp_path, activation):
    model = tiny(classes=1)
    folder = save(model, tmp_path / "m", concepts=["hole"], categories="damage")
    edit(folder / "config.json", activation=activation)
    made = load(folder)
    logits = direct_logits(model, pictures(), (32, 32), 8)
    assert torch.equal(made(pictures()), (logits > 0).short())
    assert made(pictures()).unique().tolist() == [0, 1]
    expected = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    torch.testing.assert_close(made.probabilities(pictures()), expected)


def test_big_batches_are_cut(saved, monkeypatch):
    made = load(saved)
    whole = made(pictures(5)), made.probabilities(pictures(5))
    monkeypatch.setattr("segmodels.smp.LOGITS_AT_ONCE", 2 * 5 * 32 * 32)
    assert torch.equal(made(pictures(5)), whole[0])
    torch.testing.assert_close(made.probabilities(pictures(5)), whole[1])


def test_torch_weights(saved, folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(load(folder)(pictures()), load(saved)(pictures()))


def test_encoder_weights_are_never_fetched(folder, no_network):
    save(smp.Unet("mobilenet_v2", 3, None, decoder_channels=(16, 8, 8), classes=5), folder)
    edit(folder / "config.json", encoder_weights="imagenet")
    start = time.perf_counter()
    load(folder)
    assert time.perf_counter() - start < 3
    assert not no_network


def test_loading_leaves_the_random_numbers_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(saved)
    assert torch.equal(torch.rand(3), expected)


def test_hash_covers_weights_config_and_sidecar(saved, folder):
    hashes = {load(saved).sha256}
    assert load(folder).sha256 in hashes  # the same files in another folder
    edit(folder / "ganatomy.json", input_size=64)
    hashes.add(load(folder).sha256)
    edit(folder / "config.json", note="x", _other=1)
    edit(folder / "config.json", note=...)
    hashes.add(load(folder).sha256)
    state = load_file(folder / "model.safetensors")
    state["segmentation_head.0.bias"] += 1
    save_file(state, folder / "model.safetensors")
    hashes.add(load(folder).sha256)
    assert len(hashes) == 4


def test_nan_images_are_refused(saved):
    with pytest.raises(GanatomyError, match="NaN"):
        load(saved)(pictures() * float("nan"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"concepts": ...}, "lacks concepts; it needs concepts, mean, std, input_size"),
        ({"mean": ..., "std": ...}, "lacks mean, std"),
        ({"input_size": ...}, "lacks input_size"),
        ({"labels": []}, "unknown key labels"),
        ({"concepts": ["a", "b"], "categories": ""}, r"model has 5 classes, its ganatomy\.json names 2"),
        ({"concepts": "a"}, "concepts must be a list"),
        ({"concepts": ["a", "b", 3, "d", "e"]}, "concepts must be a list"),
        ({"concepts": [None] * 5}, "names no class"),
        ({"concepts": ["a", "b", "a", "c", "d"]}, "repeat: a"),
        ({"concepts": ["unlabelled", "b", "a", "c", "d"]}, "write null instead of 'unlabelled'"),
        ({"categories": ["a"]}, "categories must be one string or a list of 5"),
        ({"mean": [0.5]}, "mean must be three numbers"),
        ({"mean": "imagenet"}, "mean must be three numbers"),
        ({"std": [58.4, 57.1, 57.4]}, "divide by 255"),
        ({"std": [0.2, 0.0, 0.2]}, "std must be positive"),
        ({"input_size": "32"}, "input_size must be pixels"),
        ({"input_size": [32, 0]}, "input_size must be pixels"),
    ],
)
def test_wrong_sidecars(folder, changes, words):
    edit(folder / "ganatomy.json", **changes)
    with pytest.raises(GanatomyError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def weights(change):
    def spoil(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return spoil


def config(**changes):
    return lambda folder: edit(folder / "config.json", **changes)


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"model": object()}, folder / "pytorch_model.bin")


def nested(folder):
    torch.save({"state_dict": load_file(folder / "model.safetensors")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


BIAS = "segmentation_head.0.bias"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "ganatomy.json").unlink(), "put one there, a JSON object with concepts, mean, std, input_size"),
        (lambda f: (f / "ganatomy.json").write_text("[]"), "expected a JSON object, got list"),
        (lambda f: (f / "ganatomy.json").write_text("{"), r"ganatomy\.json is not JSON"),
        (lambda f: (f / "model.safetensors").unlink(), r"expected model\.safetensors or pytorch_model\.bin"),
        (lambda f: (f / "config.json").unlink(), r"expected a folder with config\.json"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "cannot be read as weights"),
        (pickled, "cannot be read as weights"),
        (nested, "expected a state_dict"),
        (weights(lambda s: s.pop(BIAS)), f"does not fit config.json: {BIAS} missing"),
        (weights(lambda s: s.update(extra=torch.ones(2))), "extra unexpected"),
        (weights(lambda s: s.update({BIAS: torch.ones(4)})), f"{BIAS} of another shape"),
        (weights(lambda s: [s.pop(k) for k in sorted(s)[:9]]), r"\w and 6 more missing"),
        (weights(lambda s: s[BIAS].fill_(float("nan"))), f"NaN or infinity in {BIAS}"),
        (config(_model_class=...), "not of an smp model"),
        (config(_model_class="create_model"), "unknown smp architecture 'create_model'"),
        (config(_model_class="Unett"), "nearest: Unet"),
        (config(encoder_name="resnet19"), "smp cannot build this Unet: .*resnet19"),
        (config(encoder_name="tu-hf_hub:someone/something"), "expected the name of an encoder"),
        (config(decoder_channels=[8]), "smp cannot build this Unet"),
        (config(in_channels=4), "RGB images, got in_channels 4"),
        (config(checkpoint_path="/etc/passwd"), "checkpoint_path not allowed"),
        (config(classes=7), "has 7 classes"),
    ],
)
def test_wrong_folders(folder, spoil, words, no_network):
    spoil(folder)
    with pytest.raises(GanatomyError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not no_network


def test_a_size_the_model_cannot_take(tmp_path):
    made = load(save(tiny(smp.PAN), tmp_path / "m", input_size=16))
    with pytest.raises(GanatomyError, match=r"fails at \[16, 16\] pixels .*; set another input_size"):
        made(pictures())


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_wrong_device(saved, device):
    with pytest.raises(GanatomyError, match=f"device '{device}' cannot be used"):
        SmpSegmenter(saved, device)


# The hub


@pytest.fixture
def cache(tmp_path, monkeypatch, no_network):
    """An empty cache of the hub, to which one can add a repository."""
    root = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))

    def add(hub_id):
        base = root / f"models--{hub_id.replace('/', '--')}"
        (base / "refs").mkdir(parents=True)
        (base / "refs" / "main").write_text("abc")
        (base / "snapshots").mkdir()
        return base / "snapshots" / "abc"

    return add


@pytest.mark.parametrize("source", ["smp-hub/segformer-b0-512x512-ade-160k", "hub:nobody/nothing"])
def test_hub_without_network_fails_at_once(cache, source, no_network):
    start = time.perf_counter()
    with pytest.raises(GanatomyError, match="cannot reach the model hub") as caught:
        load(source)
    assert time.perf_counter() - start < 3
    assert "\n" not in str(caught.value)
    assert no_network


def test_hub_models_come_from_the_cache(cache, no_network):
    model = tiny(smp.Segformer, classes=150)
    snapshot = cache("smp-hub/segformer-b0-64x96-ade-160k")
    model.save_pretrained(snapshot)
    made = load("hub:smp-hub/segformer-b0-64x96-ade-160k")
    assert made.name == "hub:smp-hub/segformer-b0-64x96-ade-160k"
    assert len(made.concepts) == 151
    assert made.sidecar.input_size == (64, 96)
    assert made(pictures(1)).shape == (1, 1, 64, 96)
    assert not no_network


def test_hub_models_with_their_own_sidecar(cache, saved, no_network):
    shutil.copytree(saved, cache("someone/facade-parts"))  # "facade" is not "ade"
    assert [c.name for c in load("someone/facade-parts").concepts[1:]] == ["sky", "tree", "house"]
    snapshot = cache("someone/nameless")
    shutil.copytree(saved, snapshot)
    (snapshot / "ganatomy.json").unlink()
    with pytest.raises(GanatomyError, match=r"names of its classes unknown .* put a ganatomy\.json into it"):
        load("someone/nameless")


@pytest.mark.parametrize(
    ("hub_id", "architecture", "classes", "size"),
    [
        ("smp-hub/segformer-b0-512x512-ade-160k", "Segformer", 150, (512, 512)),
        ("smp-hub/segformer-b5-640x640-ade-160k", "Segformer", 150, (640, 640)),
        ("smp-hub/segformer-b2-1024x1024-city-160k", "Segformer", 19, (1024, 1024)),
        ("smp-hub/segformer-b0-512x1024-city-160k", "Segformer", 19, (512, 1024)),
        ("smp-hub/upernet-swin-tiny", "UPerNet", 150, (512, 512)),
        ("smp-hub/dpt-large-ade20k", "DPT", None, None),  # wants other preprocessing
        ("someone/arcade-city2", "Segformer", None, None),
    ],
)
def test_shipped_sidecars_by_hub_id(hub_id, architecture, classes, size):
    sidecar = shipped_sidecar(hub_id, architecture)
    if classes is None:
        assert sidecar is None
    else:
        assert isinstance(sidecar, Sidecar)
        assert (len(sidecar.concepts), sidecar.input_size) == (classes, size)


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("ade20k", 150, {0: "wall", 2: "sky", 12: "person", 20: "car", 76: "boat", 149: "flag"}),
        ("cityscapes", 19, {0: "road", 10: "sky", 13: "car", 18: "bicycle"}),
    ],
)
def test_shipped_sidecars(name, count, some):
    from segmodels import sidecar as module

    sidecar = read_sidecar(module._SHIPPED / f"{name}.json")
    assert len(set(sidecar.concepts)) == len(sidecar.concepts) == count
    assert all(sidecar.concepts + sidecar.categories)
    assert {i: sidecar.concepts[i] for i in some} == some


@pytest.mark.network
@pytest.mark.skipif(os.environ.get("GANATOMY_NETWORK") != "1", reason="GANATOMY_NETWORK=1 to use the network")
@pytest.mark.parametrize(
    ("hub_id", "count"),
    [("smp-hub/segformer-b0-512x512-ade-160k", 150), ("smp-hub/segformer-b0-1024x1024-city-160k", 19)],
)
def test_real_hub_models(hub_id, count):
    made = load(hub_id)
    assert len(made.concepts) == count + 1
    sky = torch.linspace(1, 0.2, 128).view(1, 1, 128, 1) * torch.tensor([0.2, 0.5, 1.0]).view(1, 3, 1, 1)
    labels = made(sky.expand(1, 3, 128, 128) * 2 - 1)
    assert made.concepts[int(labels.flatten().mode().values)].name == "sky"
