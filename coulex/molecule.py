"""A molecule: what explodes, as the atoms it has, where they are and what charges they get.

Positions are in bohr, masses in electron masses, charges in elementary charges; atoms are
counted from 0. A molecule comes from the shipped library, a structure file or arrays, and each
change of isotopes or charges makes a new one:

    Molecule.named("OCS").with_isotopes({"C": 13}).with_charges({"total": 6})
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from .charges import Charges, charges_of, parse_charges
from .elements import atomic_number, average_mass, isotope_mass, most_abundant, split_symbol
from .errors import InvalidDataError
from .structure import check_geometry, read_structures
from .units import ANGSTROM, U

__all__ = ["Molecule", "parse_charges"]


@cache
def _library() -> dict:
    text = resources.files("coulex").joinpath("data/molecules.json").read_text("utf-8")
    return json.loads(text)


@dataclass(frozen=True, kw_only=True, eq=False)
class Molecule:
    """Atoms with positions, masses and the charges they are going to have.

    Made by `named`, `read` or `of`, rarely by hand. The arrays are copies, and read-only.
    """

    name: str
    symbols: tuple[str, ...]  #: elements, without isotopes
    positions: np.ndarray  #: (ions, 3), bohr
    masses: np.ndarray  #: (ions,), of the neutral atoms, electron masses
    charges: np.ndarray  #: (ions,), elementary charges
    mass_numbers: tuple[int, ...] | None  #: of the isotopes; None for natural averages

    def __post_init__(self):
        ions = len(self.symbols)
        for name, shape in (
            ("positions", (ions, 3)),
            ("masses", (ions,)),
            ("charges", (ions,)),
        ):
            array = np.array(getattr(self, name), dtype=float)
            if array.shape != shape:
                msg = f"{ions} ions, so {name} must be {shape}, got {array.shape}"
                raise ValueError(msg)
            if not np.isfinite(array).all():
                i = np.argwhere(~np.isfinite(array))[0, 0]
                msg = f"{name} of atom {i} ({self.symbols[i]}) are not finite: {array[i]}"
                raise InvalidDataError(msg)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if ions < 2:
            msg = f"{self.name or 'molecule'}: {ions} atoms; an explosion takes at least two"
            raise InvalidDataError(msg)
        if (self.ion_masses <= 0).any():
            i = int(np.argmin(self.ion_masses))
            msg = f"ion {i} ({self.symbols[i]}) would have the mass {self.ion_masses[i]}"
            raise InvalidDataError(msg)

    @property
    def ion_masses(self) -> np.ndarray:
        """Masses (ions,) of the ions: the atoms', less one electron for each charge."""
        return self.masses - self.charges

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers (ions,)."""
        return np.array([atomic_number(symbol) for symbol in self.symbols])

    @classmethod
    def of(cls, symbols: Sequence[str], positions, *, name: str = "") -> "Molecule":
        """Make a molecule of arrays, with charge 1 for each ion.

        Parameters
        ----------
        symbols : sequence of str
            Elements, in their most abundant isotope, or isotopes as "13C", "D", "T".
        positions : (ions, 3) array
            In bohr.
        name : str

        Raises
        ------
        ValueError
            If a symbol is unknown, the shapes disagree or a coordinate is not finite.
        """
        pairs = [split_symbol(symbol) for symbol in symbols]
        elements = tuple(element for element, _ in pairs)
        numbers = tuple(number or most_abundant(element) for element, number in pairs)
        return cls(
            name=name,
            symbols=elements,
            positions=positions,
            masses=_masses(elements, numbers),
            charges=np.ones(len(elements)),
            mass_numbers=numbers,
        )

    @classmethod
    def names(cls) -> list[str]:
        """Return what `named` knows, sorted."""
        return sorted(_library()["structures"] | _library()["g2"])

    @classmethod
    def named(cls, name: str) -> "Molecule":
        """Return a molecule of the shipped library, with charge 1 for each ion.

        Raises
        ------
        ValueError
            If there is none of this name; the message lists those that there are.

        Notes
        -----
        Structures from experiment come with their source in ``data/molecules.json``. The
        others are those of the g2 set that ASE ships, MP2(full)/6-31G(d).
        """
        library = _library()
        if name in library["structures"]:
            entry = library["structures"][name]
            return cls.of(
                entry["symbols"], np.array(entry["positions_angstrom"]) * ANGSTROM, name=name
            )
        if name not in library["g2"]:
            msg = f"no molecule {name!r} in the library; it has {', '.join(cls.names())}"
            raise ValueError(msg)
        from ase.build import molecule  # half a second, and wanted only here

        atoms = molecule(library["g2"][name])
        return cls.of(atoms.get_chemical_symbols(), atoms.positions * ANGSTROM, name=name)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        index: int = -1,
        units: str | None = None,
        ignore_cell: bool = False,
        min_distance_angstrom: float = 0.1,
    ) -> "Molecule":
        """Read one structure from a file, with charge 1 for each ion.

        Parameters
        ----------
        path : path
            In any format that ASE reads.
        index : int
            Which structure of the file, from 0; the last when omitted.
        units : {"angstrom", "bohr"}, optional
            Of the coordinates in an xyz file; angstrom when omitted.
        ignore_cell : bool
            Accept a periodic structure, as an isolated molecule.
        min_distance_angstrom : float
            Shortest distance between two atoms that is believed, in Å.

        Raises
        ------
        InvalidDataError
            If the file is none, or what it holds is no molecule: see `structure`.
        """
        structures = read_structures(path, units=units, ignore_cell=ignore_cell)
        if not -len(structures) <= index < len(structures):
            msg = f"{path}: {len(structures)} structures, so there is no index {index}"
            raise InvalidDataError(msg)
        symbols, positions = structures[index]
        check_geometry(
            symbols,
            positions,
            where=str(path),
            min_distance_angstrom=min_distance_angstrom,
            unit_known=units is not None,
        )
        return cls.of(symbols, positions, name=Path(path).stem)

    @classmethod
    def read_frames(
        cls,
        path: str | Path,
        *,
        units: str | None = None,
        ignore_cell: bool = False,
        min_distance_angstrom: float = 0.1,
    ) -> tuple["Molecule", np.ndarray]:
        """Read all frames of a trajectory, which must have the same atoms in the same order.

        Returns
        -------
        molecule : Molecule
            In the geometry of the first frame.
        positions : (frames, ions, 3) array
            In bohr.

        Other parameters and errors are those of `read`.
        """
        structures = read_structures(path, units=units, ignore_cell=ignore_cell)
        first = structures[0][0]
        for frame, (symbols, positions) in enumerate(structures):
            if symbols != first:
                msg = f"{path}: frame {frame} consists of {' '.join(symbols)}, unlike frame 0"
                raise InvalidDataError(msg)
            check_geometry(
                symbols,
                positions,
                where=f"{path}: frame {frame}",
                min_distance_angstrom=min_distance_angstrom,
                unit_known=units is not None,
            )
        frames = np.array([positions for _, positions in structures])
        return cls.of(first, frames[0], name=Path(path).stem), frames

    def with_charges(self, given: Charges, *, allow_attraction: bool = False) -> "Molecule":
        """Return the molecule with other charges, given as for `charges.charges_of`."""
        charges = charges_of(
            self.symbols, self.masses, given, allow_attraction=allow_attraction
        )
        return replace(self, charges=charges)

    def with_isotopes(self, isotopes: Mapping[str | int, int]) -> "Molecule":
        """Return the molecule with other isotopes.

        Parameters
        ----------
        isotopes : mapping
            From an element, or from the index of an atom, to a mass number: {"C": 13, 0: 18}.
            An index outdoes the element. The rest stays, or becomes the most abundant isotope
            where it was an average.

        Raises
        ------
        ValueError
            If the molecule has no such atom, or the atom no such isotope.
        """
        common = tuple(most_abundant(symbol) for symbol in self.symbols)
        numbers = list(self.mass_numbers or common)
        for key in sorted(isotopes, key=lambda key: isinstance(key, int)):
            atoms = [i for i, symbol in enumerate(self.symbols) if key in (symbol, i)]
            if not atoms:
                msg = f"isotopes for {key!r}, but the atoms are {' '.join(self.symbols)}"
                raise ValueError(msg)
            for i in atoms:
                numbers[i] = isotopes[key]
        masses = _masses(self.symbols, numbers)
        return replace(self, masses=masses, mass_numbers=tuple(map(int, numbers)))

    def with_average_masses(self) -> "Molecule":
        """Return the molecule with natural averages, which published data sets used."""
        masses = U * np.array([average_mass(symbol) for symbol in self.symbols])
        return replace(self, masses=masses, mass_numbers=None)

    def describe(self) -> dict:
        """Return all that the molecule is as plain numbers and text, for JSON."""
        return {
            "name": self.name,
            "symbols": list(self.symbols),
            "mass_numbers": None if self.mass_numbers is None else list(self.mass_numbers),
            "positions": self.positions.tolist(),
            "masses": self.masses.tolist(),
            "charges": self.charges.tolist(),
        }


def _masses(elements: Sequence[str], mass_numbers: Sequence[int]) -> np.ndarray:
    pairs = zip(elements, mass_numbers, strict=True)
    return U * np.array([isotope_mass(element, number) for element, number in pairs])
