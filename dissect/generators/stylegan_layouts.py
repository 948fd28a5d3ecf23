"""How StyleGAN is stored: genforce's names (ours are close to them), InterFaceGAN's, NVIDIA's of TensorFlow.

Key names and axis orders are facts of the public repositories genforce/genforce, genforce/interfacegan and
NVlabs/stylegan (its pickles: ``tensorflow``). rosinality's port is in ``stylegan_port``.

**Fused convs.** An upsampling conv may be stored as the kernel of a transposed conv, which is turned by 180 degrees.
The public code does so from 128 pixels on (``auto``), everywhere or nowhere. InterFaceGAN's files show it
by their keys. genforce's and NVIDIA's do not: without the option ``fused_scale`` they are read as ``auto``.

**Truncation.** InterFaceGAN's files hold the factor of each w. Our codes say themselves how they are truncated, so it
is kept (in genforce's files as an entry ``truncation_psi`` beside the network) and told, not applied.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .layouts import Change, Layout, Place, Tensors, chain, flipped, followed_by, led_by, permuted, same
from .stylegan_network import blur_kernel

MAX_BLOCKS = 10  # 4 to 2,048 pixels
MAX_MAPPING = 32
LR_MULTIPLIER = 0.01  # of every published mapping
FUSED_FROM = 5  # the block of 128 pixels
LAYERS = range(2 * MAX_BLOCKS)
SAME: tuple[Change, Change] = (same, same)
FLIPPED: tuple[Change, Change] = (flipped, flipped)
PSI = "mapping.psi"

Fused = Callable[[int], bool]  # of a block
FUSIONS: Mapping[str, tuple[object, Fused]] = {
    "": ("auto", lambda block: block >= FUSED_FROM),
    "-fused": (True, lambda block: True),
    "-unfused": (False, lambda block: False),
}


@dataclass(frozen=True, eq=False)
class StyleLayout(Layout):
    """A layout of the original arithmetic.

    Attributes:
        fused: whether the upsampling conv of a block is stored as a transposed one.
    """

    fused: Fused = field(default=FUSIONS[""][1])

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors, without factors of truncation that do nothing."""
        canonical = super().read(tensors, beside)
        psi = canonical.get(PSI)
        if psi is not None and psi.is_floating_point() and bool((psi == 1).all()):
            del canonical[PSI]
        return canonical


def blocks_of(canonical: Tensors) -> int:
    """Return how many blocks a network has: those from the first on without a gap."""
    names = (f"synthesis.layer{2 * block + 1}.noise_weight" for block in range(MAX_BLOCKS))
    return next((block for block, name in enumerate(names) if name not in canonical), MAX_BLOCKS)


def kernel_name(layer: int, fused: bool = False) -> str:
    """Return the canonical name of a layer's kernel; ``fused`` ones, divided by 4, are of the port."""
    return f"synthesis.layer{layer}.conv.{'fused' if fused else 'plain'}.weight"


def blurs(canonical: Tensors, key: Callable[[int], str]) -> dict[str, Tensor]:
    """Return the stored blurs of the blocks that have one, by the layout's keys."""
    found = {}
    for block in range(1, blocks_of(canonical)):
        channels = canonical[f"synthesis.layer{2 * block}.noise_weight"].numel()
        found[key(block)] = blur_kernel(channels).contiguous()
    return found


def _original(configuration: Mapping[str, object]) -> str | None:
    """Return why a network cannot be stored in a layout of the original arithmetic."""
    if configuration["port"]:
        return "this network is of rosinality's port, whose arithmetic is another one"
    if configuration["lr_multiplier"] != LR_MULTIPLIER:
        return f"this layout's mapping has the gain {LR_MULTIPLIER}"
    return None


# -- genforce --------------------------------------------------------------------------------------------------


def _genforce_places(fused: Fused) -> Iterator[Place]:
    yield Place("synthesis.layer0.const", "synthesis.layer0.const", *led_by(1))
    yield Place("mapping.w_avg", "truncation.w_avg")
    yield Place("mapping.label_weight", "mapping.label_weight")
    yield Place("lod", "synthesis.lod")
    yield Place(PSI, "truncation_psi")
    for part in ("weight", "bias"):
        yield from (Place(name, name) for name in (f"mapping.dense{i}.{part}" for i in range(MAX_MAPPING)))
        yield from (Place(name, name) for name in (f"synthesis.output{b}.{part}" for b in range(MAX_BLOCKS)))
        yield from (Place(name, name) for name in (f"synthesis.layer{i}.style.{part}" for i in LAYERS))
    for i in LAYERS:
        layer = f"synthesis.layer{i}"
        if i:
            turn = FLIPPED if i % 2 == 0 and fused(i // 2) else SAME
            yield Place(kernel_name(i), f"{layer}.weight", *turn)
        yield Place(f"{layer}.bias", f"{layer}.bias")
        yield Place(f"{layer}.noise_weight", f"{layer}.apply_noise.weight")
        yield Place(f"{layer}.noise_const", f"{layer}.apply_noise.noise", *led_by(2))


def _genforce_constants(canonical: Tensors) -> dict[str, Tensor]:
    added = blurs(canonical, lambda block: f"synthesis.layer{2 * block}.blur.kernel")
    return added if "lod" in canonical else added | {"synthesis.lod": torch.zeros(())}


def _genforce(suffix: str) -> StyleLayout:
    value, fused = FUSIONS[suffix]
    return StyleLayout(
        f"genforce{suffix}",
        # Which convs are fused cannot be seen; the option chooses among the three.
        lambda t: suffix == "" and "synthesis.layer0.const" in t and "synthesis.layer0.apply_noise.weight" in t,
        tuple(_genforce_places(fused)),
        _genforce_constants,
        container="generator_smooth",
        outside={PSI: "truncation_psi"},
        cannot=_original,
        implied={"fused_scale": value},
        fused=fused,
    )


GENFORCE, GENFORCE_FUSED, GENFORCE_UNFUSED = (_genforce(suffix) for suffix in FUSIONS)

# -- InterFaceGAN ----------------------------------------------------------------------------------------------

_PSI_AXES = chain(led_by(1), followed_by(1))
_HWIO = permuted(3, 2, 0, 1)


def _interfacegan_places(fused: Fused) -> Iterator[Place]:
    yield Place("synthesis.layer0.const", "synthesis.layer0.first_layer", *led_by(1))
    yield Place("mapping.w_avg", "truncation.w_avg")
    yield Place(PSI, "truncation.truncation", *_PSI_AXES)
    yield Place("lod", "synthesis.lod")
    for i in range(MAX_MAPPING):
        yield Place(f"mapping.dense{i}.weight", f"mapping.dense{i}.linear.weight")
        yield Place(f"mapping.dense{i}.bias", f"mapping.dense{i}.wscale.bias")
    for b in range(MAX_BLOCKS):
        yield Place(f"synthesis.output{b}.weight", f"synthesis.output{b}.conv.weight")
        yield Place(f"synthesis.output{b}.bias", f"synthesis.output{b}.bias")
    for i in LAYERS:
        layer, epilogue = f"synthesis.layer{i}", f"synthesis.layer{i}.epilogue"
        if i % 2 == 0 and i and fused(i // 2):
            yield Place(kernel_name(i), f"{layer}.weight", *chain(_HWIO, FLIPPED))
        elif i:
            yield Place(kernel_name(i), f"{layer}.conv.weight")
        yield Place(f"{layer}.bias", f"{epilogue}.bias")
        yield Place(f"{layer}.noise_weight", f"{epilogue}.apply_noise.weight")
        yield Place(f"{layer}.noise_const", f"{epilogue}.apply_noise.noise", *led_by(2))
        yield Place(f"{layer}.style.weight", f"{epilogue}.style_mod.dense.linear.weight")
        yield Place(f"{layer}.style.bias", f"{epilogue}.style_mod.dense.wscale.bias")


def _interfacegan_constants(canonical: Tensors) -> dict[str, Tensor]:
    added = _genforce_constants(canonical)
    if PSI not in canonical:
        added["truncation.truncation"] = torch.ones(1, 2 * blocks_of(canonical), 1)
    return added


def _is_interfacegan(tensors: Tensors, suffix: str) -> bool:
    if "synthesis.layer0.first_layer" not in tensors:
        return False
    shown = {b: f"synthesis.layer{2 * b}.weight" in tensors for b in range(1, MAX_BLOCKS)}
    there = [b for b in shown if shown[b] or f"synthesis.layer{2 * b}.conv.weight" in tensors]
    fitting = (name for name, (_, fused) in FUSIONS.items() if all(shown[b] == fused(b) for b in there))
    return next(fitting, "") == suffix


def _interfacegan(suffix: str) -> StyleLayout:
    fused = FUSIONS[suffix][1]
    epilogues = {f"synthesis.layer{i}.epilogue": f"synthesis.layer{i}" for i in LAYERS}
    styles = {f"{key}.style_mod.dense": f"{layer}.style" for key, layer in epilogues.items()}
    return StyleLayout(
        f"interfacegan{suffix}",
        lambda t: _is_interfacegan(t, suffix),
        tuple(_interfacegan_places(fused)),
        _interfacegan_constants,
        modules=epilogues | styles,
        cannot=lambda c: "this layout has no classes" if c["num_classes"] else _original(c),
        fused=fused,
    )


INTERFACEGAN, INTERFACEGAN_FUSED, INTERFACEGAN_UNFUSED = (_interfacegan(suffix) for suffix in FUSIONS)

# -- TensorFlow ------------------------------------------------------------------------------------------------

_DENSE = permuted(1, 0)
_HEAD = re.compile(r"(synthesis/ToRGB)_lod(\d{1,2})/(weight|bias)")
_SIDED = re.compile(r"(synthesis/ToRGB)_(\d{1,4})x\2/(weight|bias)")


class TensorFlowLayout(StyleLayout):
    """NVIDIA's variables: heads are counted from the largest; the table calls them by the side of what they draw.

    The level of detail is there twice: what the whole network has is given to its part ``synthesis`` in every run.
    """

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors."""
        sides = [
            4 * 2**b for b in range(MAX_BLOCKS) if not b or f"synthesis/{4 * 2**b}x{4 * 2**b}/Conv1/bias" in tensors
        ]

        def renamed(key: str) -> str:
            found = _HEAD.fullmatch(key)
            side = max(sides) >> int(found[2]) if found else 0
            return f"{found[1]}_{side}x{side}/{found[3]}" if found and side >= 4 else key

        given = {renamed(key): tensor for key, tensor in tensors.items() if key != "lod"}
        if "lod" in tensors:
            given["synthesis/lod"] = tensors["lod"]
        return super().read(given, beside)

    def write(self, canonical: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return tensors by NVIDIA's names."""
        inside, outside = super().write(canonical)
        full = 4 * 2 ** (blocks_of(canonical) - 1)

        def renamed(key: str) -> str:
            found = _SIDED.fullmatch(key)
            return f"{found[1]}_lod{int(math.log2(full // int(found[2])))}/{found[3]}" if found else key

        both = inside | {"lod": inside["synthesis/lod"].clone()}
        return {renamed(key): tensor for key, tensor in both.items()}, outside


def _scope(i: int) -> str:
    """Return the scope of a layer, such as ``synthesis/8x8/Conv0_up``."""
    side = 4 * 2 ** (i // 2)
    return f"synthesis/{side}x{side}/" + (("Const", "Conv")[i] if side == 4 else ("Conv0_up", "Conv1")[i % 2])


def _tensorflow_places(fused: Fused) -> Iterator[Place]:
    yield Place("synthesis.layer0.const", "synthesis/4x4/Const/const", *led_by(1))
    yield Place("mapping.w_avg", "dlatent_avg")
    yield Place("mapping.label_weight", "mapping/LabelConcat/weight")
    yield Place("lod", "synthesis/lod")
    yield Place(PSI, "truncation_psi")
    for i in range(MAX_MAPPING):
        yield Place(f"mapping.dense{i}.weight", f"mapping/Dense{i}/weight", *_DENSE)
        yield Place(f"mapping.dense{i}.bias", f"mapping/Dense{i}/bias")
    for b in range(MAX_BLOCKS):
        side = 4 * 2**b
        yield Place(f"synthesis.output{b}.weight", f"synthesis/ToRGB_{side}x{side}/weight", *_HWIO)
        yield Place(f"synthesis.output{b}.bias", f"synthesis/ToRGB_{side}x{side}/bias")
    for i in LAYERS:
        layer, scope = f"synthesis.layer{i}", _scope(i)
        if i:
            turn = chain(_HWIO, FLIPPED) if i % 2 == 0 and fused(i // 2) else _HWIO
            yield Place(kernel_name(i), f"{scope}/weight", *turn)
        yield Place(f"{layer}.bias", f"{scope}/bias")
        yield Place(f"{layer}.noise_weight", f"{scope}/Noise/weight")
        yield Place(f"{layer}.noise_const", f"synthesis/noise{i}", *led_by(2))
        yield Place(f"{layer}.style.weight", f"{scope}/StyleMod/weight", *_DENSE)
        yield Place(f"{layer}.style.bias", f"{scope}/StyleMod/bias")


def _tensorflow(suffix: str) -> TensorFlowLayout:
    value, fused = FUSIONS[suffix]
    return TensorFlowLayout(
        f"tensorflow{suffix}",
        lambda t: suffix == "" and "synthesis/4x4/Const/const" in t and "synthesis/4x4/Const/StyleMod/weight" in t,
        tuple(_tensorflow_places(fused)),
        lambda t: {} if "lod" in t else {"synthesis/lod": torch.zeros(())},
        outside={PSI: "truncation_psi"},
        modules={_scope(i): f"synthesis.layer{i}" for i in LAYERS},
        cannot=_original,
        implied={"fused_scale": value},
        fused=fused,
    )


TENSORFLOW, TENSORFLOW_FUSED, TENSORFLOW_UNFUSED = (_tensorflow(suffix) for suffix in FUSIONS)

OFFICIAL = (
    GENFORCE, GENFORCE_FUSED, GENFORCE_UNFUSED, INTERFACEGAN, INTERFACEGAN_FUSED, INTERFACEGAN_UNFUSED,
    TENSORFLOW, TENSORFLOW_FUSED, TENSORFLOW_UNFUSED,
)  # fmt: skip
