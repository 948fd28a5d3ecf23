"""Files that are no checkpoints: each is one line, and nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import dcgan_tensors
from safetensors.torch import save_file
from torch import nn

import dissect
from dissect import GanatomyError
from dissect.generators import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

COLLECTION = sorted((Path(__file__).parent / "data" / "hostile").iterdir())
# Of these the container is sound, and what is in it is for the families to judge.
SOUND = [path for path in COLLECTION if path.name.startswith("content_") and path.suffix == ".safetensors"]
HOSTILE = [path for path in COLLECTION if path not in SOUND]


def refused(path, words=None):
    """Load, and assert that it is refused in one line, soon."""
    start = time.monotonic()
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(path)
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_the_collection_of_hostile_files_is_refused(path, tmp_path, monkeypatch):
    """Their payloads would make a file PWNED in the current folder."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, path.name)
    assert os.listdir(tmp_path) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; one of them would take 64 MiB


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.name)
def test_only_the_container_is_judged_here(path):
    found = checkpoint.read(path)
    (network,) = found.networks
    assert found.format == "safetensors"
    assert found.sha256 == checkpoint.sha256_of(path)
    assert (network.where, network.prefix, network.class_name) == ("", "", None)
    if path.stem in ("content_nan", "content_inf"):
        with pytest.raises(GanatomyError, match=f"{path.name}: .* holds NaN or infinite"):
            checkpoint.check(network, found)
    else:
        checkpoint.check(network, found)


def test_a_network_that_exploded_does_not_refuse_the_file(tmp_path):
    good, bad = dcgan_tensors(widths=(2, 3)), {"weight": torch.tensor([1.0, float("nan")])}
    path = tmp_path / "both.pth"
    torch.save({"netD": bad, "netG": good}, path)
    found = checkpoint.read(path)
    assert [network.where for network in found.networks] == ["netG", "netD"]
    checkpoint.check(found.networks[0], found)
    with pytest.raises(GanatomyError, match=r"both\.pth: weight holds NaN"):
        checkpoint.check(found.networks[1], found)
    assert dissect.load(path).resolution == 8


class Runs:
    """Pickles to a call that makes a folder."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


WRAPPINGS = {
    "alone": lambda evil: evil,
    "as a weight": lambda evil: dcgan_tensors() | {"main.0.weight": evil},
    "beside the weights": lambda evil: {"netG": dcgan_tensors(), "args": evil},
    "deep inside": lambda evil: {"netG": dcgan_tensors(), "log": [{"a": (1, [evil])}]},
    "as a key": lambda evil: {"netG": dcgan_tensors(), ("x", evil): 1},
}
WRITERS = {
    "zip": torch.save,
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{
        f"pickle {protocol}": lambda value, path, protocol=protocol: path.write_bytes(pickle.dumps(value, protocol))
        for protocol in range(6)
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_pickle_that_would_run_code_does_not(writer, wrapping, tmp_path):
    marker = tmp_path / "marker"
    path = tmp_path / "evil.pth"
    WRITERS[writer](WRAPPINGS[wrapping](Runs(marker)), path)
    refused(path)
    assert not marker.exists()
    naive = pickle.load if writer.startswith("pickle") else (lambda f: torch.load(f, weights_only=False))
    with path.open("rb") as file:
        naive(file)
    assert marker.exists(), "the payload would not have run anyway"


def test_what_the_pickle_asks_for_is_named(tmp_path):
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "whole.pt")
    message = refused(tmp_path / "whole.pt")
    assert message == "whole.pt: refused, it asks for torch.nn.modules.linear.Linear; nothing was run"


def small(path, kind):
    tensors = dcgan_tensors(widths=(2, 3))
    {"safetensors": save_file, "zip": WRITERS["zip"], "legacy": WRITERS["legacy"]}[kind](tensors, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short_anywhere_is_refused(kind, tmp_path):
    path = tmp_path / "cut.bin"
    whole = small(path, kind)
    assert dissect.load(path).resolution == 8
    for length in [0, 1, 7, 8, 15, 16, 17, 40, *np.linspace(64, len(whole) - 1, 25).astype(int)]:
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_with_a_wrong_byte_loads_or_is_refused(kind, tmp_path):
    path = tmp_path / "flipped.bin"
    whole = small(path, kind)
    random = np.random.RandomState(0)
    messages = []
    for place in [*range(48), *random.randint(0, len(whole), 150)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << random.randint(8)
        path.write_bytes(changed)
        try:
            dissect.load(path)
        except GanatomyError as error:
            messages.append(str(error))
    assert 20 < len(messages) < 198, "some flips are seen, a changed weight is not"
    assert not any("\n" in message for message in messages)


def archive(path, records, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(name, content)


def deflated(path):
    """A good checkpoint, compressed: torch could read it, and one that unpacks to terabytes as well."""
    plain = io.BytesIO()
    torch.save(dcgan_tensors(widths=(2, 3)), plain)
    with zipfile.ZipFile(plain) as source:
        archive(path, {name: source.read(name) for name in source.namelist()}, zipfile.ZIP_DEFLATED)


def script(path):
    """What tells an archive of compiled code from one of tensors: torch would hand it to another reader."""
    archive(path, {"net/constants.pkl": pickle.dumps(()), "net/data.pkl": pickle.dumps({}, 2), "net/version": "3"})


def header(text, data=b""):
    raw = text if isinstance(text, bytes) else text.encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


FILES = {
    "compressed": (deflated, "compressed archive"),
    "an archive of text": (lambda p: archive(p, {"a/readme.txt": "hello"}), "damaged or not a torch checkpoint"),
    "an empty archive": (lambda p: archive(p, {}), "not a torch checkpoint: it is an archive without"),
    "arrays": (lambda p: np.savez(p.open("wb"), a=np.zeros(3)), "not a torch checkpoint"),
    "a script": (script, "damaged or not a torch checkpoint"),
    "a picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "not a torch, .* file .it begins with"),
    "text": (lambda p: p.write_text("these are not weights at all"), "not a torch, .* file"),
    "zeros": (lambda p: p.write_bytes(bytes(1000)), "not a torch, .* file"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "damaged HDF5 file"),
    "nothing": (lambda p: p.touch(), "has only 0 bytes"),
    "a folder": (lambda p: p.mkdir(), "is a folder, expected a checkpoint file"),
    "a link to nowhere": (lambda p: p.symlink_to("nowhere.pth"), "no such checkpoint"),
    "a pipe": (os.mkfifo, "no such checkpoint"),
    "a number": (lambda p: torch.save(3, p), "holds a int, expected a state dict"),
    "a header of nests": (header("{" + '"a":[' * 200_000), "damaged safetensors file"),
    "a header without tensors": (header("{}" + " " * 20), "holds no tensors"),
    "a header of two equal names": (
        header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],'
               '"data_offsets":[0,4]}}', bytes(4)),
        None,
    ),
    "a header that is not UTF-8": (header(b'{"\xff\xfe":1}'), "damaged safetensors file"),
    "integers for a weight": (
        header('{"main.0.weight":{"dtype":"I64","shape":[1,1,1,1],"data_offsets":[0,8]}}', bytes(8)),
        "no known generator",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_are_refused(name, tmp_path):
    make, words = FILES[name]
    path = tmp_path / "some.pth"
    make(path)
    refused(path, words)


def test_a_storage_that_is_claimed_but_not_there(tmp_path):
    """A legacy file may claim storage that it never fills; what is claimed must not be touched."""
    path = tmp_path / "claims.pth"
    torch.save({"main.0.weight": torch.zeros(1, 1, 4, 4)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"K\x10", b"J\x00\x00\x00\x70"))  # the number of elements, 16, becomes 1.9e9
    assert path.read_bytes() != whole
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_many_tensors_that_share_few_bytes_are_refused(tmp_path):
    tensors = dcgan_tensors(widths=(64, 64, 64))
    one = torch.zeros(64 * 64 * 16)
    path = tmp_path / "shared.pth"
    torch.save(tensors | {f"main.{3 * i}.weight": one.view(64, 64, 4, 4) for i in range(2, 60)}, path)
    refused(path, "far more than the file has")


def test_an_unreadable_file_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "some.pth"
    torch.save(dcgan_tensors(), path)
    monkeypatch.setattr(checkpoint, "sha256_of", lambda path: (_ for _ in ()).throw(PermissionError(13, "not yours")))
    refused(path, "cannot read .*: not yours")


def test_a_hash_is_that_of_the_file(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert checkpoint.sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["a", "b"], "a, b"),
        (list("abcde"), "a, b, c and 2 more"),
        (["a\nb\x1b[0m"], "a?b?[0m"),
        ([("x", 1)], "('x', 1)"),
        ([], ""),
    ],
)
def test_keys_are_shown_on_one_line(keys, text):
    assert checkpoint.shown(keys) == text
