"""Arithmetic that does not depend on a library's mood: whole float32, fixed algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MOST_AT_A_TIME = 4


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let torch compute in whole float32 and by fixed algorithms within the block.

    Convolutions on CUDA otherwise round their inputs to TF32, and transposed ones may add in any order.
    """
    precision_before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision_before)


def division(threads: int) -> int:
    """Return how many batches are made at a time with so many threads, which they share.

    Batches side by side, a thread each, are quicker than one batch on several threads, which wait for each other after
    every operation; much quicker where something else runs on the machine (decision 0012). But each takes memory.
    """
    return max(1, min(threads, MOST_AT_A_TIME))


@contextmanager
def reproducibly(threads: int) -> Iterator[None]:
    """Let torch compute with ``threads`` threads, in whole float32, within the block."""
    threads_before = torch.get_num_threads()
    with whole_float32():
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
