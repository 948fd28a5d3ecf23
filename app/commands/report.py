"""``ganatomy report``: a run as a folder of pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dissect

from ..console import out, progress
from ..report import report as make
from .options import RunFile


def report(
    run_file: RunFile,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The folder to make [run-report beside the file].")
    ] = None,
    units: Annotated[int | None, typer.Option(help="Only the best so many units of each layer.")] = None,
) -> None:
    """Write the static report: an index, and a page per unit."""
    run = dissect.open(run_file)
    folder = out_folder or run_file.with_name(f"{run_file.stem}-report")
    with progress("writing the report", unit="units") as update:
        index = make(run, folder, units=units, progress=update)
    out.print(str(index), markup=False)
