"""Who may talk to the dashboard, and what can be made to read or do."""

import functools
import http.client
import re
import subprocess
import sys
import time

import pytest
from dashboard import planted_file, serving  # noqa: F401

from app import cli, server
from app.library import Library
from app.pdf import pdf_of_svg
from app.safety import BODY_BYTES, guard, host_name, is_loopback
from segmodels import GanatomyError

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100" viewBox="0 0 200 100">{}</svg>'


@functools.cache
def built(files, host):
    watch = guard(host)
    library = Library(files)
    for run in library.runs:
        assert run.layers  # computes their tables: with them nothing is refused because it comes too early
    return server.build(server.context_of(library), watch).server, watch


def client(files=(), host="127.0.0.1"):
    flask, watch = built(tuple(files), host)
    return flask.test_client(), watch


def status(web, path="/", host="127.0.0.1:8050", **headers):
    return web.get(path, headers={"Host": host, **{k.replace("_", "-"): v for k, v in headers.items()}}).status_code


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:9000", "[::1]:1", "LOCALHOST", "localhost.:80"])
def test_loopback_names_are_answered_at_any_port(host):
    web, _ = client()
    assert status(web, host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8050", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7:8050",
     "127.0.0.1:8050@evil.example", "evil.example#127.0.0.1", "127.0.0.1/evil", "", "[::1", "localhost:port"],
)  # fmt: skip
def test_other_names_are_refused(host):
    """A foreign name that is made to resolve to this machine (DNS rebinding) reaches nothing."""
    web, _ = client()
    for path in ("/", "/_dash-layout", "/style/favicon.svg", "/units/x.csv"):
        assert status(web, path, host) == 403


@pytest.mark.parametrize(
    ("origin", "code"),
    [("http://127.0.0.1:8050", 200), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:9999", 403),
     ("http://localhost:8050", 403), ("http://[", 403), ("", 403)],
)  # fmt: skip
def test_an_origin_must_be_the_host(origin, code):
    web, _ = client()
    assert status(web, "/_dash-layout", Origin=origin) == code
    got = web.post("/pdf", data=SVG.format(""), headers={"Host": "127.0.0.1:8050", "Origin": origin})
    assert got.status_code == code


def test_other_sites_may_link_but_not_embed():
    web, _ = client()
    assert status(web, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200
    assert status(web, "/sample/x/1.jpg", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
    assert status(web, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors") == 200


def test_another_address_wants_the_token_once():
    web, watch = client(host="0.0.0.0")
    host = "192.168.0.7:8050"
    assert len(watch.token) >= 32
    for path in ("/", "/_dash-layout", "/_dash-component-suites/dash/deps/polyfill.js", "/units/x.csv"):
        assert status(web, path, host) == 401
        assert status(web, path + "?token=" + watch.token[:-1] + "x", host) == 401
        assert status(web, path + "?token=", host) == 401
    entered = web.get(f"/unit/a/b/3?token={watch.token}", headers={"Host": host})
    assert entered.status_code == 303
    assert entered.headers["Location"] == "/unit/a/b/3"
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert watch.token not in cookie
    assert status(web, "/", host) == 200  # the test client keeps cookies, as browsers do
    assert status(web, "/", "evil.example") == 403
    assert status(web, "/", host, Origin="http://evil.example") == 403
    built.cache_clear()
    other, _ = client(host="0.0.0.0")
    other.set_cookie(watch.cookie, watch.proof, domain="192.168.0.7")
    assert status(other, "/", host) == 401  # another start, another token


def test_loopback_needs_no_token_and_gives_none():
    web, watch = client()
    assert watch.token is None
    assert status(web, "/?token=", "localhost") == 200
    assert status(web, "/?token=anything", "localhost") == 200


def test_another_name_on_loopback_wants_the_token_too():
    watch = guard("127.0.0.1", ["proxy.example"])
    context = server.context_of(Library())
    web = server.build(context, watch).server.test_client()
    context.engine.close()
    for host in ("proxy.example", "127.0.0.1:8050"):
        assert status(web, "/", host) == 401
    query = {"token": watch.token, "level": "3", "q": "a b&c"}
    entered = web.get("/%2Fevil.example/x", query_string=query, headers={"Host": "proxy.example"})
    assert entered.status_code == 303
    assert entered.headers["Location"] == "/evil.example/x?level=3&q=a+b%26c"
    assert status(web, "/", "proxy.example") == 200
    assert guard("127.0.0.1", ["LOCALHOST"]).token is None, "that is no other name"


@pytest.mark.parametrize(
    ("host", "named", "answered"),
    [("0.0.0.0", "10.1.2.3:80", True), ("0.0.0.0", "[fe80::1]:80", True), ("0.0.0.0", "proxy.example", False),
     ("10.1.2.3", "10.1.2.3:80", True), ("10.1.2.3", "10.9.9.9", False), ("127.0.0.1", "10.1.2.3", False)],
)  # fmt: skip
def test_names_that_fit_the_address(host, named, answered):
    assert guard(host).host_allowed(named) is answered
    assert guard(host, ["proxy.example"]).host_allowed("proxy.example:443")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("", False), ("10.0.0.1", False), ("example", False)],
)  # fmt: skip
def test_what_is_loopback(host, loopback):
    assert is_loopback(host) is loopback
    assert (guard(host).token is None) is loopback


def test_host_names_are_taken_apart():
    assert host_name("[::1]:80") == "::1"
    assert host_name("A.example:1") == "a.example"
    for bad in ("", "a b/c", "user@host", "host?x", "host:99999"):
        assert host_name(bad) is None or "/" not in host_name(bad)


def test_headers_are_on_every_answer():
    web, _ = client()
    for path, code in (("/", 200), ("/sample/x/1.jpg", 404), ("/nowhere/else", 200)):
        answer = web.get(path, headers={"Host": "localhost"})
        assert answer.status_code == code
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert "unsafe-inline" not in policy.split("style-src")[0]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "Server" not in answer.headers or "Werkzeug" not in answer.headers["Server"]


@pytest.mark.parametrize(
    "path",
    ["/style/../server.py", "/style/..%2fserver.py", "/style/%2e%2e/server.py", "/style/report.html",
     "/style/unit.html", "/assets/../server.py", "/assets/%2e%2e/server.py", "/assets/..%2f..%2fpyproject.toml",
     "/assets//etc/passwd", "/sample/../../etc/passwd/1.jpg", "/sample/%2e%2e%2fplanted/1.jpg",
     "/thumb/planted/..%2f..%2flayer1/1.jpg", "/units/..%2fplanted.csv", "/drawing/planted/layer1/1/..%2fx.svg",
     "/thumb/planted/layer1%2ftop/1.jpg"],
)  # fmt: skip
def test_no_path_leads_out(path, planted_file):  # noqa: F811
    web, _ = client([planted_file])
    answer = web.get(path, headers={"Host": "localhost"})
    assert answer.status_code == 404 or b"_dash-config" in answer.data
    for secret in (b"root:", b"import ", b"[project]", b"{% "):
        assert secret not in answer.data


def test_large_bodies_are_refused():
    web, _ = client()
    for path in ("/pdf", "/_dash-update-component"):
        data, kind = b"[" + b" " * BODY_BYTES, "application/json"
        answer = web.post(path, data=data, content_type=kind, headers={"Host": "localhost"})
        assert answer.status_code == 413


def test_a_large_body_is_not_even_read(planted_file):  # noqa: F811
    with serving([planted_file]) as (address, _):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
        connection.putrequest("POST", "/pdf")
        connection.putheader("Content-Length", str(BODY_BYTES * 100))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_no_debug_mode_and_no_traceback(planted_file):  # noqa: F811
    web, _ = client([planted_file])
    for path in ("/_dash-update-component", "/_dash-layout", "/_reload-hash", "/console", "/?__debugger__=yes&cmd=1"):
        for answer in (web.get(path, headers={"Host": "localhost"}), web.post(path, headers={"Host": "localhost"})):
            assert b"Traceback" not in answer.data
            assert b"__debugger__" not in answer.data.replace(b"?__debugger__", b"")
    page = web.get("/", headers={"Host": "localhost"}).data.decode()
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    config = web.get("/", headers={"Host": "localhost"}).data
    assert b'"hot_reload"' not in config
    assert b'"ui":true' not in config


# -- figures that come from a browser ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inside",
    ['<image href="file:///etc/passwd" width="9" height="9"/>', '<use href="/etc/passwd#a"/>', "<script>x()</script>",
     '<image xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="http://10.0.0.1/x.png" width="9" height="9"/>',
     '<rect width="9" height="9" style="fill:url(file:///etc/passwd)"/>', "<style>@import 'http://10.0.0.1/';</style>",
     "<foreignObject><iframe/></foreignObject>", '<text font-family="/etc/passwd">hello</text>'],
)  # fmt: skip
def test_nothing_in_a_figure_names_a_file(inside, monkeypatch):
    opened = []
    monkeypatch.setattr("socket.socket.connect", lambda *a: opened.append(a))
    real = open

    def watched(path, *rest, **named):
        if "passwd" in str(path):
            opened.append(path)
        return real(path, *rest, **named)

    monkeypatch.setattr("builtins.open", watched)
    assert pdf_of_svg(SVG.format(inside + '<rect x="1" y="1" width="50" height="9"/>')).startswith(b"%PDF")
    assert not opened


@pytest.mark.parametrize(
    "text",
    ["", "no figure", "<html/>",
     '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + SVG.format("<text>&a;</text>"),
     '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + SVG.format("<text>&b;</text>"),
     SVG.replace("200", "99999999").format(""), SVG.replace('width="200"', 'width="NaN"').format(""),
     SVG.format("<g>" * 400 + "</g>" * 400), SVG.format('<path d="M0"/>' * 60000)],
)  # fmt: skip
def test_what_is_no_figure_is_refused_in_a_line(text):
    with pytest.raises(GanatomyError) as error:
        pdf_of_svg(text)
    assert "passwd" not in str(error.value)
    web, _ = client()
    answer = web.post("/pdf", data=text.encode(), headers={"Host": "localhost"})
    assert answer.status_code in (404, 413)
    assert answer.data.count(b"\n") <= 1


# -- the command ---------------------------------------------------------------------------------------------------


def begin(arguments):
    return subprocess.Popen(
        [sys.executable, "-c", "from app.start import main; main()", "app", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def started():
    running = []

    def start(*arguments):
        process = begin(arguments)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_the_command_serves_until_interrupted(planted_file, started):  # noqa: F811
    process = started(planted_file, "--port", "0")
    line = process.stdout.readline()
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)/$", line.strip()).group(1))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/style/favicon.svg")
    assert connection.getresponse().status == 200
    began = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0  # ending it is no failure
    assert time.monotonic() - began < 15
    assert "Traceback" not in err


def test_a_public_address_says_so_and_prints_the_token_once(planted_file, started):  # noqa: F811
    process = started(planted_file, "--host", "0.0.0.0", "--port", "0")
    line = process.stdout.readline()
    port, token = re.search(r"http://[^:]+:(\d+)/\?token=(\S{32,})$", line.strip()).groups()
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    for path, code in (("/", 401), (f"/?token={token}", 303)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == code
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert "other machines" in err
    assert token not in err
    assert token not in out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.h5", "no such file"),
        (lambda folder: _written(folder / "text.h5", b"not HDF5"), "not readable HDF5"),
        (lambda folder: folder, "no such file"),
    ],
)
def test_files_that_are_none_are_one_line(make, words, tmp_path, capsys):
    assert cli.run(["app", str(make(tmp_path)), "--port", "0"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def _written(path, data):
    path.write_bytes(data)
    return path


def test_a_taken_port_is_named():
    held = server.listen("127.0.0.1", 0)
    with pytest.raises(GanatomyError, match="is taken; choose one with --port"):
        server.listen("127.0.0.1", held.getsockname()[1])
    held.close()
    with pytest.raises(GanatomyError, match="cannot listen|no such address"):
        server.listen("203.0.113.7", 0)


def test_other_commands_do_not_wait_for_the_dashboard():
    code = "import app.cli, sys; sys.exit(bool({'dash', 'flask', 'waitress', 'reportlab', 'lxml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
