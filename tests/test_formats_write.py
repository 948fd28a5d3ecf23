"""A copy in which only the given tensors differ, bit for bit."""

from __future__ import annotations

import os
import pickle
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from formats_files import ir_pair, keras_file, small_state, training
from safetensors.torch import load_file, save_file

from dissect import GanatomyError
from dissect.generators import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
TIED = {"turned", "part", "tied"}


def nvidia(path):
    path.write_bytes((DATA / "nvlabs_sg2ada.pkl").read_bytes())


def nvidia3(path):
    path.write_bytes((DATA / "nvlabs_sg3.pkl").read_bytes())


def arrays(path):
    path.write_bytes(pickle.dumps({"w": np.arange(6.0).reshape(2, 3).T, "half": np.ones(3, np.float16)}, 4))


KINDS = {
    "zip": lambda path: torch.save(training(), path),
    "legacy": lambda path: torch.save(training(), path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: save_file({k: v.contiguous().clone() for k, v in small_state().items()}, path),
    "nvidia": nvidia,
    "nvidia 3": nvidia3,
    "arrays": arrays,
}


def other_values(network):
    """New values for every tensor that has its numbers for itself."""
    generator = torch.Generator().manual_seed(9)
    return {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64) * 3
        for key, value in network.tensors.items()
        if key not in TIED
    }


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_given_tensors_change(kind, tmp_path):
    path, out = tmp_path / "some.bin", tmp_path / "deeper" / "copy.bin"
    KINDS[kind](path)
    whole = path.read_bytes()
    found = checkpoint.read(path)
    best = found.networks[0]
    checkpoint.write_copy(found, best, {}, out)
    assert out.read_bytes() == whole
    checkpoint.write_copy(found, best, best.tensors, out)
    assert out.read_bytes() == whole

    new = other_values(best)
    checkpoint.write_copy(found, best, new, out)
    changed = checkpoint.read(out)
    assert changed.sha256 != found.sha256
    assert len(out.read_bytes()) == len(whole)
    for before, after in zip(found.networks, changed.networks, strict=True):
        for key, value in before.tensors.items():
            expected = new[key].to(value.dtype) if before is best and key in new else value
            assert torch.equal(bits(after.tensors[key]), bits(expected)), key
            assert after.tensors[key].dtype == value.dtype
    assert os.listdir(out.parent) == ["copy.bin"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_torch_reads_the_copy(kind, tmp_path):
    path, out = tmp_path / "some.pt", tmp_path / "copy.pt"
    KINDS[kind](path)
    found = checkpoint.read(path)
    new = other_values(found.networks[0])
    checkpoint.write_copy(found, found.networks[0], new, out)
    loaded, before = torch.load(out, weights_only=False), torch.load(path, weights_only=False)
    assert all(
        torch.equal(loaded["g_ema"][key].detach(), value.to(loaded["g_ema"][key].dtype)) for key, value in new.items()
    )
    assert all(torch.equal(loaded["g"][key], value) for key, value in before["g"].items())
    assert loaded["args"] == before["args"]
    if kind == "zip":
        assert zipfile.ZipFile(out).testzip() is None
        assert zipfile.ZipFile(path).namelist() == zipfile.ZipFile(out).namelist()


def test_an_archive_without_checksums_keeps_none(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(small_state(), tmp_path / "some.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    found = checkpoint.read(tmp_path / "some.pt")
    checkpoint.write_copy(found, found.networks[0], {"weight": torch.zeros(3, 4)}, tmp_path / "copy.pt")
    assert all(record.CRC == 0 for record in zipfile.ZipFile(tmp_path / "copy.pt").infolist())
    assert torch.load(tmp_path / "copy.pt", weights_only=True)["weight"].abs().sum() == 0


def test_an_archive_of_another_writer_has_its_checksums_updated(tmp_path):
    """Python's own writer puts the checksum into the header before the record, and only there."""
    torch.save(small_state(), tmp_path / "first.pt")
    with zipfile.ZipFile(tmp_path / "first.pt") as old, zipfile.ZipFile(tmp_path / "some.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    found = checkpoint.read(tmp_path / "some.pt")
    checkpoint.write_copy(found, found.networks[0], {"weight": torch.ones(3, 4)}, tmp_path / "copy.pt")
    assert zipfile.ZipFile(tmp_path / "copy.pt").testzip() is None
    assert torch.load(tmp_path / "copy.pt", weights_only=True)["weight"].sum() == 12


@pytest.mark.parametrize("name", ["nvlabs_sg2ada", "nvlabs_sg3"])
def test_the_pickle_of_nvidia_stays_but_for_the_numbers(name, tmp_path):
    path, out = DATA / f"{name}.pkl", tmp_path / "copy.pkl"
    found = checkpoint.read(path)
    checkpoint.write_copy(found, found.networks[0], other_values(found.networks[0]), out)
    changed = 0
    before, after = (pickletools.genops(file.read_bytes()) for file in (path, out))
    for (code, value, place), (code2, value2, place2) in zip(before, after, strict=True):
        assert (code.name, place) == (code2.name, place2)
        if value != value2:
            changed += 1
            assert code.name in ("BINBYTES", "SHORT_BINBYTES")
            assert len(value) == len(value2)
    assert changed == len(found.networks[0].tensors)


def test_the_library_of_safetensors_reads_the_copy(tmp_path):
    KINDS["safetensors"](tmp_path / "some.bin")
    found = checkpoint.read(tmp_path / "some.bin")
    new = {"brain": torch.arange(5.0), "mask": torch.tensor([0, 1, 1])}
    checkpoint.write_copy(found, found.networks[0], new, tmp_path / "copy.bin")
    loaded = load_file(tmp_path / "copy.bin")
    assert loaded["brain"].tolist() == [0, 1, 2, 3, 4]
    assert loaded["mask"].tolist() == [False, True, True]
    assert torch.equal(loaded["weight"], small_state()["weight"])


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_views_are_written_through(new, tmp_path):
    torch.save(small_state(), tmp_path / "some.pt", _use_new_zipfile_serialization=new)
    found = checkpoint.read(tmp_path / "some.pt")
    values = torch.arange(30.0).reshape(5, 6)
    checkpoint.write_copy(found, found.networks[0], {"turned": values}, tmp_path / "copy.pt")
    loaded = torch.load(tmp_path / "copy.pt", weights_only=True)
    assert torch.equal(loaded["turned"], values)
    assert torch.equal(loaded["tied"], values.t())
    assert torch.equal(loaded["part"], values.t()[2:5, 1:3])
    checkpoint.write_copy(
        found, found.networks[0], {"turned": values, "part": values.t()[2:5, 1:3]}, tmp_path / "copy.pt"
    )
    both = {"turned": values, "part": torch.zeros(3, 2)}
    with pytest.raises(GanatomyError, match="part, .*|turned shares numbers with a tensor that is given other ones"):
        checkpoint.write_copy(found, found.networks[0], both, tmp_path / "third.pt")
    assert sorted(os.listdir(tmp_path)) == ["copy.pt", "some.pt"]


def test_a_graph_is_copied_with_its_constants(tmp_path):
    model, out = tmp_path / "model", tmp_path / "copy"
    model.mkdir()
    for name in ("Mapping", "Synthesis"):
        ir_pair(model, name)
    (model / "readme.txt").write_text("not a part of it")
    found = checkpoint.read(model)
    new = {"Synthesis/weight": torch.full((3, 4), 0.25), "Mapping/one": torch.tensor(2.0)}
    checkpoint.write_copy(found, found.networks[0], new, out)
    assert sorted(os.listdir(out)) == ["Mapping.bin", "Mapping.xml", "Synthesis.bin", "Synthesis.xml"]
    after = checkpoint.read(out).networks[0].tensors
    for key, value in found.networks[0].tensors.items():
        assert torch.equal(after[key], new.get(key, value).to(value.dtype))
    assert (out / "Mapping.xml").read_bytes() == (model / "Mapping.xml").read_bytes()
    checkpoint.write_copy(found, found.networks[0], {}, out)
    assert all((out / name).read_bytes() == (model / name).read_bytes() for name in os.listdir(out))


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"weight": torch.zeros(4, 3)}, r"weight is \[3, 4\], got values of \[4, 3\]"),
        ({"steps": torch.zeros(1)}, r"steps is \[\], got values of \[1\]"),
        ({"other": torch.zeros(1)}, "no tensor other in its network 'g_ema'"),
    ],
)
def test_values_that_do_not_fit_are_refused(replaced, words, tmp_path):
    torch.save(training(), tmp_path / "some.pt")
    found = checkpoint.read(tmp_path / "some.pt")
    with pytest.raises(GanatomyError, match=words):
        checkpoint.write_copy(found, found.networks[0], replaced, tmp_path / "copy.pt")
    assert os.listdir(tmp_path) == ["some.pt"]


def test_a_file_that_has_changed_is_refused(tmp_path):
    path = tmp_path / "some.pt"
    torch.save({"w": torch.ones(2)}, path)
    found = checkpoint.read(path)
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(GanatomyError, match="is not the file that was read"):
        checkpoint.write_copy(found, found.networks[0], {}, tmp_path / "copy.pt")
    path.unlink()
    with pytest.raises(GanatomyError, match="no such checkpoint"):
        checkpoint.write_copy(found, found.networks[0], {}, tmp_path / "copy.pt")


def test_packed_numbers_are_not_changed_in_place(tmp_path):
    keras_file(tmp_path / "some.h5")
    found = checkpoint.read(tmp_path / "some.h5")
    with pytest.raises(GanatomyError, match=r"some\.h5: a HDF5 file cannot .* convert it to safetensors instead"):
        checkpoint.write_copy(found, found.networks[0], {}, tmp_path / "copy.h5")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"w": np.ones(3, ">f4"), "x": np.ones(3)}, 4))
    found = checkpoint.read(tmp_path / "old.pkl")
    checkpoint.write_copy(found, found.networks[0], {"x": torch.zeros(3)}, tmp_path / "copy.pkl")
    with pytest.raises(GanatomyError, match="convert it to safetensors instead"):
        checkpoint.write_copy(found, found.networks[0], {"w": torch.zeros(3)}, tmp_path / "copy.pkl")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    path = tmp_path / "some.pt"
    torch.save({"w": torch.ones(2)}, path)
    found = checkpoint.read(path)
    with pytest.raises(GanatomyError, match=r"cannot write .*copy\.pt: "):
        checkpoint.write_copy(found, found.networks[0], {}, path / "copy.pt")
