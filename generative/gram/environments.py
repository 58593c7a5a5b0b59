"""The surroundings of each atom of a structure: vectors to the atoms that are closest to it.

An environment is the n closest atoms within a cutoff, as vectors from a centre: the atom
itself, or the centroid of the n. Atoms with fewer neighbours within the cutoff have none.

The n-th and the next atom are often at nearly the same distance (in amorphous silicon the
8th and 9th differ by 0.04 Å in the median), so that which of them belongs is chance. `fading`
gives weights that go to zero towards the cutoff; they multiply squares of distances, atom by
atom, in alignment, labels and losses. Positions themselves are never scaled.
"""

from collections.abc import Sequence

import numpy as np

from ..structures import Structure
from ..structures.neighbours import nearest

CENTRES = ("atom", "centroid")


def of(
    structures: Sequence[Structure],
    *,
    neighbours: int = 8,
    cutoff: float = 4.0,
    centre: str = "atom",
    context: int = 0,
) -> dict[str, np.ndarray]:
    """Return the environments of all atoms that have enough neighbours.

    Parameters
    ----------
    structures : sequence of Structure
    neighbours : int
        Atoms of an environment, n.
    cutoff : float
        All of them must be closer than this, Å.
    centre : str
        One of `CENTRES`.
    context : int
        Atoms beyond the n closest that are given as well, at whatever distance.

    Returns
    -------
    dict of arrays
        `neighbours` (m, n, 3), `outer` (m, context, 3), vectors from the centre in Å, sorted
        by distance from the atom; `number` (m,), how many atoms lie within the cutoff, up to
        n + context; `element` (m,), the atomic number of the atom in the middle; `structure`
        and `atom` (m,), where it comes from; `left_out` (structures,), atoms without one.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """
    found = everywhere(
        structures, neighbours=neighbours, cutoff=cutoff, centre=centre, context=context
    )
    enough = found["number"] >= neighbours
    left_out = np.bincount(found["structure"][~enough], minlength=len(structures))
    return {name: array[enough] for name, array in found.items()} | {"left_out": left_out}


def everywhere(
    structures: Sequence[Structure],
    *,
    neighbours: int,
    cutoff: float,
    centre: str,
    context: int,
) -> dict[str, np.ndarray]:
    """Return the same for all atoms, also those with `number` < n.

    Atoms of structures that have fewer than n + context others get zeros.
    """
    if neighbours < 1 or context < 0:
        msg = f"an environment has 1 or more atoms, got {neighbours} and {context} outer ones"
        raise ValueError(msg)
    if not 0 < cutoff < np.inf:
        msg = f"the cutoff is a distance in Å, got {cutoff}"
        raise ValueError(msg)
    if centre not in CENTRES:
        msg = f"centre must be {', '.join(CENTRES)}, got {centre!r}"
        raise ValueError(msg)
    pieces = [
        _around(s, index, neighbours, cutoff, centre, context)
        for index, s in enumerate(structures)
    ]
    if not pieces:
        msg = "environments need a structure, got none"
        raise ValueError(msg)
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _around(
    s: Structure, index: int, n: int, cutoff: float, centre: str, context: int
) -> dict[str, np.ndarray]:
    atoms, count = len(s.positions), n + context
    others = count if s.periodic.any() else min(count, atoms - 1)
    vectors = np.zeros((atoms, count, 3))
    if others:
        vectors[:, :others], _ = nearest(s.positions, s.cell, s.periodic, others)
    distance = np.linalg.norm(vectors, axis=2)
    number = (distance[:, :others] < cutoff).sum(axis=1)
    if centre == "centroid":
        vectors = vectors - vectors[:, :n].mean(axis=1, keepdims=True)
    return {
        "neighbours": vectors[:, :n],
        "outer": vectors[:, n:],
        "number": number,
        "element": np.asarray(s.numbers),
        "structure": np.full(atoms, index),
        "atom": np.arange(atoms),
    }


def fading(x: np.ndarray, cutoff: float, width: float) -> np.ndarray:
    """Return the weights (..., n) of atoms at positions (..., n, 3).

    1 up to `cutoff - width`, from there half a cosine down to 0 at the cutoff; all 1 if the
    width is 0. For arrays of numpy and tensors alike.
    """
    if width == 0:
        return x[..., 0] * 0 + 1
    distance = (x**2).sum(-1) ** 0.5
    share = ((distance - (cutoff - width)) / width).clip(0, 1)
    cosine = share * np.pi
    return 0.5 + 0.5 * (np.cos(cosine) if isinstance(x, np.ndarray) else cosine.cos())
