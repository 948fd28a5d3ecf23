"""Replicas: other generators over the same parameters, whose passes may run at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch

from ..hooks import with_own_modules

if TYPE_CHECKING:
    from .base import Generator

G = TypeVar("G", bound="Generator")
OWN = ("_replicas", "_changed", "_made_by")  # what a replica does not take over


def several(generator: G, known: list[G] | None, count: int) -> list[G] | None:
    """Return ``count - 1`` replicas of a generator, the known ones first, or None if copies of its network go wrong."""
    if known is None:
        return None
    while len(known) < count - 1:
        other = checked_replica(generator)
        if other is None:
            return None
        known.append(other)
    for other in known:
        for ours, theirs in zip(generator.module.buffers(), other.module.buffers(), strict=True):
            theirs.copy_(ours)
    return known


def checked_replica(generator: G) -> G | None:
    """Return a replica that gives the bits of a generator, or None if there can be none."""
    try:
        with torch.random.fork_rng(devices=[]):  # a network that draws its own noise must not notice
            other = generator.replica()
            if other.layers != generator.layers:
                return None
            codes, layers = generator.sample([0]), generator.default_layers()
            one, two = (made.capture(codes, layers) for made in (generator, other))
    except MemoryError:
        raise
    except Exception:  # whatever a stranger's module does when it is copied, or its copy when it is called
        return None
    same = torch.equal(one.images, two.images)
    return other if same and all(torch.equal(one.features[name], two.features[name]) for name in layers) else None


def made_again(generator: G, arguments: tuple[Any, ...], named: dict[str, Any]) -> G:
    """Return what a generator's constructor makes of the same arguments: modules of its own on shared parameters."""
    with generator.lock:
        memo: dict[int, Any] = {id(value): value for value in generator.module.parameters()}
        arguments, named = with_own_modules((arguments, named), memo)
        other = type(generator)(*arguments, **named)
    # What was set after this one was made.
    vars(other).update({k: v for k, v in vars(generator).items() if k not in vars(other) and k not in OWN})
    return other


class Replicated:
    """What may be made again, of what it was made of."""

    _made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Remember what it is made of, for :meth:`replica`."""
        made = super().__new__(cls)
        made._made_of = (arguments, named)
        return made

    def replicas(self, count: int) -> list[Self]:
        """Return this generator and ``count - 1`` replicas, or only this one if copies of its network go wrong."""
        vars(self)["_replicas"] = found = several(self, vars(self).get("_replicas", []), count)
        return [self, *(found or [])[: max(0, count - 1)]]

    def replica(self) -> Self:
        """Return another generator over the same parameters, whose passes may run at the same time as this one's.

        Hooks sit on modules and a pass holds their lock; a replica has modules and a lock of its own. Parameters are
        shared, buffers are copied.
        """
        return cast(Self, made_again(cast("Generator", self), *self._made_of))
