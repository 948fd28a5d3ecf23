"""Generators that are one chain of modules: every module is a stage, and its output is a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..hooks import Site
from .base import Generator, Layer, State
from .codes import Codes

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.PReLU, nn.Softplus)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
CONVS = (nn.modules.conv._ConvNd,)


def kind_of(module: nn.Module) -> str:
    """Return the kind of layer that a module makes: conv, norm, activation or block."""
    for kind, classes in (("conv", CONVS), ("norm", NORMS), ("activation", ACTIVATIONS)):
        if isinstance(module, classes):
            return kind
    return "block"


class SequentialGenerator(Generator):
    """A chain ``z [N, z_dim] -> [N, z_dim, 1, 1] -> module -> ... -> image``.

    Args:
        chain: (layer name, module) in order; the last one's output is the image.
        Everything else as in :class:`Generator`.
    """

    def __init__(
        self,
        chain: Sequence[tuple[str, nn.Module]],
        *,
        name: str,
        family: str,
        flavour: str,
        module: nn.Module,
        z_dim: int,
        device: str | torch.device = "cpu",
        file_sha256: str | None = None,
        configuration: Mapping[str, object] | None = None,
        defaults: Sequence[str] | None = None,
    ) -> None:
        self._chain = list(chain)
        module.eval()
        with torch.no_grad():
            shapes, x = [], torch.zeros(1, z_dim, 1, 1)
            for _, stage in self._chain:
                x = stage(x)
                shapes.append(tuple(x.shape[1:]))
        kinds = [kind_of(stage) for _, stage in self._chain]
        last = {shapes[i][1]: i for i in range(len(shapes)) if kinds[i] == "activation" and i < len(shapes) - 1}
        chosen = {self._chain[i][0] for side, i in last.items() if side >= 4} if defaults is None else set(defaults)
        layers = [
            Layer(key, *shapes[i], kind=kinds[i], stage=i, default=key in chosen)
            for i, (key, _) in enumerate(self._chain)
        ]
        super().__init__(
            name=name,
            family=family,
            flavour=flavour,
            module=module,
            sites={key: Site(stage) for key, stage in self._chain},
            layers=layers,
            resolution=shapes[-1][1],
            z_dim=z_dim,
            device=device,
            file_sha256=file_sha256,
            configuration=configuration,
        )

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per module."""
        return [lambda state, stage=stage: replace(state, x=stage(state.x)) for _, stage in self._chain]

    def begin(self, codes: Codes) -> State:
        """Start from z as a one-pixel map."""
        assert codes.z is not None, "these families have no w"
        return State(codes, codes.z.to(self.device)[:, :, None, None])

    def finish(self, state: State) -> Tensor:
        """The last map is the image."""
        assert state.x is not None
        return state.x
