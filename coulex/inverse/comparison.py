"""A sampler alone, with the solver behind it, and the solver without it, on the same events.

What counts for momenta without noise is how many events get a geometry that explains them, how
many of the truths are found, and the time for an event. With noise there is no such geometry:
what counts is how far from the truth an estimate lies, and how many of the draws have weight.
"""

from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from coulex.ensemble import Ensemble
from coulex.explosions import simulate
from coulex.frames import kabsch
from coulex.molecule import Molecule
from coulex.units import ANGSTROM

from .inversion import invert
from .posterior import log_weights, normalised
from .roots import by_search
from .starts import anywhere, of_sampler

_DRAWS = 8  #: of the sampler alone, of which the one is taken that explains the momenta best
_WEIGHTED = 500  #: draws of an event that are weighted
_EVENTS = 100  #: that they are drawn for
_TRUE = 1e-6 * ANGSTROM  #: a geometry that is nearer to the truth is the truth
_SLACK = 1e-12  #: by which a residual may come out larger than the solver saw it
_WARM = 16  #: events that are inverted once before, so that nothing is compiled in the timing
_SEED = 20260102

Prior = tuple[Ensemble, Molecule]


@dataclass(frozen=True, kw_only=True)
class Way:
    """What one way of inverting came to; NaN where it does not apply."""

    name: str
    events: int
    solved: int | None  #: events with a geometry that gives the momenta; None with noise
    found: float  #: share of truths among the geometries
    residual: float  #: of momenta, relative, median
    error_angstrom: float  #: of the best geometry, root mean square of the ions, median
    effective: float = np.nan  #: share of draws that count, median
    milliseconds: float  #: for an event

    def describe(self) -> dict[str, Any]:
        """Return all numbers by name, for JSON."""
        return asdict(self)


def compare(
    momenta,
    masses,
    charges,
    sampler,
    *,
    prior: Prior | None = None,
    truth=None,
    tolerance=1e-9,
    noise: float | None = None,
    threads=None,
) -> list[Way]:
    """Invert the same events with a sampler, and without.

    Parameters
    ----------
    momenta : (n, ions, 3) array
        Without a sum.
    masses : (ions,) array
    charges : (ions,) or (n, ions) array
    sampler : callable
        As of `coulex.invert`.
    prior : (Ensemble, Molecule), optional
    truth : (n, ions, 3) array, optional
    tolerance : float
        Residual of a geometry that explains its momenta.
    noise : float, optional
    threads : int, optional

    Returns
    -------
    list of Way
    """
    p, q = np.asarray(momenta, float), np.asarray(charges, float)
    common = {"truth": truth, "threads": threads}
    options = {"prior": prior, "tolerance": tolerance, "noise": noise, "threads": threads}
    own = q if q.ndim == 1 else q[:_WARM]
    invert(p[:_WARM], masses, own, **options)
    searched = noise is None and p.shape[1] > 2  # of two ions there is nothing to search for
    if searched:
        _searched(p[:_WARM], masses, own, sampler, tolerance, truth=None, threads=threads)
    tolerance = tolerance if noise is None else None
    ways = [_alone(p, masses, q, sampler, tolerance, noise, **common)]
    if searched:
        ways.append(_searched(p, masses, q, sampler, tolerance, **common))
    elif noise is not None and q.ndim == 1:
        ways += _weighted(p, masses, q, sampler, noise, prior, **common)
    begin = perf_counter()
    found = invert(p, masses, q, **options)
    x = found.positions if found.estimate is None else found.estimate.positions
    several = found.solution_event, found.solution_positions
    name = "solver alone"
    ways.append(_way(name, begin, p, masses, q, x, several, tolerance, **common))
    return ways


def _alone(p, masses, q, sampler, tolerance, noise, *, truth, threads) -> Way:
    """Take of a few draws the one whose momenta are nearest."""
    begin, rng = perf_counter(), np.random.default_rng(_SEED)
    x, _ = sampler(p, _DRAWS, charges=q, masses=masses, noise=noise, rng=rng)
    own = np.repeat(np.arange(len(p)), _DRAWS)
    charges = q if q.ndim == 1 else q[own]
    missed = _residual(x.reshape(-1, *p.shape[1:]), p[own], masses, charges, threads)
    best = missed.reshape(len(p), _DRAWS).argmin(axis=1)
    chosen = x[np.arange(len(p)), best]
    name = f"network alone, best of {_DRAWS}"
    several = np.arange(len(p)), chosen
    common = {"truth": truth, "threads": threads}
    return _way(name, begin, p, masses, q, chosen, several, tolerance, **common)


def _searched(p, masses, q, sampler, tolerance, *, truth, threads) -> Way:
    """Search from the draws of the sampler, whatever the number of ions."""
    begin = perf_counter()
    starts = of_sampler(sampler, p, masses, q, otherwise=anywhere(p, masses))
    found = by_search(p, masses, q, starts, threads=threads, residual=tolerance)
    x = np.full(p.shape, np.nan)
    first = np.flatnonzero(np.diff(found.event, prepend=-1))
    x[found.event[first]] = found.positions[first]
    several = found.event, found.positions
    common = {"truth": truth, "threads": threads}
    return _way("network + solver", begin, p, masses, q, x, several, tolerance, **common)


def _weighted(p, masses, q, sampler, noise, prior, *, truth, threads) -> list[Way]:
    """Return the mean of draws that the simulator weighs; nothing without a density."""
    p, rng, begin = p[:_EVENTS], np.random.default_rng(_SEED), perf_counter()
    about = {"charges": q, "masses": masses, "noise": noise, "rng": rng}
    x, log_q = sampler(p, _WEIGHTED, **about)
    if log_q is None:
        return []
    log = log_weights(x, log_q, p, masses, q, noise=noise, prior=prior, threads=threads)
    w = normalised(log)  # NaN where no draw has any weight, which then has no mean
    mean = np.einsum("kn,knia->kia", w, np.where(np.isfinite(x), x, 0.0))
    share = np.nan_to_num(1 / (w**2).sum(axis=1)) / _WEIGHTED
    way = _way(
        *("network, weighted", begin, p, masses, q, mean, (np.arange(len(p)), mean), None),
        truth=None if truth is None else truth[:_EVENTS],
        threads=threads,
    )
    return [replace(way, effective=float(np.median(share)))]


def _way(name, begin, p, masses, q, best, several, tolerance, *, truth, threads) -> Way:
    """Measure geometries: `best` of each event, and all that were found of it."""
    seconds = perf_counter() - begin
    residual = _residual(best, p, masses, q, threads)
    event, x = several
    found = error = np.nan
    if truth is not None:
        known = np.isfinite(truth).all(axis=(1, 2))
        kept = known[event] & np.isfinite(x).all(axis=(1, 2))
        nearest = np.full(len(p), np.inf)
        np.minimum.at(nearest, event[kept], kabsch(x[kept], truth[event[kept]])[1])
        if tolerance is not None:
            found = float((nearest[known] <= _TRUE).mean())
        there = known & np.isfinite(best).all(axis=(1, 2))
        if there.any():
            error = float(np.median(kabsch(best[there], truth[there])[1]) / ANGSTROM)
    return Way(
        name=name,
        events=len(p),
        solved=None if tolerance is None else int((residual <= tolerance + _SLACK).sum()),
        found=found,
        residual=float(np.median(residual)),
        error_angstrom=error,
        milliseconds=1e3 * seconds / max(len(p), 1),
    )


def _residual(x, p, masses, q, threads) -> np.ndarray:
    """Return |p' - p| / |p| of geometries, infinite where there is none."""
    there = np.isfinite(x).all(axis=(1, 2))
    charges = q if q.ndim == 1 else q[there]
    again = simulate(x[there], masses, charges, tolerance=1e-13, threads=threads)
    given = p[there].reshape(int(there.sum()), -1)
    missed = np.linalg.norm(again.momenta.reshape(given.shape) - given, axis=1)
    out = np.full(len(x), np.inf)
    out[there] = np.nan_to_num(missed / np.linalg.norm(given, axis=1), nan=np.inf)
    return out
