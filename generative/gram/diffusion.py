"""Environments from noise: one diffusion for whole ones, another for atoms that are missing.

Whole environments come in the frame and with the labels of the representation. In the
canonical frame they fill a linear space of 3n - 3 dimensions, since Σ t_i × x_i = 0 for all
that lie best on the template t; so noise is of that space alone. The density is exact, in
nats, with Å along orthonormal axes of that space: a density of shapes, of which each has one
frame. What lies beside the space is not looked at.

Missing atoms are drawn by a network that needs no frame (`generative.gram.filling`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..model import Model, Options
from ..nets import ACTIVATIONS
from ..representation import Batch, Representation
from ..score import Score
from .denoising import START, Denoiser, draw, log_density
from .filling import Filling

_NO_WIDTH = 1e-4  #: principal axes that are narrower than the widest by this are rounding
_TRAINING = {"learning_rate": 2e-3, "ema": 0.999, "patience": 0}


@dataclass(frozen=True, kw_only=True)
class GramDiffusionOptions(Options):
    """Sizes of the networks, and how finely noise is taken off.

    Attributes
    ----------
    width, blocks : int
        Of the network for whole environments.
    activation : str
        One of `nets.ACTIVATIONS`.
    dropout : float
    steps : int
        Of second order, for draws.
    density_steps : int
        For the density, where each costs a Jacobian.
    filling : bool
        Whether a second network learns to draw missing atoms.
    hidden, rounds : int
        Of that one: numbers of an atom, and how often atoms tell each other where they are.
    filling_steps : int
        For draws of missing atoms, which want fewer.
    """

    width: int = 128
    blocks: int = 3
    activation: str = "silu"
    dropout: float = 0.0
    steps: int = 32
    density_steps: int = 60
    filling: bool = True
    hidden: int = 64
    rounds: int = 3
    filling_steps: int = 16

    #: "small" is for some hundred environments
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"small": {"dropout": 0.1}}
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        # some 2000 steps for 512 atoms; of 13824 atoms, 100 to 150 epochs do
        "default": _TRAINING | {"epochs": 450, "batch_size": 64, "learning_rate": 3e-3},
        "small": _TRAINING | {"epochs": 500, "batch_size": 64},
    }

    def __post_init__(self):
        positive = ("width", "hidden", "rounds", "steps", "density_steps", "filling_steps")
        for name in ("blocks", *positive):
            least = int(name in positive)
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 <= self.dropout < 1:
            msg = f"dropout must be within [0, 1), got {self.dropout}"
            raise ValueError(msg)
        if self.activation not in ACTIVATIONS:
            msg = f"activation must be {', '.join(ACTIVATIONS)}, got {self.activation!r}"
            raise ValueError(msg)


class GramDiffusion(Model):
    """Denoising diffusion of environments.

    Parameters
    ----------
    options : GramDiffusionOptions
    representation : Representation
        Of positions (n, 3) in Å.

    Attributes
    ----------
    mean : (3n,) tensor
        Of the training data, Å.
    scale : tensor
        Å, deviation of a coordinate.
    """

    name = "gram-diffusion"
    options_type = GramDiffusionOptions
    sees = "environment"
    standardised = False
    options: GramDiffusionOptions
    mean: Tensor
    scale: Tensor

    def __init__(self, options: GramDiffusionOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        size = 3 * self.shape[0]
        self.network = Denoiser(
            *(self.shape[0], self.condition_size),
            width=options.width,
            blocks=options.blocks,
            activation=options.activation,
            dropout=options.dropout,
        )
        self.filling = None
        if options.filling and self.shape[0] > 1:
            self.filling = Filling(
                representation, hidden=options.hidden, rounds=options.rounds
            )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(()))

    def standardise(self, batches: Iterator[Batch]) -> None:
        kept = list(batches)
        super().standardise(iter(kept))
        x = torch.cat([batch.x for batch in kept])
        if self.filling is not None:
            self.filling.scale.copy_(x.double().square().mean().sqrt())
        rows = x.flatten(1).double().cpu()
        self.mean.copy_(rows.mean(0))
        variances, axes = torch.linalg.eigh(torch.cov(rows.T, correction=0))
        used = axes[:, variances > _NO_WIDTH**2 * variances.max()]
        scale = (variances.sum() / max(used.shape[1], 1)).sqrt()
        self.scale.copy_(scale if scale > 0 else torch.ones(()))
        self.network.space.copy_(used @ used.T)
        self.network.middle.copy_((self.mean / self.scale).unflatten(0, self.shape))

    def infill(
        self, known: Tensor, condition: Tensor, n: int, generator: torch.Generator
    ) -> Tensor:
        """Draw environments (m, n, atoms, 3) whose first atoms are the known ones.

        Parameters
        ----------
        known : (m, k, 3) tensor
            Å, about the centre, in any order and frame.
        condition : (m, condition_size) tensor
            In the same frame.
        n : int
        generator : torch.Generator

        Raises
        ------
        ValueError
            If too few or too many atoms are known, or the model did not learn to fill in.
        """
        if self.filling is None:
            msg = "this model was trained with filling=false; train one that fills in"
            raise ValueError(msg)
        return self.filling.draw(known, condition, n, generator, self.options.filling_steps)

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        y = self._inside(x)
        whole = self.network.error(y, c).mean()
        if self.filling is None:
            return {"loss": whole}
        raw = c * self.condition_spread + self.condition_centre
        missing = self.filling.loss(x, raw)
        return {"loss": whole + missing, "whole": whole.detach(), "missing": missing.detach()}

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        shape = len(c) * n, len(self.mean)
        noise = torch.randn(shape, generator=generator, device=c.device, dtype=c.dtype)
        start = START * noise @ self.network.space
        y = draw(self._denoised, start, c.repeat_interleave(n, 0), self.options.steps)
        return (self.mean + self.scale * y).reshape(len(c), n, *self.shape)

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:
        dimensions = float(self.network.space.diagonal().sum())
        value = log_density(
            *(self._denoised, self._inside(x), c, dimensions, self.options.density_steps)
        )
        return Score(value - dimensions * self.scale.log(), "exact")

    def _denoised(self, y: Tensor, sigma: Tensor, c: Tensor) -> Tensor:
        return self.network.denoised(y, sigma, c)

    def _inside(self, x: Tensor) -> Tensor:
        """Return what of samples (m, 3n) lies in the space of the data, with variance 1."""
        return (x.flatten(1) - self.mean) / self.scale @ self.network.space
