"""DCGAN (Radford et al., 2016) as the common ``main.{i}`` state dict: transposed convs, batch norm, ReLU, tanh."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from .sequential import SequentialGenerator

FAMILY = "dcgan"
FLAVOUR = "main"


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has this layout: ``main.0.weight`` is 4-D and ``main.1.running_mean`` follows it."""
    first = tensors.get("main.0.weight")
    return first is not None and first.ndim == 4 and "main.1.running_mean" in tensors


def build(tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """Build the network whose sizes are those of the tensors, and load them.

    Convs sit at 0, 3, 6, ...; the first has stride 1 and no padding, the others stride 2 and padding 1; batch
    norm (eps 1e-5) and ReLU follow each but the last, which is followed by tanh.

    Raises:
        GanatomyError: for missing, extra or mis-shaped keys, naming them.
    """
    positions = sorted(int(m[1]) for key in tensors if (m := re.fullmatch(r"main\.(\d+)\.weight", key)))
    convs = [i for i in positions if i % 3 == 0]
    modules: list[nn.Module] = []
    for index in range(0, max(convs) + 1, 3):
        weight = tensors.get(f"main.{index}.weight")
        if weight is None:
            raise GanatomyError(f"checkpoint lacks main.{index}.weight, expected a conv every third index (DCGAN)")
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            raise GanatomyError(f"main.{index}.weight is {list(weight.shape)}, expected [in, out, k, k] (DCGAN)")
        inputs, outputs, kernel, _ = weight.shape
        stride, padding = (1, 0) if index == 0 else (2, 1)
        bias = f"main.{index}.bias" in tensors
        modules.append(nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias))
        modules += [nn.Tanh()] if index == max(convs) else [nn.BatchNorm2d(outputs), nn.ReLU()]
    network = nn.Sequential(*modules)
    load_exactly(network, {key.removeprefix("main."): value for key, value in tensors.items()}, "main.")
    return network


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Load every tensor or refuse, naming the first keys that are missing, extra or mis-shaped."""
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - tensors.keys() - counters)
    extra = sorted(tensors.keys() - expected.keys())
    shapes = [k for k in expected if k in tensors and expected[k].shape != tensors[k].shape]
    for problem, keys in (("lacks", missing), ("has the unexpected key", extra)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise GanatomyError(f"checkpoint {problem} {', '.join(prefix + k for k in keys[:3])}{more}")
    if shapes:
        key = shapes[0]
        raise GanatomyError(
            f"checkpoint: {prefix}{key} is {list(tensors[key].shape)}, expected {list(expected[key].shape)}"
        )
    network.load_state_dict({k: v.to(expected[k].dtype) for k, v in tensors.items()}, strict=False)


def generator(
    tensors: Mapping[str, Tensor], name: str, device: str | torch.device = "cpu", file_sha256: str | None = None
) -> SequentialGenerator:
    """Return the generator of a recognised state dict."""
    network = build(tensors)
    first = network[0]
    assert isinstance(first, nn.ConvTranspose2d)
    return SequentialGenerator(
        [(f"main.{index}", module) for index, module in enumerate(network)],
        name=name,
        family=FAMILY,
        flavour=FLAVOUR,
        module=network,
        z_dim=first.in_channels,
        device=device,
        file_sha256=file_sha256,
        configuration={"layout": "transposed convs, batch norm, ReLU, tanh"},
    )
