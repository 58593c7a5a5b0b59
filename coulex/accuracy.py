"""Which method keeps an error below a tolerance, at the least cost.

The choices are measured: see `benchmarks/accuracy.py` for how, and the README for what came out.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .kernels import engine, nystroem, tail

_DEFAULT = {"float64": 1e-9, "float32": 1e-4}


@dataclass(frozen=True)
class Accuracy:
    """A Runge-Kutta-Nystroem pair and a tail, with the tolerances that steer them."""

    tolerance: float
    method: str
    step_tolerance: float
    first_step: float
    root: int
    reach: float
    least_reach: float
    nodes: tuple[int, ...]
    power: int
    tail_tolerance: float
    step_weight: float
    tail_weight: float

    def pair(self, dtype):
        return nystroem.pair(self.method, dtype)

    def ladder(self, dtype):
        return tail.ladder(self.nodes, self.power, dtype)

    def settings(self, max_steps, refill):
        return engine.Settings(
            self.tolerance, self.step_tolerance, self.first_step, self.root, self.reach,
            self.least_reach, 1, self.tail_tolerance, self.step_weight, self.tail_weight,
            max_steps, refill,
        )  # fmt: skip


def accuracy(precision, tolerance):
    if precision not in _DEFAULT:
        msg = f"precision must be float64 or float32, got {precision!r}"
        raise ValueError(msg)
    tolerance = _DEFAULT[precision] if tolerance is None else float(tolerance)
    if precision == "float32":
        return Accuracy(tolerance, "RKN6(4)FM", 1e-4, 0.5, 0, 0.2, 1e-4, (4, 4), 2, 1e-4, .1, 1.)
    if tolerance < 1e-10:
        return Accuracy(tolerance, "RKN12(10)", 1e-11, 0.3, 2, 0.03, 1e-9, (4, 8, 10, 10, 10), 3, 3e-13, .01, 1.)
    return Accuracy(tolerance, "RKN8(6)", 1e-7, 0.3, 1, 0.1, 1e-9, (4, 6, 8, 8), 3, 1e-9, 1e-3, .1)
