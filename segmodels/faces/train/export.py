"""From a trained model to the folder that ships: configuration, float16 weights, and names."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from ...sidecar import SIDECAR_FILE
from ...smp import CONFIG_FILE, SAFE_WEIGHTS
from .fit import MEAN, STD
from .labels import CLASSES
from .recipe import Recipe

CATEGORIES = {"background": "scene", "body": "person"}


def export(model: nn.Module, recipe: Recipe, folder: Path) -> None:
    """Write a folder that ``segmodels.load`` opens. Weights are rounded to float16, running statistics are not."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt = {name for name, _ in model.named_parameters()}
    state = {
        name: (value.half() if name in learnt else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(state, folder / SAFE_WEIGHTS)
    config = {
        "_model_class": recipe.architecture,
        "encoder_name": recipe.encoder,
        "encoder_weights": None,
        "decoder_channels": list(recipe.decoder_channels),
        "in_channels": 3,
        "classes": len(CLASSES),
    }
    sidecar = {
        "concepts": list(CLASSES),
        "categories": [CATEGORIES.get(name, "face") for name in CLASSES],
        "mean": list(MEAN),
        "std": list(STD),
        "input_size": recipe.side,
    }
    for name, value in ((CONFIG_FILE, config), (SIDECAR_FILE, sidecar)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
