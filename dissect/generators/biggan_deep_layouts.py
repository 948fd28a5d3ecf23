"""How BigGAN-deep is stored: by the Hugging Face port, each weight beside the two vectors of its spectral norm.

Key names and axis orders are facts of the public repository huggingface/pytorch-pretrained-BigGAN.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .biggan_deep_network import CONVS
from .layouts import Change, Layout, Place, permuted, same

MAX_PLACES = 32  # of blocks and an attention; the largest published network has 15
ATTENTION = ("theta", "phi", "g", "o")
COLORS = 3
SAME: tuple[Change, Change] = (same, same)


def _start_weight(tensor: Tensor) -> Tensor:
    if tensor.ndim != 2:
        raise IndexError("expected two axes")
    return tensor.reshape(4, 4, -1, tensor.shape[1]).permute(3, 2, 0, 1)


def _start_bias(tensor: Tensor) -> Tensor:
    if tensor.ndim != 1:
        raise IndexError("expected one axis")
    return tensor.reshape(4, 4, -1).permute(2, 0, 1)


START: tuple[Change, Change] = (_start_weight, lambda t: t.permute(2, 3, 1, 0).flatten(0, 2))
START_BIAS: tuple[Change, Change] = (_start_bias, lambda t: t.permute(1, 2, 0).flatten())
START_U: tuple[Change, Change] = (
    lambda t: _start_bias(t).flatten(),
    lambda t: START_BIAS[1](t.reshape(-1, 4, 4)),
)


def _normalised(
    name: str, key: str, weight: tuple[Change, Change] = SAME, u: tuple[Change, Change] = SAME
) -> Iterator[Place]:
    yield Place(f"{name}.weight", f"{key}.weight_orig", *weight)
    yield Place(f"{name}.u", f"{key}.weight_u", *u)
    yield Place(f"{name}.v", f"{key}.weight_v")


def _places() -> Iterator[Place]:
    yield Place("embeddings.weight", "embeddings.weight", *permuted(1, 0))
    yield from _normalised("generator.gen_z", "generator.gen_z", START, START_U)
    yield Place("generator.gen_z.bias", "generator.gen_z.bias", *START_BIAS)
    for i in range(MAX_PLACES):
        layer = f"generator.layers.{i}"
        for j in range(CONVS):
            yield from _normalised(f"{layer}.conv_{j}", f"{layer}.conv_{j}")
            yield Place(f"{layer}.conv_{j}.bias", f"{layer}.conv_{j}.bias")
            for part in ("scale", "offset"):
                yield from _normalised(f"{layer}.bn_{j}.{part}", f"{layer}.bn_{j}.{part}")
            for part in ("running_means", "running_vars"):
                yield Place(f"{layer}.bn_{j}.{part}", f"{layer}.bn_{j}.{part}")
        for part in ATTENTION:
            yield from _normalised(f"{layer}.{part}", f"{layer}.snconv1x1_{part}{'_conv' if part == 'o' else ''}")
        yield Place(f"{layer}.gamma", f"{layer}.gamma", lambda t: t.reshape(()), lambda t: t.reshape(1))
    for part in ("running_means", "running_vars", "weight", "bias"):
        yield Place(f"generator.bn.{part}", f"generator.bn.{part}")
    yield from _normalised("generator.conv_to_rgb", "generator.conv_to_rgb")
    yield Place("generator.conv_to_rgb.bias", "generator.conv_to_rgb.bias")


HUGGINGFACE = Layout(
    "huggingface",
    lambda t: "embeddings.weight" in t and "generator.gen_z.weight_orig" in t and "generator.bn.running_means" in t,
    tuple(_places()),
    ignored=lambda key: key.endswith("num_batches_tracked"),
)
LAYOUTS = (HUGGINGFACE,)
