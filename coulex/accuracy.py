"""Which method keeps the error below a tolerance, at the least cost.

A tolerance bounds the relative error of the whole vector of momenta of every event. What the
methods control is the estimate of a single step, and the last change in the tail; how the two
go together was measured, as the largest error among 10^5 events and more of 3 to 12 ions
against converged results: `benchmarks/accuracy.py` repeats that.
"""

from dataclasses import dataclass

import numpy as np

from .kernels import engine, nystroem, tail

DEFAULT = {"float64": 1e-9, "float32": 3e-4}

#: below this, rounding decides
_LEAST = {"float64": 1e-13, "float32": 1e-5}


@dataclass(frozen=True)
class _Steps:
    """A Runge-Kutta-Nystroem pair, for tolerances from `least` on."""

    least: float
    pair: str
    order: int
    share: float  #: tolerance of one step, in units of the tolerance
    first: float  #: first step, in times of the fastest pair
    weight: float  #: error of the result per sum of the steps' estimates, at tolerance 1e-9,
    growth: float  #: and the power of the tolerance with which it grows


@dataclass(frozen=True)
class _Tail:
    """The sweeps of a tail, for tolerances from `least` on."""

    least: float
    nodes: tuple[int, ...]
    power: int
    reach: float  #: share of potential energy at which the tail is tried


_STEPS = (
    _Steps(2e-3, "RKN6(4)FM", 6, 0.003, 0.3, 10.0, 0.0),
    _Steps(1e-5, "RKN8(6)", 8, 0.2, 0.3, 0.05, 0.2),
    _Steps(2e-10, "RKN8(6)", 8, 0.6, 0.3, 0.02, 0.25),
    _Steps(0.0, "RKN12(10)", 12, 1.0, 0.2, 0.05, 0.0),
)
_TAILS = (
    _Tail(1e-5, (3, 4), 2, 0.1),
    _Tail(1e-7, (4, 5, 6), 3, 0.1),
    _Tail(3e-9, (5, 6, 7, 8), 3, 0.1),
    _Tail(2e-10, (5, 6, 7, 8), 3, 0.05),
    _Tail(0.0, (5, 8, 9, 10, 11), 3, 0.03),
)


@dataclass(frozen=True)
class Accuracy:
    """What keeps errors below `tolerance` in `precision`."""

    precision: str
    tolerance: float

    def __post_init__(self):
        if self.precision not in DEFAULT:
            msg = f"precision must be float64 or float32, got {self.precision!r}"
            raise ValueError(msg)
        least = _LEAST[self.precision]
        if not least <= self.tolerance < 1:
            other = "" if self.precision == "float64" else "; float64 reaches 1e-13"
            msg = (
                f"tolerance must lie between {least:g} and 1 in {self.precision}, "
                f"got {self.tolerance}{other}"
            )
            raise ValueError(msg)

    @property
    def _steps(self) -> _Steps:
        return next(steps for steps in _STEPS if self.tolerance >= steps.least)

    @property
    def _tail(self) -> _Tail:
        return next(last for last in _TAILS if self.tolerance >= last.least)

    def pair(self) -> nystroem.Pair:
        """Return the tableau of the steps."""
        return nystroem.pair(self._steps.pair, self.precision)

    def ladder(self) -> tail.Ladder:
        """Return the sweeps of the tail."""
        return tail.ladder(self._tail.nodes, self._tail.power, self.precision)

    def settings(self, max_steps: int, width: int, care: float = 1.0) -> engine.Settings:
        """Return what steers the kernels, for `width` lanes; with `care`, more finely."""
        steps, last = self._steps, self._tail
        return engine.Settings(
            tolerance=self.tolerance,
            step_tolerance=steps.share * self.tolerance / care,
            first_step=steps.first,
            order=steps.order,
            reach=last.reach,
            least_reach=1e-9 if self.precision == "float64" else 3e-5,
            tail_tolerance=self.tolerance / (10 * care),
            step_weight=steps.weight * (self.tolerance / 1e-9) ** steps.growth,
            tail_weight=1.0,
            rounding=float(np.finfo(self.precision).eps),
            # forces then may fall by 12 and 100 powers of ten on the way, and be squared
            range=float(np.finfo(self.precision).tiny) ** (-2 / 3),
            max_steps=max_steps,
            refill=max(1, width // 4),
        )


def accuracy(precision: str, tolerance: float | None) -> Accuracy:
    """Return what is asked for; the default of the precision where `tolerance` is None."""
    if tolerance is None:
        tolerance = DEFAULT.get(precision, 0.5)
    return Accuracy(precision, float(tolerance))
