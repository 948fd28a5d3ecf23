"""Holding Ctrl-C back for the moments in which half of something would be worse than waiting.

A KeyboardInterrupt may come between any two lines. Half a change of what is accumulated would go into the checkpoint
that the interrupt causes, and one that comes while HDF5 calls back into Python crashes the process, or is swallowed
and leaves a damaged file that looks whole.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

HELD_BACK = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block has ended; then the handler that was there gets the first of them.

    Python runs handlers in the main thread alone, so in other threads there is nothing to do. Signals that are
    ignored, or that end the process without asking Python, are left as they are.
    """
    late: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        late.append(number)

    with ExitStack() as restore:
        if threading.current_thread() is threading.main_thread():
            for number in HELD_BACK:
                handler = signal.getsignal(number)
                if callable(handler):
                    restore.callback(signal.signal, number, handler)
                    signal.signal(number, remember)
        try:
            yield
        finally:
            restore.close()
            if late:
                signal.raise_signal(late[0])
