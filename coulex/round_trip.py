"""The round trip of a file: everything in it that says where ions were explodes again."""

from collections.abc import Iterator

import numpy as np

from .dataset import Dataset
from .dataset.solutions import has_solutions, list_names, solution_blocks
from .errors import InvalidDataError
from .inverse.validate import LIMIT_ANGSTROM, RoundTrip, Tally

Arrays = dict[str, np.ndarray]


def check(
    data: Dataset, *, limit_angstrom: float = LIMIT_ANGSTROM, threads: int | None = None
) -> RoundTrip:
    """Let all geometries of a file explode again.

    Parameters
    ----------
    data : Dataset
        With solutions; or with `positions`; or else its `initial_positions` are checked.
    limit_angstrom : float
        See `coulex.inverse.validate.round_trip`.
    threads : int, optional

    Raises
    ------
    InvalidDataError
        If it lacks momenta, charges, masses or geometries.
    """
    solved = has_solutions(data)
    places = ("solution_positions",) if solved else ("positions", "initial_positions")
    place = next((name for name in places if name in data), "positions")
    missing = [name for name in ("momenta", "charges", "masses", place) if name not in data]
    if missing:
        msg = f"{data.path} holds no {' and no '.join(missing)}, which a round trip needs"
        raise InvalidDataError(msg)
    tally = Tally(data["masses"], limit_angstrom=limit_angstrom, threads=threads)
    truth = [name for name in ("initial_positions",) if name in data and name != place]
    names = ["momenta", "charges", *([] if solved else [place]), *truth]
    names += [name for name in ("status", "initial_momenta") if name in data]
    lists = list_names(data) if solved else []
    for first, events, solutions in _blocks(data, names, lists):
        bad = np.zeros(len(events["momenta"]), bool)
        if not solved and "status" in events:
            bad = events["status"] != 0  # of a simulation: there are no momenta to compare
        tally.add(
            solutions["solution_positions"] if solved else _without(events[place], bad),
            events["momenta"],
            events["charges"],
            events=solutions["solution_event"] - first if solved else None,
            status=events.get("status") if solved else None,
            residuals=solutions.get("solution_residual"),
            initial_momenta=events.get("initial_momenta"),
            truth=_without(events[truth[0]], bad) if truth else None,
        )
    return tally.result()


def _without(positions: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return positions of which those that are bad are not a number."""
    return np.where(bad[:, None, None], np.nan, positions) if bad.any() else positions


def _blocks(
    data: Dataset, names: list[str], lists: list[str]
) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Yield blocks of events with their solutions, or with none where there are no lists."""
    if lists:
        yield from solution_blocks(data, names, lists)
        return
    for first, events in data.blocks(names, 2**14):
        yield first, events, {}
