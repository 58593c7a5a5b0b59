"""A file of solutions, read event by event: the flat lists cut where the blocks of events are.

An event has none, one or several rows in the lists; `solution_event` says whose they are.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from coulex.errors import CorruptFileError

from .fields import FIELDS
from .store import Dataset

if TYPE_CHECKING:
    from coulex.geometry import Coordinate

Arrays = dict[str, np.ndarray]


def has_solutions(data: Dataset) -> bool:
    """Return whether a set holds the solutions of an inversion."""
    return "solution_event" in data and "solution_positions" in data


def list_names(data: Dataset) -> list[str]:
    """Return the names of the flat lists that a set holds."""
    return [name for name in data.names if FIELDS[name].axes[0] == "solutions"]


def solution_blocks(
    data: Dataset, names: Sequence[str], lists: Sequence[str], size: int = 2**14
) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Yield the first event of each block, its arrays, and the solutions of its events.

    Parameters
    ----------
    data : Dataset
    names : sequence of str
        Arrays by event, or constants.
    lists : sequence of str
        Flat lists; `solution_event` is always among what is yielded.
    size : int
        Events in a block.

    Raises
    ------
    CorruptFileError
        If the solutions are not in the order of their events.
    """
    row, rows = 0, data.shape("solution_event")[0]
    wanted = ["solution_event", *(name for name in lists if name != "solution_event")]
    for first in range(0, data.n_events, size):
        count = min(size, data.n_events - first)
        events = {
            name: data.read(name, first, count) if data.grows(name) else data[name]
            for name in names
        }
        last = _end(data, row, rows, first + count, size)
        solutions = {name: data.read(name, row, last - row) for name in wanted}
        belongs = solutions["solution_event"]
        if belongs.size and (belongs[0] < first or (np.diff(belongs) < 0).any()):
            msg = f"{data.path}: solution_event does not ascend; invert the momenta again"
            raise CorruptFileError(msg)
        yield first, events, solutions
        row = last
    if row != rows:
        msg = f"{data.path}: solutions of events beyond {data.n_events}; invert them again"
        raise CorruptFileError(msg)


def _end(data: Dataset, row: int, rows: int, stop: int, size: int) -> int:
    """Return the first row from `row` on that belongs to event `stop` or to a later one."""
    while row < rows:
        piece = data.read("solution_event", row, min(size, rows - row))
        later = piece >= stop
        if later.any():
            return row + int(later.argmax())
        row += len(piece)
    return row


def place_of(data: Dataset) -> str | None:
    """Return the array with the geometries that a set has found, drawn or started from."""
    names = ("solution_positions", "positions", "initial_positions")
    return next((name for name in names if name in data), None)


def coordinates_of(data: Dataset) -> "list[Coordinate]":
    """Return the distances, of three ions the two bonds and the angle, of a set's geometries.

    The central one of three ions is that of the molecule which the set is about; where it does
    not say, that of the geometries on average.
    """
    from coulex.geometry import central_atom, coordinates

    from .exchange.labels import symbols_of

    symbols = [f"ion{i + 1}" for i in range(data.ions)]
    if "numbers" in data:
        symbols = list(symbols_of(data["numbers"]))
    positions = data.configuration.get("molecule", {}).get("positions")
    place = place_of(data)
    if positions is None and place is not None:
        found = data.read(place, 0, min(2**14, data.shape(place)[0]))
        positions = found[np.isfinite(found).all(axis=(1, 2))]
    central = central_atom(positions) if positions is not None and len(positions) else 0
    return coordinates(symbols, central=central)
