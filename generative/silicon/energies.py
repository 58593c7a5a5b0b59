"""Energies of structures under a potential, and what they relax to."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from coulex.errors import InvalidDataError
from generative.structures import Structure

from .dynamics import relaxed
from .engine import SILICON, Engine
from .potentials import potential_of


def energies(structures: Sequence[Structure], potential: str = "edip") -> np.ndarray:
    """Return the potential energy per atom of each structure, (m,) eV.

    It is infinite where atoms coincide.

    Raises
    ------
    MissingExtraError
        If LAMMPS is not installed.
    InvalidDataError
        If a structure is not of silicon, or not finite.
    """
    found = [engine.thermo("pe") / len(s) for s, engine in _placed(structures, potential)]
    return np.where(np.isfinite(found), found, np.inf) if found else np.zeros(0)


def relax(
    structures: Sequence[Structure], potential: str = "edip"
) -> tuple[np.ndarray, list[Structure]]:
    """Let the atoms of each structure go downhill at constant cell.

    Returns
    -------
    energies : (m,) array
        Per atom, eV; infinite where atoms coincide, and no force says where to go.
    relaxed : list of Structure
        The same atoms, cells and info. A structure that cannot be relaxed is as it was.

    Raises
    ------
    MissingExtraError, InvalidDataError
        As `energies`.
    """
    found, moved = [], []
    for structure, engine in _placed(structures, potential):
        energy, end = np.inf, structure
        if np.isfinite(engine.thermo("pe")):
            relaxed(engine)
            energy = engine.thermo("pe") / len(structure)
            end = replace(structure, positions=engine.positions())
        found.append(energy)
        moved.append(end)
    return np.array(found, float), moved


def _placed(
    structures: Sequence[Structure], potential: str
) -> Iterator[tuple[Structure, Engine]]:
    """Yield each structure with an engine that holds it and has evaluated its energy."""
    chosen, last = potential_of(potential), None
    with ExitStack() as open_engine:
        engine = None
        for number, structure in enumerate(structures):
            other = np.flatnonzero(structure.numbers != SILICON)
            if len(other):
                what = f"atom {other[0]} of structure {number} has number"
                msg = f"{what} {structure.numbers[other[0]]}; {potential} is of silicon, 14"
                raise InvalidDataError(msg)
            if engine is None or last is None or not _same_box(structure, last):
                open_engine.close()
                engine = open_engine.enter_context(
                    Engine(chosen, structure.positions, structure.cell, structure.periodic)
                )
                engine.commands("run 0 post no")
            else:
                engine.move(structure.positions)
            last = structure
            yield structure, engine


def _same_box(one: Structure, other: Structure) -> bool:
    """Return whether one engine does for both: where all is periodic, cell and atoms agree."""
    return (
        len(one) == len(other)
        and bool(one.periodic.all() and other.periodic.all())
        and np.array_equal(one.cell, other.cell)
    )
