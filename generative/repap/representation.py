"""A frame as a sequence of atoms in a box: moved into it, turned at random, put in order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import InvalidDataError
from generative import choices
from generative.representation import Representation
from generative.structures import Structure

from . import order as orders
from .frames import Frames

AUGMENTS = ("auto", "none", "cube", "translations", "all")

_MARGIN = 0.1  #: of the extent of the atoms, between them and the walls of a closed box
_NEAREST = 0.3  #: Å; nuclei of molecules are farther apart
_SMALLEST = 1.5  #: a periodic box is longer than this many shortest distances


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of a representation; see `Sequences`.

    Attributes
    ----------
    order, augment : str
        Also "auto".
    periodic : bool, optional
        As the file says when omitted; False closes a periodic cell: atoms are moved into it,
        and see nothing through its faces.
    """

    order: str = "auto"
    augment: str = "auto"
    periodic: bool | None = None

    def __post_init__(self):
        for name, known in (("order", orders.ORDERS), ("augment", AUGMENTS)):
            if getattr(self, name) not in known:
                msg = f"{name} must be {', '.join(known)}, got {getattr(self, name)!r}"
                raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Sequences(Representation):
    """Positions of atoms, Å, in the order in which they are placed.

    Attributes
    ----------
    numbers : (atoms,) tuple of int
        Of the slots of the sequence.
    atoms : (atoms,) tuple of int
        Which atom of a file fills each slot; where frames are ordered by themselves, up to
        the order among those of one element.
    low, lengths : (3,) tuples of float
        Corner and edges of the box, Å.
    periodic : bool
        Else the box is closed: a cell, or, of atoms in no cell, what holds all of them with a
        margin.
    order : str
        "mean-distance" to the origin over the training data; "spatial": along x, in each
        frame; "given". "auto" in `Wanted`: "spatial" if atoms leave their places.
    augment : str
        "none"; "cube": symmetries of the box; "translations"; "all". "auto" in `Wanted`:
        "all" in a periodic liquid, else "none".
    closest : float
        Shortest distance between two atoms in the training data, Å.
    """

    numbers: tuple[int, ...]
    atoms: tuple[int, ...]
    low: tuple[float, float, float]
    lengths: tuple[float, float, float]
    periodic: bool
    order: str
    augment: str
    closest: float

    kind = "trajectory"
    noun = "frames"
    needs = ("positions", "cell", "periodic", "numbers")
    limits = (
        "It knows these atoms in this box at this temperature, and nothing else. Frames of\n"
        "one trajectory are alike: what is far in time from training is a fair test, what\n"
        "another run shows a better one."
    )

    def __post_init__(self):
        for name, known in (("order", orders.ORDERS), ("augment", AUGMENTS)):
            if getattr(self, name) not in known[1:]:
                msg = f"{name} must be {', '.join(known)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if not self.periodic and self.augment in ("translations", "all"):
            msg = "a closed box has no translations; augment must be none or cube"
            raise ValueError(msg)
        if self.augment != "none" and self.order == "mean-distance":
            msg = "atoms that are moved have no mean distance; order=spatial or augment=none"
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), 3)

    @property
    def condition_size(self) -> int:
        return 0

    @property
    def draws(self) -> bool:
        return self.augment != "none"

    @property
    def anchored(self) -> bool:
        """Return whether a place in the box means anything."""
        return self.augment not in ("translations", "all")

    @property
    def species(self) -> tuple[int, ...]:
        """Return the element of each slot, counted from 0."""
        found = list(dict.fromkeys(self.numbers))
        return tuple(found.index(number) for number in self.numbers)

    @classmethod
    def source(cls, paths: Sequence[Path], **options: Any) -> Frames:  # noqa: ARG003
        return Frames.of(paths)

    @classmethod
    def fit(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> "Sequences":
        """Make the representation of a trajectory.

        Parameters
        ----------
        arrays : mapping
            `positions` (frames, atoms, 3), unwrapped, of the training part; `cell`,
            `periodic`, `numbers`.
        options
            Fields of `Wanted`.

        Raises
        ------
        ValueError
            If an option is unknown, or does not fit another.
        InvalidDataError
            If the cell is not orthorhombic, periodic along some axes only, or too small.
        """
        choices.check(Wanted, options)
        wanted = Wanted(**options)
        order, augment, periodic = wanted.order, wanted.augment, wanted.periodic
        positions, numbers = arrays["positions"], np.asarray(arrays["numbers"])
        in_cell = _is_periodic(arrays)
        periodic = in_cell if periodic is None else periodic
        if periodic and not in_cell:
            msg = "the atoms are in no periodic cell; periodic must be false"
            raise ValueError(msg)
        low, lengths = _box(positions, np.asarray(arrays["cell"]), in_cell)
        near_home = orders.at_home(positions, lengths) if in_cell else positions
        melted = orders.wanders(near_home, float(np.prod(lengths)))
        if order == "auto":
            order = "spatial" if melted else "mean-distance"
        if augment == "auto":
            augment = "all" if order == "spatial" and periodic else "none"
        atoms = np.arange(len(numbers))
        if order == "mean-distance":
            atoms = orders.by_mean_distance(near_home)
        if order == "spatial":
            atoms = orders.by_element(numbers)
        if in_cell and not periodic:
            positions = _wrapped(positions, lengths)
        closest = shortest(positions, lengths if periodic else None)
        if closest < _NEAREST:
            msg = (
                f"two atoms come as near as {closest:.3g} Å in a frame; correct positions, "
                "cell or unit (Å)"
            )
            raise InvalidDataError(msg)
        if periodic and lengths.min() < _SMALLEST * closest:
            msg = (
                f"the cell is {lengths.min():.3g} Å, the shortest distance {closest:.3g} Å: "
                "too small to tell atoms from their images; repeat the cell"
            )
            raise InvalidDataError(msg)
        return cls(
            numbers=tuple(numbers[atoms].tolist()),
            atoms=tuple(atoms.tolist()),
            low=tuple(low.tolist()),
            lengths=tuple(lengths.tolist()),
            periodic=periodic,
            order=order,
            augment=augment,
            closest=closest,
        )

    def encode(
        self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.asarray(arrays["numbers"])
        if tuple(numbers[list(self.atoms)].tolist()) != self.numbers:
            msg = "these are other atoms, or another order, than those of the model"
            raise InvalidDataError(msg)
        lengths, in_cell = np.array(self.lengths), _is_periodic(arrays)
        folded = self.periodic or in_cell
        if folded and not np.allclose(arrays["cell"], np.diag(lengths), atol=1e-6):
            said = np.round(arrays["cell"], 4).tolist()
            msg = f"the cell is {said} Å, and the model knows {lengths.round(4).tolist()} only"
            raise InvalidDataError(msg)
        x = np.asarray(arrays["positions"], float)[:, list(self.atoms)] - self.low
        if self.augment in ("cube", "all"):
            middle = 0 if self.periodic else lengths / 2
            x = orders.turned(x - middle, lengths, rng) + middle
        if self.augment in ("translations", "all"):
            x = x + rng.random((len(x), 1, 3)) * lengths
        x = _wrapped(x, lengths) if folded else self._inside(x)
        if self.order == "spatial":
            x = orders.along_x(x, np.array(self.numbers))
        return x, np.zeros((len(x), 0))

    def decode(self, x: np.ndarray) -> list[Structure]:
        """Return structures of samples (m, atoms, 3)."""
        cell = np.diag(self.lengths) if self.periodic else np.zeros((3, 3))
        periodic = np.full(3, self.periodic)
        return [
            Structure(
                positions=np.asarray(frame, float) + self.low,
                cell=cell,
                periodic=periodic,
                numbers=np.array(self.numbers),
            )
            for frame in x
        ]

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Sequences":
        made: dict[str, Any] = dict(description)
        for name in ("numbers", "atoms", "low", "lengths"):
            made[name] = tuple(made[name])
        return cls(**made)

    def _inside(self, x: np.ndarray) -> np.ndarray:
        """Refuse atoms outside of a closed box."""
        out = ((x < 0) | (x >= np.array(self.lengths))).any(2)
        if out.any():
            frame, slot = np.argwhere(out)[0]
            msg = (
                f"{np.any(out, axis=1).sum()} of {len(x)} frames have atoms outside of the "
                f"closed box; the first is frame {frame}, atom {self.atoms[slot]}"
            )
            raise InvalidDataError(msg)
        return x


def shortest(positions: np.ndarray, lengths: np.ndarray | None) -> float:
    """Return the shortest distance between two atoms in any frame, Å."""
    i, j = np.tril_indices(positions.shape[1], -1)
    least = np.inf
    for block in np.array_split(positions, len(positions) // 1000 + 1):
        d = block[:, i] - block[:, j]
        if lengths is not None:
            d -= np.rint(d / lengths) * lengths
        least = min(least, float((d**2).sum(2).min(initial=np.inf)))
    return least**0.5


def _wrapped(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Move atoms into the cell."""
    x = x - np.floor(x / lengths) * lengths
    # models read single precision, where what is just below a face lies on it
    on_face = (x < 0) | (x.astype(np.float32) >= lengths.astype(np.float32))
    return np.where(on_face, 0.0, x)


def _is_periodic(arrays: Mapping[str, np.ndarray]) -> bool:
    periodic = np.asarray(arrays["periodic"], bool)
    if periodic.any() != periodic.all():
        msg = "the cell is periodic along some axes only; RePAP knows all three or none"
        raise InvalidDataError(msg)
    return bool(periodic.all())


def _box(
    positions: np.ndarray, cell: np.ndarray, in_cell: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return corner and edges: of the cell, or of a box that holds all atoms with a margin."""
    if in_cell:
        lengths = np.diag(cell)
        if np.abs(cell - np.diag(lengths)).max() > 1e-6 or lengths.min() <= 0:
            msg = f"the cell must be orthorhombic, along x, y and z; got rows {cell.tolist()}"
            raise InvalidDataError(msg)
        return np.zeros(3), lengths.copy()
    low, high = positions.min((0, 1)), positions.max((0, 1))
    margin = _MARGIN * (high - low).max()
    return low - margin, high - low + 2 * margin
