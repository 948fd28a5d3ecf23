"""``ganatomy demo``: a real generator from download to dashboard, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dissect
import segmodels
from dissect import GanatomyError, Generator, Run

from ..console import columns_of, human_seconds, out, print_table, progress
from ..report import report
from .app import serve_runs

REAL, SEGMENTER = "digiface-dcgan64", "face-parts+colors"
PLANTED = "planted:0"
BEST = 5  # units shown per layer


def demo(
    folder: Annotated[Path, typer.Option(help="Where the run and the report go.")] = Path("demo"),
    samples: Annotated[int, typer.Option(help="How many images.")] = 1000,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the dashboard on the run at the end, until Ctrl-C.")
    ] = True,
) -> None:
    """Fetch a real generator, dissect it, write the report, and show it in the browser."""
    generator, segmenter, note = _choose()
    out.print(note or f"{generator.name}: a real generator of {generator.resolution} px images", markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    name = generator.name.replace(":", "-")
    if note is None:
        name = f"{name}-{segmenter.name.replace('+', '-')}"
    with progress(f"dissecting {generator.name}") as update:
        run = dissect.run(generator, segmenter, samples=samples, out=folder / f"{name}.h5", progress=update)
    _best(run)
    with progress("writing the report", unit="units") as update:
        index = report(run, folder / f"{name}-report", progress=update)
    out.print(f"\n{run.samples} samples in {human_seconds(run.seconds)}")
    out.print(f"dissection  {run.path.resolve()}", markup=False)
    out.print(f"report      {index.resolve()}", markup=False)
    if note:
        out.print(note, markup=False)
    if serve:
        serve_runs([run.path])


def _choose() -> tuple[Generator, segmodels.Segmenter, str | None]:
    """Return the real generator, or the planted one and the line that says why."""
    segmenter = segmodels.load(SEGMENTER)
    try:
        return dissect.load(REAL), segmenter, None
    except GanatomyError as error:
        reason = " ".join(str(error).split())
        note = f"{REAL} could not be had, this demo ran on {PLANTED} (drawn shapes) instead: {reason}"
        return dissect.load(PLANTED), segmodels.load("planted"), note


def _best(run: Run) -> None:
    columns = ("unit", "concept", "iou_heldout", "chance_heldout", "stderr")
    for name in run.layers:
        layer = run.layer(name)
        rows = [layer.row(unit) for unit in range(layer.units_count) if layer.label[unit]]
        rows.sort(key=lambda row: row["iou_heldout"] - row["chance_heldout"], reverse=True)
        title = f"\n{name}: {len(rows)} of {layer.units_count} units labelled"
        print_table(rows[:BEST], columns_of(columns), title)
