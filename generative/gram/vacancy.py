"""An atom that is missing from a structure, put back where the environments around it agree.

A vacancy shows by the atoms around it, which have fewer bonds than the others. The environment
of each of these lacks one atom: its n - 1 closest neighbours are known, and the missing one is
drawn many times (`generative.gram.infill`). Each of the atoms so tells where, by its draws,

    p_i(r) = (1 - ε) mean over draws of N(r; draw, s²) + ε / V,

the last term for an environment that is wrong altogether, and the place is where the product
of all p_i is the largest. Draws that come too near to an atom that is there are left out; an
environment of which none is left says nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..structures import Structure
from ..structures.measures import bond_cutoff, coordination
from ..structures.neighbours import nearest, pairs
from .infill import infill

_WIDTH = 0.3  #: Å, s: of the places that the draws of one environment say
_WRONG, _VOLUME = 0.1, 4 / 3 * np.pi * 4.0**3  #: ε, and the sphere V in Å³ of what is wrong
_TOO_NEAR = 0.75  #: of the bond length: no atom is put there
_IN_REACH = 40  #: atoms about each of those around, that a draw can come near to
_POLISH = 20  #: steps towards the maximum


@dataclass(frozen=True)
class Vacancy:
    """Where an atom is missing.

    Attributes
    ----------
    around : (a,) int array
        The atoms with a bond too few.
    position : (3,) array
        Å, of the missing atom.
    agreement : (a,) array
        Share of the draws of each of these atoms that are within 0.5 Å of it.
    """

    around: np.ndarray
    position: np.ndarray
    agreement: np.ndarray


def underbonded(s: Structure, bond: float, bonds: int) -> list[np.ndarray]:
    """Return groups of atoms that have fewer bonds than they should and lie together.

    Parameters
    ----------
    s : Structure
    bond : float
        Longest of a bond, Å.
    bonds : int
        Of an atom.

    Returns
    -------
    list of (a,) int arrays
        The largest group first. Those who share one missing atom are at most twice a bond
        apart.
    """
    near = pairs(s.positions, s.cell, s.periodic, bond)
    count = np.bincount(near.i, minlength=len(s))
    lacking = np.flatnonzero(count < bonds)
    far = pairs(s.positions, s.cell, s.periodic, 2 * bond)
    linked = np.isin(far.i, lacking) & np.isin(far.j, lacking)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = far.i[linked], far.j[linked]
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(s), len(s)))
    _, group = connected_components(graph, directed=False)
    groups = [lacking[group[lacking] == g] for g in np.unique(group[lacking])]
    return sorted(groups, key=len, reverse=True)


def place_missing(
    model: Any,
    s: Structure,
    around: np.ndarray,
    *,
    draws: int,
    generator: torch.Generator,
) -> Vacancy:
    """Put an atom where the environments of some atoms miss one.

    Parameters
    ----------
    model : Model
        Of environments about an atom.
    s : Structure
    around : (a,) int array
        Atoms, each of which lacks one neighbour.
    draws : int
        Completions of each environment.
    generator : torch.Generator

    Raises
    ------
    ValueError
        If no atoms are given, or no draw keeps off the atoms that are there.
    """
    if not len(around):
        msg = "no atom has a bond too few: nothing is missing that its neighbours could tell"
        raise ValueError(msg)
    r = model.representation
    count = max(r.neighbours - 1 + r.context, _IN_REACH)
    count = count if s.periodic.any() else min(count, len(s) - 1)
    vectors = nearest(s.positions, s.cell, s.periodic, count)[0][around]
    known = vectors[:, : r.neighbours - 1]
    outer = vectors[:, r.neighbours - 1 : r.neighbours - 1 + r.context]
    drawn = infill(model, known, draws, generator, outer=outer)[:, :, -1]
    first = s.positions[around[0]]
    apart = s.positions[around] - first
    places = drawn + (apart - _whole_cells(apart, s))[:, None]  # about the first atom
    least = _TOO_NEAR * float(np.median(np.linalg.norm(vectors[:, 0], axis=1)))
    there = np.concatenate([np.zeros_like(vectors[:, :1]), vectors], axis=1)[:, None]
    free = np.linalg.norm(drawn[:, :, None] - there, axis=3).min(axis=2) > least
    if not free.any():
        msg = f"none of {places.shape[0] * draws} draws keeps off the atoms that are there"
        raise ValueError(msg)
    best = _agreed(places, free)
    near = np.linalg.norm(places - best, axis=2) <= 0.5
    return Vacancy(around, first + best, near.mean(axis=1))


def _whole_cells(apart: np.ndarray, s: Structure) -> np.ndarray:
    """Return the whole numbers of cells in vectors (a, 3), so that what is left is short."""
    if not s.periodic.any():
        return np.zeros_like(apart)
    shares = np.linalg.lstsq(s.cell.T, apart.T, rcond=None)[0].T
    return (np.round(shares) * s.periodic) @ s.cell


def _agreed(places: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the place (3,) where the product of all densities is the largest."""

    def weights(r: np.ndarray) -> np.ndarray:
        square = ((r - places) ** 2).sum(2)
        return np.where(free, np.exp(-square / (2 * _WIDTH**2)), 0.0)

    said = free.any(axis=1)
    norm = (2 * np.pi * _WIDTH**2) ** 1.5 * np.maximum(free.sum(axis=1), 1)

    def log_density(r: np.ndarray) -> float:
        own = weights(r).sum(1) / norm
        return float(np.log((1 - _WRONG) * own + _WRONG / _VOLUME)[said].sum())

    best = max(places[free], key=log_density)
    for _ in range(
        _POLISH
    ):  # the mean of the draws, each by its share: expectation-maximisation
        w = weights(best)
        own = (1 - _WRONG) * w / norm[:, None]
        share = own / (own.sum(1, keepdims=True) + _WRONG / _VOLUME)
        best = (share[..., None] * places).sum((0, 1)) / share.sum()
    return best


def bonds_of(s: Structure) -> tuple[float, int]:
    """Return the longest distance of a bond in Å, and how many bonds most atoms have."""
    bond = bond_cutoff([s])
    return bond, int(np.bincount(coordination(s, bond)).argmax())
