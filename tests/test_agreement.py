"""Agreement against brute force over pixels."""

import numpy as np
import pytest
from scipy import stats

from dissect import agreement
from dissect.agreement import Tally, tally
from dissect.counts import count_reference
from dissect.levels import coarse_indices

CONCEPTS, PLANES = 7, 2
FIRST = np.array([True, True, True, True, False, False, False])
JUDGED = np.array([False] + [True] * 6)


@pytest.fixture(scope="module")
def world():
    """Pixels, labels, levels and counts of a small job with two planes, in 20 groups."""
    state = np.random.RandomState(0)
    groups, samples, side = 20, 4, 12
    labels = np.zeros((groups, samples, PLANES, side, side), np.int16)
    labels[:, :, 0] = state.randint(0, 4, (groups, samples, side, side))
    labels[:, :, 1] = state.choice([0, 4, 5, 6], (groups, samples, side, side))
    features = state.randn(groups, samples, 5, side, side).astype(np.float32)
    features[:, :, 0] += 2.5 * (labels[:, :, 0] == 2)
    features[:, :, 1] += 1.5 * (labels[:, :, 1] == 5)
    features[:, :, 2] -= 2.0 * (labels[:, :, 0] == 1)
    levels = np.quantile(features, 1 - np.geomspace(0.5, 0.01, 16), axis=(0, 1, 3, 4)).T.astype(np.float32)
    shifted = np.roll(labels, -1, 1)
    counts = np.stack([count_reference(f, y, levels, CONCEPTS) for f, y in zip(features, labels, strict=True)])
    chance = np.stack([count_reference(f, y, levels, CONCEPTS) for f, y in zip(features, shifted, strict=True)])
    return features, labels, levels, counts, chance


def indicator(labels, concept):
    return labels[:, :, 0 if concept < 4 else 1] == concept


def brute(features, labels, levels, unit, concept, level):
    on = features[:, :, unit] > levels[unit, level]
    return on.ravel(), indicator(labels, concept).ravel()


@pytest.mark.parametrize("concept", [1, 2, 5, 6])
@pytest.mark.parametrize("unit", [0, 1, 2, 4])
def test_iou_accuracy_and_information_at_every_level(world, unit, concept):
    features, labels, levels, counts, _ = world
    t = tally(counts.sum(0), FIRST)
    shape = (len(levels), CONCEPTS)
    for level in range(levels.shape[1]):
        on, there = brute(features, labels, levels, unit, concept, level)
        index = np.full(shape, level)
        assert agreement.iou_at(t, index)[unit, concept] == pytest.approx(
            (on & there).sum() / (on | there).sum(), abs=1e-12
        )
        assert agreement.accuracy_at(t, index)[unit, concept] == pytest.approx((on == there).mean(), abs=1e-12)
        joint = np.array([[(on == a).astype(int) @ (there == b) for b in (0, 1)] for a in (0, 1)]) / len(on)
        entropy = stats.entropy(joint.ravel())
        mutual = stats.entropy(joint.sum(0)) + stats.entropy(joint.sum(1)) - entropy
        ratio = agreement.information_ratio(
            t.both[unit, level, concept], t.on[unit, level], t.area[unit, concept], t.pixels[unit]
        )
        assert ratio == pytest.approx(mutual / entropy, abs=1e-10)


def test_best_level_maximises_and_is_positive(world):
    _, _, _, counts, _ = world
    t = tally(counts.sum(0), FIRST)
    index, ratio = agreement.best_level(t, JUDGED)
    for unit in range(5):
        for concept in range(1, CONCEPTS):
            values = [
                agreement.information_ratio(
                    t.both[unit, b, concept], t.on[unit, b], t.area[unit, concept], t.pixels[unit]
                )
                if t.both[unit, b, concept] * t.pixels[unit] > t.on[unit, b] * t.area[unit, concept]
                and t.on[unit, b] >= agreement.LEAST_ON
                else -1
                for b in range(t.on.shape[1])
            ]
            if max(values) < 0:
                assert index[unit, concept] == -1
                assert np.isnan(ratio[unit, concept])
            else:
                assert index[unit, concept] == int(np.argmax(values))
                assert ratio[unit, concept] == pytest.approx(max(values))
    assert (index[:, 0] == -1).all()
    assert np.isnan(agreement.iou_at(t, index)[:, 0]).all()
    assert agreement.negative_ratio(t, JUDGED)[2, 1] > 0.05  # unit 2 avoids concept 1


def test_average_precision_by_hand(world):
    features, labels, levels, counts, _ = world
    t = tally(counts.sum(0), FIRST)
    for unit, concept in ((0, 2), (3, 5)):
        total, recall = 0.0, 0.0
        there = indicator(labels, concept).ravel()
        values = features[:, :, unit].ravel()
        for level in [*levels[unit][::-1], -np.inf]:
            on = values > level
            now = (on & there).sum() / there.sum()
            total += (now - recall) * ((on & there).sum() / max(on.sum(), 1))
            recall = now
        assert agreement.average_precision(t)[unit, concept] == pytest.approx(total, abs=1e-12)


def coarse_blocks(counts, bins):
    index = np.searchsorted(coarse_indices(bins), np.arange(bins + 1), side="left")
    out = np.zeros((*counts.shape[:2], index.max() + 1, counts.shape[3]), np.int64)
    for b, q in enumerate(index):
        out[:, :, q] += counts[:, :, b]
    return out


def simple_held_out(blocks, chance, unit, concept):
    """The text of the design, one pair, in loops."""

    def levels_of(groups, counts):
        c = counts[groups].sum(0)[unit]
        both = [c[b:, concept].sum() for b in range(1, len(c))]
        on = [c[b:][:, FIRST].sum() for b in range(1, len(c))]
        return both, on, c[:, concept].sum(), c[:, FIRST].sum()

    def d_of(groups, level):
        pair = []
        for counts in (blocks, chance):
            both, on, area, _ = levels_of(groups, counts)
            pair.append(both[level] / (on[level] + area - both[level]))
        return pair

    groups = np.arange(len(blocks))
    halves = [groups[groups % 2 == 0], groups[groups % 2 == 1]]
    chosen = []
    for half in halves:
        both, on, area, pixels = levels_of(half, blocks)
        ratios = [
            agreement.information_ratio(np.array(b), np.array(o), np.array(area), np.array(pixels))
            if b * pixels > o * area and o >= 100
            else -1
            for b, o in zip(both, on, strict=True)
        ]
        chosen.append(int(np.argmax(ratios)))
    readings = [d_of(halves[0], chosen[1]), d_of(halves[1], chosen[0])]
    difference = [r[0] - r[1] for r in readings]
    pseudo = []
    for group in groups:
        half = group % 2
        left = halves[half][halves[half] != group]
        real, by_chance = d_of(left, chosen[1 - half])
        pseudo.append((real - by_chance + difference[1 - half]) / 2)
    m = len(groups)
    error = np.sqrt((m - 1) / m * ((np.array(pseudo) - np.mean(pseudo)) ** 2).sum())
    return np.mean([r[0] for r in readings]), np.mean([r[1] for r in readings]), error


@pytest.mark.parametrize(("unit", "concept"), [(0, 2), (1, 5), (3, 1)])
def test_held_out_reading_and_jackknife(world, unit, concept):
    _, _, levels, counts, chance = world
    blocks, chance_blocks = (coarse_blocks(c, levels.shape[1]) for c in (counts, chance))
    h = agreement.held_out(blocks, chance_blocks, FIRST, JUDGED)
    real, by_chance, error = simple_held_out(blocks, chance_blocks, unit, concept)
    assert h.groups == 20
    assert h.iou[unit, concept] == pytest.approx(real, abs=1e-12)
    assert h.chance[unit, concept] == pytest.approx(by_chance, abs=1e-12)
    assert h.stderr[unit, concept] == pytest.approx(error, rel=1e-9)


def test_labels_need_agreement_floor_and_certainty(world):
    _, _, levels, counts, chance = world
    blocks, chance_blocks = (coarse_blocks(c, levels.shape[1]) for c in (counts, chance))
    h = agreement.held_out(blocks, chance_blocks, FIRST, JUDGED)
    assert agreement.labels(h, JUDGED).tolist() == [2, 5, 0, 0, 0] or agreement.labels(h, JUDGED)[:2].tolist() == [2, 5]
    assert agreement.labels(h, JUDGED)[3:].tolist() == [0, 0]  # unrelated units
    assert agreement.labels(h, JUDGED, floor=0.99).tolist() == [0] * 5
    assert agreement.winners(h)[:2].tolist() == [2, 5]


def test_few_groups_give_no_error_and_no_label(world):
    _, _, levels, counts, chance = world
    blocks, chance_blocks = (coarse_blocks(c, levels.shape[1]) for c in (counts, chance))
    blocks[9:] = 0
    chance_blocks[9:] = 0
    h = agreement.held_out(blocks, chance_blocks, FIRST, JUDGED)
    assert h.groups == 9
    assert np.isnan(h.stderr).all()
    assert not agreement.labels(h, JUDGED, floor=0).any()


def test_an_empty_half_gives_nan_and_no_warning(world):
    """20 samples are 10 atoms, whose groups are all even."""
    _, _, levels, counts, chance = world
    blocks, chance_blocks = (coarse_blocks(c, levels.shape[1]) for c in (counts, chance))
    blocks[1::2] = 0
    chance_blocks[1::2] = 0
    h = agreement.held_out(blocks, chance_blocks, FIRST, JUDGED)
    assert h.groups == 10
    assert np.isnan(h.iou).all()
    assert not agreement.labels(h, JUDGED, floor=0).any()


def test_p_values():
    p = agreement.one_sided_p(np.array([0.1, -0.1, 0.1, 0.0, np.nan]), np.array([0.05, 0.05, 0.0, 0.0, 0.1]), 20)
    assert p[0] == pytest.approx(stats.t.sf(2, 19))
    assert p[1] == pytest.approx(1 - stats.t.sf(2, 19))
    assert p[2:].tolist() == [0.0, 1.0, 1.0]


def test_sums_then_ratio_never_a_mean_of_ratios():
    counts = np.array([[[[90, 0], [0, 10]]], [[[0, 0], [99, 1]]]])  # two images, one unit, one level, concept 1
    both = tally(counts.sum(0), np.array([True, True]))
    assert agreement.iou_at(both, np.zeros((1, 2), int))[0, 1] == 11 / 110


def test_judged_concepts():
    area = np.zeros((20, 5), np.int64)
    area[:, 0] = 1000
    area[:10, 1] = 1  # ten images, but 10 of 20,000 pixels is enough
    area[:9, 2] = 500  # nine images
    area[:, 3] = 100
    assert agreement.judged_concepts(area, 1000).tolist() == [False, True, False, True, False]


def test_iou_of_nothing_is_nan():
    t = Tally(np.zeros((1, 1, 2), int), np.zeros((1, 1), int), np.zeros((1, 2), int), np.array([100]))
    assert np.isnan(agreement.iou_at(t, np.zeros((1, 2), int))).all()


@pytest.fixture(scope="module")
def strangers():
    """Blocks of 240 units that have nothing to do with the labels but where both tend to be, and of 20 that do."""
    state = np.random.RandomState(3)
    groups, samples, side, units = 20, 4, 10, 260
    ramp = np.linspace(-1, 1, side)
    place = {1: ramp[:, None] + 0 * ramp, 2: -ramp[:, None] + 0 * ramp, 3: 0 * ramp[:, None] + ramp}
    score = np.stack([place[c] + state.randn(groups, samples, 1, 1) + 0 * place[c] for c in (1, 2, 3)])
    labels = np.zeros((groups, samples, 1, side, side), np.int16)
    labels[:, :, 0] = 1 + score.argmax(0)
    slope = state.randn(units, 2, 1, 1)
    features = state.randn(groups, samples, units, side, side) + slope[:, 0] * ramp[:, None] + slope[:, 1] * ramp
    features = (features + 2 * state.randn(groups, samples, units, 1, 1)).astype(np.float32)
    features[:, :, 240:] += 2 * (labels == 2)
    levels = np.quantile(features, 1 - np.geomspace(0.5, 0.01, 8), axis=(0, 1, 3, 4)).T.astype(np.float32)
    pairs = zip(features, labels, np.roll(labels, -1, 1), strict=True)
    blocks = [[count_reference(f, y, levels, 4) for y in (own, other)] for f, own, other in pairs]
    return tuple(np.stack([block[i] for block in blocks]) for i in (0, 1))


ALL, THREE = np.ones(4, bool), np.array([False, True, True, True])


def test_exchanged_counts_are_the_same_counts_in_other_places(strangers):
    blocks, chance = strangers
    real, null = agreement.exchanged(blocks, chance)
    np.testing.assert_array_equal(real + null, blocks + chance)
    moved = (real != blocks).any((1, 2, 3))
    assert moved[::2].sum() == moved[1::2].sum() == 5
    np.testing.assert_array_equal(agreement.exchanged(real, null), (blocks, chance))


def test_exchanged_counts_name_strangers_as_often_and_no_others(strangers):
    """A rule that is made loose on purpose, so that there is something to count."""
    blocks, chance = strangers
    real = agreement.held_out(blocks, chance, ALL, THREE)
    null = agreement.held_out(*agreement.exchanged(blocks, chance), ALL, THREE)
    loose = [agreement.labels(h, THREE, floor=-1, alpha=0.6)[:240] > 0 for h in (real, null)]
    named, by_chance = (int(found.sum()) for found in loose)
    assert 10 < named < 120
    assert abs(named - by_chance) < 3 * np.sqrt(named + by_chance)
    assert (agreement.labels(real, THREE)[240:] == 2).all(), "what is related is named"
    assert not agreement.labels(null, THREE)[240:].any(), "but not by chance"


@pytest.mark.parametrize(("unit", "concept", "level"), [(0, 2, 0), (1, 5, 3), (3, 1, 7)])
def test_the_error_at_a_level_is_the_jackknife_of_the_difference(world, unit, concept, level):
    _, _, levels, counts, chance = world
    blocks = [coarse_blocks(c, levels.shape[1]) for c in (counts, chance)]
    values = []
    for left in range(20):
        pair = []
        for b in blocks:
            c = np.delete(b, left, 0).sum(0)[unit, level + 1 :]
            both, on = c[:, concept].sum(), c[:, FIRST].sum()
            area = np.delete(b, left, 0).sum(0)[unit, :, concept].sum()
            pair.append(both / (on + area - both))
        values.append(pair[0] - pair[1])
    expected = np.sqrt(19 / 20 * ((np.array(values) - np.mean(values)) ** 2).sum())
    got = agreement.error_at_levels(*blocks, FIRST)
    assert got.shape == (5, 8, CONCEPTS)
    assert got[unit, level, concept] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(agreement.error_at_levels(blocks[0][:9], blocks[1][:9], FIRST)).all()
