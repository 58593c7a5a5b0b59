"""Radial distributions for a figure: of a trajectory, of draws, and of random atoms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coulex.errors import InvalidDataError
from generative.scorecard.files import Found
from generative.structures import Structure
from generative.structures.rdf import rdf

from .judge import WIDTH

RANDOM = "random"

_LONGEST = 10.0  #: Å
_SCATTERED = 500  #: random structures


def radial_curves(
    files: Sequence[Path], reference: Path, *, seed: int = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return radial distributions, up to half the smallest cell.

    Parameters
    ----------
    files : sequence of Path
        Structures that were drawn.
    reference : Path
        Real ones, or a trajectory.
    seed : int
        Of the random structures: as many atoms, in the same cells.

    Returns
    -------
    r : (shells,) array
        Å
    g : dict of (shells,) arrays
        By path, the reference first, and `RANDOM`.

    Raises
    ------
    InvalidDataError
        If some are periodic and others not.
    """
    found = [Found.real(reference), *(Found.drawn(file) for file in files)]
    every = [s for one in found for s in one.structures]
    if len({tuple(s.periodic) for s in every}) > 1:
        msg = "some structures are periodic, others not: their distributions are not alike"
        raise InvalidDataError(msg)
    reach = min(_LONGEST, *(_reach(s) for s in every))
    rng = np.random.default_rng(seed)
    sets = {str(one.path): one.structures for one in found}
    sets[RANDOM] = [_scattered(s, rng) for s in found[0].structures[:_SCATTERED]]
    made = {name: rdf(structures, reach, WIDTH) for name, structures in sets.items()}
    return made[RANDOM][0], {name: g for name, (_, g) in made.items()}


def _reach(s: Structure) -> float:
    if not s.periodic.all():
        return _LONGEST
    return 0.5 / np.linalg.norm(np.linalg.inv(s.cell), axis=0).max()


def _scattered(s: Structure, rng: np.random.Generator) -> Structure:
    low, edges = np.zeros(3), s.cell
    if not s.periodic.all():
        low, edges = s.positions.min(0), np.diag(np.ptp(s.positions, 0))
    x = low + rng.random((len(s), 3)) @ edges
    return Structure(positions=x, cell=s.cell, periodic=s.periodic, numbers=s.numbers)
