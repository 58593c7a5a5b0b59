"""Functions of the distance to a placed atom, as they look along the axis in question.

Along z, with x and y known, an atom at a distance rho from the line sees the cell at height
zeta above its own z at r = (rho² + zeta²)^(1/2); a function u(r) of the distance then is a
Fourier series in zeta whose coefficients depend on rho. The tables here turn values of u on a
mesh of r into these coefficients on a mesh of rho, both linear between their points.

With u = log g(r), g the radial distribution of the data, the sum over placed atoms is
Kirkwood's superposition: a fair guess from the start, that the network has to correct only.
"""

import math

import torch
from torch import Tensor

from .grid import Grid

_STEP = 0.12  #: Å, of both meshes
_REACH = 4.8  #: Å
_FINE = 400  #: points along the axis for the integrals
_LEAST = -7.0  #: logarithm of g where it vanishes


def mesh() -> Tensor:
    """Return the mesh of distances, Å."""
    return torch.arange(0.0, _REACH + _STEP / 2, _STEP)


def hats(r: Tensor) -> Tensor:
    """Return weights (..., mesh) of linear interpolation at distances r (...); 0 beyond."""
    at = mesh().to(r)
    return (1 - (r.unsqueeze(-1) - at).abs() / _STEP).clamp_min(0)


def table(grid: Grid, axis: int, orders: int) -> Tensor:
    """Return cosine coefficients (mesh of rho, mesh of r, orders) of hat functions of r."""
    length = grid.lengths[axis] * (1.0 if grid.periodic else 2.0)
    zeta = (torch.arange(_FINE, dtype=torch.float64) / _FINE - 0.5) * length
    rho = mesh().double()
    r = (rho[:, None] ** 2 + zeta**2).sqrt()
    waves = (torch.arange(1, orders + 1) * zeta[:, None] * (2 * math.pi / length)).cos()
    made = torch.einsum("bzn,zm->bnm", hats(r), waves) * (2 / _FINE)
    return made.float()


def log_pair_density(distances: Tensor, expected: Tensor) -> Tensor:
    """Return log g on the mesh.

    Parameters
    ----------
    distances : (mesh,) tensor
        Pairs of the data near each point of the mesh.
    expected : (mesh,) tensor
        The same where atoms do not see each other.
    """
    g = (distances / expected.clamp_min(1e-9)).clamp_min(math.exp(_LEAST))
    return torch.where(expected > 0, g, torch.ones_like(g)).log()
