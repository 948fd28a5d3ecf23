"""What edits do in a pass over some codes; and which other image a sample's features are exchanged with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from segmodels import GanatomyError

from ..edits import Edit, Source
from ..hooks import Change
from ..weight_edits import WeightEdit
from .codes import NO_NOISE, Codes

if TYPE_CHECKING:
    from .base import Generator


def changes_of(
    generator: Generator, edits: Sequence[Edit], codes: Codes, always: Sequence[Edit] = ()
) -> dict[str, list[Change]]:
    """Return what edits of features do at each layer; other images that they take features from are generated now.

    Args:
        always: the edits that those other images have.
    """
    changes: dict[str, list[Change]] = {}
    for edit in edits:
        if isinstance(edit, WeightEdit):
            continue
        margin = generator.layer(edit.layer).margin
        change: Change = partial(edit, margin=margin) if margin else edit
        if isinstance(edit.values, Source):
            found = generator.bare_features(others(generator, codes, edit.values), [edit.layer], (), always)
            change = partial(edit, values=found[edit.layer][:, list(edit.units)], margin=margin)
        changes.setdefault(edit.layer, []).append(change)
    return changes


def others(generator: Generator, codes: Codes, source: Source) -> Codes:
    """Return codes of the images that stand for ``source``: as many as ``codes``, with their class, truncation, noise.

    Raises:
        GanatomyError: for a random other image of samples that have no seed.
    """
    if source.seed is not None:
        seeds = [source.seed] * len(codes)
    elif codes.seeds is not None:
        seeds = [other_seed(seed, source.draw) for seed in codes.seeds]
    else:
        raise GanatomyError("the random other image of a sample is drawn by its seed; explicit latents have none")
    noise = "const" if codes.noise is None else "none" if bool((codes.noise == NO_NOISE).all()) else "random"
    return generator.sample(
        seeds, None if codes.classes is None else codes.classes.tolist(), codes.truncation, codes.cutoff, noise
    )


def other_seed(seed: int, draw: int) -> int:
    """Return another seed in 0..2^32 - 1, by a hash."""
    for attempt in range(2**32):
        digest = hashlib.sha256(f"{seed} {draw} {attempt}".encode()).digest()
        if (other := int.from_bytes(digest[:4], "little")) != seed:
            return other
    raise AssertionError("no hash differs from the seed")
