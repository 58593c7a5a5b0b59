"""Atoms seen in the frame that the first of them make.

The first two atoms, with the centre, span a plane; the third says which of its sides is up. In
the frame of

    e_1 along r_1,   e_2 along r_2 - (r_2·e_1) e_1,   e_3 = ± e_1 x e_2,

with the sign that puts the third atom up, coordinates do not change when all atoms are turned
or mirrored, and a network may make anything of them: of a state, what lies about each of its
atoms. It is dense, wide, and quick, as a state is one row of numbers. While there are but two
atoms, both signs are as probable; of one atom e_1 alone is known, and no direction of none.
"""

import torch
from torch import Tensor, nn

from ..nets import Residual
from .placing import FIRST, LAST, START_SHARP, START_WIDTH, Mixture, images
from .states import GIVEN, States

_NUMBERS = 9  #: of a component: weight, distance, width, sharpness, tilt, hand, axis
_TINY = 1e-9


def frames(states: States) -> tuple[Tensor, Tensor]:
    """Return e_1, e_2, e_3 as rows (m, states, 3, 3), and whether up is known (m, states, 1).

    Those that are not known are zero.
    """
    m, s = states.atoms.shape[:2]
    first = [states.atoms[:, i] if i < s else states.atoms.new_zeros(m, 3) for i in (1, 2, 3)]
    there = [
        (states.kinds[:, :, i] > 0 if i < s else states.kinds[:, :, 0] < 0).unsqueeze(-1)
        for i in (1, 2, 3)
    ]
    one = _unit(first[0])
    two = _unit(first[1] - (first[1] * one).sum(-1, keepdim=True) * one)
    up = torch.linalg.cross(one, two)
    side = torch.where((up * first[2]).sum(-1, keepdim=True) < 0, -1.0, 1.0).to(up)
    up = torch.where(there[2], (up * side).unsqueeze(1), up.unsqueeze(1))
    rows = [one.unsqueeze(1) * there[0], two.unsqueeze(1) * there[1], up * there[1]]
    return torch.stack(rows, 2), there[2]


class LocalNetwork(nn.Module):
    """What lies about each atom of a state, by a network of coordinates in their frame.

    Parameters
    ----------
    atoms : int
        Largest number of them in a state.
    width, blocks : int
    components : int
        About each atom.
    signal : int
        Latents (m, signal) that are seen too.
    """

    def __init__(self, atoms: int, *, width: int, blocks: int, components: int, signal: int):
        super().__init__()
        self.atoms, self.components = atoms, components
        pairs = atoms * (atoms - 1) // 2
        self.network = Residual(
            5 * atoms + pairs + signal,
            width,
            blocks,
            atoms * components * _NUMBERS,
            activation="silu",
        )
        # apart for each number of atoms, of which the first states are told little else
        self.start = nn.Parameter(torch.zeros(atoms, atoms, components, _NUMBERS))
        with torch.no_grad():
            self.start[..., 1] = torch.linspace(FIRST, LAST, components)
            self.start[..., 2] = START_WIDTH
            self.start[..., 3] = START_SHARP

    def forward(self, states: States, z: Tensor | None) -> Mixture:
        """Return components (m, p, 2 * components) about the atoms of each state."""
        frame, up_known = frames(states)
        numbers = self.network(self._told(states, frame, z))
        numbers = numbers.unflatten(2, (self.atoms, self.components, _NUMBERS))
        count = torch.tensor(states.sizes, device=numbers.device)[states.state] - 1
        start = self.start[count, states.node]
        numbers = numbers[:, states.state, states.node] + start
        frame = frame[:, states.state]
        weight, distance, width, sharp, tilt, hand = numbers[..., :6].unbind(-1)
        # without a third atom, an image is as probable as what it is of
        hand = hand * up_known[:, states.state]
        axis = numbers[..., 6:]
        straight = axis[..., :2] @ frame[..., :2, :]
        turned = axis[..., 2:] @ frame[..., 2:, :]
        foci = states.atoms[:, states.node]
        return images(weight, hand, foci, distance, width, sharp, tilt, straight, turned)

    def _told(self, states: States, frame: Tensor, z: Tensor | None) -> Tensor:
        """Return rows (m, states, inputs): coordinates, distances, what is there, latents."""
        there = (states.kinds > 0).unsqueeze(-1)
        atoms = states.atoms.unsqueeze(1) * there
        seen = atoms @ frame.mT
        lacking = self.atoms - seen.shape[2]
        given = (states.kinds == GIVEN).unsqueeze(-1)
        rows = torch.cat([seen, there.to(seen), given.to(seen)], -1)
        rows = nn.functional.pad(rows, (0, 0, 0, lacking)).flatten(2)
        off = atoms.unsqueeze(2) - atoms.unsqueeze(3)
        near = 1 / (0.1 + off.square().sum(-1)) * (there & there.mT)
        near = nn.functional.pad(near, (0, lacking, 0, lacking))
        i, j = torch.triu_indices(self.atoms, self.atoms, 1, device=near.device)
        told = [rows, near[:, :, i, j]]
        if z is not None:
            told.append(z.flatten(1).unsqueeze(1).expand(-1, rows.shape[1], -1))
        return torch.cat(told, -1)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp(min=_TINY)
