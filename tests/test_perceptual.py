"""Perceptual distances against the public implementation, and what a mask must not let through."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import dissect
from dissect import GanatomyError, metrics
from dissect.metrics import perceptual
from dissect.metrics.imagesets import Drawn, ImageSet
from segmodels import fetch


def images(seed, count=2, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def features_of(net):
    """The network's convolutions, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = perceptual.BACKBONES[net].build().to_empty(device="cpu")
        for tensor in network.parameters():
            torch.nn.init.normal_(tensor, std=0.03 if net == "alex" else 0.02)
    return network.eval()


@pytest.fixture(scope="module", params=["alex", "vgg"])
def pair(request, tmp_path_factory):
    """Ours and torchmetrics', with the same random network and with the weights that torchmetrics ships."""
    package = pytest.importorskip("torchmetrics.functional.image.lpips")
    network = features_of(request.param)
    path = tmp_path_factory.mktemp("weights") / "network.pth"
    torch.save({f"features.{key}": tensor for key, tensor in network.state_dict().items()}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "_get_tv_model_features", lambda *_args: network)
        theirs = package._NoTrainLpips(net=request.param)
    return perceptual.Lpips(request.param, path), theirs


def test_it_is_the_public_packages(pair):
    ours, theirs = pair
    a, b = images(0), images(1)
    found, expected = ours(a, b), theirs(a, b).flatten()
    assert (found > 0).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert (ours.name, ours.metric) == (f"lpips-{theirs.pnet_type}", "lpips")


def test_nothing_is_at_no_distance(pair):
    ours, _ = pair
    assert ours(images(0), images(0)).tolist() == [0, 0]
    torch.testing.assert_close(ours(images(0), images(1)), ours(images(1), images(0)))


@pytest.fixture(scope="module", params=["lpips", "face-parts-encoder", "squared-difference"])
def distance(request, tmp_path_factory):
    if request.param != "lpips":
        return perceptual.load(request.param)
    path = tmp_path_factory.mktemp("weights") / "network.pth"
    torch.save({f"features.{key}": tensor for key, tensor in features_of("alex").state_dict().items()}, path)
    widths = enumerate((64, 192, 384, 256, 256))
    heads = {f"lin{depth}.model.1.weight": torch.rand(1, width, 1, 1) for depth, width in widths}
    torch.save(heads, path.with_name("heads.pth"))
    return perceptual.Lpips("alex", path, path.with_name("heads.pth"))


def test_more_change_is_more_distance(distance):
    a, b = images(0), images(1)
    near, far = (distance(a, a.lerp(b, share)) for share in (0.1, 0.5))
    assert (near > 0).all()
    assert (near < far).all()
    assert len(distance.sha256) == 64


def test_where_everything_counts_a_mask_changes_nothing(distance):
    a, b = images(0), images(1)
    torch.testing.assert_close(distance(a, b, torch.ones(2, 64, 64, dtype=bool)), distance(a, b))


def test_what_does_not_count_is_not_seen_at_all(distance):
    """Also through the receptive fields of places that count: the edit of a square is at no distance outside it."""
    a, b = images(0), images(0)
    where = torch.ones(2, 64, 64, dtype=bool)
    where[:, 10:30, 20:45] = False
    b[:, :, 10:30, 20:45] = -b[:, :, 10:30, 20:45]
    assert distance(a, b, where).tolist() == [0, 0]
    assert (distance(a, b) > 0).all()
    b[1, :, 50, 50] += 0.5
    outside = distance(a, b, where)
    assert outside[0] == 0 < outside[1]
    torch.testing.assert_close(outside, distance(b, a, where))
    assert (distance(a, b, ~where) > distance(a, b)).all()  # all of the change in a small part


def test_squared_differences_are_averaged_over_what_counts():
    a, b, where = images(0), images(1), torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = [float(((a[i] - b[i]) ** 2).mean(0)[where[i]].mean()) for i in range(2)]
    np.testing.assert_allclose(perceptual.SquaredDifference()(a, b, where), expected, rtol=1e-5)
    where[1] = False
    assert perceptual.SquaredDifference()(a, b, where).isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("a", "b", "where", "words"),
    [
        (images(0), images(0, 1), None, "of one shape"),
        (images(0)[0], images(0)[0], None, r"\[N, 3, H, W\]"),
        (images(0), images(0), torch.ones(2, 64, 64), r"mask bool \[2, 64, 64\], got torch.float32"),
        (images(0), images(0), torch.ones(2, 32, 32, dtype=bool), r"got torch.bool \[2, 32, 32\]"),
    ],
)
def test_bad_images(a, b, where, words):
    with pytest.raises(GanatomyError, match=words):
        perceptual.SquaredDifference()(a, b, where)


@pytest.mark.parametrize("pair", ["alex"], indirect=True)
def test_images_too_small_for_the_network(pair):
    ours, theirs = pair
    least = images(0, side=perceptual.LEAST), images(1, side=perceptual.LEAST)
    torch.testing.assert_close(ours(*least), theirs(*least).flatten(), rtol=1e-5, atol=1e-7)
    with pytest.raises(GanatomyError, match="at least 32 pixels a side, got 16 x 16"):
        ours(images(0, side=16), images(1, side=16))


@pytest.mark.parametrize("content", ["code", "other", "tensors"])
def test_lpips_takes_nothing_but_its_own_tensors(content, tmp_path):
    path = tmp_path / "weights.pth"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "PWNED"), "w"))

    torch.save(
        {"code": {"a": Evil()}, "other": {"a": 3}, "tensors": {"features.0.weight": torch.zeros(2)}}[content], path
    )
    with pytest.raises(GanatomyError, match="plain tensors|other things|do not hold the weights of lpips-alex"):
        perceptual.Lpips("alex", path)
    assert not (tmp_path / "PWNED").exists()


def test_names_of_distances(monkeypatch):
    assert perceptual.load().name == "face-parts-encoder"  # LPIPS' network is not in the tests' cache
    assert perceptual.load().sha256 != metrics.extractors.load("face-parts-encoder").sha256
    with pytest.raises(GanatomyError, match="unknown distance 'lpips'"):
        perceptual.load("lpips")
    monkeypatch.setattr(perceptual, "find_spec", lambda _name: None)
    with pytest.raises(GanatomyError, match=r"pip install 'ganatomy\[metrics\]'"):
        perceptual.heads_of("alex")


def test_where_its_weights_are_lpips_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "network.pth"
    torch.save({f"features.{key}": tensor for key, tensor in features_of("alex").state_dict().items()}, path)
    source = fetch.Https("https://example.org/alexnet.pth", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    monkeypatch.setattr(perceptual.Backbone, "source", source)
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path))
    fetch.cached_path(source).parent.mkdir(parents=True)
    path.rename(fetch.cached_path(source))
    found = perceptual.load()
    assert found.name == "lpips-alex"
    assert found(images(0), images(0)).tolist() == [0, 0]


# Pairs, and along paths


def test_pairs_in_any_batch():
    generator, distance = dissect.load("planted:3"), perceptual.SquaredDifference()
    edit = dissect.ablate("layer2", range(8))
    first, second = range(5), [9, 8, 7, 6, 5]
    a, b = (generator(generator.sample(list(seeds)), edits) for seeds, edits in ((first, ()), (second, edit)))
    for batch in (1, 2, 8):
        found = metrics.pair_distances(Drawn(generator, first), Drawn(generator, second, edit), distance, batch)
        np.testing.assert_allclose(found.each, distance(a, b))
        np.testing.assert_allclose(found.unrelated, distance(b[:-1], b[1:]))
    assert np.ptp(found.each) > 0


def test_sets_without_pairs():
    class Lacking(ImageSet):
        name, skipped = "photos", ("b.png",)

        def __len__(self):
            return 2

        def batches(self, size):
            raise AssertionError("nothing is to be read")

    distance, generator = perceptual.SquaredDifference(), dissect.load("planted:3")
    with pytest.raises(GanatomyError, match="as many images on either side, got 2 of planted:3, 2 seeds and 3"):
        metrics.pair_distances(Drawn(generator, range(2)), Drawn(generator, range(3)), distance)
    with pytest.raises(GanatomyError, match=r"photos: b\.png cannot be read, so that no pairs"):
        metrics.pair_distances(Drawn(generator, range(2)), Lacking(), distance)


def test_a_distance_serves_as_that_of_paths():
    generator, distance = dissect.load("planted:3"), perceptual.SquaredDifference()
    found = metrics.path_length(generator, range(8), distance, space="z", epsilon=0.1)
    plain = metrics.path_length(generator, range(8), space="z", epsilon=0.1)
    np.testing.assert_allclose(found.each, plain.each, rtol=1e-6)
    assert found.value > 0
