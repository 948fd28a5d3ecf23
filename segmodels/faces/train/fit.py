"""The training loop. Every step draws its random numbers from (seed, step), so that a resumed run is the same run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import GanatomyError
from ...files import one_line
from .augment import augment
from .labels import CLASSES
from .recipe import Phase, Recipe

Bytes = NDArray[np.uint8]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of images in [0, 1], as is customary
WARM_UP = 0.04  # of the steps


class Pool:
    """The pictures of one source with their labels: uint8 [N, H, W, 3] and [N, h, w]."""

    def __init__(self, pictures: Bytes, labels: Bytes) -> None:
        self.pictures = torch.from_numpy(pictures)
        self.labels = torch.from_numpy(labels)

    def draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``count`` pictures and their labels."""
        chosen = torch.randint(len(self.pictures), (count,), generator=random)
        return self.pictures[chosen], self.labels[chosen]


def build(recipe: Recipe) -> nn.Module:
    """Return the untrained model; its first weights follow from the recipe's seed."""
    import segmentation_models_pytorch as smp

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        architecture = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}[recipe.architecture]
        model: nn.Module = architecture(
            recipe.encoder, encoder_weights=None, decoder_channels=recipe.decoder_channels, classes=len(CLASSES)
        )
    return model.to(memory_format=torch.channels_last)


def train(
    recipe: Recipe,
    pools: list[Pool],
    checkpoint: Path,
    device: str,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> nn.Module:
    """Return the averaged model after all steps; goes on from the checkpoint if there is one."""
    model = build(recipe).to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.phases[0].rate, weight_decay=recipe.weight_decay)
    weight = class_weights(pools).to(device)
    first = _resume(checkpoint, recipe, model, average, optimizer)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    for step in range(first, recipe.steps):
        phase, within = recipe.phase_of(step)
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = phase.rate * schedule(within / phase.cosine)
        counts = shares(phase, recipe.batch)
        drawn = [pool.draw(count, random) for pool, count in zip(pools, counts, strict=True)]
        how = (recipe.side, random, phase.scale, phase.far, phase.coarsest)
        pairs = [augment(pictures.to(device), labels.to(device), *how) for pictures, labels in drawn]
        images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        model.train()
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=phase.bfloat16):
            logits = model(images)
        loss = loss_of(logits, labels, weight if phase.weighted else None)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _follow(average, model, min(recipe.average, (1 + step) / (10 + step)))
        done = step + 1
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            _keep(checkpoint, recipe, model, average, optimizer, done)
        progress(done, recipe.steps, float(loss.detach()))
    return average.eval()


def shares(phase: Phase, batch: int) -> list[int]:
    """Return how many pictures of a batch come from each source; the first takes what rounding leaves."""
    counts = [round(share * batch) for share in phase.shares]
    counts[0] += batch - sum(counts)
    return counts


def schedule(done: float) -> float:
    """Return the learning rate's factor at a share of the steps: a linear rise, then half a cosine to zero."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def class_weights(pools: list[Pool]) -> Tensor:
    """Return a weight per class, the inverse square root of its area, of mean 1."""
    counts = torch.zeros(len(CLASSES), dtype=torch.float64)
    for pool in pools:
        counts += torch.bincount(pool.labels[:500].flatten().long(), minlength=len(CLASSES))
    weight = (counts / counts.sum()).clamp(min=1e-4).rsqrt()
    return (weight / weight.mean()).float()


def loss_of(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Return (weighted) cross-entropy plus the soft Dice loss over the classes that occur (Milletari et al. 2016)."""
    logits = logits.float()
    entropy = F.cross_entropy(logits, labels, weight=weight)
    probability = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(probability.dtype)
    overlap, total = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))
    occurs = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return entropy + dice[occurs].mean()


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        theirs = model.state_dict()
        for name, value in average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - decay)
            else:
                value.copy_(theirs[name])


def _keep(
    path: Path, recipe: Recipe, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step, "recipe": repr(recipe)}, temporary)
    temporary.replace(path)


def _resume(path: Path, recipe: Recipe, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["recipe"]
    except Exception as error:  # whatever a file that is none of ours makes torch say
        raise GanatomyError(f"{path} is no checkpoint of this training; remove it ({one_line(error, 100)})") from error
    if known != repr(recipe):
        raise GanatomyError(f"{path} is of another recipe; remove it, or give the same options as before")
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
