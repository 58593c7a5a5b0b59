"""Geometries of OCS, and how to compare geometries, for the tests of inversions."""

import numpy as np

import coulex
from coulex import Molecule
from coulex.frames import kabsch
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges([2, 2, 2])
MASSES, CHARGES = OCS.ion_masses, OCS.charges


def bent(first, second, degrees):
    """Return geometries (n, 3, 3) in bohr, of two bonds (Å) of the middle ion and an angle."""
    first, second, degrees = np.broadcast_arrays(*np.atleast_1d(first, second, degrees))
    angle = np.radians(degrees)
    x = np.zeros((first.size, 3, 3))
    x[:, 0, 0] = first
    x[:, 2, 0], x[:, 2, 1] = second * np.cos(angle), second * np.sin(angle)
    return x * ANGSTROM


def box(seed, count, degrees=(90.0, 180.0)):
    """Draw geometries of the box of bonds from 0.8 to 3 Å."""
    rng = np.random.default_rng(seed)
    return bent(*rng.uniform(0.8, 3.0, (2, count)), rng.uniform(*degrees, count))


def exact(positions, masses=MASSES, charges=CHARGES):
    """Return the momenta of geometries, as exactly as they can be simulated."""
    run = coulex.simulate(positions, masses, charges, tolerance=1e-13)
    assert not run.status.any()
    return run.momenta


def apart(one, other):
    """Return the distance (n,) of geometries, root mean square over ions, bohr."""
    return kabsch(np.asarray(one, float), np.asarray(other, float))[1]


def inertial(seed, count, masses, scale=200.0):
    """Draw momenta that nobody simulated, whose sum is zero."""
    p = scale * np.random.default_rng(seed).normal(size=(count, len(masses), 3))
    return p - p.sum(axis=1, keepdims=True) * (masses / masses.sum())[:, None]
