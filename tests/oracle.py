"""An inversion that knows the answers, for the tests of all that stands around one."""

from collections.abc import Sequence

import numpy as np

from coulex import simulate
from coulex.inverse.solutions import (
    NO_ENERGY,
    NO_GEOMETRY,
    SEVERAL,
    SOLVED,
    Solutions,
)
from coulex.units import ANGSTROM


def bent(first_angstrom: float, second_angstrom: float, degrees: float) -> np.ndarray:
    """Return O, C, S with the bonds CO and CS in bohr, C at the origin."""
    angle = np.radians(degrees)
    x = np.zeros((3, 3))
    x[0, 0] = first_angstrom
    x[2, :2] = second_angstrom * np.cos(angle), second_angstrom * np.sin(angle)
    return x * ANGSTROM


#: two geometries of OCS with charges 2, 2, 2 that give the same momenta, but for the digits
PAIR = bent(1.8949, 1.2990, 160.601), bent(2.4860, 1.0755, 164.568)


class Oracle:
    """Stands in for `coulex.invert`: gives the geometries that it was told of.

    Every third event has two solutions, the second of them the first in another place; events
    whose momenta it does not know have no geometry.
    """

    def __init__(self, momenta, positions, *, twice: int = 3):
        self.momenta = np.asarray(momenta, float)
        self.positions = np.asarray(positions, float)
        self.twice = twice
        self.calls: list[dict] = []

    def __call__(
        self, momenta, masses, charges, *, tolerance=1e-9, prior=None, threads=None
    ) -> Solutions:
        p = np.asarray(momenta, float)
        self.calls.append({"charges": charges, "prior": prior, "threads": threads})
        n, ions = p.shape[:2]
        assert np.shape(masses) == (ions,)
        assert np.shape(charges) in ((ions,), (n, ions))
        status = np.full(n, NO_GEOMETRY, np.uint8)
        numbers, events, x = np.zeros(n, int), [], []
        for i in range(n):
            size = np.linalg.norm(p[i])
            if size == 0:
                status[i] = NO_ENERGY
                continue
            miss = np.linalg.norm((self.momenta - p[i]).reshape(-1, 3 * ions), axis=1)
            known = int(np.nanargmin(miss))
            if miss[known] > 1e-5 * size:
                continue
            numbers[i] = 2 if known % self.twice == 0 else 1
            status[i] = SEVERAL if numbers[i] == 2 else SOLVED
            events += [i] * numbers[i]
            x += [self.positions[known] + k for k in range(numbers[i])]
        found = np.reshape(x, (-1, ions, 3))
        event = np.array(events, np.int64)
        q = np.asarray(charges, float)
        again = simulate(found, masses, q if q.ndim == 1 else q[event], tolerance=1e-13)
        missed = (again.momenta - p[event]).reshape(-1, 3 * ions)
        residual = np.linalg.norm(missed, axis=1)
        residual /= np.linalg.norm(p[event].reshape(-1, 3 * ions), axis=1)
        first = np.diff(event, prepend=-1) > 0
        positions = np.full((n, ions, 3), np.nan)
        positions[event[first]] = found[first]
        single = numbers[event] == 1
        return Solutions(
            positions=positions,
            n_solutions=numbers,
            status=status,
            solution_event=event,
            solution_positions=found,
            solution_residual=residual,
            solution_weight=np.where(single, 1.0, np.where(first, 0.75, 0.25)),
            solution_condition=np.full(len(event), 3.0),
            solution_sign=np.where(first, 1.0, -1.0),
        )


def of_events(shown: Sequence[np.ndarray], masses, charges) -> Oracle:
    """Return the oracle of the explosions of some geometries."""
    x = np.array(shown)
    return Oracle(simulate(x, masses, charges, tolerance=1e-13).momenta, x)
