"""How long the dashboard takes to answer: the page of a unit, and the grid of a thousand units.

    python benchmarks/dashboard.py [run.h5] [--threads 2]

"server": from the arrival of a request to its last byte, the page's pictures included, each unit for the first time.
"browser": from the first request until the grid can be used, in Chromium on the same machine; its CPU time is that of
the page's main thread, else it is that of this process, so that a busy machine does not hide what the work is.
Without a run, one of 1,024 planted units is made.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from flask.testing import FlaskClient

import dissect
import segmodels
from app import server
from app.context import link
from app.library import Library, OpenRun
from app.safety import guard
from app.views import picture

UNITS = 40  # pages that are opened
REPEAT = 5  # of the grid
LOCAL = {"Host": "127.0.0.1"}
LAYERS = ["layer1", "layer2", "layer3", "layer4"]


def planted(folder: Path) -> Path:
    path = folder / "planted.h5"
    dissect.run(dissect.load("planted:7,units=256,layers=4"), segmodels.load("planted"), LAYERS, samples=200, out=path)
    return path


def page(web: FlaskClient, pathname: str) -> None:
    """Ask for a page's content as the browser does."""
    path, _, query = pathname.partition("?")
    inputs = [
        {"id": "address", "property": "pathname", "value": path},
        {"id": "address", "property": "search", "value": f"?{query}" if query else ""},
    ]
    outputs = [{"id": "bar", "property": "children"}, {"id": "page", "property": "children"}]
    body = {
        "output": "..bar.children...page.children..", "outputs": outputs, "inputs": inputs,
        "changedPropIds": ["address.pathname"],
    }  # fmt: skip
    answer = web.post("/_dash-update-component", json=body, headers=LOCAL)
    assert answer.status_code == 200, answer.text
    assert "cannot be shown" not in answer.text


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def say(name: str, found: list[tuple[float, float]]) -> None:
    wall, cpu = zip(*found, strict=True)
    worst = sorted(wall)[int(0.95 * (len(wall) - 1))]
    print(
        f"{name:34} median {statistics.median(wall):7.1f} ms, 95% {worst:7.1f} ms, CPU {statistics.median(cpu):7.1f} ms"
    )


def unit_with_pictures(web: FlaskClient, opened: OpenRun, layer: str, unit: int) -> None:
    page(web, link("unit", opened.slug, layer, unit))
    profile = opened.unit(layer, unit)
    wanted = [
        picture(opened, "tops", layer, unit, 30),
        link("drawing", opened.slug, layer, unit, "histogram.svg", bare=1),
    ]
    wanted += [picture(opened, "sample", int(seed)) for seed in profile.tops.seeds]
    wanted += [picture(opened, "thumb", layer, other) for other, _ in profile.correlated + profile.opposed]
    for address in wanted:
        web.get(address, headers=LOCAL)


USABLE = """() => document.querySelector('.ag-row a.strip') &&
    /units/.test(document.querySelector('#units-count').textContent)"""


def in_browser(address: str, opened: OpenRun, chromium: str, flags: list[str]) -> None:
    """Time the grid until its first row is there, its count is written and its controls answer."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        metrics = tab.context.new_cdp_session(tab)
        metrics.send("Performance.enable", {"timeDomain": "threadTicks"})

        def main_thread() -> float:
            return next(
                m["value"] for m in metrics.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"
            )

        def usable(action: Callable[[], object]) -> tuple[float, float]:
            wall, cpu = time.perf_counter(), main_thread()
            action()
            while not tab.evaluate(USABLE):
                tab.wait_for_timeout(5)
            return 1e3 * (time.perf_counter() - wall), 1e3 * (main_thread() - cpu)

        found = []
        for _ in range(REPEAT + 1):
            tab.goto("about:blank")
            found.append(usable(lambda: tab.goto(f"{address}/units/{opened.slug}", wait_until="commit")))
        say("grid, browser, whole page", found[1:])
        found = []
        for _ in range(REPEAT):
            tab.click("nav >> text=Concepts")
            tab.wait_for_selector("h2 >> text=Concepts")
            tab.wait_for_load_state("networkidle")
            found.append(usable(lambda: tab.click("nav >> text=Units")))
        say("grid, browser, from another page", found)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        library = Library([options.run or planted(Path(folder))])
        (opened,) = library.runs
        context = server.context_of(library)
        app = server.build(context, guard("127.0.0.1"))
        web = app.server.test_client()
        units = [(layer.name, unit) for layer in opened.layers for unit in range(layer.units)]
        print(f"{len(units)} units of {opened.title}")
        page(web, link("units", opened.slug))  # the tables are computed once for each file
        say("grid, server", [timed(lambda: page(web, link("units", opened.slug))) for _ in range(REPEAT)])
        some = units[:: max(1, len(units) // UNITS)][:UNITS]
        say("page of a unit, server", [timed(lambda u=u: page(web, link("unit", opened.slug, *u))) for u in some])
        others = units[1 :: max(1, len(units) // UNITS)][:UNITS]
        say("with all its pictures, server", [timed(lambda u=u: unit_with_pictures(web, opened, *u)) for u in others])
        thumbs = [timed(lambda u=u: web.get(picture(opened, "thumb", *u), headers=LOCAL)) for u in units[2::25]]
        say("a strip of the grid, server", thumbs)
        listening = server.listen("127.0.0.1", 0)
        running = server.server_of(app, listening)
        threading.Thread(target=running.run, daemon=True).start()
        with suppress(ImportError):
            import sys

            sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
            from dashboard import CHROMIUM, FLAGS

            if CHROMIUM is None:
                print("no Chromium here: nothing is measured in a browser")
            else:
                in_browser(f"http://127.0.0.1:{listening.getsockname()[1]}", opened, CHROMIUM, FLAGS)
        running.close()
        context.engine.close()


if __name__ == "__main__":
    main()
