"""Good files with random damage: each loads or is refused in one line, soon, and in little memory."""

from __future__ import annotations

import os
import pickle
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from formats_files import ir_pair, keras_file, small_state, tf_pickle, training
from helpers import LONG

from dissect import GanatomyError
from dissect.generators import checkpoint

DATA = Path(__file__).parent / "data"
SECONDS = 100.0 if LONG else 1.0  # for each kind; other files with another GANATOMY_FUZZ_SEED
SEED = int(os.environ.get("GANATOMY_FUZZ_SEED", "0"))
OPCODES = [getattr(pickle, name) for name in dir(pickle) if name.isupper() and isinstance(getattr(pickle, name), bytes)]


def nvidia(path):
    path.write_bytes((DATA / "nvlabs_sg2ada.pkl").read_bytes())


def arrays(path):
    values = {key: value.detach().numpy() for key, value in small_state().items() if key != "brain"}
    path.write_bytes(pickle.dumps(values, 5))


def hostile(path):
    path.write_bytes((DATA / "hostile" / "exec_in_module_state.pkl").read_bytes())


def safetensors(path):
    path.write_bytes((DATA / "dcgan_main.safetensors").read_bytes())


SOURCES = {
    "nvidia": nvidia,
    "nvidia, small": hostile,
    "tensorflow": lambda path: path.write_bytes(tf_pickle(protocol=2)),
    "tensorflow, new": lambda path: path.write_bytes(tf_pickle(protocol=4)),
    "zip": lambda path: torch.save(training(), path),
    "legacy": lambda path: torch.save(training(), path, _use_new_zipfile_serialization=False),
    "arrays": arrays,
    "safetensors": safetensors,
    "hdf5": keras_file,
}


def harm(whole, random):
    """Return the bytes with one to four injuries."""
    data = bytearray(whole)
    for _ in range(random.randint(1, 5)):
        # Half of the injuries are at the beginning, where the structure of most kinds is.
        place = int(random.randint(0, max(1, len(data) if random.rand() < 0.5 else min(len(data), 2000))))
        length = int(random.choice([1, 2, 4, 8, 16, 100, 1000]))
        other = int(random.randint(0, max(1, len(data))))
        kind = random.randint(8)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << random.randint(8)
        elif kind == 1 and data:
            data[min(place, len(data) - 1)] = random.randint(256)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[other : other + length]
        elif kind == 4:
            data[place : place + length] = data[other : other + length]
        elif kind == 5:
            data[place:place] = OPCODES[random.randint(len(OPCODES))]
        elif kind == 6:
            data[place : place + 8] = int(random.choice([0, 1, 255, 2**31 - 1, 2**32 - 1, 2**62])).to_bytes(8, "little")
        elif random.rand() < 0.2:
            del data[place:]
    return bytes(data)


def endure(path, harmed, seconds=SECONDS):
    """Read harmed files for a while; return how many were read and refused."""
    counts = {"read": 0, "refused": 0}
    end = time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < end:
        data = next(harmed)
        path.write_bytes(data)
        start, message = time.process_time(), path.name
        try:
            found = checkpoint.read(path)
            counts["read"] += 1
            for network in found.networks:
                assert all(tensor.device.type == "cpu" for tensor in network.tensors.values())
        except GanatomyError as error:
            counts["refused"] += 1
            message = str(error)
        assert "\n" not in message
        assert path.name in message
        assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KiB
    return counts


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", SOURCES)
def test_damaged_files_load_or_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.bytes"
    SOURCES[kind](path)
    whole = path.read_bytes()
    random = np.random.RandomState(SEED)

    def harmed():
        while True:
            yield harm(whole, random)

    counts = endure(path, harmed())
    assert counts["refused"] > 0
    assert os.listdir(tmp_path) == ["some.bytes"]


@pytest.mark.timeout(0)
def test_damaged_graphs_load_or_are_refused(tmp_path):
    xml, constants = ir_pair(tmp_path)
    whole, numbers = xml.read_bytes(), constants.read_bytes()
    random = np.random.RandomState(SEED)

    def harmed():
        while True:
            constants.write_bytes(harm(numbers, random) if random.rand() < 0.3 else numbers)
            yield harm(whole, random)

    assert endure(xml, harmed())["refused"] > 0
