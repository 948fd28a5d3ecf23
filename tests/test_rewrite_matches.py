"""Matches of a context: the planted rule is found on unseen images, and the arithmetic is the convolution's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dissect
import rewrite
import segmodels
from dissect import GanatomyError
from dissect.generators.convolutions import convolution_of
from dissect.generators.segments import keys_of as entering
from rewrite import Memory, Region, Request, moments
from rewrite.basis import Basis
from rewrite.goal import goal_of
from rewrite.patches import Patches

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
LAYERS = {"dcgan_main.safetensors": "main.6", "sg2ada_uncond.safetensors": "synthesis.b8.conv1"}


def test_the_context_of_a_planted_rule_is_found_on_unseen_images():
    generator, segmenter = dissect.load("planted:7"), segmodels.load("planted")
    shape, colour = generator.world.drawn_shapes[1], generator.world.drawn_colours[0]
    names = [c.name for c in segmenter.concepts]

    def where(seeds):
        labels = segmenter(generator(generator.sample(seeds))).numpy()
        return (labels == names.index(shape)).any(1) & (labels == names.index(colour)).any(1)

    seen = where(range(100))
    context = tuple(Region(seed, seen[seed].astype(np.float32)) for seed in np.flatnonzero(seen.any((1, 2))))
    request = Request(64, context[:1], goal="erase", context=context)
    memory = Memory.of(moments(generator, convolution_of(generator, "layer1"), range(100)), 1e-9)
    done = []
    found = rewrite.matches(
        generator, request, "layer1", range(1020, 1050), memory, progress=lambda *now: done.append(now)
    )
    assert done[-1] == (30, 30)
    truth = where(range(1020, 1050))
    assert truth.any()
    cells = truth.reshape(30, 16, 4, 16, 4)
    whole, none = cells.all((2, 4)), ~cells.any((2, 4))
    assert found.maps.shape == (30, 16, 16)
    assert found.shares[whole].min() > 0.9
    assert found.shares[none].max() < 0.1
    assert found.context > 2, "what is rare is meant more than is usual"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("kind", "rank"), [("patch", 1), ("patch", 2), ("channel", 1), ("channel", 2)])
def test_maps_are_what_a_convolution_with_the_directions_makes(name, kind, rank):
    generator, layer = dissect.load(DATA / name), LAYERS[name]
    convolution = convolution_of(generator, layer)
    memory = Memory.of(moments(generator, convolution, range(40), kind=kind, cells=None))
    box = Region.box(3, generator.resolution, 2, 2, 7, 7)
    request = Request(generator.resolution, (box,), goal="erase")
    found = rewrite.matches(generator, request, layer, [50, 51], memory, rank=rank)
    (x,) = entering(generator, generator.sample([50, 51]), [convolution])
    goal = goal_of(generator, request, convolution, memory)
    if kind == "channel":
        how = "singular" if rank > 1 else "mean"
        d = torch.from_numpy(memory.directions(goal.context[0], goal.counting[0], rank, how, 0))
        wanted = torch.einsum("rc,nchw->nrhw", d, x.double()).norm(dim=1) / usual(memory, d, 0)
    else:
        basis, patches = Basis.of([goal], rank, "singular" if rank > 1 else "mean"), Patches.of(convolution)
        made = []
        for row in torch.from_numpy(basis.factor()):
            weight = row[:, None] if convolution.reading.swapped else row[None]
            made.append(patches.values(x.double(), weight)[:, 0])
        # Each phase has rows of its own, and a row of another phase makes nothing of it.
        wanted = torch.stack(made, 1).norm(dim=1)
        for index, phase in enumerate(patches.phases):
            Patches.at(wanted, phase).div_(usual(memory, torch.from_numpy(basis.rows[index]), index))
    np.testing.assert_allclose(found.maps, wanted.numpy(), rtol=2e-4, atol=1e-5)


def usual(memory, rows, phase):
    """The root mean square of what some directions make of typical keys."""
    c = torch.from_numpy(memory.second(phase))
    return float(torch.stack([row @ c @ row for row in rows]).sum().sqrt())


@pytest.mark.parametrize(
    ("more", "says"),
    [({"seeds": []}, "at least one seed"), ({"rank": 0}, "rank of 1"), ({"direction": "up"}, "mean, singular")],
)
def test_what_cannot_be_looked_for(more, says):
    generator = dissect.load("planted:7")
    memory = Memory.of(moments(generator, convolution_of(generator, "layer1"), range(8)), 1e-3)
    given = {"seeds": [1], "rank": 1, "direction": None} | more
    with pytest.raises(GanatomyError, match=says):
        rewrite.matches(
            generator, Request(64, (Region(0),), goal="erase"), "layer1", given["seeds"], memory, rank=given["rank"],
            direction=given["direction"],
        )  # fmt: skip
