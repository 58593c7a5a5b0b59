"""Every geometry that gives measured momenta.

Three ions have a table of all shapes (`table.py`): what it offers is complete, and only needs
to be polished. More ions are searched for, event by event, from starts of three kinds:

- what a sampler offers: draws of an ensemble, of a network, or guesses made of the momenta;
- beyond the fold next to each solution found, where its twin lies (`response.across_fold`);
- again the sampler, until so many starts in a row have converged to what was known already.

A search has found what it found: it cannot prove that there is nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from coulex.explosions import simulate
from coulex.kernels.compiled import compiled
from coulex.linear import best_rotation

from .response import Response, across_fold, joined, response
from .solve import CONVERGED, KNOWN, PROOF, STATIONARY, Known, solve
from .steps import is_known
from .table import table_of

Starts = Callable[[np.ndarray, int], np.ndarray]
"""Geometries (k, ions, 3) for the events of indices (k,), as the start of this number."""

_REACH = 1.0  #: how far beyond a fold to look, in the size of the molecule
_NEAR = 1e-2  #: distance to a known solution, in units of the size, that leads to it
_SAME = 1e-6  #: relative distance up to which two geometries are one
_MOST = 64  #: solutions of an event that are kept
_PERMUTATIONS = 720  #: of identical ions that are tried, at most


@dataclass(frozen=True)
class Search:
    """When to stop looking for more solutions."""

    patience: int = 2  #: converged starts in a row that bring nothing new, at least: it takes
    # more where many solutions are known, half their number
    max_starts: int = 60  #: for an event, those beyond folds not counted
    rounds: int = 30  #: simulations of a start at most: those that take more are mostly lost

    def __post_init__(self):
        if min(self.patience, self.max_starts, self.rounds) < 1:
            msg = f"patience, max_starts and rounds must be at least 1, got {self}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Found:
    """Solutions of many events, in the order of the events.

    Where momenta do not change if identical ions change places, a geometry without that
    symmetry has equals under other labels: it stands here once, with the number of `copies`.
    """

    event: np.ndarray  #: (m,)
    positions: np.ndarray  #: (m, ions, 3), in the frame of the momenta
    residual: np.ndarray  #: (m,)
    response: Response  #: of each
    copies: np.ndarray  #: (m,)
    starts: np.ndarray  #: (n,), how many each event took
    stationary: np.ndarray  #: (n,) bool: every start ended, none at a solution


def by_formula(momenta, masses, charges, *, threads=None) -> Found:
    """Find the geometry of two ions (n, 2, 3): they fly apart along the line between them."""
    p, m, q = np.asarray(momenta, float), np.asarray(masses, float), np.asarray(charges, float)
    energy = (p**2 / m[:, None]).sum(axis=(1, 2)) / 2
    distance = q[..., 0] * q[..., 1] / energy
    away = p[:, 0] / np.linalg.norm(p[:, 0], axis=1, keepdims=True)
    shares = np.array([m[1], -m[0]]) / m.sum()
    x = away[:, None] * shares[:, None] * distance[:, None, None]
    again = simulate(x, m, q, tolerance=PROOF, threads=threads).momenta
    gap = np.linalg.norm(again - p, axis=(1, 2)) / np.linalg.norm(p, axis=(1, 2))
    every, taken = np.arange(len(p)), response(x, m, q, threads=threads)
    alone = np.ones(len(p))
    return Found(
        every, x, gap, taken, alone, np.ones(len(p), np.int64), np.zeros(len(p), bool)
    )


def by_table(momenta, masses, charges, *, threads=None, residual=1e-9) -> Found:
    """Find all geometries of three ions (n, 3, 3) from rest."""
    p, q = np.asarray(momenta, float), np.asarray(charges, float)
    kept = _Kept(p, masses, q)
    starts, flat = np.zeros(len(p), np.int64), np.ones(len(p), bool)
    for chosen, charge in _by_charges(q, len(p)):
        event, guesses = table_of(masses, charge, threads=threads).candidates(
            p[chosen], threads=threads
        )
        event = chosen[event]
        roots = solve(guesses, p[event], masses, charge, threads=threads, residual=residual)
        kept.add(event, roots)
        np.add.at(starts, event, 1)
        flat[event[roots.outcome != STATIONARY]] = False
    return kept.found(starts, flat, threads)


def by_search(
    momenta, masses, charges, sampler: Starts, *, search=None, threads=None, residual=1e-9
) -> Found:
    """Find geometries of four ions and more from the starts that `sampler` makes."""
    p, q = np.asarray(momenta, float), np.asarray(charges, float)
    search = search or Search()
    kept = _Kept(p, masses, q)
    starts, idle = np.zeros((2, len(p)), np.int64)
    flat = np.ones(len(p), bool)
    number = seen = 0
    while True:
        enough = np.maximum(search.patience, kept.numbers // 2)
        active = np.flatnonzero((idle < enough) & (starts < search.max_starts))
        twins, beyond, far = kept.twins(seen, threads)
        seen = kept.size
        event = np.concatenate([active, twins])
        near = np.concatenate([np.full(active.size, _NEAR), np.minimum(_NEAR, 0.1 * far)])
        if not event.size:
            return kept.found(starts, flat, threads)
        guesses = np.concatenate([sampler(active, number), beyond])
        roots = solve(
            guesses,
            p[event],
            masses,
            q[event] if q.ndim == 2 else q,
            known=kept.known(event, near),
            threads=threads,
            residual=residual,
            rounds=search.rounds,
        )
        starts[active] += 1
        number += 1
        flat[event[roots.outcome != STATIONARY]] = False
        new = kept.add(event, roots)
        old = (roots.outcome == KNOWN) | (roots.outcome == CONVERGED) & ~new
        idle[active[old[: len(active)]]] += 1
        idle[event[new]] = 0


class _Kept:
    """The solutions found so far, each once."""

    def __init__(self, momenta, masses, charges):
        count = len(momenta)
        self.momenta = momenta
        self.masses, self.charges = np.asarray(masses, float), charges
        self.orders = _orders_of(self.masses, charges)
        self.size = 0
        self.responses: list[Response] = []
        self.event = np.empty(count, np.int64)
        self.positions = np.empty((count, len(self.masses), 3))
        self.residual = np.empty(count)
        self.numbers = np.zeros(count, np.int64)  # of an event's solutions
        self.rows = np.empty((count, _MOST), np.int64)  # and where they stand

    def add(self, event, roots) -> np.ndarray:
        """Keep what has converged and is new; return which."""
        room = self.size + len(event)
        if room > len(self.event):
            more = max(room, 2 * len(self.event)) - len(self.event)
            for name in ("event", "positions", "residual"):
                old = getattr(self, name)
                empty = np.empty((more, *old.shape[1:]), old.dtype)
                setattr(self, name, np.concatenate([old, empty]))
        new = np.zeros(len(event), np.bool_)
        self.size = _merge(
            event, roots.positions, roots.residual, roots.outcome == CONVERGED, self.masses,
            self.orders, self.size, self.event, self.positions, self.residual, self.numbers,
            self.rows, new,
        )  # fmt: skip
        return new

    def known(self, event, near) -> Known:
        """Return what there is, for starts of these events."""
        return Known(event, near, self.numbers, self.rows, self.positions)

    def twins(self, first: int, threads) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return events, places and distances of twins of the solutions from the `first` on.

        The response of each solution is kept.
        """
        event, x = self.event[first : self.size], self.positions[first : self.size]
        own = self.charges[event] if self.charges.ndim == 2 else self.charges
        taken = response(x, self.masses, own, threads=threads)
        self.responses.append(taken)
        far = 2.0 * across_fold(taken, x, self.masses, own, threads=threads)
        with np.errstate(invalid="ignore"):
            beyond = x + far[:, None, None] * taken.weakest
            near = np.abs(far) < _REACH
        known = np.zeros(len(event), np.bool_)
        _close(
            event, beyond, 0.3 * np.abs(far), self.masses, self.numbers, self.rows,
            self.positions, known,
        )  # fmt: skip
        near &= ~known
        return event[near], beyond[near], np.abs(far[near])

    def found(self, starts, flat, threads) -> Found:
        """Return all of them in the order of the events."""
        order = np.argsort(self.event[: self.size], kind="stable")
        event, positions = self.event[order], self.positions[order]
        if self.responses:
            taken = joined(self.responses).at(order)
        else:
            own = self.charges[event] if self.charges.ndim == 2 else self.charges
            taken = response(positions, self.masses, own, threads=threads)
        copies = np.ones(len(event))
        if len(self.orders) > 1:
            _copies(event, positions, self.momenta, self.masses, self.orders, copies)
        return Found(event, positions, self.residual[order], taken, copies, starts, flat)


def _by_charges(charges, count):
    """Yield the events that share their charges, and these."""
    if charges.ndim == 1:
        yield np.arange(count), charges
        return
    kinds, which = np.unique(charges, axis=0, return_inverse=True)
    for kind, charge in enumerate(kinds):
        yield np.flatnonzero(which.ravel() == kind), charge


def _orders_of(masses, charges) -> np.ndarray:
    """Return the orders of the ions that differ by identical ones only, (orders, ions)."""
    ions = len(masses)
    kinds = np.concatenate([masses[None], np.atleast_2d(charges)])
    alike = [
        [j for j in range(ions) if (kinds[:, i] == kinds[:, j]).all()] for i in range(ions)
    ]
    groups = [group for i, group in enumerate(alike) if group[0] == i]
    number = np.prod([float(np.prod(np.arange(1, len(g) + 1))) for g in groups])
    if number > _PERMUTATIONS:
        return np.arange(ions)[None]
    orders = []
    for choice in product(*(permutations(group) for group in groups)):
        order = np.empty(ions, np.int64)
        for group, other in zip(groups, choice, strict=True):
            order[group] = other
        orders.append(order)
    return np.array(orders)


@compiled
def _merge(
    event, positions, residual, converged, masses, orders, size, all_events, all_positions,
    all_residuals, numbers, rows, new,
):  # fmt: skip
    """Append the solutions that are not there yet; return how many there are."""
    for k in range(event.size):
        n = event[k]
        if not converged[k] or numbers[n] == rows.shape[1]:
            continue
        known = False
        for s in range(numbers[n]):
            row = rows[n, s]
            if _alike(positions[k], all_positions[row], masses, orders):
                known = True
                break
        if known:
            continue
        rows[n, numbers[n]] = size
        numbers[n] += 1
        all_events[size], all_positions[size] = n, positions[k]
        all_residuals[size] = residual[k]
        size += 1
        new[k] = True
    return size


@compiled
def _close(event, positions, reach, masses, numbers, rows, known, close):
    """Mark the geometries that lie near a known solution, in the frame of the momenta."""
    for n in range(event.size):
        close[n] = is_known(positions[n], masses, numbers, rows, known, event[n], reach[n])


@compiled
def _copies(event, positions, momenta, masses, orders, copies):
    """Count the ways to label a geometry that give the same momenta.

    Orders that turn the momenta into themselves make a group, those that do so with the
    geometry another one within it.
    """
    for n in range(event.size):
        same, alike = 0, 0
        for k in range(len(orders)):
            p = momenta[event[n]]
            same += _alike(p, p, masses, orders[k : k + 1])
            alike += _alike(positions[n], positions[n], masses, orders[k : k + 1])
        copies[n] = max(same / alike, 1.0)


@compiled
def _alike(one, other, masses, orders):
    """Return whether two geometries are the same but for a rotation and identical ions."""
    ions = masses.size
    a, b, turn = np.empty((ions, 3)), np.empty((ions, 3)), np.empty((3, 3))
    square = 0.0
    for i in range(ions):
        for axis in range(3):
            a[i, axis] = np.sqrt(masses[i]) * one[i, axis]
            square += a[i, axis] ** 2
    for order in range(len(orders)):
        for i in range(ions):
            for axis in range(3):
                b[i, axis] = np.sqrt(masses[i]) * other[orders[order, i], axis]
        best_rotation(a, b, turn)
        apart = 0.0
        for i in range(ions):
            for axis in range(3):
                turned = 0.0
                for k in range(3):
                    turned += turn[axis, k] * a[i, k]
                apart += (turned - b[i, axis]) ** 2
        if apart <= _SAME * _SAME * square:
            return True
    return False
