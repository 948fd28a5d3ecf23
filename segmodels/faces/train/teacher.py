"""The two networks that the training labels come from, run through LiteRT: face landmarks, and person or background.

They are members of the wheel ``mediapipe==0.10.14`` (Apache-2.0) and are read out of it; the package itself is never
installed or imported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import GanatomyError
from .mesh import EYE_CORNERS, LANDMARKS, MIRRORED

Float32 = NDArray[np.float32]
Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

MIRROR = [MIRRORED.get(i, i) for i in range(LANDMARKS)]

LANDMARK_SIDE, PERSON_SIDE = 192, 256  # pixels a side of what the networks see
ENLARGED = 1.5  # side of the square that is looked at over the extent of the landmarks, as in MediaPipe's own graph
ROUNDS = 3  # times that the square is set by the landmarks found in the last one
FIRST_SQUARES = ((0.5, 0.5, 1.0), (0.5, 0.55, 0.75), (0.5, 0.5, 1.3))  # centre x, y and side to begin with
VIEWS = (  # of the face once it is found: side, degrees, and shift as a share of the side
    (1.00, 0, 0.00, 0.00), (1.12, 5, 0.02, 0.00), (0.90, -5, -0.02, 0.02), (1.00, 0, 0.00, -0.02),
    (1.08, -6, 0.00, -0.03), (0.94, 6, 0.03, 0.00), (1.18, 0, -0.03, 0.00),
)  # fmt: skip


@dataclass(frozen=True)
class Square:
    """What a network looks at: centre and side in pixels, turned by ``angle`` radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Floats) -> Float32:
        """Return points [P, 2] in pixels of the picture for points in [0, 1] of the square."""
        offset = (points - 0.5) * self.side
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack([c * offset[:, 0] - s * offset[:, 1], s * offset[:, 0] + c * offset[:, 1]], 1)
        return (turned + np.array([self.x, self.y])).astype(np.float32)


@dataclass(frozen=True)
class Face:
    """Landmarks, float32 [468, 2]: x and y in pixels of the picture, (0, 0) its upper left corner; and the network's
    confidence in [0, 1] that it sees a face."""

    points: Float32
    confidence: float


class Teacher:
    """Finds the landmarks of the one large face of a picture, and the person."""

    def __init__(self, landmark_file: Path, person_file: Path) -> None:
        self._landmarks = _interpreter(landmark_file)
        self._person = _interpreter(person_file)

    def face(self, picture: Bytes) -> Face:
        """Return the face of a picture uint8 [H, W, 3]: the mean of what several views of it and its mirror image show.

        Landmarks of a small or blurred face move with the view. On 64 px faces the brows of one view and of its mirror
        image have an IoU of 0.59, the eyes 0.70; the means of six views and of six others, 0.70 and 0.83.
        """
        one = self._seen(picture)
        other = self._seen(np.ascontiguousarray(picture[:, ::-1]))
        mirrored = other.points[MIRROR] * (-1, 1) + (picture.shape[1], 0)
        both = ((one.points + mirrored) / 2).astype(np.float32)
        return Face(both, min(one.confidence, other.confidence))

    def _seen(self, picture: Bytes) -> Face:
        """Return the mean of the views of the face that is found."""
        found = self._find(picture)
        square, source = around(found.points), Image.fromarray(picture)
        views = [
            replace(
                square, x=square.x + dx * square.side, y=square.y + dy * square.side, side=square.side * side,
                angle=square.angle + np.deg2rad(turn),
            )
            for side, turn, dx, dy in VIEWS
        ]  # fmt: skip
        return Face(np.mean([self._look(source, view).points for view in views], 0), found.confidence)

    def _find(self, picture: Bytes) -> Face:
        """Return the most confident face from a few places to begin."""
        height, width = picture.shape[:2]
        source = Image.fromarray(picture)
        found = []
        for x, y, side in FIRST_SQUARES:
            square = Square(x * width, y * height, side * min(height, width))
            for _ in range(ROUNDS):
                face = self._look(source, square)
                square = around(face.points)
            found.append(face)
            if face.confidence > 0.99:
                break
        return max(found, key=lambda face: face.confidence)

    def person(self, picture: Bytes) -> Float32:
        """Return the probability of a person, float32 [256, 256], for a picture uint8 [H, W, 3]."""
        small = Image.fromarray(picture).resize((PERSON_SIDE, PERSON_SIDE), Image.Resampling.BILINEAR)
        (mask,) = _run(self._person, np.asarray(small, np.float32)[None] / 255)
        return mask.reshape(PERSON_SIDE, PERSON_SIDE)

    def _look(self, source: Image.Image, square: Square) -> Face:
        seen = np.asarray(cut(source, square, LANDMARK_SIDE), np.float32)[None] / 255
        outputs = _run(self._landmarks, seen)
        points = next(o for o in outputs if o.size == LANDMARKS * 3).reshape(LANDMARKS, 3)[:, :2] / LANDMARK_SIDE
        logit = float(next(o for o in outputs if o.size == 1).reshape(()))
        return Face(square.to_picture(points), float(1 / (1 + np.exp(-logit))))


def around(points: Float32) -> Square:
    """Return the square round landmarks [468, 2], upright as the eyes are."""
    right, left = points[EYE_CORNERS[0]], points[EYE_CORNERS[1]]
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    c, s = np.cos(angle), np.sin(angle)
    upright = points @ np.array([[c, -s], [s, c]], np.float32)
    low, high = upright.min(0), upright.max(0)
    middle = (low + high) / 2
    centre = np.array([[c, -s], [s, c]]) @ middle
    return Square(float(centre[0]), float(centre[1]), float((high - low).max()) * ENLARGED, angle)


def cut(source: Image.Image, square: Square, side: int) -> Image.Image:
    """Return what lies in a square, ``side`` pixels a side, bilinear; black outside the picture."""
    step = square.side / side
    c, s = np.cos(square.angle) * step, np.sin(square.angle) * step
    x0 = square.x - (c - s) * side / 2
    y0 = square.y - (s + c) * side / 2
    fx = fy = 1.0
    if step > 2:  # bilinear alone would skip pixels
        smaller = [max(1, round(n * 2 / step)) for n in source.size]
        fx, fy = smaller[0] / source.width, smaller[1] / source.height
        source = source.resize(smaller, Image.Resampling.BOX)
    matrix = (c * fx, -s * fx, x0 * fx, s * fy, c * fy, y0 * fy)
    return source.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def importable() -> Any:
    """Return LiteRT's interpreter class; GanatomyError if it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise GanatomyError("the teacher needs LiteRT, which is not installed: pip install ai-edge-litert") from error
    return Interpreter


def _interpreter(path: Path) -> Any:
    interpreter = importable()(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, value: Floats) -> list[Float32]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value.astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
