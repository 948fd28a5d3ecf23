"""Change a rule of a generator, not an image: requests, and edits of weights that fulfil them.

A layer is an associative memory, ``v = W k`` (survey, Eq. 9; Bau et al., ECCV 2020)::

    request (copy, paste, context) -> goal (keys, and what their values are to become, at one layer)
                                   -> solve (a low-rank change of W) -> an edit like any other

==============  ======================================================================================
``request``     what is wanted: seeds and masks, as JSON
``patches``     a convolution as a matrix on the patches of its input
``moments``     the second moment of the keys, summed over seeds
``memory``      its factor: which direction of the input tells some keys from all others
``stored``      the file that keeps memories
``goal``        a request at a layer: keys, targets
``basis``       the span within which W may change
``solve``       the closed form, and what all methods share
``matches``     which places of other images a context means
``optimise``    goals behind a non-linearity
``evaluate``    what an edit does to images that its request has not seen (``evaluation``: what is found, ``trial``:
                making and counting the images, ``aims``: of which pixels, ``locality``: change elsewhere,
                ``controls``: random edits of its size)
``sweep``       which layer, which rank (``sweep_table``: what each does, and the rule that recommends one)
==============  ======================================================================================
"""

from dissect.effects.stored import KINDS

from .controls import CONTROLS
from .evaluate import evaluate
from .evaluation import Evaluation
from .matches import Matches, matches
from .memory import Memory
from .moments import Moments, moments
from .request import Region, Request
from .solve import RewriteWarning, solve
from .stored import Memories, recall
from .sweep import sweep
from .sweep_table import RewriteSweep

KINDS.update({one.kind: one for one in (Evaluation, RewriteSweep)})  # so that they are kept beside a run like others

__all__ = [
    "CONTROLS", "Evaluation", "Matches", "Memories", "Memory", "Moments", "Region", "Request", "RewriteSweep",
    "RewriteWarning", "evaluate", "matches", "moments", "recall", "solve", "sweep",
]  # fmt: skip
