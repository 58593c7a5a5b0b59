"""Where atoms are put in order along x: uniform ones in order, each after the one before it.

Of atoms that lie anywhere in a box with equal probability, the next in order, with r still to
come after it, has a density in (1 - x)^r beyond the one before it. A network that starts from
this need not learn to leave room for the rest; if it does not, they jam at the end of the box.
"""

import torch
from torch import Tensor, nn

from .grid import Grid


class Sorted(nn.Module):
    """Logarithms of what probabilities of cells are proportional to.

    Parameters
    ----------
    grid : Grid
    species : (atoms,) tuple of int
        Elements of the slots of a sequence, one after the other; each has an order of its own.
    """

    along: Tensor

    def __init__(self, grid: Grid, species: tuple[int, ...]):
        super().__init__()
        left = [species[i + 1 :].count(kind) for i, kind in enumerate(species)]
        middles = (torch.arange(grid.cells) + 0.5) / grid.cells
        along = torch.zeros(len(species), 3, grid.cells)
        along[:, 0] = torch.tensor(left)[:, None] * torch.log1p(-middles)
        self.register_buffer("along", along.flatten(0, 1), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """Return logarithms (m, size, cells) for all coordinates of u (m, size)."""
        return self.along.expand(len(u), -1, -1)

    def step(self, before: Tensor) -> Tensor:
        """Return logarithms (m, cells) of the coordinate after those before it (m, k)."""
        return self.along[before.shape[1]].expand(len(before), -1)
