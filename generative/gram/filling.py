"""Atoms that are missing from an environment, drawn given those that are there.

A diffusion of the missing atoms alone. What takes the noise off sees them, the known ones, the
centre, and outer neighbours if they are the condition, as points that tell each other where
they are (`messages`): it needs no frame, no order, and no label that an atom it does not know
could decide. Turned or mirrored, the same atoms have the same completions, turned and mirrored
with them; with `mirror=SO3` a mirror may change them.

Training leaves out any atoms, up to half of them.
"""

import torch
from torch import Tensor, nn

from ..nets import mlp
from ..representation import Representation
from .denoising import START, Blurred, cleaned, draw, waves
from .messages import Messages

CENTRE, KNOWN, OUTER, MISSING = range(4)
_REACH = 6.0  #: Å, of functions of the distance
_FIRST = 0.1  #: of the usual size of weights of the last layer, before training
_TOGETHER = 1 << 18  #: pairs of points, when drawn


class Filling(nn.Module):
    """A diffusion of missing atoms.

    Parameters
    ----------
    representation : Representation
        Of positions (n, 3) in Å, and of outer neighbours, 3 numbers each.
    hidden, rounds : int
        Numbers of an atom, and how often all atoms tell each other.

    Attributes
    ----------
    scale : tensor
        Å, of a coordinate.
    """

    scale: Tensor

    def __init__(self, representation: Representation, *, hidden: int, rounds: int):
        super().__init__()
        self.atoms = representation.shape[0]
        self.outer = representation.condition_size // 3
        #: atoms that must be known
        self.least = self.atoms // 2
        self.kinds = nn.Embedding(4, hidden)
        self.noise = mlp(waves(torch.zeros(1, 1)).shape[1], (hidden,), hidden)
        message, channels = max(hidden // 2, 1), max(hidden // 8, 1)
        self.messages = Messages(
            **{"hidden": hidden, "message": message, "channels": channels, "rounds": rounds},
            **{"gaussians": 16, "reach": _REACH},
            proper=getattr(representation, "mirror", "O3") == "SO3",
            numbers=False,
        )
        self.pushes = mlp(message, (message,), 1)
        self.moves = nn.Linear(2 * channels, 1, bias=False)
        with torch.no_grad():
            self.pushes[-1].weight.mul_(_FIRST)  # type: ignore[operator]
            self.moves.weight.mul_(_FIRST)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, points: Tensor, kinds: Tensor, log_noise: Tensor) -> Tensor:
        """Return F of `denoising` (m, s - outer, 3), which turns with the points.

        Parameters
        ----------
        points : (m, s, 3) tensor
            In units of the scale, outer ones last.
        kinds : (m, s) tensor
            What each is: CENTRE, KNOWN …
        log_noise : (m, 1) tensor
            Of the missing ones.
        """
        numbers = self.kinds(kinds) + self.noise(waves(log_noise)).unsqueeze(1)
        told = self.messages(self.scale * points, numbers, hear=1 + self.atoms)
        pushed = (self.pushes(told.messages) * told.toward).sum(2)
        return pushed + self.moves(told.vectors).squeeze(-1)

    def loss(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the mean squared error of the network, with atoms left out at random.

        Parameters
        ----------
        x : (m, n, 3) tensor
            Å, in any frame.
        condition : (m, 3 outer) tensor
            In the same frame.
        """
        counts = torch.randint(self.least, self.atoms, (len(x), 1), device=x.device)
        turn = torch.rand_like(x[..., 0]).argsort(1)
        points, kinds = self._points(x, condition, turn < counts)
        free = (kinds == MISSING).to(x).unsqueeze(-1)
        blurred = Blurred.of(points, free * torch.randn_like(points))
        missed = (
            self(blurred.y, kinds, blurred.log_noise) - blurred.wanted[:, : 1 + self.atoms]
        )
        return (missed.square() * free[:, : 1 + self.atoms]).sum() / (3 * free.sum())

    @torch.no_grad()
    def draw(
        self, known: Tensor, condition: Tensor, n: int, generator: torch.Generator, steps: int
    ) -> Tensor:
        """Return environments (m, n, atoms, 3): the known atoms as given, then drawn ones.

        Raises
        ------
        ValueError
            If too few or too many atoms are known.
        """
        m, k = known.shape[:2]
        if not self.least <= k < self.atoms:
            msg = f"{self.least} to {self.atoms - 1} atoms must be known, got {k}"
            raise ValueError(msg)
        like = {"device": known.device, "dtype": known.dtype}
        noise = torch.randn(m * n, self.atoms - k, 3, generator=generator, **like)
        x = torch.cat([known.repeat_interleave(n, 0), self.scale * START * noise], 1)
        there = torch.arange(self.atoms, device=known.device) < k
        outer = condition.repeat_interleave(n, 0)
        points, kinds = self._points(x, outer, there.expand(m * n, -1))
        rows = max(1, _TOGETHER // points.shape[1] ** 2)
        parts = zip(points.split(rows), kinds.split(rows), strict=True)
        drawn = torch.cat([self._filled(*part, steps) for part in parts])
        filled = torch.cat([x[:, :k], self.scale * drawn[:, 1 + k : 1 + self.atoms]], 1)
        return filled.unflatten(0, (m, n))

    def _filled(self, points: Tensor, kinds: Tensor, steps: int) -> Tensor:
        """Return points (m, s, 3) of which the missing ones have lost their noise."""
        free = (kinds == MISSING).to(points).unsqueeze(-1)

        def denoise(y: Tensor, sigma: Tensor, _: Tensor) -> Tensor:
            y = y.unflatten(1, points.shape[1:])
            f = nn.functional.pad(self(y, kinds, sigma.log()), (0, 0, 0, self.outer))
            clean = cleaned(y, sigma.unsqueeze(-1), f)
            return torch.where(free > 0, clean, y).flatten(1)

        nothing = points[:, :0, 0]
        return draw(denoise, points.flatten(1), nothing, steps).unflatten(1, points.shape[1:])

    def _points(self, x: Tensor, condition: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre, atoms, and outer ones in units of the scale, and their kinds."""
        outer = condition.unflatten(1, (self.outer, 3))
        kinds = torch.where(known, KNOWN, MISSING)
        ends = kinds.new_full((len(x), 1), CENTRE), kinds.new_full(outer.shape[:2], OUTER)
        points = torch.cat([torch.zeros_like(x[:, :1]), x, outer], 1) / self.scale
        return points, torch.cat([ends[0], kinds, ends[1]], 1)
