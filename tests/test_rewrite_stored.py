"""The file of memories: what is kept comes back to the bit, is found again, and is refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import dissect
import rewrite
from dissect import GanatomyError
from dissect.generators.convolutions import convolution_of
from rewrite import Memories, Region, Request, recall
from rewrite.stored import memory_path

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def generator():
    return dissect.load(DATA / "dcgan_main.safetensors")


@pytest.fixture(scope="module")
def kept(generator, tmp_path_factory):
    """A file with one memory."""
    path = tmp_path_factory.mktemp("kept") / "m.memory.h5"
    recall(generator, [convolution_of(generator, "main.6")], range(4), path=path)
    return path


def same(one, other):
    assert dict(one.moments.facts) == dict(other.moments.facts)
    assert one.moments.seeds == other.moments.seeds
    assert (one.ridge, one.conditions) == (other.ridge, other.conditions)
    for name in ("total", "second"):
        for a, b in zip(getattr(one.moments, name), getattr(other.moments, name), strict=True):
            np.testing.assert_array_equal(np.tril(a) if a.ndim == 2 else a, np.tril(b) if b.ndim == 2 else b)
    for a, b in zip(one.factors, other.factors, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_made_is_kept_and_found_again(generator, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    convolutions = [convolution_of(generator, layer) for layer in ("main.3", "main.6")]
    made = recall(generator, convolutions, range(6), path=path)
    file = tmp_path / "run.memory.h5"
    assert file.exists()
    assert memory_path(file) == memory_path(path) == file
    apart = rewrite.moments(generator, convolutions[0], range(6))
    for ours, theirs in zip(made[0].moments.second, apart.second, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # one pass for several layers is the same
    recall(generator, convolutions[:1], range(6), kind="channel", path=path)
    monkeypatch.setattr("rewrite.stored._made", lambda *a: pytest.fail("made again"))
    for one, other in zip(recall(generator, convolutions, range(6), path=path), made, strict=True):
        same(one, other)
    assert len(Memories(file, generator.fingerprint).keys) == 3


def test_a_solve_uses_the_file(generator, tmp_path, monkeypatch):
    request = Request(64, (Region.box(1, 64, 16, 16, 32, 32),), Region.box(2, 64, 16, 16, 32, 32))
    path = tmp_path / "m.memory.h5"
    first = rewrite.solve(generator, request, "main.6", seeds=range(6), memory_file=path)
    monkeypatch.setattr("rewrite.stored._made", lambda *a: pytest.fail("made again"))
    assert rewrite.solve(generator, request, "main.6", seeds=range(6), memory_file=path) == first


def test_other_seeds_ridges_and_edits_are_other_memories(generator, tmp_path):
    path = tmp_path / "m.memory.h5"
    convolution = convolution_of(generator, "main.6")
    early = dissect.ablate("main.5", [0, 1])
    variants = [{}, {"ridge": 1e-2}, {"edits": early}, {"cells": None}]
    for given in variants:
        recall(generator, [convolution], range(4), path=path, **given)
    recall(generator, [convolution], range(5), path=path)
    assert len(Memories(path, generator.fingerprint).keys) == 5
    edited, plain = (recall(generator, [convolution], range(4), path=path, edits=e)[0] for e in (early, ()))
    assert not np.array_equal(edited.factors[0], plain.factors[0])


def test_numbers_of_any_kind_are_the_same_memory(generator, tmp_path, monkeypatch):
    path = tmp_path / "m.memory.h5"
    convolution = convolution_of(generator, "main.6")
    (made,) = recall(generator, [convolution], np.arange(4), ridge=1, path=path)
    monkeypatch.setattr("rewrite.stored._made", lambda *a: pytest.fail("made again"))
    same(recall(generator, [convolution], range(4), ridge=1.0, path=path)[0], made)
    same(recall(generator, [convolution], [3, 2, 1, 0], ridge=np.float64(1), path=path)[0], made)


TAMPERED = {
    "sizes": [[10**6] * 4, [-1] * 4, [], [3] * 4, [float("inf")] * 4], "facts": [[], {"kind": "channel"}],
    "seeds": [[0, 1], "x"], "ridge": ["x", 1.0], "conditions": [[]], "count": [np.zeros(4, np.int64)],
    "total/0": [np.zeros(3)], "factor/0": [np.zeros((2, 2))],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAMPERED.items() for value in values])
def test_a_memory_that_is_not_what_it_is_called_is_refused(generator, kept, name, value, tmp_path):
    path = shutil.copy(kept, tmp_path / "m.memory.h5")
    with h5py.File(path, "r+") as file:
        (group,) = file["memories"].values()
        if isinstance(value, np.ndarray):
            del group[name]
            group[name] = value
        else:
            header = json.loads(bytes(group["header"][...])) | {name: value}
            del group["header"]
            group["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with pytest.raises(GanatomyError, match="is damaged: .*; move it away") as raised:
        recall(generator, [convolution_of(generator, "main.6")], range(4), path=path)
    assert "\n" not in str(raised.value)


def test_files_that_do_not_fit_are_refused_and_left(generator, tmp_path):
    convolution = convolution_of(generator, "main.6")
    path = tmp_path / "m.memory.h5"
    recall(generator, [convolution], range(4), path=path)
    before = path.read_bytes()
    other = dissect.load(DATA / "rewrite_pggan.safetensors")
    with pytest.raises(GanatomyError, match="memories of another generator"):
        recall(other, [convolution_of(other, "layer4")], range(4), path=path)
    assert path.read_bytes() == before
    damaged = bytearray(before)
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    path.write_bytes(bytes(damaged))
    with pytest.raises(GanatomyError, match="damaged"):
        recall(generator, [convolution], range(4), path=path)
    path.write_bytes(b"nothing of ours")
    with pytest.raises(GanatomyError, match="not readable HDF5"):
        recall(generator, [convolution], range(4), path=path)
    with pytest.raises(GanatomyError, match="no such folder|cannot write"):
        recall(generator, [convolution], range(4), path=tmp_path / "nowhere" / "m.memory.h5")
