"""Missing atoms by lookup: the whole environments whose parts are most like what is known.

The baseline of filling in, which learns nothing: the environments that a model was trained on.
"""

from itertools import combinations

import numpy as np

from .matching import completed, place


class Library:
    """Whole environments, to be found by their parts.

    Parameters
    ----------
    whole : (M, n, 3) array
        Å, each sorted by distance from the centre.
    known : int
        Atoms of a part, k.
    proper : bool
        Whether mirror images are told apart.

    Notes
    -----
    Parts are compared by their sorted distances from the centre and from each other, which
    need no assignment; those that are nearest by these are then laid onto the known atoms.
    """

    def __init__(self, whole: np.ndarray, known: int, *, proper: bool = False):
        from scipy.spatial import KDTree

        self.whole, self.proper = np.asarray(whole, float), proper
        subsets = np.array(list(combinations(range(self.whole.shape[1]), known)))
        parts = self.whole[:, subsets]
        self.per_whole = len(subsets)
        self.tree = KDTree(_invariants(parts.reshape(-1, known, 3)))

    def lookup(self, known: np.ndarray, n: int, *, compared: int = 24) -> np.ndarray:
        """Return completions (m, n, atoms, 3), those of the parts that are nearest first.

        Parameters
        ----------
        known : (m, k, 3) array
            Å.
        n : int
        compared : int
            Parts that are laid onto the known atoms.
        """
        compared = min(max(compared, n), self.tree.n)
        m = len(known)
        _, index = self.tree.query(_invariants(known), k=compared)
        whole = self.whole[index.reshape(m, compared) // self.per_whole].reshape(
            -1, *self.whole.shape[1:]
        )
        every = known.repeat(compared, axis=0)
        found = place(every, whole, 1, proper=self.proper)
        filled = completed(every, whole, found.place[:, 0], proper=self.proper)
        order = np.argsort(found.square.reshape(m, compared), axis=1, kind="stable")[:, :n]
        filled = filled.reshape(m, compared, *filled.shape[1:])
        return filled[np.arange(m)[:, None], order]


def _invariants(x: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(x.shape[1], 1)
    apart = np.linalg.norm(x[:, i] - x[:, j], axis=2)
    return np.concatenate(
        [np.sort(np.linalg.norm(x, axis=2), axis=1), np.sort(apart, axis=1)], axis=1
    )
