"""The way of events from a file of others into ours, and back."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import InvalidDataError, OutputError

from .. import store
from ..files import whole_file
from ..plan import SHARD_EVENTS
from ..solutions import has_solutions, list_names
from ..store import Dataset
from ..target import Target
from .extxyz import extxyz_source, write_extxyz
from .labels import Columns, symbols_of
from .npz import npz_source, write_npz
from .solutions import write_solutions
from .source import Source
from .tables import csv_source, write_csv

#: format by the suffix of a file
FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".npz": "npz",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
_EXPORTED = ("csv", "npz", "extxyz")


def read_source(
    path: str | Path,
    *,
    position_units: str | None = None,
    momentum_units: str | None = None,
    columns: Columns | None = None,
    position_columns: Columns | None = None,
) -> Source:
    """Look into a file of events, of the format that its suffix says.

    Parameters
    ----------
    path : str or Path
    position_units, momentum_units : str, optional
        As `coulex.units` knows them; needed where the file does not declare them.
    columns, position_columns : Columns, optional
        For tables without the published header; see `parse_columns`.

    Raises
    ------
    InvalidDataError
        If the format is unknown, a unit undeclared, or the data break a rule.
    CorruptFileError
        If the file is damaged.
    """
    path = Path(path)
    kind = format_of(path)
    if not path.exists():
        msg = f"{path} does not exist"
        raise InvalidDataError(msg)
    if kind == "csv":
        return csv_source(
            path,
            position_units=position_units,
            momentum_units=momentum_units,
            columns=columns,
            position_columns=position_columns,
        )
    if columns or position_columns:
        msg = f"columns are for tables, and {path} is {kind}"
        raise InvalidDataError(msg)
    if kind == "npz":
        return npz_source(path, position_units=position_units, momentum_units=momentum_units)
    if kind == "extxyz":
        return extxyz_source(path, position_units=position_units)
    return _hdf5_source(store.open(path))


def import_events(
    source: Source,
    out: str | Path,
    constants: Mapping[str, np.ndarray],
    configuration: dict[str, Any],
    provenance: dict[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write the events of a source into a file of ours; all get the status 0 (good).

    Parameters
    ----------
    source : Source
    out : str or Path
    constants : mapping
        `masses`, `numbers` and `charges` (ions,), atomic units; they outdo those of the file.
    configuration, provenance : dict
        See `Target`; the configuration should name the source by its SHA-256.
    overwrite : bool
    """
    given = {**source.constants, **constants}
    with Target(
        out, configuration, provenance, source.n_events, overwrite=overwrite
    ) as target:
        blocks = source.blocks(SHARD_EVENTS)
        for shard, block in zip(target.missing(), blocks, strict=True):
            status = {"status": np.zeros(shard.count, np.uint8)}
            target.write(shard, {**status, **block, **given})
        target.finalize()


def export_events(
    data: Dataset, out: str | Path, *, kind: str | None = None, overwrite: bool = False
) -> int:
    """Write events to csv, npz or extxyz, in atomic units (extxyz: positions in Å).

    Of a file of solutions, csv has a row for each solution, in Å and degrees; extxyz the most
    probable solution of each event.

    Parameters
    ----------
    data : Dataset
    out : str or Path
    kind : {"csv", "npz", "extxyz"}, optional
        What the suffix of `out` says, unless given.
    overwrite : bool

    Returns
    -------
    int
        Events written. Those whose status is not 0, or that have no solution, stay behind in
        csv and extxyz, which have no place for them.

    Raises
    ------
    OutputError
        If `out` exists or cannot be written.
    InvalidDataError
        If the format is unknown, or the set lacks what it needs.
    """
    out = Path(out)
    by_suffix = FORMATS.get(out.suffix.lower())
    if by_suffix == "hdf5" or (kind or by_suffix) not in _EXPORTED:
        msg = (
            f"{out}: expected a name that ends in .csv, .npz or .extxyz, or a format of these"
        )
        raise InvalidDataError(msg)
    if kind and by_suffix and kind != by_suffix:
        msg = f"{out} is the name of a file of {by_suffix}, not {kind}; leave one of them out"
        raise InvalidDataError(msg)
    kind = kind or by_suffix
    if out.exists() and not overwrite:
        msg = f"{out} exists; --overwrite it, or choose another name"
        raise OutputError(msg)
    if not out.parent.is_dir():
        msg = f"cannot write {out}: {out.parent} is no folder; make it first"
        raise OutputError(msg)
    if kind != "npz" and "numbers" not in data:
        msg = f"{data.path} does not name its atoms; import it with charges such as C=2,O=2"
        raise InvalidDataError(msg)
    with whole_file(out, None) as descriptor:
        if kind == "npz":
            with os.fdopen(os.dup(descriptor), "wb") as file:
                return write_npz(file, data)
        table = write_solutions if has_solutions(data) else write_csv
        write = table if kind == "csv" else write_extxyz
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", newline="\n") as file:
            return write(file, data)


def format_of(path: Path) -> str:
    """Return the format that a suffix stands for.

    Raises
    ------
    InvalidDataError
        If it stands for none.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        msg = f"{path}: unknown suffix {path.suffix!r}; known are {', '.join(FORMATS)}"
        raise InvalidDataError(msg)
    return kind


def _hdf5_source(data: Dataset) -> Source:
    # a list of solutions does not go with the events, which is what an import takes
    names = [name for name in data.names if name not in list_names(data)]
    growing = [name for name in names if data.grows(name)]
    constants = {name: data[name] for name in names if name not in growing}

    def blocks(size: int) -> Iterator[dict[str, np.ndarray]]:
        for first, block in data.blocks(growing, size):
            for name, array in block.items():
                if not np.isfinite(array).all():
                    row = first + np.argwhere(~np.isfinite(array))[0, 0]
                    msg = f"{data.path}: {name} of event {row} is not finite; remove the event"
                    raise InvalidDataError(msg)
            yield block

    symbols = symbols_of(constants["numbers"]) if "numbers" in constants else ()
    return Source("hdf5", data.n_events, symbols, constants, tuple(growing), blocks)
