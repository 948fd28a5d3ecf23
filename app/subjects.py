"""What is ranked or cleaned: a run, or a model by name, of which a pass is made when a ranking needs one."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from pathlib import Path

import dissect
import segmodels
from dissect import GanatomyError, Run
from dissect.artifacts import Curve, Ranking
from dissect.effects import add
from dissect.store import format_of

from .commands.options import open_model
from .console import progress, remark
from .experiments import LARGEST_SEED, Ground, Setting, prepare
from .folders import file_names

SEGMENTER = "colors"  # of a model: needs no weights, and knows every picture
HOW = {"classes": None, "truncation": 1.0, "cutoff": None, "noise": "const"}
AROUND = 8  # pixels: the side of the layer in which Bau et al. (ICLR 2019) found the units of artifacts
PASSED = ("rare", "unlike", "fid")  # strategies that need a pass, with every sample's maxima


def is_run(source: str) -> bool:
    """Whether an argument means a dissection: a file that says so, or a name like run.h5 that is no other HDF5 file."""
    if "://" in source:
        return False
    found = format_of(Path(source))
    return found.startswith("ganatomy.") if found is not None else Path(source).suffix == ".h5"


def plain_name(source: str) -> str:
    """Return the name that output has of a run or a model: without folders, fit for a file."""
    path = Path(source)
    known = is_run(source) or path.exists()
    name = path.stem if known else source.partition("#")[0].rpartition("/")[2]
    return file_names([name])[name]


def opened(
    source: str, model: str | None, segmenter: str | None, device: str, samples: int, own: int,
    options: list[str] | None, accept: bool,
) -> Ground:  # fmt: skip
    """Open a run and its generator, or a model alone.

    Args:
        source: a run's file, or a model as every command names it.
        model: the run's generator, where it is not found by its name.
        segmenter: other than the run's. samples: images of the experiment, of the seeds after the run's.
        own: samples of a pass, if one is made: the experiment's seeds begin after them.

    Raises:
        GanatomyError: if something cannot be had, or does not go together.
    """
    if is_run(source):
        return prepare(Path(source), model, segmenter, device, samples, None, options, accept)
    if model is not None:
        raise GanatomyError(f"{source!r} is taken for a model, so {model!r} is one too many; a run is a file run.h5")
    if own < 4 or own + samples > LARGEST_SEED:
        raise GanatomyError(f"--pass-samples: expected 4 samples or more, and seeds left after them; got {own}")
    generator = open_model(source, device, options=options, accept=accept)
    found = segmodels.load(segmenter or SEGMENTER, device)
    return Ground(None, generator, found, range(own, own + samples), dict(HOW), True)


def own_seeds(ground: Ground) -> Sequence[int]:
    """Return the seeds of the generator's own samples: the run's, or as many as come before the experiment's."""
    return ground.run.seeds.tolist() if ground.run is not None else range(ground.seeds[0])


def layers_of(ground: Ground) -> list[str]:
    """Return the layers that may be meant if none is named: the run's, or the generator's default ones."""
    names = ground.run.layers if ground.run is not None else ground.generator.default_layers()
    if not names:
        raise GanatomyError(f"--layer: {ground.generator.name} has no default layers; name one")
    return list(names)


def layer_of(ground: Ground, asked: str | None, *, guess: bool) -> str:
    """Return the layer that is meant.

    Args:
        asked: by name; None for the only one there is.
        guess: of several, take the one whose maps are nearest to 8 pixels a side, and say so.

    Raises:
        GanatomyError: for an unknown layer; for none of several, unless one may be guessed.
    """
    if asked is not None:
        name = ground.generator.layer(asked).name
        if ground.run is not None:
            ground.run.layer(name)
        return name
    known = layers_of(ground)
    if len(known) == 1:
        return ground.generator.layer(known[0]).name
    whose = "the run's" if ground.run is not None else f"{ground.generator.name}'s"
    if not guess:
        raise GanatomyError(f"--layer: expected one of {whose}, {', '.join(known)}")
    name = min(known, key=lambda one: abs(log2(ground.generator.layer(one).height / AROUND)))
    remark(f"no --layer: {name} is taken, of {whose} the nearest to {AROUND} pixels a side ({', '.join(known)})")
    return name


def with_pass(ground: Ground, strategy: str, layers: Sequence[str], folder: Path) -> Ground:
    """Return a ground with a run, if the strategy needs one: a pass is made, or taken if it is there."""
    if ground.run is not None or strategy not in PASSED:
        return ground
    count = int(ground.seeds[0])
    name = "-".join([ground.generator.name, *layers, "artifacts"])
    path = folder / f"{file_names([name])[name]}.h5"
    there = path.exists()
    remark(
        f"{strategy} needs every sample's maxima: {path} "
        + ("is taken" if there else f"is made, {count} samples of {', '.join(layers)} by {ground.segmenter.name}")
    )
    with progress(f"dissecting {ground.generator.name}") as update:
        run = dissect.run(
            ground.generator, ground.segmenter, list(layers), count, path, maxima=True, progress=update,
        )  # fmt: skip
    return Setting(run, ground.generator, ground.segmenter, ground.seeds, ground.how, ground.fresh)


def run_of(ground: Ground) -> Run:
    """Return the run; GanatomyError if there is none."""
    if ground.run is None:
        raise GanatomyError("expected a run.h5, made with `ganatomy dissect --maxima`")
    return ground.run


def keep(ground: Ground, *results: Ranking | Curve) -> None:
    """Keep results beside the run, if there is one."""
    for result in results:
        if ground.run is not None:
            add(ground.run, result)
