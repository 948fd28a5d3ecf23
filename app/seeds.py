"""Seeds as people type them, on a command line and on a page."""

from __future__ import annotations

import re

from segmodels import GanatomyError

PART = re.compile(r"(\d{1,10})(?:([:-])(\d{1,10}))?", re.ASCII)


def parse_seeds(text: str, most: int | None = None) -> list[int] | range:
    """Return the seeds of a text such as ``0:6`` (6 not included), ``3-8`` (8 included), ``1, 5, 9``, or several.

    Args:
        text: what was typed. most: seeds that it may mean at most.

    Raises:
        GanatomyError: for anything else, for an empty range, and for too many.
    """
    ranges = []
    for part in re.split(r"[,;\s]+", text.strip()):
        found = PART.fullmatch(part)
        if found is None:
            raise GanatomyError(f"expected seeds such as 0:6 or 3, 17, 40, got {text[:40]!r}")
        first, sign, last = found.groups()
        ranges.append(range(int(first), int(first) + 1 if sign is None else int(last) + (sign == "-")))
        if not ranges[-1]:
            raise GanatomyError(f"{part} is an empty range of seeds; A:B means A up to B - 1, A-B up to B")
        if most is not None and sum(map(len, ranges)) > most:
            raise GanatomyError(f"at most {most} seeds are drawn at once")
    return ranges[0] if len(ranges) == 1 else [seed for some in ranges for seed in some]
