"""Rewriting by address: edits by the hash of their files, jobs, exports; against the Python API. Without a browser."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import app.rewriting
import dissect
import rewrite
import segmodels
from app import server
from app.library import Library
from app.live import Studio
from app.matched import pictures
from app.rewriting import Asked, sampling_of
from app.rewritten import measures
from app.safety import guard
from app.shelf import Forgotten, Layer, Shelf, check_maker, parse_stack, scaled, summary
from dissect import Recipe
from dissect.pictures import to_bytes
from rewrite import Request
from segmodels import GanatomyError

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
HOST = {"Host": "localhost"}
SECONDS = 60.0
REQUEST = {
    "format": "ganatomy.request", "version": 1, "name": "blue crosses", "resolution": 64, "goal": "mean",
    "copy": {"seed": 18, "concept": "cross"}, "paste": [{"seeds": [19, 50], "concept": "cross"}],
    "context": [{"seeds": list(range(21)), "concept": "cross"}],
}  # fmt: skip
QUESTION = {"request": REQUEST, "layer": "layer1", "rank": 1, "method": "closed", "memory": 30, "edits": ""}
FRESH = "1000-1011"
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:7")


@pytest.fixture(scope="module")
def segmenter():
    return segmodels.load("planted")


@pytest.fixture(scope="module")
def seven(planted, segmenter, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "seven.h5"
    dissect.run(planted, segmenter, ["layer1", "layer3"], samples=24, out=path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of a checkpoint that lies beside it."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copy(DATA / "sg2ada_uncond.safetensors", folder / "small.safetensors")
    generator = dissect.load(folder / "small.safetensors")
    dissect.run(generator, segmodels.load("colors"), "synthesis.b8.conv1", 8, folder / "small.h5")
    return folder / "small.h5"


@pytest.fixture
def site(seven, small, tmp_path):
    """The dashboard over copies of both runs."""
    for file in (seven, small, small.with_name("small.safetensors")):
        shutil.copy(file, tmp_path / file.name)
    context = server.context_of(Library([tmp_path / "seven.h5", tmp_path / "small.h5"]))
    yield Site(server.build(context, guard("127.0.0.1")).server.test_client(), context, tmp_path)
    context.engine.close()


class Site:
    """Asks as a page does."""

    def __init__(self, client, context, folder):
        self.client, self.context, self.folder = client, context, folder

    def get(self, path, status=200):
        answer = self.client.get(f"/rewriting/{path}", headers=HOST)
        assert answer.status_code == status, answer.text
        return answer

    def post(self, path, data, status=200):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        answer = self.client.post(f"/rewriting/{path}", data=data, headers=HOST)
        assert answer.status_code == status, answer.text
        return answer

    def begin(self, what, question, run="seven"):
        return self.post(f"{run}/jobs/{what}", question).json["token"]

    def ended(self, token, run="seven"):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            stands = self.get(f"{run}/job/{token}").json
            if stands["state"] not in ("waiting", "running"):
                return stands
            time.sleep(0.02)
        raise AssertionError("the job did not end")

    def do(self, what, question, run="seven"):
        stands = self.ended(self.begin(what, question, run), run)
        assert stands["state"] == "done", stands["error"]
        return stands["result"]


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))))


def drawn(generator, seeds, edits=()):
    return [to_bytes(generator(generator.sample([seed]), edits)[0].numpy()) for seed in seeds]


@pytest.fixture(scope="module")
def edit(planted, segmenter):
    return rewrite.solve(planted, Request.of(REQUEST), "layer1", seeds=range(30), segmenter=segmenter)


# Edits by key


@pytest.mark.parametrize(
    ("text", "stack"),
    [
        ("", ()), (f"{A}~1", (Layer(A, 1.0),)), (A, (Layer(A, 1.0),)),
        (f"{A}~0.5,{B}~-2", (Layer(A, 0.5), Layer(B, -2.0))),
        ("a~1", None), (f"{A}~x", None), (f"{A}~nan", None), (f"{A}~inf", None), (f"{A}~11", None), (f"{A}~1,", None),
        (A.upper(), None), (f"../{A}", None), (",".join([A] * 65), None),
    ],
)  # fmt: skip
def test_stacks_as_addresses_have_them(text, stack):
    if stack is not None:
        assert parse_stack(text) == stack
        return
    with pytest.raises(GanatomyError) as caught:
        parse_stack(text)
    assert "\n" not in str(caught.value)


def test_a_shelf_is_bounded_and_says_what_it_has_forgotten(planted, seven):
    run, files = dissect.open(seven), [Recipe(dissect.ablate("layer1", [u]), planted).data() for u in range(4)]
    shelf = Shelf(room=3 * len(files[0]))
    keys = [shelf.put(data) for data in files[:3]]
    assert shelf.put(files[0]) == keys[0], "the same file has the same key, and is the latest now"
    last = shelf.put(files[3])
    assert shelf.file(keys[0]) == files[0]
    with pytest.raises(Forgotten) as caught:
        shelf.edits(parse_stack(f"{keys[1]}~1,{last}~1,{B}~1"), run)
    assert caught.value.missing == (keys[1], B)
    large = Recipe(dissect.insert("layer1", [0], np.zeros((1, 16, 16))), planted).data()
    assert shelf.file(shelf.put(large)) == large, "what is new is kept, whatever it takes"


def test_what_is_no_recipe_or_for_another_generator_is_refused(site):
    other = Recipe(dissect.ablate("layer1", [1]), dissect.load("planted:8")).data()
    assert "for planted:8" in site.post("seven/edits", other, 422).json["error"]
    for data in (b"", b"x" * 100, other[:-3], b"\xff" * 8 + b"{}"):
        assert "\n" not in site.post("seven/edits", data, 422).json["error"]
    key = site.context.engine.rewriting.shelf.put(other)  # another run's visitor has it
    assert "for planted:8" in site.get(f"seven/shown?seeds=0&edits={key}", 422).json["error"]
    with pytest.raises(GanatomyError, match="planted:8"):
        check_maker(Recipe.parse(other, "f"), site.context.library.get("seven").run)
    assert site.get(f"seven/shown?seeds=0&edits={A},{B}~0.5", 410).json["missing"] == [A, B]
    site.get(f"seven/edits/{A}", 410)
    site.get("none/edits/" + A, 422)


def test_strengths_are_factors(edit):
    assert scaled(edit, 0.5).strength == 0.5
    assert scaled(scaled(edit, 0.5), 2).strength == 1
    units = dissect.FeatureEdit("layer1", (0, 9), (0.1, 0.7))
    assert scaled(units, 0.5).strength == pytest.approx((0.05, 0.35))
    assert scaled(dissect.ablate("layer1", [1], 0.5), 0).idle
    assert summary(Recipe([edit]))["attained"]["values"] > 0.9
    assert summary(Recipe([edit, units]))["kind"] == "mixed"
    assert summary(Recipe([units]))["kind"] == "units"


# Images


def test_images_with_edits_are_those_of_the_generator(site, planted, edit):
    key = site.post("seven/edits", Recipe(edit, planted).data()).json["key"]
    for strength in (1, 0.25):
        found = site.get(f"seven/shown?seeds=19,1001&edits={key}~{strength}").json
        before, after = drawn(planted, [19, 1001]), drawn(planted, [19, 1001], replace(edit, strength=strength))
        for row, images in (("before", before), ("after", after)):
            assert all((pixels(one) == image).all() for one, image in zip(found["rows"][row], images, strict=True))
    assert found["names"] == ["seed 19", "seed 1001"]
    one = site.get(f"seven/image/19?edits={key}~0.25").data
    assert (np.asarray(Image.open(io.BytesIO(one))) == after[0]).all()


def test_upstream_of_an_edit_of_weights_nothing_is_computed_again(small):
    generator, run = dissect.load(small.with_name("small.safetensors")), dissect.open(small)
    c = dissect.generators.convolutions.convolution_of(generator, "synthesis.b8.conv1")
    left, right = np.ones((c.outputs, 1)), np.full((1, c.inputs, *c.kernel), 0.01)
    edits = [dissect.WeightEdit(c.layer, c.weight, left, right, strength=s) for s in (0.5, 1.0)]
    passes, resumed = [], []
    capture, resume = generator.capture, generator.resume
    generator.capture = lambda codes, layers, edits=(): passes.append(layers) or capture(codes, layers, edits)
    generator.resume = lambda made, layer, **how: resumed.append(layer) or resume(made, layer, **how)
    studio = Studio(run, generator)
    for one in edits:
        wanted = drawn(generator, [3], one)
        assert (studio.images([3], [one])[0] == wanted[0]).all()
    assert len(resumed) == 2
    assert len(set(resumed)) == 1
    assert generator.layer(resumed[0]).stage < generator.layer(c.layer).stage
    assert [layers for layers in passes if layers == resumed[0]] == [resumed[0]], "one pass for both strengths"


def test_what_the_segmenter_calls_so_is_a_mask(site, planted, segmenter):
    names = [c.name for c in segmenter.concepts]
    found = np.asarray(Image.open(io.BytesIO(site.get("seven/where/19?concept=cross").data)))
    labels = segmenter(planted(planted.sample([19])))[0].numpy()
    assert ((found == 255) == (labels == names.index("cross")).any(0)).all()
    assert "circle" in site.get("seven/where/19?concept=circel", 422).json["error"]


def test_matches_as_pictures():
    images = [np.full((64, 64, 3), 200, np.uint8)]
    share = np.zeros((1, 4, 4), np.float32)
    share[0, 0, 0], share[0, 3, 3] = 1, 0.5
    found = pixels(pictures(images, share)[0]).astype(int)
    assert found.shape == (128, 128, 3)
    middle, meant, half = found[64, 64], found[4, 4], found[-5, -5]
    assert np.ptp(middle) < 6, "what is not meant is grey"
    assert meant.sum() > half.sum() - 200
    assert np.ptp(half) > 40, "what is meant has a colour"
    assert meant[0] > 200


# Jobs


def test_solving_is_that_of_the_api_and_its_memory_is_kept(site, planted, edit):
    found = site.do("solve", QUESTION)
    recipe = Recipe.parse(site.get(f"seven/edits/{found['key']}").data, "it")
    assert recipe == Recipe(edit, planted)
    assert found["summary"]["attained"] == edit.provenance["attained"]
    memory = site.folder / "seven.memory.h5"
    stamp = memory.stat().st_mtime_ns
    again = site.do("solve", QUESTION)
    assert again["key"] == found["key"]
    assert memory.stat().st_mtime_ns == stamp, "the memory was read, not made"
    boxes = {name: REQUEST[name] for name in ("format", "version", "resolution", "goal")} | {
        "copy": {"seed": 18, "box": [0, 0, 32, 32]}, "paste": [{"seed": 19, "box": [0, 0, 20, 40]}],
    }  # fmt: skip
    more = {"request": boxes, "edits": f"{found['key']}~0.5", "layer": "layer3", "rank": 2}
    below = site.do("solve", QUESTION | more)
    assert memory.stat().st_mtime_ns == stamp, "with other edits active it is nobody else's"
    wanted = rewrite.solve(planted, Request.of(boxes), "layer3", 2, seeds=range(30), edits=replace(edit, strength=0.5))
    assert Recipe.parse(site.get(f"seven/edits/{below['key']}").data, "it")[0] == wanted


def test_a_large_change_is_warned_of(site):
    everything = REQUEST | {"copy": {"seed": 18}, "paste": [{"seed": 19}], "context": [{"seed": 3}], "goal": "crop"}
    found = site.do("solve", QUESTION | {"request": everything, "rank": 20})
    assert any("images are likely to suffer" in text for text in found["warnings"])


def test_matches_are_those_of_the_api(site, planted, segmenter):
    looking = {**REQUEST, "goal": "erase", "paste": [{"seed": 0}]}
    del looking["copy"]
    found = site.do("match", QUESTION | {"request": looking, "seeds": FRESH})
    (memory,) = rewrite.recall(planted, [dissect.generators.convolutions.convolution_of(planted, "layer1")], range(30))
    wanted = rewrite.matches(planted, Request.of(looking), "layer1", range(1000, 1012), memory, segmenter=segmenter)
    assert found["context"] == pytest.approx(wanted.context)
    assert found["strongest"] == pytest.approx([float(one.max()) for one in wanted.shares])
    assert len(found["pictures"]) == 12


def test_judging_is_that_of_the_api(site, planted, segmenter, edit):
    key = site.post("seven/edits", Recipe(edit, planted).data()).json["key"]
    found = site.do("judge", {"edits": key, "seeds": FRESH, "source": "cross", "target": "blue"})
    wanted = rewrite.evaluate(planted, segmenter, edit, range(1000, 1012), "cross", "blue")
    assert found["rows"] == measures(wanted)
    assert found["told"].endswith(".")


@pytest.mark.parametrize("slow", ["recall", "evaluate"])
def test_a_job_can_be_cancelled_and_leaves_nothing(site, planted, edit, monkeypatch, slow):
    real = getattr(rewrite, slow)

    def slowly(*given, progress, **how):
        def told(done, total):
            time.sleep(0.05)
            progress(done, total)

        return real(*given, progress=told, **how)

    monkeypatch.setattr(app.rewriting.rewrite, slow, slowly)
    key = site.post("seven/edits", Recipe(edit, planted).data()).json["key"]
    judge = {"edits": key, "seeds": "1000:1500", "source": "cross"}
    token = site.begin("judge", judge) if slow == "evaluate" else site.begin("solve", QUESTION | {"memory": 4000})
    end = time.monotonic() + SECONDS
    while not site.get(f"seven/job/{token}").json["done"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert site.get("seven/shown?seeds=1").json["seeds"] == [1], "others are served meanwhile"
    assert site.post(f"seven/job/{token}/cancel", b"").json == {"cancelled": True}
    stands = site.ended(token)
    assert (stands["state"], stands["result"]) == ("cancelled", None)
    assert not list(site.folder.glob("*.memory.h5*"))


@pytest.mark.parametrize(
    ("what", "more", "says"),
    [
        ("solve", {"request": None}, "ganatomy.request"), ("solve", {"rank": 0}, "rank"),
        ("solve", {"request": REQUEST | {"paste": []}}, "at least one"), ("solve", {"rank": 99}, "rank"),
        ("solve", {"rank": "x"}, "rank"), ("solve", {"rank": True}, "rank"), ("solve", {"memory": 10**9}, "memory"),
        ("solve", {"method": "magic"}, "method"), ("match", {"seeds": ""}, "seeds"),
        ("match", {"seeds": "0:999"}, "at most"), ("judge", {"seeds": "-1"}, "seeds"), ("boil", {}, "expected one of"),
        ("solve", {"edits": "x"}, "KEY~STRENGTH"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_asked_begins_no_job(site, what, more, says):
    error = site.post(f"seven/jobs/{what}", QUESTION | more, 422).json["error"]
    assert says in error
    assert "\n" not in error
    assert site.context.engine.worker.reports() == ()


@pytest.mark.parametrize(
    ("what", "more", "says"),
    [
        ("solve", {"layer": "layer9"}, "layer1"), ("solve", {"request": REQUEST | {"resolution": 32}}, "32 x 32"),
        ("solve", {"request": REQUEST | {"copy": {"seed": 18, "concept": "crss"}}}, "cross"),
        ("judge", {"seeds": FRESH}, "at least one concept"), ("export", {}, "export a bundle"),
    ],
)  # fmt: skip
def test_what_turns_out_not_to_work_is_said_in_a_line(site, planted, what, more, says):
    key = site.post("seven/edits", Recipe(dissect.ablate("layer1", [1]), planted).data()).json["key"]
    stands = site.ended(site.begin(what, QUESTION | {"edits": key} | more))
    assert stands["state"] == "failed"
    assert says in stands["error"]
    assert "\n" not in stands["error"]
    assert str(site.folder) not in stands["error"]


def test_a_job_is_known_by_its_token_alone(site):
    token = site.begin("solve", QUESTION)
    site.ended(token)
    assert "not known" in site.get("seven/job/1", 422).json["error"]
    assert "not known" in site.get(f"seven/job/{token[:-1]}", 422).json["error"]
    assert "not kept" in site.get(f"seven/export/{token}", 422).json["error"]
    assert site.post("seven/jobs/solve", b"[", 422).json["error"]
    assert site.post("seven/jobs/solve", b"[1]", 422).json["error"]


# What is saved


def test_a_recipe_and_a_bundle_draw_what_is_shown(site, planted, edit):
    key = site.post("seven/edits", Recipe(edit, planted).data()).json["key"]
    other = site.post("seven/edits", Recipe(dissect.ablate("layer3", [4]), planted).data()).json["key"]
    stack = f"{key}~0.5,{other}~1"
    shown = site.get(f"seven/shown?seeds=1001&edits={stack}").json["rows"]["after"][0]
    for kind in ("recipe", "bundle"):
        answer = site.get(f"seven/{kind}?edits={stack}")
        name = {"recipe": "seven-edits.safetensors", "bundle": "seven-edits.bundle"}[kind]
        assert name in answer.headers["Content-Disposition"]
        path = site.folder / name
        path.write_bytes(answer.data)
        made = drawn(planted, [1001], Recipe.load(path)) if kind == "recipe" else drawn(dissect.load(path), [1001])
        assert (made[0] == pixels(shown)).all()
    assert "nothing to export" in site.get("seven/recipe?edits=", 422).json["error"]


def test_a_checkpoint_draws_what_is_shown(site, small):
    generator = dissect.load(small.with_name("small.safetensors"))
    c = dissect.generators.convolutions.convolution_of(generator, "synthesis.b8.conv1")
    left, right = np.linspace(-1, 1, c.outputs)[:, None], np.full((1, c.inputs, *c.kernel), 0.05)
    recipe = Recipe(dissect.WeightEdit(c.layer, c.weight, left, right), generator)
    key = site.post("small/edits", recipe.data()).json["key"]
    found = site.do("export", {"edits": f"{key}~0.5"}, "small")
    assert found["name"] == "small-edited.safetensors"
    path = site.folder / "exported.safetensors"
    path.write_bytes(site.get(f"small/export/{found['file']}").data)
    shown = site.get(f"small/shown?seeds=5&edits={key}~0.5").json["rows"]["after"][0]
    made = dissect.load(path)
    assert (drawn(made, [5])[0] == pixels(shown)).all()
    assert not torch.equal(made(made.sample([5])), generator(generator.sample([5])))
    folder = site.context.engine.exports.file(found["file"]).parent
    site.context.engine.close()
    assert not folder.exists()


def test_requests_are_read_in_full_and_checked(site):
    by_hand = REQUEST | {"copy": {"seed": 18, "box": [0, 0, 8, 8]}}
    found = site.post("seven/request", by_hand).json
    alpha = pixels(found["request"]["copy"]["mask"])[..., 1]
    assert (alpha[:8, :8] == 255).all()
    assert alpha.sum() == 64 * 255, "what browsers draw with is alpha"
    again = Request.of(REQUEST | {"copy": found["request"]["copy"]})
    assert again.copy.mask.sum() == 64
    assert [region["seed"] for region in found["request"]["paste"]] == [19, 50]
    assert found["remark"] == ""
    assert "run's" in site.post("seven/request", REQUEST | {"sampling": {"truncation": 0.5}}).json["remark"]
    for wrong in (b"", b"[]", json.dumps(REQUEST | {"resolution": 128, "copy": {"seed": 1}}).encode()):
        assert "\n" not in site.post("seven/request", wrong, 422).json["error"]


def test_a_run_without_seeds_cannot_be_rewritten(planted, segmenter, tmp_path):
    z = np.random.RandomState(0).randn(6, planted.z_dim).astype(np.float32)
    path = tmp_path / "given.h5"
    dissect.run(planted, segmenter, "layer1", out=path, z=z)
    with pytest.raises(GanatomyError, match="given latents"):
        sampling_of(dissect.open(path))


def test_a_question_is_read_as_it_was_asked():
    asked = Asked.of("solve", QUESTION | {"edits": f"{A}~0.5"})
    assert (asked.layer, asked.rank, asked.method, asked.memory) == ("layer1", 1, "closed", 30)
    assert asked.stack == (Layer(A, 0.5),)
    assert asked.request.described() == Request.of(REQUEST).described()
