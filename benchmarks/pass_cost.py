"""What the pass costs, as a multiple of generator and segmenter alone at their best batch size.

    python benchmarks/pass_cost.py [--samples 1000] [--repeat 3] [--threads 2] [--batch 4]

Both are timed alternately in one process, since shared machines are noisy: compare the ratio, not the seconds. The
pass includes the pilot; writing the finished file is told apart.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
from workload import LAYERS, RuleSegmenter, make_generator, make_z

import dissect
from dissect import execute

BATCHES = (1, 2, 4, 8)


def alone(generator, segmenter, z, batch):
    began = time.perf_counter()
    for part in z.split(batch):
        segmenter(generator(generator.map(part)))
    return (time.perf_counter() - began) / len(z)


def whole(generator, segmenter, z, batch):
    """Return seconds a sample of the pass, and of writing the file."""
    writing, write = 0.0, execute.write_finished

    def timed(*arguments):
        nonlocal writing
        began = time.perf_counter()
        write(*arguments)
        writing = time.perf_counter() - began

    execute.write_finished = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            dissect.run(generator, segmenter, list(LAYERS), out=Path(folder) / "run.h5", z=z, batch=batch)
            took = time.perf_counter() - began - writing
    finally:
        execute.write_finished = write
    return took / len(z), writing / len(z)


def peak():
    """Return the most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = make_generator()
    generator, segmenter = dissect.load(network, z_dim=512), RuleSegmenter(336, network)
    z = make_z(options.samples)
    floor = {batch: alone(generator, segmenter, z[:100], batch) for batch in BATCHES}
    floor_peak = peak()
    whole(generator, segmenter, z[:16], options.batch)  # compiles the kernels
    results = []
    for _ in range(options.repeat):
        floor = {batch: alone(generator, segmenter, z[:100], batch) for batch in BATCHES}
        best = min(floor, key=floor.get)
        before = alone(generator, segmenter, z[:200], best)
        full, writing = whole(generator, segmenter, z, options.batch)
        after = alone(generator, segmenter, z[:200], best)
        base = min(before, after, floor[best])
        results.append({
            "batch": best, "alone_ms": base * 1e3, "pass_ms": full * 1e3, "write_ms": writing * 1e3,
            "ratio": full / base,
        })  # fmt: skip
        print(json.dumps({k: round(v, 3) for k, v in results[-1].items()}), flush=True)
    ratios = [r["ratio"] for r in results]
    print(f"ratio {min(ratios):.2f} to {max(ratios):.2f}; peak {peak():.2f} GiB, the floor's own {floor_peak:.2f} GiB")


if __name__ == "__main__":
    main()
