"""RePAP: structures of a trajectory, one coordinate after the other on a grid.

p(structure) = Π p(coordinate | those before it), each a distribution on the cells of its axis
with a uniform density within a cell. So `log_prob` is exact. The first coordinate of all has
the distribution of the training data, as published.

Cells that cannot be are forbidden, and what is left adds up to 1: along x those before the
last atom where frames are ordered along x; and along z, once x and y are known, those that lie
wholly closer to a placed atom than any two atoms of the training data.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from generative import choices
from generative.model import Model, Options
from generative.representation import Batch
from generative.score import Score

from . import heads
from .generate import Drawn, How, generate
from .grid import Grid, triangle
from .harmonic import Harmonic
from .placing import Placing
from .recurrent import Recurrent
from .representation import Sequences
from .sorted import Sorted

NETWORKS = ("transformer", "lstm")
OFFSETS = ("uniform", "centre")

_TOGETHER = 500  #: structures that are drawn at once
_SCORED = 128  #: and scored
_SOME = 2000  #: structures of each batch that starting points are taken from
_PSEUDO = 0.01  #: counts of each cell of the first coordinate, so that none is impossible
_CLEAR = 0.97  #: of the shortest distance in training: what is nearer is forbidden


@dataclass(frozen=True, kw_only=True)
class RepapOptions(Options):
    """Network, head and grid.

    Attributes
    ----------
    network : str
        "transformer" over placed atoms, or "lstm".
    head : str
        "softmax-ce", "sigmoid-mse", "mixture".
    cells : int
        Of the grid, along each axis.
    offset : str
        Of a coordinate within its cell: "uniform", or at its "centre" as published.
    mask : bool
        Whether cells that are too close to an atom are forbidden on the last axis.
    start : bool
        Whether the network starts from what is known without one: a normal distribution of all
        coordinates where atoms keep their places, uniform atoms where they are put in order.
    width : int
        Of the network.
    orders : int
        Of the Fourier series of the transformer.
    attention : int
        Heads of the transformer.
    layers : int
        Of the LSTM.
    dropout : float
        Of the LSTM.
    components : int
        Of a mixture.
    sigma : float
        Of the Gaussian targets exp(-(x - r)² / 2 sigma) of "sigmoid-mse": a variance as
        published, Å². As a length it is `smear`, its root.
    """

    network: str = "transformer"
    head: str = "softmax-ce"
    cells: int = 200
    offset: str = "uniform"
    mask: bool = True
    start: bool = True
    width: int = 64
    orders: int = 40
    attention: int = 4
    layers: int = 2
    dropout: float = 0.0
    components: int = 10
    sigma: float = 0.01

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {
            **{"network": "lstm", "head": "sigmoid-mse", "cells": 50, "offset": "centre"},
            **{"mask": False, "start": False, "width": 256, "layers": 2, "dropout": 0.5},
        }
    }
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {
            **{"epochs": 20, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.01},
            **{"warmup": 100, "patience": 0},
        },
        "published": {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3},
    }
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {"order": "mean-distance", "augment": "none"}
    }

    def __post_init__(self):
        for name, known in (
            ("network", NETWORKS),
            ("head", heads.HEADS),
            ("offset", OFFSETS),
        ):
            if getattr(self, name) not in known:
                msg = f"{name} must be {', '.join(known)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        for name in ("cells", "width", "orders", "attention", "layers", "components"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.width % self.attention:
            msg = f"width must be a multiple of attention, got {self.width}, {self.attention}"
            raise ValueError(msg)
        if not 0 <= self.dropout < 1 or not self.sigma > 0:
            msg = f"dropout must be within [0, 1) and sigma positive, got {self}"
            raise ValueError(msg)

    @property
    def smear(self) -> float:
        """Return the standard deviation of the Gaussian targets, Å."""
        return self.sigma**0.5


class Repap(Model):
    """Atoms placed one after the other, each coordinate on a grid.

    Parameters
    ----------
    options : RepapOptions
    representation : Sequences
    """

    name = "repap"
    options_type = RepapOptions
    sees = "trajectory"
    standardised = False
    first: Tensor
    closest: Tensor
    lengths: Tensor
    species: Tensor

    def __init__(self, options: RepapOptions, representation: Sequences) -> None:
        super().__init__(options, representation)
        self.choice, self.sequences = options, representation
        lengths = representation.lengths
        self.grid = Grid(options.cells, lengths, representation.periodic)
        self.atoms = len(representation.numbers)
        self._check_grid()
        outputs = heads.outputs(options.head, options.cells, options.components)
        if options.network == "lstm":
            self.network: Placing | Recurrent = Recurrent(
                *(self.grid, self.atoms),
                outputs=outputs,
                width=options.width,
                layers=options.layers,
                dropout=options.dropout,
            )
        else:
            self.network = Placing(
                *(self.grid, representation.species),
                outputs=outputs,
                width=options.width,
                orders=options.orders,
                heads=options.attention,
                anchored=representation.anchored,
            )
        self.start: Harmonic | Sorted | None = None
        if options.start and representation.order == "spatial":
            self.start = Sorted(self.grid, representation.species)
        elif options.start and representation.augment == "none":
            self.start = Harmonic(self.grid, 3 * self.atoms)
        kinds = max(representation.species) + 1
        self.register_buffer("first", torch.full((options.cells,), 1.0 / options.cells))
        self.register_buffer("closest", torch.zeros(kinds, kinds))
        self.register_buffer("lengths", torch.tensor(lengths), persistent=False)
        species = torch.tensor(representation.species)
        self.register_buffer("species", species, persistent=False)

    def standardise(self, batches: Iterator[Batch]) -> None:
        """Take the distribution of the first coordinate and shortest distances from data."""
        counts = torch.full_like(self.first, _PSEUDO)
        closest = torch.full_like(self.closest, torch.inf)
        some: list[Tensor] = []

        def watched() -> Iterator[Batch]:
            for batch in batches:
                u = self._fractions(batch.x)
                first = self.grid.cell(u[:, 0, 0])
                counts.add_(torch.bincount(first, minlength=len(counts)))
                for part in u.split(_SCORED):
                    self._note_closest(part, closest)
                some.append(u[:: max(1, len(u) // _SOME)])
                yield batch

        super().standardise(watched())
        self.first.copy_(counts / counts.sum())
        self.closest.copy_(closest.nan_to_num(posinf=0.0))
        if isinstance(self.start, Harmonic):
            self.start.fit(torch.cat(some).flatten(1))
        elif isinstance(self.network, Placing):
            self.network.superpose(torch.cat(some))

    def draw(
        self, condition: Tensor, n: int, generator: torch.Generator, **how: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw structures, atoms that come too close again; see `generate.How`.

        Returns
        -------
        samples : (m, n, atoms, 3) tensor
            Å
        notes : dict of (m, n) tensor
            `redraws`, and `unfinished`: 1 if an atom is too close and redraws ran out.
        """
        choices.check(How, how)
        ways = How(**how)
        drawn = self._drawn(len(condition) * n, generator, ways)
        shape = (len(condition), n)
        samples = (drawn.u * self.lengths).unflatten(0, shape)
        notes = {"redraws": drawn.redraws, "unfinished": drawn.unfinished}
        return samples, {k: v.to(samples).unflatten(0, shape) for k, v in notes.items()}

    # -- as `Model` wants it

    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:  # noqa: ARG002, no condition
        u = self._fractions(x)
        said, field = self._said(u)
        head = self.choice.head
        log_p = heads.log_cells(head, said, field, self.grid, self._behind(u))
        nats = -self._of_cells(log_p, u).mean()
        if head != "sigmoid-mse":
            return {"loss": nats}
        width = self.choice.smear / self.lengths.to(u)
        error = heads.squared_error(said, field, u, self.grid, width).flatten(1)[:, 1:]
        return {"loss": error.sum(1).mean(), "nats": nats.detach()}

    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        drawn = self._drawn(len(c) * n, generator, How(redraws=0))
        return (drawn.u * self.lengths).unflatten(0, (len(c), n))

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:  # noqa: ARG002, no condition
        """Return nats of the 3N coordinates in Å, in the order of the sequence."""
        density = (self.grid.cells / self.lengths).log().sum() * self.atoms
        parts = [
            self._of_cells(self.log_cells(part), self._fractions(part)).sum(1)
            for part in x.split(_SCORED)
        ]
        values = torch.cat(parts) if parts else x.new_zeros(0)
        return Score(values + density.to(values), "exact")

    def log_cells(self, x: Tensor) -> Tensor:
        """Return logarithms of probabilities (m, atoms, 3, cells), given true coordinates."""
        u = self._fractions(x)
        forbidden = self._behind(u) | self._inside(u)
        log_p = heads.log_cells(self.choice.head, *self._said(u), self.grid, forbidden)
        log_p[:, 0, 0] = self.first.to(log_p).log()
        return log_p

    # -- as `generate` wants it

    def begin(self, m: int) -> Any:
        """Return that nothing is placed."""
        return self.network.begin(m, self.first)

    def step(self, state: Any, placed: Tensor, partial: Tensor) -> tuple[Tensor, Any]:
        """Return logarithms of probabilities (m, cells) of the next coordinate."""
        atom, axis = placed.shape[1], partial.shape[1]
        (said, field), state = self.network.step(state, atom, partial)
        if atom == axis == 0:
            return self.first.log().expand(len(partial), -1), state
        forbidden = None
        if axis == 0 and self._is_ordered(atom):
            before = self.grid.cell(placed[:, -1, 0])
            forbidden = self._cells() < before[:, None]
        if axis == 2 and self.choice.mask:
            forbidden = self._too_near(placed, partial, self._clear(atom))
            forbidden &= ~forbidden.all(-1, keepdim=True)
        if self.start is not None:
            start = self.start.step(torch.cat([placed.flatten(1), partial], 1))
            field = start if field is None else field + start
        return heads.log_cells(self.choice.head, said, field, self.grid, forbidden), state

    def place(self, state: Any, u: Tensor) -> Any:
        """Return what is known once an atom is placed at u (m, 3)."""
        return self.network.place(state, u)

    def offset(self, cell: Tensor, generator: torch.Generator) -> Tensor:
        """Return where in its cell a coordinate lies, from 0 to 1."""
        if self.choice.offset == "centre":
            return torch.full(cell.shape, 0.5, device=cell.device)
        drawn = torch.rand(cell.shape, generator=generator, device=cell.device)
        return drawn.clamp_max(1 - 1e-3)  # not on the edge of the next cell, by rounding

    def nearness(self, atom: int) -> Tensor:
        """Return the shortest distances (atom,) in training to the atoms placed before."""
        return self.closest[self.species[atom], self.species[:atom]]

    # -- inside

    def _drawn(self, m: int, generator: torch.Generator, how: How) -> Drawn:
        sizes = [len(part) for part in torch.arange(m).split(_TOGETHER)] or [0]
        with torch.no_grad():
            parts = [generate(self, size, generator, how) for size in sizes]
        return Drawn(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def _fractions(self, x: Tensor) -> Tensor:
        u = x / self.lengths.to(x)
        return u - u.floor() if self.grid.periodic else u

    def _said(self, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the network says of structures, with what it starts from."""
        said, field = self.network(u)
        if self.start is not None:
            start = self.start(u.flatten(1)).unflatten(1, (-1, 3))
            field = start if field is None else field + start
        return said, field

    def _cells(self) -> Tensor:
        return torch.arange(self.grid.cells, device=self.first.device)

    def _of_cells(self, log_p: Tensor, u: Tensor) -> Tensor:
        """Return the logarithms (m, 3 atoms) of the cells that u lies in."""
        cell = self.grid.cell(u)
        picked = log_p.gather(-1, cell.unsqueeze(-1)).squeeze(-1).flatten(1)
        first = self.first.to(picked).log()[cell[:, 0, 0]]
        return torch.cat([first[:, None], picked[:, 1:]], 1)

    def _is_ordered(self, atom: int) -> bool:
        """Return whether an atom comes after the one before it along x."""
        kind = self.sequences.species
        spatial = self.sequences.order == "spatial"
        return spatial and atom > 0 and kind[atom] == kind[atom - 1]

    def _behind(self, u: Tensor) -> Tensor:
        """Return the cells (m, atoms, 3, cells) that the order along x forbids."""
        forbidden = u.new_zeros(*u.shape, self.grid.cells, dtype=torch.bool)
        ordered = [atom for atom in range(self.atoms) if self._is_ordered(atom)]
        if ordered:
            before = self.grid.cell(u[:, [atom - 1 for atom in ordered], 0])
            forbidden[:, ordered, 0] = self._cells() < before.unsqueeze(-1)
        return forbidden

    def _inside(self, u: Tensor) -> Tensor:
        """Return the cells (m, atoms, 3, cells) that placed atoms forbid along z."""
        forbidden = u.new_zeros(*u.shape, self.grid.cells, dtype=torch.bool)
        if self.choice.mask:
            for atom in range(1, self.atoms):
                found = self._too_near(u[:, :atom], u[:, atom, :2], self._clear(atom))
                forbidden[:, atom, 2] = found & ~found.all(-1, keepdim=True)
        return forbidden

    def _too_near(self, placed: Tensor, partial: Tensor, near: Tensor) -> Tensor:
        """Return the cells (m, cells) along z all of which is nearer than that to an atom."""
        lengths = self.lengths.to(placed)
        flat = self.grid.nearest(placed[..., :2] - partial[:, None]) * lengths[:2]
        room = (near**2 - flat.square().sum(-1)).clamp_min(0).sqrt() / lengths[2]
        off = self.grid.nearest(placed[..., 2:] - self.grid.centres(placed)).abs()
        off = off + 0.5 / self.grid.cells
        return (off < room.unsqueeze(-1)).any(1)

    def _clear(self, atom: int) -> Tensor:
        return _CLEAR * self.nearness(atom)

    def _note_closest(self, u: Tensor, closest: Tensor) -> None:
        """Lower the shortest distances of elements to those of structures."""
        i, j = triangle(self.atoms)
        d = self.grid.separation(u[:, i], u[:, j]).square().sum(-1).sqrt()
        least = d.amin(0).to(closest)
        for a, b, value in zip(self.species[i], self.species[j], least, strict=True):
            closest[a, b] = closest[b, a] = torch.minimum(closest[a, b], value)

    def _check_grid(self) -> None:
        cell = max(self.grid.lengths) / self.grid.cells
        closest = self.sequences.closest
        if cell > closest / 2:
            msg = (
                f"{self.grid.cells} cells are {cell:.3g} Å wide, and atoms come as near as "
                f"{closest:.3g} Å: two could share a cell; use "
                f"cells={math.ceil(2 * max(self.grid.lengths) / closest)} or more"
            )
            raise ValueError(msg)
