"""How StyleGAN2 is stored: NVlabs' PyTorch names (ours too), rosinality's, genforce's, and NVIDIA's of TensorFlow.

Key names and the differences between the layouts (axes, flips, the +1 of the style bias) are facts of the public
repositories NVlabs/stylegan2-ada-pytorch, rosinality/stylegan2-pytorch and genforce/genforce, and of the pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from .layouts import Change, Layout, Place, Tensors, chain, flipped, followed_by, led_by, permuted, same
from .stylegan2_network import FILTER

MAX_BLOCKS = 10  # 4 to 2,048 pixels
MAX_MAPPING = 32
LR_MULTIPLIER = 0.01  # of every published mapping
PARTS = ("weight", "bias", "affine.weight", "affine.bias")
NOISE = ("noise_strength", "noise_const")


def _fir(gain: float) -> Tensor:
    row = torch.tensor(FILTER) / sum(FILTER)
    return torch.outer(row, row) * gain


def _blocks(tensors: Tensors) -> list[int]:
    """Return the indices of the blocks that canonical tensors have."""
    return [b for b in range(MAX_BLOCKS) if f"synthesis.b{4 * 2**b}.conv1.weight" in tensors]


def _convs() -> Iterator[tuple[int, str, int]]:
    """Yield (block, canonical module, index of the w it uses) of every styled conv, in order."""
    for block in range(MAX_BLOCKS):
        if block:
            yield block, f"synthesis.b{4 * 2**block}.conv0", 2 * block - 1
        yield block, f"synthesis.b{4 * 2**block}.conv1", 2 * block


# -- NVlabs ----------------------------------------------------------------------------------------------------


def _nvlabs_places() -> Iterator[Place]:
    names = ["mapping.w_avg", "mapping.embed.weight", "mapping.embed.bias", "synthesis.b4.const"]
    names += [f"mapping.fc{i}.{part}" for i in range(MAX_MAPPING) for part in ("weight", "bias")]
    names += [f"{conv}.{part}" for _, conv, _ in _convs() for part in PARTS + NOISE]
    names += [f"synthesis.b{4 * 2**b}.torgb.{part}" for b in range(MAX_BLOCKS) for part in PARTS]
    names += [f"synthesis.b{4 * 2**b}.skip.weight" for b in range(1, MAX_BLOCKS)]
    return (Place(name, name) for name in names)


def _nvlabs_constants(tensors: Tensors) -> dict[str, Tensor]:
    modules = [f"synthesis.b{4 * 2**b}" for b in _blocks(tensors)]
    inner = [f"{module}.{conv}" for module in modules for conv in ("conv0", "conv1", "skip")]
    modules += [module for module in inner if f"{module}.weight" in tensors]
    return {f"{module}.resample_filter": _fir(1.0) for module in modules}


NVLABS = Layout(
    "nvlabs",
    lambda t: "synthesis.b4.const" in t,
    tuple(_nvlabs_places()),
    _nvlabs_constants,
    container="G_ema",
    cannot=lambda c: "this layout joins z and the class in another way" if c["label"] == "concat" else None,
)

# -- rosinality ------------------------------------------------------------------------------------------------

_ROSINALITY_PARTS: Mapping[str, tuple[str, Change, Change]] = {
    "weight": ("conv.weight", *led_by(1)),
    "bias": ("activate.bias", same, same),
    "affine.weight": ("conv.modulation.weight", same, same),
    "affine.bias": ("conv.modulation.bias", same, same),
    "noise_strength": ("noise.weight", *followed_by(1)),
}


def _rosinality_modules() -> Iterator[tuple[str, str]]:
    """Yield (canonical, theirs) of every conv and torgb."""
    for _, conv, place in _convs():
        yield conv, "conv1" if place == 0 else f"convs.{place - 1}"
    for b in range(MAX_BLOCKS):
        yield f"synthesis.b{4 * 2**b}.torgb", "to_rgb1" if b == 0 else f"to_rgbs.{b - 1}"


def _lead(count: int, trail: int = 0) -> tuple[Change, Change]:
    lead, tail = led_by(count), followed_by(trail)
    return lambda t: tail[0](lead[0](t)), lambda t: lead[1](tail[1](t))


def _rosinality_places() -> Iterator[Place]:
    yield Place("synthesis.b4.const", "input.input", *led_by(1))
    yield Place("mapping.w_avg", "latent_avg", lambda t: t.reshape(-1) if t.ndim == 2 else t)
    for index in range(MAX_MAPPING):
        for part in ("weight", "bias"):
            yield Place(f"mapping.fc{index}.{part}", f"style.{index + 1}.{part}")
    for ours, theirs in _rosinality_modules():
        torgb = "torgb" in ours
        for part, (key, read, write) in _ROSINALITY_PARTS.items():
            if torgb and part == "bias":
                yield Place(f"{ours}.bias", f"{theirs}.bias", *_lead(1, 2))
            elif not (torgb and part == "noise_strength"):
                yield Place(f"{ours}.{part}", f"{theirs}.{key}", read, write)
    for _, conv, place in _convs():
        yield Place(f"{conv}.noise_const", f"noises.noise_{place}", *led_by(2))


def _rosinality_constants(tensors: Tensors) -> dict[str, Tensor]:
    blocks = _blocks(tensors)[1:]
    kernels = {f"convs.{2 * b - 2}.conv.blur.kernel": _fir(4.0) for b in blocks}
    return kernels | {f"to_rgbs.{b - 1}.upsample.kernel": _fir(4.0) for b in blocks}


def _unbounded(configuration: Mapping[str, object]) -> str | None:
    """Return what NVlabs' constructor can be told and the other code bases cannot."""
    if configuration["lr_multiplier"] != LR_MULTIPLIER:
        return f"this layout's mapping has the gain {LR_MULTIPLIER}"
    return None if configuration["conv_clamp"] is None else "this layout does not clamp"


def _rosinality_cannot(configuration: Mapping[str, object]) -> str | None:
    if configuration["num_classes"]:
        return "this layout has no classes"
    if configuration["architecture"] != "skip":
        return f"this layout has no {configuration['architecture']} architecture"
    return _unbounded(configuration)


ROSINALITY = Layout(
    "rosinality",
    lambda t: "input.input" in t and "conv1.conv.modulation.weight" in t and "conv1.activate.bias" in t,
    tuple(_rosinality_places()),
    _rosinality_constants,
    container="g_ema",
    outside={"mapping.w_avg": "latent_avg"},
    modules={theirs: ours for ours, theirs in _rosinality_modules()},
    cannot=_rosinality_cannot,
)

# -- genforce --------------------------------------------------------------------------------------------------


def _genforce_modules() -> Iterator[tuple[str, str]]:
    for _, conv, place in _convs():
        yield conv, f"synthesis.layer{place}"
    for b in range(MAX_BLOCKS):
        yield f"synthesis.b{4 * 2**b}.torgb", f"synthesis.output{b}"


def _plus(amount: float) -> Change:
    # A half-precision sum would round so much that pictures differ.
    return lambda t: (t.float() if t.is_floating_point() and t.itemsize < 4 else t) + amount


def _genforce_places() -> Iterator[Place]:
    yield Place("synthesis.b4.const", "synthesis.early_layer.const", *led_by(1))
    yield Place("mapping.w_avg", "truncation.w_avg")
    yield Place("mapping.label_weight", "mapping.label_weight")
    yield Place("mapping.embed.weight", "mapping.LabelEmbed.weight")
    yield Place("mapping.embed.bias", "mapping.LabelEmbed.bias")
    for index in range(MAX_MAPPING):
        for part in ("weight", "bias"):
            yield Place(f"mapping.fc{index}.{part}", f"mapping.dense{index}.{part}")
    for ours, theirs in _genforce_modules():
        turn: Callable[[Tensor], Tensor] = flipped if ours.endswith("conv0") else same
        yield Place(f"{ours}.weight", f"{theirs}.weight", turn, turn)
        yield Place(f"{ours}.bias", f"{theirs}.bias")
        yield Place(f"{ours}.affine.weight", f"{theirs}.style.weight")
        yield Place(f"{ours}.affine.bias", f"{theirs}.style.bias", _plus(1.0), _plus(-1.0))
        if "torgb" not in ours:
            yield Place(f"{ours}.noise_strength", f"{theirs}.noise_strength")
            yield Place(f"{ours}.noise_const", f"{theirs}.noise", *led_by(2))


def _genforce_constants(tensors: Tensors) -> dict[str, Tensor]:
    kernel = _fir(4.0)[None, None]
    kernels = {f"synthesis.layer{2 * b - 1}.filter.kernel": kernel for b in _blocks(tensors)[1:]}
    return kernels | ({"synthesis.upsample.kernel": kernel} if "synthesis.b4.torgb.weight" in tensors else {})


def _genforce_cannot(configuration: Mapping[str, object]) -> str | None:
    if configuration["architecture"] == "resnet":
        return "this layout stores a resnet's shortcuts over its convs"
    return _unbounded(configuration)


GENFORCE = Layout(
    "genforce",
    lambda t: "synthesis.early_layer.const" in t,
    tuple(_genforce_places()),
    _genforce_constants,
    container="generator_smooth",
    modules={theirs: ours for ours, theirs in _genforce_modules()},
    cannot=_genforce_cannot,
)

# -- TensorFlow ------------------------------------------------------------------------------------------------

_DENSE = permuted(1, 0)
_HWIO = permuted(3, 2, 0, 1)


def _tensorflow_modules() -> Iterator[tuple[str, str]]:
    """Yield (canonical, theirs) of every conv and torgb."""
    for block, conv, place in _convs():
        scope = "4x4/Conv" if place == 0 else f"{4 * 2**block}x{4 * 2**block}/{('Conv1', 'Conv0_up')[place % 2]}"
        yield conv, f"synthesis/{scope}"
    for b in range(MAX_BLOCKS):
        yield f"synthesis.b{4 * 2**b}.torgb", f"synthesis/{4 * 2**b}x{4 * 2**b}/ToRGB"


def _tensorflow_places() -> Iterator[Place]:
    yield Place("synthesis.b4.const", "synthesis/4x4/Const/const", *led_by(1))
    yield Place("mapping.w_avg", "dlatent_avg")
    yield Place("mapping.label_weight", "mapping/LabelConcat/weight")
    yield Place("mapping.embed.weight", "mapping/LabelEmbed/weight", *_DENSE)
    yield Place("mapping.embed.bias", "mapping/LabelEmbed/bias")
    for index in range(MAX_MAPPING):
        yield Place(f"mapping.fc{index}.weight", f"mapping/Dense{index}/weight", *_DENSE)
        yield Place(f"mapping.fc{index}.bias", f"mapping/Dense{index}/bias")
    for ours, theirs in _tensorflow_modules():
        turn = chain(_HWIO, (flipped, flipped)) if ours.endswith("conv0") else _HWIO
        yield Place(f"{ours}.weight", f"{theirs}/weight", *turn)
        yield Place(f"{ours}.bias", f"{theirs}/bias")
        yield Place(f"{ours}.affine.weight", f"{theirs}/mod_weight", *_DENSE)
        yield Place(f"{ours}.affine.bias", f"{theirs}/mod_bias", _plus(1.0), _plus(-1.0))
        if "torgb" not in ours:
            yield Place(f"{ours}.noise_strength", f"{theirs}/noise_strength")
    for _, conv, place in _convs():
        yield Place(f"{conv}.noise_const", f"synthesis/noise{place}", *led_by(2))
    for b in range(1, MAX_BLOCKS):
        side = 4 * 2**b
        yield Place(f"synthesis.b{side}.skip.weight", f"synthesis/{side}x{side}/Skip/weight", *_HWIO)


TENSORFLOW = Layout(
    "tensorflow",
    lambda t: "synthesis/4x4/Const/const" in t and "synthesis/4x4/Conv/mod_weight" in t,
    tuple(_tensorflow_places()),
    ignored=lambda key: key == "lod",  # of training's growth; no part that is known here uses it
    modules={theirs: ours for ours, theirs in _tensorflow_modules()},
    defaults={"conv_clamp": None},
)

LAYOUTS = (NVLABS, ROSINALITY, GENFORCE, TENSORFLOW)
