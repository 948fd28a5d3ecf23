"""``ganatomy cache``: the folder of downloaded weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import typer

import dissect
from segmodels import fetch

from ..console import human_bytes, out, show
from .options import Csv, Json

app = typer.Typer(help="The folder of downloaded weights.", no_args_is_help=True)


@app.command()
def path() -> None:
    """Print where it is (GANATOMY_CACHE moves it)."""
    out.print(str(fetch.cache_dir()), markup=False)


@app.command("list")
def list_(as_json: Json = False, as_csv: Csv = False) -> None:
    """List what is in it."""
    names = {
        fetch.cached_path(e.source): e.name
        for e in dissect.entries()
        if e.source is not None and not isinstance(e.source, fetch.Local)
    }
    found = sorted(fetch.cache_dir().glob("*/*"))
    rows = [{"sha256": p.name, "bytes": size_of(p), "generator": names.get(p)} for p in found]
    show(rows, None, as_json, as_csv)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())


@app.command()
def clear() -> None:
    """Remove everything in it."""
    folder = fetch.cache_dir()
    size = size_of(folder)
    shutil.rmtree(folder, ignore_errors=True)
    out.print(f"{human_bytes(size)} removed from {folder}", markup=False)
