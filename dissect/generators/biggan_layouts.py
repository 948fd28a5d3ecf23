"""How BigGAN is stored: by the public PyTorch code, three ways, and by the TensorFlow Hub modules as HDF5.

Key names and axis orders are facts of the public repository ajbrock/BigGAN-PyTorch and its converter.

A weight has an entry ``u0`` beside it where training divided it by its spectral norm, and ``sv0``, a number that was
only logged. Conditional batch norms keep their statistics in one of three places, by a switch of that code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from .layouts import Change, Layout, Place, Tensors, permuted, same

MAX_BLOCKS = 9  # 2,048 pixels
NORMS = ("bn1", "bn2")
CONVS = ("conv1", "conv2", "conv_sc")
ATTENTION = ("theta", "phi", "g", "o")


def _start_weight(tensor: Tensor) -> Tensor:
    if tensor.ndim != 2:
        raise IndexError("expected two axes")
    return tensor.T.reshape(tensor.shape[1], -1, 4, 4)


def _start_bias(tensor: Tensor) -> Tensor:
    if tensor.ndim != 1:
        raise IndexError("expected one axis")
    return tensor.reshape(-1, 4, 4)


START: tuple[Change, Change] = (_start_weight, lambda t: t.flatten(1).T)
START_BIAS: tuple[Change, Change] = (_start_bias, lambda t: t.flatten())


def _statistics(mean: str, variance: str) -> Iterator[Place]:
    owners = [f"blocks.{i}.0.{norm}" for i in range(MAX_BLOCKS) for norm in NORMS] + ["output_layer.0"]
    for owner in owners:
        yield Place(f"{owner}.stored_mean", f"{owner}.{mean}")
        yield Place(f"{owner}.stored_var", f"{owner}.{variance}")


def _places() -> Iterator[Place]:
    yield Place("linear.weight", "linear.weight", *START)
    yield Place("linear.bias", "linear.bias", *START_BIAS)
    plain = ["shared.weight", "linear.u0", *(f"output_layer.2.{part}" for part in ("weight", "bias", "u0"))]
    plain += ["output_layer.0.gain", "output_layer.0.bias"]
    for i in range(MAX_BLOCKS):
        plain += [f"blocks.{i}.0.{conv}.{part}" for conv in CONVS for part in ("weight", "bias", "u0")]
        plain += [
            f"blocks.{i}.0.{norm}.{half}.{part}"
            for norm in NORMS for half in ("gain", "bias") for part in ("weight", "u0")
        ]  # fmt: skip
        plain += [f"blocks.{i}.1.{conv}.{part}" for conv in ATTENTION for part in ("weight", "u0")]
        plain.append(f"blocks.{i}.1.gamma")
    yield from (Place(name, name) for name in plain)


def _is(tensors: Tensors, statistics: str) -> bool:
    wanted = ("linear.weight", "blocks.0.0.conv1.weight", "blocks.0.0.bn1.gain.weight")
    return all(key in tensors for key in wanted) and f"blocks.0.0.bn1.{statistics}" in tensors


def _ignored(key: str) -> bool:
    """Whether a key is a log or a counter."""
    return key.endswith((".sv0", "num_batches_tracked", "accumulation_counter"))


def _ajbrock(name: str, mean: str, variance: str) -> Layout:
    return Layout(
        name, lambda t: _is(t, mean), (*_places(), *_statistics(mean, variance)), ignored=_ignored,
    )  # fmt: skip


AJBROCK = _ajbrock("ajbrock", "stored_mean", "stored_var")
MYBN = _ajbrock("ajbrock-mybn", "bn.stored_mean", "bn.stored_var")
SYNC = _ajbrock("ajbrock-sync", "bn.running_mean", "bn.running_var")

# -- TensorFlow Hub --------------------------------------------------------------------------------------------

ROOT = "module/Generator"
AVERAGED = "/ema_b999900"  # averaged weights lie below the raw ones


def _last_to_first(tensor: Tensor) -> Tensor:
    """Return [C * 16, …] of rows that are a 4 x 4 map with channels last."""
    return tensor.reshape(4, 4, -1, *tensor.shape[1:]).movedim(2, 0).flatten(0, 2)


def _first_to_last(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, 4, 4, *tensor.shape[1:]).movedim(0, 2).flatten(0, 2)


def _hub_places() -> Iterator[Place]:
    conv, linear = permuted(3, 2, 0, 1), permuted(1, 0)
    squeezed: tuple[Change, Change] = (lambda t: t.flatten(), lambda t: t)

    def averaged(name: str, scope: str, part: str, change: tuple[Change, Change] = (same, same)) -> Place:
        return Place(name, f"{scope}/{part}{AVERAGED}:0", *change)

    def convolution(name: str, scope: str, bias: bool = True) -> Iterator[Place]:
        yield averaged(f"{name}.weight", scope, "w", conv)
        yield Place(f"{name}.u0", f"{scope}/u0:0")
        if bias:
            yield averaged(f"{name}.bias", scope, "b", squeezed)

    yield averaged("shared.weight", "module/linear", "w")
    scope = f"{ROOT}/G_Z/G_linear"
    yield averaged("linear.weight", scope, "w", (
        lambda t: START[0](_last_to_first(t.T)), lambda t: _first_to_last(START[1](t)).T,
    ))  # fmt: skip
    yield averaged("linear.bias", scope, "b", (
        lambda t: START_BIAS[0](_last_to_first(t)), lambda t: _first_to_last(START_BIAS[1](t)),
    ))  # fmt: skip
    yield Place(
        "linear.u0", f"{scope}/u0:0", lambda t: _last_to_first(t[0])[None], lambda t: _first_to_last(t[0])[None]
    )
    for i in range(MAX_BLOCKS):
        block, theirs = f"blocks.{i}.0", f"{ROOT}/GBlock" + (f"_{i}" if i else "")
        for name, scope in zip(CONVS, ("conv0", "conv1", "conv_sc"), strict=True):
            yield from convolution(f"{block}.{name}", f"{theirs}/{scope}")
        for name, scope in zip(NORMS, ("", "_1"), strict=True):
            for half, part in (("gain", "gamma"), ("bias", "beta")):
                yield averaged(f"{block}.{name}.{half}.weight", f"{theirs}/HyperBN{scope}/{part}", "w", linear)
                yield Place(f"{block}.{name}.{half}.u0", f"{theirs}/HyperBN{scope}/{part}/u0:0")
            for ours, statistic in (("stored_mean", "accumulated_mean"), ("stored_var", "accumulated_var")):
                key = f"{theirs}/CrossReplicaBN{scope}/{statistic}:0"
                yield Place(f"{block}.{name}.{ours}", key)
        # Which block it follows is not in the names: the reader says so.
        for name, part in zip(ATTENTION, ("theta", "phi", "g", "o_conv"), strict=True):
            yield from convolution(f"blocks.{i}.1.{name}", f"{ROOT}/attention/{part}", bias=False)
        yield averaged(f"blocks.{i}.1.gamma", f"{ROOT}/attention", "gamma")
    yield from convolution("output_layer.2", f"{ROOT}/conv_2d")
    for part, name in (("gamma", "gain"), ("beta", "bias")):
        yield averaged(f"output_layer.0.{name}", f"{ROOT}/ScaledCrossReplicaBN", part, squeezed)
    for ours, statistic in (("stored_mean", "accumulated_mean"), ("stored_var", "accumulated_var")):
        yield Place(f"output_layer.0.{ours}", f"{ROOT}/ScaledCrossReplicaBNbn/{statistic}:0")


class HubLayout(Layout):
    """The TensorFlow Hub modules: the order of conditions and the block of the attention follow from the tensors."""

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors."""
        kept = {key: tensor for key, tensor in tensors.items() if key in self.by_key}
        attention = {key: tensor for key, tensor in kept.items() if key.startswith(f"{ROOT}/attention/")}
        canonical = super().read({key: t for key, t in kept.items() if key not in attention}, beside)
        block = _attended(canonical, attention)
        for place in self.places:
            if place.key in attention and place.name.startswith(f"blocks.{block}."):
                canonical[place.name] = place.read(attention[place.key])
        return _turned(canonical, back=False)

    def write(self, canonical: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the tensors under the hub's names, nothing beside them."""
        return super().write(_turned(canonical, back=True))


def _attended(canonical: Tensors, attention: Tensors) -> int:
    """Return the block behind which the attention lies: the one with as many channels as it reads."""
    theta = attention.get(f"{ROOT}/attention/theta/w{AVERAGED}:0")
    if theta is None or theta.ndim != 4:
        return 0  # there is none, or what is wrong with it is said elsewhere
    widths = {i: canonical.get(f"blocks.{i}.0.conv2.weight") for i in range(MAX_BLOCKS)}
    fits = [i for i, weight in widths.items() if weight is not None and len(weight) == theta.shape[2]]
    return fits[0] if fits else 0


def _turned(canonical: Tensors, back: bool) -> dict[str, Tensor]:
    """Return tensors whose conditional norms read the class before z, and not z before the class; or ``back``."""
    shared = canonical.get("shared.weight")
    if shared is None or shared.ndim != 2:
        return dict(canonical)
    width = shared.shape[1]
    turned = dict(canonical)
    for name, tensor in canonical.items():
        if re.fullmatch(r"blocks\.\d+\.0\.bn[12]\.(gain|bias)\.weight", name) and tensor.ndim == 2:
            turned[name] = tensor.roll(-width if back else width, dims=1)
    return turned


HUB_EPS = 1e-4  # both epsilons of the TensorFlow Hub modules

TFHUB = HubLayout(
    "tfhub",
    lambda t: f"{ROOT}/GBlock/conv0/w{AVERAGED}:0" in t and f"{ROOT}/G_Z/G_linear/u0:0" in t,
    tuple(_hub_places()),
    becomes="ajbrock",
    defaults={"BN_eps": HUB_EPS, "SN_eps": HUB_EPS},
)

LAYOUTS = (AJBROCK, MYBN, SYNC, TFHUB)
