"""The Coulomb force between all pairs of ions, and its change along given directions.

Rows of the scratch array hold one number per lane: positions and forces ion by ion (x, y, z),
products of charges pair by pair in the order (1, 0), (2, 0), (2, 1), (3, 0), ... Behind the
ions come their changes along the first direction, then along the second, and so on.
"""

from .compiled import compiled
from .simd import fma, inverse, inverse_cube, load, select, splat, sqrt, store


@compiled
def forces(lanes, rows, ions, along, at, x, f, factor):
    """Write `factor` times the forces at the positions in rows `x` to rows `f`.

    Along each direction they change by F'(x) dx + dF/dq dq.
    """
    zero = splat(lanes, 0.0)
    store(rows, f, zero)
    store(rows, f + 1, zero)
    store(rows, f + 2, zero)
    pair = at.pairs
    for i in range(1, len(ions)):
        xi = load(lanes, rows, x + 3 * i)
        yi = load(lanes, rows, x + 3 * i + 1)
        zi = load(lanes, rows, x + 3 * i + 2)
        fx, fy, fz = zero, zero, zero
        for j in range(i):
            dx = xi - load(lanes, rows, x + 3 * j)
            dy = yi - load(lanes, rows, x + 3 * j + 1)
            dz = zi - load(lanes, rows, x + 3 * j + 2)
            square = fma(dx, dx, fma(dy, dy, dz * dz))
            cube = factor * inverse_cube(square)
            push = load(lanes, rows, pair + j) * cube
            if len(along.columns):
                row = at.slopes + 6 * j
                store(rows, row, dx)
                store(rows, row + 1, dy)
                store(rows, row + 2, dz)
                store(rows, row + 3, push)
                store(rows, row + 4, -3.0 * push * inverse(square))
                if len(along.charges):
                    store(rows, row + 5, cube)
            fx = fma(push, dx, fx)
            fy = fma(push, dy, fy)
            fz = fma(push, dz, fz)
            store(rows, f + 3 * j, fma(-push, dx, load(lanes, rows, f + 3 * j)))
            store(rows, f + 3 * j + 1, fma(-push, dy, load(lanes, rows, f + 3 * j + 1)))
            store(rows, f + 3 * j + 2, fma(-push, dz, load(lanes, rows, f + 3 * j + 2)))
        store(rows, f + 3 * i, fx)
        store(rows, f + 3 * i + 1, fy)
        store(rows, f + 3 * i + 2, fz)
        change = at.charge_changes + pair - at.pairs
        for column in range(len(along.columns)):
            to = 3 * len(ions) * (1 + column)
            tilt(lanes, rows, along, at, i, x + to, f + to, change)
            change += len(ions) * (len(ions) - 1) // 2
        pair += i


@compiled
def tilt(lanes, rows, along, at, i, x, f, change):
    """Add how forces between ion `i` and those before it change, push e - steep (r . e) r.

    Here e is the change of r; both factors and r are in rows `at.slopes`.
    """
    zero = splat(lanes, 0.0)
    if i == 1:
        store(rows, f, zero)
        store(rows, f + 1, zero)
        store(rows, f + 2, zero)
    xi = load(lanes, rows, x + 3 * i)
    yi = load(lanes, rows, x + 3 * i + 1)
    zi = load(lanes, rows, x + 3 * i + 2)
    fx, fy, fz = zero, zero, zero
    for j in range(i):
        row = at.slopes + 6 * j
        dx, dy, dz = (
            load(lanes, rows, row),
            load(lanes, rows, row + 1),
            load(lanes, rows, row + 2),
        )
        push, steep = load(lanes, rows, row + 3), load(lanes, rows, row + 4)
        ex = xi - load(lanes, rows, x + 3 * j)
        ey = yi - load(lanes, rows, x + 3 * j + 1)
        ez = zi - load(lanes, rows, x + 3 * j + 2)
        radial = steep * fma(dx, ex, fma(dy, ey, dz * ez))
        if len(along.charges):
            radial = fma(load(lanes, rows, change + j), load(lanes, rows, row + 5), radial)
        gx = fma(push, ex, radial * dx)
        gy = fma(push, ey, radial * dy)
        gz = fma(push, ez, radial * dz)
        fx, fy, fz = fx + gx, fy + gy, fz + gz
        store(rows, f + 3 * j, load(lanes, rows, f + 3 * j) - gx)
        store(rows, f + 3 * j + 1, load(lanes, rows, f + 3 * j + 1) - gy)
        store(rows, f + 3 * j + 2, load(lanes, rows, f + 3 * j + 2) - gz)
    store(rows, f + 3 * i, fx)
    store(rows, f + 3 * i + 1, fy)
    store(rows, f + 3 * i + 2, fz)


@compiled
def energies(lanes, rows, ions, x, v, pairs, inverse_masses):
    """Return the potential energy, the sum of its moduli, the fastest pair's rate, crowding.

    The rate of a pair is sqrt(|q_i q_j| (1/m_i + 1/m_j) / r**3), after about its inverse the
    distance has doubled, or that at which the pair closes in, if that is faster; all are
    squared. It is infinite, or not a number, where two ions coincide. Crowding is the square
    of the largest coordinate over the shortest distance: what rounding is multiplied by.
    """
    zero = splat(lanes, 0.0)
    potential, moduli, fastest, farthest = zero, zero, zero, zero
    nearest = 1.0 / zero
    pair = pairs
    for i in range(len(ions)):
        for row in range(x + 3 * i, x + 3 * i + 3):
            square = load(lanes, rows, row) * load(lanes, rows, row)
            farthest = select(square > farthest, square, farthest)
        for j in range(i):
            square, closing = zero, zero
            for axis in range(3):
                a, b = 3 * i + axis, 3 * j + axis
                apart = load(lanes, rows, x + a) - load(lanes, rows, x + b)
                faster = load(lanes, rows, v + a) - load(lanes, rows, v + b)
                square = fma(apart, apart, square)
                closing = fma(-apart, faster, closing)
            product = load(lanes, rows, pair)
            pair += 1
            inverse = 1.0 / sqrt(square)
            energy = product * inverse
            modulus = select(energy < 0.0, -energy, energy)
            potential = potential + energy
            moduli = moduli + modulus
            m_i = load(lanes, rows, inverse_masses + i)
            m_j = load(lanes, rows, inverse_masses + j)
            rate = modulus * inverse * inverse * (m_i + m_j)
            closing = select((closing > 0.0) & (modulus > 0.0), closing, zero)
            closing = closing * inverse * inverse
            rate = select(closing * closing > rate, closing * closing, rate)
            fastest = select(rate > fastest, rate, fastest)
            fastest = select(square > 0.0, fastest, square / zero)
            nearest = select(square < nearest, square, nearest)
    return potential, moduli, fastest, farthest / nearest


@compiled
def weighted_force(lanes, rows, weights, at, count, f, stride):
    """Return sum_j weights[at, j] times the force in rows `f` + j `stride`, as (x, y, z).

    `count` is a tuple as long as the sum. Even and odd terms are added apart: one chain of
    additions would keep the processor waiting for each.
    """
    zero = splat(lanes, 0.0)
    x, y, z, u, v, w = zero, zero, zero, zero, zero, zero
    for j in range(0, len(count) - 1, 2):
        even, odd = splat(lanes, weights[at, j]), splat(lanes, weights[at, j + 1])
        row = f + j * stride
        x = fma(even, load(lanes, rows, row), x)
        y = fma(even, load(lanes, rows, row + 1), y)
        z = fma(even, load(lanes, rows, row + 2), z)
        u = fma(odd, load(lanes, rows, row + stride), u)
        v = fma(odd, load(lanes, rows, row + stride + 1), v)
        w = fma(odd, load(lanes, rows, row + stride + 2), w)
    if len(count) % 2:
        last = splat(lanes, weights[at, len(count) - 1])
        row = f + (len(count) - 1) * stride
        x = fma(last, load(lanes, rows, row), x)
        y = fma(last, load(lanes, rows, row + 1), y)
        z = fma(last, load(lanes, rows, row + 2), z)
    return x + u, y + v, z + w


@compiled
def move(lanes, rows, shrink, start, factor, by, scale, change, to):
    """Write shrink * start + factor * by + scale * change, three components, to rows `to`."""
    x, y, z = change
    here = fma(factor, load(lanes, rows, by), shrink * load(lanes, rows, start))
    store(rows, to, fma(scale, x, here))
    here = fma(factor, load(lanes, rows, by + 1), shrink * load(lanes, rows, start + 1))
    store(rows, to + 1, fma(scale, y, here))
    here = fma(factor, load(lanes, rows, by + 2), shrink * load(lanes, rows, start + 2))
    store(rows, to + 2, fma(scale, z, here))
