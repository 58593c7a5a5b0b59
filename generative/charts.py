"""Coordinates of a geometry, with their volume elements: Jacobi vectors, shape and size.

Mass-weighted Jacobi vectors y (3N - 3 numbers) are the positions without their centre of mass:
|y|² = Σ m_i |x_i - x_cm|², and dy is the volume in mass-weighted Cartesian coordinates.

A shape is a direction s = y/|y|, which momenta tell without their size. A stereographic
projection w = s_perp / (1 + s·s0) makes 3N - 4 numbers of it, about a reference direction s0.
The size R = |y| follows from energy: of ions at rest R = U(s)/KER, with U(s) the potential
energy of the shape at R = 1. What is left of it is u = log(R KER / U(s)). With d = 3N - 3,

    dy = R^(d-1) dR ds = R^d (2 / (1 + |w|²))^(d-1) dw du.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coulex.frames import centre_of_mass

COORDINATES = ("positions", "centred", "jacobi", "shape")


@dataclass(frozen=True)
class Chart:
    """Numbers that stand for a geometry, whose kinetic energy and charges are known.

    Attributes
    ----------
    coordinates : str
        One of `COORDINATES`.
    masses : tuple of float
    with_size : bool
        Whether "shape" goes with u; without it u = 0.
    reference : tuple of float
        s0, of "shape".
    """

    coordinates: str
    masses: tuple[float, ...]
    with_size: bool = True
    reference: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Return how many numbers a sample has."""
        less = {"positions": 0, "centred": 0, "jacobi": 3, "shape": 4 - self.with_size}
        return 3 * len(self.masses) - less[self.coordinates]

    def encode(self, positions, ker, charges) -> np.ndarray:
        """Return samples (m, size).

        Parameters
        ----------
        positions : (m, ions, 3) array
            In bohr.
        ker : (m,) array
            In hartree.
        charges : (ions,) or (m, ions) array
        """
        x = np.asarray(positions, float)
        if self.coordinates == "positions":
            return x.reshape(len(x), 3 * x.shape[1])
        if self.coordinates == "centred":
            x = x - centre_of_mass(x, self.masses)[:, None]
            return x.reshape(len(x), 3 * x.shape[1])
        y = to_jacobi(x, self._matrix)
        if self.coordinates == "jacobi":
            return y
        radius = np.sqrt(np.einsum("md,md->m", y, y))
        with np.errstate(divide="ignore", invalid="ignore"):  # of what the loader will name
            s = y / radius[:, None]
            w = project(s, np.array(self.reference), self._basis)
            if not self.with_size:
                return w
            u = np.log(radius * ker / self._energy(s, charges))
        return np.concatenate([w, u[:, None]], axis=1)

    def decode(self, samples, ker, charges) -> tuple[np.ndarray, np.ndarray | None]:
        """Return positions (m, n, ions, 3) of samples (m, n, size), and log |dx / dy| (m, n).

        The latter is None where a sample is no set of coordinates of the geometry.
        """
        x = np.asarray(samples, float)
        if self.coordinates in ("positions", "centred"):
            return x.reshape(*x.shape[:2], x.shape[2] // 3, 3), None
        if self.coordinates == "jacobi":
            return from_jacobi(x, self._matrix, self.masses), np.zeros(x.shape[:2])
        n = len(self.reference) - 1
        w, u = x[..., :n], x[..., n] if self.with_size else np.zeros(x.shape[:2])
        s = unproject(w, np.array(self.reference), self._basis)
        charges = charges if np.ndim(charges) == 1 else charges[:, None]
        with np.errstate(divide="ignore"):
            log_radius = u + np.log(self._energy(s, charges) / np.asarray(ker)[:, None])
        positions = from_jacobi(np.exp(log_radius)[..., None] * s, self._matrix, self.masses)
        return positions, -log_volume(w, log_radius) if self.with_size else None

    def _energy(self, s: np.ndarray, charges) -> np.ndarray:
        """Return U (...) of directions (..., 3N - 3)."""
        return potential(from_jacobi(s, self._matrix, self.masses), charges)

    @cached_property
    def _matrix(self) -> np.ndarray:
        return jacobi_matrix(self.masses)

    @cached_property
    def _basis(self) -> np.ndarray:
        return tangent_basis(self.reference)


def jacobi_matrix(masses) -> np.ndarray:
    """Return the matrix (ions - 1, ions) that takes positions to mass-weighted Jacobi vectors.

    Row k leads from the centre of mass of the first k + 1 ions to the next one, times the
    square root of their reduced mass.
    """
    m = np.asarray(masses, float)
    before = np.cumsum(m)[:-1]
    rows = np.zeros((len(m) - 1, len(m)))
    for k, inner in enumerate(before):
        rows[k, : k + 1], rows[k, k + 1] = -m[: k + 1] / inner, 1.0
        rows[k] *= np.sqrt(inner * m[k + 1] / (inner + m[k + 1]))
    return rows


def to_jacobi(positions, matrix) -> np.ndarray:
    """Return Jacobi vectors (..., 3N - 3) of positions (..., ions, 3)."""
    x = np.asarray(positions, float)
    # one product of matrices for all events: numpy is slow at many small ones
    return x.reshape(*x.shape[:-2], 3 * x.shape[-2]) @ np.kron(matrix, np.eye(3)).T


def from_jacobi(y, matrix, masses) -> np.ndarray:
    """Return positions (..., ions, 3) about their centre of mass of Jacobi vectors."""
    y = np.asarray(y, float)
    # rows of matrix / sqrt(masses) are orthonormal
    back = matrix / np.asarray(masses, float)
    return (y @ np.kron(back, np.eye(3))).reshape(*y.shape[:-1], matrix.shape[1], 3)


def potential(positions, charges) -> np.ndarray:
    """Return the Coulomb energy (...) of positions (..., ions, 3), in hartree.

    Parameters
    ----------
    positions : (..., ions, 3) array
        In bohr.
    charges : (..., ions) array
        In elementary charges; leading axes as those of `positions`, or to be broadcast.
    """
    x, q = np.asarray(positions, float), np.asarray(charges, float)
    total = np.zeros(x.shape[:-2])
    with np.errstate(divide="ignore"):
        for i in range(1, x.shape[-2]):
            away = x[..., :i, :] - x[..., i, None, :]
            distance = np.sqrt(np.einsum("...jk,...jk->...j", away, away))
            total += (q[..., :i] * q[..., i, None] / distance).sum(axis=-1)
    return total


def tangent_basis(direction) -> np.ndarray:
    """Return an orthonormal basis (d, d - 1) of what is perpendicular to a unit vector (d,).

    By a reflection that takes the largest component's axis to the vector, so that components
    that are zero keep an axis of their own.
    """
    s = np.asarray(direction, float)
    largest = int(np.abs(s).argmax())
    axis = np.zeros(len(s))
    axis[largest] = -np.sign(s[largest])  # opposite, where the reflection is well defined
    v = axis - s
    reflection = np.eye(len(s)) - 2 * np.outer(v, v) / (v @ v)
    return np.delete(reflection, largest, axis=1)


def project(s, reference, basis) -> np.ndarray:
    """Return the stereographic projection w (..., d - 1) of unit vectors s (..., d)."""
    s = np.asarray(s, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return s @ basis / (1 + s @ reference)[..., None]


def unproject(w, reference, basis) -> np.ndarray:
    """Return the unit vectors s (..., d) of which w (..., d - 1) is the projection."""
    w = np.asarray(w, float)
    square = (w**2).sum(axis=-1, keepdims=True)
    return ((1 - square) * reference + 2 * w @ basis.T) / (1 + square)


def log_volume(w, log_size) -> np.ndarray:
    """Return log |dy / d(w, u)| (...) of projections w (..., d - 1) and sizes log R (...)."""
    w = np.asarray(w, float)
    d = w.shape[-1] + 1
    return d * np.asarray(log_size) + (d - 1) * (np.log(2.0) - np.log1p((w**2).sum(axis=-1)))
