"""Disturbing pictures, so that a model trained on two generators works on others, and on broken images.

Everything is drawn from the ``torch.Generator`` that is passed, on the CPU, so that a step can be repeated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .labels import BACKGROUND, BODY

FAR = (0.28, 0.8)  # scale of the face where the rest of a room would be seen
ROOM = 0.65  # share of the pictures that get other surroundings than their own borders, drawn out
SEAM = 0.25  # of half a picture: how far a border is drawn out before the surroundings begin
GRAINS = (1, 2, 4, 8, 16, 32, 64)  # cells a side of the noise that surroundings are made of
TURN = 20.0  # degrees
SHIFT = 0.12  # of the picture's side
SQUEEZE = 1.12  # of width against height


def augment(
    pictures: Tensor, labels: Tensor, side: int, random: torch.Generator, scale: tuple[float, float] = (0.8, 1.6),
    far: float = 0.25, coarsest: int = 24,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return disturbed pictures, float32 [N, 3, side, side] in [0, 1], and their labels, int64 [N, side, side].

    Args:
        pictures: uint8 [N, H, W, 3]; labels: uint8 [N, h, w].
        scale: of the face in most pictures, lowest and highest.
        far: share of the pictures in which the face is made small.
        coarsest: pixels a side of the lowest resolution imitated.
    """
    grid = _grid(len(pictures), side, random, scale, far).to(pictures.device)
    outside = "border" if torch.rand(1, generator=random) < 0.5 else "reflection"
    sources = pictures.permute(0, 3, 1, 2).float() / 255
    images = _sample(sources, grid, side, outside)
    marks = F.grid_sample(labels[:, None].float(), _middle(grid), "nearest", outside, align_corners=False)
    images, marks = surround(images, marks, sources, _middle(grid), random)
    images = _coarser(images, random, coarsest)
    images = _colours(images, random)
    images = _patches(images, random)
    images = _noise(images, random)
    return images.clamp(0, 1), marks[:, 0].round().long()


def _uniform(random: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return torch.rand(n, generator=random) * (high - low) + low


def _grid(n: int, side: int, random: torch.Generator, usual: tuple[float, float], far: float) -> Tensor:
    """Return where to look, [N, 2 side, 2 side, 2] in [-1, 1]: twice as fine as the result, for antialiasing."""
    near, small = (torch.exp(_uniform(random, n, math.log(low), math.log(high))) for low, high in (usual, FAR))
    scale = torch.where(torch.rand(n, generator=random) < far, small, near)
    squeeze = torch.exp(_uniform(random, n, -math.log(SQUEEZE), math.log(SQUEEZE)))
    angle = _uniform(random, n, -TURN, TURN) * math.pi / 180
    mirror = (torch.rand(n, generator=random) < 0.5).float() * -2 + 1
    c, s = torch.cos(angle), torch.sin(angle)
    shift = [_uniform(random, n, -2 * SHIFT, 2 * SHIFT) for _ in range(2)]
    rows = [
        torch.stack([c * mirror / (scale * squeeze), -s * squeeze / scale, shift[0]], 1),
        torch.stack([s * mirror / (scale * squeeze), c * squeeze / scale, shift[1]], 1),
    ]
    return F.affine_grid(torch.stack(rows, 1), [n, 1, 2 * side, 2 * side], align_corners=False)


def _middle(grid: Tensor) -> Tensor:
    """Return the grid of the result's own pixels: the middles of four finer ones."""
    return F.avg_pool2d(grid.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _sample(images: Tensor, grid: Tensor, side: int, outside: str) -> Tensor:
    if images.shape[-1] <= side:  # fewer pixels than are asked for: nothing to antialias
        return F.grid_sample(images, _middle(grid), "bilinear", outside, align_corners=False)
    return F.avg_pool2d(F.grid_sample(images, grid, "bilinear", outside, align_corners=False), 2)


def surround(
    images: Tensor, marks: Tensor, sources: Tensor, grid: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Put other surroundings round some of the pictures: below the shoulders a body, elsewhere anything but a person.

    Args:
        images, marks: [N, 3, h, w] and [N, 1, h, w], with borders drawn out to fill them.
        sources: the pictures they come from, [N, 3, H, W].
        grid: where in ``sources`` their pixels lie, [N, h, w, 2] in [-1, 1] or outside.
    """
    n, device = len(images), images.device
    chosen, width, slope, strength = (_uniform(random, n, 0, 1).view(n, 1, 1, 1).to(device) for _ in range(4))
    x, y = grid[..., 0].unsqueeze(1), grid[..., 1].unsqueeze(1)
    beyond = torch.maximum(x.abs(), y.abs()) - 1
    room = (beyond > 0) & (chosen < ROOM)
    below = (y > 1) & (x.abs() < 0.9 + width + 0.6 * slope * (y - 1)) & (marks != BACKGROUND)
    fade = (beyond / SEAM).clamp(0, 1)
    cloth = torch.where(strength < 0.2, torch.zeros_like(fade), fade * (2 * strength).clamp(max=1))
    weight = torch.where(below, cloth, torch.where(marks == BACKGROUND, fade, torch.ones_like(fade))) * room
    texture = textures(sources, images.shape[-1], random)
    images = images + weight * (torch.where(below, texture.roll(1, 0), texture) - images)
    ground = torch.where(below, torch.full_like(marks, BODY), torch.full_like(marks, BACKGROUND))
    return images, torch.where(room, ground, marks)


def textures(sources: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Return images [N, 3, side, side] of nothing: noise of several grains, mixed with enlarged corners of pictures."""
    n, device = len(sources), sources.device
    steep = _uniform(random, n, 0.3, 1.3).view(n, 1, 1, 1)
    coloured = _uniform(random, n, 0, 1).view(n, 1, 1, 1)
    result = torch.full((n, 3, side, side), 0.5)
    for cells in GRAINS:
        cloud = torch.randn(n, 3, cells, cells, generator=random)
        cloud = torch.lerp(cloud.mean(1, keepdim=True), cloud, coloured) * 0.35 * cells**-steep
        result = result + F.interpolate(cloud, (side, side), mode="bilinear" if cells > 1 else "nearest")
    result = result.clamp(0, 1).to(device)
    zoom, across, down = (_uniform(random, n, low, high) for low, high in ((0.1, 0.5), (-1, 1), (-1, -0.6)))
    across = torch.sign(across) * (1 - zoom * across.abs())
    zero = torch.zeros(n)
    rows = [torch.stack([zoom, zero, across], 1), torch.stack([zero, zoom, down], 1)]
    place = F.affine_grid(torch.stack(rows, 1), [n, 1, side, side], align_corners=False).to(device)
    others = sources[torch.randperm(n, generator=random).to(device)]
    pieces = F.grid_sample(others, place, "bilinear", "reflection", align_corners=False)
    share = (_uniform(random, n, -0.5, 1.5).clamp(0, 1)).view(n, 1, 1, 1).to(device)
    return torch.lerp(result, pieces, share)


def _coarser(images: Tensor, random: torch.Generator, coarsest: int) -> Tensor:
    """Imitate low resolution, or blur, for half of the images."""
    side = images.shape[-1]
    result = images.clone()
    for i in range(len(images)):
        kind, amount = torch.rand(2, generator=random).tolist()
        if kind < 0.35:
            small = round(coarsest * (side / coarsest) ** amount)
            low = F.interpolate(images[i : i + 1], (small, small), mode="bilinear", antialias=True)
            mode = "bicubic" if kind < 0.2 else "bilinear"
            result[i] = F.interpolate(low, (side, side), mode=mode, align_corners=False)[0]
        elif kind < 0.5:
            result[i] = _blur(images[i], 0.4 + 1.6 * amount)
    return result


def _blur(image: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2.5 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    taps = taps / taps.sum()
    padded = F.pad(image[:, None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))[:, 0]


def _colours(images: Tensor, random: torch.Generator) -> Tensor:
    """Change gamma, the gain of each channel, contrast, brightness and saturation; a tenth becomes grey."""
    n, device = len(images), images.device

    def drawn(low: float, high: float, channels: int = 1) -> Tensor:
        return _uniform(random, n * channels, low, high).view(n, channels, 1, 1).to(device)

    images = images.clamp(0, 1) ** torch.exp(drawn(-0.4, 0.4))
    images = images * torch.exp(drawn(-0.15, 0.15, 3))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * drawn(0.6, 1.4) + mean + drawn(-0.15, 0.15)
    grey = images.mean(1, keepdim=True)
    saturation = drawn(0.3, 1.5) * (drawn(0, 1) > 0.1)
    return (images - grey) * saturation + grey


def _patches(images: Tensor, random: torch.Generator) -> Tensor:
    """Spoil a small place in a quarter of the images, with a piece of another image or one colour."""
    side = images.shape[-1]
    result = images.clone()
    for i in range(len(images)):
        chance, flat, size, x, y, fx, fy, other = torch.rand(8, generator=random).tolist()
        if chance > 0.25:
            continue
        size = int(side * (0.06 + 0.12 * size))
        to = [int(v * (side - size)) for v in (y, x)]
        of = [int(v * (side - size)) for v in (fy, fx)]
        piece = images[int(other * len(images)), :, of[0] : of[0] + size, of[1] : of[1] + size]
        if flat < 0.4:
            piece = piece.mean((1, 2), keepdim=True)
        result[i, :, to[0] : to[0] + size, to[1] : to[1] + size] = piece
    return result


def _noise(images: Tensor, random: torch.Generator) -> Tensor:
    n = len(images)
    strength = _uniform(random, n, 0, 0.06) * (torch.rand(n, generator=random) < 0.4)
    noise = torch.randn(images.shape, generator=random) * strength.view(-1, 1, 1, 1)
    return images + noise.to(images.device)
