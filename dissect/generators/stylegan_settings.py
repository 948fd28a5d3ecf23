"""What a StyleGAN checkpoint and its options say of the network: sizes, level of detail, fused kernels, noise."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from segmodels import GanatomyError

from .codes import Codes
from .family import Fact, Opening, Option
from .mobilestylegan import NOISE_SEED, as_maps
from .pggan import fraction, level, truth, whole
from .stylebased import as_mean, noise_maps, positive, tell_mean
from .stylegan_layouts import LR_MULTIPLIER, MAX_BLOCKS, MAX_MAPPING, OFFICIAL, PSI, StyleLayout, blocks_of, kernel_name
from .stylegan_network import Config, Network, StyledLayer
from .stylegan_port import ROSINALITY

LAYOUTS = (*OFFICIAL, ROSINALITY)
LAST = "last"  # the step at which the last block of a port draws


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors, the file's records and the options."""
    tensors, layout = opening.tensors, opening.layout
    port = layout is ROSINALITY
    blocks = blocks_of(tensors)
    if not blocks:
        raise GanatomyError(f"checkpoint lacks {layout.key_of('synthesis.layer1.noise_weight')} ({layout.name})")
    channels = tuple(opening.need(f"synthesis.layer{i}.noise_weight", 1).shape[0] for i in range(2 * blocks))
    layers = sum(f"mapping.dense{i}.weight" in tensors for i in range(MAX_MAPPING))
    first = opening.need("mapping.dense0.weight", 2)
    last = opening.need(f"mapping.dense{layers - 1}.weight", 2)
    num_classes, embedding = 0, 0
    if "mapping.label_weight" in tensors:
        num_classes, embedding = opening.need("mapping.label_weight", 2).shape
    if first.shape[1] <= embedding:
        raise GanatomyError(f"checkpoint: {layout.key_of('mapping.dense0.weight')} has no columns for z")
    colors = opening.need(f"synthesis.output{blocks - 1}.weight", 4).shape[0]
    if colors not in (1, 3):
        raise GanatomyError(f"the network makes {colors} channels, expected an image of 3 or 1")
    config = Config(
        z_dim=first.shape[1] - embedding,
        w_dim=last.shape[0],
        hidden=first.shape[0] if layers > 1 else 0,
        mapping_layers=layers,
        channels=channels,
        heads=tuple(b for b in range(blocks) if f"synthesis.output{b}.weight" in tensors),
        colors=colors,
        num_classes=num_classes,
        embedding=embedding,
        port=port,
        fused=tuple(b for b in range(1, blocks) if kernel_name(2 * b, fused=True) in tensors),
        shown=blocks - 1,
        mean_w="mapping.w_avg" in tensors,
        psi=PSI in tensors,
    )
    opening.read_off(
        w_dim=config.w_dim, num_ws=config.num_ws, mapping_layers=layers, channels=list(channels[1::2]),
        arithmetic="rosinality's port" if port else "the paper's",
    )  # fmt: skip
    tell_mean(opening, config.mean_w)
    config = replace(
        config,
        lr_multiplier=LR_MULTIPLIER
        if port
        else opening.setting("lr_multiplier", opening.arguments.get("mapping_lrmul")),
    )
    return _at_step(opening, config) if port else _at_level(opening, config)


def _at_level(opening: Opening, config: Config) -> Config:
    """Settle the level of detail: how far the network is from drawing at its full size."""
    stored = opening.tensors.get("lod")
    if stored is not None and (stored.ndim or not stored.is_floating_point()):
        kind = f"{list(stored.shape)} of {stored.dtype}"
        raise GanatomyError(f"checkpoint: {opening.layout.key_of('lod')} is {kind}, expected one floating-point number")
    lod = opening.setting("lod", None if stored is None else float(stored))
    if lod > config.blocks - 1:
        raise GanatomyError(
            f"lod is {lod}, expected at most {config.blocks - 1} for a network of {config.resolution} pixels"
        )
    if stored is not None or lod:
        opening.tensors["lod"] = torch.tensor(lod)
    return _with_heads(replace(config, lod=lod, stored_lod="lod" in opening.tensors))


def _at_step(opening: Opening, config: Config) -> Config:
    """Settle the port's step (which block draws) and alpha (its share of the image, the block before has the rest)."""
    step, alpha = opening.setting("step"), opening.setting("alpha")
    step = config.blocks - 1 if step == LAST else step
    least = 0 if alpha == 1 else 1
    if not least <= step < config.blocks:
        raise GanatomyError(f"step is {step}, expected {least} to {config.blocks - 1} in this network (alpha {alpha})")
    return _with_heads(replace(config, shown=step, lod=1.0 - alpha))


def _with_heads(config: Config) -> Config:
    missing = [4 * 2**block for block in config.drawing if block not in config.heads]
    if missing:
        raise GanatomyError(f"the file has no head that draws {missing[0]} pixels, which this lod or step needs")
    return config


def told(psi: Tensor) -> str:
    """Return stored factors of truncation in words."""
    values = psi.tolist()
    if len(set(values)) == 1:
        return f"{values[0]:g}"
    cutoff = sum(value != 1 for value in values)
    if values[:cutoff] == values[:1] * cutoff:
        return f"{values[0]:g} with cutoff {cutoff}"
    return "a factor of its own for each w"


def settle_fused(opening: Opening) -> None:
    """Say whether upsampling kernels are stored as transposed convs: their keys show it, or the option."""
    layout = opening.layout
    if not isinstance(layout, StyleLayout):
        return
    code = layout.name.partition("-")[0]
    if not layout.implied:
        if "fused_scale" in opening.given:
            raise GanatomyError(f"option fused_scale is not for {layout.name}, whose keys show it")
        opening.read_off(fused_scale=layout.name.partition("-")[2] or "auto")
        return
    chosen = opening.setting("fused_scale")
    same = [known for known in OFFICIAL if known.name.partition("-")[0] == code]
    wanted = next(known for known in same if known.implied["fused_scale"] == chosen)
    for block in range(1, MAX_BLOCKS):
        name = kernel_name(2 * block)
        if name in opening.tensors and layout.fused(block) != wanted.fused(block):
            tensor = opening.tensors[name]
            if tensor.ndim == 4:  # what is not is refused later
                opening.tensors[name] = tensor.flip(-2, -1)
    opening.layout = wanted
    opening.origin = replace(opening.origin, layout=wanted)


def set_noise(network: Network, config: Config, opening: Opening) -> dict[str, Tensor] | None:
    """Give the port's layers the constant noise that its files do not hold: one map for each resolution.

    Returns:
        The maps, if they were given.
    """
    given: dict[str, Tensor] | None = opening.setting("noise")
    told = f"noise seed {NOISE_SEED}" if given is None else "given maps"
    opening.facts[-1] = Fact("noise", told, opening.facts[-1].source)
    for block in range(config.blocks):
        size = 4 * 2**block
        if given is None:
            maps = noise_maps(Codes(None, noise=torch.tensor([NOISE_SEED])), block, torch.empty(size, size))
            assert maps is not None
        elif block > config.shown:
            maps = torch.zeros(1, 1, size, size)
        else:
            found = given.get(f"noise_{size}")
            if found is None or list(found.shape) != [1, 1, size, size]:
                what = "nothing" if found is None else list(found.shape)
                raise GanatomyError(f"option noise: expected noise_{size} {[1, 1, size, size]}, got {what}")
            maps = found
        for index in (2 * block, 2 * block + 1):
            layer = network.get_submodule(f"synthesis.layer{index}")
            assert isinstance(layer, StyledLayer)
            layer.noise_const = maps[0, 0].clone()
    return given


def scale(value: object) -> bool | str:
    """Return ``auto``, or yes or no."""
    return "auto" if str(value).lower() == "auto" else truth(value)


def step_of(value: object) -> int | str:
    """Return a block's number from 0 on, or ``last``."""
    return LAST if str(value).lower() == LAST else whole(value)


OPTIONS = (
    Option("lr_multiplier", positive, LR_MULTIPLIER, "a positive number; runtime gain of the mapping"),
    Option("w_avg", as_mean, None, "[w_dim] or a .npy file; mean w, for files that do not hold it"),
    Option(
        "fused_scale", scale, "auto",
        "auto (from 128 pixels on), true or false; where genforce's kernels are of transposed convs",
    ),
    Option("lod", level, 0.0, "a number from 0 (full size); level of detail, for files that hold every head"),
    Option("step", step_of, LAST, "a whole number or last; which block draws (0: 4 pixels), in rosinality's port"),
    Option("alpha", fraction, 1.0, "0 to 1; the last block's share of the image, in rosinality's port"),
    Option("noise", as_maps, None, "a .npz file with noise_4 [1, 1, 4, 4], noise_8 …; rosinality's files hold none"),
)  # fmt: skip
