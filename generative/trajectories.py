"""Trajectories: frames of the same atoms in order of time, and files of them.

Positions are unwrapped: an atom that leaves the cell is followed, so that mean positions and
displacements mean something. Our file is HDF5: `positions` (runs, frames, atoms, 3), `energy`
(runs, frames), `cell` (3, 3) and `numbers` (atoms,), each with its unit, and how each run was
made as JSON text in the attribute `provenance`. Runs are independent of one another. Any other
file of several frames that ASE reads is one run, unwrapped on the way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from coulex.dataset.files import write_bytes
from coulex.errors import CorruptFileError, InvalidDataError

from . import structures
from .structures.neighbours import complete

FORMAT, FORMAT_VERSION = "coulex trajectory", 1
_UNITS = {"positions": "angstrom", "energy": "eV", "cell": "angstrom", "numbers": "1"}
_AXES = {"positions": 4, "energy": 2, "cell": 2, "numbers": 1}


@dataclass(frozen=True)
class Trajectory:
    """One run.

    Attributes
    ----------
    positions : (frames, atoms, 3) array
        Å, unwrapped.
    cell : (3, 3) array
        Rows, Å.
    periodic : (3,) array of bool
    numbers : (atoms,) array of int
    energy : (frames,) array, optional
        Potential, of all atoms, eV.
    interval : float, optional
        Between frames, fs.
    provenance : dict
    """

    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    numbers: np.ndarray
    energy: np.ndarray | None = None
    interval: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def write(path: Path, runs: Sequence[Trajectory]) -> None:
    """Write runs of the same atoms in the same cell into one file, whole or absent.

    Raises
    ------
    InvalidDataError
        If they differ in cell, atoms, number or interval of frames.
    OutputError
        If there is no room.
    """
    first = runs[0]
    for run in runs[1:]:
        same = run.positions.shape == first.positions.shape and run.interval == first.interval
        for name in ("cell", "periodic", "numbers"):
            same = same and np.array_equal(getattr(run, name), getattr(first, name))
        if not same or (run.energy is None) != (first.energy is None):
            msg = "runs in one file must have the same atoms, cell, frames and interval"
            raise InvalidDataError(msg)
    arrays = {
        "positions": np.stack([run.positions for run in runs]),
        "cell": np.asarray(first.cell, float),
        "numbers": np.asarray(first.numbers, np.int32),
    }
    if first.energy is not None:
        arrays["energy"] = np.stack([np.asarray(run.energy) for run in runs])
    with h5py.File("imaginary", "w", driver="core", backing_store=False) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["periodic"] = np.asarray(first.periodic, np.uint8)
        file.attrs["interval_fs"] = np.nan if first.interval is None else first.interval
        file.attrs["provenance"] = json.dumps([run.provenance for run in runs])
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array, track_times=False)
            dataset.attrs["units"] = _UNITS[name]
        file.flush()
        content = file.id.get_file_image()
    write_bytes(path, content)


def read(path: Path) -> list[Trajectory]:
    """Read a file of ours, or any file of several frames that ASE reads.

    Returns
    -------
    list of Trajectory
        One for each run; a file that is not ours is one run.

    Raises
    ------
    InvalidDataError
        If there is one frame only, if a position is not a number, or if atoms or cell change.
    CorruptFileError
        If a file of ours is damaged.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} is no file"
        raise InvalidDataError(msg)
    runs = _read_own(path) if h5py.is_hdf5(path) else [_read_foreign(path)]
    for run in runs:
        if len(run.positions) < 2:
            msg = f"{path} holds one frame; a trajectory has several"
            raise InvalidDataError(msg)
        good = np.isfinite(run.positions).all(axis=2)
        if not good.all():
            frame, atom = np.argwhere(~good)[0]
            msg = f"{path}: frame {frame}, atom {atom}: {run.positions[frame, atom]}"
            raise InvalidDataError(msg)
    return runs


def _read_own(path: Path) -> list[Trajectory]:
    """Check what the file says before its numbers are read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes: dict[str, Any] = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                msg = f"{path} is no trajectory: its format is {attributes.get('format')!r}"
                raise InvalidDataError(msg)
            if attributes["format_version"] > FORMAT_VERSION:
                version = attributes["format_version"]
                msg = f"{path} has format version {version}; a newer coulex reads it"
                raise CorruptFileError(msg)
            arrays = {name: _read_array(file, name) for name in _AXES if name in file}
        interval = float(attributes["interval_fs"])
        periodic = np.asarray(attributes["periodic"], bool)
        provenance = json.loads(attributes["provenance"])
        runs, frames, atoms, _ = arrays["positions"].shape
        _check_shapes(arrays, (runs, frames, atoms))
    except (KeyError, OSError, ValueError, TypeError) as error:
        if isinstance(error, InvalidDataError):
            raise
        msg = f"{path} is damaged ({error}); make it again"
        raise CorruptFileError(msg) from error
    energy = list(arrays["energy"]) if "energy" in arrays else [None] * runs
    return [
        Trajectory(
            positions=arrays["positions"][run],
            cell=arrays["cell"],
            periodic=periodic,
            numbers=arrays["numbers"].astype(int),
            energy=energy[run],
            interval=None if np.isnan(interval) else interval,
            provenance=provenance[run],
        )
        for run in range(runs)
    ]


def _read_array(file: h5py.File, name: str) -> np.ndarray:
    held: Any = file[name]
    if held.ndim != _AXES[name] or held.attrs["units"] != _UNITS[name]:
        msg = f"{name} has {held.ndim} axes, in {held.attrs['units']!r}"
        raise ValueError(msg)
    return held[()]


def _check_shapes(arrays: dict[str, np.ndarray], sizes: tuple[int, int, int]) -> None:
    runs, frames, atoms = sizes
    expected = {
        "positions": (runs, frames, atoms, 3),
        "energy": (runs, frames),
        "cell": (3, 3),
        "numbers": (atoms,),
    }
    for name in expected:
        if name != "energy" and name not in arrays:
            msg = f"no {name}"
            raise KeyError(msg)
        if name in arrays and arrays[name].shape != expected[name]:
            msg = f"{name} has the shape {arrays[name].shape}, expected {expected[name]}"
            raise ValueError(msg)


def _read_foreign(path: Path) -> Trajectory:
    frames = structures.read(path)
    first = frames[0]
    for number, frame in enumerate(frames):
        if not np.array_equal(frame.numbers, first.numbers):
            msg = f"{path}: frame {number} has other atoms, or another order, than frame 0"
            raise InvalidDataError(msg)
        same = np.allclose(frame.cell, first.cell, rtol=0, atol=1e-6)
        if not same or (frame.periodic != first.periodic).any():
            msg = f"{path}: frame {number} has another cell than frame 0; it must be constant"
            raise InvalidDataError(msg)
    positions = np.stack([frame.positions for frame in frames])
    return Trajectory(
        positions=unwrapped(positions, first.cell, first.periodic),
        cell=first.cell,
        periodic=first.periodic,
        numbers=first.numbers,
        provenance={"file": path.name},
    )


def unwrapped(positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Follow atoms through the faces of the cell.

    A step between frames is taken to be the one of its images that is shortest along the axes:
    right while no atom moves half a cell from one frame to the next.

    Parameters
    ----------
    positions : (frames, atoms, 3) array
    cell : (3, 3) array
        Rows.
    periodic : (3,) array of bool

    Returns
    -------
    (frames, atoms, 3) array
    """
    if not np.any(periodic) or not len(positions):
        return np.array(positions, float)
    basis, inverse = complete(cell, periodic)
    jumps = np.rint(np.diff(positions, axis=0) @ inverse) * periodic
    moved = np.array(positions, float)
    moved[1:] -= np.cumsum(jumps, axis=0) @ basis
    return moved
