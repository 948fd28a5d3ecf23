"""One file to mail: a run with what people and later measurements have put beside it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import IO, cast

from segmodels import GanatomyError

from .disk import check_folder_of, replacing
from .effects.stored import effects_path
from .notes import notes_path
from .results import Run


def pack(run: Run | str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write a zip of a finished run, its effects and its notes, as far as there are any; return where it is.

    Unzipped, the files lie beside each other again, as :func:`dissect.open` expects. Nothing is compressed twice.
    ``run.cache.npz`` and ``run.memory.h5``, which are made anew when they are needed, stay behind.

    Args:
        run: a run or its file. out: a file; default: the run's name with ``.zip``, beside it.
        overwrite: replace what is there.

    Raises:
        GanatomyError: for an unfinished run, effects or notes that are damaged or another run's, an ``out`` that is
            there already or cannot be written.
    """
    opened = run if isinstance(run, Run) else Run(run)
    path = Path(out) if out is not None else opened.path.with_suffix(".zip")
    if path.exists() and (not overwrite or path.is_dir()):
        raise GanatomyError(f"{path} exists; choose another name, or overwrite it (overwrite=True, --overwrite)")
    check_folder_of(path)
    opened.notes(), opened.effects  # whether they are sound, and this run's
    members = [opened.path, effects_path(opened.path), notes_path(opened.path)]
    if any(member.exists() and path.exists() and path.samefile(member) for member in members):
        raise GanatomyError(f"{path} is a file that is to be packed; choose another name")
    with replacing(path) as file, zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            if member.exists():
                info = zipfile.ZipInfo.from_file(member, member.name, strict_timestamps=False)
                with open(member, "rb") as source, archive.open(info, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    return path
