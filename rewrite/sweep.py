"""Which layer, which rank? A request solved at several layers, with several ranks and methods, and all judged alike."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dissect import GanatomyError, Generator, WeightEdit
from dissect.effects.areas import Bench, Progress, digest
from dissect.generators.convolutions import convolution_of
from dissect.metrics import KernelTarget, Target
from dissect.metrics.extractors import Extractor
from segmodels import Segmenter

from .aims import Aim
from .evaluate import check_effect, described, unseen
from .goal import masks_of
from .locality import Distance
from .memory import RIDGE, Memory
from .moments import Float64
from .request import Region, Request
from .solve import METHODS, SAMPLES, RewriteWarning, solve
from .stored import recall
from .sweep_table import MOST_OUTSIDE, RewriteSweep
from .trial import Counted, Trial, Variant, copied_of

RANKS = (1, 2, 4, 8)
LEAST_HEIGHT = 8  # of a layer by default: below it, a cell is too large a part of the image to be one thing


def default_layers(generator: Generator) -> list[str]:
    """Return the layers that a sweep looks at when none are named: the default ones that a convolution makes.

    Those below 8 pixels a side, and those of the image's own size where there are others, are left out: at the first a
    cell is most of the image, at the last it is a dot. Where no default layer has a convolution, all layers count.
    """
    every = [layer for layer in generator.layers if layer.kind != "style" and _has_convolution(generator, layer.name)]
    chosen = [layer for layer in every if layer.default] or every
    of_size = [layer for layer in chosen if LEAST_HEIGHT <= layer.height <= generator.resolution // 2]
    return [layer.name for layer in of_size or chosen]


def sweep(
    generator: Generator,
    segmenter: Segmenter,
    request: Request,
    seeds: Sequence[int],
    source: Sequence[str] | str | None = None,
    target: Sequence[str] | str | None = None,
    *,
    layers: Sequence[str] | None = None,
    ranks: Sequence[int] = RANKS,
    methods: Sequence[str] = ("closed",),
    memory_seeds: Sequence[int] = range(SAMPLES),
    memory_file: str | Path | None = None,
    ridge: float = RIDGE,
    most_outside: float = MOST_OUTSIDE,
    extractor: Extractor | None = None,
    distance: Distance | None = None,
    batch: int | None = None,
    threads: int | None = None,
    solving: Progress | None = None,
    progress: Progress | None = None,
) -> tuple[RewriteSweep, list[WeightEdit]]:
    """Solve a request at every layer, with every rank and method, and judge the edits on images that it has not seen.

    The one that is recommended was chosen on these images; what it does is to be told of others (:func:`evaluate`).

    Args:
        generator, segmenter: whose images, and what reads them.
        request: what is wanted. seeds: of the images that edits are judged on; those of the request are left out.
        source, target: as in :func:`rewrite.evaluate`.
        layers: default: :func:`default_layers`. ranks, methods: as in :func:`rewrite.solve`.
        memory_seeds: of the images whose keys are typical. memory_file: where memories are looked for, and kept; as in
            :func:`rewrite.solve`. ridge: of the memory, which is made once for a layer's ranks.
        most_outside: mean change outside that the recommendation allows.
        extractor, distance: as in :func:`rewrite.evaluate`.
        batch, threads: samples in one pass, CPU threads.
        solving: called with (candidates solved, all). progress: called with (images done, of how many).

    Returns:
        The table, and the edits of its candidates in their order.

    Raises:
        GanatomyError: for what does not fit the generator; if no candidate can be solved, with the first one's reason.
    """
    if not ranks or not methods or (layers is not None and not layers):
        raise GanatomyError("expected at least one layer, one rank and one method to try")
    if not (np.isfinite(most_outside) and most_outside >= 0):
        raise GanatomyError(f"expected the change outside that is allowed as a number >= 0, got {most_outside}")
    if unknown := [method for method in methods if method not in METHODS]:
        raise GanatomyError(f"expected methods among {', '.join(METHODS)}, got {unknown[0]!r}")
    names = list(dict.fromkeys(generator.layer(name).name for name in layers or default_layers(generator)))
    left, dropped = unseen(seeds, [request])
    bench = Bench(generator, segmenter, left, names[0], request.sampling, batch, threads)
    aim = Aim.of(bench, [request], source, target)
    wanted = [(rank, method) for method in dict.fromkeys(methods) for rank in dict.fromkeys(ranks)]
    solver = _Solver(generator, request, segmenter, memory_seeds, memory_file, ridge, wanted)
    for name in names:
        solver.layer(name)
        if solving is not None:
            solving(solver.done, len(names) * len(wanted))
    if not solver.edits:
        layer, rank, method, reason = solver.failed[0]
        raise GanatomyError(f"no candidate can be solved; {layer}, rank {rank}, {method}: {reason}")
    copied = {layer: copied_of(generator, request, layer, segmenter, aim) for layer, _, _ in solver.candidates}
    check_effect(aim, copied[solver.candidates[0][0]])
    variants = [
        Variant((edit,), None if request.copy is None else layer, copied[layer])
        for edit, (layer, _, _) in zip(solver.edits, solver.candidates, strict=True)
    ]
    counted = Trial(bench, aim, extractor, distance).run(variants, progress)
    total = counted.way.sum(1)
    share = np.divide(counted.went.sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
    facts = described(bench, aim, extractor, distance, dropped) | {
        "request": {"name": request.name, "goal": request.goal, "digest": digest(str(request.described()))},
        "candidates": solver.candidates, "failed": solver.failed, "most_outside": float(most_outside),
        "ridge": float(ridge), "memory_images": len(memory_seeds),
    }  # fmt: skip
    made = RewriteSweep(
        facts, bench.samples.seeds.astype(np.int64), counted.source, counted.became, counted.way, counted.went,
        counted.outside,
        counted.similarity, counted.perceptual, np.column_stack([solver.attained, share, counted.cosine]),
        np.array([[e.provenance["relative_norm"], e.provenance["disturbance"]] for e in solver.edits]),
        _drift(counted), np.array(solver.seconds),
    )  # fmt: skip
    return made, solver.edits


class _Solver:
    """The candidates of a request, layer by layer; the memory of a layer is made once for each kind of keys."""

    def __init__(
        self, generator: Generator, request: Request, segmenter: Segmenter, seeds: Sequence[int],
        file: str | Path | None, ridge: float, wanted: Sequence[tuple[int, str]],
    ) -> None:  # fmt: skip
        self._generator, self._request = generator, request
        self._located = located(generator, request, segmenter)
        self._told = [request.described()]
        self._seeds, self._ridge, self._wanted = seeds, ridge, wanted
        self._file = None if file is None else Path(file)
        self.candidates: list[list[Any]] = []
        self.failed: list[list[Any]] = []
        self.edits: list[WeightEdit] = []
        self.seconds: list[tuple[float, float]] = []

    @property
    def done(self) -> int:
        """How many candidates were solved, or cannot be."""
        return len(self.candidates) + len(self.failed)

    @property
    def attained(self) -> Float64:
        """Shares of the convolution's values and of the layer's features, [V, 2]; NaN where nothing was missing."""
        told = [edit.provenance["attained"] for edit in self.edits]
        return np.array([[one["values"], one["seen"]] for one in told], np.float64)

    def layer(self, name: str) -> None:
        """Solve all candidates of a layer; those that cannot be solved are listed with the reason."""
        memories: dict[str, tuple[Memory, float]] = {}
        for rank, method in self._wanted:
            kind = "patch" if method == "closed" else "channel"
            try:
                if kind not in memories:
                    memories[kind] = self._memory(name, kind)
                memory, seconds = memories[kind]
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RewriteWarning)  # how large a change is, is in the table
                    edit = solve(self._generator, self._located, name, rank, method, memory=memory)
                self.seconds.append((time.perf_counter() - start, seconds))
                self.edits.append(replace(edit, provenance={**edit.provenance, "requests": self._told}))
                self.candidates.append([name, int(rank), method])
            except GanatomyError as error:
                self.failed.append([name, int(rank), method, " ".join(str(error).split())])

    def _memory(self, name: str, kind: str) -> tuple[Memory, float]:
        start = time.perf_counter()
        convolution = convolution_of(self._generator, name)
        (found,) = recall(
            self._generator, [convolution], self._seeds, kind=kind, ridge=self._ridge, sampling=self._request.sampling,
            path=self._file,
        )  # fmt: skip
        return found, time.perf_counter() - start


def located(generator: Generator, request: Request, segmenter: Segmenter) -> Request:
    """Return a request with a mask in the place of every concept, so that they are looked up once for all solutions."""
    if not request.needs_segmenter:
        return request
    masks = dict(zip(map(id, request.regions), masks_of(generator, request, segmenter), strict=True))

    def placed(regions: Sequence[Region]) -> tuple[Region, ...]:
        found = [(region.seed, masks[id(region)].numpy()) for region in regions]
        return tuple(Region(seed, mask) for seed, mask in found if mask.any())

    copied = None if request.copy is None else placed([request.copy])[0]
    return replace(request, copy=copied, paste=placed(request.paste), context=placed(request.context))


def _drift(counted: Counted) -> Float64:
    """Return Fréchet and kernel distance of each candidate's samples from the unedited, [V, 2]; NaN if unknown."""
    if counted.features is None or len(counted.source) < 2:
        return np.full((len(counted.became), 2), np.nan)
    before, *after = counted.features
    frechet, kernel = Target(before), KernelTarget(before)
    return np.array([[frechet.distance(one).value, kernel.distance(one)] for one in after])


def _has_convolution(generator: Generator, layer: str) -> bool:
    try:
        convolution_of(generator, layer)
    except GanatomyError:
        return False
    return True
