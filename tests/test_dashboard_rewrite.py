"""In a browser: a rule is rewritten by mouse and by keys, judged, kept, undone, exported; by pixels and files."""

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
from dashboard import chromium, serving, visitors  # noqa: F401
from PIL import Image

import app.rewriting
import dissect
import segmodels
from dissect import Recipe
from dissect.pictures import to_bytes
from rewrite import Request

SEEDS = "1022,1026,1000"
FRESH = [1022, 1026, 1000]


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:7")


@pytest.fixture(scope="module")
def seven(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "seven.h5"
    dissect.run(planted, segmodels.load("planted"), ["layer1", "layer3"], samples=60, out=path)
    return path


@pytest.fixture
def home(seven, tmp_path):
    """A folder with one run, its address while it is served, and what serves it."""
    shutil.copy(seven, tmp_path / "seven.h5")
    with serving([tmp_path / "seven.h5"]) as (address, _):
        yield tmp_path, address


@pytest.fixture(scope="module")
def crosses(planted):
    """Where seeds show a cross: {seed: bool [64, 64]}."""
    segmenter = segmodels.load("planted")
    index = [c.name for c in segmenter.concepts].index("cross")
    labels = segmenter(planted(planted.sample([18, 19, 50]))).numpy()
    return dict(zip((18, 19, 50), (labels == index).any(1), strict=True))


class Rewriter:
    """What a visitor does on the page."""

    def __init__(self, visitor):
        self.visitor, self.page = visitor, visitor.page

    def open(self):
        self.page.goto(self.visitor.address + "/rewrite/seven")
        return self.ready()

    def ready(self):
        self.page.wait_for_selector("#rewrite[data-ready=yes]")
        return self

    def seed(self, seed):
        self.page.fill("#rewrite-seed", str(seed))
        self.page.press("#rewrite-seed", "Enter")
        self.page.wait_for_selector(f"#rewrite[data-seed='{seed}']")

    def typed(self, **values):
        for name, value in values.items():
            self.page.fill(f"#rewrite-{name}", value)
            self.page.press(f"#rewrite-{name}", "Tab")

    def drag(self, top, left, bottom, right):
        """Drag over an image's rows top..bottom and columns left..right, with the pointer."""
        self.page.locator("#rewrite-canvas").scroll_into_view_if_needed()
        box = self.page.locator("#rewrite-canvas").bounding_box()
        x, y = (lambda v: box["x"] + v / 64 * box["width"]), (lambda v: box["y"] + v / 64 * box["height"])
        self.page.mouse.move(x(left), y(top))
        self.page.mouse.down()
        self.page.mouse.move(x((left + right) / 2), y((top + bottom) / 2))
        self.page.mouse.move(x(right), y(bottom))
        self.page.mouse.up()

    def regions(self, kind, count):
        self.page.wait_for_selector(f"#rewrite-{kind} figure >> nth={count - 1}")

    def work(self):
        """What the browser keeps."""
        self.page.wait_for_timeout(100)
        return self.page.evaluate("async () => rewriteStore.work(rewritePage.facts.id)")

    def shown(self, row):
        """The images of a row, once they are those of the edits that are on."""
        self.visitor.until(
            "() => document.getElementById('rewrite-shown').dataset.shown === "
            "`${document.getElementById('rewrite-seeds').value.trim()}|${document.getElementById('rewrite').dataset.edits}`"
        )
        sources = self.page.eval_on_selector_all(f"[data-row={row}] img", "all => all.map((one) => one.src)")
        return [pixels(source) for source in sources]

    def save(self, button):
        with self.page.expect_download() as download:
            self.page.click(button)
        return download.value


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))))


def drawn(generator, seeds, edits=()):
    return [to_bytes(generator(generator.sample([seed]), edits)[0].numpy()) for seed in seeds]


def same(found, wanted):
    return len(found) == len(wanted) and all((a == b).all() for a, b in zip(found, wanted, strict=True))


def bounds(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def ask(rewriter, crosses):
    """Copy from 18 with a box, paste into 19 and 50 by their concept, everything called so is the context."""
    page = rewriter.page
    page.click("#rewrite-tool-box")
    for seed, kind in ((18, "copy"), (19, "paste"), (50, "paste")):
        rewriter.seed(seed)
        if kind == "copy":
            rewriter.drag(*bounds(crosses[seed]))
        else:
            page.select_option("#rewrite-concept", "cross")
            page.click("#rewrite-mark")
        page.wait_for_selector("#rewrite[data-marked=yes]")
        page.click(f"#rewrite-to-{kind}")
        rewriter.regions(kind, 1 if seed != 50 else 2)
    rewriter.typed(listed="0-20", name="blue crosses", memory="60", seeds=SEEDS)
    page.click("#rewrite-list")
    rewriter.regions("context", 1)
    page.select_option("#rewrite-goal", "mean")


def test_a_rule_by_mouse_from_copy_to_export(home, visitors, planted, crosses):  # noqa: F811
    folder, address = home
    visitor = visitors(address)
    page = visitor.visit("/run/seven").page
    page.click(".page-link:has-text('Rewrite')")
    rewriter = Rewriter(visitor).ready()
    ask(rewriter, crosses)
    request = rewriter.work()["request"]
    copied = Request.of({
        "format": "ganatomy.request", "version": 1, "resolution": 64, "copy": request["copy"],
        "paste": request["paste"], "context": request["context"],
    })  # fmt: skip
    top, left, bottom, right = bounds(crosses[18])
    assert copied.copy.mask.sum() == (bottom - top) * (right - left), "the box is the one that was dragged"
    assert copied.copy.mask[top:bottom, left:right].all()
    assert all((region.mask == crosses[region.seed]).all() for region in copied.paste)
    assert [region.seed for region in copied.context] == list(range(21))

    rewriter.typed(look="19,1022,1000")
    page.click("#rewrite-match")
    page.wait_for_selector("#rewrite-matches img")
    sources = page.eval_on_selector_all("#rewrite-matches img", "all => all.map((one) => one.src)")
    heat = pixels(sources[0]).astype(int)
    inside = np.kron(crosses[19], np.ones((2, 2), bool))
    coloured = np.ptp(heat, -1)
    assert coloured[inside].mean() > 10 * coloured[~inside].mean() + 10, "the cross has a colour, all else is grey"
    assert (folder / "seven.memory.h5").exists()

    page.click("#rewrite-solve")
    page.wait_for_selector(".edit.draft")
    before = drawn(planted, FRESH)
    assert same(rewriter.shown("before"), before)
    file = rewriter.save("#rewrite-recipe")
    file.save_as(folder / "edit.safetensors")
    recipe = Recipe.load(folder / "edit.safetensors")
    assert recipe[0].provenance["requests"][0]["name"] == "blue crosses"
    assert same(rewriter.shown("after"), drawn(planted, FRESH, recipe))
    assert not same(rewriter.shown("after"), before)

    page.click(".edit button:has-text('Keep')")
    page.wait_for_selector(".edit:not(.draft)")
    page.click(".edit input[type=checkbox]")
    page.wait_for_selector("#rewrite[data-edits='']")
    assert same(rewriter.shown("after"), before), "what is off has no effect"
    page.click(".edit input[type=checkbox]")
    slider = page.locator(".edit input[type=range]").bounding_box()
    page.mouse.click(slider["x"] + slider["width"] / 4 + 3, slider["y"] + slider["height"] / 2)
    visitor.until("() => !document.getElementById('rewrite').dataset.edits.endsWith('~1')")
    strength = float(page.get_attribute("#rewrite", "data-edits").split("~")[1])
    assert 0.3 < strength < 0.8
    half = [dissect.WeightEdit(**{**vars(recipe[0]), "strength": strength})]
    assert same(rewriter.shown("after"), drawn(planted, FRESH, half))

    rewriter.save("#rewrite-bundle").save_as(folder / "edited.bundle")
    assert same(rewriter.shown("after"), drawn(dissect.load(folder / "edited.bundle"), FRESH))
    page.click("#rewrite-export")
    page.wait_for_selector("#rewrite-says-edits.trouble:has-text('export a bundle')")

    kept = rewriter.shown("after")
    page.reload()
    rewriter.ready()
    assert same(rewriter.shown("after"), kept), "a reload keeps the work"
    assert page.input_value("#rewrite-name") == "blue crosses"
    page.click("#rewrite-undo")
    visitor.until("() => document.getElementById('rewrite').dataset.edits.endsWith('~1')")
    assert same(rewriter.shown("after"), drawn(planted, FRESH, recipe))
    page.keyboard.press("Control+Shift+Z")
    visitor.until("() => !document.getElementById('rewrite').dataset.edits.endsWith('~1')")
    assert same(rewriter.shown("after"), kept)


def test_measured_and_stacked(home, visitors, planted, crosses):  # noqa: F811
    folder, address = home
    rewriter = Rewriter(visitors(address)).open()
    page = rewriter.page
    ask(rewriter, crosses)
    page.click("#rewrite-solve")
    page.wait_for_selector(".edit.draft")
    page.click(".edit button:has-text('Keep')")
    rewriter.typed(judge="1020:1050")
    page.select_option("#rewrite-source", "cross")
    page.select_option("#rewrite-target", "blue")
    page.click("#rewrite-judged")
    page.wait_for_selector("#rewrite-table td:has-text('SSIM elsewhere')")
    assert "became blue" in page.inner_text("#rewrite-says-judge")
    other = Recipe(dissect.ablate("layer3", range(8)), planted)
    other.save(folder / "eight units.safetensors")
    page.set_input_files("#rewrite-bring", folder / "eight units.safetensors")
    page.wait_for_selector(".edit >> nth=1")
    both = rewriter.shown("after")
    rewriter.save("#rewrite-recipe").save_as(folder / "both.safetensors")
    stacked = Recipe.load(folder / "both.safetensors")
    assert [edit.layer for edit in stacked] == ["layer1", "layer3"]
    assert same(both, drawn(planted, FRESH, stacked))
    page.click(".edit >> nth=1 >> button[aria-label=earlier]")
    page.wait_for_selector(".edit >> nth=0 >> text=eight units")
    rewriter.save("#rewrite-recipe").save_as(folder / "turned.safetensors")
    assert [edit.layer for edit in Recipe.load(folder / "turned.safetensors")] == ["layer3", "layer1"]
    page.click(".edit >> nth=0 >> button[aria-label^=remove]")
    page.wait_for_selector(".edit >> nth=1", state="detached")
    assert same(rewriter.shown("after"), drawn(planted, FRESH, stacked[:1]))


def test_by_keys_alone(home, visitors, crosses):  # noqa: F811
    rewriter = Rewriter(visitors(home[1])).open()
    page, keys = rewriter.page, rewriter.page.keyboard

    def reach(name):
        """Go on with Tab until something has the focus."""
        for _ in range(120):
            if page.evaluate("() => document.activeElement.id") == f"rewrite-{name}":
                return
            keys.press("Tab")
        raise AssertionError(f"{name} cannot be reached with Tab")

    def press(*moves):
        for key, times in moves:
            for _ in range(times):
                keys.press(key)

    def box(seed, kind, there, across):
        """From the middle go to a corner, and from there across."""
        reach("seed")
        keys.press("Control+A")
        keys.type(str(seed))
        keys.press("Enter")
        page.wait_for_selector(f"#rewrite[data-seed='{seed}']")
        reach("tool-box")
        keys.press("Enter")
        reach("canvas")
        press(*there, ("Space", 1), *across, ("Space", 1))
        reach(f"to-{kind}")
        keys.press("Enter")
        rewriter.regions(kind, 1)

    (top, left, *_), (above, beside, *_) = bounds(crosses[18]), bounds(crosses[19])
    box(18, "copy", [("ArrowDown", top - 32), ("ArrowRight", left - 32)], [("ArrowDown", 5), ("Shift+ArrowRight", 2)])
    page.evaluate("() => document.activeElement.blur()")
    box(19, "paste", [("Shift+ArrowUp", 4), ("ArrowLeft", 32 - beside)], [("Shift+ArrowDown", 2), ("ArrowRight", 16)])
    request = Request.of(rewriter.page.evaluate("() => rewritePage.work.asFile()"))
    for region, (y, x, height, width) in ((request.copy, (top, left, 5, 16)), (request.paste[0], (0, beside, 16, 16))):
        wanted = np.zeros((64, 64), bool)
        wanted[y : y + height, x : x + width] = True
        assert (region.mask == wanted).all()
    assert above == 0
    reach("memory")
    keys.press("Control+A")
    keys.type("60")
    reach("solve")
    keys.press("Enter")
    page.wait_for_selector(".edit.draft")
    plain = rewriter.shown("before")
    for _ in range(60):
        keys.press("Tab")
        if page.evaluate("() => document.activeElement.type") == "checkbox":
            break
    keys.press("Space")
    page.wait_for_selector("#rewrite[data-edits='']")
    assert page.evaluate("() => document.activeElement.type") == "checkbox", "the focus stays where it was"
    assert same(rewriter.shown("after"), plain)
    keys.press("Control+Z")
    rewriter.visitor.until("() => document.getElementById('rewrite').dataset.edits.endsWith('~1')")
    keys.press("Tab")
    for _ in range(6):
        keys.press("ArrowLeft")
    rewriter.visitor.until("() => document.getElementById('rewrite').dataset.edits.endsWith('~0.7')")


def test_a_brush_paints_and_an_eraser_takes_away(home, visitors):  # noqa: F811
    rewriter = Rewriter(visitors(home[1])).open()
    page = rewriter.page
    rewriter.seed(18)
    page.fill("#rewrite-width", "6")
    rewriter.drag(20, 10, 20, 50)
    page.wait_for_selector("#rewrite[data-marked=yes]")
    page.click("#rewrite-tool-erase")
    rewriter.drag(20, 30, 20, 60)
    page.click("#rewrite-to-paste")
    rewriter.regions("paste", 1)
    (region,) = rewriter.work()["request"]["paste"]
    plain = {"format": "ganatomy.request", "version": 1, "resolution": 64, "goal": "erase", "paste": [region]}
    mask = Request.of(plain).paste[0].mask
    assert set(np.unique(mask)) == {0, 1}
    assert mask[18:22, 12:26].all()
    assert not mask[:, 30:].any()
    assert not mask[26:].any()
    assert not mask[:14].any()


def test_two_visitors_do_not_see_each_other(home, visitors, crosses):  # noqa: F811
    one, two = (Rewriter(visitors(home[1])).open() for _ in range(2))
    ask(one, crosses)
    one.page.click("#rewrite-solve")
    one.page.wait_for_selector(".edit")
    two.page.reload()
    two.ready()
    assert two.page.query_selector(".edit") is None
    assert two.page.query_selector("#rewrite-copy figure") is None
    two.typed(seeds=SEEDS)
    assert same(two.shown("after"), two.shown("before"))
    assert not same(one.shown("after"), one.shown("before"))
    third = Rewriter(two.visitor)
    third.page.goto(third.visitor.address + "/jobs")
    third.page.wait_for_selector(".job.done")
    assert "blue crosses" not in third.page.inner_text("main")


def test_tabs_of_one_browser_share_the_work(home, visitors):  # noqa: F811
    rewriter = Rewriter(visitors(home[1])).open()
    other = rewriter.page.context.new_page()
    other.goto(rewriter.visitor.address + "/rewrite/seven")
    other.wait_for_selector("#rewrite[data-ready=yes]")
    rewriter.page.click("#rewrite-all")
    rewriter.page.click("#rewrite-to-paste")
    other.wait_for_selector("#rewrite-paste figure")


def test_a_server_that_has_forgotten_is_reminded(seven, tmp_path, visitors, planted, monkeypatch):  # noqa: F811
    shelves, real = [], app.rewriting.Shelf
    monkeypatch.setattr(app.rewriting, "Shelf", lambda: shelves.append(real()) or shelves[-1])
    shutil.copy(seven, tmp_path / "seven.h5")
    recipe = Recipe(dissect.ablate("layer3", range(20)), planted)
    recipe.save(tmp_path / "twenty.safetensors")
    with serving([tmp_path / "seven.h5"]) as (address, _):
        visitor = visitors(address, allowed=("410",))
        rewriter = Rewriter(visitor).open()
        rewriter.typed(seeds=SEEDS)
        rewriter.page.set_input_files("#rewrite-bring", tmp_path / "twenty.safetensors")
        rewriter.page.wait_for_selector(".edit")
        wanted = drawn(planted, FRESH, recipe)
        assert same(rewriter.shown("after"), wanted)
        shelf = shelves[-1]
        shelf._files.clear()
        rewriter.page.reload()
        rewriter.ready()
        assert same(rewriter.shown("after"), wanted)
        assert len(shelf._files) == 1


def test_a_request_is_saved_and_read_again(home, visitors, crosses):  # noqa: F811
    folder, address = home
    rewriter = Rewriter(visitors(address, allowed=("422",))).open()
    page = rewriter.page
    ask(rewriter, crosses)
    rewriter.save("#rewrite-save").save_as(folder / "request.json")
    kept = Request.load(folder / "request.json")
    assert (kept.name, kept.goal, len(kept.context)) == ("blue crosses", "mean", 21)
    page.click("#rewrite-new")
    page.wait_for_selector("#rewrite-copy figure", state="detached")
    page.set_input_files("#rewrite-load", folder / "request.json")
    rewriter.regions("copy", 1)
    rewriter.save("#rewrite-save").save_as(folder / "again.json")
    assert Request.load(folder / "again.json").described() == kept.described()
    assert len(page.query_selector_all("#rewrite-context figure")) == 1
    (folder / "wrong.json").write_text(json.dumps({"format": "other"}))
    page.set_input_files("#rewrite-load", folder / "wrong.json")
    page.wait_for_selector("#rewrite-says-request.trouble:has-text('ganatomy.request')")
    assert page.query_selector("#rewrite-copy figure"), "what cannot be read changes nothing"


def test_solving_is_watched_found_again_and_cancelled(home, visitors, crosses, monkeypatch):  # noqa: F811
    real = app.rewriting.rewrite.recall

    def slowly(*given, progress, **how):
        def told(done, total):
            time.sleep(0.1)
            progress(done, total)

        return real(*given, progress=told, **how)

    monkeypatch.setattr(app.rewriting.rewrite, "recall", slowly)
    rewriter = Rewriter(visitors(home[1])).open()
    page = rewriter.page
    ask(rewriter, crosses)
    rewriter.typed(memory="2000")
    page.click("#rewrite-solve")
    page.wait_for_selector("#rewrite-meter-solve:has-text('of 2000')")
    page.reload()
    rewriter.ready()
    page.wait_for_selector("#rewrite-meter-solve:has-text('of 2000')")
    page.click("#rewrite-cancel-solve")
    page.wait_for_selector("#rewrite-says-solve:has-text('Cancelled')")
    assert page.is_hidden("#rewrite-meter-solve")
    assert page.query_selector(".edit") is None
    assert not (home[0] / "seven.memory.h5").exists()
    page.click("#rewrite-clear")
    page.click("#rewrite-to-copy")
    page.wait_for_selector("#rewrite-says-request.trouble:has-text('Mark a place')")
