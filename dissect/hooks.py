"""Capture and replace features, exchange weights: the only place that changes modules, and it always undoes it."""

from __future__ import annotations

import copy as copying
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

RGB = 3
Path = tuple[int | str, ...]
Change = Callable[[Tensor], Tensor]


_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


def lock_of(module: nn.Module) -> threading.RLock:
    """Return the lock of a network: hooks sit on the module itself, so all that wrap one module share its lock."""
    return _LOCKS.setdefault(module, threading.RLock())


@dataclass(frozen=True, eq=False)
class Site:
    """Where in a network a value appears: the ``call``-th time that ``module`` returns, at ``path`` of its output."""

    module: nn.Module
    call: int = 0
    path: Path = ()


def with_own_modules(value: Any, memo: dict[int, Any]) -> Any:
    """Return ``value`` with every module in it copied, through sites, tuples, lists and dicts; the rest is shared.

    ``memo`` holds what must not be copied, as in ``copy.deepcopy``.
    """
    if isinstance(value, nn.Module):
        return copying.deepcopy(value, memo)
    if isinstance(value, Site):
        return replace(value, module=copying.deepcopy(value.module, memo))
    if type(value) in (tuple, list):
        return type(value)(with_own_modules(item, memo) for item in value)
    if type(value) is dict:
        return {key: with_own_modules(item, memo) for key, item in value.items()}
    return value


def tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor of a module's output, with its path through tuples, lists and dicts."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            yield from tensors(item, (*path, index))
    elif isinstance(output, dict):
        for key, item in output.items():
            yield from tensors(item, (*path, key))


def _get(output: Any, path: Path) -> Tensor:
    for step in path:
        output = output[step]
    return output


def _put(output: Any, path: Path, value: Tensor) -> Any:
    """Return ``output`` with the tensor at ``path`` exchanged; containers are rebuilt, never changed in place."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(output, dict):
        exchanged = copying.copy(output)  # of the same class: callers may read its items as attributes
        exchanged[step] = _put(output[step], rest, value)
        return exchanged
    items = list(output)
    items[step] = _put(items[step], rest, value)  # type: ignore[index]
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


@contextmanager
def instrument(
    sites: Mapping[str, Site],
    capture: Sequence[str] = (),
    change: Mapping[str, Sequence[Change]] | None = None,
    copy: bool = True,
    first: Mapping[str, Sequence[Change]] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Watch and alter one forward pass; all hooks are gone when the block ends, however it ends.

    Args:
        sites: where each named value appears.
        capture: names to keep. What is kept is what the module returned, before any change here.
        change: for a name, functions applied in order to what the rest of the network sees.
        copy: keep a copy, needed where a later module may work in place.
        first: as ``change``, but done before: what is kept is what these return.

    Yields:
        A dict that fills with name -> tensor [N, U, h, w] as the pass runs.
    """
    change, first = change or {}, first or {}
    by_module: dict[nn.Module, list[str]] = defaultdict(list)
    for name in dict.fromkeys([*first, *capture, *change]):
        by_module[sites[name].module].append(name)
    kept: dict[str, Tensor] = {}
    calls: Counter[nn.Module] = Counter()

    def hook(module: nn.Module, _inputs: Any, output: Any) -> Any:
        call = calls[module]
        calls[module] += 1
        for name in by_module[module]:
            site = sites[name]
            if site.call != call:
                continue
            value = _get(output, site.path)
            for function in first.get(name, ()):
                value = function(value)
            if name in capture:
                kept[name] = value.clone() if copy else value
            for function in change.get(name, ()):
                value = function(value)
            if first.get(name) or change.get(name):
                output = _put(output, site.path, value)
        return output

    with ExitStack() as stack:
        for module in by_module:
            stack.callback(module.register_forward_hook(hook).remove)
        yield kept


@dataclass
class Seen:
    """What a module was called with, and what another one returned; None and empty until they have run."""

    inputs: tuple[Any, ...] | None = None
    named: dict[str, Any] = field(default_factory=dict)
    output: Any = None


@contextmanager
def watched(called: nn.Module, returning: nn.Module | None = None) -> Iterator[Seen]:
    """Watch the first call of a module, and the last output of another with every change that hooks made to it.

    Enter it after :func:`instrument`, whose changes are then seen.
    """
    seen = Seen()

    def before(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if seen.inputs is None:
            seen.inputs, seen.named = inputs, named

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.output = output

    with ExitStack() as stack:
        stack.callback(called.register_forward_pre_hook(before, with_kwargs=True).remove)
        if returning is not None:
            stack.callback(returning.register_forward_hook(after).remove)
        yield seen


@contextmanager
def exchanged(root: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other tensors in the place of parameters of ``root`` within the block; hooks go on as before.

    Args:
        weights: dotted name -> tensor of the same shape; gradients flow to it.
    """
    with ExitStack() as stack:
        for name, tensor in weights.items():
            owner, _, own = name.rpartition(".")
            parameters = root.get_submodule(owner)._parameters
            stack.callback(parameters.__setitem__, own, parameters[own])
            parameters[own] = tensor  # type: ignore[assignment]  # which modules only read
        yield


@contextmanager
def record(root: nn.Module) -> Iterator[list[tuple[str, Site, Tensor]]]:
    """List every tensor that ``root`` or any module below it returns, in the order of returning.

    Yields:
        A list that fills with (module name, site, tensor); ``root`` itself has the name "". Tensors with more
        channels than an image are replaced by ones without memory: a large network's maps do not fit at once.
    """
    seen: list[tuple[str, Site, Tensor]] = []
    calls: Counter[nn.Module] = Counter()
    names = {module: name for name, module in root.named_modules()}

    def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
        call = calls[module]
        calls[module] += 1
        for path, value in tensors(output):
            image_like = value.ndim == 4 and value.shape[1] <= RGB
            shell = value if image_like else torch.empty(value.shape, dtype=value.dtype, device="meta")
            seen.append((names[module], Site(module, call, path), shell))

    with ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_hook(hook).remove)
        yield seen
