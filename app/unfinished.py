"""What is left of a dissection that was stopped: how far it is, from the small file beside its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class Interrupted(Exception):  # noqa: N818 (no error)
    """A command was interrupted; the text says what is kept. (Of a KeyboardInterrupt the parser makes its own.)"""


@dataclass(frozen=True)
class Unfinished:
    """How far a dissection is.

    Attributes:
        done: samples that are counted and kept. samples: of all, None if that is not known.
        seconds_left: at the pace so far, or None.
    """

    done: int = 0
    samples: int | None = None
    seconds_left: float | None = None

    @classmethod
    def of(cls, out: Path) -> Unfinished:
        """Read how far the dissection that is to become ``out`` is; nothing is done where nothing tells of it."""
        try:
            state = json.loads(out.with_name(out.name + ".partial.json").read_text(encoding="utf-8"))
            return cls(int(state["done"]), int(state["samples"]), float(state["seconds_left"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
