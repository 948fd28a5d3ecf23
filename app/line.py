"""The line of those who wait for the device: short requests, each of a thread that is blocked until it is served.

Whoever is in line when a round begins is served once; those that come meanwhile wait for the next round, so that a
crowd slows a job and never stops it. Who asks names a channel and a turn (this person's panel, the slider's 17th move):
a request with a later turn drops the earlier ones of its channel that have not begun, so that a slider's way does not
have to be drawn, only where it ends.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from segmodels import GanatomyError

CHANNELS_KEPT = 1000  # whose last turn is remembered
LONGEST = 32  # requests; more is a crowd, or a mistake
PATIENCE = 60.0  # seconds that a request waits at most for its turn

T = TypeVar("T")


class Superseded(Exception):  # noqa: N818 (nothing went wrong)
    """A later request of the same channel has made this one needless."""


@dataclass(eq=False)
class _Request(Generic[T]):
    """Work that a thread is waiting for."""

    channel: object
    turn: float | None
    work: Callable[[], T]
    ready: threading.Event = field(default_factory=threading.Event)
    result: T | None = None
    error: BaseException | None = None

    def do(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # it is the asker's, whatever it is
            self.error = error
        self.ready.set()

    def drop(self, error: BaseException) -> None:
        self.error = error
        self.ready.set()


class Line:
    """Those who wait, and how they are served.

    Attributes:
        waiting: in order. closing: nobody may join any more. Both are read and written under the lock of ``wake``.
    """

    def __init__(self, wake: threading.Condition) -> None:
        """``wake`` is told when somebody has joined, and has the lock that guards everything here."""
        self._wake = wake
        self.waiting: deque[_Request] = deque()
        self.turns: OrderedDict[object, float] = OrderedDict()  # channel -> its latest turn
        self.closing = False

    def check_open(self) -> None:
        """Refuse what comes too late; under the lock."""
        if self.closing:
            raise GanatomyError("the dashboard is ending; nothing new is begun")

    def ask(self, work: Callable[[], T], channel: object, turn: float | None, patience: float) -> T:
        """Wait until something has been done on the thread that serves, and return its result.

        Args:
            work: called without arguments.
            channel: whose request it is (hashable); None is nobody's in particular and is never superseded.
            turn: its place among those of the channel; the order of asking if not given.
            patience: seconds that it may wait to begin.

        Raises:
            Superseded: if a later turn of the channel was asked for before this one had begun.
            GanatomyError: if its turn does not come in time, or all ends.
            Exception: what the work raised.
        """
        request: _Request[T] = _Request(channel, turn, work)
        with self._wake:
            self.check_open()
            if channel is not None:
                self._supersede(channel, turn)
            if len(self.waiting) >= LONGEST:
                raise GanatomyError("too many wait for the device; try again in a moment")
            self.waiting.append(request)
            self._wake.notify()
        if not request.ready.wait(patience):
            with self._wake:
                waiting = request in self.waiting
                if waiting:
                    self.waiting.remove(request)
            if waiting:
                raise GanatomyError("the device is busy with a job; try again in a moment")
            request.ready.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]

    def _supersede(self, channel: object, turn: float | None) -> None:
        """Drop what waits in the channel, unless it is this turn that comes late."""
        last = self.turns.get(channel)
        if turn is not None and last is not None and turn < last:
            raise Superseded
        self.turns[channel] = turn if turn is not None else last if last is not None else 0.0
        self.turns.move_to_end(channel)
        while len(self.turns) > CHANNELS_KEPT:
            self.turns.popitem(last=False)
        for other in [request for request in self.waiting if request.channel == channel]:
            self.waiting.remove(other)
            other.drop(Superseded())

    def serve(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Do what those want who wait now, on this thread; nothing (any more) once ``ended`` says so."""
        with self._wake:
            round_ = tuple(self.waiting)
        for request in round_:
            with self._wake:
                if ended():
                    return
                if request not in self.waiting:  # it was dropped, or lost its patience
                    continue
                self.waiting.remove(request)
            request.do()
