"""Random numbers that a network draws in its own forward, made the same for every sample, pass and batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SEED = 0
NEW = {torch.randn: "normal", torch.rand: "uniform"}
LIKE = {torch.randn_like: "normal", torch.rand_like: "uniform"}
WITHIN = {Tensor.normal_: "normal", Tensor.uniform_: "uniform"}


class Steady(TorchFunctionMode):
    """Within the block, noise is constant: each draw is made for one sample, of a fixed seed, and given to all.

    So an image depends on its code alone, and a pass that runs again repeats itself. torch's own state is neither
    read nor moved. What is meant are ``rand``, ``randn``, their ``_like``, ``normal_`` and ``uniform_``.

    Args:
        batch: number of samples: a draw whose first axis is as long has one for each.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch
        self._state = torch.Generator().manual_seed(SEED)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draw in the place of the functions meant; call any other."""
        named = dict(kwargs or {})
        if func in NEW:
            size = named.pop("size", None) or (args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            empty = {k: v for k, v in named.items() if k in ("dtype", "device")}
            return self._drawn(torch.empty(tuple(size), **empty), NEW[func])
        if func in LIKE:
            empty = {k: v for k, v in named.items() if k in ("dtype", "device")}
            return self._drawn(torch.empty_like(args[0] if args else named["input"], **empty), LIKE[func])
        if func in WITHIN:
            first, second = ("mean", "std") if func is Tensor.normal_ else ("from", "to")
            given = dict(zip((first, second), args[1:], strict=False)) | named
            low, high = given.get(first, 0.0), given.get(second, 1.0)
            self._drawn(args[0], WITHIN[func])
            return args[0].mul_(high if first == "mean" else high - low).add_(low)
        return func(*args, **named)

    def _drawn(self, into: Tensor, kind: str) -> Tensor:
        """Fill a tensor with standard numbers of one kind, the same for each sample."""
        shape = list(into.shape)
        if shape and shape[0] == self._batch:
            shape[0] = 1
        draw = torch.randn if kind == "normal" else torch.rand
        return into.copy_(draw(shape, generator=self._state).expand(into.shape))
