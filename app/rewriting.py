"""Rewriting from the browser: looking for what a context means, solving, judging and exporting, as jobs.

What is asked for comes whole with each question: the request, the layer, the edits that are active (by their keys on
the :class:`~app.shelf.Shelf`). A job is known to its visitor by a token, and to nobody else by anything. The memory of
a layer's keys is kept in ``run.memory.h5`` beside the run, where the command line finds it too.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dissect
import rewrite
from dissect import Edit, Generator, Recipe, Run
from dissect.generators.convolutions import convolution_of
from dissect.generators.segments import without
from dissect.samples import Sampling
from rewrite import Memory, Request, RewriteWarning
from rewrite.solve import METHODS
from rewrite.stored import memory_path
from segmodels import GanatomyError, Segmenter

from .exports import Exports
from .library import UNFIT, Library, OpenRun
from .live import Live
from .matched import pictures
from .orders import Orders
from .redrawn import drawn_anew
from .reports import Report
from .rewritten import measures, told
from .seeds import parse_seeds
from .shelf import Shelf, Stack, parse_stack, summary
from .worker import Desk, Worker

KIND = "rewrite"
WHAT = {"match": "looking for matches", "solve": "solving", "judge": "judging", "export": "exporting"}
MOST_RANK, MOST_MEMORY = 20, 4096
MOST_MATCHES, MOST_JUDGED = 24, 1000

Does = Callable[[OpenRun, Generator, tuple[Edit, ...], "Asked", Desk], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """What a job of this room is: a question of one visitor, known by its token."""

    token: str
    what: str


@dataclass(frozen=True, eq=False)
class Asked:
    """A question as it came from a page, checked as far as it can be without the generator.

    Attributes:
        request: what is wanted; None where it is not asked for.
        layer, rank, method: where and how. memory: images whose keys say what is typical.
        stack: the edits that are active. seeds: of images to look at.
        source, target: concepts that a judgement is about; "" for those of the request.
    """

    request: Request | None
    layer: str
    rank: int
    method: str
    memory: int
    stack: Stack
    seeds: tuple[int, ...]
    source: str
    target: str

    @classmethod
    def of(cls, what: str, given: Any) -> Asked:
        """Return the question in JSON that a page sent; GanatomyError says what is wrong with it."""
        if what not in WHAT:
            raise GanatomyError(f"expected one of {', '.join(WHAT)}, got {what[:40]!r}")
        if not isinstance(given, Mapping):
            raise GanatomyError(f"expected a question as a JSON object, got {type(given).__name__}")
        method = str(given.get("method") or "closed")
        if method not in METHODS:
            raise GanatomyError(f"expected the method as one of {', '.join(METHODS)}, got {method[:40]!r}")
        needs = what in ("match", "solve")
        request = Request.of(given.get("request")) if needs else None
        most = MOST_MATCHES if what == "match" else MOST_JUDGED
        seeds = parse_seeds(str(given.get("seeds") or ""), most) if what in ("match", "judge") else ()
        return cls(
            request, str(given.get("layer") or ""), whole(given, "rank", 1, MOST_RANK), method,
            whole(given, "memory", 256, MOST_MEMORY), parse_stack(str(given.get("edits") or "")), tuple(seeds),
            str(given.get("source") or ""), str(given.get("target") or ""),
        )  # fmt: skip


def whole(given: Mapping[str, Any], name: str, usual: int, most: int) -> int:
    """Return a whole number from 1 to ``most`` of a question; GanatomyError if it is none."""
    value = given.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise GanatomyError(f"expected {name} as a whole number from 1 to {most:,}, got {str(value)[:40]!r}")
    return value


class Rewriting:
    """Takes questions, on any thread, and does them on the worker's.

    Attributes:
        shelf: edits by key. exports: checkpoints that wait to be fetched.
    """

    def __init__(self, library: Library, orders: Orders, live: Live, worker: Worker, exports: Exports) -> None:
        self.library, self.orders, self.live, self.worker = library, orders, live, worker
        self.exports = exports
        self.shelf = Shelf()
        self._does: dict[str, Does] = {
            "match": self._match, "solve": self._solve, "judge": self._judge, "export": self._export,
        }  # fmt: skip

    def reason(self, run: Run) -> str:
        """Say in a line why nothing of a run's generator can be rewritten, "" if it may be."""
        try:
            sampling_of(run)
        except GanatomyError as error:
            return str(error)
        return self.live.reason(run)

    def start(self, slug: str, what: str, given: Any) -> str:
        """Check a question, put it into the queue, and return its token.

        Raises:
            Forgotten: if some of its edits have to be brought first.
            GanatomyError: for what is wrong with it.
        """
        asked, opened = Asked.of(what, given), self.library.get(slug)
        if reason := self.reason(opened.run):
            raise GanatomyError(reason)
        edits = self.shelf.edits(asked.stack, opened.run)
        task = Task(secrets.token_urlsafe(18), what)

        def work(desk: Desk) -> dict[str, Any]:
            desk.say("opening the generator")
            generator = self.live.weights.of(opened.run)
            desk.pause()
            try:
                return self._does[what](opened, generator, generator.check_edits(edits), asked, desk)
            except GanatomyError as error:  # paths are of this machine; a page speaks of names
                raise GanatomyError(str(error).replace(f"{opened.path.parent}/", "")) from error

        title = f"{WHAT[what]}: {opened.generator}" + (f", {asked.layer}" if asked.layer else "")
        self.worker.submit(KIND, title, work, details=task)
        return task.token

    def report(self, token: str) -> Report:
        """Return how a job stands; GanatomyError if it is not known (any more)."""
        for report in self.worker.reports():
            if isinstance(report.details, Task) and secrets.compare_digest(report.details.token, token):
                return report
        raise GanatomyError("this job is not known any more; the dashboard was started anew, or has done many since")

    # -- on the worker's thread ----------------------------------------------------------------------------

    def _memory(
        self, opened: OpenRun, generator: Generator, edits: tuple[Edit, ...], asked: Asked, desk: Desk
    ) -> Memory:
        """Return the memory of the asked layer's keys: from the file beside the run, or made and put there.

        One that is made with other edits active serves no other visitor, and is not kept.
        """
        desk.say("reading the layer's keys")
        convolution = convolution_of(generator, asked.layer)
        kind = "patch" if asked.method == "closed" else "channel"
        plain = not without(edits, convolution.weight)
        sampling = asked.request.sampling if asked.request is not None else Sampling()
        (memory,) = rewrite.recall(
            generator, [convolution], range(asked.memory), kind=kind, sampling=sampling, edits=edits,
            path=memory_path(opened.path) if plain else None, progress=desk.progress,
        )  # fmt: skip
        desk.pause()
        return memory

    def _eyes(self, opened: OpenRun, asked: Asked) -> Segmenter | None:
        assert asked.request is not None
        return self.orders.segmenter_of(opened.run) if asked.request.needs_segmenter else None

    def _match(
        self, opened: OpenRun, generator: Generator, edits: tuple[Edit, ...], asked: Asked, desk: Desk
    ) -> dict[str, Any]:
        """Return pictures of how strongly each place of some images is meant by the context."""
        assert asked.request is not None
        memory = self._memory(opened, generator, edits, asked, desk)
        desk.say("looking at images")
        found = rewrite.matches(
            generator, asked.request, asked.layer, asked.seeds, memory, rank=asked.rank,
            segmenter=self._eyes(opened, asked), edits=edits, progress=desk.progress,
        )  # fmt: skip
        studio = self.live.studio(opened.run)
        images = [studio.images([seed], edits)[0] for seed in found.seeds]
        return {
            "seeds": list(found.seeds), "names": [opened.name_of(seed) for seed in found.seeds],
            "pictures": pictures(images, found.shares), "context": found.context,
            "strongest": [float(one.max()) for one in found.shares], "layer": asked.layer,
        }  # fmt: skip

    def _solve(
        self, opened: OpenRun, generator: Generator, edits: tuple[Edit, ...], asked: Asked, desk: Desk
    ) -> dict[str, Any]:
        """Return the key of the edit that does what is asked for, what was attained, and what to be warned of."""
        assert asked.request is not None
        memory = self._memory(opened, generator, edits, asked, desk)
        desk.say("solving")
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", RewriteWarning)
            edit = rewrite.solve(
                generator, asked.request, asked.layer, asked.rank, asked.method, memory=memory,
                segmenter=self._eyes(opened, asked), edits=edits, progress=desk.progress,
            )  # fmt: skip
        recipe = Recipe(edit, generator)
        said = [str(one.message) for one in heard if issubclass(one.category, RewriteWarning)]
        return {"key": self.shelf.put(recipe.data()), "summary": summary(recipe), "warnings": said}

    def _judge(
        self, opened: OpenRun, generator: Generator, edits: tuple[Edit, ...], asked: Asked, desk: Desk
    ) -> dict[str, Any]:
        """Return effect and locality of the active edits on unseen images, beside random edits of their size."""
        desk.say("opening the segmenter")
        segmenter = self.orders.segmenter_of(opened.run)
        desk.say("judging")
        made = rewrite.evaluate(
            generator, segmenter, edits, asked.seeds, asked.source or None, asked.target or None,
            progress=desk.progress,
        )  # fmt: skip
        return {"told": told(made), "rows": measures(made), "left_out": made.facts["left_out"]}

    def _export(
        self, opened: OpenRun, generator: Generator, edits: tuple[Edit, ...], asked: Asked, desk: Desk
    ) -> dict[str, Any]:
        """Bake the active edits into a checkpoint and return the token that it is fetched by, once or more."""
        origin = generator.origin
        if origin is None:
            raise GanatomyError(f"{generator.name} came from no file; export a bundle, which any edit can be part of")
        desk.say("writing and comparing")
        token, name = secrets.token_urlsafe(18), f"{UNFIT.sub('-', generator.name)}-edited{origin.ending}"
        with self.exports.made(token) as folder:
            dissect.export(generator, folder / name, edits, progress=desk.progress)
        return {"file": token, "name": self.exports.file(token).name}


def sampling_of(run: Run) -> Sampling:
    """Return how a run draws codes from seeds.

    Raises:
        GanatomyError: if it does not: it is of given latents, of pictures, or of classes given sample by sample.
    """
    if isinstance(run.manifest["samples"].get("classes"), list):
        raise GanatomyError("this run's classes were given sample by sample; a request names images by their seeds")
    return drawn_anew(run)
