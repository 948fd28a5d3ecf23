"""The runs that the dashboard has open, by short names for addresses; and the files that cannot be opened."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from dissect import Run
from dissect.derived import TableCache
from dissect.effects.stored import effects_path
from segmodels import GanatomyError
from segmodels.errors import unknown_name

from .causes import LayerCauses
from .facts import sample_namer
from .figures import category_colours
from .masks import Pictures, above, spotlight, thumbnail
from .profiles import LayerProfile, Profile
from .report import SMALL_HEIGHT, SMALL_TILES, TOP_SAMPLES
from .unfinished import Unfinished

PROFILES_KEPT = 256  # of units, about 100 kB each
THUMBS_KEPT = 4096  # 10 kB each
UNFIT = re.compile(r"[^A-Za-z0-9._-]+")  # for an address that people read


@dataclass(frozen=True)
class Unopened:
    """A file that is no finished run (yet).

    Attributes:
        slug, path: as of a run. message: one line, why. done, samples, seconds_left: of a pass that is under way.
    """

    slug: str
    path: Path
    message: str
    done: int | None = None
    samples: int | None = None
    seconds_left: float | None = None

    @property
    def unfinished(self) -> bool:
        """Whether it is being made, or may be resumed, rather than wrong."""
        return self.done is not None


class OpenRun:
    """A finished run with what pages ask for again and again, read once.

    Attributes:
        slug: its name in addresses. run: the numbers. unit: the profile of (layer, unit), kept for a while.
        thumb: the small picture of (layer, unit), kept for a while.
    """

    def __init__(self, slug: str, path: Path) -> None:
        self.slug, self.path = slug, path
        self.stamp = _stamp(path)
        self.run = Run(path)
        self._layers: dict[str, LayerProfile] = {}
        self._causes: dict[str, tuple[tuple[int, int] | None, LayerCauses]] = {}
        self._kept, self._ready = TableCache(path, self.run.id), False
        self.unit = lru_cache(maxsize=PROFILES_KEPT)(self._unit)
        self.thumb = lru_cache(maxsize=THUMBS_KEPT)(self._thumb)
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether its numbers can be read at once: they are in memory, or in the cache beside the file."""
        if not self._ready:
            self._ready = len(self._layers) == len(self.run.layers) or self._kept.holds(self.run.layers)
        return self._ready

    @property
    def title(self) -> str:
        """Generator, segmenter and number of samples."""
        manifest = self.run.manifest
        return f"{manifest['generator']['name']} by {manifest['segmenter']['name']}, {self.run.samples:,} samples"

    @property
    def generator(self) -> str:
        """The generator's name."""
        return str(self.run.manifest["generator"]["name"])

    def layer(self, name: str) -> LayerProfile:
        """Return a layer's profile; GanatomyError with the nearest names if there is no such layer."""
        if name not in self.run.layers:
            raise unknown_name("layer", name, self.run.layers)
        with self._lock:  # its tables may take seconds: two pages at once must not compute them twice
            if name not in self._layers:
                self._layers[name] = LayerProfile(self.run, name)
            return self._layers[name]

    def causes(self, layer: str) -> LayerCauses:
        """Return what is known of what a layer's units cause, read anew when the file of effects has changed."""
        path = effects_path(self.path)
        stamp = _stamp(path)
        with self._lock:
            known = self._causes.get(layer)
            if known is None or known[0] != stamp:
                known = self._causes[layer] = stamp, LayerCauses(self.run, layer)
            return known[1]

    def _unit(self, layer: str, unit: int) -> Profile:
        """Return a unit's profile, its top samples included; GanatomyError if there is no such unit."""
        profile = self.layer(layer)
        if not 0 <= unit < profile.units:
            raise GanatomyError(f"layer {layer!r} has units 0..{profile.units - 1}, got {unit}")
        return next(profile.profiles([unit], TOP_SAMPLES))

    def _thumb(self, layer: str, unit: int) -> bytes:
        """Return a unit's first top samples side by side, bright where it is on, JPEG."""
        profile, pictures = self.unit(layer, unit), self.pictures
        maps, seeds = profile.tops.maps[:SMALL_TILES], profile.tops.seeds[:SMALL_TILES]
        masks = above(maps, profile.activation.threshold, pictures.height, pictures.width)
        return thumbnail(spotlight(pictures.tiles(seeds), masks), SMALL_TILES, SMALL_HEIGHT)

    @property
    def layers(self) -> list[LayerProfile]:
        """All layers, in the run's order."""
        return [self.layer(name) for name in self.run.layers]

    @cached_property
    def encoded(self) -> dict[int, bytes]:
        """The pictures that the run keeps, JPEG by seed."""
        return dict(self.run.thumbnails())

    @cached_property
    def pictures(self) -> Pictures:
        """The same, decoded when asked for."""
        return Pictures(self.encoded)

    @cached_property
    def colours(self) -> dict[str, str]:
        """A colour per category."""
        return category_colours(self.run.concepts)

    @cached_property
    def name_of(self) -> Callable[[int], str]:
        """Names a sample for people."""
        return sample_namer(self.run)


class Library:
    """Runs by slug, safe to use from several threads.

    Attributes:
        folder: where runs that are started from the dashboard go; the first file's.
    """

    def __init__(self, paths: Iterable[Path] = (), folder: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, Path] = {}
        self._runs: dict[str, OpenRun] = {}
        files = [Path(path) for path in paths]
        self.folder = folder or (files[0].parent if files else Path.cwd())
        for path in files:
            self.add(path)

    def add(self, path: Path) -> str:
        """Take a file in, finished or not, and return its slug. A path that is there already keeps its slug."""
        with self._lock:
            for slug, known in self._paths.items():
                if known.resolve() == path.resolve():
                    return slug
            stem = UNFIT.sub("-", path.stem).strip("-.") or "run"
            slug, number = stem, 1
            while slug in self._paths:
                number += 1
                slug = f"{stem}-{number}"
            self._paths[slug] = path
            return slug

    def look(self) -> tuple[list[OpenRun], list[Unopened]]:
        """Return the runs that can be opened now and the files that cannot, in the order in which they were given."""
        runs, others = [], []
        for slug in list(self._paths):
            try:
                runs.append(self.get(slug))
            except GanatomyError as error:
                others.append(self._unopened(slug, str(error)))
        return runs, others

    @property
    def runs(self) -> list[OpenRun]:
        """The runs that can be opened now."""
        return self.look()[0]

    def get(self, slug: str) -> OpenRun:
        """Return a run, opened anew if its file has changed.

        Raises:
            GanatomyError: for an unknown slug, with the nearest; for a file that is unfinished or damaged, one line.
        """
        path = self._paths.get(slug)
        if path is None:
            raise unknown_name("run", slug, self._paths)
        with self._lock:
            known = self._runs.get(slug)
            if known is not None and known.stamp == _stamp(path):
                return known
            self._runs.pop(slug, None)
            opened = self._runs[slug] = OpenRun(slug, path)
            return opened

    def _unopened(self, slug: str, message: str) -> Unopened:
        path = self._paths[slug]
        partial = path.with_name(path.name + ".partial")
        message = message.replace(str(path), path.name)
        if path.exists() or not partial.exists():
            return Unopened(slug, path, message)
        state = Unfinished.of(path)
        said = f"{path.name} is not finished; the same dissect command goes on with it"
        return Unopened(slug, path, said, state.done, state.samples, state.seconds_left)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size
