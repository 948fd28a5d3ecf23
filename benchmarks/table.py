"""What counting costs, and how that grows: a table.

    python benchmarks/table.py [--threads 2] [--no-file]

Times are medians of several; compare the ratios, not the milliseconds. ``pass_cost.py`` tells the cost of a whole pass
against generator and segmenter alone.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import dissect
from dissect.counts import Coded, Counter
from dissect.counts_torch import TorchCounter
from dissect.levels import tail_fractions
from segmodels import Concept, Segmenter
from segmodels.base import UNLABELLED

SAMPLES, UNITS, SIDE, SIZE, CONCEPTS, LEVELS = 8, 256, 16, 64, 336, 48
REPEAT = 7


def median_ms(function, samples=SAMPLES):
    """Return the median time of a call, in milliseconds a sample."""
    function()
    times = []
    for _ in range(REPEAT):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3 / samples


def case(units=UNITS, side=SIDE, size=SIZE, concepts=CONCEPTS, levels=LEVELS, planes=3):
    """Return smooth features, labels in blocks, and levels as a pilot would set them."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(SAMPLES, units, side, side, generator=random)
    # An image shows a few of the concepts: some twenty here, in patches.
    patches = torch.randint(1, 1 + concepts // planes, (SAMPLES + 1, planes, 1, 1), generator=random)
    patches = patches + torch.randint(0, 7, (SAMPLES + 1, planes, 8, 8), generator=random)
    patches = patches.clamp(max=concepts // planes) + torch.arange(planes).view(1, -1, 1, 1) * (concepts // planes)
    labels = F.interpolate(patches.float(), (size, size)).numpy().astype(np.int16)
    tail = torch.quantile(features[:2].flatten(), torch.from_numpy(1 - tail_fractions(levels)).float())
    return features, labels, np.tile(tail.sort()[0].numpy(), (units, 1))


def kernel_ms(threads, **how):
    features, labels, levels = case(**how)
    coded, concepts = Coded.of(labels), int(labels.max()) + 1
    counter = Counter(levels, features.shape[2:], labels.shape[2:], max(concepts, how.get("concepts", CONCEPTS) + 1))
    with ThreadPoolExecutor(threads) as pool:
        return median_ms(lambda: counter.add(features, coded, pool, threads))


def naive_ms():
    """Interpolate, bucketize and bincount in torch, plane by plane, the labels' own counts and those by chance."""
    features, labels, levels = case()
    planes, edges = torch.from_numpy(labels).long(), torch.from_numpy(levels)

    def count():
        for sample in range(SAMPLES):
            values = F.interpolate(features[sample : sample + 1], (SIZE, SIZE), mode="bilinear")[0].flatten(1)
            bins = torch.searchsorted(edges, values)
            for of in (sample, sample + 1):
                for plane in planes[of]:
                    key = (bins * (CONCEPTS + 1) + plane.flatten()) + torch.arange(UNITS)[:, None] * 49 * (CONCEPTS + 1)
                    torch.bincount(key.flatten(), minlength=UNITS * 49 * (CONCEPTS + 1))

    return median_ms(count)


def torch_ms():
    features, labels, levels = case()
    counter = TorchCounter(levels, features.shape[2:], labels.shape[2:], CONCEPTS + 1)
    coded = Coded.of(labels)
    return median_ms(lambda: counter.add(features, coded))


class Striped(Segmenter):
    """Many concepts, cheaply: stripes that depend on the seed."""

    def __init__(self):
        super().__init__("striped", (UNLABELLED, *(Concept(f"c{i}") for i in range(CONCEPTS))), "0" * 64)

    def segment(self, images, keys):
        rows = torch.arange(SIZE).view(1, 1, -1, 1).expand(len(images), 1, SIZE, SIZE)
        return ((rows + torch.tensor(keys).view(-1, 1, 1, 1) * 5) % CONCEPTS + 1).to(torch.int16)


class Deep(nn.Module):
    """Twenty layers of 250 units."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 250 * 16)
        self.blocks = nn.ModuleList(nn.Conv2d(250, 250, 1) for _ in range(20))
        self.last = nn.Conv2d(250, 3, 1)

    def forward(self, z):
        x = self.first(z.flatten(1)).view(-1, 250, 4, 4)
        for block in self.blocks:
            x = torch.relu(block(x)) + 0.1 * x
        return torch.tanh(F.interpolate(self.last(x), (SIZE, SIZE)))


def pass_ms(generator, layers, samples):
    """Return milliseconds a sample of a whole pass, its file included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        dissect.run(generator, Striped(), [f"blocks.{i}" for i in range(layers)], samples, Path(folder) / "run.h5")
        return (time.perf_counter() - began) / samples * 1e3


def growth():
    """Print how a pass grows with layers of 250 units and with samples."""
    torch.manual_seed(0)
    generator = dissect.load(Deep().eval(), z_dim=32)
    pass_ms(generator, 1, 20)
    base = pass_ms(generator, 4, 200)
    print("\na pass, 4 layers of 250 units, 200 samples, file included")
    print("| what changes | ms a sample | ratio |\n|---|---|---|")
    print(f"| | {base:.2f} | 1.00 |")
    for layers, samples in ((1, 200), (2, 200), (8, 200), (4, 400), (4, 800), (4, 1600)):
        took = pass_ms(generator, layers, samples)
        what = f"layers {layers}" if samples == 200 else f"samples {samples}"
        print(f"| {what} | {took:.2f} | {took / base:.2f} |", flush=True)


def large_file(folder):
    """Return size and times of a file of 20 layers and 5,000 units: making, opening, the first and another page."""
    torch.manual_seed(0)
    generator = dissect.load(Deep().eval(), z_dim=32)
    out = folder / "large.h5"
    began = time.perf_counter()
    names = [f"blocks.{i}" for i in range(20)]
    run = dissect.run(generator, Striped(), names, 40, out, top=8)
    made = time.perf_counter() - began
    for name in run.layers:
        run.layer(name).label  # noqa: B018 - computed once, kept beside the file

    def page(run, layer, unit):
        result = run.layer(layer)
        row, _, top = result.row(unit), result.histogram(unit), result.top(unit)
        shown = dict(run.thumbnails())
        return row, [shown[one.seed] for one in top]

    times = []
    for unit in range(REPEAT):
        began = time.perf_counter()
        page(dissect.open(out), names[7], unit)
        times.append(time.perf_counter() - began)
    return out.stat().st_size / 1e6, made, statistics.median(times) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-file", action="store_true", help="without the file of 5,000 units")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = kernel_ms(options.threads)
    print(f"kernel: {UNITS} units of {SIDE} px at {SIZE} px, {CONCEPTS} concepts in 3 planes, {LEVELS} levels")
    print(f"| what changes | ms a sample | ratio |\n|---|---|---|\n| | {base:.2f} | 1.00 |")
    for name, values in {
        "units": (128, 512, 1024), "side": (4, 32, 64, 128), "size": (32, 128, 256), "concepts": (12, 84, 1344),
        "levels": (12, 24, 96, 192), "planes": (1, 2, 6),
    }.items():  # fmt: skip
        for value in values:
            took = kernel_ms(options.threads, **{name: value})
            print(f"| {name} {value} | {took:.2f} | {took / base:.2f} |", flush=True)
    for name, took in (("in torch", torch_ms()), ("interpolate, searchsorted, bincount", naive_ms())):
        print(f"| {name} | {took:.2f} | {took / base:.2f} |", flush=True)
    growth()
    if not options.no_file:
        with tempfile.TemporaryDirectory() as folder:
            size, made, opened = large_file(Path(folder))
        print(f"\n20 layers, 5,000 units, {CONCEPTS} concepts: {size:.0f} MB, made in {made:.0f} s")
        print(f"open it and read a unit's page: {opened:.0f} ms")


if __name__ == "__main__":
    main()
