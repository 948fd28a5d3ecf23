"""Atoms, groups and halves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissect import GanatomyError
from dissect.plan import GROUPS, Plan, atom_size


@pytest.mark.parametrize(
    ("samples", "atom", "atoms"), [(4, 2, 2), (5, 2, 2), (7, 2, 3), (100, 5, 20), (1000, 50, 20), (2000, 64, 32)]
)
def test_sizes(samples, atom, atoms):
    assert atom_size(samples) == atom
    assert Plan.of(samples).atoms == atoms


@given(samples=st.integers(4, 5000), batch=st.integers(1, 70))
def test_every_sample_once_and_no_atom_of_one(samples, batch):
    plan = Plan.of(samples)
    seen = [i for atom in range(plan.atoms) for a, b in plan.batches(atom, batch) for i in range(a, b)]
    assert seen == list(range(samples))
    assert all(plan.bounds(a)[1] - plan.bounds(a)[0] >= 2 for a in range(plan.atoms))
    groups = [plan.group(a) for a in range(plan.atoms)]
    assert groups == sorted(groups)
    assert max(groups) < GROUPS
    assert [plan.half(a) for a in range(plan.atoms)] == [g % 2 for g in groups]


@pytest.mark.parametrize("samples", [0, 1, 3])
def test_too_few(samples):
    with pytest.raises(GanatomyError, match="at least 4 samples"):
        Plan.of(samples)
