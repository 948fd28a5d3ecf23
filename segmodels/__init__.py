"""Segmenters: pixels to concepts. Knows nothing of generators.

``load(source)`` returns a :class:`Segmenter`; calling it on float32 images [N, 3, H, W] in [-1, 1] gives int16 labels
[N, K, h, w], in which every one of K planes labels every pixel and 0 means unlabelled::

    S = segmodels.load("colors")
    labels = S(images)
    [S.concepts[i].name for i in labels.unique()]

The rooms of the house:

============  =========================================================================================
base          the contract: Segmenter, Concept; Planes (``a+b``); resizing of labels and images
catalog       load, entries: from what a user types to a segmenter
colors        eleven colour names and five bands of lightness, by one table lookup
planted       the concepts of the planted generators, exactly
faces/        ``face-parts``: how it looks, its weights, its card, and how they were made
masks         label PNGs that people drew, keyed by seed or file name
smp           models of segmentation-models-pytorch, from a folder or the hub
sidecar       ``ganatomy.json``: the names and preprocessing that such a model lacks
hub           files from the model hub, or a quick error
custom        ``package.module:factory``: the user's own code
fetch         files from package index or https into the cache, checked by hash
files         JSON, hashes, names in messages
pixels        images to [0, 1]
errors        GanatomyError: one line for the user
============  =========================================================================================
"""

from .base import Concept, Segmenter
from .catalog import entries, load
from .errors import GanatomyError

__all__ = ["Concept", "GanatomyError", "Segmenter", "entries", "load"]
