"""``ganatomy generators``: what can be dissected, what is in a file, and files in other layouts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import dissect
from dissect import GanatomyError, Generator
from dissect.generators import catalog
from dissect.generators.family import Fact
from segmodels import fetch as fetching

from ..console import columns_of, late_progress, out, print_json, print_table, progress, remark, show
from ..images import draw_images
from ..preview import save, sheet
from .options import (
    Accept,
    Classes,
    Csv,
    Device,
    InputSize,
    Json,
    Model,
    OneClass,
    Options,
    Seeds,
    SomeSamples,
    Truncation,
    ZDim,
    ask_licence,
    check_picture,
    open_model,
    seeds_of,
)

app = typer.Typer(help="What can be dissected.", no_args_is_help=True)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
OutFile = Annotated[Path, typer.Argument(help="The file to write.")]


@app.command("list")
def list_(as_json: Json = False, as_csv: Csv = False) -> None:
    """List the catalogue."""
    rows = [
        {
            "name": entry.name,
            "family": entry.family,
            "resolution": entry.resolution,
            "licence": entry.licence,
            "cached": fetching.is_cached(entry.source),
            "verified": entry.verified,
            "summary": entry.summary,
        }
        for entry in dissect.entries()
    ]
    show(rows, None, as_json, as_csv, below=("summary", "licence"))


@app.command("show")
def show_(
    model: Model,
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    input_size: InputSize = None,
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
) -> None:
    """Show what a generator is, what is known and what is guessed about it, and its layers."""
    generator = open_model(model, device, z_dim, num_classes, input_size, option, accept_licence)
    facts, critic = described(generator), discriminator_of(generator)
    layers = [asdict(layer) for layer in generator.layers]
    known = [
        {"name": fact.name, "value": shown(fact.value), "known_from": _how(generator, fact)} for fact in generator.facts
    ]
    if as_json:
        print_json(facts | {"discriminator": critic, "facts": known, "layers": layers})
        return
    for name, value in facts.items():
        text = f"{value:,}" if name == "parameters" else "–" if value is None else str(value)
        out.print(f"{name.replace('_', ' '):<14}{text}", markup=False)
    out.print(f"{'discriminator':<14}{_critic(critic)}", markup=False)
    out.print()
    if known:
        print_table(known)
        out.print()
    print_table(layers, columns_of(layers[0]) if layers else None)


HOW = {
    "tensors": "the tensors",
    "file": "recorded in the file",
    "option": "given as an option",
    "tried": "found by trying",
    "assumed": "assumed: no tensor says it",
}


def _how(generator: Generator, fact: Fact) -> str:
    """Say how something is known; of what is assumed, whether it may be said otherwise."""
    family = next((one for one in catalog.FAMILIES if one.name == generator.family), None)
    options = [option.name for option in family.options] if family else []
    return HOW[fact.source] + (" (--option)" if fact.source == "assumed" and fact.name in options else "")


def shown(value: object) -> object:
    """Return a fact's value as plain JSON."""
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else f"given, {type(value).__name__}"


def described(generator: Generator) -> dict[str, object]:
    """Return what ``show`` says first about a generator."""
    names = ("name", "family", "flavour", "resolution", "z_dim", "num_classes", "parameters", "fingerprint")
    facts: dict[str, object] = {name: getattr(generator, name) for name in names}
    origin = generator.origin
    facts["format"] = origin.format if origin else None
    facts["file_sha256"] = generator.file_sha256
    facts["licence"] = catalog.licence_of(generator)
    return facts


def discriminator_of(generator: Generator) -> dict[str, object] | None:
    """Return what ``dissect.load_discriminator`` makes of a generator's file, None where there is none in it."""
    if generator.origin is None:
        return None
    try:
        found = dissect.load_discriminator(generator.origin.path)
    except GanatomyError as error:
        known = next((fact for fact in generator.facts if fact.name == "discriminator"), None)
        return None if known is None else {"opens": False, "reason": str(error)}
    return {
        "opens": True, "where": found.where, "family": found.family, "flavour": found.flavour,
        "resolution": found.resolution, "num_classes": found.num_classes, "parameters": found.parameters,
    }  # fmt: skip


def _critic(found: dict[str, object] | None) -> str:
    if found is None:
        return "no discriminator in the file"
    if not found["opens"]:
        return f"dissect.load_discriminator cannot open the one in the file: {found['reason']}"
    classes = f", {found['num_classes']} classes" if found["num_classes"] else ""
    where = f" ({found['where']})" if found["where"] else ""
    return (
        f"dissect.load_discriminator opens the one in the file{where}: {found['family']}, {found['flavour']}, "
        f"{found['resolution']} px{classes}"
    )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name of the catalogue.")], accept_licence: Accept = False
) -> None:
    """Bring a catalogue entry's weights into the cache."""
    entry = catalog.entry(name)
    ask_licence(name, accept_licence)
    out.print(f"{name} needs no weights" if entry.source is None else str(catalog.obtain(entry)), markup=False)


@app.command()
def preview(
    model: Model,
    samples: SomeSamples = 16,
    seeds: Seeds = None,
    out_file: Annotated[Path, typer.Option("--out", help="The picture to write (.png).")] = Path("samples.png"),
    class_: OneClass = None,
    truncation: Truncation = 1.0,
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Draw a sheet of samples."""
    chosen = seeds_of(samples, seeds)
    check_picture(out_file)
    generator = open_model(model, device, z_dim, num_classes, None, option, accept_licence)
    save(sheet(generator, generator.sample(chosen, class_, truncation)), out_file)
    out.print(str(out_file), markup=False)


@app.command()
def draw(
    model: Model,
    folder: Annotated[Path, typer.Option("--out", help="The folder for the images, SEED.png each.")],
    samples: SomeSamples = 16,
    seeds: Seeds = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side; the generator's own by default.")] = None,
    class_: OneClass = None,
    truncation: Truncation = 1.0,
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Write samples as a folder of PNG files; those that are there already are kept."""
    chosen = seeds_of(samples, seeds)
    generator = open_model(model, device, z_dim, num_classes, None, option, accept_licence)
    with progress("drawing") as update:
        made = draw_images(generator, chosen, folder, size=size, class_=class_, truncation=truncation, progress=update)
    out.print(f"{folder}: {len(chosen)} images, {made} of them new", markup=False)


@app.command()
def convert(
    model: Model,
    out_file: OutFile,
    layout: Annotated[
        str | None,
        typer.Option(help="Under which names: nvlabs, rosinality, gandissect, genforce, …; default: those it has."),
    ] = None,
    overwrite: Overwrite = False,
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Write a checkpoint in another layout of its family, or another kind of file (.safetensors, .pth)."""
    generator = open_model(model, "cpu", options=option, accept=accept_licence)
    out.print(str(dissect.convert(generator, out_file, layout, overwrite=overwrite)), markup=False)


def export(
    model: Model,
    out_file: OutFile,
    recipe: Annotated[
        Path | None, typer.Option(help="Edits of features, to be baked into the weights where that is exact.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Apply the recipe to another generator than its own.")] = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Write one file with fingerprint and edits instead, OUT_FILE.bundle.")
    ] = False,
    with_weights: Annotated[bool, typer.Option("--with-weights", help="The weights too, in a bundle.")] = False,
    overwrite: Overwrite = False,
    option: Options = None,
    accept_licence: Accept = False,
) -> None:
    """Write a checkpoint in the flavour it came in, with edits baked into it, or a bundle of edits."""
    edits: dissect.Recipe | tuple[()] = () if recipe is None else dissect.Recipe.load(recipe)
    if force and isinstance(edits, dissect.Recipe):
        edits = edits.forced()
    generator = open_model(model, "cpu", options=option, accept=accept_licence)
    with late_progress("comparing") as update:
        path = dissect.export(
            generator, out_file, edits, overwrite=overwrite, bundle=bundle, with_weights=with_weights, progress=update
        )
    if with_weights:
        licence = catalog.licence_of(generator.original or generator) or "unknown"
        remark(f"the weights are in {path.name}; their licence: {licence}")
    out.print(str(path), markup=False)
