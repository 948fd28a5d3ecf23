"""In a browser: broken images are tagged, units ranked, their number chosen, and what is left is exported."""

import csv

import numpy as np
import pytest
import torch
from dashboard import chromium, planted_file, serving, visitors  # noqa: F401
from PIL import Image

import dissect
import segmodels
from app.library import Library
from app.server import context_of
from app.suspects import Asked
from dissect import GanatomyError
from dissect.pictures import to_bytes

LAYER = "layer2"
SEEDS = range(24)


@pytest.fixture(scope="module")
def garbage():
    return sorted(unit for unit, kind in dissect.load("planted:1").truth.kind[LAYER].items() if kind == "garbage")


@pytest.fixture(scope="module")
def broken(garbage):
    """Which of the first seeds show garbage."""
    generator, edit = dissect.load("planted:1"), dissect.ablate(LAYER, garbage)
    codes = generator.sample(SEEDS)
    changed = (generator(codes) != generator(codes, edit)).flatten(1).any(1).tolist()
    return {seed for seed in SEEDS if changed[seed]}


@pytest.fixture(scope="module")
def folder(garbage, tmp_path_factory):
    """A run with maxima, and clean pictures beside it."""
    folder, generator = tmp_path_factory.mktemp("artifacts"), dissect.load("planted:1")
    dissect.run(generator, segmodels.load("planted"), [LAYER], 200, folder / "run.h5", maxima=True)
    (folder / "real").mkdir()
    edit = dissect.ablate(LAYER, garbage)
    for seed in range(9000, 9150):
        image = to_bytes(generator(generator.sample([seed]), edit)[0].numpy())
        Image.fromarray(image).save(folder / f"real/{seed}.png")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serving([folder / "run.h5"]) as (address, _):
        yield address


def tile(seed):
    return f'[id=\'{{"seed":{seed},"type":"artifacts-tile"}}\']'


def shown(page, name):
    return page.inner_text(f"#artifacts-{name}")


def settled(visitor, word):
    visitor.until("word => document.querySelector('#artifacts-says').innerText.includes(word)", word)


def pixels(page):
    """The first picture after the edit, as the server draws it."""
    source = page.get_attribute("#artifacts-sides img[alt=after]", "src")
    return page.evaluate(
        """async source => {
            const bytes = new Uint8Array(await (await fetch(source)).arrayBuffer());
            return Array.from(bytes);
        }""", source,
    )  # fmt: skip


def test_tag_rank_choose_export_and_the_file_draws_the_same(address, folder, garbage, broken, visitors, tmp_path):  # noqa: F811
    assert 3 <= len(broken) <= len(SEEDS) - 3
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page = visitor.page
    for seed in SEEDS:  # by mouse and by keyboard
        for _ in range(1 if seed in broken else 2):
            if seed % 2:
                page.click(tile(seed))
            else:
                page.focus(tile(seed))
                page.keyboard.press("Enter")
    told = f"{len(broken)} broken, {len(SEEDS) - len(broken)} fine"
    visitor.until("told => document.querySelector('#artifacts-tags').innerText === told", told)
    with page.expect_download() as saving:
        page.click("#artifacts-save")
    saving.value.save_as(tmp_path / "tags.csv")
    rows = list(csv.DictReader((tmp_path / "tags.csv").open()))
    assert {int(row["seed"]) for row in rows if row["tag"] == "broken"} == broken
    assert len(dissect.artifacts.read_tags(tmp_path / "tags.csv")) == 24
    page.click("#artifacts-rank")
    settled(visitor, "measured in")
    visitor.until("() => document.querySelectorAll('#artifacts-suspects .unit').length > 10")
    first = [int(card.split("unit ")[1].split()[0]) for card in shown(page, "suspects").split("\n") if "unit " in card]
    assert sorted(first[:2]) == garbage
    page.fill("#artifacts-reference", "real")
    page.fill("#artifacts-images", "80")
    page.click("#artifacts-extractor")
    page.click("text=pixels")
    page.click("#artifacts-measure")
    visitor.until("() => document.querySelector('#artifacts-verdict')")
    assert "Without 2 units images are nearer" in shown(page, "verdict")
    visitor.until("() => document.querySelector('#artifacts-sides img[alt=after]')")
    assert sorted(map(int, shown(page, "chosen").split(", "))) == garbage
    (kept,) = dissect.open(folder / "run.h5").effects.of("curve")
    assert kept.best == 2
    before = pixels(page)
    page.reload()  # the work is kept
    visitor.settle("#artifacts-sides img[alt=after]")
    assert shown(page, "tags").startswith(f"{len(broken)} broken")
    assert sorted(map(int, shown(page, "chosen").split(", "))) == garbage
    assert pixels(page) == before
    with page.expect_download() as saving:
        page.click("#artifacts-bundle")
    saving.value.save_as(tmp_path / "clean.bundle")
    with page.expect_download() as saving:
        page.click("#artifacts-recipe")
    saving.value.save_as(tmp_path / "recipe.safetensors")
    generator, cleaned = dissect.load("planted:1"), dissect.load(tmp_path / "clean.bundle")
    recipe = dissect.Recipe.load(tmp_path / "recipe.safetensors")
    assert recipe.maker.fingerprint == generator.fingerprint
    codes = generator.sample([200])  # the first unseen seed
    assert torch.equal(cleaned(codes), generator(codes, recipe))
    source = page.get_attribute("#artifacts-sides img[alt=after]", "src")
    assert "/200?" in source
    image = np.asarray(Image.open(_bytes(before)).convert("RGB"))
    assert (image == to_bytes(cleaned(codes)[0].numpy())).all()
    page.click("#artifacts-checkpoint")  # a planted generator has no file
    settled(visitor, "came from no file")
    other = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")  # another visitor has none of it
    other.until("() => document.querySelector('#artifacts-tags').innerText === '0 broken, 0 fine'")
    assert "Nothing has been ranked" in shown(other.page, "suspects")


def _bytes(values):
    import io

    return io.BytesIO(bytes(values))


def test_units_may_be_spared_and_pages_of_the_sheet_turned(address, garbage, visitors):  # noqa: F811
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page = visitor.page
    page.click("#artifacts-rank")
    settled(visitor, "tag at least 3 images")
    for _ in range(2):  # there is nothing before the first
        page.click("#artifacts-earlier")
        visitor.settle("#artifacts-sheet button")
    page.click("#artifacts-later")
    visitor.until("() => document.querySelector('#artifacts-sheet button').title === 'seed 24'")
    page.click("#artifacts-strategy")
    page.click("text=rare >> nth=-1")
    page.click("#artifacts-rank")
    settled(visitor, "measured in")
    visitor.until("() => document.querySelector('#artifacts-suspects .unit')")
    page.focus("#artifacts-count [role=slider]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    visitor.until("() => document.querySelector('#artifacts-chosen').innerText.split(',').length === 2")
    chosen = shown(page, "chosen").split(", ")
    page.fill("#artifacts-spared", chosen[0])
    visitor.until(
        "unit => !document.querySelector('#artifacts-chosen').innerText.split(', ').includes(unit)", chosen[0]
    )
    assert len(shown(page, "chosen").split(", ")) == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked("run", LAYER, "guess"), "expected the ranking as one of"),
        (Asked("run", LAYER, "tagged", ((1, True), (2, False))), "tag at least 3 images as broken and 3 as fine"),
        (Asked("run", "layer9", "rare"), "layer9"),
        (Asked("run", LAYER, ranking="ranking-0", images=5), "expected 20 to"),
        (Asked("run", LAYER, ranking="ranking-0"), "not beside the run any more"),
    ],
)
def test_questions_that_cannot_be_answered_are_one_line(folder, asked, words):
    context = context_of(Library([folder / "run.h5"]))
    try:
        with pytest.raises(GanatomyError, match=words) as told:
            context.engine.suspects.start(asked)
        assert "\n" not in str(told.value)
    finally:
        context.engine.close()


def test_a_reference_is_looked_for_beside_the_runs_only(folder):
    context = context_of(Library([folder / "run.h5"]))
    try:
        key = dissect.effects.add(
            dissect.open(folder / "run.h5"), dissect.artifacts.rare(dissect.open(folder / "run.h5"), LAYER)
        )
        for name in ("../elsewhere", "/etc", "none"):
            with pytest.raises(GanatomyError, match="beside the runs"):
                context.engine.suspects.start(Asked("run", LAYER, ranking=key, reference=name))
    finally:
        context.engine.close()


def test_a_run_without_maxima_is_named_without_its_folder(planted_file):  # noqa: F811
    context = context_of(Library([planted_file]))
    try:
        with pytest.raises(GanatomyError, match="maxima") as told:
            context.engine.suspects.start(Asked(planted_file.stem, "layer1", "rare"))
        assert str(planted_file.parent) not in str(told.value)
    finally:
        context.engine.close()
