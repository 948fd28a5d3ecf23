"""``ganatomy verify``: whether files are sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dissect
from dissect import GanatomyError

from ..console import out, print_json
from .options import Json


def verify(
    files: Annotated[list[Path], typer.Argument(help="Finished dissections.")],
    as_json: Json = False,
) -> None:
    """Read every byte, test the checksums and the sums that must agree."""
    found = {str(path): dissect.verify(path) for path in files}
    if as_json:
        print_json(found)
    else:
        for path, problems in found.items():
            out.print(f"{path}: {'sound' if not problems else problems[0]}", markup=False)
            for problem in problems[1:]:
                out.print(f"  {problem}", markup=False)
    bad = [path for path, problems in found.items() if problems]
    if bad:
        raise GanatomyError(f"{len(bad)} of {len(found)} files not sound: {', '.join(bad)}")
