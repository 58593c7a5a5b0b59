"""A transformer over placed atoms: where the next atom goes, as told by those that are there.

The atom i to be placed attends to all placed atoms j. What it sees of j:

- the surroundings of j among the atoms placed so far: sums of radial functions times spherical
  harmonics up to l = 2 over the vectors to them, between nearest images;
- what is known of the vector from j to the new atom: nothing for x, then x, then x and y.

Each placed atom then says along the axis in question where it wants the new one: a Fourier
series about its own coordinate, whose coefficients are the network's, beside two functions of
the distance alone (`radial`), one of them weighed by the network. The sum of all series is the
logarithm of a probability on the cells: a product of opinions. So a shift of all atoms
along a periodic axis shifts the distribution, exactly, and what is learned about one pair of
atoms is known about every other.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import radial
from .grid import Grid, triangle

_RADII = 8  #: radial functions of the surroundings, from 1.5 Å
_CUTOFF = 4.5  #: Å: of the surroundings; the second shell of most solids
_KNOWN = 8  #: Fourier orders of the known part of a vector
_ABSOLUTE = 4  #: Fourier orders of a place in the box
_RINGS = 12  #: radial functions of the known distance in the plane
_BOUND = 6.0  #: of scores of attention: e^±6


class Pairs(NamedTuple):
    """Which placed atom (j) is looked at for which new one (row of `together`)."""

    row: Tensor  #: (pairs,) long, of the queries
    new: Tensor  #: (queries,) long: the slot that is to be filled
    placed: Tensor  #: (pairs,) long: the slot that is filled
    together: Tensor  #: (queries, pairs): adds up the pairs of each query


class Seen(NamedTuple):
    """What is known of placed atoms."""

    u: Tensor  #: (m, placed, 3)
    surroundings: Tensor  #: (m, placed, features), sums
    waves: Tensor  #: (m, placed, 3, 2 orders): Fourier series of each coordinate


class Placing(nn.Module):
    """What is said about each coordinate: of itself, and on its cells by placed atoms.

    Parameters
    ----------
    grid : Grid
    species : (atoms,) tuple of int
        From 0: which element a slot of the sequence holds.
    outputs : int
        Numbers that are said of a coordinate by the new atom itself.
    width : int
    orders : int
        Of the Fourier series along an axis.
    heads : int
        Of the attention.
    anchored : bool
        Whether the place in the box means anything: False where atoms are shifted at random.
    """

    species: Tensor
    order: Tensor
    decay: Tensor
    tables: Tensor
    radii: Tensor
    rings: Tensor

    def __init__(
        self,
        grid: Grid,
        species: tuple[int, ...],
        *,
        outputs: int,
        width: int,
        orders: int,
        heads: int,
        anchored: bool,
    ):
        super().__init__()
        self.grid, self.atoms, self.heads, self.anchored = grid, len(species), heads, anchored
        self.outputs, kinds = outputs, max(species) + 1
        self.register_buffer("species", torch.tensor(species), persistent=False)
        order = torch.arange(1, orders + 1)
        decay = 1 / (1 + (order / 8.0) ** 2)
        self.register_buffer("order", order.float(), persistent=False)
        self.register_buffer("decay", decay, persistent=False)
        tables = torch.stack([radial.table(grid, axis, orders) for axis in range(3)])
        self.register_buffer("tables", tables / decay, persistent=False)
        self.radial = nn.Parameter(torch.zeros(3, 2, tables.shape[2]))
        self.weight = nn.ModuleList(nn.Linear(width, 1) for _ in range(3))
        self.features = 9 * _RADII * kinds
        known = (2 * _KNOWN, 2 * _KNOWN, 4 * _KNOWN + _RINGS)
        place = 6 * _ABSOLUTE if anchored else 0
        of_query = 2 * _ABSOLUTE * (3 if anchored else 1)
        self.around = nn.ModuleList(nn.Linear(self.features, width) for _ in range(3))
        self.known = nn.ModuleList(nn.Linear(k + place, width, bias=False) for k in known)
        self.slot = nn.Parameter(0.1 * torch.randn(3, self.atoms, width))
        self.other = nn.Parameter(
            0.1 * torch.randn(3, self.atoms if anchored else kinds, width)
        )
        self.score = nn.ModuleList(nn.Linear(width, heads) for _ in range(3))
        self.context = nn.ModuleList(
            nn.Linear(width + heads + of_query, width) for _ in range(3)
        )
        self.mixed = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.told = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.says = nn.ModuleList(nn.Linear(width, 2 * orders) for _ in range(3))
        # in a box without places only the order along x says where an atom is
        self.leave = nn.ModuleList(
            nn.Linear(width, outputs) for _ in range(3 if anchored else 1)
        )
        for modules in (self.says, self.leave):
            for parameter in modules.parameters():
                nn.init.normal_(parameter, std=0.1 / width**0.5 if parameter.ndim > 1 else 0.0)
        radii = torch.linspace(1.5, _CUTOFF, _RADII)
        self.register_buffer("radii", radii, persistent=False)
        rings = torch.linspace(0.0, _CUTOFF, _RINGS)
        self.register_buffer("rings", rings, persistent=False)

    # -- all coordinates of given structures at once

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is said of each coordinate of u (m, atoms, 3), given those before it.

        Returns
        -------
        said : (m, atoms, 3, outputs) tensor
        field : (m, atoms, 3, cells) tensor
        """
        i, j = triangle(self.atoms)
        together = u.new_zeros(self.atoms, len(i))
        together[i, torch.arange(len(i))] = 1
        pairs = Pairs(i, torch.arange(self.atoms), j, together)
        with torch.no_grad():
            every = self._functions(self.grid.separation(u[:, None], u[:, :, None]))
            # of j, by the atoms before i: a running sum over all others
            sums = every.cumsum(2).flatten(1, 2)[:, j * self.atoms + i - 1]
            seen = Seen(u[:, j], _squashed(sums), self._waves(u)[:, j])
            front = torch.cat([torch.zeros_like(u[:, :1]), u[:, :-1]], 1)
        parts = [self._said(axis, seen, pairs, u[..., :axis], front) for axis in range(3)]
        said, field = zip(*parts, strict=True)
        return torch.stack(said, 2), torch.stack(field, 2)

    # -- one coordinate after the other

    def begin(self, m: int, like: Tensor) -> Seen:
        """Return that nothing is placed."""
        orders = 2 * len(self.order)
        shapes = ((m, 0, 3), (m, 0, self.features), (m, 0, 3, orders))
        return Seen(*(like.new_zeros(shape) for shape in shapes))

    def step(
        self, seen: Seen, atom: int, partial: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Seen]:
        """Return what is said of the next coordinate of an atom, after partial (m, 0 to 2)."""
        rows = torch.zeros(atom, dtype=torch.long)
        together = seen.u.new_ones(1, atom)
        pairs = Pairs(rows, torch.tensor([atom]), torch.arange(atom), together)
        front = seen.u[:, -1:] if atom else seen.u.new_zeros(len(seen.u), 1, 3)
        axis = partial.shape[1]
        bounded = seen._replace(surroundings=_squashed(seen.surroundings))
        said, field = self._said(axis, bounded, pairs, partial[:, None], front)
        return (said[:, 0], field[:, 0]), seen

    def place(self, seen: Seen, u: Tensor) -> Seen:
        """Return what is known once an atom is placed at u (m, 3)."""
        d = self.grid.separation(u[:, None], seen.u)
        atom = seen.u.shape[1]
        there = self._functions(d, self.species[atom : atom + 1].expand(atom))
        back = self._functions(-d, self.species[:atom]).sum(1, keepdim=True)
        around = torch.cat([seen.surroundings + there, back], 1)
        return Seen(
            torch.cat([seen.u, u[:, None]], 1),
            around,
            torch.cat([seen.waves, self._waves(u[:, None])], 1),
        )

    # -- shared by both

    def _said(
        self, axis: int, seen: Seen, pairs: Pairs, partial: Tensor, front: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what is said (m, queries, outputs), and the field (m, queries, cells).

        Parameters
        ----------
        seen : Seen
            One for each pair.
        partial : (m, queries, axis) tensor
            The coordinates of the new atom that are known.
        front : (m, queries, 3) tensor
            Where the atom before it was placed.
        """
        known = self._known(axis, seen, pairs, partial, front)
        other = pairs.placed if self.anchored else self.species[pairs.placed]
        slot = self.slot[axis, pairs.new]
        h = self.around[axis](seen.surroundings) + self.known[axis](known)
        h = nn.functional.silu(h + slot[pairs.row] + self.other[axis, other])
        weight = torch.exp(_BOUND * torch.tanh(self.score[axis](h) / _BOUND))
        total = 1 + pairs.together @ weight
        split = h.unflatten(2, (self.heads, -1)) * weight.unsqueeze(-1)
        mean = (pairs.together @ split.flatten(2)).unflatten(2, (self.heads, -1))
        mean = (mean / total.unsqueeze(-1)).flatten(2)
        place = self._place(partial, front)
        q = self.context[axis](torch.cat([mean, total.log(), place], 2)) + slot
        q = nn.functional.silu(q)
        h = nn.functional.silu(self.mixed[axis](h) + self.told[axis](q)[:, pairs.row])
        a, b = self.says[axis](h).chunk(2, 2)
        series = torch.einsum("tr,brm->tbm", self.radial[axis], self.tables[axis])
        if axis:
            near = radial.hats(self._apart(partial[:, pairs.row], seen.u, axis))
            always, weighed = (near @ table for table in series)
        else:
            always, weighed = series[:, 0]
        a = a + always + self.weight[axis](h) * weighed
        wave = seen.waves[:, :, axis]
        c, s = wave.chunk(2, 2)
        turned = torch.cat([a * c - b * s, a * s + b * c], 2)
        field = (pairs.together @ turned) @ self._series(turned)
        if axis < len(self.leave):
            return self.leave[axis](q), field
        return q.new_zeros(*q.shape[:2], self.outputs), field

    def _known(
        self, axis: int, seen: Seen, pairs: Pairs, partial: Tensor, front: Tensor
    ) -> Tensor:
        """Return what is known of the vector from each placed atom to the new one."""
        if axis == 0:
            d = front[:, pairs.row, :1] - seen.u[..., :1]
        else:
            d = partial[:, pairs.row] - seen.u[..., :axis]
        parts = [_fourier(d, _KNOWN, self.grid.periodic)]
        if axis == 2:
            r = self._apart(partial[:, pairs.row], seen.u, axis)
            parts.append(_bumps(r.unsqueeze(-1), self.rings))
        if self.anchored:
            parts.append(_fourier(seen.u, _ABSOLUTE, self.grid.periodic))
        return torch.cat(parts, -1)

    def _apart(self, partial: Tensor, u: Tensor, axis: int) -> Tensor:
        """Return the known distance (m, pairs) across the axis, Å."""
        d = self.grid.nearest(partial - u[..., :axis]) * u.new_tensor(self.grid.lengths[:axis])
        return d.square().sum(-1).sqrt()

    def superpose(self, u: Tensor) -> None:
        """Start from the radial distributions of structures u (m, atoms, 3).

        Of all three coordinates for z, of x and y for y, and of x for x.
        """
        i, j = triangle(self.atoms)
        d = self.grid.separation(u[:, i], u[:, j])
        # atoms of unlike frames do not see each other
        unlike = self.grid.separation(u[:, i], u.roll(1, 0)[:, j])
        for axis in range(3):
            near, far = (
                radial.hats(v[..., : axis + 1].square().sum(-1).sqrt()).sum((0, 1))
                for v in (d, unlike)
            )
            log_g = radial.log_pair_density(near, far)
            self.radial.data[axis] = log_g * log_g.new_tensor([[1.0], [0.5]])

    def _place(self, partial: Tensor, front: Tensor) -> Tensor:
        """Return where in the box the new atom is known to be: along x, or along all axes."""
        rest = front[..., partial.shape[-1] :]
        place = torch.cat([partial, rest], -1)
        place = place if self.anchored else place[..., :1]
        return _fourier(place, _ABSOLUTE, self.grid.periodic)

    def _waves(self, u: Tensor) -> Tensor:
        turn = 2 * math.pi if self.grid.periodic else math.pi
        phase = u.unsqueeze(-1) * (self.order * turn)
        return torch.cat([phase.cos(), phase.sin()], -1)

    def _series(self, like: Tensor) -> Tensor:
        """Return the functions (2 orders, cells) of the Fourier series."""
        return (self._waves(self.grid.centres(like)) * self.decay.repeat(2)).T

    def _functions(self, d: Tensor, species: Tensor | None = None) -> Tensor:
        """Return functions (..., features) of vectors (..., atoms, 3) to atoms, 0 beyond."""
        r2 = d.square().sum(-1, keepdim=True)
        r = r2.clamp_min(1e-6).sqrt()
        unit = d / r
        x, y, z = unit.unbind(-1)
        half = 3**0.5 / 2
        angular = torch.stack(
            [
                *(torch.ones_like(x), x, y, z),
                *(2 * half * x * y, 2 * half * y * z, 2 * half * z * x),
                *(half * (x * x - y * y), (3 * z * z - 1) / 2),
            ],
            -1,
        )
        inside = (r2 > 1e-6) & (r < _CUTOFF)
        fade = 0.5 * (1 + torch.cos(math.pi * r / _CUTOFF)) * inside
        radial = _bumps(r, self.radii) * fade
        made = (radial.unsqueeze(-1) * angular.unsqueeze(-2)).flatten(-2)
        species = self.species if species is None else species
        kinds = self.features // made.shape[-1]
        if kinds == 1:
            return made
        mine = nn.functional.one_hot(species, kinds).to(made)
        return (mine.unsqueeze(-1) * made.unsqueeze(-2)).flatten(-2)


def _squashed(sums: Tensor) -> Tensor:
    return torch.tanh(sums / 4)


def _bumps(r: Tensor, centres: Tensor) -> Tensor:
    width = centres[1] - centres[0]
    return torch.exp(-0.5 * ((r - centres) / width) ** 2)


def _fourier(u: Tensor, orders: int, periodic: bool) -> Tensor:
    """Return cos and sin (..., k 2 orders) of fractions (..., k) of a box."""
    turn = 2 * math.pi if periodic else math.pi
    order = torch.arange(1, orders + 1, device=u.device, dtype=u.dtype) * turn
    phase = u.unsqueeze(-1) * order
    return torch.cat([phase.cos(), phase.sin()], -1).flatten(-2)
