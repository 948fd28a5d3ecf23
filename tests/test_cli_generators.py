"""``ganatomy generators``, ``export`` and licences as people use them."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from stylegan2_reference import random_tensors

import dissect
from app import cli
from app.preview import at_once
from dissect.generators import catalog

DATA = Path(__file__).parent / "data"
PICKLE = DATA / "nvlabs_sg2ada.pkl"


def call(capsys, *arguments):
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *arguments):
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, ""), (out, err)
    assert err.count("\n") == 1
    return err


def test_show_says_what_is_known_and_what_is_guessed(capsys):
    status, out, _ = call(capsys, "generators", "show", PICKLE, "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["family"], shown["flavour"], shown["format"]) == ("stylegan2", "nvlabs", "nvidia pickle")
    assert (shown["resolution"], shown["num_classes"], shown["parameters"]) == (16, 5, 33_374)
    assert "non-commercial" in shown["licence"]
    facts = {fact["name"]: (fact["value"], fact["known_from"]) for fact in shown["facts"]}
    assert facts["conv_clamp"] == (1.5, "recorded in the file")
    assert facts["lr_multiplier"][1].startswith("assumed")
    assert {"name", "channels", "height", "width", "kind", "margin", "stage", "default"} == set(shown["layers"][0])
    status, out, _ = call(capsys, "generators", "show", DATA / "sg2ada_cond.safetensors", "--option", "conv_clamp=1.5")
    assert status == 0
    assert "given as an option" in out
    assert shown["fingerprint"] in out  # the same weights as the pickle's


def test_show_says_which_discriminator_can_be_opened(capsys, tmp_path):
    tensors = load_file(DATA / "sg2_rosinality.safetensors")
    torch.save({"g_ema": tensors, "d": {"weight": torch.ones(2)}}, tmp_path / "odd.pt")
    opened = {
        "opens": True, "where": "D", "family": "stylegan2", "flavour": "nvlabs", "resolution": 16, "num_classes": 5,
    }  # fmt: skip
    cases = {
        PICKLE: (opened, "opens the one in the file (D): stylegan2, nvlabs, 16 px, 5 classes"),
        tmp_path / "odd.pt": ({"opens": False}, "cannot open the one in the file: odd.pt: no discriminator that"),
        DATA / "sg2_rosinality.safetensors": (None, "no discriminator in the file"),
        "planted:1": (None, "no discriminator in the file"),
    }
    for file, (expected, words) in cases.items():
        found = json.loads(call(capsys, "generators", "show", file, "--json")[1])["discriminator"]
        if expected is None:
            assert found is None
        else:
            assert {name: found[name] for name in expected} == expected
        assert words in " ".join(call(capsys, "generators", "show", file)[1].split()), file
    found = json.loads(call(capsys, "generators", "show", PICKLE, "--json")[1])["discriminator"]
    assert found["parameters"] == dissect.load_discriminator(PICKLE).parameters


def test_what_was_found_by_trying_is_called_so(capsys):
    shown = json.loads(call(capsys, "generators", "show", DATA / "sg2_rosinality.safetensors", "--json")[1])
    facts = {fact["name"]: fact["known_from"] for fact in shown["facts"]}
    assert facts["mean_w"].startswith("found by trying")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", PICKLE, "--option", "conv_clamp"], "expected NAME=VALUE"),
        (["show", PICKLE, "--option", "conv_clamp=much"], "not valid"),
        (["show", PICKLE, "--option", "clamp=1"], "unknown option of StyleGAN2 'clamp'; nearest: conv_clamp"),
        (["show", PICKLE, "--option", "device=cpu"], "not an option of a checkpoint"),
        (["show", "planted:1", "--option", "conv_clamp=1"], "for checkpoints only"),
        (["show", DATA / "hostile" / "exec_os_system.pkl"], "refused"),
        (["convert", PICKLE, "out.pth", "--layout", "rosinality"], "this layout has no classes"),
        (["convert", PICKLE, "out.pkl"], "suffix"),
        (["convert", "planted:1", "out.pth"], "did not come from a checkpoint"),
        (["preview", PICKLE, "--out", "x.jpg"], ".png"),
        (["preview", PICKLE, "--samples", "0"], "positive"),
        (["fetch", "mobilestylegan-ffhq"], "--accept-licence"),
        (["fetch", "mobilstylegan"], "nearest: mobilestylegan-ffhq"),
        (["show", "mobilestylegan-ffhq"], "non-commercial"),
    ],
)
def test_wrong_input(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, "generators", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_convert_and_export(capsys, tmp_path):
    tensors = {key: value.contiguous() for key, value in random_tensors().items()}
    save_file(tensors, tmp_path / "net.safetensors")
    there, back = tmp_path / "there.pth", tmp_path / "back.safetensors"
    status, out, _ = call(
        capsys, "generators", "convert", tmp_path / "net.safetensors", there, "--layout", "rosinality"
    )
    assert (status, out.strip()) == (0, str(there))
    assert set(torch.load(there)) == {"g_ema", "latent_avg"}
    assert call(capsys, "generators", "convert", there, back, "--layout", "nvlabs")[0] == 0
    written = load_file(back)
    assert all(torch.equal(written[key], value) for key, value in tensors.items())
    assert "exists" in refused(capsys, "generators", "convert", there, back)
    assert call(capsys, "generators", "convert", there, back, "--overwrite")[0] == 0
    status, out, _ = call(capsys, "export", PICKLE, tmp_path / "copy.pkl")
    assert status == 0
    assert (tmp_path / "copy.pkl").read_bytes() == PICKLE.read_bytes()


def test_preview_is_a_sheet_of_samples(capsys, tmp_path):
    out_file = tmp_path / "sheet.png"
    status, _, _ = call(
        capsys,
        "generators",
        "preview",
        PICKLE,
        "--samples",
        "5",
        "--class",
        "2",
        "--truncation",
        "0.7",
        "--out",
        out_file,
    )
    assert status == 0
    with Image.open(out_file) as picture:
        assert picture.size == (4 * 64 + 5 * 6, 2 * 64 + 3 * 6)


@pytest.mark.parametrize("command", ["generators", "segmenters"])
def test_a_picture_that_cannot_be_written_is_one_line(command, capsys, tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert "cannot write" in refused(
        capsys, command, "preview", "planted:1", "--samples", "1", "--out", tmp_path / "folder.png"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize(("resolution", "images"), [(64, 8), (256, 8), (512, 2), (1024, 1)])
def test_fewer_large_images_are_made_at_once(resolution, images):
    class Sized:
        pass

    Sized.resolution = resolution
    assert at_once(Sized()) == images


@pytest.mark.parametrize("name", ["digiface-dcgan64", "planted", "pggan-dtd"])
def test_a_file_called_like_a_catalogue_entry_has_not_its_licence(name, tmp_path):
    save_file({key: value.contiguous() for key, value in random_tensors().items()}, tmp_path / f"{name}.safetensors")
    generator = dissect.load(tmp_path / f"{name}.safetensors")
    assert generator.name == name
    assert catalog.licence_of(generator) == catalog.family("stylegan2").licence
    assert "MIT" in catalog.licence_of(dissect.load("planted:3,units=64"))


def test_a_licence_is_accepted_once(capsys):
    name = "mobilestylegan-ffhq"
    assert name not in catalog.accepted()
    with pytest.raises(dissect.GanatomyError, match="accept_licence"):
        catalog.obtain(catalog.entry(name))
    dissect.accept_licence("planted")  # nothing to accept
    dissect.accept_licence(name)
    dissect.accept_licence(name)
    assert list(catalog.accepted()) == [name]
    with pytest.raises(dissect.GanatomyError, match="nearest"):
        dissect.accept_licence("mobilestylegan")
    catalog._acceptances().unlink()


def test_dissect_takes_w_codes_and_noise_modes(capsys, tmp_path):
    generator = dissect.load(PICKLE)
    w = tmp_path / "w.pt"
    torch.save(generator.sample(range(8)).w.clone(), w)
    out_file = tmp_path / "run.h5"
    status, _, err = call(
        capsys, "dissect", PICKLE, "--w", w, "--noise", "none", "--layer", "synthesis.b16.conv1", "--out", out_file
    )
    assert status == 0, err
    assert dissect.open(out_file).layer("synthesis.b16.conv1").iou.shape[0] == 24
    assert "only one of" in refused(capsys, "dissect", PICKLE, "--w", w, "--seeds", "0:8")
    for extra in (["--truncation", "0.7"], ["--cutoff", "2"], ["--class", "1"]):
        assert "do not apply" in refused(capsys, "dissect", PICKLE, "--w", w, *extra, "--out", tmp_path / "no.h5")
