"""What ``ace`` and ``insertion`` share: a run with its generator, what is put in, a result as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import dissect
import segmodels
from dissect import GanatomyError, Generator, Run, constants
from dissect.disk import replacing
from dissect.generators.codes import MAX_SEED
from segmodels import Segmenter

from .commands.options import ask_licence, parse_options
from .weights import Weights

PUT_IN = ("concept-mean", "quantile")


class Result(Protocol):
    """What is written to a file."""

    def header(self) -> dict[str, Any]:
        """Return what is stored as JSON."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is stored as arrays."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A run, the generator that it was made of, and a segmenter; ``how`` its samples were drawn."""

    run: Run
    generator: Generator
    segmenter: Segmenter
    how: Mapping[str, Any]

    def fresh(self, count: int, after: int = 0) -> range:
        """Return ``count`` seeds after the run's own and ``after`` others; GanatomyError if there are not so many."""
        if count < 1:
            raise GanatomyError(f"expected a positive number of samples, got {count}")
        explicit = "codes_sha256" in self.run.manifest["samples"]
        first = (0 if explicit else int(self.run.seeds.max()) + 1) + after
        if first + count - 1 > MAX_SEED:
            raise GanatomyError(f"there are no {count} seeds after the run's; name some")
        return range(first, first + count)


def open_run(
    run_file: Path, model: str | None, segmenter: str | None, device: str, options: list[str] | None, accept: bool
) -> Opened:
    """Open a run with its generator and segmenter, or with those that are named.

    Raises:
        GanatomyError: if the generator cannot be had or is not what the run was made of.
    """
    run = dissect.open(run_file)
    if model is None:
        generator = Weights(device=device).of(run)
    else:
        ask_licence(model, accept)
        generator = dissect.load(model, device, **parse_options(options or []))
        wanted = str(run.manifest["generator"]["fingerprint"])
        if generator.fingerprint != wanted:
            raise GanatomyError(
                f"{model} is not what {run.path} was made of: another fingerprint; its units are others"
            )
    drawn = run.manifest["samples"]
    classes = drawn.get("classes")
    how = {
        "classes": None if isinstance(classes, list) else classes, "truncation": float(drawn.get("truncation", 1.0)),
        "cutoff": drawn.get("cutoff"), "noise": drawn.get("noise", "const"),
    }  # fmt: skip
    named = segmenter or str(run.manifest["segmenter"]["name"])
    return Opened(run, generator, segmodels.load(named, device), how)


def put_in(run: Run, layer: str, concept: str, what: str) -> NDArray[np.float32]:
    """Return what is put in for each unit of a layer, [U]: ``concept-mean``, ``quantile`` or a number for all."""
    if what == "concept-mean":
        return constants.concept_mean(run.layer(layer), concept)
    if what == "quantile":
        return constants.quantile(run.layer(layer))
    try:
        return np.full(run.layer(layer).units_count, float(what), np.float32)
    except ValueError as error:
        raise GanatomyError(f"expected {', '.join(PUT_IN)} or a number to put in, got {what!r}") from error


def check_out(path: Path | None) -> None:
    """Refuse a name that no result can be written to."""
    if path is None:
        return
    if path.suffix.lower() != ".npz":
        raise GanatomyError(f"expected --out to end in .npz, got {path.name}")
    if not path.parent.is_dir():
        raise GanatomyError(f"no such folder for the output: {path.parent}")


def write(result: Result, path: Path) -> None:
    """Write a result to one .npz file: its arrays, and its header as JSON under ``header``."""
    header = np.frombuffer(json.dumps(result.header()).encode(), np.uint8)
    with replacing(path) as disk:
        np.savez_compressed(disk, header=header, **result.arrays())  # type: ignore[arg-type]


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a file that :func:`write` wrote; GanatomyError if it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(arrays.pop("header").tobytes()), arrays
    except (OSError, ValueError, KeyError) as error:
        raise GanatomyError(f"{path} is not a stored result, or is damaged") from error
