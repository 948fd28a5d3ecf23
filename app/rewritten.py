"""What a rewrite did, as a table, and as a page with pictures before and after."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from dissect import Generator, Recipe
from dissect.samples import Sampling
from rewrite import Evaluation

from .cleaned import TEMPLATES, compared
from .experiments import percent
from .facts import NO_VALUE
from .preview import save

MARKER = "ganatomy-rewrite.json"
PICTURES = 16  # of each kind
Rows = list[dict[str, str]]


def joined(names: Sequence[str], other: str = "anything else") -> str:
    """Return concepts' names for people."""
    return " and ".join(names) or other


def aim_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return what was to change, and what it was to become, for people."""
    return joined(facts["source"]), joined(facts["target"], "anything else" if facts["counted"] else "what is copied")


def measures(made: Evaluation) -> Rows:
    """Return a row for each measure that is known, with a column for the rewrite and for each random edit."""
    source, target = aim_of(made.facts)
    rows, listed = made.rows(), []

    def add(name: str, cells: Sequence[str]) -> None:
        if any(cell != NO_VALUE for cell in cells):
            listed.append({"measure": name, **dict(zip(made.names, cells, strict=True))})

    if made.facts["counted"]:
        add(f"{source}: share that becomes {target}", [_share(row, "effect", ("low", "high")) for row in rows])
        add(f"area of {target}", [f"{percent(r['target_before'])} to {percent(r['target_after'])}" for r in rows])
    add("features, on the way to the copied", [_share(r, "attained", ("attained_low", "attained_high")) for r in rows])
    add("direction of that (cosine)", [_number(row["cosine"], 2) for row in rows])
    add(f"mean change of {source}", [_number(row["inside"]) for row in rows])
    add("mean change elsewhere", [_spread(row, "outside", "_low", "_high") for row in rows])
    add("SSIM elsewhere", [_number(row["ssim"], 4) for row in rows])
    perceptual = made.facts["perceptual"]
    by = f" ({perceptual[0]})" if perceptual else ""
    add(f"perceptual distance elsewhere{by}", [_number(row["perceptual"]) for row in rows])
    for name in (key.removesuffix("_floor") for key in rows[0] if key.endswith("_floor")):
        floor = f" (halves: {_number(rows[0][name + '_floor'])})"
        add(f"{name} distance{floor}", [_spread(row, name, "_low", "_high") for row in rows])
    return listed


def told(made: Evaluation) -> str:
    """Say in a sentence or two what came of it."""
    source, target = aim_of(made.facts)
    row = made.rows()[0]
    shares = zip(made.names[1:], made.effect[1:], strict=True)
    random = " and ".join(f"{percent(float(share))} by {name}" for name, share in shares)
    beside = f" ({random})" if random else ""
    if made.facts["counted"]:
        did = f"{percent(row['effect'])} of the pixels of {source} became {target}{beside}"
    else:
        did = f"Features of {source} went {percent(row['effect'])} of the way to what is copied{beside}"
    head = f"{did}, in {made.images} images{' that show it' if made.facts['counted'] else ''}. "
    if row["low"] is None:
        return head + "These are too few images to say how sure that is."
    return head + (
        "That is beyond the error." if made.works else "That is not beyond the error, or no more than by random edits."
    )


def write_page(folder: Path, made: Evaluation, generator: Generator, recipe: Recipe, sampling: Sampling) -> Path:
    """Write ``index.html`` and its pictures into a folder, and return the page's path.

    Images are the first by seed that show the source, and the first of all: none is picked for how it looks.
    """
    showing = [int(seed) for seed in made.seeds[made.source > 0]]
    source, target = aim_of(made.facts)
    kinds = [("A plain sample", "plain.png", [int(seed) for seed in made.seeds])]
    if len(showing) < len(made.seeds):
        kinds.insert(0, (f"Images that show {source}", "source.png", showing))
    pictures = []
    for name, file, seeds in kinds:
        some = seeds[:PICTURES]
        codes = generator.sample(some, sampling.classes, sampling.truncation, sampling.cutoff, sampling.noise)
        save(compared(generator, codes, recipe), folder / file)
        pictures.append({"name": name, "file": file, "seeds": ", ".join(map(str, some))})
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = env.get_template("rewritten.html").render(
        facts=made.facts, images=len(made.seeds), told=told(made), rows=measures(made), pictures=pictures,
        source=source, target=target, edits=_edits(made),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )  # fmt: skip
    (folder / "index.html").write_text(text, encoding="utf-8")
    marker = {"format": "ganatomy.rewrite", "version": 1, "recipe": made.facts["recipe"]["id"]}
    (folder / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return folder / "index.html"


def _edits(made: Evaluation) -> list[str]:
    """Say of each edit where it acts, and how large it is."""
    listed = []
    for edit in made.facts["recipe"]["edits"]:
        provenance: dict[str, Any] = edit.get("provenance", {})
        if "weight" not in edit:
            listed.append(f"{len(edit['units'])} units of {edit['layer']} to {edit['put']}")
            continue
        parts = [f"{edit['weight']} ({edit['layer']})", f"strength {edit['strength']:g}"]
        if "rank" in provenance:
            parts.insert(1, f"rank {provenance['rank']}, {provenance['method']}, {provenance['kind']} keys")
            parts.append(
                f"{percent(provenance['relative_norm'])} of the weights' norm, disturbs typical values by "
                f"{percent(provenance['disturbance'])}"
            )
        listed.append(", ".join(parts))
    return listed


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or math.isnan(value):
        return NO_VALUE
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10 ** (1 - digits) else f"{value:.2g}"


def _share(row: dict[str, Any], key: str, ends: tuple[str, str]) -> str:
    low, high = (row[end] for end in ends)
    return percent(row[key]) + ("" if low is None else f" ({percent(low)} to {percent(high)})")


def _spread(row: dict[str, Any], key: str, *ends: str) -> str:
    low, high = (row[key + end] for end in ends)
    return _number(row[key]) + ("" if low is None else f" ({_number(low)} to {_number(high)})")
