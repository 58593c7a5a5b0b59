"""Atoms that are missing from an environment, drawn given those that are there.

The known atoms alone say which frame: the four next to the centre are laid onto a tetrahedron.
Which of them goes to which corner is chance, in training as in use. So a network sees every
environment in all 24 orders (12, and their frames, where mirror images are told apart), learns
what they have in common, and has no label that an atom it does not know could decide. Outer
neighbours, if they are the condition, are turned into the same frame.

Half of the training leaves out the atoms farthest from the centre, half leaves out any.
"""

import torch
from torch import Tensor, nn

from ..representation import Representation
from .denoising import START, Denoiser, draw
from .synchronise import align

#: corners of a cube; its size does not matter
_TETRAHEDRON = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


class Filling(nn.Module):
    """A diffusion of missing atoms.

    Parameters
    ----------
    representation : Representation
        Of positions (n, 3) in Å.
    sizes
        Of the network, as `denoising.Denoiser` takes them.

    Attributes
    ----------
    scale : tensor
        Å, of a coordinate.
    """

    scale: Tensor
    corners: Tensor

    def __init__(self, representation: Representation, **sizes):
        super().__init__()
        self.atoms = representation.shape[0]
        self.told = representation.condition_size
        #: atoms that a frame needs
        self.least = min(len(_TETRAHEDRON), self.atoms - 1)
        self.proper = getattr(representation, "mirror", "O3") == "SO3"
        self.turned = self.told == 3 * getattr(representation, "context", 0)
        self.network = Denoiser(self.atoms, self.atoms + self.told, **sizes)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("corners", torch.tensor(_TETRAHEDRON), persistent=False)

    def loss(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the mean squared error of the network, with atoms left out at random.

        Parameters
        ----------
        x : (m, n, 3) tensor
            Å, in any frame.
        condition : (m, told) tensor
            In the same frame.
        """
        m, device = len(x), x.device
        distance = x.norm(dim=2)
        counts = torch.randint(self.least, self.atoms, (m, 1), device=device)
        by_chance = torch.rand(m, 1, device=device) < 0.5
        turn = torch.where(by_chance, torch.rand_like(distance), distance).argsort(1)
        known = turn.argsort(1) < counts
        behind = torch.where(known, 0.0, 2 * distance.max())
        order = (distance + behind).argsort(1)
        x = x.gather(1, order[..., None].expand_as(x))
        known = known.gather(1, order)
        x, q = self._framed(x, torch.rand(m, self.least, device=device, dtype=x.dtype))
        free = (~known).to(x)
        told = self._told(free, condition, q)
        wide = free.repeat_interleave(3, 1)
        return self.network.error(x.flatten(1) / self.scale, told, wide).mean()

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
        given, condition = (t.repeat_interleave(n, 0) for t in (known, condition))
        order = given.norm(dim=2).argsort(1)
        sorted_ = given.gather(1, order[..., None].expand_as(given))
        keys = torch.rand(m * n, self.least, generator=generator, **like)
        framed, q = self._framed(sorted_, keys)
        noise = torch.randn(m * n, self.atoms - k, 3, generator=generator, **like)
        start = torch.cat([framed / self.scale, START * noise], 1)
        free = (torch.arange(self.atoms, device=known.device) >= k).to(known)
        free = free.expand(m * n, -1)
        wide = free.repeat_interleave(3, 1)

        def denoise(y: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
            return self.network.denoised(y, sigma, told, wide)

        told = self._told(free, condition, q)
        y = draw(denoise, start.flatten(1), told, steps).unflatten(1, (self.atoms, 3))
        drawn = (self.scale * y[:, k:]) @ q.mT
        return torch.cat([given, drawn], 1).unflatten(0, (m, n))

    def _framed(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return environments with the first atoms on the corners, in the order of keys.

        Also the rotations from the frame that was given.
        """
        count = keys.shape[1]
        corners = self.corners[:count].to(x).expand(len(x), -1, -1)
        first = x[:, :count].gather(1, keys.argsort(1)[..., None].expand(-1, -1, 3))
        q = align(corners, first)
        if self.proper and count > 1:
            swapped = torch.cat([first[:, :-2], first[:, -2:].flip(1)], 1)
            mirrors = torch.linalg.det(q)[:, None, None] < 0
            first = torch.where(mirrors, swapped, first)
            q = align(corners, first, proper=True)
        return torch.cat([first, x[:, count:]], 1) @ q, q

    def _told(self, free: Tensor, condition: Tensor, q: Tensor) -> Tensor:
        """Return which atoms are missing, and the condition in the frame."""
        if self.turned and self.told:
            outer = condition.unflatten(1, (-1, 3)) @ q
            condition = outer.flatten(1) / self.scale
        return torch.cat([free, condition], 1)
