"""Conditional variational autoencoders: a latent z stands for what momenta leave open.

An encoder makes a Gaussian q(z | x) of a sample, a decoder a Gaussian about a point of z and
of the condition; both are trained by a lower bound of the log-likelihood, in nats,

    log p(x | c) >= E_q [log N(x; decoder(z, c), noise²)] - KL(q || p(z | c)).

The noise of each component is learned. A fixed one decides by itself what becomes of the
latents: the published loss, the squared error averaged over D components and the divergence
summed over latents, is this bound for noise² = D/2, several times the variance of the samples
themselves. Nothing is then worth its nats: the divergence goes to 0 and the latents to noise.

`cvae` learns all at once. `cvae-two-stage` learns an autoencoder of samples alone, and beside
it a decoder (and a prior) of its latents and the condition, whose gradients do not reach the
autoencoder: what two trainings one after the other would learn, in one.

References
----------
D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114 (2013).
Y. Burda, R. Grosse and R. Salakhutdinov, Importance Weighted Autoencoders, arXiv:1509.00519.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .latents import Latents
from .model import Model, Options
from .nets import ACTIVATIONS, mlp, never_empty
from .priors import PRIORS, make_prior, normal_log_prob
from .representation import Batch, Representation
from .score import Score, logmeanexp

NOISES = ("learned", "published")
LATENTS = ("prior", "stored", "gaussian")

_ACTIVE = 0.01  #: nats of a latent, on average, that are more than nothing
_LARGEST_LOG_VARIANCE = 20.0  #: keeps an encoder finite that is far from its data
#: of a component, before training: latents that say nothing are a local optimum, where all who
#: start with the whole width of the data end
_FIRST_NOISE = 0.1

_PUBLISHED = {
    "hidden": (1024, 512),
    "activation": "elu",
    "prior": "gauss",
    "latent": "stored",
    "noise": "published",
    "encodes_condition": False,
    "warm_up": 0,
}


@dataclass(frozen=True, kw_only=True)
class CvaeOptions(Options):
    """Sizes and choices of an autoencoder.

    Attributes
    ----------
    latent_size : int
    hidden : tuple of int
        Widths of encoder and decoder.
    activation : str
        One of `nets.ACTIVATIONS`.
    prior : str
        One of `priors.PRIORS`.
    latent : str
        Where latents of a new condition come from: "prior"; or what training left, "stored"
        or a fitted "gaussian".
    noise : str
        About the decoder's point: "learned", or "published", which draws the point alone.
    encodes_condition : bool
        Whether the encoder sees the condition beside the sample.
    kl_weight : float
        Of the divergence; 1 is the bound.
    warm_up : int
        Steps in which the weight of the divergence rises to that.
    free_bits : float
        Nats of each latent that cost nothing in training.
    draws : int
        Latents for a log-likelihood: 1 gives the bound itself (ELBO), more a tighter one.
    """

    latent_size: int = 8
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "silu"
    prior: str = "conditional"
    latent: str = "prior"
    noise: str = "learned"
    encodes_condition: bool = True
    kl_weight: float = 1.0
    warm_up: int = 1000
    free_bits: float = 0.0
    draws: int = 16

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"published": _PUBLISHED}
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {
            "epochs": 1000,
            "batch_size": 512,
            "learning_rate": 1e-4,
            "warmup": 0,
            "schedule": "constant",
            "clip": 0.0,
        }
    }
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "coordinates": "shape",
            "conditions": ("scale-free", "log-ker", "noise"),
            "noise": (0.003, 0.1),
        },
        "published": {
            "coordinates": "positions",
            "frame": "given",
            "conditions": ("momenta",),
        },
    }

    def __post_init__(self):
        object.__setattr__(self, "hidden", _widths(self.hidden))
        for name, least in (("latent_size", 1), ("warm_up", 0), ("draws", 1)):
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("kl_weight", "free_bits"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"{name} must be 0 or more, got {getattr(self, name)}"
                raise ValueError(msg)
        choices = {"activation": ACTIVATIONS, "prior": PRIORS}
        choices |= {"latent": LATENTS, "noise": NOISES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class TwoStageOptions(CvaeOptions):
    """As those of `cvae`; the encoder never sees the condition.

    Its latents given a condition may be anything, and want a prior that can be.
    """

    encodes_condition: bool = False
    prior: str = "flow"

    def __post_init__(self):
        super().__post_init__()
        if self.encodes_condition:
            msg = "the autoencoder of two stages is of samples alone: no encodes_condition"
            raise ValueError(msg)


class _Autoencoder(Model):
    """What both have in common: encoder, decoder, noise, prior and stored latents."""

    options: CvaeOptions
    steps: Tensor

    def __init__(self, options: CvaeOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        o = options
        self.size = math.prod(self.shape)
        seen = max(self.condition_size, 1)
        inputs = self.size + (seen if o.encodes_condition else 0)
        dense = {"hidden": o.hidden, "activation": o.activation}
        self.encoder = mlp(inputs, outputs=2 * o.latent_size, **dense)
        self.decoder = mlp(o.latent_size + seen, outputs=self.size, **dense)
        self.prior = make_prior(o.prior, o.latent_size, self.condition_size, **dense)
        if o.noise == "learned":
            self.log_noise = nn.Parameter(torch.full((self.size,), math.log(_FIRST_NOISE)))
        else:
            fixed = torch.full((self.size,), 0.5 * math.log(self.size / 2))
            self.register_buffer("log_noise", fixed, persistent=False)
        self.latents = Latents(o.latent_size)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def has_density(self) -> bool:
        # latents that training left are not those of the prior, which the bound is about
        return self.options.noise == "learned" and self.options.latent == "prior"

    @torch.no_grad()
    def reconstruction(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return samples (m, *shape) encoded and decoded again: no prediction of anything.

        This is how the publication evaluates. The decoder is told, through the latent, what
        it is to find.
        """
        c = self._scaled_condition(condition)
        mean, _ = self._encode(self._scaled(x), c)
        return self._decode(mean, c).reshape(x.shape) * self.spread + self.centre

    @torch.no_grad()
    def finish(self, batches: Iterator[Batch]) -> None:
        self.latents.learn(self._latents_of(batch) for batch in batches)

    def _latents_of(self, batch: Batch) -> Tensor:
        c = self._scaled_condition(batch.condition)
        return _drawn(*self._encode(self._scaled(batch.x), c))

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        z = self._new_latents(c, n, generator).flatten(0, 1)
        points = self._decode(z, c.repeat_interleave(n, 0)).reshape(len(c), n, self.size)
        if self.options.noise == "learned":
            noise = torch.randn(
                points.shape, generator=generator, device=c.device, dtype=c.dtype
            )
            points = points + self.log_noise.exp() * noise
        return points.reshape(len(c), n, *self.shape)

    def _new_latents(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        if self.options.latent == "stored":
            return self.latents.draw_stored(len(c), n, generator)
        if self.options.latent == "gaussian":
            return self.latents.draw_gaussian(len(c), n, generator)
        return self.prior.sample(c, n, generator)

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:
        if not self.has_density:
            msg = "draws have a density with noise=learned and latent=prior only"
            raise TypeError(msg)
        k = self.options.draws
        mean, log_variance = self._encode(x, c)
        if k == 1:
            z = _drawn(mean, log_variance)
            kl = self.prior.kl(mean, log_variance, z, c).sum(1)
            return Score(-self._error(x, z, c) - kl, "ELBO")
        mean, log_variance, x, c = (
            t.repeat_interleave(k, 0) for t in (mean, log_variance, x, c)
        )
        z = _drawn(mean, log_variance)
        terms = self.prior.log_prob(z, c) - self._error(x, z, c)
        terms = terms - normal_log_prob(z, mean, log_variance).sum(1)
        value, stderr = logmeanexp(terms.reshape(-1, k), 1)
        return Score(value, "IWAE", stderr)

    def _encode(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the latents of samples."""
        seen = x.flatten(1)
        if self.options.encodes_condition:
            seen = torch.cat([seen, never_empty(c)], 1)
        mean, log_variance = self.encoder(seen).chunk(2, 1)
        return mean, log_variance.clamp(-_LARGEST_LOG_VARIANCE, _LARGEST_LOG_VARIANCE)

    def _decode(self, z: Tensor, c: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, never_empty(c)], 1))

    def _error(self, x: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """Return -log p(x | z, c) (m,) in nats."""
        point = self._decode(z, c)
        return -normal_log_prob(x.flatten(1), point, 2 * self.log_noise).sum(1)

    def _misfit(self, x: Tensor, point: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a point costs (nats, or as published), and the mean squared error."""
        square = ((x.flatten(1) - point) ** 2).mean()
        if self.options.noise == "published":
            return square, square
        return -normal_log_prob(x.flatten(1), point, 2 * log_noise).sum(1).mean(), square

    def _charged(self, kl: Tensor) -> Tensor:
        """Return what the divergence (m, dimensions) costs: all of it, but for training."""
        nats = kl.mean(0)
        weight: Tensor | float = self.options.kl_weight
        if self.training:
            self.steps += 1
            free = self.options.free_bits * self.options.latent_size / len(nats)
            nats = nats.clamp(min=free)
            if self.options.warm_up:
                weight = weight * (self.steps / self.options.warm_up).clamp(max=1.0)
        return weight * nats.sum()

    def _told(self, kl: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Return how much latents say: in all, how many do, and each for itself."""
        nats = kl.detach().mean(0)
        if len(nats) < self.options.latent_size:
            # the sum alone is known: a unit is active if its mean differs between samples
            varies = mean.detach().var(0, correction=0)
            return {"kl": nats.sum(), "active_units": (varies > _ACTIVE).sum().float()}
        each = {f"kl_{i + 1}": value for i, value in enumerate(nats)}
        return {"kl": nats.sum(), "active_units": (nats > _ACTIVE).sum().float(), **each}

    @abstractmethod
    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Return the bound and its parts."""


class Cvae(_Autoencoder):
    """Conditional variational autoencoder, learned end to end.

    Parameters
    ----------
    options : CvaeOptions
    representation : Representation
    """

    name = "cvae"
    options_type = CvaeOptions

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._encode(x, c)
        z = _drawn(mean, log_variance)
        kl = self.prior.kl(mean, log_variance, z, c)
        cost, square = self._misfit(x, self._decode(z, c), self.log_noise)
        parts = {"loss": cost + self._charged(kl), "mse": square.detach()}
        parts["noise"] = self.log_noise.detach().exp().mean()
        return parts if self.training else parts | self._told(kl, mean)


class CvaeTwoStage(_Autoencoder):
    """Variational autoencoder of samples, then a decoder of its latents and the condition.

    Parameters
    ----------
    options : TwoStageOptions
    representation : Representation
    """

    name = "cvae-two-stage"
    options_type = TwoStageOptions

    def __init__(self, options: TwoStageOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        self.first_decoder = mlp(
            options.latent_size, options.hidden, self.size, activation=options.activation
        )
        self.first_log_noise = nn.Parameter(torch.full((self.size,), math.log(_FIRST_NOISE)))
        self.first_log_noise.requires_grad_(options.noise == "learned")

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._encode(x, c)
        z = _drawn(mean, log_variance)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        first, first_square = self._misfit(x, self.first_decoder(z), self.first_log_noise)
        known = z.detach()
        second, square = self._misfit(x, self._decode(known, c), self.log_noise)
        loss = first + self._charged(kl) + second
        if self.options.prior != "gauss":  # a fixed prior learns nothing, yet moves the loss
            loss = loss - self.prior.log_prob(known, c).mean()
        parts = {"loss": loss, "mse": square.detach(), "mse_first": first_square.detach()}
        parts["noise"] = self.log_noise.detach().exp().mean()
        return parts if self.training else parts | self._told(kl, mean)


def _drawn(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def _widths(hidden: Any) -> tuple[int, ...]:
    """Return widths as a tuple: JSON has lists, and a command line one number."""
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)
