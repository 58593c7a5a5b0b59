"""The shape of a molecule in numbers: distances and angles, under the names of its atoms.

None of them depends on where a geometry lies or how it is turned. Three atoms have two bonds
and the angle between them, at the atom that is nearest to the others; more have all distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .frames import angle
from .units import ANGSTROM

_STRAIGHT = 1e-9  #: sine of an angle whose plane is rounding


@dataclass(frozen=True)
class Coordinate:
    """A distance of two atoms, or the angle of three, its vertex in the middle."""

    names: tuple[str, ...]  #: of its atoms, such as C, H2
    atoms: tuple[int, ...]

    @property
    def label(self) -> str:
        """Return its atoms in a word, such as CO, OCS, CH2."""
        return "".join(self.names)

    @property
    def is_angle(self) -> bool:
        """Return whether it is an angle, in degrees; a distance is in Å."""
        return len(self.atoms) == 3

    @property
    def column(self) -> str:
        """Return the name of its column in a table, which ends in its unit."""
        if self.is_angle:
            return f"angle_{self.label}_degrees"
        return f"r_{self.label}_angstrom"

    def values(self, positions) -> np.ndarray:
        """Return its values (n,), in Å or degrees, of positions (n, ions, 3) in bohr."""
        points = [np.asarray(positions, np.float64)[:, atom] for atom in self.atoms]
        if self.is_angle:
            return np.degrees(angle(*points))
        return np.linalg.norm(points[1] - points[0], axis=-1) / ANGSTROM

    def gradients(self, positions) -> np.ndarray:
        """Return its derivatives (n, ions, 3), in Å or degrees per bohr.

        Three atoms in a line have an angle without a gradient: 180 degrees less the length of
        a bend that has two components. Then the derivatives are those of one component, in
        some plane through the line.
        """
        x = np.asarray(positions, np.float64)
        out = np.zeros(x.shape)
        if not self.is_angle:
            one, two = self.atoms
            apart = x[:, two] - x[:, one]
            out[:, two] = apart / np.linalg.norm(apart, axis=1, keepdims=True) / ANGSTROM
            out[:, one] = -out[:, two]
            return out
        one, vertex, two = self.atoms
        arms = x[:, [one, two]] - x[:, [vertex]]
        lengths = np.linalg.norm(arms, axis=2, keepdims=True)
        u, w = np.moveaxis(arms / lengths, 1, 0)
        normal = np.cross(u, w)
        straight = np.linalg.norm(normal, axis=1) < _STRAIGHT
        across = np.eye(3)[np.abs(u[straight]).argmin(axis=1)]
        normal[straight] = np.cross(u[straight], across)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        out[:, one] = -np.cross(normal, u) / lengths[:, 0]
        out[:, two] = np.cross(normal, w) / lengths[:, 1]
        out[:, vertex] = -out[:, one] - out[:, two]
        return np.degrees(out)

    def deviations(self, positions, covariance) -> np.ndarray:
        """Return its standard deviations (n,), in Å or degrees, to first order.

        Parameters
        ----------
        positions : (n, ions, 3) array
        covariance : (n, ions, 3, ions, 3) array
            Of the positions, bohr².
        """
        slope = self.gradients(positions)
        with np.errstate(invalid="ignore"):  # infinite at a fold
            return np.sqrt(np.einsum("nia,niajb,njb->n", slope, covariance, slope))


def atom_names(symbols: Sequence[str]) -> list[str]:
    """Return the name of each atom: its symbol, with a number where an element repeats."""
    symbols = list(symbols)
    several = {symbol for symbol in symbols if symbols.count(symbol) > 1}
    return [
        f"{symbol}{symbols[: i + 1].count(symbol)}" if symbol in several else symbol
        for i, symbol in enumerate(symbols)
    ]


def central_atom(positions) -> int:
    """Return the atom that is nearest to the others, as `coulex.ensemble.Box` takes it.

    Parameters
    ----------
    positions : (ions, 3) or (n, ions, 3) array
        Of several geometries, the average counts.
    """
    x = np.asarray(positions, np.float64)
    apart = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1).sum(axis=-1)
    return int(apart.reshape(-1, x.shape[-2]).mean(axis=0).argmin())


def coordinates(symbols: Sequence[str], *, central: int = 0) -> list[Coordinate]:
    """Return the coordinates that describe the shape of a molecule.

    Parameters
    ----------
    symbols : sequence of str
    central : int
        Of three atoms, the one at which the angle is taken.
    """
    names = atom_names(symbols)

    def coordinate(*atoms: int) -> Coordinate:
        return Coordinate(tuple(names[atom] for atom in atoms), atoms)

    if len(names) != 3:
        return [coordinate(*pair) for pair in combinations(range(len(names)), 2)]
    one, two = (atom for atom in range(3) if atom != central)
    return [coordinate(central, one), coordinate(central, two), coordinate(one, central, two)]
