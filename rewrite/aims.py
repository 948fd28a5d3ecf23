"""What a rewrite is about in images that its request has not seen: which pixels, and what they are to become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dissect import GanatomyError
from dissect.effects.areas import Bench
from segmodels.base import resize_labels

from .request import Request

PLACE = "the place pasted into"


@dataclass(frozen=True, eq=False)
class Aim:
    """Pixels of one concept, or of one place, become another concept, or are their own no longer.

    Attributes:
        source: indices of concepts; a pixel is of the source if it has all of them.
        target: likewise; none: whatever is not the source; where that is a place, nothing can be counted.
        place: where it is to happen in every image, bool [R, R], if no concept says it; then there is no source.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    place: Tensor | None = None

    @classmethod
    def of(
        cls,
        bench: Bench,
        requests: Sequence[Request],
        source: Sequence[str] | str | None,
        target: Sequence[str] | str | None,
    ) -> Aim:
        """Return the aim that is named, or else that of a request.

        What a request is about is the concept of its context, or of what is pasted into; if it has none, but masks,
        it is the place of those that are pasted into, which suits generators whose images are aligned.

        Raises:
            GanatomyError: for unknown concepts; if there is no one request that says what it is about.
        """
        names = [[given] if isinstance(given, str) else list(given or ()) for given in (source, target)]
        if not names[0] and len(requests) == 1:
            ours, theirs = named_concepts(requests[0])
            names = [[ours] if ours else [], names[1] or ([theirs] if theirs else [])]
        found = [tuple(bench.concept(name) for name in some) for some in names]
        if found[0]:
            return cls(found[0], found[1])
        place = place_of(requests[0]) if len(requests) == 1 else None
        if place is None:
            raise GanatomyError(
                "expected at least one concept as the source (--source): what is to change; the request does not say it"
            )
        return cls((), found[1], place)

    @property
    def counted(self) -> bool:
        """Whether it can be counted how many pixels became what they are to be."""
        return bool(self.source or self.target)

    def masks(self, bench: Bench, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the source is, and where the target is, bool [N, h, w], in labels [N, K, h, w]."""
        if self.place is None:
            source = _all(bench, labels, self.source)
        else:
            there = resize_labels(self.place[None, None].to(labels.device), labels.shape[2], labels.shape[3])[0]
            source = there.expand(len(labels), -1, -1).clone()
        if self.target:
            return source, _all(bench, labels, self.target)
        return source, ~source if self.source else torch.zeros_like(source)


def _all(bench: Bench, labels: Tensor, concepts: tuple[int, ...]) -> Tensor:
    found = torch.ones_like(labels[:, 0], dtype=torch.bool)
    for concept in concepts:
        found &= labels[:, bench.concepts[concept].plane] == concept
    return found


def named_concepts(request: Request) -> tuple[str | None, str | None]:
    """Return the source and the target that a request names itself, each None where it names none, or several.

    The source is the concept of its context, or else of what is pasted into; the target what it copies, if another.
    """
    found = {region.concept for region in request.context or request.paste}
    source = found.pop() if len(found) == 1 else None
    copied = None if request.copy is None else request.copy.concept
    return source, None if copied == source else copied


def place_of(request: Request) -> Tensor | None:
    """Return where any mask of what is pasted into is above 0, bool [R, R]; None if there are no masks."""
    masks = [torch.tensor(region.mask) > 0 for region in request.paste if region.mask is not None]
    return torch.stack(masks).any(0) if masks else None
