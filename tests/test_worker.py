"""The worker: order, states, cancelling, failing, and requests that go ahead of jobs."""

import logging
import threading
import time

import numpy as np
import pytest
from helpers import datasets, differing, slowly

import dissect
import segmodels
from app.library import Library
from app.orders import Order, Orders, can_go_on
from app.reports import State
from app.weights import Weights
from app.worker import FINISHED_KEPT, Cancelled, Superseded, Worker
from dissect import GanatomyError, forward
from dissect.execute import run_job
from dissect.job import Job
from dissect.samples import Samples

SECONDS = 20.0


@pytest.fixture
def worker():
    with Worker() as made:
        yield made
    assert not made._thread.is_alive()


def until(condition):
    """Wait until something is true, and return it."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("it never came to that")


def ended(worker, number):
    return until(lambda: (r := worker.report(number)).state.ended and r)


def in_thread(function):
    """Run something in a thread of its own; returns (thread, list that gets the result or the error)."""
    box = []

    def call():
        try:
            box.append(function())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, box


class Endless:
    """A job that goes on until it is told to end."""

    def __init__(self):
        self.begun, self.enough, self.cut = threading.Event(), threading.Event(), False

    def __call__(self, desk):
        self.begun.set()
        step = 0
        try:
            while not self.enough.is_set():
                step += 1
                desk.progress(step, 1_000_000)
                time.sleep(0.001)
        except KeyboardInterrupt:
            self.cut = True
            desk.say("kept  what\nthere was")
            raise
        return step


# Jobs


def test_jobs_run_one_by_one_in_order_on_one_thread(worker):
    seen, running = [], []

    def work(name):
        def do(desk):
            running.append(name)
            assert len(running) == 1
            seen.append((name, threading.current_thread().name))
            time.sleep(0.01)
            running.remove(name)
            return name * 2

        return do

    numbers = [worker.submit("test", name, work(name)) for name in "abcd"]
    results = [ended(worker, number) for number in numbers]
    assert numbers == [1, 2, 3, 4]
    assert [r.result for r in results] == ["aa", "bb", "cc", "dd"]
    assert [r.state for r in results] == [State.DONE] * 4
    assert seen == [(name, "ganatomy-worker") for name in "abcd"]
    assert [r.id for r in worker.reports()] == [4, 3, 2, 1]
    assert not worker.busy


def test_progress_and_the_seconds_left(worker):
    go = threading.Event()

    def work(desk):
        desk.say("doing  it\n")
        desk.progress(500, 1000)  # found done: it took no time, and says nothing of the pace
        for done in range(501, 521):
            time.sleep(0.01)
            desk.progress(done, 1000)
        go.wait(SECONDS)

    number = worker.submit("test", "t", work, details={"kept": 1})
    report = until(lambda: (r := worker.report(number)).done == 520 and r)
    assert (report.state, report.total, report.message) == (State.RUNNING, 1000, "doing it")
    assert report.details == {"kept": 1}
    assert report.share == 0.52
    assert 480 * 0.01 <= report.seconds_left < 480 * 0.1  # not the 0.2 s that 520 steps in 0.2 s would leave
    assert report.seconds >= 0.2
    go.set()
    last = ended(worker, number)
    assert last.share == 1.0
    assert last.seconds_left is None
    assert report.done == 520, "a report is a value, and does not change"
    with pytest.raises(AttributeError):
        report.done = 3


def test_a_waiting_job_is_dropped_and_a_running_one_keeps_what_it_has(worker):
    first, second, third = Endless(), Endless(), Endless()
    one, two, three = (worker.submit("test", "t", job) for job in (first, second, third))
    assert first.begun.wait(SECONDS)
    assert worker.cancel(two)
    assert worker.report(two).state is State.CANCELLED
    assert worker.cancel(one)
    assert ended(worker, one).state is State.CANCELLED
    assert first.cut
    assert worker.report(one).message == "kept what there was"
    assert third.begun.wait(SECONDS), "the next job runs"
    assert not second.begun.is_set(), "the dropped one never does"
    assert not worker.cancel(one), "what has ended is not cancelled"
    assert not worker.cancel(99)
    third.enough.set()
    assert ended(worker, three).state is State.DONE


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (GanatomyError("no such\nlayer"), "no such layer"),
        (ZeroDivisionError("by\nzero"), "something went wrong inside: ZeroDivisionError: by zero"),
        (SystemExit(3), "something went wrong inside: SystemExit: 3"),
        (MemoryError(), "something went wrong inside: MemoryError"),
    ],
)
def test_a_failing_job_leaves_the_worker_alive(worker, error, line, caplog):
    def fail(desk):
        desk.progress(3, 10)
        raise error

    with caplog.at_level(logging.CRITICAL):
        failed = ended(worker, worker.submit("test", "t", fail))
    assert (failed.state, failed.error, failed.done, failed.result) == (State.FAILED, line, 3, None)
    assert ended(worker, worker.submit("test", "t", lambda desk: 7)).result == 7
    assert worker.ask(lambda: 8) == 8


def test_a_job_that_ends_before_it_notices_is_done(worker):
    begun, go = threading.Event(), threading.Event()

    def deaf(desk):
        begun.set()
        go.wait(SECONDS)
        return "whole"

    number = worker.submit("test", "t", deaf)
    assert begun.wait(SECONDS)
    worker.cancel(number)
    assert worker.report(number).cancelling
    go.set()
    last = ended(worker, number)
    assert (last.state, last.result, last.cancelling) == (State.DONE, "whole", False)


def test_old_jobs_are_forgotten_but_none_that_is_alive(worker):
    endless = Endless()
    alive = worker.submit("test", "t", endless)
    dropped = [worker.submit("test", "t", lambda desk: None) for _ in range(FINISHED_KEPT + 10)]
    for number in dropped:
        worker.cancel(number)
    worker.submit("test", "t", lambda desk: None)
    numbers = {r.id for r in worker.reports()}
    assert alive in numbers
    assert len(numbers) == FINISHED_KEPT + 2
    with pytest.raises(GanatomyError, match="no job 2"):
        worker.report(dropped[0])
    endless.enough.set()


# Requests


def test_a_request_is_done_in_the_pauses_of_a_running_job(worker):
    endless, waiting = Endless(), Endless()
    number, other = worker.submit("test", "t", endless), worker.submit("test", "t", waiting)
    assert endless.begun.wait(SECONDS)
    assert worker.ask(lambda: threading.current_thread().name) == "ganatomy-worker"
    assert worker.report(number).state is State.RUNNING
    assert not waiting.begun.is_set(), "it went ahead of the job that waited"
    endless.enough.set()
    waiting.enough.set()
    assert ended(worker, other).state is State.DONE


def test_an_error_is_the_askers_and_not_the_jobs(worker):
    endless = Endless()
    number = worker.submit("test", "t", endless)
    for error in (GanatomyError("no"), KeyError("x"), KeyboardInterrupt(), Cancelled()):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)):
            worker.ask(fail)
    assert worker.report(number).state is State.RUNNING
    endless.enough.set()
    assert ended(worker, number).state is State.DONE


def test_later_turns_drop_earlier_ones_of_their_channel_alone(worker):
    held, go, done = threading.Event(), threading.Event(), []

    def hold():
        held.set()
        go.wait(SECONDS)

    blocker, _ = in_thread(lambda: worker.ask(hold))
    assert held.wait(SECONDS)

    def ask(channel, turn):
        return in_thread(lambda: worker.ask(lambda: done.append((channel, turn)) or turn, channel, turn))

    asked = []
    for channel, turn in (("a", 1), ("b", 1), ("a", 2), ("a", 5), (None, None), (None, None)):
        asked.append(ask(channel, turn))
        until(
            lambda turn=turn, channel=channel: any((r.channel, r.turn) == (channel, turn) for r in worker.line.waiting)
        )
    late = ask("a", 4)  # sent before 5, arrives after it
    late[0].join(SECONDS)
    assert isinstance(late[1][0], Superseded)
    go.set()
    for thread, _ in asked:
        thread.join(SECONDS)
    blocker.join(SECONDS)
    assert sorted(done, key=str) == sorted([("b", 1), ("a", 5), (None, None), (None, None)], key=str)
    results = [box[0] for _, box in asked]
    assert isinstance(results[0], Superseded)
    assert isinstance(results[2], Superseded)
    assert (results[1], results[3]) == (1, 5)


def test_rapid_turns_from_many_threads_end_on_the_last(worker):
    endless = Endless()
    number = worker.submit("test", "t", endless)
    shown, lock = [], threading.Lock()

    def ask(turn):
        value = worker.ask(lambda: turn, "slider", turn)
        with lock:
            shown.append(value)

    order = np.random.RandomState(0).permutation(60)
    threads = []
    for turn in order:
        threads.append(in_thread(lambda turn=turn: ask(int(turn)))[0])
    for thread in threads:
        thread.join(SECONDS)
    assert 59 in shown, "the last turn is always shown"
    assert worker.line.turns["slider"] == 59
    endless.enough.set()
    ended(worker, number)


def test_a_request_does_not_wait_for_ever(worker):
    go = threading.Event()
    worker.submit("test", "deaf", lambda desk: go.wait(SECONDS))
    until(lambda: worker.report(1).state is State.RUNNING)
    with pytest.raises(GanatomyError, match="busy with a job"):
        worker.ask(lambda: 1, patience=0.05)
    assert not worker.line.waiting
    go.set()


def test_a_crowd_of_requests_starves_no_job(worker):
    enough, served = threading.Event(), []

    def crowd():
        while not enough.is_set():
            worker.ask(lambda: (time.sleep(0.002), served.append(1)))

    def steps(desk):
        for step in range(20):
            desk.progress(step + 1, 20)
        return len(served)

    threads = [in_thread(crowd)[0] for _ in range(6)]  # some always wait
    until(lambda: len(served) > 20)
    endless = Endless()
    try:
        number, other = worker.submit("test", "t", steps), worker.submit("test", "t", endless)
        assert ended(worker, number).result > 20, "it was begun, and let others in"
        assert endless.begun.wait(SECONDS)
        worker.cancel(other)
        assert ended(worker, other).state is State.CANCELLED
    finally:
        enough.set()
        endless.enough.set()
    for thread in threads:
        thread.join(SECONDS)


def test_a_cancelled_job_ends_before_the_next_request(worker):
    order, ready, go = [], threading.Event(), threading.Event()

    def job(desk):
        ready.set()
        go.wait(SECONDS)
        try:
            desk.pause()
        except KeyboardInterrupt:
            order.append("cut")
            raise

    number = worker.submit("test", "t", job)
    assert ready.wait(SECONDS)
    threads = []
    for turn in range(3):
        threads.append(in_thread(lambda turn=turn: worker.ask(lambda: (order.append(turn), worker.cancel(number))))[0])
        until(lambda turn=turn: len(worker.line.waiting) == turn + 1)
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert order == [0, "cut", 1, 2], "the first request cancels it; the others are served when it has ended"


def test_a_job_may_ask_for_itself(worker):
    assert ended(worker, worker.submit("test", "t", lambda desk: worker.ask(lambda: 5))).result == 5


def test_closing_drops_what_waits_and_stops_what_runs():
    worker, endless = Worker(), Endless()
    one, two = worker.submit("test", "t", endless), worker.submit("test", "t", lambda desk: None)
    assert endless.begun.wait(SECONDS)
    assert worker.close()
    assert endless.cut
    assert [worker.report(n).state for n in (one, two)] == [State.CANCELLED] * 2
    with pytest.raises(GanatomyError, match="is ending"):
        worker.submit("test", "t", endless)
    with pytest.raises(GanatomyError, match="is ending"):
        worker.ask(lambda: 1)


# A dissection as a job


N = 60
ORDER = Order("planted:5", "planted", N, layers=("layer1", "layer3"), out="run.h5")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same dissection, not by the worker."""
    out = tmp_path_factory.mktemp("alone") / "run.h5"
    return dissect.run(dissect.load("planted:5"), segmodels.load("planted"), ORDER.layers, N, out)


@pytest.fixture
def orders(worker, tmp_path):
    return Orders(Library(folder=tmp_path), Weights(), worker)


def test_a_dissection_served_between_batches_has_the_bits_of_one_alone(orders, worker, alone, monkeypatch):
    slowly(monkeypatch)
    number = orders.start(ORDER)
    until(lambda: worker.report(number).done > 4)
    generator = orders.weights.open("planted:5")  # the very object that the job uses
    served = 0
    while not worker.report(number).state.ended and worker.report(number).done < N:
        codes = generator.sample([served])
        images = worker.ask(lambda codes=codes: generator(codes, dissect.ablate("layer2", [1, 2])))
        assert images.shape == (1, 3, 64, 64)
        served += worker.report(number).state is State.RUNNING
    last = ended(worker, number)
    assert (last.state, last.error) == (State.DONE, "")
    assert served > 5
    assert last.result == "run"
    assert orders.library.get("run").run.id == alone.id
    assert differing(alone.path, orders.folder / "run.h5") == []
    assert not list(orders.folder.glob("*.partial*"))


def test_a_cancelled_dissection_keeps_its_atoms_and_goes_on(orders, worker, alone, monkeypatch):
    slowly(monkeypatch)
    number = orders.start(ORDER)
    until(lambda: worker.report(number).done > N // 2)
    worker.cancel(number)
    last = ended(worker, number)
    assert last.state is State.CANCELLED
    assert "samples are kept" in last.message
    assert can_go_on(last)
    assert (orders.folder / "run.h5.partial" / "state.h5").is_file()
    assert not (orders.folder / "run.h5").exists()
    counted = []
    real = forward.Forward._make
    monkeypatch.setattr(
        forward.Forward, "_make", lambda self, g, a, b, s: counted.append(b - a) or real(self, g, a, b, s)
    )
    again = ended(worker, orders.start(last.details))
    assert again.state is State.DONE
    assert sum(counted) < N * 2 // 3, "what was kept is not counted again"
    assert differing(alone.path, orders.folder / "run.h5") == []


def test_a_dissection_can_be_cancelled_while_it_chooses_levels(orders, worker, monkeypatch):
    slowly(monkeypatch, 0.1)
    number = orders.start(ORDER)
    until(lambda: worker.report(number).message == "choosing levels")
    worker.cancel(number)
    last = ended(worker, number)
    assert (last.state, last.message, last.done) == (State.CANCELLED, "cancelled before anything was finished", 0)
    assert not list(orders.folder.iterdir())


class Bare:
    """A finished run whose tables cannot be computed."""

    def __init__(self, run, error):
        self.path, self.layers, self._error = run.path, run.layers, error

    def layer(self, name):
        raise self._error


@pytest.mark.parametrize("error", [None, GanatomyError("damaged"), MemoryError(), ValueError("a bug")])
def test_what_happens_after_a_run_is_finished_does_not_undo_it(orders, worker, monkeypatch, error):
    def run(job, progress):
        made = run_job(job, progress)
        if error is not None:
            return Bare(made, error)
        worker.cancel(1)
        return made

    monkeypatch.setattr("app.orders.run_job", run)
    last = ended(worker, orders.start(Order("planted:5", "planted", 20, layers=("layer1",), out="run.h5")))
    assert (last.state, last.error, last.result) == (State.DONE, "", "run")
    assert orders.library.get("run").run.samples == 20


def test_pausing_changes_no_bit_and_is_asked_often(alone, tmp_path):
    asked = []
    generator, segmenter = dissect.load("planted:5"), segmodels.load("planted")
    source = Samples(generator, seeds=range(N))
    job = Job(generator, segmenter, source, ORDER.layers, tmp_path / "run.h5", pause=lambda: asked.append(1))
    run_job(job)
    assert len(asked) >= 2 * N / job.batch, "after every batch is made, and before it is counted"
    assert differing(alone.path, tmp_path / "run.h5") == []
    assert datasets(alone.path)


def test_a_dissection_that_fails_says_why_and_the_next_one_runs(orders, worker):
    bad = ended(worker, orders.start(Order("planted:5", "planted", 20, layers=("layer9",), out="bad")))
    assert bad.state is State.FAILED
    assert bad.error.startswith("unknown layer 'layer9'; nearest: layer")
    good = ended(worker, orders.start(Order("planted:5", "planted", 20, layers=("layer1",), out="good")))
    assert good.state is State.DONE
    other = ended(worker, orders.start(Order("planted:6", "planted", 20, layers=("layer1",), out="good")))
    assert other.error.startswith("good.h5 is another dissection")
    assert str(orders.folder) not in other.error


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order("../secret.pkl"), "unknown generator"),
        (Order("/etc/passwd"), "unknown generator"),
        (Order("os:getcwd"), "unknown generator"),
        (Order("https://example.com/g.pth#sha256=" + "0" * 64), "unknown generator"),
        (Order("a\0b"), "unknown generator"),
        (Order(""), "unknown generator"),
        (Order("link.pkl"), "unknown generator"),
        (Order("planted:5", "os:getcwd"), "unknown segmenter"),
        (Order("planted:5", "colors+hub:some/model"), "unknown segmenter"),
        (Order("planted:5", "masks:/etc"), "unknown segmenter"),
        (Order("planted:5", "masks:.."), "unknown segmenter"),
        (Order("planted:5", ""), "unknown segmenter"),
        (Order("planted:5", samples=0), "expected 1 to"),
        (Order("planted:5", first_seed=-1), "expected seeds"),
        (Order("planted:5", first_seed=2**32 - 10), "expected seeds"),
        (Order("planted:5", out="../run.h5"), "name of a file"),
        (Order("planted:5", out="a/b.h5"), "name of a file"),
        (Order("planted:5", out="a\\b.h5"), "name of a file"),
        (Order("planted:5", out=".hidden"), "name of a file"),
        (Order("planted:5", out="x" * 200), "name of a file"),
        (Order("planted:5", out="run.effects.h5"), "name of a file"),
        (Order("planted:5", out="way.h5"), "link to another place"),
    ],
)
def test_what_a_page_may_not_ask_for(orders, worker, tmp_path_factory, order, words):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.pkl").write_bytes(b"x")
    (orders.folder / "link.pkl").symlink_to(outside / "secret.pkl")
    (orders.folder / "way.h5").symlink_to(outside / "way.h5")
    with pytest.raises(GanatomyError, match=words):
        orders.start(order)
    assert worker.reports() == ()


def test_names_of_files_inside_the_folder(orders):
    (orders.folder / "mine.pkl").write_bytes(b"x")
    (orders.folder / "drawn").mkdir()
    (orders.folder / "run.cache.npz").touch()
    (orders.folder / "run.h5").touch()
    assert "mine.pkl" in orders.generators()
    assert not {"run.cache.npz", "run.h5"} & set(orders.generators())
    assert orders.weights.source_of(" mine.pkl ", orders.folder) == str((orders.folder / "mine.pkl").resolve())
    assert orders.segmenter_source("masks:drawn+colors") == f"masks:{(orders.folder / 'drawn').resolve()}+colors"
    made = orders.checked(Order("planted:5", "colors"))
    assert made.out == "planted-5-colors.h5"
    (orders.folder / made.out).touch()
    assert orders.checked(Order("planted:5", "colors")).out == "planted-5-colors-2.h5"


def test_one_file_is_not_made_twice_at_once(orders, worker, monkeypatch):
    slowly(monkeypatch)
    first = orders.start(ORDER)
    with pytest.raises(GanatomyError, match="is being made already, by job 1"):
        orders.start(ORDER)
    assert orders.checked(Order("planted:5", "planted")).out == "planted-5-planted.h5"
    unnamed = [orders.start(Order("planted:5", "planted", 20)) for _ in range(2)]
    names = [worker.report(n).details.out for n in unnamed]
    assert names == ["planted-5-planted.h5", "planted-5-planted-2.h5"]
    for number in (first, *unnamed):
        worker.cancel(number)
        ended(worker, number)


def test_orders_at_the_same_time_get_names_of_their_own(orders, worker, monkeypatch):
    endless, real = Endless(), worker.submit
    worker.submit("test", "t", endless)

    def submit(*arguments, **named):
        time.sleep(0.02)  # time enough for another to choose the same name
        return real(*arguments, **named)

    monkeypatch.setattr(worker, "submit", submit)
    asked = [in_thread(lambda: orders.start(Order("planted:5", "planted", 20))) for _ in range(6)]
    asked += [in_thread(lambda: orders.start(ORDER)) for _ in range(6)]
    for thread, _ in asked:
        thread.join(SECONDS)
    names = [report.details.out for report in worker.reports() if report.details]
    assert len(names) == len(set(names)) == 7
    assert sum(isinstance(box[0], GanatomyError) for _, box in asked) == 5
    for report in worker.reports():
        worker.cancel(report.id)
    endless.enough.set()


def test_the_layers_of_a_generator(orders):
    layers, recommended = orders.layers("planted:5,layers=4")
    assert layers == ["layer1", "layer2", "layer3", "layer4"]
    assert set(recommended) <= set(layers)
    assert recommended
