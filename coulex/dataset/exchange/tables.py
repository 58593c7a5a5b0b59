"""CSV: one event a row, one component a column, the name of each column in the first line."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from coulex import units
from coulex.errors import InvalidDataError

from ..store import Dataset
from .labels import Columns, axis_names, hill_order, recognise, symbols_of
from .source import EXPORT_EVENTS, Source, good_blocks, need_unit


def csv_source(
    path: Path,
    *,
    position_units: str | None = None,
    momentum_units: str | None = None,
    columns: Columns | None = None,
    position_columns: Columns | None = None,
) -> Source:
    """Find the columns of a table and count its rows; the numbers are read in blocks.

    Parameters
    ----------
    path : Path
        Separated by commas, semicolons, tabs or blanks; lines with "#" are left out.
    position_units, momentum_units : str, optional
        Needed for what the table holds.
    columns, position_columns : Columns, optional
        Where the header is not of the published form; see `labels.parse_columns`.

    Raises
    ------
    InvalidDataError
        If a unit is undeclared, a column unknown, or there is no row.
    """
    header, separator = _header(path)
    if columns is None and position_columns is None:
        if all(_is_number(name) for name in header):
            msg = f"{path} has no header; name its columns: --columns 'C=1,2,3;O=4,5,6'"
            raise InvalidDataError(msg)
        position_columns, columns = recognise(header)
    chosen = {"initial_positions": position_columns, "momenta": columns}
    wanted = {name: c for name, c in chosen.items() if c}
    kinds = {tuple(symbol for symbol, _ in c) for c in wanted.values()}
    if len(kinds) != 1:
        msg = f"positions and momenta are of different ions: {sorted(kinds)}"
        raise InvalidDataError(msg)
    indices = {name: _indices(path, header, c) for name, c in wanted.items()}
    factors = {}
    for name in wanted:
        quantity = "momentum" if name == "momenta" else "length"
        unit = momentum_units if name == "momenta" else position_units
        factors[name] = units.to_atomic(need_unit(unit, quantity, path), quantity)
    n_events = sum(1 for _ in _rows(path))
    if n_events == 0:
        msg = f"{path} has no row of numbers"
        raise InvalidDataError(msg)

    def blocks(size: int) -> Iterator[dict[str, np.ndarray]]:
        for table in _tables(path, len(header), separator, size):
            yield {
                name: table[:, index].reshape(len(table), -1, 3) * factors[name]
                for name, index in indices.items()
            }

    return Source("csv", n_events, kinds.pop(), {}, tuple(wanted), blocks)


def write_csv(file: TextIO, data: Dataset) -> int:
    """Write the good events in the published order, in atomic units; return their number."""
    symbols = symbols_of(data["numbers"])
    order = hill_order(symbols)
    names = [name for name in ("initial_positions", "momenta") if name in data]
    if not names:
        msg = f"{data.path} holds neither initial_positions nor momenta"
        raise InvalidDataError(msg)
    header = []
    for name in names:
        prefix = "p" if name == "momenta" else ""
        header += axis_names([symbols[i] for i in order], prefix)
    file.write(",".join(header) + "\n")
    written = 0
    for _, block in good_blocks(data, names, EXPORT_EVENTS):
        rows = np.concatenate(
            [block[n][:, order].reshape(-1, 3 * len(order)) for n in names], 1
        )
        text = repr if rows.dtype == np.float64 else "{:.9g}".format
        file.write("".join(",".join(map(text, row)) + "\n" for row in rows.tolist()))
        written += len(rows)
    return written


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line after the header that holds a row."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        seen = False
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or (text.startswith("#") and (seen or not _names(text))):
                continue
            first, seen = not seen, True
            if first and not all(_is_number(x) for x in _split(text.lstrip("# "))):
                continue
            yield number, text


def _header(path: Path) -> tuple[list[str], str | None]:
    """Return the fields of the first line that counts, and what separates them."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for line in file:
                text = line.strip()
                if text and (not text.startswith("#") or _names(text)):
                    plain = text.lstrip("# ")
                    header = _split(plain)
                    twice = {name for name in header if header.count(name) > 1}
                    if twice and not all(map(_is_number, header)):
                        msg = f"{path} has several columns {sorted(twice)}; rename them"
                        raise InvalidDataError(msg)
                    return header, _separator(plain)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InvalidDataError(msg) from error
    msg = f"{path} is empty"
    raise InvalidDataError(msg)


def _names(comment: str) -> bool:
    """Return whether a line behind "#" is a header, as numpy.savetxt writes it."""
    try:
        recognise(_split(comment.lstrip("# ")))
    except InvalidDataError:
        return False
    return True


def _separator(text: str) -> str | None:
    return next((mark for mark in ",;\t" if mark in text), None)


def _split(text: str) -> list[str]:
    return [field.strip().strip('"') for field in text.split(_separator(text))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _indices(path: Path, header: Sequence[str], columns: Columns) -> list[int]:
    """Return the index of each column, by its name or its number from 1."""
    by_name: Mapping[str, int] = {name.lower(): i for i, name in enumerate(header)}
    out = []
    for _, axes in columns:
        for name in axes:
            index = by_name.get(name.lower(), int(name) - 1 if name.isdecimal() else -1)
            if not 0 <= index < len(header):
                msg = f"{path} has no column {name!r}; it has {', '.join(header)}"
                raise InvalidDataError(msg)
            out.append(index)
    if len(set(out)) != len(out):
        msg = f"a column of {path} is named twice among {columns}"
        raise InvalidDataError(msg)
    return out


def _tables(path: Path, width: int, separator: str | None, size: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the table, checked, `size` rows at a time."""
    rows = _rows(path)
    while lines := list(itertools.islice(rows, size)):
        try:
            table = np.loadtxt([text for _, text in lines], delimiter=separator, ndmin=2)
        except ValueError:
            table = None
        if table is None or table.shape != (len(lines), width):
            raise InvalidDataError(_what_is_wrong(path, lines, width, separator))
        bad = np.argwhere(~np.isfinite(table))
        if len(bad):
            row, column = bad[0]
            msg = (
                f"{path}, line {lines[row][0]}, column {column + 1}: {table[row, column]}; "
                "every number must be finite: remove the row, or the event has lost an ion"
            )
            raise InvalidDataError(msg)
        yield table


def _what_is_wrong(
    path: Path, lines: Sequence[tuple[int, str]], width: int, separator: str | None
) -> str:
    for number, text in lines:
        fields = text.split(separator)
        if len(fields) != width:
            return f"{path}, line {number}: {len(fields)} fields, expected {width}"
        for column, field in enumerate(fields, 1):
            if not _is_number(field):
                where = f"{path}, line {number}, column {column}"
                return f"{where}: {field.strip()!r} is no number"
    return f"{path}: the rows differ in length"
