"""Denoising diffusion of a few numbers, with an exact density.

Data y of mean 0 and variance near 1 are blurred by noise of deviation σ, from much less than
theirs to much more. A network F learns to take the noise off; in the form of Karras et al.,

    D(y, σ) = y / (1 + σ²) + σ / √(1 + σ²) F(y, log σ),

inputs, outputs and errors of F are of order one at every σ. The blurred distributions are
those of the flow dy/dσ = (y - D) / σ, which is integrated from broad noise down for draws, and
from a sample up for its density,

    log p(y) = log N(y(σ_max); 0, 1 + σ_max²) + ∫ tr ∂/∂y [(y - D) / σ] dσ,

with the whole trace: no estimate by random vectors, as long as the numbers are few. With F = 0
all this is exact for a normal distribution.

Numbers are coordinates of atoms about a centre. The network is shown their distances as well,
and gives a vector for each coordinate and a force along the line of each pair: how long bonds
are, and that atoms do not overlap, need not be pieced together from coordinates.

References
----------
T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022),
arXiv:2206.00364.  Y. Song et al., Score-Based Generative Modeling (2021), arXiv:2011.13456.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from ..nets import ACTIVATIONS

SMALLEST, LARGEST = 4e-3, 20.0  #: σ, in deviations of the data
_MIDDLE, _WIDTH = -1.0, 1.3  #: of log σ in training
START = math.sqrt(1 + LARGEST**2)  #: deviation of data with the most noise
_BEND = 7.0  #: steps in σ^(1/7): most of them where σ is small
_WAVES = 8
_NEAR = 1e-3  #: of the distances that the network sees, the least
_FIRST = 0.1  #: of the usual size of weights of the last layer, before training

#: (y (m, size), σ (m, 1), told (m, told)) -> D (m, size)
Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]


class Blurred(NamedTuple):
    """Samples with noise, for training."""

    y: Tensor
    log_noise: Tensor  #: (m, 1) log σ
    wanted: Tensor  #: F, if the samples alone were the data

    @classmethod
    def of(cls, y: Tensor, noise: Tensor) -> "Blurred":
        """Blur samples (m, ...) by normal noise of the same shape times a random σ each."""
        log_noise = _MIDDLE + _WIDTH * torch.randn(len(y), 1, device=y.device, dtype=y.dtype)
        log_noise = log_noise.clamp(math.log(SMALLEST), math.log(LARGEST))
        sigma = log_noise.exp().reshape(-1, *(1,) * (y.ndim - 1))
        wanted = (y * sigma - noise) * (1 + sigma**2).rsqrt()
        return cls(y + sigma * noise, log_noise, wanted)


def cleaned(y: Tensor, sigma: Tensor, f: Tensor) -> Tensor:
    """Return D of blurred samples and of what a network F says."""
    total = 1 + sigma**2
    return y / total + sigma * total.rsqrt() * f


def waves(log_noise: Tensor) -> Tensor:
    """Return functions (m, 1 + 2 waves) of log σ (m, 1), which a network sees."""
    turns = torch.arange(1, _WAVES + 1, device=log_noise.device) * (0.5 * log_noise)
    return torch.cat([log_noise / 4, turns.sin(), turns.cos()], 1)


class Denoiser(nn.Module):
    """F, by residual blocks of one width, and what follows from it.

    Parameters
    ----------
    atoms, told : int
        Atoms of an environment, and numbers that are known about it.
    width, blocks : int
    activation : str
        One of `nets.ACTIVATIONS`.
    dropout : float

    Attributes
    ----------
    middle : (atoms, 3) tensor
        Where the atoms of y = 0 are, in the unit of y.
    space : (3 atoms, 3 atoms) tensor
        Projection onto the linear space of the data, in which all noise is.
    """

    middle: Tensor
    space: Tensor
    one: Tensor
    other: Tensor

    def __init__(
        self,
        atoms: int,
        told: int,
        *,
        width: int,
        blocks: int,
        activation: str,
        dropout: float,
    ):
        super().__init__()
        self.atoms = atoms
        one, other = torch.triu_indices(atoms, atoms, 1)
        lines = len(one) + atoms
        act = ACTIVATIONS[activation]
        self.enter = nn.Linear(3 * atoms + lines + told, width)
        self.told = nn.Sequential(nn.Linear(1 + 2 * _WAVES + told, width), act())
        self.first = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.gates = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.second = nn.ModuleList(
            nn.Sequential(act(), nn.Dropout(dropout), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.leave = nn.Linear(width, 3 * atoms + lines)
        with torch.no_grad():
            self.leave.weight.mul_(_FIRST)
            self.leave.bias.zero_()
        self.register_buffer("middle", torch.zeros(atoms, 3))
        self.register_buffer("space", torch.eye(3 * atoms))
        self.register_buffer("one", one, persistent=False)
        self.register_buffer("other", other, persistent=False)

    def denoised(self, y: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        """Return D (m, size) of blurred samples, with σ (m, 1).

        Parameters
        ----------
        y : (m, size) tensor
        sigma : (m, 1) tensor
        told : (m, told) tensor
        """
        clean = cleaned(y, sigma, self.forward(y, sigma.log(), told))
        return y + (clean - y) @ self.space

    def error(self, y: Tensor, told: Tensor) -> Tensor:
        """Return the mean squared error of F (m,), at a random noise each.

        Parameters
        ----------
        y : (m, size) tensor
            Samples.
        told : (m, told) tensor
        """
        blurred = Blurred.of(y, torch.randn_like(y) @ self.space)
        found = self.forward(blurred.y, blurred.log_noise, told) @ self.space
        return ((found - blurred.wanted) ** 2).sum(1) / self.space.diagonal().sum()

    def forward(self, y: Tensor, log_noise: Tensor, told: Tensor) -> Tensor:
        """Return F (m, size) of blurred samples (m, size), with log σ (m, 1)."""
        narrower = (1 + (2 * log_noise).exp()).rsqrt()
        x = self.middle + y.unflatten(1, (self.atoms, 3))
        lines = torch.cat([x[:, self.one] - x[:, self.other], x], 1)
        length = (lines.square().sum(2) + _NEAR**2).sqrt()
        h = self.enter(torch.cat([y * narrower, length.log(), told], 1))
        e = self.told(torch.cat([waves(log_noise), told], 1))
        for first, gates, second in zip(self.first, self.gates, self.second, strict=True):
            gate, shift = gates(e).chunk(2, 1)
            h = h + second(first(h) * (1 + gate) + shift)
        vectors, forces = self.leave(h).split([y.shape[1], length.shape[1]], 1)
        along = (forces / length)[..., None] * lines
        pairs = len(self.one)
        push = along[:, pairs:].index_add(1, self.one, along[:, :pairs])
        push = push.index_add(1, self.other, -along[:, :pairs])
        return vectors + push.flatten(1)


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
        Normal noise of deviation `START`; numbers that `denoise` keeps are what they are.
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


def log_density(denoise: Denoise, y: Tensor, told: Tensor, size: float, steps: int) -> Tensor:
    """Return log p (m,) in nats per unit of y, in a space of `size` dimensions."""
    path = levels(steps, y).flip(0)
    total = torch.zeros_like(y[:, 0])
    for low, high in zip(path[:-1], path[1:], strict=True):
        slope, trace = _slope_and_trace(denoise, y, low, told)
        ahead = y + (high - low) * slope
        slope_ahead, trace_ahead = _slope_and_trace(denoise, ahead, high, told)
        y = y + (high - low) / 2 * (slope + slope_ahead)
        total = total + (high - low) / 2 * (trace + trace_ahead)
    variance = 1 + path[-1] ** 2
    return total - 0.5 * ((y**2).sum(1) / variance + size * (2 * math.pi * variance).log())


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
