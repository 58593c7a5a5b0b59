"""From a state in which most of the energy is kinetic to infinity, in one step.

With t = T tau(w), tau = (1 - w)**-p - 1, all remaining time is w in [0, 1). The force times
dt/dw is a polynomial through its values at Gauss-Legendre nodes w_l, and with that

    v_infinity = v + T sum_l b_l tau'_l a_l,
    x(w_k) = x + v_infinity T tau_k - T**2 sum_l W_kl tau'_l a_l,
    W_kl = integral_0^(w_k) tau'(s) integral_s^1 L_l(r) dr ds,   L_l Lagrange's polynomials.

These are solved by sweeps (Picard iteration): forces at the nodes, then new velocity and
nodes. A sweep wins about the factor U/E, so the first ones need few nodes: nodes of each sweep
are interpolated from those of the one before, which only means that W is a rectangle. With one
node more in the last sweep, its change sees the error of the polynomial too. The start is the
first-order tail: each pair on a straight line at the mean of present and final velocity.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import literal_unroll
from numpy.polynomial.legendre import leggauss

from .compiled import compiled
from .coulomb import forces, move, weighted_force
from .simd import Rows, fma, load, select, splat, sqrt, store
from .typed import typed_once


@typed_once
class Ladder(NamedTuple):
    """The constants of all sweeps; rows are as long as the sweep with the most nodes."""

    sweeps: tuple  #: for each sweep, tuples as long as its nodes, and as those of the next one
    times: Rows  #: (2, nodes), tau and ln(1 + tau) at the nodes of the first sweep
    velocity: Rows  #: (sweeps, nodes), b_l tau'_l
    node_times: Rows  #: (sweeps, nodes), tau_k at the nodes of the next sweep
    node_weights: Rows  #: (sweeps * nodes, nodes), W_kl tau'_l for the next sweep
    most: tuple  #: a tuple as long as the sweep with the most nodes


def _gauss(count):
    nodes, weights = leggauss(count)
    return 0.5 + 0.5 * nodes, 0.5 * weights


def _lagrange(nodes, points):
    """Return Lagrange's polynomials of `nodes` at `points`: (points, nodes)."""
    values = np.ones((points.size, nodes.size))
    for other in range(nodes.size):
        for own in set(range(nodes.size)) - {other}:
            values[:, own] *= (points - nodes[other]) / (nodes[own] - nodes[other])
    return values


def _displacement(nodes, power, ends):
    """Return W of (ends, nodes), by quadrature in y = -ln(1 - s), where it is smooth."""
    inner, inner_weights = _gauss(nodes.size)
    outer, outer_weights = _gauss(64)
    result = np.empty((ends.size, nodes.size))
    for k, end in enumerate(ends):
        reach = -np.log1p(-end)
        u = np.exp(-reach * outer)  # 1 - s
        points = 1 - u[:, None] * inner
        basis = _lagrange(nodes, points.ravel()).reshape(*points.shape, nodes.size)
        integral = u[:, None] * np.einsum("b,abl->al", inner_weights, basis)
        result[k] = reach * np.einsum("a,al->l", outer_weights * power * u**-power, integral)
    return result


@cache  # read only; its quadrature takes milliseconds, and wakes the threads of numpy's BLAS
def ladder(nodes, power, dtype):
    """Return the constants of a tail with `nodes[s]` nodes in sweep s and tau of `power`."""
    most, sweeps = max(nodes), len(nodes)
    velocity, node_times = np.zeros((2, sweeps, most))
    node_weights = np.zeros((sweeps, most, most))
    for s, count in enumerate(nodes):
        w, b = _gauss(count)
        slope = power * (1 - w) ** (-power - 1)
        velocity[s, :count] = b * slope
        if s + 1 < sweeps:
            ends = _gauss(nodes[s + 1])[0]
            node_times[s, : ends.size] = (1 - ends) ** -power - 1
            node_weights[s, : ends.size, :count] = _displacement(w, power, ends) * slope
    times = np.zeros((2, most))
    first = (1 - _gauss(nodes[0])[0]) ** -power
    times[:, : nodes[0]] = first - 1, np.log(first)
    node_weights = node_weights.reshape(sweeps * most, most)
    counts = [(0,) * count for count in (*nodes, 0)]
    return Ladder(
        sweeps=tuple(zip(counts[:-1], counts[1:], strict=True)),
        times=Rows.of(times, dtype),
        velocity=Rows.of(velocity, dtype),
        node_times=Rows.of(node_times, dtype),
        node_weights=Rows.of(node_weights, dtype),
        most=(0,) * most,
    )


@compiled
def straight_lines(lanes, rows, ions, at):
    """Improve the final velocities in rows `at.end` once, by the first-order tail.

    Every pair moves on at the mean of present and final velocity. Converged, this is exact for
    two ions from rest; otherwise the error falls with (U/E)**3 from rest.
    """
    x, v, end, gained = at.x, at.v, at.end, at.trial
    zero = splat(lanes, 0.0)
    for row in range(gained, gained + 3 * len(ions)):
        store(rows, row, zero)
    pair = at.pairs
    for i in range(1, len(ions)):
        for j in range(i):
            rx = load(lanes, rows, x + 3 * i) - load(lanes, rows, x + 3 * j)
            ry = load(lanes, rows, x + 3 * i + 1) - load(lanes, rows, x + 3 * j + 1)
            rz = load(lanes, rows, x + 3 * i + 2) - load(lanes, rows, x + 3 * j + 2)
            wx = mean(lanes, rows, v + 3 * i, end + 3 * i, v + 3 * j, end + 3 * j)
            wy = mean(
                lanes, rows, v + 3 * i + 1, end + 3 * i + 1, v + 3 * j + 1, end + 3 * j + 1
            )
            wz = mean(
                lanes, rows, v + 3 * i + 2, end + 3 * i + 2, v + 3 * j + 2, end + 3 * j + 2
            )
            r2 = fma(rx, rx, fma(ry, ry, rz * rz))
            w2 = fma(wx, wx, fma(wy, wy, wz * wz))
            dot = fma(rx, wx, fma(ry, wy, rz * wz))
            r = sqrt(r2)
            w = sqrt(w2)
            push = load(lanes, rows, pair) / fma(r, w, dot)
            pair += 1
            along = push / r
            ahead = select(w2 > 0.0, push / w, zero)
            px = fma(along, rx, ahead * wx)
            py = fma(along, ry, ahead * wy)
            pz = fma(along, rz, ahead * wz)
            store(rows, gained + 3 * i, load(lanes, rows, gained + 3 * i) + px)
            store(rows, gained + 3 * i + 1, load(lanes, rows, gained + 3 * i + 1) + py)
            store(rows, gained + 3 * i + 2, load(lanes, rows, gained + 3 * i + 2) + pz)
            store(rows, gained + 3 * j, load(lanes, rows, gained + 3 * j) - px)
            store(rows, gained + 3 * j + 1, load(lanes, rows, gained + 3 * j + 1) - py)
            store(rows, gained + 3 * j + 2, load(lanes, rows, gained + 3 * j + 2) - pz)
    for i in range(len(ions)):
        inverse = load(lanes, rows, at.inverse_masses + i)
        for k in range(3 * i, 3 * i + 3):
            gain = load(lanes, rows, gained + k)
            store(rows, end + k, fma(inverse, gain, load(lanes, rows, v + k)))


@compiled
def mean(lanes, rows, v_i, end_i, v_j, end_j):
    """Return the relative velocity of i and j, averaged between now and the end."""
    now = load(lanes, rows, v_i) - load(lanes, rows, v_j)
    then = load(lanes, rows, end_i) - load(lanes, rows, end_j)
    return 0.5 * (now + then)


@compiled
def to_infinity(lanes, rows, ions, along, at, ladder):
    """Write the velocities at infinity to rows `at.end`; return the square of the last change.

    The change is that of the whole vector of momenta in the last sweep. Before, `at.end` holds
    a guess of the velocities of the ions.
    """
    bodies = len(ions) * (1 + len(along.columns))
    most, size = len(ladder.most), 3 * bodies
    end, y = at.end, at.trial
    zero = splat(lanes, 0.0)
    gained, pull = zero, zero
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        inverse = load(lanes, rows, at.inverse_masses + i)
        for k in range(3 * i, 3 * i + 3):
            change = load(lanes, rows, end + k) - load(lanes, rows, at.v + k)
            force = load(lanes, rows, at.f + k)
            gained = fma(mass * change, change, gained)
            pull = fma(inverse * force, force, pull)
    t2 = gained / pull
    t = sqrt(t2)
    for i in range(len(ions), bodies):  # as if forces fell with (1 + t/T)**-2
        inverse = load(lanes, rows, at.inverse_masses + i)
        for k in range(3 * i, 3 * i + 3):
            gain = t * inverse * load(lanes, rows, at.f + k)
            store(rows, end + k, load(lanes, rows, at.v + k) + gain)

    g, one = at.f + size, splat(lanes, 1.0)
    for k in range(len(ladder.sweeps[0][0])):
        later = t * ladder.times[0, k]
        drag = t * ladder.times[1, k]
        for row in range(size):
            last = load(lanes, rows, end + row)
            change = last - load(lanes, rows, at.v + row)
            straight = fma(last, later, load(lanes, rows, at.x + row))
            store(rows, y + row, straight - change * drag)
        forces(lanes, rows, ions, along, at, y, g + k * size, one)

    moved = zero
    old, new = g, g + most * size
    s = 0
    for nodes in literal_unroll(ladder.sweeps):
        moved = sweep(lanes, rows, ions, along, at, ladder, nodes, s, t, old, new)
        old, new = new, old
        s += 1  # noqa: SIM113, numba cannot unroll `enumerate`
    return moved


@compiled
def sweep(lanes, rows, ions, along, at, ladder, nodes, s, t, old, new):
    """Turn forces at the nodes of sweep `s`, in rows `old`, into those of the next, in `new`.

    Returns the square of the change of the final momenta.
    """
    bodies = len(ions) * (1 + len(along.columns))
    most, size = len(ladder.most), 3 * bodies
    moved, one = splat(lanes, 0.0), splat(lanes, 1.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        speed = t * load(lanes, rows, at.inverse_masses + i)
        push = weighted_force(lanes, rows, ladder.velocity, s, nodes[0], old + 3 * i, size)
        v, row = at.v + 3 * i, at.end + 3 * i
        vx = fma(speed, push[0], load(lanes, rows, v))
        vy = fma(speed, push[1], load(lanes, rows, v + 1))
        vz = fma(speed, push[2], load(lanes, rows, v + 2))
        px = mass * (vx - load(lanes, rows, row))
        py = mass * (vy - load(lanes, rows, row + 1))
        pz = mass * (vz - load(lanes, rows, row + 2))
        moved = fma(px, px, fma(py, py, fma(pz, pz, moved)))
        store(rows, row, vx)
        store(rows, row + 1, vy)
        store(rows, row + 2, vz)
    for i in range(len(ions), bodies):
        speed = t * load(lanes, rows, at.inverse_masses + i)
        push = weighted_force(lanes, rows, ladder.velocity, s, nodes[0], old + 3 * i, size)
        v, row = at.v + 3 * i, at.end + 3 * i
        store(rows, row, fma(speed, push[0], load(lanes, rows, v)))
        store(rows, row + 1, fma(speed, push[1], load(lanes, rows, v + 1)))
        store(rows, row + 2, fma(speed, push[2], load(lanes, rows, v + 2)))
    for k in range(len(nodes[1])):
        later = t * ladder.node_times[s, k]
        weights = s * most + k
        for i in range(bodies):
            push = weighted_force(
                lanes, rows, ladder.node_weights, weights, nodes[0], old + 3 * i, size
            )
            scale = -(t * t * load(lanes, rows, at.inverse_masses + i))
            x = at.x + 3 * i
            move(lanes, rows, one, x, later, at.end + 3 * i, scale, push, at.trial + 3 * i)
        forces(lanes, rows, ions, along, at, at.trial, new + k * size, one)
    return moved
