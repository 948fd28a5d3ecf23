"""Any nn.Module as a generator: one opaque stage, layers found by running it once, reached by hooks alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from ..hooks import Site, record, tensors
from .base import Generator, Layer, State
from .codes import Codes
from .sequential import kind_of

SMALLEST_DEFAULT = 4  # maps below 4 x 4 say nothing about where


def _layer_names(seen: Sequence[tuple[str, Site, Tensor]]) -> list[str]:
    """Name sites uniquely: ``block.relu``, ``block.relu@2`` for its second use, ``block:0`` for an item of a tuple."""
    names = []
    for name, site, _ in seen:
        use = f"@{site.call + 1}" if site.call else ""
        item = "".join(f":{step}" for step in site.path)
        names.append(f"{name or 'output'}{use}{item}")
    return names


def _find_layers(
    module: nn.Module, run: Callable[[], Tensor]
) -> tuple[list[Layer], dict[str, Site], Tensor]:
    """Run once and return (layers, sites, image)."""
    with record(module) as seen:
        image = run()
    root_outputs = {id(t) for name, _, t in seen if name == ""}
    # Record everything below the root, but not the image under each of its wrappers' names as a default.
    kept = [(name, site, value) for name, site, value in seen if name != ""]
    names = _layer_names(kept)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise GanatomyError(f"two layers would be called {repeated[0]!r}; rename the module's children")
    last: dict[int, str] = {}
    for name, (_, _, value) in zip(names, kept, strict=True):
        if id(value) not in root_outputs and value.data_ptr() != image.data_ptr() and value.shape[-2] >= SMALLEST_DEFAULT:
            last[value.shape[-2]] = name
    layers = [
        Layer(name, *value.shape[1:], kind=kind_of(site.module), stage=0, default=name in last.values())
        for name, (_, site, value) in zip(names, kept, strict=True)
    ]
    return layers, {name: site for name, (_, site, _) in zip(names, kept, strict=True)}, image


def first_image(output: object, name: str) -> Tensor:
    """Return the first image-like tensor [N, 1 or 3, H, W] of a module's output, grey repeated to three channels."""
    for _, value in tensors(output):
        if value.shape[1] == 3:
            return value
        if value.shape[1] == 1:
            return value.expand(-1, 3, -1, -1)
    raise GanatomyError(f"{name}: expected the module to return an image [N, 3, H, W], it returned {_describe(output)}")


def _describe(output: object) -> str:
    return str(list(output.shape)) if isinstance(output, Tensor) else type(output).__name__


class ModuleGenerator(Generator):
    """A network that we know nothing about, called as ``module(z)`` or ``module(z, classes)``.

    Args:
        module: the network. It is put into eval mode and its parameters stop asking for gradients.
        z_dim: length of its latent.
        num_classes: if given, classes int64 [N] are the second argument.
        image_range: the range of the images it returns; they are brought to [-1, 1].

    Latents are tried as [N, z_dim] and then as [N, z_dim, 1, 1], whichever the module accepts.
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
        if not isinstance(z_dim, int) or z_dim < 1:
            raise GanatomyError(f"expected z_dim to be a positive integer, got {z_dim!r}")
        low, high = image_range
        if not high > low:
            raise GanatomyError(f"expected image_range (low, high) with low < high, got {image_range!r}")
        label = name or type(module).__name__
        self._range = (float(low), float(high))
        self._net = module.eval().to(device)
        self._as_map = self._probe_shape(label, z_dim, num_classes, torch.device(device))
        z = torch.zeros(1, z_dim, device=device)
        classes = torch.zeros(1, dtype=torch.long, device=device) if num_classes else None
        with torch.no_grad():
            layers, sites, image = _find_layers(module, lambda: first_image(self._call(z, classes), label))
        super().__init__(
            name=label,
            family="module",
            flavour=f"{type(module).__module__}.{type(module).__qualname__}",
            module=module,
            sites=sites,
            layers=layers,
            resolution=max(image.shape[-2:]),
            z_dim=z_dim,
            num_classes=num_classes,
            device=device,
            configuration={"class": type(module).__qualname__, "z_dim": z_dim, "num_classes": num_classes},
        )

    def _probe_shape(self, name: str, z_dim: int, num_classes: int | None, device: torch.device) -> bool:
        """Return whether z goes in as a one-pixel map."""
        failures = []
        classes = torch.zeros(1, dtype=torch.long, device=device) if num_classes else None
        for as_map in (False, True):
            self._as_map = as_map
            try:
                with torch.no_grad():
                    self._call(torch.zeros(1, z_dim, device=device), classes)
                return as_map
            except Exception as error:  # whatever a stranger's forward raises
                failures.append(str(error).split("\n")[0])
        given = " and classes [1]" if num_classes else ""
        raise GanatomyError(f"{name}: the module accepts neither z [1, {z_dim}]{given} ({failures[0]}) nor "
                            f"z [1, {z_dim}, 1, 1]{given} ({failures[1]})")

    def _call(self, z: Tensor, classes: Tensor | None) -> object:
        latent = z[:, :, None, None] if self._as_map else z
        return self._net(latent) if classes is None else self._net(latent, classes)

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The whole network is one stage."""

        def whole(state: State) -> State:
            codes = state.codes
            assert codes.z is not None
            classes = None if codes.classes is None else codes.classes.to(self.device)
            return replace(state, x=first_image(self._call(codes.z.to(self.device), classes), self.name))

        return [whole]

    def begin(self, codes: Codes) -> State:
        """Nothing has been computed before the only stage."""
        return State(codes)

    def finish(self, state: State) -> Tensor:
        """Bring the image to [-1, 1]."""
        assert state.x is not None
        low, high = self._range
        return state.x if (low, high) == (-1.0, 1.0) else (state.x - low) * (2.0 / (high - low)) - 1.0

    def ends_stage(self, layer: Layer) -> bool:
        """A layer of an opaque module is inside the one stage: a restart runs it all, with the layer replaced."""
        return False


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
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise GanatomyError(f"expected three means and three positive stds, got mean={mean}, std={std}")
        label = name or type(module).__name__
        self.input_size = input_size
        self._mean = torch.tensor(list(mean), device=device)[:, None, None]
        self._std = torch.tensor(list(std), device=device)[:, None, None]
        self._net = module.eval().to(device)
        blank = torch.zeros(1, 3, input_size, input_size, device=device)

        def run() -> Tensor:
            try:
                self._net(self._normalise(blank))
            except Exception as error:
                reason = str(error).split("\n")[0]
                raise GanatomyError(f"{label}: the module does not accept [1, 3, {input_size}, {input_size}]: {reason}") from error
            return blank

        with torch.no_grad():
            layers, sites, _ = _find_layers(module, run)
        super().__init__(
            name=label,
            family="pictures",
            flavour=f"{type(module).__module__}.{type(module).__qualname__}",
            module=module,
            sites=sites,
            layers=layers,
            resolution=input_size,
            z_dim=3 * input_size * input_size,
            device=device,
            configuration={"class": type(module).__qualname__, "size": input_size, "mean": list(mean), "std": list(std)},
        )

    def _normalise(self, pictures: Tensor) -> Tensor:
        return ((pictures + 1) / 2 - self._mean) / self._std

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The whole network is one stage; it leaves the pictures as they are."""

        def whole(state: State) -> State:
            self._net(self._normalise(state.x))  # type: ignore[arg-type]
            return state

        return [whole]

    def begin(self, codes: Codes) -> State:
        """Shape the pictures."""
        assert codes.z is not None
        return State(codes, codes.z.to(self.device).reshape(-1, 3, self.input_size, self.input_size))

    def finish(self, state: State) -> Tensor:
        """Return the pictures themselves."""
        assert state.x is not None
        return state.x

    def ends_stage(self, layer: Layer) -> bool:
        """As for any opaque module."""
        return False
