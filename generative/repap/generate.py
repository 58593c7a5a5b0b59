"""Structures drawn one coordinate after the other, and atoms drawn again that come too close.

With `redraws` an atom that lies closer to a placed one than any two of the training data is
taken back, all three coordinates, and drawn again; after so many times it stays, and its
structure is marked. What comes out then has no density that is known: it is the model given
that each atom keeps its distance, atom by atom.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .grid import Grid


@dataclass(frozen=True, kw_only=True)
class How:
    """Ways of drawing.

    Attributes
    ----------
    sharpening : float
        Power of the probabilities.
    top_p : float
        The most probable cells that have this much together are kept.
    redraws : int
        Times that one atom may be drawn again.
    closest : float, optional
        Distance below which it is, Å; that of the training data when omitted.
    """

    sharpening: float = 1.0
    top_p: float = 1.0
    redraws: int = 20
    closest: float | None = None

    def __post_init__(self):
        if not 0 < self.sharpening < float("inf") or not 0 < self.top_p <= 1:
            msg = f"sharpening must be positive and top_p within (0, 1], got {self}"
            raise ValueError(msg)
        if self.redraws < 0 or (self.closest is not None and not self.closest >= 0):
            msg = f"redraws and closest must be 0 or more, got {self}"
            raise ValueError(msg)


class Drawn(NamedTuple):
    """What came out."""

    u: Tensor  #: (m, atoms, 3), fractions of the box
    redraws: Tensor  #: (m,): atoms that were drawn again
    unfinished: Tensor  #: (m,) bool: an atom is too close, and redraws ran out


class Stepwise(Protocol):
    """A model that gives one coordinate after the other."""

    grid: Grid
    atoms: int

    def begin(self, m: int) -> Any: ...
    def step(self, state: Any, placed: Tensor, partial: Tensor) -> tuple[Tensor, Any]:
        """Return logarithms of probabilities (m, cells) of the next coordinate."""
        ...

    def place(self, state: Any, u: Tensor) -> Any: ...
    def offset(self, cell: Tensor, generator: torch.Generator) -> Tensor: ...
    def nearness(self, atom: int) -> Tensor:
        """Return the shortest distance (atom,) to each placed one, in training, Å."""
        ...


def generate(model: Stepwise, m: int, generator: torch.Generator, how: How) -> Drawn:
    """Draw m structures."""
    device = generator.device
    state, placed = model.begin(m), None
    redraws = torch.zeros(m, dtype=torch.long, device=device)
    unfinished = torch.zeros(m, dtype=torch.bool, device=device)
    for atom in range(model.atoms):
        u, after = _atom(model, state, placed, generator, how)
        if placed is None:
            placed = u[:, None]
        else:
            near = model.nearness(atom) if how.closest is None else how.closest
            left = _too_close(model.grid, placed, u, near).nonzero()[:, 0]
            for _ in range(how.redraws):
                if not len(left):
                    break
                some = _rows(state, left)
                again, read = _atom(model, some, placed[left], generator, how)
                u[left] = again
                after = _put(after, left, read)
                redraws[left] += 1
                left = left[_too_close(model.grid, placed[left], again, near)]
            unfinished[left] = how.redraws > 0
            placed = torch.cat([placed, u[:, None]], 1)
        state = model.place(after, u)
    assert placed is not None
    return Drawn(placed, redraws, unfinished)


def _atom(
    model: Stepwise, state: Any, placed: Tensor | None, generator: torch.Generator, how: How
) -> tuple[Tensor, Any]:
    """Draw the three coordinates (m, 3) of the next atom."""
    like = _first(state)
    m = len(like)
    partial = like.new_zeros(m, 0)
    placed = like.new_zeros(m, 0, 3) if placed is None else placed
    for _ in range(3):
        log_p, state = model.step(state, placed, partial)
        cell = pick(log_p, generator, sharpening=how.sharpening, top_p=how.top_p)
        u = (cell + model.offset(cell, generator)) / model.grid.cells
        partial = torch.cat([partial, u.to(partial)[:, None]], 1)
    return partial, state


def pick(
    log_p: Tensor, generator: torch.Generator, *, sharpening: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """Draw a cell (m,) of each row of log_p (m, cells)."""
    p = (log_p.double() * sharpening).softmax(-1)
    if top_p < 1:
        sorted_p, order = p.sort(dim=-1, descending=True)
        before = sorted_p.cumsum(-1) - sorted_p
        p = p.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), 0.0)
    cumulative = p.cumsum(-1)
    drawn = torch.rand(len(p), 1, generator=generator, device=p.device, dtype=p.dtype)
    cell = (cumulative <= drawn * cumulative[:, -1:]).sum(-1)
    return cell.clamp_max(p.shape[1] - 1)


def _too_close(grid: Grid, placed: Tensor, u: Tensor, near: Tensor | float) -> Tensor:
    d = grid.separation(placed, u[:, None]).square().sum(-1).sqrt()
    return (d < near).any(1)


def _first(state: Any) -> Tensor:
    return state[0]


def _rows(state: Any, rows: Tensor) -> Any:
    return type(state)(*(t[rows] for t in state))


def _put(state: Any, rows: Tensor, new: Any) -> Any:
    return type(state)(*(a.index_copy(0, rows, b) for a, b in zip(state, new, strict=True)))
