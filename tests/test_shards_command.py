"""Plan, shards and merge from the command line, and many processes under torchrun."""

import json
import os
import subprocess
import sys

import pytest
from helpers import differing

import dissect
import segmodels
from app.cli import run as cli
from app.commands.dissect import parse_bytes, parse_shard
from dissect import GanatomyError
from dissect.distributed import Ranks, shard_file

BASE = ["dissect", "planted:5", "--segmenter", "planted", "--samples", "60", "--layer", "layer1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run.h5"
    return dissect.run(dissect.load("planted:5"), segmodels.load("planted"), ["layer1"], 60, out).path


def test_plan_shards_merge(finished, tmp_path, capsys):
    plan, out = str(tmp_path / "plan.h5"), tmp_path / "run.h5"
    assert cli([*BASE, "--plan", plan, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == plan
    for i in (2, 1, 3):
        assert cli([*BASE, "--plan", plan, "--shard", f"{i}/3", "--out", str(out)]) == 0
    shards = [str(shard_file(out, i, 3)) for i in (1, 2, 3)]
    assert shards[0].endswith("run.shard-1-of-3.h5")
    assert cli(["merge", *reversed(shards), "--out", str(out)]) == 0
    assert "labelled" in capsys.readouterr().out
    assert [name for name in differing(finished, out) if not name.endswith(("mean", "second_moment"))] == []
    assert cli(["merge", *shards, "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_wrong_use_is_told_in_a_line(tmp_path, capsys):
    for arguments, words in (
        (["--shard", "1/3"], "--shard needs the --plan"),
        (["--shard", "3", "--plan", "x"], "expected I/N such as 3/16, got '3'"),
        (["--shard", "a/b", "--plan", "x"], "expected I/N"),
        (["--shard", "1/3", "--plan", str(tmp_path / "none.h5")], "no such file"),
        (["--memory", "much"], "expected a size such as 800M or 4G, got 'much'"),
        (["--memory", "1K"], "one layer alone takes"),
        (["--memory", "-1G"], "expected a size"),
    ):
        assert cli([*BASE, *arguments, "--out", str(tmp_path / "run.h5")]) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()
        assert words in said[-1], (arguments, said)
    assert cli(["merge", str(tmp_path / "none.h5"), "--out", str(tmp_path / "run.h5")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_told_in_a_line(tmp_path, capsys):
    partial = tmp_path / "run.h5.partial"
    partial.mkdir()
    (partial / "state.h5").write_bytes(b"nothing")
    assert cli([*BASE, "--out", str(tmp_path / "run.h5")]) == 0
    assert "set aside as run.h5.partial.damaged-1" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "value"), [("800M", 8e8), ("4G", 4e9), ("1.5GB", 1.5e9), ("2GiB", 2e9), ("123", 123), ("10k", 1e4)]
)
def test_sizes(text, value):
    assert parse_bytes(text) == value


def test_shards_are_counted_from_one():
    assert parse_shard("3/16") == (3, 16)
    for text in ("3", "3/", "/3", "-1/4", "1/2/3", "1.0/2"):
        with pytest.raises(GanatomyError, match="--shard"):
            parse_shard(text)


def test_ranks_are_read_off_the_environment():
    told = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "x"}
    ranks = Ranks.of(told)
    assert (ranks.rank, ranks.local, ranks.world) == (5, 1, 8)
    assert (ranks.device("cuda"), ranks.device("cpu"), ranks.device("cuda:3")) == ("cuda:1", "cpu", "cuda:3")
    assert Ranks.of({}) is None
    assert Ranks.of(told | {"WORLD_SIZE": "1"}) is None
    assert Ranks.of({"RANK": "0", "WORLD_SIZE": "2"}) is None


def torchrun(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANATOMY")}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2",
        "--no-python", sys.executable, *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder, env=environment)


WORKER = """
import os, signal, sys
from pathlib import Path
import dissect
from dissect import passing
passing.CHECKPOINT_SECONDS = 0.0
real = passing.count_atom
def count_atom(forward, batches, accumulator, atom, progress):
    mark = Path("killed")
    if os.environ["RANK"] == "1" and atom == 15 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f"counted-{atom}").open("a").write("x")
    real(forward, batches, accumulator, atom, progress)
passing.count_atom = count_atom
from app.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="torchrun is tested on Linux")
def test_two_ranks_one_of_which_dies(finished, tmp_path):
    """Rank 1 is killed in mid-shard; torchrun starts both again, and nothing that was kept is counted twice."""
    (tmp_path / "worker.py").write_text(WORKER)
    done = torchrun(tmp_path, "worker.py", *BASE, "--out", "run.h5")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "killed").exists()
    counted = {int(p.name.split("-")[1]): len(p.read_text()) for p in tmp_path.glob("counted-*")}
    assert sorted(counted) == list(range(20))
    assert all(counted[atom] == 1 for atom in range(10, 15)), counted  # rank 1's, from its checkpoint
    far = differing(finished, tmp_path / "run.h5")
    assert [name for name in far if not name.endswith(("/mean", "second_moment", "concept_mean"))] == []
    left = {path.name for path in tmp_path.iterdir()} - {p.name for p in tmp_path.glob("counted-*")}
    assert left == {"worker.py", "killed", "run.h5", "run.cache.npz"}
    assert done.stdout.count("labelled") == 1


def namespaces(*commands):
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True, timeout=20)


@pytest.fixture
def two_hosts():
    """Two network namespaces that reach each other alone; skipped where they cannot be made."""
    names = [f"ganatomy-{os.getpid()}-{i}" for i in (0, 1)]
    ends = [f"gan{os.getpid() % 100_000}{end}" for end in "ab"]
    try:
        try:
            namespaces(*(f"netns add {name}" for name in names))
            namespaces(f"link add {ends[0]} type veth peer name {ends[1]}")
            for name, end, address in zip(names, ends, ("10.77.0.1/24", "10.77.0.2/24"), strict=True):
                inside = f"netns exec {name} ip"
                namespaces(f"link set {end} netns {name}", f"{inside} addr add {address} dev {end}")
                namespaces(f"{inside} link set {end} up", f"{inside} link set lo up")
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_two_hosts_share_a_folder(two_hosts, finished, tmp_path):
    """One rank on each of two hosts that share nothing but a network and a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANATOMY")}
    running = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
             "--nproc-per-node", "1", "--node-rank", str(rank), "--master-addr", "10.77.0.1", "--master-port", "29577",
             "--no-python", sys.executable, "-c", "from app.start import main; main()", *BASE, "--out", "run.h5"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, host in enumerate(two_hosts)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=150) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said[0][1][-1500:] + said[1][1][-1500:]
    far = differing(finished, tmp_path / "run.h5")
    assert [name for name in far if not name.endswith(("/mean", "second_moment", "concept_mean"))] == []
    assert len(dissect.open(tmp_path / "run.h5").reader.json("parts")) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"run.h5", "run.cache.npz"}
