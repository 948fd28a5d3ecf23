"""What the Artifacts page has done: units ranked, how many to take away, and what is taken away proved and packed.

All are jobs of the worker. Rankings and curves lie beside the run, where the command line and the report find them.
Whose tags they are is not kept but as a part of what determined a ranking: they come with each question.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dissect
from dissect import Generator, Recipe, Run, artifacts
from dissect.artifacts import Curve, Ranking, Tags
from dissect.artifacts.unlike import features_of
from dissect.effects import add
from dissect.metrics import Drawn, Pictures
from dissect.metrics.extractors import Extractor, load
from dissect.metrics.gaussians import Float64
from segmodels import GanatomyError

from .cleaned import Cleaning
from .cleaned_folder import write_folder
from .experiments import Setting
from .exports import Exports
from .library import UNFIT, Library, OpenRun
from .live import Live
from .orders import Orders
from .proof import Seeds, chosen_on, proved, units_of, unseen
from .redrawn import drawn_anew, how_drawn
from .reports import Report
from .tagging import FEWEST_TAGS, Tagged
from .weights import inside_of
from .worker import Desk, Worker

KIND = "artifacts"
RANK, CURVE, PROVE = "rank", "curve", "prove"
STRATEGIES = {
    "tagged": "units that are on in images tagged broken, and off in fine ones",
    "defect": "units that are on where broken images are marked, and off elsewhere in them",
    "rare": "units that hardly ever fire, and then strongly (needs a run with --maxima)",
    "unlike": "units whose strongest images are unlike all others (needs a run with --maxima)",
}
IMAGES, FEWEST, MOST = 60, 20, 5000
MOST_UNITS = 50


@dataclass(frozen=True)
class Asked:
    """A question of one visitor, known by its token.

    Attributes:
        what: ``rank``, ``curve`` or ``prove``.
        slug, layer: of the run. strategy: of a ranking.
        tags: what the visitor has tagged. ranking: key of that whose units are taken away.
        units: that are taken away and proved. curve: key of that by which their number was chosen, "" for none.
        reference: name of a folder or zip of pictures beside the runs, "" for the run's own samples.
        images: of a curve or a proof. extractor: by name, "" for the best that is here.
    """

    what: str
    slug: str
    layer: str
    strategy: str = ""
    tags: Tagged = field(default_factory=Tagged)
    ranking: str = ""
    units: tuple[int, ...] = ()
    curve: str = ""
    reference: str = ""
    images: int = IMAGES
    extractor: str = ""
    token: str = ""


class Suspects:
    """Takes questions on any thread, and answers them on the worker's."""

    def __init__(self, library: Library, orders: Orders, live: Live, worker: Worker, exports: Exports) -> None:
        self.library, self.orders, self.live, self.worker, self.exports = library, orders, live, worker, exports
        self._does = {RANK: self._rank, CURVE: self._curve, PROVE: self._prove}

    def reason(self, run: Run) -> str:
        """Say in a line why nothing of a run can be cleaned here, "" if it may be."""
        try:
            drawn_anew(run)
        except GanatomyError as error:
            return str(error)
        return self.live.reason(run)

    def start(self, asked: Asked) -> int:
        """Check a question, put it into the queue, and return the job's number; GanatomyError says what is wrong."""
        opened = self.library.get(asked.slug)
        if reason := self.reason(opened.run):
            raise GanatomyError(reason)
        opened.layer(asked.layer)
        check, title = {
            RANK: (self._check_ranking, f"ranking by {asked.strategy}"),
            CURVE: (self._check_distance, f"taking units away, {asked.images} images"),
            PROVE: (self._check_proof, f"proving {len(asked.units)} units taken away, {asked.images} images"),
        }[asked.what]
        check(opened, asked)

        def work(desk: Desk) -> Any:
            desk.say("opening the generator")
            generator = self.live.weights.of(opened.run)
            desk.pause()
            try:
                return self._does[asked.what](opened, generator, asked, desk)
            except GanatomyError as error:  # paths are of this machine; a page speaks of names
                told = str(error)
                for folder in (opened.path.parent, self.library.folder, self.library.folder.resolve()):
                    told = told.replace(f"{folder}/", "")
                raise GanatomyError(told) from error

        return self.worker.submit(KIND, f"{asked.slug}: {title}, {asked.layer}", work, details=asked)

    def report(self, number: int, token: str) -> Report:
        """Return how a visitor's job stands; GanatomyError if it is another's, or not known (any more)."""
        report = self.worker.report(number)
        if not isinstance(report.details, Asked) or not secrets.compare_digest(report.details.token, token):
            raise GanatomyError(f"there is no job {number} (any more)")
        return report

    def ranking(self, opened: OpenRun, key: str) -> Ranking:
        """Return a ranking that is kept beside a run; GanatomyError if there is none of that key."""
        found = opened.run.effects
        if key not in found or found.kind(key) != Ranking.kind:
            raise GanatomyError("this ranking is not beside the run any more; rank again")
        ranking: Ranking = found[key]
        return ranking

    def earlier(self, opened: OpenRun) -> dict[str, str]:
        """Return the rankings that are kept beside a run, the latest first: what each is, by key."""
        found = opened.run.effects
        keys = [key for key in found if found.kind(key) == Ranking.kind]
        return {key: _called(found.header(key)) for key in reversed(keys)}

    def curve_of(self, opened: OpenRun, ranking: str) -> str:
        """Return the key of the latest curve of a ranking, "" if there is none."""
        return next(reversed(self._curves(opened, ranking)), "")

    def _curves(self, opened: OpenRun, ranking: str) -> list[str]:
        """Return the keys of all curves of a ranking, the latest last."""
        found = opened.run.effects
        return [key for key in found if found.kind(key) == Curve.kind and found.header(key).get("ranking") == ranking]

    def _check_ranking(self, opened: OpenRun, asked: Asked) -> None:
        if asked.strategy not in STRATEGIES:
            raise GanatomyError(f"expected the ranking as one of {', '.join(STRATEGIES)}, got {asked.strategy[:40]!r}")
        if asked.strategy == "tagged" and min(asked.tags.broken, asked.tags.fine) < FEWEST_TAGS:
            raise GanatomyError(
                f"tag at least {FEWEST_TAGS} images as broken and {FEWEST_TAGS} as fine; these are "
                f"{asked.tags.broken} and {asked.tags.fine}"
            )
        if asked.strategy == "defect" and len(asked.tags.regions) < FEWEST_TAGS:
            raise GanatomyError(
                f"mark in at least {FEWEST_TAGS} broken images where they are broken; these are "
                f"{len(asked.tags.regions)}"
            )
        if asked.strategy in ("rare", "unlike"):
            try:
                opened.run.layer(asked.layer).maxima  # noqa: B018 (a run without them is told at once)
            except GanatomyError as error:  # paths are of this machine; a page speaks of names
                raise GanatomyError(str(error).replace(f"{opened.path.parent}/", "")) from error

    def _check_distance(self, opened: OpenRun, asked: Asked) -> None:
        if not FEWEST <= asked.images <= MOST:
            raise GanatomyError(f"expected {FEWEST} to {MOST:,} images, got {asked.images:,}")
        if self.ranking(opened, asked.ranking).layer != asked.layer:
            raise GanatomyError(f"this ranking is of another layer than {asked.layer}; rank again")
        if asked.reference:
            self._folder_of(asked)

    def _check_proof(self, opened: OpenRun, asked: Asked) -> None:
        self._check_distance(opened, asked)
        channels = opened.layer(asked.layer).units
        if not asked.units or len(asked.units) > channels // 2 or not set(asked.units) <= set(range(channels)):
            raise GanatomyError(f"expected 1 to {channels // 2} units of {asked.layer}, got {len(asked.units)}")

    def _folder_of(self, asked: Asked) -> Path:
        inside = inside_of(self.library.folder, asked.reference)
        if inside is None:
            raise GanatomyError(
                f"expected a folder or a zip of pictures beside the runs, there is no {asked.reference[:80]!r}"
            )
        return inside

    # -- on the worker's thread ----------------------------------------------------------------------------

    def _rank(self, opened: OpenRun, generator: Generator, asked: Asked, desk: Desk) -> str:
        """Rank, keep the ranking, and return its key."""
        if asked.strategy == "rare":
            return add(opened.run, artifacts.rare(opened.run, asked.layer))
        if asked.strategy in ("tagged", "defect"):
            desk.say("looking at the tagged images")
            return add(opened.run, _by_tags(opened.run, generator, asked))
        extractor = load(asked.extractor or None, str(generator.device))
        images = self._own(opened, generator, extractor, desk)
        return add(opened.run, artifacts.unlike(opened.run, asked.layer, images, None, extractor))

    def _curve(self, opened: OpenRun, generator: Generator, asked: Asked, desk: Desk) -> str:
        """Measure the dose curve of a ranking's units, keep it, and return its key."""
        ranking, extractor = self.ranking(opened, asked.ranking), load(asked.extractor or None, str(generator.device))
        reference, named = self._reference(opened, generator, asked, extractor, desk)
        desk.say("taking units away")
        most = min(len(ranking.top(MOST_UNITS)), generator.layer(asked.layer).channels // 2)
        steps = [step for step in artifacts.cleaning.STEPS if step <= most]
        made = artifacts.curve(
            generator, ranking, unseen(opened.run, ranking, asked.images), reference, extractor, steps=steps,
            named=named, sampling=drawn_anew(opened.run), progress=desk.progress,
        )  # fmt: skip
        return add(opened.run, made)

    def _prove(self, opened: OpenRun, generator: Generator, asked: Asked, desk: Desk) -> dict[str, Any]:
        """Measure what taking the units away does, and pack it with the cleaned file; the token that it is fetched by.

        Images are neither those that the ranking saw, nor those by which the number was chosen.
        """
        run, ranking = opened.run, self.ranking(opened, asked.ranking)
        curves = {key: opened.run.effects[key] for key in self._curves(opened, asked.ranking)}
        extractor = load(asked.extractor or None, str(generator.device))
        target, named = self._reference(opened, generator, asked, extractor, desk)
        desk.say("opening the segmenter")
        eyes, known = self.orders.segmenter_of(run), chosen_on(run, ranking, curves.values())
        seeds = Seeds.after(range(int(run.seeds.max()) + 1, int(run.seeds.max()) + 1 + asked.images), known)
        ground = Setting(run, generator, eyes, seeds.prove, how_drawn(run), True)
        recipe = Recipe([dissect.ablate(asked.layer, list(asked.units))], generator)

        @contextmanager
        def watch(what: str) -> Iterator[Any]:
            desk.say(what)
            yield desk.progress

        proof = proved(ground, seeds, recipe, target, extractor, watch)
        made = Cleaning(
            generator.name, (asked.layer,), units_of(recipe), ranking.strategy, curves.get(asked.curve), proof.scores,
            proof.effect, f"{named}, {len(target)} images",
        )  # fmt: skip
        desk.say("writing and comparing")
        token = secrets.token_urlsafe(18)
        with self.exports.made(token) as room:
            folder = room / f"{UNFIT.sub('-', opened.slug)}-clean"
            folder.mkdir()
            write_folder(folder, ground, seeds, made, recipe, proof)
        return {"file": token, "name": self.exports.file(token).name}

    def _reference(
        self, opened: OpenRun, generator: Generator, asked: Asked, extractor: Extractor, desk: Desk
    ) -> tuple[Float64, str]:
        """Return features [M, D] of what images are compared with, and what that is."""
        if not asked.reference:
            return self._own(opened, generator, extractor, desk), "the generator's own samples"
        desk.say("looking at the reference")
        pictures = Pictures(self._folder_of(asked), generator.resolution)
        return features_of(pictures, extractor, progress=desk.progress), asked.reference

    def _own(self, opened: OpenRun, generator: Generator, extractor: Extractor, desk: Desk) -> Float64:
        desk.say("looking at the run's samples")
        drawn = Drawn(generator, opened.run.seeds.tolist(), sampling=drawn_anew(opened.run))
        with torch.no_grad():
            return features_of(drawn, extractor, progress=desk.progress)


def _by_tags(run: Run, generator: Generator, asked: Asked) -> Ranking:
    how, tags = how_drawn(run), asked.tags.read()
    if asked.strategy == "tagged":
        codes = generator.sample(tags.seeds.tolist(), **how)
        return artifacts.tagged(generator, asked.layer, codes, Tags(tags.seeds, tags.broken, {}))
    seeds = list(tags.regions)
    regions = np.stack([tags.regions[seed] for seed in seeds])
    codes = generator.sample(seeds, **how)
    # All that were tagged are kept: what is judged later would else have those in it that were found fine.
    return artifacts.defect(generator, asked.layer, codes, regions, source="people", seeds=tags.seeds.tolist())


def _called(facts: Any) -> str:
    """Return what a ranking is, in a few words."""
    of = [f"{facts[name]} {name}" for name in ("broken", "fine") if name in facts]
    if "regions" in facts:
        of = [f"{facts['images']} regions by {facts['regions']}"]
    return f"{facts['layer']}, {facts['strategy']}" + (f": {', '.join(of)}" if of else "")
