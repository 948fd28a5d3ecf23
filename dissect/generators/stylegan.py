"""The StyleGAN family: stages and layers; what its files say is read in ``stylegan_settings``.

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
from .family import Fact, Family, Opening, Slices, check_records
from .layers import rgb
from .pggan_network import doubled
from .stylebased import StyleGenerator, noise_maps
from .stylegan_layouts import PSI
from .stylegan_network import Config, Network, StyledLayer
from .stylegan_port import ROSINALITY
from .stylegan_settings import LAYOUTS, OPTIONS, configure, set_noise, settle_fused, told

FAMILY_NAME = "stylegan"
# What NVIDIA's files may record about their network, and the only value for which the arithmetic here is right.
RECORDS = {
    "use_wscale": True, "use_noise": True, "use_pixel_norm": False, "use_instance_norm": True, "use_styles": True,
    "const_input_layer": True, "normalize_latents": True, "nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu",
}  # fmt: skip


class StyleGAN(StyleGenerator):
    """A StyleGAN generator; its layers are its convs, its styles, its layers' outputs and the images that it draws."""

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
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
            **opening.common,
            family=FAMILY_NAME,
            module=network,
            sites=self._sites_found,
            layers=self._layers_found,
            resolution=config.resolution,
            z_dim=config.z_dim,
            num_classes=config.num_classes or None,
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


def make(opening: Opening) -> StyleGAN:
    """Return the generator of a stored network."""
    port = opening.layout is ROSINALITY
    for names, belongs in ((("lod", "fused_scale", "lr_multiplier"), not port), (("step", "alpha", "noise"), port)):
        wrong = [name for name in names if name in opening.given]
        if wrong and not belongs:
            raise GanatomyError(f"option {wrong[0]} is not for the layout {opening.layout.name}")
    check_records(opening.arguments, RECORDS)
    settle_fused(opening)
    if "w_avg" in opening.given:
        opening.tensors["mapping.w_avg"] = opening.setting("w_avg")
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    if config.psi:
        opening.facts.append(Fact("truncation", f"the file suggests {told(opening.tensors[PSI])}", "file"))
    maps = set_noise(network, config, opening) if port else None
    generator = StyleGAN(network, config, opening)
    generator.noted = {} if maps is None else {"noise": maps}
    return generator


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


LICENCE = "the file does not say; what NVIDIA released is non-commercial"
FAMILY = Family(FAMILY_NAME, "StyleGAN", LAYOUTS, make, OPTIONS, LICENCE, zeroed_by)
