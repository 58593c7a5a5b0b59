"""What of an environment depends neither on how it is turned nor on the order of its atoms.

Distances from the centre, distances between neighbours, and angles between the bonds, each
sorted. Mirror images have the same.
"""

from dataclasses import dataclass

import numpy as np

from generative.structures.measures import angles_between

_MOST_RADII, _MOST_ANGLES = 8, 6  #: of a fingerprint: all that silicon has


@dataclass(frozen=True)
class Invariants:
    """Of m environments of n neighbours, `shell` of which are bonded to the centre.

    Attributes
    ----------
    radii : (m, n) array
        Distances of the neighbours from the centre in Å, the nearest first.
    between : (m, n (n - 1) / 2) array
        Distances between neighbours in Å, the shortest first.
    angles : (m, shell (shell - 1) / 2) array
        Between the `shell` shortest vectors, in degrees, the smallest first.
    shell : int
    """

    radii: np.ndarray
    between: np.ndarray
    angles: np.ndarray
    shell: int

    @classmethod
    def of(cls, x: np.ndarray, shell: int) -> "Invariants":
        """Take them of environments (m, n, 3), vectors from the centre in Å."""
        x = np.asarray(x, float)
        radii = np.linalg.norm(x, axis=2)
        order = np.argsort(radii, axis=1, kind="stable")
        x = np.take_along_axis(x, order[:, :, None], axis=1)
        i, j = np.triu_indices(x.shape[1], 1)
        between = np.linalg.norm(x[:, i] - x[:, j], axis=2)
        return cls(
            radii=np.take_along_axis(radii, order, axis=1),
            between=np.sort(between, axis=1),
            angles=np.sort(angles_between(x[:, :shell]), axis=1),
            shell=shell,
        )

    def __len__(self) -> int:
        return len(self.radii)

    @property
    def bonds(self) -> np.ndarray:
        """Return the distances of the bonded neighbours, (m, shell) in Å."""
        return self.radii[:, : self.shell]

    @property
    def outer(self) -> np.ndarray:
        """Return the distances of the other neighbours, (m, n - shell) in Å."""
        return self.radii[:, self.shell :]

    @property
    def closest(self) -> np.ndarray:
        """Return the shortest distance between any two atoms, (m,) in Å."""
        return np.minimum(self.radii[:, 0], self.between.min(axis=1, initial=np.inf))

    @property
    def distances(self) -> np.ndarray:
        """Return all sorted distances, (m, n (n + 1) / 2) in Å.

        Their Euclidean distance is small where two environments are nearly the same.
        """
        return np.concatenate([self.radii, self.between], axis=1)

    @property
    def fingerprint(self) -> np.ndarray:
        """Return at most 18 of these, for tests that fit a matrix to all their products."""
        parts = (self.radii, _MOST_RADII), (self.angles, _MOST_ANGLES), (self.between, 4)
        return np.concatenate([_some(array, most) for array, most in parts], axis=1)


def _some(x: np.ndarray, most: int) -> np.ndarray:
    """Return all columns (m, k), or so many of them, evenly from the first to the last."""
    chosen = np.linspace(0, x.shape[1] - 1, min(most, x.shape[1]))
    return x[:, chosen.astype(int)]
