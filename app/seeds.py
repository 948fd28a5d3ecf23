"""Seeds as people type them, on a command line and on a page."""

from __future__ import annotations

import re

from segmodels import GanatomyError

MOST_CLASSES = 100_000  # more than any generator has
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


def parse_classes(text: str, samples: int) -> int | tuple[int, ...] | None:
    """Return the classes of samples from a text: ``uniform``, one such as ``207``, several such as ``3, 7`` or ``0-9``.

    Returns:
        None for ``uniform``, where each seed draws its own; one class for all samples; or one for each sample, in turn,
        so that each is had by as many samples as any other, give or take one.

    Raises:
        GanatomyError: for anything else, for a class named twice, and for more classes than samples.
    """
    if text.strip().lower() == "uniform":
        return None
    try:
        named = parse_seeds(text, most=MOST_CLASSES)
    except GanatomyError as error:
        raise GanatomyError(
            f"--class: expected uniform, one class such as 207, or several such as 3,7 or 0-9, got {text[:40]!r}"
        ) from error
    if len(set(named)) < len(named):
        raise GanatomyError(f"--class: a class is named twice in {text[:40]!r}")
    if len(named) > samples:
        raise GanatomyError(
            f"--class: {len(named)} classes cannot take turns in {samples} samples; ask for more --samples"
        )
    return named[0] if len(named) == 1 else tuple(named[i % len(named)] for i in range(samples))
