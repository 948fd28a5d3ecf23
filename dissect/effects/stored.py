"""The file ``run.effects.h5`` beside a run: what its units were found to cause, result by result.

Every result is a kind, a header (JSON) and arrays. Adding one writes the whole file anew, the other results included,
and puts it in the old one's place; threads and processes that add at the same time wait for each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from segmodels import GanatomyError

from .. import store
from ..disk import exclusively
from .ace import Ace
from .dose import Dose
from .effect import Effect
from .insertion import InsertionMap
from .sweep import Sweep

if TYPE_CHECKING:
    from ..results import Run

HEADER = "header"  # the dataset that holds it: bytes of JSON, so that it has a checksum and may be long
HOW = ("how", "versions")  # parts of a header that do not say what was asked, but how it was done
DIGITS = 16


class Result(Protocol):
    """What all results are to the file, the command line, the report and the dashboard."""

    kind: ClassVar[str]

    def header(self) -> dict[str, Any]:
        """Return what determined it: JSON."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was measured."""

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what the other two returned."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the table that people read."""


KINDS: dict[str, type[Any]] = {one.kind: one for one in (Effect, Sweep, Dose, Ace, InsertionMap)}


def effects_path(run_path: Path) -> Path:
    """Return where the effects of a run lie."""
    return run_path.with_name(run_path.stem + ".effects.h5")


def key_of(result: Result) -> str:
    """Return under what name a result is kept: its kind and a hash of what determined it, not of how it was done."""
    asked = {name: value for name, value in result.header().items() if name not in HOW}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"{result.kind}-{digest[:DIGITS]}"


class Results(Mapping[str, Any]):
    """The results of one file by key, in the order in which they were added; each is read when it is asked for.

    Attributes:
        path: of the file; there need not be one.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self._reader = store.Reader(path, store.EFFECTS) if path.exists() else None
        self._keys: list[str] = []
        if self._reader is None:
            return
        if (found := self._reader.attributes.get("run")) != run:
            raise GanatomyError(f"{path} belongs to another run ({found}, not {run}); move it away to begin a new one")
        listed = self._reader.json("results")
        if not isinstance(listed, list) or not all(f"results/{key}/{HEADER}" in self._reader for key in listed):
            raise GanatomyError(f"{path} is damaged: what it lists is not there")
        self._keys = [str(key) for key in listed]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __getitem__(self, key: str) -> Any:
        """Return a result; GanatomyError if it is damaged, or of a kind that a newer version made."""
        kind, header = self.kind(key), self.header(key)
        if kind not in KINDS:
            raise GanatomyError(f"{self.path} holds a result of a kind that this ganatomy does not know: {kind}")
        arrays = {name: self._open.read(f"results/{key}/{name}") for name in self._names(key) if name != HEADER}
        try:
            return KINDS[kind].from_stored(header, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise GanatomyError(f"{self.path} is damaged: {key} lacks {error}") from error

    def kind(self, key: str) -> str:
        """Return a result's kind without reading it."""
        if key not in self._keys:
            raise KeyError(key)
        return key.rpartition("-")[0]

    def header(self, key: str) -> dict[str, Any]:
        """Return a result's header without reading its arrays; GanatomyError if it is damaged."""
        if key not in self._keys:
            raise KeyError(key)
        try:
            header = json.loads(self._open.read(f"results/{key}/{HEADER}").tobytes())
        except ValueError as error:
            raise GanatomyError(f"{self.path} is damaged: the header of {key} cannot be read") from error
        if not isinstance(header, dict):
            raise GanatomyError(f"{self.path} is damaged: the header of {key} cannot be read")
        return header

    def of(self, kind: str) -> list[Any]:
        """Return all results of a kind, in the order in which they were added."""
        return [self[key] for key in self if self.kind(key) == kind]

    def stored(self, key: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what the file holds of a result, dataset by dataset."""
        for name in self._names(key):
            yield f"results/{key}/{name}", self._open.read(f"results/{key}/{name}")

    @property
    def _open(self) -> store.Reader:
        assert self._reader is not None  # no key without a file
        return self._reader

    def _names(self, key: str) -> list[str]:
        start = f"results/{key}/"
        return [name.removeprefix(start) for name in self._open.names if name.startswith(start)]


def read(run: Run) -> Results:
    """Return the results that were added to a run, none if there is no file.

    Raises:
        GanatomyError: if the file is none of ours, damaged, of a newer version, or another run's.
    """
    return Results(effects_path(run.path), run.id)


def add(run: Run, result: Result) -> str:
    """Add a result to a run's effects, in the place of one of the same kind and inputs; return its key.

    Raises:
        GanatomyError: as :func:`read`, and then the file is left as it is; if the result is of another generator; if
            the disk is full or the folder cannot be written.
    """
    made = result.header().get("generator", {}).get("fingerprint")
    if made != run.manifest["generator"]["fingerprint"]:
        raise GanatomyError(f"{run.path} is of another generator than the result; it is not added")
    path, key = effects_path(run.path), key_of(result)
    with exclusively(path):
        try:
            known = read(run)
        except GanatomyError as error:
            told = str(error) if "move it away" in str(error) else f"{error}; it is left as it is, move it away"
            raise GanatomyError(told) from error
        keys = [*(other for other in known if other != key), key]

        def arrays() -> Iterator[tuple[str, np.ndarray]]:
            for other in keys[:-1]:
                yield from known.stored(other)
            text = json.dumps(result.header()).encode()
            yield f"results/{key}/{HEADER}", np.frombuffer(text, np.uint8)
            for name, array in result.arrays().items():
                yield f"results/{key}/{name}", np.asarray(array)

        store.write(path, {"run": run.id, "results": keys}, arrays(), store.EFFECTS)
    return key
