"""Opening a generator: the one function that loads any source."""

from __future__ import annotations

import importlib
import operator
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from segmodels import GanatomyError, fetch
from segmodels.errors import unknown_name
from segmodels.files import one_line

from . import catalog, checkpoint, planted
from .base import Generator
from .bundles import is_bundle, open_bundle
from .calling import unwrapped
from .family import open_checkpoint
from .module import ModuleGenerator, PictureModel

T = TypeVar("T")
IN_MEMORY = "memory"  # format of what came from no file


def load(
    source: str | Path | nn.Module | Generator | Mapping[str, Tensor],
    device: str | torch.device = "cpu",
    *,
    z_dim: int | None = None,
    num_classes: int | None = None,
    image_range: tuple[float, float] | None = None,
    input_size: int | None = None,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    **options: object,
) -> Generator:
    """Open a generator.

    Args:
        source: a name of the catalogue, ``planted:SEED,…``, the path of a checkpoint or a bundle,
            ``https://…#sha256=…``, ``"package.module:factory"``, an ``nn.Module``, or a state dict of a known layout.
        device: where it runs.
        z_dim, num_classes, image_range: for an ``nn.Module`` or a factory that returns one: the length of its
            latent, the number of its classes, and the range of its images, (-1, 1) if nothing says another. A module's
            own attributes ``z_dim``, ``num_classes`` and ``image_range`` are used when these are not given.
        input_size, mean, std: for a network that looks at pictures, to be dissected with ``images=FOLDER``.
        options: for a checkpoint: what changes the images and no tensor reveals, by the name it has in the public
            code (``conv_clamp=…``); each family lists its own in ``Family.options``, and refuses others. For a bundle
            ``weights=…`` is its original, anything that this function opens, where it is not beside the bundle.

    Raises:
        GanatomyError: for anything that cannot be opened, in one line.
    """
    device = _check_device(device)
    if isinstance(source, Generator):
        return _without(options, source, source.name)
    if isinstance(source, Mapping):
        return from_tensors(source, "state dict", device, options)
    if isinstance(source, nn.Module):
        source = _without(options, source, type(source).__name__)
        return _wrap(source, None, device, z_dim, num_classes, image_range, input_size, mean, std)
    text = str(source)
    if text == "planted" or text.startswith("planted:"):
        return _without(options, planted.parse(text, device), text)
    named = {entry.name: entry for entry in catalog.ENTRIES}
    if text in named:
        return from_checkpoint(catalog.obtain(named[text]), text, device, {**named[text].options, **options})
    if re.match(r"[A-Za-z]+://", text):
        origin = fetch.parse_url(text)
        return from_checkpoint(fetch.fetch(origin), Path(origin.url).stem, device, options)
    path = _existing(text)
    if path is not None and is_bundle(path):
        weights = options.pop("weights", None)

        def original(source: Any, given: Mapping[str, Any]) -> Generator:
            return load(
                source, device, z_dim=z_dim, num_classes=num_classes, image_range=image_range, input_size=input_size,
                mean=mean, std=std, **given,
            )  # fmt: skip

        return open_bundle(path, device, original, weights, options)  # type: ignore[arg-type]
    if path is not None:
        return from_checkpoint(path, path.stem, device, options)
    if re.fullmatch(r"[\w.]+:[\w.]+", text):
        made = call_factory(_without(options, text, text))
        if isinstance(made, Generator):
            return made
        if not isinstance(made, nn.Module):
            raise GanatomyError(f"{text} returned a {type(made).__name__}, expected an nn.Module or a Generator")
        return _wrap(made, text, device, z_dim, num_classes, image_range, input_size, mean, std)
    if "/" in text or Path(text).suffix:
        raise GanatomyError(f"no such checkpoint: {text}")
    raise unknown_name("generator", text, named)


def _without(options: Mapping[str, object], value: T, name: str) -> T:
    """Return the value if there are no options: what is not a checkpoint has none."""
    if options:
        raise GanatomyError(f"{name}: option {next(iter(options))!r} is for checkpoints only")
    return value


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
    image_range: tuple[float, float] | None,
    input_size: int | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Generator:
    module = unwrapped(module)
    if input_size is not None:
        return PictureModel(module, input_size, name=name, mean=mean, std=std, device=device)
    length = _integer(module, "z_dim", z_dim)
    if length is None:
        what = name or type(module).__name__
        raise GanatomyError(
            f"{what}: say how long its latent is with z_dim= or --z-dim (input_size= for a model of pictures)"
        )
    classes = _integer(module, "num_classes", num_classes) or None
    given = image_range if image_range is not None else getattr(module, "image_range", (-1.0, 1.0))
    return ModuleGenerator(module, length, name=name, num_classes=classes, image_range=given, device=device)


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


def from_checkpoint(
    path: Path, name: str, device: str | torch.device = "cpu", options: Mapping[str, object] | None = None
) -> Generator:
    """Return the generator in a checkpoint file, its family recognised from the tensors."""
    return open_checkpoint(checkpoint.read(path), catalog.FAMILIES, name, torch.device(device), options or {})


def from_tensors(
    tensors: Mapping[str, Tensor],
    name: str,
    device: str | torch.device = "cpu",
    options: Mapping[str, object] | None = None,
) -> Generator:
    """Return the generator of a state dict in memory, its family recognised from the tensors."""
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()):
        raise GanatomyError("expected a state dict: names and tensors")
    prefix = "module." if tensors and all(key.startswith("module.") for key in tensors) else ""
    plain = {key.removeprefix(prefix): value.detach().cpu().clone() for key, value in tensors.items()}
    network = checkpoint.StoredNetwork("", prefix, plain, None, {}, {})
    held = checkpoint.Checkpoint(Path(name), "", IN_MEMORY, (network,))
    return open_checkpoint(held, catalog.FAMILIES, name, torch.device(device), options or {})
