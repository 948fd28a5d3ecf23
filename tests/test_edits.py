"""Edits: ablation against plain indexing, masks against hand-made maps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dissect
from dissect import FeatureEdit, GanatomyError

FEATURES = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))


def scaled(units, factor):
    expected = FEATURES.clone()
    expected[:, list(units)] *= factor
    return expected


@pytest.mark.parametrize(
    ("units", "strength", "expected"),
    [
        (2, 1.0, scaled([2], 0)),
        ([2], 1.0, scaled([2], 0)),
        ([5, 0, 5], 1.0, scaled([0, 5], 0)),
        (range(6), 1.0, torch.zeros_like(FEATURES)),
        ({1, 3}, 1.0, scaled([1, 3], 0)),
        (np.array([1, 4]), 1.0, scaled([1, 4], 0)),
        (np.int64(4), 1.0, scaled([4], 0)),
        (torch.tensor([1, 4]), 1.0, scaled([1, 4], 0)),
        ([], 1.0, FEATURES),
        ([1], 0.0, FEATURES),
        ([1], 0.25, scaled([1], 0.75)),
        ([1, 2], 0.5, scaled([1, 2], 0.5)),
    ],
)
def test_ablation_scales_the_units_and_nothing_else(units, strength, expected):
    before = FEATURES.clone()
    after = dissect.ablate("layer", units, strength)(FEATURES)
    assert torch.equal(after, expected)
    assert torch.equal(FEATURES, before)
    assert after.data_ptr() != FEATURES.data_ptr()


CHECKS = np.indices((4, 4)).sum(0) % 2


@pytest.mark.parametrize(
    ("mask", "at_layer"),
    [
        (np.ones((4, 4)), torch.ones(4, 4)),
        (CHECKS, torch.tensor(CHECKS)),
        (CHECKS.astype(bool), torch.tensor(CHECKS)),
        (torch.tensor(CHECKS), torch.tensor(CHECKS)),
        (np.kron(CHECKS, np.ones((4, 4))), torch.tensor(CHECKS)),
        (np.eye(8), torch.tensor(np.eye(4) / 2)),
        (np.eye(2), F.interpolate(torch.eye(2)[None, None], (4, 4), mode="bilinear")[0, 0]),
    ],
)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_mask_acts_where_it_says_at_the_layers_own_size(mask, at_layer, strength):
    after = dissect.ablate("layer", [1, 4], strength, mask)(FEATURES)
    expected = FEATURES.clone()
    expected[:, [1, 4]] *= 1 - strength * at_layer.float()
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-6)
    assert torch.equal(after[:, [0, 2, 3, 5]], FEATURES[:, [0, 2, 3, 5]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"units": [-1]}, "units >= 0, got -1"),
        ({"units": [1.5]}, "integer indices"),
        ({"units": 1.0}, "integer indices"),
        ({"units": "3"}, "integer indices"),
        ({"units": [True, False]}, "integer indices"),
        ({"units": np.array([True, False])}, "integer indices"),
        ({"units": [[1, 2]]}, "integer indices"),
        ({"strength": -0.1}, r"strength in \[0, 1\]"),
        ({"strength": 1.1}, r"strength in \[0, 1\]"),
        ({"strength": float("nan")}, r"strength in \[0, 1\]"),
        ({"mask": np.ones(4)}, r"mask \[H, W\], got shape \[4\]"),
        ({"mask": np.ones((1, 4, 4))}, r"mask \[H, W\]"),
        ({"mask": np.ones((0, 4))}, r"mask \[H, W\]"),
        ({"mask": np.full((4, 4), 1.5)}, r"in \[0, 1\], got 1.5"),
        ({"mask": np.full((4, 4), -1)}, r"in \[0, 1\], got -1"),
        ({"mask": np.full((4, 4), np.nan)}, r"in \[0, 1\], got nan"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, words):
    with pytest.raises(GanatomyError, match=words) as caught:
        dissect.ablate(**({"layer": "layer", "units": [0]} | arguments))
    assert "\n" not in str(caught.value)


def test_a_unit_that_the_layer_lacks_is_refused():
    with pytest.raises(GanatomyError, match=r"units 0\.\.5, the edit names 6"):
        dissect.ablate("layer", [0, 6])(FEATURES)


@pytest.mark.parametrize("units", [(3, 1), (1, 1), (-1, 2)])
def test_an_edit_made_by_hand_keeps_its_units_in_order(units):
    with pytest.raises(GanatomyError, match="ascending order"):
        FeatureEdit("layer", units)


def test_edits_are_values():
    mask = np.eye(4)
    edit = dissect.ablate("layer", [3, 1], 0.5, mask)
    mask[:] = 0
    assert edit.units == (1, 3)
    assert np.array_equal(edit.mask, np.eye(4))
    assert not edit.mask.flags.writeable
    with pytest.raises(AttributeError):
        edit.strength = 1.0
    same = dissect.ablate("layer", (1, 3), 0.5, np.eye(4))
    assert edit == same
    assert hash(edit) == hash(same)
    others = [
        dissect.ablate("other", [1, 3], 0.5, np.eye(4)),
        dissect.ablate("layer", [1], 0.5, np.eye(4)),
        dissect.ablate("layer", [1, 3], 1.0, np.eye(4)),
        dissect.ablate("layer", [1, 3], 0.5),
        dissect.ablate("layer", [1, 3], 0.5, np.ones((4, 4))),
    ]
    assert all(edit != other for other in others)
    assert edit != "layer"
