"""The dashboard in a browser, with mouse and keyboard; what is seen is checked by pixels, addresses and files."""

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from dashboard import chromium, planted_file, second_file, serving, visitors  # noqa: F401
from PIL import Image

from app.context import link
from app.library import Library
from app.notes import Notebook
from app.pages.units import rows
from app.views import tops_strip

PAGES = [
    "/", "/run/planted", "/units/planted", "/units/planted?layer=layer1&labelled=yes&sort=d.asc&q=circle",
    "/unit/planted/layer1/3", "/unit/planted/layer3/63?level=4", "/concepts/planted", "/concepts/planted/circle",
    "/concepts/planted/square", "/compare/planted", "/compare/planted?layer=layer1&with=planted&layer2=layer3&by=r",
    "/paint/planted", "/paint/planted?concept=cyan&seed=3", "/jobs", "/nowhere",
    "/unit/planted/layer1/64", "/unit/planted/layer1/x", "/unit/planted", "/run/absent", "/concepts/planted/nothing",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(planted_file, second_file):  # noqa: F811
    with serving([planted_file, second_file]) as (address, _):
        yield address


@pytest.fixture
def site_of_its_own(planted_file, tmp_path):  # noqa: F811
    path = tmp_path / "planted.h5"
    path.write_bytes(planted_file.read_bytes())
    with serving([path]) as (address, _):
        yield address, path


@pytest.fixture(scope="module")
def opened(planted_file):  # noqa: F811
    return Library([planted_file]).get("planted")


def pixels(visitor, selector):
    return np.asarray(Image.open(io.BytesIO(visitor.page.locator(selector).first.screenshot())).convert("RGB")).astype(
        float
    )


def shown_units(visitor):
    """The rows of the grid, in order, as (layer, unit)."""
    return [
        tuple(pair)
        for pair in visitor.page.evaluate(
            """() => { const found = [];
            const api = dash_ag_grid.getApi("units-grid");
            api.forEachNodeAfterFilterAndSort((n) => found.push([n.data.layer, n.data.unit]));
            return found; }"""
        )
    ]


def grid_ready(visitor):
    visitor.until(
        "() => { const c = document.querySelector('#units-count'); return c && c.textContent.includes('units'); }"
    )
    visitor.page.wait_for_selector(".ag-row")


# -- every page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_a_word_on_the_console(site, visitors, scheme):  # noqa: F811
    visitor = visitors(site, scheme)
    for path in PAGES if scheme == "light" else PAGES[::3]:
        visitor.visit(path)
        assert visitor.page.inner_text("main").strip()
        paper = pixels(visitor, "body")[-3:, :3].mean()
        assert (paper < 60) if scheme == "dark" else (paper > 220)
        wide = visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} pixels too wide"


def test_the_switch_between_light_and_dark_stays(site, visitors):  # noqa: F811
    visitor = visitors(site, "light").visit("/run/planted")
    light = pixels(visitor, "body")[200:, :].mean()
    visitor.page.click("#scheme")
    visitor.until("document.documentElement.dataset.mantineColorScheme === 'dark'")
    visitor.page.wait_for_timeout(300)
    assert pixels(visitor, "body")[200:, :].mean() < light - 100
    visitor.visit("/concepts/planted")
    assert pixels(visitor, "body")[200:, :].mean() < light - 100


def test_wrong_addresses_say_what_is_wrong(site, visitors):  # noqa: F811
    visitor = visitors(site)
    for path, words in (
        ("/unit/planted/layer1/64", "units 0..63, got 64"), ("/run/absent", "unknown run"), ("/nowhere", "nowhere"),
        ("/concepts/planted/circel", "nearest: circle"), ("/unit/planted/layer1/x", "expected the number of a unit"),
    ):  # fmt: skip
        visitor.visit(path)
        assert words in visitor.page.inner_text("main")
        assert "Traceback" not in visitor.page.content()


# -- filter -> unit -> level -> tag -> reload ----------------------------------------------------------------------


def test_from_the_grid_to_a_tag_that_stays(site_of_its_own, visitors, opened):  # noqa: F811
    address, path = site_of_its_own
    visitor = visitors(address).visit("/units/planted")
    page = visitor.page
    grid_ready(visitor)
    everything = rows(opened)
    assert shown_units(visitor) == [(row["layer"], row["unit"]) for row in everything]

    page.click("#units-layer >> text=layer1")
    page.click("text=labelled only")
    expected = [(r["layer"], r["unit"]) for r in everything if r["layer"] == "layer1" and r["labelled"] == "yes"]
    visitor.until("(n) => document.querySelector('#units-count').textContent.startsWith(n + ' of')", str(len(expected)))
    assert shown_units(visitor) == expected
    assert visitor.path() == "/units/planted?layer=layer1&labelled=yes"

    page.locator(".ag-row[row-index='1'] a.strip").click()
    layer, unit = expected[1]
    visitor.until("(p) => location.pathname === p", f"/unit/planted/{layer}/{unit}")
    visitor.settle("#tops")
    assert page.inner_text("#unit-back") == f"2 of {len(expected)} in this view"

    # The arrow keys walk through what was filtered, in its order.
    page.keyboard.press("ArrowRight")
    visitor.until("(p) => location.pathname === p", f"/unit/planted/{expected[2][0]}/{expected[2][1]}")
    visitor.settle("#tops")
    visitor.until("() => document.querySelector('#unit-place').textContent.startsWith('3 of')")
    page.keyboard.press("ArrowLeft")
    visitor.until("(p) => location.pathname === p", f"/unit/planted/{layer}/{unit}")
    visitor.settle("#tops")

    # Another level: other pixels, those of the server's picture of that level.
    before = pixels(visitor, "#tops")
    page.focus("#unit-level [role=slider]")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    level = int(page.get_attribute("#unit-level [role=slider]", "aria-valuenow"))
    visitor.until("(l) => document.querySelector('#tops').dataset.shown.includes('/' + l + '.jpg')", str(level))
    page.mouse.move(0, 0)
    assert np.abs(pixels(visitor, "#tops") - before).mean() > 1
    assert_first_tile_is(visitor, opened, layer, unit, level)
    assert f"level={level}" in visitor.path()

    # A tag and a note, by keyboard; they are in the file beside the run, and after a reload on the page.
    page.fill("#unit-tags", "Odd Corner")
    page.keyboard.press("Enter")
    page.fill("#unit-note", "fires at the\nleft border")
    notes = path.with_name("planted.notes.json")
    until(lambda: notes.exists() and "left border" in notes.read_text() and "odd corner" in notes.read_text())
    kept = json.loads(notes.read_text())["units"][layer][str(unit)]
    assert kept["tags"] == ["odd corner"]
    assert kept["note"] == "fires at the\nleft border"
    page.reload()
    visitor.settle("#tops")
    assert "odd corner" in page.inner_text(".mantine-TagsInput-root")
    assert page.input_value("#unit-note") == "fires at the\nleft border"
    assert int(page.get_attribute("#unit-level [role=slider]", "aria-valuenow")) == level
    assert_first_tile_is(visitor, opened, layer, unit, level)

    visitor.visit("/units/planted?q=odd%20corner")
    grid_ready(visitor)
    assert shown_units(visitor) == [(layer, unit)]

    visitor.visit(f"/unit/planted/{layer}/{unit}")
    page.click(".mantine-TagsInput-root button")  # the cross of the pill
    until(lambda: "odd corner" not in notes.read_text())


def test_typing_on_while_a_note_is_being_written(site_of_its_own, visitors, monkeypatch):  # noqa: F811
    address, path = site_of_its_own
    real = Notebook.write

    def slow(self, layer, unit, text, *rest):
        note = real(self, layer, unit, text, *rest)
        if text == "first":
            time.sleep(2)  # written, but its answer comes after the next change was sent, and is dropped
        return note

    monkeypatch.setattr(Notebook, "write", slow)
    page = visitors(address).visit("/unit/planted/layer1/5").page
    notes = path.with_name("planted.notes.json")
    page.fill("#unit-note", "first")
    until(lambda: notes.exists() and "first" in notes.read_text())
    for text in ("second", "third"):
        page.fill("#unit-note", text)
        until(lambda text=text: text in notes.read_text())
    page.fill("#unit-tags", "x" * 41)
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit-noted:has-text('expected a tag')")
    page.fill("#unit-tags", "good")
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit-noted:has-text('kept in')")
    assert json.loads(notes.read_text())["units"]["layer1"]["5"]["tags"] == ["good"]
    assert "xxx" not in page.inner_text(".mantine-TagsInput-root")
    assert page.input_value("#unit-note") == "third"


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_first_tile_is(visitor, opened, layer, unit, level):
    """The first tile on the page is the first of the strip of this level, and of no level that looks otherwise."""
    visitor.until("() => [...document.querySelectorAll('#tops img.masked')].every((i) => i.complete)")
    visitor.page.mouse.move(0, 0)
    visitor.page.wait_for_timeout(200)
    got = pixels(visitor, "#tops .tile")[4:-4, 4:-4]

    def expected(b):
        strip = Image.open(io.BytesIO(tops_strip(opened, layer, unit, b)))
        tile = strip.crop((0, 0, strip.height, strip.height))
        full = visitor.page.locator("#tops .tile").first.bounding_box()
        size = round(full["width"]), round(full["height"])
        return np.asarray(tile.resize(size, Image.Resampling.BILINEAR)).astype(float)[4:-4, 4:-4]

    def distance(b):
        other = expected(b)
        height, width = (min(a, c) for a, c in zip(got.shape[:2], other.shape[:2], strict=True))
        return np.abs(got[:height, :width] - other[:height, :width]).mean()

    here = distance(level)
    assert here < 8
    far = [b for b in range(0, 48, 6) if np.abs(expected(b) - expected(level)).mean() > 12]
    assert all(distance(b) > here + 3 for b in far)


@pytest.mark.parametrize("how", ["keys", "mouse"])
def test_rapid_moves_of_the_slider_end_on_the_last(site, visitors, opened, how):  # noqa: F811
    """Answers come back in the wrong order: the earlier a level was asked for, the later it comes."""
    unit = opened.layer("layer1").ranking()[0]
    visitor = visitors(site).visit(f"/unit/planted/layer1/{unit}?level=40")
    page = visitor.page
    asked = []

    def late(route):
        asked.append(route.request.url)
        delay = max(0, 700 - 60 * len(asked))
        page.wait_for_timeout(0)
        time.sleep(delay / 1000 / 8)
        route.continue_()

    page.route("**/tops/**", late)
    page.route("**/histogram.svg**", late)
    slider = page.locator("#unit-level [role=slider]")
    if how == "keys":
        slider.focus()
        for _ in range(25):
            page.keyboard.press("ArrowLeft")
    else:
        box = page.locator("#unit-level").bounding_box()
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 40 / 47, y)
        page.mouse.down()
        for share in np.linspace(40 / 47, 0.32, 30):
            page.mouse.move(box["x"] + box["width"] * share, y)
        page.mouse.up()
    level = int(slider.get_attribute("aria-valuenow"))
    assert level == 15
    page.wait_for_load_state("networkidle")
    visitor.until("(l) => (document.querySelector('#tops').dataset.shown || '').includes('/' + l + '.jpg')", str(level))
    page.wait_for_timeout(500)
    assert_first_tile_is(visitor, opened, "layer1", unit, level)
    data = page.text_content("#unit-histogram .strong")
    assert data.removeprefix("on above ") in page.inner_text("#unit-says")
    assert visitor.path().endswith(f"level={level}")


# -- concept -> unit -> back ---------------------------------------------------------------------------------------


def test_from_a_concept_to_a_unit_and_back(site, visitors, opened):  # noqa: F811
    visitor = visitors(site).visit("/concepts/planted")
    page = visitor.page
    page.click("main a.badge >> text=square")
    visitor.until("location.pathname === '/concepts/planted/square'")
    visitor.settle()
    square = opened.run.concept_index("square")
    ranked = [
        int(u) for u in opened.run.layer("layer1").units("square", top=64) if opened.layer("layer1").label[u] == square
    ]
    first = page.locator("section:has(h2:has-text('layer1')) a.unit-link").first
    assert first.get_attribute("href") == link("unit", "planted", "layer1", ranked[0])
    first.scroll_into_view_if_needed()
    visitor.until("(a) => a.querySelector('img').naturalWidth > 0", first.element_handle())
    assert pixels(visitor, "a.unit-link img").std() > 10  # a picture, not a grey box
    first.focus()
    page.keyboard.press("Enter")
    visitor.until("(p) => location.pathname === p", link("unit", "planted", "layer1", ranked[0]))
    visitor.settle("#tops")
    assert "square in layer1" in page.inner_text("#unit-back")
    page.go_back()
    visitor.until("location.pathname === '/concepts/planted/square'")
    visitor.settle("#concept-area")
    assert page.inner_text("h1").strip() == "square"
    assert page.title().startswith("square")


# -- the grid ------------------------------------------------------------------------------------------------------


def test_a_view_is_its_address(site, visitors, opened):  # noqa: F811
    visitor = visitors(site).visit("/units/planted")
    page = visitor.page
    grid_ready(visitor)
    page.fill("#units-search", "red")
    page.click(".ag-header-cell[col-id=iou][role=columnheader]")
    page.fill(".ag-floating-filter[col-id=iou] input", "0.05")
    visitor.until("() => location.search.includes('q=red') && location.search.includes('f=')")
    visitor.page.wait_for_timeout(400)
    kept = shown_units(visitor)
    numbers = {(r["layer"], r["unit"]): r["iou"] for r in rows(opened) if r.get("iou") is not None}
    values = [numbers[unit] for unit in kept]
    assert 0 < len(kept) < 128
    assert values == sorted(values)
    assert min(values) >= 0.05
    again = visitors(site).visit(visitor.path())
    grid_ready(again)
    assert shown_units(again) == kept
    assert again.page.input_value("#units-search") == "red"

    with page.expect_download() as download:
        page.click("#units-csv")
    assert download.value.suggested_filename == "planted-units.csv"
    with open(download.value.path(), encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    assert [(row["layer"], int(row["unit"])) for row in table] == kept
    assert [float(row["IoU"]) for row in table] == values


def pairs_shown(visitor):
    """The rows of the grid of pairs, in order, as (first unit, what became of its label)."""
    visitor.page.wait_for_selector("#compare-count:has-text('pairs')")
    return [
        tuple(pair)
        for pair in visitor.page.evaluate(
            """() => { const found = [];
            const api = dash_ag_grid.getApi("compare-grid");
            api.forEachNodeAfterFilterAndSort((n) => found.push([n.data.aUnit, n.data.change]));
            return found; }"""
        )
    ]


def test_the_order_by_two_columns_is_in_the_address(site, visitors, opened):  # noqa: F811
    visitor = visitors(site).visit("/units/planted")
    page = visitor.page
    grid_ready(visitor)
    page.click(".ag-header-cell[col-id=category][role=columnheader]")
    page.click(".ag-header-cell[col-id=iou][role=columnheader]", modifiers=["Shift"])
    visitor.until("() => new URLSearchParams(location.search).get('sort') === 'category.asc,iou.asc'")
    order = shown_units(visitor)
    of = {(r["layer"], r["unit"]): (r.get("category") or "", r.get("iou") or -1) for r in rows(opened)}
    assert [of[unit] for unit in order] == sorted(of.values())
    again = visitors(site).visit(visitor.path())
    grid_ready(again)
    assert shown_units(again) == order


def test_a_view_of_pairs_is_its_address(site, visitors):  # noqa: F811
    at = "/compare/planted?layer=layer1&with=second&layer2=layer1&by=index"
    visitor = visitors(site).visit(at, "#compare-grid")
    page = visitor.page
    everything = pairs_shown(visitor)
    assert len(everything) == 64
    page.click("#compare-only")
    page.click("[role=option] >> text=same label")
    visitor.until("() => new URLSearchParams(location.search).get('only') === 'same label'")
    page.click(".ag-header-cell[col-id=aConcept][role=columnheader]")
    page.click(".ag-header-cell[col-id=r][role=columnheader]", modifiers=["Shift"])
    visitor.until("() => (new URLSearchParams(location.search).get('sort') || '').endsWith(',r.asc')")
    kept = pairs_shown(visitor)
    assert sorted(kept) == sorted(pair for pair in everything if pair[1] == "same label")
    assert kept != [pair for pair in everything if pair in kept]
    assert page.inner_text("#compare-count") == f"{len(kept)} of 64 pairs"
    assert visitor.path().startswith(
        "/compare/planted?layer=layer1&with=second&layer2=layer1&by=index&only=same+label&sort="
    )
    again = visitors(site).visit(visitor.path(), "#compare-grid")
    assert pairs_shown(again) == kept
    assert again.page.input_value("#compare-only") == "same label"
    again.page.click("#compare-by")  # another choice of what is compared keeps the view
    again.page.click("[role=option] >> text=most alike")
    again.until("location.search.includes('by=r')")
    again.settle("#compare-grid")
    assert {change for _, change in pairs_shown(again)} == {"same label"}


def test_two_visitors_do_not_disturb_each_other(site, visitors):  # noqa: F811
    one = visitors(site).visit("/units/planted?layer=layer1")
    two = visitors(site, "dark").visit("/units/planted?layer=layer3&labelled=yes")
    for visitor in (one, two):
        grid_ready(visitor)
    first, second = shown_units(one), shown_units(two)
    two.page.fill("#units-search", "square")
    one.page.locator(".ag-row[row-index='0'] a.strip").click()
    one.settle("#tops")
    two.until("() => location.search.includes('square')")
    assert {layer for layer, _ in first} == {"layer1"}
    assert set(shown_units(two)) < set(second)
    assert one.path().startswith("/unit/planted/layer1/")
    two.page.locator(".ag-row[row-index='0'] a.strip").click()
    two.settle("#tops")
    assert two.path().startswith("/unit/planted/layer3/")
    assert f"of {len(first)} in this view" in one.page.inner_text("#unit-place")


# -- charts, files, runs -------------------------------------------------------------------------------------------


def test_a_bar_leads_to_its_units(site, visitors, opened):  # noqa: F811
    visitor = visitors(site).visit("/run/planted")
    page = visitor.page
    bar = page.locator("#run-chart .bars .point").first
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.until("location.pathname === '/units/planted'")
    grid_ready(visitor)
    query = dict(part.split("=") for part in visitor.path().split("?")[1].split("&"))
    layer = opened.layer(query["layer"])
    index = opened.run.concept_index(query["concept"])
    assert len(shown_units(visitor)) == layer.per_concept[index]


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_figures_are_saved(site, visitors, form):  # noqa: F811
    visitor = visitors(site).visit("/run/planted")
    visitor.page.wait_for_selector("#run-chart .main-svg")
    with visitor.page.expect_download() as download:
        visitor.page.click(f"section:has(#run-chart) [data-export={form}]")
    data = Path(download.value.path()).read_bytes()
    assert download.value.suggested_filename == f"units-per-concept.{form}"
    assert data.startswith(b"<svg" if form == "svg" else b"%PDF")
    assert len(data) > 2000
    visitor.visit("/unit/planted/layer1/3?level=7")
    visitor.until("() => document.querySelector('[data-follows]').href.includes('level=7')")
    with visitor.page.expect_download() as download:
        visitor.page.click(f"a[href*='histogram.{form}']")
    data = Path(download.value.path()).read_bytes()
    assert data.startswith(b"<svg" if form == "svg" else b"%PDF")


def test_a_choice_of_runs_leads_there(site, visitors):  # noqa: F811
    visitor = visitors(site).visit("/units/planted?layer=layer1")
    page = visitor.page
    grid_ready(visitor)
    page.click("#run-choice")
    page.click("[role=option] >> text=second")
    visitor.until("location.pathname === '/units/second'")
    page.wait_for_selector("#units-count:text-is('128 units')")
    assert len(shown_units(visitor)) == 128
    assert visitor.path() == "/units/second"
    page.click("nav >> text=Compare")
    visitor.until("location.pathname === '/compare/second'")
    visitor.settle("#compare-grid")
    page.click("#compare-by")
    page.click("[role=option] >> text=most alike")
    visitor.until("location.search.includes('by=r')")
    visitor.settle("#compare-grid")
    assert "most alike" in page.inner_text("main")


def test_an_unfinished_run_is_watched_until_it_opens(planted_file, tmp_path, visitors):  # noqa: F811
    path = tmp_path / "run.h5"
    path.with_name("run.h5.partial").mkdir()
    status = path.with_name("run.h5.partial.json")
    status.write_text(json.dumps({"done": 30, "samples": 120, "seconds": 2.0, "seconds_left": 6.0}))
    (tmp_path / "wrong.h5").write_bytes(b"no")
    with serving([path, tmp_path / "wrong.h5"]) as (address, _):
        visitor = visitors(address).visit("/")
        page = visitor.page
        assert "30 of 120 samples" in page.inner_text("main")
        assert "wrong.h5 is not readable HDF5" in page.inner_text("main")
        status.write_text(json.dumps({"done": 90, "samples": 120, "seconds": 6.0, "seconds_left": 2.0}))
        page.wait_for_selector("text=90 of 120 samples")
        path.write_bytes(planted_file.read_bytes())
        page.click("a.run-card >> text=run")
        visitor.until("location.pathname === '/run/run'")
        visitor.settle("#run-chart")


def test_the_server_may_go_away(planted_file, visitors):  # noqa: F811
    with serving([planted_file]) as (address, _):
        visitor = visitors(address, allowed=("Failed to load resource", "ERR_CONNECTION", "Callback failed", "error:"))
        visitor.visit("/run/planted")
    assert "What the units" in visitor.page.inner_text("main")
