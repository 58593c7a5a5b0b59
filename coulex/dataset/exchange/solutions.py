"""Solutions as a table: a row for each, the unit of every column in its name.

Events count from 0, as everywhere; ranks from 1, the most probable solution of an event first.
"""

from typing import TextIO

import numpy as np

from coulex.inverse.solutions import STATUS
from coulex.units import ANGSTROM

from ..estimates import NAMES, has_estimates, status_words
from ..solutions import coordinates_of, list_names, solution_blocks
from ..store import Dataset
from .source import EXPORT_EVENTS

#: what a row says of a solution beside its geometry, where the file holds it
_SAID = ("weight", "residual", "condition", "sign")


def write_solutions(file: TextIO, data: Dataset) -> int:
    """Write all solutions that a set holds; return the number of events that have one.

    Columns are `event`, `rank`, the bonds (`r_CO_angstrom`) and angles (`angle_OCS_degrees`),
    of four ions and more a volume whose sign tells mirror images apart, `weight`, `residual`,
    `condition`, `sign` and `status`, in words. Of noisy momenta, every row says of its event
    the best estimate, its standard deviations (`sigma_r_CO_angstrom`)
    and whether these are to be believed.
    """
    shape = coordinates_of(data)
    said = [name for name in _SAID if f"solution_{name}" in list_names(data)]
    # distances are in the order of their atoms: the first three start at the first
    corners = [*shape[0].names, *(c.names[1] for c in shape[1:3])]
    handed = [f"volume_{''.join(corners)}_cubic_angstrom"] if data.ions > 3 else []
    header = ["event", "rank", *(c.column for c in shape), *handed, *said]
    header += ["status"] if "status" in data else []
    noisy = has_estimates(data)
    if noisy:
        header += [f"{kind}_{c.column}" for c in shape for kind in ("estimate", "sigma")]
        header += ["estimate_status"]
    file.write(",".join(header) + "\n")
    names = {code: name for code, (name, _) in STATUS.items()}
    written = 0
    wanted = ["solution_positions", *(f"solution_{name}" for name in said)]
    held = ["status"] if "status" in data else []
    own = list(NAMES) if noisy else []
    for first, events, found in solution_blocks(data, [*held, *own], wanted, EXPORT_EVENTS):
        event = found["solution_event"]
        starts = np.flatnonzero(np.diff(event, prepend=-1))
        rank = (
            1
            + np.arange(len(event))
            - np.repeat(starts, np.diff(np.append(starts, len(event))))
        )
        columns = [c.values(found["solution_positions"]) for c in shape]
        columns += [_volume(found["solution_positions"])] if handed else []
        columns += [found[f"solution_{name}"] for name in said]
        rows = zip(event.tolist(), rank.tolist(), *(c.tolist() for c in columns), strict=True)
        if held:
            codes = events["status"][event - first].tolist()
            text = [names.get(code, f"status {code}") for code in codes]
            rows = ((*row, word) for row, word in zip(rows, text, strict=True))
        if noisy:
            more = _estimates(shape, *(events[name][event - first] for name in NAMES))
            rows = ((*row, *others) for row, others in zip(rows, more, strict=True))
        file.write("".join(",".join(map(str, row)) + "\n" for row in rows))
        written += len(starts)
    return written


def _volume(positions) -> np.ndarray:
    """Return the volume (n,) of the box that the first ion spans with the next three, Å³.

    It changes its sign in a mirror, and is zero if the four lie in a plane.
    """
    edges = positions[:, 1:4] - positions[:, :1]
    return np.linalg.det(edges) / ANGSTROM**3


def _estimates(shape, positions, covariance, status):
    """Yield what rows say of the estimates of their events."""
    columns = [
        column.tolist()
        for c in shape
        for column in (c.values(positions), c.deviations(positions, covariance))
    ]
    return zip(*columns, status_words(status), strict=True)
