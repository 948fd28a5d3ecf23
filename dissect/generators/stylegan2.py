"""The StyleGAN2 family: configuration read off the tensors, stages, layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from segmodels import GanatomyError

from ..hooks import Site
from .base import Layer, State
from .family import Family, Opening, Option, Slices, check_records
from .layers import rgb
from .stylebased import StyleGenerator, as_mean, noise_maps, positive, tell_mean
from .stylegan2_layouts import LAYOUTS, LR_MULTIPLIER, MAX_BLOCKS, MAX_MAPPING
from .stylegan2_network import Block, Config, Network, StyledConv, upsampled

FAMILY_NAME = "stylegan2"
CLAMPING = ("nvlabs", "tensorflow")  # layouts whose code can clamp
# What NVIDIA's files may record about their network, and the only value for which the arithmetic here is right.
RECORDS = {
    "activation": "lrelu", "nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu", "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
}  # fmt: skip
NO_CLAMP = 256.0  # guards float16 in training; in float32 a trained network stays far below it


class StyleGAN2(StyleGenerator):
    """A StyleGAN2 generator; its layers are the outputs of its convs, its images so far and its styles."""

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
        self.config = config
        self.has_noise = config.noise
        self.w_dim, self.num_ws = config.w_dim, config.num_ws
        self._network = network
        self._stages: list[Callable[[State], State]] = []
        self._bypassed: set[str] = set()  # layers that something runs past, so that their stage is run again
        layers, sites = [], {}
        for index in range(len(config.channels)):
            for part, layer in self._block(index):
                sites[layer.name] = Site(part)
                layers.append(layer)
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
            aliases=opening.layout.modules,
        )

    def _block(self, index: int) -> list[tuple[torch.nn.Module, Layer]]:
        """Add the stages of a block and return its modules and layers in the order in which they run."""
        block = self._network.synthesis[f"b{4 * 2**index}"]
        assert isinstance(block, Block)
        found: list[tuple[torch.nn.Module, Layer]] = []
        side, width = 4 * 2**index, self.config.channels[index]
        for part in ("conv0", "conv1", "torgb"):
            module = getattr(block, part, None)
            if module is None:
                continue
            name, stage = f"synthesis.b{side}.{part}", len(self._stages)
            inputs = module.affine.weight.shape[0]
            found.append((module.affine, Layer(f"{name}.affine", inputs, 1, 1, "style", stage, False)))
            units, kind = (self.config.colors, "conv") if part == "torgb" else (width, "activation")
            found.append((module, Layer(name, units, side, side, kind, stage, part == "conv1")))
            self._stages.append(self._stage(block, part, index))
            if part == "torgb" or (part == "conv1" and hasattr(block, "skip")):
                self._bypassed.add(name)
        return found

    def _stage(self, block: Block, part: str, index: int) -> Callable[[State], State]:
        """Return one layer as a function of states; the w's are used as in the paper's config F."""
        place = 2 * index - 1 if part == "conv0" else 2 * index
        resnet = hasattr(block, "skip")

        def conv(state: State) -> State:
            module: StyledConv = getattr(block, part)
            codes, x = state.codes, state.x
            assert codes.w is not None
            if part == "conv1" and index == 0:
                x = block.const.expand(len(codes.w), -1, -1, -1)
            assert x is not None
            noise = noise_maps(codes, place, module.noise_const) if self.config.noise else None
            shortcut = block.skip(x) if part == "conv0" and resnet else state.skip
            ends = part == "conv1" and resnet
            x = module(x, codes.w[:, place], noise, gain=0.5**0.5 if ends else 1.0)
            if ends:
                assert shortcut is not None
                x, shortcut = x + shortcut, None
            return replace(state, x=x, skip=shortcut)

        def image(state: State) -> State:
            assert state.x is not None
            assert state.codes.w is not None
            added = block.torgb(state.x, state.codes.w[:, place + 1])
            return replace(state, skip=added if state.skip is None else upsampled(state.skip) + added)

        return image if part == "torgb" else conv

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per conv and per image."""
        return self._stages

    def finish(self, state: State) -> Tensor:
        """The image so far is the image."""
        assert state.skip is not None
        return rgb(state.skip)

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output: not for styles, images and ends of resnet blocks."""
        return layer.kind != "style" and layer.name not in self._bypassed

    def mapping(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return w [N, w_dim]."""
        return self._network.mapping(z, None if classes is None else self.one_hot(classes))

    def mean_w(self) -> Tensor | None:
        """Return the stored mean."""
        return self._network.mapping.w_avg if self.config.mean_w else None

    def canonical_tensors(self) -> Mapping[str, Tensor]:
        """Our names, with style biases rounded as the layout that stores them without the +1 rounds them."""
        tensors = dict(self.module.state_dict())
        return {k: (t - 1.0) + 1.0 if k.endswith("affine.bias") else t for k, t in tensors.items()}


def identity(config: Config) -> dict[str, object]:
    """Return what goes into the fingerprint: a clamp that nothing reaches does not make another generator."""
    values = asdict(config)
    del values["mean_w"]
    clamp = config.conv_clamp
    return values | {"channels": list(config.channels), "conv_clamp": None if (clamp or 1e9) >= NO_CLAMP else clamp}


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors, the file's records and the options."""
    tensors = opening.tensors
    blocks = [b for b in range(MAX_BLOCKS) if f"synthesis.b{4 * 2**b}.conv1.weight" in tensors]
    const = opening.need("synthesis.b4.const", 3)
    if blocks != list(range(len(blocks))) or not blocks:
        raise GanatomyError("checkpoint lacks some of the blocks at 4, 8, 16, … pixels")
    channels = tuple(opening.need(f"synthesis.b{4 * 2**b}.conv1.weight", 4).shape[0] for b in blocks)
    if tuple(const.shape) != (channels[0], 4, 4):
        given = list(const.shape)
        raise GanatomyError(f"checkpoint: {opening.layout.key_of('synthesis.b4.const')} is {given}, in our axes")
    layers = sum(f"mapping.fc{i}.weight" in tensors for i in range(MAX_MAPPING))
    first = opening.need("mapping.fc0.weight", 2)
    last = opening.need(f"mapping.fc{layers - 1}.weight", 2)
    num_classes, label, embedding = 0, "embed", 0
    if "mapping.embed.weight" in tensors:
        embedding, num_classes = opening.need("mapping.embed.weight", 2).shape
    elif "mapping.label_weight" in tensors:
        num_classes, embedding = opening.need("mapping.label_weight", 2).shape
        label = "concat"
    z_dim = first.shape[1] - embedding
    if z_dim < 1:
        raise GanatomyError(f"checkpoint: {opening.layout.key_of('mapping.fc0.weight')} has no columns for z")
    architecture = "skip" if "synthesis.b4.torgb.weight" in tensors else "orig"
    if any(f"synthesis.b{4 * 2**b}.skip.weight" in tensors for b in blocks):
        architecture = "resnet"
    check_records(opening.arguments, RECORDS | {"architecture": architecture})
    config = Config(
        z_dim=z_dim,
        w_dim=last.shape[0],
        hidden=first.shape[0] if layers > 1 else 0,
        mapping_layers=layers,
        channels=channels,
        colors=opening.need(f"synthesis.b{4 * 2 ** blocks[-1]}.torgb.weight", 4).shape[0],
        num_classes=num_classes,
        label=label,
        embedding=embedding,
        architecture=architecture,
        noise="synthesis.b4.conv1.noise_strength" in tensors,
        mean_w="mapping.w_avg" in tensors,
    )
    if config.colors not in (1, 3):
        raise GanatomyError(f"the network makes {config.colors} channels, expected an image of 3 or 1")
    opening.read_off(
        w_dim=config.w_dim, num_ws=config.num_ws, mapping_layers=layers, channels=list(channels),
        architecture=architecture, noise_inputs=config.noise,
    )  # fmt: skip
    tell_mean(opening, config.mean_w)
    return replace(
        config,
        lr_multiplier=opening.setting("lr_multiplier", opening.arguments.get("mapping_lrmul")),
        conv_clamp=opening.setting("conv_clamp") if opening.layout.name in CLAMPING else None,
    )


def make(opening: Opening) -> StyleGAN2:
    """Return the generator of a stored network."""
    if "img_resolution" in opening.arguments:  # a constructor's arguments: without conv_clamp there is none
        opening.arguments = {"conv_clamp": None, **opening.arguments}
    if "w_avg" in opening.given:
        opening.tensors["mapping.w_avg"] = opening.setting("w_avg")
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    return StyleGAN2(network, config, opening)


def zeroed_by(generator: StyleGAN2, module: str) -> Slices | str:
    """Return what makes a unit zero (see :class:`Family`), or why nothing does.

    Styles and images are zero where their own row is. A map has noise added after its bias, and whoever reads it
    demodulates by the very weights that would be zeroed; unless there is no noise, or only the last image reads it.
    """
    part = generator.module.get_submodule(module)
    own = ((f"{module}.weight", 0), (f"{module}.bias", 0))
    if not isinstance(part, StyledConv):
        return own
    block, _, conv = module.rpartition(".")
    if not generator.config.noise or not part.noise_strength.any():
        return own
    if module == f"synthesis.b{generator.config.resolution}.conv1" and generator.config.architecture != "resnet":
        return ((f"{block}.torgb.weight", 1),)
    readers = [f"{block}.conv1"] if conv == "conv0" else [f"synthesis.b{2 * int(block[11:])}.conv0", f"{block}.torgb"]
    names = {layer.name for layer in generator.layers}
    styles = " and ".join(f"{reader}.affine" for reader in readers if f"{reader}.affine" in names)
    return (
        "noise is added to its maps after the bias, and what reads them demodulates by the weights that would be "
        f"zeroed (the same units of {styles} can be baked, but that is another edit)"
    )


def clamp(value: object) -> float | None:
    """Return a positive number, or None for ``none``."""
    return None if value is None or str(value).lower() in ("none", "no") else positive(value)


OPTIONS = (
    Option("conv_clamp", clamp, NO_CLAMP, "a positive number or none; what training bounded every conv with"),
    Option("lr_multiplier", positive, LR_MULTIPLIER, "a positive number; runtime gain of the mapping"),
    Option("w_avg", as_mean, None, "[w_dim] or a .npy file; mean w, for files that do not hold it"),
)

LICENCE = "the file does not say; what NVIDIA released is non-commercial (NVIDIA Source Code Licence)"
FAMILY = Family(FAMILY_NAME, "StyleGAN2", LAYOUTS, make, OPTIONS, LICENCE, zeroed_by)
