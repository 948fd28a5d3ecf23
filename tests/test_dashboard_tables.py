"""A run without its cache: pages open at once, say what is being computed, and show it when it is there."""

import shutil
import threading
import time

import numpy as np
import pytest
from dashboard import chromium, planted_file, second_file, serving, visitors  # noqa: F401

import dissect
from app import server
from app.context import Address, NotYet, link
from app.library import Library
from app.safety import guard
from app.tables import Tables
from dissect import GanatomyError, layer_result
from dissect.derived import derive

SECONDS = 20.0


@pytest.fixture
def bare(planted_file, tmp_path):  # noqa: F811
    """A run without a cache."""
    return shutil.copy(planted_file, tmp_path / "bare.h5")


class Gate:
    """Holds every computation of a layer's tables until it may go on."""

    def __init__(self, monkeypatch, error=None):
        self.layers, self.go_on, self.error = [], threading.Semaphore(0), error
        monkeypatch.setattr(layer_result, "derive", self)

    def __call__(self, reader, layer, *rest):
        self.layers.append(layer)
        assert self.go_on.acquire(timeout=SECONDS)
        if self.error:
            raise self.error
        return derive(reader, layer, *rest)

    def open(self):
        self.go_on.release(1000)


def until(condition):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("it never came to that")


@pytest.fixture
def context(bare, second_file):  # noqa: F811
    made = server.context_of(Library([bare]))
    yield made
    assert made.engine.close()


def test_nobody_waits_for_tables(context, bare, monkeypatch):
    gate = Gate(monkeypatch)
    web = server.build(context, guard("127.0.0.1")).server.test_client()
    began = time.monotonic()
    with pytest.raises(NotYet) as first:
        context.opened("bare")
    assert first.value.report.done == 0
    body = server._body(context, Address.of("/unit/bare/layer1/3", ""))
    assert body.id == "waiting"
    for path in ("/thumb/bare/layer1/3.jpg", "/units/bare.csv", link("drawing", "bare", "layer1", 3, "bars.svg")):
        answer = web.get(path, headers={"Host": "localhost"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.text == "the tables of bare are being computed; try again in a moment\n"
    assert time.monotonic() - began < 5
    gate.go_on.release()
    until(lambda: len(gate.layers) == 2)
    with pytest.raises(NotYet) as second:
        context.opened("bare")
    assert (second.value.report.done, second.value.report.total, second.value.report.message) == (1, 2, "layer3")
    gate.open()
    until(lambda: context.engine.tables.missing(context.library.get("bare")) is None)
    assert gate.layers == ["layer1", "layer3"], "each was computed once, however many asked"
    assert web.get("/thumb/bare/layer1/3.jpg", headers={"Host": "localhost"}).mimetype == "image/jpeg"
    assert bare.with_name("bare.cache.npz").exists()
    again = Tables()
    assert again.missing(Library([bare]).get("bare")) is None, "the next dashboard finds them"
    assert again.close()


def test_a_folder_that_cannot_be_written_is_no_obstacle(context, bare):
    bare.with_name("bare.cache.npz").mkdir()
    until(lambda: context.engine.tables.missing(context.library.get("bare")) is None)
    assert context.opened("bare").layer("layer1").labelled == 21


def test_a_cache_without_one_of_the_tables_is_not_enough(bare, planted_file):  # noqa: F811
    run = dissect.open(bare)
    for layer in run.layers:
        assert run.layer(layer).label.any()
    cache = bare.with_name("bare.cache.npz")
    assert Library([bare]).get("bare").ready
    with np.load(cache) as kept:
        arrays = dict(kept)
    del arrays["layer3/chance_label"]  # as a version wrote it that did not know it
    np.savez(cache, **arrays)
    assert not Library([bare]).get("bare").ready
    cache.write_bytes(b"damaged")
    assert not Library([bare]).get("bare").ready


def test_what_cannot_be_computed_is_said(context, monkeypatch):
    gate = Gate(monkeypatch, GanatomyError("bare.h5 is damaged: counts"))
    with pytest.raises(NotYet):
        context.opened("bare")
    gate.open()
    tables, opened = context.engine.tables, context.library.get("bare")
    with pytest.raises(GanatomyError, match="damaged: counts"):
        until(lambda: tables.missing(opened) is None)
    body = server._body(context, Address.of("/run/bare", ""))
    assert "damaged: counts" in str(body)
    assert len(gate.layers) == 1


def test_a_dissection_does_not_keep_tables_waiting(context):
    go_on = threading.Event()
    context.engine.worker.submit("test", "t", lambda _desk: go_on.wait(SECONDS))
    until(lambda: context.engine.tables.missing(context.library.get("bare")) is None)
    go_on.set()


@pytest.mark.parametrize(
    ("path", "there"), [("/run/bare", "#run-chart"), ("/unit/bare/layer1/3?level=7", "#tops"), ("/", "#run-chart")]
)
def test_a_page_says_so_and_then_shows_them_by_itself(bare, visitors, monkeypatch, path, there):  # noqa: F811
    gate = Gate(monkeypatch)
    with serving([bare], tables=False) as (address, _):
        visitor = visitors(address)
        began = time.monotonic()
        visitor.page.goto(address + path)
        visitor.page.wait_for_selector("#waiting-says:has-text('layer 1 of 2, layer1')")
        assert time.monotonic() - began < 10
        gate.go_on.release()
        visitor.page.wait_for_selector("#waiting-says:has-text('layer 2 of 2, layer3')")
        gate.open()
        visitor.page.wait_for_selector(there)
        assert visitor.page.query_selector("#waiting") is None
        assert visitor.path() == path


def test_who_goes_on_meanwhile_is_not_called_back(bare, visitors, monkeypatch):  # noqa: F811
    gate = Gate(monkeypatch)
    with serving([bare], tables=False) as (address, _):
        visitor = visitors(address)
        visitor.page.goto(address + "/run/bare")
        visitor.page.wait_for_selector("#waiting")
        visitor.page.click("nav >> text=Jobs")
        visitor.page.wait_for_selector("#order-out")
        visitor.page.fill("#order-out", "half typed")
        gate.open()
        visitor.page.wait_for_timeout(1500)
        assert visitor.page.input_value("#order-out") == "half typed"
        visitor.page.go_back()
        visitor.page.wait_for_selector("#run-chart")
