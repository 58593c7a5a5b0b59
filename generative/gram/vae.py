"""An autoencoder of environments that sees them by their Gram matrix, in no frame at all.

The upper triangle of G = X Xᵀ, scaled by four numbers, goes through a narrow network to
latents z and back (36-28-18-8 for 8 neighbours). The encoder is invariant by construction. The
decoder gives either

- "gram": a triangle, as published, of any rank; positions follow by factorisation; or
- "coordinates": positions X', compared through X' X'ᵀ: rank 3 by construction.

Draws of z, from the normal distribution or a flow that learns where training put the latents,
become environments, and are laid onto the mean environment of the training data, so that
canonical labels come in the canonical frame.

Training minimises, in nats, a misfit and the divergence of the latents from their prior,

    (3n - 3) / 2 [ d² / σ² + log 2πσ² ] + KL(q(z | G) || p(z)),

d² being the mean squared difference of scaled entries of G, or of coordinates after the best
rotation (divided by their variance), or both in equal parts. σ is what the latents are not to
care about: a number, or learned, which of few data learns that of the training set. The misfit
counts the 3n - 3 degrees of freedom of an environment, whose orientation it leaves open: this
is no bound of a density of positions, and the model has no `log_prob`. Of latents that cannot
hold an environment the decoder's point is a mean, in which atoms come too near each other:
`repulsion` is a price for pairs that are closer than any in training.

Mirror images have the same G. With `mirror="SO3"` the encoder is told which of the two it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..model import Model, Options
from ..nets import ACTIVATIONS, mlp
from ..priors import PRIORS, make_prior
from ..representation import Batch, Representation
from .gram import Normaliser, factor, from_upper, gram, handedness, spectrum, upper
from .synchronise import align, procrustes_loss

DECODERS = ("coordinates", "gram")
MISFITS = ("gram", "positions", "both", "published")

_FIRST_NOISE = 0.3  #: σ before it learns
_LARGEST_LOG_VARIANCE = 20.0
_TRAINING = {"epochs": 1000, "batch_size": 64, "learning_rate": 3e-3, "patience": 0}


@dataclass(frozen=True, kw_only=True)
class GramVaeOptions(Options):
    """Sizes and choices of the autoencoder.

    Attributes
    ----------
    latents : int
    hidden : tuple of int
        Widths of the encoder; the decoder has them mirrored.
    activation : str
        One of `nets.ACTIVATIONS`.
    decoder : str
        One of `DECODERS`.
    prior : str
        One of `priors.PRIORS`.
    misfit : str
        What d² is of: "gram", "positions", or "both" in equal parts; or "published", the
        squared error of all scaled entries of G summed, with a σ of √½.
    noise : float
        σ, in deviations of the data; 0: learned.
    kl_weight : float
        Of the divergence.
    repulsion : float
        Nats for each pair that overlaps completely, of decoded data and of draws.
    """

    latents: int = 8
    hidden: tuple[int, ...] = (28, 18)
    activation: str = "tanh"
    decoder: str = "coordinates"
    prior: str = "gauss"
    misfit: str = "both"
    noise: float = 0.1
    kl_weight: float = 1.0
    repulsion: float = 1000.0

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {
            "decoder": "gram",
            "misfit": "published",
            "repulsion": 0.0,
        },
        "large": {
            "latents": 21,
            "hidden": (128, 64),
            "activation": "silu",
            "noise": 0.05,
            "prior": "flow",
        },
    }
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"ema": 0.99, "weight_decay": 0.1} | _TRAINING,
        "published": _TRAINING,
        "large": {"ema": 0.99} | _TRAINING | {"epochs": 40},
    }
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {"labels": "augment", "frame": "given"}
    }

    def __post_init__(self):
        hidden = (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)
        object.__setattr__(self, "hidden", hidden)
        if self.latents < 1:
            msg = f"latents must be at least 1, got {self.latents}"
            raise ValueError(msg)
        for name in ("noise", "kl_weight", "repulsion"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"{name} must be 0 or more, got {getattr(self, name)}"
                raise ValueError(msg)
        choices = {"activation": ACTIVATIONS, "decoder": DECODERS}
        choices |= {"prior": PRIORS, "misfit": MISFITS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.decoder == "gram" and self.misfit in ("positions", "both"):
            msg = "a decoder of G gives no positions to compare: misfit gram or published"
            raise ValueError(msg)


class GramVae(Model):
    """Autoencoder of Gram matrices.

    Parameters
    ----------
    options : GramVaeOptions
    representation : Representation
        Of positions (n, 3) in Å.

    Attributes
    ----------
    mean : (n, 3) tensor
        Mean environment of the training data; `scale` is the deviation of a coordinate from
        it, and `shortest` the least squared distance of two atoms.
    """

    name = "gram-vae"
    options_type = GramVaeOptions
    sees = "environment"
    standardised = False
    options: GramVaeOptions
    log_noise: Tensor
    mean: Tensor
    scale: Tensor
    shortest: Tensor

    def __init__(self, options: GramVaeOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        o = options
        self.atoms = self.shape[0]
        #: whether mirror images are told apart
        self.proper = getattr(representation, "mirror", "O3") == "SO3"
        if self.proper and (o.decoder == "gram" or o.misfit in ("gram", "published")):
            msg = "G has no mirror images: mirror=SO3 wants misfit positions or both"
            raise ValueError(msg)
        entries = self.atoms * (self.atoms + 1) // 2
        self.degrees = max(3 * self.atoms - 3, 1)
        self.normaliser = Normaliser(self.atoms)
        dense = {"activation": o.activation}
        inputs = entries + self.proper + self.condition_size
        self.encoder = mlp(inputs, o.hidden, 2 * o.latents, **dense)
        outputs = entries if o.decoder == "gram" else 3 * self.atoms
        self.decoder = mlp(o.latents + self.condition_size, o.hidden[::-1], outputs, **dense)
        self.prior = make_prior(
            o.prior, o.latents, self.condition_size, hidden=o.hidden, **dense
        )
        terms = {"published": (), "both": ("gram", "positions")}
        self.terms: tuple[str, ...] = terms.get(o.misfit, (o.misfit,))
        log_noise = torch.full((len(self.terms),), math.log(o.noise or _FIRST_NOISE))
        if o.noise or not self.terms:
            self.register_buffer("log_noise", log_noise, persistent=False)
        else:
            self.log_noise = nn.Parameter(log_noise)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shortest", torch.zeros(()))

    def standardise(self, batches: Iterator[Batch]) -> None:
        kept = list(batches)
        super().standardise(iter(kept))
        x = torch.cat([batch.x for batch in kept])
        self.normaliser.learn(upper(gram(x)))
        self.mean.copy_(x.double().mean(0))
        scale = (x.double() - self.mean).square().mean().sqrt()
        self.scale.copy_(scale if scale > 0 else torch.ones(()))
        self.shortest.copy_(min(self._pairs(gram(batch.x)).min() for batch in kept))

    # -- latents, for those who interpolate and fill in

    def encode(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the mean latents (m, latents) of positions (m, n, 3), in any frame."""
        return self._encoded(self._entries(x), x, self._scaled_condition(condition))[0]

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return positions (m, n, 3) of latents (m, latents), laid onto the mean environment.

        Those of a decoder of coordinates have a gradient; those of a decoder of G do not, and
        `decode_gram` is to be used.
        """
        return self._laid(self._decoded(z, self._scaled_condition(condition)))

    def decode_gram(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return Gram matrices (m, n, n) of latents, as the decoder gives them, in Å²."""
        decoded = self._decoded(z, self._scaled_condition(condition))
        if self.options.decoder == "gram":
            return from_upper(self.normaliser.unscale(decoded))
        return gram(decoded)

    def reconstruction(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return environments encoded and decoded again, (m, n, 3)."""
        return self.decode(self.encode(x, condition), condition)

    # -- in scaled numbers; positions stay in Å

    def _entries(self, x: Tensor) -> Tensor:
        return self.normaliser.scale(upper(gram(x)))

    def _encoded(self, entries: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of latents."""
        seen = [entries, c] + ([handedness(x)[:, None]] if self.proper else [])
        mean, log_variance = self.encoder(torch.cat(seen, 1)).chunk(2, 1)
        return mean, log_variance.clamp(-_LARGEST_LOG_VARIANCE, _LARGEST_LOG_VARIANCE)

    def _decoded(self, z: Tensor, c: Tensor) -> Tensor:
        """Return scaled entries of G, or positions in the decoder's own frame."""
        out = self.decoder(torch.cat([z, c], 1))
        if self.options.decoder == "gram":
            return out
        return self.mean + self.scale * out.unflatten(1, self.shape)

    def _laid(self, decoded: Tensor) -> Tensor:
        if self.options.decoder == "gram":
            decoded = factor(from_upper(self.normaliser.unscale(decoded)).detach())
        q = align(self.mean.expand_as(decoded), decoded.detach(), proper=self.proper)
        return decoded @ q

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        entries = self._entries(x)
        mean, log_variance = self._encoded(entries, x, c)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        kl = self.prior.kl(mean, log_variance, z, c).sum(1).mean()
        decoded = self._decoded(z, c)
        free = self.options.decoder == "gram"
        seen = decoded if free else self._entries(decoded)
        square = {"gram": ((seen - entries) ** 2).mean()}
        if not free:
            apart = procrustes_loss(x, decoded, proper=self.proper).mean()
            square["positions"] = apart / (3 * self.atoms * self.scale**2)
        loss = self._misfit(square) + self.options.kl_weight * kl
        if self.options.repulsion:
            loss = loss + self.options.repulsion * self._overlap(decoded, z, c)
        parts = {f"mse_{key}": value.detach() for key, value in square.items()}
        return {"loss": loss, "kl": kl.detach(), **parts}

    def _misfit(self, square: dict[str, Tensor]) -> Tensor:
        if not self.terms:
            return square["gram"] * (self.atoms * (self.atoms + 1) // 2)
        squares = torch.stack([square[term] for term in self.terms])
        variance = (2 * self.log_noise).exp()
        nats = squares / variance + (2 * math.pi * variance).log()
        return self.degrees / 2 * nats.mean()

    def _overlap(self, decoded: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """Return how much pairs overlap, per environment, of decoded data and of draws.

        Latents of other samples of the batch, mixed, stand for draws.
        """
        mixed = torch.lerp(z, z.roll(1, 0), torch.rand_like(z[:, :1])).detach()
        both = torch.cat([decoded, self._decoded(mixed, c)])
        if self.options.decoder == "gram":
            matrices = from_upper(self.normaliser.unscale(both))
        else:
            matrices = gram(both)
        short = (1 - self._pairs(matrices) / self.shortest).clamp(min=0)
        return (short**2).sum(1).mean()

    def _pairs(self, matrices: Tensor) -> Tensor:
        """Return the squared distances of neighbours from each other, and from the centre."""
        lengths = matrices.diagonal(dim1=1, dim2=2)
        apart = lengths[:, :, None] + lengths[:, None] - 2 * matrices
        i, j = torch.triu_indices(self.atoms, self.atoms, 1, device=matrices.device)
        return torch.cat([apart[:, i, j], lengths], 1)

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        z = self.prior.sample(c, n, generator).flatten(0, 1)
        drawn = self._laid(self._decoded(z, c.repeat_interleave(n, 0)))
        return drawn.unflatten(0, (len(c), n))


@torch.no_grad()
def decoded_spectra(model: Model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of Gram matrices of a file's atoms, and of those decoded again.

    Returns
    -------
    real, decoded : (m, n) array
        Å², the largest first.

    Raises
    ------
    ValueError
        If the model is no autoencoder of Gram matrices.
    """
    if not isinstance(model, GramVae):
        msg = f"{model.name} decodes no Gram matrices; gram-vae does"
        raise ValueError(msg)
    seen: Any = model.representation
    encoded = seen.encode(seen.whole(path), np.random.default_rng(0))
    x, condition = map(torch.from_numpy, encoded)
    x, condition = x.to(model.centre), condition.to(model.centre)
    decoded = model.decode_gram(model.encode(x, condition), condition)
    real, again = (spectrum(g.double()).numpy() for g in (gram(x), decoded))
    return real, again
