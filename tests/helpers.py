"""What several tests need."""

import h5py
import numpy as np
import torch

from segmodels import Concept, Segmenter
from segmodels.base import UNLABELLED


def datasets(path):
    """Every dataset of a file, by name."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return found


def differing(a, b):
    """Names of the datasets in which two files differ by a bit."""
    left, right = datasets(a), datasets(b)
    names = set(left) ^ set(right)
    for name in set(left) & set(right):
        x, y = np.asarray(left[name]), np.asarray(right[name])
        if x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
            equal = x.dtype == object and x.tolist() == y.tolist()
            names |= set() if equal else {name}
    return sorted(names)


class OtherLabels(Segmenter):
    """Fed the wrong images: the labels of the sample ``offset`` places on, as if they were real."""

    def __init__(self, segmenter, generator, codes, offset):
        super().__init__(segmenter.name, segmenter.concepts, f"other:{segmenter.sha256}")
        self.inner, self.generator, self.codes, self.offset = segmenter, generator, codes, offset

    def segment(self, images, keys):
        rows = [(int(key) + self.offset) % len(self.codes) for key in keys]
        return self.inner(self.generator(self.codes[rows]))


class Bands(Segmenter):
    """Rows of the image as concepts: knows nothing of the content."""

    def __init__(self, bad=None):
        super().__init__("bands", [UNLABELLED, Concept("top"), Concept("bottom")], f"bands{bad}")
        self.bad = bad

    def segment(self, images, keys):
        labels = torch.ones(len(images), 1, *images.shape[2:], dtype=torch.long)
        labels[:, :, images.shape[2] // 2 :] = 2 if self.bad is None else self.bad
        return labels
