"""How many independent frames a trajectory is worth.

Frames that follow each other closely are nearly the same: n of them tell a mean as well as
n / 2τ independent ones, with the integrated autocorrelation time τ = 1/2 + Σ ρ(t). The sum
ends at five times its own value, where noise would begin to outweigh what is left out; τ can
be believed where the trajectory is longer than some fifty of them.

References
----------
A. D. Sokal, Monte Carlo Methods in Statistical Mechanics (1996),
doi:10.1007/978-1-4899-0319-8_6
"""

import numpy as np

from coulex.errors import InvalidDataError

from .structures.neighbours import complete
from .trajectories import Trajectory

_WINDOW = 5.0
_BLOCK = 32  # columns transformed at a time


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Return the autocorrelation of columns, each about its mean, and summed over them.

    Parameters
    ----------
    values : (frames, k) array
        Real or complex.

    Returns
    -------
    (frames,) array
        One at zero lag; zeros where nothing changes at all.
    """
    frames, columns = values.shape
    size = 1 << (2 * frames - 1).bit_length()  # padded: no lag wraps around
    total = np.zeros(frames)
    for first in range(0, columns, _BLOCK):
        block = values[:, first : first + _BLOCK]
        power = np.abs(np.fft.fft(block - block.mean(axis=0), size, axis=0)) ** 2
        total += np.fft.ifft(power.sum(axis=1)).real[:frames]
    total /= np.arange(frames, 0, -1)
    return total / total[0] if total[0] > 0 else np.zeros(frames)


def autocorrelation_time(values: np.ndarray) -> float:
    """Return the integrated autocorrelation time, in frames.

    Parameters
    ----------
    values : (frames, k) or (frames,) array

    Raises
    ------
    InvalidDataError
        If there are fewer than two frames.
    """
    values = np.asarray(values).reshape(len(values), -1)
    if len(values) < 2:
        msg = f"an autocorrelation needs 2 frames at least, got {len(values)}"
        raise InvalidDataError(msg)
    times = 0.5 + np.cumsum(autocorrelation(values)[1:])
    lags = np.arange(1, len(values))
    enough = np.flatnonzero(lags >= _WINDOW * times)
    return float(max(0.5, times[enough[0] if enough.size else -1]))


def effective(trajectory: Trajectory) -> dict[str, tuple[float, float]]:
    """Return how long it takes a trajectory to forget, and its effective number of frames.

    Returns
    -------
    dict
        Name to (autocorrelation time in frames, effective frames), of "coordinates": where
        each atom is in the cell, as the phases exp(2πi fraction), the slowest thing in a
        liquid, where atoms have to change places; and of "energy", where it is known, for what
        does not depend on which atom is which.
    """
    values = {"coordinates": _phases(trajectory)}
    if trajectory.energy is not None:
        values["energy"] = trajectory.energy
    times = {name: autocorrelation_time(array) for name, array in values.items()}
    return {name: (tau, len(values[name]) / (2 * tau)) for name, tau in times.items()}


def _phases(trajectory: Trajectory) -> np.ndarray:
    """Return coordinates (frames, 3 atoms) such that images of the cell are the same."""
    flat = trajectory.positions.reshape(len(trajectory.positions), -1)
    if not trajectory.periodic.all():
        return flat
    _, inverse = complete(trajectory.cell, trajectory.periodic)
    return np.exp(2j * np.pi * (trajectory.positions @ inverse)).reshape(flat.shape)
