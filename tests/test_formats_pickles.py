"""Pickles are walked, never run: NVIDIA's modules, TensorFlow's networks, arrays, and what would exhaust the walk."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import resource
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from formats_files import forget, small_state, stand_in, tf_pickle
from safetensors.torch import load_file

from dissect import GanatomyError
from dissect.generators import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"


def read(tmp_path, content):
    path = tmp_path / "some.pkl"
    path.write_bytes(content)
    return checkpoint.read(path)


def refused(tmp_path, content, words):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(GanatomyError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("some.pkl: ")
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def digest(tensors):
    result = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return result.hexdigest()


def test_a_conditional_stylegan2_of_nvidia():
    found = checkpoint.read(DATA / "nvlabs_sg2ada.pkl")
    expected = load_file(DATA / "sg2ada_cond.safetensors")
    best = found.networks[0]
    assert found.format == "nvidia pickle"
    assert [(one.where, one.class_name, len(one.tensors)) for one in found.networks] == [
        ("G_ema", "Generator", 58),
        ("G", "Generator", 58),
        ("D", "Discriminator", 34),
    ]
    assert set(best.tensors) == set(expected)
    assert all(torch.equal(best.tensors[key], value) for key, value in expected.items())
    assert all(best.tensors[key].dtype == value.dtype for key, value in expected.items())
    assert best.arguments == {
        "z_dim": 24, "c_dim": 5, "w_dim": 24, "img_resolution": 16, "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2},
        "synthesis_kwargs": {"channel_base": 384, "channel_max": 24, "num_fp16_res": 0, "conv_clamp": 1.5},
    }  # fmt: skip
    assert best.beside["training_set_kwargs"]["resolution"] == 16
    pipe = best.beside["augment_pipe"]
    assert isinstance(pipe, checkpoint.Record)
    assert pipe.name == "AugmentPipe"
    assert pipe.fields["arguments"]["xflip"] == 1


def test_a_stylegan3_of_nvidia():
    found = checkpoint.read(DATA / "nvlabs_sg3.pkl")
    best = found.networks[0]
    assert (best.where, best.class_name, len(best.tensors)) == ("G_ema", "Generator", 114)
    assert digest(best.tensors) == "736bd3bf1eb90bd69f18e0dced1d82adf7141e4fbea62293163546fd19d0b975"
    assert best.arguments["channel_base"] == 256
    # The order is that of state_dict(): a module's own tensors, then those of its parts.
    assert next(iter(best.tensors)) == "synthesis.input.weight"


def module(class_name="Generator", state=None, **meta):
    """A value that pickles as NVIDIA's modules do."""

    class Module:
        def __reduce__(self):
            own = {"_parameters": {}, "_buffers": {}, "_modules": {}, "_init_args": (), "_init_kwargs": {}}
            whole = {"type": "class", "version": 6, "module_src": "raise RuntimeError", "class_name": class_name}
            return reconstruct, (whole | {"state": own | (state or {})} | meta,)

    return Module()


def reconstruct(meta):
    raise RuntimeError("this is what must not run")


@pytest.fixture
def persistence():
    stand_in("torch_utils.persistence", "unused")
    sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = reconstruct
    names = reconstruct.__module__, reconstruct.__name__, reconstruct.__qualname__
    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    reconstruct.__name__ = "_reconstruct_persistent_obj"
    yield
    reconstruct.__module__, reconstruct.__name__, reconstruct.__qualname__ = names
    forget("torch_utils.persistence")


def test_parameters_buffers_and_parts_have_the_names_of_a_state_dict(persistence, tmp_path):
    one, two, three = torch.ones(2), torch.zeros(3), torch.full((1,), 3.0)
    part = module("SynthesisLayer", {"_parameters": {"weight": one, "bias": None}, "_buffers": {"noise": two}})
    whole = {
        "_buffers": {"w_avg": three, "grid": two},
        "_non_persistent_buffers_set": {"grid"},
        "_modules": {"conv": part, "skip": None},
        "_init_args": (8, 0),
        "_init_kwargs": {"w_dim": np.int64(4), "sizes": np.array([1, 2]), "kernel": torch.tensor([1.0, 3.0])},
    }
    found = read(tmp_path, pickle.dumps(module(state=whole), 3))
    (network,) = found.networks
    assert network.where == ""
    assert {key: value.tolist() for key, value in network.tensors.items()} == {
        "w_avg": [3.0],
        "conv.weight": [1.0, 1.0],
        "conv.noise": [0.0, 0.0, 0.0],
    }
    assert network.arguments == {"w_dim": 4, "sizes": [1, 2], "kernel": [1.0, 3.0], "*": (8, 0)}
    assert type(network.arguments["w_dim"]) is int


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: module("Popen"), "unknown class 'Popen'"),
        (lambda: module(["Generator"]), "damaged"),
        (lambda: module(type="function"), "a persistent 'function', expected a class"),
        (lambda: module(version=99), "version 99, known: 1 to 6"),
        (lambda: module(version="6"), "version '6', known"),
        (lambda: module(more=1), "without its state"),
        (lambda: module(), "has no tensors"),
        (lambda: module(state={"_parameters": {"w": 3}}), "'w' is no tensor"),
        (lambda: module(state={"_parameters": {3: torch.ones(1)}}), "without its parameters"),
        (lambda: module(state={"_modules": {"a": torch.ones(1)}}), "'a' is no module"),
        (lambda: module(state={"_modules": {"a": module("os.system")}}), "unknown class 'os.system'"),
        (lambda: module(state={"_buffers": None}), "without its buffers"),
        (lambda: module(state={"_init_kwargs": None, "_buffers": {"a": torch.ones(1)}}), "without its arguments"),
    ],
)
def test_modules_that_are_not_as_in_any_known_file(persistence, made, words, tmp_path):
    refused(tmp_path, pickle.dumps({"G_ema": made()}, 4), words)


@pytest.mark.parametrize("old", [False, True], ids=["", "Python 2"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["dnnlib.tflib.network", "tfutil", "network"])
def test_networks_of_tensorflow(name, protocol, old, tmp_path):
    found = read(tmp_path, tf_pickle(name, protocol, old))
    assert found.format == "tensorflow pickle"
    assert [one.where for one in found.networks] == ["Gs", "G", "D"]
    best = found.networks[0]
    assert best.class_name == "G_main"
    assert best.arguments == {"resolution": 16, "fmap_base": 64, "act": "lrelu", "list": [1, 2]}
    random = np.random.RandomState(0)
    random.randn(3 * (72 + 2))  # the networks before: G's part, G, D
    inner = random.randn(3, 3, 4, 2).astype(np.float32), random.randn(2).astype(np.float32)
    assert list(best.tensors) == [
        *("lod", "4x4/Conv/weight", "4x4/Conv/bias"),
        *("synthesis/lod", "synthesis/4x4/Conv/weight", "synthesis/4x4/Conv/bias"),
    ]
    assert torch.equal(best.tensors["synthesis/4x4/Conv/weight"], torch.from_numpy(inner[0]))
    assert torch.equal(best.tensors["synthesis/4x4/Conv/bias"], torch.from_numpy(inner[1]))
    assert (best.tensors["lod"].item(), best.tensors["synthesis/lod"].item()) == (4.0, 5.0)
    assert all(tensor.dtype == torch.float32 for tensor in best.tensors.values())


def test_networks_of_tensorflow_are_not_changed_in_place(tmp_path):
    found = read(tmp_path, tf_pickle())
    with pytest.raises(GanatomyError, match="convert it to safetensors instead"):
        checkpoint.write_copy(found, found.networks[0], {}, tmp_path / "out.pkl")
    assert os.listdir(tmp_path) == ["some.pkl"]


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    np.arange(24.0).reshape(4, 6).T,
    np.arange(3, dtype=">f4"),
    np.array([True, False]),
    np.float16([1.5]),
    np.array(3, np.uint8),
    np.zeros((0, 2), np.int16),
]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_are_tensors(protocol, tmp_path):
    arrays = {f"a{place}": array for place, array in enumerate(ARRAYS)}
    (network,) = read(tmp_path, pickle.dumps(arrays | {"text": np.str_("x")}, protocol)).networks
    for key, array in arrays.items():
        tensor = network.tensors[key].numpy()
        assert tensor.dtype == array.dtype.newbyteorder("=")
        assert tensor.shape == array.shape
        np.testing.assert_array_equal(tensor, array)
    assert network.beside == {"text": "x"}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_in_a_plain_pickle(protocol, tmp_path):
    state = {key: value for key, value in small_state().items() if key != "nothing"}
    if protocol == 2:  # the bytes of the storages are text there
        return refused(tmp_path, pickle.dumps(state, protocol), "something else than bytes of the file")
    (network,) = read(tmp_path, pickle.dumps(state, protocol)).networks
    assert all(torch.equal(network.tensors[key], value) for key, value in state.items())
    return None


class Calls:
    def __init__(self, function, *arguments):
        self.given = function, arguments

    def __reduce__(self):
        return self.given


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([Calls(os.getcwd)], "it asks for posix.getcwd; nothing was run"),
        ({"a": Calls(getattr, "x", "y")}, "it asks for builtins.getattr"),
        ({"a": Calls(print, "hello")}, "it asks for builtins.print"),
        ({"a": np.array([1, None])}, "numpy array of Python objects"),
        ({"a": Calls(list, (1, 2))}, "a call of builtins.list"),
        ({("a", 1): 2}, "a tuple as a key"),
        ({2**70: 2}, "many digits as a key"),
        ({"a": torch.nn.Linear(1, 1)}, "it asks for torch.nn.modules.linear.Linear"),
        ([1, 2], "holds a list, expected a state dict"),
        ({"epoch": 3}, "holds no tensors"),
    ],
)
def test_what_is_not_a_checkpoint(value, words, tmp_path):
    refused(tmp_path, pickle.dumps(value, 4), words)


def blob(storage):
    out = io.BytesIO()
    torch.save(storage, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


START = b"\x80\x04"
ODICT = b"ccollections\nOrderedDict\n"
NAMESPACE = b"cargparse\nNamespace\n"
LOAD = b"ctorch.storage\n_load_from_bytes\n"
ENCODE = b"c_codecs\nencode\n"
FLOATS = blob(torch.zeros(4)._typed_storage())


def piece(raw):
    return b"B" + struct.pack("<I", len(raw)) + raw


def text(raw):
    return b"X" + struct.pack("<I", len(raw)) + raw


def rebuild(start, shape, strides):
    numbers = [b"K" + bytes([start])]
    for row in (shape, strides):
        numbers.append(b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in row) + b"t")
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + LOAD + piece(FLOATS) + b"\x85R" + b"".join(numbers) + b"\x89NtR"
    return START + b"}" + text(b"a") + call + b"s."


BOMBS = {
    "steps": (START + b"]" * 2_000_000 + b".", "more than 500000 steps"),
    "nesting": (START + b")" + b"\x85" * 400_000 + b".", "nested more than 120 deep"),
    "nested objects": (START + b"N" + (b"q\x01" + NAMESPACE + b")\x81h\x01b") * 20_000 + b".", "nested more than"),
    "a nested key": (START + b"})" + b"\x85" * 400_000 + b"K\x01s.", "a tuple as a key"),
    "a nested set": (START + b"cbuiltins\nset\n)" + b"\x85" * 400_000 + b"\x85R.", "a tuple as a key"),
    "a list in itself": (START + b"]\x940" + b"]0" * 9 + b"h\x00h\x00a.", "holds itself"),
    "a dict in itself": (START + b"}\x940" + b"]0" * 9 + b"h\x00K\x01h\x00s.", "holds itself"),
    "doubling": (
        START + b"]\x94" + b"".join(b"](h%ch%ce\x94" % (n, n) for n in range(40)) + b".",
        "more than 500000 values",
    ),
    "keys that collide": (
        START + b"}(" + b"".join(b"\x8a\x0c" + (n * (2**61 - 1)).to_bytes(12, "little") + b"N" for n in range(9, 5000))
        + b"u.",
        "many digits as a key",
    ),
    "work on text": (
        START + text(b"a" * 3_000_000) + b"q\x00" + ENCODE + b"q\x01" + text(b"latin1") + b"q\x02"
        + b"h\x01h\x00h\x02\x86R0" * 9000 + b".",
        "more work than a checkpoint takes",
    ),
    "work on pairs": (
        START + b"](" + b"K\x01K\x02\x86" * 50_000 + b"eq\x00" + ODICT + b"q\x01" + b"h\x01h\x00\x85R0" * 9000 + b".",
        "more work than a checkpoint takes",
    ),
    "work on storages": (
        START + piece(FLOATS) + b"q\x00" + LOAD + b"q\x01" + b"h\x01h\x00\x85R0" * 50_000 + b".",
        "more work than a checkpoint takes|more than 500000 steps",
    ),
    "a claim": (START + b"\x8e" + struct.pack("<Q", 1 << 40) + b"aaaaaaaaaaaaaaa", "claims more bytes"),
    "a claimed text": (START + b"X" + struct.pack("<I", 1 << 31) + b"aaaaaaaaaaaaaaa", "claims more bytes"),
    "a memo": (START + b"]r" + struct.pack("<I", 1 << 31) + b"0" + b"]" * 20 + b".", "holds a list"),
    "digits": (START + b"I" + b"9" * 60_000 + b"\n.", "damaged"),
    "an endless line": (START + b"I" + b"9" * 100_000, "a line has no end"),
    "a stride of 0": (rebuild(0, [1 << 18, 1 << 18], [0, 0]), "claim 274877906944 bytes, far more than the file"),
    "beyond the storage": (rebuild(1, [4], [1]), "beyond its storage"),
    "a stride beyond": (rebuild(0, [2], [4]), "beyond its storage"),
    "a negative stride": (rebuild(3, [4], [-1]), "shape of a tensor is impossible"),
    "a negative size": (rebuild(0, [-1, -4], [1, 1]), "shape of a tensor is impossible"),
    "an overflowing size": (rebuild(0, [1 << 61, 8], [1, 1]), "far more than the file has"),
    "more strides": (rebuild(0, [2], [1, 1]), "without a shape"),
    "an extension": (START + b"\x82\x01" + bytes(20) + b".", "has the opcode b'.x82'"),
    "a persistent id": (START + b"K\x01Q" + bytes(20) + b".", "refers to data outside"),
    "state of a list": (START + b"]}b" + b"0" * 20 + b".", "sets the state of what has none"),
    "items of a list": (START + b"]K\x01K\x01s" + b"0" * 20 + b".", "sets items of what is no dict"),
    "append to a dict": (START + b"}K\x01a" + b"0" * 20 + b".", "appends to what is no list"),
    "call of a number": (START + b"K\x01)R" + b"0" * 20 + b".", "calls what is no function"),
    "arguments that are none": (START + ODICT + b"]R" + b"0" * 20 + b".", "calls what is no function"),
    "a made key": (START + b"}" + ODICT + b"K\x01s" + b"0" * 20 + b".", "a collections.OrderedDict as a key"),
    "an encoding": (START + ENCODE + text(b"a") + text(b"rot13") + b"\x86R.", "encodes something else"),
    "a storage in text": (START + LOAD + text(b"aaaaaaaaaaaa") + b"\x85R.", "something else than bytes"),
    "a pickle for a storage": (START + LOAD + piece(b"\x80\x02cposix\nsystem\n)R.") + b"\x85R.", "posix.system"),
    "a dict for a storage": (START + LOAD + piece(blob({"a": 1})) + b"\x85R.", "something else than a storage"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_would_exhaust_or_confuse_the_walk(name, tmp_path):
    refused(tmp_path, *BOMBS[name])


def test_every_cut_of_a_module_is_refused(tmp_path):
    whole = (DATA / "nvlabs_sg2ada.pkl").read_bytes()
    for length in np.linspace(16, len(whole) - 1, 30).astype(int):
        refused(tmp_path, whole[:length], "cut short|damaged")


def test_many_networks_are_refused(tmp_path):
    one = np.float32([1, 2])
    refused(tmp_path, pickle.dumps({str(n): {"a": one} for n in range(201)}, 4), "201 networks, expected at most 200")
