"""The entry point: says one line when it is interrupted before the rest has been imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line of this process."""
    # Images of 1024 pixels are made a quarter faster if torch may ask for huge pages; it looks once, when it begins.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("ganatomy: interrupted; nothing was begun\n")
        sys.exit(130)
    run()
