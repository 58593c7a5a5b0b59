"""Where atoms keep their places: each coordinate normal about what those before it predict.

The conditional distributions of one normal distribution of all coordinates: a harmonic solid.
A network that starts from it has only what is not harmonic to learn. Fitted in closed form by
moments of the training data; of few structures each coordinate is taken for itself.

Coordinates are counted from their mean, at the nearest image in a periodic box.
"""

import torch
from torch import Tensor, nn

from .grid import Grid

_NARROWEST = 0.2  #: of a cell: where others say a coordinate exactly, as a mean at rest does
_ENOUGH = 1.5  #: structures per coordinate, from which on correlations can be believed
_LEAST = 1e-9  #: probability of a cell, so that what is not harmonic can be learned


class Harmonic(nn.Module):
    """Logarithms of probabilities of cells.

    Parameters
    ----------
    grid : Grid
    size : int
        Coordinates of a structure.
    """

    mean: Tensor
    slope: Tensor
    width: Tensor

    def __init__(self, grid: Grid, size: int):
        super().__init__()
        self.grid = grid
        self.register_buffer("mean", torch.full((size,), 0.5))
        self.register_buffer("slope", torch.zeros(size, size))
        self.register_buffer("width", torch.ones(size))

    def fit(self, u: Tensor) -> None:
        """Take moments from structures u (m, size)."""
        u = u.double()
        mean = u.mean(0)
        if self.grid.periodic:
            turn = 2 * torch.pi
            mean = torch.atan2((turn * u).sin().mean(0), (turn * u).cos().mean(0)) / turn
        mean = mean + self.grid.nearest(u - mean).mean(0)
        narrowest = _NARROWEST / self.grid.cells
        covariance = torch.cov(self.grid.nearest(u - mean).T)
        if len(u) < _ENOUGH * len(mean):
            covariance = covariance.diagonal().diag()
        covariance += torch.eye(len(mean)).to(covariance) * narrowest**2
        factor = torch.linalg.cholesky(covariance)
        width = factor.diagonal()
        # L^-1 x = z: a coordinate is width z, less width times the rest of its row times x
        inverse = torch.linalg.inv(factor)
        slope = -(inverse * width[:, None])
        slope.diagonal().zero_()
        self.mean.copy_(mean)
        self.slope.copy_(slope)
        self.width.copy_(width)

    def forward(self, u: Tensor) -> Tensor:
        """Return logarithms (m, size, cells) for all coordinates of u (m, size)."""
        off = self.grid.nearest(u - self.mean)
        return self._cells(off @ self.slope.T + self.mean, self.width)

    def step(self, before: Tensor) -> Tensor:
        """Return logarithms (m, cells) of the coordinate after those before it (m, k)."""
        k = before.shape[1]
        off = self.grid.nearest(before - self.mean[:k])
        return self._cells(off @ self.slope[k, :k] + self.mean[k], self.width[k])

    def _cells(self, centre: Tensor, width: Tensor) -> Tensor:
        off = self.grid.nearest(self.grid.centres(centre) - centre.unsqueeze(-1))
        half, width = 0.5 / self.grid.cells, width.unsqueeze(-1)
        inside = torch.special.ndtr((off + half) / width)
        inside = inside - torch.special.ndtr((off - half) / width)
        return (inside + _LEAST).log()
