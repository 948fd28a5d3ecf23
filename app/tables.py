"""The tables of runs that have no cache: computed in the background, one layer after the other, so that no page waits.

They need a processor and the file, not the device; so they have a worker of their own and are not kept waiting by a
dissection.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from segmodels import GanatomyError

from .library import OpenRun
from .reports import Report, State
from .worker import Desk, Worker

PATIENCE = 5.0  # seconds that an end waits for a layer; what is not kept is computed again


class Tables:
    """Says of a run whether its tables are there, and has them computed if not. May be called from any thread."""

    def __init__(self) -> None:
        self._worker = Worker("ganatomy-tables")
        self._lock = threading.Lock()
        self._jobs: WeakKeyDictionary[OpenRun, int] = WeakKeyDictionary()

    def missing(self, opened: OpenRun) -> Report | None:
        """Return how far the tables of a run are, None if they are there; they are begun if nobody has asked yet.

        Raises:
            GanatomyError: if they cannot be computed, with the reason.
        """
        if opened.ready:
            return None
        with self._lock:
            if opened not in self._jobs:
                self._jobs[opened] = self._worker.submit("tables", opened.slug, lambda desk: _compute(opened, desk))
            number = self._jobs[opened]
        report = self._worker.report(number)
        if report.state is State.FAILED:
            raise GanatomyError(report.error)
        return None if report.state is State.DONE else report

    def close(self) -> bool:
        """End, after the layer that is being computed; tell whether it has ended."""
        return self._worker.close(PATIENCE)


def _compute(opened: OpenRun, desk: Desk) -> None:
    names = opened.run.layers
    for done, name in enumerate(names):
        desk.progress(done, len(names))
        desk.say(name)
        opened.layer(name)
