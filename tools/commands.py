"""Write docs/commands.md: every command with its arguments and options, as the code has them. ``make docs`` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from app.cli import app

OUT = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Made from the code by `make docs`. What each is for, with examples, is in the [README](../README.md).

Exit status: 0 done; 2 the input is wrong (one line on standard error says what was expected, what came, what to do);
1 a bug; 130 interrupted. Progress goes to standard error. `--json` and `--csv` are for programs.
"""


def commands(command: Any, path: tuple[str, ...], parent: Any = None) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield (its words, the command, its context) of a command and all below it."""
    context = command.make_context(path[-1], [], parent=parent, resilient_parsing=True)
    if not hasattr(command, "commands"):
        yield path, command, context
    for name in sorted(getattr(command, "commands", {})):
        yield from commands(command.commands[name], (*path, name), context)


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for path, command, context in commands(get_command(app), ("ganatomy",)):
        parts.append(f"## {' '.join(path)}\n\n{' '.join(str(command.help or '').split())}\n")
        usage = " ".join([*path, *command.collect_usage_pieces(context)])
        rows = [record for parameter in command.get_params(context) if (record := told(parameter, context))]
        parts.append(f"```\n{usage}\n```\n")
        parts.append("\n".join(f"- `{name}`: {what}" for name, what in rows if not name.startswith("--help")) + "\n")
    return "\n".join(parts)


def told(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Return how a parameter is written, and what it means."""
    record = parameter.get_help_record(context)
    if record is None:
        return None
    name, what = (" ".join(text.split()) for text in record)
    return name, what or "as in its name"


if __name__ == "__main__":
    OUT.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{OUT}\n")
