"""``ganatomy segmenters``: what can name pixels, and a look at what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import segmodels

from ..console import out, print_json, print_table, show
from ..preview import preview as draw
from ..preview import save
from .options import (
    Accept,
    Classes,
    Csv,
    Device,
    Json,
    Model,
    Options,
    Seeds,
    SomeSamples,
    Truncation,
    ZDim,
    check_picture,
    open_model,
    seeds_of,
)

app = typer.Typer(help="What can name pixels.", no_args_is_help=True)


@app.command("list")
def list_(as_json: Json = False, as_csv: Csv = False) -> None:
    """List the catalogue."""
    rows = [
        {
            "name": entry.name,
            "concepts": entry.concepts,
            "planes": entry.planes,
            "needs_network": entry.needs_network,
            "summary": entry.summary,
        }
        for entry in segmodels.entries()
    ]
    show(rows, None, as_json, as_csv, below=("summary",))


@app.command("show")
def show_(
    segmenter: Annotated[str, typer.Argument(help="Catalogue name, folder, hub id, or package.module:factory; a+b.")],
    device: Device = "cpu",
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show a segmenter's concepts."""
    loaded = segmodels.load(segmenter, device)
    rows = [
        {"index": i, "concept": c.name, "category": c.category, "plane": c.plane} for i, c in enumerate(loaded.concepts)
    ]
    if as_json:
        print_json({"name": loaded.name, "sha256": loaded.sha256, "planes": loaded.planes, "concepts": rows})
        return
    if as_csv:
        show(rows, None, False, True)
        return
    out.print(
        f"{loaded.name}: {len(rows) - 1} concepts in {loaded.planes} plane(s), {loaded.sha256[:16]}", markup=False
    )
    print_table(rows)


@app.command()
def preview(
    model: Model,
    segmenter: Annotated[str, typer.Option(help="The segmenter to look at.")] = "colors",
    samples: SomeSamples = 16,
    seeds: Seeds = None,
    out_file: Annotated[Path, typer.Option("--out", help="The picture to write (.png).")] = Path("grid.png"),
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    truncation: Truncation = 1.0,
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Draw what a segmenter sees in a generator's images."""
    chosen = seeds_of(samples, seeds)
    check_picture(out_file)
    generator = open_model(model, device, z_dim, num_classes, None, option, accept_licence)
    codes = generator.sample(chosen, truncation=truncation)
    picture = draw(generator, segmodels.load(segmenter, device), codes)
    save(picture, out_file)
    out.print(str(out_file), markup=False)
