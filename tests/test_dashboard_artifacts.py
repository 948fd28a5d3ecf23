"""In a browser: broken images are tagged, units ranked, their number chosen, and what is left is exported."""

import base64
import csv
import io
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from dashboard import Visitor, chromium, planted_file, serving, visitors  # noqa: F401
from networks import dcgan_tensors
from PIL import Image

import dissect
import segmodels
from app.library import Library
from app.pages.suspects_panel import gallery
from app.proof import Seeds, unseen
from app.server import context_of
from app.suspects import CURVE, PROVE, RANK, Asked
from app.tagging import Tagged, opened
from dissect import GanatomyError
from dissect.artifacts import Ranking
from dissect.artifacts.tags import Tags, packed, write_tags
from dissect.metrics.extractors import Pixels
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


def bring(page, path):
    """Open a file of tags, by keyboard."""
    page.focus("#artifacts-open button")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(path)


def shown(page, name):
    return page.inner_text(f"#artifacts-{name}")


def suspects(page):
    cards = shown(page, "suspects").split("\n")
    return [int(card.split("unit ")[1].split()[0]) for card in cards if "unit " in card]


def choose(visitor, name, value):
    """Choose from a list, as people do."""
    visitor.page.click(f"#artifacts-{name}")
    visitor.page.click(f"[role=option]:visible >> text=/^{value}/ >> nth=0")


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
    assert sorted(suspects(page)[:2]) == garbage
    page.fill("#artifacts-reference", "real")
    page.keyboard.press("Enter")
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
    page.click("#artifacts-prove")  # the same, with its report
    visitor.until("() => document.querySelector('#artifacts-made')")
    page.reload()  # it waits to be saved, and its link is where the button was that asked for it
    visitor.until("() => document.querySelector('#artifacts-made') && document.querySelector('#artifacts-prove')")
    page.locator("#artifacts-prove").scroll_into_view_if_needed()
    place = page.locator("#artifacts-made").bounding_box()
    assert 0 <= place["y"] <= 900 - place["height"]
    with page.expect_download() as saving:
        page.click("#artifacts-made")
    assert saving.value.suggested_filename == "run-clean.zip"
    saving.value.save_as(tmp_path / "clean.zip")
    zipfile.ZipFile(tmp_path / "clean.zip").extractall(tmp_path)
    proved = dissect.load(tmp_path / "run-clean/cleaned.bundle")
    assert torch.equal(proved(codes), cleaned(codes))
    report = (tmp_path / "run-clean/index.html").read_text(encoding="utf-8")
    assert "2 units of layer2 taken away" in report
    assert "plain, after" in report
    assert "nearer to the reference without these units" in report
    page.click("#artifacts-checkpoint")  # a planted generator has no file
    settled(visitor, "came from no file")
    other = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")  # another visitor has none of it
    other.until("() => document.querySelector('#artifacts-tags').innerText === '0 broken, 0 fine'")
    assert "Nothing has been ranked" in shown(other.page, "suspects")


def _bytes(values):
    return io.BytesIO(bytes(values))


@pytest.fixture(scope="module")
def areas(garbage):
    """Boxes around the garbage of the first seeds that show some, in shares of the image's side."""
    generator, found = dissect.load("planted:1"), {}
    codes, edit = generator.sample(SEEDS), dissect.ablate(LAYER, garbage)
    changed = (generator(codes) != generator(codes, edit)).any(1).numpy()
    for seed in SEEDS:
        if changed[seed].any() and len(found) < 4:
            rows, columns = (np.flatnonzero(changed[seed].any(axis)) for axis in (1, 0))
            side = changed.shape[-1]
            found[seed] = (columns[0] / side, rows[0] / side, (columns[-1] + 1) / side, (rows[-1] + 1) / side)
    return found


def test_marked_regions_are_ranked_by_saved_and_opened_again(address, garbage, areas, visitors, tmp_path):  # noqa: F811
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page = visitor.page
    assert len(areas) >= 3
    for number, (seed, box) in enumerate(areas.items(), 1):
        page.click(tile(seed))  # and it is there to be marked
        visitor.mark("artifacts-where", seed, box)
        said = f"{number} of {number} are marked"
        visitor.until("said => document.querySelector('#artifacts-where').innerText.includes(said)", said)
    choose(visitor, "strategy", "defect")
    page.click("#artifacts-rank")
    settled(visitor, "measured in")
    visitor.until("() => document.querySelectorAll('#artifacts-suspects .unit').length > 10")
    assert sorted(suspects(page)[:2]) == garbage
    with page.expect_download() as saving:
        page.click("#artifacts-save")
    assert saving.value.suggested_filename == "tags.zip"
    saving.value.save_as(tmp_path / "tags.zip")
    tags = dissect.artifacts.read_tags(tmp_path / "tags.zip")
    assert set(tags.regions) == set(areas)
    for seed, (left, top, right, bottom) in areas.items():
        side = tags.regions[seed].shape[0]
        rows, columns = (np.flatnonzero(tags.regions[seed].any(axis)) for axis in (1, 0))
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / side
        np.testing.assert_allclose(drawn, (left, top, right, bottom), atol=1.5 / 32)
    other = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    other.page.on("filechooser", lambda _: None)  # from here on no dialog opens, not only from some time after the key
    other.settle("#artifacts-sheet button")
    bring(other.page, tmp_path / "tags.zip")
    other.until(f"() => document.querySelector('#artifacts-tags').innerText === '{len(areas)} broken, 0 fine'")
    other.until(f"() => document.querySelector('#artifacts-where').innerText.includes('{len(areas)} of {len(areas)}')")
    other.page.click(tile(min(areas)))
    other.until(f"() => document.querySelector('#artifacts-tags').innerText === '{len(areas) - 1} broken, 1 fine'")
    bring(other.page, tmp_path / "tags.zip")  # the same once more
    other.until(f"() => document.querySelector('#artifacts-tags').innerText === '{len(areas)} broken, 0 fine'")
    (tmp_path / "large.csv").write_bytes(b"x" * 3_200_000)
    other.page.set_input_files("#artifacts-open input", tmp_path / "large.csv")
    other.until("() => document.querySelector('#artifacts-opened').innerText.includes('large.csv is larger than')")
    (tmp_path / "bad.csv").write_text("seed,tag\n1,maybe\n")
    other.page.set_input_files("#artifacts-open input", tmp_path / "bad.csv")
    other.until("() => document.querySelector('#artifacts-opened').innerText.includes('bad.csv, line 2')")
    assert shown(other.page, "tags") == f"{len(areas)} broken, 0 fine"  # and what was there is there


def test_a_region_that_comes_from_elsewhere_is_shown_and_not_painted_over(address, visitors, tmp_path):  # noqa: F811
    """By a file, and by another tab of the same browser, whose tags are everybody's."""
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page, region = visitor.page, np.zeros((64, 64), bool)
    page.click(tile(0))
    visitor.mark("artifacts-where", 0, (0.1, 0.1, 0.3, 0.3))
    visitor.until("() => document.querySelector('#artifacts-where').innerText.includes('1 of 1')")
    region[40:56, 40:56] = True
    write_tags(tmp_path / "theirs.zip", Tags(np.array([0]), np.array([True]), {0: region}))
    page.set_input_files("#artifacts-open input", tmp_path / "theirs.zip")
    visitor.until("() => document.querySelector('#artifacts-opened').innerText.includes('1 tags of theirs.zip')")
    visitor.mark("artifacts-where", 0, (0.75, 0.1, 0.9, 0.25))
    page.wait_for_timeout(100)
    other = Visitor(page.context.new_page(), address).visit("/artifacts/run", "#artifacts-sheet button")
    other.page.click(tile(1))
    other.page.click(tile(1))
    other.until("() => document.querySelector('#artifacts-tags').innerText === '1 broken, 1 fine'")
    other.mark("artifacts-where", 0, (0.1, 0.75, 0.25, 0.9))
    visitor.until("() => document.querySelector('#artifacts-tags').innerText === '1 broken, 1 fine'")
    page.bring_to_front()  # one that is not seen draws slowly
    visitor.mark("artifacts-where", 0, (0.45, 0.05, 0.55, 0.15))
    page.wait_for_timeout(100)
    with page.expect_download() as saving:
        page.click("#artifacts-save")
    saving.value.save_as(tmp_path / "tags.zip")
    tags = dissect.artifacts.read_tags(tmp_path / "tags.zip")
    expected, side = np.zeros((128, 128), bool), 128
    expected[80:112, 80:112] = True
    for left, top, right, bottom in ((0.75, 0.1, 0.9, 0.25), (0.1, 0.75, 0.25, 0.9), (0.45, 0.05, 0.55, 0.15)):
        expected[round(top * side) : round(bottom * side), round(left * side) : round(right * side)] = True
    assert dict(zip(tags.seeds.tolist(), tags.broken.tolist(), strict=True)) == {0: True, 1: False}
    both, either = (expected & tags.regions[0]).sum(), (expected | tags.regions[0]).sum()
    assert both / either > 0.8  # the picture has 32 pixels a side


def test_an_earlier_ranking_comes_back_and_a_suspect_is_spared_by_a_click(folder, address, garbage, visitors):  # noqa: F811
    run = dissect.open(folder / "run.h5")
    dissect.effects.add(run, dissect.artifacts.rare(run, LAYER))
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page = visitor.page
    visitor.until("() => !document.querySelector('#artifacts-knowns').hidden")
    choose(visitor, "known", f"{LAYER}, rare")
    visitor.until("() => document.querySelectorAll('#artifacts-suspects .unit').length > 1")
    first = suspects(page)[0]
    page.focus("#artifacts-count [role=slider]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    visitor.until("() => document.querySelector('#artifacts-chosen').innerText.split(',').length === 2")
    spare = f'[id=\'{{"type":"artifacts-spare","unit":{first}}}\']'
    page.click(spare)
    visitor.until("unit => document.querySelector('#artifacts-spared').value === unit", str(first))
    visitor.until("spare => document.querySelector(spare).getAttribute('aria-pressed') === 'true'", spare)
    gone = "unit => !document.querySelector('#artifacts-chosen').innerText.split(', ').includes(unit)"
    visitor.until(gone, str(first))
    page.click(spare)
    visitor.until("() => document.querySelector('#artifacts-spared').value === ''")
    visitor.until("unit => document.querySelector('#artifacts-chosen').innerText.startsWith(unit + ',')", str(first))


def test_a_job_is_found_again_after_a_reload_and_cancelled(address, folder, visitors, monkeypatch):  # noqa: F811
    """It is held until the page was loaded anew; then its end comes to the page that did not begin it."""
    held = threading.Event()
    real = dissect.artifacts.curve

    def slowly(*arguments, progress, **named):
        progress(1, 100)
        while not held.is_set():
            time.sleep(0.05)
            progress(1, 100)
        return real(*arguments, progress=progress, **named)

    monkeypatch.setattr(dissect.artifacts, "curve", slowly)
    visitor = visitors(address).visit("/artifacts/run", "#artifacts-sheet button")
    page = visitor.page
    choose(visitor, "strategy", "rare")
    page.click("#artifacts-rank")
    settled(visitor, "measured in")
    choose(visitor, "extractor", "pixels")
    page.fill("#artifacts-images", "20")
    page.click("#artifacts-measure")
    settled(visitor, "taking units away")
    page.reload()
    visitor.settle("#artifacts-sheet button")
    settled(visitor, "taking units away")
    page.click("#artifacts-cancel")
    settled(visitor, "cancelled")
    visitor.until("() => document.querySelector('#artifacts-cancel').hidden")
    page.click("#artifacts-measure")
    settled(visitor, "taking units away")
    page.reload()
    visitor.settle("#artifacts-sheet button")
    page.click(tile(3))  # what is done while a job runs stays
    page.click("#artifacts-rank")  # nothing else is begun, whose result would take the place of the first
    visitor.until("() => document.body.innerText.includes('wait for it, or cancel it')")
    held.set()
    visitor.until("() => document.querySelector('#artifacts-verdict')")
    assert shown(page, "tags") == "1 broken, 0 fine"


def test_a_checkpoint_without_the_units_draws_what_the_page_shows(tmp_path, visitors):  # noqa: F811
    """A small DCGAN of random weights: units of its activations are exactly rows of weights and norms."""
    torch.save(dcgan_tensors(), tmp_path / "net.pth")
    generator = dissect.load(tmp_path / "net.pth")
    layer = generator.default_layers()[0]
    run = dissect.run(generator, segmodels.load("colors"), [layer], 40, tmp_path / "net.h5")
    dissect.effects.add(run, dissect.artifacts.given(generator, layer, [2, 0]))
    with serving([tmp_path / "net.h5"]) as (address, _):
        visitor = visitors(address).visit("/artifacts/net", "#artifacts-sheet button")
        page = visitor.page
        visitor.until("() => !document.querySelector('#artifacts-knowns').hidden")
        choose(visitor, "known", f"{layer}, given")
        visitor.until("() => document.querySelectorAll('#artifacts-suspects .unit').length === 2")
        page.focus("#artifacts-count [role=slider]")
        page.keyboard.press("ArrowRight")
        visitor.until("() => document.querySelector('#artifacts-checkpoint')")
        units = [int(unit) for unit in shown(page, "chosen").split(", ")]
        page.click("#artifacts-checkpoint")
        visitor.until("() => document.querySelector('#artifacts-made')")
        with page.expect_download() as saving:
            page.click("#artifacts-made")
        saving.value.save_as(tmp_path / "cleaned.pth")
        shows = np.asarray(Image.open(_bytes(pixels(page))).convert("RGB")).astype(int)
    cleaned, codes = dissect.load(tmp_path / "cleaned.pth"), generator.sample([40])
    expected = generator(codes, dissect.ablate(layer, units))
    torch.testing.assert_close(cleaned(codes), expected, rtol=0, atol=1e-5)
    assert not torch.equal(expected, generator(codes))
    assert np.abs(shows - to_bytes(cleaned(codes)[0].numpy())).max() <= 1


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
    choose(visitor, "strategy", "rare")
    page.click("#artifacts-rank")
    settled(visitor, "measured in")
    visitor.until("() => document.querySelector('#artifacts-suspects .unit')")
    page.focus("#artifacts-count [role=slider]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    visitor.until("() => document.querySelector('#artifacts-chosen').innerText.split(',').length === 2")
    chosen = shown(page, "chosen").split(", ")
    page.fill("#artifacts-spared", chosen[0])
    page.keyboard.press("Enter")
    visitor.until(
        "unit => !document.querySelector('#artifacts-chosen').innerText.split(', ').includes(unit)", chosen[0]
    )
    assert len(shown(page, "chosen").split(", ")) == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(RANK, "run", LAYER, "guess"), "expected the ranking as one of"),
        (
            Asked(RANK, "run", LAYER, "tagged", Tagged(((1, True), (2, False)))),
            "tag at least 3 images as broken and 3 as fine",
        ),
        (Asked(RANK, "run", "layer9", "rare"), "layer9"),
        (Asked(CURVE, "run", LAYER, ranking="ranking-0", images=5), "expected 20 to"),
        (Asked(CURVE, "run", LAYER, ranking="ranking-0"), "not beside the run any more"),
        (Asked(RANK, "run", LAYER, "defect", Tagged(((1, True),))), "mark in at least 3 broken images"),
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
                context.engine.suspects.start(Asked(CURVE, "run", LAYER, ranking=key, reference=name))
    finally:
        context.engine.close()


def test_a_run_without_maxima_is_named_without_its_folder(planted_file):  # noqa: F811
    context = context_of(Library([planted_file]))
    try:
        with pytest.raises(GanatomyError, match="maxima") as told:
            context.engine.suspects.start(Asked(RANK, planted_file.stem, "layer1", "rare"))
        assert str(planted_file.parent) not in str(told.value)
    finally:
        context.engine.close()


@pytest.fixture
def engine(folder):
    context = context_of(Library([folder / "run.h5"]))
    yield context.engine
    context.engine.close()


def ended(engine, asked):
    """Have a question answered, and return how its job ended."""
    number = engine.suspects.start(asked)
    end = time.monotonic() + 60
    while not (report := engine.suspects.report(number, asked.token)).state.ended:
        assert time.monotonic() < end
        time.sleep(0.02)
    return report


@pytest.mark.parametrize("theirs", [Seeds.after(range(200, 250)).choose, range(200, 290)], ids=["clean", "the page"])
def test_a_proof_is_on_images_that_no_curve_saw(folder, engine, monkeypatch, theirs):
    """Neither the latest, nor an earlier one: of `ganatomy clean`, or of more images."""
    run, generator, eye, proofs = dissect.open(folder / "run.h5"), dissect.load("planted:1"), Pixels(), []
    ranking = dissect.artifacts.given(generator, LAYER, [3, len(theirs) % 7])
    reference = np.stack([eye(generator(generator.sample([seed])))[0] for seed in range(9000, 9004)])
    made = dissect.artifacts.curve(generator, ranking, range(300, 304), reference, eye, steps=[1], random=1)
    assert made.facts["seeds"] == [300, 301, 302, 303]
    for seeds in (theirs, unseen(run, ranking, 20)):
        latest = dissect.effects.add(run, replace(made, facts={**made.facts, "seeds": list(seeds)}))

    def stop(_ground, seeds, *_):
        proofs.append(seeds)
        raise GanatomyError("that is enough")

    monkeypatch.setattr("app.suspects.proved", stop)
    monkeypatch.setattr(engine.suspects, "_reference", lambda *_: (reference, "four images"))
    key = dissect.effects.add(run, ranking)
    asked = Asked(PROVE, "run", LAYER, ranking=key, units=(3,), curve=latest, images=20, extractor="pixels")
    assert ended(engine, asked).error == "that is enough"
    (seeds,) = proofs
    assert len(seeds.prove) == 20
    assert not {*theirs, *range(200, 220)} & {*seeds.prove, *seeds.pool}


@pytest.mark.parametrize("reference", ["nothing", "nothing.zip"])
def test_what_a_job_says_names_no_folder_of_this_machine(folder, engine, reference):
    (folder / "nothing").mkdir(exist_ok=True)
    (folder / "nothing.zip").write_bytes(b"PK")
    run = dissect.open(folder / "run.h5")
    key = dissect.effects.add(run, dissect.artifacts.rare(run, LAYER))
    told = ended(engine, Asked(CURVE, "run", LAYER, ranking=key, reference=reference, images=20, extractor="pixels"))
    assert reference in told.error
    assert str(folder) not in told.error


def test_a_ranking_that_may_be_chance_says_so(folder):
    found = Library([folder / "run.h5"]).runs[0]
    score = np.linspace(0, 1, found.layer(LAYER).units)
    for p, expected in ((0.2, True), (0.01, False)):
        ranking = Ranking({"strategy": "tagged", "layer": LAYER}, score, {"p_adjusted": np.full(len(score), p)})
        first = gallery(found, ranking)[0]
        assert (getattr(first, "id", "") == "artifacts-chance") == expected


def brought(regions):
    """A file of tags as a browser sends it."""
    seeds = np.array(list(regions))
    return "data:;base64," + base64.b64encode(packed(Tags(seeds, np.ones(len(seeds), bool), regions))).decode()


def test_a_brought_region_is_kept_small_and_where_it_was():
    region = np.zeros((512, 512), bool)
    region[100:200, 300:500] = True
    found = Tagged.of(opened("tags.zip", brought({7: region}))).read()
    assert len(opened("tags.zip", brought({7: region}))["regions"]["7"]) < 1000
    np.testing.assert_array_equal(found.regions[7], region[2::4, 2::4])


@pytest.mark.parametrize("seed", [-1, 2**32, 2**80])
def test_seeds_that_no_page_sends_are_told(seed):
    with pytest.raises(GanatomyError, match="expected seeds from 0"):
        Tagged.of({"tags": {str(seed): "broken"}})


def test_a_small_file_of_huge_regions_takes_no_memory():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        picture = io.BytesIO()
        Image.new("1", (9000, 9000)).save(picture, "PNG")
        archive.writestr("tags.csv", "seed,tag,region\n" + "".join(f"{i},broken,r.png\n" for i in range(1000)))
        archive.writestr("r.png", picture.getvalue())
    assert len(out.getvalue()) < 10_000
    tracemalloc.start()
    with pytest.raises(GanatomyError, match="line 3: the regions are too large together"):
        opened("tags.zip", "data:;base64," + base64.b64encode(out.getvalue()).decode())
    assert tracemalloc.get_traced_memory()[1] < 3 * 9000**2  # of one picture
    tracemalloc.stop()


def drawn(mask):
    """A mask as the editor of the page sends it: the alpha of a PNG."""
    out, alpha = io.BytesIO(), Image.fromarray(mask.astype(np.uint8) * 255)
    Image.merge("LA", (Image.new("L", alpha.size), alpha)).save(out, "PNG")
    return out.getvalue()


def test_images_that_were_found_fine_are_no_unseen_ones(folder, engine):
    """Else what is judged by the other images after the run has fewer broken ones than there are."""
    region = drawn(np.eye(16, dtype=bool))
    tags = tuple((seed, seed % 2 == 0) for seed in range(200, 210))  # after the run's
    asked = Asked(RANK, "run", LAYER, "defect", Tagged(tags, tuple((s, region) for s, broken in tags if broken)))
    report, run = ended(engine, asked), dissect.open(folder / "run.h5")
    ranking = run.effects[report.result]
    assert ranking.facts["images"] == 5
    assert list(unseen(run, ranking, 3)) == [210, 211, 212]
