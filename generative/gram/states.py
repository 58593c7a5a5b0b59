"""What is there when an atom is placed: the centre, outer atoms, and those placed before.

A state is a set of atoms, each with what it is and its place in the order. The states of an
environment, before each of its atoms, are looked at together; pairs of a state and one of its
atoms are kept as flat lists, as later states have more atoms than earlier ones.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

ABSENT, CENTRE, GIVEN, PLACED, OUTER = range(5)  #: what an atom is in a state
KINDS = 5


class States(NamedTuple):
    """Several states of some environments.

    Pairs (p,) of a state and of one of the atoms that are there in it, state after state, are
    named by `state` and `node`.
    """

    atoms: Tensor  #: (m, s, 3): the centre, outer atoms, and those of the environment
    kinds: Tensor  #: (m, states, s), what each is: ABSENT, CENTRE …
    state: Tensor
    node: Tensor
    sizes: list[int]  #: atoms of each state
    means: Tensor  #: (p, p), takes numbers of atoms to their mean over the state

    def spread(self, numbers: Tensor) -> Tensor:
        """Return numbers (m, p, c) of atoms, beside each that may see them: (m, p, s, c)."""
        (m, states, s), c = self.kinds.shape, numbers.shape[2]
        every = numbers.new_zeros(m, states * s, c)
        every = every.index_copy(1, self.state * s + self.node, numbers)
        return every.unflatten(1, (states, s))[:, self.state]


def states_of(x: Tensor, outer: Tensor, given: Tensor, *, first: int) -> States:
    """Return the states with `first` atoms of an order, with one more, … and with all of them.

    Parameters
    ----------
    x : (m, a, 3) tensor
    outer : (m, 3 k) tensor
        Atoms that are there in all states.
    given : (m,) tensor of int
        Atoms of the order, from the first, that are given, not placed.
    first : int
    """
    (m, a), device = x.shape[:2], x.device
    place = torch.arange(a, device=device)
    there = place < torch.arange(first, a + 1, device=device).unsqueeze(1)
    beyond = outer.unflatten(1, (outer.shape[1] // 3, 3))
    always = there.new_ones(len(there), 1 + beyond.shape[1])
    present = torch.cat([always, there], 1)
    kinds = torch.where(place < given.unsqueeze(1), GIVEN, PLACED)
    ends = kinds.new_full((m, 1), CENTRE), kinds.new_full((m, beyond.shape[1]), OUTER)
    kinds = torch.cat([*ends, kinds], 1).unsqueeze(1) * present
    atoms = torch.cat([x.new_zeros(m, 1, 3), beyond, x], 1)
    state, node = present.nonzero(as_tuple=True)
    means = (state == state.unsqueeze(1)).to(x)
    means = means / means.sum(1, keepdim=True)
    return States(atoms, kinds, state, node, present.sum(1).tolist(), means)


class Labels(nn.Module):
    """What each atom is, and which in order, as numbers that are learned.

    Parameters
    ----------
    size : int
        Numbers of each.
    atoms : int
        Largest number of them in a state; 0, and their order does not matter.
    """

    def __init__(self, size: int, atoms: int):
        super().__init__()
        self.kind = nn.Embedding(KINDS, size)
        self.place = nn.Embedding(atoms, size) if atoms else None

    def forward(self, kinds: Tensor) -> Tensor:
        """Return (m, states, s, size)."""
        numbers = self.kind(kinds)
        return numbers if self.place is None else numbers + self.place.weight[: kinds.shape[2]]
