"""The StyleGAN3 family, configurations T and R: configuration read off names and tensors, stages, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.files import shown

from ..hooks import Site
from .arrays import read_array
from .base import Layer, State
from .family import Family, Opening, Option, Slices
from .layers import rgb
from .stylebased import StyleGenerator, as_mean, positive, tell_mean
from .stylegan2 import LICENCE, NO_CLAMP, clamp
from .stylegan3_layouts import LAYER, LAYOUTS, MAX_MAPPING
from .stylegan3_network import Config, FilteredConv, Fourier, LayerConfig, Network, ToImage

FAMILY_NAME = "stylegan3"
# What no published network comes near: pixels of an image, taps of a filter, cells of a margin and of a kernel.
MOST_PIXELS, MOST_TAPS, MOST_MARGIN, MOST_KERNEL = 4096, 1024, 128, 15


class StyleGAN3(StyleGenerator):
    """A StyleGAN3 generator; its layers are the Fourier features, the outputs of its convs and its styles.

    The factors by which ``synthesis.input`` turns and shifts the plane are no layer: they are coordinates, not units,
    and without the first two there is no direction. The option ``transform`` moves the picture.
    """

    has_noise = False

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
        self.config = config
        self.w_dim, self.num_ws = config.w_dim, config.num_ws
        self._network = network
        parts = dict(network.synthesis.named_children())
        first, last = config.layers[0], config.layers[-1]
        # The last activation of each size of the picture; the layer that makes the image is none.
        ends = {layer.rate: layer.name for layer in config.layers[:-1] if layer.rate >= 4}
        layers = [_layer("synthesis.input", config.channels, first, "conv", 0)]
        sites = {"synthesis.input": Site(parts["input"])}
        for index, place in enumerate(config.layers):
            name_, stage = f"synthesis.{place.name}", index + 1
            layers.append(Layer(f"{name_}.affine", place.inputs, 1, 1, "style", stage, False))
            kind = "conv" if place is last else "activation"
            layers.append(_layer(name_, place.outputs, place, kind, stage, place.name in ends.values()))
            sites |= {f"{name_}.affine": Site(parts[place.name].affine), name_: Site(parts[place.name])}  # type: ignore[arg-type]
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
        )

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage for the Fourier features and one for each layer."""
        return [self._stage(index) for index in range(self.num_ws)]

    def _stage(self, index: int) -> Callable[[State], State]:
        part = list(self._network.synthesis.children())[index]

        def run(state: State) -> State:
            assert state.codes.w is not None
            w = state.codes.w[:, index]
            return replace(state, x=part(w) if index == 0 else part(state.x, w))

        return run

    def finish(self, state: State) -> Tensor:
        """The last layer, scaled, is the image."""
        assert state.x is not None
        return rgb(state.x * self.config.output_scale)

    def ends_stage(self, layer: Layer) -> bool:
        """Whether the stage's x is the layer's output: not for styles."""
        return layer.kind != "style"

    def mapping(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return w [N, w_dim]."""
        found: Tensor = self._network.mapping(z, None if classes is None else self.one_hot(classes))
        return found

    def mean_w(self) -> Tensor | None:
        """Return the stored mean."""
        return self._network.mapping.w_avg if self.config.mean_w else None


def _layer(name: str, units: int, place: LayerConfig, kind: str, stage: int, default: bool = False) -> Layer:
    return Layer(name, units, place.size, place.size, kind, stage, default, margin=place.margin)


def identity(config: Config) -> dict[str, object]:
    """Return what goes into the fingerprint: a clamp that nothing reaches does not make another generator."""
    values = asdict(config)
    del values["mean_w"]
    bound = config.conv_clamp
    return values | {"conv_clamp": None if (bound or 1e9) >= NO_CLAMP else bound}


# -- from a stored network -----------------------------------------------------------------------------------------


def _names(opening: Opening) -> list[tuple[str, int, int]]:
    """Return (name, size, channels) of each layer, in order, from the names of the tensors."""
    found = {match[1]: match for name in opening.tensors if (match := LAYER.fullmatch(name))}
    ordered = sorted(found.values(), key=lambda match: int(match[2]))
    numbers = [int(match[2]) for match in ordered]
    if numbers != list(range(len(numbers))) or len(numbers) < 3:
        raise GanatomyError(f"checkpoint: expected layers L0, L1, … without a gap, got {shown(sorted(found), 20)}")
    return [(match[1], int(match[3]), int(match[4])) for match in ordered]


def _layers(opening: Opening, margin: int) -> tuple[LayerConfig, ...]:
    """Return the layers, from their names and the shapes of their tensors."""
    names, layers = _names(opening), []
    resolution = names[-1][1]
    inputs = opening.need("synthesis.input.freqs", 2).shape[0]
    for index, (name, size, outputs) in enumerate(names):
        path = f"synthesis.{name}"
        # The last two layers have the size of the image; before them there is a margin round the picture.
        ends = index >= len(names) - 2
        rate = size if ends else size - 2 * margin
        if (ends and size != resolution) or rate > resolution or resolution > MOST_PIXELS:
            raise GanatomyError(f"checkpoint: the layer {name} has {size} cells a side, the image {resolution}")
        if rate < 1 or rate & (rate - 1):
            raise GanatomyError(
                f"checkpoint: the layer {name} is no power of two without a margin of {margin}; if the network was "
                "trained with another one, give the option margin_size"
            )
        weight = opening.need(f"{path}.weight", 4)
        kernel = weight.shape[2] if index < len(names) - 1 else 1
        if kernel > MOST_KERNEL:
            raise GanatomyError(f"checkpoint: {path}.weight is {list(weight.shape)}, expected a kernel of 1 or 3")
        taps = [tuple(opening.tensors[k].shape) if (k := f"{path}.{f}_filter") in opening.tensors else ()
                for f in ("up", "down")]  # fmt: skip
        if len(taps[0]) > 1 or len(taps[1]) > 2 or len(set(taps[1])) > 1 or max(0, 0, *taps[0], *taps[1]) > MOST_TAPS:
            raise GanatomyError(f"checkpoint: the filters of {path} are {list(taps[0])} and {list(taps[1])}")
        layers.append(LayerConfig(name, inputs, outputs, kernel, size, rate, (*taps[0], 0)[0], taps[1]))
        inputs = outputs
    return tuple(layers)


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors' names and shapes; what they do not show off the file and the options."""
    tensors = opening.tensors
    margin = opening.setting("margin_size")
    layers = _layers(opening, margin)
    count = sum(f"mapping.fc{i}.weight" in tensors for i in range(MAX_MAPPING))
    first = opening.need("mapping.fc0.weight", 2)
    last = opening.need(f"mapping.fc{count - 1}.weight", 2)
    num_classes, embedding = 0, 0
    if "mapping.embed.weight" in tensors:
        embedding, num_classes = opening.need("mapping.embed.weight", 2).shape
    if first.shape[1] <= embedding:
        raise GanatomyError("checkpoint: mapping.fc0.weight has no columns for z")
    if layers[-1].outputs not in (1, 3):
        raise GanatomyError(f"the network makes {layers[-1].outputs} channels, expected an image of 3 or 1")
    config = Config(
        z_dim=first.shape[1] - embedding,
        w_dim=last.shape[0],
        hidden=first.shape[0] if count > 1 else 0,
        mapping_layers=count,
        channels=layers[0].inputs,
        layers=layers,
        num_classes=num_classes,
        embedding=embedding,
        mean_w="mapping.w_avg" in tensors,
    )
    radial = any(len(layer.down_taps) == 2 for layer in layers)
    opening.read_off(
        w_dim=config.w_dim, num_ws=config.num_ws, mapping_layers=count, conv_kernel=layers[0].kernel,
        use_radial_filters=radial, sizes=[layer.size for layer in layers], channels=[x.outputs for x in layers],
    )  # fmt: skip
    tell_mean(opening, config.mean_w)
    config = replace(
        config,
        **{name: opening.setting(name) for name in ("lr_multiplier", "conv_clamp", "output_scale", "first_cutoff")},
        lrelu_upsampling=opening.setting("lrelu_upsampling"),
    )
    if not config.first_cutoff < layers[0].rate / 2:
        raise GanatomyError(f"option first_cutoff: expected less than {layers[0].rate / 2}, got {config.first_cutoff}")
    for index, layer in enumerate(layers):
        factors = config.factors(index)
        for factor, filter_, taps in zip(factors, ("up", "down"), ((layer.up_taps,), layer.down_taps), strict=True):
            if factor > 1 and not any(taps):
                raise GanatomyError(f"checkpoint lacks synthesis.{layer.name}.{filter_}_filter")
    return config


def make(opening: Opening) -> StyleGAN3:
    """Return the generator of a stored network."""
    for option, name in (("w_avg", "mapping.w_avg"), ("transform", "synthesis.input.transform")):
        if option in opening.given:
            opening.tensors[name] = opening.setting(option)
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    opening.fill(network)
    for name, part in network.synthesis.named_children():
        _check_divisors(f"synthesis.{name}", part)
    return StyleGAN3(network, config, opening)


def _check_divisors(name: str, part: nn.Module) -> None:
    """Raise GanatomyError for weights that the published network would divide by, and that are zero."""
    divisors: dict[str, list[Tensor]] = {}
    if isinstance(part, FilteredConv):
        dead = ~part.weight.flatten(1).any(1)
        if dead.any():
            unit = int(dead.nonzero()[0])
            raise GanatomyError(f"{name}.weight: all weights of unit {unit} are zero, which this network divides by")
        divisors["affine"] = [part.affine.weight, part.affine.bias]
    if isinstance(part, (FilteredConv, ToImage)):
        divisors["magnitude_ema"] = [part.magnitude_ema.clamp_min(0)]
    if isinstance(part, Fourier):  # cosine and sine are divided by their length
        divisors["affine"] = [part.affine.weight[:2], part.affine.bias[:2]]
    for what, tensors in divisors.items():
        if not any(bool(tensor.any()) for tensor in tensors):
            raise GanatomyError(f"{name}.{what} is not above 0, and this network divides by it")


def zeroed_by(generator: StyleGAN3, module: str) -> Slices | str:
    """Return what makes a unit zero (see :class:`Family`), or why nothing does.

    Fourier features, styles and the image are zero where their own row is. Of the maps only the last has a reader, the
    image, that neither normalises nor demodulates.
    """
    part = generator.module.get_submodule(module)
    if module == "synthesis.input":
        return ((f"{module}.weight", 0),)
    if not isinstance(part, FilteredConv):
        return ((f"{module}.weight", 0), (f"{module}.bias", 0))
    names = [layer.name for layer in generator.config.layers]
    reader = f"synthesis.{names[names.index(module.removeprefix('synthesis.')) + 1]}"
    if reader == f"synthesis.{names[-1]}":
        return ((f"{reader}.weight", 1),)
    return (
        "this network divides the weights of each unit by their size, so a row of zeros draws NaN, and what reads the "
        f"map demodulates by the weights that would be zeroed (the same units of {reader}.affine can be baked, but "
        "that is another edit)"
    )


# -- options -------------------------------------------------------------------------------------------------------


def _whole(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = int(str(value))
        if not least <= number <= most:
            raise ValueError(value)
        return number

    return parse


def as_transform(value: object) -> Tensor:
    """Return a transform [3, 3] from an array, the path of one, or nine numbers with commas between them."""
    given = value
    if isinstance(value, str) and "," in value:
        given = np.array([float(number) for number in value.split(",")], np.float32).reshape(3, 3)
    elif isinstance(value, (str, Path)):
        given = read_array(Path(value), "transform")
    found = torch.as_tensor(given).float()
    if found.shape != (3, 3) or not torch.isfinite(found).all():
        raise ValueError("expected 3 x 3 finite numbers")
    return found


OPTIONS = (
    Option("conv_clamp", clamp, NO_CLAMP, "a positive number or none; what training bounded every layer with"),
    Option("lr_multiplier", positive, 0.01, "a positive number; runtime gain of the mapping"),
    Option("output_scale", positive, 0.25, "a positive number; what the last layer is multiplied by"),
    Option("first_cutoff", positive, 2.0, "a positive number; cycles above which Fourier features fade"),
    Option("margin_size", _whole(0, MOST_MARGIN), 10, "a whole number; cells of a map round the picture"),
    Option("lrelu_upsampling", _whole(1, 8), 2, "a whole number; how much finer a layer's nonlinearity is"),
    Option("transform", as_transform, None, "3 x 3 numbers with commas, or a .npy file; moves the whole picture"),
    Option("w_avg", as_mean, None, "[w_dim] or a .npy file; mean w, for files that do not hold it"),
)

FAMILY = Family(FAMILY_NAME, "StyleGAN3", LAYOUTS, make, OPTIONS, LICENCE, zeroed_by)
