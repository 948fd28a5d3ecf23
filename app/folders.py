"""Folders that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from dissect.disk import check_folder_of
from segmodels import GanatomyError

FULL = {errno.ENOSPC, errno.EDQUOT}
LONGEST_NAME = 80
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}


@contextlib.contextmanager
def replacing(out: Path, marker: str) -> Iterator[Path]:
    """Give a new folder to write into, which becomes ``out`` when the block ends without an error.

    Args:
        out: the folder to make. What is there now is replaced if it is empty or holds ``marker``.
        marker: the file by which a folder of this kind is known; the block writes it.

    Raises:
        GanatomyError: if ``out`` is something else, or cannot be written. What was at ``out`` is then still there.
    """
    out = Path(os.path.abspath(out))
    with _one_line(out):
        _check(out, marker)
        new = out.with_name(f".{out.name}.{secrets.token_hex(4)}.new")
        try:
            new.mkdir()
            yield new
            _check(out, marker)
            _swap(new, out)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _one_line(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise GanatomyError(f"the disk is full: cannot write {out}; free some space and try again") from error
        raise GanatomyError(f"cannot write {out}: {error.strerror or error}") from error


def _check(out: Path, marker: str) -> None:
    check_folder_of(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise GanatomyError(f"{out} is there already and is not a folder; choose another output")
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise GanatomyError(f"{out} holds something else (no {marker}); choose another output or an empty folder")


def _swap(new: Path, out: Path) -> None:
    if not out.exists():
        new.rename(out)
        return
    old = new.with_suffix(".old")
    out.rename(old)
    try:
        new.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Return a file name for each name: ASCII, safe on every system and in a URL, different whatever the case."""
    taken: set[str] = set()
    result = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST_NAME].strip(".-") or "layer"
        if plain.split(".")[0].casefold() in RESERVED:
            plain = f"{plain.split('.')[0]}-{plain}"
        candidate, number = plain, 2
        while candidate.casefold() in taken:
            candidate, number = f"{plain}-{number}", number + 1
        taken.add(candidate.casefold())
        result[name] = candidate
    return result
