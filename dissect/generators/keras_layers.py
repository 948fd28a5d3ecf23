"""Layers of Keras as modules of torch: what a chain that draws images is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

Pair = tuple[int, int]
MAX_SIDE = 64  # of a kernel, a stride, a repetition


class SameConvTranspose(nn.ConvTranspose2d):
    """A transposed convolution of which rows and columns are cut off, fewer before than after where it is odd."""

    def __init__(self, inputs: int, outputs: int, kernel: Pair, strides: Pair, cut: bool, bias: bool) -> None:
        spare = [max(k - s, 0) if cut else 0 for k, s in zip(kernel, strides, strict=True)]
        before = (spare[0] // 2, spare[1] // 2)
        missing = (max(strides[0] - kernel[0], 0), max(strides[1] - kernel[1], 0))
        super().__init__(inputs, outputs, kernel, strides, before, output_padding=missing, bias=bias)
        self.grows = strides
        self.after = (spare[0] - 2 * before[0], spare[1] - 2 * before[1])

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Return [N, C, h, w]."""
        x = super().forward(x, output_size)
        return x[..., : x.shape[2] - self.after[0], : x.shape[3] - self.after[1]].contiguous()


class Resting(nn.Module):
    """A layer that does something in training only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class Reshape(nn.Module):
    """A vector as a map, whose channels come last in memory."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.shape, self.grows = (height, width, channels), (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, channels, height, width] of [N, height * width * channels]."""
        return x.reshape(len(x), *self.shape).permute(0, 3, 1, 2).contiguous()


class Upsampling(nn.Module):
    """Every pixel repeated."""

    def __init__(self, size: Pair) -> None:
        super().__init__()
        self.grows = size

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, grows[0] h, grows[1] w]."""
        return x.repeat_interleave(self.grows[0], 2).repeat_interleave(self.grows[1], 3)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU, "selu": nn.SELU, "softplus": nn.Softplus,
    "linear": Resting,
}  # fmt: skip
RESTING = ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization")


def activation(name: object) -> nn.Module:
    """Return the module of an activation that a description names."""
    if str(name) not in ACTIVATIONS:
        raise GanatomyError(f"the activation {name!r:.40} is not known; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[str(name)]()


def module_of(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], flat: bool) -> nn.Module:
    """Return one layer.

    Args:
        kind: its class in Keras.
        config: as described.
        tensors: its own, under torch's names.
        flat: whether it works on a vector.

    Raises:
        GanatomyError: for what is not known here.
    """
    for name, wanted in (("data_format", "channels_last"), ("groups", 1)):
        if config.get(name, wanted) != wanted:
            raise GanatomyError(f"a {kind} with {name}={config[name]!r:.40} is not supported, expected {wanted!r}")
    weight, bias = tensors.get("weight"), "bias" in tensors
    if kind in RESTING:
        return Resting()
    if kind == "Activation":
        return activation(config.get("activation"))
    if kind in ("ReLU", "LeakyReLU"):
        if config.get("max_value") is not None or config.get("threshold"):
            raise GanatomyError(f"a {kind} with a maximum or a threshold is not supported")
        default = 0.3 if kind == "LeakyReLU" else 0.0
        return nn.LeakyReLU(_number(config.get("negative_slope", config.get("alpha", default))))
    if kind == "Reshape":
        sizes = config.get("target_shape", ())
        if len(sizes) != 3 or not flat:
            raise GanatomyError(f"a Reshape to {sizes!r:.40} is not supported, expected [height, width, channels]")
        return Reshape(*(int(size) for size in sizes))
    if kind == "UpSampling2D":
        if config.get("interpolation", "nearest") != "nearest":
            raise GanatomyError(f"an UpSampling2D by {config['interpolation']!r:.40} is not supported")
        return Upsampling(pair(config.get("size", 2)))
    if kind == "BatchNormalization":
        width = len(tensors.get("running_mean", ()))
        return (nn.BatchNorm1d if flat else nn.BatchNorm2d)(width, eps=_number(config.get("epsilon", 1e-3)))
    if kind not in ("Dense", "Conv2D", "Conv2DTranspose"):
        raise GanatomyError(f"layers of the class {kind!r:.40} are not known")
    if weight is None or weight.ndim != (2 if kind == "Dense" else 4):
        raise GanatomyError(f"the file has no kernel for a {kind}")
    if kind == "Dense":
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    strides, kernel = pair(config.get("strides", 1)), (weight.shape[2], weight.shape[3])
    same = config.get("padding", "valid") == "same"
    if pair(config.get("dilation_rate", 1)) != (1, 1) or config.get("output_padding") is not None:
        raise GanatomyError(f"a {kind} with dilation or output_padding is not supported")
    if kind == "Conv2DTranspose":
        return SameConvTranspose(weight.shape[0], weight.shape[1], kernel, strides, same, bias)
    if strides != (1, 1) or (same and any(k % 2 == 0 for k in kernel)):
        raise GanatomyError("a Conv2D with strides or an even kernel is not supported")
    padding = (kernel[0] // 2, kernel[1] // 2) if same else (0, 0)
    return nn.Conv2d(weight.shape[1], weight.shape[0], kernel, padding=padding, bias=bias)


def completed(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return a layer's tensors with those that a batch norm without scale or shift does not store."""
    if kind != "BatchNormalization" or "running_mean" not in tensors:
        return dict(tensors)
    like = tensors["running_mean"]
    return {"weight": torch.ones_like(like), "bias": torch.zeros_like(like), **tensors}


def _number(value: object) -> float:
    values = value.get("config", {}).get("value") if isinstance(value, Mapping) else value  # as newer versions write it
    return float(values)  # type: ignore[arg-type]


def pair(value: object) -> Pair:
    """Return two whole numbers of a description, which may give one for both."""
    both: Any = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    numbers = int(both[0]), int(both[1])
    if not all(1 <= number <= MAX_SIDE for number in numbers):
        raise GanatomyError(f"expected two whole numbers from 1 to {MAX_SIDE}, got {value!r:.40}")
    return numbers
