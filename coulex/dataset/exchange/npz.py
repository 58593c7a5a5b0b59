"""npz: the arrays under our names, and the unit of each under its name with "_units"."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from coulex import units
from coulex.errors import CorruptFileError, InvalidDataError

from ..fields import FIELDS, check_shapes, grows
from ..layout import Column
from ..store import Dataset
from .labels import symbols_of
from .source import EXPORT_EVENTS, Source, need_unit

_LISTS = ("solutions", "samples")


def npz_source(
    path: Path, *, position_units: str | None = None, momentum_units: str | None = None
) -> Source:
    """Read an npz file; the unit of an array is in the file, or else declared here.

    Raises
    ------
    CorruptFileError
        If the file is damaged, or asks for pickles.
    InvalidDataError
        If a unit is undeclared or a shape is wrong.
    """
    declared = {"length": position_units, "momentum": momentum_units}
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            present = {Path(name).stem for name in archive.namelist()}
            # a list of solutions does not go with the events, which is what an import takes
            names = [n for n in FIELDS if n in present and FIELDS[n].axes[0] not in _LISTS]
            for name in names:
                _check_member(archive, name)
        with np.load(path, allow_pickle=False) as file:
            for name in names:
                quantity = FIELDS[name].quantity
                arrays[name] = file[name]
                if quantity is None:
                    continue
                unit = declared.get(quantity)
                if f"{name}_units" in present:
                    unit = str(file[f"{name}_units"])
                elif quantity == "charge":
                    unit = units.written("charge")
                arrays[name] = arrays[name] * _factor(unit, quantity, path)
    except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        msg = f"{path} is not a whole npz file: {error}"
        raise CorruptFileError(msg) from error
    growing = {n: a for n, a in arrays.items() if grows(n, a.ndim)}
    if not growing or 0 in (len(a) for a in growing.values()):
        msg = f"{path} holds no events; expected momenta (n, ions, 3) or initial_positions"
        raise InvalidDataError(msg)
    n_events = len(next(iter(growing.values())))
    shapes = {name: a.shape for name, a in arrays.items()}
    check_shapes(shapes, {name: a.dtype for name, a in arrays.items()}, n_events)
    _check_finite(path, arrays)

    def blocks(size: int) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, n_events, size):
            yield {name: a[first : first + size] for name, a in growing.items()}

    constants = {n: a for n, a in arrays.items() if n not in growing}
    symbols = symbols_of(constants["numbers"]) if "numbers" in constants else ()
    return Source("npz", n_events, symbols, constants, tuple(growing), blocks)


def write_npz(file: BinaryIO, data: Dataset) -> int:
    """Write all arrays of all events, whatever their status; return the number of events."""
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name in data.names:
            rows = data.shape(name)[0]
            probe = data.read(name, 0, 0) if data.grows(name) else data[name]
            header = {
                "descr": npy.dtype_to_descr(probe.dtype),
                "fortran_order": False,
                "shape": data.shape(name),
            }
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array_header_2_0(member, header)
                for first in range(0, rows, EXPORT_EVENTS) if data.grows(name) else (0,):
                    count = min(EXPORT_EVENTS, rows - first)
                    member.write(data.read(name, first, count).tobytes())
            with archive.open(_member(f"{name}_units.npy"), "w") as member:
                npy.write_array(member, np.array(FIELDS[name].units), allow_pickle=False)
    return data.n_events


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # dated 1980, so that equal data give equal bytes


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Refuse an array whose header does not fit its size, before it is read."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        try:
            version = npy.read_magic(member)
            read = (
                npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            )
            shape, _, dtype = read(member)
        except ValueError as error:
            msg = f"{archive.filename}: {name} has a damaged header ({error})"
            raise CorruptFileError(msg) from error
        if dtype.hasobject:
            msg = f"{archive.filename}: {name} holds Python objects, which are never loaded"
            raise CorruptFileError(msg)
        if member.tell() + Column(shape, dtype).nbytes != info.file_size:
            msg = f"{archive.filename}: {name} claims shape {shape}, which is not its size"
            raise CorruptFileError(msg)


def _factor(unit: str | None, quantity: str, path: Path) -> float:
    if quantity == "mass" and unit is None:
        msg = f"{path} does not say in which unit its masses are; add masses_units"
        raise InvalidDataError(msg)
    return units.to_atomic(need_unit(unit, quantity, path), quantity)


def _check_finite(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Refuse numbers that are not finite, except in events whose status says so."""
    for name, array in arrays.items():
        rows = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if "status" in arrays and grows(name, array.ndim):
            rows |= arrays["status"] != 0
        if not rows.all():
            msg = f"{path}: {name} of event {np.argmin(rows)} is not finite; remove the event"
            raise InvalidDataError(msg)
