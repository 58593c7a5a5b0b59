"""From a file of momenta to a file of the geometries behind them.

Events are inverted in blocks of fixed size, so that what is found for an event follows from
the momenta and the options alone: a resumed file has the bytes of one made at once.

What the file holds as `momenta` is what was inverted: where the sum of the momenta was not
zero and was taken out, the momenta without it.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba
import numpy as np

from . import __version__
from .dataset import Dataset, Target
from .dataset.exchange import Source
from .dataset.exchange.labels import symbols_of
from .dataset.solutions import has_solutions
from .drawing import Sampler
from .ensemble import Ensemble
from .errors import InvalidDataError
from .filling import fill
from .inverse import noise
from .inverse.posterior import log_weights, normalised
from .inverse.solutions import MOMENTUM_SUM, NO_ESTIMATE, NO_MOMENTA, Solutions
from .kernels import simd
from .molecule import Molecule

SHARD_EVENTS = 1 << 16  #: what an interrupted run may lose: a minute or so

#: |Σp| / |p| that is the rounding of float32, taken out of the momenta; more needs a decision
SUM_TOLERANCE = 1e-6
_SUM_ROUNDING = 1e-12  # below this, momenta stay as they are to the bit

_SEED = 20260103  #: of draws that are weighed: a result is a function of its input
_FEW = 64  # events that are inverted to have everything ready; one of them will be good
_BLOCK = 1 << 10  # events: some seconds for several ions, which is how long a signal waits


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Everything that determines the numbers of an inversion, the momenta among them."""

    source: Source
    constants: dict[str, np.ndarray]  #: masses, charges, numbers, as far as all events share
    origin: dict[str, Any]  #: what the momenta come from, for the configuration
    tolerance: float = 1e-9  #: relative residual that a solution may have
    project: bool = False  #: take out a sum of the momenta of any size
    noise: float | None = None  #: of each component of a momentum, relative to its length
    keep_all: bool = False  #: all solutions of an event, not only the most probable
    prior: tuple[Ensemble, Molecule] | None = None  #: None: that of `coulex.invert`
    sampler: Sampler | None = None  #: where searches start
    described: dict[str, Any] | None = None  #: what the sampler is, ready for JSON
    samples: int = 0  #: draws of the sampler to weigh for each event, with noise
    outside: Callable[..., np.ndarray] | None = None  #: momenta, noise -> (k,) bool

    def __post_init__(self):
        held = {*self.constants, *self.source.by_event}
        missing = [name for name in ("momenta", "masses", "charges") if name not in held]
        if missing:
            msg = f"no {' and no '.join(missing)} to invert with; there are {sorted(held)}"
            raise InvalidDataError(msg)
        if self.prior is not None and self.source.symbols:
            wanted, given = self.source.symbols, self.prior[1].symbols
            if wanted != given:
                msg = (
                    f"the prior is for {' '.join(given)}, but the ions are "
                    f"{' '.join(wanted)}, in this order; give a "
                    "molecule with the same atoms in the same order"
                )
                raise InvalidDataError(msg)

    def configuration(self) -> dict[str, Any]:
        """Return, ready for JSON, all that determines the numbers, their count apart."""
        prior = None
        if self.prior is not None:
            ensemble, molecule = self.prior
            prior = {"ensemble": ensemble.describe(), "molecule": molecule.describe()}
        return {
            **self.origin,
            "inversion": {
                "tolerance": self.tolerance,
                "project": self.project,
                "noise": self.noise,
                "all": self.keep_all,
                "prior": prior,
                "block": _BLOCK,
                **({"model": self.described} if self.described else {}),
                **({"samples": self.samples} if self.samples else {}),
            },
            **{name: array.tolist() for name, array in self.constants.items()},
            "instruction_set": f"{platform.machine()} {simd.instruction_set()}",
            "versions": {
                "coulex": __version__,
                "numba": numba.__version__,
                "numpy": np.__version__,
            },
        }

    def bytes_per_event(self) -> int:
        """Return what an event takes in a file, if it has one solution."""
        ions = len(self.constants.get("masses", ())) or len(self.source.symbols)
        vectors = 3 + ("initial_positions" in self.source.by_event)
        estimate = 0 if self.noise is None else 3 * ions * (3 * ions + 1) + 3
        samples = self.samples * (3 * ions + 2)
        return 8 * (3 * ions * vectors + ions + 6 + estimate + samples)

    def events(
        self, given: dict[str, np.ndarray], first: int = 0, *, threads: int | None = None
    ):
        """Invert a block.

        Parameters
        ----------
        given : dict of arrays
            As the source yields them.
        first : int
            Number of the first event.
        threads : int, optional

        Returns
        -------
        arrays : dict
            Arrays by event, and the flat lists, whose events count from the first of the
            block.
        sums : (n,) array
            |Σp| / |p| of each event, which is 0 without momenta.
        """
        momenta, charges = given["momenta"].astype(np.float64), self._of(given, "charges")
        masses = self._of(given, "masses")
        usable = np.isfinite(momenta).all(axis=(1, 2))
        if "status" in given:
            usable &= given["status"] == 0
        momenta[~usable] = np.nan
        sums = np.where(usable, relative_sums(momenta), 0.0)
        if self.noise is None:
            off = usable & (sums > SUM_TOLERANCE) & (not self.project)
        else:
            large = noise.excess(momenta, self.noise) > noise.SUM_LIMIT
            off = usable & large & (not self.project)
        out = usable & (sums > _SUM_ROUNDING) & ~off
        if self.noise is None:
            momenta[out] = without_sum(momenta[out], masses)
        else:
            momenta[out] = noise.without_sum(momenta[out], self.noise)
        rows = np.flatnonzero(usable & ~off)
        found = find(
            momenta[rows],
            masses,
            charges if charges.ndim == 1 else charges[rows],
            tolerance=self.tolerance,
            prior=self.prior,
            noise=self.noise,
            sampler=self.sampler,
            threads=threads,
        )
        status = np.where(usable, MOMENTUM_SUM, NO_MOMENTA).astype(np.uint8)
        kept = {name: given[name] for name in ("initial_positions",) if name in given}
        if charges.ndim == 2:
            kept["charges"] = charges
        if self.outside is not None:
            kept["outside_training"] = np.zeros(len(momenta), np.uint8)
            kept["outside_training"][rows] = self.outside(momenta[rows], self.noise)
        if self.samples:
            own = charges if charges.ndim == 1 else charges[rows]
            kept |= self._posterior(
                momenta[rows], masses, own, rows, len(momenta), first, threads
            )
        return {**kept, "momenta": momenta, **self._spread(found, rows, status)}, sums

    def _posterior(
        self, momenta, masses, charges, rows, count, first, threads
    ) -> dict[str, np.ndarray]:
        """Draw geometries of events, and weigh them by the simulator."""
        rng = np.random.default_rng([_SEED, first])
        assert self.sampler is not None
        assert self.noise is not None
        about = {"charges": charges, "masses": masses, "noise": self.noise}
        x, log_q = self.sampler(momenta, self.samples, rng=rng, **about)
        if log_q is None:
            msg = "the model has no density: it gives starts, and no weights"
            raise InvalidDataError(msg)
        known = {"noise": self.noise, "prior": self.prior, "threads": threads}
        log = log_weights(x, log_q, momenta, masses, charges, **known)
        weight = normalised(log)
        effective = np.zeros(count)
        effective[rows] = 1 / (weight**2).sum(axis=1)
        kept = np.isfinite(weight) & np.isfinite(x).all(axis=(2, 3))  # else nothing is known
        return {
            "sample_event": np.broadcast_to(rows[:, None], kept.shape)[kept].astype(np.int64),
            "sample_positions": x[kept],
            "sample_weight": weight[kept],
            "sample_effective": np.nan_to_num(effective),
        }

    def _of(self, given: dict[str, np.ndarray], name: str) -> np.ndarray:
        return np.asarray(self.constants.get(name, given.get(name)), np.float64)

    def _spread(self, found: Solutions, rows, status) -> dict[str, np.ndarray]:
        """Return solutions of the events `rows` as those of all events."""
        positions = np.full((len(status), *found.positions.shape[1:]), np.nan)
        numbers = np.zeros(len(status), np.int32)
        positions[rows], numbers[rows] = found.positions, found.n_solutions
        status[rows] = found.status
        event = np.asarray(found.solution_event, np.int64)
        kept = slice(None)
        if not self.keep_all:
            kept = np.flatnonzero(np.diff(event, prepend=-1))
        return {
            **_estimates(found, rows, len(status)),
            "positions": positions,
            "n_solutions": numbers,
            "status": status,
            "solution_event": rows[event[kept]],
            "solution_positions": np.asarray(found.solution_positions, np.float64)[kept],
            "solution_residual": np.asarray(found.solution_residual, np.float64)[kept],
            "solution_weight": np.asarray(found.solution_weight, np.float64)[kept],
            "solution_condition": np.asarray(found.solution_condition, np.float64)[kept],
            "solution_sign": np.asarray(found.solution_sign, np.int8)[kept],
        }


def find(
    momenta, masses, charges, *, tolerance, prior, noise, threads, sampler=None
) -> Solutions:
    """Call the inversion: the only place of the command line that does.

    What unknown charges need goes through here as well.
    """
    from . import invert

    options = {} if noise is None else {"noise": noise}
    options |= {} if sampler is None else {"sampler": sampler}
    return invert(
        momenta, masses, charges, tolerance=tolerance, prior=prior, threads=threads, **options
    )


def _estimates(found: Solutions, rows, count: int) -> dict[str, np.ndarray]:
    """Return estimates of the events `rows`, if there are any, as those of all events."""
    estimate = found.estimate
    if estimate is None:
        return {}
    out = {}
    for name in ("positions", "covariance", "misfit", "weight", "status"):
        part = getattr(estimate, name)
        fill = NO_ESTIMATE if name == "status" else np.nan
        whole = np.full((count, *part.shape[1:]), fill, part.dtype)
        whole[rows] = part
        out[f"estimate_{name}"] = whole
    return out


def relative_sums(momenta) -> np.ndarray:
    """Return |Σp| / |p| (n,) of momenta (n, ions, 3); 0 where all ions rest."""
    p = np.asarray(momenta, np.float64)
    size = np.linalg.norm(p.reshape(len(p), -1), axis=1)
    total = np.linalg.norm(p.sum(axis=1), axis=1)
    return total / np.where(size > 0, size, 1.0)


def without_sum(momenta, masses) -> np.ndarray:
    """Return momenta (n, ions, 3) as seen from the centre of mass, where they add up to 0."""
    p, m = np.asarray(momenta, np.float64), np.asarray(masses, np.float64)
    return p - p.sum(axis=1, keepdims=True) * (m / m.sum())[:, None]


def measured(data: Dataset) -> Source:
    """Return the events of a set to be inverted; those that are not good stay among them.

    Raises
    ------
    InvalidDataError
        If it holds no momenta.
    """
    if "momenta" not in data:
        msg = f"{data.path} holds no momenta, but {', '.join(data.names)}"
        raise InvalidDataError(msg)
    wanted = ("masses", "numbers", "charges", "initial_positions", "momenta", "status")
    names = [name for name in wanted if name in data]
    if has_solutions(data) and "status" in names:
        names.remove("status")  # of the inversion, not of the momenta
    growing = [name for name in names if data.grows(name)]
    constants = {name: data[name] for name in names if name not in growing}

    def blocks(size: int) -> Iterator[dict[str, np.ndarray]]:
        for _, block in data.blocks(growing, size):
            yield block

    symbols = symbols_of(constants["numbers"]) if "numbers" in constants else ()
    return Source("hdf5", data.n_events, symbols, constants, tuple(growing), blocks)


@dataclass(frozen=True)
class Work:
    """What one call of `run` did."""

    events: int  #: inverted now; what lay there before does not count
    seconds: float  #: inverting and writing, preparation apart
    stopped: bool  #: whether shards are left because `stop` said so
    largest_sum: float  #: |Σp| / |p|, of the events that were inverted now
    sums: int  #: events with a sum above rounding


def prepare(reconstruction: Reconstruction, *, threads: int | None = None) -> float:
    """Have kernels compiled and tables made, by inverting a few events; return the seconds."""
    begin = perf_counter()
    few = next(reconstruction.source.blocks(_FEW), None)
    if few is not None:
        reconstruction.events(few, threads=threads)
    return perf_counter() - begin


def run(
    reconstruction: Reconstruction,
    target: Target,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Work:
    """Make and write the shards that a target still lacks; see `coulex.filling.fill`."""
    largest, off = 0.0, 0

    def make(given: dict[str, np.ndarray], first: int) -> dict[str, np.ndarray]:
        nonlocal largest, off
        arrays, sums = reconstruction.events(given, first, threads=threads)
        largest, off = max(largest, sums.max()), off + int((sums > _SUM_ROUNDING).sum())
        return arrays

    source, constants = reconstruction.source, reconstruction.constants
    ends = {"block": _BLOCK, "progress": progress, "stop": stop}
    done, seconds, stopped = fill(target, source, constants, make, **ends)
    return Work(done, seconds, stopped, float(largest), off)
