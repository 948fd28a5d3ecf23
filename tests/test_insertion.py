"""What appears where units are put in: against a map computed from the planted truth in NumPy, place by place."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dissect
import segmodels
from app import cli
from dissect import GanatomyError, InsertionMap
from dissect.generators.planted_truth import CONCEPTS
from segmodels.planted import CODES, HALF

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
SEEDS = range(4)
CELL = 4  # pixels of a cell of layer1


@lru_cache(maxsize=4)
def opened(seed):
    return dissect.load(f"planted:{seed}"), segmodels.load("planted")


def painter(generator, layer, concept):
    """The units that paint a concept, and what they are where they do."""
    truth, world = generator.truth, generator.world
    kind, concepts = truth.kind[layer], truth.concepts[layer]
    own = [u for u in kind if kind[u] == "painting" and concepts[u] == (concept,)]
    scales = world.scales[int(layer[-1]) - 1]
    return own, [scales[u] for u in own]


def a_shape(generator):
    """A drawn shape that no unit ever suppresses, painted by one unit."""
    world = generator.world
    return next(s for s in world.drawn_shapes[1:] if s not in (world.suppressed, *world.doubled))


@lru_cache(maxsize=4)
def found(seed, stride=1, reach=0, batch=None):
    generator, segmenter = opened(seed)
    own, values = painter(generator, "layer1", a_shape(generator))
    return dissect.insertion_map(generator, segmenter, "layer1", own, values, SEEDS, stride, reach=reach, batch=batch)


def expected_shapes(generator, shape):
    """Labels of plane 0 at layer1's cells before, and what each becomes if the shape's unit is put in there alone.

    By the codes: nothing there, the shape appears; its own stays; any other shape and it are no code together, and what
    garbage covers stays covered.
    """
    truth = generator.truth
    before = truth.labels(SEEDS)[:, 0, ::CELL, ::CELL]
    kinds = truth.kind["layer1"]
    features = truth.features(SEEDS, "layer1")
    garbage = features[:, [u for u, kind in kinds.items() if kind == "garbage"]].any(1)
    own = features[:, painter(generator, "layer1", shape)[0]].any(1)
    code = CONCEPTS.index(shape)
    after = np.where(garbage, 0, np.where(own, before, np.where(before == 0, code, 0)))
    return before, after, garbage


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_a_shape_appears_where_nothing_is_in_its_way(seed):
    generator, _ = opened(seed)
    shape = a_shape(generator)
    before, after, garbage = expected_shapes(generator, shape)
    result = found(seed)
    plane = range(1, 7)
    for concept in (0, *plane):
        change = CELL**2 * ((after == concept).astype(int) - (before == concept)).sum(0)
        assert np.array_equal(result.near[:, :, concept], change), CONCEPTS[concept]
        assert np.array_equal(result.overall[:, :, concept], change)
    colours = generator.truth.labels(SEEDS)[:, 1, ::CELL, ::CELL]
    codes = np.array([0, *CODES])
    lost = (before != after) & (before != 0) & (codes[before] + codes[CONCEPTS.index(shape)] >= HALF)
    for colour in range(7, 13):  # two shapes' codes together may look like half a colour, and then there is none
        assert np.array_equal(result.near[:, :, colour], -(CELL**2) * ((colours == colour) & lost).sum(0))
    appeared = result.near[:, :, CONCEPTS.index(shape)]
    assert appeared.max() == CELL**2 * len(SEEDS)
    blocked = (garbage | (before != 0)).all(0)
    assert not (appeared[blocked] > 0).any()
    assert garbage.any()
    assert result.pixels.tolist() == [64, 64]
    assert result.tile_pixels == CELL**2


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_the_tally_goes_by_what_was_there_before(seed):
    generator, _ = opened(seed)
    shape = a_shape(generator)
    index = CONCEPTS.index(shape)
    before, after, _ = expected_shapes(generator, shape)
    colours = generator.truth.labels(SEEDS)[:, 1, ::CELL, ::CELL]
    result = found(seed)
    for below in range(13):
        where = (before if below < 7 else colours) == below
        assert result.under[below] == where.sum()
        for concept in range(7):
            change = CELL**2 * ((after == concept).astype(int) - (before == concept))
            assert result.near_under[below, concept] == change[where].sum()
            assert result.squares_under[below, concept] == (change[where] ** 2).sum()
    assert np.array_equal(result.near_under, result.overall_under)
    other = next(c for c in range(1, 7) if result.under[c] and c != index)
    means = result.mean_under()
    assert means[index, index] == 0  # where it is, nothing changes
    assert means[other, index] == 0  # on another shape, it does not appear
    assert means[other, other] < 0  # but destroys that
    assert 0 < means[0, index] < CELL**2  # on nothing it appears, unless garbage is on it
    assert result.under[:7].sum() == len(SEEDS) * 256
    rows = {(row["under"], row["appears"]): row for row in result.rows()}
    row = rows["unlabelled", shape]
    values = CELL**2 * (after == index)[before == 0]
    assert row["near_change"] == pytest.approx(values.mean())
    assert row["near_std"] == pytest.approx(values.std())
    assert row["places"] == (before == 0).sum()


def test_places_of_several_cells_and_what_is_near_them():
    """Each place by itself, with a whole pass and the edit as a mask: whatever the stride and the reach."""
    generator, segmenter = opened(0)
    own, values = painter(generator, "layer2", a_shape(generator))
    result = dissect.insertion_map(generator, segmenter, "layer2", own, values, [3, 8], 5, reach=1)
    assert result.near.shape == (7, 7, 13)
    codes = generator.sample([3, 8])
    base = segmenter(generator(codes)).numpy()
    for row, column in ((0, 0), (2, 3), (6, 6), (4, 6)):
        mask = np.zeros((32, 32))
        mask[5 * row : 5 * row + 5, 5 * column : 5 * column + 5] = 1
        after = segmenter(generator(codes, dissect.insert("layer2", own, values, mask))).numpy()
        near = np.zeros((64, 64), bool)
        near[max(0, 10 * row - 10) : 10 * row + 20, max(0, 10 * column - 10) : 10 * column + 20] = True
        for concept in range(13):
            plane = 1 if concept > 6 else 0
            change = (after[:, plane] == concept).astype(int) - (base[:, plane] == concept)
            assert result.overall[row, column, concept] == change.sum()
            assert result.near[row, column, concept] == (change * near).sum()


def test_batches_make_no_difference():
    one = found(1)
    other = found(1, batch=27)
    for name, array in one.arrays().items():
        assert np.array_equal(array, other.arrays()[name]), name


def test_what_stays_put_changes_nothing():
    """Units put in with what they are everywhere: an inert unit's own constant."""
    generator, segmenter = opened(0)
    inert = next(u for u, role in enumerate(generator.world.roles[0]) if role.kind == "inert")
    value = generator.world.roles[0][inert].constant * generator.world.scales[0][inert]
    result = dissect.insertion_map(generator, segmenter, "layer1", inert, value, [1], 4)
    assert not result.near.any()
    assert not result.overall.any()
    assert result.rows() == []


@pytest.mark.parametrize("name", ["pggan_genforce.safetensors", "sg2_rosinality.safetensors"])
def test_other_families_go_on_from_their_own_state(name):
    """Against whole passes, for generators that carry an image along, with noise of each seed's own."""
    generator, segmenter = dissect.load(DATA / name), segmodels.load("colors")
    layer = next(place for place in generator.layers if place.default and place.height == 8)
    noise = "random" if generator.has_noise else "const"
    values = np.linspace(1, 4, 5)
    result = dissect.insertion_map(
        generator, segmenter, layer.name, [6, 1, 2, 3, 4], values, [5, 2], 4, noise=noise, batch=3
    )  # fmt: skip
    codes = generator.sample([5, 2], noise=noise)
    base = segmenter(generator(codes)).numpy()
    mask = np.zeros((8, 8))
    mask[4:, :4] = 1
    after = segmenter(generator(codes, dissect.insert(layer.name, [6, 1, 2, 3, 4], values, mask))).numpy()
    areas = [np.bincount(maps[:, 0].ravel(), minlength=17)[:12] for maps in (base, after)]
    change = result.overall[1, 0, :12]
    assert np.abs(change - (areas[1] - areas[0])).max() <= 2  # but for the rounding of other batches
    assert change.any()


def test_stored_and_read_again():
    result = found(0)
    header = json.loads(json.dumps(result.header()))
    again = InsertionMap.from_stored(header, result.arrays())
    assert header["kind"] == InsertionMap.kind == "insertion"
    assert again.rows() == result.rows()
    assert again.header() == header
    assert np.array_equal(again.mean(near=False), result.mean(near=False))
    with pytest.raises(GanatomyError, match="lacks near"):
        InsertionMap.from_stored(header, {k: v for k, v in result.arrays().items() if k != "near"})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"units": [64], "values": 1.0}, r"units 0\.\.63, the edit names 64"),
        ({"units": [], "values": 1.0}, "at least one unit"),
        ({"units": [1, 1], "values": [1, 2]}, "each unit once"),
        ({"values": [1, 2, 3]}, r"a value or a map for each of 2 units"),
        ({"values": np.ones((2, 16, 16))}, "a number for each unit"),
        ({"values": [np.nan, 1]}, "without NaN"),
        ({"layer": "layer7"}, "unknown layer"),
        ({"stride": 0}, "tiles of 1 to 16 cells"),
        ({"stride": 17}, "tiles of 1 to 16 cells"),
        ({"reach": -1}, "reach >= 0"),
        ({"batch": 0}, "batch >= 1"),
        ({"seeds": [2, 2]}, "seeds repeat"),
        ({"seeds": []}, "at least one seed"),
    ],
)
def test_bad_input_is_refused_in_one_line(changed, words):
    generator, segmenter = opened(0)
    given = {"layer": "layer1", "units": [1, 2], "values": [1.0, 2.0], "seeds": [0]} | changed
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.insertion_map(generator, segmenter, **given)
    assert "\n" not in str(caught.value)


def test_progress_counts_places():
    generator, segmenter = opened(0)
    seen = []
    dissect.insertion_map(
        generator, segmenter, "layer1", [1], 1.0, [0, 1], 8, batch=3, progress=lambda *now: seen.append(now)
    )  # fmt: skip
    assert seen == [(3, 8), (4, 8), (7, 8), (8, 8)]


def test_labels_without_a_pixel_in_a_place_are_not_counted():
    class Coarse:
        concepts = ("unlabelled", "all")

        def __call__(self, images):
            return torch.ones(len(images), 1, 2, 2, dtype=torch.long)

    generator, _ = opened(0)
    result = dissect.insertion_map(generator, segmodels.load(Coarse()), "layer1", [1], 1.0, [0])
    assert result.under.tolist() == [0, 4]


def test_the_command(tmp_path, capsys):
    path, png = tmp_path / "run.h5", tmp_path / "i.png"
    generator, segmenter = opened(0)
    run = dissect.run(generator, segmenter, layers=["layer1"], samples=40, out=path)
    shape = a_shape(generator)
    (unit,), _ = painter(generator, "layer1", shape)
    command = ["insertion", path, "--layer", "layer1", "--concept", shape, "--samples", 2, "--stride", 4]

    def call(*arguments):
        status = cli.run([str(a) for a in arguments])
        return status, *capsys.readouterr()

    status, out, _ = call(*command, "--units", unit, "--json", "--picture", png)
    assert status == 0
    said = json.loads(out)
    (result,) = dissect.open(path).effects.of("insertion")
    assert said["rows"] == result.rows()
    assert said["units"] == [unit]
    assert said["values"] == [dissect.constants.concept_mean(run.layer("layer1"), shape)[unit]]
    assert result.seeds.tolist() == [40, 41]
    with Image.open(png) as picture:
        assert picture.size == (776, 406)
    status, out, _ = call(*command, "--top", 2, "--insert", "quantile")
    assert status == 0
    assert "near change" in out
    for wrong, words in (
        (("--units", "1,x"), "a list like 1,2,40"),
        (("--units", "99"), "units 0..63, --units names 99"),
        (("--picture", tmp_path / "a.jpg"), "end in .png"),
        (("--concept", "circel"), "unknown concept"),
        (("--concept", "circel", "--units", 1, "--insert", 2), "unknown concept"),
        (("--stride", 0), "tiles of 1 to 16 cells"),
    ):
        status, _, err = call(*command, *wrong)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
