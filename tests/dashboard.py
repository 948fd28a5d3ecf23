"""What the tests of the dashboard share: runs, a server in a thread, and a browser that tells what it did."""

import contextlib
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import dissect
import segmodels
from app import server
from app.library import Library
from app.safety import guard

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")  # the first draws no window: a sixth faster
CHROMIUM = os.environ.get("GANATOMY_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
LAYERS = ["layer1", "layer3"]
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="session")
def planted_file(tmp_path_factory):
    """A finished run of 128 units, of which 42 are labelled."""
    path = tmp_path_factory.mktemp("dashboard") / "planted.h5"
    dissect.run(dissect.load("planted:0"), segmodels.load("planted"), LAYERS, samples=120, out=path)
    return path


@pytest.fixture(scope="session")
def second_file(planted_file):
    """The same generator, other seeds."""
    path = planted_file.with_name("second.h5")
    dissect.run(dissect.load("planted:0"), segmodels.load("planted"), LAYERS, seeds=range(60, 160), out=path)
    return path


@contextlib.contextmanager
def serving(files, folder=None, host="127.0.0.1", watch=None, tables=True):
    """Serve files in a thread, their tables computed or not; yields (address, Dash app)."""
    watch = watch or guard(host)
    context = server.context_of(Library([Path(f) for f in files], folder))
    for run in context.library.runs if tables else ():
        assert run.layers  # which computes them
    app = server.build(context, watch)
    listening = server.listen(host, 0)
    running = server.server_of(app, listening)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", app
    finally:
        running.close()
        context.engine.close()


@pytest.fixture(scope="module")  # not of the session: one process may drive only one browser at a time
def chromium():
    """A browser that knows no other machine; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium-headless-shell, or name one in GANATOMY_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, ONLY_HERE])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """A page of a browser context of its own, and what went wrong on it."""

    page: object
    address: str
    troubles: list = field(default_factory=list)
    asked: set = field(default_factory=set)  # requests that have no answer yet

    def visit(self, path, wait="main"):
        self.page.goto(self.address + path)
        self.settle(wait)
        return self

    def settle(self, wait="main"):
        self.page.wait_for_selector(wait)
        self.until("() => !document.querySelector('[data-dash-is-loading]')")
        quiet = 0
        while quiet < 3:  # looks in a row, 50 ms each: what an answer leads to may ask again
            self.page.wait_for_timeout(50)
            quiet = 0 if self.asked else quiet + 1

    def path(self):
        return self.page.evaluate("location.pathname + location.search")

    def mark(self, root, seed, box):
        """Draw a box, in shares of the image's side, on the image of a seed that an editor of masks shows."""
        self.until(f"seed => document.querySelector('#{root}').dataset.ready === String(seed)", seed)
        self.page.click(f"#{root} >> text=box")
        canvas = self.page.query_selector(f"#{root} canvas")
        canvas.scroll_into_view_if_needed()
        place, (left, top, right, bottom) = canvas.bounding_box(), box
        self.page.mouse.move(place["x"] + left * place["width"], place["y"] + top * place["height"])
        self.page.mouse.down()
        self.page.mouse.move(place["x"] + right * place["width"], place["y"] + bottom * place["height"], steps=3)
        self.page.mouse.up()

    def until(self, expression, argument=None):
        """Wait until an expression is true in the page. The page's own policy forbids it to poll by itself."""
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(expression, argument):
            assert time.monotonic() < end, f"waited in vain for {expression}, {argument}"
            self.page.wait_for_timeout(50)


@pytest.fixture
def visitors(chromium):
    """Opens visitors; fails the test if one saw a console error, a failed request, or another machine."""
    opened = []

    def open_visitor(address, scheme="light", width=1280, allowed=()):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visitor = Visitor(page, address)

        def trouble(text):
            if not any(part in text for part in allowed):
                visitor.troubles.append(text)

        def asked(request):
            if not request.url.startswith((address + "/", "data:", "blob:")):
                trouble(f"asked for {request.url}")

        page.on("console", lambda m: trouble(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: trouble(f"error: {e}"))
        page.on("request", asked)
        page.on("request", lambda request: visitor.asked.add(request))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: visitor.asked.discard(request))
        page.on("response", lambda r: trouble(f"{r.status}: {r.url}") if r.status >= 400 else None)
        opened.append((context, visitor))
        return visitor

    yield open_visitor
    troubles = [text for _, visitor in opened for text in visitor.troubles]
    for context, _ in opened:
        context.close()
    assert not troubles, troubles
