"""Nothing is lost and nothing is trusted unseen: kills, damage, shards in any order, layers in several passes."""

import json
import random
import shutil
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import LONG, Stop, datasets, differing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import dissect
import segmodels
from dissect import GanatomyError, passing, slabs, store
from dissect.execute import run_shard, write_plan
from dissect.job import Job
from dissect.samples import Samples
from segmodels.errors import GanatomyWarning

N = 60
LAYERS = ["layer1", "layer3"]


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:5")


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("planted")


def job_for(generator, segmenter, out, **options):
    return Job(generator, segmenter, Samples(generator, seeds=range(N)), LAYERS, out, maxima=True, **options)


@pytest.fixture(scope="module")
def finished(generator, segmenter, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run.h5"
    return dissect.run(generator, segmenter, LAYERS, N, out, maxima=True).path


@pytest.fixture(scope="module")
def plan(generator, segmenter, tmp_path_factory):
    return write_plan(job_for(generator, segmenter, tmp_path_factory.mktemp("plan") / "plan.h5"))


@pytest.fixture(scope="module")
def shards(generator, segmenter, plan):
    """Five shards in files of their own."""
    made = []
    for i in range(1, 6):
        job = job_for(generator, segmenter, plan.with_name(f"shard-{i}.h5"), threads=1 + i % 2)
        made.append(run_shard(job, plan, i, 5))
    return made


# Killed

KEPT = N if LONG else 24  # samples of the run that is killed
KILLED = f"""
import json, math, os, random, signal, sys, time
from pathlib import Path
import dissect, segmodels
from dissect import passing, slabs
passing.CHECKPOINT_SECONDS = 0.0  # after every atom
slabs.HELD_BYTES = 0
out, rng, killed, found, whole = Path(sys.argv[1]), random.Random(0), 0, set(), None
while True:
    began, child = time.monotonic(), os.fork()  # which saves importing everything twenty times
    if not child:
        try:
            dissect.run(
                dissect.load("planted:5"), segmodels.load("planted"), {LAYERS}, {KEPT}, out, maxima=True, threads=1
            )
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if whole is not None and killed < 20:
        time.sleep(rng.uniform(0.02, 0.5) * whole)  # what was counted is kept, so that all of a run is reached
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    found |= {{path.name.split("-")[0] for path in Path(f"{{out}}.partial").glob("*")}}
    if os.WIFSIGNALED(status):
        killed += 1
    elif status or killed == 20:
        break
    else:  # tells how long a run takes (the first may have compiled); or was too quick for us: from the beginning
        whole = min(whole or math.inf, time.monotonic() - began)
        out.unlink()
print(json.dumps([killed, status, sorted(found)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_killed_at_any_moment(generator, segmenter, tmp_path):
    """kill -9 at twenty moments of a run that writes all the time; the last process is left to finish."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run.h5")], capture_output=True, text=True, timeout=1500
    )
    assert (done.returncode, done.stderr) == (0, "")
    killed, status, found = json.loads(done.stdout)
    assert (killed, status) == (20, 0)
    assert {"state.h5", "group"} <= set(found), "no checkpoint was ever left behind"
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]
    whole = dissect.run(generator, segmenter, LAYERS, KEPT, tmp_path / "whole.h5", maxima=True, threads=1)
    assert differing(whole.path, tmp_path / "run.h5") == []
    assert dissect.verify(tmp_path / "run.h5") == []


def test_a_checkpoint_is_never_later_than_a_minute(generator, segmenter, tmp_path, monkeypatch):
    """The clock is ours: atoms take 25 s, so a checkpoint comes after every second one."""
    clock, saved = [0.0], []

    class Clock:
        monotonic = staticmethod(lambda: clock[0])

    real = passing.count_atom

    def slow(*arguments):
        real(*arguments)
        clock[0] += 25.0

    monkeypatch.setattr(passing, "time", Clock)
    monkeypatch.setattr(passing, "count_atom", slow)
    monkeypatch.setattr(passing.Checkpoint, "save", lambda self, accumulator, header: saved.append(clock[0]))
    dissect.run(generator, segmenter, LAYERS, N, tmp_path / "run.h5")
    assert len(saved) > 5
    assert max(np.diff([0.0, *saved])) <= 60.0


# Damaged


def damaged(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        for _ in range(8):
            data[rng.randrange(2048, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("which", ["state.h5", "group-00.h5"])
def test_a_damaged_checkpoint_is_set_aside(finished, generator, segmenter, tmp_path, monkeypatch, which, how):
    monkeypatch.setattr(slabs, "HELD_BYTES", 0)
    out = tmp_path / "run.h5"
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, LAYERS, N, out, maxima=True, progress=Stop(40))
    damaged(tmp_path / "run.h5.partial" / which, how, random.Random(1))
    seen = []
    with pytest.warns(GanatomyWarning, match=r"set aside as run\.h5\.partial\.damaged-1"):
        run = dissect.run(generator, segmenter, LAYERS, N, out, maxima=True, progress=lambda d, t: seen.append(d))
    assert seen[0] < 10  # from the beginning
    assert differing(finished, run.path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5", "run.h5.partial.damaged-1"]


def test_a_missing_group_is_noticed(finished, generator, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "HELD_BYTES", 0)
    out = tmp_path / "run.h5"
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, LAYERS, N, out, maxima=True, progress=Stop(40))
    (tmp_path / "run.h5.partial" / "group-02.h5").unlink()
    with pytest.warns(GanatomyWarning, match="group-02"):
        run = dissect.run(generator, segmenter, LAYERS, N, out, maxima=True)
    assert differing(finished, run.path) == []


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_shard_is_refused_and_made_again(generator, segmenter, plan, shards, tmp_path, how):
    mine = [shutil.copy(path, tmp_path) for path in shards]
    mine = [tmp_path / path.name for path in shards]
    damaged(mine[2], how, random.Random(2))
    with pytest.raises(GanatomyError, match=r"shard-3\.h5 is .*damaged"):
        dissect.merge(mine, tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()
    with pytest.warns(GanatomyWarning, match=r"set aside as shard-3\.h5\.damaged-1"):
        run_shard(job_for(generator, segmenter, mine[2], threads=2), plan, 3, 5)
    assert differing(mine[2], shards[2]) == []


# Shards


def test_shards_in_any_order_are_the_whole(finished, shards, tmp_path):
    run = dissect.merge([shards[i] for i in (3, 0, 4, 2, 1)], tmp_path / "run.h5")
    assert close(finished, run.path) == []
    assert run.id == dissect.open(finished).id
    assert dissect.verify(run.path) == []
    told = run.reader.json("parts")
    assert [part["samples"] for part in told] == sorted(part["samples"] for part in told)
    assert [part["threads"] for part in told] == [2, 1, 2, 1, 2]
    assert {part["device"] for part in told} == {"cpu"}


FLOATS = ("mean", "second_moment", "concept_mean")


def close(a, b):
    """Names of datasets that differ: by a bit, or sums of floats by more than 1e-10 of their size."""
    left, right = datasets(a), datasets(b)
    far = []
    for name in differing(a, b):
        if not name.endswith(FLOATS) or not np.allclose(left[name], right[name], 1e-10, 0, equal_nan=True):
            far.append(name)
    return far


@settings(max_examples=20 if LONG else 4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_partition_of_the_atoms(finished, generator, segmenter, plan, tmp_path_factory, data):
    """Runs of atoms of any length, as shards of different counts would be, merged in any order."""
    folder = tmp_path_factory.mktemp("parts")
    atoms = job_for(generator, segmenter, folder / "x.h5").plan.atoms
    cuts = sorted(data.draw(st.sets(st.integers(1, atoms - 1), max_size=4)))
    edges = [0, *cuts, atoms]
    files = []
    for first, stop in pairwise(edges):
        job = job_for(generator, segmenter, folder / f"{first}.h5")
        job.plan = Between(job.plan.samples, job.plan.atom, range(first, stop))
        files.append(run_shard(job, plan, 1, 1))
    run = dissect.merge(data.draw(st.permutations(files)), folder / "run.h5")
    assert close(finished, run.path) == []


class Between(dissect.plan.Plan):
    """A plan whose only shard is a given range of atoms."""

    def __init__(self, samples, atom, atoms):
        super().__init__(samples, atom)
        object.__setattr__(self, "mine", atoms)

    def shard(self, index, count):
        return self.mine


def test_what_is_missing_or_there_twice_is_named(shards, tmp_path, generator, segmenter, plan):
    out = tmp_path / "run.h5"
    with pytest.raises(GanatomyError, match=r"samples 12:24 are in none of the shards"):
        dissect.merge([shards[i] for i in (0, 2, 3, 4)], out)
    with pytest.raises(GanatomyError, match=r"samples 48:60 are in none of the shards"):
        dissect.merge(shards[:4], out)
    with pytest.raises(GanatomyError, match=r"samples 24:36 are in both .*shard-3.h5 and .*shard-3.h5"):
        dissect.merge([*shards, shards[2]], out)
    half = run_shard(job_for(generator, segmenter, tmp_path / "half.h5"), plan, 1, 2)
    with pytest.raises(GanatomyError, match=r"samples 0:12 are in both"):
        dissect.merge([*shards, half], out)
    with pytest.raises(GanatomyError, match="no shards"):
        dissect.merge([], out)
    with pytest.raises(GanatomyError, match="part of a dissection, expected a dissection"):
        dissect.open(shards[0])
    with pytest.raises(GanatomyError, match="plan, expected a part"):
        dissect.merge([plan], out)
    assert not out.exists()


def test_shards_of_two_dissections(shards, tmp_path, generator, segmenter):
    other = write_plan(job_for(generator, segmenter, tmp_path / "plan.h5", top=3))
    made = run_shard(job_for(generator, segmenter, tmp_path / "other.h5", top=3), other, 2, 5)
    with pytest.raises(GanatomyError, match="two dissections .*top"):
        dissect.merge([shards[0], made, *shards[2:]], tmp_path / "run.h5")


def test_a_shard_keeps_to_its_plan(generator, segmenter, plan, tmp_path):
    with pytest.raises(GanatomyError, match=r"plan of another dissection \(top: "):
        run_shard(job_for(generator, segmenter, tmp_path / "a.h5", top=2), plan, 1, 5)
    theirs = store.Reader(plan, store.PLAN).json("manifest")["batch"]  # measured, so it differs between machines
    with pytest.raises(GanatomyError, match=r"another dissection .*batch"):
        run_shard(job_for(generator, segmenter, tmp_path / "a.h5", batch=1 if theirs != 1 else 2), plan, 1, 5)
    for index, count in ((0, 5), (6, 5), (-1, 5)):
        with pytest.raises(GanatomyError, match="expected a shard from 1 to 5"):
            run_shard(job_for(generator, segmenter, tmp_path / "a.h5"), plan, index, count)
    with pytest.raises(GanatomyError, match="only 20 atoms"):
        run_shard(job_for(generator, segmenter, tmp_path / "a.h5"), plan, 1, 21)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_resumes(generator, segmenter, plan, shards, tmp_path):
    job = job_for(generator, segmenter, tmp_path / "shard.h5", threads=2)
    with pytest.raises(KeyboardInterrupt):
        run_shard(job, plan, 3, 5, Stop(7))
    assert (tmp_path / "shard.h5.partial").is_dir()
    seen = []
    made = run_shard(job, plan, 3, 5, lambda done, total: seen.append((done, total)))
    assert seen[0][0] >= 6
    assert seen[-1] == (12, 12)
    assert differing(made, shards[2]) == []
    assert run_shard(job, plan, 3, 5) == made  # there already
    with pytest.raises(GanatomyError, match="other atoms"):
        run_shard(job, plan, 2, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["shard.h5"]


# Layers in several passes


def test_little_memory_takes_several_passes(finished, generator, segmenter, tmp_path):
    job = job_for(generator, segmenter, tmp_path / "run.h5")
    each = max(job.memory_of([name]).total for name in LAYERS)
    assert each < job.memory_of(LAYERS).total
    seen = []
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, LAYERS, N, job.out, maxima=True, memory=each, progress=Stop(N + 30))
    assert sorted(path.name for path in (tmp_path / "run.h5.partial").iterdir()) == ["pass-1.h5", "pass-2"]
    run = dissect.run(
        generator, segmenter, LAYERS, N, job.out, maxima=True, memory=each, progress=lambda d, t: seen.append((d, t))
    )
    assert seen[0][0] > N
    assert seen[-1] == (2 * N, 2 * N)
    assert differing(finished, run.path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]
    with pytest.raises(GanatomyError, match="one layer alone takes"):
        dissect.run(generator, segmenter, LAYERS, N, tmp_path / "b.h5", memory=each / 100)


@pytest.mark.parametrize("bytes_", [1, 20_000])
def test_how_many_batches_are_counted_together_changes_nothing(tmp_path, monkeypatch, bytes_):
    """Not even a bit of the sums of floats, whose order is that of the batches; nor do several passes."""
    torch.manual_seed(0)
    maps = [nn.ConvTranspose2d(8, 16, 4), nn.ReLU(), nn.ConvTranspose2d(16, 12, 4, 2, 1), nn.ReLU()]
    generator = dissect.load(nn.Sequential(*maps, nn.Conv2d(12, 3, 1), nn.Tanh()).eval(), z_dim=8)
    files = [tmp_path / f"{name}.h5" for name in "abc"]
    dissect.run(generator, segmodels.load("colors"), ["1", "3"], 60, files[0], batch=2)
    job = Job(generator, segmodels.load("colors"), Samples(generator, seeds=range(60)), ["1", "3"], files[2], batch=2)
    each = max(job.memory_of([name]).total for name in ("1", "3"))
    dissect.run(generator, segmodels.load("colors"), ["1", "3"], 60, files[2], batch=2, memory=each)
    monkeypatch.setattr(passing, "TOGETHER_BYTES", bytes_)
    dissect.run(generator, segmodels.load("colors"), ["1", "3"], 60, files[1], batch=2)
    assert differing(files[0], files[1]) == []
    assert differing(files[0], files[2]) == []


def test_an_unfinished_run_may_change_its_passes(finished, generator, segmenter, tmp_path):
    out = tmp_path / "run.h5"
    each = max(job_for(generator, segmenter, out).memory_of([name]).total for name in LAYERS)
    for memory, after in ((None, 30), (each, N + 30), (None, 20)):
        with pytest.raises(KeyboardInterrupt):
            dissect.run(generator, segmenter, LAYERS, N, out, maxima=True, memory=memory, progress=Stop(after))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = dissect.run(generator, segmenter, LAYERS, N, out, maxima=True, memory=each)
    assert differing(finished, run.path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_slabs_go_to_the_disk_and_come_back(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(slabs, "HELD_BYTES", 0)
    shelf = slabs.Slabs(tmp_path / "x")
    given_ = {g: {"a": rng.integers(0, 9, (2, 5, 7, 3)).astype(np.uint32)} for g in (3, 0)}
    for group, slab in given_.items():
        slab["a"][:, :, 4] = 0
        shelf.put(group, slab)
    assert shelf.groups == [0, 3]
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"group-00.h5", "group-03.h5"}
    again = slabs.Slabs(tmp_path / "x")
    again.restore([0, 3])
    for group, slab in given_.items():
        for shelf_ in (shelf, again):
            assert (shelf_.read(group, "a", slice(1, 4), 7) == slab["a"][:, 1:4]).all()
    assert again.read(1, "a", slice(None), 7) is None
    with pytest.raises(GanatomyError):
        again.restore([1])
    assert store.Reader(tmp_path / "x" / "group-00.h5", store.GROUP).read("groups/a/slab").shape[2] <= 6
