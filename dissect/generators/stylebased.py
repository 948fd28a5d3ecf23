"""What all style-based generators share: a mapping network, truncation in W, w and w+ codes, noise maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from .arrays import read_array
from .base import Generator, State
from .codes import NO_NOISE, Codes
from .family import Fact, Opening

ESTIMATE = 4096  # random z whose mean w stands in for a mean that the file does not hold
ESTIMATE_SEED = 0


class ScaledLinear(nn.Module):
    """A matrix and a bias, each times a gain at run time (Karras et al., ICLR 2018, section 4.1)."""

    def __init__(self, inputs: int, outputs: int, weight_gain: float, bias_gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.weight_gain, self.bias_gain = weight_gain, bias_gain

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs]."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


def tell_mean(opening: Opening, stored: bool) -> None:
    """Add to what is known where the mean w comes from, unless it was given, which is told as an option."""
    if "w_avg" not in opening.given:
        known = ("stored", "tensors") if stored else ("estimated from z", "tried")
        opening.facts.append(Fact("mean_w", *known))


def pixel_norm(x: Tensor) -> Tensor:
    """Return x / sqrt(mean over channels of x^2 + 1e-8) (Karras et al., ICLR 2018)."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class StyleGenerator(Generator):
    """A generator with an intermediate latent space W.

    A family calls ``__init__`` with the number of its w inputs and implements :meth:`mapping` and
    :meth:`mean_w`; its stages find w float32 [N, num_ws, w_dim] in ``state.codes.w``, on the device.
    """

    truncates = True
    has_noise = True
    w_dim: int
    num_ws: int

    @abstractmethod
    def mapping(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and classes int64 [N], on the device, without truncation."""

    @abstractmethod
    def mean_w(self) -> Tensor | None:
        """Return the mean w [w_dim] that the file holds, or None."""

    def map(
        self,
        z: Tensor | np.ndarray,
        classes: Sequence[int] | Tensor | int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | Sequence[int] = "const",
    ) -> Codes:
        """Return codes with w from explicit latents ``z`` [N, z_dim].

        Truncation is a lerp from the mean w: ``mean + truncation (w - mean)`` (Karras et al., CVPR 2019, B), in the
        first ``cutoff`` of the w's, or in all of them.
        """
        if not isinstance(truncation, (int, float, np.integer, np.floating)) or not np.isfinite(truncation):
            raise GanatomyError(f"expected truncation as a finite number, got {truncation!r}")
        codes = super().map(z, classes, truncation, cutoff, noise)
        assert codes.z is not None
        if cutoff is not None and (not isinstance(cutoff, (int, np.integer)) or cutoff < 0):
            raise GanatomyError(f"expected cutoff as the number of truncated w's (0..{self.num_ws}), got {cutoff!r}")
        with self._passing():
            labels = None if codes.classes is None else codes.classes.to(self.device)
            w = self.mapping(codes.z.to(self.device), labels)
            ws = w[:, None].expand(-1, self.num_ws, -1)
            if truncation != 1.0:
                mean = self.w_avg.to(w)
                short = mean.lerp(w, truncation)[:, None]
                kept = self.num_ws if cutoff is None else min(cutoff, self.num_ws)
                ws = torch.cat([short.expand(-1, kept, -1), ws[:, kept:]], dim=1)
        return replace(codes, w=ws.cpu())

    def codes(self, w: Tensor | np.ndarray | str | Path, noise: str | Sequence[int] = "const") -> Codes:
        """Return codes from someone's inversion.

        Args:
            w: [N, w_dim], [w_dim], or w+ [N, num_ws, w_dim]; or the path of a ``.npy``, ``.npz``, ``.pt`` or
                safetensors file with such an array (the one called ``w`` where it has several).
            noise: ``"const"``, ``"none"``, or one noise seed per code.
        """
        given = read_array(Path(w), "w") if isinstance(w, (str, Path)) else w
        try:
            plain = given.detach().cpu().float().numpy() if isinstance(given, Tensor) else given
            with np.errstate(over="ignore"):  # infinite values are refused below
                values = torch.from_numpy(np.array(plain, np.float32))
        except (TypeError, ValueError) as error:
            raise GanatomyError(f"{self.name}: expected w as numbers [N, {self.w_dim}]") from error
        if values.ndim == 1:
            values = values[None]
        if values.ndim == 2:
            values = values[:, None].expand(-1, self.num_ws, -1)
        if values.ndim != 3 or values.shape[1:] != (self.num_ws, self.w_dim) or not len(values):
            shapes = f"w [N, {self.w_dim}] or w+ [N, {self.num_ws}, {self.w_dim}]"
            raise GanatomyError(f"{self.name}: expected {shapes}, got {list(np.shape(given))}")
        if not torch.isfinite(values).all():
            raise GanatomyError(f"{self.name}: w holds NaN or infinite values")
        return Codes(None, w=values, noise=self._noise_seeds(noise, len(values)))

    @property
    def w_avg(self) -> Tensor:
        """The mean w [w_dim], to which truncation pulls: the file's, or else estimated from 4,096 random z."""
        stored = self.mean_w()
        if stored is not None:
            return stored
        if self._estimated is None:
            z = torch.from_numpy(np.random.RandomState(ESTIMATE_SEED).randn(ESTIMATE, self.z_dim).astype(np.float32))
            classes = None
            if self.num_classes:
                classes = (torch.arange(ESTIMATE) % self.num_classes).to(self.device)
            with self._passing():
                w = self.mapping(z.to(self.device), classes)
            self._estimated = w.double().mean(0).float()
        return self._estimated

    _estimated: Tensor | None = None

    def begin(self, codes: Codes) -> State:
        """Return the state before the first stage: codes with w, on the device."""
        if codes.w is None:
            if codes.z is None:
                raise GanatomyError(f"{self.name} ({self.family}) needs codes with z or w")
            full = self.map(codes.z, codes.classes, codes.truncation, codes.cutoff)
            codes = replace(codes, w=full.w)
        assert codes.w is not None
        if codes.w.shape[1:] != (self.num_ws, self.w_dim):
            given = list(codes.w.shape)
            raise GanatomyError(f"{self.name}: expected codes with w [N, {self.num_ws}, {self.w_dim}], got {given}")
        return State(replace(codes, w=codes.w.to(self.device)))

    def one_hot(self, classes: Tensor) -> Tensor:
        """Return float32 [N, num_classes] of classes int64 [N]."""
        assert self.num_classes is not None
        return F.one_hot(classes, self.num_classes).float()


def as_mean(value: object) -> Tensor:
    """Return a mean w [w_dim] from an array or the path of one."""
    array = read_array(Path(value), "w_avg") if isinstance(value, (str, Path)) else value
    mean = torch.as_tensor(array).float().reshape(-1)
    if not torch.isfinite(mean).all():
        raise ValueError("NaN")
    return mean


def positive(value: object) -> float:
    """Return a positive number."""
    number = float(value)  # type: ignore[arg-type]
    if not 0 < number < float("inf"):
        raise ValueError(value)
    return number


def noise_maps(codes: Codes, place: int, constant: Tensor) -> Tensor | None:
    """Return the noise of one layer: [h, w], [N, 1, h, w], or None for no noise.

    Args:
        codes: whose noise seeds decide; -1 is no noise.
        place: index of the layer, so that layers differ.
        constant: [h, w], what the checkpoint stores.

    A sample's random noise depends on its seed, the place and the size alone: not on the batch or the device.
    """
    if codes.noise is None:
        return constant
    seeds = codes.noise.tolist()
    if all(seed == NO_NOISE for seed in seeds):
        return None
    maps = []
    for seed in seeds:
        if seed == NO_NOISE:
            maps.append(torch.zeros(constant.shape))
            continue
        state = np.random.Generator(np.random.Philox(key=[seed, place]))
        maps.append(torch.from_numpy(state.standard_normal(tuple(constant.shape), np.float32)))
    return torch.stack(maps)[:, None].to(constant)
