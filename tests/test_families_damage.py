"""Small checkpoints of every family and layout with one tensor damaged: each draws, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LONG
from safetensors.torch import load_file, save_file

import dissect
from dissect import GanatomyError

DATA = Path(__file__).parent / "data"
FILES = sorted(path for path in DATA.glob("*.safetensors") if not path.name.startswith("rewrite"))
FUSED = ({}, {"fused_scale": True}, {"fused_scale": False})
OPTIONS = {"sg1_genforce": FUSED}
CASES = [(path, given) for path in FILES for given in OPTIONS.get(path.stem, ({},))]
TRIED = None if LONG else 14  # cases of each file; all of them are some 24,000, a quarter of an hour
DAMAGES = {
    "flat": lambda t: t.reshape(-1),
    "led": lambda t: t[None],
    "narrow": lambda t: t[..., :1],
    "empty": lambda t: t[:0],
    "short": lambda t: t[:1],
    "one number": lambda t: t.flatten()[0],
    "turned": lambda t: t.transpose(0, -1),
    "wide": lambda t: torch.cat([t, t], -1),
    "long": lambda t: torch.cat([t, t], 0),
    "double": lambda t: t.double(),
    "whole": lambda t: t.to(torch.int32),
    "not a number": lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else t,
}


def damaged(tensors):
    """Yield (what was done, the tensors)."""
    for key, tensor in tensors.items():
        yield f"{key} missing", {name: value for name, value in tensors.items() if name != key}
        if "output0" in key or "to_rgb.0." in key:
            other = key.replace("output0", "output7").replace("to_rgb.0.", "to_rgb.7.")
            yield f"{other} too many", {**tensors, other: tensor.clone()}
        for name, change in DAMAGES.items() if tensor.ndim else ():
            yield f"{key} {name}", {**tensors, key: change(tensor).contiguous().clone()}


@pytest.mark.parametrize(("path", "given"), CASES, ids=[f"{p.stem}-{'-'.join(map(str, g.values()))}" for p, g in CASES])
def test_a_damaged_tensor_is_one_line_or_does_no_harm(path, given, tmp_path):
    cases = list(damaged(load_file(path)))
    state = np.random.RandomState(len(cases))
    chosen = state.permutation(len(cases))[:TRIED]
    refused = []
    assert dissect.load(path, **given).name
    for index in chosen:
        what, tensors = cases[index]
        file = tmp_path / "x.safetensors"
        save_file(tensors, file)
        try:
            generator = dissect.load(file, **given)
            assert generator(generator.sample([0])).shape[0] == 1, what
        except GanatomyError as error:
            refused.append(str(error))
    assert not any("\n" in line for line in refused)
    assert len(refused) >= len(chosen) // 4  # a weight in float64, or a wide buffer, does no harm
