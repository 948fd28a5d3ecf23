"""Rankings of artifact units against planted garbage, and their arithmetic against closed forms."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

import dissect
import segmodels
from dissect import GanatomyError, artifacts, metrics
from dissect.artifacts import classifier, cleaning, regions
from dissect.artifacts.rare import firing
from dissect.artifacts.regions import defective_scores
from dissect.artifacts.tagged import separation
from dissect.artifacts.unlike import distances, features_of
from dissect.effects.stored import key_of
from dissect.metrics.extractors import Pixels
from dissect.metrics.imagesets import Drawn

LAYER = "layer2"
N = 400


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:4")


@pytest.fixture(scope="module")
def garbage(generator):
    return sorted(unit for unit, role in enumerate(generator.world.roles[1]) if role.kind == "garbage")


@pytest.fixture(scope="module")
def run(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("artifacts") / "run.h5"
    return dissect.run(generator, segmodels.load("planted"), [LAYER], N, out, maxima=True)


@pytest.fixture(scope="module")
def broken(generator):
    """Where garbage is in the first images, [N, H, W], from the pixels alone."""
    with_it = generator(generator.sample(range(60)))
    units = [unit for unit, role in enumerate(generator.world.roles[1]) if role.kind == "garbage"]
    without = generator(generator.sample(range(60)), dissect.ablate(LAYER, units))
    return (with_it != without).any(1).numpy()


def test_the_fixtures_have_garbage(garbage, broken):
    assert len(garbage) == 2
    assert 0.2 < broken.any((1, 2)).mean() < 0.8


# What finds the planted garbage


def test_unlike_finds_garbage_against_clean_images(run, generator, garbage):
    features = features_of(Drawn(generator, range(N)), Pixels())
    clean = features_of(Drawn(generator, range(1000, 1400), dissect.ablate(LAYER, garbage)), Pixels())
    ranking = artifacts.unlike(run, LAYER, features, clean, Pixels(), named="clean")
    # Whatever a unit draws moves its images away from the rest, so this ranking sees the louder garbage only.
    assert ranking.top(1)[0] in garbage
    assert ranking.strategy == "unlike"  # pixels are not Inception's features
    assert ranking.facts["reference"] == "clean"


def test_defect_finds_garbage_by_its_regions(generator, garbage, broken):
    ranking = artifacts.defect(generator, LAYER, generator.sample(range(60)), broken, source="planted")
    assert sorted(ranking.top(2)) == garbage
    assert ranking.score[garbage].min() > 2 * np.delete(ranking.score, garbage).max()
    assert ranking.facts["images"] == broken.any((1, 2)).sum()


def test_defect_does_not_keep_all_maps(generator, broken, monkeypatch):
    codes = generator.sample(range(60))
    whole = artifacts.defect(generator, LAYER, codes, broken, source="planted")
    sizes, real = [], regions.defective_scores
    monkeypatch.setattr(regions, "defective_scores", lambda maps, of: sizes.append(maps.nbytes) or real(maps, of))
    monkeypatch.setattr(regions, "MOST_BYTES", 300_000)
    cut = artifacts.defect(generator, LAYER, codes, broken, source="planted")
    np.testing.assert_array_equal(cut.score, whole.score)
    assert max(sizes) <= 300_000
    assert len(sizes) > 1


def test_tagged_finds_garbage_by_its_images(generator, garbage, broken):
    tags = artifacts.Tags(np.arange(60), broken.any((1, 2)), {})
    ranking = artifacts.tagged(generator, LAYER, generator.sample(range(60)), tags)
    assert sorted(ranking.top(2)) == garbage
    assert ranking.details["p"][garbage].max() < 0.01


def test_rare_finds_the_units_that_fire_seldom(run, generator):
    ranking = artifacts.rare(run, LAYER)
    maxima = run.layer(LAYER).maxima
    frequency = (maxima > 0).mean(0)
    judged = ~np.isnan(ranking.score)
    np.testing.assert_allclose(ranking.details["frequency"][judged], frequency[judged])  # planted units are on or off
    assert set(np.flatnonzero(judged)) == set(np.flatnonzero((frequency > 0) & (frequency <= 0.3)))
    kinds = [generator.world.roles[1][unit].kind for unit in ranking.top(1)]
    assert kinds == ["rare"]
    np.testing.assert_allclose(ranking.details["contrast"][judged], 1)


def test_suspects_have_the_most_rare_units(run):
    ranking = artifacts.rare(run, LAYER)
    seeds, count = artifacts.suspects(run, LAYER)
    rare = np.flatnonzero(~np.isnan(ranking.score))
    expected = (run.layer(LAYER).maxima[:, rare] > 0).sum(1)
    np.testing.assert_array_equal(count, expected[seeds])
    assert (np.diff(count) <= 0).all()


def test_removing_what_was_found_removes_the_garbage(generator, garbage, broken):
    ranking = artifacts.defect(generator, LAYER, generator.sample(range(60)), broken, source="planted")
    recipe = artifacts.plain(generator, ranking, 2)
    seeds = range(2000, 2060)
    after, clean = (
        generator(generator.sample(seeds), recipe),
        generator(generator.sample(seeds), dissect.ablate(LAYER, garbage)),
    )
    assert torch.equal(after, clean)


# Arithmetic


def test_firing_by_hand():
    maxima = np.zeros((100, 3))
    maxima[:20, 0] = 4.0  # fires in 20 of 100
    maxima[:, 1] = 1.0  # fires always
    maxima[:50, 2], maxima[50:, 2] = 3.0, 1.0  # half of them; elsewhere half as high
    fires, contrast = firing(maxima, np.array([0.0, 0.0, -1.0]))
    np.testing.assert_array_equal(fires.sum(0), [20, 100, 100])
    np.testing.assert_allclose(contrast, [1, 0, 0])
    fires, contrast = firing(maxima, np.array([0.0, 0.0, 0.5]))
    np.testing.assert_array_equal(fires.sum(0), [20, 100, 50])
    assert contrast[2] == pytest.approx((3 - 1) / (3 - 0.5))


def test_distances_of_few_are_those_of_their_gaussians():
    state = np.random.RandomState(0)
    images = state.randn(80, 30)
    chosen = np.stack([state.permutation(80)[:12] for _ in range(5)], 1)
    reference = state.randn(90, 30) * 2
    found = distances(images, chosen, reference)
    for unit in range(5):
        expected = metrics.frechet(metrics.Gaussian.of(images[chosen[:, unit]]), metrics.Gaussian.of(reference)).value
        assert found[unit] == pytest.approx(expected)


def test_defective_scores_by_hand():
    region = np.zeros((1, 8, 8), bool)
    region[0, :4, :4] = True
    maps = np.zeros((1, 4, 8, 8), np.float32)
    maps[0, 0][region[0]] = 5  # just there
    maps[0, 1, :4, 2:6] = 1  # as large, half of it there
    maps[0, 2, 4:, 4:] = 1  # elsewhere
    maps[0, 3] = 2  # everywhere the same: on nowhere
    np.testing.assert_allclose(defective_scores(maps, region), [1, 8 / 24, 0, 0])


def test_separation_is_the_area_under_the_curve():
    state = np.random.RandomState(0)
    values, broken = state.randint(0, 6, (50, 7)).astype(np.float32), state.rand(50) < 0.4
    score, p = separation(values, broken)
    above = values[broken][:, None] - values[~broken]
    np.testing.assert_allclose(score, (above > 0).mean((0, 1)) + (above == 0).mean((0, 1)) / 2)
    assert ((p > 0) & (p <= 1)).all()


def test_logistic_regression_is_at_its_minimum():
    state = np.random.RandomState(0)
    features, broken = state.randn(80, 6) * 3 + 1, state.rand(80) < 0.3
    features[broken] += 2
    made = classifier.train(features, broken, "e" * 64, range(80))
    x, share = (features - made.mean) / made.deviation, np.where(broken, 0.5 / broken.sum(), 0.5 / (~broken).sum())
    residual = share * (expit(x @ made.weight + made.bias) - broken)
    np.testing.assert_allclose(x.T @ residual + classifier.PENALTY * made.weight, 0, atol=1e-5)
    assert residual.sum() == pytest.approx(0, abs=1e-5)
    assert made.auc > 0.8
    chance = classifier.train(features, state.rand(80) < 0.3, "e" * 64, range(80))
    assert 0.2 < chance.auc < 0.8  # of images that were not trained on


def test_grad_cam_of_a_linear_head_is_its_closed_form():
    maps = torch.randn(3, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64)
    score = (maps.mean((2, 3)) @ weight).sum()
    (gradient,) = torch.autograd.grad(score, maps)
    expected = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1))
    np.testing.assert_allclose(classifier.grad_cam(maps.detach().numpy(), weight.numpy()), expected.detach().numpy())


def test_a_classifier_is_saved_and_looks_where_images_are_broken(tmp_path):
    """Faces on which a bright square is pasted, against faces without one."""
    segmenter = segmodels.load("face-parts")
    state = np.random.RandomState(0)
    images = torch.from_numpy(np.kron(state.rand(40, 3, 8, 8), np.ones((1, 1, 16, 16))).astype(np.float32)) - 0.5
    broken = np.arange(40) % 2 == 0
    places = state.randint(0, 88, (40, 2))
    for index in np.flatnonzero(broken):
        y, x = places[index]
        images[index, :, y : y + 40, x : x + 40] = torch.tensor([1.0, -1, 1])[:, None, None]
    made = classifier.train(classifier.pooled(segmenter, images), broken, segmenter.sha256, range(7, 47))
    assert made.auc > 0.9
    made.save(tmp_path / "classifier.safetensors")
    again = artifacts.Classifier.load(tmp_path / "classifier.safetensors")
    assert again.seeds.tolist() == list(range(7, 47))
    eye = artifacts.Eye(again, segmenter)
    probability, found = eye.look(images, (128, 128))
    assert probability[broken].min() > probability[~broken].max()
    inside = [found[i, y : y + 40, x : x + 40].mean() - found[i].mean() for i, (y, x) in enumerate(places) if broken[i]]
    assert np.mean(inside) > 0.2  # it looks at the square, not elsewhere
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "classifier.safetensors").read_bytes()[:50])
    with pytest.raises(GanatomyError, match="damaged"):
        artifacts.Classifier.load(tmp_path / "damaged.safetensors")
    other = classifier.train(classifier.pooled(segmenter, images), broken, "0" * 64, range(40))
    with pytest.raises(GanatomyError, match="another encoder"):
        artifacts.Eye(other, segmenter)


# Corrections


def test_sequential_correction_scales_by_its_scores(generator, broken):
    codes = generator.sample(range(60))
    rankings = [artifacts.defect(generator, name, codes, broken, source="planted") for name in ("layer3", LAYER)]
    recipe = artifacts.sequential(generator, rankings, scale=0.8, share=0.1)
    assert [edit.layer for edit in recipe] == [LAYER, "layer3"]  # in the order in which they run
    for edit, ranking in zip(recipe, reversed(rankings), strict=True):
        assert len(edit.units) == 6
        features = torch.ones(1, 64, 2, 2)
        expected = 0.8 * (1 - ranking.score[list(edit.units)])
        np.testing.assert_allclose(edit(features)[0, list(edit.units), 0, 0], expected, rtol=1e-6)
    assert len(artifacts.sequential(generator, rankings, stop=LAYER)) == 1


def test_no_correction_changes_nothing(generator):
    facts = {"strategy": "defect", "layer": LAYER}
    nothing = artifacts.Ranking(facts, np.zeros(64), {})
    recipe = artifacts.sequential(generator, [nothing], scale=1.0, share=1.0)
    codes = generator.sample(range(3))
    assert torch.equal(generator(codes, recipe), generator(codes))


# Rankings as values


def test_rankings_sort_and_store(run):
    ranking = artifacts.rare(run, LAYER)
    again = artifacts.Ranking.from_stored(ranking.header(), ranking.arrays())
    np.testing.assert_array_equal(again.score, ranking.score)
    assert again.rows(3) == ranking.rows(3)
    assert [row["rank"] for row in ranking.rows(3)] == [1, 2, 3]
    order = ranking.order
    judged = ~np.isnan(ranking.score)
    assert (np.diff(ranking.score[order[: judged.sum()]]) <= 0).all()
    assert not judged[order[judged.sum() :]].any()
    assert ranking.top(1000) == order[: judged.sum()].tolist()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a,b\n1,2\n", "columns seed and tag"),
        ("seed,tag\nx,fine\n", "line 2: expected a seed"),
        ("seed,tag\n-5,fine\n", "line 2: expected a seed from 0"),
        ("seed,tag\n99999999999999999999,fine\n", "line 2: expected a seed from 0"),
        ("seed,tag\n1,fine\n2,ugly\n", "line 3: expected the tag broken or fine"),
        ("seed,tag\n1,fine\n1,broken\n", "line 3: seed 1 has two tags"),
        ("seed,tag,region\n1,broken,none.png\n", "cannot be read as a picture"),
        ("seed,tag\n", "no tags"),
    ],
)
def test_bad_tags_name_the_line(tmp_path, lines, words):
    (tmp_path / "tags.csv").write_text(lines)
    with pytest.raises(GanatomyError, match=words):
        artifacts.read_tags(tmp_path / "tags.csv")


@pytest.mark.parametrize("ending", ["csv", "zip"])
def test_tags_are_read_and_written(tmp_path, ending):
    region = np.zeros((6, 6), np.uint8)
    region[:2] = 255
    Image.fromarray(region).save(tmp_path / "r.png")
    (tmp_path / "tags.csv").write_text("seed,tag,region\n7,broken,r.png\n3,fine,\n9,artifact,\n7,bad,\n")
    tags = artifacts.read_tags(tmp_path / "tags.csv")
    assert tags.seeds.tolist() == [7, 3, 9]
    assert tags.broken.tolist() == [True, False, True]
    np.testing.assert_array_equal(tags.regions[7], region > 0)
    (tmp_path / "other").mkdir()
    artifacts.write_tags(tmp_path / "other" / f"again.{ending}", tags)
    again = artifacts.read_tags(tmp_path / "other" / f"again.{ending}")
    assert (again.seeds == tags.seeds).all()
    assert (again.broken == tags.broken).all()
    assert set(again.regions) == {7}
    np.testing.assert_array_equal(again.regions[7], region > 0)


def zipped(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a_txt": "x"}, "expected one CSV file of tags in it, found 0"),
        ({"a_csv": "seed,tag\n1,fine\n", "b_csv": ""}, "found 2"),
        ({"a_csv": "seed,tag,region\n1,broken,r.png\n"}, "the region r.png is not in it"),
        ({"a_csv": "seed,tag,region\n1,broken,r.png\n", "r_png": "none"}, "cannot be read as a picture"),
        ({"a_csv": b"\xff\xfe\x00"}, "is damaged"),
        ({"a_csv": "seed,tag\n1,maybe\n"}, "line 2: expected the tag"),
    ],
)
def test_a_zip_of_tags_that_is_none_is_told_in_a_line(tmp_path, files, words):
    zipped(tmp_path / "tags.zip", **files)
    with pytest.raises(GanatomyError, match=words) as told:
        artifacts.read_tags(tmp_path / "tags.zip")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["../r.png", "/etc/r.png"])
def test_a_region_lies_beside_its_file(tmp_path, name):
    (tmp_path / "tags.csv").write_text(f"seed,tag,region\n1,broken,{name}\n")
    with pytest.raises(GanatomyError, match="expected regions beside the file"):
        artifacts.read_tags(tmp_path / "tags.csv")


def test_what_cannot_be_ranked(run, generator, tmp_path):
    codes = generator.sample(range(4))
    with pytest.raises(GanatomyError, match="both tags"):
        artifacts.tagged(generator, LAYER, codes, artifacts.Tags(np.arange(4), np.ones(4, bool), {}))
    with pytest.raises(GanatomyError, match="expected regions bool"):
        artifacts.defect(generator, LAYER, codes, np.zeros((4, 8, 8)), source="x")
    with pytest.raises(GanatomyError, match="no pixel"):
        artifacts.defect(generator, LAYER, codes, np.zeros((4, 8, 8), bool), source="x")
    with pytest.raises(GanatomyError, match="features of the run's 400 samples, got 5"):
        artifacts.unlike(run, LAYER, np.zeros((5, 3)), None, Pixels())
    with pytest.raises(GanatomyError, match="got 1 and 9"):
        classifier.train(np.zeros((10, 2)), np.arange(10) == 0, "", range(10))
    plain = dissect.run(generator, segmodels.load("planted"), [LAYER], 20, tmp_path / "plain.h5")
    with pytest.raises(GanatomyError, match="--maxima"):
        artifacts.rare(plain, LAYER)
    judged = artifacts.rare(run, LAYER)
    with pytest.raises(GanatomyError, match="units, got 999"):
        artifacts.plain(generator, judged, 999)


# Cleaning


def test_the_curve_falls_with_the_garbage_and_not_with_random_units(generator, garbage, broken):
    ranking = artifacts.defect(generator, LAYER, generator.sample(range(60)), broken, source="planted")
    clean = features_of(Drawn(generator, range(5000, 5300), dissect.ablate(LAYER, garbage)), Pixels())
    found = artifacts.curve(
        generator, ranking, range(3000, 3200), clean, Pixels(), steps=[1, 2, 4], random=3, named="clean"
    )
    assert found.steps.tolist() == [0, 1, 2, 4]
    assert found.distance[0, 2] < found.distance[0, 0]
    without = features_of(Drawn(generator, range(3000, 3200), dissect.ablate(LAYER, garbage)), Pixels())
    assert found.distance[0, 2] == pytest.approx(metrics.kernel_distance(without, clean))
    assert found.best == 2
    assert found.helps
    assert not set(found.orders[1:].ravel()) & set(found.orders[0])  # a control without what is tested
    assert (found.distance[1:, 2] > found.distance[0].mean()).all()
    again = artifacts.Curve.from_stored(found.header(), found.arrays())
    assert again.rows() == found.rows()


def test_a_ranking_that_knows_nothing_does_not_help(generator, garbage):
    score = np.where(np.isin(np.arange(64), garbage), 0.0, np.random.RandomState(0).rand(64))
    ranking = artifacts.Ranking({"strategy": "defect", "layer": LAYER}, score, {})
    clean = features_of(Drawn(generator, range(5000, 5300), dissect.ablate(LAYER, garbage)), Pixels())
    found = artifacts.curve(generator, ranking, range(3000, 3100), clean, Pixels(), steps=[1, 2, 4])
    assert not found.helps


def test_one_random_order_as_good_is_enough_to_doubt():
    """Units count as found only if they beat every control, not the mean of a good and a bad one."""
    state = np.random.RandomState(0)
    reference = state.randn(300, 4)
    target = metrics.KernelTarget(reference)
    moved = {"far": 1.5, "near": 0.0}
    kinds = [
        ("far", "near"),
        ("far", "near"),
        ("far", "far"),
    ]  # what is tested, a control as good, a control that is not
    base = state.randn(200, 4)
    found = np.array([[base + moved[kind] for kind in row] for row in kinds])
    value = np.array([[target.distance(x) for x in row] for row in found])
    _, gain, worse = cleaning._spread(target, found, value, reference)
    assert gain[1, 0] > 0
    assert gain[1, 1] <= 0
    assert worse[1] <= 0
    _, gain, _ = cleaning._spread(target, found[[0, 2]], value[[0, 2]], reference)
    assert (gain[1] > 0).all()


@pytest.mark.parametrize("kind", ["anew", "shifted"])
def test_where_nothing_helps_it_is_seldom_said_that_something_does(kind):
    """Ten numbers of units, the best of which is chosen, and a reference that is a small sample itself."""
    said, tries, steps = 0, 60, 10
    for index in range(tries):
        state = np.random.RandomState(index)
        reference, base = state.randn(40, 6), state.randn(80, 6)
        changed = [base]
        for _ in range(steps - 1):
            new = base + 0.1 * state.randn(6)  # in any direction: away from the truth, though perhaps not from a sample
            if kind == "anew":
                new = np.concatenate([state.randn(60, 6), base[60:]])  # other images, as good
            changed.append(new)
        found = np.array([changed, [base] * steps])  # units that do nothing are the control
        target = metrics.KernelTarget(reference)
        value = np.array([[target.distance(x) for x in row] for row in found])
        deviation, gain, worse = cleaning._spread(target, found, value, reference)
        orders = np.arange(2 * (steps - 1)).reshape(2, -1)
        reach = cleaning.NORMAL * deviation
        curve = artifacts.Curve({}, np.arange(steps), orders, value, value - reach, value + reach, gain, worse, 0.0)
        said += curve.helps
    assert said / tries <= 0.05


def test_a_curve_of_another_ranking_or_other_steps_is_kept_beside_the_first(generator, garbage):
    clean = features_of(Drawn(generator, range(5000, 5030)), Pixels())
    first, other = np.arange(64) / 64, np.arange(64)[::-1] / 64
    facts = {"strategy": "defect", "layer": LAYER}

    def key(score, inputs, steps=(1, 2), seeds=range(3000, 3008), random=1):
        ranking = artifacts.Ranking(facts | {"inputs": inputs}, score, {})
        return key_of(artifacts.curve(generator, ranking, seeds, clean, Pixels(), steps=steps, random=random))

    keys = [
        key(first, "a"), key(other, "a"), key(first, "b"), key(first, "a", steps=(1, 3)), key(first, "a", random=2),
        key(first, "a", seeds=[3000, *range(3002, 3009)]),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key(first, "a") == keys[0]


def test_rankings_by_other_tags_are_kept_apart(generator, broken):
    codes, flawed = generator.sample(range(20)), broken[:20]
    there = flawed.any((1, 2))
    tags = [artifacts.Tags(np.arange(20), some, {}) for some in (there, np.roll(there, 1))]
    by_tags = [artifacts.tagged(generator, LAYER, codes, some) for some in tags]
    by_regions = [artifacts.defect(generator, LAYER, codes, some, source="x") for some in (flawed, flawed[:, ::-1])]
    assert len({key_of(ranking) for ranking in (*by_tags, *by_regions)}) == 4


def test_no_more_than_half_of_a_layer_is_judged(generator):
    ranking = artifacts.Ranking({"strategy": "defect", "layer": LAYER}, np.random.RandomState(0).rand(64), {})
    found = artifacts.curve(generator, ranking, range(3000, 3004), np.zeros((5, 768)), Pixels(), steps=[1, 32, 40])
    assert found.steps.tolist() == [0, 1, 32]


def test_images_that_activate_the_garbage_show_it(generator, garbage):
    chosen = artifacts.activating(generator, {LAYER: garbage}, range(3000, 3200), 30)
    assert len(set(chosen)) == 30
    units = generator.features(generator.sample(chosen), LAYER)[LAYER][:, garbage]
    assert (units.amax((1, 2, 3)) > 0).all()
    share = generator.features(generator.sample(range(3000, 3200)), LAYER)[LAYER][:, garbage].amax((1, 2, 3)) > 0
    assert share.float().mean() < 0.7
    assert artifacts.activating(generator, {LAYER: garbage}, range(3000, 3200), 5) == chosen[:5]  # the strongest first
    both = {LAYER: garbage[:1], "layer1": [0, 3]}
    maxima = [generator.features(generator.sample(range(3000, 3200)), n)[n][:, u].amax((2, 3)) for n, u in both.items()]
    z = torch.cat([(m - m.mean(0)) / m.std(0, unbiased=False) for m in maxima], 1).nan_to_num(0).sum(1)
    assert artifacts.activating(generator, both, range(3000, 3200), 1) == [3000 + int(z.argmax())]
