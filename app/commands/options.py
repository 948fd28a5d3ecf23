"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import dissect
from dissect import GanatomyError, Generator

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Device = Annotated[str, typer.Option(help="Where the generator and the segmenter run: cpu, cuda, cuda:1, …")]
Model = Annotated[
    str,
    typer.Argument(help="Catalogue name, checkpoint, https://…#sha256=…, planted:SEED, or package.module:factory."),
]
ZDim = Annotated[int | None, typer.Option("--z-dim", help="Length of the latent, for package.module:factory.")]
Classes = Annotated[int | None, typer.Option("--num-classes", help="Number of classes, for package.module:factory.")]
InputSize = Annotated[int | None, typer.Option(help="For a model that looks at pictures: their side in pixels.")]
RunFile = Annotated[Path, typer.Argument(help="A finished dissection, run.h5.")]


def open_model(
    model: str, device: str, z_dim: int | None = None, num_classes: int | None = None, input_size: int | None = None
) -> Generator:
    """Return the generator that a command names."""
    return dissect.load(model, device, z_dim=z_dim, num_classes=num_classes, input_size=input_size)


def parse_seeds(text: str) -> list[int] | range:
    """Return the seeds of ``A:B`` (B not included) or of a list ``1,5,9``."""
    try:
        if ":" in text:
            first, last = text.split(":")
            seeds = range(int(first), int(last))
            if not len(seeds):
                raise GanatomyError(f"--seeds {text}: the range is empty; A:B means A up to B - 1")
            return seeds
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise GanatomyError(f"--seeds: expected A:B or a list like 1,5,9, got {text!r}") from error


def read_array(path: Path, key: str) -> np.ndarray:
    """Return an array of a ``.npy`` file, or the one called ``key`` (or the only one) of a ``.npz``."""
    arrays = read_arrays(path)
    if key in arrays:
        return arrays[key]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise GanatomyError(f"{path}: expected an array called {key!r}, found {', '.join(arrays) or 'none'}")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npy`` or ``.npz`` file; pickled ones are refused."""
    if not path.is_file():
        raise GanatomyError(f"no such file: {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError) as error:
        raise GanatomyError(f"{path}: expected a .npy or .npz file of plain numbers: {error}") from error
