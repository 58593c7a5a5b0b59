"""Structure files in and out: through ASE or our own reader, and behind checks of our own.

ASE reads not-a-number, coincident atoms, empty files, lengths in bohr and cells of the wrong
size without a word. Here each of them is one line that says what is wrong and where.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coulex.dataset.files import write_bytes
from coulex.errors import InvalidDataError
from coulex.structure import IN_BOHR

from . import extxyz
from .neighbours import complete, pairs
from .structure import Structure

_OVERLAP = 0.6  #: of the sum of two covalent radii: closer atoms are a mistake
_PACKING = (0.02, 1.2)  #: share of the cell that spheres of covalent radius fill, plausibly
_DENSITY = (0.6, 1.7)  #: of an element, over the density of its crystal, plausibly
_WHOLE = 1e-3  #: what an occupancy may lack
_REMEDY = 'correct it; of a slab in vacuum say pbc="T T F", of a cluster pbc="F F F"'
_DALTON_PER_A3 = 1.66053906660  #: in g/cm³


def read(path: Path | str, *, check: bool = True, overlap: bool = False) -> list[Structure]:
    """Return all structures of a file.

    Parameters
    ----------
    path : path
        Of any format that ASE knows by its name or content.
    check : bool
        Also refuse a cell whose density nothing has.
    overlap : bool
        Accept atoms that overlap, as in structures that a model has drawn.

    Raises
    ------
    InvalidDataError
        If the file is missing, empty or unreadable, or a structure is none: a coordinate that
        is not finite, a site that holds an atom in part, atoms that overlap, a cell without
        volume or of implausible density.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: no such file"
        raise InvalidDataError(msg)
    if path.stat().st_size == 0:
        msg = f"{path}: the file is empty"
        raise InvalidDataError(msg)
    if path.suffix.lower() == ".h5":
        msg = f"{path}: a data set or a trajectory; a structure file is wanted, as .extxyz"
        raise InvalidDataError(msg)
    plain = path.suffix.lower() in {".xyz", ".extxyz"}
    structures = _read_xyz(path) if plain else _read_any(path)
    if not structures:
        msg = f"{path}: the file holds no structure"
        raise InvalidDataError(msg)
    for k, structure in enumerate(structures):
        where = str(path) if len(structures) == 1 else f"{path}: frame {k}"
        check_structure(structure, where=where, density=check, overlap=overlap)
    return structures


def write(
    path: Path | str,
    structures: Sequence[Structure],
    info: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write structures as extended xyz, to a file that is whole or absent.

    Parameters
    ----------
    path : path
    structures : sequence of Structure
    info : sequence of mapping, optional
        Numbers, words and truth values to keep with each; those of the structures when
        omitted.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    said = [s.info for s in structures] if info is None else info
    frames = (extxyz.format_frame(s, i) for s, i in zip(structures, said, strict=True))
    write_bytes(Path(path), "".join(frames).encode())


def _read_xyz(path: Path) -> list[Structure]:
    comments, structures = extxyz.parse(path)
    for k, comment in enumerate(dict.fromkeys(comments)):
        said = IN_BOHR.search(comment)
        if said:
            msg = (
                f"{path}: comment {k} says {said[0]!r}, but xyz files are in Å; convert the "
                "coordinates, or take the word out"
            )
            raise InvalidDataError(msg)
    return structures


def _read_any(path: Path) -> list[Structure]:
    """Read all frames by ASE, whose failures become ours."""
    import ase.io  # half a second, and wanted only here

    try:
        frames: list[Any] = list(ase.io.iread(path, index=":"))
    except Exception as error:  # the readers of ASE raise whatever comes up
        msg = f"{path}: not readable as structures: {type(error).__name__}: {error}"
        raise InvalidDataError(msg) from error
    for atoms in frames:
        _check_occupancy(atoms.info.get("occupancy", {}), path)
    return [
        Structure(
            positions=atoms.positions,
            cell=atoms.cell.array,
            periodic=atoms.pbc,
            numbers=atoms.numbers,
            info=dict(atoms.info),
        )
        for atoms in frames
    ]


def _check_occupancy(occupancy: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Refuse sites of a CIF file that hold an atom in part, which ASE reads as whole atoms."""
    for site, shares in occupancy.items():
        if len(shares) > 1 or any(share < 1 - _WHOLE for share in shares.values()):
            said = ", ".join(f"{share:g} {symbol}" for symbol, share in shares.items())
            msg = f"{path}: site {site} holds {said}; choose whole atoms for it"
            raise InvalidDataError(msg)


def check_structure(
    structure: Structure, *, where: str, density: bool = True, overlap: bool = False
) -> None:
    """Refuse what is no structure.

    Parameters
    ----------
    structure : Structure
    where : str
        What the message starts with, such as the name of the file.
    density : bool
        Also refuse a periodic cell whose density nothing has.
    overlap : bool
        Accept atoms that overlap.

    Raises
    ------
    InvalidDataError
        See `read`.
    """
    if not len(structure):
        msg = f"{where}: no atoms"
        raise InvalidDataError(msg)
    bad = np.flatnonzero(~np.isfinite(structure.positions).all(axis=1))
    if bad.size:
        i = int(bad[0])
        at = structure.positions[i].tolist()
        msg = f"{where}: atom {i} ({_symbol(structure, i)}) is at {at}, not all finite"
        raise InvalidDataError(msg)
    unknown = np.flatnonzero((structure.numbers < 1) | (structure.numbers > 118))
    if unknown.size:
        i = int(unknown[0])
        msg = f"{where}: atom {i} is of no element, its number is {structure.numbers[i]}"
        raise InvalidDataError(msg)
    try:
        complete(structure.cell, structure.periodic)
    except ValueError as error:
        msg = f"{where}: {error}; correct the cell, or say that it does not repeat"
        raise InvalidDataError(msg) from None
    if not overlap:
        _check_overlap(structure, where)
    if density and structure.periodic.all():
        _check_density(structure, where)


def _check_overlap(structure: Structure, where: str) -> None:
    radii = _covalent_radii()[structure.numbers]
    near = pairs(
        *(structure.positions, structure.cell, structure.periodic),
        cutoff=2 * _OVERLAP * float(radii.max()),
    )
    least = _OVERLAP * (radii[near.i] + radii[near.j])
    bad = np.flatnonzero(near.distance < least)
    if not bad.size:
        return
    worst = bad[np.argmin(near.distance[bad] / least[bad])]
    i, j = int(near.i[worst]), int(near.j[worst])
    image = "an image of " if near.shift[worst].any() else ""
    msg = (
        f"{where}: atoms {i} ({_symbol(structure, i)}) and {image}{j} "
        f"({_symbol(structure, j)}) are {near.distance[worst]:.3g} Å apart, less than "
        f"{least[worst]:.3g} Å, {_OVERLAP:g} of the sum of their radii; correct positions, "
        "cell or unit (Å)"
    )
    raise InvalidDataError(msg)


def _check_density(structure: Structure, where: str) -> None:
    found = density_of(structure)
    elements = np.unique(structure.numbers)
    believed = believed_density(int(elements[0])) if len(elements) == 1 else None
    if believed is not None:
        low, crystal, high = believed
        if not low <= found <= high:
            msg = (
                f"{where}: the density is {found:.3g} g/cm³, but crystalline "
                f"{_symbol(structure, 0)} has {crystal:.3g}, and {low:.3g} to {high:.3g} are "
                f"believed; the cell of {structure.volume:.5g} Å³ does not fit "
                f"{len(structure)} atoms: {_REMEDY}"
            )
            raise InvalidDataError(msg)
        return
    radii = _covalent_radii()[structure.numbers]
    filled = float(4 / 3 * np.pi * (radii**3).sum() / structure.volume)
    if not _PACKING[0] <= filled <= _PACKING[1]:
        msg = (
            f"{where}: the atoms fill {filled:.3g} of the cell, and {_PACKING[0]:g} to "
            f"{_PACKING[1]:g} are believed; the cell of {structure.volume:.5g} Å³ does not "
            f"fit {len(structure)} atoms: {_REMEDY}"
        )
        raise InvalidDataError(msg)


def density_of(structure: Structure) -> float:
    """Return the density of a periodic structure in g/cm³."""
    from ase.data import atomic_masses

    mass = atomic_masses[structure.numbers].sum()
    return float(mass * _DALTON_PER_A3 / structure.volume)


def believed_density(number: int) -> tuple[float, float, float] | None:
    """Return the least density, that of its crystal, and the largest of an element in g/cm³.

    None where ASE knows no simple crystal.
    """
    crystal = _crystal_density(number)
    if crystal is None:
        return None
    low, high = (share * crystal for share in _DENSITY)
    return low, crystal, high


def _crystal_density(number: int) -> float | None:
    """Return the density in g/cm³ of an element's crystal, where ASE knows a simple one."""
    from ase.data import atomic_masses, reference_states

    state = reference_states[number] or {}
    a = state.get("a")
    shares = {"fcc": 1 / 4, "bcc": 1 / 2, "diamond": 1 / 8, "sc": 1.0}
    if a is None or state["symmetry"] not in {*shares, "hcp"}:
        return None
    volume = a**3 * shares.get(state["symmetry"], 0.0)
    if state["symmetry"] == "hcp":
        volume = a**3 * state["c/a"] * 3**0.5 / 4
    return float(atomic_masses[number] * _DALTON_PER_A3 / volume)


def _covalent_radii() -> np.ndarray:
    from ase.data import covalent_radii

    return np.asarray(covalent_radii)


def _symbol(structure: Structure, atom: int) -> str:
    from ase.data import chemical_symbols

    return chemical_symbols[structure.numbers[atom]]
