"""What a cleaning leaves behind: a folder with the recipe, the cleaned file, and the page that proves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import dissect
from dissect import BakeError, Generator, Recipe

from .cleaned import Cleaning, compared, write_page
from .experiments import Ground
from .proof import Proof, Seeds

MARKER = "ganatomy-clean.json"
PICTURES = 16  # of each protocol


def write_folder(
    folder: Path, ground: Ground, seeds: Seeds, made: Cleaning, recipe: Recipe | None, proof: Proof | None
) -> str:
    """Write all of it into an empty folder.

    Returns:
        Why the cleaned file is a bundle and no checkpoint, "" if it is one or nothing was cleaned.
    """
    pictures, reason = [], ""
    if recipe is not None and proof is not None:
        recipe.save(folder / "recipe.safetensors")
        made.files["recipe.safetensors"] = "the edits"
        files, reason = _exported(ground.generator, recipe, folder)
        made.files.update(files)
        strong = proof.strongest[:PICTURES]
        for name, some in (("A plain sample", seeds.prove[:PICTURES]), ("Images that most activate the units", strong)):
            codes = ground.generator.sample(some, **ground.how)
            pictures.append((name, compared(ground.generator, codes, recipe)))
    write_page(folder, made, pictures)
    marker = {
        "format": "ganatomy.clean", "version": 1, "run": ground.run.id if ground.run is not None else None,
        "fingerprint": ground.generator.fingerprint, "units": {name: list(u) for name, u in made.units.items()},
    }  # fmt: skip
    (folder / MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return reason


def _exported(generator: Generator, recipe: Recipe, folder: Path) -> tuple[Mapping[str, str], str]:
    """Write the cleaned checkpoint where the edits are exactly weights, else a bundle.

    Returns:
        What was written, by name, and why it is a bundle.
    """
    origin, reason = generator.origin, f"{generator.name} came from no file"
    if origin is not None:
        name = f"cleaned{origin.ending}"
        try:
            dissect.export(generator, folder / name, recipe)
            return {name: "the cleaned checkpoint, in the flavour that the original came in"}, ""
        except BakeError as error:
            reason = str(error)
    dissect.export(generator, folder / "cleaned.bundle", recipe, bundle=True)
    return {"cleaned.bundle": "the edits with the fingerprint of their generator; dissect.load opens it as one"}, reason
