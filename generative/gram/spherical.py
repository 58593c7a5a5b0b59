"""Gram-equivariant: atoms placed one at a time by what spherical harmonics see.

Every atom that is there sees the others as an expansion a_nlm (`equivariant`). Its power
spectrum is numbers that do not turn; a network makes of them what the atom tells the others,
as the weight with which it enters their next expansion. The vectors among the products of
expansions, 1o and 1e, are what the directions of new atoms are made of.

l goes to 4: the four bonds of silicon have a power of [4, .03, .09, 2.0, 1.0] in l = 0 … 4,
so that l <= 2 sees nothing of them.

Latents, if any, are an expansion as well: each irreducible part has a Gaussian of one width in
all its components, about a mean that turns with the atoms; so the bound is as invariant as
the density. They enter as if they were one more atom in the surroundings of each.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..equivariant import (
    Bispectrum,
    ChannelMix,
    Coupling,
    Radial,
    by_degree,
    harmonics,
    power_spectrum,
)
from ..nets import mlp
from ..representation import Representation
from .placing import FIRST, LAST, START_SHARP, START_WIDTH, Mixture, images
from .sequence import Sequence, SequenceOptions
from .states import Labels, States

#: products of two expansions that are vectors, and pseudo-vectors: from l = 1 to 3, beyond
#: which they cost much and add little
_VECTORS = ((1, 2, 1), (2, 3, 1))
_PSEUDO = ((1, 1, 1), (2, 2, 1), (3, 3, 1))
_LATENT_DEGREE = 3  #: the least that sees four bonds


@dataclass(frozen=True, kw_only=True)
class EquivariantOptions(SequenceOptions):
    """As those of `sequence`, and what expansions are.

    Attributes
    ----------
    l_max : int
    gaussians : int
        Of the functions of distance.
    coupled : int
        Channels that are multiplied to vectors.
    """

    l_max: int = 4
    gaussians: int = 12
    coupled: int = 4

    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            **{"batch_size": 64, "learning_rate": 3e-3, "warmup": 100},
            **{"clip": 20.0, "ema": 0.998},
        }
    }

    def __post_init__(self):
        super().__post_init__()
        if not 3 <= self.l_max <= 8 or self.gaussians < 2:
            msg = f"l_max must be 3 to 8, and gaussians at least 2, got {self}"
            raise ValueError(msg)
        if not 1 <= self.coupled <= self.channels <= 16:
            msg = f"channels must be at most 16, and coupled from 1 to channels, got {self}"
            raise ValueError(msg)


class GramEquivariant(Sequence):
    """Atoms placed by spherical harmonics.

    Parameters
    ----------
    options : EquivariantOptions
    representation : Representation
    """

    name = "gram-equivariant"
    options_type = EquivariantOptions
    options: EquivariantOptions

    def __init__(self, options: EquivariantOptions, representation: Representation) -> None:
        degrees = _LATENT_DEGREE if options.latents == "equivariant" else 0
        signal = options.latent_size if options.latents != "none" else 0
        super().__init__(
            options,
            representation,
            degrees=degrees,
        )
        vectors = options.channels * options.layers + options.coupled * len(_VECTORS)
        pseudo = options.coupled * len(_PSEUDO)
        self.head = Head(options.hidden, vectors, pseudo, options.components)
        self.eyes = Eyes(options, self.most, signal, degrees)
        if signal:
            self.encoder = Encoder(options, degrees)

    def _components(self, states: States, z: Tensor | None) -> Mixture:
        return self.head(self.eyes(states, z)[0], states)

    def _encode(self, states: States) -> tuple[Tensor, Tensor]:
        return self.encoder(states)


class Seen(NamedTuple):
    """What a network says of the surroundings of atoms, (m, p) of them."""

    numbers: Tensor  #: (m, p, hidden), do not turn
    vectors: Tensor  #: (m, p, v, 3), turn
    pseudo: Tensor  #: (m, p, w, 3), turn, and change their sign in a mirror besides


class Head(nn.Module):
    """What a network sees, as the density of the next atom: components and their images.

    Parameters
    ----------
    hidden, vectors, pseudo : int
        Numbers, vectors and pseudo-vectors that are seen of an atom.
    components : int
    """

    def __init__(self, hidden: int, vectors: int, pseudo: int, components: int):
        super().__init__()
        self.components, self.seen = components, (vectors, pseudo)
        shares = components * (vectors + pseudo)
        self.numbers = mlp(hidden, (hidden,), 6 * components + shares)
        last = self.numbers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.zero_()
            start = last.bias[: 6 * components].unflatten(0, (6, components))
            start[1] = torch.linspace(FIRST, LAST, components)
            start[2], start[3] = START_WIDTH, START_SHARP

    def forward(self, seen: Seen, states: States) -> Mixture:
        """Return components (m, p, 2 * components) about the atoms of each state."""
        b, (v, w) = self.components, self.seen
        numbers = self.numbers(seen.numbers)
        plain, shares = numbers[..., : 6 * b], numbers[..., 6 * b :].unflatten(-1, (b, v + w))
        weight, distance, width, sharp, tilt, hand = plain.split(b, -1)
        straight = shares[..., :v] @ seen.vectors
        turned = shares[..., v:] @ seen.pseudo
        # a triple product: of which hand the surroundings are
        hand = hand * (straight * turned).sum(-1).tanh()
        foci = states.atoms[:, states.node]
        return images(weight, hand, foci, distance, width, sharp, tilt, straight, turned)


class _Pairs(NamedTuple):
    """Each atom (p) of each state, and what it sees of all atoms (s)."""

    distance: Tensor  #: (m, p, s)
    y: Tensor  #: (m, p, (l_max + 1)², s)
    there: Tensor  #: (m, p, s, 1), 1 for those that it sees, itself not among them


class Eyes(nn.Module):
    """Rounds of expansions about atoms, and of numbers made of them.

    Parameters
    ----------
    options : EquivariantOptions
    atoms : int
        Largest number of them in a state; 0, and their order does not matter.
    signal, degrees : int
        Latents, an expansion (latent_size, l up to `degrees`), that are seen too.
    """

    def __init__(self, options: EquivariantOptions, atoms: int, signal: int, degrees: int):
        super().__init__()
        o, rounds = options, range(options.layers)
        self.l_max, self.channels, self.coupled = o.l_max, o.channels, o.coupled
        inputs = 2 * o.hidden + o.channels * (o.l_max + 2)
        self.own = Labels(o.hidden, atoms)
        self.kinds = nn.ModuleList(Labels(o.channels, atoms) for _ in rounds)
        self.tells = nn.ModuleList(nn.Linear(o.hidden, o.channels) for _ in rounds[1:])
        self.radials = nn.ModuleList(
            Radial(o.channels, reach=o.reach, gaussians=o.gaussians) for _ in rounds
        )
        self.mixes = nn.ModuleList(
            ChannelMix(o.channels, 2 * o.channels, o.l_max) for _ in rounds
        )
        self.thinks = nn.ModuleList(mlp(inputs, (o.hidden,), o.hidden) for _ in rounds)
        self.signals = nn.ModuleList(
            ChannelMix(signal, o.channels, degrees) for _ in (rounds if signal else ())
        )
        self.vectors = nn.ModuleList(Coupling(*path) for path in _VECTORS)
        self.pseudo = nn.ModuleList(Coupling(*path) for path in _PSEUDO)

    def forward(self, states: States, z: Tensor | None) -> tuple[Seen, Tensor]:
        """Return what is seen, and the last expansion about each atom."""
        pairs = self._pairs(states)
        numbers = self.own(states.kinds)[:, states.state, states.node]
        ones: list[Tensor] = []
        a = left = right = numbers
        for i, think in enumerate(self.thinks):
            weight = self.kinds[i](states.kinds)[:, states.state]
            if i:
                weight = weight * states.spread(1 + self.tells[i - 1](numbers))
            radial = self.radials[i](pairs.distance) * pairs.there
            a = pairs.y @ (radial * weight)
            if z is not None:
                told = self.signals[i](z.mT).unsqueeze(1)
                rest = self.l_max**2 + 2 * self.l_max + 1 - told.shape[2]
                a = a + nn.functional.pad(told, (0, 0, 0, rest))
            left, right = self.mixes[i](a).chunk(2, -1)
            parts = by_degree(a)
            invariant = [power_spectrum(left, right), parts[0].squeeze(-2)]
            mean = states.means @ numbers
            numbers = numbers + think(torch.cat([numbers, mean, *invariant], -1))
            ones.append(parts[1])
        lefts, rights = (by_degree(t[..., : self.coupled]) for t in (left, right))
        vectors, pseudo = (
            [
                product(lefts[l1], rights[l2])
                for (l1, l2, _), product in zip(*some, strict=True)
            ]
            for some in ((_VECTORS, self.vectors), (_PSEUDO, self.pseudo))
        )
        vectors = [*ones, *vectors]
        return Seen(numbers, torch.cat(vectors, -1).mT, torch.cat(pseudo, -1).mT), a

    def _pairs(self, states: States) -> _Pairs:
        off = states.atoms.unsqueeze(1) - states.atoms.unsqueeze(2)
        y = harmonics(off, self.l_max).mT.contiguous()
        others = torch.arange(off.shape[1], device=off.device) != states.node.unsqueeze(1)
        there = (states.kinds[:, states.state] > 0) & others
        distance = off.norm(dim=-1)[:, states.node]
        return _Pairs(distance, y[:, states.node], there.unsqueeze(-1).to(off))


class Encoder(nn.Module):
    """Latents of a whole environment: its expansion about the centre, weighed by numbers."""

    def __init__(self, options: EquivariantOptions, degrees: int):
        super().__init__()
        size = options.latent_size
        self.eyes = Eyes(options, 0, 0, 0)
        self.bispectrum = Bispectrum(options.l_max)
        inputs = options.hidden + options.channels * len(self.bispectrum.triples)
        self.numbers = mlp(inputs, (options.hidden,), size * (2 * degrees + 3))
        self.mix = ChannelMix(options.channels, size, degrees)
        self.degrees = degrees
        spread = torch.tensor([2 * l + 1 for l in range(degrees + 1)])  # noqa: E741
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, states: States) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, (m, latent_size, (degrees + 1)²)."""
        seen, about = self.eyes(states, None)
        a = about[:, 0]  # the centre is the first of all
        even, odd = self.bispectrum(a)
        # of an odd number its size alone does not change in a mirror
        numbers = self.numbers(torch.cat([seen.numbers[:, 0], even, odd.abs()], -1))
        gate, log_variance, invariant = numbers.unflatten(
            -1, (-1, 2 * self.degrees + 3)
        ).split([self.degrees + 1, self.degrees + 1, 1], -1)
        spread = self.get_buffer("spread")
        mean = self.mix(a[:, : (self.degrees + 1) ** 2]).mT
        mean = mean * gate.repeat_interleave(spread, -1)
        mean = mean + nn.functional.pad(invariant, (0, mean.shape[-1] - 1))
        return mean, (log_variance - 2).clamp(-12, 4).repeat_interleave(spread, -1)
