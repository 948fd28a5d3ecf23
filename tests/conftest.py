"""What every test may rely on: no hook survives, the cache is a folder of its own, threads stay as they were."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules import module as module_hooks

import dissect
from dissect import GanatomyError
from dissect.generators import catalog
from segmodels import fetch

OWN_CACHE = os.environ.get("GANATOMY_CACHE")  # the user's, before the tests put theirs in its place
HOOKS = {
    "register_forward_hook": "_forward_hooks",
    "register_forward_pre_hook": "_forward_pre_hooks",
    "register_full_backward_hook": "_backward_hooks",
    "register_full_backward_pre_hook": "_backward_pre_hooks",
    "register_backward_hook": "_backward_hooks",
}
GLOBAL_HOOKS = [name for name in dir(module_hooks) if name.startswith("_global_") and name.endswith("_hooks")]
PASS_SECONDS = 5
THEIR_OWN = ("torch", "timm", "segmentation_models_pytorch")  # libraries that may hook the modules they build


@pytest.fixture(scope="session", autouse=True)
def _hook_log():
    """Every hook that is put on any module, as (module, which dict, id, whose)."""
    log = []

    def logged(register, where):
        @functools.wraps(register)
        def call(module, hook, *args, **kwargs):
            handle = register(module, hook, *args, **kwargs)
            owner = str(getattr(hook, "__module__", "") or "")
            if owner.split(".")[0] not in THEIR_OWN:
                log.append((weakref.ref(module), where, handle.id, owner))
            return handle

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, where in HOOKS.items():
            patch.setattr(nn.Module, name, logged(getattr(nn.Module, name), where))
        yield log


@pytest.fixture(autouse=True)
def _no_hook_is_left(_hook_log):
    """Fail a test that leaves a hook on a module that still lives.

    A page may still be drawn by a server's thread when a test ends: its pass has a few seconds to take its hooks away.
    """
    _hook_log.clear()
    yield
    end = time.monotonic() + PASS_SECONDS
    while (left := _hooks_left(_hook_log)) and time.monotonic() < end:
        time.sleep(0.05)
    _hook_log.clear()
    assert not left, f"hooks were left: {left}"


def _hooks_left(log):
    left = [
        f"{type(module).__name__}{where} of {owner}"
        for reference, where, key, owner in list(log)
        if (module := reference()) is not None and key in getattr(module, where)
    ]
    return left + [name for name in GLOBAL_HOOKS if len(getattr(module_hooks, name))]


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory):
    """The cache of all tests, and of what they share: two runs of one test must not measure their batch twice."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANATOMY_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _cache_of_its_own(_session_cache, monkeypatch):
    """Downloads of tests never touch the user's cache."""
    monkeypatch.setenv("GANATOMY_CACHE", str(_session_cache))


@pytest.fixture(autouse=True)
def _threads_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread(_threads_restored):
    """For networks that are too small for two threads."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def _users_cache():
    """The user's own cache, where the tests of real weights look."""
    with pytest.MonkeyPatch.context() as patch:
        if OWN_CACHE is None:
            patch.delenv("GANATOMY_CACHE", raising=False)
        else:
            patch.setenv("GANATOMY_CACHE", OWN_CACHE)
        yield


@pytest.fixture
def users_cache(_cache_of_its_own):
    """Put the user's own cache back for one test."""
    with _users_cache():
        yield


def _weights_of(name):
    """A catalogue entry's weights, from the user's own cache or the network; skips where they cannot be had."""
    with _users_cache():
        try:
            return fetch.fetch(catalog.entry(name).source)
        except GanatomyError as error:
            if "nothing is cached" not in str(error):
                raise
            pytest.skip(f"{name} cannot be had here: {error}")


@pytest.fixture(scope="session")
def digiface():
    """The real face generator of 64 pixels."""
    _weights_of("digiface-dcgan64")
    with _users_cache():
        return dissect.load("digiface-dcgan64")


@pytest.fixture(scope="session")
def mobilestylegan_folder():
    """The files of the real face generator of 1024 pixels."""
    return _weights_of("mobilestylegan-ffhq")
