"""What latents are before a sample is seen: the prior of an autoencoder, as a part.

A prior is a density p(z | c) of latents z (m, size) given conditions c (m, k), in scaled
numbers. Autoencoders ask it for three things: a density, draws, and the Kullback-Leibler
divergence of the Gaussian that their encoder gives for each sample,

    KL = ∫ q(z) log (q(z) / p(z | c)) dz,   q(z) = Π N(z_d; mean_d, exp(log_variance_d)),

in closed form where there is one, which then is a sum over dimensions; else by the latent that
was drawn from q.

- "gauss": the standard normal, whatever the condition;
- "conditional": a Gaussian whose mean and scale a network makes of the condition;
- "flow": a neural spline flow of the condition.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .nets import mlp, never_empty

_LOG_2PI = math.log(2 * math.pi)
_SPLINE_LAYERS, _BINS = 3, 8


class Prior(nn.Module, ABC):
    """A density of latents given conditions.

    Attributes
    ----------
    size : int
        Of a latent.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    @abstractmethod
    def log_prob(self, z: Tensor, c: Tensor) -> Tensor:
        """Return log p(z | c) (m,) in nats."""

    @abstractmethod
    def sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draw (m, n, size) latents."""

    def kl(self, mean: Tensor, log_variance: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """Return the divergence of diagonal Gaussians from the prior, in nats.

        Parameters
        ----------
        mean, log_variance : (m, size) tensor
            Of the encoder.
        z : (m, size) tensor
            Drawn from it.
        c : (m, k) tensor

        Returns
        -------
        (m, size) tensor
            By dimension; or (m, 1), the sum, estimated by z, where it is no sum of theirs.
        """
        own = normal_log_prob(z, mean, log_variance).sum(1)
        return (own - self.log_prob(z, c)).unsqueeze(1)


class Gauss(Prior):
    """The standard normal."""

    def log_prob(self, z: Tensor, c: Tensor) -> Tensor:  # noqa: ARG002
        return -0.5 * (z**2 + _LOG_2PI).sum(1)

    def sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return _normal(c, n, self.size, generator)

    def kl(self, mean: Tensor, log_variance: Tensor, z: Tensor, c: Tensor) -> Tensor:  # noqa: ARG002
        return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


class Conditional(Prior):
    """A diagonal Gaussian, mean and scale by a network; the standard normal at first."""

    def __init__(self, size: int, condition_size: int, hidden: Sequence[int], activation: str):
        super().__init__(size)
        self.network = mlp(max(condition_size, 1), hidden, 2 * size, activation=activation)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def moments(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, (m, size) each."""
        mean, log_variance = self.network(never_empty(c)).chunk(2, 1)
        return mean, log_variance

    def log_prob(self, z: Tensor, c: Tensor) -> Tensor:
        return normal_log_prob(z, *self.moments(c)).sum(1)

    def sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        mean, log_variance = self.moments(c)
        scale = (0.5 * log_variance).exp()
        return mean[:, None] + scale[:, None] * _normal(c, n, self.size, generator)

    def kl(self, mean: Tensor, log_variance: Tensor, z: Tensor, c: Tensor) -> Tensor:  # noqa: ARG002
        centre, log_width = self.moments(c)
        ratio = (log_variance - log_width).exp()
        square = (mean - centre) ** 2 * (-log_width).exp()
        return 0.5 * (ratio + square - 1 - log_variance + log_width)


class Flow(Prior):
    """A neural spline flow: any density, and no closed form of the divergence.

    Splines cover [-5, 5]; beyond, it is the standard normal.
    """

    def __init__(self, size: int, condition_size: int, hidden: Sequence[int]):
        super().__init__(size)
        from .splines import spline_flow  # and with it zuko, which other priors do not need

        self.flow = spline_flow(
            size, condition_size, transforms=_SPLINE_LAYERS, bins=_BINS, hidden=hidden
        )

    def log_prob(self, z: Tensor, c: Tensor) -> Tensor:
        u, log_det = self._transform(c).call_and_ladj(z)
        return log_det - 0.5 * (u**2 + _LOG_2PI).sum(1)

    def sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        u = _normal(c, n, self.size, generator)
        # zuko wants the axis of conditions last
        return self._transform(c).inv(u.transpose(0, 1)).transpose(0, 1)

    def _transform(self, c: Tensor):
        return self.flow(c if c.shape[1] else None).transform


PRIORS = ("gauss", "conditional", "flow")


def make_prior(
    kind: str, size: int, condition_size: int, *, hidden: Sequence[int], activation: str
) -> Prior:
    """Return an untrained prior.

    Parameters
    ----------
    kind : str
        One of `PRIORS`.
    size, condition_size : int
        Of a latent and of a condition.
    hidden : sequence of int
        Widths of the layers of its network.
    activation : str
        One of `nets.ACTIVATIONS`; splines have their own.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind == "gauss":
        return Gauss(size)
    if kind == "conditional":
        return Conditional(size, condition_size, hidden, activation)
    if kind == "flow":
        return Flow(size, condition_size, hidden)
    msg = f"prior must be {', '.join(PRIORS)}, got {kind!r}"
    raise ValueError(msg)


def normal_log_prob(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-density of independent Gaussians, for each number."""
    square = (x - mean) ** 2 * (-log_variance).exp()
    return -0.5 * (square + log_variance + _LOG_2PI)


def _normal(c: Tensor, n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(len(c), n, size, generator=generator, device=c.device, dtype=c.dtype)
