"""The manifest: everything that determines a dissection's datasets. Two runs with one manifest have the same bits."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np
import torch

Manifest = dict[str, Any]

# A resumed run takes these over from the file when the user did not ask for something else.
ADOPTED = ("batch", "threads")
FOLLOWS = ("atom", "examples", "levels.samples")  # from the number of samples, mostly


def versions() -> dict[str, str]:
    """Return the versions that the bits of a float may depend on."""
    return {
        "ganatomy": ganatomy_version(), "torch": torch.__version__, "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def ganatomy_version() -> str:
    """Return the installed version of this package."""
    try:
        return metadata.version("ganatomy")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def run_id(manifest: Manifest) -> str:
    """Return the identity of a run: 16 hex digits over its manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def differences(ours: Manifest, theirs: Manifest, ignore: tuple[str, ...] = ()) -> list[str]:
    """Return one ``field: theirs there, ours here`` per field that differs, outermost ``ignore`` fields left out.

    What follows from what was asked for (:data:`FOLLOWS`; seeds, where there are more or fewer) is left out beside it.
    """
    a, b = dict(_flat(ours)), dict(_flat(theirs))
    keys = [k for k in sorted(a.keys() | b.keys()) if k.split(".")[0] not in ignore and a.get(k) != b.get(k)]
    if "samples.count" in keys:
        keys = [key for key in keys if key != "samples.seeds"]
    asked = [key for key in keys if key not in FOLLOWS and key.split(".")[0] not in FOLLOWS]
    lines = []
    for key in asked or keys:
        there, here = _short(b.get(key)), _short(a.get(key))
        if there == here:  # two long lists that begin alike
            pairs = enumerate(zip(b[key], a[key], strict=False))
            first = next((i for i, (x, y) in pairs if x != y), min(len(a[key]), len(b[key])))
            there, here = (f"{_short(values[first:])} from entry {first} on" for values in (b[key], a[key]))
        lines.append(f"{key}: {there} there, {here} here")
    return lines


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(item) if isinstance(item, tuple) else item


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "…"
