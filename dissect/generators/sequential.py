"""Generators that are one chain of modules: every module is a stage, and its output is a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site
from .base import Generator, Layer, State
from .codes import Codes
from .layers import rgb

ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.PReLU, nn.Softplus, nn.CELU,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.Softsign, nn.LogSigmoid, nn.GLU, nn.RReLU, nn.Threshold,
)  # fmt: skip
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
CONVS = (nn.modules.conv._ConvNd,)
SMALLEST_DEFAULT = 4  # maps below 4 x 4 say nothing about where


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
        inputs: how many numbers the first module takes, where that is not z_dim alone.
        Everything else as in :class:`Generator`.
    """

    chained = True

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
        inputs: int | None = None,
        num_classes: int | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._chain = list(chain)
        module.eval()
        with torch.no_grad():
            shapes, x = [], torch.zeros(1, inputs or z_dim, 1, 1)
            for _, stage in self._chain:
                x = stage(x)
                shapes.append(tuple(x.shape[1:]))
        kinds = [kind_of(stage) for _, stage in self._chain]
        last = {shapes[i][1]: i for i in range(len(shapes)) if kinds[i] == "activation" and i < len(shapes) - 1}
        large = {self._chain[i][0] for side, i in last.items() if side >= SMALLEST_DEFAULT}
        chosen = large if defaults is None else set(defaults)
        layers = [
            Layer(key, shapes[i][0], shapes[i][1], shapes[i][2], kinds[i], i, key in chosen)
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
            num_classes=num_classes,
            device=device,
            file_sha256=file_sha256,
            configuration=configuration,
            aliases=aliases,
        )

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per module."""

        def run(module: nn.Module) -> Callable[[State], State]:
            return lambda state: replace(state, x=module(state.x))

        return [run(module) for _, module in self._chain]

    def begin(self, codes: Codes) -> State:
        """Start from z as a one-pixel map."""
        if codes.z is None:
            raise GanatomyError(f"{self.name} ({self.family}) needs codes with z")
        return State(codes, codes.z.to(self.device)[:, :, None, None])

    def finish(self, state: State) -> Tensor:
        """The last map is the image."""
        assert state.x is not None
        return rgb(state.x)
