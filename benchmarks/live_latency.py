"""How long the dashboard takes to draw a unit with and without: from a request's arrival to the answer's last byte.

    python benchmarks/live_latency.py [--generator digiface-dcgan64] [--threads 2] [--while-dissecting]

Six seeds, as the page shows at first. "slider": another strength, the same seeds. "next seeds": six that were never
drawn. CPU time is that of the whole process, so that a busy machine does not hide what the work is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from flask.testing import FlaskClient

import dissect
import segmodels
from app import server
from app.context import Context, link
from app.library import Library
from app.orders import Order
from app.safety import guard

REPEAT = 40
SEEDS = 6
PROMISED = 0.150  # seconds, median, on two cores with digiface-dcgan64


def timed(ask: Callable[[], object]) -> tuple[float, float]:
    """Return (wall, CPU) seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    ask()
    return time.perf_counter() - wall, time.process_time() - cpu


def asked(client: FlaskClient, layer: str, unit: int, rows: str, **query: object) -> None:
    """Ask for rows of a unit, and fail if they do not come."""
    answer = client.get(link("live", "run", layer, unit, rows=rows, **query), headers={"Host": "127.0.0.1"})
    assert answer.json is not None, answer.status
    assert sorted(answer.json["rows"]) == sorted(rows.split(",")), answer.json


def cases(client: FlaskClient, layer: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield (name, times) of each case."""
    first, more = f"0:{SEEDS}", "before,after,difference,where"
    asked(client, layer, 0, more, seeds=first)
    yield (
        "slider",
        [
            timed(lambda i=i: asked(client, layer, 1, "after,difference", seeds=first, without=(i + 1) / (REPEAT + 1)))  # type: ignore[misc]
            for i in range(REPEAT)
        ],
    )
    yield (
        "another unit",
        [
            timed(lambda i=i: asked(client, layer, i + 2, more, seeds=first))  # type: ignore[misc]
            for i in range(REPEAT)
        ],
    )
    yield (
        "next seeds",
        [
            timed(lambda i=i: asked(client, layer, 1, more, seeds=f"{SEEDS * i}:{SEEDS * (i + 1)}"))  # type: ignore[misc]
            for i in range(1, REPEAT + 1)
        ],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", default="digiface-dcgan64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--while-dissecting", action="store_true", help="with a dissection running")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        generator = dissect.load(options.generator)
        run = dissect.run(generator, segmodels.load("colors"), samples=40, out=home / "run.h5")
        context: Context = server.context_of(Library([home / "run.h5"]))
        client = server.build(context, guard("127.0.0.1")).server.test_client()
        if options.while_dissecting:
            context.engine.orders.start(Order(options.generator, "face-parts+colors", 100_000, out="long"))
        print(f"{options.generator}, {SEEDS} seeds, {options.threads} threads, {REPEAT} times each; milliseconds")
        print(f"{'layer':<24} {'case':<14} {'median':>8} {'slowest':>8} {'CPU':>8}")
        for layer in run.layers:
            for case, times in cases(client, layer):
                wall, cpu = zip(*times, strict=True)
                late = "" if statistics.median(wall) <= PROMISED else "  more than 150"
                figures = (statistics.median(wall), max(wall), statistics.median(cpu))
                print(f"{layer:<24} {case:<14} " + " ".join(f"{1000 * x:8.1f}" for x in figures) + late)
        context.engine.close()


if __name__ == "__main__":
    main()
