"""Optimised ablation: against the planted truth, against whole passes with edits, and where the original went wrong."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import Tangled

import dissect
import segmodels
from app import cli
from app.commands import ace as command
from dissect import Ace, AceSettings, FeatureEdit, GanatomyError
from dissect.effects import heldout, places, relaxation
from dissect.effects.places import Places
from dissect.effects.stored import key_of
from dissect.effects.subject import Subject, concept_of
from dissect.effects.tiles import Tiles
from dissect.generators.planted_truth import CONCEPTS
from dissect.samples import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
ace_module = sys.modules["dissect.effects.ace"]  # its name is the function's, too
QUICK = AceSettings(epochs=8, places=20, rate=0.05)
TRAIN, TEST = range(40), range(40, 60)


@lru_cache(maxsize=8)
def opened(seed, layer):
    """(generator, segmenter, IoU [U, C] of the units of a layer)."""
    generator = dissect.load(f"planted:{seed}")
    return generator, segmodels.load("planted"), generator.truth.iou(range(60), layer, np.array(0.1))


@lru_cache(maxsize=8)
def found(seed, layer, concept, settings=QUICK, top=4):
    generator, segmenter, iou = opened(seed, layer)
    init = iou[:, CONCEPTS.index(concept)]
    return dissect.ace(generator, segmenter, layer, concept, TRAIN, TEST, init=init, top=top, settings=settings)


def painters(generator, layer, concept):
    truth = generator.truth
    return [u for u, kind in truth.kind[layer].items() if kind == "painting" and truth.concepts[layer][u] == (concept,)]


# -- truth -------------------------------------------------------------------------------------------------

# Where IoU alone is wrong: a unit that only correlates with the concept, and paints nothing, agrees best with it.
MISLED = [(0, "layer1", "yellow"), (2, "layer2", "cyan"), (5, "layer2", "green")]


@pytest.mark.parametrize(("seed", "layer", "concept"), MISLED)
def test_units_that_paint_come_first_even_where_others_agree_better(seed, layer, concept):
    generator, _, iou = opened(seed, layer)
    result = found(seed, layer, concept)
    kinds, own = generator.truth.kind[layer], painters(generator, layer, concept)
    best = int(iou[:, CONCEPTS.index(concept)].argmax())
    assert kinds[best] == "correlated"
    assert result.init[best] == 1
    assert sorted(result.ranking[: len(own)].tolist()) == own
    assert result.alpha[own].min() > 0.9
    # Not the other painters, nor garbage: where they are in the way, putting in their mean (none) clears the place.
    idle = ("correlated", "shifted", "entangled", "independent", "inert")
    for unit, kind in kinds.items():
        if kind in idle:
            assert result.alpha[unit] < 0.3, (unit, kind)
    assert result.alpha[best] < 0.5 * result.alpha[own].min()
    assert len(result.free) > 0


def test_both_painters_of_a_concept_are_found():
    generator = opened(0, "layer3")[0]
    concept = generator.world.doubled[1]
    own = painters(generator, "layer3", concept)
    assert len(own) == 2
    assert sorted(found(0, "layer3", concept).ranking[:2].tolist()) == own


def test_a_shape_is_found_by_taking_away_alone():
    """Insertion of all units' means makes no shape: the mean of six colours is no code. Then the other half decides."""
    generator, segmenter, iou = opened(2, "layer2")
    concept = "diamond"
    init = iou[:, CONCEPTS.index(concept)]
    settings = AceSettings(epochs=12, places=24, rate=0.05)
    result = dissect.ace(generator, segmenter, "layer2", concept, TRAIN, TEST, init=init, top=1, settings=settings)
    assert len(result.free) == 0
    assert np.isnan(result.history[:, 1]).all()
    assert generator.truth.kind["layer2"][int(init.argmax())] == "correlated"
    assert result.ranking[:1].tolist() == painters(generator, "layer2", concept)


def test_held_out_effects_tell_the_rankings_apart():
    """One unit each: the painter erases the concept, the unit that agrees best with it does nothing."""
    result = found(2, "layer2", "cyan", QUICK, 1)
    rows = {row["set"]: row for row in result.evaluation()}
    assert rows["alpha"]["area_change"] == rows["alpha"]["area_high"] == -1
    assert rows["init"]["area_change"] == rows["init"]["area_low"] == 0
    assert rows["alpha - init"]["area_high"] == -1
    assert rows["alpha"]["gain_low"] > 0.3
    assert rows["init"]["insertion_gain"] == pytest.approx(0, abs=1e-6)
    assert rows["alpha - init"]["gain_low"] > 0.3


def test_held_out_areas_are_those_of_the_truth():
    generator, segmenter, _ = opened(0, "layer1")
    result = found(0, "layer1", "yellow")
    index = CONCEPTS.index("yellow")
    truth = generator.truth

    def areas(units):
        labels = truth.labels(TEST, ("layer1", units)) if units else truth.labels(TEST)
        return (labels[:, 1] == index).sum((1, 2))

    assert result.held.area.tolist() == areas([]).tolist()
    for row, units in enumerate(result.sets.tolist()):
        assert result.held.ablated[row].tolist() == areas(units).tolist()
    for row, units in enumerate(result.sets.tolist()):
        for n in (0, 19):
            mask = Tiles(16, 16, 1).masks([result.held.tiles[n]])[0, 0].numpy()
            edit = dissect.insert("layer1", units, result.constants[units], mask)
            image = generator(generator.sample([TEST[n]]), edit)
            seen = segmenter.probabilities(image)[0, index].numpy() * np.kron(mask, np.ones((4, 4))) / 16
            assert result.held.inserted[row, n] == pytest.approx(seen.sum(), abs=1e-5)


# -- the two places where the original is wrong ------------------------------------------------------------


def all_units(layer, tile, strength, values=None, side=16):
    """The edit of every unit by its own strength at one cell of a layer of the planted world."""
    mask = Tiles(side, side, 1).masks([tile])[0, 0].numpy()
    return FeatureEdit(layer, tuple(range(len(strength))), tuple(strength), mask, values)


def seen_at(generator, segmenter, seed, tile, concept, edits=()):
    """The concept's mean probability at one cell of a whole pass with edits: by NumPy, on pixels."""
    soft = segmenter.probabilities(generator(generator.sample([int(seed)]), edits))[0, concept].numpy()
    row, column = divmod(int(tile), 16)
    return float(soft[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean())


def oracle_of_a_step(result, generator, segmenter):
    """What the first line of the history must be: each place by itself, with whole passes and edits."""
    c, strength = CONCEPTS.index(result.concept), result.init.astype(float).tolist()
    gone = [
        seen_at(generator, segmenter, s, t, c, all_units("layer1", t, strength))
        for s, t in zip(result.present.seeds, result.present.tiles, strict=True)
    ]
    put = [
        seen_at(generator, segmenter, s, t, c, all_units("layer1", t, strength, result.constants))
        for s, t in zip(result.free.seeds, result.free.tiles, strict=True)
    ]
    return np.mean(gone), np.mean(put)


def one_step(seed=0, concept="yellow"):
    generator, segmenter, iou = opened(seed, "layer1")
    settings = AceSettings(epochs=1, places=8, batch=8)
    init = np.clip(iou[:, CONCEPTS.index(concept)], 0, None)
    init[painters(generator, "layer1", concept)] *= 0.9
    return dissect.ace(
        generator, segmenter, "layer1", concept, TRAIN, TEST, init=init, top=1, settings=settings
    ), generator, segmenter  # fmt: skip


@pytest.mark.parametrize("wrong", [False, True])
def test_the_loss_of_insertion_is_read_where_the_insertion_was_made(wrong, monkeypatch):
    original = relaxation.at_tiles
    if wrong:  # as the original has it: at the place of the *other* half
        last = []

        def elsewhere(subject, concept, images, tiles):
            last.append(tiles)
            return original(subject, concept, images, last[0] if len(last) > 1 else tiles)

        monkeypatch.setattr(relaxation, "at_tiles", elsewhere)
    result, generator, segmenter = one_step()
    gone, put = oracle_of_a_step(result, generator, segmenter)
    assert result.history[0, 0] == pytest.approx(gone, abs=1e-5)
    assert (result.history[0, 1] == pytest.approx(put, abs=1e-5)) is not wrong
    assert put > 0.1


@pytest.mark.parametrize("wrong", [False, True])
def test_candidates_are_measured_against_images_without_any_edit(wrong, monkeypatch):
    monkeypatch.setattr("dissect.effects.subject.MOST_AT_ONCE", 6)  # several batches
    generator, segmenter, _ = opened(0, "layer1")
    if wrong:  # as the original has it: from the second batch on, the last edit is still there
        left = dissect.insert("layer1", range(64), one_step()[0].constants)
        original, original_candidates, batches = Subject.captures, places.candidates, []

        def edited(subject, seeds):
            for batch, capture in original(subject, seeds):
                images = capture.images if not batches else generator(subject.codes(batch), left)
                batches.append(batch)
                yield batch, replace(capture, images=images)

        def stays(*arguments):
            with monkeypatch.context() as patch:
                patch.setattr(Subject, "captures", edited)
                return original_candidates(*arguments)

        monkeypatch.setattr(sys.modules["dissect.effects.ace"], "candidates", stays)
    result, _, _ = one_step()
    c, ones = CONCEPTS.index("yellow"), [1.0] * 64
    before = [seen_at(generator, segmenter, s, t, c) for s, t in zip(result.free.seeds, result.free.tiles, strict=True)]
    after = [
        seen_at(generator, segmenter, s, t, c, all_units("layer1", t, ones, result.constants))
        for s, t in zip(result.free.seeds, result.free.tiles, strict=True)
    ]
    right = np.allclose(result.free.before, before, atol=1e-5)
    right &= np.allclose(result.free.score, np.subtract(after, before), atol=1e-5)
    right &= len(result.free) == 8  # in images of every batch
    assert right is not wrong
    if not wrong:
        assert (result.free.score > 0.01).all()
        assert (np.diff(result.free.score) <= 0).all()
        shown = generator.truth.labels(result.free.seeds)[:, 1] == c
        for labels, tile in zip(shown, result.free.tiles, strict=True):  # where it could be, not where it is
            row, column = divmod(int(tile), 16)
            assert not labels[4 * row, 4 * column]


def test_places_are_where_the_concept_is_and_constants_its_means():
    generator, _, _ = opened(0, "layer1")
    result = found(0, "layer1", "yellow")
    shown = generator.truth.labels(TRAIN)[:, 1, ::4, ::4] == CONCEPTS.index("yellow")
    for seed, tile in zip(result.present.seeds, result.present.tiles, strict=True):
        assert shown[seed].ravel()[tile]
    assert len(result.present) == min(20, int(shown.any((1, 2)).sum()))
    features = generator.truth.features(TRAIN, "layer1").transpose(1, 0, 2, 3)[:, shown]
    np.testing.assert_allclose(result.constants, features.mean(1), rtol=1e-5)


def test_gradients_are_those_of_finite_differences():
    generator, segmenter, _ = opened(0, "layer1")
    result = found(0, "layer1", "yellow")
    subject = Subject.of(generator, segmenter, "layer1", Sampling(), None)
    index, put = concept_of(segmenter, "yellow"), torch.from_numpy(result.constants)
    alpha = torch.rand(64, generator=torch.Generator().manual_seed(0)) * 0.1
    alpha[painters(generator, "layer1", "yellow")] = 0.9
    for sign, edit, where in (
        (1.0, places.ablated, result.present),
        (-1.0, lambda f, a, m: places.inserted(f, a, put, m), result.free),
    ):
        chunks = relaxation.Chunks(subject, where, 4, 0)

        def value(a, sign=sign, edit=edit, chunks=chunks):
            return relaxation._add_gradients(subject, index, a, sign, edit, chunks, [0, 1])

        asked = alpha.clone().requires_grad_()
        value(asked)
        step = 2e-3 * asked.grad / asked.grad.norm()
        low, high = ((alpha + s * step / 2).requires_grad_() for s in (-1, 1))
        assert sign * (value(high) - value(low)) == pytest.approx(float((asked.grad * step).sum()), rel=0.05)


# -- order and repetition ----------------------------------------------------------------------------------


def test_alpha_stays_in_its_bounds_and_the_loss_falls():
    for case in MISLED[:2]:
        result = found(*case)
        assert result.alpha.min() >= 0
        assert result.alpha.max() <= 1
        assert result.history.shape == (QUICK.steps, 3)
        loss = result.history[:, 0] - result.history[:, 1] + result.history[:, 2]
        assert loss[-10:].mean() < loss[:5].mean()
        assert (np.diff(result.alpha[result.ranking]) <= 0).all()
        assert sorted(result.ranking) == list(range(64))


def test_the_same_seed_gives_the_same_bits_whatever_memory_there_is():
    generator, segmenter, _ = opened(0, "layer1")

    def made(**changed):
        settings = AceSettings(epochs=3, places=8, **changed)
        return dissect.ace(generator, segmenter, "layer1", "yellow", range(20), range(20, 26), settings=settings)

    one = made()
    for memory in (0, 3 << 20):
        again = made(memory=memory)
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array, name)
        assert again.header() == one.header()  # or it would be stored as another result
    other = made(random=1)
    assert other.header() != one.header()
    assert not np.array_equal(other.alpha, one.alpha)
    assert not np.array_equal(other.sets[-1], one.sets[-1])


def test_seeds_and_held_out_seeds_share_none():
    generator, segmenter, _ = opened(0, "layer1")
    with pytest.raises(GanatomyError, match=r"held-out seeds must not be among the others, but 39 is both \(of 1\)"):
        dissect.ace(generator, segmenter, "layer1", "yellow", TRAIN, range(39, 50))
    result = found(0, "layer1", "yellow")
    assert not set(result.seeds) & set(result.heldout)
    assert set(result.present.seeds) | set(result.free.seeds) <= set(TRAIN)
    assert result.heldout.tolist() == list(TEST)


def test_progress_counts_every_pass_and_may_stop_it():
    generator, segmenter, _ = opened(0, "layer1")
    seen = []
    settings = AceSettings(epochs=1, places=4)
    dissect.ace(
        generator, segmenter, "layer1", "yellow", range(20), range(20, 30), settings=settings, top=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dissect.ace(generator, segmenter, "layer1", "yellow", range(20), range(20, 30), progress=stop)


def test_stored_and_read_again():
    result = found(0, "layer1", "yellow")
    header = json.loads(json.dumps(result.header()))
    again = Ace.from_stored(header, result.arrays())
    assert header["kind"] == Ace.kind == "ace"
    assert again.rows() == result.rows()
    assert again.evaluation() == result.evaluation()
    assert again.header() == header
    assert again.ablation() == dissect.ablate("layer1", result.ranking[:4])
    assert again.ablation(1).units == (int(result.ranking[0]),)
    with pytest.raises(GanatomyError, match="lacks 'alpha'"):
        Ace.from_stored(header, {k: v for k, v in result.arrays().items() if k != "alpha"})


# -- the parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 1), (8, 8, 2), (7, 5, 2), (6, 6, 4)])
@pytest.mark.parametrize("factor", [1, 3, 0.5])
def test_tiles_cut_every_map_at_the_same_places(height, width, side, factor):
    tiles = Tiles(height, width, side)
    masks = tiles.masks(range(tiles.count))
    assert torch.equal(masks.sum(0), torch.ones(1, height, width))
    size = (round(height * factor), round(width * factor))
    maps = torch.rand(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # By hand: both brought to a size of which each is a divisor.
    fine = maps.repeat_interleave(2 * height, 1).repeat_interleave(2 * width, 2)
    where = masks[:, 0].double().repeat_interleave(2 * size[0], 1).repeat_interleave(2 * size[1], 2)
    expected = torch.einsum("nhw,thw->nt", fine, where) / where.sum((1, 2))
    torch.testing.assert_close(tiles.means(maps), expected)
    down, across = tiles.pixels(size)
    assert (down.sum(0) == 1).all()
    assert (across.sum(0) == 1).all()


def test_a_captures_rows_make_the_images_of_those_samples():
    files = ["pggan_genforce.safetensors", "sg2_rosinality.safetensors", "mobilestylegan_tiny.safetensors"]
    tangled = dissect.load(Tangled(num_classes=3), num_classes=3, z_dim=Tangled.Z_DIM)
    for generator in [*(dissect.load(DATA / name) for name in files), tangled, dissect.load("planted:1,noise=0.25")]:
        noise = "random" if generator.has_noise else "const"
        layer = next(place for place in generator.layers if place.default and place.height >= 8)
        subject = Subject.of(generator, segmodels.load("colors"), layer.name, Sampling(noise=noise), None)
        capture = subject.capture([3, 4, 5])
        rows = subject.rows(capture, [2, 0, 2])
        images = subject.resume(rows, subject.features(rows))
        torch.testing.assert_close(images, capture.images[[2, 0, 2]], rtol=1e-4, atol=1e-4)
        assert not torch.equal(images[0], images[1])


def test_intervals_are_those_of_the_mean_and_of_pairs():
    state = np.random.default_rng(0)
    count = 400
    x, shift = state.normal(size=count), 0.1 * state.normal(size=count)
    ones = np.ones(count)
    result = heldout.interval({"a": (x, ones), "b": (x + 1 + shift, ones)}, 5)
    value, low, high = result["a"]
    error = x.std() / np.sqrt(count)
    assert value == pytest.approx(x.mean())
    assert low == pytest.approx(value - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(value + 1.96 * error, abs=0.2 * error)
    value, low, high = result["b - a"]
    assert value == pytest.approx(1 + shift.mean())
    assert high - low == pytest.approx(2 * 1.96 * shift.std() / np.sqrt(count), rel=0.2)  # of pairs, not of both errors
    assert result == heldout.interval({"a": (x, ones), "b": (x + 1 + shift, ones)}, 5)
    none = heldout.interval({"a": (np.zeros(5), np.zeros(5))}, 0)["a"]
    assert np.isnan(none).all()


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"concept": "yelow"}, "unknown concept 'yelow'; nearest: yellow"),
        ({"concept": 0}, "unknown concept '0'"),
        ({"layer": "layer9"}, "unknown layer"),
        ({"init": np.ones(63)}, r"expected init as 64 numbers, one for each unit, got shape \[63\]"),
        ({"init": np.full(64, np.nan)}, "init above 0 for at least one unit"),
        ({"constants": np.ones(3)}, "expected constants as 64 numbers"),
        ({"constants": np.full(64, np.inf)}, "constants without NaN"),
        ({"top": 65}, "top between 1 and 64, got 65"),
        ({"seeds": [1, 1]}, "seeds repeat"),
        ({"seeds": []}, "at least one seed"),
        ({"tile": 17}, "tiles of 1 to 16 cells"),
        ({"truncation": 0.5}, "no truncation"),
        ({"classes": (1, 2)}, "one class for all images"),
    ],
)
def test_bad_input_is_refused_in_one_line(changed, words):
    generator, segmenter, _ = opened(0, "layer1")
    given = {"layer": "layer1", "concept": "yellow", "seeds": range(4), "heldout": range(10, 14)} | changed
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.ace(generator, segmenter, **given)
    assert "\n" not in str(caught.value)


def test_a_concept_that_no_image_shows_is_said_to_be_absent():
    generator, segmenter, _ = opened(0, "layer1")
    never = next(c for c in CONCEPTS[1:] if c not in (*generator.world.drawn_shapes, *generator.world.drawn_colours))
    with pytest.raises(GanatomyError, match=f"none of the 5 held-out images shows {never!r}"):
        dissect.ace(generator, segmenter, "layer1", never, range(10), range(10, 15))
    shown = generator.truth.labels(range(60))[:, 1] == CONCEPTS.index("yellow")
    with_it, without = np.flatnonzero(shown.any((1, 2))), np.flatnonzero(~shown.any((1, 2)))
    with pytest.raises(GanatomyError, match=f"none of the {len(without)} images shows 'yellow'"):
        dissect.ace(generator, segmenter, "layer1", "yellow", without.tolist(), with_it.tolist())


def test_a_segmenter_without_probabilities_is_refused():
    class Plain:
        concepts = ("unlabelled", "all")

        def __call__(self, images):
            return torch.ones(len(images), 1, 8, 8, dtype=torch.long)

    plain = segmodels.load(Plain())
    with pytest.raises(GanatomyError, match="no probabilities; those that have"):
        dissect.ace(opened(0, "layer1")[0], plain, "layer1", "all", range(4), range(4, 8))


def test_a_layer_of_styles_has_no_places():
    generator = dissect.load(DATA / "sg2_rosinality.safetensors")
    style = next(layer.name for layer in generator.layers if layer.kind == "style")
    with pytest.raises(GanatomyError, match="acts on the whole image and has no places"):
        dissect.ace(generator, segmodels.load("colors"), style, "red", range(4), range(4, 8))


@pytest.mark.parametrize(
    "changed", [{"epochs": 0}, {"places": 0}, {"batch": 0}, {"rate": 0}, {"penalty": -1}, {"random": -1}]
)
def test_settings_out_of_range_are_refused(changed):
    with pytest.raises(GanatomyError, match="expected"):
        AceSettings(**changed)


# -- the command -------------------------------------------------------------------------------------------


def call(capsys, *arguments):
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command(tmp_path, capsys):
    path = tmp_path / "run.h5"
    generator, segmenter, _ = opened(0, "layer1")
    run = dissect.run(generator, segmenter, layers=["layer1"], samples=60, out=path)
    few = ("--samples", 20, "--heldout", 20, "--epochs", 2, "--places", 12, "--top", 2, "--rate", 0.1)
    command = ("ace", path, "--layer", "layer1", "--concept", "yellow", *few)
    status, out, _ = call(capsys, *command, "--json")
    assert status == 0
    (said,) = json.loads(out)
    own = painters(generator, "layer1", "yellow")
    assert [row["unit"] for row in said["units"]][: len(own)] == own
    (again,) = dissect.open(path).effects.of("ace")
    assert again.rows() == said["units"]
    assert again.evaluation() == said["evaluation"]
    assert again.heldout.tolist() == list(range(80, 100))  # neither the run's samples nor the ones that it was found on
    assert again.seeds.tolist() == list(range(60, 80))
    known = np.clip(np.nan_to_num(run.layer("layer1").iou[:, CONCEPTS.index("yellow")]), 0, None)
    np.testing.assert_allclose(again.init, known / known.max(), rtol=1e-6)
    status, out, _ = call(capsys, *command, "--csv")
    assert len(list(csv.DictReader(io.StringIO(out)))) == 64
    status, out, _ = call(capsys, *command)
    assert "alpha - IoU" in out
    assert "On 20 held-out images" in out
    for wrong, words in (
        (("--concept", "yelow"), "unknown concept"),
        (("--layer", "layer2"), "unknown layer"),
        (("--insert", "much"), "concept-mean, quantile or a number"),
        (("--heldout", 0), "positive numbers of images"),
    ):
        arguments = [a for a in command if a not in ("--concept", "yellow")] if wrong[0] == "--concept" else command
        status, _, err = call(capsys, *arguments, *wrong)
        assert status == 2
        assert words in err
        assert err.count("\n") == 1


# -- found in review ---------------------------------------------------------------------------------------


def test_another_number_of_judged_units_is_another_question():
    one, other = found(0, "layer1", "yellow"), found(0, "layer1", "yellow", top=2)
    assert np.array_equal(one.alpha, other.alpha)
    assert key_of(one) != key_of(other)


@pytest.mark.parametrize("top", [4, 30, 64])
def test_random_sets_are_of_units_in_no_ranking_as_far_as_there_are_some(top):
    alpha, init = np.random.default_rng(0).random((2, 64)).astype(np.float32)
    sets = ace_module._sets(alpha, init, True, top, 0)
    ranked = np.unique(sets[:2])
    for random in sets[2:]:
        assert len(set(random.tolist())) == top
        assert len(np.intersect1d(random, ranked)) == max(0, top - (64 - len(ranked)))
    assert not np.array_equal(sets[2], sets[3]) or top == 64


def test_too_few_held_out_images_give_no_interval(tmp_path, capsys):
    generator, segmenter, _ = opened(0, "layer1")
    result = dissect.ace(generator, segmenter, "layer1", "yellow", TRAIN, [20 + i for i in range(20, 29)], top=2,
                         settings=AceSettings(epochs=1, places=4))  # fmt: skip
    for row in result.evaluation():
        assert row["area_change"] is not None
        assert row["area_low"] is row["area_high"] is row["gain_low"] is None
    command._show([result], 2, as_json=False, as_csv=False)
    assert "On 9 held-out images" in capsys.readouterr().out


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 12])
def test_a_step_has_exactly_a_batch_of_places(batch, monkeypatch):
    counts, original = [], relaxation._add_gradients

    def counted(subject, concept, alpha, sign, edited, chunks, turn):
        counts.append(sum(len(chunks.index[chunk]) for chunk in turn))
        return original(subject, concept, alpha, sign, edited, chunks, turn)

    monkeypatch.setattr(relaxation, "_add_gradients", counted)
    generator, segmenter, _ = opened(0, "layer1")
    subject = Subject.of(generator, segmenter, "layer1", Sampling(), None)
    assert subject.at_once == 8
    some = Places(np.arange(36), np.full(36, 5), np.zeros(36, np.float32), np.zeros(36, np.float32))
    nothing = Places.best([], 1)
    relaxation.optimise(subject, 4, some, nothing, np.ones(64, np.float32), np.ones(64, np.float32),
                        AceSettings(epochs=1, places=2 * batch, batch=batch), lambda _: None)  # fmt: skip
    assert counts[0] == batch
