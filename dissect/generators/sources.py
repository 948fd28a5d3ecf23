"""The file that a generator came from, and the place where another is to be written."""

from __future__ import annotations

from pathlib import Path

from segmodels import GanatomyError
from segmodels.files import shown

from . import catalog, checkpoint
from .base import Generator
from .checkpoint import StoredNetwork
from .family import Origin, recognise


def origin_of(generator: Generator) -> Origin:
    """Return the file of a generator; GanatomyError if it came from none."""
    if generator.origin is None:
        raise GanatomyError(f"{generator.name} did not come from a checkpoint; only checkpoints are written again")
    return generator.origin


def target_of(path: str | Path, origin: Origin | None, overwrite: bool) -> Path:
    """Return the path of a new file; GanatomyError unless it may be written and is not the generator's own."""
    out = Path(path)
    try:
        # A network of several files may have been opened by the name of one of them; its export is their folder.
        own = [] if origin is None else [origin.path]
        if origin is not None and origin.format == checkpoint.OPENVINO and origin.path.is_file():
            own.append(origin.path.parent)
        if "\0" in str(out):
            raise ValueError("a NUL in its name")
        if out.exists() and any(known.exists() and out.samefile(known) for known in own):
            raise GanatomyError(f"{out} is the generator's own file; choose another name")
        if out.exists() and not overwrite:
            raise GanatomyError(f"{out} exists; choose another name, or overwrite it (overwrite=True, --overwrite)")
        if not out.parent.is_dir():
            raise GanatomyError(f"no such folder: {out.parent}")
    except (OSError, ValueError) as error:  # too long, not allowed, a NUL inside
        raise GanatomyError(f"cannot write {shown([out])}: {getattr(error, 'strerror', None) or error}") from error
    return out


def reread(origin: Origin) -> tuple[checkpoint.Checkpoint, StoredNetwork]:
    """Return the file and the network in it that the generator came from."""
    stored = checkpoint.read(origin.path)
    if stored.sha256 != origin.sha256:
        raise GanatomyError(f"{origin.path} has changed since the generator was loaded; load it again")
    for network in stored.networks:
        if network.where == origin.where and recognise(catalog.FAMILIES, network) is not None:
            return stored, network  # in origin.layout, which an option may have chosen
    raise GanatomyError(f"{origin.path} no longer holds the generator")
