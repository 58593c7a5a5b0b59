"""One step of an embedded Runge-Kutta-Nystroem pair for x'' = a(x).

The pairs are 6(4)FM, 8(6) and 12(10) of Dormand, El-Mikkawy and Prince (IMA J. Numer. Anal. 7
(1987) 235-250 and 423-430), in `runge-kutta-nystroem.json`, exact. All are used as pairs whose
last stage is the first of the next step: 12(10) gets one more stage for that.
"""

import json
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import literal_unroll

from .compiled import compiled
from .coulomb import forces, move, weighted_force
from .simd import Rows, fma, load, select, splat, store


class Pair(NamedTuple):
    """A tableau with one row per stage; the last stage stands at the new positions."""

    times: Rows  #: (1, stages), c
    positions: Rows  #: (stages, stages), A; the last row is b
    velocities: Rows  #: (2, stages), weights of the new velocity and of its error
    before: tuple  #: for every stage but the first, a tuple as long as those before it
    stages: tuple  #: a tuple as long as there are stages


@cache
def _published():
    return json.loads(Path(__file__).with_name("runge-kutta-nystroem.json").read_text())["pairs"]


def pair(name, dtype):
    """Return the tableau of `name`: ``RKN6(4)FM``, ``RKN8(6)`` or ``RKN12(10)``."""
    table = _published()[name]
    stages = [row + ["0"] * (len(table["c"]) - len(row)) for row in table["A"]]
    times, weights = list(table["c"]), [table["bp"], table["bpt"]]
    if not table["first_same_as_last"]:
        stages = [[*row, "0"] for row in [*stages, table["b"]]]
        times, weights = [*times, "1"], [[*row, "0"] for row in weights]
    exact = np.vectorize(lambda text: float(Fraction(text)), otypes=[float])
    tables = (Rows.of(exact(part), dtype) for part in (times, stages, weights))
    before = tuple((0,) * s for s in range(1, len(times)))
    return Pair(*tables, before, (0,) * len(times))


@compiled
def expansion_rate(lanes, rows, ions, at):
    """Return k = sum m x.v / sum m x.x, the rate at which the ions move apart."""
    along, size = splat(lanes, 0.0), splat(lanes, 0.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        for row in range(3 * i, 3 * i + 3):
            weighted = mass * load(lanes, rows, at.x + row)
            along = fma(weighted, load(lanes, rows, at.v + row), along)
            size = fma(weighted, load(lanes, rows, at.x + row), size)
    return along / size


@compiled
def step(lanes, rows, ions, at, h, pair):
    """Try a step of length `h` in s from the state in rows `at`; change nothing of the state.

    New positions end up in rows `at.trial`, velocities in `at.end`, forces in the last rows of
    the stages. Returns 1 + k t of the step, twice the kinetic energy, and the squares of the
    error estimate's norms: mass-weighted, 2 sum |dp|^2/2m, and of the whole vector of momenta.
    """
    size = 3 * len(ions)
    rate = expansion_rate(lanes, rows, ions, at)
    rate = select(rate > 0.0, rate, splat(lanes, 0.0))
    h = select(h * rate < 0.7, h, 0.7 / rate)
    h2 = h * h
    s, shrink, stretch = 0, splat(lanes, 1.0), splat(lanes, 1.0)
    for before in literal_unroll(pair.before):
        s += 1
        later = h * pair.times[0, s]
        shrink = 1.0 - rate * later
        stretch = 1.0 / shrink
        for i in range(len(ions)):
            push = weighted_force(lanes, rows, pair.positions, s, before, at.f + 3 * i, size)
            scale = h2 * load(lanes, rows, at.inverse_masses + i)
            x, to = at.x + 3 * i, at.trial + 3 * i
            move(lanes, rows, shrink, x, later, at.v + 3 * i, scale, push, to)
        forces(lanes, rows, ions, at.trial, at.pairs, at.f + s * size, stretch)

    zero = splat(lanes, 0.0)
    twice_kinetic, weighted_error, error = zero, zero, zero
    back, last = shrink * shrink * shrink, at.f + size * s
    for i in range(len(ions)):
        push = weighted_force(lanes, rows, pair.velocities, 0, pair.stages, at.f + 3 * i, size)
        off = weighted_force(lanes, rows, pair.velocities, 1, pair.stages, at.f + 3 * i, size)
        inverse = load(lanes, rows, at.inverse_masses + i)
        square = zero
        for axis in range(3):
            k = 3 * i + axis
            x, v = load(lanes, rows, at.x + k), load(lanes, rows, at.v + k)
            end = stretch * load(lanes, rows, at.trial + k)
            slow = fma(h * inverse, push[axis], fma(-rate, x, v))
            v = shrink * fma(rate, end, slow)
            store(rows, at.trial + k, end)
            store(rows, at.end + k, v)
            store(rows, last + k, back * load(lanes, rows, last + k))
            square = fma(v, v, square)
        mass = load(lanes, rows, at.masses + i)
        twice_kinetic = fma(mass, square, twice_kinetic)
        off2 = fma(off[0], off[0], fma(off[1], off[1], off[2] * off[2]))
        weighted_error = fma(inverse, off2, weighted_error)
        error = error + off2
    h2 = h2 * shrink * shrink
    return stretch, twice_kinetic, h2 * weighted_error, h2 * error
