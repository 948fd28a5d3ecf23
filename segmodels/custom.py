"""Segmenters that users write: ``package.module:factory``, called without arguments."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Concept, Segmenter
from .errors import GanatomyError
from .files import one_line

FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class Custom(Segmenter):
    """Any object with ``concepts`` that can be called on images, as a segmenter.

    ``target.concepts`` is a list of names or of :class:`Concept`, whose item i is what label i means; item 0 is
    "unlabelled". ``target(images, keys)`` or ``target(images)`` returns integer labels [N, K, h, w], or [N, h, w]
    where there is one plane, as a tensor or an array. ``target.probabilities(images)``, if there is such a method,
    returns float32 [N, C, h, w]; gradients flow if its own arithmetic is torch's.
    """

    def __init__(self, target: Any, name: str) -> None:
        listed = getattr(target, "concepts", None)
        if isinstance(listed, str) or not isinstance(listed, Sequence) or not callable(target):
            raise GanatomyError(
                f"segmenter {name!r}: expected a Segmenter, or an object with a list .concepts that can be called on"
                f" images, got {type(target).__name__}"
            )
        if wrong := [item for item in listed if not isinstance(item, str | Concept)]:
            raise GanatomyError(f"segmenter {name!r}: .concepts must hold names or Concepts, got {wrong[0]!r}")
        concepts = [Concept(item) if isinstance(item, str) else item for item in listed]
        super().__init__(name, concepts, _fingerprint(target, name, concepts))
        self.target = target
        self._takes_keys = _positional(target) >= 2

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Return what the object says about ``images``, [N, K, h, w]; its exceptions become one GanatomyError."""
        with self._saying():
            labels: Any = self.target(images, keys) if self._takes_keys else self.target(images)
        if isinstance(labels, np.ndarray):
            labels = torch.from_numpy(np.ascontiguousarray(labels))
        return labels[:, None] if isinstance(labels, Tensor) and labels.ndim == 3 else labels

    def probabilities(self, images: Tensor) -> Tensor:
        """Return what the object says, float32 [N, C, h, w]; GanatomyError if it has none or returns something else."""
        if not callable(getattr(self.target, "probabilities", None)):
            return super().probabilities(images)
        self._check_images(images)
        with self._saying():
            soft: Any = self.target.probabilities(images)
        soft = torch.from_numpy(soft) if isinstance(soft, np.ndarray) else soft
        wanted = (len(images), len(self.concepts))
        if not isinstance(soft, Tensor) or soft.ndim != 4 or soft.shape[:2] != wanted or not soft.is_floating_point():
            given = list(soft.shape) if isinstance(soft, Tensor) else type(soft).__name__
            shape = f"[{wanted[0]}, {wanted[1]}, h, w]"
            raise GanatomyError(f"segmenter {self.name!r}: expected probabilities, numbers {shape}, got {given}")
        return soft.float()

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        """Make one GanatomyError of whatever a stranger's code raises."""
        try:
            yield
        except GanatomyError:
            raise
        except Exception as error:
            raise GanatomyError(f"segmenter {self.name!r} failed: {_said(error)}") from error


def load_custom(source: str) -> Segmenter:
    """Import ``package.module:factory``, call the factory, and return its segmenter, wrapped if need be.

    The current working directory may hold the package; what is installed has precedence. Raises GanatomyError, in one
    line, for whatever goes wrong in the user's code.
    """
    module_name, _, attribute = source.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)  # and left there: the user's code may import its neighbours later
    try:
        importlib.invalidate_caches()
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
        made = factory()
    except GanatomyError:
        raise
    except Exception as error:
        raise GanatomyError(f"segmenter {source!r} cannot be made: {_said(error)}") from error
    return adapt(made, source)


def adapt(made: Any, name: str) -> Segmenter:
    """Return a Segmenter as it is, anything else wrapped in :class:`Custom`."""
    return made if isinstance(made, Segmenter) else Custom(made, name)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _positional(target: Any) -> int:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have none
        return 1
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _fingerprint(target: Any, name: str, concepts: Sequence[Concept]) -> str:
    """Return the object's own ``sha256``, else a hash of name, concepts and the file that its class is written in."""
    own = getattr(target, "sha256", None)
    if isinstance(own, str) and own:
        return own
    digest = hashlib.sha256(repr((name, concepts)).encode())
    with contextlib.suppress(OSError, TypeError):  # written in a notebook or in C: nothing more is known of it
        digest.update(Path(inspect.getfile(type(target))).read_bytes())
    return digest.hexdigest()
