"""OpenVINO's intermediate representation: a graph as XML, its constants in a binary file beside it."""

from __future__ import annotations

import math
import xml.parsers.expat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from segmodels.files import one_line

from .networks import Contents, Found
from .stored import FormatError, Storage, StoredTensor, whole

TYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u64": torch.uint64, "u32": torch.uint32,
    "u16": torch.uint16, "u8": torch.uint8, "boolean": torch.bool,
}  # fmt: skip
MAX_XML = 16 << 20  # bytes
MAX_DEPTH = 64
MAX_ELEMENTS = 200_000
BEGINNINGS = (b"<?xml", b"<net", b"\xef\xbb\xbf<")


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        id: its number in the file.
        name, type: as in the file ("Convolution", "Const").
        attributes: of its ``data`` element, as text.
        inputs: numbers of the nodes that feed it, in the order of its ports.
        outputs: for each input, which output of that node it takes, counted from 0.
    """

    id: int
    name: str
    type: str
    attributes: Mapping[str, str]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph of operations.

    Attributes:
        name: of the network.
        nodes: by their numbers, in the order of the file.
    """

    name: str
    nodes: Mapping[int, Node]


def pairs(path: Path) -> list[Path]:
    """Return the files of a model, each ``.xml`` followed by its ``.bin``; none if this is no such model.

    Args:
        path: a ``.xml``, its ``.bin``, or a folder of such pairs.

    Raises:
        FormatError: for a graph without its constants.
    """
    if path.is_dir():
        graphs = sorted(one for one in path.glob("*.xml") if one.with_suffix(".bin").is_file())
    elif path.suffix == ".bin":
        graphs = [path.with_suffix(".xml")]
    else:
        graphs = [path]
    if not all(one.is_file() and _is_xml(one) for one in graphs):
        return []
    for graph in graphs:
        if not graph.with_suffix(".bin").is_file():
            raise FormatError(f"its constants are not there: expected {graph.with_suffix('.bin').name} beside it")
    return [file for graph in graphs for file in (graph, graph.with_suffix(".bin"))]


def _is_xml(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16).lstrip().startswith(BEGINNINGS)


def read(files: list[Path]) -> Contents:
    """Return the constants of the graphs as one network, and the graphs beside it.

    Args:
        files: as ``pairs`` gives them.

    Raises:
        FormatError: for damaged files.
    """
    graphs: dict[str, Graph] = {}
    tensors: dict[str, StoredTensor] = {}
    for xml_file, bin_file in zip(files[::2], files[1::2], strict=True):
        graph = _graph(xml_file)
        if graph.name in graphs:
            raise FormatError(f"two graphs have the name {graph.name!r:.80}")
        graphs[graph.name] = graph
        size = bin_file.stat().st_size
        for node in graph.nodes.values():
            if node.type == "Const":
                key = f"{graph.name}/{node.name}"
                if key in tensors:
                    raise FormatError(f"two constants have the name {node.name!r:.80}")
                tensors[key] = _constant(node, bin_file.name, size)
    if not tensors:
        raise FormatError("holds no constants, expected a graph with weights")
    return Contents("openvino", [Found("", "", tensors)], {"graphs": graphs})


def _constant(node: Node, file: str, size: int) -> StoredTensor:
    given = node.attributes
    dtype = TYPES.get(given.get("element_type", ""))
    if dtype is None:
        raise FormatError(
            f"{node.name!r:.80} is not a plain tensor of real numbers ({given.get('element_type')!r:.20})"
        )
    shape = [_whole(part) for part in given.get("shape", "").split(",") if part.strip()]
    offset, length = _whole(given.get("offset", "")), _whole(given.get("size", ""))
    if length != math.prod(shape) * dtype.itemsize or offset + length > size:
        raise FormatError(f"damaged: the constant {node.name!r:.80} is not in {file!r:.80} as its graph says")
    tensor = whole(Storage(dtype, math.prod(shape), offset, file=file), shape)
    assert isinstance(tensor, StoredTensor)
    return tensor


def _whole(text: str) -> int:
    clean = text.strip()
    if not clean.isascii() or not clean.isdigit() or len(clean) > 15:
        raise FormatError(f"damaged: its graph has {text!r:.40} for a number")
    return int(clean)


@dataclass
class _Layer:
    id: int
    name: str
    type: str
    attributes: dict[str, str] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


class _Parser:
    """What is read of a graph: ``net/layers/layer`` and ``net/edges/edge``; inner graphs are left out."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.layers: dict[int, _Layer] = {}
        self.edges: dict[tuple[int, int], tuple[int, int]] = {}  # (to layer, port) -> (from layer, port)
        self._open: list[str] = []
        self._count = 0
        self._layer: _Layer | None = None
        self._parser = xml.parsers.expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._doctype
        self._parser.ExternalEntityRefHandler = self._doctype

    def parse(self, text: bytes) -> None:
        self._parser.Parse(text, True)

    def _doctype(self, *_: object) -> bool:
        raise FormatError("refused, its XML declares a document type; no model needs one")

    def _start(self, tag: str, given: dict[str, str]) -> None:
        self._open.append(tag)
        self._count += 1
        if len(self._open) > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise FormatError("refused, its XML is nested too deeply or too long")
        where = "/".join(self._open[:6])
        if where == "net":
            self.name = given.get("name", "")
        elif where == "net/layers/layer":
            self._layer = _Layer(_whole(given["id"]), given.get("name", ""), given.get("type", ""))
            if self._layer.id in self.layers:
                raise FormatError(f"damaged: two layers have the number {self._layer.id}")
            self.layers[self._layer.id] = self._layer
        elif where == "net/edges/edge":
            source = _whole(given["from-layer"]), _whole(given["from-port"])
            self.edges[_whole(given["to-layer"]), _whole(given["to-port"])] = source
        elif self._layer is not None:
            if where == "net/layers/layer/data":
                self._layer.attributes.update(given)
            elif where == "net/layers/layer/input/port":
                self._layer.inputs.append(_whole(given["id"]))
            elif where == "net/layers/layer/output/port":
                self._layer.outputs.append(_whole(given["id"]))

    def _end(self, _tag: str) -> None:
        self._open.pop()


def _graph(path: Path) -> Graph:
    if path.stat().st_size > MAX_XML:
        raise FormatError(f"refused, its graph has more than {MAX_XML} bytes")
    parser = _Parser()
    try:
        parser.parse(path.read_bytes())
    except (xml.parsers.expat.ExpatError, KeyError) as error:
        raise FormatError(f"damaged: {path.name} is not the XML of a graph: {one_line(error)}") from error
    if parser.name is None or not parser.layers:
        raise FormatError(f"{path.name} is not the XML of a graph: it has no layers")
    nodes = {}
    for layer in parser.layers.values():
        sources = [parser.edges[layer.id, port] for port in layer.inputs if (layer.id, port) in parser.edges]
        nodes[layer.id] = Node(
            layer.id,
            layer.name,
            layer.type,
            layer.attributes,
            tuple(source for source, _ in sources),
            tuple(_output(parser.layers, source, port) for source, port in sources),
        )
    return Graph(parser.name, nodes)


def _output(layers: dict[int, _Layer], source: int, port: int) -> int:
    if source not in layers or port not in layers[source].outputs:
        raise FormatError(f"damaged: an edge of its graph begins at the missing port {port} of layer {source}")
    return layers[source].outputs.index(port)
