"""A regressor: one point for each condition, and no distribution.

The plain baseline that a generative model must beat. Trained on the squared error it tends to
the mean of all that is possible: where momenta have several geometries, to none of them. On
the error itself, the length of its vector, it tends to the (spatial) median: to the geometry
that is more probable than all others together, where there is one.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .model import Model, Options
from .nets import ACTIVATIONS, never_empty
from .representation import Representation

LOSSES = ("plain", "median", "permutations")

_SMOOTH = 1e-6  #: squared error below which a length counts as its square


@dataclass(frozen=True, kw_only=True)
class MlpOptions(Options):
    """Sizes of the network.

    Attributes
    ----------
    width : int
    blocks : int
        Of two layers each.
    activation : str
        One of `nets.ACTIVATIONS`.
    loss : str
        The squared error: "plain", or "permutations", the least over all exchanges of
        identical ions; or its root for each sample, "median".
    """

    width: int = 256
    blocks: int = 3
    activation: str = "silu"
    loss: str = "plain"

    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {"default": {"optimizer": "muon"}}
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"coordinates": "shape", "size": "ker", "conditions": ("scale-free",)}
    }

    def __post_init__(self):
        for name, least in (("width", 1), ("blocks", 0)):
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}"
                raise ValueError(msg)
        for name, allowed in (("activation", ACTIVATIONS), ("loss", LOSSES)):
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {', '.join(allowed)}, got {getattr(self, name)!r}"
                raise ValueError(msg)


class Mlp(Model):
    """Residual regressor: the mean of the samples of a condition.

    Parameters
    ----------
    options : MlpOptions
    representation : Representation
        With `component_orders` for the loss over permutations.
    """

    name = "mlp"
    options_type = MlpOptions
    options: MlpOptions
    _orders: Tensor | None

    def __init__(self, options: MlpOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        self.network = Regressor(
            max(self.condition_size, 1),
            options.width,
            options.blocks,
            math.prod(self.shape),
            activation=options.activation,
        )
        orders = None
        if options.loss == "permutations":
            orders = _orders(representation)
        self.register_buffer("_orders", orders, persistent=False)

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        point = self.network(never_empty(c))
        orders = self._orders
        if orders is None:
            square = ((point - x.flatten(1)) ** 2).mean(1)
            if self.options.loss == "plain":
                return {"loss": square.mean()}
            length = (square + _SMOOTH).sqrt() - _SMOOTH**0.5
            return {"loss": length.mean(), "mse": square.mean()}
        # an exchange takes components from one scale to another
        spread, centre = self.spread.flatten(), self.centre.flatten()
        exchanged = ((x.flatten(1) * spread + centre)[:, orders] - centre) / spread
        return {"loss": ((point[:, None] - exchanged) ** 2).mean(2).min(1).values.mean()}

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        point = self.network(never_empty(c)).reshape(len(c), 1, *self.shape)
        return point.expand(len(c), n, *self.shape)


def _orders(representation: Representation) -> Tensor:
    """Return how exchanges of identical ions reorder a sample, (orders, size)."""
    table = getattr(representation, "component_orders", None)
    if table is None:
        msg = f"{representation.kind} knows no identical ions to exchange"
        raise ValueError(msg)
    return torch.as_tensor(table())


class Regressor(nn.Module):
    """Blocks x + f(x) of two layers and one width, between two dense layers.

    Without normalisation of layers: it costs precision where all inputs have one scale.
    """

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, *, activation: str):
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                ACTIVATIONS[activation](),
                nn.Linear(width, width),
                ACTIVATIONS[activation](),
                nn.Linear(width, width),
            )
            for _ in range(blocks)
        )
        self.leave = nn.Sequential(ACTIVATIONS[activation](), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        return self.leave(h)
