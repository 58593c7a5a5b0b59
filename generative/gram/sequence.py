"""An environment as a sequence: its atoms placed one at a time, each by those that are there.

    p(x_1 … x_n) = Π_k p(x_k | x_1 … x_k-1)

A network looks at the atoms that are there, the centre and perhaps outer neighbours among
them, from each of them in turn, and says of each what lies about it: a mixture as in
`placing`. Numbers of it do not turn with the atoms, its axes do; so the density is the same
for environments turned in space, and for mirror images: with each component stands its image,
with an axis a - w for a + w, where w, a pseudo-vector, is what an image changes the sign of.
Atoms that are no mirror image of themselves tell the hands apart, and weigh the two
accordingly.

Atoms come in order of distance from the centre. In half of the training some come first, a
random subset that is marked as given, and the others follow by distance: these conditionals
fill an environment in. The network is told the place of each in this order: two bonds of one
length have an axis of symmetry, and no vector that turns with them points to either side of
the plane that they span, where the next bonds are.

`log_prob` is the density of the atoms placed in the order in which they stand. That of a set
is the sum over its n! orders; the one by distance is most of it, and alone a lower bound. The
loss in training counts the atoms that are placed: it is not on the scale of validation.

With latents z (an expansion in spherical harmonics or invariants), an encoder sees all
atoms, and the bound is that of a variational autoencoder.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..model import Model, Options
from ..priors import Gauss, make_prior, normal_log_prob
from ..representation import Batch, Representation
from ..score import Score, logmeanexp
from .placing import Mixture, by_state
from .states import States, states_of

LATENTS = ("none", "invariant", "equivariant")
_TRIES = 32  #: draws of latents, of which known atoms choose one
_GIVEN_SHARE = 0.5  #: of samples in training that are to be filled in


@dataclass(frozen=True, kw_only=True)
class SequenceOptions(Options):
    """Sizes and choices that models which place atoms share.

    Attributes
    ----------
    channels, hidden, layers : int
        Of the network: expansions or vectors of an atom, its numbers, rounds of messages.
    components : int
        Of the density about each atom; each has a mirror image.
    reach : float
        To which atoms see one another, in mean distances of the nearest atom.
    latents : str
        One of `LATENTS`: none, and the density is exact; or an autoencoder.
    latent_size : int
        Invariants, or copies of each degree of an expansion.
    prior : str
        Of invariant latents "gauss" or "flow"; of others "gauss".
    kl_weight : float
        Of the divergence; 1 is the bound.
    draws : int
        Latents for a log-likelihood.
    """

    channels: int = 8
    hidden: int = 64
    layers: int = 2
    components: int = 8
    reach: float = 3.0
    latents: str = "none"
    latent_size: int = 8
    prior: str = "gauss"
    kl_weight: float = 1.0
    draws: int = 16

    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"labels": "distance", "frame": "given"}
    }

    def __post_init__(self):
        least = {"channels": 1, "hidden": 1, "layers": 1, "components": 1}
        for name, low in (least | {"latent_size": 1, "draws": 1}).items():
            if getattr(self, name) < low:
                msg = f"{name} must be at least {low}, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 < self.reach < math.inf or not 0 <= self.kl_weight < math.inf:
            msg = f"reach must be positive and kl_weight 0 or more, got {self}"
            raise ValueError(msg)
        if self.latents not in LATENTS:
            msg = f"latents must be {', '.join(LATENTS)}, got {self.latents!r}"
            raise ValueError(msg)
        allowed = ("gauss", "flow") if self.latents == "invariant" else ("gauss",)
        if self.prior not in allowed:
            which = f"prior of {self.latents} latents"
            msg = f"{which} must be {', '.join(allowed)}, got {self.prior!r}"
            raise ValueError(msg)


class Sequence(Model):
    """A model that places atoms one at a time.

    Subclasses have a network that makes components of a state (`_components`) and one that
    encodes latents, if they have any (`_encode`).

    Attributes
    ----------
    most : int
        Atoms that are there when all are, the centre and outer ones among them.
    unit : () tensor
        Å, the mean distance of the atom nearest to the centre, in which networks see lengths.
    """

    standardised = False
    sees = "environment"
    options: SequenceOptions
    unit: Tensor

    def __init__(
        self,
        options: SequenceOptions,
        representation: Representation,
        *,
        degrees: int = 0,
    ) -> None:
        super().__init__(options, representation)
        if len(self.shape) != 2 or self.shape[1] != 3 or self.condition_size % 3:
            sizes = f"{self.shape} and {self.condition_size} numbers"
            msg = f"{self.name} places atoms (n, 3) among outer ones, 3 numbers each; {sizes}"
            raise ValueError(msg)
        if getattr(representation, "centre", "atom") != "atom":
            msg = f"{self.name} places atoms about an atom, not about a centroid"
            raise ValueError(msg)
        self.n = self.shape[0]
        self.outer = self.condition_size // 3
        self.most = 1 + self.outer + self.n
        self.register_buffer("unit", torch.ones(()))
        self.latent_shape = (options.latent_size, (degrees + 1) ** 2)
        self.prior = None
        if options.latents != "none":
            size = math.prod(self.latent_shape)
            about = {"hidden": (options.hidden,), "activation": "silu"}
            self.prior = make_prior(options.prior, size, 0, **about)

    # -- what is scaled: lengths, by one number, which keeps directions as they are

    def standardise(self, batches: Iterator[Batch]) -> None:
        nearest: list[Tensor] = []

        def watched() -> Iterator[Batch]:
            for batch in batches:
                nearest.append(batch.x.norm(dim=2).amin(1))
                yield batch

        super().standardise(watched())
        self.unit.copy_(torch.cat(nearest).double().mean())
        # outer atoms turn with the others: no number of them has a scale of its own
        self.condition_centre.zero_()
        self.condition_spread.fill_(1)

    # -- the bound, or the density itself

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        x, c = x / self.unit, c / self.unit
        x = _by_distance(x)
        given = x.new_zeros(len(x), dtype=torch.int64)
        if self.training and self.n > 1:
            x, given = _some_first(x)
        z, kl = self._drawn_latents(x, c)
        terms = self._placed(x, c, given, z)
        wanted = torch.arange(self.n, device=x.device) >= given.unsqueeze(1)
        misfit = -torch.where(wanted, terms, 0).sum(1).mean()
        parts = {"loss": misfit + self.options.kl_weight * kl.mean()}
        parts["loss"] = parts["loss"] + 3 * self.n * self.unit.log()
        if self.prior is not None:
            parts |= {"misfit": misfit.detach(), "kl": kl.detach().mean()}
        return parts

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:
        x, c = x / self.unit, c / self.unit
        volume = 3 * self.n * self.unit.log()
        given = x.new_zeros(len(x), dtype=torch.int64)
        if self.prior is None:
            return Score(self._placed(x, c, given, None).sum(1) - volume, "exact")
        k = self.options.draws
        x, c = x.repeat_interleave(k, 0), c.repeat_interleave(k, 0)
        z, kl = self._drawn_latents(x, c, sampled=True)
        terms = self._placed(x, c, given.repeat_interleave(k, 0), z).sum(1) - kl
        value, stderr = logmeanexp(terms.reshape(-1, k), 1)
        return Score(value - volume, "IWAE", stderr)

    def _drawn_latents(
        self, x: Tensor, c: Tensor, *, sampled: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Return latents of the encoder and their divergence (m,), or a sample of it."""
        if self.prior is None:
            return None, x.new_zeros(len(x))
        given = x.new_zeros(len(x), dtype=torch.int64)
        mean, log_variance = self._encode(states_of(x, c, given, first=self.n))
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        flat = [t.flatten(1) for t in (mean, log_variance, z)]
        if sampled or not isinstance(self.prior, Gauss):
            own = normal_log_prob(flat[2], *flat[:2]).sum(1)
            return z, own - self.prior.log_prob(flat[2], c[:, :0])
        kl = self.prior.kl(flat[0], flat[1], flat[2], c[:, :0]).sum(1)
        return z, kl

    def _placed(self, x: Tensor, c: Tensor, given: Tensor, z: Tensor | None) -> Tensor:
        """Return the log-density of each of the atoms (m, a, 3) given those before it."""
        states = states_of(x[:, :-1], c, given, first=0)
        return by_state(self._components(states, z), x, states.sizes)

    # -- draws

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        nothing = c.new_zeros(len(c), 0, 3)
        return self.infill(nothing, c, n, generator)

    @torch.no_grad()
    def infill(
        self, known: Tensor, condition: Tensor, n: int, generator: torch.Generator
    ) -> Tensor:
        """Draw whole environments of which some atoms are known.

        Parameters
        ----------
        known : (m, k, 3) tensor
            Å, from the centre, in any order and frame; k = 0 draws all atoms.
        condition : (m, condition_size) tensor
            Outer neighbours in the same frame.
        n : int
            Draws of each.
        generator : torch.Generator

        Returns
        -------
        (m, n, atoms, 3) tensor
            The known atoms first, as they are.
        """
        m, k = known.shape[:2]
        if k > self.n:
            msg = f"{k} atoms are known, of environments of {self.n}"
            raise ValueError(msg)
        x = _by_distance(known).repeat_interleave(n, 0) / self.unit
        c = condition.repeat_interleave(n, 0) / self.unit
        z = None
        if self.prior is not None:
            z = self._latents_for(x, c, generator)
        given = torch.full((len(x),), k, device=x.device)
        for count in range(k, self.n):
            states = states_of(x, c, given, first=count)
            placed = self._components(states, z).together().draw(generator)
            x = torch.cat([x, placed.unsqueeze(1)], 1)
        x = (x * self.unit).unflatten(0, (m, n))
        x[:, :, :k] = known.unsqueeze(1)
        return x

    def _latents_for(self, x: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """Return latents of the prior, or of those that known atoms (m, k, 3) leave.

        By importance: of many draws of the prior one, with the probability that it gives to
        the known atoms, as if they were the closest.
        """
        assert self.prior is not None
        (m, k), tries = x.shape[:2], _TRIES if x.shape[1] else 1
        z = self.prior.sample(c[:, :0], tries, generator).reshape(-1, *self.latent_shape)
        if not k:
            return z
        known, outer = x.repeat_interleave(tries, 0), c.repeat_interleave(tries, 0)
        given = torch.zeros(len(z), dtype=torch.int64, device=x.device)
        weight = self._placed(known, outer, given, z).sum(1).reshape(m, tries).softmax(1)
        chosen = torch.multinomial(weight, 1, generator=generator).squeeze(1)
        return z.unflatten(0, (m, tries))[torch.arange(m, device=x.device), chosen]

    # -- networks

    @abstractmethod
    def _components(self, states: States, z: Tensor | None) -> Mixture:
        """Return components (m, p, c) about the atoms of each state; z may be latents."""

    def _encode(self, states: States) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of latents, (m, *latent_shape) each."""
        raise NotImplementedError


def _by_distance(x: Tensor, first: Tensor | None = None) -> Tensor:
    """Return atoms (m, n, 3) in order of distance, those marked (m, n) before the others."""
    distance = x.norm(dim=2)
    if first is not None:
        distance = torch.where(first, distance - 2 * distance.amax(), distance)
    order = distance.argsort(1)
    return x.gather(1, order.unsqueeze(2).expand_as(x))


def _some_first(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return atoms with a random subset first, and its size (m,): none in half of them."""
    m, n = x.shape[:2]
    given = torch.randint(1, n, (m,), device=x.device)
    given = given * (torch.rand(m, device=x.device) < _GIVEN_SHARE)
    rank = torch.rand(m, n, device=x.device).argsort(1).argsort(1)
    return _by_distance(x, rank < given.unsqueeze(1)), given
