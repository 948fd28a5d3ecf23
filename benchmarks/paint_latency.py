"""How long a stroke of the brush takes to become a new image: from a request's arrival to the answer's last byte.

    python benchmarks/paint_latency.py [--generator digiface-dcgan64] [--layer main.5] [--threads 2] [--repeat 40]

Every stroke is another mask of the size that the page paints, on an image whose pass is kept at the layer. "rest": the
stages after the layer by themselves, with an edit, which no server can do without. The two are timed in turns, so that
a busy machine slows both alike. CPU time is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from flask.testing import FlaskClient
from live_latency import timed

import dissect
import segmodels
from app import server
from app.context import Context
from app.library import Library
from app.paint_edits import address_of, mask_side
from app.safety import guard
from dissect import Generator

PROMISED = 0.150  # seconds, median, on two cores with digiface-dcgan64
SHARE = 1.2  # of the rest of the pass, with mobilestylegan-ffhq at its layer of 64 x 64
UNITS = 16
SEED = 5


def mask_of(index: int, side: int) -> np.ndarray:
    """Return a disc, another one for each index, float32 [side, side]."""
    rows, columns = np.mgrid[:side, :side] / side
    centre = 0.3 + 0.4 * np.random.default_rng(index).random(2)
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 0.02).astype(np.float32)


def stroke(client: FlaskClient, layer: str, mask: str | None) -> None:
    """Ask for an image with one more stroke, and fail if it does not come."""
    edit = {
        "kind": "draw",
        "layer": layer,
        "units": list(range(UNITS)),
        "values": [1.0] * UNITS,
        "strength": 1,
        "mask": mask,
    }
    asked = {"seed": SEED, "layer": layer, "edits": [edit] if mask else []}
    answer = client.post("/painting/run/shown", data=json.dumps(asked), headers={"Host": "127.0.0.1"})
    assert answer.status_code == 200, answer.text
    assert sorted(answer.json["rows"]) == ["after", "before", "difference"]  # type: ignore[index]


def largest_of(generator: Generator, size: int) -> str:
    """Return the last dissected layer with maps of a size, or of the size nearest to it."""
    default = [generator.layer(name) for name in generator.default_layers()]
    nearest = min(abs(layer.height - size) for layer in default)
    return [layer.name for layer in default if abs(layer.height - size) == nearest][-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", default="digiface-dcgan64")
    parser.add_argument("--layer", help="default: every dissected layer, of mobilestylegan that of 64 x 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = dissect.load(options.generator)
    layers = [options.layer] if options.layer else generator.default_layers()
    if options.layer is None and generator.resolution > 256:
        layers = [largest_of(generator, 64)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.h5"
        dissect.run(generator, segmodels.load("colors"), layers, samples=8, out=path)
        context: Context = server.context_of(Library([path]))
        assert context.library.get("run").layers  # which computes its tables
        client = server.build(context, guard("127.0.0.1")).server.test_client()
        print(f"{options.generator}, {options.threads} threads, {options.repeat} strokes; milliseconds, medians")
        print(f"{'layer':<24} {'map':>5} {'stroke':>8} {'slowest':>8} {'CPU':>8} {'rest':>8} {'share':>6}")
        for layer in layers:
            print(measured(context, client, layer, options.repeat))
        context.engine.close()


def measured(context: Context, client: FlaskClient, layer: str, repeat: int) -> str:
    """Return a line about a layer."""
    studio = context.engine.worker.ask(lambda: context.engine.live.studio(context.library.get("run").run))
    generator = studio.generator
    side = mask_side(generator.resolution)
    stroke(client, layer, None)
    capture = studio.capture(layer, SEED)
    strokes, rests = [], []
    for index in range(repeat):
        mask = mask_of(index, side)
        sent = address_of(mask)
        strokes.append(timed(lambda sent=sent: stroke(client, layer, sent)))  # type: ignore[misc]
        edit = dissect.insert(layer, range(UNITS), 1.0, mask)
        rests.append(timed(lambda edit=edit: generator.resume(capture, layer, edits=[edit]))[0])  # type: ignore[misc]
    wall, cpu = zip(*strokes, strict=True)
    taken, rest = statistics.median(wall), statistics.median(rests)
    share = statistics.median(one / other for one, other in zip(wall, rests, strict=True))
    figures = " ".join(f"{1000 * x:8.1f}" for x in (taken, max(wall), statistics.median(cpu), rest))
    late = "" if taken <= PROMISED or share <= SHARE else "  more than promised"
    return f"{layer:<24} {generator.layer(layer).height:>5} {figures} {share:6.2f}{late}"


if __name__ == "__main__":
    main()
