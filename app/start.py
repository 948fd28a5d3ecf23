"""The entry point: says one line when it is interrupted before the rest has been imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("ganatomy: interrupted; nothing was begun\n")
        sys.exit(130)
    run()
