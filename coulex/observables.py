"""What is computed from asymptotic momenta alone.

In the centre of mass the kinetic energies of the ions, K_i = |p_i|² / 2 m_i, add up to the
kinetic-energy release, KER = Σ K_i. The shares ε_i = K_i / KER of three ions add up to one and
so fill a plane triangle, which is the plot that Dalitz drew [1]_; Σ p_i = 0 confines them to
the ellipse that the collinear break-ups trace, a circle of radius 1/3 for equal masses.

References
----------
.. [1] R. H. Dalitz, Phil. Mag. 44, 1068 (1953), doi:10.1080/14786441008520365.
"""

import numpy as np


def kinetic_energies(momenta, masses) -> np.ndarray:
    """Return the kinetic energies (n, ions), hartree, of ions with `momenta` (n, ions, 3)."""
    return (np.asarray(momenta, np.float64) ** 2).sum(axis=-1) / (2 * np.asarray(masses))


def newton_coordinates(momenta) -> np.ndarray:
    """Return where two ions lie in the Newton plot of a third, their reference.

    Parameters
    ----------
    momenta : (n, 3, 3) array
        Of the reference ion and of two others; the reference must move.

    Returns
    -------
    (n, 2, 2) array
        Components of the two along and across the reference momentum, in units of its length;
        across is positive for the first and negative for the second, as it is in the common
        plane when the three add up to zero.
    """
    momenta = np.asarray(momenta, np.float64)
    length = np.linalg.norm(momenta[:, 0], axis=-1)
    axis = momenta[:, 0] / length[:, None]
    along = np.einsum("nix,nx->ni", momenta[:, 1:], axis)
    across = np.linalg.norm(momenta[:, 1:] - along[..., None] * axis[:, None], axis=-1)
    return np.stack([along, across * (1, -1)], axis=-1) / length[:, None, None]


def dalitz_coordinates(shares) -> np.ndarray:
    """Return plane coordinates (..., 2) of energy shares (..., 3); equal ones lie at 0, 0."""
    shares = np.asarray(shares, np.float64)
    x = (shares[..., 0] - shares[..., 1]) / np.sqrt(3)
    return np.stack([x, shares[..., 2] - 1 / 3], axis=-1)


def collinear_shares(masses, points: int = 721) -> np.ndarray:
    """Return the energy shares (points, 3) of three ions that fly apart along one line.

    They bound what momenta that add up to zero can reach.
    """
    # p = Q c with Q an orthonormal basis of Σ p = 0, c on a circle.
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    angle = np.linspace(0, np.pi, points)
    momenta = np.column_stack([np.cos(angle), np.sin(angle)]) @ basis
    energies = momenta**2 / (2 * np.asarray(masses))
    return energies / energies.sum(axis=1, keepdims=True)
