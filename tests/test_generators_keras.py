"""Chains of Keras layers: against loops over pixels; what a file says of itself; what is refused."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch

import dissect
import segmodels
from dissect import GanatomyError

pytestmark = pytest.mark.usefixtures("one_thread")

VECTOR, CHANNELS = 5, 6


def tutorial(kernel=5, strides=(1, 2), last="tanh", colors=1, extra=()):
    """A description like that of Keras's own DCGAN example, small, and weights for it."""
    state = np.random.RandomState(0)
    layers, weights = [{"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, VECTOR]}}], {}

    def add(kind, name, variables=None, **config):
        layers.append({"class_name": kind, "config": {"name": name, "trainable": True, **config}})
        weights.update({(name, part): value.astype(np.float32) for part, value in (variables or {}).items()})

    def norm(name, width, epsilon=1e-3, scale=True):
        parts = {
            "beta": state.randn(width),
            "moving_mean": state.randn(width),
            "moving_variance": state.rand(width) + 0.5,
        }
        add(
            "BatchNormalization",
            name,
            parts | ({"gamma": state.randn(width)} if scale else {}),
            epsilon=epsilon,
            axis=[-1],
        )

    add("Dense", "dense", {"kernel": state.randn(VECTOR, 9 * CHANNELS)}, use_bias=False, activation="linear")
    norm("bn", 9 * CHANNELS)
    add("LeakyReLU", "leaky", alpha=0.3)
    add("Reshape", "reshape", target_shape=[3, 3, CHANNELS])
    width = CHANNELS
    for index, stride in enumerate(strides):
        weight = {"kernel": state.randn(kernel, kernel, 4 + index, width) / 9}
        add(
            "Conv2DTranspose", f"up{index}", weight, strides=[stride] * 2, padding="same", use_bias=False,
            activation="linear", data_format="channels_last", output_padding=None, dilation_rate=[1, 1],
        )  # fmt: skip
        width = 4 + index
        norm(f"bn{index}", width, 1e-2, scale=index == 0)
        add("LeakyReLU", f"leaky{index}", alpha=0.2)
        add("Dropout", f"rest{index}", rate=0.5)
    for kind, name, variables, config in extra:
        add(kind, name, variables, **config)
    weight = {"kernel": state.randn(3, 3, width, colors) / 4, "bias": state.randn(colors) / 4}
    add("Conv2D", "image", weight, padding="same", activation=last, strides=[1, 1])
    return {"class_name": "Sequential", "config": {"name": "gan", "layers": layers}}, weights


def written(path, description, weights, prefix="model_weights/", told=True, text=str):
    with h5py.File(path, "w") as file:
        for (name, part), value in weights.items():
            file[f"{prefix}{name}/{name}/{part}:0"] = value
        file["optimizer_weights/iterations:0"] = np.int64(3)
        if told:
            file.attrs["model_config"] = text(json.dumps(description))
    return path


def by_hand(description, weights, z):
    """The image [h, w, colors] of one z: channels last, loops over pixels, float64."""
    x, acts = z.astype(np.float64), {"tanh": np.tanh, "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "linear": lambda a: a}
    for layer in description["config"]["layers"]:
        config, kind = layer["config"], layer["class_name"]
        own = {part: value.astype(np.float64) for (name, part), value in weights.items() if name == config["name"]}
        if kind == "Dense":
            x = x @ own["kernel"]
        elif kind == "BatchNormalization":
            scale = own.get("gamma", 1) / np.sqrt(own["moving_variance"] + config["epsilon"])
            x = (x - own["moving_mean"]) * scale + own["beta"]
        elif kind == "LeakyReLU":
            x = np.where(x > 0, x, config["alpha"] * x)
        elif kind == "Reshape":
            x = x.reshape(config["target_shape"])
        elif kind == "UpSampling2D":
            x = x.repeat(2, 0).repeat(2, 1)
        elif kind == "Conv2DTranspose":
            (h, w, _), k, s = x.shape, own["kernel"].shape[0], config["strides"][0]
            wide = np.zeros((h * s + k, w * s + k, own["kernel"].shape[2]))
            for i in range(h):
                for j in range(w):
                    wide[i * s : i * s + k, j * s : j * s + k] += own["kernel"] @ x[i, j]
            before = max(k - s, 0) // 2
            x = wide[before : before + h * s, before : before + w * s]
        elif kind == "Conv2D":
            k = own["kernel"].shape[0]
            padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
            patches = [[padded[i : i + k, j : j + k] for j in range(x.shape[1])] for i in range(x.shape[0])]
            x = np.einsum("hwijc,ijco->hwo", np.array(patches), own["kernel"]) + own["bias"]
        x = acts[config.get("activation", "linear")](x) if kind != "Reshape" else x
    return x


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({}, 6),
        ({"kernel": 4, "strides": (2, 2)}, 12),
        ({"kernel": 3, "strides": (2,)}, 6),
        ({"kernel": 2, "strides": (3,)}, 9),
        ({"kernel": 5, "strides": (2, 2), "last": "sigmoid", "colors": 3}, 12),
        ({"extra": (("UpSampling2D", "twice", None, {"size": [2, 2], "interpolation": "nearest"}),)}, 12),
    ],
)
@pytest.mark.parametrize("text", [str, np.bytes_])
def test_images_are_those_of_the_description(options, side, text, tmp_path):
    description, weights = tutorial(**options)
    generator = dissect.load(written(tmp_path / "gan.h5", description, weights, text=text))
    assert (generator.family, generator.resolution, generator.z_dim) == ("keras", side, VECTOR)
    codes = generator.sample([1, 2])
    images = generator(codes)
    for z, image in zip(codes.z.numpy(), images):
        wanted = by_hand(description, weights, z)
        wanted = wanted * 2 - 1 if options.get("last") == "sigmoid" else wanted
        assert np.abs(image.permute(1, 2, 0).numpy() - wanted).max() < 1e-5
    for layer in generator.layers:
        capture = generator.capture(codes, layer.name)
        assert torch.equal(generator.resume(capture, layer.name), images)
    assert generator.layers[0].name == "reshape"
    assert [layer.name for layer in generator.layers if layer.default][-1].startswith("leaky")
    assert len(generator.replicas(2)) == 2


def test_it_is_dissected_converted_and_baked(tmp_path):
    description, weights = tutorial()
    generator = dissect.load(written(tmp_path / "gan.h5", description, weights))
    run = dissect.run(generator, segmodels.load("colors"), samples=24, out=tmp_path / "run.h5")
    assert list(run.layers) == generator.default_layers()
    other = dissect.load(dissect.convert(generator, tmp_path / "gan.safetensors"))
    codes = generator.sample([4])
    assert other.fingerprint == generator.fingerprint
    assert torch.equal(other(codes), generator(codes))
    cut = dissect.export(other, tmp_path / "cut.safetensors", dissect.ablate("up0", [1, 2]))
    assert torch.equal(dissect.load(cut)(codes), generator(codes, dissect.ablate("up0", [1, 2])))
    with pytest.raises(GanatomyError, match="only its convolutions are baked"):
        dissect.export(other, tmp_path / "no.safetensors", dissect.ablate("bn0", 1))
    with pytest.raises(GanatomyError, match="cannot be changed in place; convert it"):
        dissect.export(generator, tmp_path / "no.h5", dissect.ablate("up0", 1))


def test_weights_alone_want_the_description(tmp_path):
    description, weights = tutorial()
    whole = dissect.load(written(tmp_path / "whole.h5", description, weights))
    alone = written(tmp_path / "alone.h5", description, weights, prefix="", told=False)
    with pytest.raises(GanatomyError, match="has weights only.*model_config=FILE"):
        dissect.load(alone)
    (tmp_path / "gan.json").write_text(json.dumps(description))
    assert dissect.load(alone, model_config=tmp_path / "gan.json").fingerprint == whole.fingerprint


def changed(change):
    def make():
        description, weights = tutorial()
        change({layer["config"]["name"]: layer for layer in description["config"]["layers"]}, weights)
        return description, weights

    return make


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layers, w: layers["up0"].update(class_name="Lambda"), "class 'Lambda' are not known"),
        (lambda layers, w: layers["up0"]["config"].update(activation="swoosh"), "activation 'swoosh' is not known"),
        (lambda layers, w: layers["up0"]["config"].update(data_format="channels_first"), "channels_first"),
        (lambda layers, w: layers["up0"]["config"].update(strides=[100000, 1]), "whole numbers from 1 to 64"),
        (lambda layers, w: [layers[n]["config"].update(strides=[64, 64]) for n in ("up0", "up1")], "more than 4096"),
        (lambda layers, w: layers["up0"]["config"].update(dilation_rate=[2, 2]), "dilation"),
        (lambda layers, w: layers["reshape"]["config"].update(target_shape=[54]), "a Reshape to"),
        (lambda layers, w: layers["reshape"]["config"].update(target_shape=[3, 3, 7]), "do not fit each other"),
        (lambda layers, w: layers["reshape"]["config"].update(name="bn"), "names of their own"),
        (lambda layers, w: layers["image"]["config"].pop("name"), "does not describe a chain"),
        (lambda layers, w: w.pop(("up0", "kernel")), "no kernel for a Conv2DTranspose"),
        (lambda layers, w: w.pop(("bn0", "moving_mean")), "layer bn0 has"),
        (lambda layers, w: w.update({("bn0", "beta"): np.zeros(3, np.float32)}), r"its bias is \[3\], expected \[4\]"),
        (lambda layers, w: w.update({("bn0", "moving_variance"): -np.ones(4, np.float32)}), "negative values"),
        (
            lambda layers, w: w.update({("other", "kernel"): np.zeros((2, 2), np.float32)}),
            "unexpected key other.weight",
        ),
        (lambda layers, w: w.update({("up0", "kernel"): np.zeros((5, 5, 4, 5), np.float32)}), "do not fit each other"),
    ],
)
def test_what_is_not_such_a_chain_is_refused_in_one_line(change, words, tmp_path):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.load(written(tmp_path / "gan.h5", *changed(change)()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"class_name": "Functional"}', "[" * 5000])
def test_a_description_that_is_none_is_refused(text, tmp_path):
    _, weights = tutorial()
    path = written(tmp_path / "gan.h5", None, weights, told=False)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = text
    with pytest.raises(GanatomyError) as caught:
        dissect.load(path)
    assert "\n" not in str(caught.value)
