"""What the Artifacts page has done: units ranked, and the distance from a reference measured without the worst of them.

Both are jobs of the worker, and their results lie beside the run, where the command line and the report find them.
Whose tags they are is not kept but as a part of what determined a ranking: they come with each question.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

from dissect import Generator, Run, artifacts
from dissect.artifacts import Ranking, Tags
from dissect.artifacts.unlike import features_of
from dissect.effects import add
from dissect.metrics import Drawn, Pictures
from dissect.metrics.extractors import Extractor, load
from dissect.metrics.gaussians import Float64
from segmodels import GanatomyError

from .experiments import LARGEST_SEED
from .library import Library, OpenRun
from .live import Live
from .reports import Report
from .rewriting import sampling_of
from .weights import inside_of
from .worker import Desk, Worker

KIND = "artifacts"
STRATEGIES = {
    "tagged": "units that are on in images tagged broken, and off in fine ones",
    "rare": "units that hardly ever fire, and then strongly (needs a run with --maxima)",
    "unlike": "units whose strongest images are unlike all others (needs a run with --maxima)",
}
FEWEST_TAGS = 3  # of each kind
IMAGES, FEWEST, MOST = 60, 20, 5000
MOST_UNITS = 50


@dataclass(frozen=True)
class Asked:
    """A question of one visitor, known by its token.

    Attributes:
        slug, layer: of the run. strategy: of a ranking, or "" for a curve.
        tags: (seed, whether it is broken). ranking: key of that whose units are taken away.
        reference: name of a folder or zip of pictures beside the runs, "" for the run's own samples.
        images: of the curve. extractor: by name, "" for the best that is here.
    """

    slug: str
    layer: str
    strategy: str = ""
    tags: tuple[tuple[int, bool], ...] = ()
    ranking: str = ""
    reference: str = ""
    images: int = IMAGES
    extractor: str = ""
    token: str = ""


class Suspects:
    """Takes questions on any thread, and answers them on the worker's."""

    def __init__(self, library: Library, live: Live, worker: Worker) -> None:
        self.library, self.live, self.worker = library, live, worker

    def reason(self, run: Run) -> str:
        """Say in a line why nothing of a run can be cleaned here, "" if it may be."""
        try:
            sampling_of(run)
        except GanatomyError as error:
            return str(error)
        return self.live.reason(run)

    def start(self, asked: Asked) -> int:
        """Check a question, put it into the queue, and return the job's number; GanatomyError says what is wrong."""
        opened = self.library.get(asked.slug)
        if reason := self.reason(opened.run):
            raise GanatomyError(reason)
        opened.layer(asked.layer)
        if asked.strategy:
            self._check_ranking(opened, asked)
            work, what = self._rank, f"ranking by {asked.strategy}"
        else:
            self._check_curve(opened, asked)
            work, what = self._curve, f"taking units away, {asked.images} images"
        title = f"{asked.slug}: {what}, {asked.layer}"
        return self.worker.submit(KIND, title, lambda desk: work(opened, asked, desk), details=asked)

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

    def _check_ranking(self, opened: OpenRun, asked: Asked) -> None:
        if asked.strategy not in STRATEGIES:
            raise GanatomyError(f"expected the ranking as one of {', '.join(STRATEGIES)}, got {asked.strategy[:40]!r}")
        broken = sum(kind for _, kind in asked.tags)
        if asked.strategy == "tagged" and min(broken, len(asked.tags) - broken) < FEWEST_TAGS:
            raise GanatomyError(
                f"tag at least {FEWEST_TAGS} images as broken and {FEWEST_TAGS} as fine; these are {broken} and "
                f"{len(asked.tags) - broken}"
            )
        if asked.strategy != "tagged":
            try:
                opened.run.layer(asked.layer).maxima  # noqa: B018 (a run without them is told at once)
            except GanatomyError as error:  # paths are of this machine; a page speaks of names
                raise GanatomyError(str(error).replace(f"{opened.path.parent}/", "")) from error

    def _check_curve(self, opened: OpenRun, asked: Asked) -> None:
        if not FEWEST <= asked.images <= MOST:
            raise GanatomyError(f"expected {FEWEST} to {MOST:,} images, got {asked.images:,}")
        if self.ranking(opened, asked.ranking).layer != asked.layer:
            raise GanatomyError(f"this ranking is of another layer than {asked.layer}; rank again")
        if asked.reference:
            self._folder_of(asked)

    def _folder_of(self, asked: Asked) -> Path:
        inside = inside_of(self.library.folder, asked.reference)
        if inside is None:
            raise GanatomyError(
                f"expected a folder or a zip of pictures beside the runs, there is no {asked.reference[:80]!r}"
            )
        return inside

    # -- on the worker's thread ----------------------------------------------------------------------------

    def _rank(self, opened: OpenRun, asked: Asked, desk: Desk) -> str:
        """Rank, keep the ranking, and return its key."""
        generator = self._generator(opened, desk)
        if asked.strategy == "rare":
            return add(opened.run, artifacts.rare(opened.run, asked.layer))
        sampling = sampling_of(opened.run)
        if asked.strategy == "tagged":
            desk.say("looking at the tagged images")
            seeds = [seed for seed, _ in asked.tags]
            tags = Tags(np.array(seeds, np.int64), np.array([kind for _, kind in asked.tags], bool), {})
            codes = generator.sample(seeds, sampling.classes, sampling.truncation, sampling.cutoff, sampling.noise)
            return add(opened.run, artifacts.tagged(generator, asked.layer, codes, tags))
        extractor = load(asked.extractor or None, str(generator.device))
        images = self._own(opened, generator, extractor, desk)
        return add(opened.run, artifacts.unlike(opened.run, asked.layer, images, None, extractor))

    def _curve(self, opened: OpenRun, asked: Asked, desk: Desk) -> str:
        """Measure the dose curve of a ranking's units, keep it, and return its key."""
        ranking, generator = self.ranking(opened, asked.ranking), self._generator(opened, desk)
        extractor = load(asked.extractor or None, str(generator.device))
        if asked.reference:
            desk.say("looking at the reference")
            pictures = Pictures(self._folder_of(asked), generator.resolution)
            reference, named = features_of(pictures, extractor, progress=desk.progress), asked.reference
        else:
            reference, named = self._own(opened, generator, extractor, desk), "the generator's own samples"
        desk.say("taking units away")
        most = min(len(ranking.top(MOST_UNITS)), generator.layer(asked.layer).channels // 2)
        steps = [step for step in artifacts.cleaning.STEPS if step <= most]
        made = artifacts.curve(
            generator, ranking, unseen(opened.run, ranking, asked.images), reference, extractor, steps=steps,
            named=named, sampling=sampling_of(opened.run), progress=desk.progress,
        )  # fmt: skip
        return add(opened.run, made)

    def _own(self, opened: OpenRun, generator: Generator, extractor: Extractor, desk: Desk) -> Float64:
        desk.say("looking at the run's samples")
        drawn = Drawn(generator, opened.run.seeds.tolist(), sampling=sampling_of(opened.run))
        with torch.no_grad():
            return features_of(drawn, extractor, progress=desk.progress)

    def _generator(self, opened: OpenRun, desk: Desk) -> Generator:
        desk.say("opening the generator")
        generator = self.live.weights.of(opened.run)
        desk.pause()
        return generator


def unseen(run: Run, ranking: Ranking, images: int) -> Sequence[int]:
    """Return seeds after a run's that a ranking's tags do not hold; GanatomyError if there are too few."""
    first, known = int(run.seeds.max()) + 1, set(ranking.facts.get("seeds", ()))
    if first + images + len(known) > LARGEST_SEED:
        raise GanatomyError(f"there are too few seeds after the run's for {images} images")
    return list(islice((seed for seed in count(first) if seed not in known), images))
