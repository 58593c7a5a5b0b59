"""One step of the solver for each of many starts: the compiled part of `solve.py`.

Its first docstring has the residual, the gauge and the unknowns.
"""

import numpy as np

from coulex.kernels.compiled import compiled
from coulex.linear import add, best_rotation, complement, dot, orthonormalize, solve_positive

CONVERGED, STATIONARY, STUCK, KNOWN = range(4)

_CLOSE = 1e-6  #: residual, and step in units of the size, from where on the last derivatives
_SHORT = 1e-5  #: are good enough
_ENOUGH = 1e-12  #: residual from which on a step has to halve it
_EXACT = 3e-14  #: residual that is rounding
_FLAT = 1e-4  #: of the residual, its part that the derivatives reach at a minimum
_LEAP = 0.5  #: largest relative change of a distance in one step


@compiled
def begin(starts, momenta, masses, charges, x):
    """Write the starts about their centres, of the size that the energy says."""
    for n in range(len(x)):
        x[n] = starts[n]
        _resize(x[n], momenta[n], masses, charges[n if len(charges) > 1 else 0])


@compiled
def _resize(x, momenta, masses, charges):
    """Move a geometry to its centre of mass, and scale it to the potential energy KER."""
    ions = masses.size
    total = masses.sum()
    for axis in range(3):
        middle = 0.0
        for i in range(ions):
            middle += masses[i] * x[3 * i + axis]
        for i in range(ions):
            x[3 * i + axis] -= middle / total
    potential, kinetic = 0.0, 0.0
    for i in range(ions):
        for axis in range(3):
            kinetic += 0.5 * momenta[i, axis] ** 2 / masses[i]
        for j in range(i):
            potential += charges[i] * charges[j] / _distance(x, i, j)
    factor = potential / kinetic
    for k in range(x.size):
        x[k] *= factor


@compiled
def _distance(x, i, j):
    """Return the distance of two ions."""
    square = 0.0
    for axis in range(3):
        square += (x[3 * i + axis] - x[3 * j + axis]) ** 2
    return np.sqrt(square)


@compiled
def aim(x, active, masses, ways, directions):
    """Write along what to differentiate: all changes of a geometry but its gauge.

    Rows of `ways` are changes of x, `directions` the same for the simulator. Both have the
    length of x, mass-weighted. Ions on a line have one direction more, since no rotation about
    it moves them: one bend out of a plane is left out, whichever that is.
    """
    ions = masses.size
    root = np.sqrt(masses)
    known, ranks = np.zeros((1, 7, 3 * ions)), np.empty(1, np.int64)
    nothing = np.empty((1, 7, 0))
    for a in range(len(active)):
        here = x[active[a]]
        size = 0.0
        known[:] = 0.0
        for i in range(ions):
            size += masses[i] * dot(here[3 * i : 3 * i + 3], here[3 * i : 3 * i + 3])
            for axis in range(3):
                one, two = (axis + 1) % 3, (axis + 2) % 3
                known[0, axis, 3 * i + axis] = root[i]
                known[0, 3 + axis, 3 * i + two] = root[i] * here[3 * i + one]
                known[0, 3 + axis, 3 * i + one] = -root[i] * here[3 * i + two]
                known[0, 6, 3 * i + axis] = root[i] * here[3 * i + axis]
        orthonormalize(known, nothing, ranks)
        if ranks[0] == 6:
            _bend(here, root, known[0, 6])
            orthonormalize(known, nothing, ranks)
        complement(known, ways[a : a + 1])
        for c in range(ways.shape[1]):
            for k in range(3 * ions):
                ways[a, c, k] *= np.sqrt(size) / root[k // 3]
                directions[a, c, k] = ways[a, c, k]


@compiled
def _bend(x, root, row):
    """Write a displacement across the line of collinear ions, different for each."""
    ions = root.size
    far = 0
    for i in range(ions):
        if dot(x[3 * i : 3 * i + 3], x[3 * i : 3 * i + 3]) > dot(
            x[3 * far : 3 * far + 3], x[3 * far : 3 * far + 3]
        ):
            far = i
    line = x[3 * far : 3 * far + 3]
    least = np.abs(line).argmin()
    one, two = (least + 1) % 3, (least + 2) % 3
    for i in range(ions):
        row[3 * i + one] = root[i] * (1 + i * i) * line[two]
        row[3 * i + two] = -root[i] * (1 + i * i) * line[one]


@compiled
def _compare(p, momenta, masses, gap, unit, turn):
    """Write the residual p - R P, in units of the size of P, mass-weighted, and R itself.

    `unit` is p in these units.
    """
    ions = masses.size
    size = 0.0
    for i in range(ions):
        for axis in range(3):
            size += momenta[i, axis] ** 2 / masses[i]
    model, wanted = np.empty((ions, 3)), np.empty((ions, 3))
    for i in range(ions):
        factor = 1.0 / np.sqrt(masses[i] * size)
        for axis in range(3):
            model[i, axis] = p[i, axis] * factor
            wanted[i, axis] = momenta[i, axis] * factor
    best_rotation(wanted, model, turn)
    for i in range(ions):
        for axis in range(3):
            k = 3 * i + axis
            unit[k] = model[i, axis]
            gap[k] = unit[k] - dot(turn[axis], wanted[i])


@compiled
def _project(unit, gap, slope):
    """Take from residual and derivatives what a rotation or another size would change."""
    size = unit.size
    moved, ranks = np.zeros((1, 4, size)), np.empty(1, np.int64)
    for i in range(size // 3):
        for axis in range(3):
            one, two = (axis + 1) % 3, (axis + 2) % 3
            moved[0, axis, 3 * i + two] = unit[3 * i + one]
            moved[0, axis, 3 * i + one] = -unit[3 * i + two]
            moved[0, 3, 3 * i + axis] = unit[3 * i + axis]
    orthonormalize(moved, np.empty((1, 4, 0)), ranks)
    for k in range(4):
        add(gap, -dot(gap, moved[0, k]), moved[0, k])
        for c in range(len(slope)):
            add(slope[c], -dot(slope[c], moved[0, k]), moved[0, k])


@compiled
def step(
    active, p, changes, ways, momenta, masses, charges,
    x, best, gap, slope, best_ways, square, damping, predicted, state, turn,
    event, near, numbers, rows, known,
):  # fmt: skip
    """Judge what each simulation gave, keep it where it is better, and choose the next."""
    ions, unknowns = masses.size, ways.shape[1]
    new_gap, unit, here = np.empty(3 * ions), np.empty(3 * ions), np.empty((ions, 3))
    normal, along = np.empty((unknowns, unknowns)), np.empty(unknowns)
    for a in range(len(active)):
        n = active[a]
        _compare(p[a], momenta[n], masses, new_gap, unit, turn[n])
        new = dot(new_gap, new_gap)
        gain = (square[n] - new) / predicted[n] if predicted[n] > 0.0 else 1.0
        if new < square[n] and gain > 1e-3:
            scale = np.sqrt(_weighted_square(momenta[n], masses))
            for c in range(unknowns):
                for k in range(3 * ions):
                    slope[n, c, k] = changes[a, c, k] / (np.sqrt(masses[k // 3]) * scale)
            best[n], gap[n], best_ways[n], square[n] = x[n], new_gap, ways[a], new
            _project(unit, gap[n], slope[n])
            if predicted[n] > 0.0:
                damping[n, 0] *= max(1.0 / 30.0, 1.0 - (2.0 * gain - 1.0) ** 3)
            damping[n, 1] = 2.0
            if new < 1e-4:
                _turn_back(best[n], turn[n], here)
                if is_known(here, masses, numbers, rows, known, event[n], near[n]):
                    state[n] = KNOWN
                    continue
        else:
            damping[n, 0] *= damping[n, 1]
            damping[n, 1] *= 2.0
            if not np.isfinite(square[n]) or damping[n, 0] > 1e8:
                # no further: at a root up to rounding, or nowhere
                state[n] = STUCK
                continue
        largest = 0.0
        for c in range(unknowns):
            for d in range(c + 1):
                normal[c, d] = normal[d, c] = dot(slope[n, c], slope[n, d])
            along[c] = -dot(slope[n, c], gap[n])
            largest = max(largest, normal[c, c])
        if _flat(along, largest, square[n]):
            state[n] = STATIONARY
            continue
        downhill = along.copy()
        for c in range(unknowns):
            normal[c, c] += damping[n, 0] * largest
        if not solve_positive(normal, along):
            state[n] = STUCK
            continue
        if square[n] < _CLOSE * _CLOSE and dot(along, along) < _SHORT * _SHORT:
            state[n] = CONVERGED
            continue
        x[n] = best[n]
        for c in range(unknowns):
            add(x[n], along[c], best_ways[n, c])
        shorter = _shorten(best[n], x[n], ions)
        # |r|**2 - |r + J z|**2, with (J'J + mu) z = -J'r
        full = dot(along, downhill) + damping[n, 0] * largest * dot(along, along)
        bent = 2.0 * shorter * dot(along, downhill)
        predicted[n] = bent - shorter * shorter * (2.0 * dot(along, downhill) - full)
        _resize(x[n], momenta[n], masses, charges[n if len(charges) > 1 else 0])


@compiled
def is_known(x, masses, numbers, rows, known, event, near):
    """Return whether a geometry (ions, 3), in the frame of P, is close to a known solution."""
    for s in range(numbers[event]):
        other = known[rows[event, s]]
        apart, size = 0.0, 0.0
        for i in range(masses.size):
            for axis in range(3):
                apart += masses[i] * (x[i, axis] - other[i, axis]) ** 2
                size += masses[i] * other[i, axis] ** 2
        if apart < near * near * size:
            return True
    return False


@compiled
def _turn_back(x, turn, out):
    """Write vectors (3 ions,) that stand in the frame of x as (ions, 3), in that of P."""
    for i in range(len(out)):
        for axis in range(3):
            out[i, axis] = 0.0
            for k in range(3):
                out[i, axis] += turn[k, axis] * x[3 * i + k]


@compiled
def _weighted_square(momenta, masses):
    """Return the sum of p**2 / m."""
    total = 0.0
    for i in range(masses.size):
        for axis in range(3):
            total += momenta[i, axis] ** 2 / masses[i]
    return total


@compiled
def _flat(along, largest, square):
    """Return whether nothing is to be gained by any step to first order, but for a root."""
    return dot(along, along) <= _FLAT * _FLAT * largest * square and square > 1e-12


@compiled
def _shorten(old, new, ions):
    """Shorten a step until no distance changes by more than `_LEAP`; return the share."""
    worst = 0.0
    for i in range(ions):
        for j in range(i):
            before = _distance(old, i, j)
            square = 0.0
            for axis in range(3):
                a, b = 3 * i + axis, 3 * j + axis
                square += ((new[a] - old[a]) - (new[b] - old[b])) ** 2
            worst = max(worst, np.sqrt(square) / before)
    if worst <= _LEAP:
        return 1.0
    share = _LEAP / worst
    for k in range(new.size):
        new[k] = old[k] + share * (new[k] - old[k])
    return share


@compiled
def improve(
    chosen, p, momenta, masses, charges, x, gap, slope, ways, last, positions, residual, better
):  # fmt: skip
    """Keep geometries whose residual fell, in the frame of P, and make a step from there."""
    ions, unknowns = masses.size, ways.shape[1]
    new, unit, turn = np.empty(3 * ions), np.empty(3 * ions), np.empty((3, 3))
    normal, along = np.empty((unknowns, unknowns)), np.empty(unknowns)
    for a in range(len(chosen)):
        n = chosen[a]
        _compare(p[a], momenta[n], masses, new, unit, turn)
        now, before = _distance_to(p[a], turn, momenta[n]), residual[n]
        if not now < 10.0 * before:
            continue
        if now < before:
            residual[n] = now
            _turn_back(x[n], turn, positions[n])
        _project(unit, new, slope[n, :0])
        _learn(slope[n], gap[n], new, last[n])
        gap[n] = new
        for c in range(unknowns):
            for d in range(c + 1):
                normal[c, d] = normal[d, c] = dot(slope[n, c], slope[n, d])
            along[c] = -dot(slope[n, c], new)
        for c in range(unknowns):
            normal[c, c] *= 1.0 + 1e-14
        if not solve_positive(normal, along):
            continue
        last[n] = along
        for c in range(unknowns):
            add(x[n], along[c], ways[n, c])
        _resize(x[n], momenta[n], masses, charges[n if len(charges) > 1 else 0])
        better[a] = residual[n] > _EXACT and (now < 0.5 * before or residual[n] > _ENOUGH)


@compiled
def _distance_to(p, turn, momenta):
    """Return how far momenta are from the measured ones, turned to these, relative to them."""
    off, whole = 0.0, 0.0
    for i in range(len(momenta)):
        for axis in range(3):
            back = 0.0
            for k in range(3):
                back += turn[k, axis] * p[i, k]
            off += (back - momenta[i, axis]) ** 2
            whole += momenta[i, axis] ** 2
    return np.sqrt(off / whole)


@compiled
def _learn(slope, old, new, step):
    """Correct derivatives by what a step has brought: Broyden's update."""
    size = dot(step, step)
    if size == 0.0:
        return
    for k in range(new.size):
        missed = new[k] - old[k]
        for c in range(step.size):
            missed -= slope[c, k] * step[c]
        for c in range(step.size):
            slope[c, k] += missed * step[c] / size
