"""The one family of errors, and the one way to say "no such name"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanatomyError(Exception):
    """The user's input is wrong. The message is one line: what was expected, what came, what to do.

    The command line prints it and exits with status 2; nothing half written is left behind.
    """


class GanatomyWarning(UserWarning):
    """Something that is likely not what was meant, and that work goes on with all the same; one line."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> GanatomyError:
    """Return the error for a name that is not in ``known``, offering the nearest ones.

    ``kind`` is the noun for people, e.g. ``"layer"``.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.4) or names[:8]
    hint = f"; nearest: {', '.join(near)}" if near else "; there is none"
    return GanatomyError(f"unknown {kind} {name!r}{hint}")
