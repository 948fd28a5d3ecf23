"""Examples by band: against NumPy over all features, drawn blindly, the same bits however the job is cut."""

import shutil
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from helpers import Stop, datasets, differing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dissect
import segmodels
from dissect import GanatomyError, examples
from dissect.examples import BANDS, EACH, PARTS, Drawn, Gathered, examples_of, scattered
from dissect.execute import run_shard, write_plan
from dissect.job import Job
from dissect.memory import memory_of
from dissect.plan import Plan
from dissect.samples import Samples
from dissect.statistics import half

N = 200
LAYERS = ["layer1", "layer3"]
SEEDS = range(1000, 1000 + N)


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:5")


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("planted")


@pytest.fixture(scope="module")
def finished(generator, segmenter, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run.h5"
    return dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=out, maxima=True)


def splitmix(seed):
    """SplitMix64's first output for a state, in Python's own integers."""
    x = (seed + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def test_the_hash():
    seeds = np.array([0, 1, 2, 1234567, 2**32 - 1, 2**62])
    assert scattered(seeds).tolist() == [splitmix(int(seed)) for seed in seeds]
    assert scattered(seeds)[0] == 0xE220A8397B1DCDAF  # the first output of a generator seeded with 0, as published


def oracle(seeds, maxima, ranked=examples.RANKED, pool=examples.POOL):
    """Bands of (seed, rank) for maxima [N, U] of samples, one unit and one sample at a time."""
    drawn = sorted(range(len(seeds)), key=lambda i: splitmix(int(seeds[i])))
    among = drawn[:ranked]
    result = []
    for unit in range(maxima.shape[1]):
        order = sorted(among, key=lambda i: (maxima[i, unit], seeds[i]))
        rank = {sample: r for r, sample in enumerate(order)}
        bands = [[] for _ in range(BANDS)]
        for sample in drawn[:pool]:
            band = bands[int(BANDS * (rank[sample] + 0.5) / len(among))]
            if len(band) < EACH:
                band.append(sample)
        result.append([sorted((rank[i], int(seeds[i])) for i in band) for band in bands])
    return result


@pytest.mark.parametrize("layer", LAYERS)
def test_examples_equal_the_truth(finished, generator, layer):
    """Every band, seed, maximum, position and map, from features that NumPy computes from z."""
    features = generator.truth.features(SEEDS, layer).astype(np.float32)
    maxima, side = features.max((2, 3)), min(features.shape[2], examples.LARGEST_EXAMPLE)
    expected = oracle(SEEDS, maxima)
    L, thumbnails = finished.layer(layer), {seed for seed, _ in finished.thumbnails()}
    for unit in range(L.units_count):
        bands = L.examples(unit)
        assert [(band.low, band.high) for band in bands] == [(b / BANDS, (b + 1) / BANDS) for b in range(BANDS)]
        assert [[e.seed for e in band.samples] for band in bands] == [[s for _, s in band] for band in expected[unit]]
        for band in bands:
            for example in band.samples:
                maps = features[example.seed - SEEDS[0], unit]
                assert example.value == maps.max()
                assert (example.y, example.x) == np.unravel_index(maps.argmax(), maps.shape)
                factor = len(maps) // side
                small = maps.reshape(side, factor, side, factor).mean((1, 3))
                assert np.array_equal(example.feature, small.astype(np.float16))
                assert band.low < example.quantile < band.high
                below, most = (maxima[:, unit] < example.value).mean(), (maxima[:, unit] <= example.value).mean()
                assert below < example.quantile < most
                assert example.seed in thumbnails
    assert sum(len(band) == EACH for unit in expected for band in unit) > 0.97 * BANDS * len(expected)


def test_examples_are_drawn_blindly():
    """Over many jobs, examples are uniform within their band, and ties are shared out among the bands."""
    rng = np.random.default_rng(0)
    places, tied = [], []
    for job in range(60):
        seeds = np.arange(400) + 400 * job
        maxima = np.stack([rng.standard_normal(400), np.zeros(400)], 1).astype(np.float32)
        found = gathered_examples(seeds, maxima, [0, 400])
        for band, row in enumerate(found["seed"][0]):
            values = maxima[row[row >= 0] - seeds[0], 0]
            places += [BANDS * (maxima[:, 0] < value).mean() - band for value in values]
        tied.append(found["seed"][1])
    counts = np.histogram(places, 5, (0, 1))[0]
    assert counts.sum() == len(places) > 0.99 * 60 * BANDS * EACH
    assert ((counts - len(places) / 5) ** 2 / (len(places) / 5)).sum() < 13.3  # chi-square, 4 degrees, p = 0.01
    assert (np.array(tied) >= 0).mean() > 0.98  # a dead unit's bands are all filled
    first = np.concatenate([t[t >= 0] % 400 for t in tied])
    assert abs(first.mean() - 199.5) < 4 * 115.5 / np.sqrt(len(first))  # neither early nor late samples


def gathered_examples(seeds, maxima, edges, size=(4, 4)):
    """What parts between ``edges`` make of maxima [N, U], whose maps hold each maximum at a place of its own."""
    parts = []
    rng = np.random.default_rng(7)
    place = rng.integers(0, size[0] * size[1], maxima.shape)
    maps = np.repeat(maxima[..., None], size[0] * size[1], 2) - 1
    np.put_along_axis(maps, place[..., None], maxima[..., None], 2)
    maps = torch.from_numpy(maps.reshape(*maxima.shape, *size))
    for first, stop in pairwise(edges):
        part = Gathered(maxima.shape[1], *size, Drawn.of(seeds, first, stop))
        step = int(rng.integers(1, 7))
        starts = list(range(first, stop, step))
        for start in starts + starts[:2]:  # some twice, as after an interrupted atom
            rows = slice(start - first, min(start + step, stop) - first)
            end = min(start + step, stop)
            part.add(maps[start:end], maxima[start:end], rows)
        parts.append(part.arrays())
    return examples_of([parts[i] for i in rng.permutation(len(parts))])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_partition_gives_the_same_bits(data):
    """And the oracle's, with ties, few samples, and more samples than are ranked."""
    count = data.draw(st.integers(4, 90))
    state = np.random.RandomState(data.draw(st.integers(0, 99)))
    seeds = np.sort(state.permutation(10_000)[:count]) if data.draw(st.booleans()) else state.permutation(count)
    maxima = state.randn(count, 3).astype(np.float32)
    maxima[:, 1] = np.maximum(np.round(maxima[:, 1]), 0)
    ranked, pool = data.draw(st.sampled_from([(4096, 48), (30, 20), (12, 12)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "RANKED", ranked)
        patch.setattr(examples, "POOL", pool)
        whole = gathered_examples(seeds, maxima, [0, count])
        cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=5)))
        cut = gathered_examples(seeds, maxima, [0, *cuts, count])
        expected = oracle(seeds, maxima, ranked, pool)
    for name, array in whole.items():
        assert array.tobytes() == cut[name].tobytes(), name
    for unit, bands in enumerate(expected):
        for b, band in enumerate(bands):
            there = whole["seed"][unit, b] >= 0
            assert there.sum() == len(band)
            assert whole["seed"][unit, b][there].tolist() == [seed for _, seed in band]
            rank = [(r + 0.5) / min(ranked, count) for r, _ in band]
            assert np.allclose(whole["quantile"][unit, b][there], rank)
            for name in ("value", "quantile", "yx", "feature"):
                assert not whole[name][unit, b][~there].any()


def test_half_is_numpys():
    """Every float16, what lies half way between two, beside that, and beyond the range."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = np.sort(every[np.isfinite(every)]).astype(np.float32)
    middle = (every[1:] + every[:-1]) / 2
    values = np.concatenate([every, middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, -np.inf)])
    values = np.concatenate([values, [1e30, -1e30, 65504, 65519, -65520, 1e-30]]).astype(np.float32)
    expected = np.clip(values, -65504, 65504).astype(np.float16)
    assert half(values).tobytes() == expected.tobytes()


# Through the whole pass


def job_for(generator, segmenter, out, **options):
    return Job(generator, segmenter, Samples(generator, seeds=SEEDS), LAYERS, out, maxima=True, **options)


FLOATS = ("/mean", "second_moment", "concept_mean")  # sums of floats, which may differ in the last bits


def test_resumed_in_passes_and_in_shards(finished, generator, segmenter, tmp_path):
    out = tmp_path / "resumed.h5"
    for after in (30, 110, 170):
        with pytest.raises(KeyboardInterrupt):
            dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=out, maxima=True, progress=Stop(after))
    resumed = dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=out, maxima=True)
    assert differing(finished.path, resumed.path) == []

    job = job_for(generator, segmenter, tmp_path / "passes.h5")
    each = max(job.memory_of([name]).total for name in LAYERS)
    passes = dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=job.out, maxima=True, memory=each)
    assert differing(finished.path, passes.path) == []

    plan = write_plan(job_for(generator, segmenter, tmp_path / "plan.h5"))
    shards = [run_shard(job_for(generator, segmenter, tmp_path / f"{i}.h5"), plan, i, 3) for i in (1, 2, 3)]
    merged = dissect.merge([shards[i] for i in (2, 0, 1)], tmp_path / "merged.h5")
    assert [name for name in differing(finished.path, merged.path) if not name.endswith(FLOATS)] == []
    for path in (resumed.path, merged.path):
        assert dissect.verify(path) == []


def test_given_levels_have_examples(generator, segmenter, finished, tmp_path):
    """No pilot, and the same examples: they depend on no level."""
    levels = {name: np.full((64, 1), 0.25, np.float32) for name in LAYERS}
    run = dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=tmp_path / "r.h5", levels=levels, maxima=True)
    other = [name for name in differing(finished.path, run.path) if "/examples/" in name]
    assert other == []


@pytest.mark.parametrize("samples", [4, 7, 15])
def test_small_jobs(generator, segmenter, tmp_path, samples):
    run = dissect.run(generator, segmenter, ["layer1"], samples=samples, out=tmp_path / "run.h5")
    assert dissect.verify(run.path) == []
    for unit in (0, 63):
        seeds = [e.seed for band in run.layer("layer1").examples(unit) for e in band.samples]
        assert sorted(seeds) == list(range(samples))  # every sample is in some band


def test_maps_of_large_layers_are_averaged(segmenter, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 80), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.Tanh()).eval()
    G = dissect.load(net, z_dim=4)
    run = dissect.run(G, segmodels.load("colors"), ["1"], samples=20, out=tmp_path / "run.h5")
    assert dissect.verify(run.path) == []
    example = run.layer("1").examples(2)[-1].samples[-1]
    maps = G.capture(G.sample([example.seed]), ["1"]).features["1"][0, 2].numpy()
    assert (example.value, (example.y, example.x)) == (maps.max(), np.unravel_index(maps.argmax(), (80, 80)))
    small = nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps.repeat(32, 0).repeat(32, 1))[None], 32)[0]
    assert example.feature.shape == (32, 32)
    assert np.allclose(example.feature, small, rtol=1e-3, atol=1e-4)


# Files


def changed(run, tmp_path, change):
    path = tmp_path / "copy.h5"
    shutil.copy(run.path, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def moved(name, to):
    def change(file):
        data = file[f"layers/layer1/examples/{name}"]
        data[...] = to(data[()])

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (moved("seed", lambda x: x + N), "none of the samples or has no thumbnail"),
        (moved("quantile", lambda x: x[:, ::-1]), "not in its band"),
        (moved("value", lambda x: -x), "not in order"),
        (moved("feature", lambda x: x + 1), "does not have its maximum"),
        (lambda file: file.__delitem__("layers/layer1/examples/yx"), "expected"),
        (lambda file: file.__delitem__("layers/layer1/examples"), "expected"),
    ],
)
def test_verify_finds(finished, tmp_path, change, problem):
    lines = dissect.verify(changed(finished, tmp_path, change))
    assert any(problem in line for line in lines), lines


def test_older_files(finished, generator, segmenter, tmp_path):
    """Made before there were examples: opened, sound, and finished as they are; the answer is an empty list."""
    import json

    from dissect.manifest import run_id

    def change(file):
        manifest = json.loads(file.attrs["manifest"])
        del manifest["examples"]
        file.attrs["manifest"], file.attrs["id"] = json.dumps(manifest), run_id(manifest)
        for name in LAYERS:
            del file[f"layers/{name}/examples"]

    path = changed(finished, tmp_path, change)
    run = dissect.open(path)
    assert run.layer("layer1").examples(3) == []
    assert len(run.layer("layer1").top(3)) == 16
    assert dissect.verify(path) == []
    again = dissect.run(generator, segmenter, LAYERS, seeds=SEEDS, out=path, maxima=True)
    assert again.id == run.id
    with pytest.raises(GanatomyError, match=r"units 0\.\.63"):
        run.layer("layer1").examples(64)


def test_memory_is_what_is_kept(finished, generator, segmenter, tmp_path):
    """The formula against the arrays that a part holds."""
    shapes = [(64, 16, 16), (5, 80, 40)]
    drawn = Drawn.of(np.arange(N), 0, N)
    kept = [Gathered(*shape, drawn).arrays() for shape in shapes]
    expected = sum(part[name].nbytes for part in kept for name in ("maxima", "yx", "feature"))
    memory = memory_of(shapes, 20, 48, Plan.of(N), (64, 64), 16, False)
    assert memory.examples == expected
    large = memory_of(shapes, 20, 48, Plan.of(10**6), (64, 64), 16, False).examples
    assert large == memory_of(shapes, 20, 48, Plan.of(examples.RANKED), (64, 64), 16, False).examples
    assert set(kept[0]) == set(PARTS)
    assert set(datasets(finished.path)) >= {f"layers/layer1/examples/{name}" for name in examples.NAMES}
