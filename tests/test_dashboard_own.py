"""In a browser: a concept is drawn on a few images, its units are found, and its masks are dissected by."""

import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dashboard import chromium, serving, visitors  # noqa: F401
from networks import dcgan_tensors

import dissect
import segmodels
from app.pages.own import command_of
from app.sketches import MOST, Drawn
from app.weights import Weights
from segmodels import GanatomyError

LAYER, CONCEPT = "layer2", "cross"
SEEDS = range(24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    dissect.run(dissect.load("planted:7"), segmodels.load("colors"), ["layer1", LAYER], 120, folder / "run.h5")
    return folder


@pytest.fixture(scope="module")
def crosses():
    """Boxes around the cross in the first images that show one, in shares of the image's side, and one without."""
    generator, segmenter = dissect.load("planted:7"), segmodels.load("planted")
    index = [concept.name for concept in segmenter.concepts].index(CONCEPT)
    masks = (segmenter.segment(generator(generator.sample(SEEDS)), list(SEEDS)) == index).any(1).numpy()
    found, side = {}, masks.shape[-1]
    for seed in SEEDS:
        if masks[seed].any() and len(found) < 4:
            rows, columns = (np.flatnonzero(masks[seed].any(axis)) for axis in (1, 0))
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / side
            found[seed] = tuple(box.clip(0.02, 0.98).tolist())  # the canvas has round corners
    without = next(seed for seed in SEEDS if not masks[seed].any())
    return found, without


@pytest.fixture(scope="module")
def address(folder):
    with serving([folder / "run.h5"]) as (address, _):
        yield address


def tile(seed):
    return f'[id=\'{{"seed":{seed},"type":"own-tile"}}\']'


def test_draw_compare_reload_save_and_dissect(address, folder, crosses, visitors, tmp_path):  # noqa: F811
    areas, without = crosses
    visitor = visitors(address).visit("/concepts/run", "#concepts-own")
    page = visitor.page
    page.click("#concepts-own")
    visitor.settle("#own-sheet button")
    page.click("#own-look")
    visitor.until("() => document.querySelector('#own-says').innerText.includes('choose 2 images or more')")
    for number, (seed, box) in enumerate(areas.items(), 1):
        page.focus(tile(seed))
        page.keyboard.press("Enter")
        visitor.mark("own-where", seed, box)
        visitor.until(
            "said => document.querySelector('#own-count').innerText === said", f"{number} chosen, {number} marked"
        )
    page.click(tile(without))  # and one that says where it is not
    page.fill("#own-name", "my cross")
    page.click("#own-layer")
    page.click(f"[role=option]:visible >> text={LAYER}")
    page.click("#own-look")
    visitor.until("() => document.querySelectorAll('#own-units .unit').length")
    first = int(page.inner_text("#own-units .unit b").split()[1])
    assert CONCEPT in dissect.load("planted:7").truth.concepts[LAYER][first]
    page.reload()  # the drawing is kept
    visitor.settle("#own-sheet button")
    visitor.until("() => document.querySelector('#own-count').innerText === '5 chosen, 4 marked'")
    visitor.until("() => document.querySelector('#own-name').value === 'my cross'")
    with page.expect_download() as saving:
        page.click("#own-save")
    assert saving.value.suggested_filename == "my-cross.zip"
    saving.value.save_as(tmp_path / "masks.zip")
    zipfile.ZipFile(tmp_path / "masks.zip").extractall(tmp_path)
    masks = segmodels.load(f"masks:{tmp_path / 'my-cross'}")
    assert [concept.name for concept in masks.concepts] == ["unlabelled", "my cross"]
    labels = masks.segment(torch.zeros(5, 3, 32, 32), [*areas, without])
    for (left, top, right, bottom), label in zip(areas.values(), labels[:, 0].numpy(), strict=False):
        rows, columns = (np.flatnonzero(label.any(axis)) for axis in (1, 0))
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(label)
        np.testing.assert_allclose(drawn, (left, top, right, bottom), atol=0.05)
    assert not labels[-1].any()
    run = dissect.run(dissect.load("planted:7"), masks, LAYER, seeds=[*areas, without], out=tmp_path / "mine.h5")
    assert run.samples == 5
    page.click("#own-look")
    visitor.until("() => document.querySelector('#own-paint')")
    page.click("#own-paint")  # with these units
    visitor.settle("#paint canvas")
    assert str(first) in page.input_value('#paint [data-part="units"]').split(", ")
    other = visitors(address).visit("/own/run", "#own-sheet button")  # another visitor has none of it
    other.until("() => document.querySelector('#own-count').innerText === '0 chosen, 0 marked'")


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({}, "dcgan.pth"),
        ({"truncation": 1.0, "cutoff": None, "classes": None, "noise": "const"}, "dcgan.pth"),
        ({"truncation": 0.5, "cutoff": 8, "noise": "none"}, "dcgan.pth --truncation 0.5 --cutoff 8 --noise none"),
        ({"truncation": 0.4, "classes": 207}, "dcgan.pth --class 207 --truncation 0.4"),
    ],
)
def test_the_command_draws_the_images_that_were_drawn_on(samples, said):
    told = command_of("dcgan.pth", SimpleNamespace(manifest={"samples": samples}), "eye", [3, 5])
    assert told == f"ganatomy dissect {said} --segmenter masks:eye --seeds 3,5 --out eye.h5"


def test_classes_in_turn_are_given_for_each_seed():
    run = SimpleNamespace(manifest={"samples": {"classes": [7, 2, 7, 2]}}, seeds=np.arange(4))
    told = command_of("big.pth", run, "eye", [1, 2, 9])
    assert (
        "dissect.run(dissect.load('big.pth'), segmodels.load('masks:eye'), seeds=[1, 2, 9], classes=[2, 7, 2]," in told
    )
    compile(told, "told", "eval")


def test_the_command_names_the_file_that_a_run_was_made_of(tmp_path):
    torch.save(dcgan_tensors(), tmp_path / "net.pth")
    generator = dissect.load(tmp_path / "net.pth")
    run = dissect.run(generator, segmodels.load("colors"), generator.default_layers()[:1], 8, tmp_path / "run.h5")
    weights = Weights()
    weights.of(run)
    assert weights.called(run) == "net.pth"


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ({}, "choose 2 images or more"),
        ({"chosen": [1, 2, 3], "masks": {"1": PNG}}, "choose 2 images or more"),
        ({"chosen": ["a"]}, "expected masks as PNG"),
        ({"name": "unlabelled", "chosen": [1, 2], "masks": {"1": PNG, "2": PNG}}, "something else"),
        ({"chosen": [1, 2], "masks": {"1": "x", "2": "y"}}, "expected masks as PNG"),
        ({"chosen": list(range(MOST + 1)), "masks": {"1": PNG, "2": PNG}}, "at most 24 images"),
        ({"chosen": [-1, 2], "masks": {"-1": PNG, "2": PNG}}, "seeds from 0"),
    ],
)
def test_what_no_page_sends_is_told_in_a_line(work, words):
    with pytest.raises(GanatomyError, match=words):
        Drawn.of(work)


def test_a_mask_that_is_no_picture_is_told():
    with pytest.raises(GanatomyError, match="no PNG"):
        Drawn.of({"chosen": [1, 2], "masks": {"1": PNG, "2": PNG}}).folder()
