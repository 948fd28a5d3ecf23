"""What a sweep of all units of a layer costs, as a multiple of running only what comes after the layer as often.

    python benchmarks/sweep_cost.py [workload|digiface] [--samples 4] [--batch 4] [--threads 1] [--units N] [--turns 4]

``workload`` is the benchmark's own generator at ``layer3`` (512 units, no value exactly zero) by its rules; ``digiface``
is digiface-dcgan64 at ``main.2`` (512 units after a ReLU) by face-parts. *After* is a bare loop over the modules behind
the layer, nothing else; *after and segmenter* reads its images, too. They are timed in turns with parts of the sweep in
one process, since shared machines are noisy: compare the ratios, not the seconds. The sweep includes generating the
samples, reading them, the edits and the sums. It is timed without leaving out what cannot change anything, and with.
"""

import argparse
import os
import time

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before torch looks

import numpy as np
import torch
from workload import RuleSegmenter, make_generator, make_z

import dissect
import segmodels


def case(name, samples):
    """Return generator, segmenter, layer, codes, and the modules behind the layer."""
    if name == "workload":
        network = make_generator()
        generator = dissect.load(network, z_dim=512)
        codes = generator.map(make_z(samples).flatten(1))
        return generator, RuleSegmenter(336, network), "layer3", codes, list(network)[3:]
    generator = dissect.load("digiface-dcgan64")
    codes = generator.sample(range(samples))
    return generator, segmodels.load("face-parts"), "main.2", codes, list(generator.module)[3:]


@torch.no_grad()
def after(modules, features, times, segmenter=None):
    """Return seconds an image of running the modules, and of reading the images they make."""
    began = time.perf_counter()
    for _ in range(times):
        x = features.clone()
        for module in modules:
            x = module(x)
        if segmenter is not None:
            segmenter(x)
    return (time.perf_counter() - began) / (times * len(features))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=("workload", "digiface"), default="workload")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--units", type=int)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, segmenter, layer, codes, modules = case(options.case, options.samples)
    units = range(min(options.units or generator.layer(layer).channels, generator.layer(layer).channels))
    features = generator.features(codes[: options.batch], layer)[layer]
    floors = {"after": [], "after and segmenter": []}
    sweeps, run = {False: [], True: []}, {False: 0, True: 0}
    parts = np.array_split(np.array(units), options.turns)
    after(modules, features, 2, segmenter)
    for part in parts:
        times = max(1, len(part) // 4)
        for skip in (False, True):
            floors["after"].append(after(modules, features, times))
            floors["after and segmenter"].append(after(modules, features, times, segmenter))
            began = time.perf_counter()
            made = dissect.sweep(
                generator,
                segmenter,
                layer,
                codes,
                part.tolist(),
                batch=options.batch,
                threads=options.threads,
                skip=skip,
            )
            sweeps[skip].append(time.perf_counter() - began)
            run[skip] += made.facts["how"]["run"]
    images = len(units) * options.samples
    print(f"{options.case}: {len(units)} units of {layer}, {options.samples} samples, batch {options.batch}")
    for name, seconds in floors.items():
        print(f"  {name}: {1e3 * np.median(seconds):.1f} ms an image")
    for skip, seconds in sweeps.items():
        each = sum(seconds) / images
        ratios = ", ".join(f"{each / np.mean(floor):.2f} of {name}" for name, floor in floors.items())
        told = f"{images - run[skip]} of {images} images left out" if skip else "nothing left out"
        print(f"  sweep, {told}: {1e3 * each:.1f} ms an image and unit, {ratios}")


if __name__ == "__main__":
    main()
