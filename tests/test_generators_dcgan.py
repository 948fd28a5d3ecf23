"""The DCGAN family against the golden files, a network written out by hand, and the real face generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import dcgan_reference, dcgan_tensors
from safetensors.torch import load_file, save_file

import dissect
import segmodels
from dissect import GanatomyError
from dissect.generators.loading import from_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-5  # of the largest expected value


def assert_golden(generator, expected):
    codes = generator.map(expected["z"])
    hooks = {name.removeprefix("hook:"): name for name in expected.files if name.startswith("hook:")}
    assert hooks
    capture = generator.capture(codes, list(hooks))
    pairs = {"image": capture.images} | {hooks[name]: capture.features[name][:1] for name in hooks}
    for name, value in pairs.items():
        wanted = expected[name]
        assert value.shape == wanted.shape
        assert np.abs(value.numpy() - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name


@pytest.fixture(scope="module")
def golden():
    return dissect.load(DATA / "dcgan_main.safetensors")


def test_golden_images_and_layers(golden):
    assert_golden(golden, np.load(DATA / "dcgan_main.expected.npz"))
    assert (golden.name, golden.family, golden.flavour) == ("dcgan_main", "dcgan", "main")
    assert (golden.resolution, golden.z_dim, golden.num_classes) == (64, 24, None)


def test_golden_images_of_the_real_face_generator(digiface):
    assert_golden(digiface, np.load(DATA / "dcgan_digiface_real.expected.npz"))
    assert digiface.name == "digiface-dcgan64"
    assert (digiface.family, digiface.resolution, digiface.z_dim) == ("dcgan", 64, 100)
    assert digiface.file_sha256 == "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f"
    assert digiface.default_layers() == ["main.2", "main.5", "main.8", "main.11"]


def test_golden_images_and_layers_of_the_hub():
    generator = dissect.load(DATA / "dcgan_fbhub.safetensors")
    assert_golden(generator, np.load(DATA / "dcgan_fbhub.expected.npz"))
    assert (generator.family, generator.flavour, generator.resolution) == ("dcgan", "fbhub", 64)
    assert generator.default_layers() == [f"main.relu{i}" for i in range(4)]
    assert generator.layer("main.3").name == "main.convTranspose1"


@pytest.mark.parametrize("widths", [(7, 8), (7, 8, 6, 4), (9, 10, 8, 6, 5, 4)])
def test_the_fingerprint_and_every_bit_survive_conversion_to_the_hub_and_back(widths, tmp_path):
    tensors = dcgan_tensors(widths=widths)
    torch.save(tensors, tmp_path / "main.pth")
    generator = dissect.load(tmp_path / "main.pth")
    hub = dissect.load(dissect.convert(generator, tmp_path / "hub.pth", "fbhub"))
    stored = torch.load(tmp_path / "hub.pth")["avgG"]
    assert torch.equal(stored["main.outlayer.weight"], tensors[f"main.{3 * len(widths) - 3}.weight"])
    assert torch.equal(stored["formatLayer.weight"], tensors["main.0.weight"])
    assert (hub.flavour, hub.fingerprint) == ("fbhub", generator.fingerprint)
    codes = hub.sample([1, 2])
    assert torch.equal(hub(codes), generator(codes))
    cut = dissect.export(hub, tmp_path / "cut.pth", dissect.ablate("main.relu0", [0, 1]))
    assert torch.equal(dissect.load(cut)(codes), generator(codes, dissect.ablate("main.2", [0, 1])))
    back = torch.load(dissect.convert(hub, tmp_path / "back.pth", "main"))["netG"]
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], value) for key, value in tensors.items())


def test_the_hub_has_no_place_for_biases(tmp_path):
    torch.save(dcgan_tensors(bias=True), tmp_path / "main.pth")
    with pytest.raises(GanatomyError, match="fbhub has no place for 0.bias"):
        dissect.convert(tmp_path / "main.pth", tmp_path / "hub.pth", "fbhub")


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_classes_stand_beside_z(first, table, tmp_path):
    tensors = dcgan_tensors(widths=(9, 8, 6))
    rows = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) if table else torch.eye(4)
    options = {"label_first": first} | ({} if table else {"n_classes": 4})
    torch.save(tensors | ({"label_emb.weight": rows} if table else {}), tmp_path / "net.pth")
    generator = dissect.load(tmp_path / "net.pth", **options)
    assert (generator.z_dim, generator.num_classes) == (5, 4)
    codes = generator.sample(range(6))
    parts = [rows[codes.classes], codes.z] if first else [codes.z, rows[codes.classes]]
    with torch.no_grad():
        expected = dcgan_reference(tensors)(torch.cat(parts, 1)[:, :, None, None])
    assert torch.equal(generator(codes), expected)
    assert len({dissect.load(tmp_path / "net.pth", **options | o).fingerprint for o in ({}, {"label_first": 1})}) == (
        1 if first else 2
    )
    other = dissect.load(dissect.convert(generator, tmp_path / "other.pth"))
    assert other.fingerprint == generator.fingerprint
    out = dissect.export(generator, tmp_path / "cut.pth", dissect.ablate("main.2", 0))
    assert torch.equal(dissect.load(out, **options)(codes), generator(codes, dissect.ablate("main.2", 0)))
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert torch.equal(generator.resume(capture, layer.name), capture.images)
    run = dissect.run(generator, segmodels.load("colors"), samples=24, out=tmp_path / "run.h5", classes=2)
    assert np.isfinite(run.layer("main.2").mean).all()


@pytest.mark.parametrize(
    ("options", "table", "words"),
    [
        ({"n_classes": 7}, False, "classes take 7 numbers, but the network takes 7"),
        ({"n_classes": -1}, False, "is not valid"),
        ({"n_classes": 3}, True, "this file has a table of them"),
        ({}, True, "classes take 9 numbers"),
    ],
)
def test_classes_that_do_not_fit_are_refused(options, table, words):
    tensors = dcgan_tensors() | ({"label_emb.weight": torch.zeros(2, 9)} if table else {})
    with pytest.raises(GanatomyError, match=words):
        dissect.load(tensors, **options)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("formatLayer.weight", lambda w: w[0], r"formatLayer\.weight is \[48, 4, 4\]"),
        ("main.batchNorm1.running_mean", None, r"lacks main\.batchNorm1\.running_mean"),
        ("main.convTranspose2.weight", None, r"lacks main\.convTranspose2\.weight"),
        ("main.outlayer.weight", lambda w: w[:, :2], r"main\.outlayer\.weight makes 2 channels"),
        ("main.batchNorm99.weight", torch.zeros(3), "lacks|unexpected key"),
        ("main.3.weight", torch.zeros(3), "unexpected key"),
    ],
)
def test_a_wrong_file_of_the_hub_is_refused_in_its_own_terms(key, change, words, tmp_path):
    tensors = load_file(DATA / "dcgan_fbhub.safetensors")
    if change is None:
        del tensors[key]
    else:
        tensors[key] = (change(tensors[key]) if callable(change) else change).contiguous()
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(tmp_path / "wrong.safetensors")
    assert "\n" not in str(caught.value)


VARIANTS = {
    "32 px": ({"widths": (7, 8, 6, 4)}, 32, [4, 8, 16]),
    "64 px": ({"widths": (9, 10, 8, 6, 5)}, 64, [4, 8, 16, 32]),
    "128 px, odd widths": ({"widths": (3, 11, 9, 7, 5, 3)}, 128, [4, 8, 16, 32, 64]),
    "8 px": ({"widths": (5, 6)}, 8, [4]),
    "28 px from 7": ({"widths": (7, 8, 6), "first": 7}, 28, [7, 14]),
    "16 px from 2: no map below 4 x 4 is default": ({"widths": (7, 8, 6, 5), "first": 2}, 16, [4, 8]),
    "with biases": ({"bias": True}, 32, [4, 8, 16]),
    "grey": ({"channels": 1}, 32, [4, 8, 16]),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_read_from_the_weights(variant, tmp_path):
    settings, resolution, defaults = VARIANTS[variant]
    tensors = dcgan_tensors(**settings)
    torch.save(tensors, tmp_path / "net.pth")
    generator = dissect.load(tmp_path / "net.pth")
    reference = dcgan_reference(tensors)
    codes = generator.sample(range(4))
    with torch.no_grad():
        expected = reference(codes.z[:, :, None, None])
    assert torch.equal(generator(codes), expected.expand(-1, 3, -1, -1))
    assert generator.resolution == resolution
    assert generator.z_dim == settings.get("widths", (7,))[0]
    assert [generator.layer(name).height for name in generator.default_layers()] == defaults
    assert {generator.layer(name).kind for name in generator.default_layers()} == {"activation"}


def test_layers_are_the_modules_in_order():
    generator = from_tensors(dcgan_tensors(), "net")
    kinds = ["conv", "norm", "activation"] * 3 + ["conv", "activation"]
    assert [(x.name, x.kind, x.stage) for x in generator.layers] == [
        (f"main.{i}", kind, i) for i, kind in enumerate(kinds)
    ]
    x = generator.sample(range(3)).z[:, :, None, None]
    capture = generator.capture(generator.sample(range(3)), [layer.name for layer in generator.layers])
    with torch.no_grad():
        for name, module in zip(capture.features, dcgan_reference(dcgan_tensors())):
            x = module(x)
            assert torch.equal(capture.features[name], x)


# -- the same weights in other files ---------------------------------------------------------------------------


def nested(key):
    return lambda tensors, path: torch.save({"epoch": 3, key: tensors, "optimizer": {"lr": 0.1}}, path)


def renamed(prefix):
    return lambda tensors, path: torch.save({prefix + k: v for k, v in tensors.items()}, path)


def without_counters(tensors, path):
    torch.save({k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}, path)


def one_storage(tensors, path):
    """Every tensor a view of one storage, and not contiguous: what some scripts save."""
    flat = torch.cat([v.double().flatten() for v in tensors.values()]).float()
    views, start = {}, 0
    for key, value in tensors.items():
        part = flat[start : start + value.numel()]
        views[key] = value if value.ndim == 0 else part.view(value.shape)
        start += value.numel()
    torch.save(views, path)


LAYOUTS = {
    "zip": torch.save,
    "legacy": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda tensors, path: save_file(tensors, path),
    "module.": renamed("module."),
    "nested module.": lambda tensors, path: torch.save({"netG": {"module." + k: v for k, v in tensors.items()}}, path),
    "netG_state_dict": nested("netG_state_dict"),
    "generator": nested("generator"),
    "state_dict": nested("state_dict"),
    "g_ema": nested("g_ema"),
    "reversed": lambda tensors, path: torch.save(dict(reversed(tensors.items())), path),
    "parameters": lambda tensors, path: torch.save(
        {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in tensors.items()}, path
    ),
    "double": lambda tensors, path: torch.save(
        {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}, path
    ),
    "without counters": without_counters,
    "one storage": one_storage,
    "transposed memory": lambda tensors, path: torch.save(
        {k: v.transpose(0, 1).contiguous().transpose(0, 1) if v.ndim == 4 else v for k, v in tensors.items()}, path
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_weights_are_the_same_generator_in_any_file(layout, tmp_path):
    tensors = dcgan_tensors()
    direct = from_tensors(tensors, "direct")
    path = tmp_path / "any name.weights"
    LAYOUTS[layout](tensors, path)
    generator = dissect.load(path)
    assert generator.fingerprint == direct.fingerprint
    assert torch.equal(generator(generator.sample(range(2))), direct(direct.sample(range(2))))
    assert generator.name == "any name"
    assert len(generator.file_sha256) == 64


def test_the_likelier_container_comes_first(tmp_path):
    averaged, raw = dcgan_tensors(seed=1), dcgan_tensors(seed=2)
    torch.save({"netG": raw, "g_ema": averaged, "netD": {"main.0.weight": torch.zeros(1)}}, tmp_path / "both.pt")
    assert dissect.load(tmp_path / "both.pt").fingerprint == from_tensors(averaged, "a").fingerprint


def test_one_changed_value_is_another_fingerprint():
    base = from_tensors(dcgan_tensors(), "a").fingerprint
    assert len(base) == 64
    assert from_tensors(dcgan_tensors(), "another name").fingerprint == base
    for key, value in dcgan_tensors().items():
        changed = dcgan_tensors()
        if value.is_floating_point():
            changed[key].view(-1)[-1] = torch.nextafter(changed[key].view(-1)[-1], torch.tensor(9.0))
            assert from_tensors(changed, "a").fingerprint != base, key
        else:
            changed[key] += 1  # a training counter does not reach the images
            assert from_tensors(changed, "a").fingerprint == base, key


def test_equal_values_of_other_shapes_are_another_fingerprint():
    one, other = (dcgan_tensors(widths=widths) for widths in ((7, 8), (8, 7)))
    for tensors in (one, other):
        for value in tensors.values():
            value.fill_(1)
    assert from_tensors(one, "a").fingerprint != from_tensors(other, "a").fingerprint


def test_the_golden_file_in_half_precision_loads(tmp_path):
    tensors = {
        k: v.half() if v.is_floating_point() else v for k, v in load_file(DATA / "dcgan_main.safetensors").items()
    }
    save_file(tensors, tmp_path / "half.safetensors")
    generator = dissect.load(tmp_path / "half.safetensors")
    expected = np.load(DATA / "dcgan_main.expected.npz")
    images = generator(generator.map(expected["z"]))
    assert images.dtype == torch.float32
    assert np.abs(images.numpy() - expected["image"]).max() < 0.05


# -- state dicts that are none ---------------------------------------------------------------------------------


def changed(**to):
    """The good tensors with some keys set, or taken away with None; ``__`` stands for a dot."""

    def make():
        tensors = dcgan_tensors()
        for name, value in to.items():
            key = name.replace("__", ".").replace("main.", "main.", 1)
            if value is None:
                del tensors[key]
            else:
                tensors[key] = value(tensors[key]) if callable(value) else value
        return tensors

    return make


def set_first(number):
    def change(value):
        value = value.clone()
        value.view(-1)[0] = number
        return value

    return change


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (changed(main__0__weight=None), r"lacks main\.0\.weight, expected a conv at every third index"),
        (changed(main__3__weight=None), r"lacks main\.3\.weight"),
        (changed(main__9__weight=None), r"lacks main\.9\.weight"),
        (changed(main__1__weight=None), r"lacks main\.1\.weight"),
        (changed(main__1__running_mean=None), r"lacks main\.1\.running_mean"),
        (changed(main__4__running_var=None, main__4__bias=None), r"lacks main\.4\.bias, main\.4\.running_var"),
        (changed(main__9__bias=torch.zeros(4)), r"main\.9\.bias is \[4\], expected \[3\]"),
        (changed(main__13__weight=torch.zeros(4)), r"lacks main\.12\.weight|lacks main\.15\.weight"),
        (changed(extra=torch.zeros(1)), "unexpected key extra"),
        (changed(**{"0__weight": torch.zeros(1)}), r"unexpected key 0\.weight"),
        (changed(main__2__weight=torch.zeros(1)), r"unexpected key main\.2\.weight"),
        (changed(**{"bad\nkey\x1b[31m": torch.zeros(1)}), r"unexpected key bad\?key\?\[31m"),
        (changed(**{"k" * 500: torch.zeros(1)}), r"unexpected key k{80} \(main\)$"),
        (changed(main__0__weight=lambda w: w.transpose(0, 1)), r"main\.3\.weight is \[8, 6, 4, 4\], expected \[7, out"),
        (changed(main__3__weight=lambda w: w.transpose(0, 1)), r"main\.3\.weight is \[6, 8, 4, 4\], expected \[8, out"),
        (changed(main__3__weight=lambda w: w[:, :, :3]), r"main\.3\.weight is \[8, 6, 3, 4\]"),
        (changed(main__3__weight=lambda w: w[:, :, :3, :3]), r"expected \[8, out, 4, 4\]"),
        (changed(main__3__weight=lambda w: w[:, :, 0, 0]), r"main\.3\.weight is \[8, 6\], expected"),
        (changed(main__3__weight=lambda w: w[:, :0]), r"main\.3\.weight is \[8, 0, 4, 4\], expected"),
        (changed(main__9__weight=lambda w: w[:, :2]), r"makes 2 channels, expected an image of 3 or 1"),
        (changed(main__1__weight=lambda w: w[:-1]), r"main\.1\.weight is \[7\], expected \[8\]"),
        (changed(main__1__running_var=lambda w: w[:, None]), r"main\.1\.running_var is \[8, 1\], expected \[8\]"),
        (changed(main__0__weight=set_first(float("nan"))), r"main\.0\.weight holds NaN or infinite"),
        (changed(main__4__bias=set_first(float("inf"))), r"main\.4\.bias holds NaN or infinite"),
        (changed(main__4__bias=lambda b: set_first(1e300)(b.double())), r"main\.4\.bias holds NaN or infinite"),
        (changed(main__4__running_var=set_first(-1.0)), r"main\.4\.running_var holds negative values"),
        (changed(main__0__weight=lambda w: w.to(torch.int32)), r"main\.0\.weight is torch.int32, expected floating"),
        (changed(main__4__bias=lambda b: b > 0), r"main\.4\.bias is torch.bool, expected floating"),
        (changed(main__4__bias=lambda b: b.to(torch.complex64)), r"main\.4\.bias is not a plain tensor of real"),
        (changed(main__3__weight=lambda w: w.to_sparse()), r"main\.3\.weight is not a plain tensor"),
        (changed(main__3__weight=lambda w: w.to("meta")), r"main\.3\.weight is not a plain tensor"),
        (changed(main__0__weight=lambda w: w[:1, :1].expand(2**16, 2**16, 4, 4)), "claim .* bytes, far more than the"),
        (lambda: {}, "holds no tensors, expected a state dict"),
        (lambda: {"epoch": 3, "loss": 0.5}, "holds no tensors, expected a state dict"),
        (lambda: {"weight": torch.zeros(3)}, r"these tensors \(weight\); known: .*DCGAN"),
        (lambda: [torch.zeros(3)], "holds a list, expected a state dict"),
        (lambda: torch.zeros(3), "holds a (Stored)?Tensor, expected a state dict"),
        (lambda: {"a\nb": torch.zeros(1)}, r"these tensors \(a\?b\)"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line_that_names_them(make, words, tmp_path):
    path = tmp_path / "wrong.pth"
    torch.save(make(), path)
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("wrong.pth")
