"""From correlation to cause: what edits do to concepts, beside what random units do.

==================  ====================================================================================
``areas``           pixels of each concept in images with and without edits; what is shared is run once
``intervals``       confidence intervals by bootstrap over images: pure functions
``controls``        the same edit on random other units
``effect``          one recipe: the change of every concept (``leakage``: of several, as a matrix)
``sweep``           every single unit of a layer
``dose``            0 to k units, the best first against random orders
``ace``             which units cause a concept: the optimised ablation of Bau et al. (``places``: where the concept
                    is and could be; ``relaxation``: the optimisation; ``heldout``: the units in other images)
``insertion``       what appears if units are put in here, and here, and here
``subject``         a layer whose units are changed at places (``tiles``: its map cut into them)
``result``          how a measurement goes into a file and comes back
``stored``          the file ``run.effects.h5`` that keeps results beside a run
==================  ====================================================================================

Results are values: ``header()`` says what determined one, ``arrays()`` holds what was measured, ``rows()`` is the table
that people read, ``from_stored(header, arrays)`` brings one back. All other numbers are computed when asked for.
"""

from .ace import Ace, ace
from .dose import Dose, dose
from .effect import Effect, effect
from .insertion import InsertionMap, insertion_map
from .leakage import Leakage, leakage
from .relaxation import Settings as AceSettings
from .stored import Result, Results, add, read
from .sweep import Sweep, sweep

__all__ = [
    "Ace", "AceSettings", "Dose", "Effect", "InsertionMap", "Leakage", "Result", "Results", "Sweep", "ace", "add",
    "dose", "effect", "insertion_map", "leakage", "read", "sweep",
]  # fmt: skip
