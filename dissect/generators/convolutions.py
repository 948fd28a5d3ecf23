"""Which convolution makes a layer, and how it reads its input: what an edit of weights has to know.

A network's own module that modulates its input says so itself: it has ``style``, the name of the module that makes the
factors, and ``keyed(x, style)``, what enters the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from segmodels import GanatomyError

from ..weight_edits import WeightEdit
from .layers import Layer

if TYPE_CHECKING:
    from .base import Generator

Pair = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """How a convolution reads its input.

    Attributes:
        weight: name of the tensor within its module.
        swapped: whether that is stored [I, O, kh, kw].
        upsampling: whether it is a transposed convolution: every input pixel is written to a patch of the output.
        stride, padding, dilation, output_padding: as in torch.
    """

    weight: str
    swapped: bool = False
    upsampling: bool = False
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    output_padding: Pair = (0, 0)


@runtime_checkable
class Modulated(Protocol):
    """A module of ours whose convolution sees its input times factors that another module makes."""

    style: str

    def reading(self) -> Reading:
        """Return how the convolution reads what enters it."""

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution, [N, I, h, w], of the module's input and the factors [N, C, 1, 1]."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """The convolution that makes a layer.

    Attributes:
        layer: the first layer that depends on its weight.
        observed: the layer that was asked for: this one, or what a norm and an activation make of it.
        module: whose input is read. weight: name of the tensor in the whole network.
        reading: how the input is read.
        tensor: the weight, in its own layout.
    """

    layer: str
    observed: str
    module: nn.Module
    weight: str
    reading: Reading
    tensor: Tensor

    @property
    def outputs(self) -> int:
        """O, the number of values."""
        return int(self.tensor.shape[1 if self.reading.swapped else 0])

    @property
    def inputs(self) -> int:
        """I, the number of channels of the input."""
        return int(self.tensor.shape[0 if self.reading.swapped else 1])

    @property
    def kernel(self) -> Pair:
        """Height and width of the patches."""
        return int(self.tensor.shape[2]), int(self.tensor.shape[3])


def convolution_of(generator: Generator, layer: str) -> Convolution:
    """Return the convolution that makes a layer: its own, or in a chain the last one before it.

    Raises:
        GanatomyError: if no convolution makes the layer, or one whose weights cannot be told apart.
    """
    place = generator.layer(layer)
    names = {module: name for name, module in generator.module.named_modules()}
    found = _own(generator, place)
    if found is None:
        close = ", ".join(one.name for one in generator.layers if _own(generator, one) is not None)
        raise GanatomyError(
            f"no convolution makes layer {layer!r}, so it has no weight to rewrite; these have: {close}"
        )
    first, module = found
    reading = _reading(module, first)
    if reading.weight not in module._parameters:
        raise GanatomyError(f"layer {first!r}: its weight is computed from others (a parametrization), not stored")
    weight = f"{names[module]}.{reading.weight}".lstrip(".")
    with generator.lock:  # a pass beside this one may have exchanged it
        tensor = module._parameters[reading.weight]
    assert tensor is not None
    return Convolution(first, place.name, module, weight, reading, tensor)


def check_weight(generator: Generator, edit: WeightEdit) -> None:
    """Raise GanatomyError unless an edit is of the weight that makes its layer, which depends on it first.

    A pass that resumes relies on that: where the layer is, there the edit begins to act.
    """
    known: dict[str, Convolution] = vars(generator).setdefault("_made_by", {})
    if edit.layer not in known:
        known[edit.layer] = convolution_of(generator, edit.layer)
    made = known[edit.layer]
    if (made.layer, made.weight) != (edit.layer, edit.weight):
        raise GanatomyError(
            f"layer {edit.layer!r} is made by the weight {made.weight!r} (of layer {made.layer!r}), the edit names "
            f"{edit.weight!r}; it is for another generator, or another layer"
        )
    edit.check(made.tensor)


def _own(generator: Generator, place: Layer) -> tuple[str, nn.Module] | None:
    """Return the convolution that makes a layer and the first layer that depends on it."""
    if place.kind == "style" or generator._sites[place.name].call:
        return None
    beside = [layer for layer in generator.layers if layer.stage == place.stage and layer.kind != "style"]
    own = _inside(generator._sites[place.name].module)
    if len(own) == 1:
        return _first(generator, beside, own[0]).name, own[0]
    if own or (len(beside) == len(generator.layers) and not generator.chained):
        return None  # several in one module; or one opaque network, where what is near says nothing
    shared = {module for layer in beside for module in _inside(generator._sites[layer.name].module)}
    if len(shared) == 1:
        first = _first(generator, beside, next(iter(shared)))
        if beside.index(first) <= beside.index(place):
            return first.name, shared.pop()
        shared.clear()
    if shared or not generator.chained:
        return None
    before = [layer for layer in generator.layers if layer.stage < place.stage]
    return _own(generator, before[-1]) if before else None


def _first(generator: Generator, beside: Sequence[Layer], module: nn.Module) -> Layer:
    """Return the first layer of a stage that depends on its convolution: it has it, or is what was made of it."""
    for layer in beside:
        parts = _inside(generator._sites[layer.name].module)
        if module in parts or (layer.kind == "conv" and not parts and not generator.chained):
            return layer
    raise AssertionError("the convolution is in none of its stage's layers")


def _inside(module: nn.Module) -> list[nn.Module]:
    """Return the convolutions of a module: itself, or those below it."""
    return [part for part in module.modules() if _is_convolution(part)]


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or hasattr(module, "reading")


def _reading(module: nn.Module, layer: str) -> Reading:
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        reading: Reading = module.reading()  # type: ignore[operator]
        return reading
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise GanatomyError(
            f"layer {layer!r}: expected a convolution of all channels (groups=1) with zeros as padding, got "
            f"groups={module.groups}, padding_mode={module.padding_mode!r}, padding={module.padding!r}"
        )
    up = isinstance(module, nn.ConvTranspose2d)
    output_padding = module.output_padding if isinstance(module, nn.ConvTranspose2d) else (0, 0)
    return Reading(
        "weight", up, up, _pair(module.stride), _pair(module.padding), _pair(module.dilation), _pair(output_padding)
    )


def _pair(values: Sequence[int]) -> Pair:
    height, width = values
    return int(height), int(width)


def keys_in(
    convolution: Convolution, inputs: Sequence[object], named: Mapping[str, object], style: Tensor | None
) -> Tensor:
    """Return what entered a convolution, [N, I, h, w], of what its module was called with."""
    x = inputs[0] if inputs else next(iter(named.values()))
    if not isinstance(x, Tensor):
        raise GanatomyError(f"layer {convolution.layer!r}: its convolution was not called with one tensor")
    if isinstance(convolution.module, Modulated):
        assert style is not None
        return convolution.module.keyed(x, style)
    return x
