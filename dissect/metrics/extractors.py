"""Feature extractors: what images are compared by. Each says its name and hash, which stand beside every number.

Inception's features make a distance an FID. Its weights are fetched by whoever asks for it; where they are not, a
stand-in serves, and what it gives is called by its own name.
"""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segmodels
from segmodels import GanatomyError
from segmodels.errors import unknown_name
from segmodels.fetch import Https, fetch, is_cached
from segmodels.smp import SmpSegmenter

from .gaussians import Float64

SIDE = 16  # pixels a side of "pixels"
# The standard weights, as torch-fidelity publishes them; the hash's first digits are a part of the file's name.
INCEPTION = Https(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d",
)
STAND_IN = "face-parts-encoder"


class Extractor(ABC):
    """Turns images into features.

    Attributes:
        name: of the extractor. sha256: of whatever determines the features. inception: whether a Fréchet distance of
            these features is an FID.
    """

    name: str
    sha256: str
    inception = False

    @abstractmethod
    def __call__(self, images: Tensor) -> Float64:
        """Return features [N, D] of images float32 [N, 3, H, W] in [-1, 1]."""

    def posteriors(self, images: Tensor) -> Float64 | None:
        """Return the distribution over classes [N, K], or None if there is no classifier."""
        return None

    def both(self, images: Tensor) -> tuple[Float64, Float64 | None]:
        """Return features [N, D] and posteriors [N, K] of images [N, 3, H, W]."""
        return self(images), self.posteriors(images)


class Pixels(Extractor):
    """The picture itself, averaged down to 16 x 16: blind to detail, and needs no weights."""

    def __init__(self) -> None:
        self.name = "pixels"
        self.sha256 = hashlib.sha256(f"pixels {SIDE}".encode()).hexdigest()

    def __call__(self, images: Tensor) -> Float64:
        """Return [N, 768] in [-1, 1]."""
        small = F.interpolate(images.float().clamp(-1, 1), (SIDE, SIDE), mode="area")
        return small.flatten(1).double().cpu().numpy()


class Encoder(Extractor):
    """The deepest features of a segmenter's encoder, averaged over the image."""

    def __init__(self, segmenter: SmpSegmenter, name: str) -> None:
        self.name = name
        self._segmenter = segmenter
        self.sha256 = hashlib.sha256(f"encoder {segmenter.sha256}".encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Float64:
        """Return [N, D]."""
        deepest = self._segmenter.encoded(images)
        return deepest.double().mean((2, 3)).cpu().numpy()


class Inception(Extractor):
    """The 2,048 pooled features of the Inception network that FID is defined by, through torch-fidelity's port."""

    inception = True

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise GanatomyError(
                "inception needs the package torch-fidelity: pip install 'ganatomy[metrics]'"
            ) from error
        path = weights or fetch(INCEPTION)
        self.name = "inception-v3"
        with tempfile.TemporaryDirectory() as folder:
            # Their constructor unpickles whatever it is given, so it gets a file that this process has written.
            safe = Path(folder) / "weights.pth"
            tensors = read_tensors(path)
            torch.save(tensors, safe)
            try:
                self._network: nn.Module = FeatureExtractorInceptionV3(
                    "inception-v3", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(safe)
                ).to(device)
            except RuntimeError as error:
                raise GanatomyError(f"{path} does not hold the weights of that Inception network") from error
        self._device = device
        self.sha256 = hash_tensors(tensors)

    def __call__(self, images: Tensor) -> Float64:
        """Return [N, 2048]."""
        return self.both(images)[0]

    def posteriors(self, images: Tensor) -> Float64:
        """Return [N, 1008]: without the last layer's bias, as the inception score has been computed from the start."""
        return self.both(images)[1]

    @torch.no_grad()
    def both(self, images: Tensor) -> tuple[Float64, Float64]:
        """Return them of one pass through the network."""
        scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)  # it takes bytes
        features, logits = self._network(scaled.to(self._device))
        return features.double().cpu().numpy(), logits.double().softmax(1).cpu().numpy()


def load(name: str | None = None, device: str = "cpu") -> Extractor:
    """Return an extractor by its name, or None for the best that is there: Inception if its weights are, or a stand-in.

    Raises:
        GanatomyError: for an unknown name; for Inception where package or weights cannot be had.
    """
    if name is None:
        there = find_spec("torch_fidelity") is not None and is_cached(INCEPTION)
        name = "inception-v3" if there else STAND_IN
    if name == "inception-v3":
        return Inception(device=device)
    if name == STAND_IN:
        segmenter = segmodels.load("face-parts", device)
        assert isinstance(segmenter, SmpSegmenter)
        return Encoder(segmenter, STAND_IN)
    if name == "pixels":
        return Pixels()
    raise unknown_name("extractor", name, ["inception-v3", STAND_IN, "pixels"])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, read without running anything that it holds."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes torch raise
        raise GanatomyError(f"{path} cannot be read as plain tensors: {type(error).__name__}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise GanatomyError(f"{path} holds other things than tensors")
    return loaded


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names and values."""
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
