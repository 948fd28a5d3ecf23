"""Tags and notes beside a run: what is kept, who writes at once, and files that are not ours to overwrite."""

import json
import subprocess
import sys
import threading

import pytest

import dissect
import segmodels
from app.notes import LONGEST_NOTE, LONGEST_TAG, MOST_TAGS, Conflict, Notebook, Writer, clean_tag
from app.pages.notes_panel import keep
from dissect import GanatomyError, disk
from dissect.notes import Note, notes_path, read_notes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "faces.h5"
    return dissect.run(dissect.load("planted:5"), segmodels.load("planted"), ["layer1", "layer2"], 20, out)


@pytest.fixture
def book(made):
    notes_path(made.path).unlink(missing_ok=True)
    yield Notebook(made)
    notes_path(made.path).unlink(missing_ok=True)


def test_what_is_written_is_read_again_by_anyone(book, made):
    assert book.of("layer1", 3) == Note()
    assert not book.of("layer1", 3)
    assert book.tag("layer1", 3, "  Two   Words ").tags == ("two words",)
    book.tag("layer1", 3, "artifact")
    book.write("layer1", 3, "Zähne, 歯\r\nand a second line  ")
    book.tag("layer2", 0, "artifact")
    note = dissect.open(made.path).notes()["layer1", 3]
    assert (note.tags, note.note) == (("artifact", "two words"), "Zähne, 歯\nand a second line")
    assert note.changed.startswith("20")
    content = json.loads((made.path.parent / "faces.notes.json").read_text(encoding="utf-8"))
    assert content["run"] == made.id
    assert content["units"]["layer1"]["3"]["tags"] == ["artifact", "two words"]
    assert book.tags() == ["artifact", "two words", "interesting"]
    book.tag("layer1", 3, "artifact", on=False)
    book.tag("layer1", 3, "never there", on=False)
    book.tag("layer1", 3, "two words", on=False)
    book.write("layer1", 3, "")
    assert set(book.read()) == {("layer2", 0)}, "a unit of which nothing is said is not kept"


def test_nothing_is_written_where_nothing_changes(book):
    book.tag("layer1", 1, "artifact")
    before = book.path.stat()
    book.tag("layer1", 1, "artifact")
    book.write("layer1", 1, "")
    assert book.path.stat().st_mtime_ns == before.st_mtime_ns
    assert book.path.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.tag("layer1", 64, "x"),
        lambda b: b.tag("layer1", -1, "x"),
        lambda b: b.tag("layer9", 0, "x"),
        lambda b: b.tag("layer1", 0, "  "),
        lambda b: b.tag("layer1", 0, "x" * (LONGEST_TAG + 1)),
        lambda b: b.tag("layer1", 0, "a\0b"),
        lambda b: b.tag("layer1", 0, "\ud800"),
        lambda b: b.write("layer1", 0, "x" * (LONGEST_NOTE + 1)),
    ],
)
def test_what_cannot_be_said(book, change):
    with pytest.raises(GanatomyError) as caught:
        change(book)
    assert "\n" not in str(caught.value)
    assert not book.path.exists()


def test_a_text_of_any_characters_can_be_written(book):
    book.write("layer1", 0, 'half a pair \ud800, "quotes" \\ \u2028 \x07')
    assert book.of("layer1", 0).note.startswith("half a pair")
    assert clean_tag("A\u00a0b") == "a b"


def test_a_unit_has_so_many_tags(book):
    for i in range(MOST_TAGS):
        book.tag("layer1", 0, f"t{i}")
    with pytest.raises(GanatomyError, match="at most 20 tags"):
        book.tag("layer1", 0, "one more")
    book.tag("layer1", 0, "t3", on=False)
    book.tag("layer1", 0, "one more")


FOREIGN = {"format": "ganatomy.notes", "version": 1, "run": "0" * 16, "units": {}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b'{"format": "ganatomy.notes", "ver', "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[1, 2]", "something other than notes"),
        (b'{"my": "file"}', "something other than notes"),
        (json.dumps(FOREIGN).encode(), "another run"),
        (json.dumps(FOREIGN | {"version": 2}).encode(), "format version 2"),
        (json.dumps(FOREIGN | {"version": "1"}).encode(), "format version"),
        ({"units": {"layer1": {"x": {"tags": [], "note": ""}}}}, "damaged"),
        ({"units": {"layer1": {"1": {"tags": "artifact", "note": ""}}}}, "damaged"),
        ({"units": {"layer1": {"1": {"tags": [1], "note": ""}}}}, "damaged"),
        ({"units": {"layer1": {"1": {"note": ""}}}}, "damaged"),
        ({"units": []}, "damaged"),
        ({"units": {"layer1": 3}}, "damaged"),
    ],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(book, made, content, words):
    data = content if isinstance(content, bytes) else json.dumps(FOREIGN | {"run": made.id} | content).encode()
    book.path.write_bytes(data)
    for attempt in (book.read, made.notes, lambda: book.tag("layer1", 0, "x"), lambda: book.write("layer1", 0, "x")):
        with pytest.raises(GanatomyError, match=words) as caught:
            attempt()
        assert book.path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert book.path.read_bytes() == data
    assert [p.name for p in book.path.parent.glob("*.tmp")] == []


def test_a_full_disk_loses_nothing(book, monkeypatch):
    book.write("layer1", 0, "before")
    data = book.path.read_bytes()

    class Full:
        def __init__(self, path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("dissect.disk.PatientFile", Full)
    with pytest.raises(GanatomyError, match="the disk is full"):
        book.write("layer1", 0, "after")
    assert book.path.read_bytes() == data


def test_a_note_that_someone_else_has_written_meanwhile(book):
    book.write("layer1", 0, "theirs")
    with pytest.raises(GanatomyError, match="someone else"):
        book.write("layer1", 0, "mine", before="")
    assert book.of("layer1", 0).note == "theirs"
    book.write("layer1", 0, "mine", before="theirs")
    assert book.write("layer1", 0, "mine", before="theirs").note == "mine", "the same words twice are no conflict"


def test_ones_own_earlier_text_is_no_conflict(book):
    book.write("layer1", 0, "one", "", Writer("mine", 1))
    book.write("layer1", 0, "one two", "", Writer("mine", 2))  # the answer to the first has not come back
    assert book.write("layer1", 0, "one", "", Writer("mine", 1)).note == "one two", "what comes late is left out"
    with pytest.raises(Conflict):
        book.write("layer1", 0, "theirs", "", Writer("other", 1))
    book.write("layer1", 0, "theirs", "one two", Writer("other", 2))
    with pytest.raises(Conflict):
        book.write("layer1", 0, "three", "one two", Writer("mine", 3))
    book.write("layer1", 0, "one two")  # the same words again, by nobody in particular
    with pytest.raises(Conflict):
        book.write("layer1", 0, "three", "", Writer("mine", 3))


WHERE = {"layer": "layer1", "unit": 0, "panel": "p", "tags": [], "note": "", "turn": 0, "refused": None}


def changed(turn, tags, text, on=(), off=()):
    return {"turn": turn, "tags": list(tags), "text": text, "on": list(on), "off": list(off)}


def test_a_panel_goes_on_though_answers_are_dropped(book):
    keep(book, changed(1, ["a"], "one", ["a"]), WHERE)
    said, where = keep(book, changed(2, [], "two", off=["a"]), WHERE)  # as if nothing had come back
    assert said == f"kept in {book.path.name}"
    assert (book.of("layer1", 0).tags, book.of("layer1", 0).note) == ((), "two")
    assert (where["tags"], where["note"], where["turn"]) == ([], "two", 2)


def test_a_panel_recovers_from_a_conflict(book):
    book.write("layer1", 0, "theirs")
    said, where = keep(book, changed(1, [], "mine"), WHERE)
    assert "someone else" in said
    assert "“theirs”" in said
    said, where = keep(book, changed(2, ["a"], "mine", ["a"]), where)  # a tag does not write the refused text
    assert (book.of("layer1", 0).tags, book.of("layer1", 0).note) == (("a",), "theirs")
    keep(book, changed(3, ["a"], "mine and theirs"), where)
    assert book.of("layer1", 0).note == "mine and theirs"


def test_one_bad_tag_hinders_nothing_else(book):
    long = "x" * (LONGEST_TAG + 1)
    said, where = keep(book, changed(1, [long, "Good"], "words", [long, "Good"]), WHERE)
    assert "expected a tag of 1 to 40" in said
    assert (where["tags"], where["note"]) == (["good"], "words")
    for i in range(MOST_TAGS - 1):
        book.tag("layer1", 0, f"t{i:02}")
    said, where = keep(book, changed(2, ["one more", "good"], "more words", ["one more"]), where)
    assert "at most 20 tags" in said
    assert where["note"] == book.of("layer1", 0).note == "more words"
    assert len(where["tags"]) == MOST_TAGS
    said, where = keep(book, changed(3, where["tags"], "y" * (LONGEST_NOTE + 1)), where)
    assert "at most 10,000" in said
    assert where["note"] == "more words"
    said, where = keep(book, changed(4, where["tags"][1:], "z", off=where["tags"][:1]), where)
    assert said.startswith("kept in")
    assert len(where["tags"]) == MOST_TAGS - 1


def test_two_sessions_change_different_fields_of_one_unit(made, book):
    other = Notebook(dissect.open(made.path))
    book.tag("layer1", 0, "artifact")
    other.write("layer1", 0, "words")
    other.tag("layer1", 0, "hair")
    book.tag("layer1", 0, "artifact", on=False)
    assert book.of("layer1", 0) == other.of("layer1", 0)
    assert (book.of("layer1", 0).tags, book.of("layer1", 0).note) == (("hair",), "words")


def test_many_threads_at_once_lose_nothing(made, book):
    threads = [
        threading.Thread(target=lambda t=t: [Notebook(made).tag("layer1", u, f"t{t}") for u in range(8)])
        for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {u: book.of("layer1", u).tags for u in range(8)} == {u: tuple(f"t{t}" for t in range(8)) for u in range(8)}


HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(disk.fcntl is None, reason="this system cannot lock files between processes")
def test_another_process_that_is_writing_is_waited_for(book):
    book.tag("layer2", 0, "before")
    folder = str(book.path.parent)
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        thread = threading.Thread(target=book.tag, args=("layer2", 0, "mine"))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it does not read while the other may be about to write"
        theirs = json.loads(book.path.read_text(encoding="utf-8"))
        theirs["units"]["layer2"]["0"]["tags"].append("theirs")
        book.path.write_text(json.dumps(theirs), encoding="utf-8")
        other.stdin.close()
        thread.join(20)
    assert book.of("layer2", 0).tags == ("before", "mine", "theirs")
    assert sorted(p.name for p in book.path.parent.iterdir() if "notes" in p.name) == [book.path.name]


def test_no_file_is_no_notes(tmp_path):
    assert read_notes(tmp_path / "none.json", "x") == {}
