"""Per-unit activation levels: ascending order statistics of a pilot, one set for the whole pass.

"On" means activation > level, so a tie goes to the lower bin and equal levels (ReLU zeros) are allowed. Levels
need not be exact quantiles, since the true exceedance is itself counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from .resample import Float32, Taps

LEVELS = 48
TAIL_FIRST, TAIL_LAST = 0.5, 0.0005  # upper-tail fractions, geometric between them
PILOT_VALUES = 65_536  # activations per unit at most
COARSE = 8  # levels at which the jackknife and the held-out choice are made


def tail_fractions(levels: int = LEVELS) -> NDArray[np.float64]:
    """Return the upper-tail fractions of the levels, from 0.5 down to 0.0005, float64 [B]."""
    return np.geomspace(TAIL_FIRST, TAIL_LAST, levels)


def coarse_indices(levels: int) -> NDArray[np.int64]:
    """Return the indices of the coarse levels, min(8, B) of them, evenly spread (48: 3, 9, ..., 45)."""
    count = min(COARSE, levels)
    return ((np.arange(count) + 0.5) * levels / count).astype(np.int64)


def pilot_samples(samples: int) -> int:
    """Return how many of the first samples the pilot looks at: clamp(N // 16, 16, 256), at most N."""
    return min(max(min(samples // 16, 256), 16), samples)


def pilot_pixels(samples: int, height: int, width: int) -> NDArray[np.int64]:
    """Return the fixed pixels (flat indices, ascending) at which every pilot sample is read."""
    count = min(height * width, max(1, PILOT_VALUES // samples))
    return np.sort(np.random.RandomState(0).permutation(height * width)[:count])


def order_statistics(values: Float32, fractions: NDArray[np.float64], threads: int = 1) -> Float32:
    """Return levels float32 [U, B] from values [U, n]: at most ``fraction * n`` of a unit's values lie above each."""
    count = values.shape[1]
    ranks = count - 1 - np.floor(fractions * count).astype(np.int64)
    lowest = ranks.min()

    def of_row(row: Float32) -> Float32:
        upper = np.partition(row, lowest)[lowest:]  # what lies below the lowest level need not be sorted
        return np.sort(upper)[ranks - lowest]

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(of_row, values)))


@numba.njit(nogil=True, cache=True)
def _read(features, row_index, row_weight, column_index, column_weight, pixels, out):  # type: ignore[no-untyped-def]
    width = column_index.shape[0]
    two = row_index.shape[1] == 2 and column_index.shape[1] == 2
    for unit in range(features.shape[0]):  # a unit's map stays in the nearest cache
        image, values = features[unit], out[unit]
        for k in range(pixels.shape[0]):
            y, x = pixels[k] // width, pixels[k] % width
            if two:  # bilinear, by far the most common: nothing to loop over
                a, b = row_weight[y, 0], row_weight[y, 1]
                top, bottom = image[row_index[y, 0]], image[row_index[y, 1]]
                left, right = column_index[x, 0], column_index[x, 1]
                at_left, at_right = a * top[left] + b * bottom[left], a * top[right] + b * bottom[right]
                values[k] = column_weight[x, 0] * at_left + column_weight[x, 1] * at_right
                continue
            value = np.float32(0)
            for s in range(column_index.shape[1]):
                row = np.float32(0)
                for t in range(row_index.shape[1]):
                    term = row_weight[y, t] * image[row_index[y, t], column_index[x, s]]
                    row = term if t == 0 else row + term
                term = column_weight[x, s] * row
                value = term if s == 0 else value + term
            values[k] = value


def read_sample(features: Float32, rows: Taps, columns: Taps, pixels: NDArray[np.int64], out: Float32) -> None:
    """Write one sample's activations at ``pixels``, as they will be counted, into ``out`` [U, n]."""
    _read(features, rows.index, rows.weight, columns.index, columns.weight, pixels, out)


def check_given(levels: NDArray[np.floating] | Sequence[Sequence[float]], layer: str, units: int) -> Float32:
    """Return given levels as float32 [U, B]; GanatomyError unless they fit the layer, ascend and are finite."""
    try:
        with np.errstate(over="ignore"):
            given = np.array(levels, np.float32)
    except (TypeError, ValueError) as error:
        raise GanatomyError(f"levels of {layer!r}: expected numbers [{units}, B], in rows of one length") from error
    if given.ndim == 1 and len(given) == units:
        given = given[:, None]
    if given.ndim != 2 or given.shape[0] != units or given.shape[1] < 1:
        raise GanatomyError(f"levels of {layer!r}: expected [{units}, B], got {list(given.shape)}")
    if not np.isfinite(given).all():
        raise GanatomyError(f"levels of {layer!r} hold NaN or infinite values")
    if (np.diff(given, axis=1) < 0).any():
        raise GanatomyError(f"levels of {layer!r} must ascend along their second axis")
    return given
