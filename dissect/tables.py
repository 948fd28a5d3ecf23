"""Results as tables of HTML, for notebooks: numbers only, no pictures, and nothing that a name could bring in."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_ROWS, LONGEST = 20, 60  # shown; characters of a cell
NO_VALUE = "–"


class Tabled:
    """A result that shows itself in a notebook: its first rows, and what it is of."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each thing that was measured; numbers without a value are None or NaN."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{caption(self)}>"

    def _repr_html_(self) -> str:
        return table(self.rows(), caption(self))


def caption(result: object) -> str:
    """Return what a result is, from its facts: kind, generator, layer, concept, images."""
    facts: Mapping[str, Any] = getattr(result, "facts", {}) or {}
    parts = [type(result).__name__]
    if isinstance(made := facts.get("generator"), Mapping):
        parts.append(str(made.get("name", "")))
    for name in ("layer", "strategy", "concept"):
        value = facts.get(name, getattr(result, name, None))
        if isinstance(value, str) and value:
            parts.append(value)
    seeds = getattr(result, "seeds", None)
    count = facts.get("images", len(seeds) if seeds is not None else None)
    if isinstance(count, int):
        parts.append(f"{count} images")
    return " · ".join(part for part in parts if part)


def table(rows: Sequence[Mapping[str, Any]], title: str = "", most: int = MOST_ROWS) -> str:
    """Return rows as a table of HTML; every name and value is escaped.

    Args:
        rows: dicts; the columns are those of all of them, in the order of first sight.
        title: what it is. most: rows that are shown; how many more there are is said.
    """
    names = list(dict.fromkeys(name for row in rows[:most] for name in row))
    numbers = {name for name in names if all(_is_number(row.get(name)) for row in rows[:most])}
    head = "".join(f"<th{_right(name in numbers)}>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td{_right(name in numbers)}>{cell(row.get(name))}</td>" for name in names) + "</tr>"
        for row in rows[:most]
    )
    left = len(rows) - most
    told = f"<p>… and {left:,} more; <code>rows()</code> has all</p>" if left > 0 else ""
    shown = f"<caption>{html.escape(title)}</caption>" if title else ""
    return f"<table>{shown}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{told}"


def cell(value: Any) -> str:
    """Return a value for people, escaped: four digits of a number, a dash for none, the beginning of a long text."""
    if hasattr(value, "dtype") and not getattr(value, "shape", ()):
        value = value.item()  # NumPy's numbers are shown as Python's
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return html.escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool)) or hasattr(value, "dtype")


def _right(number: bool) -> str:
    return ' style="text-align:right;font-variant-numeric:tabular-nums"' if number else ' style="text-align:left"'
