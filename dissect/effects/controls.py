"""The control of an experiment: the same edit on as many random other units of the same layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError

from ..edits import Edit, FeatureEdit
from ..generators import Generator

Constants = Mapping[str, ArrayLike]


def control_edits(
    generator: Generator, edits: Sequence[Edit], count: int, constants: Constants | None = None
) -> list[tuple[Edit, ...]]:
    """Return ``count`` sets of edits that do to random other units what ``edits`` do to theirs.

    A unit that several edits of a layer name has one stand-in. Strengths and masks stay; given values come from
    ``constants`` where these have the layer, and are handed on to the stand-ins otherwise.

    Args:
        generator: whose layers.
        edits: under the generator's own layer names.
        count: how many sets. Set i of the same edits is always the same.
        constants: layer -> a value for each of its units, [U].

    Raises:
        GanatomyError: if a layer has not as many other units, or a constant is not one for each unit.
    """
    named: dict[str, set[int]] = {}
    features = [edit for edit in edits if isinstance(edit, FeatureEdit)]
    if count and len(features) < len(edits):
        raise GanatomyError(
            "the control is the same edit of other units; an edit of weights has none: ask for none (controls=0, "
            "--controls 0), or see what it does with `rewrite evaluate`"
        )
    for edit in features:
        named.setdefault(edit.layer, set()).update(edit.units)
    values = _checked(generator, constants or {})
    others = {}
    for layer, units in named.items():
        channels = generator.layer(layer).channels
        others[layer] = np.setdiff1d(np.arange(channels), sorted(units))
        if count and len(others[layer]) < len(units):
            raise GanatomyError(
                f"layer {layer!r} has {len(others[layer])} units beside the {len(units)} that are edited, too few for "
                f"a control; ask for none (controls=0, --controls 0)"
            )
    sets: list[tuple[Edit, ...]] = []
    for index in range(count):
        state = np.random.RandomState([index, 7])  # 7: no other draw begins alike
        stand_in = {
            layer: dict(zip(sorted(units), state.choice(others[layer], len(units), replace=False), strict=True))
            for layer, units in named.items()
        }
        sets.append(tuple(_moved(edit, stand_in[edit.layer], values.get(edit.layer)) for edit in features))
    return sets


def _moved(edit: FeatureEdit, stand_in: Mapping[int, Any], constants: NDArray[np.float32] | None) -> FeatureEdit:
    units = [int(stand_in[unit]) for unit in edit.units]
    order = np.argsort(units)
    strength, values = edit.strength, edit.values
    if isinstance(strength, tuple):
        strength = tuple(strength[i] for i in order)
    if isinstance(values, np.ndarray):
        per_unit = constants is not None and values.ndim == 1
        values = np.ascontiguousarray(
            constants[np.sort(units)] if per_unit and constants is not None else values[order]
        )
        values.flags.writeable = False
    return replace(edit, units=tuple(sorted(units)), strength=strength, values=values)


def _checked(generator: Generator, constants: Constants) -> dict[str, NDArray[np.float32]]:
    checked = {}
    for name, given in constants.items():
        layer, values = generator.layer(name), np.asarray(given, np.float32)
        if values.shape != (layer.channels,) or not np.isfinite(values).all():
            raise GanatomyError(
                f"constants of {name!r}: expected a finite value for each of its {layer.channels} units, "
                f"got {list(values.shape)}"
            )
        checked[layer.name] = values
    return checked
