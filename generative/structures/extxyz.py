"""Extended xyz, read and written in bulk: a trajectory of 40,000 frames takes seconds.

A frame is the number of its atoms, a comment with the cell and what else is known, and a line
for each atom. The comment's grammar is ASE's, and read by it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import InvalidDataError
from coulex.structure import xyz_frames

from .structure import Structure

_DIGITS = 10  #: behind the point, in Å


def parse(path: Path) -> tuple[list[str], list[Structure]]:
    """Return the comments and the structures of a file.

    Raises
    ------
    InvalidDataError
        If it is not extended xyz, is cut short, or has a symbol or number that is none.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments, structures = [], []
    last, header = None, None
    for at, rows in xyz_frames(path, lines):
        if lines[at] != last:
            last = lines[at]
            header = _header(last, f"{path}: line {at + 1}")
        assert header is not None
        cell, periodic, species, position, info = header
        atoms = lines[rows.start : rows.stop]
        symbols, positions = _atoms(atoms, species, position, f"{path}: line", rows.start + 1)
        comments.append(last)
        structures.append(
            Structure(
                positions=positions,
                cell=cell,
                periodic=periodic,
                numbers=_numbers(symbols, f"{path}: line", rows.start + 1),
                info=info,
            )
        )
    return comments, structures


def _header(comment: str, where: str):
    """Return cell, periodicity, columns of symbol and position, and the rest of a comment."""
    from ase.io.extxyz import key_val_str_to_dict

    try:
        info = {k: _plain(v) for k, v in key_val_str_to_dict(comment).items()}
    except Exception as error:  # a comment of plain xyz may be anything
        if "Lattice" in comment or "Properties" in comment:
            msg = f"{where}: not readable as a comment of extended xyz: {error}"
            raise InvalidDataError(msg) from error
        info = {}
    cell, periodic = np.zeros((3, 3)), np.zeros(3, bool)
    lattice = next((info.pop(key) for key in ("Lattice", "lattice") if key in info), None)
    if lattice is not None:
        cell = np.array(lattice, float).T.copy()  # ASE has the vectors as columns
        periodic[:] = True
    if "pbc" in info:
        given = np.atleast_1d(np.asarray(info.pop("pbc")))
        if given.dtype != bool or given.size not in (1, 3):
            msg = f"{where}: pbc must be three of T and F, got {given.tolist()}"
            raise InvalidDataError(msg)
        periodic[:] = given
    columns = info.pop("Properties", "species:S:1:pos:R:3").split(":")
    at, places = 0, {}
    for name, width in zip(columns[::3], columns[2::3], strict=False):
        places[name.lower()] = at
        at += int(width)
    if "species" not in places or "pos" not in places:
        msg = f"{where}: Properties must have species and pos, got {':'.join(columns)}"
        raise InvalidDataError(msg)
    return cell, periodic, places["species"], places["pos"], info


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _atoms(rows: list[str], species: int, position: int, where: str, line: int):
    """Return the symbols and positions of the lines of a frame."""
    words = [row.split() for row in rows]
    least = max(species + 1, position + 3)
    try:
        symbols = [word[species] for word in words]
        positions = np.array([word[position : position + 3] for word in words], float)
        if rows and positions.shape[1:] == (3,):
            return symbols, positions
    except (IndexError, ValueError):
        pass
    for k, word in enumerate(words):
        try:
            if len(word) >= least and all(map(_number, word[position : position + 3])):
                continue
        except ValueError:
            pass
        msg = f"{where} {line + k}: expected a symbol and 3 coordinates, got {rows[k]!r}"
        raise InvalidDataError(msg)
    return [], np.zeros((0, 3))


def _number(word: str) -> bool:
    float(word)
    return True


def _numbers(symbols: list[str], where: str, line: int) -> np.ndarray:
    """Return atomic numbers, of symbols or of numbers written as such."""
    from ase.data import atomic_numbers

    known = {}
    for k, symbol in enumerate(symbols):
        if symbol not in known:
            number = atomic_numbers.get(symbol, int(symbol) if symbol.isdigit() else 0)
            if not 1 <= number <= 118:
                msg = f"{where} {line + k}: {symbol!r} is no element"
                raise InvalidDataError(msg)
            known[symbol] = number
    return np.array([known[symbol] for symbol in symbols], int)


def format_frame(structure: Structure, info: Mapping[str, Any]) -> str:
    """Return the text of a structure, with what is known about it."""
    from ase.data import chemical_symbols

    parts = []
    if structure.cell.any():
        numbers = " ".join(f"{x:.{_DIGITS}f}" for x in structure.cell.ravel())
        parts.append(f'Lattice="{numbers}"')
    parts.append("Properties=species:S:1:pos:R:3")
    parts += [f"{key}={_format(value)}" for key, value in info.items()]
    flags = " ".join("T" if p else "F" for p in structure.periodic)
    parts.append(f'pbc="{flags}"')
    row = f"%-2s %.{_DIGITS}f %.{_DIGITS}f %.{_DIGITS}f"
    rows = [
        row % (chemical_symbols[number], x, y, z)
        for number, (x, y, z) in zip(
            structure.numbers.tolist(), structure.positions.tolist(), strict=True
        )
    ]
    return "\n".join([str(len(structure)), " ".join(parts), *rows, ""])


def _format(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, int | float | np.number):
        return repr(_plain(value))
    if isinstance(value, list | tuple | np.ndarray):
        return '"' + " ".join(_format(v) for v in np.ravel(value).tolist()) + '"'
    text = str(value).replace('"', "'").replace("\n", " ")
    return f'"{text}"'
