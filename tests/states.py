"""One event in the hands of the compiled core, for the tests of its parts."""

import numpy as np
import pytest
import reference

from coulex.kernels import nystroem, simd
from coulex.kernels.layout import Along, layout

MASSES, CHARGES = np.array([20000.0, 22000.0, 29000.0]), np.array([1.0, 2.0, 1.0])
LANE = simd.Lanes("float64", 1, "portable")


class State:
    """One event in a lane, as the engine would have it."""

    def __init__(self, x, v, m=MASSES, q=CHARGES, vectors=24):
        self.m, self.q, self.ions = m, q, (0,) * len(m)
        self.at = layout(len(m), vectors, own_charges=False)
        self.rows = simd.Rows((self.at.total, 1), "float64")
        self.where = (LANE, self.rows, self.ions, self.at)
        self.among = (LANE, self.rows, self.ions, Along((), ()), self.at)
        self[self.at.x], self[self.at.v] = x, v
        self.column(self.at.masses)[: len(m)] = m
        self.column(self.at.inverse_masses)[: len(m)] = 1 / m
        products = [q[i] * q[j] for i in range(len(m)) for j in range(i)]
        self.column(self.at.pairs)[: len(products)] = products
        self[self.at.f] = reference.forces(np.asarray(x), q)

    def column(self, row):
        return self.rows.array[row:, 0]

    def __getitem__(self, row):
        return self.column(row)[: 3 * len(self.m)].reshape(-1, 3).copy()

    def __setitem__(self, row, value):
        self.column(row)[: 3 * len(self.m)] = np.ravel(value)

    def step(self, time, pair):
        """Make a step of so much time; return the sizes of errors, as estimated."""
        rate = np.sum(self.m[:, None] * self[self.at.x] * self[self.at.v])
        rate = max(rate / np.sum(self.m[:, None] * self[self.at.x] ** 2), 0.0)
        stretch, potential, weighted, whole = nystroem.step(
            *self.among, np.float64(time / (1 + rate * time)), pair
        )
        assert stretch == pytest.approx(1 + rate * time, rel=1e-12)
        x, v = self[self.at.trial], self[self.at.end]
        assert potential == pytest.approx(reference.potential(x, self.q), rel=1e-12)
        last = self[self.at.f + 3 * len(self.m) * (len(pair.stages) - 1)]
        true = reference.forces(x, self.q)
        assert np.abs(last - true).max() <= 1e-12 * np.abs(true).max()
        self[self.at.x], self[self.at.v], self[self.at.f] = x, v, last
        return np.sqrt(weighted), np.sqrt(whole)


def moving(rng):
    """Three ions in the midst of their explosion, centre of mass at rest in the origin."""
    x = np.array([[1.5, 0.2, 0], [0, 0, 0.3], [-2.0, 1.0, 0]])
    v = rng.normal(size=(3, 3)) * 0.002 + 0.001 * x
    return (a - MASSES @ a / MASSES.sum() for a in (x, v))


def slope(steps, values):
    return np.polyfit(np.log(steps), np.log(values), 1)[0]
