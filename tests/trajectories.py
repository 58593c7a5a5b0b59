"""Small trajectories for tests: a crystal whose atoms are normal about their places."""

from dataclasses import dataclass

import numpy as np

from generative.repap.representation import Sequences
from generative.trajectories import Trajectory

LENGTHS = np.array([6.0, 6.0, 8.0])
NUMBERS = np.array([11, 17, 17, 11])
PLACES = np.array([[1.0, 1.0, 1.0], [4.0, 1.0, 3.0], [1.0, 4.0, 5.0], [4.0, 4.0, 7.0]])


def factor(sigma=0.1, seed=5):
    """Return L (12, 12): displacements are L z, with z standard normal."""
    rng = np.random.default_rng(seed)
    return sigma * (np.eye(12) + 0.3 * np.tril(rng.normal(size=(12, 12)), -1))


def crystal(frames=400, seed=0, *, periodic=True, numbers=NUMBERS, lengths=LENGTHS):
    """Return independent frames of four atoms."""
    z = np.random.default_rng(seed).normal(size=(frames, 12))
    return Trajectory(
        positions=PLACES + (z @ factor().T).reshape(frames, 4, 3),
        cell=np.diag(lengths),
        periodic=np.full(3, periodic),
        numbers=numbers,
    )


@dataclass(frozen=True, kw_only=True)
class Boxed(Sequences):
    """Four atoms in a box, from any twelve numbers: for the contract that all models hold."""

    kind = "boxed"
    needs = ("x", "y")
    size = 12
    k = 0

    numbers: tuple[int, ...] = (14, 14, 8, 8)
    atoms: tuple[int, ...] = (0, 1, 2, 3)
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lengths: tuple[float, float, float] = (12.0, 12.0, 10.0)
    periodic: bool = True
    order: str = "given"
    augment: str = "none"
    closest: float = 2.0

    def encode(self, arrays, rng):  # noqa: ARG002, nothing is drawn
        x = np.asarray(arrays["x"], float).reshape(-1, 4, 3)
        return x, np.zeros((len(x), 0))
