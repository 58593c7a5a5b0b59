"""extxyz: one event a frame, positions in Å as ASE wants them, momenta in atomic units.

The columns are species, pos, momenta_au and charges_e; `event` in the comment line is the
number of the event. ASE's own momenta have another unit and are not used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from coulex import units
from coulex.errors import InvalidDataError

from ..solutions import has_solutions
from ..store import Dataset
from .labels import symbols_of
from .source import EXPORT_EVENTS, Source, good_blocks

_CLOSEST = 0.1 * units.ANGSTROM  # two atoms that are nearer are one, read twice


def extxyz_source(path: Path, *, position_units: str | None = None) -> Source:
    """Read frames of the same ions; positions are in Å unless declared otherwise.

    Raises
    ------
    InvalidDataError
        If there is no frame, frames differ in their ions, a number is not finite, two atoms
        coincide, or a comment speaks of bohr and no unit is declared.
    """
    from ase.io import iread

    try:
        frames = list(iread(path, index=":", format="extxyz"))
    except Exception as error:  # ASE's readers raise what they like
        msg = f"{path} is not an extxyz file: {str(error) or type(error).__name__}"
        raise InvalidDataError(msg) from error
    if not frames:
        msg = f"{path} has no frame"
        raise InvalidDataError(msg)
    symbols = tuple(frames[0].get_chemical_symbols())
    for i, frame in enumerate(frames):
        if tuple(frame.get_chemical_symbols()) != symbols:
            msg = f"{path}: frame {i} is {frame.symbols}, frame 0 {frames[0].symbols}"
            raise InvalidDataError(msg)
        if position_units is None and "bohr" in str(frame.info).lower():
            msg = f"{path}: frame {i} speaks of bohr, but extxyz is in Å; --position-units"
            raise InvalidDataError(msg)
    scale = units.to_atomic(position_units or "angstrom", "length")
    arrays = {"initial_positions": np.array([frame.positions for frame in frames]) * scale}
    for column, name in (("momenta_au", "momenta"), ("charges_e", "charges")):
        if all(column in frame.arrays for frame in frames):
            arrays[name] = np.array([frame.arrays[column] for frame in frames], dtype=float)
    for name, array in arrays.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            frame, ion = bad[0][:2]
            msg = (
                f"{path}: {name} of atom {ion} ({symbols[ion]}) in frame {frame} is not finite"
            )
            raise InvalidDataError(msg)
    _check_distances(path, arrays["initial_positions"], symbols)

    def blocks(size: int) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, len(frames), size):
            yield {name: array[first : first + size] for name, array in arrays.items()}

    return Source("extxyz", len(frames), symbols, {}, tuple(arrays), blocks)


def write_extxyz(file: TextIO, data: Dataset) -> int:
    """Write the good events, one frame each; return their number."""
    symbols = symbols_of(data["numbers"])
    places = ("initial_positions", "positions")
    if has_solutions(data):  # the most probable of each event, beside which truth is no news
        places = ("positions",)
    place = next((name for name in places if name in data), "positions")
    names = [place, *(n for n in ("momenta", "charges") if n in data)]
    if place not in data:
        msg = f"{data.path} holds no positions, and extxyz cannot do without; export to csv"
        raise InvalidDataError(msg)
    properties = "species:S:1:pos:R:3"
    properties += ":momenta_au:R:3" if "momenta" in data else ""
    properties += ":charges_e:R:1" if "charges" in data else ""
    written = 0
    for events, block in good_blocks(data, names, EXPORT_EVENTS):
        shape = (len(events), len(symbols))
        columns = [block[place] / units.ANGSTROM]
        columns += [block["momenta"]] if "momenta" in data else []
        if "charges" in data:
            columns.append(np.broadcast_to(block["charges"], shape)[..., None])
        numbers = np.concatenate(columns, axis=2).astype(float).tolist()
        for event, rows in zip(events, numbers, strict=True):
            lines = [f"{len(symbols)}\nProperties={properties} event={event}\n"]
            for symbol, row in zip(symbols, rows, strict=True):
                lines.append(f"{symbol} {' '.join(map(repr, row))}\n")
            file.write("".join(lines))
        written += len(events)
    return written


def _check_distances(path: Path, positions: np.ndarray, symbols: tuple[str, ...]) -> None:
    for i in range(len(symbols)):
        for j in range(i):
            near = np.linalg.norm(positions[:, i] - positions[:, j], axis=1) < _CLOSEST
            if near.any():
                pair = f"atoms {j} ({symbols[j]}) and {i} ({symbols[i]})"
                msg = f"{path}: {pair} coincide in frame {np.argmax(near)}"
                raise InvalidDataError(msg)
