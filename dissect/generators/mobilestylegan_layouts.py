"""How MobileStyleGAN is stored: bes-dev's PyTorch checkpoints, OpenVINO graphs, and folded networks on their own.

Key names are facts of the public repository bes-dev/MobileStyleGAN.pytorch. Canonical names are its names with
``mapping`` for ``mapping_net``, ``synthesis`` for ``student``, and without ``.conv`` and ``.noise`` inside a layer. The
graphs are read by :mod:`mobilestylegan_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from .layouts import Layout, Place, Tensors, chain, followed_by, led_by
from .mobilestylegan_graph import GRAPHS, places_of_graphs

MAX_BLOCKS = 9  # to 4,096 pixels
MAX_MAPPING = 32
# What training kept in the same checkpoint: the teacher, the losses with their networks, and the evaluation.
IGNORED = ("synthesis_net.", "loss.", "kid.", "inception.")
IGNORED_BUFFERS = ("device_info", "student.device_info")
DEVICES = ("student.", "m.")  # what the public code and its exports call the synthesis network

CHANNELS = chain(led_by(1), followed_by(2))  # [1, C, 1, 1] in the file
STYLE_INV = chain(led_by(2), followed_by(2))


def convs() -> Iterator[str]:
    """Yield the styled convs, in order."""
    yield "synthesis.conv1"
    for block in range(MAX_BLOCKS):
        yield f"synthesis.layers.{block}.conv1"
        yield f"synthesis.layers.{block}.conv2"


def heads() -> Iterator[str]:
    """Yield the modules that make images, in order."""
    yield "synthesis.to_img1"
    for block in range(MAX_BLOCKS):
        yield f"synthesis.layers.{block}.to_img"


def ups() -> Iterator[str]:
    """Yield the upsampling modules, in order."""
    return (f"synthesis.layers.{block}.up" for block in range(MAX_BLOCKS))


def kernels(conv: str) -> tuple[str, ...]:
    """Return the names of a styled conv's kernels."""
    return ("weight",) if conv == "synthesis.conv1" else ("weight_dw", "weight_permute")


def theirs(name: str) -> str:
    """Return a module's name in bes-dev's network."""
    return name.replace("synthesis.", "student.", 1)


def modules() -> dict[str, str]:
    """Return what the public code and its exports call our layers."""
    found = {}
    for name in (*convs(), *heads(), *ups()):
        inner = "" if name.endswith(".up") else ".conv"
        for device in DEVICES:
            public = name.replace("synthesis.", device, 1)
            found[public] = name
            found[f"{public}{inner}.modulation"] = f"{name}.modulation"
    return found


# -- bes-dev ---------------------------------------------------------------------------------------------------


def _places() -> Iterator[Place]:
    yield Place("mapping.style_mean", "style_mean", *led_by(1))
    for index in range(1, MAX_MAPPING + 1):
        for part in ("weight", "bias"):
            yield Place(f"mapping.layers.{index}.{part}", f"mapping_net.layers.{index}.{part}")
    yield Place("synthesis.input", "student.input.input", *led_by(1))
    for name in (*convs(), *heads()):
        yield Place(f"{name}.bias", f"{theirs(name)}.bias", *CHANNELS)
        yield from _modulation(name, ".conv")
    for name in ups():
        yield from _modulation(name, "")
    for name in heads():
        yield Place(f"{name}.weight", f"{theirs(name)}.conv.weight")
    for name in convs():
        for part in kernels(name):
            yield Place(f"{name}.{part}", f"{theirs(name)}.conv.{part}")
        yield Place(f"{name}.style_inv", f"{theirs(name)}.conv.style_inv", *STYLE_INV)
        yield Place(f"{name}.noise_strength", f"{theirs(name)}.noise.weight", *followed_by(1))


def _modulation(name: str, inner: str) -> Iterator[Place]:
    for part in ("weight", "bias"):
        yield Place(f"{name}.modulation.{part}", f"{theirs(name)}{inner}.modulation.{part}")


def _filters(tensors: Tensors) -> dict[str, Tensor]:
    """Return the filters of the inverse Haar transforms."""
    names = ["student.idwt"]
    names += [f"{theirs(name)}.idwt" for name in ups() if f"{name}.modulation.weight" in tensors]
    low, high = torch.tensor([1.0, 1.0]) / 2**0.5, torch.tensor([1.0, -1.0]) / 2**0.5
    shapes = {"col": (1, 1, 2, 1), "row": (1, 1, 1, 2)}
    return {
        f"{name}.{filter_}_{axis}": taps.reshape(shape)
        for name in names
        for axis, shape in shapes.items()
        for filter_, taps in (("g0", low), ("g1", high))
    }


def _not_folded(configuration: Mapping[str, object]) -> str | None:
    return (
        "this network is folded, and its noise and demodulation cannot be told apart"
        if configuration["folded"]
        else None
    )


BESDEV = Layout(
    "bes-dev",
    lambda t: "student.input.input" in t and "student.layers.0.conv1.conv.weight_dw" in t,
    tuple(_places()),
    _filters,
    ignored=lambda key: key.startswith(IGNORED) or key in IGNORED_BUFFERS,
    container="state_dict",
    modules=modules(),
    cannot=_not_folded,
)

# -- folded networks -------------------------------------------------------------------------------------------


def folded_names() -> Iterator[str]:
    """Yield the canonical names of a folded network of any size."""
    yield from (f"mapping.layers.{index}.{part}" for index in range(1, MAX_MAPPING + 1) for part in ("weight", "bias"))
    yield "synthesis.input"
    for name in (*convs(), *ups(), *heads()):
        yield f"{name}.modulation.weight"
        yield f"{name}.modulation.bias"
    for name in heads():
        yield f"{name}.weight"
        yield f"{name}.bias"
    for name in convs():
        yield from (f"{name}.{part}" for part in (*kernels(name), "bias", "noise_const"))


FOLDED = Layout(
    "folded",
    lambda t: "synthesis.input" in t and "synthesis.conv1.noise_const" in t,
    tuple(Place(name, name) for name in folded_names()),
    modules=modules(),
    cannot=lambda c: None if c["folded"] else "this network is not folded",
)


class OfGraphs(dict[str, Tensor]):
    """Canonical tensors of an OpenVINO model, with the layout of its file."""

    layout: Layout


class GraphLayout(Layout):
    """OpenVINO graphs: most of their constants have arbitrary names, so each file has places of its own."""

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> OfGraphs:
        """Return canonical tensors of the graphs' constants.

        Raises:
            GanatomyError: if the graphs do not compute this network.
        """
        places, known = places_of_graphs(tensors, beside.get("graphs"))
        layout = Layout(
            self.name,
            self.recognise,
            places,
            ignored=known.__contains__,
            modules=self.modules,
            cannot=self.cannot,
        )
        canonical = OfGraphs(layout.read(tensors, beside))
        canonical.layout = layout
        return canonical


OPENVINO = GraphLayout(
    "openvino",
    lambda t: (
        all(any(key.startswith(f"{graph}/") for key in t) for graph in GRAPHS)
        and any(key.endswith(".weight_dw") for key in t)
    ),
    (),
    becomes="folded",
    modules=modules(),
    cannot=lambda _: "a graph can be changed but not made; export it from its own file",
)

LAYOUTS = (BESDEV, OPENVINO, FOLDED)
