"""The round trip: every geometry explodes again, and has to give the momenta it explains.

The residual is |p' - p| / |p| of the whole vector of momenta, p' simulated and p given, in the
frame as given: a geometry that is turned against its momenta fails. The error of a position is
what is left between two geometries after the best proper rotation (Kabsch) about their
centres: the root mean square over the ions, all counting the same. A mirror image of four ions
and more is another geometry.

Numbers of many events come in blocks, and quantiles from a logarithmic histogram: they are
known to 0.2 %, the largest exactly.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coulex.explosions import simulate
from coulex.frames import kabsch
from coulex.units import ANGSTROM

from .solutions import FOLD, NO_MOMENTA, SEVERAL, SOLVED, STATUS

#: an explosion that checks another has an error far below that of what it checks
_TOLERANCE = 1e-13

#: how much larger than stated a residual may come out: the checked one has its own accuracy
_SLACK = 1e-9

LIMIT_ANGSTROM = 1e-6  #: a solution that is nearer to the truth is the truth, unless said


@dataclass(frozen=True)
class Spread:
    """The size of many numbers; not a number where there are none."""

    median: float
    percentile_99: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """The round-trip table."""

    events: int
    status: dict[str, int]  #: events by what the inversion said of them; empty without one
    solutions: int  #: geometries that were let explode
    residual: Spread  #: of momenta, relative
    not_reproduced: int  #: geometries that miss their stated residual, or do not fly apart
    truths: int  #: events whose true geometry is known
    best_error_angstrom: Spread  #: of the most probable solution of each event
    nearest_error_angstrom: Spread  #: of the solution that is nearest to the truth
    truth_among: float  #: share of `truths` that are among the solutions; NaN without any
    limit_angstrom: float  #: error up to which a solution is the truth

    @property
    def failed(self) -> int:
        """Return how many events have no solution, by their status."""
        good = {STATUS[code][0] for code in (SOLVED, SEVERAL, FOLD)}
        return sum(count for name, count in self.status.items() if name not in good)

    def describe(self) -> dict[str, Any]:
        """Return all numbers by name, for JSON."""
        return asdict(self) | ({"failed": self.failed} if self.status else {})

    def rows(self) -> list[tuple[str, str]]:
        """Return the table, as text."""
        out = [("events", f"{self.events:,}")]
        if self.status:
            named = dict(self.status)
            for code in (SOLVED, SEVERAL, FOLD):
                name = STATUS[code][0]
                out.append((f"  {name}", f"{named.pop(name, 0):,}"))
            out.append(("  failed", f"{self.failed:,}"))
            out += [(f"    {name}", f"{count:,}") for name, count in named.items()]
        out.append(("geometries", f"{self.solutions:,}"))
        out.append(_spread_row("momentum residual", self.residual))
        out.append(("not reproduced", f"{self.not_reproduced:,}"))
        if self.truths:
            out.append(_spread_row("error of the best (Å)", self.best_error_angstrom))
            out.append(_spread_row("error of the nearest (Å)", self.nearest_error_angstrom))
            share = f"{100 * self.truth_among:.2f} % of {self.truths:,}"
            out.append(
                ("truth among the solutions", f"{share}, within {self.limit_angstrom:g} Å")
            )
        return out


def _spread_row(name: str, spread: Spread) -> tuple[str, str]:
    if np.isnan(spread.largest):
        return name, "-"
    median, most, largest = spread.median, spread.percentile_99, spread.largest
    return name, f"median {median:.1e}, 99 % {most:.1e}, largest {largest:.1e}"


def round_trip(
    positions,
    momenta,
    masses,
    charges,
    *,
    events=None,
    status=None,
    residuals=None,
    initial_momenta=None,
    truth=None,
    limit_angstrom: float = LIMIT_ANGSTROM,
    threads: int | None = None,
) -> RoundTrip:
    """Let every geometry explode again and compare.

    Parameters
    ----------
    positions : (m, ions, 3) array
        In bohr; those of an event together, the most probable first. Geometries that are not
        finite are none.
    momenta : (n, ions, 3) array
        What the geometries explain, atomic units.
    masses : (ions,) array
    charges : (ions,) or (n, ions) array
    events : (m,) array, optional
        Which of the n events a geometry belongs to, ascending; one for each when omitted.
    status : (n,) array, optional
        What the inversion said, by the codes of `STATUS`.
    residuals : (m,) array, optional
        What the inversion said of each geometry, to be confirmed.
    initial_momenta : (n, ions, 3) array, optional
        At rest when omitted.
    truth : (n, ions, 3) array, optional
        The geometries that the momenta come from, in bohr; not a number where unknown.
    limit_angstrom : float
        Error up to which a solution counts as the truth.
    threads : int, optional

    Raises
    ------
    ValueError
        If shapes disagree, or `limit_angstrom` is not positive.
    """
    tally = Tally(masses, limit_angstrom=limit_angstrom, threads=threads)
    tally.add(
        positions,
        momenta,
        charges,
        events=events,
        status=status,
        residuals=residuals,
        initial_momenta=initial_momenta,
        truth=truth,
    )
    return tally.result()


class Tally:
    """The round trip of events that come in blocks."""

    def __init__(
        self, masses, *, limit_angstrom: float = LIMIT_ANGSTROM, threads: int | None = None
    ):
        if not 0 < limit_angstrom < np.inf:
            msg = f"limit_angstrom must be positive and finite, got {limit_angstrom}"
            raise ValueError(msg)
        self._masses = np.asarray(masses, np.float64)
        self._limit, self._threads = float(limit_angstrom), threads
        self._events = self._truths = self._found = 0
        self._solutions = self._failed = 0
        self._status = np.zeros(256, np.int64)
        self._has_status = False
        self._residual, self._best, self._nearest = _Sizes(), _Sizes(), _Sizes()

    def add(
        self,
        positions,
        momenta,
        charges,
        *,
        events=None,
        status=None,
        residuals=None,
        initial_momenta=None,
        truth=None,
    ) -> None:
        """Add a block; `events` counts from its first. Parameters are those of `round_trip`.

        Raises
        ------
        ValueError
            If shapes disagree.
        """
        x, p = np.asarray(positions, np.float64), np.asarray(momenta, np.float64)
        own = np.arange(len(x)) if events is None else np.asarray(events)
        self._check(x, p, own)
        if status is not None:
            self._has_status = True
            self._status += np.bincount(np.asarray(status), minlength=256)
        self._events += len(p)
        there = np.isfinite(x).all(axis=(1, 2))
        x, own = x[there], own[there]
        self._solutions += len(x)
        stated = None if residuals is None else np.asarray(residuals, np.float64)[there]
        self._explode(x, p, np.asarray(charges, np.float64), own, stated, initial_momenta)
        if truth is not None:
            known = np.isfinite(np.asarray(truth)).all(axis=(1, 2))
            if status is not None:
                known &= np.asarray(status) != NO_MOMENTA
            self._compare(x, own, np.asarray(truth, np.float64), known)

    def _check(self, x, p, own) -> None:
        ions = len(self._masses)
        if x.shape[1:] != (ions, 3) or p.shape[1:] != (ions, 3) or own.shape != x.shape[:1]:
            msg = (
                f"{ions} ions: positions (m, ions, 3), momenta (n, ions, 3) and events (m,) "
                f"expected, got {x.shape}, {p.shape}, {own.shape}"
            )
            raise ValueError(msg)
        if own.size and not (own[0] >= 0 and own[-1] < len(p) and (np.diff(own) >= 0).all()):
            msg = f"events must ascend from 0 to {len(p) - 1}, got {own[0]} to {own[-1]}"
            raise ValueError(msg)

    def _explode(self, x, p, charges, own, stated, initial_momenta) -> None:
        """Simulate the geometries `x` of the events `own` and compare the momenta."""
        if not len(x):
            return
        again = simulate(
            x,
            self._masses,
            charges if charges.ndim == 1 else charges[own],
            initial_momenta=None
            if initial_momenta is None
            else np.asarray(initial_momenta)[own],
            tolerance=_TOLERANCE,
            threads=self._threads,
            allow_attraction=True,
        )
        given = p[own]
        size = np.linalg.norm(given.reshape(len(x), -1), axis=1)
        missed = np.linalg.norm((again.momenta - given).reshape(len(x), -1), axis=1)
        # without a force nothing moves, and what is missed has no size to refer to
        residual = missed / np.where(size > 0, size, 1.0)
        self._residual.add(residual[np.isfinite(residual)])
        bad = ~np.isfinite(residual)
        if stated is not None:
            bad |= ~(residual <= stated + _SLACK)
        self._failed += int(bad.sum())

    def _compare(self, x, own, truth, known) -> None:
        """Compare the geometries `x` of the events `own` with the truth where it is known."""
        self._truths += int(known.sum())
        chosen = known[own]
        x, own = x[chosen], own[chosen]
        if not len(x):
            return
        error_angstrom = kabsch(x, truth[own])[1] / ANGSTROM
        starts = np.flatnonzero(np.r_[True, np.diff(own) > 0])
        nearest = np.minimum.reduceat(error_angstrom, starts)
        self._best.add(error_angstrom[starts])
        self._nearest.add(nearest)
        self._found += int((nearest <= self._limit).sum())

    def result(self) -> RoundTrip:
        """Return the table of all that was added."""
        return RoundTrip(
            events=self._events,
            status=_named(self._status) if self._has_status else {},
            solutions=self._solutions,
            residual=self._residual.spread(),
            not_reproduced=self._failed,
            truths=self._truths,
            best_error_angstrom=self._best.spread(),
            nearest_error_angstrom=self._nearest.spread(),
            truth_among=self._found / self._truths if self._truths else np.nan,
            limit_angstrom=self._limit,
        )


def _named(counts: np.ndarray) -> dict[str, int]:
    names: Mapping[int, tuple[str, str]] = STATUS
    return {
        names[int(code)][0] if int(code) in names else f"status {code}": int(counts[code])
        for code in np.flatnonzero(counts)
    }


class _Sizes:
    """A stream of numbers that are not negative, as a histogram of their logarithms."""

    _LOWEST, _PER_DECADE, _DECADES = -20, 1000, 30

    def __init__(self):
        self.count, self._largest = 0, 0.0
        self._bins = np.zeros(self._PER_DECADE * self._DECADES + 1, np.int64)

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        self.count += len(values)
        self._largest = max(self._largest, float(values.max()))
        least = 10.0**self._LOWEST
        place = (np.log10(np.maximum(values, least)) - self._LOWEST) * self._PER_DECADE
        place = np.minimum(np.ceil(place).astype(np.int64), len(self._bins) - 1)
        self._bins += np.bincount(place, minlength=len(self._bins))

    def spread(self) -> Spread:
        if not self.count:
            return Spread(np.nan, np.nan, np.nan)
        return Spread(self._quantile(0.5), self._quantile(0.99), self._largest)

    def _quantile(self, share: float) -> float:
        """Return the upper end of the bin in which the quantile lies; of the lowest, zero."""
        place = int(np.searchsorted(np.cumsum(self._bins), share * self.count))
        if place == 0:
            return 0.0
        return min(10.0 ** (self._LOWEST + place / self._PER_DECADE), self._largest)
