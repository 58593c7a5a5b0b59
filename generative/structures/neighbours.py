"""Who is near whom: all pairs within a cut-off, or the nearest few of each atom.

Images of the cell count as atoms of their own, an atom's own images too: a cut-off may be
longer than the cell.
"""

from dataclasses import dataclass

import numpy as np

from coulex.kernels.compiled import compiled

from .bins import room_for_runs, runs_around, sort_into_bins

_WIDER = 1.3  #: by this factor a search is repeated for atoms that lack neighbours


@dataclass(frozen=True)
class Pairs:
    """All pairs of atoms within a cut-off, in both directions, ordered by the first.

    Attributes
    ----------
    start : (n + 1,) int array
        The pairs of atom k are those from start[k] to start[k + 1].
    i, j : (p,) int array
    shift : (p, 3) int array
        The image of the cell in which the second atom lies.
    vector : (p, 3) array
        positions[j] + shift @ cell - positions[i].
    distance : (p,) array
        Its length.
    """

    start: np.ndarray
    i: np.ndarray
    j: np.ndarray
    shift: np.ndarray
    vector: np.ndarray
    distance: np.ndarray


def pairs(positions, cell, periodic, cutoff: float) -> Pairs:
    """Return all pairs of atoms within a cut-off.

    Parameters
    ----------
    positions : (n, 3) array
    cell : (3, 3) array
        Rows are its vectors; those along which nothing repeats are not looked at.
    periodic : (3,) bool array
    cutoff : float
        In the unit of `positions`; pairs at just this distance count.

    Raises
    ------
    ValueError
        If a shape or number is not what it should be, or the cell has no volume.
    """
    x, basis, inverse, repeats = checked(positions, cell, periodic)
    if not (np.isfinite(cutoff) and cutoff > 0):
        msg = f"the cut-off must be positive and finite, got {cutoff}"
        raise ValueError(msg)
    grid = sort_into_bins(x, basis, inverse, repeats, float(cutoff))
    return Pairs(*_listed(*grid, basis, repeats, float(cutoff)))


def nearest(positions, cell, periodic, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest atoms of each atom.

    Parameters
    ----------
    positions, cell, periodic
        As for `pairs`.
    count : int

    Returns
    -------
    vectors : (n, count, 3) array
        From each atom to its nearest ones, the nearest first.
    index : (n, count) int array
        Which atoms these are, or are images of.

    Raises
    ------
    ValueError
        If there are not that many, or an argument is none.
    """
    x, basis, inverse, repeats = checked(positions, cell, periodic)
    n = len(x)
    if count < 1 or (n and not repeats.any() and count > n - 1):
        msg = f"count must be 1 to {max(n - 1, 0)}, the others there are, got {count}"
        raise ValueError(msg)
    vectors, index = np.zeros((n, count, 3)), np.full((n, count), -1)
    if n == 0:
        return vectors, index
    # as large as a sphere that holds the neighbours, were the atoms spread evenly over a box
    spans = (x @ inverse).max(axis=0) - (x @ inverse).min(axis=0)
    lengths = np.where(repeats, np.linalg.norm(basis, axis=1), np.maximum(spans, 1.0))
    volume = (
        abs(np.linalg.det(basis / np.linalg.norm(basis, axis=1)[:, None])) * lengths.prod()
    )
    cutoff = 1.15 * (0.75 / np.pi * (count + 1) * volume / n) ** (1 / 3)
    wanted = np.ones(n, bool)
    while wanted.any():
        grid = sort_into_bins(x, basis, inverse, repeats, cutoff)
        _nearest(*grid, basis, repeats, cutoff, wanted, vectors, index)
        cutoff *= _WIDER
    return vectors, index


def checked(positions, cell, periodic):
    """Return what the kernels take: positions, a basis, its inverse and what repeats.

    Along axes that do not repeat the basis has unit vectors across those that do.

    Raises
    ------
    ValueError
        If a shape or number is not what it should be, or the cell has no volume.
    """
    x = np.ascontiguousarray(positions, dtype=np.float64)
    given, repeats = np.asarray(cell, np.float64), np.array(periodic, bool)
    if x.ndim != 2 or x.shape[1] != 3 or given.shape != (3, 3) or repeats.shape != (3,):
        msg = (
            "positions must be (n, 3), cell (3, 3) and periodic (3,), got "
            f"{x.shape}, {given.shape}, {repeats.shape}"
        )
        raise ValueError(msg)
    if not np.isfinite(x).all():
        i = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        msg = f"atom {i} is at {x[i]}, not at finite coordinates"
        raise ValueError(msg)
    basis, inverse = complete(given, repeats)
    return x, basis, inverse, repeats


def complete(cell: np.ndarray, periodic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis (3, 3) with unit vectors in place of what does not repeat; its inverse.

    Raises
    ------
    ValueError
        If the vectors that repeat are not finite or do not span a cell.
    """
    basis = np.zeros((3, 3))
    basis[periodic] = cell[periodic]
    lengths = np.linalg.norm(basis[periodic], axis=1)
    if not np.isfinite(basis).all() or not (lengths > 0).all():
        msg = f"the cell repeats by vectors that are no vectors: {basis[periodic].tolist()}"
        raise ValueError(msg)
    if not periodic.all():
        _, _, across = np.linalg.svd(basis[periodic].reshape(-1, 3))
        basis[~periodic] = across[int(periodic.sum()) :]
    units = basis / np.linalg.norm(basis, axis=1)[:, None]
    if abs(np.linalg.det(units)) < 1e-6:
        msg = f"the vectors of the cell lie in a plane: {basis[periodic].tolist()}"
        raise ValueError(msg)
    return basis, np.ascontiguousarray(np.linalg.inv(basis))


@compiled
def _search(start, ordered, bins, reach, basis, periodic, cutoff):
    """Return the sorted atoms within the cut-off of each, the run of each, where they begin.

    The atom itself is among them. A branch for each candidate would cost more than writing
    all of them.
    """
    runs, shifts, origins = room_for_runs(bins, reach)
    n = ordered.shape[1]
    x, y, z = ordered[0], ordered[1], ordered[2]
    begin = np.zeros(n + 1, np.int64)
    hits, run = np.empty(32 * n + 64, np.int32), np.empty(32 * n + 64, np.int32)
    at, square = 0, cutoff * cutoff
    for b in range(start.size - 1):
        if start[b] == start[b + 1]:
            continue
        found = runs_around(b, start, basis, periodic, bins, reach, runs, shifts, origins)
        most = 0
        for r in range(found):
            most += runs[r, 1] - runs[r, 0]
        for i in range(start[b], start[b + 1]):
            if at + most > hits.size:
                hits, run = _longer(hits, at, most), _longer(run, at, most)
            for r in range(found):
                ox, oy, oz = origins[r, 0], origins[r, 1], origins[r, 2]
                for j in range(runs[r, 0], runs[r, 1]):
                    dx, dy, dz = (x[j] - x[i]) + ox, (y[j] - y[i]) + oy, (z[j] - z[i]) + oz
                    hits[at], run[at] = j, r
                    at += dx * dx + dy * dy + dz * dz <= square
            begin[i + 1] = at
    return hits, run, begin


@compiled
def _longer(array, used, more):
    """Return the array with room for more entries behind those in use."""
    out = np.empty(2 * (used + more), array.dtype)
    out[:used] = array[:used]
    return out


@compiled
def _listed(order, start, ordered, turns, bins, reach, basis, periodic, cutoff):
    """Return (start, i, j, shift, vector, distance) of all pairs, ordered by atom i."""
    hits, run, found = _search(start, ordered, bins, reach, basis, periodic, cutoff)
    n = order.size
    begin = np.zeros(n + 1, np.int64)
    for i in range(n):
        begin[order[i] + 1] = found[i + 1] - found[i] - 1  # but itself
    for i in range(n):
        begin[i + 1] += begin[i]
    size = begin[n]
    first, second = np.empty(size, np.int64), np.empty(size, np.int64)
    shift, vector = np.empty((size, 3), np.int32), np.empty((size, 3))
    distance = np.empty(size)
    runs, shifts, origins = room_for_runs(bins, reach)
    for b in range(start.size - 1):
        if start[b] == start[b + 1]:
            continue
        runs_around(b, start, basis, periodic, bins, reach, runs, shifts, origins)
        for i in range(start[b], start[b + 1]):
            me = order[i]
            at = begin[me]
            for k in range(found[i], found[i + 1]):
                j, r = hits[k], run[k]
                if i == j and not (shifts[r, 0] or shifts[r, 1] or shifts[r, 2]):
                    continue
                square, other = 0.0, order[j]
                for a in range(3):
                    d = (ordered[a, j] - ordered[a, i]) + origins[r, a]
                    vector[at, a] = d
                    square += d * d
                    shift[at, a] = shifts[r, a] + turns[me, a] - turns[other, a]
                first[at], second[at], distance[at] = me, other, np.sqrt(square)
                at += 1
    return begin, first, second, shift, vector, distance


@compiled
def _nearest(
    order,
    start,
    ordered,
    turns,  # noqa: ARG001
    bins,
    reach,
    basis,
    periodic,
    cutoff,
    wanted,
    vectors,
    index,
):
    """Write the nearest atoms of the wanted ones that have enough within the cut-off."""
    runs, shifts, origins = room_for_runs(bins, reach)
    count = index.shape[1]
    squares, which = np.empty(count), np.empty(count, np.int64)
    near = np.empty((count, 3))
    d = np.empty(3)
    for b in range(start.size - 1):
        if start[b] == start[b + 1]:
            continue
        found = runs_around(b, start, basis, periodic, bins, reach, runs, shifts, origins)
        for i in range(start[b], start[b + 1]):
            if not wanted[order[i]]:
                continue
            have = 0
            for r in range(found):
                home = shifts[r, 0] == 0 and shifts[r, 1] == 0 and shifts[r, 2] == 0
                for j in range(runs[r, 0], runs[r, 1]):
                    square = 0.0
                    for k in range(3):
                        d[k] = (ordered[k, j] - ordered[k, i]) + origins[r, k]
                        square += d[k] * d[k]
                    far = squares[have - 1] if have == count else cutoff * cutoff
                    if (home and i == j) or square > far or (have == count and square == far):
                        continue
                    at = have if have < count else count - 1
                    while at > 0 and squares[at - 1] > square:
                        squares[at], which[at] = squares[at - 1], which[at - 1]
                        near[at] = near[at - 1]
                        at -= 1
                    squares[at], which[at] = square, order[j]
                    near[at] = d
                    have = min(have + 1, count)
            if have == count:
                wanted[order[i]] = False
                vectors[order[i]] = near
                index[order[i]] = which
