"""Any nn.Module as a generator: layers found by running it once, reached by hooks; one stage, or those of a chain."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import GanatomyWarning
from segmodels.files import one_line

from ..hooks import lock_of
from .base import Generator, Layer, State
from .chain import Link, links_of
from .codes import Codes
from .discovery import PROBES, Found, find_layers, first_image
from .layers import rgb

NOISE_SEED = 0
MANY = 1000  # values, none of which is dark in an image that has nothing below 0
FAR = 2.0  # images of -1..1 do not reach so far


class ModuleGenerator(Generator):
    """A network that we know nothing about, called as ``module(z)`` or ``module(z, classes)``.

    Args:
        module: the network. It is put into eval mode and its parameters stop asking for gradients.
        z_dim: length of its latent.
        num_classes: if given, classes int64 [N] are the second argument.
        image_range: the range of the images it returns; they are brought to [-1, 1].

    Latents are tried as [N, z_dim] and then as [N, z_dim, 1, 1], whichever the module accepts. An ``nn.Sequential`` is
    a stage for each of its modules, so that a pass may be resumed between them; anything else is one stage.

    Weights of other precision become float32, and wrappers that only spread or compile a network are taken off. A
    network that draws noise of its own (two passes over the same latents differ) draws the same in every pass; what an
    image is then depends on its place in the batch as well.
    """

    works_in_place = True

    def __init__(
        self,
        module: nn.Module,
        z_dim: int,
        *,
        name: str | None = None,
        num_classes: int | None = None,
        image_range: tuple[float, float] = (-1.0, 1.0),
        device: str | torch.device = "cpu",
    ) -> None:
        _check_count("z_dim", z_dim)
        if num_classes is not None:
            _check_count("num_classes", num_classes)
        try:
            low, high = map(float, image_range)
        except (TypeError, ValueError) as error:
            raise GanatomyError(f"expected image_range (low, high), got {image_range!r}") from error
        if not high > low:
            raise GanatomyError(f"expected image_range (low, high) with low < high, got {image_range!r}")
        module = unwrapped(module)
        label = name or type(module).__name__
        self._range = (low, high)
        self._net = _prepared(module, label, device)
        z = torch.zeros(PROBES, z_dim, device=device)
        classes = torch.zeros(PROBES, dtype=torch.long, device=device) if num_classes else None
        with lock_of(module), torch.no_grad():
            self._draws = False
            self._as_map = self._takes_map(label, z, classes)
            once, again = (first_image(self._call(z, classes), label, PROBES) for _ in range(2))
            self._draws = not torch.equal(once, again)
            found = find_layers(module, lambda: first_image(self._call(z, classes), label, PROBES))
            self._links = () if num_classes or self._draws else links_of(module, self._latent(z))
        _warn_of_range(label, once, self._range)
        if found.size[0] != found.size[1]:
            raise GanatomyError(f"{label}: expected square images, the module makes {found.size[0]} x {found.size[1]}")
        super().__init__(
            name=label,
            family="module",
            flavour=f"{type(module).__module__}.{type(module).__qualname__}",
            module=module,
            sites=found.sites,
            layers=self._in_stages(found),
            resolution=found.size[0],
            z_dim=z_dim,
            num_classes=num_classes,
            device=device,
            configuration={
                "class": type(module).__qualname__,
                "z_dim": z_dim,
                "num_classes": num_classes,
                "image_range": list(self._range),
            },
            not_layers=found.others,
        )

    def _takes_map(self, name: str, z: Tensor, classes: Tensor | None) -> bool:
        """Return whether z goes in as a one-pixel map; what gives an image counts, whichever is tried first."""
        failures = []
        for as_map in (False, True):
            self._as_map = as_map
            try:
                first_image(self._call(z, classes), name, PROBES)
                return as_map
            except GanatomyError as error:  # it ran, but made no image
                failures.append(error)
            except Exception as error:  # whatever a stranger's forward raises
                failures.append(GanatomyError(one_line(error, 120)))
                failures[-1].__cause__ = error
        ran = [error for error in failures if error.__cause__ is None]
        if ran:
            raise ran[0]
        shapes = [f"[{PROBES}, {z.shape[1]}]", f"[{PROBES}, {z.shape[1]}, 1, 1]"]
        given = f" and classes [{PROBES}]" if classes is not None else ""
        tried = " nor ".join(f"z {shape}{given} ({failure})" for shape, failure in zip(shapes, failures, strict=True))
        raise GanatomyError(
            f"{name}: the module accepts neither {tried}; where it is called in another way, give one that wraps it"
        ) from failures[0].__cause__

    def _call(self, z: Tensor, classes: Tensor | None) -> object:
        latent = self._latent(z)
        with _same_noise(latent.device) if self._draws else nullcontext():
            return self._net(latent) if classes is None else self._net(latent, classes)

    def _latent(self, z: Tensor) -> Tensor:
        return z[:, :, None, None] if self._as_map else z

    def _in_stages(self, found: Found) -> list[Layer]:
        """Return the layers with the index of the chain's module that holds each."""
        holder = {part: index for index, link in enumerate(self._links) for part in link.module.modules()}
        return [replace(layer, stage=holder.get(found.sites[layer.name].module, 0)) for layer in found.layers]

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """One stage for each module of a chain, else the whole network."""

        def run(link: Link, first: bool, last: bool) -> Callable[[State], State]:
            def stage(state: State) -> State:
                x = state.x
                if first:
                    assert state.codes.z is not None
                    x = self._latent(state.codes.z.to(self.device))
                assert x is not None
                output = _guarded(link, x, self.name)
                if last:
                    return replace(state, x=first_image(output, self.name, len(x)))
                if not isinstance(output, Tensor):
                    raise GanatomyError(f"{self.name}: a module of the chain returned {type(output).__name__}")
                return replace(state, x=output)

            return stage

        def whole(state: State) -> State:
            codes = state.codes
            assert codes.z is not None
            classes = None if codes.classes is None else codes.classes.to(self.device)
            output = _guarded(lambda z: self._call(z, classes), codes.z.to(self.device), self.name)
            return replace(state, x=first_image(output, self.name, len(codes.z)))

        if not self._links:
            return [whole]
        last = len(self._links) - 1
        return [run(link, index == 0, index == last) for index, link in enumerate(self._links)]

    @property
    def chained(self) -> bool:  # type: ignore[override]
        """Whether it is a plain ``nn.Sequential``."""
        return bool(self._links)

    def begin(self, codes: Codes) -> State:
        """Nothing has been computed before the only stage."""
        if codes.z is None:
            raise GanatomyError(f"{self.name} needs codes with z")
        return State(codes)

    def finish(self, state: State) -> Tensor:
        """Bring the image to [-1, 1]."""
        assert state.x is not None
        low, high = self._range
        image = rgb(state.x)
        return image if (low, high) == (-1.0, 1.0) else (image - low) * (2.0 / (high - low)) - 1.0

    def ends_stage(self, layer: Layer) -> bool:
        """Whether it is what a module of the chain returns; else a restart runs the stage, with the layer replaced."""
        site = self._sites[layer.name]
        return bool(self._links) and self._links[layer.stage].module is site.module and not site.path


class PictureModel(Generator):
    """Any network that looks at pictures, so that its units can be dissected on real ones.

    The "codes" are pictures: ``codes.z`` is [N, 3 * S * S] in [-1, 1]. The images of a pass are the pictures
    themselves; whatever the network returns is not looked at.

    Args:
        module: the network, called as ``module(x)`` with x float32 [N, 3, S, S].
        input_size: S.
        mean, std: per channel, for pictures in [0, 1]; what the network was trained with.
    """

    works_in_place = True

    def __init__(
        self,
        module: nn.Module,
        input_size: int,
        *,
        name: str | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        device: str | torch.device = "cpu",
    ) -> None:
        _check_count("input_size", input_size)
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise GanatomyError(f"expected three means and three positive stds, got mean={mean}, std={std}")
        label = name or type(module).__name__
        self.input_size = input_size
        self._mean = torch.tensor(list(mean), device=device)[:, None, None]
        self._std = torch.tensor(list(std), device=device)[:, None, None]
        module = unwrapped(module)
        self._net = _prepared(module, label, device)
        blank = torch.zeros(PROBES, 3, input_size, input_size, device=device)

        def run() -> Tensor:
            _guarded(lambda x: self._net(self._normalise(x)), blank, label)
            return blank

        with lock_of(module), torch.no_grad():
            found = find_layers(module, run, makes_images=False)
        super().__init__(
            name=label,
            family="pictures",
            flavour=f"{type(module).__module__}.{type(module).__qualname__}",
            module=module,
            sites=found.sites,
            layers=found.layers,
            resolution=input_size,
            z_dim=3 * input_size * input_size,
            device=device,
            configuration={
                "class": type(module).__qualname__,
                "size": input_size,
                "mean": list(mean),
                "std": list(std),
            },
            not_layers=found.others,
        )

    def _normalise(self, pictures: Tensor) -> Tensor:
        return ((pictures + 1) / 2 - self._mean) / self._std

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The whole network is one stage; it leaves the pictures as they are."""

        def whole(state: State) -> State:
            assert state.x is not None
            _guarded(lambda x: self._net(self._normalise(x)), state.x, self.name)
            return state

        return [whole]

    def begin(self, codes: Codes) -> State:
        """Shape the pictures."""
        if codes.z is None:
            raise GanatomyError(f"{self.name} needs codes with pictures in z")
        return State(codes, codes.z.to(self.device).reshape(-1, 3, self.input_size, self.input_size))

    def finish(self, state: State) -> Tensor:
        """Return the pictures themselves."""
        assert state.x is not None
        return state.x

    def ends_stage(self, layer: Layer) -> bool:
        """As for any opaque module."""
        return False


def unwrapped(module: nn.Module) -> nn.Module:
    """Return a network without what only spreads it over devices or compiles it: their names are not the network's."""
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(module, "_orig_mod"):
        inside = module._orig_mod if hasattr(module, "_orig_mod") else module.module
        assert isinstance(inside, nn.Module)
        module = inside
    return module


def _prepared(module: nn.Module, name: str, device: str | torch.device) -> nn.Module:
    """Return the network in eval mode, on a device, in float32.

    Raises:
        GanatomyError: for TorchScript, whose inside cannot be watched.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise GanatomyError(
            f"{name} is TorchScript, whose inside cannot be watched or edited; build the nn.Module that it was made "
            "of, and load its state dict"
        )
    module = module.eval().to(device)
    values = [*module.parameters(), *module.buffers()]
    other = any(value.is_floating_point() and value.dtype != torch.float32 for value in values)
    return module.float() if other else module


@contextmanager
def _same_noise(device: torch.device) -> Iterator[None]:
    """Draw the same random numbers each time, and leave the process's own generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(NOISE_SEED)
        yield


def _warn_of_range(name: str, images: Tensor, given: tuple[float, float]) -> None:
    """Say so if images can hardly be of the range that they are taken to have."""
    low, high = float(images.min()), float(images.max())
    if given != (-1.0, 1.0) or images.numel() < MANY or not (low >= 0 or high > FAR or low < -FAR) or low == high:
        return
    likely = "(0, 255)" if high > FAR else "(0, 1)" if high <= 1 else "(low, high)"
    warnings.warn(
        f"{name}: its images reach from {low:.3g} to {high:.3g}, and are taken to be of -1..1; if that is wrong, say "
        f"image_range={likely}", GanatomyWarning, stacklevel=4,
    )  # fmt: skip


def _guarded(call: Callable[[Tensor], object], value: Tensor, name: str) -> object:
    """Return ``call(value)``; whatever a stranger's forward raises becomes one line."""
    try:
        return call(value)
    except GanatomyError:
        raise
    except Exception as error:
        given = list(value.shape)
        raise GanatomyError(f"{name} failed on {given}: {type(error).__name__}: {one_line(error)}") from error


def _check_count(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise GanatomyError(f"expected {what} to be a positive integer, got {value!r}")
