"""What acts in the dashboard: the worker, the rooms that give it work, what computes tables. One for all visitors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .exports import Exports
from .library import Library
from .live import Live
from .measures import Measures
from .orders import Orders
from .painting import Painting
from .rewriting import Rewriting
from .sketches import Sketches
from .suspects import Suspects
from .tables import Tables
from .weights import Weights
from .worker import Worker


@dataclass(frozen=True)
class Engine:
    """The worker, and who asks it.

    Attributes:
        worker: owns the device. orders: dissections. live: images on demand. tables: of runs without a cache.
        rewriting: edits of weights.
        painting: edits under a brush. measures: what units cause.
        suspects: units that draw what is broken. exports: files that wait to be fetched.
        sketches: concepts that visitors draw.
    """

    worker: Worker
    orders: Orders
    live: Live
    tables: Tables
    rewriting: Rewriting
    painting: Painting
    measures: Measures
    suspects: Suspects
    exports: Exports
    sketches: Sketches

    @classmethod
    def begin(cls, library: Library, named: Iterable[str] = (), device: str = "cpu") -> Engine:
        """Start one.

        Args:
            library: the runs, where finished dissections go.
            named: weights that were named when the dashboard was started.
            device: where generators and segmenters run.
        """
        worker, weights, exports = Worker(), Weights(named, device), Exports()
        orders, live = Orders(library, weights, worker), Live(weights, worker)
        rewriting = Rewriting(library, orders, live, worker, exports)
        measures = Measures(library, orders, live, worker)
        painting = Painting(live, worker, exports)
        suspects = Suspects(library, orders, live, worker, exports)
        return cls(
            worker, orders, live, Tables(), rewriting, painting, measures, suspects, exports, Sketches(live, worker)
        )

    def close(self) -> bool:
        """End both threads, what they have finished kept, exports removed; tell whether they have ended."""
        ended = self.worker.close()
        self.exports.close()
        return self.tables.close() and ended
