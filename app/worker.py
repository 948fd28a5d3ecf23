"""One thread that owns the device: a queue of jobs, and in their pauses the short requests of people who wait.

A **job** takes minutes (a dissection). Jobs run one after the other, report how far they are and can be cancelled; what
became of them is kept for a while. A **request** takes a moment (draw these seeds without that unit) and blocks the
thread that asks. It goes ahead of the jobs: a running one lets in those that wait in :class:`Line` whenever it calls
:meth:`Desk.pause`, a dissection after every batch that is made and before it is counted.

Whatever a job or a request raises ends that one alone. Nothing here knows what the work is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from segmodels import GanatomyError

from .line import PATIENCE, Line, Superseded
from .reports import Report, State

FINISHED_KEPT = 50  # jobs that have ended

T = TypeVar("T")
Work = Callable[["Desk"], Any]

__all__ = ["PATIENCE", "Cancelled", "Desk", "Superseded", "Worker"]

log = logging.getLogger("ganatomy.worker")


class Cancelled(KeyboardInterrupt):
    """Raised inside a cancelled job, so that it keeps what it has finished, as with Ctrl-C."""


@dataclass(eq=False)
class _Job:
    """A job's present report, which is exchanged as a whole, and what the worker knows beside it."""

    report: Report
    work: Work
    began: float = 0.0
    paced: tuple[float, int] | None = None  # when, and with how many steps done, the pace was begun to be measured

    def now(self) -> Report:
        """Return the report as of now."""
        report = self.report
        if report.state is not State.RUNNING:
            return report
        now = time.monotonic()
        left = None
        if self.paced is not None and report.done > self.paced[1] and report.total:
            pace = (now - self.paced[0]) / (report.done - self.paced[1])
            left = max(0.0, pace * (report.total - report.done))
        return replace(report, seconds=now - self.began, seconds_left=left)


class Desk:
    """What a running job is given: where it says how far it is, and lets others in."""

    def __init__(self, worker: Worker, job: _Job) -> None:
        self._worker, self._job = worker, job

    def progress(self, done: int, total: int) -> None:
        """Say that ``done`` of ``total`` steps are done; then as :meth:`pause`."""
        if self._job.paced is None:
            self._job.paced = (time.monotonic(), done)  # what was found done says nothing of the pace
        self._change(done=done, total=total)
        self.pause()

    def say(self, message: str) -> None:
        """Say in a line what is being done."""
        self._change(message=_one_line(message))

    def pause(self) -> None:
        """Serve those who wait now, then go on; raises :class:`Cancelled`, at once, if the job is not to go on."""
        self._worker.line.serve(lambda: self._job.report.cancelling)
        if self._job.report.cancelling:
            raise Cancelled

    def _change(self, **fields: Any) -> None:
        with self._worker._lock:
            self._job.report = replace(self._job.report, **fields)


class Worker:
    """The thread, its queue and its requests. All methods may be called from any thread."""

    def __init__(self, name: str = "ganatomy-worker") -> None:
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        self._queue: deque[_Job] = deque()
        self.line = Line(self._wake)
        self._last_id = 0
        # A daemon, since a process that is told to end must not wait for a dissection; close() waits for a clean end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, kind: str, title: str, work: Work, details: Any = None) -> int:
        """Put a job at the end of the queue and return its number."""
        with self._lock:
            self.line.check_open()
            self._last_id += 1
            job = _Job(Report(self._last_id, kind, title, details=details), work)
            self._jobs[job.report.id] = job
            self._queue.append(job)
            self._forget()
            self._wake.notify()
            return job.report.id

    def cancel(self, number: int) -> bool:
        """Drop a waiting job, or ask a running one to end with what it has; tell whether there was anything to do."""
        with self._lock:
            job = self._jobs.get(number)
            if job is None or job.report.state.ended:
                return False
            if job in self._queue:
                self._queue.remove(job)
                job.report = replace(job.report, state=State.CANCELLED, message="cancelled before it began")
            else:
                job.report = replace(job.report, cancelling=True)
            return True

    def reports(self) -> tuple[Report, ...]:
        """Return how all jobs stand, the latest first."""
        with self._lock:
            return tuple(job.now() for job in reversed(self._jobs.values()))

    def report(self, number: int) -> Report:
        """Return how one job stands; GanatomyError if it is not known (any more)."""
        with self._lock:
            if number not in self._jobs:
                raise GanatomyError(f"there is no job {number} (any more)")
            return self._jobs[number].now()

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._lock:
            return any(not job.report.state.ended for job in self._jobs.values())

    def _forget(self) -> None:
        """Keep the latest of the jobs that have ended."""
        ended = [number for number, job in self._jobs.items() if job.report.state.ended]
        for number in ended[: max(0, len(ended) - FINISHED_KEPT)]:
            del self._jobs[number]

    # -- requests ------------------------------------------------------------------------------------------

    def ask(
        self, work: Callable[[], T], channel: object = None, turn: float | None = None, patience: float = PATIENCE
    ) -> T:
        """Have something done on the worker's thread, in the next pause of a job, and return its result.

        As :meth:`Line.ask`; on the worker's thread itself, at once.
        """
        if threading.current_thread() is self._thread:
            return work()  # a job that asks has the device already
        return self.line.ask(work, channel, turn, patience)

    # -- the thread ----------------------------------------------------------------------------------------

    def close(self, patience: float = 60.0) -> bool:
        """End: waiting jobs are dropped, the running one keeps what it has; tell whether the thread has ended."""
        with self._lock:
            self.line.closing = True
            for job in self._queue:
                job.report = replace(job.report, state=State.CANCELLED, message="the dashboard ended before it began")
            self._queue.clear()
            for job in self._jobs.values():
                if job.report.state is State.RUNNING:
                    job.report = replace(job.report, cancelling=True)
            self._wake.notify()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not (self.line.waiting or self._queue or self.line.closing):
                    self._wake.wait()
                ending = self.line.closing  # then nothing new comes: what waits now is all
            self.line.serve()
            with self._lock:
                job = self._queue.popleft() if self._queue else None
                if job is not None:
                    job.began = time.monotonic()
                    job.report = replace(job.report, state=State.RUNNING)
            if job is not None:
                self._do(job)
            elif ending:
                return

    def _do(self, job: _Job) -> None:
        """Do one job to its end, whatever that is."""
        ended: dict[str, Any]
        try:
            ended = {"result": job.work(Desk(self, job)), "state": State.DONE, "message": ""}
        except KeyboardInterrupt:
            ended = {"state": State.CANCELLED}
        except GanatomyError as error:
            ended = {"state": State.FAILED, "error": _one_line(str(error)), "message": ""}
        except BaseException as error:  # a bug, or a stranger's code: the next job must not suffer from it
            log.exception("job %d (%s) failed", job.report.id, job.report.title)
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            ended = {"state": State.FAILED, "error": _one_line(f"something went wrong inside: {text}"), "message": ""}
        with self._lock:
            job.report = replace(job.report, seconds=time.monotonic() - job.began, cancelling=False, **ended)
            job.work = _gone  # and with it the generator and whatever else it held


def _gone(_desk: Desk) -> None:
    raise AssertionError("a job is done once")


def _one_line(text: str) -> str:
    return " ".join(text.split())
