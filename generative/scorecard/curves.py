"""Radial distributions for a figure: of a trajectory, of draws, and of random atoms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from generative.structures.rdf import rdf

from .files import Found
from .whole import SHELL, longest, scattered

RANDOM = "random"

_SCATTERED = 500  #: random structures


def radial_curves(
    files: Sequence[Path], reference: Path, *, seed: int = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return radial distributions, up to half the least width of a cell.

    Parameters
    ----------
    files : sequence of Path
        Structures that were drawn.
    reference : Path
        Real ones, or a trajectory.
    seed : int
        Of the random structures: as many atoms as the real ones, in the same cells.

    Returns
    -------
    r : (shells,) array
        Å
    g : dict of (shells,) arrays
        By path, the reference first, and `RANDOM`.

    Raises
    ------
    ValueError
        If some are periodic and others not.
    """
    found = [Found.real(reference), *(Found.drawn(file) for file in files)]
    reach = longest([s for one in found for s in one.structures])
    rng = np.random.default_rng(seed)
    sets = {str(one.path): one.structures for one in found}
    sets[RANDOM] = [scattered(s, rng) for s in found[0].structures[:_SCATTERED]]
    made = {name: rdf(structures, reach, SHELL) for name, structures in sets.items()}
    return made[RANDOM][0], {name: g for name, (_, g) in made.items()}
