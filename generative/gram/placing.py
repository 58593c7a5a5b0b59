"""Where the next atom is: a density about the atoms that are there, normalised in closed form.

An atom lies at a distance d and in a direction u from atoms that are there, its foci. The
density is a mixture of components, each about one focus r_f,

    p(r) = sum_c w_c  L(d; μ_c, σ_c)/d²  S(u; v_c, α_c),     r = r_f + d u,

where L is a log-normal density of the distance and S one of directions on the unit sphere.
S is that of von Mises and Fisher about an axis which is tilted from v by α and then turned
about v by an angle at random: a cap for α = 0, else a ring, with κ = |v|,

    S(u) = κ/(4π sinh κ) exp(κ t cos α) I₀(κ (1 - t²)^½ sin α),     t = u·v/κ.

A share of 1e-4 is of one more component, which is broad and knows no direction: an atom in a
place that nobody thought of is improbable, not impossible.

S is uniform for v = 0, and its integral is 1 whatever the numbers are: the mean of densities
is one. Draws are exact. If v turns with the atoms and the other numbers do not, so does p.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

#: middle and half-width of what networks can say: of log σ, from 0.3 to 80 %, and of log κ, to
#: cones of a degree; approached smoothly, as a bound without a gradient is never left again
_LOG_WIDTH = (-3.0, 2.8)
_LOG_KAPPA = (3.0, 5.5)
#: distances of one to two units, in all directions: where networks are to start
FIRST, LAST = 0.0, 0.6  #: log d
START_WIDTH, START_SHARP = 0.4, -1.0
_FAINT = 0.1  #: length of an axis below which κ falls with it, to 0 where there is none
_BROAD = 1e-4  #: share of what is broad
_BROAD_DISTANCE = (0.3, -0.7)  #: its mean of log d, and log of its deviation
_TINY = 1e-6  #: added to κ², so that a direction of no axis has a gradient


class Mixture(NamedTuple):
    """Components of a density of one atom; (..., c) for c components.

    Lengths are in the unit of the foci.
    """

    log_weight: Tensor  #: (..., c) log w, up to a constant
    focus: Tensor  #: (..., c, 3)
    log_distance: Tensor  #: (..., c) μ, the mean of log d
    log_width: Tensor  #: (..., c) log σ, of log d
    axis: Tensor  #: (..., c, 3) v
    cos_tilt: Tensor  #: (..., c) cos α

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (...) at points x (..., 3)."""
        return self.terms(x).logsumexp(-1) - self.log_weight.logsumexp(-1)

    def terms(self, x: Tensor) -> Tensor:
        """Return log (w p) (..., c) of each component at points x (..., 3)."""
        off = x.unsqueeze(-2) - self.focus
        square = (off**2).sum(-1) + _TINY**2
        log_d = 0.5 * square.log()
        z = (log_d - self.log_distance) * (-self.log_width).exp()
        radial = -0.5 * z**2 - self.log_width - 0.5 * math.log(2 * math.pi) - 3 * log_d
        along = (off * self.axis).sum(-1) * square.rsqrt()
        return self.log_weight + radial + self._log_sphere(along)

    def _log_sphere(self, along: Tensor) -> Tensor:
        """Return log S of directions with the product u·v."""
        kappa = ((self.axis**2).sum(-1) + _TINY).sqrt()
        across = (kappa**2 - along**2).clamp(min=_TINY).sqrt()
        sin_tilt = (1 - self.cos_tilt**2).clamp(min=_TINY).sqrt()
        side = across * sin_tilt
        # κ/(4π sinh κ) = exp(-κ) κ/(2π (1 - exp(-2κ)))
        scale = (kappa / -torch.expm1(-2 * kappa)).log() - math.log(2 * math.pi)
        bent = along * self.cos_tilt + side - kappa  # never positive
        return scale + bent + torch.special.i0e(side).log()

    def together(self) -> "Mixture":
        """Return one mixture (m, p * c + 1) of those of p atoms, and of what is broad."""
        one = Mixture._make(part.flatten(1, 2) for part in self)
        weight = one.log_weight.logsumexp(1, keepdim=True) + math.log(_BROAD / (1 - _BROAD))
        broad = _broad(weight)
        return Mixture._make(torch.cat(parts, 1) for parts in zip(one, broad, strict=True))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return one point (m, 3) of each of the densities (m,)."""
        chosen = torch.multinomial(self.log_weight.softmax(1), 1, generator=generator)
        c = Mixture._make(_taken(part, chosen) for part in self)
        like = c.log_distance
        normal = torch.randn(
            like.shape, generator=generator, dtype=like.dtype, device=like.device
        )
        uniform = torch.rand(
            *(3, len(like)), generator=generator, dtype=like.dtype, device=like.device
        )
        d = (c.log_distance + c.log_width.exp() * normal).exp()
        kappa = ((c.axis**2).sum(-1) + _TINY).sqrt()
        axis = _turned(c.axis / kappa.unsqueeze(-1), c.cos_tilt, uniform[0])
        # t of von Mises and Fisher by the inverse of its cumulative function
        t = 1 + torch.log(uniform[1] + (1 - uniform[1]) * torch.exp(-2 * kappa)) / kappa
        return c.focus + d.unsqueeze(-1) * _turned(axis, t.clamp(-1, 1), uniform[2])


def by_state(mixture: Mixture, x: Tensor, sizes: list[int]) -> Tensor:
    """Return log-densities (m, states) of components (m, p, c), what is broad among them.

    Parameters
    ----------
    mixture : Mixture
        About the atoms of all states, state after state.
    x : (m, states, 3) tensor
        The next atom of each.
    sizes : list of int
        Atoms of each state.
    """
    state = torch.arange(len(sizes), device=x.device)
    at = x[:, state.repeat_interleave(torch.tensor(sizes, device=x.device))]

    def sums(terms: Tensor) -> Tensor:
        parts = terms.logsumexp(-1).split(sizes, 1)
        return torch.stack([part.logsumexp(1) for part in parts], 1)

    own = sums(mixture.terms(at)) - sums(mixture.log_weight)
    broad = _broad(torch.zeros_like(x[..., :1])).log_prob(x)
    return torch.logaddexp(own + math.log1p(-_BROAD), broad + math.log(_BROAD))


def _broad(log_weight: Tensor) -> Mixture:
    """Return the component (..., 1) that is everywhere, about the centre."""
    nowhere = torch.zeros(
        *log_weight.shape, 3, dtype=log_weight.dtype, device=log_weight.device
    )
    distance, width = (torch.full_like(log_weight, v) for v in _BROAD_DISTANCE)
    return Mixture(log_weight, nowhere, distance, width, nowhere, torch.zeros_like(log_weight))


def _taken(part: Tensor, chosen: Tensor) -> Tensor:
    """Return the part (m, ...) of the component (m, 1) that was chosen."""
    if part.ndim == 2:
        return part.gather(1, chosen).squeeze(1)
    return part.gather(1, chosen.unsqueeze(-1).expand(-1, 1, 3)).squeeze(1)


def _turned(axis: Tensor, cosine: Tensor, uniform: Tensor) -> Tensor:
    """Return unit vectors (m, 3) at an angle to axes (m, 3), about them by a part of 2π."""
    length = axis.norm(dim=1, keepdim=True)
    up = axis.new_tensor([0.0, 0.0, 1.0]).expand_as(axis)
    axis = torch.where(length > 0.5, axis / length.clamp(min=0.5), up)
    # the coordinate axis most across it gives the first of two more
    first = torch.nn.functional.one_hot(axis.abs().argmin(1), 3).to(axis)
    first = torch.nn.functional.normalize(torch.linalg.cross(axis, first), dim=1)
    second = torch.linalg.cross(axis, first)
    angle = 2 * math.pi * uniform.unsqueeze(1)
    sine = (1 - cosine**2).clamp(min=0).sqrt().unsqueeze(1)
    across = first * angle.cos() + second * angle.sin()
    return axis * cosine.unsqueeze(1) + across * sine


def _within(middle_and_half: tuple[float, float], number: Tensor) -> Tensor:
    middle, half = middle_and_half
    return middle + half * number.tanh()


def images(
    weight: Tensor,
    hand: Tensor,
    foci: Tensor,
    distance: Tensor,
    width: Tensor,
    sharp: Tensor,
    tilt: Tensor,
    straight: Tensor,
    turned: Tensor,
) -> Mixture:
    """Return components and their mirror images, of numbers that a network made.

    Parameters
    ----------
    weight, hand : (..., c) tensor
        Log-weight of both, and what is added for the one and taken from the other.
    foci : (..., 3) tensor
    distance : (..., c) tensor
        Mean of log d.
    width, sharp, tilt : (..., c) tensor
        log σ, log κ and cos α, before they are given their ranges.
    straight, turned : (..., c, 3) tensor
        The part of the axis that an image keeps, and that of which it changes the sign.

    Returns
    -------
    Mixture
        Of (..., 2 c) components.
    """
    kappa = _within(_LOG_KAPPA, 0.5 * sharp).exp()
    length = (straight.square().sum(-1) + turned.square().sum(-1) + _FAINT**2).sqrt()
    straight, turned = (t * (kappa / length).unsqueeze(-1) for t in (straight, turned))
    width = _within(_LOG_WIDTH, width)
    foci = foci.unsqueeze(-2).expand(*weight.shape[:-1], 2 * weight.shape[-1], 3)
    return Mixture(
        log_weight=torch.cat([weight + hand, weight - hand], -1),
        focus=foci,
        log_distance=torch.cat([distance, distance], -1),
        log_width=torch.cat([width, width], -1),
        axis=torch.cat([straight + turned, straight - turned], -2),
        cos_tilt=torch.cat([tilt, tilt], -1).tanh(),
    )
