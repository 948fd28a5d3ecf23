"""Writing tags and notes beside a run, several people at once without losing each other's words.

Every change is read, modified and written under a lock that other threads and other processes respect, and touches one
field of one unit: a tag that is put on or taken off, or the text of the note. What is written is whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from dissect import Run
from dissect.disk import exclusively, replacing
from dissect.notes import Note, Notes, notes_content, notes_path, read_notes
from segmodels import GanatomyError

SUGGESTED = ("artifact", "interesting")
LONGEST_TAG, MOST_TAGS, LONGEST_NOTE = 40, 20, 10_000

_LAST: dict[tuple[str, str, int], tuple[Writer, str]] = {}  # whose text a unit's note is, of those written here


class Writer(NamedTuple):
    """Who writes: the name of one open panel, and its how manieth change this is."""

    name: str
    turn: float


class Conflict(GanatomyError):  # noqa: N818 (nothing went wrong)
    """Someone else has written the note meanwhile; nothing was written."""


class Notebook:
    """The tags and notes of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.path = notes_path(run.path)

    def read(self) -> Notes:
        """Return all notes by (layer, unit); GanatomyError if the file is damaged or another run's."""
        return read_notes(self.path, self._run.id)

    def of(self, layer: str, unit: int) -> Note:
        """Return the note of one unit, an empty one if there is none."""
        return self.read().get((layer, unit), Note())

    def tags(self) -> list[str]:
        """Return all tags in use, the most frequent first, and the suggested ones."""
        counts = Counter(tag for note in self.read().values() for tag in note.tags)
        return [tag for tag, _ in counts.most_common()] + [tag for tag in SUGGESTED if tag not in counts]

    def tag(self, layer: str, unit: int, tag: str, on: bool = True) -> Note:
        """Put a tag on a unit or take it off, and return the unit's note as it is now.

        Raises:
            GanatomyError: for a tag of no or too many characters, one tag too many, a unit that is not in the run, a
                file that is damaged or another run's (it is left as it is), or a disk that is full.
        """
        text = clean_tag(tag)

        def change(note: Note) -> Note:
            tags = set(note.tags) | {text} if on else set(note.tags) - {text}
            if len(tags) > max(MOST_TAGS, len(note.tags)):
                raise GanatomyError(f"a unit has at most {MOST_TAGS} tags; take one off first")
            return replace(note, tags=tuple(sorted(tags)))

        return self._change(layer, unit, change)

    def write(self, layer: str, unit: int, text: str, before: str | None = None, writer: Writer | None = None) -> Note:
        """Write the text of a unit's note, and return the note as it is now.

        Args:
            layer, unit: whose.
            text: "" removes it.
            before: the text that was there when it was opened; if it has changed since, nothing is written.
            writer: whose own earlier texts are no conflict, though their answers have not come back yet; what arrives
                after a later turn of the same writer is left out.

        Raises:
            Conflict: if someone else has written meanwhile.
            GanatomyError: as :meth:`tag`.
        """
        words = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no character
        words = words.replace("\r\n", "\n").strip()
        if len(words) > LONGEST_NOTE:
            raise GanatomyError(f"a note has at most {LONGEST_NOTE:,} characters, this one has {len(words):,}")

        key = (os.path.realpath(self.path), layer, unit)

        def change(note: Note) -> Note:
            last, left = _LAST.get(key, (None, ""))
            own = writer is not None and last is not None and last.name == writer.name and left == note.note
            if own and last is not None and writer is not None and writer.turn < last.turn:
                return note
            if not own and before is not None and note.note not in (before, words):
                raise Conflict("someone else has written this note meanwhile; reload the page to see it")
            _LAST.pop(key, None)
            if writer is not None:
                _LAST[key] = writer, words
            return replace(note, note=words)

        return self._change(layer, unit, change)

    def _change(self, layer: str, unit: int, change: Callable[[Note], Note]) -> Note:
        if not 0 <= unit < self._run.layer(layer).units_count:
            raise GanatomyError(f"layer {layer!r} has no unit {unit}")
        with exclusively(self.path):
            notes = dict(self.read())
            old = notes.get((layer, unit), Note())
            new = change(old)
            if new == old:
                return old
            notes[layer, unit] = replace(new, changed=datetime.now(UTC).isoformat(timespec="seconds"))
            content = json.dumps(notes_content(self._run.id, notes), indent=1, ensure_ascii=False)
            with replacing(self.path) as file:
                file.write(content.encode("utf-8"))
            return notes[layer, unit]


def clean_tag(text: str) -> str:
    """Return a tag in one line and lower case, without space around it; GanatomyError if nothing or much is left."""
    tag = " ".join(text.split()).lower()
    if not tag or len(tag) > LONGEST_TAG or not tag.isprintable():
        raise GanatomyError(f"expected a tag of 1 to {LONGEST_TAG} characters, got {tag[: LONGEST_TAG + 1]!r}")
    return tag
