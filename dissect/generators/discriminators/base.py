"""What every discriminator has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..identity import identity_of


class Discriminator:
    """A network that scores images: the higher, the more it takes them for real. Its weights never change.

    Scores are what the network returns before any sigmoid. They can be compared among images of one discriminator, and
    with nothing else. What it learnt is to tell one generator's samples of that day from the training images.

    Args:
        network: takes images [N, C, R, R] and one-hot classes [N, num_classes] or None; returns [N].
        group: how many images are looked at together, where the network compares them with each other (a standard
            deviation over a batch): images are taken in that many in their order, as a batch of the public code; fewer
            at the end. 1 where it does not; None for all the images of a call, as files may record.

    Attributes:
        family, flavour: as of a generator. resolution: R. channels: C. num_classes: or None. where: the entry of the
            file that holds it. fingerprint: SHA-256 over family, settings and tensors.
    """

    kind: ClassVar[str] = "discriminator"

    def __init__(
        self, network: nn.Module, *, name: str, family: str, flavour: str, where: str, resolution: int, channels: int,
        num_classes: int | None = None, group: int | None = 1, settings: Mapping[str, object] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        self._network = network.eval().requires_grad_(False).to(device)
        self.name, self.family, self.flavour, self.where = name, family, flavour, where
        self.resolution, self.channels, self.num_classes, self.group = resolution, channels, num_classes, group
        self.device = torch.device(device)
        self.fingerprint = identity_of([family, {**(settings or {}), "group": group}], network.state_dict())

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def __call__(self, images: Tensor, classes: Tensor | int | None = None) -> Tensor:
        """Score images.

        Args:
            images: float32 [N, 3, R, R] in [-1, 1]. classes: int64 [N], or one for all, of a conditional one.

        Returns:
            float32 [N], on the images' device.

        Raises:
            GanatomyError: for images of another size, and classes that are missing, too many, or out of range.
        """
        expected = (self.channels, self.resolution, self.resolution)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or not images.is_floating_point():
            raise GanatomyError(
                f"{self.name}: expected images float32 [N, {', '.join(map(str, expected))}], got "
                f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
            )
        labels = self._labels(classes, len(images))
        x = images.to(self.device, torch.float32)
        scores = []
        with torch.no_grad():
            together = self.group or max(len(x), 1)
            for start in range(0, len(x), together):
                part = slice(start, start + together)
                scores.append(self._network(x[part], None if labels is None else labels[part]))
        return torch.cat(scores).to(images.device) if scores else images.new_zeros(0, dtype=torch.float32)

    def _labels(self, classes: Tensor | int | None, count: int) -> Tensor | None:
        """Return classes as one-hot [N, num_classes]; None where there are none."""
        if self.num_classes is None:
            if classes is not None:
                raise GanatomyError(f"{self.name} has no classes, and was given some")
            return None
        if classes is None:
            raise GanatomyError(f"{self.name} scores images of a class: give classes, 0 to {self.num_classes - 1}")
        chosen = classes if isinstance(classes, Tensor) else torch.full((count,), classes, dtype=torch.long)
        chosen = chosen.to(self.device)
        if chosen.shape != (count,) or chosen.is_floating_point():
            raise GanatomyError(f"{self.name}: expected classes int64 [{count}], got {list(chosen.shape)}")
        if count and not (int(chosen.min()) >= 0 and int(chosen.max()) < self.num_classes):
            raise GanatomyError(f"{self.name}: expected classes from 0 to {self.num_classes - 1}")
        return nn.functional.one_hot(chosen.long(), self.num_classes).float()
