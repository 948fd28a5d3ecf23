"""Looking again: a face that is small in a picture is found, and seen once more from nearby."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..base import resize_images
from ..pixels import unit_images
from ..smp import SmpSegmenter
from .face import FILLING, Face, Roles, best_face, fills
from .frame import Frame
from .person import one_person, without_face

SURVEYS = (256, 512)  # pixels a side at which the whole picture is searched, if it shows no face at the usual size
FINEST = 2  # times the picture's own pixels: a finer survey shows nothing new
# Likeness, from nearby, from which on it is a face: 98% of 359 pasted ones have it, and 232 pictures without a face
# stayed as they were.
LIKE = 0.6
NEARER = 3  # looks at most, to bring a face into its frame
MOVED, GROWN = 0.04, 0.09  # sides, and logarithm, by which a frame changes that is good enough
ROOM = 1.1  # frames: what is seen from nearby is a little more than the frame
WIDER = 1.85  # times as wide as the one before is every further look, until the whole picture is seen
METHOD = ("looking again", 1, SURVEYS, FINEST, LIKE, NEARER, MOVED, GROWN, ROOM, WIDER, FILLING)
"""What determines labels beside the network; the number is to grow with any other change that changes a label."""


class LookingSegmenter(SmpSegmenter):
    """A segmenter of faces that looks again where the face is small.

    The whole picture is looked at first. If one face fills it, that is all. Otherwise the face is searched for, also
    in finer views of the whole picture; if there is one, and it is small, the map is made of several looks that have
    the face in their middle: the widest holds the whole picture, the narrowest little more than the head. Only there
    is skin a face's; what is not joined to this person is background. If there is none, the first look stands.

    Every picture is looked at again by itself, so its labels do not depend on the rest of its batch. Concepts must be
    those of ``face-parts``.
    """

    def __init__(self, source: str | Path, device: str | torch.device = "cpu", name: str | None = None) -> None:
        super().__init__(source, device, name)
        self.sha256 = hashlib.sha256(f"{self.sha256}\0{METHOD!r}".encode()).hexdigest()
        self.roles = Roles.of(self.concepts)

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Label images [N, 3, H, W]: int16 [N, 1, h, w] with (h, w) the input size; ``keys`` are not used."""
        parts = []
        for chunk in images.split(self._chunk()):
            logits = self._logits(chunk)
            labels = self._labels_of(logits)
            for index, seen in self._again(chunk, logits, labels):
                labels[index, 0] = seen.argmax(0)
            parts.append(labels)
        return torch.cat(parts).to(images.device)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return float32 [N, C, h, w] in [0, 1]: channel c is the probability of ``concepts[c]``, summing to 1.

        Images that ask for gradients get those of the first look alone: where to look again is no smooth function of
        the picture. So theirs differ from the others' where a face is small.
        """
        if images.requires_grad and torch.is_grad_enabled():
            return super().probabilities(images)
        with torch.no_grad():
            return self._probabilities(images)

    def _probabilities(self, images: Tensor) -> Tensor:
        self._check_images(images)
        parts = []
        for chunk in images.split(self._chunk()):
            logits = self._logits(chunk)
            probabilities = self._probabilities_of(logits)
            for index, seen in self._again(chunk, logits, self._labels_of(logits)):
                probabilities[index] = seen
            parts.append(probabilities)
        return torch.cat(parts).to(images.device)

    def _again(self, images: Tensor, logits: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield index and probabilities [C, h, w] of every image of which a second look says more than the first."""
        for index in torch.nonzero(~fills(labels[:, 0], self.roles)).flatten().tolist():
            picture = unit_images(images[index : index + 1].to(self._device), self.name)
            frame = self._find(picture, labels[index, 0])
            if frame and _is_small(frame, picture):
                yield index, self._compose(picture, frame).to(labels.device)

    def _find(self, picture: Tensor, first: Tensor) -> Frame | None:
        """Return the frame of the face in a picture [1, 3, H, W], in its pixels; None if there is none."""
        for labels in self._views(picture, first):
            face = best_face(labels.cpu().numpy(), self.roles)
            if face is None:
                continue
            frame = _in_picture(face, labels, picture)
            if face.likeness >= LIKE and not _is_small(frame, picture):
                return frame  # it fills the picture after all
            if nearer := self._approach(picture, frame):
                return nearer
        return None

    def _views(self, picture: Tensor, first: Tensor) -> Iterator[Tensor]:
        """Yield labels [h, w] of the whole picture: those of the first look, then finer ones."""
        yield first
        height, width = picture.shape[-2:]
        for side in SURVEYS:
            if side <= FINEST * min(height, width):
                stretch = math.sqrt(height / width)
                sides = (max(1, round(side * v / self.stride)) * self.stride for v in (stretch, 1 / stretch))
                yield self._look(resize_images(picture, *sides))

    def _approach(self, picture: Tensor, frame: Frame) -> Frame | None:
        """Return the frame of the face that a first guess is near to; None if from nearby it is no face."""
        likeness = 0.0
        for _ in range(NEARER):
            cut = frame.scaled(ROOM).cut(picture, self._size)
            face = best_face(self._look(cut.pixels).cpu().numpy(), self.roles)
            if face is None:
                return None
            likeness = face.likeness
            before, frame = frame, cut.frame(face.x, face.y, face.side)
            moved = max(abs(frame.x - before.x), abs(frame.y - before.y)) / before.side
            if moved <= MOVED and abs(math.log(frame.side / before.side)) <= GROWN:
                break
        return frame if likeness >= LIKE else None

    def _compose(self, picture: Tensor, frame: Frame) -> Tensor:
        """Return probabilities [C, h, w] of a picture in which a face has a certain frame, on the CPU."""
        height, width = picture.shape[-2:]
        frames = [frame.scaled(ROOM)]
        while not frames[-1].holds(height, width):
            frames.append(frames[-1].scaled(WIDER))
        cuts = [each.cut(picture, self._size) for each in frames]
        seen = self._probabilities_of(self._logits_at(torch.cat([cut.pixels for cut in cuts]))).cpu()
        whole = torch.zeros(len(self.concepts), *self.sidecar.input_size)
        for cut, look in zip(reversed(cuts), seen.flip(0), strict=True):
            whole = cut.paint(look, without_face(whole, self.roles))
        cell = math.sqrt(height * width / whole[0].numel())
        return one_person(whole, self.roles, frame.side / cell)

    def _look(self, pixels: Tensor) -> Tensor:
        """Return labels [h, w] of pixels [1, 3, h, w] in [0, 1]."""
        return self._labels_of(self._logits_at(pixels))[0, 0]

    @property
    def _size(self) -> int:
        return self.sidecar.input_size[0]


def _is_small(frame: Frame, picture: Tensor) -> bool:
    return frame.side < FILLING * math.sqrt(picture.shape[-2] * picture.shape[-1])


def _in_picture(face: Face, labels: Tensor, picture: Tensor) -> Frame:
    """Return a face's frame in pixels of the picture, from one in pixels of labels [h, w] of it."""
    down, across = (picture.shape[i] / labels.shape[i] for i in (-2, -1))
    return Frame(face.x * across, face.y * down, face.side * math.sqrt(across * down))
