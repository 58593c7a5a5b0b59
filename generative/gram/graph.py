"""Gram-graph: a message-passing encoder of environments, and a decoder that places atoms.

The atoms of an environment tell each other where they are (`messages`). After some rounds the
mean of their numbers makes latents: invariants, which a variational autoencoder keeps.

The decoder (`local`) places the atoms one at a time, in the frame that the first of them make.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..representation import Representation
from .local import LocalNetwork
from .messages import Messages
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
            self.kinds = nn.Embedding(KINDS, options.hidden)
            self.encoder = Messages(
                hidden=options.hidden,
                message=options.message,
                channels=options.channels,
                rounds=options.layers,
                gaussians=options.gaussians,
                reach=options.reach,
            )
            self.moments = nn.Linear(options.hidden, 2 * signal)

    def _components(self, states: States, z: Tensor | None) -> Mixture:
        return self.decoder(states, z)

    def _encode(self, states: States) -> tuple[Tensor, Tensor]:
        numbers = self.kinds(states.kinds[:, 0])
        told = self.encoder(states.atoms, numbers, hear=numbers.shape[1])
        mean, log_variance = self.moments(told.numbers.mean(1)).unsqueeze(-1).chunk(2, 1)
        return mean, (log_variance - 2).clamp(-12, 4)
