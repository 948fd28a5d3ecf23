"""From correlation to cause: what edits do to concepts, beside what random units do.

=============  ======================================================================================
``areas``      pixels of each concept in images with and without edits; what is shared is run once
``intervals``  confidence intervals by bootstrap over images: pure functions
``controls``   the same edit on random other units
``effect``     one recipe: the change of every concept (``leakage``: of several, as a matrix)
``sweep``      every single unit of a layer
``dose``       0 to k units, the best first against random orders
``stored``     the file ``run.effects.h5`` that keeps results beside a run
=============  ======================================================================================

Results are values: ``header()`` says what determined one, ``arrays()`` holds what was measured, ``rows()`` is the table
that people read, ``from_stored(header, arrays)`` brings one back. All other numbers are computed when asked for.
"""

from .dose import Dose, dose
from .effect import Effect, effect
from .leakage import Leakage, leakage
from .stored import Result, Results, add, read
from .sweep import Sweep, sweep

__all__ = [
    "Dose", "Effect", "Leakage", "Result", "Results", "Sweep", "add", "dose", "effect", "leakage", "read", "sweep",
]  # fmt: skip
