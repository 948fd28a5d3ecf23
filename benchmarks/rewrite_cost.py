"""What rewriting costs for a layer of 512 channels and a 3 x 3 kernel: memory, factor, closed form, optimisation.

    python benchmarks/rewrite_cost.py [--side 16] [--images 64] [--steps 2001]

The network has random weights; numbers of a layer do not depend on what it draws. ``projected`` is compared with the
original's optimisation (Bau et al., ECCV 2020): Adam on all of W at a rate of 0.05, its change projected on the span
every 10 steps, 2,001 steps, from the same start, on the same loss.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from torch import nn

import dissect
import rewrite
from dissect.generators.convolutions import convolution_of
from rewrite import Memory, Region, Request, moments
from rewrite.basis import Basis
from rewrite.goal import goal_of
from rewrite.optimise import Problem


def network(side: int, channels: int) -> nn.Module:
    """A chain whose second convolution is the layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ConvTranspose2d(64, channels, side), nn.LeakyReLU(0.2), nn.Conv2d(channels, channels, 3, padding=1),
        nn.LeakyReLU(0.2), nn.Conv2d(channels, 3, 1),
    )  # fmt: skip


def timed(call):
    """Return what a call returns, and seconds."""
    start = time.perf_counter()
    made = call()
    return made, time.perf_counter() - start


def original(problem: Problem, rows: np.ndarray, steps: int) -> tuple[list[float], float]:
    """Return the losses of the original's optimisation before each step, and seconds."""
    weight = problem.weight.clone().requires_grad_()
    adam = torch.optim.Adam([weight], lr=0.05)
    along = torch.from_numpy(np.linalg.qr(rows.T)[0]).float()
    losses, start = [], time.perf_counter()
    for step in range(steps):
        adam.zero_grad()
        with torch.enable_grad():
            loss = torch.zeros(())
            for goal, targets in zip(problem.goals, problem.targets, strict=True):
                features = goal.part.features(weight, gradient=True)
                for one, target in zip(features, targets, strict=True):
                    loss = loss + ((one - target.maps).abs() * target.weight).sum() / problem.total
            loss.backward()
        losses.append(float(loss.detach()))
        adam.step()
        if step % 10 == 0 or step == steps - 1:
            with torch.no_grad():
                change = (weight - problem.weight).flatten(1)
                weight.copy_(problem.weight + ((change @ along) @ along.T).reshape(weight.shape))
    return losses, time.perf_counter() - start


def main() -> None:
    """Print one line for each number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2001)
    parser.add_argument("--rank", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore", rewrite.RewriteWarning)
    generator = dissect.load(network(options.side, options.channels), z_dim=64)
    convolution = convolution_of(generator, "2")
    side = options.side
    request = Request(
        side, (Region.box(1001, side, 2, 2, 8, 8),), Region.box(1000, side, 4, 4, 10, 10),
        (Region.box(1002, side, 2, 2, 10, 10),),
    )  # fmt: skip
    print(f"{options.channels} channels, 3 x 3, {side} x {side}; {torch.get_num_threads()} threads")
    for kind in ("patch", "channel"):
        sums, seconds = timed(lambda k=kind: moments(generator, convolution, range(options.images), kind=k))
        print(f"{kind}: second moment of {options.images} images {seconds:.2f} s ({sums.sizes[0]} numbers in a key)")
        memory, seconds = timed(lambda s=sums: Memory.of(s))
        print(f"{kind}: factoring {seconds:.2f} s")
        for rank in (1, 8):
            edit, seconds = timed(lambda r=rank, m=memory: rewrite.solve(generator, request, "2", r, memory=m))
            attained = edit.provenance["attained"]["values"]
            print(f"{kind}: closed, rank {rank}: {seconds:.2f} s, values attained {attained:.3f}")
    direction = "mean" if options.rank == 1 else "singular"
    goal = goal_of(generator, request, convolution_of(generator, "3"), memory)
    basis = Basis.of([goal], options.rank, direction)
    losses, slow = original(Problem([goal], basis), basis.rows[0], options.steps)
    made, fast = timed(
        lambda: rewrite.solve(generator, request, "3", options.rank, "projected", direction=direction, memory=memory)
    )
    told = made.provenance["losses"]
    print(f"original: {options.steps} steps of Adam {slow:.1f} s, loss {losses[0]:.5f} -> {min(losses):.5f}")
    print(f"projected: {told['steps']} evaluations {fast:.1f} s, loss {told['first']:.5f} -> {told['last']:.5f}")
    print(f"time {slow / fast:.1f} times less; loss {told['last'] / min(losses):.4f} of the original's")


if __name__ == "__main__":
    main()
