"""Making things ahead: their order, how many at a time, and that nothing is left however it ends."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn

import dissect
import segmodels
from dissect import tuning
from dissect.ahead import FINISHED, ahead
from dissect.exactness import MOST_AT_A_TIME, division
from dissect.job import Job
from dissect.samples import Samples


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_things_come_in_order_each_worker_at_one_at_a_time(workers):
    busy, most, lock = set(), [0], threading.Lock()

    def make(worker, item):
        with lock:
            assert worker not in busy
            busy.add(worker)
            most[0] = max(most[0], len(busy))
        time.sleep(0.002 * (item % 3))
        with lock:
            busy.remove(worker)
        return item * item

    assert list(ahead(make, range(30), range(workers))) == [i * i for i in range(30)]
    assert most[0] == workers
    assert threads_of_ours() == []


def test_it_does_not_run_far_ahead():
    begun = []
    with closing(ahead(lambda _worker, item: begun.append(item), range(100), "ab")) as made:
        next(made)
        time.sleep(0.05)
        assert len(begun) <= 2 + FINISHED + 1
    assert threads_of_ours() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_out_where_its_thing_would(workers):
    def make(_worker, item):
        if item == 3:
            raise ValueError("three")
        return item

    made = ahead(make, range(9), range(workers))
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(made)
    assert threads_of_ours() == []


# Replicas of generators


def networks():
    torch.manual_seed(0)
    yield dissect.load(nn.Sequential(nn.ConvTranspose2d(8, 6, 4), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval(), z_dim=8)
    yield dissect.load("planted:3")


@pytest.fixture(params=["module", "planted", "digiface"])
def generator(request):
    if request.param == "digiface":
        return request.getfixturevalue("digiface")
    return dict(zip(("module", "planted"), networks(), strict=True))[request.param]


def test_a_replica_draws_the_same_and_shares_the_parameters(generator):
    other = generator.replica()
    assert type(other) is type(generator)
    assert other.module is not generator.module
    assert other.lock is not generator.lock
    theirs = dict(other.module.named_parameters())
    assert theirs or generator.family == "planted"
    if generator.family != "planted":  # which makes its network anew
        assert all(theirs[name] is value for name, value in generator.module.named_parameters())
    assert other.fingerprint == generator.fingerprint
    codes, layers = generator.sample(range(3)), generator.default_layers()
    one, two = generator.capture(codes, layers), other.capture(other.sample(range(3)), layers)
    assert torch.equal(one.images, two.images)
    assert all(torch.equal(one.features[name], two.features[name]) for name in layers)
    edit = dissect.ablate(layers[0], [0, 1])
    assert torch.equal(generator(codes, edit), other(codes, edit))


def test_passes_of_replicas_do_not_meet(digiface):
    """Two threads, one with and one without an edit, each get their own images."""
    codes, edit = digiface.sample(range(2)), dissect.ablate("main.2", range(100))
    plain, edited = digiface(codes), digiface(codes, edit)
    assert not torch.equal(plain, edited)
    other, wrong = digiface.replica(), []

    def draw(generator, edits, expected):
        for _ in range(20):
            if not torch.equal(generator(codes, edits), expected):
                wrong.append(generator)

    threads = [threading.Thread(target=draw, args=case) for case in ((digiface, (), plain), (other, edit, edited))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Uncopied(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = nn.ConvTranspose2d(4, 3, 8)

    def forward(self, z):
        return torch.tanh(self.make(z))

    def __deepcopy__(self, memo):
        raise TypeError("there is only one of me")


def test_a_network_that_cannot_be_copied_works_alone(tmp_path):
    torch.manual_seed(1)
    generator = dissect.load(Uncopied().eval(), z_dim=4)
    assert generator.replicas(3) == [generator]
    run = dissect.run(generator, segmodels.load("colors"), ["make"], 20, tmp_path / "run.h5", threads=2)
    assert run.samples == 20


class Closed(nn.Module):
    """Its copy still calls the original's parts."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.ConvTranspose2d(4, 6, 8), nn.Conv2d(6, 3, 1)
        self.run = lambda z: torch.tanh(self.b(self.a(z)))

    def forward(self, z):
        return self.run(z)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = nn.ConvTranspose2d(4, 3, 8)

    def forward(self, z):
        x = self.make(z)
        return torch.tanh(x + 0.1 * torch.randn_like(x))


def test_a_network_whose_copy_is_not_the_same_works_alone():
    torch.manual_seed(1)
    generator = dissect.load(Closed().eval(), z_dim=4)
    assert generator.replicas(2) == [generator]


def test_noise_that_a_network_draws_is_that_of_its_replicas():
    torch.manual_seed(1)
    generator = dissect.load(Noisy().eval(), z_dim=4)
    before = torch.random.get_rng_state()
    both = generator.replicas(2)
    assert len(both) == 2
    assert torch.equal(both[0](generator.sample(range(3))), both[1](generator.sample(range(3))))
    assert torch.equal(before, torch.random.get_rng_state())


def test_buffers_that_change_change_in_replicas():
    torch.manual_seed(2)
    network = nn.Sequential(nn.ConvTranspose2d(4, 6, 8), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)).eval()
    generator = dissect.load(network, z_dim=4)
    generator.replicas(2)
    network[1].running_mean.add_(1)
    _, other = generator.replicas(2)
    codes = generator.sample(range(2))
    assert torch.equal(generator(codes), other(codes))


# Several at a time


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 5, 16, 64])
def test_threads_are_divided(threads):
    at_a_time = division(threads)
    assert 1 <= at_a_time <= min(threads, MOST_AT_A_TIME)
    assert at_a_time * (threads // at_a_time) <= threads


class Dark(segmodels.Segmenter):
    """Notices in which order it is asked, and by whom."""

    def __init__(self, concurrent):
        super().__init__("dark", (segmodels.base.UNLABELLED, segmodels.Concept("dark")), "0" * 64)
        self.concurrent, self.asked, self.threads = concurrent, [], set()

    def segment(self, images, keys):
        self.asked += keys
        self.threads.add(threading.current_thread().name.split("_")[0])
        time.sleep(0.002)
        return (images.mean(1, keepdim=True) < 0).to(torch.int16)


@pytest.mark.parametrize("concurrent", [False, True])
def test_segmenters_are_asked_by_several_threads_only_if_they_say_so(concurrent):
    generator, segmenter = dissect.load("planted:3"), Dark(concurrent)
    job = Job(generator, segmenter, Samples(generator, seeds=range(40)), ["layer1"], dissect.job.Path("run.h5"),
              batch=1, threads=3)  # fmt: skip
    assert (job.at_a_time, job.threads_each) == ((3, 1) if concurrent else (1, 3))
    batches = job.forward().batches(dissect.job.Plan(40, 40), range(1), (8, 8))
    assert [batch.start for batch in batches] == list(range(40))
    assert sorted(segmenter.asked) == list(range(40))
    if concurrent:
        assert segmenter.threads == {"ahead"}
    else:
        assert segmenter.asked == list(range(40))
        assert segmenter.threads == {threading.current_thread().name.split("_")[0]}


def test_the_same_bits_with_one_thread_and_several(digiface, tmp_path):
    """Each batch has a thread to itself, whichever makes it."""
    files = [tmp_path / f"{n}.h5" for n in (1, 2)]
    for threads, file in zip((1, 2), files, strict=True):
        dissect.run(digiface, segmodels.load("colors"), ["main.5"], 24, file, threads=threads, batch=3)
    one, two = (dissect.open(file).layer("main.5") for file in files)
    assert np.array_equal(one.counts, two.counts)
    assert np.array_equal(one.second_moment, two.second_moment)
    assert np.array_equal(one.concept_mean, two.concept_mean, equal_nan=True)


# The batch size


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / tuning.FILE


def settled(samples=400, batch=None, threads=2):
    generator = dissect.load("planted:3")
    job = Job(generator, segmodels.load("planted"), Samples(generator, seeds=range(samples)), None,
              dissect.job.Path("run.h5"), batch=batch, threads=threads)  # fmt: skip
    tuning.settle_batch(job, (64, 64))
    return job.batch


def test_the_quickest_batch_is_measured_once_and_kept(kept, monkeypatch):
    cost = {1: 1.0, 2: 0.7, 4: 0.69, 8: 0.9}
    asked = []
    monkeypatch.setattr(tuning, "_seconds_per_sample", lambda job, _size: asked.append(job.batch) or cost[job.batch])
    assert settled() == 2  # 4 is not worth its memory
    assert asked == [1, 2, 4, 8]
    assert settled() == 2
    assert len(asked) == 4
    assert settled(threads=1) == 2  # another number of threads is measured by itself
    assert len(asked) == 8
    settled(samples=30)
    assert len(asked) == 8
    assert settled(batch=7) == 7
    assert settled(samples=30) == 2  # too few samples to be worth it: an atom of two
    kept.write_text("[1, 2")
    assert settled() == 2
    assert len(asked) == 12


def test_a_batch_that_does_not_fit_is_not_taken(kept, monkeypatch):
    def seconds(job, _size):
        if job.batch > 2:
            raise torch.OutOfMemoryError("too much")
        return 1 / job.batch

    monkeypatch.setattr(tuning, "_seconds_per_sample", seconds)
    assert settled() == 2


def test_measuring_stops_where_batches_become_slower(kept, monkeypatch):
    asked = []
    monkeypatch.setattr(tuning, "_seconds_per_sample", lambda job, _size: asked.append(job.batch) or job.batch)
    assert settled() == 1
    assert asked == [1, 2]


def test_it_is_really_measured(kept):
    assert settled() in tuning.CANDIDATES["cpu"]
    assert kept.is_file()


def test_a_run_keeps_the_batch_it_was_measured_for(kept, tmp_path):
    generator = dissect.load("planted:3")
    runs = [dissect.run(generator, segmodels.load("planted"), ["layer1"], 120, tmp_path / f"{i}.h5") for i in (1, 2)]
    (known,) = tuning._read(kept).values()
    assert [run.manifest["batch"] for run in runs] == [known, known]
