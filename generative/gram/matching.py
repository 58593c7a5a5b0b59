"""Part of an environment laid onto a whole one, when nobody says which atom is which.

Known atoms go to places of a whole environment: those next to the centre to places of the
first shell, the others to the rest. All such assignments are tried (for 8 places there are at
most 576), each with its best rotation, and those that leave the least distance are given.
Nothing is used but the known atoms.
"""

from itertools import permutations
from math import perm
from typing import NamedTuple

import numpy as np

from .canonical import SHELL
from .synchronise import align

_LARGEST = 5000  #: assignments that are tried one by one
_CHUNK = 1 << 16  #: of them at once


class Placed(NamedTuple):
    """Assignments of known atoms, the nearest first; j of them for each of m environments."""

    place: np.ndarray  #: (m, j, k) int, where each known atom goes
    rotation: (
        np.ndarray
    )  #: (m, j, 3, 3), from the frame of the known atoms to that of the whole
    square: np.ndarray  #: (m, j), mean squared distance to those places, Å²


def place(known: np.ndarray, whole: np.ndarray, count: int, *, proper: bool = False) -> Placed:
    """Assign known atoms to places of whole environments.

    Parameters
    ----------
    known : (m, k, 3) array
        Å, about the centre, in any order and frame.
    whole : (m, n, 3) or (n, 3) array
        Å, the first four being next to the centre.
    count : int
        Assignments wanted, j; fewer where there are fewer, then padded by the last.
    proper : bool
        Whether mirror images are told apart.

    Raises
    ------
    ValueError
        If more atoms are known than there are places, or assignments are too many.
    """
    m, k = known.shape[:2]
    whole = np.broadcast_to(whole, (m, *np.shape(whole)[-2:]))
    n = whole.shape[1]
    if k > n:
        msg = f"{k} atoms are known, of environments of {n}"
        raise ValueError(msg)
    near = np.argsort(np.linalg.norm(known, axis=2), axis=1, kind="stable")
    inside = _in_shell(known, whole, n)
    out = Placed(
        np.zeros((m, count, k), int), np.zeros((m, count, 3, 3)), np.zeros((m, count))
    )
    for shell in np.unique(inside):
        choices = _assignments(int(shell), k, n)
        mine = np.flatnonzero(inside == shell)
        for rows in np.array_split(mine, max(1, len(mine) * len(choices) // _CHUNK)):
            if not len(rows):
                continue
            ordered = np.take_along_axis(known[rows], near[rows][..., None], axis=1)
            best = _best(ordered, whole[rows], choices, count, proper)
            undone = np.argsort(near[rows], axis=1)[:, None].repeat(count, axis=1)
            out.place[rows] = np.take_along_axis(best.place, undone, axis=2)
            out.rotation[rows], out.square[rows] = best.rotation, best.square
    return out


def _best(
    known: np.ndarray, whole: np.ndarray, choices: np.ndarray, count: int, proper: bool
) -> Placed:
    """Return the best assignments of atoms that stand in the order of their distance."""
    (m, k), n = known.shape[:2], whole.shape[1]
    goes = (choices[..., None] == np.arange(n)).reshape(len(choices), k * n).astype(float)
    products = known[:, :, None, :, None] * whole[:, None, :, None, :]
    overlap = goes @ products.reshape(m, k * n, 9)  # Σ known ⊗ whole of each choice
    lengths = np.broadcast_to((whole**2).sum(2)[:, None], (m, k, n)).reshape(m, k * n)
    square = lengths @ goes.T - 2 * _largest_trace(overlap.reshape(m, -1, 3, 3), proper)
    first = np.argsort(square, axis=1, kind="stable")[:, :count]
    if first.shape[1] < count:
        first = np.pad(first, ((0, 0), (0, count - first.shape[1])), mode="edge")
    there = whole[np.arange(m)[:, None, None], choices[first]]
    q = align(there, known[:, None], proper=proper)
    exact = ((known[:, None] @ q - there) ** 2).sum((2, 3)) / max(k, 1)
    return Placed(choices[first], q, exact)


def _largest_trace(m: np.ndarray, proper: bool) -> np.ndarray:
    """Return the largest trace of M Q (...), the sum of the singular values of M (..., 3, 3).

    From the eigenvalues of MᵀM, the roots of a cubic: good to a few digits where they are
    nearly equal, which is enough to find what is then computed exactly.
    """
    a = np.swapaxes(m, -1, -2) @ m
    mean = np.trace(a, axis1=-2, axis2=-1) / 3
    b = a - mean[..., None, None] * np.eye(3)
    size = np.sqrt((b**2).sum((-1, -2)) / 6)
    cosine = _determinant(b) / (2 * np.maximum(size, 1e-300) ** 3)
    angle = np.arccos(np.clip(cosine, -1, 1)) / 3
    high = mean + 2 * size * np.cos(angle)
    low = mean + 2 * size * np.cos(angle + 2 * np.pi / 3)
    values = (high, 3 * mean - high - low, low)
    one, two, three = (np.sqrt(np.maximum(v, 0)) for v in values)
    return one + two + (three * np.sign(_determinant(m)) if proper else three)


def _determinant(m: np.ndarray) -> np.ndarray:
    return (m[..., 0, :] * np.cross(m[..., 1, :], m[..., 2, :])).sum(-1)


def _in_shell(known: np.ndarray, whole: np.ndarray, n: int) -> np.ndarray:
    """Return how many known atoms (m,) go to the first shell.

    Those nearer than halfway between the two shells of the whole, as far as there are places.
    """
    k, shell = known.shape[1], min(SHELL, n)
    if shell == n:
        return np.full(len(known), k)
    radius = np.linalg.norm(whole, axis=2)
    between = (radius[:, :shell].max(axis=1) + radius[:, shell:].min(axis=1)) / 2
    inside = (np.linalg.norm(known, axis=2) < between[:, None]).sum(axis=1)
    return np.clip(inside, max(0, k - (n - shell)), min(shell, k))


def _assignments(inside: int, k: int, n: int) -> np.ndarray:
    """Return all assignments (a, k), the first `inside` atoms to places of the shell."""
    shell = min(SHELL, n)
    number = perm(shell, inside) * perm(n - shell, k - inside)
    if number > _LARGEST:
        msg = f"{number} ways to assign {k} known atoms to {n} places, more than {_LARGEST}"
        raise ValueError(msg)
    near = list(permutations(range(shell), inside))
    far = list(permutations(range(shell, n), k - inside))
    return np.array([a + b for a in near for b in far], int).reshape(number, k)


def completed(
    known: np.ndarray, whole: np.ndarray, places: np.ndarray, *, proper: bool = False
) -> np.ndarray:
    """Return known atoms (m, k, 3), then the others (m, n, 3) of whole ones laid onto them.

    Parameters
    ----------
    known : (m, k, 3) array
        Å.
    whole : (m, n, 3) array
        Å, in any frame.
    places : (m, k) array
        Of the known atoms in the whole.
    proper : bool
        As in `place`.
    """
    rows = np.arange(len(known))[:, None]
    q = align(known, whole[rows, places], proper=proper)
    free = np.ones(whole.shape[:2], bool)
    free[rows, places] = False
    others = whole[free].reshape(len(whole), -1, 3)
    return np.concatenate([known, others @ q], axis=1)
