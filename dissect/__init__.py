"""Open a pretrained image generator, find out what its units do, and prove it.

Data flows one way::

    seeds -> generators (codes, one forward pass) -> hooks (features at all layers) and images
          -> segmodels (labels) -> counts (features x labels) -> store (HDF5) -> results (numbers)

==================  ====================================================================================
``generators/``     where images come from: the contract, the families, safe reading, the catalogue
``hooks``           capture and replace features
``edits``           changes of features as values (``edit_values``: what they are given; ``constants``)
``weight_edits``    changes of weights as values
``recipes``         edits in order, as one file
``plan``            how samples are cut into atoms, groups and halves
``samples``         seeds, explicit latents or pictures, in order
``resample``        features at the size where pixels are counted; the arithmetic
``levels``          per-unit activation levels from a pilot
``counts``          the joint counts (``kernels``, ``label_kernels``: compiled; ``counts_torch``: on a device)
``statistics``      moments, concept means, top samples
``examples``        samples from all of a unit's range, drawn beforehand
``accumulate``      all of that over a pass, into and out of files
``forward``         from samples to features and labels (``ahead``: several batches at a time)
``passing``         one pass over some atoms (``checkpoint``, ``slabs``: what it keeps while unfinished)
``parts``           what a pass has counted, live or in a file (``merge``: parts to the finished file)
``job``             what is to be dissected (``estimate``, ``memory``: what it will cost)
``execute``         doing a job: all of it, its plan, a shard (``found``: what is there; ``tuning``: batch sizes)
``manifest``        what determines a run
``store``           the HDF5 files
``interrupts``      when Ctrl-C has to wait
``agreement``       counts -> IoU, chance, error bars, labels: pure functions
``results``         a finished run, read only (``layer_result``: of a layer; ``derived``: tables, cached; ``notes``)
``tables``          results as HTML, for notebooks
``by_class``        what units do by class (``sketch``: with what someone drew)
``effects/``        what edits do to concepts, beside random units, and the file that keeps it
``metrics/``        how near one set of images is to another
``artifacts/``      which units draw what should not be there, and how to take that away
``verify``          whether a file is sound (``pack``: one file to mail)
==================  ====================================================================================
"""

from pathlib import Path

from segmodels import GanatomyError

from . import artifacts, constants, metrics
from .edits import Edit, FeatureEdit, ablate, insert, replace, scale
from .effects import (
    Ace,
    AceSettings,
    Dose,
    Effect,
    InsertionMap,
    Leakage,
    Sweep,
    ace,
    dose,
    effect,
    insertion_map,
    leakage,
    sweep,
)
from .estimate import Estimate, estimate
from .examples import Band, Example
from .execute import run
from .generators import BakeError, Codes, Generator, Layer, accept_licence, convert, entries, export, load
from .generators.discriminators import Discriminator, load_discriminator
from .job import Job
from .merge import merge
from .pack import pack
from .recipes import Recipe
from .results import LayerResult, Run
from .verify import verify
from .weight_edits import WeightEdit


def open(path: str | Path) -> Run:
    """Open a finished dissection, read only; GanatomyError if it is none, unfinished or damaged."""
    return Run(path)


__all__ = [
    "Ace",
    "AceSettings",
    "BakeError",
    "Band",
    "Codes",
    "Discriminator",
    "Dose",
    "Edit",
    "Effect",
    "Estimate",
    "Example",
    "FeatureEdit",
    "GanatomyError",
    "Generator",
    "InsertionMap",
    "Job",
    "Layer",
    "LayerResult",
    "Leakage",
    "Recipe",
    "Run",
    "Sweep",
    "WeightEdit",
    "ablate",
    "accept_licence",
    "ace",
    "artifacts",
    "constants",
    "convert",
    "dose",
    "effect",
    "entries",
    "estimate",
    "export",
    "insert",
    "insertion_map",
    "leakage",
    "load",
    "load_discriminator",
    "merge",
    "metrics",
    "open",
    "pack",
    "replace",
    "run",
    "scale",
    "sweep",
    "verify",
]  # fmt: skip
