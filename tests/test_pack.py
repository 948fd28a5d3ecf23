"""A run, its effects and its notes as one file."""

from __future__ import annotations

import json
import zipfile

import pytest

import dissect
import segmodels
from app import cli
from dissect import GanatomyError
from dissect.effects.stored import effects_path
from dissect.notes import Note, notes_content, notes_path


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A run with a note and an effect beside it, and a cache, which is not packed."""
    generator, segmenter = dissect.load("planted:0"), segmodels.load("planted")
    run = dissect.run(generator, segmenter, ["layer2"], samples=16, out=tmp_path_factory.mktemp("pack") / "shapes.h5")
    assert run.layer("layer2").iou.any()
    found = notes_content(run.id, {("layer2", 3): Note(("red",), "a circle")})
    notes_path(run.path).write_text(json.dumps(found), encoding="utf-8")
    assert cli.run(["effect", str(run.path), "planted:0", "--layer", "layer2", "--units", "3", "--samples", "4"]) == 0
    assert effects_path(run.path).exists()
    return run


def test_what_is_unpacked_is_what_was_packed(complete, tmp_path):
    path = dissect.pack(complete, tmp_path / "mailed.zip")
    there = tmp_path / "there"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["shapes.h5", "shapes.effects.h5", "shapes.notes.json"]
        archive.extractall(there)
    for name in archive.namelist():
        assert (there / name).read_bytes() == complete.path.with_name(name).read_bytes()
    found = dissect.open(there / "shapes.h5")
    assert found.id == complete.id
    assert found.notes() == complete.notes()
    assert list(found.effects) == list(complete.effects)
    assert dissect.verify(found.path) == []


def test_the_command(complete, tmp_path, capsys):
    out = complete.path.with_suffix(".zip")
    assert cli.run(["pack", str(complete.path)]) == 0
    assert capsys.readouterr().out.split() == [f"{out}:", "shapes.h5,", "shapes.effects.h5,", "shapes.notes.json"]
    assert cli.run(["pack", str(complete.path)]) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert cli.run(["pack", str(complete.path), "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["bytes"]) == (str(out), out.stat().st_size)
    assert told["files"]["shapes.h5"] == complete.path.stat().st_size
    assert cli.run(["units", str(out)]) == 2
    assert "is a zip; unzip it" in capsys.readouterr().err


def test_what_cannot_be_packed_is_one_line_and_leaves_nothing(complete, tmp_path):
    own = tmp_path / "shapes.h5"
    own.write_bytes(complete.path.read_bytes())
    for wrong, words in ((tmp_path / "absent.h5", "no such file"), (tmp_path, "no such file")):
        with pytest.raises(GanatomyError, match=words):
            dissect.pack(wrong, tmp_path / "x.zip")
    with pytest.raises(GanatomyError, match="no such folder"):
        dissect.pack(own, tmp_path / "nowhere" / "x.zip")
    with pytest.raises(GanatomyError, match="exists"):
        dissect.pack(own, tmp_path, overwrite=True)
    with pytest.raises(GanatomyError, match="is to be packed"):
        dissect.pack(own, own, overwrite=True)
    notes_path(own).write_text(json.dumps(notes_content("f" * 16, {})), encoding="utf-8")
    with pytest.raises(GanatomyError, match="belongs to another run"):
        dissect.pack(own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes.h5", "shapes.notes.json"]
    assert own.read_bytes() == complete.path.read_bytes()
