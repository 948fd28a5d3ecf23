"""Labelling folders of pictures with the teacher; what is labelled already is not labelled again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import GanatomyError
from ...fetch import fetch
from ...files import read_json
from .labels import CLASSES, RULES, SIDE, label_map
from .pictures import path_of
from .recipe import TEACHER
from .teacher import Teacher, importable

CONFIDENCES = "confidences.json"
TOGETHER = 64  # pictures between two notes of what is done

_teacher: Teacher | None = None  # of a worker process


def check() -> None:
    """Raise GanatomyError if the teacher cannot be had, before hours have gone into pictures."""
    importable()
    fetch(TEACHER)


def label_folder(
    pictures: Path, seeds: range, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[int, float]:
    """Label the pictures of seeds and return how sure the teacher was of a face in each.

    The folder can be used as ``masks:FOLDER``: pixel value i is class i - 1 of :data:`~.labels.CLASSES`.

    Raises:
        GanatomyError: if the folder holds labels of another teacher or other rules, or a worker process ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "concepts.json").write_text(json.dumps(list(CLASSES)), encoding="utf-8")
    note = folder / CONFIDENCES
    origin = {"teacher": TEACHER.sha256, "rules": RULES}
    noted: Any = read_json(note) if note.exists() else origin | {"confidences": {}}
    if not isinstance(noted, dict) or any(noted.get(key) != value for key, value in origin.items()):
        raise GanatomyError(f"{folder} holds labels of another teacher or other rules; remove it")
    known = {int(seed): float(confidence) for seed, confidence in noted["confidences"].items()}
    missing = [seed for seed in seeds if seed not in known]
    if missing:
        tasks = [(path_of(pictures, seed), path_of(folder, seed)) for seed in missing]
        done = len(seeds) - len(missing)
        try:
            with ProcessPoolExecutor(os.cpu_count(), initializer=_begin, initargs=(fetch(TEACHER),)) as pool:
                for start in range(0, len(tasks), TOGETHER):
                    part = tasks[start : start + TOGETHER]
                    known |= zip(missing[start : start + TOGETHER], pool.map(_label, part, chunksize=8), strict=True)
                    _replace(note, json.dumps(origin | {"confidences": known}))
                    progress(done + start + len(part), len(seeds))
        except BrokenProcessPool as error:
            raise GanatomyError("a process that labels pictures has ended; is there enough memory?") from error
    return {seed: known[seed] for seed in seeds}


def _begin(models: Path) -> None:
    global _teacher
    files = [models / name for name, _ in TEACHER.members]
    _teacher = Teacher(*files)


def _label(task: tuple[Path, Path]) -> float:
    source, target = task
    assert _teacher is not None
    picture = np.asarray(Image.open(source).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    face = _teacher.face(picture)
    labels = label_map(picture, face.points, _teacher.person(picture))
    Image.fromarray(labels + 1).save(target)
    return face.confidence


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
