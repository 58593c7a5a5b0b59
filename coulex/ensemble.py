"""What the ions start from: distributions of geometries, of which every event is one draw.

Events are numbered through a whole run, and event `e` depends on (seed, e) alone, so that
blocks and shards, computed anywhere in any order, make up the same ensemble bit for bit.

An ensemble returns positions and initial momenta; all those here start at rest and return None
for the momenta. The molecule is drawn as it lies; `orient` turns it afterwards.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, final

import numpy as np

from . import frames, random
from .molecule import Molecule

Draws = tuple[np.ndarray, np.ndarray | None]  #: positions and momenta, (count, ions, 3) each

# what compiled code takes: words without sign
_GEOMETRY, _ONE, _TWO = np.uint64(random.GEOMETRY), np.uint64(1), np.uint64(2)

ENSEMBLES: dict[str, type["Ensemble"]] = {}  #: filled by the classes themselves, by `name`


class Ensemble(ABC):
    """A distribution of geometries and initial momenta of a molecule.

    Subclasses are final, frozen dataclasses that check their options; they set `name`, by
    which the command line and TOML files call them.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        ENSEMBLES[cls.name] = cls

    @abstractmethod
    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        """Draw the events `first`, ..., `first + count - 1`.

        Returns
        -------
        positions : (count, ions, 3) array
            In bohr.
        momenta : (count, ions, 3) array or None
            In atomic units; None at rest.

        Raises
        ------
        ValueError
            If the ensemble does not fit the molecule, or seed or events are not integers.
        """

    def describe(self) -> dict:
        """Return name and options as plain numbers and text, for JSON."""
        options = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            options[field.name] = list(value) if isinstance(value, tuple) else value
        return {"name": self.name, **options}


@final
@dataclass(frozen=True, kw_only=True)
class Equilibrium(Ensemble):
    """The geometry of the molecule, in every event."""

    name = "equilibrium"

    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        random.stream(seed, first, count)
        return np.tile(molecule.positions, (count, 1, 1)), None


@final
@dataclass(frozen=True, kw_only=True)
class Gaussian(Ensemble):
    """Independent normal displacements of every atom along every axis."""

    name = "gaussian"
    sigma: float  #: standard deviation of each coordinate, bohr

    def __post_init__(self):
        _check_positive(self, "sigma")

    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        x = molecule.positions
        out = random.normal(seed, first, count, x.size, random.GEOMETRY)
        out *= self.sigma
        out += x.ravel()
        return out.reshape(count, *x.shape), None


@final
@dataclass(frozen=True, kw_only=True)
class Sphere(Ensemble):
    """All atoms anywhere in a sphere about the origin, but not close to one another.

    Uniform over the geometries that keep the least distance: where two atoms are too close the
    whole geometry is drawn again, not the last atom alone, which would favour dense ones. The
    molecule gives the number of atoms, and nothing else.
    """

    name = "sphere"
    radius: float  #: bohr
    min_distance: float  #: between any two atoms, bohr

    ATTEMPTS: ClassVar[int] = 10_000  #: geometries per event before giving up

    def __post_init__(self):
        _check_positive(self, "radius", "min_distance")
        if self.min_distance >= 2 * self.radius:
            msg = (
                f"min_distance {self.min_distance:g} does not fit into a sphere of radius "
                f"{self.radius:g} bohr"
            )
            raise ValueError(msg)

    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        key, start = random.stream(seed, first, count)
        out = np.empty((count, len(molecule.symbols), 3))
        failed = _fill_sphere(out, key, start, self.radius, self.min_distance, self.ATTEMPTS)
        if failed >= 0:
            msg = (
                f"event {first + failed}: of {self.ATTEMPTS} geometries in a sphere of "
                f"{self.radius:g} bohr each had two of {out.shape[1]} atoms closer than "
                f"{self.min_distance:g} bohr; raise `radius` or lower `min_distance`"
            )
            raise ValueError(msg)
        return out, None


@final
@dataclass(frozen=True, kw_only=True)
class Box(Ensemble):
    """Three atoms, uniform in two bond lengths and the angle between them.

    Uniform in the angle itself, not in its cosine. The central atom lies at the origin, the
    first of the other two along +x, the second in the upper half of the xy plane.
    """

    name = "box"
    first_bond: tuple[float, float]  #: from, to: central atom to first other atom, bohr
    second_bond: tuple[float, float]  #: the same for the second other atom, bohr
    angle_degrees: tuple[float, float]  #: from, to, within 0 to 180
    central: int | None = (
        None  #: index of the central atom; that nearest to the others if None
    )

    def __post_init__(self):
        _check_limits(self, "first_bond", highest=math.inf)
        _check_limits(self, "second_bond", highest=math.inf)
        _check_limits(self, "angle_degrees", highest=180.0)
        if self.first_bond[0] == 0 or self.second_bond[0] == 0:
            msg = (
                f"bonds must be longer than 0, got {self.first_bond}, {self.second_bond} bohr"
            )
            raise ValueError(msg)

    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        central = self.central_atom(molecule)
        one, two = (i for i in range(3) if i != central)
        low, high = np.array([self.first_bond, self.second_bond, self.angle_degrees]).T
        drawn = random.uniform(seed, first, count, 3, random.GEOMETRY)
        r1, r2, degrees = (low + (high - low) * drawn).T
        angle = np.radians(degrees)
        out = np.zeros((count, 3, 3))
        out[:, one, 0] = r1
        out[:, two, 0] = r2 * np.cos(angle)
        out[:, two, 1] = r2 * np.sin(angle)
        return out, None

    def central_atom(self, molecule: Molecule) -> int:
        """Return the index of the atom at the angle."""
        x, central = molecule.positions, self.central
        if len(x) != 3:
            msg = f"the box is for three atoms, but {molecule.name or 'this'} has {len(x)}"
            raise ValueError(msg)
        if central is None:
            central = int(np.linalg.norm(x[:, None] - x, axis=2).sum(axis=1).argmin())
        if not 0 <= central < 3:
            msg = f"the central atom must be 0, 1 or 2, got {central}"
            raise ValueError(msg)
        return central


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Frames(Ensemble):
    """The frames of a trajectory in their order: event e is frame e modulo their number."""

    name = "frames"
    positions: np.ndarray  #: (frames, ions, 3), bohr

    def __post_init__(self):
        x = np.array(self.positions, dtype=float)
        if x.ndim != 3 or x.shape[2] != 3 or not len(x):
            msg = f"positions must be (frames, ions, 3), at least one frame, got {x.shape}"
            raise ValueError(msg)
        if not np.isfinite(x).all():
            frame, atom, _ = np.argwhere(~np.isfinite(x))[0]
            msg = f"frame {frame} has a coordinate of atom {atom} that is not finite"
            raise ValueError(msg)
        x.setflags(write=False)
        object.__setattr__(self, "positions", x)

    def sample(self, molecule: Molecule, *, seed: int, first: int, count: int) -> Draws:
        _, start = random.stream(seed, first, count)
        n, ions = self.positions.shape[:2]
        if ions != len(molecule.symbols):
            msg = f"frames of {ions} atoms, but {len(molecule.symbols)} in the molecule"
            raise ValueError(msg)
        return self.positions[(int(start) % n + np.arange(count)) % n], None

    def describe(self) -> dict:
        digest = hashlib.sha256(self.positions.astype("<f8").tobytes()).hexdigest()
        return {"name": self.name, "frames": len(self.positions), "sha256": digest}


def orient(
    positions: np.ndarray, momenta: np.ndarray | None, *, how: str, seed: int, first: int
) -> Draws:
    """Turn every event as a whole, positions and momenta by the same rotation.

    Parameters
    ----------
    positions, momenta : (count, ions, 3) array
        As `Ensemble.sample` returns them, so that momenta may be None.
    how : {"given", "random"}
        As it lies, or uniform over all orientations.
    seed, first : int
        As for `Ensemble.sample`. Rotations and geometries of an event are independent.

    Raises
    ------
    ValueError
        If `how` is neither.
    """
    if how == "given":
        return positions, momenta
    if how != "random":
        msg = f'orientation must be "given" or "random", got {how!r}'
        raise ValueError(msg)
    rotations = frames.random_rotations(seed, first, len(positions))
    turned = frames.rotate(positions, rotations)
    return turned, None if momenta is None else frames.rotate(momenta, rotations)


@random.compiled
def _fill_sphere(out, seed, first, radius, min_distance, attempts):
    """Draw every event, and return the row of the first that failed, or -1."""
    for i in range(out.shape[0]):
        event, block = first + np.uint64(i), np.uint64(0)
        apart = False
        for _ in range(attempts):
            apart = True
            for j in range(out.shape[1]):
                x = y = z = 1.0
                while x * x + y * y + z * z > 1.0:  # from the cube about the sphere, 52 % hit
                    x, y = random.uniform_pair(seed, event, _GEOMETRY, block)
                    z, _ = random.uniform_pair(seed, event, _GEOMETRY, block + _ONE)
                    x, y, z = 2.0 * x - 1.0, 2.0 * y - 1.0, 2.0 * z - 1.0
                    block += _TWO
                out[i, j, 0], out[i, j, 1], out[i, j, 2] = radius * x, radius * y, radius * z
                for k in range(j):
                    dx = out[i, j, 0] - out[i, k, 0]
                    dy = out[i, j, 1] - out[i, k, 1]
                    dz = out[i, j, 2] - out[i, k, 2]
                    apart &= dx * dx + dy * dy + dz * dz >= min_distance * min_distance
                if not apart:
                    break
            if apart:
                break
        if not apart:
            return i
    return -1


def _check_positive(options, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if not (np.isfinite(value) and value > 0):
            msg = f"{options.name}: {name} must be positive and finite, got {value}"
            raise ValueError(msg)


def _check_limits(options, name: str, *, highest: float) -> None:
    """Turn an option into a pair of floats, from TOML a list, in ascending order."""
    given = getattr(options, name)
    limits = tuple(float(limit) for limit in given)
    if len(limits) != 2 or not (
        0 <= limits[0] <= limits[1] <= highest and limits[1] < math.inf
    ):
        msg = f"{options.name}: {name} must be (from, to), 0 to {highest:g}, got {given}"
        raise ValueError(msg)
    object.__setattr__(options, name, limits)
