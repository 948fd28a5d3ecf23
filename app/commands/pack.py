"""``ganatomy pack``: one file to mail."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated

import typer

import dissect

from ..console import out as console
from ..console import print_json
from .generators import Overwrite
from .options import Json, RunFile


def pack(
    run_file: RunFile,
    out: Annotated[Path | None, typer.Option(help="Where [RUN.zip, beside it].")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put a dissection, its effects and its notes into one zip, to be mailed."""
    path = dissect.pack(run_file, out, overwrite)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info.file_size for info in archive.infolist()}
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size, "files": members})
    else:
        console.print(f"{path}: {', '.join(members)}", markup=False)
