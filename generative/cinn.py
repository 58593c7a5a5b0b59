"""Conditional invertible networks: positions and a normal latent, one to one, given momenta.

`cinn` is a chain of affine couplings from x to z, trained by its exact likelihood

    -log p(x | c) = |z|²/2 + d/2 log 2π - log |det dz/dx|.

(The proposal prints + before the determinant; with that sign the loss has no lower bound.)

`cinn-latent`, of the slides, encodes positions as a Gaussian of a latent z, makes of momenta
a vector h, runs couplings given h in reverse, and decodes. Its loss is a squared error and a
weighted KL divergence, no likelihood: it can be sampled only.

References
----------
L. Ardizzone et al., Guided image generation with conditional invertible neural networks
(2019), arXiv:1907.02392.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .couplings import Couplings
from .latents import Latents
from .model import Model, Options
from .nets import ACTIVATIONS, mlp, never_empty
from .normalising import Normalising
from .priors import Gauss
from .representation import Batch, Representation

LATENTS = ("stored", "gaussian", "prior")

#: how both were trained: Adam at a constant 1e-4 in batches of 512, stopped early
_PUBLISHED_TRAINING = {
    "epochs": 1000,
    "batch_size": 512,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "warmup": 0,
    "clip": 0.0,
}
_PUBLISHED_REPRESENTATION = {
    "coordinates": "positions",
    "frame": "given",
    "conditions": ("momenta",),
}


@dataclass(frozen=True, kw_only=True)
class CinnOptions(Options):
    """Sizes of the couplings.

    Attributes
    ----------
    couplings : int
    width : int
        Of the two hidden layers of each.
    limit : float
        Of the logarithm of a scale: no coupling stretches by more than exp(limit).
    """

    couplings: int = 12
    width: int = 128
    limit: float = 2.0

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"published": {"couplings": 20}}
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"ema": 0.999},
        "published": _PUBLISHED_TRAINING,
    }
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            "coordinates": "shape",
            "conditions": ("scale-free", "log-ker", "noise"),
            "noise": (0.003, 0.1),
        },
        "published": _PUBLISHED_REPRESENTATION,
    }

    def __post_init__(self):
        _check_couplings(self.couplings, self.width, self.limit)


class Cinn(Normalising):
    """Affine couplings from samples to a normal distribution, given the condition.

    Parameters
    ----------
    options : CinnOptions
    representation : Representation
    """

    name = "cinn"
    options_type = CinnOptions

    def __init__(self, options: CinnOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        self.couplings = Couplings(
            self.size,
            self.condition_size,
            couplings=options.couplings,
            width=options.width,
            limit=options.limit,
        )

    def to_normal(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.couplings(x.flatten(1), c)

    def from_normal(self, z: Tensor, c: Tensor) -> Tensor:
        told = c.repeat_interleave(z.shape[1], dim=0)
        return self.couplings.inverse(z.flatten(0, 1), told).reshape(z.shape)

    @torch.no_grad()
    def reconstruction(self, x: Tensor, condition: Tensor) -> Tensor:
        """Pass samples (m, *shape) to z and back: the proposal's test, and no prediction.

        It returns what it is given, whatever was learned, up to rounding.
        """
        c = self._scaled_condition(condition)
        z, _ = self.to_normal(self._scaled(x), c)
        back = self.from_normal(z[:, None], c)
        return back.reshape(x.shape) * self.spread + self.centre


@dataclass(frozen=True, kw_only=True)
class CinnLatentOptions(Options):
    """Sizes of encoder, condition network, couplings and decoder.

    Attributes
    ----------
    latent_size, told_size : int
        Length of z, and of what the condition network makes of a condition.
    hidden : tuple of int
        Layers of encoder and decoder (there in reverse), and of the condition network.
    activation : str
        Of those.
    couplings, width, limit
        As of `CinnOptions`.
    kl_weight : float
        Of the KL divergence of a latent, in nats, against the squared error, in its mean over
        components.
    latent : str
        Where latents of a new condition come from: what training left, "stored" or a fitted
        "gaussian", or the "prior".
    """

    latent_size: int = 9
    told_size: int = 64
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "elu"
    couplings: int = 8
    width: int = 128
    limit: float = 2.0
    kl_weight: float = 0.01
    latent: str = "stored"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"published": {"hidden": (1024, 512)}}
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {"published": _PUBLISHED_TRAINING}
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"coordinates": "centred"},
        "published": _PUBLISHED_REPRESENTATION,
    }

    def __post_init__(self):
        # JSON has lists, and a command line one number
        hidden = (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)
        object.__setattr__(self, "hidden", hidden)
        _check_couplings(self.couplings, self.width, self.limit)
        for name in ("latent_size", "told_size"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 <= self.kl_weight < math.inf:
            msg = f"kl_weight must be 0 or more, got {self.kl_weight}"
            raise ValueError(msg)
        for name, allowed in (("activation", ACTIVATIONS), ("latent", LATENTS)):
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)


class CinnLatent(Model):
    """Encoder, couplings in the latent given momenta, run in reverse, and decoder.

    Parameters
    ----------
    options : CinnLatentOptions
    representation : Representation
    """

    name = "cinn-latent"
    options_type = CinnLatentOptions

    def __init__(self, options: CinnLatentOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        self.chosen = o = options
        size, latent = math.prod(self.shape), o.latent_size
        dense = {"activation": o.activation}
        self.encoder = mlp(size, o.hidden, 2 * latent, **dense)
        self.listener = mlp(max(self.condition_size, 1), o.hidden[::-1], o.told_size, **dense)
        self.couplings = Couplings(
            *(latent, o.told_size), couplings=o.couplings, width=o.width, limit=o.limit
        )
        self.decoder = mlp(latent, o.hidden[::-1], size, **dense)
        self.prior = Gauss(latent)
        self.latents = Latents(latent)

    @torch.no_grad()
    def finish(self, batches: Iterator[Batch]) -> None:
        self.latents.learn(
            self._drawn(*self._encode(self._scaled(batch.x))) for batch in batches
        )

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._encode(x)
        z = self._drawn(mean, log_variance)
        square = ((self._decode(z, c) - x.flatten(1)) ** 2).mean()
        kl = self.prior.kl(mean, log_variance, z, c).sum(1).mean()
        return {"loss": square + self.chosen.kl_weight * kl, "mse": square, "kl": kl}

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        if self.chosen.latent == "stored":
            z = self.latents.draw_stored(len(c), n, generator)
        elif self.chosen.latent == "gaussian":
            z = self.latents.draw_gaussian(len(c), n, generator)
        else:
            z = self.prior.sample(c, n, generator)
        drawn = self._decode(z.flatten(0, 1), c.repeat_interleave(n, dim=0))
        return drawn.reshape(len(c), n, *self.shape)

    @torch.no_grad()
    def reconstruction(self, x: Tensor, condition: Tensor) -> Tensor:
        """Encode samples (m, *shape) and decode them: no prediction, since it sees them."""
        mean, _ = self._encode(self._scaled(x))
        back = self._decode(mean, self._scaled_condition(condition))
        return back.reshape(x.shape) * self.spread + self.centre

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (m, latent)."""
        mean, log_variance = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance

    def _drawn(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def _decode(self, z: Tensor, c: Tensor) -> Tensor:
        return self.decoder(self.couplings.inverse(z, self.listener(never_empty(c))))


def _check_couplings(couplings: int, width: int, limit: float) -> None:
    if couplings < 1 or width < 1:
        msg = f"couplings and width must be at least 1, got {couplings} and {width}"
        raise ValueError(msg)
    if not 0 < limit < math.inf:
        msg = f"limit must be positive, got {limit}"
        raise ValueError(msg)
