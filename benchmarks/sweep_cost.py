"""What a sweep of all units of a layer costs, as a multiple of running only what comes after the layer as often.

    python benchmarks/sweep_cost.py [workload|digiface] [--samples 4] [--batch 4] [--threads 1] [--units N] [--turns 8]

``workload`` is the benchmark's own generator at ``layer3`` (512 units, none ever exactly zero) by its rules;
``digiface`` is digiface-dcgan64 at ``main.2`` (512 units after a ReLU) by face-parts. *After* is a bare loop over the
modules behind the layer, nothing else; *after and segmenter* reads its images, too. They are timed in turns with parts
of the sweep in one process, since shared machines are noisy: compare the ratios, not the seconds. The sweep includes
generating the samples, reading them, the edits and the sums. It is timed without leaving out what cannot change
anything, and with. Every ratio is given of elapsed time and of processor time, which others on the machine change less.
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
    """Run the modules so many times, and read the images they make."""
    for _ in range(times):
        x = features.clone()
        for module in modules:
            x = module(x)
        if segmenter is not None:
            segmenter(x)


def timed(work):
    """Return elapsed and processor seconds of some work, and what it returned."""
    began = np.array([time.perf_counter(), time.process_time()])
    made = work()
    return np.array([time.perf_counter(), time.process_time()]) - began, made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=("workload", "digiface"), default="workload")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--units", type=int)
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, segmenter, layer, codes, modules = case(options.case, options.samples)
    units = range(generator.layer(layer).channels)[: options.units]
    features = generator.features(codes[: options.batch], layer)[layer]
    seconds = {name: np.zeros(2) for name in ("after", "after and segmenter", "all", "left out")}
    images = dict.fromkeys(seconds, 0)
    run = 0
    after(modules, features, 2, segmenter)
    for part in np.array_split(np.array(units), options.turns):
        times = max(1, len(part) // 4)
        for name, reader in (("after", None), ("after and segmenter", segmenter)):
            seconds[name] += timed(lambda by=reader, n=times: after(modules, features, n, by))[0]
            images[name] += times * len(features)
        for name, skip in (("all", False), ("left out", True)):
            some = {"units": part.tolist(), "batch": options.batch, "threads": options.threads, "skip": skip}
            spent, made = timed(lambda how=some: dissect.sweep(generator, segmenter, layer, codes, **how))
            seconds[name] += spent
            images[name] += len(part) * options.samples
            run += made.facts["how"]["run"] if skip else 0
    each = {name: 1e3 * seconds[name] / images[name] for name in seconds}
    print(f"{options.case}: {len(units)} units of {layer}, {options.samples} samples, batch {options.batch}")
    for name in ("after", "after and segmenter"):
        print(f"  {name}: {each[name][0]:.1f} ms an image, {each[name][1]:.1f} ms of processors")
    for name, told in (("all", "nothing left out"), ("left out", f"{images['all'] - run} of {images['all']} left out")):
        ratios = ", ".join(
            f"{each[name][0] / each[of][0]:.2f} ({each[name][1] / each[of][1]:.2f}) of {of}"
            for of in ("after", "after and segmenter")
        )
        print(f"  sweep, {told}: {each[name][0]:.1f} ms an image and unit ({each[name][1]:.1f}), {ratios}")


if __name__ == "__main__":
    main()
