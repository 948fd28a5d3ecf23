"""How StyleGAN3 is stored: NVlabs' PyTorch names, which are ours too.

Key names are facts of the public repository NVlabs/stylegan3. A layer's name holds its size and its channels
(``synthesis.L3_52_512``), so the names of all networks cannot be listed; they are known by their form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from .layouts import Layout, Place

LAYER = re.compile(r"synthesis\.(L(\d{1,2})_(\d{1,5})_(\d{1,5}))\.(\w+(?:\.\w+)?)")
PARTS = ("weight", "bias", "affine.weight", "affine.bias", "magnitude_ema", "up_filter", "down_filter")
INPUT = ("weight", "affine.weight", "affine.bias", "freqs", "phases", "transform")
MAX_MAPPING = 32

_OTHERS = (
    "mapping.w_avg", "mapping.embed.weight", "mapping.embed.bias",
    *(f"mapping.fc{i}.{part}" for i in range(MAX_MAPPING) for part in ("weight", "bias")),
    *(f"synthesis.input.{part}" for part in INPUT),
)  # fmt: skip


class _ByForm(Mapping[str, Place]):
    """Places by their names, of the listed tensors and of every tensor that a layer of any size could have."""

    def __getitem__(self, name: str) -> Place:
        found = LAYER.fullmatch(name)
        if name in _OTHERS or (found and found[5] in PARTS):
            return Place(name, name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_OTHERS)

    def __len__(self) -> int:
        return len(_OTHERS)


class NamesWithSizes(Layout):
    """A layout whose names hold sizes: places are recognised, not listed."""

    @cached_property
    def by_key(self) -> Mapping[str, Place]:  # type: ignore[override]
        """Places by the layout's names."""
        return _ByForm()

    @cached_property
    def by_name(self) -> Mapping[str, Place]:  # type: ignore[override]
        """Places by canonical names, the same."""
        return _ByForm()


NVLABS = NamesWithSizes(
    "nvlabs",
    lambda t: "synthesis.input.freqs" in t and any(LAYER.fullmatch(key) for key in t),
    tuple(Place(name, name) for name in _OTHERS),
    container="G_ema",
)

LAYOUTS = (NVLABS,)
