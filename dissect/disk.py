"""Files that are written whole or not at all, also when the disk fills up."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmodels import GanatomyError

from .interrupts import undisturbed

try:
    import fcntl
except ImportError:  # not on this system: then threads alone are kept apart
    fcntl = None  # type: ignore[assignment]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class PatientFile:
    """A binary file for a writer that cannot bear failing writes: the first error is kept in ``error``.

    HDF5 crashes the process when it cannot flush. So after an error, writes go to memory and are served from there,
    which lets it close in peace; whoever owns this file looks at ``error`` (soon, so that little is kept) and
    throws the file away.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb+", buffering=0)
        self._position = 0
        self._late: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write at the current position."""
        raw = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(raw):
            try:
                self._file.seek(self._position)
                count = self._file.write(raw[done:]) or 0
                done += count
                self._position += count
            except OSError as error:
                self.error = error
        if done < len(raw):
            self._late.append((self._position, bytes(raw[done:])))
            self._position += len(raw) - done
        return len(raw)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read at the current position; what was never written reads as zeros once there was an error."""
        target = memoryview(buffer).cast("B")
        self._file.seek(self._position)
        count = self._file.readinto(target) or 0
        if self.error is not None:
            target[count:] = bytes(len(target) - count)
            count = len(target)
            for start, data in self._late:
                first, last = max(start, self._position), min(start + len(data), self._position + count)
                if first < last:
                    target[first - self._position : last - self._position] = data[first - start : last - start]
        self._position += count
        return count

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes from the current position."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; the end is that of everything written."""
        late = max((start + len(data) for start, data in self._late), default=0)
        end = max(os.fstat(self._file.fileno()).st_size, late)
        self._position = offset + (0, self._position, end)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def truncate(self, size: int) -> int:
        """Set the size."""
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def finish(self) -> None:
        """Bring everything to the disk and close; raises OSError for the first error there was."""
        try:
            if self.error is not None:
                raise self.error
            os.fsync(self._file.fileno())
        finally:
            self._file.close()


def check_folder_of(out: Path) -> None:
    """Raise GanatomyError if the folder that an output is to go into is not there."""
    if not out.parent.is_dir():
        raise GanatomyError(f"no such folder for the output: {out.parent}; make it first")


@contextmanager
def replacing(path: Path) -> Iterator[PatientFile]:
    """Write a file beside ``path`` and put it there when the block ends well. Ctrl-C waits until the end.

    Raises:
        GanatomyError: if the disk is full or the folder cannot be written; what was at ``path`` is still there.
    """
    # Two processes, or two threads, that write the same file do not write into each other's.
    temporary = path.with_name(f"{path.name}.{threading.get_native_id()}.tmp")
    with undisturbed():
        try:
            file = PatientFile(temporary)
            try:
                yield file
            finally:
                file.finish()
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except OSError as error:
            raise GanatomyError(_why(error, path)) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Keep other threads, and other processes where the file system can, from changing a file meanwhile.

    What is locked is the folder: the file itself is exchanged by every change, and one for locking would be litter.
    """
    with _LOCKS[os.path.realpath(path)], contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                handle = os.open(path.parent, os.O_RDONLY)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def orphans(path: Path) -> list[Path]:
    """Return what is left of a file that was being written when its process was killed."""
    begun = re.compile(re.escape(path.name) + r"\.\d+\.tmp")
    return [found for found in path.parent.iterdir() if begun.fullmatch(found.name)]


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _why(error: OSError, path: Path) -> str:
    if error.errno in FULL:
        return f"the disk is full: cannot write {path}; free some space and run the same command again"
    return f"cannot write {path}: {error.strerror or error}"
