"""The MobileStyleGAN family: configuration read off the tensors, stages, layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site
from .arrays import read_arrays
from .base import Layer, State
from .codes import Codes
from .family import Fact, Family, Opening, Option, Slices
from .haar import SUBBANDS, inverse_haar
from .mobilestylegan_layouts import LAYOUTS, MAX_BLOCKS, MAX_MAPPING, OfGraphs
from .mobilestylegan_network import Block, Config, Network, StyledConv, ToImage, Upsampler
from .stylebased import StyleGenerator, as_mean, noise_maps, positive, tell_mean

FAMILY_NAME = "mobilestylegan"
NOISE_SEED = 0  # of the constant maps of a file without any: const is what noise seed 0 is


class MobileStyleGAN(StyleGenerator):
    """A MobileStyleGAN generator; its layers are the outputs of its convs and upsamplings, and its styles."""

    def __init__(self, network: Network, config: Config, mean: Tensor | None, opening: Opening) -> None:
        self.config = config
        self.w_dim, self.num_ws = config.w_dim, config.num_ws
        self._network = network
        self._mean = mean
        self._stages: list[Callable[[State], State]] = []
        self._layers: list[Layer] = []
        self._places: dict[str, Site] = {}
        synthesis = network.synthesis
        self._conv("synthesis.conv1", synthesis.conv1, 4, 0, 0, last=True)
        for index, block in enumerate(synthesis.layers):
            assert isinstance(block, Block)
            self._block(f"synthesis.layers.{index}", block, index)
        super().__init__(
            **opening.common,
            family=FAMILY_NAME,
            module=network,
            sites=self._places,
            layers=self._layers,
            resolution=config.resolution,
            z_dim=config.z_dim,
            configuration=identity(config),
            aliases=opening.layout.modules,
        )

    def _block(self, name: str, block: Block, index: int) -> None:
        """Add a block's stages: the first w is used twice."""
        size, place = 8 * 2**index, 3 * index + 1
        self._up(f"{name}.up", block.up, size, place)
        self._conv(f"{name}.conv1", block.conv1, size, place, 2 * index + 1)
        self._conv(f"{name}.conv2", block.conv2, size, place + 1, 2 * index + 2, last=True)
        if index == self.config.blocks - 1:
            self._image(f"{name}.to_img", block.to_img, size, place + 2)

    def _add(self, name: str, module: nn.Module, units: int, size: int, kind: str, default: bool) -> None:
        """Add a module's style and its output as layers of the stage that comes next."""
        style = module.modulation
        assert isinstance(style, nn.Linear)
        stage = len(self._stages)
        self._layers.append(Layer(f"{name}.modulation", style.out_features, 1, 1, "style", stage, False))
        self._layers.append(Layer(name, units, size, size, kind, stage, default))
        self._places |= {f"{name}.modulation": Site(style), name: Site(module)}

    def _conv(self, name: str, conv: StyledConv, size: int, place: int, noise: int, last: bool = False) -> None:
        """Add a styled conv that uses the w at ``place`` and the noise map of the index ``noise``."""
        self._add(name, conv, len(conv.bias), size, "activation", last)

        def stage(state: State) -> State:
            codes, x = state.codes, state.x
            assert codes.w is not None
            if noise == 0:
                x = self._network.synthesis.input.expand(len(codes.w), -1, -1, -1)
            assert x is not None
            maps = noise_maps(codes, noise, conv.noise_const)
            scaled = None if maps is None else conv.scaled(maps, stored=codes.noise is None)
            return replace(state, x=conv(x, codes.w[:, place], scaled))

        self._stages.append(stage)

    def _up(self, name: str, up: Upsampler, size: int, place: int) -> None:
        self._add(name, up, up.modulation.out_features // SUBBANDS, size, "block", False)
        self._stages.append(lambda state: self._styled(up, state, place))

    def _image(self, name: str, head: ToImage, size: int, place: int) -> None:
        self._add(name, head, len(head.bias), size, "conv", False)
        self._stages.append(lambda state: self._styled(head, state, place))

    def _styled(self, module: nn.Module, state: State, place: int) -> State:
        assert state.codes.w is not None
        return replace(state, x=module(state.x, state.codes.w[:, place]))

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage per upsampling, per conv, and one for the image's Haar transform."""
        return self._stages

    def finish(self, state: State) -> Tensor:
        """Return the image of its Haar transform."""
        assert state.x is not None
        return inverse_haar(state.x).contiguous().float()

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output: for all but styles."""
        return layer.kind != "style"

    def mapping(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return w [N, w_dim]."""
        return self._network.mapping(z)

    def mean_w(self) -> Tensor | None:
        """Return the stored or given mean."""
        return self._mean

    def canonical_tensors(self) -> Mapping[str, Tensor]:
        """Our names, without the images that nothing draws, and with the noise maps and the mean that are used."""
        last = f"synthesis.layers.{self.config.blocks - 1}."
        kept = {k: t for k, t in self.module.state_dict().items() if ".to_img" not in k or k.startswith(last)}
        for name, module in self.module.named_modules():
            if isinstance(module, StyledConv):
                kept[f"{name}.noise_const"] = module.noise_const
        kept.pop("mapping.style_mean", None)
        return kept if self._mean is None else kept | {"mapping.style_mean": self._mean}


def identity(config: Config) -> dict[str, object]:
    """Return what goes into the fingerprint: what a file has but nothing uses does not make another generator."""
    values = asdict(config) | {"channels": list(config.channels)}
    return {key: value for key, value in values.items() if key not in ("heads", "mean_rows")}


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors and the options."""
    tensors = opening.tensors
    folded = opening.layout.name != "bes-dev"
    blocks = [b for b in range(MAX_BLOCKS) if f"synthesis.layers.{b}.conv2.bias" in tensors]
    if blocks != list(range(len(blocks))) or not blocks:
        raise GanatomyError("checkpoint lacks some of the blocks at 8, 16, 32, … pixels")
    convs = ["synthesis.conv1", *(f"synthesis.layers.{b}.conv2" for b in blocks)]
    channels = tuple(opening.need(f"{conv}.bias", 1).shape[0] for conv in convs)
    if any(count % SUBBANDS for count in channels[:-1]):
        raise GanatomyError(
            f"checkpoint: its convs have {list(channels)} channels; a Haar transform needs multiples of 4"
        )
    layers = sum(f"mapping.layers.{i}.weight" in tensors for i in range(1, MAX_MAPPING + 1))
    w_dim = opening.need("synthesis.conv1.modulation.weight", 2).shape[1]
    mean = tensors.get("mapping.style_mean")
    if mean is not None and mean.ndim not in (1, 2):
        raise GanatomyError(f"checkpoint: {opening.layout.key_of('mapping.style_mean')} is no mean w")
    config = Config(
        z_dim=opening.need("mapping.layers.1.weight", 2).shape[1],
        w_dim=w_dim,
        mapping_layers=layers,
        channels=channels,
        folded=folded,
        heads="synthesis.to_img1.weight" in tensors,
        mean_rows=0 if mean is None else 1 if mean.ndim == 1 else len(mean),
    )
    opening.read_off(
        w_dim=w_dim, num_ws=config.num_ws, mapping_layers=layers, channels=list(channels), folded=folded,
    )  # fmt: skip
    tell_mean(opening, mean is not None)
    if folded:
        opening.read_off(noise="stored maps", noise_strength="root mean square of each stored map")
        return replace(config, lr_multiplier=1.0)
    return replace(config, lr_multiplier=opening.setting("lr_multiplier"))


def make(opening: Opening) -> MobileStyleGAN:
    """Return the generator of a stored network."""
    if isinstance(opening.tensors, OfGraphs):
        opening.layout = opening.tensors.layout
        opening.origin = replace(opening.origin, layout=opening.layout)
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    maps: dict[str, Tensor] | None = None
    if config.folded:
        for option in ("noise", "lr_multiplier"):
            if option in opening.given:
                raise GanatomyError(f"option {option}: this network has its own in its weights")
    else:
        maps = _set_noise(network, opening)
    generator = MobileStyleGAN(network, config, _mean(network, config, opening), opening)
    generator.noted = {} if maps is None else {"noise": maps}
    return generator


def _mean(network: Network, config: Config, opening: Opening) -> Tensor | None:
    """Return the mean w [w_dim]: the given one, else the file's, else None."""
    if "w_avg" in opening.given:
        mean = opening.setting("w_avg")
        if mean.shape != (config.w_dim,):
            raise GanatomyError(f"option w_avg: expected {config.w_dim} numbers, got {len(mean)}")
        opening.facts = [fact for fact in opening.facts if fact.name not in ("mean_w", "w_avg")]
        opening.facts.append(Fact("mean_w", "given", "option"))
        return mean
    if not config.mean_rows:
        return None
    stored = network.mapping.style_mean.reshape(-1, config.w_dim)
    if not (stored == stored[0]).all():
        key = opening.layout.key_of("mapping.style_mean")
        raise GanatomyError(f"checkpoint: {key} has another mean for each w; not supported")
    return stored[0]


def _set_noise(network: Network, opening: Opening) -> dict[str, Tensor] | None:
    """Give the convs the constant noise maps that the file does not hold, and return them if they were given."""
    given: dict[str, Tensor] | None = opening.setting("noise")
    told = f"noise seed {NOISE_SEED}" if given is None else "given maps"
    opening.facts[-1] = Fact("noise", told, opening.facts[-1].source)
    found: dict[int, int] = {}
    convs = [module for module in network.synthesis.modules() if isinstance(module, StyledConv)]
    for index, conv in enumerate(convs):
        size = conv.noise_const.shape[0]
        row = found[size] = found.get(size, -1) + 1
        if given is None:
            codes = Codes(None, noise=torch.tensor([NOISE_SEED]))
            maps = noise_maps(codes, index, torch.empty(size, size))
            assert maps is not None
            conv.noise_const = maps[0, 0]
            continue
        expected = [1, 1, 4, 4] if index == 0 else [2, 1, 1, size, size]
        array = given.get(f"noise_{size}")
        if array is None or list(array.shape) != expected:
            what = "nothing" if array is None else list(array.shape)
            raise GanatomyError(f"option noise: expected noise_{size} {expected}, got {what}")
        conv.noise_const = array.reshape(-1, size, size)[row].clone()
    return given


def zeroed_by(generator: MobileStyleGAN, module: str) -> Slices:
    """Return what makes a unit zero (see :class:`Family`): its row of a style or of the image, else its reader's style.

    Noise is added to a map after its bias. But one module reads it, by a style that demodulates nothing (``style_inv``
    does), so that a style of 0 is a map of 0. (Images that nothing draws do not count as readers.)
    """
    chain = [layer.name for layer in generator.layers if layer.kind != "style"]
    if module in chain[:-1]:
        module = f"{chain[chain.index(module) + 1]}.modulation"
    return ((f"{module}.weight", 0), (f"{module}.bias", 0))


def as_maps(value: object) -> dict[str, Tensor]:
    """Return noise maps by name, from a mapping of arrays or the path of a file with them."""
    arrays = read_arrays(Path(value)) if isinstance(value, (str, Path)) else value
    if not isinstance(arrays, Mapping):
        raise TypeError(value)
    maps = {str(k): torch.as_tensor(v).float() for k, v in arrays.items() if str(k).startswith("noise_")}
    if not all(torch.isfinite(tensor).all() for tensor in maps.values()):
        raise ValueError("NaN")
    return maps


OPTIONS = (
    Option("lr_multiplier", positive, 0.01, "a positive number; runtime gain of the mapping"),
    Option(
        "noise",
        as_maps,
        None,
        "a .npz file with noise_4 [1, 1, 4, 4], noise_8 [2, 1, 1, 8, 8], …; the constant noise, for files without",
    ),
    Option("w_avg", as_mean, None, "[w_dim] or a .npy file; mean w, for files that do not hold it"),
)

LICENCE = "the file does not say; what was distilled from NVIDIA's networks is non-commercial"
FAMILY = Family(FAMILY_NAME, "MobileStyleGAN", LAYOUTS, make, OPTIONS, LICENCE, zeroed_by)
