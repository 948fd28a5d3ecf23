"""``ganatomy cache``: the folder of downloaded weights."""

from __future__ import annotations

import shutil

import typer

import dissect
from dissect.generators import fetch

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
        e.source.sha256: e.name for e in dissect.entries() if isinstance(e.source, (fetch.PackageMember, fetch.Https))
    }
    files = sorted(p for p in fetch.cache_dir().glob("*/*") if p.is_file())
    rows = [{"sha256": p.name, "bytes": p.stat().st_size, "generator": names.get(p.name)} for p in files]
    show(rows, None, as_json, as_csv)


@app.command()
def clear() -> None:
    """Remove everything in it."""
    folder = fetch.cache_dir()
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    out.print(f"{human_bytes(size)} removed from {folder}", markup=False)
