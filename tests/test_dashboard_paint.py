"""The Paint page in a browser, with mouse and keyboard; what is seen is checked by pixels and files."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from dashboard import chromium, planted_file, serving, visitors  # noqa: F401

import dissect
import segmodels
from dissect import Recipe
from dissect.pictures import decode, to_bytes

DATA = Path(__file__).parent / "data"
SEED = 3


@pytest.fixture(scope="module")
def site(planted_file):  # noqa: F811
    with serving([planted_file]) as (address, _):
        yield address


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:0")


class Painter:
    """A visitor on the Paint page."""

    def __init__(self, visitor, path):
        self.visitor, self.page = visitor, visitor.page
        visitor.visit(path)
        self.ready()

    def ready(self):
        self.visitor.until("() => Boolean(document.querySelector('#paint img[data-part=after]')?.src)")
        self.visitor.until("() => Boolean(paint.page.work.now.tool.brush)")
        self.settled()

    def settled(self):
        """Wait until what is shown is of the edits as they are, and they are kept."""
        self.visitor.until("""() => { const { work, root } = paint.page;
            return !root.classList.contains('waiting') && work.saved === work.saves; }""")

    def part(self, name):
        return self.page.locator(f"#paint [data-part='{name}']")

    def stroke(self, *places):
        box = self.page.locator("#paint canvas").bounding_box()
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for place in at[1:]:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()
        self.settled()

    def click(self, name):
        self.part(name).click()
        self.settled()

    def press(self, keys):
        self.page.keyboard.press(keys)
        self.settled()

    def image(self, row="after"):
        data = self.part(row).get_attribute("src")
        return decode(base64.b64decode(data.partition(",")[2])).astype(int)

    def canvas(self):
        data = self.page.evaluate("document.querySelector('#paint canvas').toDataURL('image/png')")
        return decode(base64.b64decode(data.partition(",")[2])).astype(int)

    def edits(self):
        return self.page.evaluate("paint.page.work.now.edits")

    def saved(self, name, folder):
        with self.page.expect_download() as waiting:
            self.part(name).click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


@pytest.fixture
def painter(site, visitors):  # noqa: F811
    return Painter(visitors(site), f"/paint/planted?concept=cyan&seed={SEED}")


def differs(one, other):
    return np.abs(one - other).max() > 30


def test_painting_is_undone_saved_and_comes_back(painter, planted, tmp_path):
    before = painter.image()
    assert np.array_equal(before, to_bytes(planted(planted.sample([SEED]))[0].numpy()))
    painter.click("kind-draw")
    painter.stroke((0.3, 0.3), (0.7, 0.3))
    first = painter.image()
    assert differs(first, before)
    assert np.abs(first - before)[45:].max() == 0, "the stroke was above"
    painter.stroke((0.3, 0.7), (0.7, 0.7))
    second = painter.image()
    assert np.abs(second - before)[40:50].max() > 30
    assert len(painter.edits()) == 1, "the same brush goes on with the same edit"
    painter.press("Control+z")
    assert np.array_equal(painter.image(), first)
    painter.press("Control+z")
    assert np.array_equal(painter.image(), before)
    assert painter.part("undo").is_disabled()
    painter.press("Control+Shift+z")
    painter.press("Control+y")
    assert np.array_equal(painter.image(), second)
    painter.click("undo")
    painter.click("redo")
    assert np.array_equal(painter.image(), second)

    path = painter.saved("save", tmp_path)
    recipe = Recipe.load(path)
    recipe.check(planted)
    assert np.array_equal(to_bytes(planted(planted.sample([SEED]), recipe)[0].numpy()), second)

    painter.page.reload()
    painter.ready()
    assert np.array_equal(painter.image(), second), "the work is kept, and the seed with it"
    painter.press("Control+z")
    painter.press("Control+z")
    assert np.array_equal(painter.image(), before), "and so is its history"
    painter.part("open").set_input_files(path)
    painter.visitor.until("() => document.querySelector('[data-part=says]').textContent.includes('1 edit from')")
    painter.settled()
    assert np.array_equal(painter.image(), second)
    assert Recipe.load(painter.saved("save", tmp_path)) == recipe, "no digit of it is lost on the way"


def test_everything_by_keyboard(painter):
    before = painter.image()
    painter.part("kind-draw").focus()
    painter.press("Enter")
    painter.page.locator("#paint canvas").focus()
    for key in ("]", "]", "Shift+ArrowUp", "ArrowLeft"):
        painter.press(key)
    painter.press(" ")
    once = painter.image()
    changed = np.argwhere(np.abs(once - before).max(-1) > 30)
    assert len(changed)
    assert changed[:, 0].mean() < 32, "above the middle"
    for _ in range(3):
        painter.press("Shift+ArrowDown")
    painter.press(" ")
    assert differs(painter.image(), once)
    painter.press("Control+z")
    assert np.array_equal(painter.image(), once)
    shown = painter.canvas()
    painter.page.keyboard.down("b")
    held = painter.canvas()
    painter.page.keyboard.up("b")
    assert differs(held, shown)
    assert np.array_equal(painter.canvas(), shown)


def test_edits_are_toggled_weakened_taken_back_and_deleted(painter):
    before = painter.image()
    painter.click("kind-draw")
    painter.stroke((0.2, 0.3), (0.8, 0.3))
    cyan = painter.image()
    painter.part("concept").select_option("yellow")
    painter.visitor.until("() => paint.page.work.now.tool.brush?.name === 'yellow'")
    painter.stroke((0.2, 0.7), (0.8, 0.7))
    both = painter.image()
    first, second = (edit["id"] for edit in painter.edits())
    painter.click(f"edit-{second}-on")
    assert np.array_equal(painter.image(), cyan)
    painter.press("Control+z")
    assert np.array_equal(painter.image(), both)

    painter.part(f"edit-{second}-strength").focus()
    for _ in range(10):
        painter.press("ArrowLeft")
    assert painter.edits()[1]["strength"] == pytest.approx(0.5)
    weaker = painter.image()
    assert np.abs(weaker - both)[40:].max() > 5
    assert np.array_equal(weaker[:25], both[:25])

    painter.click(f"edit-{first}-name")
    painter.click("kind-restore")
    painter.stroke((0.1, 0.3), (0.9, 0.3))
    assert np.abs(painter.image() - before)[:25].max() < np.abs(both - before)[:25].max()
    if len(painter.edits()) == 2:  # what was painted was as wide as the brush, so hardly anything is left of it
        painter.click(f"edit-{first}-away")
    painter.click(f"edit-{second}-away")
    assert np.array_equal(painter.image(), before)
    painter.click("undo")
    assert len(painter.edits()) == 1


def test_two_sessions_do_not_see_each_other_and_two_tabs_do(site, visitors):  # noqa: F811
    path = f"/paint/planted?concept=cyan&seed={SEED}"
    mine, yours = (Painter(visitors(site), path) for _ in range(2))
    before = yours.image()
    mine.click("kind-draw")
    mine.stroke((0.3, 0.3), (0.7, 0.3))
    painted = mine.image()
    yours.page.reload()
    yours.ready()
    assert yours.edits() == []
    assert np.array_equal(yours.image(), before)
    tab = mine.page.context.new_page()
    tab.goto(f"{site}/paint/planted")
    second = Painter.__new__(Painter)
    second.visitor, second.page = type(mine.visitor)(tab, site), tab
    second.ready()
    assert np.array_equal(second.image(), painted)
    second.press("Control+z")
    mine.visitor.until("() => !paint.page.work.now.edits.length")
    mine.settled()
    assert np.array_equal(mine.image(), before)


def test_units_and_concepts_lead_to_their_brush(site, visitors):  # noqa: F811
    visitor = visitors(site).visit("/unit/planted/layer1/3")
    visitor.page.click("#unit-paint")
    visitor.until("() => { const b = paint.page?.work?.now?.tool?.brush; return b && String(b.units) === '3'; }")
    assert visitor.path() == "/paint/planted"
    assert visitor.page.input_value("[data-part=layer]") == "layer1"
    visitor.visit("/concepts/planted/cyan")
    visitor.page.click("#concept-paint")
    visitor.until("() => paint.page?.work?.now?.tool?.brush?.name === 'cyan'")
    assert visitor.page.input_value("[data-part=concept]") == "cyan"
    assert int(visitor.page.input_value("[data-part=count]")) == len(
        visitor.page.input_value("[data-part=units]").split(", ")
    )


def test_pictures_and_exports_are_files(painter, planted, tmp_path):
    painter.click("kind-draw")
    painter.stroke((0.3, 0.3), (0.7, 0.3))
    assert np.array_equal(decode(painter.saved("picture", tmp_path).read_bytes()), painter.image())
    bundle = painter.saved("export", tmp_path)
    assert bundle.suffix == ".bundle"
    painter.visitor.until("() => document.querySelector('[data-part=says]').textContent.includes('bundle')")
    drawn = dissect.load(bundle)(planted.sample([SEED]))
    assert np.array_equal(to_bytes(drawn[0].numpy()), painter.image())
    painter.click("later")
    assert painter.part("seed").input_value() == str(SEED + 1)
    codes = planted.sample([SEED + 1])
    assert np.array_equal(painter.image(), to_bytes(dissect.load(bundle)(codes)[0].numpy()))


def test_codes_of_an_inversion_are_painted_on_and_exported(tmp_path, visitors):  # noqa: F811
    generator = dissect.load(shutil.copy(DATA / "sg2ada_uncond.safetensors", tmp_path))
    run = tmp_path / "run.h5"
    dissect.run(generator, segmodels.load("colors"), samples=12, out=run)
    w = np.random.default_rng(0).normal(size=(2, generator.num_ws, generator.w_dim)).astype(np.float32)
    np.save(tmp_path / "w.npy", w)
    layer = generator.default_layers()[1]
    with serving([run]) as (address, _):
        painter = Painter(visitors(address), f"/paint/run?layer={layer}&units=0,1")
        painter.part("open-latents").set_input_files(tmp_path / "w.npy")
        painter.visitor.until("() => paint.page.work.now.latents.length === 2")
        painter.settled()
        painter.part("latent").select_option("1")
        painter.settled()
        codes = generator.codes(w=w[1:])
        assert np.array_equal(painter.image(), to_bytes(generator(codes)[0].numpy()))
        painter.page.reload()
        painter.ready()
        assert np.array_equal(painter.image(), to_bytes(generator(codes)[0].numpy())), "the codes are kept"
        painter.click("everywhere")
        wanted = generator(codes, [dissect.ablate(layer, [0, 1])])
        assert np.array_equal(painter.image(), to_bytes(wanted[0].numpy()))
        path = painter.saved("export", tmp_path)
    assert path.suffix == ".bundle", "noise is added behind the units: no weights are exactly that"
    assert torch.allclose(dissect.load(path)(codes), wanted, atol=1e-5)
