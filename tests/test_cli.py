"""The command line as people use it: exit status, one line for wrong input, JSON and CSV."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import dissect
from app import cli, console


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run.h5"
    assert cli.run(["dissect", "planted:2", "--segmenter", "planted", "--samples", "200", "--out", str(path)]) == 0
    return path


def call(capsys, *arguments):
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_units_as_json_and_csv(run_file, capsys):
    status, out, _ = call(capsys, "units", run_file, "--json")
    rows = json.loads(out)
    assert status == 0
    assert len(rows) == 192
    assert set(rows[0]) == {
        "layer", "unit", "concept", "category", "iou", "chance_iou", "iou_heldout", "chance_heldout", "stderr",
        "information_ratio", "threshold", "average_precision", "labelled",
    }  # fmt: skip
    assert rows == dissect.open(run_file).table()
    _, out, _ = call(capsys, "units", run_file, "--csv", "--labelled", "--top", "7")
    table = list(csv.DictReader(io.StringIO(out)))
    assert len(table) == 7
    gains = [float(r["iou_heldout"]) - float(r["chance_heldout"]) for r in table]
    assert gains == sorted(gains, reverse=True)
    _, out, _ = call(capsys, "units", run_file, "--concept", "red", "--layer", "layer2", "--json")
    assert {(r["concept"], r["layer"]) for r in json.loads(out)} == {("red", "layer2")}
    status, out, _ = call(capsys, "units", run_file, "--top", "3")
    assert status == 0
    assert "iou heldout" in out


@pytest.mark.parametrize("command", [["generators", "list"], ["segmenters", "list"], ["cache", "list"]])
def test_lists(capsys, command):
    for flag in ([], ["--json"], ["--csv"]):
        assert call(capsys, *command, *flag)[0] == 0


def test_show(capsys):
    _, out, _ = call(capsys, "generators", "show", "planted:1", "--json")
    shown = json.loads(out)
    assert shown["resolution"] == 64
    assert [layer["name"] for layer in shown["layers"]] == ["layer1", "layer2", "layer3"]
    _, out, _ = call(capsys, "segmenters", "show", "planted", "--json")
    assert len(json.loads(out)["concepts"]) == 13
    assert call(capsys, "generators", "show", "planted:1")[0] == 0
    assert "lightness" in call(capsys, "segmenters", "show", "colors")[1]


def test_preview_draws(capsys, tmp_path):
    out = tmp_path / "grid.png"
    status, _, _ = call(
        capsys, "segmenters", "preview", "planted:1", "--segmenter", "planted", "--samples", 6, "--out", out
    )
    assert status == 0
    with Image.open(out) as picture:
        assert picture.width > 1000


def test_dry_run_writes_nothing(capsys, tmp_path):
    out = tmp_path / "run.h5"
    status, text, _ = call(
        capsys, "dissect", "planted:1", "--segmenter", "planted", "--samples", 100, "--out", out, "--dry-run", "--json"
    )
    assert status == 0
    names = {"samples", "layers", "seconds", "seconds_per_sample", "memory_bytes", "file_bytes", "passes"}
    assert set(json.loads(text)) == names
    assert list(tmp_path.iterdir()) == []


def test_verify(run_file, capsys, tmp_path):
    assert call(capsys, "verify", run_file)[:2] == (0, f"{run_file}: sound\n")
    raw = bytearray(run_file.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 64] = bytes(64)
    bad = tmp_path / "bad.h5"
    bad.write_bytes(raw)
    status, _, err = call(capsys, "verify", run_file, bad)
    assert status == 2
    assert "bad.h5" in err


def test_version_and_help(capsys):
    assert "ganatomy" in call(capsys, "--version")[1]
    assert "dissect" in call(capsys, "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dissect", "planed"], "unknown generator 'planed'; nearest: planted"),
        (["dissect", "planted:0", "--segmenter", "colrs"], "unknown segmenter 'colrs'; nearest: colors"),
        (["dissect", "planted:0", "--layer", "layr2"], "unknown layer 'layr2'; nearest: layer2"),
        (["dissect", "planted:0", "--samples", "0"], "positive number of samples, got 0"),
        (["dissect", "planted:0", "--samples", "-5"], "positive number of samples, got -5"),
        (["dissect", "planted:0", "--samples", "many"], "valid integer"),
        (["dissect", "planted:0", "--seeds", "9:3"], "is an empty range"),
        (["dissect", "planted:0", "--seeds", "x"], "--seeds: expected seeds such as"),
        (["dissect", "planted:0", "--z", "nowhere.npy"], "no such file"),
        (["dissect", "planted:0", "--seeds", "0:9", "--images", "."], "give only one"),
        (["dissect", "planted:0", "--device", "gpu"], "unknown device"),
        (["dissect", "planted:0", "--frobnicate"], "No such option"),
        (["dissect", "nowhere/model.pth"], "no such checkpoint"),
        (["dissect", "no.such.module:factory"], "no.such.module"),
        (["dissect", "planted:0,units=3"], "expected 29 to 4096 units, got 3"),
        (["dissect"], "Missing argument"),
        (["units", "nowhere.h5"], "no such file: nowhere.h5"),
        (["report", "nowhere.h5"], "no such file"),
        (["frobnicate"], "No such command"),
        (["segmenters", "preview", "planted:0", "--out", "nowhere/grid.png"], "no such folder"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *arguments)
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--concept", "rde"], ["--layer", "layer9"]])
def test_unknown_names_in_a_run(run_file, capsys, option):
    status, _, err = call(capsys, "units", run_file, *option)
    assert status == 2
    assert "nearest" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_says_how_to_go_on(tmp_path, number):
    out = tmp_path / "run.h5"
    command = [sys.executable, "-m", "app.cli", "dissect", "planted:0", "--segmenter", "planted"]
    command += ["--samples", "4000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run.h5.partial.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    said = " ".join(err.split())
    assert re.search(
        r"interrupted; (\d+ samples are|what was counted is) kept in \S+run.h5.partial. To go on: ganatomy diss", said
    )
    assert "Traceback" not in err
    assert (tmp_path / "run.h5.partial").exists()
    assert not out.exists()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce] DefaultCPUAllocator: can't")],
)
def test_too_little_memory_is_one_line(capsys, tmp_path, monkeypatch, error):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(dissect.Generator, "__call__", fail)
    status, _, err = call(capsys, "generators", "preview", "planted:0", "--out", tmp_path / "x.png")
    assert (status, err.count("\n")) == (2, 1)
    assert "too little memory" in err
    assert list(tmp_path.iterdir()) == []


def test_demo_falls_back_to_planted(capsys, tmp_path, monkeypatch):
    from segmodels import GanatomyError

    real = dissect.load

    def offline(source, *arguments, **keywords):
        if source == "digiface-dcgan64":
            raise GanatomyError("cannot fetch it and nothing is cached")
        return real(source, *arguments, **keywords)

    monkeypatch.setattr(dissect, "load", offline)
    status, out, _ = call(capsys, "demo", "--no-serve", "--samples", "64", "--folder", tmp_path / "demo")
    lines = [line for line in out.splitlines() if line.strip()]
    assert status == 0
    assert "could not be had" in lines[0]
    assert lines[0] == lines[-1]
    assert (tmp_path / "demo" / "planted-0.h5").exists()
    assert (tmp_path / "demo" / "planted-0-report" / "index.html").exists()


def test_an_interrupt_before_anything_is_imported_is_one_line():
    command = [sys.executable, "-c", "from app.start import main; main()", "generators", "list"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    if "nothing was begun" in error:  # else it came before this process had read its first line, or after the imports
        assert process.returncode == 130
        assert error.count("\n") == 1


def test_no_arguments_show_the_help(capsys):
    status, out, err = call(capsys)
    assert (status, err) == (2, "")
    assert "Commands:" in out
    assert out.count("\n") > 10


@pytest.mark.parametrize("name", ["nowhere_at_all:factory", "nowhere[bold]:factory"])
def test_a_name_is_printed_as_it_is(name, capsys):
    """No emoji, no markup."""
    status, _, err = call(capsys, "generators", "show", name)
    assert status == 2
    assert name in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_that_is_missing_is_told_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("app.commands.dissect.open_model", lambda *_: pytest.fail("loaded"))
    status, _, err = call(capsys, "dissect", "planted:0", "--out", tmp_path / "absent" / "run.h5")
    assert (status, err) == (2, f"ganatomy: no such folder for the output: {tmp_path / 'absent'}; make it first\n")


# -- tables in a narrow terminal --


ROWS = [{"layer": "layer1", "concept": "very light", "threshold": 1.25, "labelled": True, "what": "a long text " * 12}]


@pytest.mark.parametrize(("width", "columns"), [(80, 4), (38, 4), (37, 3)])
def test_words_are_whole_and_columns_are_left_out_where_a_terminal_is_narrow(width, columns, monkeypatch, capsys):
    narrow = console.Console(highlight=False, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "out", narrow)
    with narrow.capture() as captured:
        console.print_table(ROWS, {k: k for k in ROWS[0] if k != "what"}, spare=("threshold", "labelled"))
    words = captured.get().split()
    assert {"layer", "concept", "layer1", "very", "light"} <= set(words)
    assert ("threshold" in words, "labelled" in words) == (columns > 3, columns > 2)
    assert all(len(line) <= width for line in captured.get().splitlines())
    console.print_table(ROWS, below=("what",))
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(line.strip() for line in lines[2:]) == ROWS[0]["what"].strip()
    assert all(line.startswith("    ") and len(line) <= width for line in lines[2:])
