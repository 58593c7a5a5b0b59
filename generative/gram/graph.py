"""Gram-graph: a message-passing encoder of environments, and a decoder that places atoms.

Each pair of atoms of an environment has a message, made of the numbers of both and of their
distance. An atom adds up what it is told; and, with weights that are told as well, the
directions to its neighbours, to vectors whose products are the angles. After some rounds the
mean over atoms makes latents: invariants, which a variational autoencoder keeps.

The decoder (`local`) places the atoms one at a time, in the frame that the first of them make.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..nets import mlp
from ..representation import Representation
from .local import LocalNetwork
from .placing import Mixture
from .sequence import Sequence, SequenceOptions
from .states import KINDS, States


@dataclass(frozen=True, kw_only=True)
class GraphOptions(SequenceOptions):
    """As those of `sequence`, with latents that are invariants, if any.

    Attributes
    ----------
    width, blocks : int
        Of the network of the decoder.
    message : int
        Numbers in a message of the encoder.
    gaussians : int
        Of the distances in it.
    """

    components: int = 4
    latents: str = "invariant"
    width: int = 192
    blocks: int = 2
    message: int = 32
    gaussians: int = 12

    # narrow densities of a place are precise regression, for which Muon is: after as many
    # steps 15 nats where Adam has 24
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            **{"batch_size": 64, "learning_rate": 1e-3, "optimizer": "muon", "warmup": 100},
            **{"clip": 5.0, "ema": 0.998},
        }
    }

    def __post_init__(self):
        super().__post_init__()
        if self.latents == "equivariant":
            msg = "latents of a graph are none or invariant, got 'equivariant'"
            raise ValueError(msg)
        if min(self.message, self.width) < 1 or self.gaussians < 2 or self.blocks < 0:
            msg = f"message, width from 1, blocks from 0, gaussians from 2, got {self}"
            raise ValueError(msg)


class GramGraph(Sequence):
    """Latents by messages between neighbours, and atoms placed in a frame of their own.

    Parameters
    ----------
    options : GraphOptions
    representation : Representation
    """

    name = "gram-graph"
    options_type = GraphOptions
    options: GraphOptions

    def __init__(self, options: GraphOptions, representation: Representation) -> None:
        super().__init__(options, representation)
        signal = options.latent_size if options.latents != "none" else 0
        self.decoder = LocalNetwork(
            self.most,
            width=options.width,
            blocks=options.blocks,
            components=options.components,
            signal=signal,
        )
        if signal:
            self.encoder = Graph(options)
            self.moments = nn.Linear(options.hidden, 2 * signal)

    def _components(self, states: States, z: Tensor | None) -> Mixture:
        return self.decoder(states, z)

    def _encode(self, states: States) -> tuple[Tensor, Tensor]:
        numbers = self.encoder(states).mean(1)
        mean, log_variance = self.moments(numbers).unsqueeze(-1).chunk(2, 1)
        return mean, (log_variance - 2).clamp(-12, 4)


class Graph(nn.Module):
    """Rounds of messages between the atoms of one state.

    Parameters
    ----------
    options : GraphOptions
    """

    def __init__(self, options: GraphOptions):
        super().__init__()
        o, rounds = options, range(options.layers)
        self.reach = o.reach
        self.register_buffer(
            "centres", torch.linspace(0, o.reach, o.gaussians), persistent=False
        )
        self.own = nn.Embedding(KINDS, o.hidden)
        self.distances = nn.ModuleList(nn.Linear(o.gaussians, o.message) for _ in rounds)
        self.hears = nn.ModuleList(nn.Linear(o.hidden, o.message) for _ in rounds)
        self.tells = nn.ModuleList(nn.Linear(o.hidden, o.message, bias=False) for _ in rounds)
        self.weighs = nn.ModuleList(
            mlp(o.message, (o.message,), 2 * o.channels) for _ in rounds
        )
        inputs = o.hidden + o.message + 3 * o.channels
        self.thinks = nn.ModuleList(mlp(inputs, (o.hidden,), o.hidden) for _ in rounds)

    def forward(self, states: States) -> Tensor:
        """Return numbers (m, s, hidden) of the atoms, which are all there."""
        off = states.atoms.unsqueeze(1) - states.atoms.unsqueeze(2)
        distance = off.norm(dim=-1, keepdim=True)
        toward = (off / distance.clamp(min=1e-9)).mT  # (m, s, 3, s)
        centres = self.get_buffer("centres")
        width = self.reach / (len(centres) - 1)
        bumps = torch.exp(-0.5 * ((distance - centres) / width) ** 2)
        # an atom is not its own neighbour
        smooth = torch.cos(0.5 * torch.pi * (distance / self.reach).clamp(max=1)) ** 2
        smooth = smooth * (distance > 0)
        numbers = self.own(states.kinds[:, 0])
        for i, think in enumerate(self.thinks):
            heard = self.hears[i](numbers).unsqueeze(2) + self.tells[i](numbers).unsqueeze(1)
            message = nn.functional.silu(self.distances[i](bumps) + heard) * smooth
            left, right = (toward @ (self.weighs[i](message) * smooth)).chunk(2, -1)
            products = [(left * right).sum(-2), left.square().sum(-2), right.square().sum(-2)]
            numbers = numbers + think(torch.cat([numbers, message.sum(2), *products], -1))
        return numbers
