"""Atoms about a point as numbers that turn with them: expansions in spherical harmonics.

The density of atoms at vectors r_j, expanded about a point, has the coefficients

    a_nlm = sum_j R_n(r_j) f(r_j) Y_lm(r_j),

with a cut-off f that lets atoms enter and leave smoothly. Coefficients of one l turn among
themselves, by the Wigner matrix of the rotation. Numbers that do not turn are made of them:

    power spectrum  p_nn'l      = sum_m a_nlm a_n'lm
    bispectrum      b_n,l1l2l3  = sum_m1m2m3 (l1 l2 l3; m1 m2 m3) a_n,l1m1 a_n,l2m2 a_n,l3m3

A mirror image changes the sign of the bispectrum where l1 + l2 + l3 is odd, and of nothing
else here: these tell the hands apart.

Coefficients are kept as (..., (l_max + 1)², channels), l after l and m from -l to l, so that
those of l are the rows l² to (l+1)². Harmonics are real and those of e3nn with normalization
"norm": |Y_l(r)| = 1, Y_1(r) = r/|r| in the order x, y, z, and
sum_m Y_lm(r) Y_lm(s) = P_l(cos of the angle between r and s).

References
----------
M. Geiger and T. Smidt, e3nn: Euclidean Neural Networks, arXiv:2207.09453 (2022).
A. P. Bartók, R. Kondor, G. Csányi, On representing chemical environments, Phys. Rev. B 87,
184115 (2013), doi:10.1103/PhysRevB.87.184115.
"""

import math
from itertools import combinations_with_replacement

import torch
from e3nn import o3
from torch import Tensor, nn


def harmonics(vectors: Tensor, l_max: int) -> Tensor:
    """Return real spherical harmonics (..., (l_max + 1)²) of vectors (..., 3).

    A vector of length zero has no direction: its harmonics of l > 0 are zero.
    """
    degrees = list(range(l_max + 1))
    return o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="norm")


def by_degree(coefficients: Tensor) -> tuple[Tensor, ...]:
    """Return the coefficients (..., 2l + 1, channels), l for l."""
    sizes = [2 * l + 1 for l in range(math.isqrt(coefficients.shape[-2]))]
    return coefficients.split(sizes, -2)


class Radial(nn.Module):
    """Functions of distance that are learned, one for each channel, zero beyond a reach.

    Sums of Gaussians, spaced evenly, times cos²(π r / 2 reach).
    """

    def __init__(self, channels: int, *, reach: float, gaussians: int):
        super().__init__()
        self.reach = reach
        self.register_buffer("centres", torch.linspace(0, reach, gaussians), persistent=False)
        self.mix = nn.Linear(gaussians, channels, bias=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return (..., channels) of distances (...)."""
        centres = self.get_buffer("centres")
        width = self.reach / (len(centres) - 1)
        bumps = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / width) ** 2)
        smooth = torch.cos(0.5 * math.pi * (distance / self.reach).clamp(max=1)) ** 2
        return self.mix(bumps * smooth.unsqueeze(-1))


class ChannelMix(nn.Module):
    """Linear combinations of channels, others for each l: they turn as what they are of."""

    def __init__(self, inputs: int, outputs: int, l_max: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(l_max + 1, inputs, outputs) / inputs**0.5)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return (..., (l_max + 1)², outputs)."""
        parts = [a @ w for a, w in zip(by_degree(coefficients), self.weight, strict=True)]
        return torch.cat(parts, -2)


def power_spectrum(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_m a_lm b_lm of two expansions, channel by channel: (..., channels * degrees).

    With `ChannelMix` before it, these are sums over the whole matrix p_nn'l.
    """
    return torch.cat([product.sum(-2) for product in by_degree(a * b)], -1)


class Coupling(nn.Module):
    """The product of coefficients of two degrees, channel by channel, coupled to a third.

    (a ⊗ b)_n,l3m3 = (2 l3 + 1)^½ sum_m1m2 (l1 l2 l3; m1 m2 m3) a_n,l1m1 b_n,l2m2, with the
    3j symbols of real harmonics. It has the parity (-1)^(l1 + l2): a pseudo-tensor where
    l1 + l2 + l3 is odd.
    """

    def __init__(self, l1: int, l2: int, l3: int):
        super().__init__()
        self.degrees = l1, l2, l3
        with torch.device("cpu"):  # e3nn wants values, also where a model has none yet
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * math.sqrt(2 * l3 + 1)
        # rows (m2, m3), columns m1: applied to a from the left
        self.register_buffer("symbol", symbol.permute(1, 2, 0).flatten(0, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (..., 2 l3 + 1, channels) of coefficients of l1 and of l2."""
        _, l2, l3 = self.degrees
        half = self.get_buffer("symbol").to(a) @ a
        return (half.unflatten(-2, (2 * l2 + 1, 2 * l3 + 1)) * b.unsqueeze(-2)).sum(-3)


class Bispectrum(nn.Module):
    """Products of three coefficients that do not turn, channel by channel.

    Attributes
    ----------
    triples : list of (l1, l2, l3)
        Those that fit a triangle; l1 <= l2 <= l3, and all different where the sum is odd:
        there a product of a channel with itself vanishes.
    """

    def __init__(self, l_max: int):
        super().__init__()
        self.triples = [
            (l1, l2, l3)
            for l1, l2, l3 in combinations_with_replacement(range(l_max + 1), 3)
            if l3 <= l1 + l2 and ((l1 + l2 + l3) % 2 == 0 or l1 < l2 < l3)
        ]
        self.couplings = nn.ModuleList(Coupling(*triple) for triple in self.triples)

    def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return those that a mirror image keeps, and those whose sign it changes.

        Parameters
        ----------
        a : (..., (l_max + 1)², channels) tensor

        Returns
        -------
        even, odd : (..., channels * number of triples) tensor
        """
        even, odd = [], [a.new_zeros(*a.shape[:-2], 0)]
        parts = by_degree(a)
        for triple, coupling in zip(self.triples, self.couplings, strict=True):
            l1, l2, l3 = triple
            value = (coupling(parts[l1], parts[l2]) * parts[l3]).sum(-2)
            (odd if sum(triple) % 2 else even).append(value)
        return torch.cat(even, -1), torch.cat(odd, -1)
