"""HDF5: numbers and names out; links, foreign files, objects and bombs refused."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from formats_files import keras_file

from dissect import GanatomyError
from dissect.generators import checkpoint
from dissect.generators.formats import hdf5, hdf5_child

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_keras_file_is_flattened(tmp_path):
    path = tmp_path / "model.weights"
    keras_file(path)
    found = checkpoint.read(path)
    (network,) = found.networks
    numbers = torch.arange(12.0).reshape(3, 4)
    assert found.format == "hdf5"
    assert set(network.tensors) == {"dense/inner/kernel:0", "dense/inner/packed", "big", "half", "mask", "one"}
    assert torch.equal(network.tensors["dense/inner/kernel:0"], numbers)
    assert torch.equal(network.tensors["dense/inner/packed"], numbers)
    assert torch.equal(network.tensors["big"], torch.arange(5.0).double())
    assert torch.equal(network.tensors["half"], torch.ones(3).half())
    assert network.tensors["mask"].tolist() == [True, False]
    assert network.tensors["one"].item() == 7
    assert network.arguments == {
        "backend": "tensorflow",
        "layer_names": ["dense", "conv"],
        "count": 3,
        "dense/inner/weight_names": ["kernel:0"],
    }


def external(file):
    file["there"] = h5py.ExternalLink("/etc/passwd", "/a")


def soft(file):
    file["there"] = h5py.SoftLink("/numbers")


def text(file):
    file["there"] = ["some", "text"]


def fixed_text(file):
    file["there"] = np.array([b"some", b"text"])


def reference(file):
    file["there"] = np.array([file.ref], dtype=h5py.ref_dtype)


def ragged(file):
    file.create_dataset("there", (2,), h5py.vlen_dtype(np.float32))


def compound(file):
    file["there"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("there", layout)


def outside(file):
    file.create_dataset("there", (3,), "u1", external=[("/etc/passwd", 0, 3)])


def scaled(file):
    file.create_dataset("there", data=np.arange(9), scaleoffset=0, chunks=(9,))


def claimed(file):
    file.create_dataset("there", (1 << 20, 1 << 12), "f4", chunks=(1, 1 << 12))


def chunky(file):
    file.create_dataset("there", (4,), "f4", chunks=(1 << 28,), maxshape=(None,), compression="gzip")


def zeros(file):
    file.create_dataset("there", data=np.zeros(1 << 24, np.uint8), compression="gzip")


def loop(file):
    file["group/inner"] = file["group"]


def twice(file):
    file["there"] = file["numbers"]


def nothing(file):
    del file["numbers"]


def nowhere(file):
    file["there"] = h5py.Empty("f4")


def long_double(file):
    file["there"] = np.zeros(3, np.longdouble)


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (external, "'there' is a link"),
        (soft, "'there' is a link"),
        (text, "'there' is no array of numbers"),
        (fixed_text, "'there' is no array of numbers"),
        (reference, "'there' is no array of numbers"),
        (ragged, "'there' is no array of numbers"),
        (compound, "'there' is no array of numbers"),
        (virtual, "'there' keeps its numbers in another file"),
        (outside, "'there' keeps its numbers in another file"),
        (scaled, "packed by a filter other than gzip, shuffle, fletcher32, lzf"),
        (claimed, "tensors claim 17179869.* bytes, far more than the file has"),
        (chunky, "claims chunks of"),
        (zeros, "far more than the file has"),
        (loop, "hold each other"),
        (twice, "hold each other"),
        (nothing, "holds no datasets"),
        (nowhere, "expected plain numbers"),
        (long_double, "expected plain numbers"),
    ],
)
def test_what_is_no_plain_array_is_refused(add, words, tmp_path):
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3.0)
        file.create_group("group")
        add(file)
    with pytest.raises(GanatomyError, match=rf"some\.h5: .*{words}") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "some.h5"
    keras_file(path)
    whole = path.read_bytes()
    for length in (16, 100, 700, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(GanatomyError, match="damaged HDF5 file"):
            checkpoint.read(path)


def test_a_file_that_ends_its_reader_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "some.h5"
    keras_file(path)
    child = tmp_path / "child.py"
    child.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(hdf5_child, "__file__", str(child))
    with pytest.raises(GanatomyError, match="it ended the process that read it"):
        checkpoint.read(path)
    child.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(hdf5, "SECONDS", 0.2)
    with pytest.raises(GanatomyError, match="takes more than 0.2 seconds"):
        checkpoint.read(path)
    child.write_text('print(\'{"tensors": {"a": ["f4", [9], 0]}, "attributes": {}, "error": null}\')\n')
    with pytest.raises(GanatomyError, match="ends within a tensor"):
        checkpoint.read(path)


def test_the_reader_imports_nothing_of_the_project(tmp_path):
    keras_file(tmp_path / "some.h5")
    text = (
        "import runpy, sys; sys.argv[1:] = sys.argv[2:]; "
        f"runpy.run_path({hdf5_child.__file__!r}, run_name='__main__'); "
        "assert not {'torch', 'dissect', 'segmodels'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", text, "-", str(tmp_path / "some.h5"), str(1 << 20)]
    assert b'"error": null' in subprocess.run(command, capture_output=True, check=True).stdout
