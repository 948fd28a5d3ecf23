"""How different two images look to people: LPIPS, and what stands in where its weights are not.

Zhang et al., CVPR 2018: features of a network at several depths, each place's brought to length 1; their squared
differences, weighted by what people said, averaged over places and added over depths. The network is torchvision's,
the weights come with torchmetrics; the arithmetic is here because a mask has to go into its averages.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segmodels
from segmodels import GanatomyError
from segmodels.errors import unknown_name
from segmodels.fetch import Https, fetch, is_cached
from segmodels.smp import SmpSegmenter

from .extractors import STAND_IN, hash_tensors, read_tensors

EPSILON = 1e-8  # added to squared lengths of features, as torchmetrics does
LEAST = 32  # pixels a side, below which the networks' last maps are empty
# The mean and the deviation of ImageNet's colours in [-1, 1], with the digits of the authors' code.
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Distance(ABC):
    """How different two images look.

    Attributes:
        name: what makes it. sha256: of whatever determines it. metric: what its numbers may be called.
    """

    name: str
    sha256: str
    metric = "perceptual distance"

    @abstractmethod
    def maps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Return the distance at each place, a map [N, h, w] for each depth."""

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the distances [N] of images [N, 3, H, W] in [-1, 1], 0 for the same.

        Args:
            where: bool [N, H, W], the pixels that count; NaN for an image of which none does. The others are grey in
                both images before any network sees them, so that nothing depends on them, and each place counts by
                the share of its pixels that do.

        Raises:
            GanatomyError: for images, or masks, of other shapes than these; images too small for a network.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            raise GanatomyError(f"expected images [N, 3, H, W] of one shape, got {list(a.shape)} and {list(b.shape)}")
        if where is None:
            return torch.stack([part.mean((1, 2)) for part in self.maps(a, b)]).sum(0)
        if where.dtype != torch.bool or where.shape != (len(a), *a.shape[2:]):
            wanted = [len(a), *a.shape[2:]]
            raise GanatomyError(f"expected a mask bool {wanted}, got {where.dtype} {list(where.shape)}")
        seen = where[:, None].to(a.device)
        grey = a.new_zeros(())
        averages = []
        for part in self.maps(torch.where(seen, a, grey), torch.where(seen, b, grey)):
            share = F.adaptive_avg_pool2d(seen.to(part), (part.shape[1], part.shape[2]))[:, 0]
            averages.append((part * share).sum((1, 2)) / share.sum((1, 2)))
        return torch.stack(averages).sum(0)


class SquaredDifference(Distance):
    """The mean squared difference of pixels: blind to what people see, and needs no weights."""

    metric = "squared difference"

    def __init__(self) -> None:
        self.name = "squared-difference"
        self.sha256 = hashlib.sha256(self.name.encode()).hexdigest()

    def maps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Return one map [N, H, W]."""
        return [((a - b) ** 2).mean(1)]


class EncoderDistance(Distance):
    """LPIPS' way with a segmenter's encoder, and without what people said: not LPIPS."""

    def __init__(self, segmenter: SmpSegmenter, name: str) -> None:
        self.name = name
        self._segmenter = segmenter
        self.sha256 = hashlib.sha256(f"perceptual {segmenter.sha256}".encode()).hexdigest()

    def maps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Return a map for each stage of the encoder."""
        pairs = zip(self._segmenter.stages(a), self._segmenter.stages(b), strict=True)
        return [((unit(x) - unit(y)) ** 2).sum(1) for x, y in pairs]


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision that LPIPS has weights for: its name there, and which of its modules are looked at."""

    name: str
    taken: tuple[int, ...]

    def build(self) -> nn.Sequential:
        """Return its convolutional part as far as it is looked at, without memory for its weights."""
        from torchvision import models  # seconds to import: only when it is wanted

        with torch.device("meta"):
            network = models.get_model(self.name, weights=None).get_submodule("features")
        assert isinstance(network, nn.Sequential)
        return network[: self.taken[-1] + 1]

    @property
    def source(self) -> Https:
        """Where its weights are, with the first digits of their hash, which are a part of the file's name."""
        from torchvision import models

        url = str(models.get_model_weights(self.name)["IMAGENET1K_V1"].url)
        found = re.search(r"-([0-9a-f]{8})\.pth$", url)
        assert found is not None, url
        return Https(url, found[1])


BACKBONES = {"alex": Backbone("alexnet", (1, 4, 7, 9, 11)), "vgg": Backbone("vgg16", (3, 8, 15, 22, 29))}


class Lpips(Distance):
    """LPIPS, version 0.1, after AlexNet or VGG-16.

    Args:
        net: ``"alex"`` or ``"vgg"``.
        weights: of the network, as torchvision publishes them; fetched by default. heads: torchmetrics' by default.
    """

    metric = "lpips"

    def __init__(
        self, net: str = "alex", weights: Path | None = None, heads: Path | None = None, device: str = "cpu"
    ) -> None:
        self.name, backbone = f"lpips-{net}", BACKBONES[net]
        path, of_people = weights or fetch(backbone.source), heads or heads_of(net)
        self._network, self._taken = backbone.build(), backbone.taken
        given, people = read_tensors(path), read_tensors(of_people)
        try:
            tensors = {key: given[f"features.{key}"].float() for key in self._network.state_dict()}
            self._network.load_state_dict(tensors, assign=True)
            self._heads = [people[f"lin{depth}.model.1.weight"].float().to(device) for depth in range(len(self._taken))]
        except (RuntimeError, KeyError) as error:
            raise GanatomyError(f"{path} and {of_people} do not hold the weights of {self.name}") from error
        self._network.requires_grad_(False).eval().to(device)
        self._device = device
        self.sha256 = hash_tensors(tensors | people)

    def maps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Return a map for each of the five depths."""
        if min(a.shape[2:]) < LEAST:
            raise GanatomyError(
                f"{self.name}: expected images of at least {LEAST} pixels a side, got {a.shape[2]} x {a.shape[3]}"
            )
        pairs = zip(self._looks(a), self._looks(b), self._heads, strict=True)
        return [F.conv2d((unit(x) - unit(y)) ** 2, head)[:, 0] for x, y, head in pairs]

    def _looks(self, images: Tensor) -> list[Tensor]:
        """Return the features at each depth."""
        mean, deviation = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        x, found = (images.float().to(self._device) - mean) / deviation, []
        for index, module in enumerate(self._network):
            x = module(x)
            if index in self._taken:
                found.append(x.clone())  # a ReLU in place may follow
        return found


def unit(features: Tensor) -> Tensor:
    """Return features [N, D, h, w] with each place's of length 1."""
    return features / ((features**2).sum(1, keepdim=True) + EPSILON).sqrt()


def heads_of(net: str) -> Path:
    """Return the file of LPIPS' own weights that comes with torchmetrics; GanatomyError where that is not installed."""
    spec = find_spec("torchmetrics")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "functional", "image", "lpips_models", f"{net}.pth")
        if path.is_file():
            return path
    raise GanatomyError("LPIPS needs the package torchmetrics: pip install 'ganatomy[metrics]'")


def load(name: str | None = None, device: str = "cpu") -> Distance:
    """Return a distance by its name, or None for the best that is there: LPIPS if its weights are, or a stand-in.

    Raises:
        GanatomyError: for an unknown name; for LPIPS where package or weights cannot be had.
    """
    if name is None:
        there = find_spec("torchmetrics") is not None and is_cached(BACKBONES["alex"].source)
        name = "lpips-alex" if there else STAND_IN
    if name.removeprefix("lpips-") in BACKBONES and name.startswith("lpips-"):
        return Lpips(name.removeprefix("lpips-"), device=device)
    if name == STAND_IN:
        segmenter = segmodels.load("face-parts", device)
        assert isinstance(segmenter, SmpSegmenter)
        return EncoderDistance(segmenter, STAND_IN)
    if name == "squared-difference":
        return SquaredDifference()
    raise unknown_name("distance", name, [*(f"lpips-{net}" for net in BACKBONES), STAND_IN, "squared-difference"])
