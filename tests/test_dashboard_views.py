"""What the dashboard serves by address, and the files it may meet, without a browser."""

import base64
import csv
import gc
import io
import json
import shutil
import weakref
import zlib
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np
import pytest
from dashboard import planted_file, second_file  # noqa: F401
from PIL import Image
from plotly.utils import PlotlyJSONEncoder

import dissect
import segmodels
from app import cli, pdf, server
from app.at_levels import at_levels
from app.comparing import MAXIMA, PROFILES, changes, likeness, pairs
from app.context import Address, link
from app.drawings import short
from app.facts import percent
from app.library import Library
from app.masks import DIM, FOG
from app.pages import compare
from app.pages.grids import filters, sort
from app.pages.units import EXACT, rows
from app.pdf import pdf_of_svg
from app.safety import guard
from app.views import draw, tops_strip
from dissect import agreement
from dissect.levels import coarse_indices
from dissect.pictures import decode
from dissect.resample import resample
from segmodels import GanatomyError

HOST = {"Host": "localhost"}


@pytest.fixture(scope="session")
def library(planted_file, second_file):  # noqa: F811
    return Library([planted_file, second_file])


@pytest.fixture(scope="session")
def opened(library):
    return library.get("planted")


@pytest.fixture(scope="session")
def context(library):
    made = server.context_of(library)
    for run in library.runs:
        assert run.layers  # which computes their tables
    yield made
    made.engine.close()


@pytest.fixture(scope="session")
def web(context):
    return server.build(context, guard("127.0.0.1")).server.test_client()


# -- pictures ------------------------------------------------------------------------------------------------------


def top_samples(layer, unit):
    return layer.top(unit)[:12]


def examples_of_bands(layer, unit):
    return [sample for band in reversed(layer.examples(unit)) for sample in reversed(band.samples)]


@pytest.mark.parametrize(("kind", "samples"), [("tops", top_samples), ("bands", examples_of_bands)])
@pytest.mark.parametrize("level", [0, 20, 47])
def test_samples_are_bright_where_the_unit_is_on(level, kind, samples, opened, web):
    unit = opened.layer("layer1").ranking()[0]
    answer = web.get(link(kind, "planted", "layer1", unit, f"{level}.jpg"), headers=HOST)
    assert answer.mimetype == "image/jpeg"
    strip = np.asarray(Image.open(io.BytesIO(answer.data))).astype(float)
    layer = opened.run.layer("layer1")
    size, tops, pictures = 128, samples(layer, unit), dict(opened.run.thumbnails())
    assert strip.shape == (size, size * len(tops), 3)
    checked = 0
    for i, sample in enumerate(tops):
        on = resample(sample.feature.astype(np.float32)[None], size, size)[0] > layer.levels[unit, level]
        bright = np.asarray(Image.fromarray(decode(pictures[sample.seed])).resize((size, size), 3)).astype(float)
        tile = strip[:, i * size : (i + 1) * size]
        for where, expected in ((on, bright), (~on, None)):
            inner = _eroded(where)
            if inner.sum() < 200:
                continue
            checked += 1
            got = tile[inner].mean()
            if expected is not None:
                assert got == pytest.approx(expected[inner].mean(), abs=6)
            else:
                fog = np.mean(FOG)
                assert got == pytest.approx(DIM * bright[inner].mean() + fog, abs=6)
    assert checked >= len(tops)


@pytest.mark.parametrize(("kind", "rows", "columns"), [("tops", 2, 6), ("bands", 5, 3)])
def test_pictures_are_saved_without_loss_in_the_rows_of_the_page(kind, rows, columns, opened, web):
    unit, size = opened.layer("layer1").ranking()[0], 128
    at = link(kind, "planted", "layer1", unit)
    answer = web.get(f"{at}/20.png", headers=HOST)
    assert answer.mimetype == "image/png"
    assert f"planted-layer1-{unit}-{kind}.png" in answer.headers["Content-Disposition"]
    got, whole = (
        np.asarray(Image.open(io.BytesIO(data))).astype(float)
        for data in (answer.data, web.get(f"{at}/20.png?whole=1", headers=HOST).data)
    )
    assert got.shape == whole.shape == (rows * size, columns * size, 3)
    strip = np.asarray(Image.open(io.BytesIO(web.get(f"{at}/20.jpg", headers=HOST).data))).astype(float)
    samples = top_samples if kind == "tops" else examples_of_bands
    pictures = dict(opened.run.thumbnails())
    found = list(samples(opened.run.layer("layer1"), unit))
    assert len(found) == rows * columns
    for i, sample in enumerate(found):
        y, x = divmod(i, columns)
        here = slice(y * size, (y + 1) * size), slice(x * size, (x + 1) * size)
        plain = np.asarray(Image.fromarray(decode(pictures[sample.seed])).resize((size, size), 3))
        np.testing.assert_array_equal(whole[here], plain)
        assert np.abs(got[here] - strip[:, i * size : (i + 1) * size]).mean() < 6  # the strip is a JPEG
    assert np.abs(got - whole).mean() > 10, "one of them is dimmed where the unit is off"


def _eroded(mask):
    padded = np.pad(mask, 4, mode="edge")
    return np.all([padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in (0, 4, 8) for x in (0, 4, 8)], axis=0)


def test_pictures_may_be_kept_only_under_the_runs_id(opened, web):
    plain = web.get("/thumb/planted/layer1/3.jpg", headers=HOST)
    named = web.get(f"/thumb/planted/layer1/3.jpg?v={opened.run.id}", headers=HOST)
    assert plain.headers["Cache-Control"] == "no-cache"
    assert "immutable" in named.headers["Cache-Control"]
    assert plain.data == named.data
    seed = opened.run.layer("layer1").top(3)[0].seed
    assert web.get(f"/sample/planted/{seed}.jpg", headers=HOST).data == dict(opened.run.thumbnails())[seed]


def test_of_a_run_that_was_replaced_nothing_is_kept_and_nothing_is_mixed(planted_file, second_file, tmp_path):  # noqa: F811
    path = Path(shutil.copy(planted_file, tmp_path / "run.h5"))
    context = server.context_of(Library([path]))
    web = server.build(context, guard("127.0.0.1")).server.test_client()
    old = context.library.get("run")
    assert old.layers
    gone, before = weakref.ref(old), old.run.id
    at = [f"{link('thumb', 'run', 'layer1', 3)}.jpg", f"{link('tops', 'run', 'layer1', 3, 9)}.jpg"]
    at += [f"{link('drawing', 'run', 'layer1', 3, 'bars')}.svg"]
    first = [web.get(address, query_string={"v": before, "bare": 1}, headers=HOST) for address in at]
    assert all("immutable" in answer.headers["Cache-Control"] for answer in first)
    del old
    shutil.copy(second_file, tmp_path / "other.h5")
    (tmp_path / "other.h5").replace(path)
    assert context.library.get("run").layers
    for address, answer in zip(at, first, strict=True):
        stale = web.get(address, query_string={"v": before, "bare": 1}, headers=HOST)
        assert (stale.status_code, stale.headers.get("Cache-Control")) == (404, None)
        assert "another run by now" in stale.text
        now = web.get(address, query_string={"v": context.library.get("run").run.id, "bare": 1}, headers=HOST)
        assert now.data != answer.data
        assert "immutable" in now.headers["Cache-Control"]
    gc.collect()
    assert gone() is None, "the old run, its file and its pictures are let go"
    context.engine.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/thumb/planted/layer1/64.jpg", "units 0..63"), ("/thumb/planted/layer9/1.jpg", "unknown layer"),
     ("/thumb/other/layer1/1.jpg", "unknown run"), ("/tops/planted/layer1/1/48.jpg", "between 0 and 47"),
     ("/sample/planted/999999.jpg", "no picture of sample"), ("/drawing/planted/layer1/1/a.svg", "histogram or bars"),
     ("/units/other.csv", "unknown run"), ("/bands/planted/layer1/1/999.jpg", "")],
)  # fmt: skip
def test_what_is_not_there_is_a_line(path, words, web):
    answer = web.get(path, headers=HOST)
    assert answer.status_code == 404
    assert words in answer.text
    assert answer.text.count("\n") <= 1


def test_drawings_come_as_svg_and_pdf(opened, web):
    unit = opened.layer("layer1").ranking()[0]
    at = link("drawing", "planted", "layer1", unit)
    for kind in ("histogram", "bars"):
        svg = web.get(f"{at}/{kind}.svg?level=9", headers=HOST)
        assert svg.text.startswith("<svg")
        assert 'class="' not in svg.text
        assert "xmlns" in svg.text
        pdf = web.get(f"{at}/{kind}.pdf?level=9", headers=HOST)
        assert pdf.data.startswith(b"%PDF")
        assert "attachment" in pdf.headers["Content-Disposition"]
    layer = opened.run.layer("layer1")
    marked = draw(opened, "layer1", unit, "histogram", 9)
    assert f"on above {short(float(layer.levels[unit, 9]))}" in marked


def drawn(pdf):
    """The operators of a PDF's page, as text."""
    found = pdf[pdf.index(b"stream") + 6 : pdf.index(b"endstream")].strip()
    return zlib.decompress(base64.a85decode(found.removesuffix(b"~>"))).decode("latin-1")


def test_a_pdf_has_every_character_or_a_box_for_it(monkeypatch):
    text = '<svg xmlns="http://www.w3.org/2000/svg" width="99" height="50"><text x="9" y="20">{}</text></svg>'
    plain = pdf_of_svg(text.format("Größe − 3"))
    assert b"FontFile" not in plain, "what every reader has is not embedded"
    assert "(Gr\\366\\337e \\226 3) Tj" in drawn(plain)
    if any(Path(path).is_file() for path in pdf.WIDE_FILES):
        wide = pdf_of_svg(text.format("кошка ≥ α"))
        assert b"FontFile2" in wide
        assert len(wide) < 60_000, "in part"
    monkeypatch.setattr(pdf, "WIDE_FILES", ())
    pdf._wide_font.cache_clear()
    try:
        boxes = drawn(pdf_of_svg(text.format("x кошка y")))
    finally:
        pdf._wide_font.cache_clear()
    assert "(nnnnn) Tj" in boxes, "n is the box of ZapfDingbats"
    assert "(x ) Tj" in boxes


def test_the_table_of_units_is_the_runs(opened, web):
    answer = web.get("/units/planted.csv", headers=HOST)
    table = list(csv.DictReader(io.StringIO(answer.text)))
    for got, expected in zip(table, opened.run.table(), strict=True):
        assert got == {k: "" if v is None else str(v) for k, v in expected.items()}


# -- numbers -------------------------------------------------------------------------------------------------------


def test_numbers_at_a_level_are_those_of_the_counts(opened):
    for layer in opened.layers:
        counts = opened.run.layer(layer.name)
        chance = agreement.tally(counts.chance_counts.sum(0), opened.run.first_plane)
        coarse = coarse_indices(48).tolist()
        for unit in layer.ranking()[:3]:
            profile = opened.unit(layer.name, unit)
            got = at_levels(opened, profile)
            chosen = [c.index for c in profile.candidates]
            for level in (0, 17, 47):
                np.testing.assert_array_equal(got.iou[level], counts.iou_at(level=level)[unit, chosen])
                both, on = chance.both[unit, level, chosen], chance.on[unit, level]
                np.testing.assert_array_equal(got.chance[level], both / (on + chance.area[unit, chosen] - both))
            blocks = [
                opened.run.reader.read(f"layers/{layer.name}/{name}")[:, [unit]]
                for name in ("block_counts", "chance_block_counts")
            ]
            error = agreement.error_at_levels(*blocks, opened.run.first_plane)[0][:, chosen]
            for level in range(48):
                nearest = min(range(8), key=lambda q: (abs(coarse[q] - level), q))
                np.testing.assert_array_equal(got.error[level], error[nearest])
            # A coarse level's IoU is that of the same blocks: the error belongs to what stands beside it.
            merged = agreement.tally(blocks[0].sum(0), opened.run.first_plane)
            q = 5
            same = agreement.iou(merged.both[0, q, chosen], merged.on[0, q], merged.area[0, chosen])
            np.testing.assert_array_equal(got.iou[coarse[q]], same)


def test_rows_of_the_grid_are_the_runs_numbers(opened):
    found = rows(opened)
    assert len(found) == 128
    for row in found:
        expected = opened.run.layer(row["layer"]).row(row["unit"])
        assert (row["labelled"] == "yes") is expected["labelled"]
        if expected["labelled"]:
            assert row["concept"] == expected["concept"]
            assert row["iou"] == pytest.approx(expected["iou_heldout"], abs=1e-6)
            assert row["d"] == pytest.approx(expected["iou_heldout"] - expected["chance_heldout"], abs=2e-6)
    labelled = [row["labelled"] for row in found]
    assert labelled == sorted(labelled, reverse=True)


def test_filters_come_from_the_address():
    query = {"layer": "a.b", "labelled": "yes", "f": json.dumps({"iou": {"filterType": "number", "filter": 0.1}})}
    model = filters(query, EXACT)
    assert model["layer"] == {"filterType": "text", "type": "equals", "filter": "a.b"}
    assert set(model) == {"layer", "labelled", "iou"}
    for broken in ("{", "[]", "7", '{"iou": 3}', "[" * 100_000):
        assert filters({"f": broken}, EXACT) == {}
    assert filters({"only": "label lost"}, compare.EXACT)["change"]["filter"] == "label lost"


@pytest.mark.parametrize(
    ("text", "order"),
    [("d.desc", ["d desc 0"]), ("d.desc,iou.asc", ["iou asc 1", "d desc 0"]), ("x.asc,iou.desc", ["iou desc 1"]),
     ("iou.up,d,.asc", []), ("", [])],
)  # fmt: skip
def test_the_order_of_a_grid_comes_from_the_address(text, order):
    columns = [{"field": "iou"}, {"field": "d"}]
    sort(columns, {"sort": text})
    assert [f"{c['field']} {c['sort']} {c['sortIndex']}" for c in columns if "sort" in c] == order


@pytest.mark.parametrize("name", ["main.5", "a/b", "über %2F", "name@2", "a b?c#d&e=f"])
def test_names_survive_an_address(name):
    path, _, query = link("unit", "run", name, 7, q=name).partition("?")
    address = Address.of(path, "?" + query)
    assert address == Address("unit", ("run", name, "7"), {"q": name})
    assert quote(name, safe="") == name or path.count("/") == 4


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/unit/planted/layer1/x", "expected the number of a unit"), ("/unit/planted", "expected a layer"),
        ("/unit/planted/layer1/-1", "expected the number of a unit"), ("/unit/planted/layer1/²", "expected the number"),
        ("/unit/planted/layer1/" + "9" * 5000, "expected the number"), ("/unit", "expected a run"),
        ("/run", "expected a run"), ("/unit/planted/layer1/64", "units 0..63, got 64"), ("/x", "no page 'x'"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_says_what_was_expected(path, words, context, caplog):
    body = server._body(context, Address.of(path, ""))
    assert words in json.dumps(body.to_plotly_json(), default=lambda part: part.to_plotly_json())
    assert not caplog.records, "a mistyped address is no bug"


@pytest.mark.parametrize("error", [ValueError("a bug"), IndexError("a bug"), KeyError("a bug")])
def test_a_bug_in_a_page_is_called_one(error, context, monkeypatch, caplog):
    def broken(*_):
        raise error

    monkeypatch.setattr("app.pages.run.layout", broken)
    body = server._body(context, Address.of("/run/planted", ""))
    text = json.dumps(body.to_plotly_json(), default=lambda part: part.to_plotly_json())
    assert "went wrong inside" in text
    assert "a bug" not in text
    assert caplog.records[0].exc_info[1] is error


# -- two runs ------------------------------------------------------------------------------------------------------


def test_the_same_weights_on_other_seeds_match_by_profile(library):
    a, b = library.get("planted"), library.get("second")
    alike = likeness(a.run, "layer1", b.run, "layer1")
    assert (alike.over, alike.count) == (PROFILES, int((a.run.judged & b.run.judged)[1:].sum()))
    found = pairs(a, "layer1", b, "layer1", alike, index=True)
    assert [pair.b for pair in found] == list(range(64))
    counts = changes(found)
    assert sum(counts.values()) == 64
    truth = dissect.load("planted:0").truth["layer1"]
    labelled = [pair for pair in found if pair.change == "same"]
    assert len(labelled) >= 10
    assert np.mean([pair.first.name == truth[pair.a] for pair in labelled]) > 0.8
    assert min(pair.r for pair in labelled) > 0.9
    best = pairs(a, "layer1", b, "layer1", alike, index=False)
    again = [pair.b == pair.a for pair in best if pair.labelled == (True, True) and pair.mutual]
    assert np.mean(again) > 0.9
    tops = [pair.tops for pair in found]
    assert all(shared <= of for shared, of in tops)
    assert any(shared for shared, _ in tops)  # 60 seeds are in both


def test_units_of_one_number_are_paired_unasked_only_for_the_same_weights(planted_file, second_file, tmp_path):  # noqa: F811
    dissect.run(dissect.load("planted:1"), segmodels.load("planted"), ["layer1"], samples=20, out=tmp_path / "other.h5")
    context = server.context_of(Library([planted_file, second_file, tmp_path / "other.h5"]))
    for run in context.library.runs:
        assert run.layers

    def chosen(query):
        body = json.dumps(compare.layout(context, Address.of("/compare/planted", query)), cls=PlotlyJSONEncoder)
        found = next(part for part in parts_of(json.loads(body)) if part.get("id") == "compare-by")
        return found["value"], [way["value"] for way in found["data"]]

    assert chosen("?with=second") == ("index", ["index", "r"])
    assert chosen("?with=other") == ("r", ["index", "r"]), "it can be, as for an edited generator, but is not assumed"
    assert chosen("?with=other&by=index") == ("index", ["index", "r"])
    assert chosen("?with=planted&layer2=layer3") == ("r", ["r"])
    context.engine.close()


def parts_of(tree):
    """Everything in a page that has properties."""
    if isinstance(tree, dict):
        yield tree
    for branch in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from parts_of(branch)


def test_maxima_on_common_seeds_are_preferred(tmp_path):
    G, paths = dissect.load("planted:1"), [tmp_path / "a.h5", tmp_path / "b.h5"]
    S = segmodels.load("planted")
    for path, seeds in zip(paths, (range(80), range(40, 120)), strict=True):
        dissect.run(G, S, ["layer1"], seeds=seeds, maxima=True, out=path)
    library = Library(paths)
    a, b = library.get("a"), library.get("b")
    alike = likeness(a.run, "layer1", b.run, "layer1")
    assert (alike.over, alike.count) == (MAXIMA, 40)
    x = a.run.layer("layer1").maxima[40:]
    np.testing.assert_array_equal(x, b.run.layer("layer1").maxima[:40])
    varies = x.std(0) > 1e-6
    found = pairs(a, "layer1", b, "layer1", alike, index=True)
    assert all(pair.r == pytest.approx(1) for pair in found if varies[pair.a])


# -- files ---------------------------------------------------------------------------------------------------------


def message(path):
    runs, others = Library([path]).look()
    assert not runs
    return others[0]


def test_files_that_cannot_be_opened_have_a_line(planted_file, tmp_path):  # noqa: F811
    whole = planted_file.read_bytes()
    cases = {
        "truncated.h5": (whole[: len(whole) // 2], "not readable HDF5 or is damaged"),
        "header.h5": (whole[:700], "not readable HDF5 or is damaged"),
        "empty.h5": (b"", "not readable HDF5 or is damaged"),
        "picture.h5": (b"\x89PNG\r\n\x1a\n" + bytes(500), "not readable HDF5 or is damaged"),
    }
    for name, (data, words) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        found = message(path)
        assert words in found.message
        assert not found.unfinished
        assert "\n" not in found.message
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 3
    assert "not written by ganatomy" in message(tmp_path / "foreign.h5").message
    with h5py.File(tmp_path / "writing.h5", "w") as file:
        file["x"] = 3
        file.flush()
        assert "\n" not in message(tmp_path / "writing.h5").message
    newer = tmp_path / "newer.h5"
    shutil.copy(planted_file, newer)
    with h5py.File(newer, "r+") as file:
        file.attrs["version"] = 99
    assert "format version 99" in message(newer).message


def test_an_unfinished_run_says_how_far_it_is_and_opens_when_it_is_done(planted_file, tmp_path):  # noqa: F811
    path = tmp_path / "run.h5"
    path.with_name("run.h5.partial").mkdir()
    found = message(path)
    assert found.unfinished
    state = {"done": 30, "samples": 120, "seconds": 2.0, "seconds_left": 6.0}
    path.with_name("run.h5.partial.json").write_text(json.dumps(state))
    library = Library([path])
    (waiting,) = library.look()[1]
    assert (waiting.done, waiting.samples, waiting.seconds_left) == (30, 120, 6.0)
    with pytest.raises(GanatomyError, match="unfinished"):
        library.get("run")
    path.with_name("run.h5.partial.json").write_text("{")  # half written
    assert library.look()[1][0].unfinished
    shutil.copy(planted_file, path)
    assert [run.slug for run in library.look()[0]] == ["run"]


def test_a_file_that_is_replaced_is_opened_anew(planted_file, second_file, tmp_path):  # noqa: F811
    path = tmp_path / "run.h5"
    shutil.copy(planted_file, path)
    library = Library([path])
    first = library.get("run")
    assert library.get("run") is first
    shutil.copy(second_file, tmp_path / "other.h5")
    (tmp_path / "other.h5").replace(path)
    assert library.get("run").run.id != first.run.id
    path.write_bytes(b"damaged later")
    with pytest.raises(GanatomyError, match="not readable"):
        library.get("run")


def test_names_of_runs_are_short_and_their_own(planted_file, tmp_path):  # noqa: F811
    names = ["a b.h5", "a-b.h5", "../x.h5", "été.h5", "....h5"]
    library = Library([tmp_path / "one" / "run.h5", tmp_path / "two" / "run.h5", *(tmp_path / n for n in names)])
    slugs = [other.slug for other in library.look()[1]]
    assert slugs[:4] == ["run", "run-2", "a-b", "a-b-2"]
    assert len(set(slugs)) == len(slugs)
    assert all("/" not in slug and slug.strip(".") for slug in slugs)
    assert library.add(tmp_path / "one" / ".." / "one" / "run.h5") == "run"


def test_the_command_knows_the_app(capsys):
    assert cli.run(["app", "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--host", "--port", "--open"):
        assert option in said


def test_a_strip_does_not_depend_on_what_was_asked_before(planted_file):  # noqa: F811
    def fresh():
        return Library([planted_file]).get("planted")

    a, b = fresh(), fresh()
    for level in (40, 3, 40):
        tops_strip(a, "layer3", 5, level)
    assert tops_strip(a, "layer3", 5, 11) == tops_strip(b, "layer3", 5, 11)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.5, "50%"), (1, "100%"), (0.02, "2.0%"), (0.0994, "9.9%"), (0.0996, "10%"), (0.00123, "0.12%"), (0, "0%"),
     (1e-5, "0.0010%"), (4e-6, "<0.001%"), (7e-6, "0.001%")],
)  # fmt: skip
def test_shares_have_two_digits(share, text):
    assert percent(share) == text
