"""Generators: where images come from.

======================  ========================================================================
``base``                the contract: :class:`Generator`, stages, capture, resume
``layers``              the values of a pass: :class:`Layer`, :class:`State`, :class:`Capture`
``codes``               :class:`Codes`, what a generator is given
``sequential``          generators that are a chain of modules
``module``              any ``nn.Module``, and any network that looks at pictures
``discovery``           what layers such a network has (``calling``: how it is called, ``steady``: its noise)
``identity``            what makes two networks the same
``family``              what a family is, and how a stored network becomes a generator
``layouts``             under which names public code stores a family's tensors
``stylebased``          what all style-based generators share: W, truncation, noise
``dcgan``               the DCGAN family (``_layouts``)
``pggan``               the PGGAN family (``_network``, ``_layouts``, ``_sized``)
``stylegan``            the StyleGAN family, the first (``_network``, ``_settings``, ``_layouts``, ``_port``)
``stylegan2``           the StyleGAN2 family (``_network``, ``_layouts``)
``stylegan3``           the StyleGAN3 family (``_network``, ``_filters``, ``_layouts``)
``mobilestylegan``      the MobileStyleGAN family (``_network``, ``_layouts``, ``_graph``; ``haar``)
``classed``             what the BigGAN line shares: truncation, classes (``start``: its first layer)
``biggan``              the BigGAN family, with SAGAN and SNGAN (``_network``, ``_layouts``)
``biggan_deep``         the BigGAN-deep family (``_network``, ``_layouts``, ``_settings``)
``spectral``            weights divided by their spectral norm, and what a file needs for that
``keras``               chains of Keras layers (``keras_layers``)
``planted``             generators with known truth (``planted_world`` draws, ``planted_weights`` makes it a
                        network, ``planted_truth`` knows)
``checkpoint``          reading files without running a byte of them (``formats/``: each kind of file)
``export``              writing: in the flavour it came in (``sources``: from which file)
``undivided``           writing a network without what its weights were divided by
``conversion``          writing in another layout or kind of file
``bake``                edits of features as weights, where that is exact
``bundles``             a recipe and the generator it is for, in one file
``discriminators/``      the networks that generators were trained against
``arrays``              latents and the like from people's files
``catalog``             names, sources and licences
``loading``             :func:`load`, for any source
======================  ========================================================================

A new family is a network, a table of layouts, a function that makes it a generator (``stylegan2`` is the pattern),
and one line in ``catalog.FAMILIES``.
"""

from .bake import BakeError
from .base import Capture, Generator, Layer
from .catalog import Entry, accept_licence, entries
from .codes import Codes
from .conversion import convert
from .export import export
from .loading import load
from .module import ModuleGenerator, PictureModel

__all__ = [
    "BakeError", "Capture", "Codes", "Entry", "Generator", "Layer", "ModuleGenerator", "PictureModel",
    "accept_licence", "convert", "entries", "export", "load",
]  # fmt: skip
