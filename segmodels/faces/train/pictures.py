"""Training pictures: samples of generators, drawn by the command line, since this package may not import dissect."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import GanatomyError

Bytes = NDArray[np.uint8]

GANATOMY = (sys.executable, "-P", "-c", "from app.start import main; main()")  # -P: not the app of this folder


def draw(generator: str, seeds: range, side: int, folder: Path, device: str, accept_licence: bool) -> None:
    """Draw the images of seeds that are not in the folder yet. GanatomyError if the command fails."""
    command = [
        *GANATOMY, "generators", "draw", generator, "--seeds", f"{seeds.start}:{seeds.stop}", "--size", str(side),
        "--out", str(folder), "--device", device,
    ]  # fmt: skip
    if accept_licence:
        command.append("--accept-licence")
    if code := subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        raise GanatomyError(f"drawing the images of {generator} ended with status {code}")


def path_of(folder: Path, seed: int) -> Path:
    """Return where the image of a seed, or its label map, lies."""
    return folder / f"{seed:06d}.png"


def read(folder: Path, seeds: Sequence[int]) -> Bytes:
    """Return the files of seeds as uint8 [N, side, side, 3], or [N, side, side] for label maps."""
    return np.stack([np.asarray(Image.open(path_of(folder, seed))) for seed in seeds])
