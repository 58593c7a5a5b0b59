"""From a start near a geometry to the geometry: Levenberg-Marquardt through the simulator.

Measured momenta P and those of a geometry x are compared as p/sqrt(m), divided by
sqrt(2 KER): vectors of length 1. From rest three symmetries leave 3 ions - 7 unknowns:

- translation: nothing depends on it;
- rotation: P is turned upon p, by Kabsch's rotation in the same metric, at every step;
- size: x is scaled so that its potential energy is the measured KER.

The unknowns are steps along an orthonormal basis, in mass-weighted coordinates, of what is
orthogonal to these; momenta are differentiated along it alone. The residual and its
derivatives lose what a rotation or a size could do for them (variable projection).

Steps use a loose tolerance of the simulator, for a fifth of the cost. At the end a geometry is
polished at the tightest one, by steps with the last derivatives, corrected by what they bring.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from coulex.explosions import Run, available_threads, checked, runner

from .steps import CONVERGED, KNOWN, STATIONARY, STUCK, aim, begin, improve, step

_RUNNING = 4

_ROUGH = 1e-4  #: tolerance of the steps: real errors are a thousand times smaller, or more
PROOF = 1e-13  #: tolerance of the simulation that proves a geometry
_ROUNDS = 100  #: simulations at most, for one start
_POLISH = 10  #: of them tight ones, at most
_BLOCK = 2048  #: starts that a thread follows together


@dataclass(frozen=True)
class Roots:
    """Where starts ended: geometries, each in the frame of its momenta."""

    positions: np.ndarray  #: (k, ions, 3), bohr, about the centre of mass
    residual: np.ndarray  #: (k,), relative, of the whole vector of momenta, simulated tightly
    outcome: np.ndarray  #: (k,) converged, at a minimum that is no root, stuck, or known
    rounds: np.ndarray  #: (k,), simulations


class Known(NamedTuple):
    """Solutions there are already: starts that come close to one go no further."""

    event: np.ndarray  #: (k,), of each start
    near: np.ndarray  #: (k,), how close, in units of the size; a twin may be closer
    numbers: np.ndarray  #: (events,), of solutions
    rows: np.ndarray  #: (events, most), where they stand
    positions: np.ndarray  #: (rows, ions, 3), in the frame of the event's momenta


def solve(
    starts,
    momenta,
    masses,
    charges,
    *,
    known: Known | None = None,
    threads=None,
    residual=1e-9,
    rounds=_ROUNDS,
) -> Roots:
    """Find the geometry, downhill of each start, that gives measured momenta from rest.

    Parameters
    ----------
    starts : (k, ions, 3) array
        Geometries of any size, place and orientation.
    momenta : (k, ions, 3) array
        What each is to give, in atomic units; their sum is zero, their energy is not.
    masses : (ions,) array
    charges : (ions,) or (k, ions) array
        All positive.
    known : Known, optional
    threads : int, optional
    residual : float
        Relative, of the whole vector of momenta: up to this a geometry has converged.
    rounds : int
        Simulations at most, for one start, before a geometry is proven.

    Returns
    -------
    Roots

    Notes
    -----
    Damping follows H. B. Nielsen, IMM-REP-1999-05, Technical University of Denmark (1999).
    """
    x, p, m, q = checked(starts, momenta, masses, charges)
    steps, proof = (runner(m, tolerance=t, threads=1) for t in (_ROUGH, PROOF))
    count, ions, _ = x.shape
    roots = Roots(
        np.full(x.shape, np.nan),
        np.full(count, np.inf),
        np.full(count, STUCK, np.uint8),
        np.zeros(count, np.int64),
    )
    if known is None:
        none = np.zeros(1, np.int64)
        which, near = np.zeros(count, np.int64), np.zeros(count)
        known = Known(which, near, none, none[None], np.empty((0, ions, 3)))
    threads = threads or available_threads()
    block = max(16, min(_BLOCK * 3 // ions, -(-count // (2 * threads))))
    blocks = [slice(first, first + block) for first in range(0, count, block)]

    def work(part):
        own = q[part] if len(q) > 1 else q
        there = known._replace(event=known.event[part], near=known.near[part])
        _Block(steps, proof, x[part], p[part], own, there, residual).solve(roots, part, rounds)

    if threads == 1 or len(blocks) == 1:
        for part in blocks:
            work(part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, blocks))
    return roots


class _Block:
    """Some starts, followed round by round: a simulation of all that move, then a step."""

    def __init__(self, steps: Run, proof: Run, x, p, q, known: Known, residual):
        count, ions, _ = x.shape
        unknowns, size = 3 * ions - 7, 3 * ions
        self.steps, self.proof, self.q = steps, proof, q
        self.masses, self.momenta, self.goal = steps.masses, p, residual
        self.known = known
        self.x = np.empty((count, size))  # where the next simulation starts
        self.best = np.empty((count, size))  # of those so far
        self.gap = np.empty((count, size))  # residual there
        self.slope = np.empty((count, unknowns, size))  # its derivatives
        self.ways = np.empty((count, unknowns, size))  # along these changes of x
        self.square = np.full(count, np.inf)  # of the residual at `best`
        self.damping = np.tile([1e-2, 2.0], (count, 1))  # and the factor on it
        self.predicted = np.zeros(count)  # by how much `square` was to fall
        self.state = np.full(count, _RUNNING, np.int64)
        self.turn = np.empty((count, 3, 3))  # from the frame of P to that of x
        begin(x.reshape(count, -1), p, self.masses, q, self.x)

    def solve(self, roots: Roots, part: slice, most: int) -> None:
        """Follow all starts to their ends, and put these into `roots`."""
        rounds = roots.rounds[part]
        for _ in range(most):
            active = np.flatnonzero(self.state == _RUNNING)
            if not active.size:
                break
            rounds[active] += 1
            directions = np.zeros((active.size, self.ways.shape[1], 7 * len(self.masses)))
            ways = np.empty((active.size, *self.ways.shape[1:]))
            aim(self.x, active, self.masses, ways, directions)
            run, changes = self._simulate(self.steps, active, directions)
            step(
                active, run.momenta, changes.reshape(ways.shape), ways, self.momenta,
                self.masses, self.q, self.x, self.best, self.gap, self.slope, self.ways,
                self.square, self.damping, self.predicted, self.state, self.turn, *self.known,
            )  # fmt: skip
        self._polish(roots, part, rounds)

    def _simulate(self, run: Run, chosen, directions=None):
        x = self.x[chosen].reshape(len(chosen), -1, 3)
        q = self.q[chosen] if len(self.q) > 1 else self.q
        return run(x, np.empty((0, *x.shape[1:])), q, directions)

    def _polish(self, roots, part, rounds):
        """Prove the best geometries by tight simulations, and improve them if that helps."""
        positions, residual = roots.positions[part], roots.residual[part]
        unsure = (self.state != KNOWN) & np.isfinite(self.square)
        chosen = np.flatnonzero(unsure & (self.square < 1e-4))
        self.x[chosen] = self.best[chosen]
        last = np.zeros(self.slope.shape[:2])
        for _ in range(_POLISH):
            if not chosen.size:
                break
            rounds[chosen] += 1
            run, _ = self._simulate(self.proof, chosen)
            better = np.zeros(len(chosen), np.bool_)
            improve(
                chosen, run.momenta, self.momenta, self.masses, self.q, self.x, self.gap,
                self.slope, self.ways, last, positions, residual, better,
            )  # fmt: skip
            chosen = chosen[better]
        outcome = roots.outcome[part]
        for end in (STATIONARY, KNOWN):
            outcome[self.state == end] = end
        outcome[residual <= self.goal] = CONVERGED
