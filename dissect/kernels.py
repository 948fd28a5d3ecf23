"""The compiled loops of ``counts.py``: from feature maps and numbered combinations of labels to joint counts.

Indices are unsigned: numba then need not ask whether one is negative, which makes the loops twice as fast.
"""

from __future__ import annotations

import numba
import numpy as np

GUIDE = 1024  # entries of a unit's table from activation to level
MOST_STEPS = 3  # levels in one slot up to which comparing with all of them beats asking after each
LEAST_SHARED = (
    1024  # pixels between two source columns from which on it pays to find what may be above the lowest level
)
MARGIN = np.float32(2.0**-21)  # of the lowest level: more than interpolation can round upwards
LEAST = np.float32(1e-37)  # the same for levels next to zero


@numba.njit(nogil=True, cache=True, inline="always")
def _slot(value, low, scale):  # type: ignore[no-untyped-def]
    at = (value - low) * scale
    at = at if at > np.float32(0) else np.float32(0)  # also for what is not a number
    return np.int32(at if at < np.float32(GUIDE - 1) else np.float32(GUIDE - 1))


@numba.njit(nogil=True, cache=True)
def slots(values, low, scale):  # type: ignore[no-untyped-def]
    """Return the entry of a unit's table from activation to level at which each value is looked up."""
    out = np.empty(values.shape[0], np.int32)
    for i in range(values.shape[0]):
        out[i] = _slot(values[i], low, scale)
    return out


@numba.njit(nogil=True, cache=True, inline="always")
def _columns(image, index, weight, out):  # type: ignore[no-untyped-def]
    """Resample the rows of image [h, w] into columns [w, H], in which each column is a run."""
    if index.shape[0] == 2:  # bilinear, by far the most common
        for x in range(image.shape[1]):
            column = out[x]
            for y in range(index.shape[1]):
                column[y] = weight[0, y] * image[index[0, y], x] + weight[1, y] * image[index[1, y], x]
        return
    for x in range(image.shape[1]):
        column = out[x]
        for y in range(index.shape[1]):
            value = weight[0, y] * image[index[0, y], x]
            for t in range(1, index.shape[0]):
                value += weight[t, y] * image[index[t, y], x]
            column[y] = value


@numba.njit(nogil=True, cache=True, inline="always")
def _column(columns, x, index, weight, values):  # type: ignore[no-untyped-def]
    """Write column x of the resampled image into ``values``, from columns [w, H] of resampled rows."""
    left, right = columns[index[0, x]], columns[index[1, x]]
    a, b = weight[0, x], weight[1, x]
    for y in range(values.shape[0]):
        values[y] = a * left[y] + b * right[y]


@numba.njit(nogil=True, cache=True)
def _row(image, y, row_index, row_weight, column_index, column_weight, row, values):  # type: ignore[no-untyped-def]
    """Write row y of the resampled image into ``values``: rows, then columns, each operation rounded."""
    for t in range(row_index.shape[0]):
        source, weight = image[row_index[t, y]], row_weight[t, y]
        if t == 0:
            for x in range(row.shape[0]):
                row[x] = weight * source[x]
        else:
            for x in range(row.shape[0]):
                row[x] += weight * source[x]
    for t in range(column_index.shape[0]):
        index, weights = column_index[t], column_weight[t]
        if t == 0:
            for x in range(values.shape[0]):
                values[x] = weights[x] * row[index[x]]
        else:
            for x in range(values.shape[0]):
                values[x] += weights[x] * row[index[x]]


@numba.njit(nogil=True, cache=True, inline="always")
def _bins(values, levels, low, scale, guide, steps, slot_of, bins):  # type: ignore[no-untyped-def]
    """Write how many levels each value exceeds, with as many comparisons as a slot has levels."""
    for i in range(values.shape[0]):
        slot_of[i] = _slot(values[i], low, scale)
    for i in range(values.shape[0]):
        bin_ = np.uint32(guide[np.uint32(slot_of[i])])
        bins[i] = bin_ + np.uint32(values[i] > levels[bin_])
    for _ in range(1, steps):
        for i in range(values.shape[0]):
            bins[i] += np.uint32(values[i] > levels[bins[i]])


@numba.njit(nogil=True, cache=True)
def _bins_crowded(values, levels, low, scale, guide, bins):  # type: ignore[no-untyped-def]
    """Write how many levels each value exceeds, asking after each comparison whether another is needed."""
    for i in range(values.shape[0]):
        bin_ = np.uint32(guide[np.uint32(_slot(values[i], low, scale))])
        while values[i] > levels[bin_]:
            bin_ += np.uint32(1)
        bins[i] = bin_


@numba.njit(nogil=True, cache=True, inline="always")
def _count_line(bins, real, chance, table, next_table, aside):  # type: ignore[no-untyped-def]
    """Count a line of pixels, its halves in turn: neighbours often share an entry, and would wait for each other.

    The pixels count for the combinations of their own sample and, ``aside`` entries further, for those of the next.
    """
    one, half = table.dtype.type(1), np.uint32(bins.shape[0] // 2)
    for k in range(half):
        i, j = np.uint32(k), np.uint32(k) + half
        here, there = bins[i], bins[j]
        table[np.uint32(real[i]) + here] += one
        next_table[np.uint32(chance[i]) + here + aside] += one
        table[np.uint32(real[j]) + there] += one
        next_table[np.uint32(chance[j]) + there + aside] += one
    for k in range(2 * half, bins.shape[0]):
        i = np.uint32(k)
        table[np.uint32(real[i]) + bins[i]] += one
        next_table[np.uint32(chance[i]) + bins[i] + aside] += one


@numba.njit(nogil=True, cache=True)
def _share_out(table, rows, found, counts):  # type: ignore[no-untyped-def]
    """Add the table of a sample's combinations [M * E] to their concepts' counts [C, E]; then zero it."""
    length = counts.shape[1]
    for m in range(found):
        entries = table[m * length : (m + 1) * length]
        for plane in range(rows.shape[1]):
            concept = rows[m, plane]
            if concept or not plane:
                run = counts[concept]
                for b in range(length):
                    run[b] += entries[b]
        entries[:] = 0


@numba.njit(nogil=True, cache=True, inline="always")
def _surely_off(low):  # type: ignore[no-untyped-def]
    """Return the value at or under which both ends of an interpolation must lie for it to be at or under ``low``.

    Rounding is monotone, so the result is at most what two ends of the larger value would give, and that is off by
    three roundings at most, or by none if it is zero.
    """
    return low if low == np.float32(0) else low - (abs(low) * MARGIN + LEAST)


@numba.njit(nogil=True, cache=True, inline="always")
def _find_active(left, right, off, where, ends):  # type: ignore[no-untyped-def]
    """List where left or right [H] is above ``off``, and the two values there; return how many there are."""
    found = np.uint32(0)
    for y in range(left.shape[0]):
        where[found] = np.uint32(y)
        found += np.uint32((left[y] > off) | (right[y] > off))
    for k in range(found):
        ends[0, k], ends[1, k] = left[where[k]], right[where[k]]
    return found


@numba.njit(nogil=True, cache=True, inline="always")
def _count_active(bins, where, real, chance, table, next_table, aside):  # type: ignore[no-untyped-def]
    """As ``_count_line``, for the pixels of a line that ``where`` lists."""
    one, half = table.dtype.type(1), np.uint32(bins.shape[0] // 2)
    for k in range(half):
        i, j = np.uint32(k), np.uint32(k) + half
        here, there, y, z = bins[i], bins[j], where[i], where[j]
        table[np.uint32(real[y]) + here] += one
        next_table[np.uint32(chance[y]) + here + aside] += one
        table[np.uint32(real[z]) + there] += one
        next_table[np.uint32(chance[z]) + there + aside] += one
    for k in range(2 * half, bins.shape[0]):
        i = np.uint32(k)
        y = where[i]
        table[np.uint32(real[y]) + bins[i]] += one
        next_table[np.uint32(chance[y]) + bins[i] + aside] += one


@numba.njit(nogil=True, cache=True)
def count(features, columns_first, row_index, row_weight, column_index, column_weight, levels, lows, scales, guides, steps, offsets, rows, found, met, areas, counts, start, stop):  # type: ignore[no-untyped-def]  # noqa: E501  # fmt: skip
    """Count units start..stop-1 of a batch into counts [U, C, 2 * (B + 1)]: real bins, then those by chance.

    ``offsets`` lead to a combination's entries in the table of its sample. A sample's table is complete, and shared
    out among its concepts, once its own pixels and those of the sample before are counted. Pixels that are surely at
    or under the lowest level need not be looked at: what the other bins leave of ``areas`` [2, C] is in the lowest.
    """
    height, width, bins = row_index.shape[1], column_index.shape[1], np.uint32(counts.shape[2] // 2)
    lines, length = (width, height) if columns_first else (height, width)
    columns = np.empty((features.shape[3], height), np.float32)
    row = np.empty(features.shape[3], np.float32)
    values, slot_of = np.empty(length, np.float32), np.empty(length, np.int32)
    bin_of = np.empty(length, np.uint32)
    where, ends = np.empty(length + 1, np.uint32), np.empty((2, length), np.float32)
    tables = np.zeros((2, rows.shape[1] * counts.shape[2]), offsets.dtype)
    near = np.zeros(counts.shape[1:], np.uint32)  # one unit's counts, in a cache of middling size
    samples = features.shape[0]
    for unit in range(start, stop):
        level, low, scale, guide = levels[unit], lows[unit], scales[unit], guides[unit]
        few, off = steps[unit] <= MOST_STEPS, _surely_off(lows[unit])
        for sample in range(samples):
            image = features[sample, unit]
            table, next_table = tables[sample % 2], tables[1 - sample % 2]
            if columns_first:
                _columns(image, row_index, row_weight, columns)
            line = 0
            while line < lines:
                end = line + 1
                if columns_first:  # lines between the same two source columns
                    a, b = column_index[0, line], column_index[1, line]
                    while end < lines and column_index[0, end] == a and column_index[1, end] == b:
                        end += 1
                if (end - line) * length >= LEAST_SHARED:
                    active = _find_active(columns[a], columns[b], off, where, ends)
                    left, right, some = ends[0, :active], ends[1, :active], values[:active]
                    for x in range(line, end):
                        at_left, at_right = column_weight[0, x], column_weight[1, x]
                        for k in range(active):
                            some[k] = at_left * left[k] + at_right * right[k]
                        if few:
                            _bins(some, level, low, scale, guide, steps[unit], slot_of, bin_of)
                        else:
                            _bins_crowded(some, level, low, scale, guide, bin_of)
                        real, chance = offsets[sample, x], offsets[sample + 1, x]
                        _count_active(bin_of[:active], where, real, chance, table, next_table, bins)
                else:
                    for x in range(line, end):
                        if columns_first:
                            _column(columns, x, column_index, column_weight, values)
                        else:
                            _row(image, x, row_index, row_weight, column_index, column_weight, row, values)
                        if few:
                            _bins(values, level, low, scale, guide, steps[unit], slot_of, bin_of)
                        else:
                            _bins_crowded(values, level, low, scale, guide, bin_of)
                        _count_line(bin_of, offsets[sample, x], offsets[sample + 1, x], table, next_table, bins)
                line = end
            _share_out(table, rows[sample], found[sample], near)
        _share_out(tables[samples % 2], rows[samples], found[samples], near)
        for concept in met:
            run, total = near[concept], counts[unit, concept]
            for kind in range(2):
                first = kind * bins
                run[first] = 0
                run[first] = areas[kind, concept] - run[first : first + bins].sum()
            for b in range(run.shape[0]):
                total[b] += run[b]
            run[:] = 0


@numba.njit(nogil=True, cache=True)
def fold(fresh, met, bin_to_coarse, real, chance, real_blocks, chance_blocks, start, stop):  # type: ignore[no-untyped-def]
    """Add fresh [U, C, 2 * (B + 1)] of the concepts met to counts [U, C, B + 1] and blocks [U, C, Q + 1]; zero it."""
    bins = real.shape[2]
    for unit in range(start, stop):
        for concept in met:
            for kind in range(2):
                source = fresh[unit, concept, kind * bins : (kind + 1) * bins]
                fine = chance[unit, concept] if kind else real[unit, concept]
                coarse = chance_blocks[unit, concept] if kind else real_blocks[unit, concept]
                for b in range(bins):
                    fine[b] += source[b]
                for b in range(bins):
                    coarse[bin_to_coarse[b]] += source[b]
                source[:] = 0
