"""Reading structure files, through ASE but behind checks of our own.

ASE reads every format, and reads NaN, coincident atoms, empty files and coordinates in bohr
without a word. Here each of them is an error that names the file and the atom.
"""

import io
import re
from pathlib import Path

import numpy as np

from .elements import split_symbol
from .errors import InvalidDataError
from .units import ANGSTROM, to_atomic

#: shortest and longest distances, in Å, that a molecule plausibly consists of throughout
_SHORT, _LONG = 0.5, 20.0
#: words in the comment of an xyz file, whose unit is Å by convention, that say otherwise
IN_BOHR = re.compile(r"\b([Bb]ohrs?|BOHR|a\.u\.|au|AU|a0|[Aa]tomic units?)(?![\w.])")


def read_structures(path, *, units=None, ignore_cell=False):
    """Return the symbols and positions of every structure in a file.

    Parameters
    ----------
    path : path
        Of any format that ASE knows by its name or content.
    units : {"angstrom", "bohr"}, optional
        Of the coordinates of an xyz file; angstrom when omitted. Other formats fix it.
    ignore_cell : bool
        Take a periodic structure as an isolated molecule, instead of refusing it.

    Returns
    -------
    list of (tuple of str, (atoms, 3) array)
        Symbols as `elements.split_symbol` takes them, with isotopes, and positions in bohr.

    Raises
    ------
    InvalidDataError
        If the file is empty, unreadable, periodic or not in the declared units, or a symbol
        or coordinate is not one.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: no such file"
        raise InvalidDataError(msg)
    plain = path.suffix.lower() in {".xyz", ".extxyz"}
    if units is not None and not plain and to_atomic(units, "length") != ANGSTROM:
        msg = f"{path}: its format fixes the unit of length; leave out `units`"
        raise InvalidDataError(msg)
    if path.stat().st_size == 0:
        msg = f"{path}: the file is empty"
        raise InvalidDataError(msg)
    labels, frames = _read_xyz(path, units) if plain else (None, _read_any(path))
    if not frames:
        msg = f"{path}: the file holds no structure"
        raise InvalidDataError(msg)
    if not ignore_cell and any(atoms.pbc.any() for atoms in frames):
        msg = (
            f"{path}: a periodic cell, but molecules explode in isolation; "
            "take one molecule out, or set `ignore_cell` (--ignore-cell)"
        )
        raise InvalidDataError(msg)
    factor = to_atomic(units, "length") if units is not None else ANGSTROM
    symbols = labels or [tuple(atoms.get_chemical_symbols()) for atoms in frames]
    for names in symbols:
        _check_symbols(names, path)
    return [(s, atoms.positions * factor) for s, atoms in zip(symbols, frames, strict=True)]


def _read_any(source, **options) -> list:
    """Read all frames by ASE, whose failures become ours."""
    import ase.io  # half a second, and wanted only here

    try:
        return list(ase.io.read(source, index=":", **options))
    except Exception as error:  # the readers of ASE raise whatever comes up
        name = getattr(source, "name", source)
        msg = f"{name}: not readable as a structure: {type(error).__name__}: {error}"
        raise InvalidDataError(msg) from error


def _check_symbols(symbols, path):
    for i, symbol in enumerate(symbols):
        try:
            split_symbol(symbol)
        except InvalidDataError as error:
            msg = f"{path}: atom {i}: {error}"
            raise InvalidDataError(msg) from None


def xyz_frames(path, lines):
    """Yield the line of the comment and the range of the atoms of each frame of an xyz file.

    Parameters
    ----------
    path : Path
        For messages.
    lines : list of str
        Of the file; indices count from 0.

    Raises
    ------
    InvalidDataError
        If there is no number of atoms where there should be one, or the file ends too early.
    """
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not lines[at].strip().isdigit():
            msg = f"{path}: line {at + 1}: expected a number of atoms, got {lines[at]!r}"
            raise InvalidDataError(msg)
        atoms = int(lines[at])
        rows = range(at + 2, at + 2 + atoms)
        if rows.stop > len(lines):
            msg = f"{path}: line {at + 1} promises {atoms} atoms, but the file ends before"
            raise InvalidDataError(msg)
        yield at + 1, rows
        at = rows.stop


def _read_xyz(path, units):
    """Return the symbols as written, and ASE's frames of the file with plain elements."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    labels = []
    for at, rows in xyz_frames(path, lines):
        comment = lines[at]
        said = IN_BOHR.search(comment)
        if said and units is None:
            msg = (
                f"{path}: line {at + 1} says {said[0]!r}, but xyz files are in Å; "
                "say which it is, by `units` (--units bohr or --units angstrom)"
            )
            raise InvalidDataError(msg)
        column = _species_column(comment)
        labels.append(tuple(_replace_symbol(lines, row, column, path) for row in rows))
    text = io.StringIO("\n".join(lines) + "\n")
    text.name = str(path)
    return labels, _read_any(text, format="extxyz") if labels else []


def _species_column(comment):
    """Return the column of the symbols, the first unless the comment says otherwise."""
    found = re.search(r'Properties="?([^\s"]+)', comment)
    fields = found[1].split(":") if found else []
    column = 0
    for name, width in zip(fields[::3], fields[2::3], strict=False):
        if name.lower() == "species":
            return column
        column += int(width)
    return 0


def _replace_symbol(lines, row, column, path):
    """Write the element over the symbol in a line, and return the symbol as it was."""
    tokens = lines[row].split()
    if len(tokens) < 4:
        msg = (
            f"{path}: line {row + 1}: expected a symbol and 3 coordinates, got {lines[row]!r}"
        )
        raise InvalidDataError(msg)
    symbol = tokens[column]
    try:
        tokens[column] = split_symbol(symbol)[0]
    except InvalidDataError as error:
        msg = f"{path}: line {row + 1}: {error}"
        raise InvalidDataError(msg) from None
    lines[row] = " ".join(tokens)
    return symbol


def check_geometry(symbols, positions, *, where, min_distance_angstrom=0.1, unit_known=False):
    """Refuse a geometry that no molecule has.

    Parameters
    ----------
    symbols : sequence of str
    positions : (atoms, 3) array
        In bohr.
    where : str
        What the message starts with, such as the name of the file.
    min_distance_angstrom : float
        Shortest distance between two atoms that is believed, in Å.
    unit_known : bool
        The unit was declared: sizes are what they are, and no mistake in units is looked for.

    Raises
    ------
    InvalidDataError
        If there are fewer than two atoms, a coordinate is not finite, two atoms are too close,
        or all distances look as if another unit was meant.
    """
    if len(symbols) < 2:
        msg = f"{where}: {len(symbols)} atoms; an explosion takes at least two"
        raise InvalidDataError(msg)
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if bad.size:
        i = bad[0]
        msg = (
            f"{where}: atom {i} ({symbols[i]}) has coordinates {positions[i]}, not all finite"
        )
        raise InvalidDataError(msg)
    first, second = np.triu_indices(len(symbols), 1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1) / ANGSTROM
    shortest = distances.argmin()
    hint = ""
    if not unit_known and (distances.max() < _SHORT or distances.min() > _LONG):
        hint = (
            f"all distances lie between {distances.min():.3g} and {distances.max():.3g} Å; "
            "were other units meant? Say so by `units` (--units bohr or --units angstrom)"
        )
    if distances[shortest] < min_distance_angstrom:
        i, j = first[shortest], second[shortest]
        msg = (
            f"{where}: atoms {i} ({symbols[i]}) and {j} ({symbols[j]}) are "
            f"{distances[shortest]:.3g} Å apart, less than {min_distance_angstrom:g} Å; "
            f"correct them, or lower `min_distance_angstrom` (--min-distance); {hint}"
        )
        raise InvalidDataError(msg.rstrip("; "))
    if hint:
        msg = f"{where}: {hint}"
        raise InvalidDataError(msg)
