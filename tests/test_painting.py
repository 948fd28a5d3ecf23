"""Painting without a browser: edits as the page has them, the images and files that the server makes of them."""

import base64
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from dashboard import planted_file  # noqa: F401
from PIL import Image

import dissect
import segmodels
from app import painting, server
from app.library import Library
from app.paint_edits import address_of, edits_of, entry_of, latents_of, mask_of, start_of, told_latents
from app.rows import heat
from app.safety import guard
from dissect import GanatomyError, Recipe, WeightEdit, ablate, insert, replace, scale
from dissect.edits import FeatureEdit
from dissect.pictures import decode, to_bytes

DATA = Path(__file__).parent / "data"
HOST = {"Host": "localhost"}
BLOB = (np.add.outer(np.arange(16), np.arange(16)) * 8).astype(np.uint8)  # all kinds of values, 0 to 240
MASK = BLOB / np.float32(255)


# -- edits as the page has them --------------------------------------------------------------------------------------

BRUSHED = {
    "erase": ablate("a", [3, 1], 0.5, MASK),
    "erase everywhere": ablate("a", [0]),
    "draw": insert("b", [2, 7], [0.1, -3.7], MASK, 0.25),
    "draw everywhere": insert("b", [2], 1 / 3),
}
OTHERS = {
    "amplified": scale("a", [1, 2], 3.0),
    "strength for each unit": FeatureEdit("a", (1, 2), (0.5, 1.0)),
    "another image's": replace("a", [4], seed=5),
    "maps": insert("a", [1], np.ones((1, 4, 4))),
    "a mask finer than 8 bits": ablate("a", [1], mask=np.full((4, 4), 0.3, np.float32)),
    "a mask that is not square": ablate("a", [1], mask=np.ones((4, 8))),
    "of weights": WeightEdit("a", "w", np.ones((3, 1)), np.ones((1, 2, 3, 3)), strength=2.0),
}


@pytest.mark.parametrize("edit", [*BRUSHED.values(), *OTHERS.values()], ids=[*BRUSHED, *OTHERS])
def test_an_edit_comes_back_from_the_page_as_it_went(edit):
    entry = json.loads(json.dumps(entry_of(edit)))
    assert edits_of([entry]) == (edit,)
    assert (entry["kind"] == "file") == (edit in OTHERS.values())


@pytest.mark.parametrize("name", ["amplified", "strength for each unit", "of weights"])
def test_what_no_brush_has_made_can_be_weakened(name):
    (half,) = edits_of([entry_of(OTHERS[name]) | {"strength": 0.5}])
    assert np.allclose(half.strength, np.array(OTHERS[name].strength) / 2)


def png_of(array, mode=None):
    out = io.BytesIO()
    Image.fromarray(array, mode).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_a_mask_is_the_alpha_of_a_png_or_its_brightness():
    painted = np.zeros((16, 16, 4), np.uint8)
    painted[..., :3], painted[..., 3] = 77, BLOB
    assert np.array_equal(mask_of(png_of(painted)), MASK)
    assert np.array_equal(mask_of(png_of(BLOB)), MASK)
    assert np.array_equal(mask_of(address_of(MASK)), MASK)
    assert mask_of(None) is address_of(None) is None


PLAIN = {"kind": "erase", "layer": "a", "units": [1], "strength": 1, "mask": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x", "a list of at most 64"), ([PLAIN] * 65, "a list of at most 64"), (["x"], "as a JSON object"),
        ([PLAIN | {"kind": "burn"}], "erase, draw or file"), ([PLAIN | {"strength": 2}], "strength from 0 to 1"),
        ([PLAIN | {"strength": True}], "strength from 0 to 1"), ([PLAIN | {"strength": float("nan")}], "from 0 to 1"),
        ([PLAIN | {"layer": 3}], "a layer and a list"), ([PLAIN | {"units": ["1"]}], "integer indices"),
        ([PLAIN | {"units": [-1]}], "units >= 0"), ([PLAIN | {"kind": "draw"}], "one for each unit"),
        ([PLAIN | {"kind": "draw", "values": [1, 2]}], "a value or a map for each"),
        ([PLAIN | {"mask": "http://elsewhere/mask.png"}], "PNG in a data address"),
        ([PLAIN | {"mask": "data:image/png;base64,!!"}], "base64"),
        ([PLAIN | {"mask": "data:image/png;base64," + base64.b64encode(b"GIF89a").decode()}], "damaged"),
        ([PLAIN | {"mask": png_of(np.zeros((4, 8), np.uint8))}], "square mask"),
        ([PLAIN | {"mask": png_of(np.zeros((1025, 1025), np.uint8))}], "at most 1024"),
        ([{"kind": "file", "strength": 1, "file": "AAAA"}], "this file is not a recipe"),
        ([{"kind": "file", "strength": 1}], "base64"),
    ],
)  # fmt: skip
def test_what_is_no_edit_is_told_in_a_line(given, words):
    with pytest.raises(GanatomyError, match=words):
        edits_of(given)


# -- latents ---------------------------------------------------------------------------------------------------------


def test_latents_are_read_from_files_of_numbers(tmp_path):
    w = np.random.default_rng(0).normal(size=(3, 4, 7)).astype(np.float32)
    np.save(tmp_path / "w.npy", w)
    np.savez(tmp_path / "w.npz", w=w, other=w[:1])
    torch.save({"w": torch.tensor(w)}, tmp_path / "w.pt")
    for name in ("w.npy", "w.npz", "w.pt"):
        assert np.array_equal(latents_of((tmp_path / name).read_bytes()), w)
    for one, told in zip(w, json.loads(json.dumps(told_latents(w))), strict=True):
        start = start_of({"w": told})
        assert np.array_equal(start.w, one[None])
        assert start.seed is None
    assert start_of({"w": told_latents(w)[0]}).key != start_of({"w": told_latents(w)[1]}).key


def test_nothing_is_unpickled_and_what_is_no_latent_is_told(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "many.npy", np.zeros((65, 7)))
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros((64, 1 << 18), np.float64))
    refused = [("objects.npy", "this file: expected"), ("bomb.npz", "unpacks to more"), ("many.npy", "1 to 64 codes")]
    for data, words in [*(((tmp_path / name).read_bytes(), words) for name, words in refused), (b"none", "this file")]:
        with pytest.raises(GanatomyError, match=words) as told:
            latents_of(data)
        assert str(tmp_path) not in str(told.value)
    for given in ({}, {"seed": "5"}, {"seed": True}, [], {"w": {"shape": [2], "data": "AAAA"}}, {"w": {"shape": [0]}},
                  {"w": {"shape": "ab", "data": ""}}):  # fmt: skip
        with pytest.raises(GanatomyError):
            start_of(given)


# -- what the server draws -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def context(planted_file):  # noqa: F811
    made = server.context_of(Library([planted_file]))
    assert made.library.get("planted").layers
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def opened(context):
    return context.library.get("planted")


@pytest.fixture(scope="module")
def web(context):
    return server.build(context, guard("127.0.0.1")).server.test_client()


@pytest.fixture(scope="module")
def planted():
    return dissect.load("planted:0")


def asked(web, path, content):
    data = content if isinstance(content, bytes) else json.dumps(content)
    return web.post(f"/painting/{path}", data=data, headers=HOST)


def picture(answer, row):
    return decode(base64.b64decode(answer.json["rows"][row].partition(",")[2]))


def a_stroke(side=64):
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side // 2, side // 4 : -side // 4] = 1
    return mask


def test_an_image_is_drawn_as_the_generator_draws_it(web, planted, opened):
    units = painting.best(opened, "cyan", "layer3")
    values = painting.brush(opened, "layer3", units, "cyan").values["high"]
    stack = [ablate("layer1", [3, 4]), insert("layer3", units, values, a_stroke(), 0.5)]
    for seed in (0, 7):
        codes = planted.sample([seed])
        for edits in ([], stack, stack[1:]):
            answer = asked(web, "planted/shown", {"seed": seed, "edits": [entry_of(edit) for edit in edits]})
            before, after = (to_bytes(planted(codes, e)[0].numpy()) for e in ((), edits))
            assert np.array_equal(picture(answer, "before"), before)
            assert np.array_equal(picture(answer, "after"), after)
            assert np.array_equal(picture(answer, "difference"), heat(before[None], after[None])[0])
        assert np.abs(after.astype(int) - before)[16:32, 16:48].mean() > 20, "cyan was drawn"
    only = asked(web, "planted/shown", {"seed": 0, "edits": [], "rows": ["after"]})
    assert list(only.json["rows"]) == ["after"]
    png = asked(web, "planted/picture", {"seed": 7, "edits": [entry_of(edit) for edit in stack[1:]]})
    assert np.array_equal(decode(png.data), after)


def test_what_comes_before_the_layer_is_not_computed_again(context, opened):
    studio = context.engine.live.studio(opened.run)
    start, stroke = start_of({"seed": 3}), a_stroke()
    painting.painted(studio, start, [], "layer3")
    ran = []
    hooks = [module.register_forward_hook(lambda *_, name=name: ran.append(name))
             for name, module in studio.generator.module.named_modules() if not list(module.children())]  # fmt: skip
    try:
        painting.painted(studio, start, [insert("layer3", [1], 2.0, stroke)], "layer3")
        stroke_ran = list(ran)
        ran.clear()
        studio.generator(studio.codes(3))
        whole = list(ran)
    finally:
        for hook in hooks:
            hook.remove()
    assert 0 < len(stroke_ran) < len(whole)
    assert stroke_ran == whole[-len(stroke_ran) :]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("planted/shown", b"no json", "in JSON"), ("planted/shown", b"[]", "JSON object"),
        ("planted/shown", {"edits": []}, "a seed or as w"),
        ("planted/shown", {"seed": -1, "edits": []}, "seeds between"),
        ("absent/shown", {"seed": 0, "edits": []}, "unknown run"),
        ("planted/shown", {"seed": 0, "edits": [PLAIN]}, "unknown layer"),
        ("planted/shown", {"seed": 0, "edits": [PLAIN | {"layer": "layer1", "units": [64]}]}, "units 0..63"),
        ("planted/shown", {"w": told_latents(np.zeros((1, 7), np.float32))[0], "edits": []}, "no intermediate latent"),
        ("planted/recipe", {"edits": []}, "nothing has been painted"),
        ("planted/bundle", {"edits": [PLAIN | {"layer": "layer1", "strength": 0}]}, "nothing has been painted"),
        ("planted/open", b"no recipe", "this file is not a recipe"),
        ("planted/latents", b"no latents", "this file"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_line(web, path, content, words):
    answer = asked(web, path, content)
    assert answer.status_code == 422
    assert words in answer.json["error"]
    assert "\n" not in answer.json["error"]


# -- brushes ---------------------------------------------------------------------------------------------------------


def test_a_brush_has_the_best_units_and_their_constants(web, opened):
    for concept in ("yellow", "diamond"):
        brush = web.get(f"/painting/planted/brush?concept={concept}&count=4", headers=HOST).json
        numbers = opened.run.layer(brush["layer"])
        assert brush["units"] == sorted(numbers.units(concept, top=4).tolist())
        labelled = {
            name: opened.layer(name).per_concept.get(opened.run.concept_index(concept), 0)
            for name in ("layer1", "layer3")
        }
        assert labelled[brush["layer"]] == max(labelled.values())
        mean = numbers.concept_mean[opened.run.concept_index(concept), brush["units"]]
        assert np.allclose(brush["values"]["mean"], mean)
        assert np.array_equal(brush["values"]["high"], dissect.constants.quantile(numbers)[brush["units"]])
    typed = web.get("/painting/planted/brush?layer=layer1&units=9,3", headers=HOST).json
    assert (typed["units"], typed["values"]["mean"]) == ([3, 9], None)
    for query, words in [("concept=nothing", "unknown concept"), ("layer=layer1", "a concept, or units"),
                         ("layer=layer1&units=64", "0 to 63"), ("layer=layer1&units=a", "expected seeds"),
                         ("layer=x&units=1", "unknown layer"), ("concept=yellow&count=65", "1 to 64")]:  # fmt: skip
        answer = web.get(f"/painting/planted/brush?{query}", headers=HOST)
        assert answer.status_code == 422
        assert words in answer.json["error"]


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_recipe_is_saved_and_opened_again(web, planted, tmp_path):
    edits = [ablate("layer1", [1, 5], 0.5, a_stroke()), insert("layer3", [2], 3.0), scale("layer3", [4], 2.0)]
    entries = [entry_of(edit) for edit in edits]
    path = tmp_path / "saved.safetensors"
    path.write_bytes(asked(web, "planted/recipe", {"edits": entries}).data)
    recipe = Recipe.load(path)
    assert list(recipe) == edits
    recipe.check(planted)
    back = asked(web, "planted/open", path.read_bytes()).json["edits"]
    assert edits_of(back) == tuple(edits)
    assert [{key: value for key, value in one.items() if key != "name"} for one in back] == entries
    other = Recipe(edits[1:], dissect.load("planted:1")).save(tmp_path / "other.safetensors")
    refused = asked(web, "planted/open", other.read_bytes())
    assert refused.status_code == 422
    assert "planted:1" in refused.json["error"]


def test_a_bundle_opens_as_a_generator(web, planted, tmp_path):
    edit = insert("layer3", [2], 3.0, a_stroke())
    path = tmp_path / "painted.bundle"
    path.write_bytes(asked(web, "planted/bundle", {"edits": [entry_of(edit)]}).data)
    codes = planted.sample([4])
    assert torch.equal(dissect.load(path)(codes), planted(codes, [edit]))
    why = asked(web, "planted/checkpoint", {"edits": [entry_of(edit)]}).json
    assert why["token"] is None
    assert "did not come from a checkpoint" in why["why"]


def site_of(name, folder, layers):
    file = Path(shutil.copy(DATA / name, folder))
    generator = dissect.load(file)
    run = folder / "run.h5"
    dissect.run(generator, segmodels.load("colors"), layers, samples=12, out=run)
    made = server.context_of(Library([run]))
    assert made.library.get("run").layers
    return generator, made, server.build(made, guard("127.0.0.1")).server.test_client()


def test_what_is_exactly_weights_is_exported_as_a_checkpoint(tmp_path):
    generator, context, web = site_of("dcgan_main.safetensors", tmp_path, None)
    layer = generator.default_layers()[0]
    edits = [ablate(layer, [0, 2])]
    try:
        token = asked(web, "run/checkpoint", {"edits": [entry_of(edit) for edit in edits]}).json["token"]
        end = time.monotonic() + 60
        while (state := web.get(f"/painting/run/checkpoint/{token}", headers=HOST).json)["state"] in (
            "waiting",
            "running",
        ):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert state["state"] == "done", state
        answer = web.get(f"/painting/run/checkpoint/{token}/file", headers=HOST)
        assert "run-painted.safetensors" in answer.headers["Content-Disposition"]
        (tmp_path / "out.safetensors").write_bytes(answer.data)
        codes = generator.sample([100, 101])
        drawn, wanted = dissect.load(tmp_path / "out.safetensors")(codes), generator(codes, edits)
        assert (drawn - wanted).abs().max() < 1e-5 < (generator(codes) - wanted).abs().max()
        masked = [entry_of(ablate(layer, [0], mask=np.ones((8, 8))))]
        assert "inside a mask" in asked(web, "run/checkpoint", {"edits": masked}).json["why"]
        for other in (f"{token}x", "no"):
            assert web.get(f"/painting/run/checkpoint/{other}/file", headers=HOST).status_code == 422
        kept = context.engine.exports.file(token)
    finally:
        context.engine.close()
    assert not kept.exists(), "nothing is left when the dashboard ends"


def test_an_inverted_image_is_painted_on(tmp_path):
    generator, context, web = site_of("sg2ada_uncond.safetensors", tmp_path, None)
    try:
        w = np.random.default_rng(1).normal(size=(2, generator.num_ws, generator.w_dim)).astype(np.float32)
        np.save(tmp_path / "w.npy", w)
        latents = asked(web, "run/latents", (tmp_path / "w.npy").read_bytes()).json["latents"]
        assert len(latents) == len(w)
        layer = generator.default_layers()[1]
        edit = ablate(layer, [0, 1], mask=a_stroke(16))
        answer = asked(web, "run/shown", {"w": latents[-1], "edits": [entry_of(edit)]})
        codes = generator.codes(w=w[-1:])
        assert np.array_equal(picture(answer, "after"), to_bytes(generator(codes, [edit])[0].numpy()))
        assert np.array_equal(picture(answer, "before"), to_bytes(generator(codes)[0].numpy()))
        np.save(tmp_path / "short.npy", w[..., :-1])
        assert "expected w" in asked(web, "run/latents", (tmp_path / "short.npy").read_bytes()).json["error"]
    finally:
        context.engine.close()


def test_which_families_take_latents():
    takes = [name for name in ("stylegan2", "mobilestylegan", "dcgan", "planted", "") if painting.takes_latents(name)]
    assert takes == ["stylegan2", "mobilestylegan"]
