"""Convolutions as matrices on patches, against torch's own convolutions."""

from __future__ import annotations

import pytest
import torch

from dissect.generators.convolutions import Reading
from rewrite.patches import Patches

READINGS = {
    "1x1": (Reading("w"), (1, 1)),
    "3x3": (Reading("w", padding=(1, 1)), (3, 3)),
    "3x3 without padding": (Reading("w"), (3, 3)),
    "strided": (Reading("w", stride=(2, 3), padding=(1, 2)), (3, 4)),
    "dilated": (Reading("w", padding=(2, 2), dilation=(2, 2)), (3, 3)),
    "first of PGGAN": (Reading("w", padding=(3, 3)), (4, 4)),
    "transposed": (Reading("w", True, True, stride=(2, 2), padding=(1, 1)), (4, 4)),
    "transposed, first of DCGAN": (Reading("w", True, True), (4, 4)),
    "transposed, stored as others": (Reading("w", False, True, stride=(2, 2)), (3, 3)),
    "transposed, wide": (Reading("w", True, True, (2, 2), (1, 1), (1, 1), (1, 1)), (3, 3)),
    "transposed, kernel smaller than stride": (Reading("w", True, True, (3, 3)), (2, 2)),
    "transposed, dilated": (Reading("w", True, True, (2, 2), (1, 1), (2, 2)), (3, 3)),
    "transposed, far inside": (Reading("w", True, True, (1, 1), (4, 4)), (3, 3)),
}


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("size", [(9, 10), (12, 9)])
def test_values_are_the_matrix_times_the_patches(name, size):
    reading, kernel = READINGS[name]
    patches = Patches(reading, 3, kernel)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    shape = (3, 5, *kernel) if reading.swapped else (5, 3, *kernel)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    values = patches.values(x, weight)
    assert values.shape[2:] == patches.size(*size)
    seen = torch.zeros(values.shape[2:])
    for phase in patches.phases:
        keys = patches.keys(x, phase)
        made = torch.einsum("oi,niyx->noyx", patches.matrix(weight, phase), keys)
        torch.testing.assert_close(made, Patches.at(values, phase), rtol=1e-12, atol=1e-12)
        Patches.at(seen, phase).add_(1)
    assert torch.equal(values[:, :, seen == 0], torch.zeros_like(values[:, :, seen == 0]))  # what no tap writes
    assert seen.max() == 1


@pytest.mark.parametrize("name", READINGS)
def test_rows_go_back_to_their_taps(name):
    reading, kernel = READINGS[name]
    patches = Patches(reading, 3, kernel)
    whole = torch.randn(4, 3, *kernel)
    stored = whole.transpose(0, 1) if reading.swapped else whole
    back = sum(patches.placed(patches.matrix(stored, phase), phase) for phase in patches.phases)
    assert torch.equal(back, whole)  # each tap belongs to one phase
