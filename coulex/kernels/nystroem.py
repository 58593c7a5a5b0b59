"""One step of an embedded Runge-Kutta-Nystroem pair, in coordinates that expand with the ions.

The ions fly apart, and steps in time have to follow: an explosion looks alike at every size.
So a step is made in s, with t = s / (1 - k s), of y = (1 - k s) x. This projective change
keeps the form of the equation, without a velocity in it,

    y'' = a(y) / (1 - k s),       y(0) = x,  y'(0) = v - k x,

since the Coulomb force is homogeneous of degree -2. With k = sum m x.v / sum m x.x, the rate
of expansion, y hardly moves where the ions fly apart uniformly, and infinity lies at s = 1/k.
At rest k = 0 and s = t.

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
from .typed import typed_once

_LONGEST = 0.7  #: step in units of 1/k: at 1, infinity, the equation is singular


@typed_once
class Pair(NamedTuple):
    """A tableau with one row per stage; the last stage stands at the new positions."""

    times: Rows  #: (1, stages), c
    positions: Rows  #: (stages, stages), A; the last row is b
    velocities: Rows  #: (2, stages), weights of the new velocity and of its error
    before: tuple  #: for every stage but the first, a tuple as long as those before it
    stages: tuple  #: a tuple as long as there are stages


@cache
def _published():
    return json.loads(Path(__file__).with_name("runge-kutta-nystroem.json").read_text())[
        "pairs"
    ]


@cache  # read only; made anew it would cost a millisecond in every call of every thread
def pair(name, dtype):
    """Return the tableau of `name`: ``RKN6(4)FM``, ``RKN8(6)`` or ``RKN12(10)``."""
    table = _published()[name]
    stages = [row + ["0"] * (len(table["c"]) - len(row)) for row in table["A"]]
    times, weights = list(table["c"]), [table["bp"], table["bpt"]]
    if not table["first_same_as_last"]:
        stages = [[*row, "0"] for row in [*stages, table["b"]]]
        times, weights = [*times, "1"], [[*row, "0"] for row in weights]
    exact = np.vectorize(lambda text: float(Fraction(text)), otypes=[float])
    return Pair(
        times=Rows.of(exact(times), dtype),
        positions=Rows.of(exact(stages), dtype),
        velocities=Rows.of(exact(weights), dtype),
        before=tuple((0,) * s for s in range(1, len(times))),
        stages=(0,) * len(times),
    )


@compiled
def expansion_rate(lanes, rows, ions, at):
    """Return k = sum m x.v / sum m x.x where the ions move apart, else 0."""
    along, size = splat(lanes, 0.0), splat(lanes, 0.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        for row in range(3 * i, 3 * i + 3):
            weighted = mass * load(lanes, rows, at.x + row)
            along = fma(weighted, load(lanes, rows, at.v + row), along)
            size = fma(weighted, load(lanes, rows, at.x + row), size)
    rate = along / size
    return select(rate > 0.0, rate, splat(lanes, 0.0))


@compiled
def step(lanes, rows, ions, along, at, h, pair):
    """Try a step of length `h` in s from the state in rows `at`; change nothing of the state.

    New positions end up in rows `at.trial`, velocities in `at.end`, forces in the last rows of
    the stages. Returns 1 + k t of the step, the potential energy, and the squares of the norms
    of the error estimate: mass-weighted, 2 sum |dp|^2/2m, and of the whole vector of momenta.
    """
    bodies = len(ions) * (1 + len(along.columns))
    size = 3 * bodies
    rate = expansion_rate(lanes, rows, ions, at)
    h = select(h * rate < _LONGEST, h, _LONGEST / rate)
    s, shrink, stretch = 0, splat(lanes, 1.0), splat(lanes, 1.0)
    for before in literal_unroll(pair.before):
        s += 1
        later = h * pair.times[0, s]
        shrink = 1.0 - rate * later
        stretch = 1.0 / shrink
        for i in range(bodies):
            push = weighted_force(lanes, rows, pair.positions, s, before, at.f + 3 * i, size)
            scale = h * h * load(lanes, rows, at.inverse_masses + i)
            x, to = at.x + 3 * i, at.trial + 3 * i
            move(lanes, rows, shrink, x, later, at.v + 3 * i, scale, push, to)
        forces(lanes, rows, ions, along, at, at.trial, at.f + s * size, stretch)

    last = at.f + s * size
    potential, weighted_error, error = arrive(
        lanes, rows, ions, along, at, h, rate, shrink, stretch, pair, last
    )
    scale = h * h * shrink * shrink
    return stretch, potential, scale * weighted_error, scale * error


@compiled
def arrive(lanes, rows, ions, along, at, h, rate, shrink, stretch, pair, last):
    """Turn the end of a step from y into x, in one pass over the forces of all stages.

    Returns the potential energy there, and both squares of the error's sum over stages, per
    step length. The energy is sum x.F, the force being homogeneous of degree -2: nothing
    cancels in it.
    """
    zero = splat(lanes, 0.0)
    potential, weighted_error, error = zero, zero, zero
    back = shrink * shrink * shrink
    size = 3 * len(ions) * (1 + len(along.columns))
    for i in range(len(ions)):
        push, off = weighted_forces(lanes, rows, pair, at.f + 3 * i, size)
        inverse = load(lanes, rows, at.inverse_masses + i)
        scale, k = h * inverse, 3 * i
        potential = land(
            lanes, rows, at, k, rate, shrink, stretch, scale * push[0], back, last, potential
        )
        potential = land(
            lanes,
            rows,
            at,
            k + 1,
            rate,
            shrink,
            stretch,
            scale * push[1],
            back,
            last,
            potential,
        )
        potential = land(
            lanes,
            rows,
            at,
            k + 2,
            rate,
            shrink,
            stretch,
            scale * push[2],
            back,
            last,
            potential,
        )
        square = fma(off[0], off[0], fma(off[1], off[1], off[2] * off[2]))
        weighted_error = fma(inverse, square, weighted_error)
        error = error + square
    for i in range(len(ions), len(ions) * (1 + len(along.columns))):
        push = weighted_force(lanes, rows, pair.velocities, 0, pair.stages, at.f + 3 * i, size)
        scale = h * load(lanes, rows, at.inverse_masses + i)
        k = 3 * i
        x, y, z = scale * push[0], scale * push[1], scale * push[2]
        land(lanes, rows, at, k, rate, shrink, stretch, x, back, last, zero)
        land(lanes, rows, at, k + 1, rate, shrink, stretch, y, back, last, zero)
        land(lanes, rows, at, k + 2, rate, shrink, stretch, z, back, last, zero)
    return potential, weighted_error, error


@compiled
def weighted_forces(lanes, rows, pair, f, stride):
    """Return the sums of an ion's stage forces for its new velocity, and for the error."""
    zero = splat(lanes, 0.0)
    x, y, z, u, v, w = zero, zero, zero, zero, zero, zero
    for j in range(len(pair.stages)):
        new, off = splat(lanes, pair.velocities[0, j]), splat(lanes, pair.velocities[1, j])
        force = load(lanes, rows, f + j * stride)
        x, u = fma(new, force, x), fma(off, force, u)
        force = load(lanes, rows, f + j * stride + 1)
        y, v = fma(new, force, y), fma(off, force, v)
        force = load(lanes, rows, f + j * stride + 2)
        z, w = fma(new, force, z), fma(off, force, w)
    return (x, y, z), (u, v, w)


@compiled
def land(lanes, rows, at, k, rate, shrink, stretch, gain, back, last, potential):
    """Finish component `k`: position, velocity, force; return the potential energy so far."""
    x = stretch * load(lanes, rows, at.trial + k)
    slow = fma(-rate, load(lanes, rows, at.x + k), load(lanes, rows, at.v + k)) + gain
    force = back * load(lanes, rows, last + k)
    store(rows, at.trial + k, x)
    store(rows, at.end + k, shrink * fma(rate, x, slow))
    store(rows, last + k, force)
    return fma(x, force, potential)
