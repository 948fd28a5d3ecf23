"""The catalogue of generators, and the one function that loads any source."""

from __future__ import annotations

import importlib
import operator
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import unknown_name
from segmodels.files import one_line

from . import checkpoint, dcgan, fetch, planted
from .base import Generator
from .module import ModuleGenerator, PictureModel


@dataclass(frozen=True)
class Entry:
    """A generator that can be had by name.

    Attributes:
        name: what people type.
        summary: one line for ``generators list``.
        family, resolution: as in the loaded generator.
        licence: of the weights.
        source: where the weights are; None for generators that need none.
    """

    name: str
    summary: str
    family: str
    resolution: int
    licence: str
    source: fetch.Source | None = None


ENTRIES = (
    Entry(
        "digiface-dcgan64",
        "faces, 64 px, DCGAN trained on DigiFace (weights of the package gan-face-generate 1.1.1)",
        dcgan.FAMILY,
        64,
        "MIT",
        fetch.PackageMember(
            requirement="gan-face-generate==1.1.1",
            python_version="3.12",  # the wheel declares < 3.13, but the file is data
            member="gan_face_generate/weights.tar",
            sha256="0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
            size=14_322_251,
        ),
    ),
    Entry(
        "planted",
        "shapes in colours with known truth, 64 px; planted:SEED[,units=64,layers=3,noise=0.25]",
        "planted",
        64,
        "MIT (hand-set weights)",
    ),
)

# A state dict's layout -> the family that reads it. A new family adds a line.
FAMILIES: tuple[tuple[Callable[..., bool], Callable[..., Generator]], ...] = ((dcgan.recognise, dcgan.generator),)


def entries() -> list[Entry]:
    """Return the catalogue."""
    return list(ENTRIES)


def load(
    source: str | Path | nn.Module | Generator,
    device: str | torch.device = "cpu",
    *,
    z_dim: int | None = None,
    num_classes: int | None = None,
    image_range: tuple[float, float] = (-1.0, 1.0),
    input_size: int | None = None,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
) -> Generator:
    """Open a generator.

    Args:
        source: a name of the catalogue, ``planted:SEED,…``, a checkpoint's path, ``https://…#sha256=…``,
            ``"package.module:factory"``, or an ``nn.Module``.
        device: where it runs.
        z_dim, num_classes, image_range: for an ``nn.Module`` or a factory that returns one: the length of its
            latent, the number of its classes, and the range of its images. A module's own attributes
            ``z_dim`` and ``num_classes`` are used when these are not given.
        input_size, mean, std: for a network that looks at pictures, to be dissected with ``images=FOLDER``.

    Raises:
        GanatomyError: for anything that cannot be opened, in one line.
    """
    device = _check_device(device)
    if isinstance(source, Generator):
        return source
    if isinstance(source, nn.Module):
        return _wrap(source, None, device, z_dim, num_classes, image_range, input_size, mean, std)
    text = str(source)
    if text == "planted" or text.startswith("planted:"):
        return planted.parse(text, device)
    named = {entry.name: entry for entry in ENTRIES}
    if text in named:
        origin = named[text].source
        assert origin is not None, "planted was handled above"
        return from_checkpoint(fetch.fetch(origin), text, device)
    if re.match(r"[A-Za-z]+://", text):
        origin = fetch.parse_url(text)
        return from_checkpoint(fetch.fetch(origin), Path(origin.url).stem, device)
    path = _existing(text)
    if path is not None:
        return from_checkpoint(path, path.stem, device)
    if re.fullmatch(r"[\w.]+:[\w.]+", text):
        made = call_factory(text)
        if isinstance(made, Generator):
            return made
        if not isinstance(made, nn.Module):
            raise GanatomyError(f"{text} returned a {type(made).__name__}, expected an nn.Module or a Generator")
        return _wrap(made, text, device, z_dim, num_classes, image_range, input_size, mean, std)
    if "/" in text or Path(text).suffix:
        raise GanatomyError(f"no such checkpoint: {text}")
    raise unknown_name("generator", text, named)


def _existing(text: str) -> Path | None:
    """Return the path of that name if there is something; no name of a file is an error here."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user's home, a NUL inside
        return None


def _check_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise GanatomyError(f"unknown device {device!r}; expected cpu, cuda or cuda:0, cuda:1, …") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise GanatomyError(f"device {device!r} was asked for, but this torch sees no CUDA; use --device cpu")
    try:
        torch.zeros(1, device=chosen).item()
    except Exception as error:  # another backend's own kinds
        raise GanatomyError(f"device {str(device)!r} cannot be used: {one_line(error, 120)}") from error
    return chosen


def _wrap(
    module: nn.Module,
    name: str | None,
    device: torch.device,
    z_dim: int | None,
    num_classes: int | None,
    image_range: tuple[float, float],
    input_size: int | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Generator:
    if input_size is not None:
        return PictureModel(module, input_size, name=name, mean=mean, std=std, device=device)
    length = _integer(module, "z_dim", z_dim)
    if length is None:
        what = name or type(module).__name__
        raise GanatomyError(
            f"{what}: say how long its latent is with z_dim= or --z-dim (input_size= for a model of pictures)"
        )
    classes = _integer(module, "num_classes", num_classes) or None
    return ModuleGenerator(module, length, name=name, num_classes=classes, image_range=image_range, device=device)


def _integer(module: nn.Module, what: str, given: object) -> int | None:
    """Return a number of the module: the one given, or else the module's own attribute, or else None."""
    value = given if given is not None else getattr(module, what, None)
    if value is None:
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise GanatomyError(f"{type(module).__name__}: expected {what} to be an integer, got {value!r}") from error


def call_factory(text: str) -> object:
    """Import ``package.module:factory`` (the working directory counts) and call it without arguments."""
    module_name, _, attribute = text.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        target: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
        return target() if callable(target) and not isinstance(target, nn.Module) else target
    except GanatomyError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's factory raises
        raise GanatomyError(f"{text}: {type(error).__name__}: {one_line(error)}") from error


def from_checkpoint(path: Path, name: str, device: str | torch.device = "cpu") -> Generator:
    """Return the generator in a checkpoint file, its family recognised from the tensors."""
    contents, digest = checkpoint.read(path)
    dicts: list[dict[str, Tensor]] = checkpoint.candidates(contents)
    for tensors in dicts:
        for recognise, make in FAMILIES:
            if recognise(tensors):
                checkpoint.check(tensors, path)
                try:
                    return make(tensors, name, device, digest)
                except GanatomyError as error:
                    raise GanatomyError(f"{path.name}: {error}") from error
    keys = checkpoint.shown(dicts[0] if dicts else contents, 4)
    known = "known: DCGAN (main.0.weight, …)"
    raise GanatomyError(f"{path.name}: no known generator has these tensors ({keys}); {known}")
