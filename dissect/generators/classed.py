"""What the BigGAN line shares: a truncated normal latent, classes and their embedding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site
from .base import Generator, Layer, State
from .codes import Codes, as_classes

BOUND = 2.0  # of a truncated normal number before it is multiplied, as in the released models


class ClassGenerator(Generator):
    """A generator of classes whose latent may be truncated.

    With truncation t below 1, what is drawn from a seed is a normal number within ±2 (others are drawn again from the
    seed's state, after everything else), and passes multiply z by t (Brock et al., ICLR 2019; the released models).
    ``Codes.z`` is what was drawn, not yet multiplied. An explicit z is only multiplied. ``Codes.w`` [N, 1, D] may hold
    an embedding in place of the class's own: means of several classes' embeddings are their mixtures.
    """

    truncates = True
    redrawn_above = BOUND
    _stages: list[Callable[[State], State]]
    _places: dict[str, Site]
    _ends: set[str]  # layers with whose output a stage ends

    def _add(
        self,
        found: list[Layer],
        parts: Sequence[tuple[str, nn.Module, int, str]],
        side: int,
        run: Callable[[State], State],
    ) -> None:
        """Add a stage and its layers (name, module, units, kind), of which the last is what it ends with."""
        for name, module, units, kind in parts:
            found.append(Layer(name, units, side, side, kind, len(self._stages), False))
            self._places[name] = Site(module)
        self._ends.add(parts[-1][0])
        self._stages.append(run)

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The first layer; the parts of each block; attention; the last norm with its ReLU; the last convolution."""
        return self._stages

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output."""
        return layer.name in self._ends

    def map(
        self,
        z: Tensor | np.ndarray,
        classes: Sequence[int] | Tensor | int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | Sequence[int] = "const",
    ) -> Codes:
        """Return codes from explicit latents ``z`` [N, z_dim], which passes multiply by ``truncation``."""
        real = isinstance(truncation, (int, float, np.integer, np.floating)) and not isinstance(truncation, bool)
        if not real or not 0 < truncation <= 1:
            raise GanatomyError(f"{self.name}: expected truncation above 0 and at most 1, got {truncation!r}")
        if cutoff is not None:
            raise GanatomyError(f"{self.name} ({self.family}) truncates all of z; use cutoff=None")
        return super().map(z, classes, float(truncation), cutoff, noise)

    def embedding(self, classes: Sequence[int] | Tensor | int) -> Tensor | None:
        """Return the embeddings float32 [N, D] of N classes, or None where every batch norm has its own.

        Codes take them as w [N, 1, D].

        Raises:
            GanatomyError: for what is no class of this generator.
        """
        assert self.num_classes is not None  # all of this line have classes
        count = classes.numel() if isinstance(classes, Tensor) else int(np.size(classes))
        return self.embedded(as_classes(classes, count, self.num_classes, self.name).to(self.device))

    @abstractmethod
    def embedded(self, classes: Tensor) -> Tensor | None:
        """Return the embeddings [N, D] of classes int64 [N] on the device, or None: see :meth:`embedding`."""

    def begin(self, codes: Codes) -> State:
        """Return codes on the device with z multiplied by the truncation at use, and the embedding as w [N, 1, D]."""
        if codes.z is None or (codes.classes is None and codes.w is None):
            raise GanatomyError(f"{self.name} ({self.family}) needs codes with z and classes")
        classes = None if codes.classes is None else codes.classes.to(self.device)
        w = codes.w
        if w is None:
            assert classes is not None
            own = self.embedded(classes)
            w = None if own is None else own[:, None]
        else:
            known = self.embedded(torch.zeros(1, dtype=torch.int64, device=self.device))
            width = None if known is None else known.shape[1]
            if w.shape != (len(codes.z), 1, width):
                wanted = "no w" if width is None else f"w [N, 1, {width}]"
                raise GanatomyError(f"{self.name}: expected codes with {wanted}, got {list(w.shape)}")
        return State(
            replace(codes, z=codes.z.to(self.device), classes=classes, w=None if w is None else w.to(self.device))
        )


def joined(layers: Sequence[Layer]) -> set[str]:
    """Return the last map of each resolution in which branches have come together; of the first layer its own.

    These are the defaults: nothing runs past such a map, so that a unit that is cut there is gone.
    """
    whole = [layer for layer in layers if layer.kind == "block" or layer.stage == 0]
    return set({layer.height: layer.name for layer in whole}.values())


def latent(state: State) -> Tensor:
    """Return what enters the network, [N, z_dim]."""
    assert state.codes.z is not None
    return state.codes.z * state.codes.truncation
