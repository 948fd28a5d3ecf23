"""The pass: the same bits again, resumed, in other batches and threads; refusals that lose nothing."""

import json
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from helpers import Bands, Stop, datasets, differing
from torch import nn

import dissect
import segmodels
from dissect import GanatomyError, statistics, store
from dissect.counts import Counter, count_reference
from dissect.exactness import reproducibly
from dissect.generators.planted_truth import bilinear
from dissect.samples import Samples, Sampling

N = 60


@pytest.fixture(scope="module")
def generator():
    return dissect.load("planted:3")


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("planted")


@pytest.fixture(scope="module")
def finished(generator, segmenter, tmp_path_factory):
    return dissect.run(generator, segmenter, samples=N, out=tmp_path_factory.mktemp("run") / "run.h5", maxima=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_runs_are_identical(finished, generator, segmenter, tmp_path):
    again = dissect.run(generator, segmenter, samples=N, out=tmp_path / "again.h5", maxima=True)
    assert differing(finished.path, again.path) == []
    assert again.id == finished.id


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 2), (64, 1), (64, 2)])
def test_exact_arithmetic_does_not_see_batch_and_threads(finished, generator, segmenter, tmp_path, batch, threads):
    before = torch.get_num_threads()
    other = dissect.run(
        generator, segmenter, samples=N, out=tmp_path / "other.h5", batch=batch, threads=threads, maxima=True
    )
    assert differing(finished.path, other.path) == []
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("stops", [(1,), (4,), (33,), (12, 30, 59)])
def test_resumed_is_identical(finished, generator, segmenter, tmp_path, stops):
    out = tmp_path / "run.h5"
    for after in stops:
        with pytest.raises(KeyboardInterrupt):
            dissect.run(generator, segmenter, samples=N, out=out, maxima=True, progress=Stop(after))
        assert not out.exists()
        assert (tmp_path / "run.h5.partial").exists() == (after > 3)
    seen = []
    run = dissect.run(generator, segmenter, samples=N, out=out, maxima=True, progress=lambda d, t: seen.append(d))
    assert seen[0] >= stops[-1] - 3  # finished atoms were not computed again
    assert differing(finished.path, run.path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(statistics, "half", 90), (statistics.Sums, "merge", 8), (Counter, "fold", 4), (store, "_dataset", 3)],
    ids=["top samples", "merging an atom", "folding an atom", "writing"],
)
def test_interrupt_waits_for_what_must_not_be_cut(
    finished, generator, segmenter, tmp_path, monkeypatch, owner, name, call
):
    """Ctrl-C in the middle of a change: the change is completed, and only then may a checkpoint hold it."""
    real, calls = getattr(owner, name), []

    def interrupted(*arguments):
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    out = tmp_path / "run.h5"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            dissect.run(generator, segmenter, samples=N, out=out, maxima=True)
    assert len(calls) >= call
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert out.exists() == (owner is store)
    run = dissect.run(generator, segmenter, samples=N, out=out, maxima=True)
    assert differing(finished.path, run.path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


def test_interrupt_before_the_final_write_loses_nothing(finished, generator, segmenter, tmp_path, monkeypatch):
    real, out = store.write, tmp_path / "run.h5"

    def interrupted(path, *arguments, **options):
        if path == out:
            raise KeyboardInterrupt
        real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dissect.run(generator, segmenter, samples=N, out=out, maxima=True)
    seen = []
    run = dissect.run(generator, segmenter, samples=N, out=out, maxima=True, progress=lambda d, t: seen.append(d))
    assert seen == [N]
    assert differing(finished.path, run.path) == []


def test_what_a_killed_run_left_is_removed(generator, segmenter, tmp_path):
    out = tmp_path / "run.h5"
    left = ["run.h5.partial", "run.h5.partial.json", "run.h5.77.tmp", "run.h5.partial.json.77.tmp"]
    dissect.run(generator, segmenter, ["layer1"], samples=20, out=out)
    for name in (*left, "run.h5.mine.tmp"):
        (tmp_path / name).write_bytes(b"x")
    dissect.run(generator, segmenter, ["layer1"], samples=20, out=out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5", "run.h5.mine.tmp"]


def test_resumed_run_keeps_its_batch_size(generator, segmenter, tmp_path):
    out = tmp_path / "run.h5"
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, samples=N, out=out, batch=2, threads=1, progress=Stop(30))
    run = dissect.run(generator, segmenter, samples=N, out=out)
    assert run.manifest["batch"] == 2
    assert run.manifest["threads"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [({"samples": 61}, "samples.count"), ({"maxima": True}, "maxima"), ({"layers": ["layer1"]}, "layers"),
     ({"batch": 1}, "batch"), ({"count_size": 32}, "count_size"), ({"seeds": range(5, 5 + N)}, "samples.seeds")],
)  # fmt: skip
def test_unfinished_run_of_another_manifest_is_left_alone(generator, segmenter, tmp_path, change, field):
    out = tmp_path / "run.h5"
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, samples=N, out=out, progress=Stop(30))
    partial = tmp_path / "run.h5.partial"
    before = contents(partial)
    with pytest.raises(GanatomyError, match=f"another manifest .*{field}"):
        dissect.run(generator, segmenter, **{"samples": N, "out": out} | change)
    assert contents(partial) == before


def test_finished_run_is_returned_or_refused(finished, generator, segmenter):
    before = finished.path.read_bytes()
    again = dissect.run(generator, segmenter, samples=N, out=finished.path, maxima=True, batch=5)
    assert again.id == finished.id
    with pytest.raises(GanatomyError, match="another dissection.*samples"):
        dissect.run(generator, segmenter, samples=N + 1, out=finished.path)
    with pytest.raises(GanatomyError, match="another dissection.*fingerprint"):
        dissect.run(dissect.load("planted:4"), segmenter, samples=N, out=finished.path)
    assert finished.path.read_bytes() == before


@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3"])
def test_counts_equal_the_truth(finished, generator, layer):
    """Features and labels from z in NumPy alone, counted by the NumPy definition."""
    seeds = range(N)
    features, labels = generator.truth.features(seeds, layer), generator.truth.labels(seeds)
    L = finished.layer(layer)
    assert np.array_equal(L.counts.sum(0), count_reference(features, labels, L.levels, 13))
    atoms = np.array([i // 3 for i in seeds])  # A = 60 // 20
    following = np.array([i + 1 if i + 1 < N and atoms[i + 1] == atoms[i] else atoms[i] * 3 for i in seeds])
    assert np.array_equal(L.chance_counts.sum(0), count_reference(features, labels[following], L.levels, 13))
    halves = (20 * atoms // 20) % 2
    assert np.array_equal(L.counts[1], count_reference(features[halves == 1], labels[halves == 1], L.levels, 13))


@pytest.mark.parametrize("layer", ["layer1", "layer3"])
def test_statistics_equal_the_truth(finished, generator, layer):
    seeds = range(N)
    features, labels = generator.truth.features(seeds, layer).astype(np.float64), generator.truth.labels(seeds)
    L = finished.layer(layer)
    flat = features.transpose(1, 0, 2, 3).reshape(64, -1)
    assert np.allclose(L.mean, flat.mean(1), rtol=1e-12)
    assert np.allclose(L.second_moment, flat @ flat.T / flat.shape[1], rtol=1e-12)
    assert np.array_equal(L.maxima, features.max((2, 3)).astype(np.float32))
    factor = 64 // features.shape[2]
    for concept in (3, 9):
        where = labels[:, 0 if concept < 7 else 1] == concept
        side = features.shape[2]
        share = where.reshape(N, side, factor, side, factor).mean((2, 4))
        expected = (features * share[:, None]).sum((0, 2, 3)) / share.sum() if share.sum() else np.full(64, np.nan)
        assert np.allclose(L.concept_mean[concept], expected, rtol=1e-12, equal_nan=True)
    for concept in range(13):
        where = labels[:, 0 if concept < 7 else 1] == concept
        assert np.array_equal(finished.concept_area[:, concept], where.sum((1, 2)))


def test_top_samples_in_order(finished, generator):
    features = generator.truth.features(range(N), "layer2")
    L = finished.layer("layer2")
    for unit in range(64):
        maxima = features[:, unit].max((1, 2))
        order = sorted(range(N), key=lambda s: (-maxima[s], s))[:16]
        top = L.top(unit)
        assert [t.seed for t in top] == order
        for t in top:
            assert t.value == maxima[t.seed]
            assert (t.y, t.x) == np.unravel_index(features[t.seed, unit].argmax(), (32, 32))
            assert np.array_equal(t.feature, features[t.seed, unit].astype(np.float16))
    seeds = {seed for seed, _ in finished.thumbnails()}
    assert {t.seed for unit in range(64) for t in L.top(unit)} <= seeds


def test_iou_equals_the_truth(finished, generator):
    L = finished.layer("layer1")
    for level in (0, 20, 47):
        truth = generator.truth.iou(range(N), "layer1", L.levels[:, level])
        assert np.allclose(L.iou_at(level=level), truth, atol=1e-6, equal_nan=True)
    tail = L.iou_at(tail=0.01)
    on = (bilinear(generator.truth.features([0], "layer1")[0], 64) > -np.inf).shape
    assert tail.shape == (64, 13)
    assert on == (64, 64, 64)


def test_given_levels(generator, segmenter, tmp_path):
    levels = {"layer1": np.full((64, 1), 0.25, np.float32)}
    run = dissect.run(generator, segmenter, ["layer1"], samples=N, out=tmp_path / "r.h5", levels=levels)
    truth = generator.truth.iou(range(N), "layer1", 0.25)
    assert np.allclose(run.layer("layer1").iou_at(level=0), truth, atol=1e-6, equal_nan=True)
    assert run.manifest["levels"]["kind"] == "given"


def test_explicit_latents_are_stored(generator, segmenter, tmp_path):
    z = generator.sample(range(20, 40)).z
    by_z = dissect.run(generator, segmenter, out=tmp_path / "z.h5", z=z)
    by_seed = dissect.run(generator, segmenter, out=tmp_path / "s.h5", seeds=range(20, 40))
    a, b = datasets(by_z.path), datasets(by_seed.path)
    assert np.array_equal(a["samples/z"], z.numpy())
    assert "samples/z" not in b
    assert np.array_equal(a["layers/layer1/counts"], b["layers/layer1/counts"])


def test_classes_and_pictures(tmp_path):
    class Conditional(nn.Module):
        z_dim, num_classes = 4, 3

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.grow = nn.Embedding(3, 4), nn.ConvTranspose2d(4, 6, 8)
            self.paint = nn.Conv2d(6, 3, 1)

        def forward(self, z, c):
            return self.paint(self.grow((z + self.embed(c))[:, :, None, None]))

    run = dissect.run(dissect.load(Conditional()), Bands(), samples=12, out=tmp_path / "c.h5")
    assert run.layers == ["grow"]
    assert set(datasets(run.path)["samples/class"]) <= {0, 1, 2}
    one = dissect.run(dissect.load(Conditional()), Bands(), samples=12, out=tmp_path / "one.h5", classes=2)
    assert set(datasets(one.path)["samples/class"]) == {2}

    each = dissect.run(
        dissect.load(Conditional()), Bands(), samples=12, out=tmp_path / "each.h5", classes=np.arange(12) % 3
    )
    assert datasets(each.path)["samples/class"].tolist() == [0, 1, 2] * 4
    for classes, message in (([0] * 11, "12 samples but 11 classes"), ([0] * 11 + [3], "must be 0..2"), ("x", "integ")):
        with pytest.raises(GanatomyError, match=message):
            dissect.run(dissect.load(Conditional()), Bands(), samples=12, out=tmp_path / "none.h5", classes=classes)

    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        Image.fromarray(np.random.RandomState(i).randint(0, 255, (20, 30, 3), np.uint8)).save(folder / f"p{i}.png")
    net = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 7, 3))
    model = dissect.load(net, input_size=16)
    run = dissect.run(model, Bands(), out=tmp_path / "p.h5", images=folder)
    assert run.samples == 6
    assert datasets(run.path)["samples/file"].tolist() == [f"p{i}.png".encode() for i in range(6)]
    with pytest.raises(GanatomyError, match="images=FOLDER"):
        dissect.run(model, Bands(), samples=6, out=tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "positive number of samples"),
        ({"samples": 3}, "at least 4"),
        ({"layers": ["layr1"]}, "unknown layer 'layr1'; nearest: layer"),
        ({"batch": 0}, "positive batch"),
        ({"batch": 2.5}, "positive batch"),
        ({"seeds": range(9), "z": np.zeros((9, 64))}, "give only one of"),
        ({"codes": np.zeros((9, 64))}, "expected codes= as Codes, got ndarray"),
        ({"z": np.zeros((9, 64)), "noise": "random"}, "have no seeds"),
        ({"layers": ["layer1"], "levels": {"layer1": [[1.0], [1.0, 2.0]]}}, "rows of one length"),
        ({"seeds": [1, 1, 2, 3]}, "seeds repeat"),
        ({"truncation": 0.5}, "no truncation"),
        ({"classes": 1}, "no classes"),
        ({"out": "nowhere/run.h5"}, "no such folder"),
        ({"levels": {"layer1": [[1.0]]}}, "levels="),
    ],
)
def test_bad_input_writes_nothing(generator, segmenter, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanatomyError, match=message):
        dissect.run(generator, segmenter, **{"samples": N, "out": "run.h5"} | arguments)
    assert list(tmp_path.iterdir()) == []


def test_labels_out_of_range_write_nothing(generator, tmp_path):
    with pytest.raises(GanatomyError, match="label 9; labels must be 0..2"):
        dissect.run(generator, Bands(bad=9), samples=N, out=tmp_path / "run.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("where", "message"), [("grow", "layer 'grow' holds NaN"), ("image", "the image holds NaN")])
def test_nan_is_refused(tmp_path, where, message):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.grow, self.paint = nn.ConvTranspose2d(2, 4, 8), nn.Conv2d(4, 3, 1)

        def forward(self, z):
            bad = torch.where(z[:, :1] > 1.5, float("nan"), 1.0)
            x = self.grow(z * bad if where == "grow" else z)
            image = self.paint(torch.nan_to_num(x))
            return image * bad if where == "image" else image

    with pytest.raises(GanatomyError, match=f"{message} or infinite values at sample"):
        dissect.run(dissect.load(Broken(), z_dim=2), Bands(), samples=30, out=tmp_path / "run.h5")
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_are_numbers(generator, segmenter, tmp_path):
    options = {"batch": 4, "threads": 1, "count_size": 32, "top": 3, "truncation": 1.0}
    plain = dissect.run(generator, segmenter, ["layer1"], samples=20, out=tmp_path / "a.h5", **options)
    given = {name: np.int64(value) for name, value in options.items()}
    other = dissect.run(generator, segmenter, ["layer1"], samples=np.int64(20), out=tmp_path / "b.h5", **given)
    assert other.id == plain.id


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_full_disk_leaves_the_partial_file(generator, segmenter, tmp_path, limit):
    out = tmp_path / "run.h5"
    with pytest.raises(KeyboardInterrupt):
        dissect.run(generator, segmenter, samples=N, out=out, progress=Stop(30))
    partial = contents(tmp_path / "run.h5.partial")
    script = f"""
        import resource, dissect, segmodels
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            dissect.run(dissect.load("planted:3"), segmodels.load("planted"), samples={N}, out={str(out)!r})
        except dissect.GanatomyError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout
    assert done.stderr == ""
    assert contents(tmp_path / "run.h5.partial") == partial
    assert not out.exists()
    assert not list(tmp_path.glob("*.tmp"))
    run = dissect.run(generator, segmenter, samples=N, out=out)
    assert dissect.verify(run.path) == []


def test_progress_file_tells_how_far(generator, segmenter, tmp_path):
    out, seen = tmp_path / "run.h5", []

    def watch(done, total):
        path = tmp_path / "run.h5.partial.json"
        if path.exists():
            seen.append(json.loads(path.read_text()))

    dissect.run(generator, segmenter, samples=N, out=out, progress=watch)
    assert seen[-1]["samples"] == N
    assert 0 < seen[0]["done"] < seen[-1]["done"] < N
    assert not (tmp_path / "run.h5.partial.json").exists()


def test_estimate_costs_nothing_on_disk(generator, segmenter, tmp_path):
    from dissect.job import Job

    job = Job(generator, segmenter, Samples(generator, seeds=range(500)), None, tmp_path / "run.h5")
    cost = dissect.estimate(job)
    assert cost.seconds > 0
    assert cost.memory > 1_000_000
    assert cost.file > 100_000
    assert job.plan.samples == 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("noise", "given"), [("const", None), ("random", None), ("none", None), ("random", 2)])
def test_classes_and_noise_are_drawn_without_mapping(noise, given, monkeypatch):
    """A mapping network must not run over every sample only to learn what the seeds say."""
    generator = dissect.load("planted:3")
    generator.num_classes = 5
    monkeypatch.setattr("dissect.samples.DRAWN_AT_ONCE", 3)
    samples = Samples(generator, seeds=range(7, 15), sampling=Sampling(given, noise=noise))
    codes = samples.codes(0, 8)
    monkeypatch.setattr(type(generator), "map", None)
    arrays = samples.arrays()
    assert arrays["class"].tolist() == codes.classes.tolist()
    assert ("noise_seed" in arrays) == (codes.noise is not None)
    if codes.noise is not None:
        assert arrays["noise_seed"].tolist() == codes.noise.tolist()
        assert arrays["noise_seed"].dtype == codes.noise.numpy().dtype
    assert not {"z", "w"} & set(arrays)


def test_torch_rounds_alike_within_a_run():
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    outside = (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    torch.set_float32_matmul_precision("high")
    try:
        with reproducibly(1):
            assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == (False, False, True)
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == outside
    finally:
        torch.set_float32_matmul_precision(before)
