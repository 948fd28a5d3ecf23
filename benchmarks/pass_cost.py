"""What the pass costs, as a multiple of generator and segmenter alone at their best batch size.

    python benchmarks/pass_cost.py [workload|faces] [--samples N] [--repeat 3] [--threads 2] [--batch B]

``workload`` is the benchmark's own generator and rules; ``faces`` is mobilestylegan-ffhq by face-parts+colors, its
layers of 16, 32 and 64 pixels. Floor and pass are timed alternately in one process, since shared machines are noisy:
compare the ratios, not the seconds. *Alone* is a plain loop, in which torch uses all threads for one batch at a time;
*side by side* makes batches as the pass does, a thread each. The pass includes the pilot, and the measurement of the
batch size where none is given and none was kept; writing the finished file is told apart.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before torch looks

import torch
from workload import LAYERS, RuleSegmenter, make_generator, make_z

import dissect
import segmodels
from dissect import execute
from dissect.exactness import reproducibly
from dissect.job import Job
from dissect.plan import Plan
from dissect.samples import Samples

BATCHES = (1, 2, 4, 8)


def alone(job, batch, count):
    """Return seconds a sample of a plain loop over generator and segmenter."""
    began = time.perf_counter()
    for start in range(0, count, batch):
        job.segmenter(job.generator(job.samples.codes(start, min(start + batch, count))), None)
    return (time.perf_counter() - began) / count


def side_by_side(job, count):
    """Return seconds a sample of making batches as the pass does, and throwing them away."""
    with reproducibly(job.threads_each):
        forward = job.forward()
        began = time.perf_counter()
        with closing(forward.batches(Plan(count, count), range(1), forward.label_size(job.count_size))) as batches:
            for _ in batches:
                pass
        return (time.perf_counter() - began) / count


def whole(make, folder):
    """Return seconds a sample of the pass, seconds a sample of writing the file, and the batch size."""
    writing, write = 0.0, execute.write_finished

    def timed(*arguments):
        nonlocal writing
        began = time.perf_counter()
        write(*arguments)
        writing = time.perf_counter() - began

    execute.write_finished = timed
    try:
        job = make(Path(folder) / "run.h5")
        began = time.perf_counter()
        execute.run_job(job)
        took = time.perf_counter() - began - writing
    finally:
        execute.write_finished = write
    return took / len(job.samples), writing / len(job.samples), job.batch


def peak():
    """Return the most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def case(name):
    """Return generator, segmenter, layers, samples and how many of them time the floor."""
    if name == "workload":
        network = make_generator()
        generator = dissect.load(network, z_dim=512)
        return generator, RuleSegmenter(336, network), list(LAYERS), 1000, 100
    generator = dissect.load("mobilestylegan-ffhq")
    layers = [layer.name for layer in generator.layers if layer.default and layer.height in (16, 32, 64)]
    return generator, segmodels.load("face-parts+colors"), layers, 200, 16


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=("workload", "faces"), default="workload")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, segmenter, layers, samples, few = case(options.case)
    samples = options.samples or samples
    codes = generator.map(make_z(samples).flatten(1)) if options.case == "workload" else None

    def make(out, count=samples):
        given = Samples(generator, codes=codes[:count]) if codes is not None else Samples(generator, seeds=range(count))
        return Job(generator, segmenter, given, layers, out, batch=options.batch, threads=options.threads)

    with tempfile.TemporaryDirectory() as folder:
        some = make(Path(folder) / "few.h5", min(samples, 2 * few))
        floors = {batch: alone(some, batch, min(few, 16)) for batch in BATCHES}
        floor_peak = peak()
        execute.run_job(make(Path(folder) / "warm.h5", 16))  # compiles the kernels
        rows = []
        for _ in range(options.repeat):
            floors = {batch: alone(some, batch, few) for batch in BATCHES}
            best = min(floors, key=floors.get)
            before = alone(some, best, len(some.samples))
            some.batch = options.batch or best
            beside = side_by_side(some, len(some.samples))
            with tempfile.TemporaryDirectory() as run:
                full, writing, batch = whole(make, run)
            base = min(before, alone(some, best, len(some.samples)), floors[best])
            rows.append({
                "best batch alone": best, "alone ms": base * 1e3, "side by side ms": beside * 1e3,
                "batch": batch, "pass ms": full * 1e3, "file ms": writing * 1e3,
                "ratio": full / base, "to side by side": full / beside,
            })  # fmt: skip
            print(json.dumps({k: round(v, 3) for k, v in rows[-1].items()}), flush=True)
    ratios = [row["ratio"] for row in rows]
    print(
        f"{options.case}, {samples} samples: ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to"
        f" {max(ratios):.2f}); peak {peak():.2f} GiB, the floor's own {floor_peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
