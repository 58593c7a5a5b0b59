"""The published network: two LSTM layers that read the sequence of coordinates.

Its input at each step is the cell of a coordinate (one-hot) and the number of that coordinate
in the sequence (one-hot); then dropout, ReLU and a dense layer. The last coordinate is never
an input, so that there are 3N - 1 numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .grid import Grid


class Memory(NamedTuple):
    """What the network remembers of the coordinates so far."""

    hidden: Tensor  #: (m, layers, width)
    cell: Tensor  #: (m, layers, width)
    last: Tensor  #: (m,): the coordinate that it has not read yet


class Recurrent(nn.Module):
    """What is said about each coordinate, by those before it.

    Parameters
    ----------
    grid : Grid
    atoms : int
    outputs : int
        Numbers that are said of a coordinate.
    width, layers : int
        Of the LSTM.
    dropout : float
    """

    def __init__(
        self, grid: Grid, atoms: int, *, outputs: int, width: int, layers: int, dropout: float
    ):
        super().__init__()
        self.grid, self.steps, self.outputs = grid, 3 * atoms - 1, outputs
        inputs = grid.cells + self.steps
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, width, layers, batch_first=True, dropout=between)
        self.leave = nn.Sequential(nn.Dropout(dropout), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """Return what is said (m, atoms, 3, outputs) of u (m, atoms, 3); 0 of the first."""
        flat = u.flatten(1)[:, :-1]
        numbers = torch.arange(self.steps, device=u.device).expand(len(u), -1)
        hidden, _ = self.lstm(self._read(flat, numbers))
        said = self.leave(hidden)
        said = torch.cat([torch.zeros_like(said[:, :1]), said], 1)
        return said.unflatten(1, (-1, 3)), None

    def begin(self, m: int, like: Tensor) -> Memory:
        """Return that nothing is read."""
        shape = (m, self.lstm.num_layers, self.lstm.hidden_size)
        return Memory(like.new_zeros(shape), like.new_zeros(shape), like.new_zeros(m))

    def step(
        self, memory: Memory, atom: int, partial: Tensor
    ) -> tuple[tuple[Tensor, None], Memory]:
        """Return what is said of the next coordinate of an atom, after partial (m, 0 to 2)."""
        axis = partial.shape[1]
        if atom == axis == 0:
            return (memory.last.new_zeros(len(partial), self.outputs), None), memory
        last = partial[:, -1] if axis else memory.last
        number = torch.full((len(last), 1), 3 * atom + axis - 1, device=last.device)
        state = tuple(t.transpose(0, 1).contiguous() for t in (memory.hidden, memory.cell))
        out, (hidden, cell) = self.lstm(self._read(last[:, None], number), state)
        read = Memory(hidden.transpose(0, 1), cell.transpose(0, 1), last)
        return (self.leave(out[:, 0]), None), read

    def place(self, memory: Memory, u: Tensor) -> Memory:
        """Return what is known once an atom is placed at u (m, 3)."""
        return memory._replace(last=u[:, 2])

    def _read(self, u: Tensor, numbers: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot
        where = one_hot(self.grid.cell(u), self.grid.cells)
        return torch.cat([where, one_hot(numbers, self.steps)], 2).to(u)
