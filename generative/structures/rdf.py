"""The radial distribution function: how many atoms stand at a distance, over chance.

Notes
-----
Of periodic structures, with c_k the pairs of atoms i ≠ j, in both orders and over all images
of the cell, whose distance lies in shell k from r_k to r_k + w:

    g_k = Σ c_k / Σ N (N - 1) v_k / V,    v_k = 4π/3 ((r_k + w)³ - r_k³),

both sums over structures. The volume of the shell is exact, and the N (N - 1) pairs are those
there are, so that atoms that know nothing of each other have g = 1 at any N. (Many programs
divide by N², and their g is lower by 1 - 1/N.) Images of an atom itself count as well; they
come in where r_max exceeds the shortest vector of the lattice.

Clusters have no volume. Their g is the density of pair distances, in 1/Å: its integral over
all distances, those above r_max too, is 1.
"""

from collections.abc import Sequence

import numpy as np

from coulex.kernels.compiled import compiled

from .bins import room_for_runs, runs_around, sort_into_bins
from .neighbours import complete
from .structure import Structure


def rdf(
    structures: Sequence[Structure] | np.ndarray, r_max: float, width: float, *, cell=None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial distribution function, averaged over structures.

    Parameters
    ----------
    structures : sequence of Structure or (frames, atoms, 3) array
        All periodic in three directions, or all clusters. An array is of periodic frames if
        there is a `cell`, else of clusters.
    r_max, width : float
        Where it ends, and how wide the shells are, in Å; the last shell ends at or before
        r_max.
    cell : (3, 3) array, optional
        Of all frames of an array.

    Returns
    -------
    r : (shells,) array
        The middle of each shell, in Å.
    g : (shells,) array

    Raises
    ------
    ValueError
        If there is no pair of atoms, or some are periodic and others not, or in one or two
        directions only.
    """
    if not (np.isfinite(r_max) and 0 < width <= r_max):
        msg = f"width and r_max must be finite with 0 < width <= r_max, got {width}, {r_max}"
        raise ValueError(msg)
    shells = int(np.floor(r_max / width * (1 + 1e-12)))
    groups = _groups(structures, cell)
    kinds = {bool(periodic) for _, _, periodic in groups}
    if len(kinds) != 1:
        msg = f"an RDF is of periodic structures or of clusters, got {len(groups)} of both"
        raise ValueError(msg)
    repeats = kinds.pop()
    counts, expected = np.zeros(shells, np.int64), 0.0
    for frames, vectors, _ in groups:
        if not np.isfinite(frames).all():
            msg = "positions must be finite"
            raise ValueError(msg)
        basis, inverse = complete(vectors, np.full(3, repeats))
        _histogram(frames, basis, inverse, np.full(3, repeats), width, counts)
        n = frames.shape[1]
        volume = abs(np.linalg.det(basis)) if repeats else 1.0
        expected += len(frames) * n * (n - 1) / volume
    if expected == 0:
        msg = "no structure has two atoms: repeat the cell, so that there are pairs"
        raise ValueError(msg)
    edges = width * np.arange(shells + 1)
    size = 4 / 3 * np.pi * np.diff(edges**3) if repeats else np.full(shells, width)
    return edges[:-1] + 0.5 * width, 2 * counts / (expected * size)


def err_rdf(g, g_true) -> float:
    """Return Err = Σ_k (g_k - g_true_k)² / k, k from 1; the shells must be the same.

    References
    ----------
    The measure of RePAP, which weighs a shell by the inverse of its number, so that the sum
    depends on the width of the shells.
    """
    difference = _difference(g, g_true)
    return float((difference**2 / np.arange(1, len(difference) + 1)).sum())


def rdf_rmse(g, g_true) -> float:
    """Return the root mean square of g - g_true over the shells."""
    return float(np.sqrt((_difference(g, g_true) ** 2).mean()))


def _difference(g, g_true) -> np.ndarray:
    a, b = np.asarray(g, float), np.asarray(g_true, float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        msg = f"both RDFs must have the same shells, got {a.shape} and {b.shape}"
        raise ValueError(msg)
    return a - b


def _groups(structures, cell) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Return (frames, cell, periodic) of structures, those that can share them together."""
    if isinstance(structures, np.ndarray):
        frames = np.ascontiguousarray(structures, np.float64)
        if frames.ndim != 3 or frames.shape[2] != 3:
            msg = f"frames must be (frames, atoms, 3), got {frames.shape}"
            raise ValueError(msg)
        vectors = np.zeros((3, 3)) if cell is None else np.asarray(cell, np.float64)
        return [(frames, vectors, cell is not None)]
    if cell is not None:
        msg = "structures have cells of their own; `cell` is for an array of frames"
        raise ValueError(msg)
    gathered: dict[tuple[bytes, int], list[Structure]] = {}
    for structure in structures:
        if structure.periodic.any() and not structure.periodic.all():
            directions = int(structure.periodic.sum())
            msg = f"an RDF needs 3 periodic directions or none, got {directions}"
            raise ValueError(msg)
        cell_of = structure.cell.tobytes() if structure.periodic.all() else b""
        gathered.setdefault((cell_of, len(structure)), []).append(structure)
    return [
        (np.array([s.positions for s in same]), same[0].cell, bool(same[0].periodic.all()))
        for same in gathered.values()
    ]


@compiled
def _histogram(frames, basis, inverse, periodic, width, counts):
    """Add the distances of all pairs of each frame to the shells; a pair counts once."""
    r_max = width * counts.size
    square, per_width = r_max * r_max, 1.0 / width
    for t in range(frames.shape[0]):
        _, start, ordered, _, bins, reach = sort_into_bins(
            frames[t], basis, inverse, periodic, r_max
        )
        x, y, z = ordered[0], ordered[1], ordered[2]
        runs, shifts, origins = room_for_runs(bins, reach)
        for b in range(start.size - 1):
            if start[b] == start[b + 1]:
                continue
            found = runs_around(b, start, basis, periodic, bins, reach, runs, shifts, origins)
            for r in range(found):
                # of two images that mirror each other one is enough
                side = shifts[r, 0]
                for a in range(1, 3):
                    side = shifts[r, a] if side == 0 else side
                if side < 0:
                    continue
                ox, oy, oz = origins[r, 0], origins[r, 1], origins[r, 2]
                for i in range(start[b], start[b + 1]):
                    first = runs[r, 0] if side > 0 else max(runs[r, 0], i + 1)
                    for j in range(first, runs[r, 1]):
                        dx, dy = (x[j] - x[i]) + ox, (y[j] - y[i]) + oy
                        dz = (z[j] - z[i]) + oz
                        d = dx * dx + dy * dy + dz * dz
                        if d < square:
                            k = int(np.sqrt(d) * per_width)
                            counts[min(k, counts.size - 1)] += 1
