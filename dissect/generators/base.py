"""The contract of a generator: layers, stages over a state, capture, resume, the lock and the fingerprint."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import unknown_name

from ..edits import FeatureEdit
from ..exactness import whole_float32
from ..hooks import Change, Site, instrument, lock_of, with_own_modules
from .codes import NO_NOISE, NOISE_MODES, Codes, as_classes, as_latents, check_seeds, draw
from .layers import KINDS, Capture, Layer, State

if TYPE_CHECKING:
    from .family import Fact, Origin


class Generator(ABC):
    """A pretrained image generator as a list of stages over a state.

    A family implements ``stages``, ``begin`` and ``finish`` and passes its layers and their sites to
    ``__init__``. Everything people call lives here. The weights never change: edits are applied while a
    pass runs. Each pass holds ``lock``.
    """

    origin: Origin | None = None  # the file it came from
    facts: tuple[Fact, ...] = ()  # what is known and what is guessed about it
    truncates = False  # whether truncation other than 1.0 means anything
    has_noise = False  # whether noise other than "const" means anything
    works_in_place = False  # whether a later module may overwrite what an earlier one returned
    _made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Remember what it is made of, for :meth:`replica`."""
        made = super().__new__(cls)
        made._made_of = (arguments, named)
        return made

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

    # -- codes ---------------------------------------------------------------------------------------------

    def sample(
        self,
        seeds: Sequence[int] | int,
        classes: Sequence[int] | int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str = "const",
    ) -> Codes:
        """Return the codes of some seeds: seed i is ``numpy.random.RandomState(i).randn(z_dim)``.

        Args:
            seeds: integers in 0..2^32 - 1.
            classes: one class or one per seed; drawn from the seed's state when the model has classes and
                none are given.
            truncation, cutoff: refused (other than 1.0 and None) by families without truncation.
            noise: ``"const"`` uses the stored noise, ``"random"`` a noise seed drawn from the seed's state,
                ``"none"`` no noise.
        """
        chosen = check_seeds(seeds)
        self._check_noise(noise)
        z, drawn, noise_seeds = draw(chosen, self.z_dim, self.num_classes, classes is None, noise == "random")
        given = self._classes(classes, len(chosen)) if classes is not None else drawn
        codes = self.map(z, given, truncation, cutoff, "none" if noise == "none" else "const")
        return replace(codes, noise=codes.noise if noise_seeds is None else noise_seeds, seeds=chosen)

    def map(
        self,
        z: Tensor | np.ndarray,
        classes: Sequence[int] | Tensor | int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | Sequence[int] = "const",
    ) -> Codes:
        """Return codes from explicit latents ``z`` [N, z_dim] (float; finite).

        Args:
            noise: ``"const"``, ``"none"``, or one noise seed per latent.
        """
        values = as_latents(z, self.z_dim, self.name)
        if (truncation != 1.0 or cutoff is not None) and not self.truncates:
            raise GanatomyError(f"{self.name} ({self.family}) has no truncation; use truncation=1.0")
        given, seeds = self._classes(classes, len(values)), self._noise_seeds(noise, len(values))
        return Codes(values, classes=given, noise=seeds, truncation=truncation, cutoff=cutoff)

    def codes(self, w: Tensor | np.ndarray | str | Path, noise: str | Sequence[int] = "const") -> Codes:
        """Return codes from intermediate latents; GanatomyError for families that have none."""
        raise GanatomyError(f"{self.name} ({self.family}) has no intermediate latent space; use map(z)")

    def _check_noise(self, noise: str) -> None:
        if noise not in NOISE_MODES:
            raise unknown_name("noise mode", noise, NOISE_MODES)
        if noise != "const" and not self.has_noise:
            raise GanatomyError(f"{self.name} ({self.family}) has no noise inputs; use noise='const'")

    def _noise_seeds(self, noise: str | Sequence[int], samples: int) -> Tensor | None:
        """Return int64 [N] of what ``map`` and ``codes`` were given, or None for constant noise."""
        if isinstance(noise, str):
            self._check_noise(noise)
            if noise == "random":
                raise GanatomyError(f"{self.name}: explicit latents have no seeds; give one noise seed for each")
            return torch.full((samples,), NO_NOISE) if noise == "none" else None
        self._check_noise("random")
        seeds = check_seeds(noise)
        if len(seeds) != samples:
            raise GanatomyError(f"{self.name}: {samples} latents but {len(seeds)} noise seeds")
        return torch.tensor(seeds)

    def _classes(self, classes: Sequence[int] | Tensor | int | None, samples: int) -> Tensor | None:
        if classes is None:
            if self.num_classes:
                raise GanatomyError(f"{self.name} has {self.num_classes} classes; say which with classes=")
            return None
        if not self.num_classes:
            raise GanatomyError(f"{self.name} has no classes, got classes={classes!r}")
        return as_classes(classes, samples, self.num_classes, self.name)

    # -- passes --------------------------------------------------------------------------------------------

    def __call__(self, codes: Codes, edits: Sequence[FeatureEdit] | FeatureEdit = ()) -> Tensor:
        """Return images float32 [N, 3, R, R] in [-1, 1] (not clamped), with ``edits`` applied in order."""
        return self._run(codes, (), edits).images

    def capture(
        self, codes: Codes, layers: Sequence[str] | str, edits: Sequence[FeatureEdit] | FeatureEdit = ()
    ) -> Capture:
        """Return images and the features of ``layers`` from one forward pass."""
        return self._run(codes, (layers,) if isinstance(layers, str) else tuple(layers), edits)

    @contextmanager
    def _passing(self) -> Iterator[None]:
        with self.lock, torch.no_grad(), whole_float32():
            torch.get_num_threads()  # else a new thread's first matrix product ignores set_num_threads, and rounds anew
            yield

    def _run(self, codes: Codes, names: tuple[str, ...], edits: Sequence[FeatureEdit] | FeatureEdit) -> Capture:
        if codes.z is not None and codes.z.shape[1:] != (self.z_dim,):
            raise GanatomyError(f"{self.name}: expected codes with z [N, {self.z_dim}], got {list(codes.z.shape)}")
        wanted = {self.layer(name).name: self.layer(name) for name in names}
        edits = self._check_edits(edits)
        restarts: dict[str, tuple[int, State]] = {}
        with self._passing():
            state = self.begin(codes)
            with instrument(self._sites, tuple(wanted), _by_layer(edits), copy=self.works_in_place) as features:
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
        edits: Sequence[FeatureEdit] | FeatureEdit = (),
    ) -> Tensor:
        """Run the rest of a captured pass from ``layer`` on.

        ``resume(capture(codes, l, edits), l, edits=edits) == G(codes, edits)`` bit for bit.

        Args:
            capture: what :meth:`capture` returned for this layer.
            layer: where to restart.
            features: [N, U, h, w] in place of the captured ones.
            edits: edits at this layer or later; earlier ones only if they were active in the capture.

        Raises:
            GanatomyError: for an edit that acts before the layer; it names the earliest possible layer.
        """
        place = self.layer(layer)
        if layer not in capture.restarts:
            raise GanatomyError(f"layer {layer!r} was not captured; captured: {', '.join(capture.restarts) or 'none'}")
        active = self._check_edits(edits)
        order = {known.name: index for index, known in enumerate(self.layers)}
        asked, layer = layer, place.name
        early = [e for e in active if order[e.layer] < order[layer] and e not in capture.edits]
        if early:
            first = min(early, key=lambda e: order[e.layer]).layer
            raise GanatomyError(f"an edit acts at {first!r}, before {layer!r}; resume from {first!r} or earlier")
        captured = capture.features[asked]
        current = captured if features is None else torch.as_tensor(features).to(captured)
        if current.shape != captured.shape:
            raise GanatomyError(f"layer {layer!r}: expected features {list(captured.shape)}, got {list(current.shape)}")
        start, state = capture.restarts[asked]
        changes = _by_layer([e for e in active if order[e.layer] >= order[layer]])
        with self._passing():
            if self.ends_stage(place):
                for change in changes.pop(layer, []):
                    current = change(current)
                state = replace(state, x=current)
            else:
                # The whole stage runs again. What bypasses the layer must see the capture's earlier edits too.
                again = [e for e in capture.edits if self.layer(e.layer).stage == start]
                changes |= _by_layer([e for e in again if order[e.layer] < order[layer]])
                changes[layer] = [lambda _: current.clone(), *changes.get(layer, [])]
            with instrument(self._sites, (), changes):
                for stage in self.stages[start:]:
                    state = stage(state)
            return self.finish(state)

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

    def _check_edits(self, edits: Sequence[FeatureEdit] | FeatureEdit) -> tuple[FeatureEdit, ...]:
        chosen = (edits,) if isinstance(edits, FeatureEdit) else tuple(edits)
        chosen = tuple(replace(edit, layer=self.layer(edit.layer).name) for edit in chosen)
        for edit in chosen:
            layer = self.layer(edit.layer)
            if edit.units and edit.units[-1] >= layer.channels:
                raise GanatomyError(
                    f"layer {layer.name!r} has units 0..{layer.channels - 1}, the edit names {edit.units[-1]}"
                )
        return chosen

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    # -- several at a time ---------------------------------------------------------------------------------

    def replicas(self, count: int) -> list[Self]:
        """Return this generator and ``count - 1`` replicas, or only this one if copies of its network go wrong."""
        known: list[Self] | None = vars(self).setdefault("_replicas", [])
        if known is None:
            return [self]
        while len(known) < count - 1:
            other = self._checked_replica()
            if other is None:
                vars(self)["_replicas"] = None  # it would go wrong again
                return [self]
            known.append(other)
        chosen = known[: max(0, count - 1)]
        for other in chosen:
            for ours, theirs in zip(self.module.buffers(), other.module.buffers(), strict=True):
                theirs.copy_(ours)
        return [self, *chosen]

    def _checked_replica(self) -> Self | None:
        """Return a replica that gives the bits of this generator, or None if there can be none."""
        try:
            with torch.random.fork_rng(devices=[]):  # a network that draws its own noise must not notice
                other = self.replica()
                if other.layers != self.layers:
                    return None
                codes, layers = self.sample([0]), self.default_layers()
                one, two = (generator.capture(codes, layers) for generator in (self, other))
        except MemoryError:
            raise
        except Exception:  # whatever a stranger's module does when it is copied, or its copy when it is called
            return None
        same = torch.equal(one.images, two.images)
        return other if same and all(torch.equal(one.features[name], two.features[name]) for name in layers) else None

    def replica(self) -> Self:
        """Return another generator over the same parameters, whose passes may run at the same time as this one's.

        Hooks sit on modules and a pass holds their lock; a replica has modules and a lock of its own. Parameters are
        shared, buffers are copied.
        """
        with self.lock:
            memo: dict[int, Any] = {id(value): value for value in self.module.parameters()}
            arguments, named = with_own_modules(self._made_of, memo)
            other = type(self)(*arguments, **named)
        # What was set after this one was made.
        vars(other).update({k: v for k, v in vars(self).items() if k not in vars(other) and k != "_replicas"})
        return other

    # -- identity ------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the family, its configuration and the canonical tensors: the same weights, the same hash."""
        with self.lock:
            digest = hashlib.sha256()
            digest.update(json.dumps([self.family, self.configuration], sort_keys=True).encode())
            for key, tensor in sorted(self.canonical_tensors().items()):
                exact = tensor.detach().cpu()
                array = np.ascontiguousarray((exact.float() if exact.is_floating_point() else exact).numpy())
                array = array.astype(array.dtype.newbyteorder("<"), copy=False)
                digest.update(f"{key}{list(array.shape)}".encode())
                digest.update(array.tobytes())
            return digest.hexdigest()


def _by_layer(edits: Sequence[FeatureEdit]) -> dict[str, list[Change]]:
    changes: dict[str, list[Change]] = {}
    for edit in edits:
        changes.setdefault(edit.layer, []).append(edit)
    return changes


__all__ = ["KINDS", "Capture", "Generator", "Layer", "State"]
