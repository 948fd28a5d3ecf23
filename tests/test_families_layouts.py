"""Every layer of every family, in every layout that its file can be converted to: a restart is the whole pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dissect
from dissect import GanatomyError
from dissect.generators import catalog

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
FILES = [path.name for path in sorted(DATA.glob("*.safetensors")) if not path.name.startswith("rewrite")]
FILES += [path.name for path in sorted(DATA.glob("*.pkl"))]


def layouts(generator, folder):
    """The generator, and what it is in each other layout that can hold it: (name of the layout, generator)."""
    found = {generator.flavour: generator}
    for layout in catalog.family(generator.family).layouts:
        out = folder / f"{layout.name}.safetensors"
        try:
            dissect.convert(generator, out, layout=layout.name)
        except GanatomyError:  # which layouts hold what is asked elsewhere
            continue
        found[layout.name] = dissect.load(out)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_restart_at_any_layer_of_any_layout_is_the_whole_pass(name, tmp_path):
    original = dissect.load(DATA / name)
    drawn = original.sample([0, 1])
    for layout, generator in layouts(original, tmp_path).items():
        assert generator.fingerprint == original.fingerprint, layout
        codes = generator.sample([0, 1])
        images = generator(codes)
        assert torch.equal(images, original(drawn)), layout
        capture = generator.capture(codes, [layer.name for layer in generator.layers])
        assert torch.equal(capture.images, images)
        for layer in generator.layers:
            assert capture.features[layer.name].shape == (2, layer.channels, layer.height, layer.width)
            assert torch.equal(generator.resume(capture, layer.name), images), (layout, layer.name)


def test_every_layout_is_tried(tmp_path):
    known = {(family.name, layout.name) for family in catalog.FAMILIES for layout in family.layouts}
    tried = set()
    for name in FILES:
        generator = dissect.load(DATA / name)
        (tmp_path / name).mkdir()
        tried |= {(generator.family, layout) for layout in layouts(generator, tmp_path / name)}
    graphs = {("mobilestylegan", "openvino"), ("mobilestylegan", "folded")}
    assert known - tried == graphs | {("keras", "keras")}, "tried where their files are made"
