"""A part of a pass, from what enters a layer's convolution to a later layer, to be run again with other weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from segmodels import GanatomyError

from ..edits import Edit
from ..hooks import Change, Seen, exchanged, instrument, watched
from ..weight_edits import WeightEdit
from .codes import Codes
from .convolutions import Convolution, Modulated, keys_in
from .layers import State
from .others import changes_of

if TYPE_CHECKING:
    from .base import Generator

Changes = dict[str, list[Change]]


@dataclass(frozen=True, eq=False)
class Segment:
    """What some samples hold before the stage of a convolution.

    Attributes:
        generator, convolution: of which.
        edits: those that are active: of features, and of weights.
        state: before the stage.
    """

    generator: Generator
    convolution: Convolution
    edits: tuple[Edit, ...]
    state: State

    def keys(self) -> Tensor:
        """Return what enters the convolution, [N, I, h, w]; for modulated ones that is the input times the style."""
        return _keys(self.generator, self.state, self._index, [self.convolution], self.edits)[0]

    def features(self, weight: Tensor | None = None, gradient: bool = False) -> Tensor:
        """Return the observed layer, [N, U, h, w], before any edit of it.

        Args:
            weight: in place of the convolution's own and of all edits of it, in the layout of the network's tensor.
            gradient: keep what it takes to differentiate by ``weight``.
        """
        generator, name = self.generator, self.convolution.weight
        observed = generator.layer(self.convolution.observed)
        first, changes = self._changes()
        given = {} if weight is None else {name: weight}
        with generator._passing(gradient), generator.changed((*generator.recipe, *self.edits)):
            found = instrument(generator._sites, (observed.name,), changes, generator.works_in_place, first)
            with exchanged(generator.module, given), found as features:
                state = self.state
                for stage in generator.stages[self._index : observed.stage + 1]:
                    state = stage(state)
        return features[observed.name]

    @property
    def _index(self) -> int:
        return self.generator.layer(self.convolution.layer).stage

    def _changes(self) -> tuple[dict[str, list[Change]], dict[str, list[Change]]]:
        generator, codes = self.generator, self.state.codes
        return changes_of(generator, generator.recipe, codes), changes_of(
            generator, self.edits, codes, generator.recipe
        )


def segment(generator: Generator, codes: Codes, convolution: Convolution, edits: Sequence[Edit] | Edit = ()) -> Segment:
    """Return what a pass over ``codes`` holds before a convolution, with ``edits`` applied."""
    generator._check_codes(codes)
    active = generator.check_edits(edits)
    first, changes = (
        changes_of(generator, generator.recipe, codes),
        changes_of(generator, active, codes, generator.recipe),
    )
    with generator._passing(), generator.changed((*generator.recipe, *active)):
        state = generator.begin(codes)
        with instrument(generator._sites, (), changes, first=first):
            for stage in generator.stages[: generator.layer(convolution.layer).stage]:
                state = stage(state)
    return Segment(generator, convolution, active, state)


def _changes(generator: Generator, codes: Codes, edits: tuple[Edit, ...]) -> tuple[Changes, Changes]:
    """Return what a generator's own recipe does at each layer, and what ``edits`` do."""
    always = generator.recipe
    return changes_of(generator, always, codes), changes_of(generator, edits, codes, always)


def keys_of(
    generator: Generator, codes: Codes, convolutions: Sequence[Convolution], edits: Sequence[Edit] | Edit = ()
) -> list[Tensor]:
    """Return what enters each of some convolutions, [N, I, h, w], from one pass."""
    generator._check_codes(codes)
    return _keys(generator, None, 0, convolutions, generator.check_edits(edits), codes)


def _keys(
    generator: Generator, state: State | None, start: int, convolutions: Sequence[Convolution], edits: tuple[Edit, ...],
    codes: Codes | None = None,
) -> list[Tensor]:  # fmt: skip
    """Run the stages from ``start`` on, as far as the last convolution needs, and return what entered each."""
    last = max(generator.layer(convolution.layer).stage for convolution in convolutions)
    given = codes if state is None else state.codes
    assert given is not None
    first, changes = _changes(generator, given, edits)
    with generator._passing(), generator.changed((*generator.recipe, *edits)), ExitStack() as stack:
        state = generator.begin(given) if state is None else state
        stack.enter_context(instrument(generator._sites, (), changes, first=first))
        seen = [stack.enter_context(watched(c.module, _style(c))) for c in convolutions]
        for stage in generator.stages[start : last + 1]:
            state = stage(state)
        return [_entered(convolution, one, generator) for convolution, one in zip(convolutions, seen, strict=True)]


def _style(convolution: Convolution) -> nn.Module | None:
    module = convolution.module
    return module.get_submodule(module.style) if isinstance(module, Modulated) else None


def _entered(convolution: Convolution, seen: Seen, generator: Generator) -> Tensor:
    if seen.inputs is None:
        raise GanatomyError(f"layer {convolution.layer!r} did not run in this pass of {generator.name}")
    return keys_in(convolution, seen.inputs, seen.named, seen.output)


def without(edits: Sequence[Edit], weight: str) -> tuple[Edit, ...]:
    """Return edits but those of a weight."""
    return tuple(edit for edit in edits if not (isinstance(edit, WeightEdit) and edit.weight == weight))
