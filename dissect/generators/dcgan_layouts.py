"""How DCGAN is stored: as the common ``main.{i}`` state dict, and as pytorch_GAN_zoo (torch.hub) stores it.

Key names are facts of the public repositories pytorch/examples and facebookresearch/pytorch_GAN_zoo. Canonical names
are positions in the chain; a table of class embeddings, where there is one, is ``label``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .layouts import Layout, Place, Tensors

MAX_PLACES = 64  # of modules in the chain: twenty convs
MAX_CONVS = MAX_PLACES // 3
KEY = re.compile(r"main\.([0-9]{1,3})\.(\w+)")
NORM = re.compile(r"main\.batchNorm([0-9]{1,2})\.")
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
LABEL = "label"


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has this layout: 4-D ``main.{0,3,6,…}.weight`` and batch norms between them."""
    places = [(int(found[1]), found[2], value) for key, value in tensors.items() if (found := KEY.fullmatch(key))]
    convs = any(index % 3 == 0 and name == "weight" and value.ndim == 4 for index, name, value in places)
    return convs and any(index % 3 == 1 and name.startswith("running_") for index, name, _ in places)


MAIN = Layout(
    "main",
    recognise,
    (
        Place(LABEL, "label_emb.weight"),
        *(Place(f"{index}.{part}", f"main.{index}.{part}") for index in range(MAX_PLACES) for part in PARTS),
    ),
    container="netG",
)


class ZooLayout(Layout):
    """pytorch_GAN_zoo's: which place its last layer has depends on how many there are."""

    def fitted(self, tensors: Tensors) -> Layout:
        """Return the layout of a network with as many layers as these keys tell."""
        norms = [int(found[1]) for key in tensors if (found := NORM.match(key))]
        return _of(min(max(norms, default=0) + 1, MAX_CONVS))

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors."""
        return self.fitted(tensors).read(tensors, beside)

    def write(self, canonical: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the tensors under the zoo's names, nothing beside them."""
        places = [int(index) for name in canonical if (index := name.partition(".")[0]).isdigit()]
        return _of(min(max(places, default=0) // 3, MAX_CONVS)).write(canonical)


def zoo_modules(norms: int) -> dict[int, str]:
    """Return what the zoo's code calls the modules of a network with so many batch norms, by position."""
    names = {0: "formatLayer", 3 * norms: "main.outlayer", 3 * norms + 1: "tanh"}
    names |= {3 * i: f"main.convTranspose{i}" for i in range(1, norms)}
    for i in range(norms):
        names |= {3 * i + 1: f"main.batchNorm{i}", 3 * i + 2: f"main.relu{i}"}
    return names


def _of(norms: int) -> Layout:
    """Return the layout of a network with so many batch norms."""
    named = zoo_modules(norms)
    places = [Place(f"{index}.weight", f"{named[index]}.weight") for index in range(0, 3 * norms + 1, 3)]
    places += [Place(f"{3 * i + 1}.{part}", f"main.batchNorm{i}.{part}") for i in range(norms) for part in PARTS]
    return Layout("fbhub", _is_zoo, tuple(places), container="avgG")


def _is_zoo(tensors: Tensors) -> bool:
    return all(key in tensors for key in ("formatLayer.weight", "main.batchNorm0.running_mean", "main.outlayer.weight"))


ZOO = ZooLayout("fbhub", _is_zoo, (), container="avgG")
LAYOUTS = (MAIN, ZOO)
