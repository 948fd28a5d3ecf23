"""What an edit does to the images, measured.

==================  ====================================================================================
``ace``             which units cause a concept: the optimised ablation of Bau et al. (``places``: where the concept
                    is and could be; ``relaxation``: the optimisation; ``heldout``: the units in other images)
``insertion``       what appears if units are put in here, and here, and here
``subject``         what is being measured, and the passes that takes (``tiles``: a layer's map cut into places)
==================  ====================================================================================
"""

from .ace import Ace, ace
from .insertion import InsertionMap, insertion_map
from .relaxation import Settings as AceSettings

__all__ = ["Ace", "AceSettings", "InsertionMap", "ace", "insertion_map"]
