"""Chains of strided convolutions: the discriminator of DCGAN (Radford et al., ICLR 2016).

``main.*`` as in PyTorch's example: convolutions of 4x4, stride 2, each but the first and the last with batch norm,
leaky ReLUs of slope 0.2; the last one takes what is left of the map to one number. A sigmoid at the end is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from segmodels import GanatomyError

KEY = re.compile(r"(?:main|net|model)\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)")
KERNEL = 4
Tensors = Mapping[str, Tensor]


def of_main(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the tensors by ``NUMBER.NAME``, None if they are no such chain, or make images rather than scores."""
    found = {f"{m[1]}.{m[2]}": value for key, value in tensors.items() if (m := KEY.fullmatch(key))}
    kernels = [found[f"{n}.weight"] for n in _numbers(found) if found[f"{n}.weight"].ndim == 4]
    if len(found) != len(tensors) or len(kernels) < 2:
        return None
    scores = len(kernels[-1]) == 1 and kernels[0].shape[1] in (1, 3)
    joined = all(a.shape[0] == b.shape[1] for a, b in pairwise(kernels))
    return found if scores and joined else None


def build(tensors: Tensors) -> tuple[nn.Module, int]:
    """Return the network with its weights, and the resolution of its images.

    Raises:
        GanatomyError: for kernels of another size than 4 x 4, or norms that do not fit.
    """
    layers: list[nn.Module] = []
    numbers = _numbers(tensors)
    kernels = [n for n in numbers if tensors[f"{n}.weight"].ndim == 4]
    resolution = KERNEL
    for n in numbers:
        weight = tensors[f"{n}.weight"]
        if weight.ndim == 4:
            outputs, inputs, *size = weight.shape
            if size != [KERNEL, KERNEL]:
                raise GanatomyError(f"expected main.{n}.weight with a kernel of 4 x 4, it has {size[0]} x {size[1]}")
            last = n == kernels[-1]
            if layers:
                layers.append(nn.LeakyReLU(0.2))
            bias = f"{n}.bias" in tensors
            layers.append(nn.Conv2d(inputs, outputs, KERNEL, 1 if last else 2, 0 if last else 1, bias=bias))
            resolution *= 1 if last else 2
        else:
            if not layers or not isinstance(layers[-1], nn.Conv2d) or n > kernels[-1]:
                raise GanatomyError(f"expected main.{n} right after a convolution that is not the last")
            layers.append(nn.BatchNorm2d(layers[-1].out_channels))
        _fill(layers[-1], n, tensors)
    return _Chain(layers), resolution


class _Chain(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N]; there are no labels."""
        return self.layers(images).flatten()


def _numbers(tensors: Tensors) -> list[int]:
    return sorted({int(key.partition(".")[0]) for key in tensors if key.endswith(".weight")})


def _fill(layer: nn.Module, number: int, tensors: Tensors) -> None:
    state = layer.state_dict()
    given = {key: tensors[f"{number}.{key}"] for key in state if f"{number}.{key}" in tensors}
    for key, wanted in state.items():
        if key == "num_batches_tracked":
            given[key] = wanted  # of training alone, whatever the file has
        elif key not in given:
            raise GanatomyError(f"main.{number}.{key} is missing")
        elif given[key].shape != wanted.shape:
            raise GanatomyError(f"expected main.{number}.{key} {list(wanted.shape)}, got {list(given[key].shape)}")
    layer.load_state_dict({key: value.to(state[key].dtype) for key, value in given.items()})
