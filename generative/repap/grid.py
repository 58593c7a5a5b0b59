"""The grid: the cells of an axis, and distances between what lies on it.

Coordinates u are fractions of the box, 0 to 1 along each axis. In a periodic box 1 is 0, and
the distance of two atoms is that of their nearest images. A box that is not periodic is
closed: its walls stand clear of all atoms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Cells of equal width along each axis of a box.

    Parameters
    ----------
    cells : int
        Along each axis.
    lengths : tuple of 3 floats
        Of the box, Å.
    periodic : bool
    """

    cells: int
    lengths: tuple[float, float, float]
    periodic: bool

    def __post_init__(self):
        if self.cells < 2:
            msg = f"a grid needs at least 2 cells, got {self.cells}"
            raise ValueError(msg)

    def cell(self, u: Tensor) -> Tensor:
        """Return the cell (...) of coordinates (...), long."""
        u = u - u.floor() if self.periodic else u
        return (u * self.cells).floor().long().clamp(0, self.cells - 1)

    def separation(self, u: Tensor, v: Tensor) -> Tensor:
        """Return u - v (..., 3) in Å, between nearest images."""
        return self.nearest(u - v) * u.new_tensor(self.lengths)

    def nearest(self, d: Tensor) -> Tensor:
        """Return differences of fractions, of nearest images."""
        return d - d.round() if self.periodic else d

    def centres(self, like: Tensor) -> Tensor:
        """Return the middles (cells,) of the cells, as fractions of the box."""
        return (
            torch.arange(self.cells, dtype=like.dtype, device=like.device) + 0.5
        ) / self.cells

    def smeared(self, u: Tensor, width: Tensor | float) -> Tensor:
        """Return a Gaussian about each coordinate, on all cells; it adds up to 1.

        Parameters
        ----------
        u : (...) tensor
        width : float or tensor that broadcasts with u
            Standard deviation, as a fraction of the box.

        Returns
        -------
        (..., cells) tensor
        """
        off = self.nearest(self.centres(u) - u.unsqueeze(-1))
        width = torch.as_tensor(width, dtype=u.dtype, device=u.device)
        heights = torch.exp(-0.5 * (off / width.unsqueeze(-1)) ** 2)
        return heights / heights.sum(-1, keepdim=True)


def triangle(n: int) -> tuple[Tensor, Tensor]:
    """Return all pairs i > j of n atoms, ordered by i."""
    i, j = torch.tril_indices(n, n, -1)
    return i, j
