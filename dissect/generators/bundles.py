"""Bundles: a recipe and the generator it is for, in one file that opens as a generator with the edits always applied.

A bundle is the recipe's own safetensors file with more in it: in its header, under ``bundle``, which generator (its
fingerprint, name, file and options); as tensors ``option/…`` options that are arrays, and, if the weights were asked
for, ``network/…``, the original in a layout of its family. Nothing in it is ever executed, and nothing is fetched.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

from segmodels import GanatomyError, fetch
from segmodels.files import one_line, shown

from .. import recipes
from ..disk import replacing
from ..edits import Edit
from ..recipes import Recipe
from ..weight_edits import WeightEdit
from . import catalog
from .base import Generator
from .checkpoint import Checkpoint, StoredNetwork
from .family import Fact, open_checkpoint, parsed
from .replicas import OWN

FORMAT, VERSION = "ganatomy.bundle", 1
SUFFIX = ".bundle"
MAX_HEADER = 4 << 20  # bytes
IN_MEMORY = "memory"
ELSEWHERE = "say where it is with weights=FILE (--option weights=FILE)"

Source = str | Path | nn.Module | Generator | Mapping[str, Tensor]
Opener = Callable[[Source, Mapping[str, object]], Generator]


@dataclass(frozen=True, eq=False)
class Original:
    """What a bundle says about the generator it is for.

    Attributes:
        name: for people; of the catalogue and of planted generators also what opens it.
        file: name of its file, "" for none; in whatever folder the bundle is.
        fingerprint: of the generator.
        options: that it was opened with: numbers, yes or no, None, arrays and dicts of arrays.
        network: (tensors in the file's names, metadata) of the weights that are inside, or None.
    """

    name: str
    file: str
    fingerprint: str
    options: Mapping[str, object] = field(default_factory=dict)
    network: tuple[dict[str, Tensor], dict[str, str]] | None = None


def applied(original: Generator, recipe: Recipe, name: str) -> Generator:
    """Return a generator over the same network that does ``recipe`` in every pass, before anything else.

    Its layers' features are those after the recipe. Its fingerprint is of the original's and the recipe's id.
    """
    made = copy.copy(original)
    for own in OWN:
        vars(made).pop(own, None)
    made.name, made.recipe, made.original = name, recipe, original
    vars(made)["fingerprint"] = fingerprint_of(original.fingerprint, recipe)
    edits = "; ".join(f"{edit.layer}: {_what(edit)}" for edit in recipe)
    made.facts = (*original.facts, Fact("original", original.name, "file"), Fact("edits", edits, "file"))
    return made


def _what(edit: Edit) -> str:
    return f"weights, rank {edit.rank}" if isinstance(edit, WeightEdit) else f"{len(edit.units)} units"


def fingerprint_of(original: str, recipe: Recipe) -> str:
    """Return the fingerprint of a bundle."""
    return hashlib.sha256(f"{FORMAT} {original} {recipe.id}".encode()).hexdigest()


# -- writing ---------------------------------------------------------------------------------------------------


def original_of(generator: Generator, network: tuple[dict[str, Tensor], dict[str, str]] | None = None) -> Original:
    """Return what a bundle says about a generator."""
    origin = generator.origin
    options: dict[str, object] = {}
    if origin is not None:
        known = {option.name: option for option in catalog.family(generator.family).options}
        options = {name: parsed(known[name], value) for name, value in origin.given.items()}
    entry = None if origin is None else catalog.entry_of(origin.sha256)
    file = "" if origin is None or entry is not None else origin.path.name
    return Original(entry or generator.name, file, generator.fingerprint, options, network)


def write(original: Original, recipe: Recipe, out: Path) -> None:
    """Write a bundle to one file, whole or not at all."""
    header, arrays = recipe.contents()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    plain: dict[str, object] = {}
    for name, value in original.options.items():
        if isinstance(value, Mapping):
            tensors |= {f"option/{name}/{key}": part.cpu().clone() for key, part in value.items()}
        elif isinstance(value, Tensor):
            tensors[f"option/{name}"] = value.cpu().clone()
        else:
            plain[name] = value
    told: dict[str, Any] = {"format": FORMAT, "version": VERSION, "fingerprint": original.fingerprint}
    told |= {"id": fingerprint_of(original.fingerprint, recipe), "name": original.name, "file": original.file}
    told |= {"options": plain, "network": None}
    if original.network is not None:
        inside, metadata = original.network
        tensors |= {f"network/{name}": tensor.contiguous() for name, tensor in inside.items()}
        told["network"] = metadata
    data = as_safetensors(tensors, {"recipe": json.dumps(header), "bundle": json.dumps(told)})
    with replacing(out) as disk:
        disk.write(data)


# -- reading ---------------------------------------------------------------------------------------------------


def is_bundle(path: Path) -> bool:
    """Whether a file says that it is a bundle. Only its header is read."""
    if not path.is_file():  # reading a pipe would wait for someone to write
        return False
    try:
        with path.open("rb") as file:
            head = file.read(9)
            if len(head) < 9 or head[8:] != b"{":
                return False
            (length,) = struct.unpack("<Q", head[:8])
            if length > MAX_HEADER:
                return False
            metadata = json.loads(b"{" + file.read(length - 1)).get("__metadata__")
    except (OSError, ValueError, AttributeError, RecursionError):  # a folder, another kind of file, a damaged one
        return False
    return isinstance(metadata, dict) and "bundle" in metadata


def read(path: Path) -> tuple[Original, Recipe]:
    """Return what a bundle holds; GanatomyError in one line if it is damaged or of a newer version."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: where numbers lie in the file, a product may take another way and round otherwise.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (it is no dict)
        told, header = json.loads(metadata["bundle"]), json.loads(metadata["recipe"])
        if told["format"] != FORMAT or not isinstance(told["version"], int):
            raise ValueError("another format")
        if told["version"] > VERSION:
            raise GanatomyError(f"{path.name} has bundle version {told['version']}, this ganatomy reads {VERSION}")
        original = _original(told, tensors)
        arrays = {key: tensor.numpy() for key, tensor in tensors.items() if recipes.TENSOR.fullmatch(key)}
        recipe = Recipe.of(recipes.checked(header, path.name), arrays, path.name)
        if told["id"] != fingerprint_of(original.fingerprint, recipe):
            raise ValueError("its edits are not those that were written")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, RuntimeError) as error:
        raise _damaged(path, error) from error
    except safetensors.SafetensorError as error:
        raise _damaged(path, error) from error
    return original, recipe


def _damaged(path: Path, error: Exception) -> GanatomyError:
    return GanatomyError(f"{path.name} is a damaged bundle: {type(error).__name__} {one_line(error)}")


def _original(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Original:
    name, file, fingerprint = (str(told[key]) for key in ("name", "file", "fingerprint"))
    if file and (Path(file).name != file or file == ".." or "\0" in file):
        raise ValueError(f"{file[:60]!r} is not the name of a file")
    options: dict[str, Any] = dict(told["options"])
    # No text: it could be the path of some file here.
    if not all(value is None or isinstance(value, (bool, int, float)) for value in options.values()):
        raise ValueError("an option is no number")
    known = {option.name for family in catalog.FAMILIES for option in family.options}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "option":
            option, _, part = rest.partition("/")
            if part:
                options.setdefault(option, {})[part] = tensor
            else:
                options[option] = tensor
    if options.keys() - known:
        raise ValueError(f"no generator has the options {shown(sorted(options.keys() - known))}")
    network = None
    if told["network"] is not None:
        inside = {key.removeprefix("network/"): tensor for key, tensor in tensors.items() if key.startswith("network/")}
        network = (inside, {str(key): str(value) for key, value in dict(told["network"]).items()})
    return Original(name, file, fingerprint, options, network)


def open_bundle(
    path: Path,
    device: torch.device,
    open_source: Opener,
    weights: Source | None = None,
    options: Mapping[str, object] | None = None,
) -> Generator:
    """Return the generator of a bundle.

    Args:
        open_source: opens what can be opened, with options.
        weights: the original, if the user says which it is; None looks for it, and fetches nothing.
        options: of the original, beside those in the bundle.

    Raises:
        GanatomyError: if the bundle is damaged, or its original is not here or another one.
    """
    original, recipe = read(path)
    chosen = {**original.options, **(options or {})}
    if weights is not None:
        plain = isinstance(weights, (Generator, nn.Module))  # opened already, or not by options of a checkpoint
        found = open_source(weights, (options or {}) if plain else chosen)
    elif original.network is not None:
        found = inside(original, path, device, chosen)
    else:
        found = open_source(_where(original, path), chosen)
    if found.fingerprint != original.fingerprint:
        raise GanatomyError(
            f"{path.name} is a bundle for {shown([original.name])} ({shown([original.fingerprint[:12]])}); "
            f"{found.name} ({found.fingerprint[:12]}) is not that; {ELSEWHERE}"
        )
    try:
        recipe.check(found)
        found.check_edits(recipe.edits)
    except GanatomyError as error:
        raise GanatomyError(f"{path.name}: {error}") from error
    return applied(found, recipe, path.stem)


def inside(original: Original, path: Path, device: torch.device, options: Mapping[str, object]) -> Generator:
    """Return the original whose weights are in the bundle."""
    assert original.network is not None
    tensors, metadata = original.network
    network = StoredNetwork("", "", dict(tensors), None, {}, {"__metadata__": metadata})
    held = Checkpoint(path, "", IN_MEMORY, (network,))
    return open_checkpoint(held, catalog.FAMILIES, original.name, device, options)


def _where(original: Original, path: Path) -> str:
    """Return what opens the original: its file beside the bundle, or a name; GanatomyError if it is not here."""
    name, file = original.name, path.parent / original.file
    if original.file and file.exists() and not is_bundle(file):
        return str(file)
    if not original.file and name.startswith("planted:"):
        return name
    about = f"{path.name} is a bundle for {shown([name])}, which is not here"
    if original.file:
        raise GanatomyError(f"{about}; put its file {shown([original.file])} beside the bundle, or {ELSEWHERE}")
    entry = next((known for known in catalog.ENTRIES if known.name == name and known.source is not None), None)
    if entry is None:
        raise GanatomyError(f"{about}; {ELSEWHERE}")
    if not fetch.is_cached(entry.source):
        raise GanatomyError(f"{about}; `ganatomy generators fetch {name}` brings it, or {ELSEWHERE}")
    return name
