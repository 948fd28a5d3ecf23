"""How PGGAN is stored: the names of GAN dissection (ours too), genforce's, pytorch_GAN_zoo's, and TensorFlow's.

Key names and axis orders are facts of the public repositories CSAILVision/gandissect, genforce/genforce,
facebookresearch/pytorch_GAN_zoo and tkarras/progressive_growing_of_gans.

**Heads.** During training every resolution gets a 1x1 conv to an image; only the last one draws in the end. Files of
GAN dissection hold that one, the others hold all. A conversion never loses a head: the names of ``gandissect`` can
hold all of them, ``gandissect-features`` has a place for one and refuses more. Where the public code wants all heads
and there is one, the others are written as zeros; heads that are all zero and draw nothing are read as absent.
``lod`` is likewise written as 0 and read as absent when it is 0.

**Names of layers.** GAN dissection counts layers from 1, and so do we; genforce counts them from 0, so that its
``layer4`` is our ``layer5``. Whoever opens a file of some code base means that code's ``layer4``: generators from
genforce files name their layers as genforce does, those from pytorch_GAN_zoo as its modules. Fingerprints do not
depend on it. In GAN dissection's own code the module ``layer4.conv`` returns the bare convolution; here the layer of
that name has gain and bias too, and ``layer4.wscale``, the module that adds them, is another name of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from .layouts import Change, Place, Tensors, chain, flipped, permuted, same
from .pggan_network import head_name
from .pggan_sized import MAX_BLOCKS, Names, SizedLayout, completed

LAYERS = range(1, 2 * MAX_BLOCKS + 1)
HEADS = [(block, blocks) for blocks in range(1, MAX_BLOCKS + 1) for block in range(blocks)]
SAME: tuple[Change, Change] = (same, same)


def _numbered(pattern: str, shift: int) -> Callable[[str], int | None]:
    """Return a ``block_of`` for keys that begin with the number of a layer; the first one is ``shift``."""
    compiled = re.compile(pattern)

    def block_of(key: str) -> int | None:
        found = compiled.match(key)
        return None if found is None else (int(found[1]) - shift) // 2

    return block_of


def _official(reason: str, label: str | None = None, lod: bool = False) -> Callable[[Mapping[str, object]], str | None]:
    """Return a ``cannot`` for layouts of the original arithmetic.

    Args:
        reason: why classes that do not join z as ``label`` says cannot be stored.
        lod: whether there is a place for a level of detail.
    """

    def cannot(configuration: Mapping[str, object]) -> str | None:
        if configuration["scaled_bias"]:
            return "this network multiplies its biases by the gain too, as only ganzoo's code does"
        if configuration["num_classes"] and configuration["label"] != label:
            return reason
        if configuration.get("lod") and not lod:
            return f"this layout draws at full size only, and lod is {configuration['lod']}"
        return None

    return cannot


def _any(tensors: Tensors, *patterns: str) -> bool:
    return all(any(re.fullmatch(pattern, key) for key in tensors) for pattern in patterns)


# -- GAN dissection --------------------------------------------------------------------------------------------

_PARTS = (("conv.weight", "weight"), ("wscale.b", "bias"))  # of a layer or head: ours, most others'


def _gandissect_names(theirs: str, shift: int, last: str) -> Names:
    def modules(blocks: int) -> dict[str, str]:
        found = {last: head_name(blocks - 1, blocks)}
        for i in range(1, 2 * blocks + 1):
            name = theirs.format(i - shift)
            found |= {name: f"layer{i}", f"{name}.relu": f"layer{i}", f"{name}.wscale": f"layer{i}.conv"}
        return found

    return Names(lambda i: f"layer{i}.conv", lambda i: f"layer{i}", lambda b: head_name(b, b + 1), modules)


def _gandissect_places() -> Iterator[Place]:
    for part, _ in _PARTS:
        yield from (Place(f"layer{i}.{part}", f"layer{i}.{part}") for i in LAYERS)
        yield from (Place(f"{head_name(b, blocks)}.{part}", f"{head_name(b, b + 1)}.{part}") for b, blocks in HEADS)


def _features_places() -> Iterator[Place]:
    for part, _ in _PARTS:
        yield from (Place(f"layer{i}.{part}", f"features.{i - 1}.{part}") for i in LAYERS)
        yield from (Place(f"{head_name(b, b + 1)}.{part}", f"output.{part}") for b in range(MAX_BLOCKS))


GANDISSECT = SizedLayout(
    "gandissect",
    lambda t: _any(t, r"layer\d+\.conv\.weight", r"layer\d+\.wscale\.b"),
    tuple(_gandissect_places()),
    cannot=_official("this layout has no classes"),
    names=_gandissect_names("layer{}", 0, "output"),
    block_of=_numbered(r"layer(\d{1,3})\.", 1),
)

FEATURES = SizedLayout(
    "gandissect-features",
    lambda t: _any(t, r"features\.\d+\.conv\.weight", r"features\.\d+\.wscale\.b"),
    tuple(_features_places()),
    cannot=_official("this layout has no classes"),
    names=_gandissect_names("features.{}", 1, "output"),
    block_of=_numbered(r"features\.(\d{1,3})\.", 0),
)

# -- genforce --------------------------------------------------------------------------------------------------

_FUSED = chain(permuted(1, 0, 2, 3), (flipped, flipped))


def _genforce_places(fused: bool) -> Iterator[Place]:
    yield Place("lod", "lod")
    for i in LAYERS:
        turn = _FUSED if fused and i % 2 and i > 1 else SAME
        yield Place(f"layer{i}.conv.weight", f"layer{i - 1}.weight", *turn)
        yield Place(f"layer{i}.wscale.b", f"layer{i - 1}.bias")
    for block, blocks in HEADS:
        for part, theirs in _PARTS:
            yield Place(f"{head_name(block, blocks)}.{part}", f"output{block}.{theirs}")


def inputs_axes(pairs: Iterable[tuple[Tensor | None, Tensor | None]]) -> set[int]:
    """Return which axes, 0 or 1, of upsampling kernels are those of the inputs.

    Args:
        pairs: the bias of the layer before and the kernel, as genforce stores them.

    Returns:
        Nothing where every such layer has as many inputs as outputs, so that no shape shows it.
    """
    found = set()
    for before, weight in pairs:
        if before is not None and weight is not None and before.ndim == 1 and weight.ndim == 4:
            fits = [axis for axis in (0, 1) if weight.shape[axis] == len(before)]
            found |= set(fits) if len(fits) == 1 else set()
    return found


def _is_genforce(tensors: Tensors, fused: bool) -> bool:
    if not _any(tensors, r"layer\d+\.weight", r"output\d+\.weight"):
        return False
    pairs = [(tensors.get(f"layer{i}.bias"), tensors.get(f"layer{i + 1}.weight")) for i in LAYERS[::2]]
    return not fused or inputs_axes(pairs) == {0}


def _genforce(name: str, fused: bool) -> SizedLayout:
    places = tuple(_genforce_places(fused))
    return SizedLayout(
        name,
        lambda t: _is_genforce(t, fused),
        places,
        completed(places),
        container="generator_smooth",
        cannot=_official("this layout joins z and the class in another way", "after", lod=True),
        names=Names(
            lambda i: f"layer{i - 1}.conv",
            lambda i: f"layer{i - 1}",
            lambda b: f"output{b}",
            lambda blocks: {f"layer{i}.activate": f"layer{i}" for i in range(2 * blocks)},
        ),
        block_of=_numbered(r"layer(\d{1,3})\.", 0),
        all_heads=True,
        implied={"fused_scale": fused},
    )


GENFORCE = _genforce("genforce", fused=False)
GENFORCE_FUSED = _genforce("genforce-fused", fused=True)

# -- TensorFlow ------------------------------------------------------------------------------------------------


def _dense(tensor: Tensor) -> Tensor:
    if tensor.ndim != 2:
        raise IndexError("expected two axes")
    return tensor.reshape(tensor.shape[0], -1, 4, 4).permute(1, 0, 2, 3)


_DENSE = chain((_dense, lambda t: t.permute(1, 0, 2, 3).flatten(1)), (flipped, flipped))
_PLAIN = permuted(3, 2, 0, 1)
_UP = chain(permuted(2, 3, 0, 1), (flipped, flipped))


def _scope(i: int, fused: bool) -> str:
    """Return the scope of layer i, such as ``8x8/Conv0_up``."""
    side = 4 * 2 ** ((i - 1) // 2)
    if side == 4:
        return f"4x4/{'Dense' if i == 1 else 'Conv'}"
    return f"{side}x{side}/{('Conv0_up' if fused else 'Conv0') if i % 2 else 'Conv1'}"


def _tensorflow_places(fused: bool) -> Iterator[Place]:
    yield Place("lod", "lod")
    for i in LAYERS:
        up = i % 2 == 1 and i > 1
        turn = _DENSE if i == 1 else _UP if up and fused else _PLAIN
        yield Place(f"layer{i}.conv.weight", f"{_scope(i, fused)}/weight", *turn)
        yield Place(f"layer{i}.wscale.b", f"{_scope(i, fused)}/bias")
    for block, blocks in HEADS:
        for (part, theirs), turn in zip(_PARTS, (_PLAIN, SAME)):
            yield Place(f"{head_name(block, blocks)}.{part}", f"ToRGB_lod{blocks - 1 - block}/{theirs}", *turn)


def _tensorflow(name: str, fused: bool) -> SizedLayout:
    def modules(blocks: int) -> dict[str, str]:
        heads = {f"ToRGB_lod{blocks - 1 - b}": head_name(b, b + 1) for b in range(blocks)}
        return heads | {_scope(i, fused): f"layer{i}" for i in range(1, 2 * blocks + 1)}

    def block_of(key: str) -> int | None:
        found = re.match(r"([1-9]\d{0,3})x\1/", key)
        return None if found is None else int(math.log2(int(found[1]))) - 2

    places = tuple(_tensorflow_places(fused))
    return SizedLayout(
        name,
        lambda t: "4x4/Dense/weight" in t and "4x4/Conv/weight" in t and _any(t, r".*/Conv0/weight") != fused,
        places,
        completed(places),
        cannot=_official("this layout joins z and the class in another way", "joined", lod=True),
        names=replace(GANDISSECT.names, modules=modules),
        block_of=block_of,
        all_heads=True,
    )


TENSORFLOW = _tensorflow("tensorflow", fused=True)
TENSORFLOW_UNFUSED = _tensorflow("tensorflow-unfused", fused=False)

# -- pytorch_GAN_zoo -------------------------------------------------------------------------------------------


def _format_weight(tensor: Tensor) -> Tensor:
    if tensor.ndim != 2:
        raise IndexError("expected two axes")
    return tensor.reshape(-1, 4, 4, tensor.shape[1]).permute(0, 3, 1, 2)


def _format_bias(tensor: Tensor) -> Tensor:
    if tensor.ndim != 1:
        raise IndexError("expected one axis")
    return tensor.reshape(-1, 4, 4)


_FORMAT = chain((_format_weight, lambda t: t.permute(0, 2, 3, 1).flatten(0, 2)), (flipped, flipped))


def _zoo_module(i: int) -> str:
    if i < 3:
        return ("formatLayer", "groupScale0.0")[i - 1]
    return f"scaleLayers.{(i - 3) // 2}.{(i - 3) % 2}"


def _zoo_places() -> Iterator[Place]:
    yield Place("layer1.conv.weight", "formatLayer.module.weight", *_FORMAT)
    yield Place("layer1.wscale.b", "formatLayer.module.bias", _format_bias, lambda t: t.flatten())
    for part, theirs in _PARTS:
        yield from (Place(f"layer{i}.{part}", f"{_zoo_module(i)}.module.{theirs}") for i in LAYERS[1:])
        yield from (Place(f"{head_name(b, n)}.{part}", f"toRGBLayers.{b}.module.{theirs}") for b, n in HEADS)


def _zoo_block(key: str) -> int | None:
    found = re.match(r"scaleLayers\.(\d{1,3})\.", key)
    return None if found is None else int(found[1]) + 1


GANZOO = SizedLayout(
    "ganzoo",
    lambda t: _any(t, r"formatLayer\.module\.\w+", r"groupScale0\.0\.module\.\w+", r"toRGBLayers\.\d+\.module\.\w+"),
    tuple(_zoo_places()),
    container="avgG",
    cannot=lambda c: (
        None
        if c["scaled_bias"]
        else "this network adds its biases as they are, ganzoo's code multiplies them by the gain"
    ),
    names=Names(_zoo_module, lambda i: f"{_zoo_module(i)}.activation", lambda b: f"toRGBLayers.{b}"),
    block_of=_zoo_block,
)

LAYOUTS = (GANDISSECT, FEATURES, GENFORCE_FUSED, GENFORCE, TENSORFLOW, TENSORFLOW_UNFUSED, GANZOO)
