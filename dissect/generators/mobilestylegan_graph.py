"""Where a MobileStyleGAN's tensors are in its OpenVINO graphs, found by what the graphs compute.

Exported graphs have multiplied out what is constant: demodulated kernels, noise maps in their strength, the mapping's
gains. Their constants are mostly called by numbers, so the graphs are followed from the result to the input, and every
operation on the way has to be the one that this network has there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import shown

from .checkpoint import Graph, Node
from .layouts import Change, Place, chain, followed_by, led_by, same

GRAPHS = ("MappingNetwork", "SynthesisNetwork")
CLOSE = 1e-6  # relative: the arithmetic's numbers are given in float32
ROOT_HALF = math.sqrt(0.5)
FILTERS = ((ROOT_HALF, ROOT_HALF), (ROOT_HALF, -ROOT_HALF))  # low and high, of the Haar transform
MAX_EXPANSIONS = 8  # operations that repeat the learned constant for each sample

Changes = tuple[Change, Change]
AS_IT_IS: Changes = (same, same)
ROW = led_by(1)  # [1, C] in the file
CHANNELS = chain(led_by(1), followed_by(2))  # [1, C, 1, 1]
MAP = led_by(2)  # [1, 1, h, w]


def _grouped() -> Changes:
    """Return the changes of depthwise kernels, [groups, 1, 1, k, k] in the file."""

    def read(tensor: Tensor) -> Tensor:
        if tensor.ndim != 5 or tensor.shape[1] != 1:
            raise IndexError("expected one output for each group")
        return tensor[:, 0]

    return read, lambda t: t[:, None]


GROUPED = _grouped()


class Walk:
    """A walk through one graph, from its result backwards.

    Attributes:
        places: of the constants that are weights.
        known: keys of the constants that belong to the arithmetic.
    """

    def __init__(self, graph: Graph, name: str, tensors: Mapping[str, Tensor]) -> None:
        self._nodes = graph.nodes
        self._name = name
        self._tensors = tensors
        self.places: list[Place] = []
        self.known: set[str] = set()

    def wrong(self, node: Node, expected: str) -> GanatomyError:
        """Return the error for a graph that computes something else."""
        what = shown([f"{self._name}: {node.type} {node.name}"])
        return GanatomyError(f"{what} is not what MobileStyleGAN has there, expected {expected}")

    def count(self, kind: str) -> int:
        """Return how many operations of a kind there are."""
        return sum(node.type == kind for node in self._nodes.values())

    def result(self) -> Node:
        """Return what the graph's only result is."""
        found = [node for node in self._nodes.values() if node.type == "Result"]
        if len(found) != 1:
            raise GanatomyError(f"{self._name} has {len(found)} results, expected one")
        return self.inputs(found[0], "Result", 1)[0]

    def inputs(self, node: Node, kind: str, count: int, **attributes: str) -> list[Node]:
        """Return what feeds a node, which has to be of that kind and have these attributes."""
        if node.type != kind or len(node.inputs) != count:
            raise self.wrong(node, kind)
        for key, value in attributes.items():
            if node.attributes.get(key, "").replace(" ", "") != value:
                raise self.wrong(node, f"{kind} with {key}={value}")
        return [self._nodes[source] for source in node.inputs]

    def pair(self, node: Node, kind: str, *second: str) -> tuple[Node, Node]:
        """Return the two inputs of a sum or product: first the one that is of none of the kinds ``second``."""
        one, other = self.inputs(node, kind, 2)
        if (one.type in second) == (other.type in second):
            raise self.wrong(node, f"{kind} with one {' or '.join(second)}")
        return (other, one) if one.type in second else (one, other)

    def weight(self, node: Node, name: str, changes: Changes = AS_IT_IS) -> Tensor:
        """Note that a constant is the tensor of that canonical name, and return it as stored."""
        key = self._key(node, f"the constant {name}")
        if not self._tensors[key].numel():
            raise self.wrong(node, f"numbers for {name}")
        self.places.append(Place(name, key, *changes))
        return self._tensors[key]

    def number(self, node: Node, *expected: float) -> None:
        """Check that a constant repeats these numbers."""
        if not self.repeats(node, *expected):
            raise self.wrong(node, " and ".join(f"{number:g}" for number in expected))
        self.known.add(self._key(node, "a constant"))

    def repeats(self, node: Node, *expected: float) -> bool:
        """Return whether a constant repeats these numbers."""
        given = self._tensors[self._key(node, "a constant")].double().reshape(-1)
        if not given.numel() or given.numel() % len(expected):
            return False
        wanted = torch.tensor(expected, dtype=torch.float64).repeat(given.numel() // len(expected))
        return torch.allclose(given, wanted, CLOSE, 0.0)

    def _key(self, node: Node, expected: str) -> str:
        key = f"{self._name}/{node.name}"
        if node.type != "Const" or key not in self._tensors:
            raise self.wrong(node, expected)
        return key

    # -- the network's parts -------------------------------------------------------------------------------

    def leaky(self, node: Node) -> Node:
        """Return what goes into a leaky ReLU."""
        value, slope = self.inputs(node, "PReLU", 2)
        self.number(slope, 0.2)
        return value

    def linear(self, node: Node, name: str, bias: Changes) -> Node:
        """Return what goes into a linear layer."""
        product, added = self.pair(node, "Add", "Const", "Reshape")
        if added.type == "Reshape":
            added = self.inputs(added, "Reshape", 2)[0]
        value, weight = self.inputs(product, "MatMul", 2, transpose_a="false", transpose_b="true")
        self.weight(weight, f"{name}.weight")
        self.weight(added, f"{name}.bias", bias)
        return value

    def normalised(self, node: Node) -> None:
        """Check that this is the input over the root of its mean square."""
        source, inverse = self.pair(node, "Multiply", "Multiply")
        self.inputs(source, "Parameter", 0)
        power, one = self.pair(inverse, "Multiply", "Const")
        self.number(one, 1.0)
        for exponent in (-1.0, 0.5):
            power, number = self.inputs(power, "Power", 2)
            self.number(number, exponent)
        mean, epsilon = self.pair(power, "Add", "Const")
        self.number(epsilon, 1e-8)
        square, axis = self.inputs(mean, "ReduceMean", 2, keep_dims="true")
        self.number(axis, 1.0)
        base, number = self.inputs(square, "Power", 2)
        self.number(number, 2.0)
        if base.id != source.id:
            raise self.wrong(base, "the input")

    def modulated(self, node: Node, name: str, scale: float | None) -> Node:
        """Return the features that a style multiplies."""
        features, style = self.pair(node, "Multiply", "Multiply", "Reshape")
        if scale is not None:
            style, number = self.pair(style, "Multiply", "Const")
            self.number(number, scale)
        source = self.linear(self.inputs(style, "Reshape", 2)[0], f"{name}.modulation", ROW)
        self.inputs(source, "Parameter", 0)
        return features

    def conv(self, node: Node, name: str) -> Node:
        """Return what goes into a styled conv."""
        value, bias = self.pair(self.leaky(node), "Add", "Const")
        self.weight(bias, f"{name}.bias", CHANNELS)
        value, noise = self.pair(value, "Add", "Const")
        self.weight(noise, f"{name}.noise_const", MAP)
        source, kernel = self.inputs(value, "Convolution", 2)
        if source.type != "GroupConvolution":
            self._plain(value, "1,1")
            inputs = self.weight(kernel, f"{name}.weight").shape[1:2].numel()
        else:
            self._plain(value, "0,0")
            self.weight(kernel, f"{name}.weight_permute")
            self._plain(source, "1,1")
            source, depthwise = self.inputs(source, "GroupConvolution", 2)
            inputs = self.weight(depthwise, f"{name}.weight_dw", GROUPED).shape[:1].numel()
        return self.modulated(source, name, 1 / math.sqrt(9 * inputs))

    def image(self, node: Node, name: str) -> Node:
        """Return what goes into the layer that draws."""
        value, bias = self.pair(node, "Add", "Const")
        self.weight(bias, f"{name}.bias", CHANNELS)
        source, kernel = self.inputs(value, "Convolution", 2)
        self._plain(value, "0,0")
        inputs = self.weight(kernel, f"{name}.weight").shape[1:2].numel()
        return self.modulated(source, name, 1 / math.sqrt(inputs))

    def _plain(self, node: Node, padding: str) -> None:
        wanted = {"strides": "1,1", "dilations": "1,1", "pads_begin": padding, "pads_end": padding}
        self.inputs(node, node.type, 2, auto_pad="explicit", **wanted)

    def haar(self, node: Node) -> Node:
        """Return what goes into an inverse Haar transform, which is made of transposed convolutions."""
        left, right = self._bands(node, "1,2")
        low, lh = self._bands(self._nodes[left.inputs[0]], "2,1")
        hl, hh = self._bands(self._nodes[right.inputs[0]], "2,1")
        split = self._nodes[low.inputs[0]]
        source, axis, _ = self.inputs(split, "VariadicSplit", 3)
        self.number(axis, 1.0)
        if low.outputs[0] != 0:
            raise self.wrong(low, "the low subband")
        for place, band in enumerate((lh, hl, hh)):
            squeezed = self._nodes[band.inputs[0]]
            parted = self.inputs(squeezed, "Squeeze", 2)[0]
            reshaped, axis, _ = self.inputs(parted, "VariadicSplit", 3)
            self.number(axis, 2.0)
            if squeezed.outputs[0] != place:
                raise self.wrong(squeezed, f"the high subband {place}")
            if self.inputs(reshaped, "Reshape", 2)[0].id != split.id or reshaped.outputs[0] != 1:
                raise self.wrong(reshaped, "the high subbands of the same map")
        return source

    def _bands(self, node: Node, strides: str) -> list[Node]:
        """Return the transposed convolutions of a sum: the one with the low filter and the one with the high."""
        found: dict[int, Node] = {}
        for part in self.inputs(node, "Add", 2):
            wanted = {"strides": strides, "pads_begin": "0,0", "pads_end": "0,0", "output_padding": "0,0"}
            _, taps = self.inputs(part, "GroupConvolutionBackpropData", 2, dilations="1,1", **wanted)
            found |= {index: part for index, values in enumerate(FILTERS) if self.repeats(taps, *values)}
            self.known.add(self._key(taps, "a filter"))
        if len(found) != 2:
            raise self.wrong(node, "the two filters of a Haar transform")
        return [found[0], found[1]]

    # -- the networks --------------------------------------------------------------------------------------

    def mapping(self) -> None:
        """Find the mapping's weights."""
        node = self.result()
        for index in range(self.count("MatMul"), 0, -1):
            value, gain = self.pair(node, "Multiply", "Const")
            self.number(gain, math.sqrt(2))
            node = self.linear(self.leaky(value), f"mapping.layers.{index}", AS_IT_IS)
        self.normalised(node)

    def synthesis(self) -> None:
        """Find the synthesis network's weights."""
        blocks = self.count("GroupConvolution") // 2
        node = self.image(self.haar(self.result()), f"synthesis.layers.{blocks - 1}.to_img")
        for block in reversed(range(blocks)):
            for conv in ("conv2", "conv1"):
                node = self.conv(node, f"synthesis.layers.{block}.{conv}")
            node = self.modulated(self.haar(node), f"synthesis.layers.{block}.up", None)
        node = self.conv(node, "synthesis.conv1")
        for _ in range(MAX_EXPANSIONS):
            if node.type in ("Tile", "Broadcast"):
                node = self.inputs(node, node.type, 2)[0]
        self.weight(node, "synthesis.input", ROW)


def places_of_graphs(tensors: Mapping[str, Tensor], graphs: object) -> tuple[tuple[Place, ...], frozenset[str]]:
    """Return (places of the weights, keys of the other constants that are accounted for).

    The others are the arithmetic's own numbers, which were checked, and whole numbers: axes and sizes, which follow
    from the weights' shapes.

    Raises:
        GanatomyError: naming the first operation that this network does not have.
    """
    if not isinstance(graphs, Mapping) or not all(isinstance(graphs.get(name), Graph) for name in GRAPHS):
        raise GanatomyError(
            f"expected the graphs {' and '.join(GRAPHS)}; their constants alone do not say what they are"
        )
    mapping, synthesis = (Walk(graphs[name], name, tensors) for name in GRAPHS)
    mapping.mapping()
    synthesis.synthesis()
    whole = {key for key, tensor in tensors.items() if not tensor.is_floating_point()}
    return (*mapping.places, *synthesis.places), frozenset(mapping.known | synthesis.known | whole)
