"""Small files of the kinds that hold generators, made by the libraries that write them."""

from __future__ import annotations

import argparse
import io
import pickle
import sys
import types

import numpy as np
import torch
from torch import nn


def small_state(seed=0):
    """A state dict with every kind of view and type that a file can hold."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(6, 5, generator=generator)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "turned": base.t(),
        "part": base[2:5, 1:3],
        "tied": base,
        "half": torch.randn(4, generator=generator).half(),
        "brain": torch.randn(5, generator=generator).bfloat16(),
        "double": torch.randn(2, generator=generator).double(),
        "counts": torch.arange(5),
        "mask": torch.tensor([True, False, True]),
        "steps": torch.tensor(7),
        "nothing": torch.zeros(0, 3),
        "last": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(2, generator=generator)),
    }


def training():
    """A training checkpoint: two networks, averages, an optimiser, arguments."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3, 5, 5)).sum().backward()
    optimiser.step()
    return {
        "epoch": 3,
        "g": small_state(0),
        "d": net.state_dict(),
        "g_ema": small_state(1),
        "g_optim": optimiser.state_dict(),
        "args": argparse.Namespace(lr=0.002, path="/data", mixing=None),
        "latent_avg": torch.arange(5.0),
        "score": np.float64(1.5),
        "grid": np.arange(6, dtype=np.float32).reshape(2, 3),
    }


def stand_in(module, name, bases=(object,), **members):
    """Return a class that pickles under that name; ``forget`` takes it back."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
    made = type(name, bases, {"__module__": module, **members})
    setattr(sys.modules[module], name, made)
    return made


def forget(module):
    """Take back the modules that ``stand_in`` made."""
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        sys.modules.pop(".".join(parts[:count]), None)


def tf_pickle(module="dnnlib.tflib.network", protocol=2, old=False):
    """Bytes of a file of three networks as NVIDIA's TensorFlow code wrote them; ``old``: as Python 2 did."""
    network = stand_in(module, "Network", __getstate__=lambda self: self.state)
    easy = stand_in("dnnlib.util", "EasyDict", (dict,))
    random = np.random.RandomState(0)

    def make(function, seed, components):
        one = network.__new__(network)
        one.state = {
            "version": 4,
            "name": function,
            "static_kwargs": easy(resolution=np.int64(16), fmap_base=64, act="lrelu", list=[1, 2]),
            "components": components,
            "build_module_src": "raise RuntimeError('executed')",
            "build_func_name": function,
            "variables": [
                ("lod", np.float32(seed)),
                ("4x4/Conv/weight", np.asfortranarray(random.randn(3, 3, 4, 2).astype(np.float32))),
                ("4x4/Conv/bias", random.randn(2).astype(">f4")),
            ],
        }
        return one

    try:
        parts = [make("G_main", 1, {"synthesis": make("G_synthesis", 2, {})}), make("D_main", 3, {})]
        value = (parts[0], parts[1], make("G_main", 4, {"synthesis": make("G_synthesis", 5, {})}))
        if not old:
            return pickle.dumps(value, protocol)
        return _python2(value)
    finally:
        forget(module)
        forget("dnnlib.util")


class _Python2(pickle._Pickler):
    """Writes text and bytes with the opcodes of Python 2's strings, as pickles of that time have them."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def _string(self, raw):
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    def save_str(self, value):
        self._string(value.encode("latin1"))

    def save_bytes(self, value):
        self._string(value)

    dispatch[str] = save_str
    dispatch[bytes] = save_bytes


def _python2(value):
    out = io.BytesIO()
    _Python2(out, 2).dump(value)
    return out.getvalue()


def keras_file(path):
    """Write an HDF5 file with groups, attributes, filters and several types."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["backend"] = np.bytes_(b"tensorflow")
        file.attrs["layer_names"] = np.array([b"dense", b"conv"])
        file.attrs["count"] = 3
        file.attrs["config"] = "text of any length is left out"
        group = file.create_group("dense/inner")
        group.attrs["weight_names"] = np.array([b"kernel:0"])
        numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
        group.create_dataset("kernel:0", data=numbers, compression="gzip", shuffle=True, fletcher32=True)
        group.create_dataset("packed", data=numbers, compression="lzf")
        file["big"] = np.arange(5, dtype=">f8")
        file["half"] = np.ones(3, np.float16)
        file["mask"] = np.array([True, False])
        file["one"] = np.float32(7)


GRAPH = """<?xml version="1.0" ?>
<net name="{name}" version="10">
  <layers>
    <layer id="0" name="z" type="Parameter" version="opset1">
      <data shape="1, 4" element_type="f32"/>
      <output><port id="0" precision="FP32"><dim>1</dim><dim>4</dim></port></output>
    </layer>
    <layer id="1" name="weight" type="Const" version="opset1">
      <data element_type="f32" shape="3, 4" offset="0" size="48"/>
      <output><port id="0" precision="FP32"><dim>3</dim><dim>4</dim></port></output>
    </layer>
    <layer id="2" name="axes/0" type="Const" version="opset1">
      <data element_type="i64" shape="2" offset="48" size="16"/>
      <output><port id="0" precision="I64"><dim>2</dim></port></output>
    </layer>
    <layer id="3" name="one" type="Const" version="opset1">
      <data element_type="f16" shape="" offset="64" size="2"/>
      <output><port id="0" precision="FP16"/></output>
    </layer>
    <layer id="4" name="split" type="VariadicSplit" version="opset1">
      <input><port id="0"/><port id="1"/><port id="2"/></input>
      <output><port id="3"/><port id="4"/></output>
    </layer>
    <layer id="5" name="mat" type="MatMul" version="opset1">
      <data transpose_a="false" transpose_b="true"/>
      <input><port id="0"/><port id="1"/></input>
      <output><port id="2"/></output>
    </layer>
  </layers>
  <edges>
    <edge from-layer="2" from-port="0" to-layer="4" to-port="1"/>
    <edge from-layer="0" from-port="0" to-layer="4" to-port="0"/>
    <edge from-layer="4" from-port="4" to-layer="5" to-port="0"/>
    <edge from-layer="1" from-port="0" to-layer="5" to-port="1"/>
  </edges>
</net>
"""


def ir_pair(folder, name="Mapping"):
    """Write a graph and its constants; return both paths."""
    xml, constants = folder / f"{name}.xml", folder / f"{name}.bin"
    xml.write_text(GRAPH.format(name=name))
    numbers = [np.arange(12, dtype="<f4"), np.array([2, -1], "<i8"), np.array(0.5, "<f2")]
    constants.write_bytes(b"".join(part.tobytes() for part in numbers))
    return xml, constants
