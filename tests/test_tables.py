"""Results show themselves in notebooks: as tables that are well-formed, escaped, and say what they are."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import dissect
import segmodels
from dissect.effects import Leakage
from dissect.sketch import Sketch
from dissect.tables import MOST_ROWS, cell, table
from segmodels import Concept

LAYER = "layer1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "run.h5"
    return dissect.run(dissect.load("planted:0"), segmodels.load("planted"), LAYER, 60, path, maxima=True)


def parsed(html):
    """Return (caption, head, rows) of a table; it must be well-formed."""
    tree = ElementTree.fromstring(f"<div>{html}</div>")
    head = [th.text for th in tree.iter("th")]
    rows = [["".join(td.itertext()) for td in tr] for tr in tree.iter("tr") if tr.find("td") is not None]
    assert all(len(row) == len(head) for row in rows)
    return tree.findtext(".//caption"), head, rows


def test_a_run_and_its_layers(run):
    caption, head, rows = parsed(run._repr_html_())
    assert caption == "planted:0 by planted · 60 samples"
    assert head == ["layer", "map", "units", "labelled", "by chance"]
    assert rows[0][:3] == [LAYER, "16 x 16", "64"]
    assert int(rows[0][3]) == (run.layer(LAYER).label > 0).sum()
    caption, head, rows = parsed(run.layer(LAYER)._repr_html_())
    assert len(rows) == MOST_ROWS
    values = run.layer(LAYER)
    beyond = (values.iou_heldout - values.chance_heldout)[np.arange(64), values.winner]
    assert int(rows[0][0]) == int(np.nanargmax(beyond))
    assert rows[0][1] == run.concepts[values.winner[int(rows[0][0])]].name


def test_results_of_experiments(run):
    generator, segmenter = dissect.load("planted:0"), segmodels.load("planted")
    edit = dissect.ablate(LAYER, [1, 2])
    effect = dissect.effect(generator, segmenter, edit, range(100, 120), controls=1)
    caption, head, rows = parsed(effect._repr_html_())
    assert caption.startswith("Effect · planted:0")
    assert repr(effect) == f"<{caption}>"
    assert "verdict" in head
    assert rows
    caption, head, rows = parsed(dissect.artifacts.rare(run, LAYER)._repr_html_())
    assert caption == "Ranking · planted:0 · layer1 · rare"
    assert len(rows) == MOST_ROWS
    recipe = dissect.Recipe([edit, dissect.insert(LAYER, [3], 2.0)], generator)
    caption, head, rows = parsed(recipe._repr_html_())
    assert caption == "Recipe for planted:0"
    assert [row[2] for row in rows] == ["1, 2", "3"]


def test_every_result_shows_itself():
    kept = dissect.effects.stored.KINDS.values()
    for kind in (*kept, Leakage, Sketch, dissect.Run, dissect.LayerResult, dissect.Recipe):
        assert hasattr(kind, "_repr_html_"), kind


def test_names_cannot_bring_anything_in():
    bad = "<script>alert(1)</script>&\"'"
    leak = Leakage((bad,), (Concept("unlabelled"), Concept(bad)), np.array([[np.nan, 1.0]]), np.array([[False, True]]))
    for html in (leak._repr_html_(), table([{bad: bad}], bad)):
        assert "<script" not in html
        _, head, rows = parsed(html)
        assert bad in (head[0], head[1] if len(head) > 1 else "")
        assert bad in rows[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (float("nan"), "–"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), (np.float64(2), "2"),
        ((1, 2), "1, 2"), ("a" * 80, "a" * 59 + "…"), (np.float32("nan"), "–"), (np.bool_(True), "yes"),
    ],
)  # fmt: skip
def test_cells(value, shown):
    assert cell(value) == shown


def test_how_many_more_there_are_is_said():
    html = table([{"n": n} for n in range(25)])
    assert "and 5 more" in html
    assert len(parsed(html)[2]) == 20
