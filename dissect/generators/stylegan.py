"""The StyleGAN family: configuration read off the tensors, stages, layers.

``synthesis.layer0`` … are what a layer hands on, after the style (what genforce's and InterFaceGAN's modules of that
name return); ``synthesis.layerN.conv`` what the convolution returns, after its blur; ``synthesis.layerN.style`` the
style's numbers; ``synthesis.outputB`` the images of the heads that draw. In files of rosinality's port
``generator.progression.B`` and the like work too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site
from .base import Layer, State
from .codes import Codes
from .family import Fact, Family, Opening, Option, Slices
from .layers import rgb
from .mobilestylegan import NOISE_SEED, as_maps
from .pggan import fraction, level, truth, whole
from .pggan_network import doubled
from .stylebased import StyleGenerator, as_mean, noise_maps, positive, tell_mean
from .stylegan_layouts import (
    LAYOUTS,
    LR_MULTIPLIER,
    MAX_BLOCKS,
    MAX_MAPPING,
    PSI,
    ROSINALITY,
    StyleLayout,
    blocks_of,
    kernel_name,
)
from .stylegan_network import Config, Network, StyledLayer

FAMILY_NAME = "stylegan"
LAST = "last"  # the step at which the last block of a port draws
# What NVIDIA's files may record about their network, and the only value for which the arithmetic here is right.
RECORDS = {
    "use_wscale": True, "use_noise": True, "use_pixel_norm": False, "use_instance_norm": True, "use_styles": True,
    "const_input_layer": True, "normalize_latents": True, "nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu",
}  # fmt: skip


class StyleGAN(StyleGenerator):
    """A StyleGAN generator; its layers are its convs, its styles, its layers' outputs and the images that it draws."""

    def __init__(self, network: Network, config: Config, name: str, opening: Opening) -> None:
        self.config = config
        self.has_noise = True
        self.w_dim, self.num_ws = config.w_dim, config.num_ws
        self._network = network
        self._stages: list[Callable[[State], State]] = []
        self._sites_found: dict[str, Site] = {}
        self._layers_found: list[Layer] = []
        for index in range(2 * config.finest + 2):
            self._layer(index)
            if index % 2 and index // 2 in config.drawing:
                self._head(index // 2)
        super().__init__(
            name=name,
            family=FAMILY_NAME,
            flavour=opening.layout.name,
            module=network,
            sites=self._sites_found,
            layers=self._layers_found,
            resolution=config.resolution,
            z_dim=config.z_dim,
            num_classes=config.num_classes or None,
            device=opening.device,
            file_sha256=opening.origin.sha256 or None,
            configuration=identity(config),
            aliases=opening.layout.modules,
        )

    def _add(self, name: str, module: nn.Module, units: int, side: int, kind: str, default: bool = False) -> None:
        self._layers_found.append(Layer(name, units, side, side, kind, len(self._stages), default))
        self._sites_found[name] = Site(module)

    def _layer(self, index: int) -> None:
        """Add a layer and its stage."""
        name, side, units = f"synthesis.layer{index}", 4 * 2 ** (index // 2), self.config.channels[index]
        module = self._network.get_submodule(name)
        assert isinstance(module, StyledLayer)
        if index:
            self._add(f"{name}.conv", module.conv, units, side, "conv")
        self._add(f"{name}.style", module.style, 2 * units, 1, "style")
        self._add(name, module, units, side, "norm", default=index % 2 == 1)
        # The port draws one map for each resolution, which both of its layers use.
        place = index // 2 if self.config.port else index

        def run(state: State) -> State:
            assert state.codes.w is not None
            noise = noise_maps(state.codes, place, module.noise_const)
            return replace(state, x=module(state.x, state.codes.w[:, index], noise))

        self._stages.append(run)

    def _head(self, block: int) -> None:
        """Add a head and its stage; a blend takes its share of the image so far from it."""
        name, side = f"synthesis.output{block}", 4 * 2**block
        module = self._network.get_submodule(name)
        self._add(name, module, self.config.colors, side, "conv")
        share = 1.0 - self.config.fade if block == self.config.finest else 1.0

        def run(state: State) -> State:
            image = module(state.x)
            if state.skip is not None:
                image = image * share + doubled(state.skip) * (1.0 - share)
            return replace(state, skip=image)

        self._stages.append(run)

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per layer, and one per head that draws."""
        return self._stages

    def finish(self, state: State) -> Tensor:
        """The image so far, at full size, is the image."""
        assert state.skip is not None
        return rgb(doubled(state.skip, self.config.shown - self.config.finest))

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output: only for what a layer hands on."""
        return layer.kind == "norm"

    def mapping(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return w [N, w_dim]."""
        return self._network.mapping(z, None if classes is None else self.one_hot(classes))

    def mean_w(self) -> Tensor | None:
        """Return the stored mean."""
        return self._network.mapping.w_avg if self.config.mean_w else None

    def canonical_tensors(self) -> Mapping[str, Tensor]:
        """What draws, with the noise maps that are used; not the factors of truncation, which codes bring along."""
        config, tensors = self.config, self.module.state_dict()
        layers = [f"synthesis.layer{index}" for index in range(2 * config.finest + 2)]
        parts = ("mapping.", *(f"{name}." for name in layers), *(f"synthesis.output{b}." for b in config.drawing))
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith(parts) and name != PSI}
        if config.port:
            for name in layers:
                module = self.module.get_submodule(name)
                assert isinstance(module, StyledLayer)
                kept[f"{name}.noise_const"] = module.noise_const
        return kept


def identity(config: Config) -> dict[str, object]:
    """Return what goes into the fingerprint: not which heads and buffers there are, nor a lod of 0."""
    values = asdict(config)
    for name in ("heads", "mean_w", "stored_lod", "psi") + (() if config.lod else ("lod",)):
        del values[name]
    return values | {"channels": list(config.channels), "fused": list(config.fused)}


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


def make(opening: Opening) -> StyleGAN:
    """Return the generator of a stored network."""
    port = opening.layout is ROSINALITY
    for names, belongs in ((("lod", "fused_scale", "lr_multiplier"), not port), (("step", "alpha", "noise"), port)):
        wrong = [name for name in names if name in opening.given]
        if wrong and not belongs:
            raise GanatomyError(f"option {wrong[0]} is not for the layout {opening.layout.name}")
    for name, wanted in RECORDS.items():
        if opening.arguments.get(name, wanted) != wanted:
            raise GanatomyError(f"the file records {name}={opening.arguments[name]!r:.60}, expected {wanted!r}")
    _settle_fused(opening)
    if "w_avg" in opening.given:
        opening.tensors["mapping.w_avg"] = opening.setting("w_avg")
    config = configure(opening)
    # A conv may choose its arithmetic by how the weights lie in memory: let it be one for all layouts.
    opening.tensors = {name: tensor.contiguous() for name, tensor in opening.tensors.items()}
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    if config.psi:
        opening.facts.append(Fact("truncation", f"the file suggests {_told(opening.tensors[PSI])}", "file"))
    maps = _set_noise(network, config, opening) if port else None
    generator = StyleGAN(network, config, opening.name, opening)
    generator.noted = {} if maps is None else {"noise": maps}
    return generator


def _told(psi: Tensor) -> str:
    """Return stored factors of truncation in words."""
    values = psi.tolist()
    if len(set(values)) == 1:
        return f"{values[0]:g}"
    cutoff = sum(value != 1 for value in values)
    if values[:cutoff] == values[:1] * cutoff:
        return f"{values[0]:g} with cutoff {cutoff}"
    return "a factor of its own for each w"


def _settle_fused(opening: Opening) -> None:
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
    same = [known for known in LAYOUTS if isinstance(known, StyleLayout) and known.name.partition("-")[0] == code]
    wanted = next(known for known in same if known.implied["fused_scale"] == chosen)
    for block in range(1, MAX_BLOCKS):
        name = kernel_name(2 * block)
        if name in opening.tensors and layout.fused(block) != wanted.fused(block):
            tensor = opening.tensors[name]
            if tensor.ndim == 4:  # what is not is refused later
                opening.tensors[name] = tensor.flip(-2, -1)
    opening.layout = wanted
    opening.origin = replace(opening.origin, layout=wanted)


def _set_noise(network: Network, config: Config, opening: Opening) -> dict[str, Tensor] | None:
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


def zeroed_by(generator: StyleGAN, module: str) -> Slices:
    """Return what makes a unit zero (see :class:`Family`).

    A conv, a style and an image are zero where their own row is. What a layer hands on is read by plain convolutions
    only, the next layer's and a head's, which do not see a unit whose column is zero.
    """
    part = generator.module.get_submodule(module)
    if not isinstance(part, StyledLayer):
        prefix = f"{module}.{part.kept}" if module.endswith(".conv") else module
        own = ((f"{prefix}.weight", 0), (f"{prefix}.bias", 0))
        return own[: 1 + (f"{prefix}.bias" in generator.module.state_dict())]
    index = int(module.removeprefix("synthesis.layer"))
    read: list[tuple[str, int]] = []
    if index + 1 < 2 * generator.config.finest + 2:
        follower = generator.module.get_submodule(f"synthesis.layer{index + 1}.conv")
        read.append((f"synthesis.layer{index + 1}.conv.{follower.kept}.weight", 1))
    if index % 2 and index // 2 in generator.config.drawing:
        read.append((f"synthesis.output{index // 2}.weight", 1))
    return tuple(read)


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

LICENCE = "the file does not say; what NVIDIA released is non-commercial"
FAMILY = Family(FAMILY_NAME, "StyleGAN", LAYOUTS, make, OPTIONS, LICENCE, zeroed_by)
