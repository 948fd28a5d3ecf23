"""``ganatomy dissect``: the pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import segmodels
from dissect import GanatomyError, Run, estimate
from dissect import merge as dissect_merge
from dissect.disk import check_folder_of
from dissect.distributed import Ranks, run_ranked, shard_file
from dissect.execute import run_job, run_shard, write_plan
from dissect.generators.arrays import read_array, read_arrays
from dissect.job import Job
from dissect.samples import Samples, Sampling

from ..console import human_bytes, human_seconds, out, print_json, progress
from ..seeds import parse_classes
from ..unfinished import Interrupted, Unfinished
from .options import (
    Accept,
    Classes,
    Device,
    InputSize,
    Json,
    Model,
    Options,
    Seeds,
    SomeClasses,
    Truncation,
    ZDim,
    given_seeds,
    open_model,
)

UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


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
    seeds: Seeds = None,
    z: Annotated[Path | None, typer.Option(help="Explicit latents [N, z_dim], .npy or .npz (key z).")] = None,
    w: Annotated[
        Path | None, typer.Option(help="Latents w [N, w_dim] or w+ [N, num_ws, w_dim]: .npy, .npz, .pt, .safetensors.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures, for a model with --input-size.")] = None,
    levels: Annotated[Path | None, typer.Option(help="Given levels, .npz: layer -> [units, B].")] = None,
    class_: SomeClasses = None,
    truncation: Truncation = 1.0,
    cutoff: Annotated[int | None, typer.Option(help="Truncate only the first so many w's.")] = None,
    noise: Annotated[str, typer.Option(help="const, random or none.")] = "const",
    batch: Annotated[int | None, typer.Option(help="Samples in one forward pass.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    count_size: Annotated[int | None, typer.Option(help="Count pixels at this side at most [min(R, 256)].")] = None,
    top: Annotated[int, typer.Option(help="Top samples kept per unit.")] = 16,
    maxima: Annotated[bool, typer.Option("--maxima", help="Keep every sample's maximum per unit.")] = False,
    memory: Annotated[
        str | None, typer.Option(help="What counting may take, e.g. 800M or 4G; layers are shared out among passes.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Of shards: made if --shard is not given, else read. See `merge`.")
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do the I-th of N shards of --plan.")] = None,
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
    _check(samples, seeds, z, w, images, class_ is not None or truncation != 1.0 or cutoff is not None)
    check_folder_of(plan if plan is not None and shard is None else out_file)  # before anything is loaded
    ranks = Ranks.of()
    if ranks is not None:
        device = ranks.device(device)
    generator = open_model(model, device, z_dim, num_classes, input_size, option, accept_licence)
    named = segmodels.load(segmenter, device)
    codes = None if w is None else generator.codes(w, noise)
    if z is not None:
        latents = read_array(z, "z")
        classes = parse_classes(class_, np.atleast_1d(latents).shape[0]) if class_ is not None else None
        codes = generator.map(latents, classes, truncation, cutoff, noise)
    chosen = None if codes is not None or images else (given_seeds(seeds) if seeds else range(samples))
    classes = parse_classes(class_, len(chosen)) if class_ is not None and chosen is not None else None
    sampling = Sampling(classes, truncation, cutoff, noise)
    source = Samples(generator, seeds=chosen, codes=codes, images=images, sampling=sampling)
    which = parse_shard(shard) if shard is not None else None
    target = plan if plan is not None and which is None else shard_file(out_file, *which) if which else out_file
    job = Job(
        generator, named, source, layer, target, levels=read_arrays(levels) if levels else None, batch=batch,
        threads=threads, count_size=count_size, top=top, maxima=maxima, memory=parse_bytes(memory) if memory else None,
    )  # fmt: skip
    if dry_run:
        _estimate(job, as_json)
        return
    try:
        if plan is not None or which is not None:
            _share(job, plan, which, as_json)
        elif ranks is not None and ranks.rank:
            run_ranked(job, ranks)  # rank 0 does the talking
        else:
            with progress(f"dissecting {generator.name}") as update:
                run = run_job(job, update) if ranks is None else run_ranked(job, ranks, update)
            _say(run, as_json)
    except KeyboardInterrupt as stop:
        raise Interrupted(_kept(job) if ranks is None else "whole shards are kept") from stop


def _kept(job: Job) -> str:
    """Return what is kept of a job that was interrupted."""
    if not job.partial.exists():
        return "no sample was counted yet"
    done = Unfinished.of(job.out).done
    return f"{f'{done} samples are' if done else 'what was counted is'} kept in {job.partial}"


def _check(
    samples: int, seeds: str | None, z: Path | None, w: Path | None, images: Path | None, drawn_otherwise: bool
) -> None:
    """Refuse options that contradict each other, before anything is loaded."""
    if z is None and w is None and images is None and seeds is None and samples <= 0:
        raise GanatomyError(f"expected a positive number of samples, got {samples}")
    if sum(x is not None for x in (seeds, z, w, images)) > 1:
        raise GanatomyError("give only one of --seeds, --z, --w and --images")
    if w is not None and drawn_otherwise:
        raise GanatomyError("--w gives finished w's: --class, --truncation and --cutoff do not apply")
    if images is not None and drawn_otherwise:
        raise GanatomyError("--images gives pictures: --class, --truncation and --cutoff do not apply")


def _share(job: Job, plan: Path | None, which: tuple[int, int] | None, as_json: bool) -> None:
    """Make a plan, or do one shard of it."""
    if plan is None:
        raise GanatomyError("--shard needs the --plan that all shards share; make one with --plan FILE alone")
    if which is None:
        _say_file(write_plan(job), as_json)
        return
    with progress(f"dissecting {job.generator.name}, shard {which[0]}/{which[1]}") as update:
        _say_file(run_shard(job, plan, *which, update), as_json)


def _say(run: Run, as_json: bool) -> None:
    summary = summarise(run)
    if as_json:
        print_json(summary)
        return
    size = human_bytes(run.path.stat().st_size)
    out.print(f"{run.path} ({size}): {run.samples} samples in {human_seconds(run.seconds)}", markup=False)
    for row in summary["layers"]:
        out.print(f"  {row['layer']}: {row['labelled']} of {row['units']} units labelled", markup=False)


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Files made with `dissect --shard`, in any order.")],
    out_file: Annotated[Path, typer.Option("--out", help="The file to make.")] = Path("run.h5"),
    as_json: Json = False,
) -> None:
    """Put the shards of a dissection together."""
    _say(dissect_merge(shards, out_file), as_json)


def parse_shard(text: str) -> tuple[int, int]:
    """Return (I, N) of ``I/N``."""
    first, slash, last = text.partition("/")
    if not slash or not first.isdecimal() or not last.isdecimal():
        raise GanatomyError(f"--shard: expected I/N such as 3/16, got {text!r}")
    return int(first), int(last)


def parse_bytes(text: str) -> float:
    """Return a number of bytes from ``800M`` or ``4G``."""
    number, unit = text.rstrip("bBiI"), 1.0
    if number and number[-1].upper() in UNITS:
        number, unit = number[:-1], UNITS[number[-1].upper()]
    try:
        value = float(number) * unit
    except ValueError as error:
        raise GanatomyError(f"--memory: expected a size such as 800M or 4G, got {text!r}") from error
    if not 0 < value < float("inf"):
        raise GanatomyError(f"--memory: expected a size such as 800M or 4G, got {text!r}")
    return value


def _say_file(path: Path, as_json: bool) -> None:
    size = path.stat().st_size
    if as_json:
        print_json({"file": str(path), "bytes": size})
    else:
        out.print(f"{path} ({human_bytes(size)})", markup=False)


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
        "passes": cost.passes,
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
