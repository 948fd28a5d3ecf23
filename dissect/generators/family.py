"""Families: how a state dict becomes a generator, and what is known and what is guessed about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import unknown_name
from segmodels.files import shown

from .base import Generator
from .checkpoint import Checkpoint, StoredNetwork, check
from .layouts import Layout, Place, Tensors
from .notes import note_of, settings

# What makes a unit zero: the slices of these canonical tensors, each (name, axis along which the units lie), as zeros.
Slices = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Option:
    """Something that changes the images and that no tensor reveals.

    Attributes:
        name: as in the public code's constructor.
        parse: from what was given (a value, or text of the command line) to the value; may raise ValueError.
        default: used when nothing else is known.
        help: one line.
    """

    name: str
    parse: Callable[[object], object]
    default: object
    help: str


@dataclass(frozen=True)
class Fact:
    """One thing known about a generator, and how: ``tensors``, ``file``, ``option``, ``tried`` or ``assumed``."""

    name: str
    value: object
    source: str


ENDINGS = {"torch zip": ".pth", "safetensors": ".safetensors"}  # by format


@dataclass(frozen=True)
class Origin:
    """The file that a generator came from; what an export rewrites.

    Attributes:
        path, sha256, format: of the file.
        where: the entry of the file that holds the network; "" is the top.
        layout: under which names its tensors are stored.
        given: the options that it was opened with.
    """

    path: Path
    sha256: str
    format: str
    where: str
    layout: Layout
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def ending(self) -> str:
        """With what another file of this kind ends its name; weights that were fetched have no ending of their own."""
        return "" if self.path.is_dir() else self.path.suffix or ENDINGS.get(self.format, "")


@dataclass
class Opening:
    """A stored network on its way to becoming a generator: a family's ``make`` gets it.

    Attributes:
        tensors: under the family's canonical names.
        layout: the layout they were found in.
        arguments: constructor arguments that the file records, flattened (``synthesis_kwargs`` and the like).
        given: options that the user gave; beside: the other entries of the file.
        facts: what has been learnt so far.
    """

    name: str
    device: torch.device
    layout: Layout
    tensors: dict[str, Tensor]
    arguments: Mapping[str, object]
    beside: Mapping[str, object]
    given: Mapping[str, object]
    options: tuple[Option, ...]
    origin: Origin
    facts: list[Fact] = field(default_factory=list)

    def setting(self, name: str, recorded: object = None) -> Any:
        """Return an option's value: the given, the file's, or the layout's or family's default; note which."""
        option = next(option for option in self.options if option.name == name)
        if name in self.given:
            value, source = self.given[name], "option"
        elif recorded is not None or name in self.arguments:
            value, source = (recorded if recorded is not None else self.arguments[name]), "file"
        else:
            value, source = self.layout.defaults.get(name, option.default), "assumed"
        if source != "assumed":
            value = parsed(option, value)
        self.facts.append(Fact(name, "given" if isinstance(value, Tensor) else value, source))
        return value

    @property
    def common(self) -> dict[str, Any]:
        """What every generator of a checkpoint is told of it."""
        return {
            "name": self.name, "flavour": self.layout.name, "device": self.device,
            "file_sha256": self.origin.sha256 or None,
        }  # fmt: skip

    def read_off(self, **facts: object) -> None:
        """Note facts that the tensors' shapes show."""
        self.facts += [Fact(name, value, "tensors") for name, value in facts.items()]

    def need(self, name: str, ndim: int) -> Tensor:
        """Return a canonical tensor; GanatomyError, in the file's terms, if it is missing or has other axes."""
        key = self.layout.key_of(name)
        if name not in self.tensors:
            raise GanatomyError(f"checkpoint lacks {key} ({self.layout.name})")
        tensor = self.tensors[name]
        if tensor.ndim != ndim or 0 in tensor.shape:
            raise GanatomyError(f"checkpoint: {key} is {list(tensor.shape)}, expected {ndim} axes")
        return tensor

    def fill(self, network: nn.Module) -> nn.Module:
        """Give the network, built on the meta device, exactly the file's tensors.

        Raises:
            GanatomyError: naming, in the file's terms, keys that are missing, extra, mis-shaped or no real numbers.
        """
        expected = network.state_dict()
        shape_of = {name: list(tensor.shape) for name, tensor in expected.items()}
        for problem, names in (
            ("lacks", sorted(expected.keys() - self.tensors.keys())),
            ("has the unexpected key", sorted(self.tensors.keys() - expected.keys())),
        ):
            if names:
                raise GanatomyError(f"checkpoint {problem} {shown(self.layout.key_of(name) for name in names)}")
        for name, given in self.tensors.items():
            place = self.layout.by_name.get(name)
            key = self.layout.key_of(name)
            if list(given.shape) != shape_of[name]:
                wanted = torch.empty(shape_of[name], device="meta")
                theirs = [_shape(place, t) for t in (given, wanted)]
                raise GanatomyError(f"checkpoint: {key} is {theirs[0]}, expected {theirs[1]}")
            if not given.is_floating_point():
                raise GanatomyError(f"checkpoint: {key} is {given.dtype}, expected floating-point numbers")
        # A conv may choose its arithmetic by how its weights lie in memory: let it be one for all layouts.
        own = {name: tensor.float().contiguous() for name, tensor in self.tensors.items()}
        network.load_state_dict(own, assign=True)
        return network


DISCRIMINATORS = ("D", "d", "netD", "D_ema", "discriminator", "discriminator_smooth", "netD_state_dict")


def unknown_weights(generator: Any, module: str) -> str:
    """Say that nothing is known of a layer's weights."""
    return "it is not known which weights make its units"


def as_they_are(stored: Tensors, own: Tensors, changed: set[str]) -> dict[str, Tensor | None]:
    """Hold the network's own tensors in the file."""
    return {}


def _shape(place: Place | None, tensor: Tensor) -> list[int]:
    """Return the shape that a tensor has in its file; its own where it cannot be turned (a kernel of one axis)."""
    try:
        return list((place.write(tensor) if place else tensor).shape)
    except (RuntimeError, IndexError):
        return list(tensor.shape)


@dataclass(frozen=True, eq=False)
class Family:
    """A family of generators.

    Attributes:
        name: its one word, as in ``Generator.family``.
        title: for people.
        layouts: the ways in which it is stored, the most specific first.
        make: from a stored network to a generator.
        options: what no tensor reveals.
        licence: what to say of weights whose file does not say it.
        zeroed_by: (one of its generators, the dotted name of a layer's module) -> the slices whose zeros do exactly
            what zeros in place of a unit's features do to the image, or why no weights do that.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    make: Callable[[Opening], Generator]
    options: tuple[Option, ...] = ()
    licence: str | None = None
    zeroed_by: Callable[[Any, str], Slices | str] = unknown_weights
    held: Callable[[Tensors, Tensors, set[str]], dict[str, Tensor | None]] = as_they_are

    def layout(self, name: str) -> Layout:
        """Return the layout of that name; GanatomyError with the nearest ones."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        raise unknown_name(f"layout of {self.title}", name, [layout.name for layout in self.layouts])


def parsed(option: Option, value: object) -> object:
    """Return the option's value from what was given; GanatomyError if it is not one."""
    try:
        return option.parse(value)
    except GanatomyError:
        raise
    except (TypeError, ValueError) as error:
        given = " ".join(repr(value).split())  # an array's own text has several lines
        raise GanatomyError(f"option {option.name}: {given[:80]} is not valid; {option.help}") from error


def recognise(families: tuple[Family, ...], network: StoredNetwork) -> tuple[Family, Layout] | None:
    """Return the family and the layout of a stored network, or None."""
    for family in families:
        for layout in family.layouts:
            if layout.recognise(network.tensors):
                return family, layout
    return None


def open_checkpoint(
    checkpoint: Checkpoint,
    families: tuple[Family, ...],
    name: str,
    device: torch.device,
    given: Mapping[str, object],
) -> Generator:
    """Return the generator of the first network in a checkpoint that a family knows.

    Raises:
        GanatomyError: if none does, for options that the family does not have, and for tensors that do not fit.
    """
    # A file in the cache is called by its hash, which tells people nothing.
    called = checkpoint.path.name if checkpoint.path.stem == name else name
    for network in checkpoint.networks:
        found = recognise(families, network)
        if found is None:
            continue
        family, layout = found[0], found[1].fitted(network.tensors)
        check(network, checkpoint)
        names = [known.name for known in family.options]
        for option in given:
            if option not in names:
                raise unknown_name(f"option of {family.title}", option, names)
        converted_with = {k: v for k, v in settings(note_of(network.beside)).items() if k in names}
        try:
            opening = Opening(
                name=name,
                device=device,
                layout=layout,
                tensors=layout.read(network.tensors, network.beside),
                arguments=converted_with | flat(network.arguments),
                beside=network.beside,
                given=given,
                options=family.options,
                origin=Origin(checkpoint.path, checkpoint.sha256, checkpoint.format, network.where, layout, given),
            )
            generator = family.make(opening)
        except GanatomyError as error:
            raise GanatomyError(f"{called}: {error}") from error
        generator.origin = opening.origin if checkpoint.sha256 else None
        critics = [Fact("discriminator", f"in the file ({known.where})", "file") for known in checkpoint.networks
                   if known.where in DISCRIMINATORS]  # fmt: skip
        generator.facts = (*opening.facts, *critics[:1])
        return generator
    keys: Sequence[str] = next((list(network.tensors) for network in checkpoint.networks), [])
    known = ", ".join(f"{family.title} ({', '.join(layout.name for layout in family.layouts)})" for family in families)
    raise GanatomyError(f"{called}: no known generator has these tensors ({shown(keys, 4)}); known: {known}")


def check_records(arguments: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raise GanatomyError if a file records something for which the arithmetic here is not right."""
    for what, wanted in expected.items():
        told = arguments.get(what, wanted)
        if (list(told) if isinstance(told, tuple) else told) != wanted:
            raise GanatomyError(f"the file records {what}={told!r:.60}, expected {wanted!r}")


def flat(arguments: Mapping[str, object]) -> dict[str, object]:
    """Return nested constructor arguments as one dict; the outer ones win."""
    inner = {}
    for value in arguments.values():
        if isinstance(value, Mapping):
            inner.update(flat(value))
    return inner | {key: value for key, value in arguments.items() if not isinstance(value, Mapping)}
