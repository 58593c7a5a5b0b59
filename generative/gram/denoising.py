"""Denoising diffusion of a few numbers, with an exact density.

Data y of mean 0 and variance 1 are blurred by noise of deviation σ, from much less than theirs
to much more. A network F learns to take the noise off again; in the form of Karras et al.,

    D(y, σ) = y / (1 + σ²) + σ / √(1 + σ²) F(y / √(1 + σ²), log σ),

inputs, outputs and errors of F are of order one at every σ. The blurred distributions are
those of the flow dy/dσ = (y - D) / σ, which is integrated from broad noise down for draws, and
from a sample up for its density,

    log p(y) = log N(y(σ_max); 0, 1 + σ_max²) + ∫ tr ∂/∂y [(y - D) / σ] dσ,

with the whole trace: no estimate by random vectors, as long as the numbers are few. With F = 0
all this is exact for a normal distribution.

References
----------
T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022),
arXiv:2206.00364.  Y. Song et al., Score-Based Generative Modeling (2021), arXiv:2011.13456.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from ..nets import ACTIVATIONS

SMALLEST, LARGEST = 2e-3, 40.0  #: σ, in deviations of the data
_MIDDLE, _WIDTH = -1.0, 1.6  #: of log σ in training
START = math.sqrt(1 + LARGEST**2)  #: deviation of data with the most noise
_BEND = 7.0  #: steps in σ^(1/7): most of them where σ is small
_WAVES = 8

#: (y (m, size), σ (m, 1), told (m, told)) -> D (m, size)
Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]


class Network(nn.Module):
    """F: residual blocks of one width, each told σ and the condition.

    Parameters
    ----------
    size, told : int
        Numbers of a sample, and of what is known of it.
    width, blocks : int
    activation : str
        One of `nets.ACTIVATIONS`.
    dropout : float
    """

    def __init__(
        self, size: int, told: int, *, width: int, blocks: int, activation: str, dropout: float
    ):
        super().__init__()
        self.enter = nn.Linear(size + told, width)
        self.told = nn.Sequential(
            nn.Linear(1 + 2 * _WAVES + told, width), ACTIVATIONS[activation]()
        )
        self.first = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.shift = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(
            nn.Sequential(
                ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))

    def forward(self, y: Tensor, log_noise: Tensor, told: Tensor) -> Tensor:
        """Return F (m, size) at scaled samples (m, size), with log σ (m, 1)."""
        h = self.enter(torch.cat([y, told], 1))
        waves = torch.arange(1, _WAVES + 1, device=y.device) * (0.5 * log_noise)
        e = self.told(torch.cat([log_noise / 4, waves.sin(), waves.cos(), told], 1))
        for first, shift, second in zip(self.first, self.shift, self.second, strict=True):
            h = h + second(first(h) + shift(e))
        return self.leave(h)


def denoised(
    network: nn.Module, y: Tensor, sigma: Tensor, told: Tensor, free: Tensor
) -> Tensor:
    """Return D (m, size) of blurred samples, with σ (m, 1).

    Parameters
    ----------
    network : Network
    y : (m, size) tensor
    sigma : (m, 1) tensor
    told : (m, told) tensor
    free : (m, size) tensor
        1, or 0 for numbers that are known, carry no noise, and keep their values.
    """
    total = 1 + sigma**2
    found = network(_seen(y, total, free), sigma.log(), told)
    return torch.where(free > 0, y / total + sigma * total.rsqrt() * found, y)


def error(network: nn.Module, y: Tensor, told: Tensor, free: Tensor) -> Tensor:
    """Return the mean squared error of F (m,) over free numbers, at a random noise each.

    Parameters
    ----------
    network : Network
    y : (m, size) tensor
        Samples.
    told : (m, told) tensor
    free : (m, size) tensor
        As in `denoised`.
    """
    log_noise = _MIDDLE + _WIDTH * torch.randn_like(y[:, :1])
    log_noise = log_noise.clamp(math.log(SMALLEST), math.log(LARGEST))
    sigma, total = log_noise.exp(), 1 + (2 * log_noise).exp()
    noise = free * torch.randn_like(y)
    wanted = (y * sigma - noise) * total.rsqrt()
    found = network(_seen(y + sigma * noise, total, free), log_noise, told)
    return (free * (found - wanted) ** 2).sum(1) / free.sum(1)


def _seen(y: Tensor, total: Tensor, free: Tensor) -> Tensor:
    """Return what the network sees: numbers of order one, and known ones as they are."""
    return torch.where(free > 0, y * total.rsqrt(), y)


def levels(steps: int, like: Tensor) -> Tensor:
    """Return the noise (steps + 1,) of a path, the largest first."""
    ends = LARGEST ** (1 / _BEND), SMALLEST ** (1 / _BEND)
    return torch.linspace(*ends, steps + 1, device=like.device, dtype=like.dtype) ** _BEND


def draw(denoise: Denoise, y: Tensor, told: Tensor, steps: int) -> Tensor:
    """Return samples (m, size), by Heun's method.

    Parameters
    ----------
    denoise : callable
        A `Denoise`.
    y : (m, size) tensor
        Normal noise of deviation `START`; numbers that are known are what they are.
    told : (m, told) tensor
    steps : int
        Of second order; the error falls with their square.
    """
    path = levels(steps, y)
    for high, low in zip(path[:-1], path[1:], strict=True):
        slope = _slope(denoise, y, high, told)
        ahead = y + (low - high) * slope
        y = y + (low - high) / 2 * (slope + _slope(denoise, ahead, low, told))
    return denoise(y, path[-1].expand(len(y), 1), told)


def log_density(
    denoise: Denoise, y: Tensor, told: Tensor, active: Tensor, steps: int
) -> Tensor:
    """Return log p (m,) in nats per unit of y, over the numbers that are active (size,)."""
    path = levels(steps, y).flip(0)
    total = torch.zeros_like(y[:, 0])
    for low, high in zip(path[:-1], path[1:], strict=True):
        slope, trace = _slope_and_trace(denoise, y, low, told)
        ahead = y + (high - low) * slope
        slope_ahead, trace_ahead = _slope_and_trace(denoise, ahead, high, told)
        y = y + (high - low) / 2 * (slope + slope_ahead)
        total = total + (high - low) / 2 * (trace + trace_ahead)
    variance = 1 + path[-1] ** 2
    square = (active * y**2).sum(1) / variance
    return total - 0.5 * (square + active.sum() * (2 * math.pi * variance).log())


def _slope(denoise: Denoise, y: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
    return (y - denoise(y, sigma.expand(len(y), 1), told)) / sigma


def _slope_and_trace(
    denoise: Denoise, y: Tensor, sigma: Tensor, told: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the flow (m, size) and its divergence (m,), by the whole Jacobian."""

    def one(row: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
        slope = _slope(denoise, row[None], sigma, about[None])[0]
        return slope, slope

    jacobian, slope = vmap(jacrev(one, has_aux=True))(y, told)
    return slope, jacobian.diagonal(dim1=1, dim2=2).sum(1)
