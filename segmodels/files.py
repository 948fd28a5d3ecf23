"""Files beside a segmenter: JSON read with one-line errors, bytes hashed for the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import GanatomyError

BLOCK = 1 << 20  # bytes read at a time: weights need not fit in memory twice


def read_json(path: Path) -> Any:
    """Return what the JSON file holds. Raises GanatomyError if it cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GanatomyError(f"cannot read {path}: {one_line(error)}") from error
    except json.JSONDecodeError as error:
        raise GanatomyError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error


def hash_files(paths: Iterable[Path], *extra: str) -> str:
    """Return the SHA-256 (hex) over names, sizes and bytes of the files in the given order, then over ``extra``."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            # The size keeps two files from being mistaken for one longer one.
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except OSError as error:
            raise GanatomyError(f"cannot read {path}: {one_line(error)}") from error
    for text in extra:
        digest.update(text.encode())
    return digest.hexdigest()


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the text of any exception as one line of at most ``limit`` characters, for use inside a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(keys: Iterable[object], count: int = 3) -> str:
    """Return the first few of some names for a message: they are a stranger's text and must stay one line."""
    listed = [str(key) for key in keys]
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    clean = ["".join(c if c.isprintable() else "?" for c in key[:80]) for key in listed[:count]]
    return ", ".join(clean) + more
