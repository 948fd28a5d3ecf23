"""Layouts: under which names, and in which axis order, a public code base stores a family's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import shown

Change = Callable[[Tensor], Tensor]
Tensors = Mapping[str, Tensor]
CLOSE = 1e-4  # relative: what a buffer that follows from the configuration may differ from it by


def same(tensor: Tensor) -> Tensor:
    """Return the tensor itself."""
    return tensor


@dataclass(frozen=True)
class Place:
    """Where one tensor of a family lives in one layout.

    Attributes:
        name: the canonical name, that of the family's own network.
        key: the layout's name.
        read, write: from the file's values and axes to ours, and back.
    """

    name: str
    key: str
    read: Change = same
    write: Change = same


def never(_: str) -> bool:
    """Ignore no key."""
    return False


def no_constants(_: Tensors) -> dict[str, Tensor]:
    """A layout that stores no buffers that follow from the rest."""
    return {}


@dataclass(frozen=True, eq=False)
class Layout:
    """One way in which a family is stored.

    Attributes:
        name: the flavour.
        recognise: whether a state dict is in this layout, from its keys and shapes.
        places: every tensor that a network of any size could have.
        constants: canonical tensors -> buffers that follow from them, by their key here. They may be absent from a
            file; if they are there they must be these; a conversion writes them.
        ignored: keys that carry no information.
        becomes: the layout that a conversion makes of this one where none is asked for; "" is itself.
        container: the entry of a checkpoint under which the public code looks for the network; "" is the top.
        outside: canonical name -> entry beside the network (``mapping.w_avg`` -> ``latent_avg``), tried after its key.
        modules: what the public code calls a module -> our layer; people may use either name.
        cannot: configuration -> why a network cannot be stored like this, or None.
        implied: options with which a file in this layout has to be read, where no tensor shows that it is in this one.
        defaults: values of options that the public code of this layout has, where they are not the family's.
    """

    name: str
    recognise: Callable[[Tensors], bool]
    places: tuple[Place, ...]
    constants: Callable[[Tensors], dict[str, Tensor]] = no_constants
    ignored: Callable[[str], bool] = never
    becomes: str = ""
    container: str = ""
    outside: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    cannot: Callable[[Mapping[str, object]], str | None] = lambda _: None
    implied: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def by_key(self) -> dict[str, Place]:
        """Places by the layout's names."""
        return {place.key: place for place in self.places}

    @cached_property
    def by_name(self) -> dict[str, Place]:
        """Places by canonical names."""
        return {place.name: place for place in self.places}

    def fitted(self, tensors: Tensors) -> Layout:
        """Return the layout of a file with these tensors, where its places depend on them."""
        return self

    def key_of(self, name: str) -> str:
        """Return the layout's name of a canonical one, for messages."""
        return self.by_name[name].key if name in self.by_name else name

    def read(self, tensors: Tensors, beside: Mapping[str, object]) -> dict[str, Tensor]:
        """Return canonical tensors of what a file holds.

        Raises:
            GanatomyError: for a key that this layout does not have.
        """
        given = dict(tensors)
        for name, entry in self.outside.items():
            value = given.pop(entry, beside.get(entry))
            if isinstance(value, Tensor) and self.key_of(name) not in given:
                given[self.key_of(name)] = value
        canonical, rest = {}, {}
        for key, tensor in given.items():
            place = self.by_key.get(key)
            if place is not None:
                canonical[place.name] = _apply(place.read, tensor, key)
            elif not self.ignored(key):
                rest[key] = tensor
        if rest:
            self._check_constants(canonical, rest)
        return canonical

    def _check_constants(self, canonical: Tensors, rest: Tensors) -> None:
        try:
            expected = self.constants(canonical)
        except KeyError:  # so much is missing that nothing follows; what is missing is said elsewhere
            expected = {}
        extra = sorted(rest.keys() - expected.keys())
        if extra:
            raise GanatomyError(f"checkpoint has the unexpected key {shown(extra)} ({self.name})")
        for key, tensor in rest.items():
            wanted = expected[key]
            if tensor.shape != wanted.shape or not torch.allclose(tensor.float(), wanted.float(), CLOSE, CLOSE):
                raise GanatomyError(f"checkpoint: {key} is not the standard filter of this family; not supported")

    def write(self, canonical: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (the network's tensors by the layout's keys, tensors that go beside the network).

        Raises:
            GanatomyError: for a tensor that this layout has no place for.
        """
        lost = sorted(name for name in canonical if name not in self.by_name and name not in self.outside)
        if lost:
            raise GanatomyError(f"the layout {self.name} has no place for {shown(lost)}")
        inside = {
            self.by_name[name].key: self.by_name[name].write(tensor).contiguous()
            for name, tensor in canonical.items()
            if name not in self.outside
        }
        beside = {entry: canonical[name].contiguous() for name, entry in self.outside.items() if name in canonical}
        return inside | self.constants(canonical), beside


def _apply(change: Change, tensor: Tensor, key: str) -> Tensor:
    """Return the changed tensor; a shape that the change cannot take is the file's fault."""
    try:
        return change(tensor)
    except (RuntimeError, IndexError) as error:
        raise GanatomyError(f"checkpoint: {key} has the unexpected shape {list(tensor.shape)}") from error


# -- changes that keep every bit, by name ----------------------------------------------------------------------


def permuted(*order: int) -> tuple[Change, Change]:
    """Return (read, write) for a file whose axes, taken in ``order``, are ours."""
    back = [order.index(axis) for axis in range(len(order))]
    return lambda t: t.permute(*order), lambda t: t.permute(*back)


def led_by(count: int) -> tuple[Change, Change]:
    """Return (read, write) for a file that has ``count`` axes of length 1 in front."""

    def read(tensor: Tensor) -> Tensor:
        for _ in range(count):
            if tensor.shape[0] != 1:
                raise IndexError("expected a leading axis of length 1")
            tensor = tensor[0]
        return tensor

    return read, lambda t: t[(None,) * count]


def followed_by(count: int) -> tuple[Change, Change]:
    """Return (read, write) for a file that has ``count`` axes of length 1 at the end."""

    def read(tensor: Tensor) -> Tensor:
        for _ in range(count):
            if tensor.shape[-1] != 1:
                raise IndexError("expected a trailing axis of length 1")
            tensor = tensor[..., 0]
        return tensor

    return read, lambda t: t.reshape(*t.shape, *(1,) * count)


def flipped(tensor: Tensor) -> Tensor:
    """Return the kernel turned by 180 degrees; its own inverse."""
    return tensor.flip(-2, -1)


def chain(*changes: tuple[Change, Change]) -> tuple[Change, Change]:
    """Return (read, write) of several changes, read in the given order and written in the other."""

    def through(functions: Iterable[Change]) -> Change:
        listed = list(functions)

        def run(tensor: Tensor) -> Tensor:
            for function in listed:
                tensor = function(tensor)
            return tensor

        return run

    return through(c[0] for c in changes), through(c[1] for c in reversed(changes))
