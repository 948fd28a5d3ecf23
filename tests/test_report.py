"""The static report: whole, linked, offline, escaped; its masks against NumPy."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dissect
import segmodels
from app.figures import Panel, units_per_concept
from app.folders import file_names, replacing
from app.masks import DIM, FOG, Pictures, above, spotlight
from app.profiles import LayerProfile
from app.report import MARKER, TOP_SAMPLES, report
from dissect.generators.planted_truth import bilinear
from segmodels import Concept, GanatomyError, Segmenter

HOSTILE = '<b onclick="x()">&amp;'


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.h5"
    layers = ["layer1", "layer3"]
    return dissect.run(dissect.load("planted:0"), segmodels.load("planted"), layers, samples=64, out=path)


@pytest.fixture(scope="session")
def folder(planted_run, tmp_path_factory):
    return report(planted_run, tmp_path_factory.mktemp("pages") / "report").parent


class Page(HTMLParser):
    """Collects what a page refers to, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.text, self.ids, self.tags = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_data(self, data):
        self.text.append(data)


def pages(folder):
    return sorted(folder.rglob("*.html"))


def check_links(folder):
    for path in pages(folder):
        page = Page(path)
        assert len(page.links) > 5
        for link in page.links:
            parts = urlsplit(link)
            assert (parts.scheme, parts.netloc, parts.path.startswith("/")) == ("", "", False), (path, link)
            target = (path.parent / unquote(parts.path)).resolve()
            assert target.is_file(), (path, link)
            assert target.is_relative_to(folder.resolve()), (path, link)


def test_every_link_leads_to_a_file_of_the_report(folder):
    check_links(folder)


def test_nothing_comes_from_a_network(folder):
    for path in [*pages(folder), folder / "report.css", folder / "report.js"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|(?:src|href|url)\s*[=(]\s*[\"']?//|@import", text), path


def test_every_unit_has_a_page_and_its_strips(folder, planted_run):
    for name in planted_run.layers:
        units = planted_run.layer(name).units_count
        assert {p.stem for p in (folder / "units" / name).iterdir()} == {str(u) for u in range(units)}
        assert len(list((folder / "images" / name).iterdir())) == 3 * units
        assert sum("data-rank" in a for _, a in Page(folder / "layers" / f"{name}.html").tags) == units


def test_the_chart_counts_labelled_units(planted_run):
    profiles = [LayerProfile(planted_run, name) for name in planted_run.layers]
    panels = [Panel(p.name, p.units, p.per_concept) for p in profiles]
    figure = units_per_concept(panels, planted_run.concepts)
    bars = [trace for trace in figure.data if trace.customdata is not None]
    assert sum(sum(trace.y) for trace in bars) == sum(
        (planted_run.layer(n).label > 0).sum() for n in planted_run.layers
    )
    for trace in bars:
        assert list(trace.y) == sorted(trace.y, reverse=True)
        for y, (panel, concept) in zip(trace.y, trace.customdata, strict=True):
            assert y == (planted_run.layer(panels[panel].layer).label == concept).sum()


def test_a_chart_without_labels_has_empty_panels():
    figure = units_per_concept([Panel("a", 3, {}), Panel("b", 3, {})], [Concept("unlabelled"), Concept("x", "y")])
    assert not [trace for trace in figure.data if trace.customdata is not None]
    assert len(figure.layout.annotations) == 2


@pytest.mark.parametrize("size", [64, 128])
def test_a_mask_is_the_thresholded_upsampled_map(planted_run, size):
    for name in planted_run.layers:
        layer = LayerProfile(planted_run, name)
        units = [u for u in range(layer.units) if layer.label[u]][:5]
        for profile in layer.profiles(units, TOP_SAMPLES):
            threshold = planted_run.layer(name).threshold[profile.unit, layer.label[profile.unit]]
            maps = np.stack([top.feature for top in planted_run.layer(name).top(profile.unit)[:TOP_SAMPLES]])
            expected = bilinear(maps.astype(np.float32), size) > threshold
            assert np.array_equal(above(profile.tops.maps, profile.activation.threshold, size, size), expected)
            assert expected.any()
            assert not expected.all()


def test_masks_are_bright_on_the_planted_shape(planted_run):
    """On the last layer a painting unit's map is its shape: the mask must be where the truth has the concept."""
    truth = dissect.load("planted:0").truth
    name = planted_run.layers[-1]
    layer, index = LayerProfile(planted_run, name), {c.name: i for i, c in enumerate(planted_run.concepts)}
    units = [u for u, kind in truth.kind[name].items() if kind == "painting" and layer.label[u]]
    assert units
    for profile in layer.profiles(units, 4):
        concept = index[truth[name][profile.unit]]
        labels = (truth.labels(profile.tops.seeds.tolist()) == concept).any(1)
        assert (above(profile.tops.maps, profile.activation.threshold, 64, 64) == labels).mean() > 0.97


def test_spotlight_dims_the_outside_and_keeps_the_inside():
    picture = np.full((1, 32, 32, 3), 200, np.uint8)
    mask = np.zeros((1, 32, 32), bool)
    mask[:, :16] = True
    lit = spotlight(picture, mask)[0]
    assert (abs(lit[:14].astype(int) - 200) <= 1).all()
    assert (abs(lit[18:] - (DIM * 200 + np.array(FOG))) <= 2).all()
    assert (lit[15:17].min((0, 1)) > 190).all()  # the outline
    assert (abs(spotlight(picture, np.ones((1, 32, 32), bool)).astype(int) - 200) <= 1).all()


def test_verdicts(planted_run):
    truth = dissect.load("planted:0").truth
    for name in planted_run.layers:
        layer = LayerProfile(planted_run, name)
        for profile in layer.profiles(range(layer.units), 1):
            assert profile.labelled == bool(planted_run.layer(name).label[profile.unit])
            assert bool(profile.why_not) != profile.labelled
            if truth.kind[name][profile.unit] == "inert":
                assert "same everywhere" in profile.why_not
            shares = profile.activation.exceedance
            assert (np.diff(shares) <= 0).all()
            assert 0 <= profile.activation.share_on <= 1
            _levels, bins = planted_run.layer(name).histogram(profile.unit)
            assert shares[0] == pytest.approx(bins[1:].sum() / bins.sum())


def test_fewer_units_are_the_best(planted_run, tmp_path):
    seen = []
    folder = report(planted_run, tmp_path / "few", units=3, progress=lambda *state: seen.append(state)).parent
    check_links(folder)
    total = 3 * len(planted_run.layers)
    assert seen == [(i + 1, total) for i in range(total)]
    for name in planted_run.layers:
        kept = {int(p.stem) for p in (folder / "units" / name).iterdir()}
        assert kept == set(LayerProfile(planted_run, name).ranking(3))
        assert all(planted_run.layer(name).label[list(kept)] > 0)
    with pytest.raises(GanatomyError, match="positive number of units"):
        report(planted_run, tmp_path / "none", units=0)


class Reused(nn.Module):
    """A generator whose layer is used twice, so its second use is called ``act@2``."""

    def __init__(self):
        super().__init__()
        self.start, self.act, self.end = nn.Linear(8, 6 * 16), nn.Tanh(), nn.Conv2d(6, 3, 1)
        self.mix = nn.Conv2d(6, 6, 1)

    def forward(self, z):
        x = self.act(self.start(z).reshape(-1, 6, 4, 4))
        return torch.tanh(self.end(self.act(self.mix(x))))


class Halves(Segmenter):
    """Names the bright and the dark pixels, in words that would break a page that does not escape them."""

    def __init__(self):
        concepts = [Concept("unlabelled"), Concept(HOSTILE, "</script><script>x"), Concept("dark", "")]
        super().__init__("halves", concepts, "0" * 64)

    def segment(self, images, keys):
        return (images.mean(1, keepdim=True) < 0).long() + 1


def test_a_page_shows_the_examples_of_each_band(folder, planted_run):
    """The highest band first, each sample with its own place in the strip, whose tile is its own picture."""
    name, tiles = planted_run.layers[0], Pictures(dict(planted_run.thumbnails()))
    layer = LayerProfile(planted_run, name)
    for profile in layer.profiles([0, 5, 63], TOP_SAMPLES):
        page = (folder / "units" / name / f"{profile.unit}.html").read_text(encoding="utf-8")
        section = page.split('<section id="bands">')[1].split("</section>")[0]
        bands = re.split('<div class="band">', section)[1:]
        expected = planted_run.layer(name).examples(profile.unit)[::-1]
        assert len(bands) == len(expected) == 5
        places = []
        for text, band in zip(bands, expected, strict=True):
            assert f"{100 * band.low:.0f}–{100 * band.high:.0f}%" in text
            seeds = [int(seed) for seed in re.findall(r"samples/(\d+)\.jpg", text)]
            assert seeds == [example.seed for example in band.samples[::-1]]
            places += [(int(i), seed) for i, seed in zip(re.findall(r"--i:(\d+)", text), seeds, strict=True)]
        assert [place for place, _ in places] == list(range(len(places)))
        picture = np.asarray(Image.open(folder / "images" / name / f"{profile.unit}.bands.jpg"), int)
        maps = np.stack([example.feature for band in expected for example in band.samples[::-1]])
        lit = above(maps, profile.activation.threshold, tiles.height, tiles.width)
        shown = spotlight(tiles.tiles(np.array([seed for _, seed in places])), lit).astype(int)
        parts = np.stack(np.split(picture, len(places), 1))
        apart = abs(parts[:, None] - shown).mean((2, 3, 4))  # every tile against every sample
        assert (apart.argmin(1) == range(len(places))).all()
        assert apart.diagonal().max() < 6  # what JPEG changes


def test_an_older_run_has_pages_without_examples(planted_run, tmp_path):
    path = tmp_path / "old.h5"
    path.write_bytes(planted_run.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for name in planted_run.layers:
            del file[f"layers/{name}/examples"]
    folder = report(dissect.open(path), tmp_path / "old", units=2).parent
    check_links(folder)
    assert not list(folder.rglob("*.bands.jpg"))
    assert not any('id="bands"' in path.read_text(encoding="utf-8") for path in pages(folder))


def test_names_are_escaped_and_become_file_names(tmp_path):
    torch.manual_seed(0)
    G = dissect.load(Reused(), z_dim=8)
    layers = [layer.name for layer in G.layers if layer.channels == 6]
    assert any("@" in name for name in layers)
    run = dissect.run(G, Halves(), layers, samples=60, out=tmp_path / "run.h5")
    folder = report(run, tmp_path / "report").parent
    check_links(folder)
    assert any((run.layer(name).winner == 1).any() for name in layers)
    found = False
    for path in pages(folder):
        page, text = Page(path), path.read_text(encoding="utf-8")
        assert not any("onclick" in attrs for _, attrs in page.tags)
        assert "<script>x" not in text
        assert HOSTILE not in text
        found |= HOSTILE in "".join(page.text)
    assert found


def test_file_names():
    names = ["a.b", "A.B", "x:0", "x@0", "x/0", "..", "", "con", "nul.1", "é", "ü", "w" * 300, "w" * 301]
    made = list(file_names(names).values())
    assert len({name.casefold() for name in made}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) and len(name) < 100 for name in made)
    assert made[0] == "a.b"
    assert "con" not in made


def test_another_folder_is_refused_and_ours_is_replaced(planted_run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(GanatomyError, match="holds something else") as caught:
        report(planted_run, mine, units=1)
    assert "\n" not in str(caught.value)
    with pytest.raises(GanatomyError, match="not a folder"):
        report(planted_run, mine / "thesis.txt", units=1)
    with pytest.raises(GanatomyError, match="no such folder"):
        report(planted_run, tmp_path / "nowhere" / "report", units=1)
    with pytest.raises(GanatomyError, match="holds something else"):
        report(planted_run, Path("/"), units=1)
    assert (mine / "thesis.txt").read_text() == "irreplaceable"

    ours = tmp_path / "ours"
    ours.mkdir()
    assert report(planted_run, ours, units=1) == ours / "index.html"
    (ours / "units" / "old.html").write_text("old")
    report(planted_run, ours, units=1)
    assert (ours / MARKER).is_file()
    assert not (ours / "units" / "old.html").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "ours"}


def test_what_was_there_survives_a_failure(tmp_path):
    out = tmp_path / "out"
    with replacing(out, MARKER) as folder:
        (folder / MARKER).write_text("first")

    def fill_the_disk() -> None:
        with replacing(out, MARKER) as folder:
            (folder / MARKER).write_text("second")
            raise OSError(28, "No space left on device")

    with pytest.raises(GanatomyError, match="disk is full"):
        fill_the_disk()
    assert (out / MARKER).read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
