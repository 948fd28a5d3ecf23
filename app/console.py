"""How the command line talks: tables on standard output, progress and remarks on standard error."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

# No emoji: ``module:factory:`` is a name.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

Rows = Sequence[Mapping[str, Any]]
GAP = 2  # after a column
INDENT = "    "  # of a text under a row
LONGEST = 24  # characters of a word that is not broken
PLAIN_WIDTH = 200  # columns of a table that goes into a file or a pipe


def print_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_csv(rows: Rows) -> None:
    """Print rows as CSV; the first row names the columns."""
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_table(
    rows: Rows, columns: Mapping[str, str] | None = None, title: str | None = None, below: Sequence[str] = (),
    spare: Sequence[str] = (), whole: Sequence[str] = (),
) -> None:  # fmt: skip
    """Print rows as a table for people. No word is broken that a column has room for.

    Args:
        rows: dicts with the same keys.
        columns: key -> heading, in order; all keys if None.
        title: above the table.
        below: keys whose texts, too long for a column, stand under their row.
        spare: columns that are left out, the first before the others, where the terminal is too narrow for all.
        whole: columns whose cells are not wrapped, such as intervals.
    """
    if not rows:
        out.print(f"{title}: none" if title else "none")
        return
    columns = columns or {key: key for key in rows[0] if key not in below}
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    console = out if out.is_terminal else Console(highlight=False, emoji=False, width=PLAIN_WIDTH)
    least = {key: _longest([heading, *(_cell(row[key]) for row in rows)]) for key, heading in columns.items()}
    least |= {key: max(least[key], *(len(_cell(row[key])) for row in rows)) for key in whole}
    for key in spare:
        if sum(least.values()) + GAP * len(least) > console.width:
            least.pop(key, None)
    columns = {key: columns[key] for key in least}
    for key, heading in columns.items():
        numeric = all(isinstance(row[key], (int, float)) or row[key] is None for row in rows)
        table.add_column(
            heading, justify="right" if numeric else "left", overflow="fold", no_wrap=bool(below), min_width=least[key]
        )
    for row in rows:
        table.add_row(*(Text(_cell(row[key])) for key in columns))
    if not below and console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    if not below:
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        return
    sys.stdout.write(_with_texts(captured.get().splitlines(), rows, below, min(console.width, 100)))


def _with_texts(lines: list[str], rows: Rows, below: Sequence[str], width: int) -> str:
    """Return a table's lines, the heading first, with the texts of each row under its line."""
    written = lines[:1]
    for row, line in zip(rows, lines[1:], strict=True):
        text = "; ".join(str(row[key]) if key == below[0] else f"{key}: {row[key]}" for key in below)
        wrapped = textwrap.wrap(text, width - len(INDENT), break_on_hyphens=False)
        written += [line, *(INDENT + part for part in wrapped)]
    return "\n".join(written) + "\n"


def _longest(texts: Iterable[str]) -> int:
    """Return the length of the longest word, at most that of a name."""
    return min(max(len(word) for text in texts for word in (text.split() or [""])), LONGEST)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"
    return str(value)


def show(
    rows: Rows, columns: Mapping[str, str] | None, as_json: bool, as_csv: bool, title: str | None = None,
    below: Sequence[str] = (), spare: Sequence[str] = (),
) -> None:  # fmt: skip
    """Print rows the way the user asked for."""
    if as_json:
        print_json(list(rows))
    elif as_csv:
        print_csv(rows)
    else:
        print_table(rows, columns, title, below, spare)


class _Speed(ProgressColumn):
    """How many per second, with the unit's name."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s", style="cyan")


@contextmanager
def progress(description: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Show a bar with speed and time left on standard error; yield ``update(done, total)``."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=err, disable=not err.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(description, total=None, unit=unit)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


@contextmanager
def late_progress(description: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Show a bar as :func:`progress` does, once there is something to tell: no bar stands above a refusal."""
    with ExitStack() as stack:
        begun: list[Callable[[int, int], None]] = []

        def update(done: int, total: int) -> None:
            if not begun:
                begun.append(stack.enter_context(progress(description, unit)))
            begun[0](done, total)

        yield update


def remark(text: str) -> None:
    """Say something on standard error that is no result."""
    err.print(text, markup=False)


def human_bytes(count: float) -> str:
    """Return a size for people, e.g. ``1.2 GB``."""
    for suffix in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {suffix}" if suffix == "B" else f"{count:.1f} {suffix}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Return a duration for people, e.g. ``1 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def columns_of(names: Iterable[str]) -> dict[str, str]:
    """Return headings for keys: underscores become spaces."""
    return {name: name.replace("_", " ") for name in names}
