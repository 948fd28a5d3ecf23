"""Tags and notes that people give to units: the file ``run.notes.json`` beside ``run.h5``, read only.

It is JSON, to be read without this program::

    {"format": "ganatomy.notes", "version": 1, "run": "0123456789abcdef",
     "units": {"main.5": {"154": {"tags": ["mouth"], "note": "also teeth", "changed": "2026-11-23T10:00:00+00:00"}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmodels import GanatomyError

FORMAT, VERSION = "ganatomy.notes", 1
LARGEST = 64 << 20  # bytes; a file that is larger was not written by people


@dataclass(frozen=True)
class Note:
    """What people say of a unit.

    Attributes:
        tags: in alphabetical order. note: free text. changed: when, ISO 8601 in UTC; "" if never.
    """

    tags: tuple[str, ...] = ()
    note: str = ""
    changed: str = ""

    def __bool__(self) -> bool:
        return bool(self.tags or self.note)


Notes = Mapping[tuple[str, int], Note]


def notes_path(run_path: Path) -> Path:
    """Return where the notes of a run lie."""
    return run_path.with_name(run_path.stem + ".notes.json")


def read_notes(path: Path, run_id: str) -> Notes:
    """Return the notes of a run by (layer, unit); none if there is no file.

    Raises:
        GanatomyError: if the file is damaged, belongs to another run, or was written by a newer version.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise GanatomyError(f"{path} is too large to be notes; move it away to begin new ones")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise GanatomyError(f"{path} holds something other than notes; move it away to begin new ones")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise GanatomyError(f"{path} has format version {content.get('version')}, this ganatomy reads {VERSION}")
    if content.get("run") != run_id:
        raise GanatomyError(
            f"{path} belongs to another run ({content.get('run')}, not {run_id}); move it away to begin new ones"
        )
    try:
        return {
            (str(layer), int(unit)): _note(entry)
            for layer, units in content["units"].items()
            for unit, entry in units.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def notes_content(run_id: str, notes: Notes) -> dict[str, Any]:
    """Return what such a file holds, ready for JSON; units without tag and note are left out."""
    units: dict[str, dict[str, Any]] = {}
    for (layer, unit), note in sorted(notes.items()):
        if note:
            entry = {"tags": list(note.tags), "note": note.note, "changed": note.changed}
            units.setdefault(layer, {})[str(unit)] = entry
    return {"format": FORMAT, "version": VERSION, "run": run_id, "units": units}


def _note(entry: Any) -> Note:
    tags, note, changed = entry["tags"], entry["note"], entry.get("changed", "")
    if not isinstance(tags, list) or not all(isinstance(text, str) for text in [*tags, note, changed]):
        raise TypeError("tags, note and changed are texts")
    return Note(tuple(sorted(set(tags))), note, changed)


def _damaged(path: Path) -> GanatomyError:
    return GanatomyError(f"{path} is damaged and is left as it is; mend it, or move it away to begin new notes")
