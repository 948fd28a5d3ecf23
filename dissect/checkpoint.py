"""The folder in which an unfinished pass keeps what it has: ``run.h5.partial/``.

``state.h5`` is replaced now and then, whole or not at all; ``group-NN.h5`` are the block counts of finished jackknife
groups. What is damaged is set aside, never trusted.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from segmodels import GanatomyError
from segmodels.errors import GanatomyWarning

from . import store
from .accumulate import Accumulator
from .parts import Header
from .resample import Float32

STATE = "state.h5"


class Checkpoint:
    """The folder of one pass.

    Attributes:
        folder: where it is, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether a pass has written something here that can be resumed."""
        return (self.folder / STATE).is_file()

    def header(self) -> Header | None:
        """Return what the unfinished pass says of itself, or None if there is none.

        One that cannot be read is set aside. GanatomyError if the place is taken by something else.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise GanatomyError(
                f"{self.folder} is a file, perhaps of an older version; remove it, or choose another output"
            )
        if not self.exists:
            return None
        try:
            return Header.of(store.Reader(self.folder / STATE, store.PART))
        except (GanatomyError, KeyError, ValueError) as error:
            self.set_aside(error)
            return None

    def layers(self) -> list[str]:
        """Return the layers of the unfinished pass."""
        reader = store.Reader(self.folder / STATE, store.PART)
        return [name for name in reader.json("manifest")["layers"] if f"state/{name}/levels" in reader]

    def levels(self, layers: list[str]) -> dict[str, Float32] | None:
        """Return the levels of layers, or None, with the folder set aside, if they cannot be read."""
        try:
            reader = store.Reader(self.folder / STATE, store.PART)
            return {name: reader.read(f"state/{name}/levels") for name in layers}
        except GanatomyError as error:
            self.set_aside(error)
            return None

    def restore(self, accumulator: Accumulator, header: Header) -> bool:
        """Fill an accumulator; False, with the folder set aside, if a checksum fails or something is missing."""
        try:
            reader = store.Reader(self.folder / STATE, store.PART)
            reader.each(lambda name, array: None)
            accumulator.slabs.restore(_finished_groups(accumulator, header.next))
            accumulator.restore(reader.read, header.next)
        except (GanatomyError, ValueError) as error:
            self.set_aside(error)
            return False
        return True

    def save(self, accumulator: Accumulator, header: Header) -> None:
        """Write the state of the finished atoms. GanatomyError, with the earlier state still there, if it cannot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        accumulator.slabs.spill()
        arrays = accumulator.arrays().items()
        store.write(self.folder / STATE, header.attributes(), arrays, store.PART, compress=False)

    def set_aside(self, error: Exception) -> None:
        """Rename the folder, which is damaged, and say so."""
        set_aside(self.folder, error)

    def remove(self) -> None:
        """Remove the folder, or a file of an older version in its place."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)  # several ranks may tidy at once
        self.folder.unlink(missing_ok=True)


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged file or folder, and say so."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    warnings.warn(f"{error}; set aside as {aside.name}, its samples are counted again", GanatomyWarning, stacklevel=2)


def _finished_groups(accumulator: Accumulator, following: int) -> list[int]:
    plan, atoms = accumulator.plan, accumulator.atoms
    groups = {plan.group(atom) for atom in range(atoms.start, following)}
    if following < atoms.stop:
        groups.discard(plan.group(following))
    return sorted(groups)
