"""Making things in order, several at a time, a little ahead of whoever takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Made = TypeVar("Made")

FINISHED = 1  # results that may wait while every worker is at the next


def ahead(
    make: Callable[[Worker, Item], Made], items: Iterable[Item], workers: Sequence[Worker]
) -> Generator[Made, None, None]:
    """Yield ``make(worker, item)`` in the order of ``items``, each worker in a thread of its own.

    One worker works in the caller's thread, when it is asked. However the iteration ends, no thread is left: close the
    iterator (``contextlib.closing``) where it may be left unfinished.
    """
    if len(workers) == 1:
        yield from (make(workers[0], item) for item in items)
        return
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(item: Item) -> Made:
        worker = free.get()
        try:
            return make(worker, item)
        finally:
            free.put(worker)

    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(len(workers), thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(one, item))
                if len(waiting) > len(workers) + FINISHED:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
