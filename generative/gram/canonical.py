"""Labels of the atoms of an environment that mean the same in all environments.

By distance from the centre, a small shift exchanges two atoms, and a network that sees such
labels spends its latents on exchanges. Canonical labels are those by which an environment lies
nearest to a template, the mean environment of the data. All orders of the four atoms next to
the centre are tried (24); each gives a frame, with or without mirror images, in which the
other atoms are assigned to the template's at least cost; the whole environment is then laid
onto the template, the order with the least distance wins, and is improved until neither
assignment nor frame changes.

What lies in the canonical frame is a function of the environment: not of its orientation or of
the order of its atoms. It jumps where two labellings are equally good; `margin` says how far
that is.

References
----------
H. W. Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics Quarterly
2, 83 (1955), doi:10.1002/nav.3800020109.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from .synchronise import align

SHELL = 4  #: atoms whose orders are all tried

_CHUNK = 1024  #: environments at once: 24 frames of each in memory
_IMPROVEMENTS = 10
_FEW = 4  #: atoms whose assignments are all tried; from 5 on the Hungarian method is quicker
_STARTS, _FEW_FOR_START, _FOR_TEMPLATE = 4, 300, 3000
_ROUNDS = 6  #: of labelling and averaging; the template then moves by 0.01 Å and less


class Labelled(NamedTuple):
    """Environments in canonical order and frame."""

    x: np.ndarray  #: (m, n, 3), `given[order] @ rotation`
    order: np.ndarray  #: (m, n) int
    rotation: np.ndarray  #: (m, 3, 3), orthogonal; of determinant -1 where it mirrors
    distance: np.ndarray  #: (m,) root of the sum of squares to the template
    margin: np.ndarray  #: (m,) by how much the second best order is farther


@dataclass(frozen=True)
class Template:
    """The mean environment of some data.

    Attributes
    ----------
    positions : (n, 3) array
        About the centre; the first `SHELL` are the atoms next to it.
    proper : bool
        Whether environments are laid onto it by rotations alone, without mirror images.
    """

    positions: np.ndarray
    proper: bool = False

    @classmethod
    def fit(cls, x: np.ndarray, *, proper: bool = False, seed: int = 0) -> "Template":
        """Find the environment to which data (m, n, 3), when labelled by it, are nearest.

        Labelling and averaging alternate, from several environments of the data as starts;
        the best of them wins.

        Raises
        ------
        ValueError
            If there are no environments.
        """
        x = np.asarray(x, float)
        if not len(x):
            msg = "a template needs environments, got none"
            raise ValueError(msg)
        rng = np.random.default_rng(seed)
        x = by_distance(x[rng.permutation(len(x))[:_FOR_TEMPLATE]])
        few = x[:_FEW_FOR_START]
        starts = [
            cls._improved(few, cls(few[i], proper)) for i in range(min(_STARTS, len(few)))
        ]
        best = min(starts, key=lambda start: start[1])[0]
        return cls._improved(x, best, rounds=2)[0] if len(x) > len(few) else best

    @staticmethod
    def _improved(
        x: np.ndarray, start: "Template", rounds: int = _ROUNDS
    ) -> tuple["Template", float]:
        """Return the template after some rounds, and the mean squared distance to it."""
        square = np.inf
        for _ in range(rounds):
            labelled = label(x, start)
            start = Template(labelled.x.mean(axis=0), start.proper)
            square = float((labelled.distance**2).mean())
        return start, square


def by_distance(x: np.ndarray) -> np.ndarray:
    """Return environments (m, n, 3) with the atom next to the centre first."""
    order = np.argsort(np.linalg.norm(x, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(x, order[..., None], axis=-2)


def label(x: np.ndarray, template: Template, *, weights: np.ndarray | None = None) -> Labelled:
    """Put environments into canonical order and frame.

    Parameters
    ----------
    x : (m, n, 3) array
        Atoms in any order, about the centre.
    template : Template
        Of n atoms.
    weights : (m, n) array, optional
        Of the squares of distances, atom by atom.

    Raises
    ------
    ValueError
        If the numbers of atoms differ.
    """
    x = np.asarray(x, float)
    if x.ndim != 3 or x.shape[1:] != template.positions.shape:
        msg = f"environments of {template.positions.shape}, like the template; got {x.shape}"
        raise ValueError(msg)
    weights = np.ones(x.shape[:2]) if weights is None else np.asarray(weights, float)
    pieces = [
        _label(x[start : start + _CHUNK], weights[start : start + _CHUNK], template)
        for start in range(0, max(len(x), 1), _CHUNK)
    ]
    return Labelled(*map(np.concatenate, zip(*pieces, strict=True)))


def _label(x: np.ndarray, w: np.ndarray, template: Template) -> Labelled:
    t, proper = template.positions, template.proper
    orders = _candidates(x, w, template)
    square = _squares(_taken(x, orders), _taken(w, orders), t, proper)
    rows = np.arange(len(x))
    order = orders[rows, square.argmin(axis=1)]
    for _ in range(_IMPROVEMENTS):
        before = order
        q = align(t, _taken(x, order), proper=proper, weights=_taken(w, order))
        order = _assigned(x @ q, w, t, order)
        if (order == before).all():
            break
    y, wy = _taken(x, order), _taken(w, order)
    q = align(t, y, proper=proper, weights=wy)
    y = y @ q
    distance = np.sqrt((wy[..., None] * (y - t) ** 2).sum(axis=(1, 2)))
    other = (orders != order[:, None]).any(axis=2)
    second = np.where(other, square, np.inf).min(axis=1, initial=np.inf)
    return Labelled(y, order, q, distance, np.sqrt(second) - distance)


def _candidates(x: np.ndarray, w: np.ndarray, template: Template) -> np.ndarray:
    """Return, for each order of the first shell, an order of all atoms, (m, orders, n)."""
    t = template.positions
    shell = min(SHELL, len(t))
    near = np.argsort(np.linalg.norm(x, axis=-1), axis=-1, kind="stable")
    tried = near[:, np.array(list(permutations(range(shell))))]
    q = align(t[:shell], _taken(x, tried), proper=template.proper, weights=_taken(w, tried))
    rest = near[:, shell:]
    if not rest.shape[1]:
        return tried
    y = _taken(x, rest)[:, None] @ q
    cost = _cost(y, _taken(w, rest)[:, None], t[shell:])
    found = _assign(cost)  # which of the rest goes to each place
    return np.concatenate([tried, _taken(rest, found)], axis=2)


def _assigned(y: np.ndarray, w: np.ndarray, t: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the order in which atoms that are in the frame lie nearest to the template.

    The first shell stays the first shell, and within it, as within the rest, all may change.
    """
    shell = min(SHELL, len(t))
    parts = []
    for atoms, place in ((order[:, :shell], t[:shell]), (order[:, shell:], t[shell:])):
        if atoms.shape[1]:
            cost = _cost(_taken(y, atoms), _taken(w, atoms), place)
            parts.append(_taken(atoms, _assign(cost)))
    return np.concatenate(parts, axis=1)


def _cost(y: np.ndarray, w: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return w_a |y_a - t_b|² (..., a, b), by scalar products."""
    square = (y**2).sum(-1)[..., None] + (t**2).sum(-1) - 2 * y @ t.T
    return w[..., None] * square


def _assign(cost: np.ndarray) -> np.ndarray:
    """Return which row (..., k) goes to each column of costs (..., k, k), at least in sum."""
    k = cost.shape[-1]
    if k <= _FEW:
        orders = np.array(list(permutations(range(k))))
        sums = cost[..., orders, np.arange(k)].sum(-1)
        return orders[sums.argmin(-1)]
    from scipy.optimize import linear_sum_assignment

    flat = np.swapaxes(cost, -1, -2).reshape(-1, k, k)
    found = [linear_sum_assignment(one)[1] for one in flat]
    return np.array(found).reshape(cost.shape[:-1])


def _squares(y: np.ndarray, w: np.ndarray, t: np.ndarray, proper: bool) -> np.ndarray:
    """Return the weighted sums of squares (...) that are left after the best rotation."""
    wy = w[..., None] * y
    m = np.swapaxes(wy, -1, -2) @ t
    values = np.linalg.svd(m, compute_uv=False)
    if proper:
        values[..., 2] *= np.where(np.linalg.det(m) < 0, -1, 1)
    whole = (wy * y).sum((-1, -2)) + (w * (t**2).sum(-1)).sum(-1)
    return np.maximum(whole - 2 * values.sum(-1), 0)


def _taken(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the atoms (m, ..., k[, 3]) of environments (m, n[, 3]) by index (m, ..., k)."""
    rows = np.arange(len(index)).reshape(-1, *(1,) * (index.ndim - 1))
    return array[rows, index]
