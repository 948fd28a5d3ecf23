"""The compiled loops over labels: numbering their combinations, and counting them in the cells of a native map."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def encode(planes, numbers):  # type: ignore[no-untyped-def]
    """Number the combinations of planes [K, P]; return a pixel that has each, and how many do, [M] and [M]."""
    count, pixels = planes.shape
    room = 64
    while room < 2 * pixels:
        room *= 2
    holder = np.full(room, -1, np.int64)  # an open hash table of combinations
    first, area = np.empty(pixels, np.int64), np.zeros(pixels, np.int64)
    known = 0
    for i in range(pixels):
        key = np.uint64(0)
        for k in range(count):
            key = (key ^ np.uint64(planes[k, i])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        place = np.int64(key & np.uint64(room - 1))
        while True:
            number = holder[place]
            if number < 0:
                number = known
                holder[place], first[known] = number, i
                known += 1
                break
            same = True
            for k in range(count):
                same &= planes[k, i] == planes[k, first[number]]
            if same:
                break
            place = (place + 1) & (room - 1)
        numbers[i] = number
        area[number] += 1
    return first[:known].copy(), area[:known].copy()


@numba.njit(nogil=True, cache=True)
def count_cells(labels, number, down, across, counted):  # type: ignore[no-untyped-def]
    """Count the pixels of labels [K, H, W] in cells of down x across into counted [P, h, w], by number [K, C] or -1."""
    for plane in range(labels.shape[0]):
        for y in range(counted.shape[1] * down):
            row = counted[:, y // down]
            x = 0
            for cell in range(counted.shape[2]):
                for _ in range(across):
                    place = number[plane, labels[plane, y, x]]
                    if place >= 0:
                        row[place, cell] += 1
                    x += 1
