"""A Gaussian whose mean is linear in the condition: the model with a known answer.

x = A c + b + noise, with one covariance for all conditions. The maximum of the likelihood is
linear regression, so that training, files, draws and scores can be checked against a closed
form.

Notes
-----
The covariance is kept as the triangular factor W of its inverse: z = W (x - A c - b) is
standard normal and log p = log det W - z²/2 - d/2 log 2π, which has one maximum. The diagonal
of W is kept as its logarithm.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .model import Options
from .normalising import Normalising
from .representation import Representation


@dataclass(frozen=True, kw_only=True)
class GaussianOptions(Options):
    """It has none."""


class Gaussian(Normalising):
    """Conditional Gaussian: a mean that is linear in the condition, full covariance.

    Parameters
    ----------
    options : GaussianOptions
    representation : Representation
    """

    name = "gaussian"
    options_type = GaussianOptions

    def __init__(self, options: GaussianOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        self.slope = nn.Parameter(torch.zeros(self.condition_size, self.size))
        self.offset = nn.Parameter(torch.zeros(self.size))
        self.log_diagonal = nn.Parameter(torch.zeros(self.size))
        self.below = nn.Parameter(torch.zeros(self.size * (self.size - 1) // 2))
        below = torch.tril_indices(self.size, self.size, -1)
        self.register_buffer("_places", below, persistent=False)

    def to_normal(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        z = (x.flatten(1) - self._mean(c)) @ self._factor().mT
        return z, self.log_diagonal.sum().expand(len(z))

    def from_normal(self, z: Tensor, c: Tensor) -> Tensor:
        factor = self._factor().expand(len(c), -1, -1)
        off = torch.linalg.solve_triangular(factor, z.mT, upper=False).mT
        return self._mean(c)[:, None] + off

    def _mean(self, c: Tensor) -> Tensor:
        return c @ self.slope + self.offset

    def _factor(self) -> Tensor:
        factor = torch.diag(self.log_diagonal.exp())
        return factor.index_put(tuple(self.get_buffer("_places")), self.below)
