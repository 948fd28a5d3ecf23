"""What is to be known of a BigGAN-deep network: from its tensors, the ``config.json`` beside them, and options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segmodels import GanatomyError

from .biggan_deep_layouts import COLORS, MAX_PLACES
from .biggan_deep_network import Config, Shape
from .family import Opening, Option
from .stylebased import positive

CONFIG_FILE = "config.json"  # what the public code keeps beside a checkpoint
MAX_CONFIG = 1 << 20  # bytes
ALTERNATING = "alternating"  # every other block doubles the side, as in the published networks


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors, the ``config.json`` beside the file, and the options."""
    tensors, need = opening.tensors, opening.need
    classes, embedding = need("embeddings.weight", 2).shape
    inputs = need("generator.gen_z.weight", 4).shape[0]
    if inputs <= embedding:
        key = opening.layout.key_of("generator.gen_z.weight")
        raise GanatomyError(f"checkpoint: {key} takes {inputs} numbers, expected more than the embedding's {embedding}")
    places = [i for i in range(MAX_PLACES) if any(key.startswith(f"generator.layers.{i}.") for key in tensors)]
    attended = [i for i in places if f"generator.layers.{i}.theta.weight" in tensors]
    found = [i for i in places if i not in attended]
    if places != list(range(len(places))) or not found or len(attended) > 1 or 0 in attended:
        raise GanatomyError("checkpoint: expected blocks one after the other with at most one attention between them")
    stats = need("generator.bn.running_means", 2).shape[0]
    attention = None
    if attended:
        keys, values = (need(f"generator.layers.{attended[0]}.{part}.weight", 4).shape[0] for part in ("theta", "g"))
        attention = (attended[0], keys, values)
    config = _beside(opening)
    listed = opening.setting("layers", config.get("layers"))
    filters = need("generator.conv_to_rgb.weight", 4).shape[0]
    if filters < COLORS:
        key = opening.layout.key_of("generator.conv_to_rgb.weight")
        raise GanatomyError(f"checkpoint: {key} makes {filters} channels, expected at least {COLORS}")
    blocks = _blocks(opening, found, listed)
    made = Config(
        z_dim=inputs - embedding,
        embedding=embedding,
        num_classes=classes,
        blocks=tuple(zip(found, blocks, strict=True)),
        attention=attention,
        filters=filters,
        n_stats=stats,
        eps=opening.setting("eps", config.get("eps")),
        corrected=opening.setting("statistics") == "corrected",
    )
    opening.read_off(
        z_dim=made.z_dim, class_embed_dim=embedding, num_classes=classes, n_stats=stats,
        channels=[block.outputs for block in blocks],
    )  # fmt: skip
    return made


def _blocks(opening: Opening, places: list[int], listed: str) -> list[Shape]:
    """Return the blocks; which ones double the side is told by ``layers``, else every other as in published ones."""
    ups = [bool(i % 2) for i in range(len(places))]
    if listed != ALTERNATING:
        told = json.loads(listed)
        if len(told) != len(places):
            raise GanatomyError(f"layers lists {len(told)} blocks, but the file has {len(places)}")
        ups = [bool(up) for up, *_ in told]
    made = []
    for place, up in zip(places, ups, strict=True):
        name = f"generator.layers.{place}"
        hidden, inputs = opening.need(f"{name}.conv_0.weight", 4).shape[:2]
        outputs = opening.need(f"{name}.conv_3.weight", 4).shape[0]
        if outputs not in (inputs, inputs // 2):
            key = opening.layout.key_of(f"{name}.conv_3.weight")
            raise GanatomyError(f"checkpoint: {key} makes {outputs} channels, expected {inputs} or {inputs // 2}")
        made.append(Shape(up, inputs, hidden, outputs))
    if listed != ALTERNATING:
        unit = made[0].inputs // int(told[0][1])
        given = [[width * unit for width in widths] for _, *widths in told]
        if given != [[block.inputs, block.outputs] for block in made]:
            raise GanatomyError("layers lists other channels than the file's tensors have")
    return made


def _beside(opening: Opening) -> Mapping[str, object]:
    """Return what the ``config.json`` beside the file says, as far as it is that of this network."""
    path = opening.origin.path.with_name(CONFIG_FILE)
    if not opening.origin.sha256 or {"layers", "eps"} <= opening.given.keys():
        return {}
    try:
        if path.stat().st_size > MAX_CONFIG:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    needed = {"layers", "z_dim", "class_embed_dim", "eps"}
    if not isinstance(found, dict) or not needed <= found.keys():
        return {}
    # What is written of this file may lie where no such config does.
    told = {name: found[name] for name in ("layers", "eps")} | dict(opening.given)
    opening.origin = replace(opening.origin, given=told)
    return found


def listed(value: object) -> str:
    """Return a list of blocks [doubles the side, channels before, after] as JSON, or ``alternating``."""
    if value == ALTERNATING:
        return ALTERNATING
    try:
        found = value
        if isinstance(value, (str, Path)):
            found = json.loads(Path(value).read_text("utf-8") if str(value).endswith(".json") else str(value))
        if isinstance(found, Mapping):
            found = found["layers"]
        if not isinstance(found, (list, tuple)):
            raise ValueError(value)
        rows = [[bool(up), int(inputs), int(outputs)] for up, inputs, outputs in found]
    except (OSError, KeyError, RecursionError) as error:
        raise ValueError(value) from error
    if not 0 < len(rows) <= MAX_PLACES or any(min(row[1:]) < 1 for row in rows):
        raise ValueError(value)
    return json.dumps(rows)


def interpolation(value: object) -> str:
    """Return ``published`` or ``corrected``."""
    if value not in ("published", "corrected"):
        raise ValueError(value)
    return str(value)


OPTIONS = (
    Option("layers", listed, ALTERNATING, "[[doubles, in, out], …] or the path of a config.json; the blocks"),
    Option("eps", positive, 1e-4, "a positive number; epsilon of the batch norms"),
    Option("statistics", interpolation, "published", "published or corrected; how statistics are interpolated"),
)
