"""``ganatomy dissect``: the pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import segmodels
from dissect import GanatomyError, Run, estimate
from dissect.generators.arrays import read_array, read_arrays
from dissect.job import Job
from dissect.samples import Samples, Sampling

from ..console import human_bytes, human_seconds, out, print_json, progress
from .options import Accept, Classes, Device, InputSize, Json, Model, Options, Truncation, ZDim, open_model, parse_seeds


def dissect(
    model: Model,
    segmenter: Annotated[
        str, typer.Option(help="Catalogue name, folder, hub id, package.module:factory; a+b.")
    ] = "colors",
    samples: Annotated[int, typer.Option(help="How many; seeds 0 to N - 1.")] = 1000,
    out_file: Annotated[Path, typer.Option("--out", help="The file to make; resumed if unfinished.")] = Path("run.h5"),
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer to dissect (repeatable); default: as recommended.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="A:B or 1,5,9 instead of --samples.")] = None,
    z: Annotated[Path | None, typer.Option(help="Explicit latents [N, z_dim], .npy or .npz (key z).")] = None,
    w: Annotated[
        Path | None, typer.Option(help="Latents w [N, w_dim] or w+ [N, num_ws, w_dim]: .npy, .npz, .pt, .safetensors.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures, for a model with --input-size.")] = None,
    levels: Annotated[Path | None, typer.Option(help="Given levels, .npz: layer -> [units, B].")] = None,
    class_: Annotated[int | None, typer.Option("--class", help="One class for all samples.")] = None,
    truncation: Truncation = 1.0,
    cutoff: Annotated[int | None, typer.Option(help="Truncate only the first so many w's.")] = None,
    noise: Annotated[str, typer.Option(help="const, random or none.")] = "const",
    batch: Annotated[int | None, typer.Option(help="Samples in one forward pass.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    count_size: Annotated[int | None, typer.Option(help="Count pixels at this side at most [min(R, 256)].")] = None,
    top: Annotated[int, typer.Option(help="Top samples kept per unit.")] = 16,
    maxima: Annotated[bool, typer.Option("--maxima", help="Keep every sample's maximum per unit.")] = False,
    device: Device = "cpu",
    z_dim: ZDim = None,
    num_classes: Classes = None,
    input_size: InputSize = None,
    option: Options = None,
    accept_licence: Accept = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell time, memory and file size.")] = False,
    as_json: Json = False,
) -> None:
    """Dissect a generator into one HDF5 file."""
    if z is None and w is None and images is None and seeds is None and samples <= 0:
        raise GanatomyError(f"expected a positive number of samples, got {samples}")
    if sum(x is not None for x in (seeds, z, w, images)) > 1:
        raise GanatomyError("give only one of --seeds, --z, --w and --images")
    if w is not None and (class_ is not None or truncation != 1.0 or cutoff is not None):
        raise GanatomyError("--w gives finished w's: --class, --truncation and --cutoff do not apply")
    generator = open_model(model, device, z_dim, num_classes, input_size, option, accept_licence)
    named = segmodels.load(segmenter, device)
    codes = None if w is None else generator.codes(w, noise)
    if z is not None:
        codes = generator.map(read_array(z, "z"), class_, truncation, cutoff, noise)
    chosen = None if codes is not None or images else (parse_seeds(seeds) if seeds else range(samples))
    sampling = Sampling(class_, truncation, cutoff, noise)
    source = Samples(generator, seeds=chosen, codes=codes, images=images, sampling=sampling)
    job = Job(
        generator, named, source, layer, out_file, levels=read_arrays(levels) if levels else None, batch=batch,
        threads=threads, count_size=count_size, top=top, maxima=maxima,
    )  # fmt: skip
    if dry_run:
        _estimate(job, as_json)
        return
    with progress(f"dissecting {generator.name}") as update:
        run = job.run(update)
    summary = summarise(run)
    if as_json:
        print_json(summary)
        return
    size = human_bytes(run.path.stat().st_size)
    out.print(f"{run.path} ({size}): {run.samples} samples in {human_seconds(run.seconds)}", markup=False)
    for row in summary["layers"]:
        out.print(f"  {row['layer']}: {row['labelled']} of {row['units']} units labelled", markup=False)


def summarise(run: Run) -> dict:
    """Return what a run found, in numbers."""
    layers = []
    for name in run.layers:
        labels = run.layer(name).label
        layers.append(
            {
                "layer": name,
                "units": len(labels),
                "labelled": int((labels > 0).sum()),
                "concepts": len(set(labels[labels > 0].tolist())),
            }
        )
    return {"file": str(run.path), "id": run.id, "samples": run.samples, "seconds": run.seconds, "layers": layers}


def _estimate(job: Job, as_json: bool) -> None:
    cost = estimate(job)
    facts = {
        "samples": job.plan.samples, "layers": {n: list(s) for n, s in job.shapes.items()}, "seconds": cost.seconds,
        "seconds_per_sample": cost.seconds_per_sample, "memory_bytes": cost.memory, "file_bytes": cost.file,
    }  # fmt: skip
    if as_json:
        print_json(facts)
        return
    units = sum(s[0] for s in job.shapes.values())
    out.print(
        f"{job.plan.samples} samples, {units} units in {len(job.shapes)} layers: {', '.join(job.shapes)}", markup=False
    )
    out.print(
        f"time   about {human_seconds(cost.seconds)} ({cost.seconds_per_sample * 1e3:.0f} ms a sample)", markup=False
    )
    out.print(f"memory about {human_bytes(cost.memory)} beside the generator", markup=False)
    out.print(f"file   about {human_bytes(cost.file)}", markup=False)
