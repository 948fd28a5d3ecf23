"""What several tests need."""

import os
import time

import h5py
import numpy as np
import torch

from dissect import forward
from segmodels import Concept, Segmenter
from segmodels.base import UNLABELLED

LONG = os.environ.get("GANATOMY_LONG") == "1"  # whether long checks run at their full length: `make test-long`


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


def slowly(monkeypatch, seconds=0.02):
    """Let every batch take a moment, so that there is something to watch and time for something else."""
    real = forward.Forward._make

    def make(self, *arguments):
        time.sleep(seconds)
        return real(self, *arguments)

    monkeypatch.setattr(forward.Forward, "_make", make)


class Stop:
    """A progress callback that interrupts, as Ctrl-C does, once so many samples are done."""

    def __init__(self, after):
        self.after = after

    def __call__(self, done, total):
        if done >= self.after:
            raise KeyboardInterrupt


def random_features(state, kind, shape):
    """Features float32 of a kind that is hard to count: "ties", "relu", "constant", "heavy", or "normal"."""
    features = state.randn(*shape).astype(np.float32)
    if kind == "ties":
        features = np.round(features * 2) / 2
    if kind == "relu":
        features = np.maximum(features, 0)
    if kind == "constant":
        features[:, ::2] = 1.25
    if kind == "heavy":
        features = np.sign(features) * np.exp(8 * np.abs(features)).astype(np.float32)
    return features


def random_labels(state, samples, planes, concepts, size):
    """Labels int16 [samples, planes, H, W], three in ten of them unlabelled; every plane has concepts of its own."""
    edges = np.linspace(1, concepts, planes + 1).astype(int)
    labels = np.stack([state.randint(edges[p], edges[p + 1], (samples, *size)) for p in range(planes)], 1)
    labels[state.rand(*labels.shape) < 0.3] = 0
    return labels.astype(np.int16)


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
