"""Bundles: one file that opens as a generator with its edits always applied; other weights are refused."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import differing
from networks import Tangled, dcgan_tensors
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stylegan2_reference import random_tensors

import dissect
import segmodels
from app import cli
from dissect import GanatomyError
from dissect.generators import bake, bundles

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
PGGAN = DATA / "pggan_gandissect.safetensors"
FILES = {
    "dcgan_main.safetensors": "main.5",
    "pggan_genforce.safetensors": "layer3",
    "pggan_ganzoo.safetensors": "groupScale0.0.activation",
    "sg2ada_cond.safetensors": "synthesis.b8.conv1",
    "sg2_rosinality.safetensors": "conv1",
    "nvlabs_sg2ada.pkl": "synthesis.b8.conv0",
    "mobilestylegan_tiny.safetensors": "synthesis.layers.0.conv2",
}


def beside(name, folder):
    """A checkpoint in the folder in which its bundle will be."""
    shutil.copy(DATA / name, folder / name)
    return dissect.load(folder / name)


def everything(generator, layer):
    """A recipe of every kind of edit."""
    place = generator.layer(layer)
    mask = np.tril(np.ones((place.height, place.width)))
    return dissect.Recipe(
        [
            dissect.ablate(layer, 0),
            dissect.ablate(layer, 1, strength=0.6, mask=mask),
            dissect.insert(layer, [2, 3], [0.5, -1.5]),
            dissect.FeatureEdit(layer, (0, 3), (0.25, 0.5)),
            dissect.replace(layer, 1, seed=7, strength=0.5),
            dissect.ablate(layer, 2, to="other", mask=mask),
        ],
        generator,
    )


@pytest.mark.parametrize("name", [*FILES, "planted:5,noise=0.25"])
def test_a_bundle_draws_what_its_recipe_draws(name, tmp_path):
    generator = beside(name, tmp_path) if name in FILES else dissect.load(name)
    recipe = everything(generator, FILES.get(name, "layer2"))
    out = dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True)
    made = dissect.load(out)
    assert type(made) is type(generator)
    assert made.name == "cut"
    assert made.recipe == recipe
    assert made.original.fingerprint == generator.fingerprint
    assert made.fingerprint == dissect.load(out).fingerprint != generator.fingerprint
    assert {"original", "edits"} <= {fact.name for fact in made.facts}
    codes = generator.sample([1, 2, 3], noise="random" if generator.has_noise else "const")
    assert torch.equal(made(codes), generator(codes, edits=recipe))
    assert not torch.equal(made(codes), generator(codes))
    assert not generator.recipe
    assert out.stat().st_size < 20_000, "no weights are in it"
    assert dissect.Recipe.load(out) == recipe


@pytest.mark.parametrize("name", FILES)
def test_layers_of_a_bundle_are_captured_and_resumed(name, tmp_path):
    """Edits on top come after the bundle's own, at each layer, whichever pass it is."""
    generator = beside(name, tmp_path)
    layer = generator.layer(FILES[name]).name
    recipe = dissect.Recipe([dissect.ablate(layer, 0), dissect.scale(layer, 1, 3.0)], generator)
    made = dissect.load(dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True))
    codes = made.sample([1, 2, 3])
    names = [place.name for place in made.layers]
    captured = made.capture(codes, names)
    bare = generator.capture(codes, names)
    assert torch.equal(captured.images, generator(codes, edits=recipe))
    wanted = bare.features[layer]
    for edit in recipe:
        wanted = edit(wanted)
    assert torch.equal(captured.features[layer], wanted), "a bundle's layer is what its edits leave of it"
    assert captured.edits == ()
    top = dissect.Recipe([dissect.ablate(layer, [1]), dissect.scale(layer, 2, 0.5)], made)
    for place in names:
        assert torch.equal(made.resume(captured, place), captured.images), place
        assert torch.equal(made.features(codes, place)[place], captured.features[place]), place
        if names.index(place) <= names.index(layer):
            assert torch.equal(made.resume(captured, place, edits=top), generator(codes, edits=[*recipe, *top])), place
    assert torch.equal(made(codes, edits=top), generator(codes, edits=[*recipe, *top]))
    under = made.capture(codes, layer, edits=top)
    assert torch.equal(under.features[layer], wanted)
    with pytest.raises(GanatomyError, match="the recipe is for cut"):
        generator(codes, edits=top)
    with pytest.raises(GanatomyError, match="not for cut"):
        made(codes, edits=recipe)


def test_replicas_of_a_bundle_are_bundles(tmp_path):
    generator = beside("pggan_gandissect.safetensors", tmp_path)
    recipe = dissect.Recipe(dissect.ablate("layer4", [0, 1], to="other"), generator)
    made = dissect.load(dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True))
    codes = made.sample([1, 2])
    _, other = made.replicas(2)
    assert other is not made
    assert other.module is not made.module
    assert other.fingerprint == made.fingerprint
    assert torch.equal(other(codes), generator(codes, edits=recipe))
    _, plain = generator.replicas(2)
    assert torch.equal(plain(codes), generator(codes))


@pytest.mark.parametrize("name", ["dcgan_main.safetensors", "pggan_gandissect.safetensors"])
def test_dissecting_a_bundle_counts_what_the_baked_file_counts(name, tmp_path):
    """The oracle has no hooks: the same edits as weights of an ordinary file."""
    generator = beside(name, tmp_path)
    layers = generator.default_layers()
    recipe = [dissect.ablate(layers[0], [0, 2]), dissect.ablate(layers[1], [1])]
    runs = []
    for out, bundle in (("cut.bundle", True), ("cut.safetensors", False)):
        made = dissect.load(dissect.export(generator, tmp_path / out, recipe, bundle=bundle))
        path = tmp_path / f"{out}.h5"
        run = dissect.run(made, segmodels.load("colors"), samples=24, out=path, batch=5, maxima=True)
        assert run.manifest["generator"]["fingerprint"] == made.fingerprint
        runs.append(path)
    assert differing(*runs) == []
    assert not dissect.open(runs[0]).layer(layers[0]).mean[[0, 2]].any()
    dissect.run(generator, segmodels.load("colors"), samples=24, out=tmp_path / "plain.h5", batch=5, maxima=True)
    assert differing(runs[0], tmp_path / "plain.h5")


def test_dissecting_a_planted_bundle_counts_the_changed_network(tmp_path):
    generator = dissect.load("planted:7")
    units = [3, 5, 40]
    recipe = dissect.ablate("layer2", units)
    made = dissect.load(dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True))
    changed = dissect.load("planted:7")
    with torch.no_grad():
        changed.network.layer2.conv.weight[units] = 0
        changed.network.layer2.conv.bias[units] = 0
    runs = []
    for index, each in enumerate((made, changed, generator)):
        runs.append(tmp_path / f"{index}.h5")
        dissect.run(each, segmodels.load("planted"), samples=24, out=runs[-1], batch=5)
    assert differing(runs[0], runs[1]) == []
    assert "layers/layer3/counts" in differing(runs[0], runs[2])


# -- finding the original --------------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path):
    generator = dissect.load(PGGAN)
    recipe = dissect.Recipe(dissect.ablate("layer4", [0], strength=0.5), generator)
    return dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True)


def one_line(words, call):
    with pytest.raises(GanatomyError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_original_is_beside_or_named(cut, tmp_path):
    one_line(
        r"cut.bundle is a bundle for .*put its file .*pggan_gandissect.safetensors.* beside the bundle, or .*--option",
        lambda: dissect.load(cut),
    )
    generator = dissect.load(PGGAN)
    codes = generator.sample([4])
    wanted = generator(codes, edits=dissect.ablate("layer4", [0], strength=0.5))
    for weights in (PGGAN, str(PGGAN), generator, load_file(PGGAN)):
        assert torch.equal(dissect.load(cut, weights=weights)(codes), wanted)
    shutil.copy(PGGAN, tmp_path / PGGAN.name)
    assert torch.equal(dissect.load(cut)(codes), wanted)
    save_file({key: value * 1.5 for key, value in load_file(PGGAN).items()}, tmp_path / PGGAN.name)
    one_line("is a bundle for .*is not that", lambda: dissect.load(cut))
    one_line("is not that", lambda: dissect.load(cut, weights=DATA / "dcgan_main.safetensors"))
    one_line("no such checkpoint", lambda: dissect.load(cut, weights=tmp_path / "none.pth"))
    one_line("unknown option", lambda: dissect.load(PGGAN, weights=PGGAN))


def test_the_same_weights_with_other_layer_names_are_refused(cut, tmp_path):
    other = dissect.convert(PGGAN, tmp_path / "other.pth", "genforce")
    one_line("other layer names", lambda: dissect.load(cut, weights=other))


def test_a_catalogue_name_is_looked_up_and_never_fetched(digiface, users_cache, monkeypatch, tmp_path):
    recipe = dissect.Recipe(dissect.ablate("main.5", 154, strength=0.5), digiface)
    out = dissect.export(digiface, tmp_path / "faces.bundle", recipe, bundle=True)
    codes = digiface.sample([1])
    made = dissect.load(out)
    assert torch.equal(made(codes), digiface(codes, edits=recipe))
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "empty"))
    one_line("`ganatomy generators fetch digiface-dcgan64` brings it", lambda: dissect.load(out))
    assert torch.equal(dissect.load(out, weights=digiface)(codes), made(codes))


def test_a_module_is_given(tmp_path):
    module = Tangled()
    generator = dissect.load(module, z_dim=Tangled.Z_DIM)
    recipe = dissect.Recipe([dissect.ablate("act@2", [1, 2]), dissect.scale("split:1:half", 0, 2.0)], generator)
    out = dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True)
    one_line("which is not here; say where it is with weights=", lambda: dissect.load(out))
    codes = generator.sample([1, 2])
    made = dissect.load(out, weights=module, z_dim=Tangled.Z_DIM)
    assert torch.equal(made(codes), generator(codes, edits=recipe))
    assert torch.equal(made.resume(made.capture(codes, "conv2"), "conv2"), made(codes))
    one_line("is not that", lambda: dissect.load(out, weights=Tangled(seed=1), z_dim=Tangled.Z_DIM))


def test_options_travel_with_a_bundle(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({key: value.contiguous() for key, value in random_tensors().items()}, path)
    generator = dissect.load(path, conv_clamp="0.5", w_avg=np.linspace(-1, 1, 7), lr_multiplier=0.02)
    edit = dissect.ablate("synthesis.b8.conv1", [0])
    codes = generator.sample([1, 2], truncation=0.5)
    for with_weights in (False, True):
        out = dissect.export(
            generator, tmp_path / f"{with_weights}.bundle", edit, bundle=True, with_weights=with_weights
        )
        made = dissect.load(out)
        assert made.original.fingerprint == generator.fingerprint
        assert torch.equal(made(codes), generator(codes, edits=edit))
    one_line("is not that", lambda: dissect.load(tmp_path / "False.bundle", conv_clamp=0.25))


# -- weights inside --------------------------------------------------------------------------------------------


def noise_maps():
    expected = np.load(DATA / "mobilestylegan_tiny.expected.npz")
    return {name: expected[name] for name in expected.files if name.startswith("noise_")}


INSIDE = {
    "dcgan": lambda f: dissect.load(DATA / "dcgan_main.safetensors"),
    "zip": lambda f: dissect.load(zipped({"netG": dcgan_tensors(bias=True)}, f / "net.pth")),
    "pggan": lambda f: dissect.load(DATA / "pggan_ganzoo.safetensors"),
    "recorded arguments": lambda f: dissect.load(DATA / "nvlabs_sg2ada.pkl"),
    "tensors beside": lambda f: dissect.load(DATA / "sg2_rosinality.safetensors"),
    "noise": lambda f: dissect.load(DATA / "mobilestylegan_tiny.safetensors", noise=noise_maps()),
    "float16": lambda f: dissect.load(halved(f / "half.safetensors")),
}


def zipped(tensors, path):
    torch.save(tensors, path)
    return path


def halved(path):
    save_file({key: value.bfloat16().contiguous() for key, value in random_tensors().items()}, path)
    return path


@pytest.mark.parametrize("case", INSIDE)
def test_weights_travel_with_a_bundle_if_asked(case, tmp_path):
    generator = INSIDE[case](tmp_path)
    layer = generator.default_layers()[1]
    edit = dissect.ablate(layer, [0, 1], strength=0.75)
    out = dissect.export(generator, tmp_path / "whole.bundle", edit, bundle=True, with_weights=True)
    away = tmp_path / "away"
    away.mkdir()
    made = dissect.load(out.rename(away / "renamed.bundle"))
    codes = generator.sample([1, 2, 3])
    assert torch.equal(made(codes), generator(codes, edits=edit))
    assert made.original.fingerprint == generator.fingerprint
    assert made.recipe == dissect.Recipe.load(away / "renamed.bundle")
    one_line("did not come from a checkpoint", lambda: dissect.export(made, tmp_path / "x.pth"))


def test_what_came_from_no_file_has_no_weights_to_put_in(tmp_path):
    generator = dissect.load("planted:3")
    one_line(
        "did not come from a checkpoint",
        lambda: dissect.export(generator, tmp_path / "x.bundle", (), bundle=True, with_weights=True),
    )
    assert list(tmp_path.iterdir()) == []


# -- bundles of bundles ----------------------------------------------------------------------------------------


def test_a_bundle_is_exported_as_its_original_with_all_edits(tmp_path):
    generator = beside("pggan_gandissect.safetensors", tmp_path)
    first, second = dissect.ablate("layer4", [0, 1]), dissect.ablate("layer6", [2])
    made = dissect.load(dissect.export(generator, tmp_path / "one.bundle", first, bundle=True))
    codes = generator.sample([1, 2])
    wanted = generator(codes, edits=[first, second])
    baked = dissect.load(dissect.export(made, tmp_path / "baked.safetensors", dissect.Recipe(second, made)))
    assert torch.equal(baked(codes), wanted)
    assert not baked.recipe
    both = dissect.load(dissect.export(made, tmp_path / "two.bundle", second, bundle=True))
    assert torch.equal(both(codes), wanted)
    assert [edit.layer for edit in both.recipe] == ["layer4", "layer6"]
    assert both.fingerprint == dissect.load(dissect.export(
        generator, tmp_path / "at once.bundle", [first, second], bundle=True
    )).fingerprint  # fmt: skip
    plain = dissect.load(dissect.export(made, tmp_path / "same.safetensors"))
    assert torch.equal(plain(codes), generator(codes, edits=first))
    one_line("is a bundle, whose edits are no weights", lambda: dissect.convert(made, tmp_path / "x.pth"))
    one_line(
        "take other images' features",
        lambda: dissect.export(made, tmp_path / "x.bundle", dissect.replace("layer6", 0), bundle=True),
    )
    assert bake.compare(both, generator, [first, second]).largest == 0


# -- bad files -------------------------------------------------------------------------------------------------


def rewritten(path, change):
    """The same bundle with another header."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    told = json.loads(metadata["bundle"])
    change(told, tensors, metadata)
    metadata["bundle"] = json.dumps(told)
    save_file(tensors, path, metadata)
    return path


HOSTILE = {
    "newer": (lambda t, n, m: t.update(version=9), "bundle version 9, this ganatomy reads 1"),
    "no version": (lambda t, n, m: t.update(version="x"), "damaged bundle"),
    "a path": (lambda t, n, m: t.update(file="../secret.pth"), "damaged bundle.*not the name of a file"),
    "a folder": (lambda t, n, m: t.update(file=".."), "damaged bundle.*not the name of a file"),
    "itself": (lambda t, n, m: t.update(file="cut.bundle"), "put its file .*cut.bundle"),
    "code": (lambda t, n, m: t.update(file="", name="bundle_payload:main"), "which is not here"),
    "an address": (lambda t, n, m: t.update(file="", name="https://x/y.pth#sha256=" + "0" * 64), "which is not here"),
    "an option that is a path": (lambda t, n, m: t.update(options={"w_avg": "/etc/passwd"}), "an option is no number"),
    "an option of load": (lambda t, n, m: t.update(options={"z_dim": 4}), "no generator has the options"),
    "options of no kind": (lambda t, n, m: t.update(options=5), "damaged bundle"),
    "another unit": (
        lambda t, n, m: m.update(recipe=m["recipe"].replace('"units": [0]', '"units": [1]')),
        "not those that were written",
    ),
    "another original": (lambda t, n, m: t.update(fingerprint="0" * 64), "not those that were written"),
    "no recipe": (lambda t, n, m: m.pop("recipe"), "damaged bundle"),
    "another recipe": (lambda t, n, m: m.update(recipe="{}"), "no recipe"),
    "deep": (lambda t, n, m: m.update(recipe="[" * 100_000), "damaged bundle"),
    "weights of nothing": (lambda t, n, m: t.update(network={}), "no known generator has these tensors"),
    "a colossal planted one": (
        lambda t, n, m: t.update(file="", name="planted:1,units=99999999"), "planted|units"),
    "several lines": (lambda t, n, m: t.update(file="", name="a\nb"), "which is not here"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bundles_are_refused_in_one_line(case, cut, tmp_path, monkeypatch):
    (tmp_path / "bundle_payload.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    change, words = HOSTILE[case]
    rewritten(cut, change)
    one_line(words, lambda: dissect.load(cut))
    assert "bundle_payload" not in sys.modules


def test_a_unit_that_the_generator_lacks_is_refused(tmp_path):
    generator = dissect.load(PGGAN)
    recipe = dissect.Recipe(dissect.ablate("layer4", 0))
    original = bundles.original_of(generator)
    for edit, words in ((dissect.ablate("layer4", 999), "has units 0"), (dissect.ablate("layer99", 0), "layer99")):
        bundles.write(original, dissect.Recipe(edit), tmp_path / "cut.bundle")
        one_line(words, lambda: dissect.load(tmp_path / "cut.bundle", weights=generator))
    bundles.write(original, recipe, tmp_path / "cut.bundle")
    assert dissect.load(tmp_path / "cut.bundle", weights=generator).recipe == recipe


def test_a_damaged_bundle_is_refused_or_draws_the_same(tmp_path):
    generator = beside("pggan_gandissect.safetensors", tmp_path)
    recipe = dissect.Recipe(
        [dissect.ablate("layer4", [0, 3], 0.5, mask=np.eye(8)), dissect.insert("layer6", [1, 2], [0.5, 2.0])], generator
    )
    out = dissect.export(generator, tmp_path / "cut.bundle", recipe, bundle=True)
    whole, codes = out.read_bytes(), generator.sample([1])
    wanted = generator(codes, edits=recipe)
    state, refused = random.Random(0), []
    for _ in range(300):
        data = bytearray(whole)
        if state.random() < 0.2:
            data = data[: state.randrange(1, len(data))]
        else:
            data[state.randrange(len(data))] ^= 1 << state.randrange(8)
        out.write_bytes(data)
        try:
            images = dissect.load(out)(codes)
        except GanatomyError as error:
            refused.append(str(error))
        else:
            assert torch.equal(images, wanted)
    assert len(refused) > 200
    assert not [line for line in refused if "\n" in line]


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 8 + b"{", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{}"])
def test_no_bundle_is_no_bundle(data, tmp_path):
    (tmp_path / "x.bundle").write_bytes(data)
    assert not bundles.is_bundle(tmp_path / "x.bundle")
    assert not bundles.is_bundle(tmp_path)
    one_line("x.bundle|x:", lambda: dissect.load(tmp_path / "x.bundle"))


def test_a_bundle_is_written_whole_or_not_at_all(cut, tmp_path):
    generator = dissect.load(PGGAN)
    before = cut.read_bytes()
    one_line("exists", lambda: dissect.export(generator, cut, dissect.ablate("layer4", 1), bundle=True))
    one_line("no such folder", lambda: dissect.export(generator, tmp_path / "no" / "x.bundle", (), bundle=True))
    assert cut.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cut.bundle"]


# -- the command -----------------------------------------------------------------------------------------------


def call(capsys, *arguments):
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_export_bakes_or_bundles(capsys, tmp_path):
    generator = dissect.load(PGGAN)
    exact = dissect.Recipe(dissect.ablate("layer4", [0]), generator).save(tmp_path / "exact.recipe")
    soft = dissect.Recipe(dissect.ablate("layer4", [0], strength=0.5), generator).save(tmp_path / "soft.recipe")
    codes = generator.sample([1])
    baked, bundle = tmp_path / "baked.safetensors", tmp_path / "soft.bundle"
    status, out, err = call(capsys, "export", PGGAN, baked, "--recipe", exact)
    assert (status, out.strip()) == (0, str(baked)), err
    assert torch.equal(dissect.load(baked)(codes), generator(codes, edits=dissect.ablate("layer4", [0])))
    status, out, err = call(capsys, "export", PGGAN, tmp_path / "no.safetensors", "--recipe", soft)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--bundle" in err
    assert call(capsys, "export", PGGAN, bundle, "--recipe", soft, "--bundle")[0] == 0
    status, out, _ = call(capsys, "generators", "show", bundle, "--option", f"weights={PGGAN}", "--json")
    shown = json.loads(out)
    assert status == 0
    assert {"name": "edits", "value": "layer4: 1 units", "known_from": "recorded in the file"} in shown["facts"]
    assert shown["fingerprint"] not in (generator.fingerprint, None)
    run = tmp_path / "run.h5"
    status, _, err = call(
        capsys, "dissect", bundle, "--option", f"weights={PGGAN}", "--samples", 8, "--layer", "layer4", "--out", run
    )
    assert status == 0, err
    assert dissect.open(run).manifest["generator"]["fingerprint"] == shown["fingerprint"]
    assert call(capsys, "dissect", bundle, "--samples", 8, "--out", tmp_path / "no.h5")[0] == 2


def test_export_puts_weights_into_a_bundle_and_names_their_licence(capsys, tmp_path):
    generator = dissect.load(DATA / "sg2_rosinality.safetensors")
    recipe = dissect.Recipe(dissect.ablate("conv1", [0]), generator).save(tmp_path / "cut.recipe")
    bundle = tmp_path / "whole.bundle"
    status, _, err = call(
        capsys, "export", DATA / "sg2_rosinality.safetensors", bundle, "--recipe", recipe, "--bundle", "--with-weights"
    )
    assert status == 0
    assert "non-commercial" in err
    assert dissect.load(bundle).recipe
    dcgan = DATA / "dcgan_main.safetensors"
    forced = dissect.Recipe(dissect.ablate("main.5", [0]), dissect.load(dcgan))
    other = tmp_path / "other.safetensors"
    save_file({key: value * 1.5 for key, value in load_file(dcgan).items() if value.is_floating_point()}, other)
    forced.save(tmp_path / "other.recipe")
    arguments = ["export", other, tmp_path / "out.safetensors", "--recipe", tmp_path / "other.recipe"]
    status, _, err = call(capsys, *arguments)
    assert status == 2
    assert "--force" in err
    assert call(capsys, *arguments, "--force")[0] == 0


def test_equal_edits_make_equal_bundles(tmp_path):
    plain = dissect.ablate("layer1", 3)
    edit = dissect.FeatureEdit("layer1", tuple(np.array([3])), 1)
    assert edit == plain
    assert dissect.Recipe(edit).id == dissect.Recipe(plain).id
    made = dissect.load(dissect.export(dissect.load("planted:0"), tmp_path / "cut.bundle", edit, bundle=True))
    assert made.recipe[0] == plain
