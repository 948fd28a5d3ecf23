"""The contract of a segmenter: images in, planes of concept indices out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import GanatomyError

MAX_CONCEPTS = 32_767  # labels are int16


@dataclass(frozen=True)
class Concept:
    """A name that a segmenter can give to a pixel.

    ``category`` groups concepts for people (charts, filters). ``plane`` is the label plane in which the
    concept occurs: every plane labels every pixel, and a concept belongs to exactly one plane.
    """

    name: str
    category: str = ""
    plane: int = 0


UNLABELLED = Concept("unlabelled")
SOFT = ("face-parts", "colors", "planted", "models of segmentation-models-pytorch", "your own with .probabilities")


class Segmenter(ABC):
    """Names the pixels of images.

    A subclass calls ``super().__init__`` and implements :meth:`segment`. People call the object itself,
    which checks what comes back: a wrong label must never become a count.

    Attributes:
        name: what a user types to get this segmenter again.
        concepts: ``concepts[0]`` is "unlabelled"; ``concepts[i]`` is what label ``i`` means.
        sha256: hash of whatever determines the labels (weights and settings), for the manifest of a run.
        concurrent: whether several threads may ask at the same time, in any order; else a pass makes one batch at
            a time.
    """

    concurrent = False

    def __init__(self, name: str, concepts: Sequence[Concept], sha256: str) -> None:
        if not concepts or concepts[0].name != UNLABELLED.name:
            raise GanatomyError(f"segmenter {name!r}: concept 0 must be {UNLABELLED.name!r}")
        if len(concepts) > MAX_CONCEPTS:
            raise GanatomyError(f"segmenter {name!r}: {len(concepts)} concepts, at most {MAX_CONCEPTS} fit in int16")
        repeated = sorted({c.name for c in concepts if [d.name for d in concepts].count(c.name) > 1})
        if repeated:
            raise GanatomyError(f"segmenter {name!r}: concept names repeat: {', '.join(repeated[:5])}")
        planes = {c.plane for c in concepts}
        if planes != set(range(len(planes))):
            raise GanatomyError(f"segmenter {name!r}: planes must be 0..K-1, got {sorted(planes)}")
        self.name = name
        self.concepts = list(concepts)
        self.sha256 = sha256
        allowed = torch.zeros(len(planes), len(concepts), dtype=torch.bool)
        for index, concept in enumerate(concepts):
            allowed[concept.plane, index] = True
        allowed[:, 0] = True
        self._allowed = allowed

    @property
    def planes(self) -> int:
        """Number of label planes K."""
        return self._allowed.shape[0]

    @abstractmethod
    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Return integer labels [N, K, h, w] for float32 ``images`` [N, 3, H, W] in [-1, 1]."""

    def __call__(self, images: Tensor, keys: Sequence[int | str] | None = None) -> Tensor:
        """Label images.

        Args:
            images: float32 [N, 3, H, W], nominally in [-1, 1].
            keys: the samples' seeds or file names, [N]; only segmenters that look labels up use them.

        Returns:
            int16 [N, K, h, w]: plane k labels every pixel; 0 is unlabelled.

        Raises:
            GanatomyError: if the segmenter returns another shape, another type, or a label that is out of
                range or belongs to another plane.
        """
        self._check_images(images)
        if keys is not None and len(keys) != len(images):
            raise GanatomyError(f"segmenter {self.name!r}: {len(images)} images but {len(keys)} keys")
        with torch.no_grad():
            labels = self.segment(images, keys)
        self._check(labels, len(images))
        return labels.to(torch.int16)

    def probabilities(self, images: Tensor) -> Tensor:
        """Say how likely each concept is at each pixel; a segmenter that can overrides this.

        Where ``images`` ask for gradients, these flow back to them; calling the segmenter itself never keeps any.

        Args:
            images: float32 [N, 3, H, W], nominally in [-1, 1].

        Returns:
            float32 [N, C, h, w] in [0, 1], of the size of the labels. Channel c is the probability of ``concepts[c]``
            among those of its plane and unlabelled; channel 0 is what plane 0 leaves unlabelled. So channel 0 and
            plane 0's concepts sum to 1, and those of another plane to 1 minus what that plane leaves.

        Raises:
            GanatomyError: if the segmenter has only labels.
        """
        raise GanatomyError(
            f"segmenter {self.name!r} has labels but no probabilities; those that have: {', '.join(SOFT)}"
        )

    def _check_images(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise GanatomyError(f"segmenter {self.name!r}: expected images [N, 3, H, W], got {list(images.shape)}")

    def _check(self, labels: Tensor, samples: int) -> None:
        wanted = f"[{samples}, {self.planes}, h, w]"
        if not isinstance(labels, Tensor) or labels.ndim != 4 or labels.shape[:2] != (samples, self.planes):
            shape = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            raise GanatomyError(f"segmenter {self.name!r} returned {shape}, expected labels {wanted}")
        if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
            raise GanatomyError(f"segmenter {self.name!r} returned {labels.dtype}, expected integer labels {wanted}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.concepts):
            bad = low if low < 0 else high
            raise GanatomyError(
                f"segmenter {self.name!r} returned label {bad}; labels must be 0..{len(self.concepts) - 1}"
            )
        if self.planes == 1:
            return
        for plane in range(self.planes):
            found = torch.bincount(labels[:, plane].flatten().long(), minlength=len(self.concepts)) > 0
            wrong = torch.nonzero(found.cpu() & ~self._allowed[plane]).flatten()
            if len(wrong):
                concept = self.concepts[int(wrong[0])]
                raise GanatomyError(
                    f"segmenter {self.name!r} returned {concept.name!r} in plane {plane}; it belongs to {concept.plane}"
                )


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Resize labels [N, K, h, w] by nearest neighbour (pixel centres), the only way labels are ever resized.

    Probabilities of several segmenters are brought to one size in the same way, so that they go with the labels.
    """
    if labels.shape[-2:] == (height, width):
        return labels
    rows = _nearest(labels.shape[-2], height, labels.device)
    columns = _nearest(labels.shape[-1], width, labels.device)
    return labels[..., rows[:, None], columns[None, :]]


def _nearest(source: int, target: int, device: torch.device) -> Tensor:
    index = torch.arange(target, device=device)
    return ((2 * index + 1) * source // (2 * target)).clamp_(max=source - 1)


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images [N, 3, H, W]: bilinear upwards, antialiased downwards."""
    if images.shape[-2:] == (height, width):
        return images
    shrinking = height < images.shape[-2] or width < images.shape[-1]
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=shrinking)


class Planes(Segmenter):
    """Several segmenters as one: the planes of ``a+b`` are those of a, then those of b.

    The smaller label maps are resized by nearest neighbour to the largest. Where two parts use the same
    concept name, the later one is prefixed with its segmenter's name.
    """

    def __init__(self, parts: Sequence[Segmenter]) -> None:
        concepts, taken = [UNLABELLED], {UNLABELLED.name}
        self.parts = list(parts)
        self._offsets: list[int] = []
        plane = 0
        for part in self.parts:
            self._offsets.append(len(concepts) - 1)
            for concept in part.concepts[1:]:
                name = concept.name if concept.name not in taken else f"{part.name}:{concept.name}"
                taken.add(name)
                concepts.append(Concept(name, concept.category, plane + concept.plane))
            plane += part.planes
        self.concurrent = all(part.concurrent for part in parts)
        super().__init__("+".join(p.name for p in parts), concepts, "+".join(p.sha256 for p in parts))

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Label with every part and stack the planes."""
        maps = []
        for part, offset in zip(self.parts, self._offsets, strict=True):
            labels = part(images, keys)
            maps.append(torch.where(labels > 0, labels + offset, labels))
        height = max(m.shape[-2] for m in maps)
        width = max(m.shape[-1] for m in maps)
        return torch.cat([resize_labels(m, height, width).to(maps[0].device) for m in maps], dim=1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Ask every part, and put its concepts in their places; channel 0 is the first part's.

        Smaller maps are resized as labels are. Raises GanatomyError if a part has no probabilities.
        """
        maps = [part.probabilities(images) for part in self.parts]
        height = max(m.shape[-2] for m in maps)
        width = max(m.shape[-1] for m in maps)
        sized = [resize_labels(m, height, width).to(maps[0].device) for m in maps]
        return torch.cat([sized[0], *(m[:, 1:] for m in sized[1:])], dim=1)
