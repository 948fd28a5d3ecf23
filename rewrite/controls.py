"""The controls of a rewrite: edits of weights that are as large, but random in what they write, or in where.

A control that does as much shows that any change of that size would have done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from dissect import GanatomyError, Generator, WeightEdit
from dissect.edits import Edit
from dissect.generators.convolutions import Convolution, convolution_of
from dissect.generators.segments import segment, without
from dissect.samples import Samples

from .goal import AT_ONCE
from .moments import Float64
from .patches import Patches

VALUES, KEYS = "random values", "random keys"
CONTROLS = (VALUES, KEYS)


def controls_of(
    generator: Generator, edits: Sequence[Edit], names: Sequence[str], samples: Samples, seed: int = 0
) -> list[tuple[Edit, ...]]:
    """Return edits with every edit of weights exchanged for a random one, one list for each name; units' edits stay.

    Args:
        names: ``random values``: the same keys are meant, and what is added to their values has another direction, so
            that the change is as large in every norm. ``random keys``: other keys are meant, drawn alike for every
            input, and the change is scaled to disturb the values of the samples as much.
        samples: all images that are judged: of a few, none may show what is meant.

    Raises:
        GanatomyError: for another name; if no edit is one of weights.
    """
    if unknown := [name for name in names if name not in CONTROLS]:
        raise GanatomyError(f"expected controls among {', '.join(CONTROLS)}, got {unknown[0]!r}")
    if names and not any(isinstance(edit, WeightEdit) for edit in edits):
        raise GanatomyError(
            "the controls are random edits of weights, and there is none; `effect` judges edits of units"
        )
    found = []
    for name in names:
        made: list[Edit] = []
        for index, edit in enumerate(edits):
            state = np.random.RandomState([seed, index, 13])  # 13: no other draw begins alike
            if not isinstance(edit, WeightEdit):
                made.append(edit)
            elif name == VALUES:
                made.append(other_values(edit, state))
            else:
                made.append(_other_keys(generator, edits, edit, samples, state))
        found.append(tuple(made))
    return found


def other_values(edit: WeightEdit, state: np.random.RandomState) -> WeightEdit:
    """Return an edit that means the same keys and adds something else to their values, as large for every key."""
    _, inner = np.linalg.qr(edit.left.astype(np.float64))
    left = _orthonormal(len(edit.left), len(inner), state) @ inner
    return replace(edit, left=left.astype(np.float32), provenance={"control": VALUES})


def other_keys(edit: WeightEdit, state: np.random.RandomState) -> WeightEdit:
    """Return an edit that adds the same to the values of random keys, of the same norm."""
    rows = edit.right.reshape(edit.rank, -1).astype(np.float64)
    _, inner = np.linalg.qr(rows.T)
    right = (_orthonormal(rows.shape[1], len(inner), state) @ inner).T.reshape(edit.right.shape)
    return replace(edit, right=right.astype(np.float32), provenance={"control": KEYS})


def disturbance(
    generator: Generator, convolution: Convolution, edits: Sequence[WeightEdit], samples: Samples,
    active: Sequence[Edit] = (),
) -> list[float]:  # fmt: skip
    """Return the root mean square of what each of some edits adds to a convolution's values, over all samples.

    Args:
        active: other edits, of this weight none.
    """
    patches, total, count = Patches.of(convolution), [0.0] * len(edits), 0
    deltas = [torch.from_numpy(edit.delta().astype(np.float32)).to(convolution.tensor.device) for edit in edits]
    for start in range(0, len(samples), AT_ONCE):
        codes = samples.codes(start, min(start + AT_ONCE, len(samples)))
        x = segment(generator, codes, convolution, active).keys()
        for index, delta in enumerate(deltas):
            added = patches.values(x, delta)
            total[index] += float(added.double().square().sum())
        count += added.numel()
    return [float(np.sqrt(one / count)) for one in total]


def _other_keys(
    generator: Generator, edits: Sequence[Edit], edit: WeightEdit, samples: Samples, state: np.random.RandomState
) -> WeightEdit:
    """Return :func:`other_keys`, scaled to disturb the values of the samples as much as ``edit`` does."""
    drawn = other_keys(edit, state)
    convolution = convolution_of(generator, edit.layer)
    ours, theirs = disturbance(generator, convolution, (edit, drawn), samples, without(edits, edit.weight))
    scale = ours / theirs if theirs else 1.0
    return replace(drawn, left=(drawn.left * scale).astype(np.float32))


def _orthonormal(size: int, count: int, state: np.random.RandomState) -> Float64:
    """Return random directions [size, count], at right angles to each other, no direction likelier than another."""
    q, r = np.linalg.qr(state.randn(size, count))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)
