"""Ions and geometries of the tests of `coulex.simulate`, and its statuses."""

import numpy as np

from coulex.units import ANGSTROM, U

GOOD, COINCIDENT, STEP_LIMIT, BOUND, INACCURATE, OUT_OF_RANGE = range(6)

H, C, N, O, S = np.array([1.008, 12.011, 14.007, 15.999, 32.06]) * U  # noqa: E741
OCS = np.array([O, C, S])


def ocs(r_co, r_cs, degrees=180.0):
    """O, C, S in the xy plane, lengths in Å."""
    angle = np.radians(degrees)
    s = [r_cs * np.cos(angle), r_cs * np.sin(angle), 0]
    return np.array([[[r_co, 0, 0], [0, 0, 0], s]]) * ANGSTROM


def scattered(rng):
    """Return twenty geometries of OCS, far from each other and from any symmetry."""
    return ocs(1.2, 1.6, 170.0) + 0.3 * rng.normal(size=(20, 3, 3))
