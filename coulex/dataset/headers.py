"""What the headers of an HDF5 file say, checked before any number is read.

Nothing is believed until it fits: no array may reach beyond the end of the file, no link may
lead out of it, and in our own files the digest of the root must cover all that is said.
A foreign file, one without `format`, is taken when it has momenta and charges with units.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from coulex import units
from coulex.errors import CorruptFileError, InvalidDataError

from .fields import FIELDS, check_shapes
from .layout import FORMAT, FORMAT_VERSION, Column, Identity, root_digest


@dataclass(frozen=True)
class Stored:
    """One array where it lies."""

    column: Column
    offset: int | None  #: in the file; None if HDF5 has to read it (pieces, compression)
    units: str = "1"
    factor: float = 1.0  #: multiplies what is stored to give atomic units


def read_own(file: h5py.File, size: int) -> tuple[Identity, dict[str, Stored]]:
    """Check a file that says it is ours."""
    plain = {key: _attribute(file, key) for key in _ROOT}
    if plain["format"] != FORMAT:
        msg = f"format is {plain['format']!r}, expected {FORMAT!r}"
        raise CorruptFileError(msg)
    if plain["format_version"] > FORMAT_VERSION:
        raise CorruptFileError(_too_new(file))
    stored = {}
    for name in sorted(file, key=_rank):
        if name not in FIELDS:
            msg = f"unknown array {name!r}"
            raise CorruptFileError(msg)
        dataset = _hard_linked(file, name)
        column = Column(dataset.shape, dataset.dtype, _attribute(dataset, "sha256"))
        if _attribute(dataset, "units") != FIELDS[name].units:
            msg = f"{name} is in {dataset.attrs['units']!r}, expected {FIELDS[name].units!r}"
            raise CorruptFileError(msg)
        stored[name] = Stored(column, _offset(dataset, column, size), FIELDS[name].units)
    columns = {name: s.column for name, s in stored.items()}
    if _attribute(file, "sha256") != root_digest(plain, columns):
        msg = "the headers are damaged: their SHA-256 differs"
        raise CorruptFileError(msg)
    identity = Identity(
        plain["first_event"],
        plain["n_events"],
        plain["total_events"],
        json.loads(plain["configuration"]),
        json.loads(plain["provenance"]),
    )
    if not 0 <= identity.first <= identity.first + identity.count <= identity.total:
        msg = f"events {identity.first} + {identity.count} lie outside 0..{identity.total}"
        raise CorruptFileError(msg)
    _check_columns(columns, identity.count)
    return identity, stored


def why_unsealed(file: h5py.File) -> str:
    """Return what can be said of a file of ours whose headers are not those that it sealed.

    Only what lies in checksummed headers is read, no string of variable length.
    """
    version = file.attrs.get("format_version") if "format_version" in file.attrs else 0
    if isinstance(version, np.integer) and version > FORMAT_VERSION:
        return _too_new(file)
    missing = [key for key in (*_ROOT, "sha256") if key not in file.attrs]
    if missing:
        return f"attribute {missing[0]!r} of / is missing"
    return "the headers are damaged, or another program has changed the file"


def _too_new(file: h5py.File) -> str:
    version, needs = file.attrs["format_version"], file.attrs["needs"]
    needs = needs.decode() if isinstance(needs, bytes) else needs
    read = f"this one reads up to version {FORMAT_VERSION}"
    return f"format version {version} needs coulex >= {needs}; {read}"


#: attributes of the root and their types
_ROOT = {
    "format": str,
    "format_version": int,
    "needs": str,
    "first_event": int,
    "n_events": int,
    "total_events": int,
    "configuration": str,
    "provenance": str,
}


def _rank(name: str) -> int:
    return list(FIELDS).index(name) if name in FIELDS else -1


def _attribute(holder: h5py.File | h5py.Dataset, key: str) -> Any:
    """Return one attribute, of the type that it must have."""
    if key not in holder.attrs:
        msg = f"attribute {key!r} of {holder.name} is missing"
        raise CorruptFileError(msg)
    value = holder.attrs[key]
    wanted = _ROOT.get(key, str)
    if isinstance(value, np.integer) and wanted is int:
        return int(value)
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, wanted):
        msg = f"attribute {key!r} must be {wanted.__name__}, got {type(value).__name__}"
        raise CorruptFileError(msg)
    return value


def _hard_linked(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that lies in this file and nowhere else."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        msg = f"{name} is a {type(link).__name__}, which may lead anywhere; copy the data in"
        raise CorruptFileError(msg)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        msg = f"{name} must be a dataset, got {type(dataset).__name__}"
        raise CorruptFileError(msg)
    if dataset.is_virtual or dataset.external:
        msg = f"{name} takes its numbers from other files; copy the data in"
        raise CorruptFileError(msg)
    if dataset.shape is None or not dataset.shape:
        msg = f"{name} must be an array, got shape {dataset.shape}"
        raise CorruptFileError(msg)
    return dataset


def _offset(dataset: h5py.Dataset, column: Column, size: int) -> int | None:
    """Return where the numbers begin, having made sure that they fit into the file."""
    if dataset.chunks is not None:
        msg = f"{dataset.name} must be contiguous, got chunks {dataset.chunks}"
        raise CorruptFileError(msg)
    offset = dataset.id.get_offset()
    if column.nbytes == 0:
        return 0
    if offset is None or offset + column.nbytes > size:
        msg = (
            f"{dataset.name} claims {column.nbytes} bytes of a file of {size}; it is not whole"
        )
        raise CorruptFileError(msg)
    return offset


def _check_columns(columns: dict[str, Column], n_events: int) -> int | None:
    shapes = {name: c.shape for name, c in columns.items()}
    try:
        return check_shapes(shapes, {n: c.dtype for n, c in columns.items()}, n_events)
    except InvalidDataError as error:
        raise CorruptFileError(str(error)) from error


def read_foreign(file: h5py.File, size: int) -> tuple[Identity, dict[str, Stored]]:
    """Check a file of somebody else's; arrays that we do not know are left out."""
    missing = [name for name in ("momenta", "charges") if name not in file]
    if missing:
        msg = f"no attribute 'format' and no {' or '.join(missing)}: not a file of events"
        raise CorruptFileError(msg)
    stored = {}
    for name in (n for n in FIELDS if n in file):
        dataset = _hard_linked(file, name)
        column = Column(dataset.shape, dataset.dtype)
        offset = None
        if dataset.chunks is None:
            offset = _offset(dataset, column, size)
        else:
            _check_pieces(dataset, size)
        unit, factor = _declared_unit(dataset, name)
        stored[name] = Stored(column, offset, unit, factor)
    columns = {name: s.column for name, s in stored.items()}
    n_events = columns["momenta"].shape[0]
    _check_columns(columns, n_events)
    return Identity(0, n_events, n_events, {}, {}), stored


def _check_pieces(dataset: h5py.Dataset, size: int) -> None:
    """Refuse pieces that were never written: HDF5 would make their numbers up."""
    sizes = zip(dataset.shape, dataset.chunks or (), strict=True)
    pieces = math.prod(-(-n // size) for n, size in sizes)
    written = dataset.id.get_num_chunks()
    if pieces != written or pieces > size:
        msg = f"{dataset.name} has {written} of {pieces} pieces; it is not whole"
        raise CorruptFileError(msg)


def _declared_unit(dataset: h5py.Dataset, name: str) -> tuple[str, float]:
    """Return the unit of a foreign array and its factor to atomic units."""
    quantity = FIELDS[name].quantity
    if quantity is None:
        return "1", 1.0
    unit = dataset.attrs.get("units")
    if isinstance(unit, bytes):
        unit = unit.decode()
    if not isinstance(unit, str):
        known = units.written(quantity)
        msg = f"{name} declares no unit; set its attribute 'units', for instance to {known!r}"
        raise InvalidDataError(msg)
    try:
        return unit, units.to_atomic(unit, quantity)
    except ValueError as error:
        msg = f"{name}: {error}"
        raise InvalidDataError(msg) from error
