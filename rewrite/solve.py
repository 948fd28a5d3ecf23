"""From a request to an edit of weights: the closed form, and what all methods share.

``closed``: among all changes within the span, the one that brings the values nearest to the target (least squares). For
one key it is W + (v - W k) (C^-1 k)^T / (k^T C^-1 k), the smallest change in the norm of C with W k = v (survey, Eq. 9;
Bau et al., ECCV 2020); for several it is their joint solution.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from dissect import GanatomyError, Generator, WeightEdit
from dissect.edits import Edit
from dissect.generators.convolutions import Convolution, convolution_of
from dissect.generators.segments import without
from dissect.weight_edits import changed
from segmodels import Segmenter
from segmodels.errors import GanatomyWarning

from .basis import Basis
from .goal import Goal, goal_of
from .memory import ILL, RIDGE, Memory
from .moments import Float64, Moments
from .optimise import OPTIMISERS, Trace
from .patches import Patches
from .request import Request
from .stored import recall

Progress = Callable[[int, int], None]

METHODS = ("closed", *OPTIMISERS)
DIRECTIONS = ("mean", "singular")
SAMPLES = 256  # images whose keys say what is typical, when none are named
LARGE = 1.0  # a change as large as the weights, or as what they make of typical keys, spoils images


class RewriteWarning(GanatomyWarning):
    """The edit was made, but is likely not what was meant."""


def solve(
    generator: Generator,
    request: Request | Sequence[Request],
    layer: str,
    rank: int = 1,
    method: str = "closed",
    *,
    kind: str | None = None,
    direction: str | None = None,
    strength: float = 1.0,
    memory: Memory | Moments | None = None,
    memory_file: str | Path | None = None,
    seeds: Sequence[int] = range(SAMPLES),
    ridge: float = RIDGE,
    segmenter: Segmenter | None = None,
    edits: Sequence[Edit] | Edit = (),
    progress: Progress | None = None,
) -> WeightEdit:
    """Return the edit of weights that does what a request asks for, or several at once.

    Args:
        generator: whose weights; they are left alone.
        request: what is wanted, one or several.
        layer: whose convolution changes; the layer itself is where the goal is looked at by ``projected``, ``linear``.
        rank: directions of each request (and phase, and for ``channel`` keys each with values for every tap).
        method: ``closed``, ``projected`` or ``linear`` (see :mod:`rewrite.optimise`).
        kind: of keys, ``patch`` or ``channel``; default: ``patch`` for ``closed``, ``channel`` for the others, as in
            the original. With ``memory`` it is the memory's.
        direction: ``mean`` or ``singular``; default: ``mean`` for rank 1.
        strength: of the edit that is returned.
        memory: of the convolution's keys; default: made of ``seeds`` with ``ridge``.
        memory_file: where that is looked for, and kept: ``run.memory.h5``, or a run beside which it lies.
        segmenter: for regions that are given by a concept.
        edits: that are active already; the new edit comes on top. Those of the same weight are part of W.
        progress: called with (images done, all) while the memory is made, and (steps, most) while optimising.

    Raises:
        GanatomyError: for a layer without a weight; a request that does not fit; a singular second moment.

    Warns:
        RewriteWarning: if the change is so large that it is likely to spoil images, or C is badly conditioned.
    """
    requests = [request] if isinstance(request, Request) else list(request)
    if not requests:
        raise GanatomyError("expected at least one request")
    if method not in METHODS:
        raise GanatomyError(f"expected the method as one of {', '.join(METHODS)}, got {method!r}")
    if not isinstance(rank, (int, np.integer)) or rank < 1:
        raise GanatomyError(f"expected a rank of 1 or more, got {rank!r}")
    direction = direction or ("mean" if rank == 1 else "singular")
    if direction not in DIRECTIONS or (direction == "mean" and rank > 1):
        raise GanatomyError(f"expected the direction as mean (rank 1) or singular, got {direction!r} with rank {rank}")
    active = generator.check_edits(edits)
    # Of a bundle W is what its own edits leave.
    convolution = with_edits(convolution_of(generator, layer), (*generator.recipe, *active))
    wanted = kind or ("patch" if method == "closed" else "channel")
    if memory is None:
        (remembered,) = recall(
            generator, [convolution], seeds, kind=wanted, ridge=ridge, sampling=requests[0].sampling, edits=active,
            path=None if memory_file is None else Path(memory_file), progress=progress,
        )  # fmt: skip
    else:
        remembered = memory if isinstance(memory, Memory) else Memory.of(memory, ridge)
    check_memory(remembered, generator, kind)
    goals = [goal_of(generator, one, convolution, remembered, segmenter, active) for one in requests]
    basis = Basis.of(goals, int(rank), direction)
    left = closed(goals, basis)
    trace: Trace | None = None
    if method != "closed":
        left, trace = OPTIMISERS[method](goals, basis, left, progress)
    facts = {
        "requests": [one.described() for one in requests], "method": method, "kind": remembered.kind, "rank": int(rank),
        "direction": direction, "ridge": remembered.ridge, "memory_images": len(remembered.moments.seeds),
        "condition": remembered.condition, "fingerprint": generator.fingerprint, "observed": convolution.observed,
    }  # fmt: skip
    return made(goals, basis, left, strength, facts, trace)


def with_edits(convolution: Convolution, edits: Sequence[Edit]) -> Convolution:
    """Return a convolution as edits that are active already leave it: its tensor is what W is from here on."""
    ours = [edit for edit in edits if isinstance(edit, WeightEdit) and edit.weight == convolution.weight]
    if not ours:
        return convolution
    return replace(convolution, tensor=changed(convolution.tensor, ours))


def check_memory(memory: Memory, generator: Generator, kind: str | None) -> None:
    """Raise GanatomyError if a memory is of another generator or kind; warn if it is badly conditioned."""
    facts = memory.moments.facts
    if facts["generator"]["fingerprint"] != generator.fingerprint:
        raise GanatomyError(f"the memory is of {facts['generator']['name']}, not of {generator.name}")
    if kind is not None and memory.kind != kind:
        raise GanatomyError(f"the memory is of {memory.kind} keys, not of {kind} keys")
    if memory.condition > ILL:
        warnings.warn(
            f"the second moment of the keys is badly conditioned ({memory.condition:.1g}); more images or a larger "
            f"ridge would help", RewriteWarning, stacklevel=3,
        )  # fmt: skip


def closed(goals: Sequence[Goal], basis: Basis) -> Float64:
    """Return Lambda [O, R]: the least squares solution over the pixels of all requests, phase by phase.

    Raises:
        GanatomyError: if no key that a value is asked for has a part in the span: then nothing can be changed.
    """
    found = []
    targets = [goal.targets() for goal in goals]
    for index, phase in enumerate(basis.patches.phases):
        seen, missing = [], []
        for goal, wanted in zip(goals, targets, strict=True):
            error, weight = goal.errors(phase, wanted)
            keys = goal.patches.keys(goal.keys.double(), phase).transpose(0, 1)
            chosen = torch.stack([Patches.at(target.weight, phase) for target in wanted]) > 0
            root = weight.double().sqrt()
            seen.append(basis.seen(index, keys[:, chosen]) * root)
            missing.append(error.double() * root)
        x, y = torch.cat(seen, 1).cpu().numpy(), torch.cat(missing, 1).cpu().numpy()
        if x.shape[1] == 0:  # no pixel of this phase is asked for
            found.append(np.zeros((y.shape[0], x.shape[0])))
            continue
        found.append(scipy.linalg.lstsq(x.T, y.T, cond=1e-10)[0].T)
    left = np.concatenate(found, 1)
    moved = any(
        (t.maps != v).any() for g, w in zip(goals, targets, strict=True) for t, v in zip(w, g.values, strict=True)
    )
    if moved and not left.any():
        raise GanatomyError("the keys of the context have nothing in common with those that are pasted into")
    return left


def made(
    goals: Sequence[Goal], basis: Basis, left: Float64, strength: float, facts: dict[str, Any], trace: Trace | None
) -> WeightEdit:
    """Return the edit, with what was attained in its provenance; warn if it is too large."""
    convolution = goals[0].convolution
    factors = left.astype(np.float32), basis.factor().astype(np.float32)
    whole = WeightEdit(convolution.layer, convolution.weight, *factors, convolution.reading.swapped)
    facts = facts | {"attained": attained(goals, whole)} | sizes(goals[0], basis, left)
    if trace is not None:
        facts["losses"] = {"first": trace.losses[0], "last": trace.losses[-1], "steps": trace.steps}
    large = max(facts["relative_norm"], facts["disturbance"]) * abs(strength)
    if large > LARGE:
        warnings.warn(
            f"the change is {large:.2g} times as large as the weights or what they make of typical keys; images are "
            f"likely to suffer: a lower strength or rank, another layer or a smaller request would help",
            RewriteWarning, stacklevel=3,
        )  # fmt: skip
    return replace(whole, strength=strength, provenance=facts)


def sizes(goal: Goal, basis: Basis, left: Float64) -> dict[str, float]:
    """Return how large a change is: beside the weights, and in what it does to typical keys' values (root mean square).

    The latter, ``disturbance``, is sqrt(E |dW k|^2 / E |W k|^2): how much all other values move.
    """
    patches, memory, weight = goal.patches, goal.memory, goal.convolution.tensor.detach().cpu().double()
    moved = usual = squared = 0.0
    start = 0
    for index, phase in enumerate(patches.phases):
        rows, before = basis.rows[index], patches.matrix(weight, phase).numpy()
        part = left[:, start : start + len(rows)]
        start += len(rows)
        squared += float(np.sum((part.T @ part) * (rows @ rows.T)))
        if memory.kind == "patch":
            seen = rows @ memory.factors[index]
            moved += float(np.sum((part.T @ part) * (seen @ seen.T)))
            usual += memory.energy(before, index)
            continue
        taps, change = len(phase.taps), part @ rows
        for tap in range(taps):  # as if what neighbouring pixels hold were unrelated
            moved += memory.energy(change.reshape(len(change), -1, taps)[:, :, tap], 0)
            usual += memory.energy(before.reshape(len(before), -1, taps)[:, :, tap], 0)
    norm = float(np.sqrt(squared) / weight.norm()) if weight.any() else float("inf")
    disturbance = float(np.sqrt(moved / usual)) if usual else float("inf")
    return {"relative_norm": told(norm), "disturbance": told(disturbance)}


def told(value: float) -> float:
    """Return a measure to nine digits: the last ones of a sum depend on where its terms lie in memory."""
    return float(f"{value:.9g}")


def attained(goals: Sequence[Goal], edit: WeightEdit) -> dict[str, float | None]:
    """Return how much of what was missing an edit makes up: 1 is all, 0 nothing, below 0 it went away from it.

    ``values`` is the share of the squared error of the convolution's values; ``seen`` that of the observed layer's
    features, after demodulation, noise, bias and activation (None for ``erase``).
    """
    before = after = seen_before = seen_after = 0.0
    for goal in goals:
        weight = goal.convolution.tensor.detach()
        new = changed(weight, [edit])
        made_values = goal.patches.values(goal.keys.double(), new.double())
        for target, old, now in zip(goal.targets(), goal.values, made_values, strict=True):
            before += _squared(target.maps - old, target.weight)
            after += _squared(target.maps - now, target.weight)
        own, made_features = goal.part.features(weight), goal.part.features(new)
        for target, old, now in zip(goal.seen_targets(own), own, made_features, strict=False):
            seen_before += _squared(target.maps - old, target.weight)
            seen_after += _squared(target.maps - now, target.weight)
    return {
        "values": told(1 - after / before) if before else None,
        "seen": told(1 - seen_after / seen_before) if seen_before else None,
    }


def _squared(error: Tensor, weight: Tensor) -> float:
    return float((error.double().square() * weight.double()).sum())


__all__ = ["DIRECTIONS", "METHODS", "RewriteWarning", "solve", "without"]
