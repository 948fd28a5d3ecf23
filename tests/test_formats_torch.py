"""torch's own files and safetensors: the same tensors as the libraries give, and what belongs to no network."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from formats_files import forget, small_state, stand_in, training
from safetensors.torch import load_file, save_file
from torch import nn

from dissect import GanatomyError
from dissect.generators import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

NEW = [True, False]


def save(value, path, new=True):
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return checkpoint.read(path)


def same(tensor, other):
    """Whether two tensors have one type, one shape and the same bits."""
    other = other.detach().contiguous()
    if tensor.dtype != other.dtype or tensor.shape != other.shape or not tensor.is_contiguous():
        return False
    return tensor.reshape(-1).view(torch.uint8).equal(other.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("new", NEW, ids=["zip", "legacy"])
def test_state_dicts_are_as_torch_reads_them(new, tmp_path):
    found = save(small_state(), tmp_path / "some.pt", new)
    (network,) = found.networks
    expected = torch.load(tmp_path / "some.pt", weights_only=True)
    assert found.format == ("torch zip" if new else "torch legacy")
    assert list(network.tensors) == list(expected)
    assert all(same(network.tensors[key], value) for key, value in expected.items())
    assert (network.where, network.prefix, network.beside, network.arguments) == ("", "", {}, {})
    one = torch.ones(2)
    (tied,) = save({"a": one, "b": one}, tmp_path / "tied.pt", new).networks
    assert tied.tensors["a"].data_ptr() != tied.tensors["b"].data_ptr()
    pointers = {tensor.data_ptr() for tensor in network.tensors.values() if tensor.numel()}
    assert len(pointers) == len(network.tensors) - 1, "each has its own memory"


@pytest.mark.parametrize("new", NEW, ids=["zip", "legacy"])
def test_training_checkpoints_open(new, tmp_path):
    """Their arguments and numpy's numbers would make torch's safe reader refuse them."""
    found = save(training(), tmp_path / "550000.pt", new)
    with pytest.raises(Exception, match="Namespace"):
        torch.load(tmp_path / "550000.pt", weights_only=True)
    assert [network.where for network in found.networks] == ["g_ema", "g", "d"]
    assert same(found.networks[0].tensors["weight"], small_state(1)["weight"])
    beside = found.networks[0].beside
    assert list(beside) == ["epoch", "g_optim", "args", "latent_avg", "score", "grid"]
    assert (beside["epoch"], beside["score"]) == (3, 1.5)
    assert beside["latent_avg"].tolist() == [0, 1, 2, 3, 4]
    assert beside["grid"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert beside["args"].name == "argparse.Namespace"
    assert beside["args"].fields == {"lr": 0.002, "path": "/data", "mixing": None}
    assert beside["g_optim"]["state"][0]["exp_avg"].shape == (4, 3, 3, 3)


def test_a_configuration_object_is_a_record(tmp_path):
    made = stand_in("models.utils.config", "BaseConfig")
    config, inner = made(), made()
    config.depth, inner.alpha = [512, 256], 0.5
    config.inner = inner
    try:
        torch.save({"netG": {"w": torch.ones(2)}, "config": config}, tmp_path / "zoo.pth")
    finally:
        forget("models.utils.config")
    record = checkpoint.read(tmp_path / "zoo.pth").networks[0].beside["config"]
    assert isinstance(record, checkpoint.Record)
    assert record.name == "models.utils.config.BaseConfig"
    assert record.fields["depth"] == [512, 256]
    assert record.fields["inner"].fields == {"alpha": 0.5}


T = {"w": torch.ones(1)}


@pytest.mark.parametrize(
    ("value", "wheres"),
    [
        (T, [""]),
        (T | {"epoch": 3, "name": "x"}, [""]),
        ({"state_dict": T | {"step": 3}}, ["state_dict"]),
        ({"d": T, "g": T, "g_ema": T, "latent_avg": torch.ones(3)}, ["g_ema", "g", "d"]),
        ({"D": T, "G": T, "G_ema": T}, ["G_ema", "G", "D"]),
        ({"generator": T, "discriminator": T, "generator_smooth": T},
         ["generator_smooth", "generator", "discriminator"]),
        ({"netG": T, "netD": T, "avgG": T, "config": {"a": 1}}, ["avgG", "netG", "netD"]),
        ({"netD": T, "mine": T, "netG": T, "netG_ema": T}, ["netG_ema", "netG", "mine", "netD"]),
        ({"g_running": T, "generator": T}, ["g_running", "generator"]),
        ({"params": T, "params_ema": T}, ["params_ema", "params"]),
        ({"model": T, "optimizer": {"state": {0: T}, "param_groups": [{"lr": 1}]}}, ["model"]),
        ({"model": T | {"shape": (3, 4)}, "random": {"torch": torch.ones(3), "python": (1, 2)}}, ["model"]),
        ({3: T, "G": T}, ["G", "3"]),
    ],
)  # fmt: skip
def test_the_likeliest_network_is_first(value, wheres, tmp_path):
    assert [network.where for network in save(value, tmp_path / "some.pt").networks] == wheres


def test_a_wrapped_network_loses_its_prefix(tmp_path):
    whole = {"module.a": torch.ones(1), "module.module.b": torch.zeros(1)}
    wrapped, half = save({"g": whole, "g_ema": whole | {"c": torch.ones(2)}}, tmp_path / "some.pt").networks[::-1]
    assert (wrapped.prefix, list(wrapped.tensors)) == ("module.", ["a", "module.b"])
    assert (half.prefix, list(half.tensors)) == ("", [*whole, "c"])


@pytest.mark.parametrize(
    "make",
    [
        lambda w: w.to(torch.complex64),
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    ],
    ids=["complex", "sparse", "without storage", "quantised"],
)
@pytest.mark.parametrize("new", NEW, ids=["zip", "legacy"])
def test_tensors_that_are_no_plain_numbers(new, make, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = make(torch.eye(3))
    path = tmp_path / "some.pt"
    with pytest.raises(GanatomyError, match=r"some\.pt: main is not a plain tensor of real numbers"):
        save({"G": {"main": odd, "other": torch.ones(1)}}, path, new)
    assert len(save({"G": T, "log": [odd], "spectra": {"a": odd}}, path, new).networks) == 1


def test_attributes_of_a_tensor_are_left_out(tmp_path):
    tensor = torch.ones(3)
    tensor.note = "hello"
    parameter = nn.Parameter(torch.zeros(2))
    parameter.tag = 3
    (network,) = save({"a": tensor, "b": parameter}, tmp_path / "some.pt").networks
    assert network.tensors["a"].tolist() == [1, 1, 1]
    assert network.tensors["b"].tolist() == [0, 0]


def test_types_whose_storages_are_bytes(tmp_path):
    state = {"a": torch.tensor([1, 65535], dtype=torch.uint16), "b": torch.ones(5).to(torch.float8_e4m3fn)[1:3]}
    for new in NEW:
        (network,) = save(state, tmp_path / "some.pt", new).networks
        assert same(network.tensors["a"], state["a"])
        assert same(network.tensors["b"], state["b"])


def test_a_file_of_before_torch_0_4_has_parts_of_storages(tmp_path):
    """The sixth part of such a reference is (key, offset, size) of the part."""
    path = tmp_path / "old.pth"
    torch.save({"w": torch.arange(6.0)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    # (…, number of elements 6, view None) becomes (…, 6, ("k", 2, 3)), and the tensor one of 3 elements.
    changed = whole.replace(b"K\x06Nt", b"K\x06(X\x01\0\0\0kK\x02K\x03tt").replace(b"K\x06\x85", b"K\x03\x85")
    assert len(changed) > len(whole)
    path.write_bytes(changed)
    assert checkpoint.read(path).networks[0].tensors["w"].tolist() == [2, 3, 4]
    path.write_bytes(changed.replace(b"K\x02K\x03tt", b"K\x05K\x03tt"))
    with pytest.raises(GanatomyError, match="beyond its storage"):
        checkpoint.read(path)


def test_the_checksums_of_an_archive_count(tmp_path):
    path = tmp_path / "some.pt"
    torch.save(T, path)
    whole = path.read_bytes()
    place = whole.index(struct.pack("<f", 1.0))
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    with pytest.raises(GanatomyError, match="does not have its checksum"):
        checkpoint.read(path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(T, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoint.read(path).networks[0].tensors["w"].tolist() == [1.0]


def rewritten(path, change):
    """Write an archive anew with ``change(name, content)``, which returns a list of (name, content)."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in old.namelist():
            for pair in change(name, old.read(name)):
                new.writestr(*pair)
    path.write_bytes(out.getvalue())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, content: [(name, content)], None),
        (lambda name, content: [(name, b"big" if name.endswith("byteorder") else content)], "big-endian"),
        (lambda name, content: [(name, content)] * 2, "without one data.pkl"),
        (lambda name, content: [(name, content), ("other/" + name, content)], "without one data.pkl"),
        (lambda name, content: [] if name.endswith("data/0") else [(name, content)], "storage is not in the archive"),
        (lambda name, content: [(name, content[:-1] if name.endswith("pkl") else content)], "cut short"),
        (lambda name, content: [(name, b"" if name.endswith("data/0") else content)], "more bytes than its record"),
    ],
)
def test_archives_that_were_changed(change, words, tmp_path):
    path = tmp_path / "some.pt"
    torch.save(T, path)
    rewritten(path, change)
    if words is None:
        assert checkpoint.read(path).networks[0].tensors["w"].tolist() == [1.0]
    else:
        with pytest.raises(GanatomyError, match=words):
            checkpoint.read(path)


def test_an_archive_of_very_many_records_is_refused(tmp_path):
    path = tmp_path / "some.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("b" * 60_000, b"")
        for place in range(75):
            archive.writestr(f"{place:060000}", b"")
    with pytest.raises(GanatomyError, match="too many records"):
        checkpoint.read(path)


def test_safetensors_are_as_their_library_reads_them(tmp_path):
    path = tmp_path / "some.bin"
    state = {key: value.detach().clone().contiguous() for key, value in small_state().items()}
    save_file(state, path, {"author": "someone"})
    found = checkpoint.read(path)
    (network,) = found.networks
    assert found.format == "safetensors"
    assert network.beside == {"__metadata__": {"author": "someone"}}
    assert all(same(network.tensors[key], value) for key, value in load_file(path).items())


@pytest.mark.parametrize("length", [0x80, 0x4B50])
def test_the_length_of_a_header_may_look_like_another_kind(length, tmp_path):
    path = tmp_path / "some.bin"
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path.write_bytes(struct.pack("<Q", length) + header + struct.pack("<f", 2.5))
    assert path.read_bytes()[:1] in b"\x80P"
    assert checkpoint.read(path).networks[0].tensors["w"].tolist() == [2.5]


def test_a_name_of_strange_characters_stays_one_line(tmp_path):
    with pytest.raises(GanatomyError) as caught:
        save({"G": {"a\nb\x1b": torch.ones(1).to("meta")}}, tmp_path / "some.pt")
    assert str(caught.value) == "some.pt: a?b? is not a plain tensor of real numbers (tensor without storage)"


def test_numbers_are_copied_bit_by_bit(tmp_path):
    strange = torch.from_numpy(np.array([0x7FC00001, 0xFFFFFFFF, 0x80000000, 1], np.uint32).view(np.float32))
    (network,) = save({"w": strange}, tmp_path / "some.pt").networks
    assert same(network.tensors["w"], strange)
