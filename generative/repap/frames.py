"""Frames of trajectories as numbered events, cut in time.

Neighbouring frames are nearly the same frame. So each run is cut once: the first of it is for
training, then comes a gap of several correlation times that belongs to no part, then what
validates, a gap, and what tests. The seed has no part in it.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coulex.errors import InvalidDataError
from generative.correlation import effective
from generative.data import NO_PART, PARTS, Source
from generative.trajectories import Trajectory, read

_GAP = 3.0  #: correlation times
_LARGEST_GAP = 0.05  #: of a run
_LEAP = 0.5  #: of the distance of neighbours
_SOME = 8192  #: frames, from all of the training part, that a representation is fitted to


class Frames(Source):
    """The frames of one or several runs of the same atoms in the same cell.

    Parameters
    ----------
    runs : sequence of Trajectory

    Attributes
    ----------
    times : list of float
        Correlation time of the coordinates of each run, in frames.
    gaps : list of int
        Frames between two parts of each run.
    gap_is_short : bool
        Whether a run is so short that the gap is less than one correlation time.
    leap : float
        Farthest step of an atom from a frame to the next, over the distance of neighbours.

    Raises
    ------
    InvalidDataError
        If the runs differ in atoms or cell, or a run is too short to be cut.
    """

    def __init__(self, runs: Sequence[Trajectory]):
        first = runs[0]
        for number, run in enumerate(runs):
            _check_alike(run, first, number)
        self.constants = {
            "cell": np.asarray(first.cell, float),
            "periodic": np.asarray(first.periodic, bool),
            "numbers": np.asarray(first.numbers, int),
        }
        self.positions = np.concatenate([_at_rest(run) for run in runs])
        self.lengths = [len(run.positions) for run in runs]
        self.n_events = len(self.positions)
        self.times = [effective(run)["coordinates"][0] for run in runs]
        self.gaps = [
            max(1, min(math.ceil(_GAP * time), int(_LARGEST_GAP * n)))
            for time, n in zip(self.times, self.lengths, strict=True)
        ]
        self.gap_is_short = any(g < t for g, t in zip(self.gaps, self.times, strict=True))
        self.leap = max(_leap(run) for run in runs)
        pairs = zip(self.lengths, self.gaps, strict=True)
        self._part = np.concatenate([_cut(n, gap) for n, gap in pairs])

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Frames":
        """Read files, each of one run or several."""
        return cls([run for path in paths for run in read(Path(path))])

    @property
    def effective(self) -> float:
        """Return how many independent frames these are worth."""
        pairs = zip(self.lengths, self.times, strict=True)
        return sum(n / max(1.0, 2 * time) for n, time in pairs)

    @property
    def notes(self) -> list[str]:
        """Return what is worth telling before a training."""
        times = ", ".join(f"{time:.3g}" for time in self.times)
        said = [
            f"{self.n_events:,} frames of {len(self.lengths)} runs; coordinates forget "
            f"themselves in {times} frames: worth some {self.effective:,.0f} independent "
            f"ones; {(self._part == NO_PART).sum():,} frames lie in gaps between parts"
        ]
        if self.gap_is_short:
            said.append(
                "the gaps are shorter than that: what tests is not independent of what is "
                "trained on; score with another run"
            )
        if self.leap > _LEAP:
            said.append(
                f"from a frame to the next an atom moves by {self.leap:.2g} of the distance "
                "of neighbours: frames far apart in time, or atoms in another order"
            )
        return said

    def for_training(self, seed: int) -> dict[str, np.ndarray]:  # noqa: ARG002, by time
        train = self.frames("train")
        some = np.linspace(0, len(train) - 1, min(len(train), _SOME)).astype(int)
        return {"positions": train[some], **self.constants}

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.positions).tobytes())
        for name in sorted(self.constants):
            digest.update(np.ascontiguousarray(self.constants[name]).tobytes())
        digest.update(repr(self.lengths).encode())
        return digest.hexdigest()

    def part(self, seed: int, first: int, count: int) -> np.ndarray:  # noqa: ARG002, by time
        return self._part[first : first + count]

    def read(self, first: int, count: int) -> dict[str, np.ndarray]:
        return {"positions": self.positions[first : first + count], **self.constants}

    def good(self, first: int, count: int) -> np.ndarray:  # noqa: ARG002, all of them
        return np.ones(count, bool)

    def grows(self, name: str) -> bool:
        return name == "positions"

    def frames(self, part: str) -> np.ndarray:
        """Return the positions (frames, atoms, 3) of a part."""
        return self.positions[self._part == list(PARTS).index(part)]


def _check_alike(run: Trajectory, first: Trajectory, number: int) -> None:
    if not np.array_equal(run.numbers, first.numbers):
        msg = f"run {number} has other atoms, or another order, than run 0; all must be alike"
        raise InvalidDataError(msg)
    same = np.allclose(run.cell, first.cell, rtol=0, atol=1e-6)
    if not same or (np.asarray(run.periodic) != np.asarray(first.periodic)).any():
        msg = f"run {number} has another cell than run 0; a model knows one cell"
        raise InvalidDataError(msg)
    if len(run.positions) < 2:
        msg = f"run {number} has {len(run.positions)} frame; a trajectory has several"
        raise InvalidDataError(msg)


def _leap(run: Trajectory) -> float:
    step = np.linalg.norm(np.diff(_at_rest(run), axis=0), axis=2).max()
    room = np.ptp(run.positions.reshape(-1, 3), axis=0)
    volume = abs(np.linalg.det(run.cell)) if np.all(run.periodic) else np.prod(room)
    return float(step / max(volume / len(run.numbers), 1e-12) ** (1 / 3))


def _at_rest(run: Trajectory) -> np.ndarray:
    """Return the positions without the drift of their mean, which is no motion of atoms."""
    middle = run.positions.mean(1, keepdims=True)
    return run.positions - (middle - middle[:1])


def _cut(n: int, gap: int) -> np.ndarray:
    """Return the part of each frame of a run."""
    edges = np.rint(np.cumsum([0, *PARTS.values()]) * n).astype(int)
    part = np.full(n, NO_PART, np.uint8)
    for number in range(len(PARTS)):
        begin, end = edges[number] + (gap if number else 0), edges[number + 1]
        if begin >= end:
            msg = f"a run of {n} frames is too short to be cut into parts with gaps of {gap}"
            raise InvalidDataError(msg)
        part[begin:end] = number
    return part
