"""The contract of a generator: layers, stages over a state, capture, resume, the lock and the fingerprint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import unknown_name

from ..edits import Edit
from ..exactness import whole_float32
from ..hooks import Site, exchanged, instrument, lock_of
from ..recipes import Recipe
from ..weight_edits import WeightEdit, changed_weights
from .codes import Codes
from .convolutions import check_weight
from .identity import identity_of
from .layers import KINDS, Capture, Layer, State
from .others import changes_of
from .replicas import Replicated
from .sampling import Sampler

if TYPE_CHECKING:
    from .family import Fact, Origin

CHANGED = 4  # sets of changed weights that are kept


class Generator(Sampler, Replicated):
    """A pretrained image generator as a list of stages over a state.

    A family implements ``stages``, ``begin`` and ``finish`` and passes its layers and their sites to
    ``__init__``. Everything people call lives here. The weights never change: edits are applied while a
    pass runs. Each pass holds ``lock``.
    """

    origin: Origin | None = None  # the file it came from
    facts: tuple[Fact, ...] = ()  # what is known and what is guessed about it
    noted: Mapping[str, Mapping[str, Tensor]] = {}  # options that are tensors and that no layout has a place for
    chained = False  # whether each stage is one module that takes what the one before it returned
    works_in_place = False  # whether a later module may overwrite what an earlier one returned
    recipe: Recipe = Recipe(())  # what is done in every pass, before anything else: of a bundle
    original: Generator | None = None  # the generator that a bundle was made of

    def __init__(
        self,
        *,
        name: str,
        family: str,
        flavour: str,
        module: nn.Module,
        sites: Mapping[str, Site],
        layers: Sequence[Layer],
        resolution: int,
        z_dim: int,
        num_classes: int | None = None,
        device: str | torch.device = "cpu",
        file_sha256: str | None = None,
        configuration: Mapping[str, object] | None = None,
        not_layers: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.family = family
        self.flavour = flavour
        self.resolution = resolution
        self.z_dim = z_dim
        self.num_classes = num_classes
        self.layers = list(layers)
        self.device = torch.device(device)
        self.file_sha256 = file_sha256
        self.configuration = dict(configuration or {})
        self.lock = lock_of(module)
        self.module = module.eval().requires_grad_(False).to(self.device)
        self._sites = dict(sites)
        self._by_name = {layer.name: layer for layer in self.layers}
        self._aliases = {theirs: ours for theirs, ours in (aliases or {}).items() if theirs not in self._by_name}
        self._not_layers = dict(not_layers or {})  # module name -> what it returned instead of a 4-D map

    def __repr__(self) -> str:
        kind = f"{self.family}, {self.flavour}" if self.flavour else self.family
        return f"<Generator {self.name}: {kind}, {self.resolution} px, {len(self.layers)} layers>"

    # -- what a family says --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The network as functions from state to state, in order."""

    @abstractmethod
    def begin(self, codes: Codes) -> State:
        """Return the state before stage 0; ``codes`` are on the CPU, the state is on the device."""

    @abstractmethod
    def finish(self, state: State) -> Tensor:
        """Return images float32 [N, 3, R, R] in [-1, 1] from the state after the last stage."""

    def canonical_tensors(self) -> Mapping[str, Tensor]:
        """The tensors that determine the images, under the family's canonical names."""
        return {k: v for k, v in self.module.state_dict().items() if not k.endswith("num_batches_tracked")}

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the layer's features are the x with which its stage ends, so that a restart may skip the stage."""
        return True

    # -- passes --------------------------------------------------------------------------------------------

    def __call__(self, codes: Codes, edits: Sequence[Edit] | Edit = ()) -> Tensor:
        """Return images float32 [N, 3, R, R] in [-1, 1] (not clamped), with ``edits`` applied in order."""
        return self._run(codes, (), edits).images

    def capture(self, codes: Codes, layers: Sequence[str] | str, edits: Sequence[Edit] | Edit = ()) -> Capture:
        """Return images and the features of ``layers`` from one forward pass."""
        return self._run(codes, (layers,) if isinstance(layers, str) else tuple(layers), edits)

    def features(
        self, codes: Codes, layers: Sequence[str] | str, edits: Sequence[Edit] | Edit = ()
    ) -> dict[str, Tensor]:
        """Return features [N, U, h, w] of ``layers`` as :meth:`capture` does, but run nothing that comes after them."""
        names = (layers,) if isinstance(layers, str) else tuple(layers)
        self._check_codes(codes)
        return self.bare_features(codes, names, self.check_edits(edits), self.recipe)

    def bare_features(
        self, codes: Codes, names: Sequence[str], edits: Sequence[Edit], always: Sequence[Edit]
    ) -> dict[str, Tensor]:
        """Return features [N, U, h, w] as :meth:`features` does, ``always`` in the place of the generator's recipe."""
        wanted = {name: self.layer(name) for name in names}
        first, changes = changes_of(self, always, codes), changes_of(self, edits, codes, always)
        kept = tuple(place.name for place in wanted.values())
        with self._passing(), self.changed((*always, *edits)):
            state = self.begin(codes)
            with instrument(self._sites, kept, changes, self.works_in_place, first) as found:
                for stage in self.stages[: 1 + max((place.stage for place in wanted.values()), default=-1)]:
                    state = stage(state)
        return {name: found[place.name] for name, place in wanted.items()}

    @contextmanager
    def _passing(self, gradient: bool = False) -> Iterator[None]:
        with self.lock, torch.set_grad_enabled(gradient), whole_float32():
            torch.get_num_threads()  # else a new thread's first matrix product ignores set_num_threads, and rounds anew
            yield

    @contextmanager
    def changed(self, edits: Sequence[Edit]) -> Iterator[None]:
        """Put the weights that edits change in their place within the block; the pass that runs there holds the lock.

        The last few sets of changed weights are kept: batches of one experiment come one after the other.
        """
        chosen = tuple(edit for edit in edits if isinstance(edit, WeightEdit) and not edit.idle)
        known: dict[tuple[WeightEdit, ...], dict[str, Tensor]] = vars(self).setdefault("_changed", {})
        weights = known.pop(chosen, None) if chosen else {}
        if weights is None:
            every = dict(self.module.named_parameters(remove_duplicate=False))  # a weight may be that of two modules
            weights = changed_weights(every, list(chosen))
        if chosen:
            known[chosen] = weights
            for old in list(known)[:-CHANGED]:
                del known[old]
        with exchanged(self.module, weights):
            yield

    def _run(self, codes: Codes, names: tuple[str, ...], edits: Sequence[Edit] | Edit) -> Capture:
        self._check_codes(codes)
        wanted = {self.layer(name).name: self.layer(name) for name in names}
        edits = self.check_edits(edits)
        first, changes = changes_of(self, self.recipe, codes), changes_of(self, edits, codes, self.recipe)
        restarts: dict[str, tuple[int, State]] = {}
        with self._passing(), self.changed((*self.recipe, *edits)):
            state = self.begin(codes)
            with instrument(self._sites, tuple(wanted), changes, self.works_in_place, first) as features:
                for index, stage in enumerate(self.stages):
                    before, state = state, stage(state)
                    for name, layer in wanted.items():
                        if layer.stage != index:
                            continue
                        if name not in features:
                            raise GanatomyError(f"layer {name!r} did not run in this pass of {self.name}")
                        if self.ends_stage(layer):
                            restarts[name] = (index + 1, replace(state, x=features[name]))
                        else:
                            restarts[name] = (index, before)
            images = self.finish(state)
        called = {name: self.layer(name).name for name in names}  # people find what they asked for
        features = {name: features[ours] for name, ours in called.items()}
        return Capture(images, features, edits, {name: restarts[ours] for name, ours in called.items()})

    def resume(
        self,
        capture: Capture,
        layer: str,
        features: Tensor | np.ndarray | None = None,
        edits: Sequence[Edit] | Edit = (),
        gradient: bool = False,
    ) -> Tensor:
        """Run the rest of a captured pass from ``layer`` on.

        ``resume(capture(codes, l, edits), l, edits=edits) == G(codes, edits)`` bit for bit.

        Args:
            capture: what :meth:`capture` returned for this layer.
            layer: where to restart. An edit of the weights that make this very layer means that all is run again.
            features: [N, U, h, w] in place of the captured ones (which have a bundle's own recipe).
            edits: edits at this layer or later; earlier ones only if they were active in the capture.
            gradient: keep what it takes to differentiate the images by ``features``.

        Raises:
            GanatomyError: for an edit that acts before the layer; it names the earliest possible layer.
        """
        place = self.layer(layer)
        if layer not in capture.restarts:
            raise GanatomyError(f"layer {layer!r} was not captured; captured: {', '.join(capture.restarts) or 'none'}")
        active = self.check_edits(edits)
        order = {known.name: index for index, known in enumerate(self.layers)}
        asked, layer = layer, place.name
        new = [e for e in active if e not in capture.edits]
        if any(isinstance(e, WeightEdit) and e.layer == layer for e in new):
            return self._run_again(capture, asked, features, active, gradient)
        early = [e for e in new if order[e.layer] < order[layer]]
        if early:
            first = min(early, key=lambda e: order[e.layer]).layer
            raise GanatomyError(f"an edit acts at {first!r}, before {layer!r}; resume from {first!r} or earlier")
        captured = capture.features[asked]
        current = captured if features is None else torch.as_tensor(features).to(captured)
        if current.shape != captured.shape:
            raise GanatomyError(f"layer {layer!r}: expected features {list(captured.shape)}, got {list(current.shape)}")
        start, state = capture.restarts[asked]
        codes = state.codes
        ours = changes_of(self, self.recipe, codes)  # the captured features have it
        changes = changes_of(self, [e for e in active if order[e.layer] >= order[layer]], codes, self.recipe)
        weights = [e for e in capture.edits if order[e.layer] <= order[layer]]
        weights += [e for e in active if order[e.layer] > order[layer]]
        # What bypasses the layer must see the capture's earlier edits too, where the whole stage runs again. Other
        # images, which these may take features from, are made here: below, the weights are exchanged already.
        again = [e for e in capture.edits if self.layer(e.layer).stage == start and order[e.layer] < order[layer]]
        earlier = {} if self.ends_stage(place) else changes_of(self, again, codes, self.recipe)
        with self._passing(gradient), self.changed((*self.recipe, *weights)):
            if self.ends_stage(place):
                for change in changes.pop(layer, []):
                    current = change(current)
                state = replace(state, x=current)
            else:
                changes |= earlier
                changes[layer] = [lambda _: current.clone(), *changes.get(layer, [])]
            with instrument(self._sites, (), changes, first=ours):
                for stage in self.stages[start:]:
                    state = stage(state)
            return self.finish(state)

    def _run_again(
        self, capture: Capture, layer: str, features: object, edits: tuple[Edit, ...], gradient: bool
    ) -> Tensor:
        """Return what :meth:`resume` does where other weights make the layer itself: its captured features are void."""
        if features is not None or gradient:
            raise GanatomyError(f"features of {layer!r} were given, and an edit of the weights that make them")
        order = {known.name: index for index, known in enumerate(self.layers)}
        here = order[self.layer(layer).name]
        held = [e for e in capture.edits if order[e.layer] < here + isinstance(e, WeightEdit)]
        held += [e for e in edits if order[e.layer] >= here and not (isinstance(e, WeightEdit) and e in held)]
        return self._run(capture.restarts[layer][1].codes, (), held).images

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; GanatomyError with the nearest names, or why it is no layer."""
        if name in self._not_layers:
            raise GanatomyError(f"{name!r} is not a layer: {self._not_layers[name]}; expected a 4-D map [N, U, h, w]")
        ours = self._aliases.get(name, name)
        if ours not in self._by_name:
            raise unknown_name("layer", name, self._by_name)
        return self._by_name[ours]

    def default_layers(self) -> list[str]:
        """Names of the layers that are dissected when none are named."""
        return [layer.name for layer in self.layers if layer.default]

    def check_edits(self, edits: Sequence[Edit] | Edit) -> tuple[Edit, ...]:
        """Return edits under this generator's own layer names.

        Raises:
            GanatomyError: for unknown layers and units, masks and maps of another shape, another generator's recipe.
        """
        if isinstance(edits, Recipe):
            edits.check(self)
        chosen = (edits,) if isinstance(edits, Edit) else tuple(edits)
        chosen = tuple(replace(edit, layer=self.layer(edit.layer).name) for edit in chosen)
        for edit in chosen:
            layer = self.layer(edit.layer)
            if isinstance(edit, WeightEdit):
                check_weight(self, edit)
            else:
                edit.check(layer.channels, (layer.height, layer.width))
        return chosen

    def _check_codes(self, codes: Codes) -> None:
        if codes.z is not None and codes.z.shape[1:] != (self.z_dim,):
            raise GanatomyError(f"{self.name}: expected codes with z [N, {self.z_dim}], got {list(codes.z.shape)}")

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    # -- identity ------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the family, its configuration and the canonical tensors: the same weights, the same hash."""
        with self.lock:
            return identity_of([self.family, self.configuration], self.canonical_tensors())


__all__ = ["KINDS", "Capture", "Generator", "Layer", "State"]
