"""From landmarks and a person's outline to a label map: polygons where the mesh knows, colours where it does not.

Brows, eyes, nose, lips and mouth are polygons of landmarks. What else belongs to the person is skin, hair or body:
three Gaussians of colour, fitted to this one picture by a few rounds of expectation and maximisation, each with a
prior that says where on a person it is to be expected. These three labels are weak; their errors differ from picture
to picture, and a network trained on thousands of them averages much of that out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.color import rgb2lab

from .mesh import BROWS, CHIN, EYE_CORNERS, EYES, FOREHEAD, LIPS, MOUTH, NOSE, OVAL

CLASSES = ("background", "hair", "skin", "brows", "eyes", "nose", "lips", "mouth", "body")
BACKGROUND, HAIR, SKIN, BROW, EYE, NOSE_, LIP, MOUTH_, BODY = range(len(CLASSES))

RULES = 3  # which version of the rules below, and of the views of landmarks; labels of another are made again
SIDE = 256  # pixels a side of pictures and label maps
FINER = 4  # polygons are filled at this multiple and then averaged, so that thin ones do not fray
ROUNDS = 4
THINNED = 2  # the Gaussians are fitted to every second row and column
LEAST_SPREAD = np.diag([5.0, 2.0, 2.0]) ** 2  # of a colour (CIELAB) within one class; keeps covariances regular
OUTLIER = 1e-6  # density of colours that no Gaussian explains
LEAST_PERSON = 0.5

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


def label_map(picture: Bytes, points: Float32, person: Float32) -> Bytes:
    """Return the classes, uint8 [256, 256], of a picture.

    Args:
        picture: uint8 [256, 256, 3].
        points: landmarks, float32 [468, 2], x and y in pixels.
        person: probability of a person, float32 [256, 256].
    """
    oval = polygon(points, OVAL)
    parts = [
        (BROW, polygon(points, *BROWS)),
        (EYE, polygon(points, *EYES)),
        (NOSE_, polygon(points, NOSE)),
        (LIP, polygon(points, LIPS)),
        (MOUTH_, polygon(points, MOUTH)),
    ]
    covered = np.logical_or.reduce([mask for _, mask in parts])
    whole = of_one_piece((person > LEAST_PERSON) | oval, oval)
    large = _skin_hair_body(picture, points, oval, covered, whole)
    labels = np.where(whole, large, BACKGROUND).astype(np.uint8)
    hair = labels == HAIR
    labels[hair & ~of_one_piece(hair, hair & ~oval)] = SKIN  # a shining forehead
    fringe = (labels == HAIR) & oval  # hair hides brows, as it hides skin
    for value, mask in parts:
        labels[mask & ~fringe if value == BROW else mask] = value
    return labels


def polygon(points: Float32, *loops: tuple[int, ...]) -> Mask:
    """Return which pixels [256, 256] lie inside loops of landmarks."""
    image = Image.new("L", (SIDE * FINER, SIDE * FINER))
    draw = ImageDraw.Draw(image)
    for loop in loops:
        draw.polygon([tuple(float(v) for v in points[i] * FINER) for i in loop], fill=255)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) >= 128


def of_one_piece(mask: Mask, seed: Mask) -> Mask:
    """Return the connected pieces of a mask that touch ``seed``: other people in the picture are background."""
    pieces, count = ndimage.label(mask)
    touched = np.zeros(count + 1, bool)
    touched[np.unique(pieces[seed & mask])] = True
    touched[0] = False
    return touched[pieces]


def _skin_hair_body(picture: Bytes, points: Float32, oval: Mask, covered: Mask, person: Mask) -> Bytes:
    """Return HAIR, SKIN or BODY for every pixel, uint8 [256, 256]."""
    colour = ndimage.gaussian_filter(rgb2lab(picture), (1.0, 1.0, 0.0))
    prior = np.stack(_priors(points, oval))  # [3, 256, 256]: hair, skin, body
    few = (slice(None, None, THINNED), slice(None, None, THINNED))
    used = (person & ~covered)[few]
    posterior = prior[(slice(None), *few)]
    for _ in range(ROUNDS):
        gaussians = [_fit(colour[few], p * used) for p in posterior]
        posterior = _posterior(prior[(slice(None), *few)], colour[few], gaussians)
    smooth = [ndimage.gaussian_filter(p, 1.5) for p in _posterior(prior, colour, gaussians)]
    return np.array([HAIR, SKIN, BODY], np.uint8)[np.argmax(smooth, 0)]


def _priors(points: Float32, oval: Mask) -> tuple[Float64, Float64, Float64]:
    """Return where hair, skin and body are to be expected, each [256, 256], by the place relative to the face."""
    top, chin = points[FOREHEAD].astype(float), points[CHIN].astype(float)
    height = float(np.hypot(*(chin - top)))
    down = (chin - top) / height
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    v = ((x - top[0]) * down[0] + (y - top[1]) * down[1]) / height  # 0 at the top of the mesh, 1 at the chin
    middle = (points[EYE_CORNERS[0]] + points[EYE_CORNERS[1]]) / 2
    u = np.abs((x - middle[0]) * down[1] - (y - middle[1]) * down[0]) / height  # from the midline outwards
    away = ndimage.distance_transform_edt(~oval) / height
    inside = ndimage.distance_transform_edt(oval) / height
    brow_line = 0.22  # of v: above it, hair may fall into the face
    skin = np.where(oval, 1.0, 0.45 * np.exp(-((away / np.where(v < 0, 0.45, 0.16)) ** 2)) + 1e-3)
    skin = np.where((v > 0.85) & ~oval, 0.02 * np.exp(-((away / 0.05) ** 2)), skin)  # down there, skin is the neck's
    hair_in_oval = 0.35 * np.exp(-((inside / 0.10) ** 2)) * (v < 0.6) + 0.15 * (v < brow_line)
    lowest = 0.8 + 0.8 * np.clip((u - 0.3) / 0.2, 0, 1)  # hair hangs beside the neck, not in front of it
    hair = np.where(oval, hair_in_oval + 1e-4, 1.0 / (1 + np.exp((v - lowest) / 0.1)) + 0.01)
    body = np.where(oval, 1e-6, 1.0 / (1 + np.exp(-(v - 0.95) / 0.06)))
    body = body * (v > 0.6) + 1e-6
    return hair, skin, body


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """Of colours: mean [3], inverse covariance [3, 3] and the density at the mean."""

    mean: Float64
    inverse: Float64
    peak: float

    def density(self, colour: Float64) -> Float64:
        """Return the density of colours [H, W, 3]."""
        centred = colour - self.mean
        distance = ((centred @ self.inverse) * centred).sum(-1)
        density: Float64 = self.peak * np.exp(-0.5 * distance) + OUTLIER
        return density


def _fit(colour: Float64, weight: Float64) -> _Gaussian:
    """Return the Gaussian of weighted colours [H, W, 3]; one of density 0 where there is hardly any weight."""
    total = weight.sum()
    if total < 1:
        return _Gaussian(np.zeros(3), np.eye(3), 0.0)
    mean = (weight[..., None] * colour).sum((0, 1)) / total
    centred = (colour - mean).reshape(-1, 3)
    covariance = (centred * weight.reshape(-1, 1)).T @ centred / total + LEAST_SPREAD
    peak = 1 / np.sqrt((2 * np.pi) ** 3 * np.linalg.det(covariance))
    return _Gaussian(mean, np.linalg.inv(covariance), float(peak))


def _posterior(prior: Float64, colour: Float64, gaussians: list[_Gaussian]) -> Float64:
    joint = prior * np.stack([gaussian.density(colour) for gaussian in gaussians])
    posterior: Float64 = joint / joint.sum(0)
    return posterior
