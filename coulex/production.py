"""A production run: events numbered from zero, each a function of configuration and number.

Nothing else enters: not the threads, not the blocks in which events are computed, not which
process makes which shard, nor whether a run was interrupted. Event 17 of a seed is event 17
of that seed in a run of any length, and a resumed file has the bytes of one made at once.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba
import numpy as np

from . import __version__, explosions, frames
from .dataset import Shard, Target, predicted_bytes
from .ensemble import Ensemble, orient
from .kernels import simd
from .molecule import Molecule

ORIENTATIONS = ("given", "random", "recoil")

#: share of events without a good status from which on a run has failed, though it is written
FAILED_SHARE = 1e-6

_MOST_STEPS = 1 << 24  # as in `explosions.simulate`
_FIRST_BLOCK = 1 << 12
_LARGEST_BLOCK = 1 << 17  # events; 12 ions then take some 100 MB
_BLOCK_SECONDS = 0.5  # how long a signal may have to wait


@dataclass(frozen=True, kw_only=True)
class Production:
    """Everything that determines the numbers of a run."""

    molecule: Molecule
    ensemble: Ensemble
    n: int  #: events
    orientation: str = "given"  #: "recoil": positions and momenta turned into the recoil frame
    seed: int = 1
    precision: str = "float64"  #: of the computation, and of what is written
    tolerance: float | None = None  #: None: the default of the precision
    max_steps: int = 10_000
    allow_attraction: bool = False
    portable: bool = False  #: the same bits on every processor

    def __post_init__(self):
        if self.n < 1:
            msg = f"at least one event is needed, got n = {self.n}"
            raise ValueError(msg)
        if self.orientation not in ORIENTATIONS:
            msg = f"orientation must be {', '.join(ORIENTATIONS)}, got {self.orientation!r}"
            raise ValueError(msg)
        if not 1 <= self.max_steps < _MOST_STEPS:
            msg = f"max_steps must lie between 1 and 2^24 - 1, got {self.max_steps}"
            raise ValueError(msg)
        explosions.accuracy(self.precision, self.tolerance)  # says what is wrong with them

    def events(self, first: int, count: int, *, threads: int | None = None) -> dict[str, Any]:
        """Compute some of the events.

        Parameters
        ----------
        first, count : int
            Numbers `first` to ``first + count - 1``.
        threads : int, optional
            All that the process may use, unless given.

        Returns
        -------
        dict of arrays
            As a file names them: `initial_positions` (count, ions, 3) from the centre of mass,
            in the frame of `momenta` (count, ions, 3), `status`, `energy_error` and
            `error_estimate` (count,); and `initial_momenta` where the ions do not start at
            rest.

        Notes
        -----
        Positions are rounded to the precision of the file before they are simulated: the
        momenta belong to exactly the positions beside them (in the recoil frame but for the
        rounding of the rotation).
        """
        molecule, masses = self.molecule, self.molecule.ion_masses
        drawn, moving = orient(
            *self.ensemble.sample(molecule, seed=self.seed, first=first, count=count),
            how="random" if self.orientation == "random" else "given",
            seed=self.seed,
            first=first,
        )
        drawn = drawn - _centre_of_mass(drawn, masses)
        starts = {"initial_positions": drawn.astype(self.precision)}
        if moving is not None:
            starts["initial_momenta"] = np.asarray(moving, self.precision)
        result = explosions.simulate(
            starts["initial_positions"],
            masses,
            molecule.charges,
            initial_momenta=starts.get("initial_momenta"),
            tolerance=self.tolerance,
            precision=self.precision,
            threads=threads,
            max_steps=self.max_steps,
            allow_attraction=self.allow_attraction,
            portable=self.portable,
        )
        vectors = {**starts, "momenta": result.momenta}
        if self.orientation == "recoil":
            vectors = self._in_recoil_frame(vectors)
        return {
            **vectors,
            "status": result.status,
            "energy_error": result.energy_error,
            "error_estimate": result.error_estimate,
        }

    def _in_recoil_frame(self, vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn each event by one rotation; an event without momenta keeps its frame."""
        known = np.asarray(np.isfinite(vectors["momenta"]).all(axis=(1, 2)))
        rotations = np.broadcast_to(np.eye(3), (len(known), 3, 3)).copy()
        rotations[known] = frames.recoil_frame(vectors["momenta"][known])
        return {
            name: frames.rotate(array, rotations).astype(self.precision)
            for name, array in vectors.items()
        }

    def constants(self) -> dict[str, np.ndarray]:
        """Return what all events share: masses, charges and numbers of the ions."""
        molecule = self.molecule
        return {
            "masses": np.asarray(molecule.ion_masses, np.float64),
            "charges": np.asarray(molecule.charges, np.float64),
            "numbers": np.asarray(molecule.numbers, np.int32),
        }

    def configuration(self) -> dict[str, Any]:
        """Return, ready for JSON, all that determines the numbers, `n` apart."""
        return {
            "molecule": {
                **self.molecule.describe(),
                "ion_masses": self.molecule.ion_masses.tolist(),
            },
            "ensemble": self.ensemble.describe(),
            "start": "at rest",
            "orientation": self.orientation,
            "seed": self.seed,
            "precision": self.precision,
            "tolerance": explosions.accuracy(self.precision, self.tolerance).tolerance,
            "max_steps": self.max_steps,
            "allow_attraction": self.allow_attraction,
            "instruction_set": self._instruction_set(),
            "versions": {
                "coulex": __version__,
                "numba": numba.__version__,
                "numpy": np.__version__,
            },
        }

    def _instruction_set(self) -> str:
        """Return what the bits depend on beside the numbers."""
        if self.portable:
            return "portable"
        return f"{platform.machine()} {simd.instruction_set()}"

    def predicted_bytes(self) -> int:
        """Return the size of all events in a file."""
        names = ["initial_positions", "momenta", "status", "energy_error", "error_estimate"]
        return predicted_bytes(self.n, len(self.molecule.symbols), names, dtype=self.precision)


def _centre_of_mass(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return the centres (count, 1, 3), summed ion by ion: the same bits in any block."""
    total = np.zeros_like(positions[:, 0])
    for ion, mass in enumerate(masses):
        total += mass * positions[:, ion]
    return (total / masses.sum())[:, None]


@dataclass(frozen=True)
class Work:
    """What one call of `run` did, and how long it took."""

    events: int  #: computed now; what lay there before does not count
    seconds: float  #: computing and writing, compilation apart
    stopped: bool  #: whether shards are left because `stop` said so


def run(
    production: Production,
    target: Target,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Work:
    """Make and write the shards that a target still lacks.

    Parameters
    ----------
    production : Production
    target : Target
        Entered: it holds its lock. It is not finalized here.
    threads : int, optional
    progress : callable
        Told how many events were just computed.
    stop : callable
        Asked between blocks of about half a second; true ends the work, and the shard that is
        not whole is left out.
    """
    begin, done, block = perf_counter(), 0, _FIRST_BLOCK
    for shard in target.missing():
        arrays: dict[str, np.ndarray] = {}
        position = 0
        while position < shard.count:
            if stop():
                return Work(done, perf_counter() - begin, stopped=True)
            count, start = min(block, shard.count - position), perf_counter()
            made = production.events(shard.first + position, count, threads=threads)
            _insert(arrays, made, position, shard)
            position, done = position + count, done + count
            progress(count)
            block = _next_block(count, perf_counter() - start)
        target.write(shard, {**production.constants(), **arrays})
    return Work(done, perf_counter() - begin, stopped=False)


def _insert(arrays: dict, made: dict, position: int, shard: Shard) -> None:
    """Put a block of events in its place among the arrays of a shard."""
    for name, rows in made.items():
        if name not in arrays:
            arrays[name] = np.empty((shard.count, *rows.shape[1:]), rows.dtype)
        arrays[name][position : position + len(rows)] = rows


def _next_block(count: int, seconds: float) -> int:
    """Return how many events to compute next so that a signal waits not much longer."""
    wanted = int(count * min(_BLOCK_SECONDS / max(seconds, 1e-9), 4.0))
    return max(1, min(wanted, _LARGEST_BLOCK))
