"""How rosinality's port of StyleGAN is stored; a network with arithmetic of its own.

Key names and axis orders are facts of the public repository rosinality/style-based-gan-pytorch.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .layouts import Layout, Place, Tensors, chain, followed_by, led_by, permuted
from .stylegan_layouts import FLIPPED, LAYERS, MAX_BLOCKS, MAX_MAPPING, SAME, blurs, kernel_name

_NOISE_AXES = chain(led_by(1), followed_by(2))
_TRANSPOSED = chain(permuted(1, 0, 2, 3), FLIPPED)


def _port_places() -> Iterator[Place]:
    yield Place("synthesis.layer0.const", "generator.progression.0.conv1.input", *led_by(1))
    yield Place("mapping.w_avg", "mean_style", lambda t: t.reshape(-1) if t.ndim == 2 else t)
    for part, theirs in (("weight", "weight_orig"), ("bias", "bias")):
        for i in range(MAX_MAPPING):
            yield Place(f"mapping.dense{i}.{part}", f"style.{2 * i + 1}.linear.{theirs}")
        for b in range(MAX_BLOCKS):
            block, up, even = f"generator.progression.{b}", f"synthesis.layer{2 * b}", f"synthesis.layer{2 * b + 1}"
            yield Place(f"synthesis.output{b}.{part}", f"generator.to_rgb.{b}.conv.{theirs}")
            yield Place(f"{even}.conv.plain.{part}", f"{block}.conv2.conv.{theirs}")
            for layer, number in ((up, 1), (even, 2)):
                yield Place(f"{layer}.style.{part}", f"{block}.adain{number}.style.linear.{theirs}")
            if b:
                yield Place(f"{up}.conv.plain.{part}", f"{block}.conv1.1.conv.{theirs}")
                turn = _TRANSPOSED if part == "weight" else SAME
                yield Place(f"{up}.conv.fused.{part}", f"{block}.conv1.0.{part}", *turn)
    for i in LAYERS:
        key = f"generator.progression.{i // 2}.noise{i % 2 + 1}.weight_orig"
        yield Place(f"synthesis.layer{i}.noise_weight", key, *_NOISE_AXES)


def _port_constants(canonical: Tensors) -> dict[str, Tensor]:
    def key(block: int) -> str:
        place = 1 if kernel_name(2 * block, fused=True) in canonical else 2
        return f"generator.progression.{block}.conv1.{place}.weight"

    kernels = blurs(canonical, key)
    return kernels | {f"{name}_flip": kernel for name, kernel in kernels.items()}  # the filter is its own mirror image


def _port_modules() -> dict[str, str]:
    names: dict[str, str] = {}
    for b in range(MAX_BLOCKS):
        block, up, even = f"generator.progression.{b}", f"synthesis.layer{2 * b}", f"synthesis.layer{2 * b + 1}"
        names |= {block: even, f"{block}.conv1": f"{up}.conv", f"{block}.conv2": f"{even}.conv"}
        names |= {f"{block}.adain1": up, f"{block}.adain2": even, f"generator.to_rgb.{b}": f"synthesis.output{b}"}
        names |= {f"{block}.adain1.style": f"{up}.style", f"{block}.adain2.style": f"{even}.style"}
    return names


ROSINALITY = Layout(
    "rosinality",
    lambda t: "generator.progression.0.conv1.input" in t and "style.1.linear.weight_orig" in t,
    tuple(_port_places()),
    _port_constants,
    container="g_running",
    outside={"mapping.w_avg": "mean_style"},
    modules=_port_modules(),
    cannot=lambda c: None if c["port"] else "this layout is of rosinality's port, whose arithmetic is another one",
)
