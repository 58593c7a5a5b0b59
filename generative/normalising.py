"""A model with an exact density: an invertible map of samples to a normal distribution.

    log p(x | c) = log N(z; 0, 1) + log |det dz/dx|,   z = z(x; c)

What a model has to know is the map and its determinant, and the way back for draws.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .model import Model, Options
from .representation import Representation
from .score import Score


class Normalising(Model):
    """A distribution that a map takes to the normal one.

    Attributes
    ----------
    size : int
        Numbers in a sample.
    """

    def __init__(self, options: Options, representation: Representation) -> None:
        super().__init__(options, representation)
        self.size = math.prod(self.shape)

    @abstractmethod
    def to_normal(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (m, size) of scaled samples, and log |det dz/dx| (m,)."""

    @abstractmethod
    def from_normal(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the scaled samples (m, n, size) of z (m, n, size)."""

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        return {"loss": -self._log_prob(x, c).value.mean()}

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:
        z, log_det = self.to_normal(x, c)
        constant = self.size / 2 * math.log(2 * math.pi)
        return Score(log_det - 0.5 * (z**2).sum(1) - constant, "exact")

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(
            *(len(c), n, self.size), generator=generator, device=c.device, dtype=c.dtype
        )
        return self.from_normal(z, c).reshape(len(c), n, *self.shape)
