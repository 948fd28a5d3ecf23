"""``face-parts``: a small segmenter of faces that ships with its weights.

``model/`` holds them, as any folder of a segmentation-models-pytorch model with its ``ganatomy.json``; ``README.md``
there is the model card; ``train`` is how they were made, and makes them again.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..smp import SmpSegmenter

NAME = "face-parts"
FOLDER = Path(__file__).parent / "model"


def face_parts(device: str | torch.device = "cpu") -> SmpSegmenter:
    """Return the segmenter of face parts: one plane, nine concepts, with probabilities."""
    return SmpSegmenter(FOLDER, device, NAME)
