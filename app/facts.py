"""Small facts of a run in words, and numbers as people read them: the report and the dashboard say the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dissect import Run

from .console import human_seconds
from .redrawn import classes_in_words, in_turn

NO_VALUE = "–"


def facts(run: Run) -> list[tuple[str, str]]:
    """Return what was dissected, how and when, as (name, value) pairs."""
    manifest = run.manifest
    generator = manifest["generator"]
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    created = datetime.fromisoformat(run.created)
    height, width = manifest["labels"]
    return [
        ("Generator", f"{generator['name']}, {generator['family']}, {generator['resolution']} px"),
        ("Fingerprint", str(generator["fingerprint"] or NO_VALUE)[:16]),
        ("Segmenter", f"{manifest['segmenter']['name']}, {len(run.concepts) - 1} concepts"),
        ("Samples", samples_in_words(manifest["samples"])),
        ("Counted at", f"{width} × {height} pixels, {manifest['levels']['count']} levels per unit"),
        ("Made", f"{created:%Y-%m-%d %H:%M} UTC in {human_seconds(run.seconds)} on {manifest['device']}"),
        ("Versions", versions),
        ("Run", run.id),
    ]


def samples_in_words(samples: dict[str, Any]) -> str:
    """Say which samples a run has."""
    count = f"{samples['count']:,}"
    if "pictures_sha256" in samples:
        return f"{count} pictures"
    if "codes_sha256" in samples:
        what = f"{count} given latents"
    elif "seeds" in samples:
        what = f"{count}, seeds {samples['seeds'][0]} to {samples['seeds'][1] - 1}"
    else:
        what = f"{count}, chosen seeds"
    given = samples.get("classes")
    if given is not None:
        told = classes_in_words(in_turn(given, range(len(given))) if isinstance(given, list) else given)
        what = f"{what}, {told.removesuffix(', as often as in the run')}"
    return what if samples["truncation"] == 1.0 else f"{what}, truncation {samples['truncation']:g}"


def sample_namer(run: Run) -> Callable[[int], str]:
    """Return a function that names a sample: the picture's file, or its seed."""
    if "samples/file" in run.reader:
        files = run.reader.read("samples/file").tolist()
        return lambda seed: str(files[seed])
    kind = "sample" if "codes_sha256" in run.manifest["samples"] else "seed"
    return lambda seed: f"{kind} {seed}"


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Format a number with fixed digits and a true minus sign; NaN, infinite and None are a dash."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"  # adding 0.0 makes -0.0 positive
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Format a share with two significant digits: 12%, 2.0%, 0.12%; what rounds to less than 0.001% says so."""
    value = 100 * share
    if value == 0 or value >= 9.95:
        return f"{value:.0f}%"
    return "<0.001%" if value < 0.0005 else f"{value:#.2g}%" if value >= 0.001 else "0.001%"


def change(share: float) -> str:
    """Format a change with its sign: +12%, −1.2%; NaN is a dash."""
    if share != share:
        return "–"
    return ("−" if share < 0 else "+") + percent(abs(share))
