"""One person in a map: a face is where the face was found, and what is not joined to it is none of this person."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .face import Roles

SPECK = 0.025  # of the frame's area: a smaller hole in a person is none
EVEN = 1e-6  # what every allowed concept has besides, so that some share can be given out

Bools = NDArray[np.bool_]


def without_face(seen: Tensor, roles: Roles) -> Tensor:
    """Return probabilities [C, h, w] in which whatever was of a face is of the body: other skin is not of a face."""
    rest = seen.clone()
    rest[list(roles.face)] = 0
    rest[roles.body] += seen[list(roles.face)].sum(0)
    return rest


def one_person(seen: Tensor, roles: Roles, side: float) -> Tensor:
    """Return probabilities [C, h, w] of one person: the one with the largest face.

    Pieces of a face, of hair and of a body that are not joined to it become what else is likeliest there, and small
    holes are closed. ``side`` is that of the face's frame, in pixels of the map.
    """
    labels = _labels(seen)
    face = np.isin(labels, roles.face)
    pieces, count = ndimage.label(face)
    if not count:
        return seen
    core = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    head = _joined((labels == roles.hair) | core, core)
    seen = _among(seen, face & ~core, (roles.background, roles.hair, roles.body))
    seen = _among(seen, (_labels(seen) == roles.hair) & ~head, (roles.background, roles.body))
    person = _labels(seen) != roles.background
    seen = _among(seen, person & ~_joined(person, core), (roles.background,))
    return _among(seen, _holes(_labels(seen) == roles.background, SPECK * side**2), (roles.hair, roles.body))


def _labels(seen: Tensor) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = seen.argmax(0).numpy()
    return labels


def _joined(mask: Bools, to: Bools) -> Bools:
    """Return the connected pieces of a mask that overlap another."""
    pieces, count = ndimage.label(mask)
    kept = np.zeros(count + 1, bool)
    kept[pieces[to & mask]] = True
    kept[0] = False
    return kept[pieces]


def _holes(mask: Bools, largest: float) -> Bools:
    """Return the connected pieces of a mask that do not touch the border and have at most so many pixels."""
    pieces, count = ndimage.label(mask)
    small = np.bincount(pieces.ravel(), minlength=count + 1) <= largest
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        small[edge] = False
    small[0] = False
    return small[pieces]


def _among(seen: Tensor, where: Bools, allowed: tuple[int, ...]) -> Tensor:
    """Return probabilities in which only the allowed concepts are possible at certain places."""
    some = torch.zeros_like(seen)
    some[list(allowed)] = seen[list(allowed)] + EVEN
    return torch.where(torch.from_numpy(where), some / some.sum(0), seen)
