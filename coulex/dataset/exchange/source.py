"""Events on their way: what an import finds before it reads, what an export leaves out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coulex.errors import InvalidDataError

from ..solutions import has_solutions
from ..store import Dataset

EXPORT_EVENTS = 2**13  #: events that an export turns into text at once


@dataclass(frozen=True)
class Source:
    """Events in a file of others."""

    format: str
    n_events: int
    symbols: tuple[str, ...]  #: of the ions; empty where the file does not say
    constants: dict[str, np.ndarray]  #: what the file says of masses and charges (ions,)
    by_event: tuple[str, ...]  #: names of the arrays in each block
    blocks: Callable[[int], Iterator[dict[str, np.ndarray]]]
    """Given a number of events, yields arrays of so many, in atomic units."""


def need_unit(unit: str | None, quantity: str, path: Path) -> str:
    """Return a unit that was declared.

    Raises
    ------
    InvalidDataError
        If it was not.
    """
    if unit is None:
        option = (
            "--momentum-units au" if quantity == "momentum" else "--position-units angstrom"
        )
        many = {"momentum": "momenta", "mass": "masses"}.get(quantity, f"{quantity}s")
        msg = f"{path} does not say in which unit its {many} are; say it: {option}"
        raise InvalidDataError(msg)
    return unit


def good_blocks(
    data: Dataset, names: Sequence[str], size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield the numbers of the good events, and their arrays, in blocks.

    Good is status 0; in a file of solutions an event that has one, whatever it is called.
    """
    solved = has_solutions(data)
    status = [name for name in ("n_solutions" if solved else "status",) if name in data]
    for first, block in data.blocks([*names, *status], size):
        count = min(size, data.n_events - first)
        good = np.ones(count, bool)
        if status:
            good = (block[status[0]] > 0) if solved else (block[status[0]] == 0)
        rows = {n: block[n][good] if data.grows(n) else block[n] for n in names}
        yield first + np.flatnonzero(good), rows
