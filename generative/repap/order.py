"""Which atom comes first, and the symmetries of a box under which it is the same box.

In a solid an atom keeps its place, and so its place in the sequence: by its mean distance to
the origin over the trajectory, or as in the file. In a liquid atoms change places and their
numbers mean nothing: each frame is ordered by itself, along x. Atoms of different elements are
then ordered apart, one element after the other, so that a slot always holds the same element.
"""

from itertools import permutations, product

import numpy as np

ORDERS = ("auto", "mean-distance", "spatial", "given")

#: root mean square displacement over the distance of neighbours above which a solid has melted
_LINDEMANN = 0.2


def at_home(positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return (frames, atoms, 3) at the images nearest to the means, which are in the box.

    A trajectory that began as a melt has its atoms in boxes far away, and of two runs one may
    show an atom on the other side of a face.
    """
    turns = np.exp(2j * np.pi / lengths * positions).mean(0)
    mean = np.angle(turns) / (2 * np.pi) % 1 * lengths
    off = positions - mean
    return mean + off - np.rint(off / lengths) * lengths


def wanders(positions: np.ndarray, volume: float) -> bool:
    """Return whether atoms leave their places: the criterion of Lindemann.

    Parameters
    ----------
    positions : (frames, atoms, 3) array
        Å, where no atom jumps through a face.
    volume : float
        Å³
    """
    off = positions - positions.mean(0)
    spacing = (volume / positions.shape[1]) ** (1 / 3)
    return bool(np.sqrt((off**2).sum(2).mean()) > _LINDEMANN * spacing)


def by_mean_distance(positions: np.ndarray) -> np.ndarray:
    """Return atoms (atoms,) by the mean distance of (frames, atoms, 3) to the origin."""
    return np.argsort(np.linalg.norm(positions, axis=2).mean(0), kind="stable")


def by_element(numbers: np.ndarray) -> np.ndarray:
    """Return atoms (atoms,) grouped by element, each group in the order of the file."""
    return np.argsort(numbers, kind="stable")


def along_x(positions: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return (frames, atoms, 3) with the atoms of each element ordered by x.

    Parameters
    ----------
    positions : (frames, atoms, 3) array
    numbers : (atoms,) array
        Grouped by element.
    """
    out = positions.copy()
    for number in dict.fromkeys(numbers.tolist()):
        mine = np.flatnonzero(numbers == number)
        rank = np.argsort(positions[:, mine, 0], axis=1, kind="stable")
        out[:, mine] = np.take_along_axis(positions[:, mine], rank[:, :, None], axis=1)
    return out


def operations(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the symmetries of an orthorhombic box, 48 of a cube.

    Returns
    -------
    axes : (k, 3) array of int
        Which axis becomes which.
    signs : (k, 3) array
    """
    kept = [
        p
        for p in permutations(range(3))
        if np.allclose(np.take(lengths, p), lengths, rtol=1e-6)
    ]
    both = list(product(kept, product((1.0, -1.0), repeat=3)))
    return np.array([p for p, _ in both]), np.array([s for _, s in both])


def turned(positions: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply to each frame (frames, atoms, 3) a symmetry of the box, drawn at random."""
    axes, signs = operations(lengths)
    drawn = rng.integers(len(axes), size=len(positions))
    picked = np.take_along_axis(
        positions, axes[drawn][:, None].repeat(positions.shape[1], 1), 2
    )
    return picked * signs[drawn][:, None]
