"""``ganatomy generators``: what can be dissected."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import dissect
from dissect.generators import fetch as fetching
from segmodels.errors import unknown_name

from ..console import columns_of, out, print_json, print_table, show
from .options import Classes, Csv, Device, InputSize, Json, Model, ZDim, open_model

app = typer.Typer(help="What can be dissected.", no_args_is_help=True)


@app.command("list")
def list_(as_json: Json = False, as_csv: Csv = False) -> None:
    """List the catalogue."""
    rows = []
    for entry in dissect.entries():
        source = entry.source
        cached = source is None or (not isinstance(source, fetching.Local) and fetching.cached_path(source).is_file())
        rows.append(
            {
                "name": entry.name,
                "family": entry.family,
                "resolution": entry.resolution,
                "licence": entry.licence,
                "cached": cached,
                "summary": entry.summary,
            }
        )
    show(rows, None, as_json, as_csv)


@app.command("show")
def show_(
    model: Model,
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    input_size: InputSize = None,
    as_json: Json = False,
) -> None:
    """Show a generator and its layers."""
    generator = open_model(model, device, z_dim, num_classes, input_size)
    facts = {
        name: getattr(generator, name)
        for name in ("name", "family", "flavour", "resolution", "z_dim", "num_classes", "fingerprint", "file_sha256")
    }
    layers = [asdict(layer) for layer in generator.layers]
    if as_json:
        print_json(facts | {"layers": layers})
        return
    for name, value in facts.items():
        out.print(f"{name.replace('_', ' '):<13}{'–' if value is None else value}", markup=False)
    out.print()
    print_table(layers, columns_of(layers[0]) if layers else None)


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A name of the catalogue.")]) -> None:
    """Bring a catalogue entry's weights into the cache."""
    entries = {entry.name: entry for entry in dissect.entries()}
    if name not in entries:
        raise unknown_name("generator", name, entries)
    source = entries[name].source
    out.print(f"{name} needs no weights" if source is None else str(fetching.fetch(source)), markup=False)
