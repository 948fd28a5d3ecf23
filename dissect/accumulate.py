"""What a pass accumulates over its samples, and how that goes into a file and comes back out of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .counts import Coded, Counter, Labels
from .counts_torch import TorchCounter
from .examples import PARTS as EXAMPLES
from .examples import Drawn, Gathered
from .interrupts import undisturbed
from .levels import coarse_indices
from .pictures import Bytes, encode_thumbnail
from .plan import GROUPS, Plan
from .resample import Float32
from .slabs import Slabs
from .statistics import Sums, Top, concept_shares

UINT32_PIXELS = 2**32
TOP = ("seed", "value", "yx", "feature")


class LayerState:
    """Everything that is accumulated for one layer."""

    def __init__(
        self, shape: tuple[int, int, int], levels: Float32, concepts: int, size: tuple[int, int], plan: Plan, keep: int,
        drawn: Drawn, device: torch.device,
    ) -> None:  # fmt: skip
        units, height, width = shape
        bins, blocks = levels.shape[1] + 1, len(coarse_indices(levels.shape[1])) + 1
        pixels = size[0] * size[1]
        count_type = np.uint32 if plan.samples * pixels < UINT32_PIXELS else np.int64
        block_type = np.uint32 if (plan.samples // GROUPS + 2 * plan.atom) * pixels < UINT32_PIXELS else np.int64
        self.shape = shape
        self.levels = levels
        self.counter = counter_for(device, levels, (height, width), size, concepts)
        # Concept-major in memory (see Counter.fold); bin-major in the file.
        self.counts = np.zeros((2, 2, units, concepts, bins), count_type)  # [real or chance, half, ...]
        self.slab = np.zeros((2, units, concepts, blocks), block_type)  # of the current jackknife group
        self.total = Sums(units, concepts)
        self.atom = Sums(units, concepts)
        self.top = Top(units, keep, height, width)
        self.examples = Gathered(units, height, width, drawn)


class Accumulator:
    """The state of a pass over some consecutive atoms. Counts and sums change only when an atom ends; the rest does
    not mind repetition.

    Ctrl-C waits while anything changes: what a checkpoint holds is never half changed.

    Args:
        plan: how the samples are cut.
        atoms: those that are to be counted.
        seeds: int64 [N], of the whole job.
        slabs: where the block counts of finished groups go.
        shapes: layer -> (U, h, w).
        levels: layer -> float32 [U, B].
        concepts: of the segmenter.
        size: (H, W) at which pixels are counted.
        keep: top samples per unit.
        maxima: whether to keep every sample's maximum per unit.
        threads: for the counting kernel.
        device: where the features come from; on others than the CPU they are counted there.
    """

    def __init__(
        self,
        plan: Plan,
        atoms: range,
        seeds: NDArray[np.int64],
        slabs: Slabs,
        shapes: Mapping[str, tuple[int, int, int]],
        levels: Mapping[str, Float32],
        concepts: int,
        size: tuple[int, int],
        keep: int,
        maxima: bool,
        threads: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.plan, self.atoms, self.slabs = plan, atoms, slabs
        self.concepts, self.size, self.threads = concepts, size, threads
        where = torch.device(device)
        self.first, stop = plan.span(atoms)  # samples
        self.drawn = Drawn.of(seeds, self.first, stop)
        self.layers = {
            n: LayerState(s, levels[n], concepts, size, plan, keep, self.drawn, where) for n, s in shapes.items()
        }
        self.concept_area = np.zeros((stop - self.first, concepts), np.int64)
        self.maxima = {n: np.zeros((stop - self.first, s[0]), np.float32) for n, s in shapes.items()} if maxima else {}
        self.thumbnails: dict[int, bytes] = {}
        self.next = atoms.start
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="count")

    def close(self) -> None:
        """Stop the counting threads."""
        self._pool.shutdown()

    @undisturbed()
    def add(
        self, start: int, pictures: Bytes, features: Mapping[str, Tensor], labels: Labels, following: Labels,
        seeds: NDArray[np.int64], step: int,
    ) -> None:  # fmt: skip
        """Count some batches of the current atom.

        Args:
            start: index of its first sample.
            pictures: uint8 [N, h, w, 3]; features: layer -> float32 [N, U, h, w], on the device.
            labels: int16 [N, K, H, W].
            following: int16 [1, K, H, W], labels of the sample after the batch's last, for the chance counts.
            seeds: int64 [N].
            step: samples in a batch. Sums of floats are taken batch by batch, so that their bits do not depend on how
                many batches are counted together.
        """
        count = len(labels)
        coded = Coded.of(np.concatenate([labels, following]))
        rows = slice(start - self.first, start - self.first + count)
        self.concept_area[rows] = coded.areas(self.concepts)[:-1]
        entered = self.drawn.pool_slot[rows] >= 0  # those that need a thumbnail
        shares: dict[tuple[int, int], list] = {}
        for name, layer in self.layers.items():
            layer.counter.add(features[name], coded, self._pool, self.threads)
            native = layer.shape[1:]
            if native not in shares:
                share = partial(concept_shares, concepts=self.concepts, height=native[0], width=native[1])
                shares[native] = list(self._pool.map(share, labels))
            layer.atom.add(features[name], shares[native], step)
            maxima = features[name].amax((2, 3)).cpu().numpy()
            if self.maxima:
                self.maxima[name][rows] = maxima
            layer.examples.add(features[name], maxima, rows)
            entered |= layer.top.add(features[name], maxima, seeds)
        new = np.flatnonzero(entered).tolist()
        for index, data in zip(new, self._pool.map(encode_thumbnail, pictures[new])):
            self.thumbnails[int(seeds[index])] = data

    @undisturbed()
    def end_atom(self) -> None:
        """Fold the finished atom into the totals."""
        half = self.plan.half(self.next)
        for layer in self.layers.values():
            coarse = coarse_indices(layer.levels.shape[1])
            counts, blocks = (layer.counts[0, half], layer.counts[1, half]), (layer.slab[0], layer.slab[1])
            layer.counter.fold(coarse, counts, blocks, self._pool, self.threads)
            layer.total.merge(layer.atom)
            layer.atom = Sums(layer.shape[0], self.concepts)
        group = self.plan.group(self.next)
        self.next += 1
        if not self.left or self.plan.group(self.next) != group:
            self.slabs.put(group, {name: layer.slab for name, layer in self.layers.items()})
            for layer in self.layers.values():
                layer.slab[:] = 0

    @property
    def left(self) -> range:
        """The atoms that are still to be counted."""
        return range(self.next, self.atoms.stop)

    @property
    def samples_done(self) -> int:
        """How many of the samples are in finished atoms."""
        return self.plan.bounds(self.next - 1)[1] - self.first if self.next > self.atoms.start else 0

    # -- in and out of files -------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the state of the finished atoms: what a part of a dissection holds, beside its slabs."""
        arrays: dict[str, np.ndarray] = {"samples/concept_area": self.concept_area}
        wanted: set[int] = set(self.drawn.pool.tolist())
        for name, layer in self.layers.items():
            group = f"state/{name}/"
            arrays |= {
                f"{group}levels": layer.levels,
                f"{group}counts": layer.counts[0],
                f"{group}chance_counts": layer.counts[1],
                f"{group}slab": layer.slab,
            }
            top = layer.top.ordered()
            arrays |= {f"{group}top/{key}": value for key, value in top.items()}
            wanted |= set(top["seed"].ravel().tolist())
            arrays |= {f"{group}examples/{key}": value for key, value in layer.examples.arrays().items()}
            arrays |= {f"{group}sums/{key}": value for key, value in layer.total.arrays().items()}
            if self.maxima:
                arrays[f"{group}maxima"] = self.maxima[name]
        self.thumbnails = {seed: data for seed, data in self.thumbnails.items() if seed in wanted}
        return arrays | pack_thumbnails(self.thumbnails)

    def restore(self, read: Callable[[str], np.ndarray], following: int) -> None:
        """Take over an unfinished pass from what :meth:`arrays` returned.

        Args:
            read: returns an array by its name.
            following: the next atom.
        """
        self.next = following
        self.concept_area = read("samples/concept_area")
        for name, layer in self.layers.items():
            group = f"state/{name}/"
            layer.counts[0], layer.counts[1] = read(f"{group}counts"), read(f"{group}chance_counts")
            layer.slab[:] = read(f"{group}slab")
            layer.top.restore({key: read(f"{group}top/{key}") for key in TOP})
            layer.examples.restore({key: read(f"{group}examples/{key}") for key in EXAMPLES})
            layer.total.restore({key: read(f"{group}sums/{key}") for key in layer.total.arrays()})
            if self.maxima:
                self.maxima[name] = read(f"{group}maxima")
        self.thumbnails = unpack_thumbnails(read)


def pack_thumbnails(thumbnails: Mapping[int, bytes]) -> dict[str, np.ndarray]:
    """Return ``/thumbnails``: seeds ascending, and their encoded bytes end to end with offsets [T + 1]."""
    seeds = sorted(thumbnails)
    sizes = [len(thumbnails[s]) for s in seeds]
    data = b"".join(thumbnails[s] for s in seeds)
    return {
        "thumbnails/seed": np.array(seeds, np.int64),
        "thumbnails/offset": np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        "thumbnails/data": np.frombuffer(data, np.uint8),
    }


def unpack_thumbnails(read: Callable[[str], np.ndarray]) -> dict[int, bytes]:
    """Undo :func:`pack_thumbnails`."""
    offset, data = read("thumbnails/offset"), read("thumbnails/data")
    seeds: Sequence[int] = read("thumbnails/seed").tolist()
    return {seed: data[offset[i] : offset[i + 1]].tobytes() for i, seed in enumerate(seeds)}


def counter_for(
    device: torch.device, levels: Float32, shape: tuple[int, int], size: tuple[int, int], concepts: int
) -> Counter | TorchCounter:
    """Return what counts features on a device."""
    if device.type == "cpu":
        return Counter(levels, shape, size, concepts)
    return TorchCounter(levels, shape, size, concepts, device)
