"""OpenVINO's graphs: constants by name, nodes and edges, and XML that is not to be trusted."""

from __future__ import annotations

import hashlib

import pytest
import torch
from formats_files import GRAPH, ir_pair

from dissect import GanatomyError
from dissect.generators import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("which", [0, 1])
def test_a_pair_opens_by_either_file(which, tmp_path):
    pair = ir_pair(tmp_path)
    found = checkpoint.read(pair[which])
    (network,) = found.networks
    assert found.format == "openvino"
    assert list(network.tensors) == ["Mapping/weight", "Mapping/axes/0", "Mapping/one"]
    assert torch.equal(network.tensors["Mapping/weight"], torch.arange(12.0).reshape(3, 4))
    assert network.tensors["Mapping/axes/0"].tolist() == [2, -1]
    assert network.tensors["Mapping/one"].dtype == torch.float16
    assert network.tensors["Mapping/one"].item() == 0.5
    lines = f"Mapping.bin {sha(pair[1])}\nMapping.xml {sha(pair[0])}\n"
    assert found.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_the_graph_is_kept(tmp_path):
    graph = checkpoint.read(ir_pair(tmp_path)[0]).networks[0].beside["graphs"]["Mapping"]
    assert isinstance(graph, checkpoint.Graph)
    assert graph.name == "Mapping"
    assert list(graph.nodes) == [0, 1, 2, 3, 4, 5]
    assert graph.nodes[5] == checkpoint.Node(
        5, "mat", "MatMul", {"transpose_a": "false", "transpose_b": "true"}, (4, 1), (1, 0)
    )
    assert graph.nodes[4].inputs == (0, 2), "in the order of the ports; what is not connected is left out"
    assert graph.nodes[0].attributes["shape"] == "1, 4"


def test_a_folder_of_pairs_is_one_network(tmp_path):
    for name in ("Synthesis", "Mapping"):
        ir_pair(tmp_path, name)
    found = checkpoint.read(tmp_path)
    (network,) = found.networks
    assert list(network.beside["graphs"]) == ["Mapping", "Synthesis"]
    assert len(network.tensors) == 6
    lines = sorted(f"{path.name} {sha(path)}\n" for path in tmp_path.iterdir())
    assert found.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "Mapping.xml").write_text(GRAPH.format(name="Synthesis"))
    with pytest.raises(GanatomyError, match="two graphs have the name 'Synthesis'"):
        checkpoint.read(tmp_path)


def changed(old, new):
    return lambda text: text.replace(old, new, 1)


DOCTYPE = '<?xml version="1.0"?><!DOCTYPE net [{}]><net name="&a;"><layers/></net>'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: DOCTYPE.format('<!ENTITY a "b">'), "declares a document type"),
        (lambda text: DOCTYPE.format('<!ENTITY a SYSTEM "file:///etc/passwd">'), "declares a document type"),
        (
            lambda text: '<!DOCTYPE net SYSTEM "http://localhost/x.dtd">' + text[22:],
            "not a torch|declares a document type",
        ),
        (lambda text: text[:-20], "is not the XML of a graph: no element found|unclosed"),
        (lambda text: text.replace("net", "web"), "it has no layers"),
        (lambda text: "<?xml version='1.0'?>" + "<a>" * 100, "nested too deeply"),
        (lambda text: text[:22] + "<net>" + "<a/>" * 250_000 + "</net>", "too long"),
        (lambda text: text + " " * (17 << 20), "has more than 16777216 bytes"),
        (changed('offset="0" size="48"', 'offset="40" size="48"'), "'weight' is not in 'Mapping.bin'"),
        (changed('size="48"', 'size="44"'), "'weight' is not in 'Mapping.bin'"),
        (changed('shape="3, 4"', 'shape="3, -4"'), "has ' -4' for a number"),
        (changed('shape="3, 4"', 'shape="3, ४"'), "for a number"),
        (changed('shape="3, 4"', 'shape="999999999, 999999999, 9999"'), "'weight' is not in"),
        (changed('offset="0"', 'offset="1e3"'), "has '1e3' for a number"),
        (changed('offset="0"', ""), "has '' for a number"),
        (changed('element_type="i64"', 'element_type="i4"'), "'axes/0' is not a plain tensor"),
        (changed('name="axes/0"', 'name="weight"'), "two constants have the name 'weight'"),
        (changed('id="1"', 'id="0"'), "two layers have the number 0"),
        (changed('id="1"', 'id="one"'), "has 'one' for a number"),
        (changed('from-layer="4"', 'from-layer="9"'), "missing port 4 of layer 9"),
        (changed('from-port="4"', 'from-port="7"'), "missing port 7 of layer 4"),
        (changed(' to-port="0"', ""), "is not the XML of a graph"),
        (lambda text: text.replace("Const", "Constant"), "holds no constants"),
    ],
)
def test_graphs_that_are_refused(change, words, tmp_path):
    xml, _ = ir_pair(tmp_path)
    xml.write_text(change(xml.read_text()))
    with pytest.raises(GanatomyError, match=words) as caught:
        checkpoint.read(xml)
    assert "\n" not in str(caught.value)


def test_a_graph_without_its_constants(tmp_path):
    xml, constants = ir_pair(tmp_path)
    constants.unlink()
    with pytest.raises(GanatomyError, match=r"expected Mapping\.bin beside it"):
        checkpoint.read(xml)
    with pytest.raises(GanatomyError, match="is a folder, expected a checkpoint file"):
        checkpoint.read(tmp_path)


def test_a_graph_beside_a_checkpoint_of_another_kind(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "model.bin")
    assert checkpoint.read(tmp_path / "model.bin").format == "torch zip"
    (tmp_path / "model.xml").write_text("these are notes")
    assert checkpoint.read(tmp_path / "model.bin").format == "torch zip"
