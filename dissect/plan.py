"""How a job's ordered samples are cut: atoms, jackknife groups, halves, batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segmodels import GanatomyError

GROUPS = 20  # jackknife groups
SMALLEST_JOB = 4


def atom_size(samples: int) -> int:
    """Return A = clamp(N // 20, 2, 64), the number of samples in an atom."""
    return min(max(samples // GROUPS, 2), 64)


@dataclass(frozen=True)
class Plan:
    """N ordered samples cut into atoms of A consecutive ones; a last atom of one joins its neighbour.

    Batches never cross an atom. Checkpoints and shards are made of whole atoms.
    """

    samples: int
    atom: int

    @staticmethod
    def of(samples: int) -> Plan:
        """Return the plan for N samples; GanatomyError if N < 4."""
        if samples < SMALLEST_JOB:
            raise GanatomyError(f"expected at least {SMALLEST_JOB} samples, got {samples}")
        return Plan(samples, atom_size(samples))

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        whole, rest = divmod(self.samples, self.atom)
        return whole + (rest > 1)

    def bounds(self, atom: int) -> tuple[int, int]:
        """Return (first, past the last) sample of an atom."""
        stop = self.samples if atom == self.atoms - 1 else (atom + 1) * self.atom
        return atom * self.atom, stop

    def group(self, atom: int) -> int:
        """Return the jackknife group of an atom; groups are contiguous."""
        return GROUPS * atom // self.atoms

    def half(self, atom: int) -> int:
        """Return the half of an atom: its group modulo 2."""
        return self.group(atom) % 2

    def shard(self, index: int, count: int) -> range:
        """Return the atoms of shard ``index`` (from 1) of ``count``; GanatomyError if there is no such shard."""
        if not 1 <= index <= count:
            raise GanatomyError(f"expected a shard from 1 to {count}, got {index}/{count}")
        if count > self.atoms:
            raise GanatomyError(f"{count} shards, but only {self.atoms} atoms of {self.atom} samples to share out")
        return range(self.atoms * (index - 1) // count, self.atoms * index // count)

    def span(self, atoms: range) -> tuple[int, int]:
        """Return (first, past the last) sample of consecutive atoms."""
        return (self.bounds(atoms.start)[0], self.bounds(atoms.stop - 1)[1]) if atoms else (0, 0)

    def batches(self, atom: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield (first, past the last) sample of each batch of an atom."""
        first, stop = self.bounds(atom)
        for start in range(first, stop, size):
            yield start, min(start + size, stop)
