"""Files that jobs have made for visitors, until they are fetched: each known by a token to whoever began its job."""

from __future__ import annotations

import shutil
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmodels import GanatomyError

KEPT = 6  # of whoever: they may be a gigabyte each


class Exports:
    """Keeps the last few files, in a folder of its own. May be called from any thread."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def made(self, token: str) -> Iterator[Path]:
        """Give an empty folder for one file or folder, which is kept under a token if all went well."""
        with self._lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="ganatomy-exports-")
            room = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            yield room
        except BaseException:
            shutil.rmtree(room, ignore_errors=True)
            raise
        (made,) = room.iterdir()
        path = zipped(made) if made.is_dir() else made
        with self._lock:
            self._files[token] = path
            while len(self._files) > KEPT:
                shutil.rmtree(self._files.popitem(last=False)[1].parent, ignore_errors=True)

    def file(self, token: str) -> Path:
        """Return the file of a token; GanatomyError if it is not there (any more)."""
        with self._lock:
            path = self._files.get(token)
        if path is None or not path.is_file():
            raise GanatomyError("this export is not kept any more; export again")
        return path

    def close(self) -> None:
        """Remove them all."""
        with self._lock:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None


def zipped(folder: Path) -> Path:
    """Return a folder of files as one zip beside it, not compressed: weights hardly shrink."""
    out = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return out
