"""Any nn.Module as a generator: layers found by running it once, reached by hooks; one stage, or those of a chain."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.errors import GanatomyWarning
from segmodels.files import one_line

from ..hooks import lock_of
from .base import Generator, Layer, State
from .calling import FAR, Caller
from .chain import Link, links_of
from .codes import Codes
from .discovery import PROBES, Found, find_layers, first_image
from .family import Fact
from .layers import rgb

LARGE = 16  # pixels a side: smaller images may well have nothing dark


class ModuleGenerator(Generator):
    """A network that we know nothing about, called as ``module(z)`` or ``module(z, classes)``.

    Args:
        module: the network. It is put into eval mode and its parameters stop asking for gradients.
        z_dim: length of its latent.
        num_classes: if given, classes int64 [N] are the second argument.
        image_range: the range of the images it returns; they are brought to [-1, 1].

    How it takes z and classes is found by trying (:class:`~dissect.generators.calling.Caller`); noise that it draws
    in its forward is held constant. An ``nn.Sequential`` is a stage for each of its modules, so that a pass may be
    resumed between them; anything else is one stage.
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
        low, high = _check_range(image_range)
        label = name or type(module).__name__
        self._range = (low, high)
        self._net = module.eval().to(device)
        with lock_of(module), torch.no_grad():
            call = self._call = Caller(module, label, z_dim, num_classes, torch.device(device))
            found = find_layers(module, lambda: first_image(call(call.z, call.classes), label))
            self._links = () if num_classes or call.steady else links_of(module, call.latent(call.z))
        if found.size[0] != found.size[1]:
            raise GanatomyError(
                f"{label}: expected square images, the module makes {found.size[0]} x {found.size[1]}; wrap it in a "
                "module that pads or crops what it returns"
            )
        if call.reach > max(FAR, 4 * max(abs(low), abs(high))):
            raise GanatomyError(
                f"{label}: expected images in [{low:g}, {high:g}], they reach {call.reach:.0f}; say their range with "
                "image_range=(0, 255), or as the module's own attribute image_range"
            )
        if (low, high) == (-1.0, 1.0) and 0 <= call.lowest < call.reach <= 1 and found.size[0] >= LARGE:
            warnings.warn(
                f"{label}: nothing in its images is below 0, and they are taken to be of -1..1; if they are of 0..1, "
                "say image_range=(0, 1)", GanatomyWarning, stacklevel=2,
            )  # fmt: skip
        self.facts = _observed(call)
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
                    x = self._call.latent(state.codes.z.to(self.device))
                assert x is not None
                output = _guarded(link, x, self.name)
                if last:
                    return replace(state, x=first_image(output, self.name))
                if not isinstance(output, Tensor):
                    raise GanatomyError(f"{self.name}: a module of the chain returned {type(output).__name__}")
                return replace(state, x=output)

            return stage

        def whole(state: State) -> State:
            codes = state.codes
            assert codes.z is not None
            classes = None if codes.classes is None else codes.classes.to(self.device)
            output = _guarded(lambda z: self._call(z, classes), codes.z.to(self.device), self.name)
            return replace(state, x=first_image(output, self.name))

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
        self._net = module.eval().to(device)
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


def _observed(call: Caller) -> tuple[Fact, ...]:
    """Return what trying has shown and who looks at images should know."""
    facts = []
    if call.steady:
        facts.append(Fact("noise", "drawn in its forward; held constant here, the same for every image", "tried"))
    if call.mixing:
        facts.append(Fact("batches", "an image depends on the other samples of its batch", "tried"))
    return tuple(facts)


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


def _check_range(value: object) -> tuple[float, float]:
    try:
        low, high = (float(x) for x in value)  # type: ignore[attr-defined]  # whatever a stranger's attribute is
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise GanatomyError(f"expected image_range (low, high) with low < high, got {value!r}")
    return low, high
