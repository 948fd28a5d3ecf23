"""How a network that we know nothing about wants to be called: the shape of z, the form of classes, its precision."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segmodels import GanatomyError
from segmodels.files import one_line

from .discovery import PROBES, first_image
from .steady import Steady

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
FAR = 16.0  # no image in [-1, 1] gets there, also of a network that does not end in a tanh
SAME = 1e-3  # of the largest value: more than rounding, less than any noise that can be seen


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside what spreads it over devices or compiles it: hooks have to be in the one that runs.

    Raises:
        GanatomyError: for a network of TorchScript, whose modules can be neither read nor edited.
    """
    while isinstance(module, WRAPPERS) or isinstance(getattr(module, "_orig_mod", None), nn.Module):
        module = module.module if isinstance(module, WRAPPERS) else module._orig_mod  # type: ignore[assignment]
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise GanatomyError(
            f"{type(module).__name__}: expected Python modules, got TorchScript, where no layer can be reached; give "
            "the nn.Module that it was made of"
        )
    return module


class Caller:
    """Calls a module with z [N, z_dim] and classes [N] in the form that it takes, found by trying.

    z is tried as [N, z_dim] and [N, z_dim, 1, 1], classes as numbers and one-hot, in the precision of the module's
    first parameter; the first that gives an image counts.

    Attributes:
        steady: whether noise that the module draws is made constant, see :class:`Steady`.
        mixing: whether an image depends on the other samples of its batch.

    Raises:
        GanatomyError: where no form gives an image, with what was tried and why it failed.
    """

    def __init__(self, module: nn.Module, name: str, z_dim: int, num_classes: int | None, device: torch.device) -> None:
        self._module, self._name, self._num_classes = module, name, num_classes
        self._precision = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        self._as_map = self._one_hot = self.steady = False
        rows = [np.random.RandomState(seed).randn(z_dim) for seed in range(PROBES + 1)]
        drawn = torch.from_numpy(np.array(rows, np.float32)).to(device)
        self.z = drawn[:PROBES]
        self.classes = torch.zeros(PROBES, dtype=torch.long, device=device) if num_classes else None
        image = self._find_form()
        if not _alike(image, self._image(self.z)):
            self.steady = True
            image = self._image(self.z)
            if not _alike(image, self._image(self.z)):
                raise GanatomyError(
                    f"{name}: the same z gives another image each time, in a way that cannot be held still (dropout?); "
                    "expected a forward that depends on z alone"
                )
        self.lowest, self.reach = float(image.amin()), float(image.abs().amax())
        self.mixing = not _alike(image[:1], self._image(torch.cat([drawn[:1], drawn[PROBES:]]))[:1])

    def __call__(self, z: Tensor, classes: Tensor | None) -> object:
        """Return what the module returns."""
        latent = self.latent(z)
        with Steady(len(z)) if self.steady else nullcontext():
            if classes is None:
                return self._module(latent)
            if not self._one_hot:
                return self._module(latent, classes)
            assert self._num_classes is not None
            return self._module(latent, functional.one_hot(classes, self._num_classes).to(self._precision))

    def latent(self, z: Tensor) -> Tensor:
        """Return z in the shape and precision that the module takes."""
        return (z[:, :, None, None] if self._as_map else z).to(self._precision)

    def _image(self, z: Tensor) -> Tensor:
        image = first_image(self(z, self.classes), self._name).float()
        if len(image) != len(z):
            raise GanatomyError(
                f"{self._name}: expected an image for each latent, {len(z)} latents gave {len(image)}; wrap it in a "
                "module whose forward takes z [N, z_dim]"
            )
        return image

    def _find_form(self) -> Tensor:
        """Choose the first form that gives an image, and return that."""
        failures = []
        for one_hot, as_map in product((False, True) if self._num_classes else (False,), (False, True)):
            self._one_hot, self._as_map = one_hot, as_map
            try:
                return self._image(self.z)
            except GanatomyError as error:  # it ran, but made no image
                failures.append(error)
            except Exception as error:  # whatever a stranger's forward raises
                failures.append(GanatomyError(one_line(error, 120)))
                failures[-1].__cause__ = error
        ran = [error for error in failures if error.__cause__ is None]
        if ran:
            raise ran[0]
        shapes = [f"[{PROBES}, {self.z.shape[1]}]", f"[{PROBES}, {self.z.shape[1]}, 1, 1]"]
        given = f" and classes [{PROBES}]" if self.classes is not None else ""
        tried = " nor ".join(f"z {shape}{given} ({failure})" for shape, failure in zip(shapes, failures, strict=False))
        alone = "" if self._num_classes else ", num_classes= if it takes classes"
        raise GanatomyError(
            f"{self._name}: the module accepts neither {tried}; check z_dim={self.z.shape[1]}{alone}, or wrap it in a "
            "module whose forward takes z and returns the image"
        ) from failures[0].__cause__


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two images are the same but for rounding."""
    if one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=0, atol=SAME * float(one.nan_to_num().abs().amax()), equal_nan=True)
