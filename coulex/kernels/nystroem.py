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
from .simd import Rows, fma, load, splat, store


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
def step(lanes, rows, ions, at, h, pair):
    """Try a step of length `h` from the state in rows `at`; change nothing of the state.

    New positions end up in rows `at.trial`, velocities in `at.end`, forces behind those of the
    other stages. Returns twice the kinetic energy, and the squares of the error estimate's
    norms: mass-weighted, 2 sum |dp|^2/2m, and of the whole vector of momenta.
    """
    size = 3 * len(ions)
    h2 = h * h
    s = 0
    for before in literal_unroll(pair.before):
        s += 1
        later = h * pair.times[0, s]
        for i in range(len(ions)):
            push = weighted_force(lanes, rows, pair.positions, s, before, at.f + 3 * i, size)
            scale = h2 * load(lanes, rows, at.inverse_masses + i)
            move(lanes, rows, at.x + 3 * i, later, at.v + 3 * i, scale, push, at.trial + 3 * i)
        forces(lanes, rows, ions, at.trial, at.pairs, at.f + s * size)

    zero = splat(lanes, 0.0)
    twice_kinetic, weighted_error, error = zero, zero, zero
    for i in range(len(ions)):
        push = weighted_force(lanes, rows, pair.velocities, 0, pair.stages, at.f + 3 * i, size)
        off = weighted_force(lanes, rows, pair.velocities, 1, pair.stages, at.f + 3 * i, size)
        mass = load(lanes, rows, at.masses + i)
        inverse = load(lanes, rows, at.inverse_masses + i)
        scale = h * inverse
        vx = fma(scale, push[0], load(lanes, rows, at.v + 3 * i))
        vy = fma(scale, push[1], load(lanes, rows, at.v + 3 * i + 1))
        vz = fma(scale, push[2], load(lanes, rows, at.v + 3 * i + 2))
        store(rows, at.end + 3 * i, vx)
        store(rows, at.end + 3 * i + 1, vy)
        store(rows, at.end + 3 * i + 2, vz)
        twice_kinetic = fma(mass, fma(vx, vx, fma(vy, vy, vz * vz)), twice_kinetic)
        square = fma(off[0], off[0], fma(off[1], off[1], off[2] * off[2]))
        weighted_error = fma(inverse, square, weighted_error)
        error = error + square
    return twice_kinetic, h2 * weighted_error, h2 * error
