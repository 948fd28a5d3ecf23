"""How jobs stand: values for the pages to look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What has become of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Report:
    """How a job stood at one moment.

    Attributes:
        id: its number, from 1 in the order of submission.
        kind, title: what it is, for programs and for people.
        state: of the five.
        done, total: steps, 0 and 0 before it has said anything.
        message: what it does now, or how it ended, in a line. error: why it failed, in a line.
        result: what it returned.
        seconds: that it has run; seconds_left: at its present pace, None if that is not known.
        cancelling: it is to end, and has not noticed yet.
        details: what its submitter wanted to be kept with it.
    """

    id: int
    kind: str
    title: str
    state: State = State.WAITING
    done: int = 0
    total: int = 0
    message: str = ""
    error: str = ""
    result: Any = None
    seconds: float = 0.0
    seconds_left: float | None = None
    cancelling: bool = False
    details: Any = None

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return 1.0 if self.state is State.DONE else self.done / self.total if self.total else 0.0
