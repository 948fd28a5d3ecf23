"""Solving: the algebra of the closed form against NumPy, the planted rule, optimisers, and what is refused."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dissect
import rewrite
import segmodels
from dissect import GanatomyError, Recipe
from dissect.generators.convolutions import convolution_of
from dissect.generators.segments import segment
from dissect.samples import Sampling
from rewrite import Memory, Region, Request, RewriteWarning, moments
from rewrite.basis import Basis, projected
from rewrite.goal import goal_of
from rewrite.optimise import Problem
from rewrite.patches import Patches

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::rewrite.RewriteWarning"),  # small networks change much; one test asks for it
]

DATA = Path(__file__).parent / "data"
LAYERS = {
    "dcgan": ("dcgan_main.safetensors", "main.6"),
    "pggan": ("rewrite_pggan.safetensors", "layer4"),
    "stylegan2": ("sg2ada_uncond.safetensors", "synthesis.b8.conv1"),
    "mobilestylegan": ("mobilestylegan_tiny.safetensors", "synthesis.layers.0.conv2"),
}


@functools.cache
def generator_of(name):
    return dissect.load(DATA / LAYERS[name][0])


@functools.cache
def memory_of(name, kind="patch", ridge=1e-4):
    generator = generator_of(name)
    return Memory.of(moments(generator, convolution_of(generator, LAYERS[name][1]), range(40), kind=kind), ridge)


def pixel(generator, layer, seed, row, column):
    """The region of an image that is one pixel of a layer's map."""
    side = generator.resolution // generator.layer(layer).height
    return Region.box(seed, generator.resolution, row * side, column * side, (row + 1) * side, (column + 1) * side)


def one_key(name, seeds=(100, 101), paste=(2, 1), copy=(1, 2)):
    generator, layer = generator_of(name), LAYERS[name][1]
    to, whence = pixel(generator, layer, seeds[1], *paste), pixel(generator, layer, seeds[0], *copy)
    return Request(generator.resolution, (to,), whence)


def key_and_value(name, region, weight=None):
    """The key [n], its phase and the value [O] at the one pixel of a region."""
    generator = generator_of(name)
    convolution = convolution_of(generator, LAYERS[name][1])
    x = segment(generator, generator.sample([region.seed]), convolution).keys().double()
    patches = Patches.of(convolution)
    values = patches.values(x, (convolution.tensor if weight is None else weight).double())[0]
    side = generator.resolution // values.shape[1]
    row, column = (int(i[0]) // side for i in np.nonzero(region.mask))
    for index, phase in enumerate(patches.phases):
        marks = torch.zeros(values.shape[1:])
        marks[row, column] = 1
        at = Patches.at(marks, phase)
        if at.any():
            keys = patches.keys(x, phase)[0].flatten(1)
            return keys[:, at.flatten() > 0][:, 0].numpy(), index, values[:, row, column].numpy()
    raise AssertionError


def matrices(name, edit):
    """The change as a matrix [O, n] for each phase."""
    convolution = convolution_of(generator_of(name), LAYERS[name][1])
    patches = Patches.of(convolution)
    return [patches.matrix(torch.from_numpy(edit.delta().copy()), phase).numpy() for phase in patches.phases]


def textbook(weight, second, key, value):
    """The paper's closed form for one key (Bau et al., ECCV 2020)."""
    direction = np.linalg.solve(second, key)
    return weight + np.outer(value - weight @ key, direction) / (direction @ key)


@pytest.mark.parametrize("name", ["pggan", "stylegan2"])
def test_the_oracle_is_the_golden_closed_form(name):
    g = np.load(DATA / f"rewrite_{name}.expected.npz")
    made = textbook(g["analytic_W"], g["analytic_C"], g["analytic_k"], g["analytic_v"])
    np.testing.assert_allclose(made, g["analytic_W_edited"], atol=2e-5 * np.abs(made).max())


@pytest.mark.parametrize("name", LAYERS)
def test_one_key_gets_its_value_by_the_smallest_change(name):
    generator, layer = generator_of(name), LAYERS[name][1]
    request, memory = one_key(name), memory_of(name)
    edit = rewrite.solve(generator, request, layer, memory=memory)
    key, phase, _ = key_and_value(name, request.paste[0])
    _, _, value = key_and_value(name, request.copy)
    convolution = convolution_of(generator, layer)
    weight = Patches.of(convolution).matrix(convolution.tensor.detach().double(), Patches.of(convolution).phases[phase])
    if name == "dcgan":  # the copied pixel is of another phase, so that another matrix would have been compared
        assert phase != key_and_value(name, request.copy)[1]
    delta = matrices(name, edit)
    second = memory.factors[phase] @ memory.factors[phase].T
    wanted = textbook(weight.numpy(), second, key, value) - weight.numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(delta[phase], wanted, atol=1e-5 * scale)
    assert all(not other.any() for index, other in enumerate(delta) if index != phase)
    # W k = v; (W - W0) C = Lambda k^T; the rows lie in the span of C^-1 k.
    np.testing.assert_allclose((weight.numpy() + delta[phase]) @ key, value, atol=1e-5 * np.abs(value).max())
    np.testing.assert_allclose(projected(delta[phase] @ second, key[None]), delta[phase] @ second, atol=1e-4 * scale)
    direction = np.linalg.solve(second, key)[None]
    np.testing.assert_allclose(projected(delta[phase], direction), delta[phase], atol=1e-5 * scale)
    # What is orthogonal to the key in the inner product of C^-1 keeps its value.
    other = np.random.RandomState(1).randn(len(key))
    other -= key * (other @ direction[0]) / (key @ direction[0])
    assert np.abs(delta[phase] @ other).max() < 1e-4 * np.abs(delta[phase] @ np.abs(other)).max()
    # Any other change with W k = v is larger in the norm of C.
    energy = np.einsum("mi,ij,mj->", delta[phase], second, delta[phase])
    for seed in range(5):
        more = np.random.RandomState(seed).randn(*delta[phase].shape) * scale
        more -= np.outer(more @ key, key) / (key @ key)
        assert np.einsum("mi,ij,mj->", delta[phase] + more, second, delta[phase] + more) > energy
    assert edit.provenance["attained"]["values"] == pytest.approx(1, abs=1e-6)
    assert edit.rank == 1  # phases without a key have no direction


def test_without_correlations_it_is_the_textbook_update():
    name = "pggan"
    memory = memory_of(name)
    size = memory.moments.sizes[0]
    plain = replace(memory.moments, second=(np.eye(size) * memory.moments.count[0],))
    request = one_key(name)
    edit = rewrite.solve(generator_of(name), request, LAYERS[name][1], memory=plain, ridge=0)
    key, _, before = key_and_value(name, request.paste[0])
    _, _, value = key_and_value(name, request.copy)
    wanted = np.outer(value - before, key) / (key @ key)
    np.testing.assert_allclose(matrices(name, edit)[0], wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", LAYERS)
def test_several_requests_are_met_at_once(name):
    generator, layer = generator_of(name), LAYERS[name][1]
    requests = [one_key(name), one_key(name, (102, 103), (3, 3), (1, 1)), one_key(name, (104, 105), (2, 3), (0, 1))]
    edit = rewrite.solve(generator, requests, layer, memory=memory_of(name))
    assert edit.provenance["attained"]["values"] == pytest.approx(1, abs=1e-6)
    weight = dissect.weight_edits.changed(convolution_of(generator, layer).tensor, [edit])
    for request in requests:
        _, _, value = key_and_value(name, request.copy)
        _, _, now = key_and_value(name, request.paste[0], weight)
        np.testing.assert_allclose(now, value, atol=2e-5 * np.abs(value).max())


@pytest.mark.parametrize("kind", ["patch", "channel"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_crop_is_met_as_nearly_as_the_span_allows(name, kind):
    """Least squares over the pixels of the crop, against NumPy on the whole stacked system."""
    generator, layer = generator_of(name), LAYERS[name][1]
    side, resolution = generator.resolution // generator.layer(layer).height, generator.resolution
    request = Request(
        resolution, (Region.box(100, resolution, side, side, 3 * side, 4 * side),),
        Region.box(101, resolution, 0, 0, 2 * side, 3 * side), (Region.box(102, resolution, 0, 0, 4 * side, 4 * side),),
    )  # fmt: skip
    memory = memory_of(name, kind)
    edit = rewrite.solve(generator, request, layer, rank=2, memory=memory)
    convolution = convolution_of(generator, layer)
    goal = goal_of(generator, request, convolution, memory)
    right = Basis.of([goal], 2, "singular").factor()
    (target,) = goal.targets()
    x = goal.keys.double()
    columns = [goal.patches.values(x, torch.from_numpy(stored(row, convolution)))[0] for row in right]
    chosen = target.weight > 0
    assert int(chosen.sum()) == 6
    seen = torch.stack([column[0][chosen] for column in columns]).numpy()  # [R, pixels]
    missing = (target.maps - goal.values[0])[:, chosen].numpy()
    best = missing - (missing @ np.linalg.pinv(seen, rcond=1e-9)) @ seen
    share = 1 - (best**2).sum() / (missing**2).sum()
    assert 0 < share <= 1
    assert edit.provenance["attained"]["values"] == pytest.approx(share, abs=1e-5)
    assert edit.provenance["attained"]["seen"] is not None
    copied = generator.features(generator.sample([101]), layer)[layer]
    assert copied.shape[1] == target.maps.shape[0]


def stored(row, convolution):
    """A row of the factor as a kernel [1, I, kh, kw] in the layout of the convolution's tensor."""
    kernel = row[None]
    return np.ascontiguousarray(kernel.swapaxes(0, 1) if convolution.reading.swapped else kernel)


def test_edits_stack_toggle_and_come_on_top():
    name = "pggan"
    generator, layer = generator_of(name), LAYERS[name][1]
    first = rewrite.solve(generator, one_key(name), layer, memory=memory_of(name))
    codes = generator.sample([100, 101, 7])
    plain = generator(codes)
    with_first = Memory.of(moments(generator, convolution_of(generator, layer), range(40), edits=first))
    assert np.array_equal(with_first.factors[0], memory_of(name).factors[0])  # keys of a weight do not depend on it
    second = rewrite.solve(generator, one_key(name, (102, 103)), layer, memory=with_first, edits=first)
    weight = dissect.weight_edits.changed(convolution_of(generator, layer).tensor, [first, second])
    request = one_key(name, (102, 103))
    base = dissect.weight_edits.changed(convolution_of(generator, layer).tensor, [first])
    _, _, value = key_and_value(name, request.copy, base)
    _, _, now = key_and_value(name, request.paste[0], weight)
    np.testing.assert_allclose(now, value, atol=2e-5 * np.abs(value).max())
    half = replace(second, strength=0.5)
    _, _, before = key_and_value(name, request.paste[0], base)
    halfway = dissect.weight_edits.changed(convolution_of(generator, layer).tensor, [first, half])
    np.testing.assert_allclose(
        key_and_value(name, request.paste[0], halfway)[2], (value + before) / 2, atol=2e-5 * np.abs(value).max()
    )
    recipe = Recipe([first, second], generator)
    assert not torch.equal(generator(codes, recipe), generator(codes, recipe[:1]))
    assert torch.equal(generator(codes, recipe[:0]), plain)
    assert torch.equal(generator(codes), plain)


def test_of_a_bundle_the_weights_are_those_that_its_edits_leave(tmp_path):
    name = "pggan"
    generator, layer = generator_of(name), LAYERS[name][1]
    first = rewrite.solve(generator, one_key(name), layer, memory=memory_of(name))
    bundle = dissect.load(dissect.export(generator, tmp_path / "one.bundle", first, bundle=True, with_weights=True))
    request = one_key(name, (102, 103))
    again = rewrite.solve(bundle, request, layer, seeds=range(40))
    beside = rewrite.solve(generator, request, layer, seeds=range(40), edits=first)
    np.testing.assert_allclose(again.delta(), beside.delta(), atol=1e-6 * np.abs(beside.delta()).max())
    codes = generator.sample([100, 103])
    assert torch.allclose(bundle(codes, again), generator(codes, [first, beside]), atol=1e-6)


@pytest.mark.parametrize("kind", ["patch", "channel"])
@pytest.mark.parametrize("name", ["dcgan", "pggan"])
def test_erase_is_towards_the_value_of_the_mean_key(name, kind):
    generator, layer = generator_of(name), LAYERS[name][1]
    request = Request(generator.resolution, (pixel(generator, layer, 100, 2, 1),), goal="erase")
    memory = memory_of(name, kind)
    edit = rewrite.solve(generator, request, layer, memory=memory)
    convolution = convolution_of(generator, layer)
    weight = dissect.weight_edits.changed(convolution.tensor, [edit])
    _, phase, now = key_and_value(name, request.paste[0], weight)
    patches = Patches.of(convolution)
    taps = len(patches.phases[phase].taps)
    mean = memory.means[phase] if kind == "patch" else np.repeat(memory.means[0], taps)
    wanted = patches.matrix(convolution.tensor.detach().double(), patches.phases[phase]).numpy() @ mean
    np.testing.assert_allclose(now, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))
    with pytest.raises(GanatomyError, match="use closed"):
        rewrite.solve(generator, request, layer, memory=memory, method="projected")


# -- optimisers ----------------------------------------------------------------------------------------------------


def problem_of(name, request, layer, rank=1):
    generator = generator_of(name)
    memory = Memory.of(moments(generator, convolution_of(generator, layer), range(40), kind="channel"))
    goal = goal_of(generator, request, convolution_of(generator, layer), memory)
    basis = Basis.of([goal], rank, "mean" if rank == 1 else "singular")
    return generator, memory, Problem([goal], basis), basis


def original(problem, basis, steps):
    """The original's optimisation: Adam on all of W, its change projected on the span every 10 steps."""
    weight = problem.weight.clone().requires_grad_()
    adam = torch.optim.Adam([weight], lr=0.05)
    rows = torch.from_numpy(np.linalg.qr(basis.rows[0].T)[0]).float()
    losses = []
    (goal,), ((target,),) = problem.goals, problem.targets
    for step in range(steps):
        adam.zero_grad()
        with torch.enable_grad():
            error = (goal.part.features(weight, gradient=True)[0] - target.maps).abs()
            loss = (error * target.weight).sum() / problem.total
            loss.backward()
        losses.append(float(loss.detach()))
        adam.step()
        if step % 10 == 0 or step == steps - 1:
            with torch.no_grad():
                change = (weight - problem.weight).flatten(1)
                weight.copy_(problem.weight + ((change @ rows) @ rows.T).reshape(weight.shape))
    return losses


@pytest.mark.parametrize("method", ["projected", "linear"])
@pytest.mark.parametrize("name", ["pggan", "stylegan2"])
def test_optimisers_go_below_the_original(name, method):
    generator, layer = generator_of(name), LAYERS[name][1]
    side, resolution = generator.resolution // generator.layer(layer).height, generator.resolution
    request = Request(
        resolution, (Region.box(100, resolution, side, side, 4 * side, 4 * side),),
        Region.box(101, resolution, 0, 0, 3 * side, 3 * side),
    )  # fmt: skip
    _, memory, problem, basis = problem_of(name, request, layer)
    losses = original(problem, basis, 150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RewriteWarning)
        edit = rewrite.solve(generator, request, layer, method=method, memory=memory)
    told = edit.provenance["losses"]
    assert told["first"] == pytest.approx(losses[0], rel=1e-5)
    assert told["last"] < losses[0]
    assert told["last"] <= 1.01 * min(losses)
    assert edit.provenance["kind"] == "channel"
    # What is told is what the edit does.
    (target,) = problem.targets[0]
    features = generator.features(generator.sample([100]), layer, edit)[layer][0]
    loss = float(((features - target.maps).abs() * target.weight).double().sum()) / problem.total
    assert loss == pytest.approx(told["last"], rel=1e-4, abs=1e-6)


def test_projected_reaches_the_closed_form_on_a_linear_layer():
    name, layer = "dcgan", "main.6"  # a convolution without anything after it
    generator, request = generator_of(name), one_key("dcgan")
    exact = rewrite.solve(generator, request, layer, memory=memory_of(name))
    found = rewrite.solve(generator, request, layer, memory=memory_of(name), method="projected")
    np.testing.assert_allclose(found.delta(), exact.delta(), atol=1e-4 * np.abs(exact.delta()).max())
    from_zero = rewrite.solve(generator, request, layer, memory=memory_of(name), method="linear")
    np.testing.assert_allclose(from_zero.delta(), exact.delta(), atol=0.05 * np.abs(exact.delta()).max())


def test_a_goal_behind_a_norm_and_an_activation():
    """The layer that is named is where the goal is; the convolution that changes is the one before it."""
    name = "dcgan"
    generator = generator_of(name)
    request = one_key("dcgan")
    edit = rewrite.solve(generator, request, "main.8", memory=memory_of(name), method="projected")
    assert (edit.layer, edit.provenance["observed"]) == ("main.6", "main.8")
    assert edit.provenance["attained"]["seen"] > 0.999


# -- the planted rule ----------------------------------------------------------------------------------------------


@functools.cache
def planted():
    return dissect.load("planted:7"), segmodels.load("planted")


def coloured(seeds, shape, colour):
    """The regions of images where a shape has a colour."""
    generator, segmenter = planted()
    names = [concept.name for concept in segmenter.concepts]
    labels = segmenter(generator(generator.sample(list(seeds))))
    index = [names.index(name) for name in (shape, colour)]
    where = [(labels[:, segmenter.concepts[i].plane] == i).numpy() for i in index]
    return [Region(s, (a & b).astype(np.float32)) for s, a, b in zip(seeds, *where, strict=True) if (a & b).any()]


def test_the_planted_rule_is_rewritten_and_nothing_else():
    generator, _ = planted()
    shape, first, second = generator.world.drawn_shapes[1], *generator.world.drawn_colours[:2]
    seeds = range(200)
    before = coloured(seeds, shape, first)
    memory = Memory.of(moments(generator, convolution_of(generator, "layer1"), seeds, cells=None), 1e-9)
    copy = coloured(range(18, 60), shape, second)[0]
    request = Request(64, tuple(before[:4]), copy, tuple(before), "mean")
    edit = rewrite.solve(generator, request, "layer1", memory=memory)
    unseen = range(1000, 1120)
    wanted = {region.seed: region.mask > 0 for region in coloured(unseen, shape, first)}
    assert len(wanted) > 5
    codes = generator.sample(list(unseen))
    plain, edited = generator(codes), generator(codes, edit)
    segmenter, names = planted()[1], [concept.name for concept in planted()[1].concepts]
    now = segmenter(edited)
    index = names.index(second)
    for row, seed in enumerate(unseen):
        inside = torch.from_numpy(wanted.get(seed, np.zeros((64, 64), bool)))
        assert (now[row, segmenter.concepts[index].plane][inside] == index).all()
        assert ((edited[row] - plain[row]).abs().amax(0)[~inside] <= 1e-3).all()
        shapes = names.index(shape)
        assert (now[row, segmenter.concepts[shapes].plane][inside] == shapes).all()
    assert edit.provenance["attained"]["values"] > 0.95


def test_a_context_by_concept_is_looked_up():
    generator, segmenter = planted()
    shape = generator.world.drawn_shapes[1]
    copy, paste = Region(18, concept=shape), Region(19, concept=shape)
    request = Request(64, (paste,), copy, tuple(Region(seed, concept=shape) for seed in range(30)), "mean")
    goal = goal_of(
        generator, request, convolution_of(generator, "layer1"),
        Memory.of(moments(generator, convolution_of(generator, "layer1"), range(30), cells=None)), segmenter,
    )  # fmt: skip
    labels = segmenter(generator(generator.sample(range(30))))
    index = [concept.name for concept in segmenter.concepts].index(shape)
    cells = torch.nn.functional.avg_pool2d((labels[:, segmenter.concepts[index].plane] == index).float()[:, None], 4)
    assert goal.counting[0].sum() == pytest.approx(float(cells.sum()))
    with pytest.raises(GanatomyError, match="say which segmenter"):
        rewrite.solve(generator, request, "layer1", seeds=range(4))


# -- what is refused -----------------------------------------------------------------------------------------------

BAD = {
    "no such layer": (lambda r: {"layer": "main.77"}, "unknown layer"),
    "another resolution": (lambda r: {"request": replaced(r, 2 * r.resolution)}, "the request is for images of"),
    "nothing asked": (lambda r: {"request": []}, "at least one request"),
    "rank 0": (lambda r: {"rank": 0}, "rank of 1 or more"),
    "method": (lambda r: {"method": "magic"}, "closed, projected, linear"),
    "mean of rank 2": (lambda r: {"rank": 2, "direction": "mean"}, "mean \\(rank 1\\)"),
    "memory of another kind": (lambda r: {"kind": "channel"}, "the memory is of patch keys"),
    "no truncation here": (lambda r: {"request": replace(r, sampling=Sampling(truncation=0.5))}, "no truncation"),
    "memory of another layer": (lambda r: {"layer": "main.3"}, "the memory is of 6.weight"),
    "memory of another generator": (lambda r: {"memory": memory_of("pggan")}, "the memory is of rewrite_pggan"),
}


def replaced(request, resolution):
    """The same request for images of another size."""
    regions = [Region.box(region.seed, resolution, 0, 0, 4, 4) for region in request.regions]
    return Request(resolution, (regions[1],), regions[0])


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    change, message = BAD[case]
    request = one_key("dcgan")
    given = {"request": request, "layer": "main.6", "memory": memory_of("dcgan")} | change(request)
    with pytest.raises(GanatomyError, match=message) as raised:
        rewrite.solve(generator_of("dcgan"), **given)
    assert "\n" not in str(raised.value)


def test_a_layer_without_a_weight():
    generator = generator_of("mobilestylegan")
    request = one_key("mobilestylegan")
    with pytest.raises(GanatomyError, match="no convolution makes layer"):
        rewrite.solve(generator, request, "synthesis.layers.0.up")


def test_contexts_that_match_nothing():
    generator, segmenter = planted()
    name = generator.world.suppressed
    there = {region.seed for region in shown(name)}
    with_none = [seed for seed in range(40) if seed not in there]
    request = Request(
        64, (Region(19),), Region(18), tuple(Region(seed, concept=name) for seed in with_none[:3]), "mean"
    )  # fmt: skip
    with pytest.raises(GanatomyError, match="the context matches nothing"):
        rewrite.solve(generator, request, "layer1", seeds=range(8), segmenter=segmenter)
    nowhere = Request(64, (Region(with_none[0], concept=name),), Region(18), goal="mean")
    with pytest.raises(GanatomyError, match=f"seed {with_none[0]} shows no '{name}'"):
        rewrite.solve(generator, nowhere, "layer1", seeds=range(8), segmenter=segmenter)
    again = Region(with_none[0], concept=name)  # the same object in both places
    both = Request(64, (again,), Region(18), (again, Region(min(there), concept=name)) if there else (again,))
    with pytest.raises(GanatomyError, match=f"seed {with_none[0]} shows no '{name}'"):
        rewrite.solve(generator, both, "layer1", seeds=range(8), segmenter=segmenter)
    unknown = Request(64, (Region(19),), Region(18), (Region(20, concept="hat"),), "mean")
    with pytest.raises(GanatomyError, match="unknown concept 'hat'"):
        rewrite.solve(generator, unknown, "layer1", seeds=range(8), segmenter=segmenter)


def shown(shape):
    """The images of the first 40 seeds that show a shape."""
    generator, segmenter = planted()
    index = [concept.name for concept in segmenter.concepts].index(shape)
    labels = segmenter(generator(generator.sample(range(40))))[:, segmenter.concepts[index].plane]
    return [Region(seed) for seed in range(40) if (labels[seed] == index).any()]


def test_edits_that_are_too_large_are_told():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.ConvTranspose2d(6, 8, 8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    generator = dissect.load(module, z_dim=6)
    paste = tuple(Region.box(seed, 8, 0, 0, 8, 8) for seed in range(6))
    request = Request(8, paste, Region.box(7, 8, 0, 0, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edit = rewrite.solve(generator, request, "2", seeds=range(30), strength=0.1)
    large = max(edit.provenance["relative_norm"], edit.provenance["disturbance"])
    with pytest.warns(RewriteWarning, match="images are likely to suffer"):
        rewrite.solve(generator, request, "2", seeds=range(30), strength=1.1 / large)
