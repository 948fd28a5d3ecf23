"""``ganatomy sweep`` and ``dose``: every single unit, and more and more of them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from numpy.typing import ArrayLike

import dissect
from dissect import GanatomyError, Run, constants
from dissect.effects import add
from dissect.effects.areas import concept_index

from ..console import columns_of, out, print_json, progress, show
from ..experiments import TO, TOP, parse_units, percent, prepare, remark_used, signed, span, units_of
from .effect import OtherModel, OtherSegmenter, To, Units
from .options import Accept, Csv, Device, Json, Options, RunFile, Seeds

Layer = Annotated[str, typer.Option(help="The layer whose units are ablated.")]
Batch = Annotated[int | None, typer.Option(help="Samples in one forward pass.")]


def sweep(
    run_file: RunFile,
    model: OtherModel = None,
    layer: Layer = "",
    units: Units = None,
    concept: Annotated[str | None, typer.Option(help="Rank units by what they take from this concept.")] = None,
    top: Annotated[int | None, typer.Option(help="At most so many rows.")] = None,
    to: To = "zero",
    samples: Annotated[int, typer.Option("--samples", help="How many images, of the seeds after the run's.")] = 16,
    seeds: Seeds = None,
    segmenter: OtherSegmenter = None,
    batch: Batch = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Ablate every single unit of a layer, one after the other, and measure every concept's area."""
    _check_to(to)
    setting = prepare(run_file, model, segmenter, device, samples, seeds, option, accept_licence)
    place = _layer(setting.run, layer)
    if concept is not None:
        concept_index(setting.segmenter.concepts, concept)  # a wrong name is told before the work
    with progress(f"sweeping {place}") as update:
        made = dissect.sweep(
            setting.generator, setting.segmenter, place, setting.seeds, parse_units(units) if units else None,
            _instead(setting.run, place, to), batch=batch, progress=update, **setting.how,
        )  # fmt: skip
    key = add(setting.run, made)  # whatever is then found to be lacking
    rows = made.rows(concept)
    if concept is None:
        rows = sorted(rows, key=lambda row: -abs(row["share"]))
    if as_json:
        facts = {k: v for k, v in made.header().items() if k != "concepts"}
        print_json({"key": key, "seeds": made.seeds.tolist(), "fresh": setting.fresh} | facts | {"rows": rows[:top]})
        return
    if not as_csv:
        how = made.facts["how"]
        out.print(f"{setting.said()}; of {how['run'] + how['skipped']} images {how['skipped']} could not change")
    shown = [
        {
            "unit": row["unit"], "concept": row["concept"] or "–", "before": percent(row["before"]),
            "after": percent(row["after"]), "change": signed(row["change"]), "error": percent(row["stderr"]),
        }
        for row in rows[:top]
    ]  # fmt: skip
    show(rows[:top] if as_csv else shown, None, False, as_csv)


def dose(
    run_file: RunFile,
    model: OtherModel = None,
    layer: Layer = "",
    concept: Annotated[str, typer.Option(help="Whose area.")] = "",
    top: Annotated[int, typer.Option(help="How many units, the best for the concept first.")] = TOP,
    units: Annotated[str | None, typer.Option(help="Other units, in this order: 5,1,9.")] = None,
    steps: Annotated[
        str | None, typer.Option(help="Numbers of units to look at, 5,20,80; default: about a dozen.")
    ] = None,
    orders: Annotated[int, typer.Option(help="How many random orders to compare with.")] = 3,
    to: To = "zero",
    samples: Annotated[int, typer.Option("--samples", help="How many images, of the seeds after the run's.")] = 50,
    seeds: Seeds = None,
    segmenter: OtherSegmenter = None,
    batch: Batch = None,
    device: Device = "cpu",
    option: Options = None,
    accept_licence: Accept = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Ablate more and more units, the best first, and compare what is left of a concept with random orders."""
    _check_to(to)
    if not concept:
        raise GanatomyError("--concept: expected the concept whose area is measured")
    setting = prepare(run_file, model, segmenter, device, samples, seeds, option, accept_licence)
    place = _layer(setting.run, layer)
    if units:
        remark_used(setting.run, setting.seeds)
    order = parse_units(units) if units else units_of(setting.run, place, concept, top)
    with progress(f"ablating for {concept}") as update:
        made = dissect.dose(
            setting.generator, setting.segmenter, place, order, concept, setting.seeds, random=orders,
            to=_instead(setting.run, place, to), steps=parse_units(steps, "--steps") if steps else None, batch=batch,
            progress=update, **setting.how,
        )  # fmt: skip
    key = add(setting.run, made)
    best, others = float(made.auc[0]), made.auc[1:].tolist()
    if as_json:
        facts = {k: v for k, v in made.header().items() if k != "concepts"}
        low, high = (None if np.isnan(v) else float(v) for v in made.auc_interval)
        curve = {"auc": best, "auc_low": low, "auc_high": high, "auc_random": others, "order": order}
        seeds_used = {"key": key, "seeds": made.seeds.tolist(), "fresh": setting.fresh}
        print_json(seeds_used | facts | curve | {"rows": made.rows()})
        return
    if as_csv:
        show(made.rows(), None, False, True)
        return
    out.print(setting.said(), markup=False)
    shown = [
        {
            "units": row["units"], f"{concept} left": percent(row["left"]),
            "interval": span(row["low"], row["high"]).replace("+", ""), "random order": percent(row["random"]),
            "range": span(row["random_low"], row["random_high"]).replace("+", ""),
        }
        for row in made.rows()
    ]  # fmt: skip
    show(shown, columns_of(shown[0]), False, False)
    beside = f", in random order {np.mean(others):.3f}" if others else ""
    out.print(f"area under the curve {best:.3f} (1: no effect){beside}", markup=False)


def _layer(run: Run, name: str) -> str:
    """Return the layer that is meant: the only one of the run if none is named."""
    if not name and len(run.layers) > 1:
        raise GanatomyError(f"--layer: expected one of the run's, {', '.join(run.layers)}")
    return name or run.layers[0]


def _check_to(to: str) -> None:
    if to not in TO:
        raise GanatomyError(f"--to: expected {', '.join(TO)}, got {to!r}")


def _instead(run: Run, layer: str, to: str) -> ArrayLike | str:
    return constants.mean(run.layer(layer)) if to == "mean" else to
