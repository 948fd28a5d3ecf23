"""A small classifier of broken images, trained from people's tags, and where in an image it looks.

Logistic regression on the averaged deepest features of a segmenter's encoder: convex, the same every time, and sensible
with tens of tags. Its Grad-CAM (Selvaraju et al., ICCV 2017) has a closed form, which is what is computed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save
from scipy.special import expit
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import one_line
from segmodels.smp import SmpSegmenter

from ..disk import replacing
from ..resample import resample

Float64 = NDArray[np.float64]
FORMAT = "ganatomy.artifact-classifier"
PENALTY = 1.0  # on the squared weights of standardised features
FOLDS = 5
FEWEST = 5  # images of each kind
FLAWED = 0.3  # of a Grad-CAM's maximum, from which on a region is flawed: as in Tousi et al.


@dataclass(frozen=True, eq=False)
class Classifier:
    """A logistic classifier of features: broken or fine.

    Attributes:
        weight: [D]. bias: of the sum. auc: area under the ROC curve on images not trained on. encoder: whose features.
        mean, deviation: [D], by which features are standardised first.
        seeds: int64 [N], of the images that it was trained on: on these it proves nothing.
    """

    weight: Float64
    bias: float
    mean: Float64
    deviation: Float64
    auc: float
    encoder: str
    seeds: NDArray[np.int64]

    def probability(self, features: Float64) -> Float64:
        """Return the probability that images with averaged features [N, D] are broken, [N]."""
        return expit((features - self.mean) / self.deviation @ self.weight + self.bias)

    def save(self, path: Path) -> None:
        """Write it to one file, whole or not at all."""
        header = {"format": FORMAT, "bias": self.bias, "auc": self.auc, "encoder": self.encoder}
        tensors = {"weight": self.weight, "mean": self.mean, "deviation": self.deviation, "seeds": self.seeds}
        with replacing(path) as disk:
            disk.write(save(tensors, {"classifier": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read one; GanatomyError if the file is none."""
        if not path.is_file():
            raise GanatomyError(f"{path} is no classifier of artifacts: there is no such file")
        try:
            with safetensors.safe_open(path, "numpy") as file:
                header = json.loads((file.metadata() or {}).get("classifier", "null"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise GanatomyError(f"{path} is no classifier of artifacts")
            if "seeds" not in tensors:
                raise GanatomyError(f"{path} does not say on which images it was trained; train it again")
            return cls(
                tensors["weight"], float(header["bias"]), tensors["mean"], tensors["deviation"], float(header["auc"]),
                str(header["encoder"]), tensors["seeds"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise GanatomyError(f"{path} is no classifier of artifacts, or damaged: {one_line(error)}") from error


def train(
    features: Float64, broken: NDArray[np.bool_], encoder: str, seeds: ArrayLike, penalty: float = PENALTY
) -> Classifier:
    """Train on features [N, D] and tags [N]; ``auc`` comes from five folds, each judged by a model of the others.

    Args:
        features, broken: of the images. encoder: whose features. seeds: of the images, [N], to be remembered.
        penalty: on the squared weights.

    Raises:
        GanatomyError: for fewer than five images of a kind, or another number of seeds.
    """
    known = np.array(seeds, np.int64)
    if known.shape != (len(features),):
        raise GanatomyError(f"expected the seeds of {len(features)} images, got {list(known.shape)}")
    kinds = int(broken.sum()), int((~broken).sum())
    if min(kinds) < FEWEST:
        raise GanatomyError(
            f"expected at least {FEWEST} broken and {FEWEST} fine images, got {kinds[0]} and {kinds[1]}"
        )
    held = np.empty(len(broken))
    fold = _folds(broken)
    for k in range(FOLDS):
        inside = fold != k
        held[~inside] = _fit(features[inside], broken[inside], penalty, encoder, known).probability(features[~inside])
    above = held[broken][:, None] - held[~broken]
    auc = float((above > 0).mean() + (above == 0).mean() / 2)
    return replace(_fit(features, broken, penalty, encoder, known), auc=auc)


def _fit(
    features: Float64, broken: NDArray[np.bool_], penalty: float, encoder: str, seeds: NDArray[np.int64]
) -> Classifier:
    """Minimise the mean logistic loss of both kinds in equal weight, plus the penalty on the weights."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    x, sign = (features - mean) / deviation, np.where(broken, 1.0, -1.0)
    share = np.where(broken, 0.5 / broken.sum(), 0.5 / (~broken).sum())

    def loss(parameters: Float64) -> tuple[float, Float64]:
        weight, bias = parameters[:-1], parameters[-1]
        margin = sign * (x @ weight + bias)
        slope = -share * sign * expit(-margin)
        value = float(share @ np.logaddexp(0, -margin)) + penalty / 2 * float(weight @ weight)
        return value, np.r_[x.T @ slope + penalty * weight, slope.sum()]

    from scipy.optimize import minimize  # not at every start

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return Classifier(found[:-1], float(found[-1]), mean, deviation, np.nan, encoder, seeds)


def _folds(broken: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a fold for each image; each has its share of both kinds."""
    fold = np.empty(len(broken), np.int64)
    for kind in (True, False):
        here = np.flatnonzero(broken == kind)
        fold[np.random.RandomState(0).permutation(here)] = np.arange(len(here)) % FOLDS
    return fold


class Eye:
    """A classifier with the encoder that it looks through."""

    def __init__(self, classifier: Classifier, segmenter: SmpSegmenter) -> None:
        if classifier.encoder != segmenter.sha256:
            raise GanatomyError("the classifier was trained on another encoder's features; train it again")
        self.classifier, self._segmenter = classifier, segmenter

    def look(self, images: Tensor, size: tuple[int, int]) -> tuple[Float64, NDArray[np.bool_]]:
        """Return for images [N, 3, H, W] the probability of being broken [N], and the flawed region bool [N, *size].

        A region is where Grad-CAM exceeds 0.3 of its maximum in the image.
        """
        maps = self._segmenter.encoded(images).double().cpu().numpy()
        heat = grad_cam(maps, self.classifier.weight / self.classifier.deviation)
        large = resample(heat.astype(np.float32), *size)
        peak = large.max((1, 2), keepdims=True)
        return self.classifier.probability(maps.mean((2, 3))), (large > FLAWED * peak) & (peak > 0)


def grad_cam(maps: Float64, weight: Float64) -> Float64:
    """Return Grad-CAM [N, h, w] of a linear head on averaged maps [N, D, h, w]: ReLU of the weighted sum of the maps.

    The gradient of ``weight . mean(maps)`` by every cell of map k is ``weight[k] / (h w)``; its mean over the cells is
    the same, so Grad-CAM's weights are the head's own, over h w.
    """
    return np.maximum(np.einsum("ndhw,d->nhw", maps, weight), 0) / (maps.shape[2] * maps.shape[3])


def pooled(segmenter: SmpSegmenter, images: Tensor) -> Float64:
    """Return the averaged features [N, D] that classifiers are trained on."""
    with torch.no_grad():
        return segmenter.encoded(images).double().mean((2, 3)).cpu().numpy()
