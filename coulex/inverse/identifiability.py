"""What momenta say about a geometry: how well they determine it, and where they stop.

Momenta are measured with independent Gaussian noise on every Cartesian component, its standard
deviation a share f of the length of the ion's momentum. To first order the positions about the
centre of mass then have the covariance (Jᵀ C⁻¹ J)⁻¹ of generalized least squares, J the
derivatives of the momenta: size and orientation are found along with the shape, and the sum of
the momenta, which is known to be zero, takes noise away. The formula is linear in f, and holds
where the deviations are short beside the distance of a fold.
"""

from dataclasses import dataclass

import numpy as np

from coulex.derivatives import jacobian
from coulex.explosions import checked
from coulex.geometry import Coordinate, central_atom, coordinates

from .response import across_fold, response

PERCENT = 0.01

# An ion without momentum has no noise in this model: it counts as exact, but not as infinitely
# so, which no matrix would survive.
_LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Identifiability:
    """How well geometries follow from their momenta."""

    singular_values: np.ndarray  #: (n, unknowns), of the Jacobian of the shape, descending
    condition: np.ndarray  #: (n,), the first of them over the last
    sign: np.ndarray  #: (n,), of its determinant
    #: (n,), bohr: rms displacement of the ions from here to the fold along the weakest
    #: direction, estimated to second order; infinite where the momenta do not curve along it,
    #: as by symmetry along the bend of a linear molecule, though a fold may lie there
    fold_distance: np.ndarray
    coordinates: tuple[Coordinate, ...]  #: bonds, and of three ions their angle
    #: (n, coordinates), standard deviations for 1 % of noise: Å, and degrees. Of a straight
    #: angle, that of one component of the bend
    deviations: np.ndarray


def identify(positions, masses, charges, *, symbols=None, threads=None) -> Identifiability:
    """Say how well momenta determine geometries from rest.

    Parameters
    ----------
    positions : (n, ions, 3) array
        In bohr.
    masses : (ions,) array
    charges : (ions,) or (n, ions) array
    symbols : sequence of str, optional
        Names of the ions for the coordinates; ion1, ion2, ... unless given.
    threads : int, optional

    Returns
    -------
    Identifiability
        Not a number where the simulation fails.

    Raises
    ------
    ValueError
        As `coulex.simulate`.
    """
    x, _, m, _ = checked(positions, None, masses, charges)
    q = charges
    found = response(x, m, q, threads=threads)
    far = np.full(len(x), np.inf)
    if found.unknowns.any():
        weakest = np.sqrt((found.weakest**2).sum(axis=2).mean(axis=1))
        far = np.abs(across_fold(found, x, m, q, threads=threads)) * weakest
    slope = jacobian(x, m, q, threads=threads)
    assert slope.positions is not None
    noise = PERCENT * lengths(slope.explosions.momenta)
    covariance = covariance_of(slope.positions, noise, m)
    shape = shape_of(x, symbols)
    return Identifiability(
        found.singular_values,
        found.condition,
        found.sign,
        far,
        shape,
        np.stack([c.deviations(x, covariance) for c in shape], axis=1),
    )


def lengths(momenta) -> np.ndarray:
    """Return the length (n, ions) of each momentum, those of resting ions as if they moved."""
    size = np.linalg.norm(np.asarray(momenta, float), axis=2)
    return np.maximum(size, _LEAST_NOISE * size.max(axis=1, keepdims=True))


def shape_of(positions, symbols=None) -> tuple[Coordinate, ...]:
    """Return the coordinates of geometries (n, ions, 3), named by symbols if given."""
    ions = np.shape(positions)[1]
    names = list(symbols) if symbols is not None else [f"ion{i + 1}" for i in range(ions)]
    if len(names) != ions:
        msg = f"{ions} ions, but symbols {' '.join(names)}"
        raise ValueError(msg)
    known = np.isfinite(positions).all(axis=(1, 2))
    central = central_atom(positions[known]) if known.any() else 0
    return tuple(coordinates(names, central=central))


def covariance_of(slopes, noise, masses, curvature=None) -> np.ndarray:
    """Return the covariance (n, ions, 3, ions, 3) of positions about the centre of mass.

    Parameters
    ----------
    slopes : (n, ions, 3, ions, 3) array
        d momenta / d positions.
    noise : (n, ions) array
        Standard deviation of each component of an ion's momentum.
    masses : (ions,) array
    curvature : (n, 3 ions, 3 ions) array, optional
        Of minus the logarithm of a prior.

    Returns
    -------
    array
        In bohr², infinite or not a number where nothing is known, at a fold.
    """
    count, ions = noise.shape
    size = 3 * ions
    scaled = slopes / noise[:, :, None, None, None]
    flat = np.where(np.isfinite(scaled), scaled, 0.0).reshape(count, size, size)
    basis = centred(masses)
    seen = flat @ basis
    if curvature is None:
        _, values, right = np.linalg.svd(seen, full_matrices=False)
        root = np.swapaxes(right, 1, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            root = root / values[:, None]
    else:
        known = np.swapaxes(seen, 1, 2) @ seen + basis.T @ curvature @ basis
        values, root = np.linalg.eigh(known)
        with np.errstate(divide="ignore", invalid="ignore"):
            root = root / np.sqrt(values)[:, None]
    root = basis @ root
    with np.errstate(invalid="ignore", over="ignore"):
        covariance = root @ np.swapaxes(root, 1, 2)
    good = np.isfinite(scaled).all(axis=(1, 2, 3, 4))
    covariance[~good] = np.nan
    return covariance.reshape(count, ions, 3, ions, 3)


def centred(masses) -> np.ndarray:
    """Return a basis (3 ions, 3 ions - 3) of displacements about the centre of mass."""
    weights = np.kron(np.asarray(masses, float)[:, None], np.eye(3))
    weights /= np.linalg.norm(weights, axis=0)
    return np.linalg.svd(weights)[0][:, 3:]
