"""The layers of a network that we know nothing about, found by running it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site, record, tensors
from .layers import Layer
from .sequential import SMALLEST_DEFAULT, kind_of

COLOURS = 3
PROBES = 2  # samples of a probing pass: with one, a batch axis could not be told from an axis of length 1


@dataclass(frozen=True, eq=False)
class Found:
    """What one pass showed.

    Attributes:
        layers: every value [N, U, h, w] that a module returned, in the order of returning.
        sites: layer name -> where it appears.
        others: name of every other module -> what it returned instead.
        size: (height, width) of the image.
    """

    layers: list[Layer]
    sites: dict[str, Site]
    others: dict[str, str]
    size: tuple[int, int]


def find_layers(module: nn.Module, run: Callable[[], Tensor], makes_images: bool = True) -> Found:
    """Call ``run``, which runs ``module`` on ``PROBES`` samples and returns their images, and look.

    A module used twice makes two layers, ``name`` and ``name@2``; an item of a tuple or dict is ``name:item``.
    Default is the outermost last map of each resolution from 4 x 4 on. Of a network that makes images, what has an
    image's size and its few channels is not: that is the image, or what it was before its last activation.

    Raises:
        GanatomyError: if two layers would have one name.
    """
    with record(module) as seen:
        image = run()
    maps = [
        (_name(name, site), site, value)
        for name, site, value in seen
        if name and _is_map(value) and len(value) == PROBES
    ]
    repeated = [name for name, count in Counter(name for name, _, _ in maps).items() if count > 1]
    if repeated:
        raise GanatomyError(f"two layers would be called {repeated[0]!r}; rename the module's children")
    last = {value.shape[2:]: name for name, _, value in maps if not (makes_images and _like_image(value, image))}
    chosen = {name for size, name in last.items() if min(size) >= SMALLEST_DEFAULT}
    layers = [
        Layer(name, value.shape[1], value.shape[2], value.shape[3], kind_of(site.module), 0, name in chosen)
        for name, site, value in maps
    ]
    sites = {name: site for name, site, _ in maps}
    others = _others(module, [(name, value) for name, _, value in seen], {site.module for site in sites.values()})
    return Found(layers, sites, others, (image.shape[2], image.shape[3]))


def first_image(output: object, name: str) -> Tensor:
    """Return the largest tensor [N, 3, H, W] of a module's output, or else the largest [N, 1, H, W].

    Of equals it is the first. Output may be a tensor, a tuple, list or dict of any depth, or an object with tensors as
    its attributes. Images of bytes are taken, too.
    """
    values = [value for _, value in tensors(output)]
    if not values and hasattr(output, "__dict__"):
        values = [value for _, value in tensors(dict(vars(output)))]
    for channels in (3, 1):
        fit = [v for v in values if _is_picture(v) and v.shape[1] == channels]
        if fit:
            return max(fit, key=lambda value: value.shape[2] * value.shape[3])
    what = _described(values) if values else type(output).__name__
    raise GanatomyError(
        f"{name}: expected the module to return an image [N, 3, H, W], it returned {what}; wrap it in a module that "
        "returns the image"
    )


def _name(name: str, site: Site) -> str:
    use = f"@{site.call + 1}" if site.call else ""
    return f"{name}{use}" + "".join(f":{step}" for step in site.path)


def _is_map(value: Tensor) -> bool:
    return value.ndim == 4 and value.numel() > 0 and value.is_floating_point()


def _is_picture(value: Tensor) -> bool:
    return _is_map(value) or (value.ndim == 4 and value.numel() > 0 and value.dtype == torch.uint8)


def _like_image(value: Tensor, image: Tensor) -> bool:
    return value.shape[2:] == image.shape[2:] and value.shape[1] <= COLOURS


def _others(module: nn.Module, seen: list[tuple[str, Tensor]], used: set[nn.Module]) -> dict[str, str]:
    returned: dict[str, list[Tensor]] = {}
    for name, value in seen:
        returned.setdefault(name, []).append(value)
    others = {}
    for name, child in module.named_modules():
        if name and child not in used:
            what = f"returned {_described(returned[name])}" if name in returned else "returned no tensor or did not run"
            others[name] = f"it {what}"
    return others


def _described(values: list[Tensor]) -> str:
    """Describe what came, with N for the batch axis."""
    shapes = [str(list(v.shape)).replace(f"[{PROBES}", "[N", 1) for v in values[:3]]
    kinds = {str(v.dtype).removeprefix("torch.") for v in values[:3]} - {"float32"}
    return ", ".join(shapes) + (f" of {'/'.join(sorted(kinds))}" if kinds else "")
