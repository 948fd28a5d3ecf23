"""Hooks: what is captured is what was returned, what is changed is what the rest sees, and nothing stays behind."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

from dissect.hooks import Site, instrument, lock_of, record, tensors

Pair = namedtuple("Pair", "left right")


class Attributes(OrderedDict):
    """A dict whose items are attributes, as model libraries return."""

    def __getattr__(self, name):
        return self[name]


class Returns(nn.Module):
    """Returns what ``make`` makes of its input; ``use`` is what the network does with it."""

    def __init__(self, make, use):
        super().__init__()
        self.inner = nn.Identity()
        self.inner.forward = make
        self.use = use

    def forward(self, x):
        return self.use(self.inner(x))


def hooks_on(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


X = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)


@pytest.mark.parametrize(
    ("path", "make", "use", "kind"),
    [
        ((), lambda x: x + 1, lambda y: y, torch.Tensor),
        ((0,), lambda x: (x + 1, x), lambda y: y[0], tuple),
        ((1,), lambda x: [x, x + 1], lambda y: y[1], list),
        (("a",), lambda x: {"a": x + 1, "b": x}, lambda y: y["a"], dict),
        (("a",), lambda x: Attributes(a=x + 1), lambda y: y.a, Attributes),
        ((1,), lambda x: Pair(x, x + 1), lambda y: y.right, Pair),
        ((0, "a", 1), lambda x: ({"a": [x, x + 1]}, 7), lambda y: y[0]["a"][1], tuple),
        ((1,), lambda x: (None, x + 1, "text"), lambda y: y[1], tuple),
    ],
)
def test_values_inside_any_container_are_captured_and_changed(path, make, use, kind):
    net = Returns(make, use)
    untouched = net.inner(X)
    assert path in [found for found, _ in tensors(untouched)]
    seen = []
    net.inner.register_forward_hook(lambda *args: seen.append(args[2]))  # removed with the net
    with instrument({"v": Site(net.inner, 0, path)}, ["v"], {"v": [lambda v: v * 2, lambda v: v - 1]}) as kept:
        out = net(X)
    assert torch.equal(kept["v"], X + 1)
    assert torch.equal(out, (X + 1) * 2 - 1)
    assert type(seen[0]) is kind
    assert torch.equal(use(seen[0]), X + 1), "the container that the module returned was changed in place"
    net.inner._forward_hooks.clear()


def test_a_capture_alone_changes_nothing():
    net = Returns(lambda x: x + 1, lambda y: y)
    with instrument({"v": Site(net.inner)}, ["v"]):
        out = net(X)
    assert torch.equal(out, X + 1)


def test_what_comes_first_is_part_of_what_is_captured():
    net = Returns(lambda x: x + 1, lambda y: y)
    site = {"v": Site(net.inner)}
    with instrument(site, ["v"], {"v": [lambda v: v - 1]}, first={"v": [lambda v: v * 2, lambda v: v + 3]}) as kept:
        out = net(X)
    assert torch.equal(kept["v"], (X + 1) * 2 + 3)
    assert torch.equal(out, (X + 1) * 2 + 2)
    with instrument(site, first={"v": [lambda v: v * 2]}):
        assert torch.equal(net(X), (X + 1) * 2)


@pytest.mark.parametrize("copy", [True, False])
def test_a_copy_survives_what_the_next_module_does_in_place(copy):
    torch.manual_seed(0)  # a conv that makes negative values, which the ReLU would cut
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    before = net[0](X).detach().clone()
    assert (before < 0).any()
    with torch.no_grad(), instrument({"conv": Site(net[0])}, ["conv"], copy=copy) as kept:
        net(X)
    assert torch.equal(kept["conv"], before) == copy


def test_the_calls_of_a_module_used_twice_are_told_apart():
    act = nn.ReLU()
    net = Returns(lambda x: act(act(x) - 5), lambda y: y)
    net.act = act
    sites = {"act": Site(act), "act@2": Site(act, 1)}
    with instrument(sites, ["act", "act@2"]) as kept:
        net(X)
    assert torch.equal(kept["act"], X)
    assert torch.equal(kept["act@2"], (X - 5).relu())
    with instrument(sites, (), {"act@2": [lambda v: v + 100]}):
        assert torch.equal(net(X), (X - 5).relu() + 100)
    with instrument(sites, ["act@2"], {"act": [lambda v: v * 0]}) as kept:
        assert torch.equal(net(X), torch.zeros_like(X))
    assert list(kept) == ["act@2"]


def test_hooks_go_when_the_forward_raises():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(9, 1, 1))
    with pytest.raises(RuntimeError), instrument({"a": Site(net[0]), "b": Site(net[1])}, ["a", "b"]):
        net(X)
    assert hooks_on(net) == 0
    with pytest.raises(RuntimeError), record(net):
        net(X)
    assert hooks_on(net) == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_hooks_go_when_a_change_raises(error):
    net = nn.Sequential(nn.Conv2d(3, 4, 1))

    def change(value):
        raise error

    with pytest.raises(error), instrument({"a": Site(net[0])}, (), {"a": [change]}):
        net(X)
    assert hooks_on(net) == 0


def test_hooks_that_were_put_go_when_putting_the_next_one_fails(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    monkeypatch.setattr(net[1], "register_forward_hook", lambda hook: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError), instrument({"a": Site(net[0]), "b": Site(net[1])}, ["a", "b"]):
        pass
    with pytest.raises(ZeroDivisionError), record(net):
        pass
    assert hooks_on(net) == 0


def test_an_unknown_site_leaves_no_hook():
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(KeyError), instrument({"a": Site(net[0])}, ["a", "b"]):
        pass
    assert hooks_on(net) == 0


def test_nested_blocks_each_see_and_remove_their_own():
    net = Returns(lambda x: x + 1, lambda y: y)
    site = {"v": Site(net.inner)}
    with instrument(site, ["v"], {"v": [lambda v: v * 10]}) as outer:
        with instrument(site, ["v"], {"v": [lambda v: v + 3]}) as inner:
            assert torch.equal(net(X), (X + 1) * 10 + 3)
        assert hooks_on(net) == 1
        assert torch.equal(net(X), (X + 1)), "a block is one pass; a second call is another call"
    assert torch.equal(outer["v"], X + 1)
    assert torch.equal(inner["v"], (X + 1) * 10)
    assert hooks_on(net) == 0


def test_other_peoples_hooks_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    calls = []
    handles = [m.register_forward_hook(lambda *_: calls.append(1)) for m in net.modules()]
    with instrument({"a": Site(net[0])}, ["a"]), record(net):
        net(X)
    net(X)
    assert len(calls) == 6
    assert hooks_on(net) == 3
    for handle in handles:
        handle.remove()


def test_record_lists_every_value_in_the_order_of_returning():
    act = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 2, 1), act, nn.Flatten())
    with record(net) as seen:
        net(X)
    found = [(name, site.call, site.path, tuple(value.shape)) for name, site, value in seen]
    assert found == [
        ("0", 0, (), (2, 4, 2, 2)),
        ("1", 0, (), (2, 4, 2, 2)),
        ("2", 0, (), (2, 2, 2, 2)),
        ("1", 1, (), (2, 2, 2, 2)),
        ("4", 0, (), (2, 8)),
        ("", 0, (), (2, 8)),
    ]
    assert {value.device.type for _, _, value in seen if value.ndim == 4 and value.shape[1] > 3} == {"meta"}


def test_all_that_wrap_one_module_share_its_lock():
    net, other = nn.ReLU(), nn.ReLU()
    assert lock_of(net) is lock_of(net)
    assert lock_of(net) is not lock_of(other)
