"""What came out of a simulation in a few numbers, computed from what was written.

They are read back from the file in blocks that start at its first event, so that a run that
was interrupted and resumed ends with the same table as one that was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .events import BLOCK, Cuts, Events, blocks
from .observables import kinetic_energies
from .units import EV

_BINS = 1 << 16  # logarithmic: a median is known to 1/65536 of ln(largest/smallest)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers of the table; those of momenta are of the good events alone."""

    events: int
    good: int
    status_counts: dict[int, int]  #: events by status, 0 = good
    not_finite: int  #: events whose status is good and whose momenta are not
    ker_ev_mean: float
    ker_ev_sd: float
    ker_ev_median: float
    ions: tuple[str, ...]
    kinetic_energy_ev: tuple[float, ...]  #: mean of each ion
    energy_share: tuple[float, ...]  #: of the mean KER
    momentum: tuple[float, ...]  #: mean |p| of each ion, atomic units
    largest_energy_error: float
    largest_error_estimate: float


class _Moments:
    """Mean and variance of a stream, joined block by block (Chan's formula)."""

    def __init__(self):
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        n, mean = len(values), float(values.mean())
        step = mean - self.mean
        total = self.n + n
        self.squares += float(((values - mean) ** 2).sum()) + step**2 * self.n * n / total
        self.mean += step * n / total
        self.n = total

    def sd(self) -> float:
        return float(np.sqrt(self.squares / (self.n - 1))) if self.n > 1 else 0.0


def summarise(events: Events, columns: Mapping[str, Any]) -> Summary:
    """Read a file of simulated events twice and return what it holds.

    Parameters
    ----------
    events : Events
    columns : mapping
        Where present, `energy_error` and `error_estimate` (n,), relative.

    Returns
    -------
    Summary
        Means are NaN where no event is good.
    """
    cuts, ker = Cuts(), _Moments()
    energy, momentum = np.zeros(len(events.ions)), np.zeros(len(events.ions))
    resting, lowest, highest = 0, np.inf, 0.0
    for block in blocks(events, cuts):
        energies = kinetic_energies(block, events.masses) / EV
        ker_ev = energies.sum(axis=1)
        ker.add(ker_ev)
        moves = ker_ev > 0
        resting += int((~moves).sum())
        lowest = min(lowest, float(ker_ev[moves].min(initial=np.inf)))
        highest = max(highest, float(ker_ev.max()))
        energy += energies.sum(axis=0)
        momentum += np.linalg.norm(block, axis=-1).sum(axis=0)
    good = cuts.drawn or np.nan
    total = energy.sum() or np.nan  # without forces there is nothing to share
    return Summary(
        events=cuts.total,
        good=cuts.drawn,
        status_counts=_status_counts(events),
        not_finite=cuts.nan,
        ker_ev_mean=ker.mean if ker.n else np.nan,
        ker_ev_sd=ker.sd() if ker.n else np.nan,
        ker_ev_median=_median(events, resting, ker.n, lowest, highest),
        ions=events.ions,
        kinetic_energy_ev=tuple((energy / good).tolist()),
        energy_share=tuple((energy / total).tolist()),
        momentum=tuple((momentum / good).tolist()),
        largest_energy_error=_largest(events, columns.get("energy_error")),
        largest_error_estimate=_largest(events, columns.get("error_estimate")),
    )


def _median(events: Events, resting: int, n: int, lowest: float, highest: float) -> float:
    """Return the median KER in eV of `n` events: 0 of those `resting`, else within bounds."""
    if n == 0:
        return np.nan
    if 2 * resting >= n:
        return 0.0
    if highest <= lowest * (1 + 1e-12):
        return float(lowest)
    edges = np.geomspace(lowest * (1 - 1e-12), highest * (1 + 1e-12), _BINS + 1)
    counts = np.zeros(_BINS, np.int64)
    for block in blocks(events, Cuts()):
        ker_ev = kinetic_energies(block, events.masses).sum(axis=1) / EV
        counts += np.histogram(ker_ev, edges)[0]
    below = resting + np.concatenate([[0], np.cumsum(counts)])
    half = below[-1] / 2
    bin_ = int(np.searchsorted(below, half, side="left")) - 1
    share = (half - below[bin_]) / counts[bin_]
    return float(edges[bin_] + share * (edges[bin_ + 1] - edges[bin_]))


def _status_counts(events: Events) -> dict[int, int]:
    """Return how many events have each status; all are good where none has a status."""
    if events.status is None:
        return {0: len(events)}
    counts = np.zeros(256, np.int64)
    for first in range(0, len(events), BLOCK):
        counts += np.bincount(np.asarray(events.status[first : first + BLOCK]), minlength=256)
    return {int(code): int(counts[code]) for code in np.flatnonzero(counts)}


def _largest(events: Events, column: Any) -> float:
    """Return the largest absolute value among good events, NaN where there is none."""
    largest = np.nan
    if column is None:
        return largest
    for first in range(0, len(events), BLOCK):
        values = np.abs(np.asarray(column[first : first + BLOCK], np.float64))
        if events.status is not None:
            values = values[np.asarray(events.status[first : first + BLOCK]) == 0]
        if len(values):
            largest = float(np.fmax(largest, np.fmax.reduce(values)))
    return largest
