"""Finding the weights that a run was made of, and keeping the generators that are open.

A run says how its generator was called; it may come from a stranger by mail. So its name is looked up, never run and
never fetched: in the catalogue, among the weights that were named when the dashboard was started, and among the files
that lie beside the run. What is found must have the run's fingerprint.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dissect
from dissect import Generator, Run
from dissect.generators import catalog
from segmodels import GanatomyError, fetch
from segmodels.errors import unknown_name

GENERATORS_KEPT = 3  # open at once
PLANTED = "planted"
CODE = re.compile(r"[\w.]+:\w+")  # package.module:factory
NOT_WEIGHTS = {".h5", ".json", ".jpg", ".jpeg", ".png", ".svg", ".pdf", ".html", ".csv", ".txt", ".md", ".tmp"}

Loader = Callable[..., Generator]


class Weights:
    """The generators that can be opened here. Opening takes seconds and memory: only the worker's thread does it.

    Args:
        named: names or paths of weights given when the dashboard was started; these are trusted.
        device: where generators run.
        load: opens one, as :func:`dissect.load`.
        naming: how people name weights that are elsewhere.
    """

    def __init__(
        self,
        named: Iterable[str] = (),
        device: str = "cpu",
        load: Loader = dissect.load,
        naming: str = "name it with --weights FILE",
    ) -> None:
        self.named, self.device, self.naming = tuple(named), device, naming
        self._load = load
        self._open: OrderedDict[str, Generator] = OrderedDict()
        self._found: dict[str, str] = {}  # run id -> source with its fingerprint
        self._missing: dict[str, tuple[Any, str]] = {}  # run id -> what was there to look at, and why it did not do
        self._lock = threading.RLock()

    def open(self, source: str) -> Generator:
        """Return the generator of a source, open already or opened now; GanatomyError if it cannot be."""
        with self._lock:
            if source not in self._open:
                while len(self._open) >= GENERATORS_KEPT:
                    self._open.popitem(last=False)
                self._open[source] = self._load(source, self.device)
            self._open.move_to_end(source)
            return self._open[source]

    def reason(self, run: Run) -> str:
        """Say in a line why a run's weights cannot be had, "" if they may be; quick, opens nothing."""
        if run.id in self._found:
            return ""
        try:
            sources = self._sources(run)
        except GanatomyError as error:
            return str(error)
        looked, why = self._missing.get(run.id, (None, ""))
        return why if looked == sources else ""

    def of(self, run: Run) -> Generator:
        """Return the generator that a run was made of.

        Raises:
            GanatomyError: if it cannot be found, or what goes by its name has another fingerprint.
        """
        if run.id in self._found:
            return self.open(self._found[run.id])
        sources = self._sources(run)
        wanted, reasons = str(run.manifest["generator"]["fingerprint"]), []
        for source in sources:
            try:
                generator = self.open(source)
            except GanatomyError as error:
                reasons.append(str(error))
                continue
            if generator.fingerprint == wanted:
                self._found[run.id] = source
                return generator
            reasons.append(
                f"{Path(source).name} here is not what was dissected (fingerprint {generator.fingerprint[:8]}…, "
                f"the run's is {wanted[:8]}…)"
            )
        why = "; ".join(reasons)
        self._missing[run.id] = (sources, why)
        raise GanatomyError(why)

    def called(self, run: Run) -> str:
        """Return the name of what :meth:`of` has found, as a command line in its folder takes it; no path of it."""
        source = self._found.get(run.id, str(run.manifest["generator"]["name"]))
        return Path(source).name if Path(source).exists() else source

    def _sources(self, run: Run) -> list[str]:
        """Return what may be the run's generator, the likeliest first; GanatomyError if there is nothing."""
        name = str(run.manifest["generator"]["name"])
        if "pictures_sha256" in run.manifest["samples"]:
            raise GanatomyError("this run is of pictures, and has no generator that could draw others")
        if not run.manifest["generator"]["fingerprint"]:
            raise GanatomyError(f"the run does not say which weights of {name} it was made of")
        named = sorted(self.named, key=lambda source: source != name and Path(source).stem != name)
        beside = [str(path) for path in self.beside(run.path.parent) if name in (path.name, path.stem)]
        if named or beside:
            return [*named, *beside, *([name] if _is_here(name) else [])]
        if _is_here(name):
            return [name]
        entry = _entry(name)
        if entry is not None and entry.source is not None and not fetch.is_cached(entry.source):
            raise GanatomyError(f"its generator is not here; `ganatomy generators fetch {name}` brings it")
        if entry is not None:
            raise GanatomyError(f"the licence of {name} has not been accepted here: {entry.licence}")
        if CODE.fullmatch(name):
            raise GanatomyError(
                f"its generator ({name}) is not here: it is code, which is not run unasked; {self.naming}"
            )
        raise GanatomyError(f"its generator ({name}) is not here; put its file beside the run, or {self.naming}")

    @staticmethod
    def beside(folder: Path) -> list[Path]:
        """Return the files of a folder that may be weights."""
        try:
            found = sorted(folder.iterdir())
        except OSError:
            return []
        return [path for path in found if not (path.suffix.lower() in NOT_WEIGHTS or _is_ours(path.name))]

    def choices(self, folder: Path) -> list[str]:
        """Return what a dissection may be started of: the catalogue, what was named, and files in a folder by name."""
        files = [path.name for path in self.beside(folder) if path.is_file() and path.suffix]
        return list(dict.fromkeys([*self.named, *(entry.name for entry in catalog.entries()), *files]))

    def is_here(self, typed: str, folder: Path) -> bool:
        """Whether a generator that was typed into a page can be opened without fetching or asking anything."""
        try:
            source = self.source_of(typed, folder)
        except GanatomyError:
            return False
        return _entry(source) is None or _is_here(source)

    def source_of(self, typed: str, folder: Path) -> str:
        """Return what to open for a generator that was typed into a page.

        No path from a page leads out of ``folder``, and neither code nor addresses are taken.

        Raises:
            GanatomyError: if it is none of the choices.
        """
        text = typed.strip()
        if text in self.named or _entry(text) is not None or text.startswith(f"{PLANTED}:"):
            return text
        inside = inside_of(folder, text)
        if inside is None:
            raise unknown_name("generator", text, self.choices(folder))
        return str(inside)


def inside_of(folder: Path, name: str) -> Path | None:
    """Return the existing file or folder of a relative name, None if there is none or it is not inside ``folder``."""
    try:
        home = folder.resolve()
        path = (home / name).resolve()
        return path if name and path != home and path.is_relative_to(home) and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a NUL inside, too long, a loop of links
        return None


def _is_ours(name: str) -> bool:
    return name.startswith(".") or name.endswith((".cache.npz", ".partial"))


def _entry(name: str) -> catalog.Entry | None:
    return next((entry for entry in catalog.entries() if entry.name == name), None)


def _is_here(name: str) -> bool:
    """Whether a name of the catalogue can be opened without fetching or asking anything."""
    if name == PLANTED or name.startswith(f"{PLANTED}:"):
        return True
    entry = _entry(name)
    if entry is None or not fetch.is_cached(entry.source):
        return False
    return not entry.ask or name in catalog.accepted()
