"""Layouts of PGGAN, in which the name of a head depends on how many resolutions there are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .layouts import Layout, Place, Tensors
from .pggan_network import head_name

MAX_BLOCKS = 10  # 4 to 2,048 pixels
HEAD = re.compile(r"output_(\d+)x\1(?:_of_(\d+))?\.")


@dataclass(frozen=True)
class Names:
    """What people call the layers of a network from a file of this layout.

    Attributes:
        conv, activation: of layer 1, 2, 3, …: before and after the leaky ReLU.
        head: of a block's head.
        modules: (names of the public code -> ours) in a network of so many blocks.
    """

    conv: Callable[[int], str]
    activation: Callable[[int], str]
    head: Callable[[int], str]
    modules: Callable[[int], dict[str, str]] = lambda _: {}


@dataclass(frozen=True, eq=False)
class SizedLayout(Layout):
    """A layout in which the name of a head depends on how many blocks there are.

    Attributes:
        names: what its layers are called.
        block_of: key -> the block whose layer it belongs to, or None.
        all_heads: whether the public code wants a head of every resolution, and a ``lod``.
    """

    names: Names = Names(str, str, str)
    block_of: Callable[[str], int | None] = lambda _: None
    all_heads: bool = False

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors, in memory in the order of their axes."""
        found = {self.block_of(key) for key in tensors}
        blocks = next(count for count in range(1, MAX_BLOCKS + 1) if count not in found or count == MAX_BLOCKS)
        places = tuple(place for place in self.places if _blocks_of_head(place.name) in (None, blocks))
        canonical = Layout.read(replace(self, places=places), tensors, beside)
        if self.all_heads:
            lod = canonical.get("lod")
            if lod is not None and not lod.ndim and lod.is_floating_point() and not lod:
                del canonical["lod"]
            zeros = _zero_heads(canonical)
            if "lod" not in canonical and all(_same(canonical.get(name), zero) for name, zero in zeros.items()):
                canonical = {name: tensor for name, tensor in canonical.items() if name not in zeros}
        # A conv may choose its arithmetic by how the weights lie in memory: let it be one for all layouts.
        return {name: _in_order(tensor) for name, tensor in canonical.items()}


def blocks_of(canonical: Tensors) -> int:
    """Return how many blocks a network has: those from the first on without a gap, and at least one."""
    layers = {int(found[1]) for name in canonical if (found := re.match(r"layer(\d+)\.", name))}
    return next(count for count in range(1, MAX_BLOCKS + 1) if not {2 * count + 1, 2 * count + 2} & layers)


def _blocks_of_head(name: str) -> int | None:
    """Return how many blocks a network has, from the canonical name of something of a head."""
    found = HEAD.match(name)
    return None if found is None else int(math.log2(int(found[2] or found[1]))) - 1


def _zero_heads(canonical: Tensors) -> dict[str, Tensor]:
    """Return zeros for every head but the last one."""
    blocks = blocks_of(canonical)
    last = canonical.get(f"{head_name(blocks - 1, blocks)}.wscale.b")
    zeros = {}
    for block in range(blocks - 1):
        inner = canonical.get(f"layer{2 * block + 2}.conv.weight")
        if inner is not None and inner.ndim and last is not None and last.ndim == 1:
            name = head_name(block, blocks)
            zeros[f"{name}.conv.weight"] = last.new_zeros(len(last), len(inner), 1, 1)
            zeros[f"{name}.wscale.b"] = last.new_zeros(len(last))
    return zeros


def _same(given: Tensor | None, zero: Tensor) -> bool:
    return given is not None and given.dtype == zero.dtype and torch.equal(given, zero)


def _in_order(tensor: Tensor) -> Tensor:
    ordered = torch.empty(tensor.shape, device="meta").stride()
    return tensor if tensor.stride() == ordered else tensor.clone(memory_format=torch.contiguous_format)


def completed(places: tuple[Place, ...]) -> Callable[[Tensors], dict[str, Tensor]]:
    """Return what a conversion adds for a public code that wants all heads and a lod."""
    by_name = {place.name: place for place in places}

    def constants(canonical: Tensors) -> dict[str, Tensor]:
        zeros = {name: zero for name, zero in _zero_heads(canonical).items() if name not in canonical}
        added = {by_name[name].key: by_name[name].write(zero).contiguous() for name, zero in zeros.items()}
        return added if "lod" in canonical else added | {"lod": torch.zeros(())}

    return constants
