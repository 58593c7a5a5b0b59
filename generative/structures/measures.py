"""What a structure is like: bonds, angles, coordination, density, atoms too close together."""

from collections.abc import Sequence

import numpy as np

from .neighbours import Pairs, pairs
from .rdf import rdf
from .reading import density_of
from .structure import Structure

SILICON_BOND = 2.85  #: the customary cut-off between silicon atoms that are bonded, in Å
_FIRST_MINIMUM = (6.0, 0.05)  #: r_max and width, in Å, of the RDF that a cut-off is read from


def bond_cutoff(structures: Sequence[Structure]) -> float:
    """Return up to which distance, in Å, atoms count as bonded.

    Silicon: 2.85 Å. Everything else: the first minimum of the RDF behind its first peak.

    Raises
    ------
    ValueError
        If the RDF has no peak.
    """
    if all((s.numbers == 14).all() for s in structures):
        return SILICON_BOND
    r, g = rdf(list(structures), *_FIRST_MINIMUM)
    smooth = np.convolve(g, np.ones(5) / 5, mode="same")
    high = np.flatnonzero(smooth > 0.5 * smooth.max())
    if not high.size:
        msg = f"no two atoms are closer than {_FIRST_MINIMUM[0]} Å: name a cut-off"
        raise ValueError(msg)
    peak = high[0]
    while peak + 1 < len(g) and smooth[peak + 1] >= smooth[peak]:
        peak += 1
    behind = smooth[peak:]
    rise = np.flatnonzero(np.diff(behind) > 0)
    return float(r[peak + (int(rise[0]) if rise.size else len(behind) - 1)])


def bonds(structure: Structure, cutoff: float) -> Pairs:
    """Return the pairs of bonded atoms, in both directions."""
    return pairs(structure.positions, structure.cell, structure.periodic, cutoff)


def bond_lengths(structure: Structure, cutoff: float = SILICON_BOND) -> np.ndarray:
    """Return the distances in Å of all bonded atoms, each bond once."""
    near = bonds(structure, cutoff)
    return near.distance[_once(near)]


def bond_angles(structure: Structure, cutoff: float = SILICON_BOND) -> np.ndarray:
    """Return the angles in degrees between any two bonds of an atom, over all atoms."""
    near = bonds(structure, cutoff)
    count = np.diff(near.start)
    found = []
    for n in np.unique(count[count > 1]):
        rows = near.start[:-1][count == n][:, None] + np.arange(n)
        found.append(angles_between(near.vector[rows]).ravel())
    return np.concatenate(found) if found else np.zeros(0)


def angles_between(vectors: np.ndarray) -> np.ndarray:
    """Return the angles (m, n (n - 1) / 2) in degrees between vectors (m, n, 3)."""
    i, j = np.triu_indices(vectors.shape[1], 1)
    u, v = vectors[:, i], vectors[:, j]
    across = np.linalg.norm(np.cross(u, v), axis=-1)
    return np.degrees(np.arctan2(across, (u * v).sum(axis=-1)))


def coordination(structure: Structure, cutoff: float = SILICON_BOND) -> np.ndarray:
    """Return the number of bonds of each atom, (atoms,)."""
    return np.diff(bonds(structure, cutoff).start)


def density(structure: Structure) -> float:
    """Return the density in g/cm³.

    Raises
    ------
    ValueError
        If the structure is not periodic in three directions, and has no volume.
    """
    if not structure.periodic.all():
        msg = "a density needs a cell that repeats in 3 directions"
        raise ValueError(msg)
    return density_of(structure)


def close_pairs(structures: Sequence[Structure], distance: float) -> float:
    """Return the share of all pairs of atoms, N (N - 1) / 2, that are closer than a distance.

    Images count, as in the RDF: two atoms that are close over two faces are two close pairs.
    """
    close, all_pairs = 0, 0
    for structure in structures:
        near = pairs(structure.positions, structure.cell, structure.periodic, distance)
        close += int((near.distance < distance).sum())
        all_pairs += len(structure) * (len(structure) - 1)
    if not all_pairs:
        msg = "no structure has two atoms"
        raise ValueError(msg)
    return close / all_pairs


def _once(near: Pairs) -> np.ndarray:
    """Return which of the pairs to keep, so that each stands once."""
    forward = near.j > near.i
    own = near.j == near.i
    if own.any():
        turned = np.zeros(len(near.i), bool)
        for a in (2, 1, 0):  # the first shift that is not zero decides
            shift = near.shift[:, a]
            turned = np.where(shift == 0, turned, shift > 0)
        forward |= own & turned
    return forward
