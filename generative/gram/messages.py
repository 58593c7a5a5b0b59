"""Messages between points: numbers and vectors that turn with them, and do not know an order.

Each pair of points has a message, made of the numbers of both and of their distance. A point
adds up what it is told; and, with weights that are told as well, the directions to the others,
to vectors. Products of these are the angles, and make numbers again. After some rounds a point
has numbers, which are the same for points turned or mirrored, and vectors, which turn.

Messages like these are those of V. Garcia Satorras et al. (2021, arXiv:2102.09844) and K. T.
Schütt et al. (2021, arXiv:2102.03150).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..nets import mlp

_NEAR = 1e-3  #: added to distances, which have a gradient at 0 then


class Told(NamedTuple):
    """What points know in the end."""

    numbers: Tensor  #: (m, h, hidden), of those that hear; as after the last thought
    vectors: Tensor  #: (m, h, 3, 2 channels)
    messages: Tensor  #: (m, h, s, message) to each of them from each point; 0 from itself
    toward: Tensor  #: (m, h, s, 3), directions from each of them to each point


class Messages(nn.Module):
    """Some rounds of messages between all points.

    Parameters
    ----------
    hidden, message, channels : int
        Numbers of a point, of a message, and half the vectors of a point.
    rounds : int
    gaussians : int
        Functions of the distance.
    reach : float
        How far these reach; beyond, distances are told by their logarithm alone.
    proper : bool
        Whether products of three vectors are told, of which a mirror changes the sign.
    numbers : bool
        Whether numbers are wanted after the last round, or its messages and vectors alone.
    """

    def __init__(
        self,
        *,
        hidden: int,
        message: int,
        channels: int,
        rounds: int,
        gaussians: int,
        reach: float,
        proper: bool = False,
        numbers: bool = True,
    ):
        super().__init__()
        self.proper, self.vectors = proper, 2 * channels
        count, thoughts = range(rounds), range(rounds if numbers else rounds - 1)
        told = hidden + message + (4 if proper else 3) * channels
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in count)
        self.distances = nn.ModuleList(nn.Linear(gaussians + 2, message) for _ in count)
        self.hears = nn.ModuleList(nn.Linear(hidden, message) for _ in count)
        self.tells = nn.ModuleList(nn.Linear(hidden, message, bias=False) for _ in count)
        self.mixes = nn.ModuleList(nn.Linear(message, message) for _ in count)
        self.weighs = nn.ModuleList(nn.Linear(message, 2 * channels) for _ in count)
        self.turns = nn.ModuleList(
            nn.Linear(2 * channels, 2 * channels, bias=False) for _ in thoughts
        )
        self.thinks = nn.ModuleList(mlp(told, (hidden,), hidden) for _ in thoughts)
        self.register_buffer("centres", torch.linspace(0, reach, gaussians), persistent=False)

    def forward(self, points: Tensor, numbers: Tensor, hear: int) -> Told:
        """Let points (m, s, 3) with numbers (m, s, hidden) tell each other.

        The first `hear` of them hear; others only tell, which costs less.
        """
        off = points.unsqueeze(1) - points[:, :hear].unsqueeze(2)
        distance = (off.square().sum(-1, keepdim=True) + _NEAR**2).sqrt()
        toward = off / distance
        seen = self._functions(distance)
        others = 1 - torch.eye(hear, points.shape[1], device=points.device).unsqueeze(-1)
        share = points.shape[1] ** -0.5
        numbers, silent = numbers[:, :hear], numbers[:, hear:]
        vectors = points.new_zeros(*points[:, :hear].shape, self.vectors)
        messages = seen
        for i in range(len(self.hears)):
            own = self.norms[i](numbers)
            told = self.tells[i](torch.cat([own, silent], 1))
            heard = self.hears[i](own).unsqueeze(2) + told.unsqueeze(1)
            messages = nn.functional.silu(self.distances[i](seen) + heard)
            messages = nn.functional.silu(self.mixes[i](messages)) * others
            vectors = vectors + toward.mT @ self.weighs[i](messages)
            if i == len(self.thinks):
                break
            left, right = self.turns[i](vectors).chunk(2, -1)
            products = [(left * right).sum(-2), left.square().sum(-2), right.square().sum(-2)]
            if self.proper:
                across = torch.linalg.cross(left, right, dim=-2)
                products.append((across * left.roll(1, -1)).sum(-2))
            told = torch.cat([own, share * messages.sum(2), *products], -1)
            numbers = numbers + self.thinks[i](told)
        return Told(numbers, vectors, messages, toward)

    def _functions(self, distance: Tensor) -> Tensor:
        """Return functions (..., gaussians + 2) of distances (..., 1)."""
        centres = self.get_buffer("centres")
        width = centres[1] - centres[0]
        bumps = torch.exp(-0.5 * ((distance - centres) / width) ** 2)
        return torch.cat([bumps, distance.log(), 1 / (1 + distance)], -1)
