"""The PGGAN family: configuration read off the tensors, stages, layers.

``layer1`` … ``layerN`` are the outputs of the leaky ReLUs, before the pixel norm that opens the next layer (what GAN
dissection publishes); ``layerN.conv`` is what the leaky ReLU gets, bias included; ``output_RxR`` are the images of the
heads that draw. Generators from genforce and pytorch_GAN_zoo files call them as that code does (``pggan_layouts``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from ..hooks import Site
from .base import Generator, Layer, State
from .checkpoint import Record
from .codes import Codes
from .family import Family, Opening, Option, Slices
from .layers import rgb
from .pggan_layouts import GANZOO, GENFORCE, GENFORCE_FUSED, LAYOUTS, TENSORFLOW, TENSORFLOW_UNFUSED, inputs_axes
from .pggan_network import Block, Config, Network, doubled, head_name
from .pggan_sized import MAX_BLOCKS, SizedLayout, blocks_of
from .stylebased import pixel_norm

FAMILY_NAME = "pggan"
WITH_LOD = (GENFORCE, GENFORCE_FUSED, TENSORFLOW, TENSORFLOW_UNFUSED)
# What a file may record about its network, and the only value for which the arithmetic here is right.
RECORDS = {
    "use_wscale": True, "use_pixelnorm": True, "use_leakyrelu": True, "normalize_latents": True,
    "pixelnorm_epsilon": 1e-8, "final_tanh": False, "final_sigmoid": False, "output_tanh": False,
    "leakyness": 0.2, "perChannelNormalization": True, "equalizedlR": True, "generationActivation": None,
}  # fmt: skip


class PGGAN(Generator):
    """A PGGAN generator; its layers are its convs, its activations and the images of its heads."""

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
        layout = opening.layout
        assert isinstance(layout, SizedLayout)
        self.config = config
        self._stages: list[Callable[[State], State]] = []
        sites: dict[str, Site] = {}
        layers: list[Layer] = []

        def add(name: str, module: nn.Module, units: int, block: int, kind: str, default: bool = False) -> None:
            side = 4 * 2**block
            layers.append(Layer(name, units, side, side, kind, len(self._stages), default))
            sites[name] = Site(module)

        for index in range(1, 2 * config.finest + 3):
            block, module = (index - 1) // 2, network.get_submodule(f"layer{index}")
            assert isinstance(module, Block)
            add(layout.names.conv(index), module.wscale, config.channels[index - 1], block, "conv")
            add(layout.names.activation(index), module, config.channels[index - 1], block, "activation", index % 2 == 0)
            self._stages.append(_layer(module))
            if index % 2 == 0 and block in config.drawing:
                head = network.get_submodule(head_name(block, config.blocks))
                add(layout.names.head(block), head, config.colors, block, "conv")
                self._stages.append(_head(head, 1.0 - config.fade if block == config.finest else 1.0))
        super().__init__(
            **opening.common,
            family=FAMILY_NAME,
            module=network,
            sites=sites,
            layers=layers,
            resolution=config.resolution,
            z_dim=config.z_dim,
            num_classes=config.num_classes or None,
            configuration=identity(config),
            aliases=layout.names.modules(config.blocks),
        )

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per layer, and one per head that draws, after the layer whose features it draws."""
        return self._stages

    def begin(self, codes: Codes) -> State:
        """Start from z, with a one-hot class for conditional networks, as a map of one pixel."""
        if codes.z is None:
            raise GanatomyError(f"{self.name} ({self.family}) needs codes with z")
        x = codes.z.to(self.device)
        if self.num_classes:
            if codes.classes is None:
                raise GanatomyError(f"{self.name} ({self.family}) needs codes with classes")
            labels = F.one_hot(codes.classes.to(self.device), self.num_classes).to(x)
            x = torch.cat([pixel_norm(x) if self.config.label == "after" else x, labels], dim=1)
        return State(codes, x[:, :, None, None])

    def finish(self, state: State) -> Tensor:
        """The image so far, at the network's full size, is the image."""
        assert state.skip is not None
        return rgb(doubled(state.skip, self.config.blocks - 1 - self.config.finest))

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output: only for activations."""
        return layer.kind == "activation"

    def canonical_tensors(self) -> Mapping[str, Tensor]:
        """What draws: heads and layers that do not run change no image."""
        config, tensors = self.config, self.module.state_dict()
        parts = [f"layer{index}." for index in range(1, 2 * config.finest + 3)]
        parts += [f"{head_name(block, config.blocks)}." for block in config.drawing]
        return {name: tensor for name, tensor in tensors.items() if name.startswith(tuple(parts))}


def _layer(module: Block) -> Callable[[State], State]:
    return lambda state: replace(state, x=module(state.x))


def _head(module: nn.Module, share: float) -> Callable[[State], State]:
    """Return the stage of a head; ``share`` is its part of the image, the rest is the image so far."""

    def run(state: State) -> State:
        image = module(state.x)
        if state.skip is not None:
            image = image * share + doubled(state.skip) * (1.0 - share)
        return replace(state, skip=image)

    return run


def identity(config: Config) -> dict[str, object]:
    """Return what goes into the fingerprint: not which heads there are, nor a lod of 0."""
    known: dict[str, object] = {"z_dim": config.z_dim, "channels": list(config.channels), "colors": config.colors}
    known |= {"num_classes": config.num_classes, "scaled_bias": config.scaled_bias}
    known |= {"label": config.label} if config.num_classes else {}
    return known | ({"lod": config.lod} if config.lod else {})


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors, the file's records and the options."""
    tensors, layout = opening.tensors, opening.layout
    blocks = blocks_of(tensors)
    channels = tuple(opening.need(f"layer{i}.conv.weight", 4).shape[0] for i in range(1, 2 * blocks + 1))
    inputs = opening.need("layer1.conv.weight", 4).shape[1]
    last = opening.need(f"{head_name(blocks - 1, blocks)}.conv.weight", 4)
    heads = tuple(b for b in range(blocks) if any(name.startswith(f"{head_name(b, blocks)}.") for name in tensors))
    if len(heads) not in (1, blocks):
        sides = ", ".join(str(4 * 2**block) for block in heads)
        raise GanatomyError(f"checkpoint has heads for {sides} pixels, expected the last one or all ({layout.name})")
    if last.shape[0] not in (1, 3):
        key = layout.key_of(f"{head_name(blocks - 1, blocks)}.conv.weight")
        raise GanatomyError(f"checkpoint: {key} makes {last.shape[0]} channels, expected an image of 3 or 1")
    classes, label = 0, "after"
    if layout in WITH_LOD:
        classes = whole(opening.setting("label_size"))
        label = "after" if layout in (GENFORCE, GENFORCE_FUSED) else "joined"
    if classes >= inputs:
        raise GanatomyError(f"label_size is {classes}, but the network takes {inputs} numbers, z included")
    opening.read_off(
        layers=2 * blocks, channels=list(channels[1::2]), heads=[4 * 2**block for block in heads],
    )  # fmt: skip
    config = Config(
        z_dim=inputs - classes,
        channels=channels,
        heads=heads,
        colors=last.shape[0],
        num_classes=classes,
        label=label,
        scaled_bias=layout is GANZOO,
    )
    lod = _level(opening, blocks, heads)
    return replace(config, lod=lod, stored_lod="lod" in tensors)


def _level(opening: Opening, blocks: int, heads: tuple[int, ...]) -> float:
    """Return the level of detail: how far the network is from drawing at its full size."""
    stored = opening.tensors.pop("lod", None)
    if stored is not None and (stored.ndim or not stored.is_floating_point()):
        kind = f"{list(stored.shape)} of {stored.dtype}"
        raise GanatomyError(f"checkpoint: {opening.layout.key_of('lod')} is {kind}, expected one floating-point number")
    lod, name = 0.0, "lod"
    if opening.layout in WITH_LOD:
        lod = level(opening.setting("lod", 0.0 if stored is None else float(stored)))
    elif opening.layout is GANZOO:
        name = "alpha"
        lod = fraction(opening.setting("alpha", recorded(opening).get("alpha")))
    if lod > blocks - 1:
        side = 4 * 2 ** (blocks - 1)
        raise GanatomyError(f"{name} is {lod}, expected at most {blocks - 1} for a network of {side} pixels")
    if lod and len(heads) < blocks:
        raise GanatomyError(f"{name} is {lod}, but the file has only the head that draws at full size")
    if lod and opening.layout in WITH_LOD:
        opening.tensors["lod"] = torch.tensor(lod)
    return lod


def recorded(opening: Opening) -> dict[str, object]:
    """Return what the file says about its network: the recorded arguments, and pytorch_GAN_zoo's ``config``."""
    beside = opening.beside.get("config")
    fields = beside.fields if isinstance(beside, Record) else beside
    return dict(opening.arguments) | (dict(fields) if isinstance(fields, Mapping) else {})


def make(opening: Opening) -> PGGAN:
    """Return the generator of a stored network."""
    for option, layouts in (
        ("lod", WITH_LOD), ("label_size", WITH_LOD), ("alpha", (GANZOO,)), ("fused_scale", (GENFORCE, GENFORCE_FUSED)),
    ):  # fmt: skip
        if option in opening.given and opening.layout not in layouts:
            names = ", ".join(layout.name for layout in layouts)
            raise GanatomyError(f"option {option} is for the layouts {names}; this file is {opening.layout.name}")
    known = recorded(opening)
    for name, wanted in RECORDS.items():
        if name in known and known[name] != wanted:
            raise GanatomyError(f"the file records {name}={known[name]!r:.60}, expected {wanted!r}; not supported")
    _settle_fused(opening)
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    return PGGAN(network, config, opening)


def _settle_fused(opening: Opening) -> None:
    """Say whether upsampling kernels are stored as transposed convs; where square ones do not show it, ask."""
    if opening.layout not in (GENFORCE, GENFORCE_FUSED):
        return
    tensors = opening.tensors
    ups = {i: f"layer{i}.conv.weight" for i in range(3, 2 * MAX_BLOCKS, 2)}  # odd layers but the first
    pairs = [(tensors.get(f"layer{i - 1}.wscale.b"), tensors.get(name)) for i, name in ups.items()]
    if opening.layout is GENFORCE_FUSED or inputs_axes(pairs):
        shown = opening.layout is GENFORCE_FUSED
        if "fused_scale" not in opening.given:
            opening.read_off(fused_scale=shown)
        elif truth(opening.setting("fused_scale")) != shown:
            raise GanatomyError(f"option fused_scale is {not shown}, but the shapes of the kernels show {shown}")
    elif truth(opening.setting("fused_scale")):
        opening.layout = GENFORCE_FUSED
        opening.origin = replace(opening.origin, layout=GENFORCE_FUSED)
        turned = {name: GENFORCE_FUSED.by_name[name].read(tensors[name]) for name in ups.values() if name in tensors}
        opening.tensors = tensors | {name: tensor.contiguous() for name, tensor in turned.items()}


def zeroed_by(generator: PGGAN, module: str) -> Slices:
    """Return what makes a unit zero (see :class:`Family`): its kernel and its bias.

    The leaky ReLU leaves the zeros, and the pixel norm of whatever reads them sees the same zeros.
    """
    layer = module.removesuffix(".wscale")
    return ((f"{layer}.conv.weight", 0), (f"{layer}.wscale.b", 0))


# -- options ---------------------------------------------------------------------------------------------------


def level(value: object) -> float:
    """Return a level of detail: a number from 0 on, rounded as a file would round it."""
    number = float(np.float32(float(value)))  # type: ignore[arg-type]
    if not 0 <= number < MAX_BLOCKS:
        raise ValueError(value)
    return number


def fraction(value: object) -> float:
    """Return a number from 0 to 1."""
    number = float(value)  # type: ignore[arg-type]
    if not 0 <= number <= 1:
        raise ValueError(value)
    return number


def whole(value: object) -> int:
    """Return a whole number from 0 on."""
    number = int(value)  # type: ignore[call-overload]
    if number != float(value) or number < 0:  # type: ignore[arg-type]
        raise ValueError(value)
    return int(number)


def truth(value: object) -> bool:
    """Return yes or no."""
    text = str(value).lower()
    if text not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError(value)
    return text in ("true", "yes", "1")


OPTIONS = (
    Option("lod", level, 0.0, "a number from 0 (full size); level of detail, for files that hold every head"),
    Option("alpha", fraction, 0.0, "0 to 1; how much of the image is that of the resolution before (ganzoo)"),
    Option("label_size", whole, 0, "a whole number; how many of the network's inputs are a one-hot class"),
    Option("fused_scale", truth, False, "true or false; whether upsampling kernels are stored as transposed convs"),
)

FAMILY = Family(FAMILY_NAME, "PGGAN", LAYOUTS, make, OPTIONS, zeroed_by=zeroed_by)
