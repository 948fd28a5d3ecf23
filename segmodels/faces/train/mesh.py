"""Which of the 468 landmarks of the face mesh go round which part, as closed loops of indices.

Source: the connections that MediaPipe publishes for its face mesh (Apache-2.0), ordered into loops; the nose, which
they only hint at, goes from the root between the eyes along the sides to the wings and the base.
"""

from __future__ import annotations

LANDMARKS = 468

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
BROWS = (
    (46, 53, 52, 65, 55, 107, 66, 105, 63, 70),
    (276, 283, 282, 295, 285, 336, 296, 334, 293, 300),
)
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
NOSE = (
    168, 193, 122, 174, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 399, 351, 417,
)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
MOUTH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

MIRRORED = {
    # Loops are written so that this is a matter of position; landmarks that no loop has stay themselves.
    **dict(zip(BROWS[0] + EYES[0], BROWS[1] + EYES[1], strict=True)),
    **dict(zip(BROWS[1] + EYES[1], BROWS[0] + EYES[0], strict=True)),
    **{loop[i]: loop[(turn - i) % len(loop)] for loop, turn in ((OVAL, 0), (NOSE, 0), (LIPS, 10), (MOUTH, 10))
       for i in range(len(loop))},
}  # fmt: skip
"""The landmark on the other side of the face."""

EYE_CORNERS = (33, 263)
"""The outer corners: the line between them says how far a head is tilted."""
CHIN, FOREHEAD = 152, 10
