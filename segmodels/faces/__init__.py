"""``face-parts``: a small segmenter of faces that ships with its weights.

``model/`` holds them, as any folder of a segmentation-models-pytorch model with its ``ganatomy.json``; ``README.md``
there is the model card; ``train`` is how they were made, and makes them again.

========  ============================================================================================
looking   the segmenter: it looks at the whole picture, and again at a face that is small in it
face      finding a face in what was seen
frame     a square piece of a picture: cutting it out, and putting what was seen in it back into the map
person    what belongs to the one whose face was found
========  ============================================================================================
"""

from __future__ import annotations

from pathlib import Path

import torch

from .looking import LookingSegmenter

NAME = "face-parts"
FOLDER = Path(__file__).parent / "model"


def face_parts(device: str | torch.device = "cpu") -> LookingSegmenter:
    """Return the segmenter of face parts: one plane, nine concepts, with probabilities."""
    return LookingSegmenter(FOLDER, device, NAME)
