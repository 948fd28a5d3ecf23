"""A network that is a chain of modules: where it may be cut into stages, although we know nothing else about it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Link:
    """One module of a chain.

    Attributes:
        module: takes what the one before it returned.
        overwrites: whether it works in place on that, so that it must be given a copy.
    """

    module: nn.Module
    overwrites: bool

    def __call__(self, x: Tensor) -> object:
        """Return what the module makes of x; x is left alone."""
        return self.module(x.clone() if self.overwrites else x)


def links_of(module: nn.Module, first: Tensor) -> tuple[Link, ...]:
    """Return the modules of an ``nn.Sequential`` in order, or none where cutting it could change what it does.

    It could where a subclass or a hook does something of its own, where a module is used twice (a part of the chain
    would miscount its uses), and where anything but one tensor goes from one module to the next.

    Args:
        module: the network. first: what it is given, for one pass.
    """
    plain = type(module).forward is nn.Sequential.forward and type(module).__call__ is nn.Module.__call__
    if not plain or module._forward_hooks or module._forward_pre_hooks:
        return ()
    children = list(module)  # type: ignore[call-overload]
    parts = [{id(part) for part in child.modules()} for child in children]
    if len(children) < 2 or len(set().union(*parts)) < sum(map(len, parts)):
        return ()
    links, x = [], first.clone()
    for child in children:
        if not isinstance(x, Tensor):
            return ()
        version = x._version
        made = child(x)
        links.append(Link(child, x._version != version))
        x = made
    return tuple(links)
