"""In a browser: dissections that are started, watched, cancelled, opened; images with and without a unit."""

import base64
import functools
import io
import json
import shutil
import threading
import time
import urllib.request

import h5py
import numpy as np
import pytest
from dashboard import LAYERS, chromium, planted_file, serving, visitors  # noqa: F401
from helpers import differing, slowly
from PIL import Image

import app.library
import app.orders
import app.server
import dissect
import segmodels
from app.live import Shown
from app.masks import above
from app.pages.jobs import _layers_of, order_of
from app.rows import draw_row
from app.worker import Superseded
from dissect.pictures import to_bytes
from segmodels import GanatomyError

SECONDS = 60.0


@pytest.fixture
def home(planted_file, tmp_path):  # noqa: F811
    """A folder with one run, and its address while it is served."""
    shutil.copy(planted_file, tmp_path / "faces.h5")
    with serving([tmp_path / "faces.h5"]) as (address, _):
        yield tmp_path, address


def until(condition):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def go(visitor, path):
    """Open an address and return the page."""
    visitor.page.goto(visitor.address + path)
    visitor.page.wait_for_selector("main")
    return visitor.page


def fill(page, **values):
    for name, value in values.items():
        page.fill(f"#order-{name}", str(value))


def job(page, number, state):
    """Wait until a job is in a state, and return its card."""
    return page.wait_for_selector(f"#job-{number}.{state}")


def share(page, number):
    """How far the bar of a job is."""
    meter = page.query_selector(f"#job-{number} .meter")
    return float(meter.evaluate("e => e.style.getPropertyValue('--v')")) if meter else None


# Jobs


def test_start_a_dissection_watch_it_and_open_it(home, visitors, tmp_path_factory, monkeypatch):  # noqa: F811
    folder, address = home
    slowly(monkeypatch, 0.25)  # two batches at a time, and the page asks but twice a second
    page = go(visitors(address), "/jobs")
    fill(page, generator="planted:4", segmenter="planted", samples=120, out="mine")
    page.wait_for_selector("#order-layers[placeholder*='layer3']")
    page.click("#order-layers")
    page.click("[role=option]:has-text('layer2')")
    page.keyboard.press("Escape")
    page.click("#order-start")
    job(page, 1, "running")
    seen = []
    while page.query_selector("#job-1.running") and len(seen) < 2000:
        if (value := share(page, 1)) is not None:
            seen.append(value)
        page.wait_for_timeout(50)
    assert sorted(seen) == seen, "the bar only grows"
    assert len(set(seen)) >= 3, "it can be watched"
    card = job(page, 1, "done")
    assert "mine.h5" in card.inner_text()
    page.click("#job-1 >> text=Open")
    page.wait_for_url("**/run/mine")
    page.wait_for_selector("h1:has-text('planted:4')")
    monkeypatch.undo()
    alone = tmp_path_factory.mktemp("alone") / "run.h5"
    dissect.run(dissect.load("planted:4"), segmodels.load("planted"), "layer2", 120, alone)
    assert differing(alone, folder / "mine.h5") == []
    assert dissect.open(folder / "mine.h5").layers == ["layer2"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", float("inf")), ("first", -float("inf")), ("truncation", float("nan")), ("samples", "x"),
        ("samples", None),
    ],
)  # fmt: skip
def test_a_field_that_is_no_number_is_said(field, value):
    values = {"generator": "planted:4", "segmenter": "planted", "samples": 9, "first": 0, "layers": [], "truncation": 1}
    with pytest.raises(GanatomyError, match="expected a number for"):
        order_of(values | {"out": "", field: value})


def test_lists_of_layers_do_not_hold_the_servers_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("app.pages.jobs.SOON", 0.5)
    context = app.server.context_of(app.library.Library(folder=tmp_path))
    begun, go_on, took = threading.Event(), threading.Event(), []

    def deaf(_desk):
        begun.set()
        go_on.wait(SECONDS)

    def ask(turn):
        began = time.monotonic()
        try:
            answer = _layers_of(context, {"generator": f"planted:{turn}", "who": "one page", "turn": turn})
        except Superseded:
            answer = None
        took.append((turn, answer, time.monotonic() - began))

    context.engine.worker.submit("test", "t", deaf)
    assert begun.wait(SECONDS)
    threads = [threading.Thread(target=ask, args=(turn,)) for turn in (1, 2, 3)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(SECONDS)
    answers = {turn: answer for turn, answer, _ in took}
    assert answers == {1: None, 2: None, 3: ([], [])}, "a later one drops the earlier ones; the last gives up soon"
    assert max(seconds for *_, seconds in took) < 5
    go_on.set()
    context.engine.close()


def test_the_layers_are_asked_for_when_typing_ends(home, visitors):  # noqa: F811
    _, address = home
    page = visitors(address).page
    asked = []
    page.on("request", lambda r: asked.append(r.post_data) if "order-asked.data" in (r.post_data or "") else None)
    page.goto(address + "/jobs")
    page.wait_for_selector("#order-layers[placeholder*='layer']")
    before = len(asked)
    page.evaluate(  # so quickly that a busy machine puts no pause between two keys
        """(text) => {
            const field = document.getElementById("order-generator");
            const value = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
            for (let length = 0; length <= text.length; length += 1) {
                value.set.call(field, text.slice(0, length));
                field.dispatchEvent(new Event("input", { bubbles: true }));
            }
        }""",
        "planted:4,layers=4",
    )
    page.wait_for_selector("#order-layers[placeholder*='layer4']")
    assert len(asked) - before == 1


def test_cancel_and_go_on(home, visitors, monkeypatch):  # noqa: F811
    folder, address = home
    slowly(monkeypatch, 0.05)
    page = go(visitors(address), "/jobs")
    fill(page, generator="planted:4", segmenter="planted", samples=160, out="long")
    page.click("#order-start")
    fill(page, out="never")
    page.click("#order-start")
    job(page, 1, "running")
    job(page, 2, "waiting")
    page.click("#job-2 >> text=Cancel")
    assert "before it began" in job(page, 2, "cancelled").inner_text()
    until(lambda: (share(page, 1) or 0) > 0.3)
    page.click("#job-1 >> text=Cancel")
    assert "samples are kept" in job(page, 1, "cancelled").inner_text()
    assert (folder / "long.h5.partial" / "state.h5").is_file()
    page.reload()
    page.click("#job-1 >> text=Go on")
    job(page, 3, "done")
    assert sorted(p.name for p in folder.glob("*.h5*")) == ["faces.h5", "long.h5"]
    assert dissect.open(folder / "long.h5").samples == 160


def test_a_failing_job_leaves_the_dashboard_alive(home, visitors, monkeypatch, capsys):  # noqa: F811
    folder, address = home
    (folder / "broken.pkl").write_bytes(b"no checkpoint at all")
    page = go(visitors(address), "/jobs")
    fill(page, generator="broken.pkl", segmenter="planted", samples=20)
    page.click("#order-start")
    assert "broken.pkl" in job(page, 1, "failed").inner_text()
    assert str(folder) not in page.inner_text("main"), "a page speaks of names, not of places"
    assert "Traceback" not in page.inner_text("main")
    with monkeypatch.context() as patch:
        patch.setattr(app.orders, "run_job", lambda *_: 1 // 0)
        fill(page, generator="planted:4", out="bug")
        page.click("#order-start")
        text = job(page, 2, "failed").inner_text()
    assert "something went wrong inside: ZeroDivisionError" in text
    fill(page, generator="planted:4", out="good")
    page.click("#order-start")
    job(page, 3, "done")
    assert (folder / "good.h5").is_file()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"generator": "/etc/passwd"}, "unknown generator"),
        ({"generator": "os:getcwd"}, "unknown generator"),
        ({"segmenter": "masks:/tmp"}, "unknown segmenter"),
        ({"out": "../up"}, "name of a file"),
        ({"samples": ""}, "expected a number for samples"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_line(home, visitors, values, says):  # noqa: F811
    folder, address = home
    page = go(visitors(address), "/jobs")
    fill(page, generator="planted:4", segmenter="planted", samples=20)
    fill(page, **values)
    page.click("#order-start")
    page.wait_for_selector(f"#order-says:has-text('{says}')")
    assert not page.query_selector(".job")
    assert [p.name for p in folder.iterdir() if not p.name.startswith("faces")] == []


# With and without a unit


LAYER = "layer3"
GENERATOR = "planted:0"


def expected(unit, seeds, without, row, level=None):
    """What a row must be, by the generator itself."""
    generator = dissect.load(GENERATOR)
    capture = generator.capture(generator.sample(seeds), LAYER)
    after = generator(generator.sample(seeds), dissect.ablate(LAYER, [unit], without))
    before, after = ([to_bytes(i) for i in images.numpy()] for images in (capture.images, after))
    maps = capture.features[LAYER][:, unit].numpy()
    masks = above(maps, level if level is not None else 0.0, 64, 64)
    return draw_row(Shown(tuple(seeds), np.stack(before), np.stack(after), masks, None), row)


def shown(page, row):
    source = page.get_attribute(f"#live-{row}", "src") or ""
    return base64.b64decode(source.partition(",")[2])


@functools.cache
def changing_unit():
    """The unit whose absence changes the pictures most."""
    generator = dissect.load(GENERATOR)
    codes = generator.sample(range(6))
    before = generator(codes)
    return max(range(64), key=lambda u: float((generator(codes, dissect.ablate(LAYER, [u])) - before).abs().sum()))


def test_with_and_without_a_unit(home, visitors):  # noqa: F811
    folder, address = home
    unit = changing_unit()
    page = go(visitors(address), f"/unit/faces/{LAYER}/{unit}")
    page.wait_for_selector("#live-where[src^=data]")
    tops = [sample.seed for sample in dissect.open(folder / "faces.h5").layer(LAYER).top(unit)[:6]]
    assert shown(page, "after") == expected(unit, tops, 1.0, "after"), "unasked, where it does something"
    page.fill("#live-seeds", "0:6")
    until(lambda: shown(page, "after") == expected(unit, range(6), 1.0, "after"))
    level = dissect.open(folder / "faces.h5").layer(LAYER).levels[unit]
    at = int(page.get_attribute("#unit-level [role=slider]", "aria-valuenow"))
    for row in ("before", "after", "difference", "where"):
        assert shown(page, row) == expected(unit, range(6), 1.0, row, level[at])
    assert shown(page, "before") != shown(page, "after")
    page.focus("#live-without [role=slider]")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    half = expected(unit, range(6), 0.4, "after")
    until(lambda: shown(page, "after") == half)
    assert page.inner_text("#live-share") == "40%"
    page.focus("#unit-level [role=slider]")
    page.keyboard.press("End")
    highest = expected(unit, range(6), 0.4, "where", level[-1])
    assert highest != expected(unit, range(6), 0.4, "where", level[at])
    until(lambda: shown(page, "where") == highest)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Shift+ArrowRight")
    later = expected(unit, range(6, 12), 0.4, "after")
    until(lambda: shown(page, "after") == later)
    assert page.input_value("#live-seeds") == "6:12"
    page.reload()
    page.wait_for_selector("#live-where[src^=data]")
    assert shown(page, "after") == later, "the address says what is shown"
    page.fill("#live-seeds", "3, 40")
    two = expected(unit, [3, 40], 0.4, "before")
    until(lambda: shown(page, "before") == two)
    assert page.inner_text("#live-names").startswith("seed 3")
    page.fill("#live-seeds", "no")
    page.wait_for_selector("#live-says:has-text('expected seeds such as')")
    page.fill("#live-seeds", "0:6")
    until(lambda: not page.inner_text("#live-says") and shown(page, "before") == expected(unit, range(6), 0, "before"))


def test_what_is_shown_is_saved(home, visitors):  # noqa: F811
    folder, address = home
    unit, level = changing_unit(), 30
    page = go(visitors(address), f"/unit/faces/{LAYER}/{unit}?seeds=3,40&without=0.4&level={level}")
    page.wait_for_selector("#live-where[src^=data]")
    threshold = dissect.open(folder / "faces.h5").layer(LAYER).levels[unit, level]
    saved = {}
    for place in ("#live-png", "a.export[href*='/tops/']", "a.export[href*='/bands/']"):
        with page.expect_download() as download:
            page.click(place)
        saved[download.value.suggested_filename] = np.asarray(Image.open(download.value.path())).astype(float)
    live, tops, bands = (f"faces-{LAYER}-{unit}-{name}.png" for name in ("seeds-3-40", "tops", "bands"))
    assert set(saved) == {live, tops, bands}
    side = 192
    assert saved[live].shape == (4 * side + 3 * 6, 2 * side, 3)
    for row, name in enumerate(("before", "after", "difference", "where")):
        jpeg = Image.open(io.BytesIO(expected(unit, [3, 40], 0.4, name, threshold)))
        shown_row = np.asarray(jpeg.resize((2 * side, side), Image.Resampling.BICUBIC)).astype(float)
        top = row * (side + 6)
        assert np.abs(saved[live][top : top + side] - shown_row).mean() < 4
    at_level = Image.open(io.BytesIO(page.request.get(f"{address}/tops/faces/{LAYER}/{unit}/{level}.jpg").body()))
    assert np.abs(saved[tops][:128] - np.asarray(at_level.crop((0, 0, 768, 128)))).mean() < 6
    page.check("#unit-whole")
    with page.expect_download() as download:
        page.click("a.export[href*='/tops/']")
    assert np.abs(np.asarray(Image.open(download.value.path())) - saved[tops]).mean() > 10


def test_rapid_moves_end_on_the_last_value_while_a_job_runs(home, visitors, monkeypatch):  # noqa: F811
    _, address = home
    unit = changing_unit()
    slowly(monkeypatch, 0.03)
    one = go(visitors(address), "/jobs")
    fill(one, generator="planted:4", segmenter="planted", samples=20_000, out="long")
    one.click("#order-start")
    job(one, 1, "running")
    page = go(visitors(address), f"/unit/faces/{LAYER}/{unit}?seeds=0:6")
    page.wait_for_selector("#live-after[src^=data]")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    slider = page.query_selector("#live-without [role=slider]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(120):
        page.mouse.move(x - 2 * (step % 60) - step / 2, y)
    page.mouse.up()
    last = int(slider.get_attribute("aria-valuenow")) / 100
    assert 0 < last < 1
    wanted = expected(unit, range(6), last, "after")
    until(lambda: shown(page, "after") == wanted)
    page.wait_for_timeout(700)
    assert shown(page, "after") == wanted, "nothing late replaces it"
    assert len(asked) > 10
    assert one.query_selector("#job-1.running"), "the job went on meanwhile"
    one.click("#job-1 >> text=Cancel")
    job(one, 1, "cancelled")


def test_two_visitors_do_not_disturb_each_other(home, visitors):  # noqa: F811
    _, address = home
    unit = changing_unit()
    pages = []
    for seeds in ("0:6", "6:9"):
        page = go(visitors(address), f"/unit/faces/{LAYER}/{unit}?seeds={seeds}")
        page.wait_for_selector("#live-where[src^=data]")
        page.focus("#live-without [role=slider]")
        pages.append(page)
    for _ in range(30):
        pages[0].keyboard.press("ArrowLeft")
        pages[1].keyboard.press("ArrowLeft")
        pages[1].keyboard.press("ArrowLeft")
    first, second = expected(unit, range(6), 0.7, "after"), expected(unit, range(6, 9), 0.4, "after")
    until(lambda: shown(pages[0], "after") == first and shown(pages[1], "after") == second)
    for page, name in zip(pages, ("one", "two"), strict=True):
        page.click("#unit-tags")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        page.wait_for_selector("#unit-noted:has-text('kept in')")
    pages[0].reload()
    pages[0].wait_for_selector("#unit-tags")
    text = until(lambda: pages[0].inner_text(".side"))
    assert "one" in text
    assert "two" in text, "the second visitor's tag did not cost the first one's"


def test_without_the_weights_the_page_says_so(home, visitors):  # noqa: F811
    folder, address = home
    with h5py.File(folder / "faces.h5", "r+") as file:
        manifest = json.loads(file.attrs["manifest"])
        manifest["generator"]["name"] = "somebody-elses"
        file.attrs["manifest"] = json.dumps(manifest)
    page = go(visitors(address), f"/unit/faces/{LAYER}/3")
    page.wait_for_selector("text=its generator (somebody-elses) is not here")
    assert not page.query_selector("#live-rows")


def test_the_server_survives_many_who_ask_at_once(home):
    _, address = home
    answers = []

    def ask(turn):
        url = f"{address}/live/faces/{LAYER}/5?seeds=0:3&without={turn / 100}&rows=after&who=x&turn={turn}"
        with urllib.request.urlopen(url, timeout=60) as response:
            answers.append((turn, response.status))

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 40
    assert dict(answers)[39] == 200, "the last turn is answered"
    assert set(dict(answers).values()) <= {200, 204}
