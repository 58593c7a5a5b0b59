"""Space cut into bins, so that the neighbours of an atom are looked for in few of them.

The compiled core of neighbour lists and RDFs. Bins are half a cut-off wide or wider. Around
each bin the atoms that may be near lie in a few *runs*: bins that follow one another along the
last axis hold atoms that follow one another, once atoms are sorted by bin. A run is of one
image of the cell, however many images the cut-off reaches over, so that a cell may be smaller
than the cut-off, and of any shape.
"""

import numpy as np

from coulex.kernels.compiled import compiled

#: bins are wider than (half) the cut-off by this share, far above rounding: no pair is missed
_SLACK = 1e-9
#: atoms in a bin of half the cut-off from which on such bins are quicker than wider ones
_CROWDED = 4.0
_ATOM_BINS = 4  #: bins for each atom at most, where atoms are sparse


@compiled
def sort_into_bins(positions, basis, inverse, periodic, cutoff):
    """Return (order, start, sorted, turns, bins, reach): atoms by bin, within the cell.

    Atoms `order` (n,) lie bin after bin at `sorted` (3, n), bin b from start[b] to
    start[b + 1]; positions are sorted + turns @ basis. `bins` (3,) counts the bins along each
    axis, `reach` (3,) those that the cut-off reaches over.
    """
    n = positions.shape[0]
    turns = np.zeros((n, 3), np.int64)
    fractions = np.empty((n, 3))
    for i in range(n):
        for a in range(3):
            f = 0.0
            for k in range(3):
                f += positions[i, k] * inverse[k, a]
            if periodic[a]:
                turns[i, a] = int(np.floor(f))
                f -= turns[i, a]
            fractions[i, a] = f
    low, length = np.zeros(3), np.ones(3)
    bins, reach = np.ones(3, np.int64), np.zeros(3, np.int64)
    sizes = np.empty(3)
    half = n * (0.5 * cutoff) ** 3  # atoms in a bin of half the cut-off
    for a in range(3):
        height = 1.0
        if periodic[a]:
            square = 0.0
            for k in range(3):
                square += inverse[k, a] ** 2
            height = 1.0 / np.sqrt(square)
        elif n > 0:
            low[a] = fractions[:, a].min()
            length[a] = fractions[:, a].max() - low[a]
        sizes[a] = length[a] * height
        half /= max(sizes[a], 0.5 * cutoff)
    width = cutoff * (1.0 + _SLACK) * (0.5 if half > _CROWDED else 1.0)
    _count_bins(sizes, width, _ATOM_BINS * n + 64, bins)
    for a in range(3):
        if sizes[a] > 0.0:
            reach[a] = int(np.ceil(cutoff * (1.0 + 0.5 * _SLACK) * bins[a] / sizes[a]))
        if not periodic[a]:
            reach[a] = min(reach[a], bins[a] - 1)
    place = np.empty(n, np.int64)
    start = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for i in range(n):
        b = 0
        for a in range(3):
            share = (fractions[i, a] - low[a]) / length[a] if length[a] > 0.0 else 0.0
            b = b * bins[a] + min(max(int(share * bins[a]), 0), bins[a] - 1)
        place[i] = b
        start[b + 1] += 1
    for b in range(start.size - 1):
        start[b + 1] += start[b]
    filled = start[:-1].copy()
    order = np.empty(n, np.int64)
    ordered = np.empty((3, n))
    for i in range(n):
        at = filled[place[i]]
        filled[place[i]] += 1
        order[at] = i
        for k in range(3):
            x = positions[i, k]
            for a in range(3):
                x -= turns[i, a] * basis[a, k]
            ordered[k, at] = x
    return order, start, ordered, turns, bins, reach


@compiled
def _count_bins(sizes, width, most, bins):
    """Write how many bins of at least a width fit, not more than `most` in all."""
    while True:
        total = 1.0
        for a in range(3):
            bins[a] = max(1, int(min(sizes[a] / width, 1e6)))
            total *= bins[a]
        if total <= most:
            return
        width *= max(1.01, (total / most) ** (1.0 / 3.0))


@compiled
def runs_around(b, start, basis, periodic, bins, reach, runs, shifts, origins):
    """Write the runs around bin `b`, and return how many hold atoms.

    Run r holds the sorted atoms from runs[r, 0] to runs[r, 1], of the image shifts[r] (3,) of
    the cell, which is moved by origins[r] (3,).
    """
    here = np.empty(3, np.int64)
    here[2] = b % bins[2]
    here[1] = (b // bins[2]) % bins[1]
    here[0] = b // (bins[2] * bins[1])
    found = 0
    for x in range(here[0] - reach[0], here[0] + reach[0] + 1):
        shift_x = x // bins[0]
        if shift_x != 0 and not periodic[0]:
            continue
        for y in range(here[1] - reach[1], here[1] + reach[1] + 1):
            shift_y = y // bins[1]
            if shift_y != 0 and not periodic[1]:
                continue
            row = ((x - shift_x * bins[0]) * bins[1] + y - shift_y * bins[1]) * bins[2]
            first, last = here[2] - reach[2], here[2] + reach[2]
            if not periodic[2]:
                first, last = max(first, 0), min(last, bins[2] - 1)
            for shift_z in range(first // bins[2], last // bins[2] + 1):
                begin = max(first - shift_z * bins[2], 0)
                end = min(last - shift_z * bins[2], bins[2] - 1)
                low, high = start[row + begin], start[row + end + 1]
                if high > low:
                    runs[found, 0], runs[found, 1] = low, high
                    shifts[found, 0], shifts[found, 1] = shift_x, shift_y
                    shifts[found, 2] = shift_z
                    for k in range(3):
                        origins[found, k] = (
                            shift_x * basis[0, k] + shift_y * basis[1, k]
                        ) + shift_z * basis[2, k]
                    found += 1
    return found


@compiled
def room_for_runs(bins, reach):
    """Return arrays (runs, shifts, origins) that hold what `runs_around` writes."""
    most = (2 * reach[0] + 1) * (2 * reach[1] + 1) * (2 * reach[2] // bins[2] + 2)
    return (
        np.empty((most, 2), np.int64),
        np.empty((most, 3), np.int64),
        np.empty((most, 3)),
    )
