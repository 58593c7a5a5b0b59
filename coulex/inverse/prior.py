"""How probable a geometry is before its momenta are known: the density of an ensemble.

The density is that of the positions relative to the centre of mass, in mass-weighted Cartesian
coordinates, averaged over all orientations, up to a factor that is the same for all geometries
of a molecule. With it go determinants of d momenta / d positions in the same coordinates.
"""

from functools import singledispatch

import numpy as np
from scipy.special import i0e
from scipy.stats import qmc

from coulex.ensemble import Box, Ensemble, Gaussian, Sphere
from coulex.frames import angle
from coulex.molecule import Molecule

_QUADRATURE = np.polynomial.legendre.leggauss(64)
_POINTS = 4096  #: in a sphere, for the room that a geometry has in it


@singledispatch
def log_density(ensemble: Ensemble, molecule: Molecule, positions) -> np.ndarray:  # noqa: ARG001
    """Return the logarithm of the density of an ensemble at geometries.

    Parameters
    ----------
    ensemble : Ensemble
    molecule : Molecule
    positions : (n, ions, 3) array
        In bohr.

    Returns
    -------
    (n,) array
        -inf where the ensemble has no geometries.

    Raises
    ------
    ValueError
        If the ensemble has no density: single geometries, frames.
    """
    msg = f"{ensemble.name} is no prior: it has single geometries, and no density"
    raise ValueError(msg)


@log_density.register
def _(ensemble: Gaussian, molecule: Molecule, positions) -> np.ndarray:
    """Average exp(-|x - R x0|**2 / 2 sigma**2) over rotations R.

    In quaternions the exponent is quadratic, with Horn's matrix; of its four eigenvalues two
    pairs make a circle each, whose integrals are Bessel functions, and one integral is left.
    """
    x, fixed = np.asarray(positions, float), molecule.positions
    x, fixed = x - x.mean(axis=1, keepdims=True), fixed - fixed.mean(axis=0)
    width = ensemble.sigma**2
    s = np.einsum("nij,ik->njk", x, fixed) / width
    # the eigenvalues of Horn's matrix, from the singular values of s, one of them signed
    values = np.linalg.svd(s, compute_uv=False)
    a, b, c = values[:, 0], values[:, 1], values[:, 2] * np.sign(np.linalg.det(s))
    one, two, three, four = a + b + c, a - b - c, -a + b - c, -a - b + c
    nodes, weights = _QUADRATURE
    # t = 1 on the circle of the two largest; the integrand falls from there, but hardly so
    # where x is the mirror image of x0
    fall = one - three
    reach = np.minimum(1.0, 60.0 / np.maximum(fall, 1e-300))
    far = reach[:, None] * (0.5 + 0.5 * nodes)
    t = 1.0 - far
    inner = 0.5 * np.abs(one - two)[:, None] * t, 0.5 * np.abs(three - four)[:, None] * far
    log = t * np.maximum(one, two)[:, None] + far * np.maximum(three, four)[:, None]
    value = i0e(inner[0]) * i0e(inner[1]) * np.exp(log - log.max(axis=1, keepdims=True))
    integral = np.log(0.5 * reach * (value @ weights)) + log.max(axis=1)
    return integral - ((x**2).sum(axis=(1, 2)) + (fixed**2).sum()) / (2 * width)


@log_density.register
def _(ensemble: Box, molecule: Molecule, positions) -> np.ndarray:
    """Return 1 / (r1**2 r2**2 sin angle) within the box."""
    x = np.asarray(positions, float)
    central = ensemble.central_atom(molecule)
    one, two = (i for i in range(3) if i != central)
    bonds = [np.linalg.norm(x[:, i] - x[:, central], axis=1) for i in (one, two)]
    bend = angle(x[:, one], x[:, central], x[:, two])
    inside = np.ones(len(x), bool)
    limits = (ensemble.first_bond, ensemble.second_bond, ensemble.angle_degrees)
    for value, (low, high) in zip([*bonds, np.degrees(bend)], limits, strict=True):
        slack = 1e-9 * high  # a geometry on the border is known up to rounding
        inside &= (value >= low - slack) & (value <= high + slack)
    with np.errstate(divide="ignore"):
        log = -2 * np.log(bonds[0] * bonds[1]) - np.log(np.maximum(np.sin(bend), 1e-12))
        return np.where(inside, log, -np.inf)


@log_density.register
def _(ensemble: Sphere, _molecule: Molecule, positions) -> np.ndarray:
    """Return how much room the geometry has in the sphere, by points in it."""
    x = np.asarray(positions, float)
    ball = 2 * qmc.Sobol(3, scramble=False).random(_POINTS) - 1
    ball = ensemble.radius * ball[np.linalg.norm(ball, axis=1) <= 1]
    room = np.zeros(len(x))
    for n, geometry in enumerate(x):
        # the first ion anywhere in the sphere, the others where they are then
        others = ball[:, None] + (geometry - geometry[0])
        room[n] = (np.linalg.norm(others, axis=2) <= ensemble.radius).all(axis=1).mean()
    r = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    closest = (r + np.diag(np.full(x.shape[1], np.inf))).min(axis=(1, 2))
    with np.errstate(divide="ignore"):
        return np.where(closest >= ensemble.min_distance, np.log(room), -np.inf)
