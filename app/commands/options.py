"""Options and arguments that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import dissect
from dissect import GanatomyError, Generator
from dissect.disk import check_folder_of
from dissect.generators.catalog import accepted

from ..console import remark
from ..seeds import parse_seeds

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Device = Annotated[str, typer.Option(help="Where the generator and the segmenter run: cpu, cuda, cuda:1, …")]
Model = Annotated[
    str,
    typer.Argument(
        help="Catalogue name, checkpoint, bundle, https://…#sha256=…, planted:SEED, or package.module:factory."
    ),
]
ZDim = Annotated[int | None, typer.Option("--z-dim", help="Length of the latent, for package.module:factory.")]
Classes = Annotated[int | None, typer.Option("--num-classes", help="Number of classes, for package.module:factory.")]
InputSize = Annotated[int | None, typer.Option(help="For a model that looks at pictures: their side in pixels.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="What no tensor reveals: see `generators show` (repeatable)."),
]
Accept = Annotated[bool, typer.Option("--accept-licence", help="Accept the licence of the catalogue's weights; once.")]
SomeSamples = Annotated[int, typer.Option("--samples", help="How many images.")]
Seeds = Annotated[str | None, typer.Option(help="A:B (B not included), A-B or 1,5,9 instead of --samples.")]
OneClass = Annotated[int | None, typer.Option("--class", help="One class for all samples.")]
SomeClasses = Annotated[
    str | None,
    typer.Option("--class", help="uniform (each seed draws its own), one class, or several in turn: 3,7,207 or 0-9."),
]
Truncation = Annotated[float, typer.Option(help="Truncation; 1 is none.")]
RunFile = Annotated[Path, typer.Argument(help="A finished dissection, run.h5.")]


def open_model(
    model: str,
    device: str,
    z_dim: int | None = None,
    num_classes: int | None = None,
    input_size: int | None = None,
    options: list[str] | None = None,
    accept: bool = False,
) -> Generator:
    """Return the generator that a command names."""
    ask_licence(model, accept)
    given = parse_options(options or [])
    return dissect.load(model, device, z_dim=z_dim, num_classes=num_classes, input_size=input_size, **given)


def ask_licence(name: str, accept: bool) -> None:
    """Take note that a licence is accepted: by the option, or by the answer of a person at a terminal."""
    entry = next((entry for entry in dissect.entries() if entry.name == name and entry.ask), None)
    if entry is None or name in accepted():
        return
    if not accept and sys.stdin.isatty() and sys.stderr.isatty():
        remark(f"{name}: {entry.licence}")
        accept = typer.confirm("Accept this licence?", err=True)
    if accept:
        dissect.accept_licence(name)


def parse_options(texts: list[str]) -> dict[str, Any]:
    """Return the options of ``NAME=VALUE`` texts; each family parses the values."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise GanatomyError(f"--option: expected NAME=VALUE, got {text!r}")
        options[name] = value
    clash = options.keys() & {"source", "device", "z_dim", "num_classes", "input_size", "image_range", "mean", "std"}
    if clash:
        raise GanatomyError(f"--option: {min(clash)} is not an option of a checkpoint")
    return options


def given_seeds(text: str) -> list[int] | range:
    """Return the seeds of ``--seeds``."""
    try:
        return parse_seeds(text)
    except GanatomyError as error:
        raise GanatomyError(f"--seeds: {error}") from error


def seeds_of(samples: int, seeds: str | None) -> list[int] | range:
    """Return the seeds of ``--seeds``, or the first ``--samples``."""
    if seeds:
        return given_seeds(seeds)
    if samples <= 0:
        raise GanatomyError(f"expected a positive number of samples, got {samples}")
    return range(samples)


def check_picture(path: Path) -> None:
    """Refuse a name that no picture can be written to."""
    check_folder_of(path)
    if path.suffix.lower() != ".png":
        raise GanatomyError(f"expected --out to end in .png, got {path.name}")
