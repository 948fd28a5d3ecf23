"""Generators: where images come from.

======================  ========================================================================
``base``                the contract: :class:`Generator`, stages, capture, resume
``layers``              the values of a pass: :class:`Layer`, :class:`State`, :class:`Capture`
``codes``               :class:`Codes`, what a generator is given
``sequential``          generators that are a chain of modules
``module``              any ``nn.Module``, and any network that looks at pictures
``discovery``           what layers such a network has
``dcgan``               the DCGAN family
``planted``             generators with known truth (``planted_world`` draws, ``planted_weights`` makes it a
                        network, ``planted_truth`` knows)
``checkpoint``          reading files without running a byte of them
``fetch``               bringing weights into the cache, checked by hash
``catalog``             names, and :func:`load`
======================  ========================================================================

A new family is one module with ``recognise`` and ``generator`` and one line in ``catalog.FAMILIES``.
"""

from .base import Capture, Generator, Layer
from .catalog import Entry, entries, load
from .codes import Codes
from .module import ModuleGenerator, PictureModel

__all__ = ["Capture", "Codes", "Entry", "Generator", "Layer", "ModuleGenerator", "PictureModel", "entries", "load"]
