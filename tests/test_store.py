"""Files: what is refused, what is found to be damaged, what a run reads back."""

import json
import signal
import sys

import h5py
import numpy as np
import pytest

import dissect
import segmodels
from dissect import GanatomyError, store
from dissect.disk import PatientFile, replacing


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "run.h5"
    return dissect.run(dissect.load("planted:5"), segmodels.load("planted"), samples=400, out=path, maxima=True)


def copy(run, tmp_path):
    path = tmp_path / "copy.h5"
    path.write_bytes(run.path.read_bytes())
    return path


def test_sound(run):
    assert dissect.verify(run.path) == []


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not readable"), (b"hello" * 100, "not readable"), (None, "no such file")]
)
def test_no_dissection(tmp_path, content, message):
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GanatomyError, match=message) as caught:
        dissect.open(path)
    assert "\n" not in str(caught.value)


def test_other_hdf5_and_newer_versions(run, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = [1]
    with pytest.raises(GanatomyError, match="not written by ganatomy"):
        dissect.open(other)
    path = copy(run, tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(GanatomyError, match="format version 99"):
        dissect.open(path)


@pytest.mark.parametrize("name", ["version", "manifest", "id", "seconds", "created"])
def test_missing_attributes_are_told_in_a_line(run, tmp_path, name):
    path = copy(run, tmp_path)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(GanatomyError, match="is damaged") as caught:
        dissect.open(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [lambda m: "{", lambda m: json.dumps({"layers": {}}), lambda m: "[]"])
def test_damaged_manifests_are_told_in_a_line(run, tmp_path, change):
    path = copy(run, tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["manifest"] = change(file.attrs["manifest"])
    with pytest.raises(GanatomyError, match="is damaged"):
        dissect.open(path)


def test_text_that_is_no_utf8_is_told_in_a_line(run, tmp_path):
    path = copy(run, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["concepts/name"]
        file.create_dataset("concepts/name", data=[b"\xff"] * 13, dtype=h5py.string_dtype())
    with pytest.raises(GanatomyError, match="is damaged"):
        dissect.open(path)


@pytest.mark.parametrize(
    ("dataset", "change", "problem"),
    [
        ("layers/layer1/counts", lambda x: x + (np.arange(x.size).reshape(x.shape) == 0), "all pixels"),
        ("layers/layer1/levels", lambda x: x[:, ::-1], "ascend"),
        ("layers/layer2/block_counts", lambda x: x * 2, "block_counts and counts disagree"),
        ("layers/layer3/chance_counts", lambda x: x[:, :, ::-1], "chance counts"),
        ("layers/layer1/mean", lambda x: x * np.nan, "NaN"),
        ("layers/layer1/top/seed", lambda x: x + 1_000_000, "thumbnail"),
        ("samples/concept_area", lambda x: x[::-1] + 1, "concept areas"),
    ],
)
def test_verify_finds(run, tmp_path, dataset, change, problem):
    path = copy(run, tmp_path)
    with h5py.File(path, "r+") as file:
        value = change(file[dataset][()])
        file[dataset][...] = value
    assert any(problem in line for line in dissect.verify(path)), dissect.verify(path)


def test_verify_finds_a_flipped_bit(run, tmp_path):
    path = copy(run, tmp_path)
    with h5py.File(path, "r") as file:
        info = file["layers/layer1/second_moment"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset + info.size // 2] ^= 1
    path.write_bytes(raw)
    assert any("damaged" in line for line in dissect.verify(path))


def test_chunks_and_checksums(run):
    with h5py.File(run.path, "r") as file:
        counts = file["layers/layer1/counts"]
        assert counts.chunks == (2, 8, 49, 13)
        assert (counts.compression, counts.compression_opts, counts.shuffle, counts.fletcher32) == (
            "gzip",
            1,
            True,
            True,
        )
        assert counts.dtype == np.int64
        assert file["layers/layer1/block_counts"].dtype == np.int64
        assert file["layers/layer1/block_counts"].shape == (20, 64, 9, 13)


def test_cache_gives_the_same_numbers_and_is_disposable(run):
    cache = run.path.with_name("run.cache.npz")
    cache.unlink(missing_ok=True)
    iou = dissect.open(run.path).layer("layer1").iou
    assert cache.exists()
    assert np.array_equal(iou, dissect.open(run.path).layer("layer1").iou, equal_nan=True)
    cache.write_bytes(b"damaged")
    assert np.array_equal(iou, dissect.open(run.path).layer("layer1").iou, equal_nan=True)
    with np.load(cache) as kept:
        arrays = dict(kept)
    arrays["key"] = np.array("another run/0")
    arrays["layer1/iou"] = arrays["layer1/iou"] + 1
    np.savez(cache, **arrays)  # another run's numbers are not believed
    assert np.array_equal(iou, dissect.open(run.path).layer("layer1").iou, equal_nan=True)


def test_a_cache_that_cannot_be_written_leaves_nothing(run, tmp_path):
    path = copy(run, tmp_path)
    (tmp_path / "copy.cache.npz").mkdir()
    iou = dissect.open(path).layer("layer1").iou
    assert np.array_equal(iou, run.layer("layer1").iou, equal_nan=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.cache.npz", "copy.h5"]


def test_correlation_of_constant_units_is_zero(run):
    L = dissect.open(run.path).layer("layer1")
    state = np.random.RandomState(0)
    maps = state.randn(4, 500) * np.array([[0], [0], [1e-7], [30]]) + np.array([[1234.567], [0], [0], [900]])
    maps[3] += maps[2] * 4e8
    L.mean, L.second_moment = maps.mean(1), maps @ maps.T / 500
    expected = np.zeros((4, 4))
    expected[2:, 2:] = np.corrcoef(maps[2:])
    assert np.allclose(L.correlation, expected, atol=1e-6)


def test_results_read_well(run):
    L = run.layer("layer2")
    rows = run.table()
    assert len(rows) == 3 * 64
    assert list(rows[0]) == [
        "layer", "unit", "concept", "category", "iou", "chance_iou", "iou_heldout", "chance_heldout", "stderr",
        "information_ratio", "threshold", "average_precision", "labelled",
    ]  # fmt: skip
    red = L.units("red", top=5)
    gain = (L.iou_heldout - L.chance_heldout)[:, run.concept_index("red")]
    assert gain[red].tolist() == sorted(gain[~np.isnan(gain)], reverse=True)[:5]
    levels, pixels = L.histogram(0)
    assert pixels.sum() == 400 * 64 * 64
    assert len(pixels) == len(levels) + 1
    assert np.allclose(np.diag(L.correlation)[np.diag(L.second_moment) - L.mean**2 > 1e-9], 1)
    with pytest.raises(GanatomyError, match="unknown concept 'rde'; nearest: red"):
        L.units("rde")
    with pytest.raises(GanatomyError, match="unknown layer"):
        run.layer("layer9")
    with pytest.raises(GanatomyError, match=r"units 0\.\.63"):
        L.top(64)


def test_patient_file_swallows_and_tells(tmp_path):
    class FullError(OSError):
        pass

    file = PatientFile(tmp_path / "x")
    file.write(b"abcdef")

    class Raw:
        def __init__(self, inner):
            self.inner = inner

        def write(self, data):
            raise FullError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.inner, name)

    file._file = Raw(file._file)
    file.write(b"ghi")
    file.seek(2)
    file.write(b"XY")
    file.seek(0)
    assert file.read(9) == b"abXYefghi"
    assert file.seek(0, 2) == 9
    with pytest.raises(FullError):
        file.finish()


def test_replacing_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("call", [1, 3, 9, 25])
def test_interrupt_while_hdf5_writes(tmp_path, monkeypatch, call):
    """HDF5 calls back into Python, where a KeyboardInterrupt would be swallowed, or crash the process."""
    real, calls, path = PatientFile.write, [], tmp_path / "x.h5"

    def interrupted(self, data):
        calls.append(len(data))
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return real(self, data)

    monkeypatch.setattr(PatientFile, "write", interrupted)
    counts = np.random.RandomState(0).randint(0, 9, (2, 64, 49, 13))
    with pytest.raises(KeyboardInterrupt):
        store.write(path, {"complete": True}, [("layers/a/counts", counts), ("layers/b/counts", counts)])
    assert len(calls) >= call
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]
    assert np.array_equal(store.Reader(path).read("layers/b/counts"), counts)


def test_two_writers_do_not_meet(tmp_path):
    """Two threads or processes that write one file at once: either is whole, the last one stays."""
    import threading

    path, begun, go_on = tmp_path / "x", threading.Event(), threading.Event()

    def other():
        with replacing(path) as file:
            file.write(b"other")
            begun.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(10)
    with replacing(path) as file:
        file.write(b"mine, longer")
    assert path.read_bytes() == b"mine, longer"
    go_on.set()
    thread.join()
    assert path.read_bytes() == b"other"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
