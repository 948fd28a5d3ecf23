"""What acts in the dashboard: the worker and the rooms that give it work. One for all visitors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .library import Library
from .live import Live
from .orders import Orders
from .weights import Weights
from .worker import Worker


@dataclass(frozen=True)
class Engine:
    """The worker, and who asks it.

    Attributes:
        worker: owns the device. orders: dissections. live: images on demand.
    """

    worker: Worker
    orders: Orders
    live: Live

    @classmethod
    def begin(cls, library: Library, named: Iterable[str] = (), device: str = "cpu") -> Engine:
        """Start one.

        Args:
            library: the runs, where finished dissections go.
            named: weights that were named when the dashboard was started.
            device: where generators and segmenters run.
        """
        worker, weights = Worker(), Weights(named, device)
        return cls(worker, Orders(library, weights, worker), Live(weights, worker))

    def close(self) -> bool:
        """End the worker, what it has finished kept; tell whether it has ended."""
        return self.worker.close()
