"""Events as their users know them, and as they stand in the lanes."""

import numpy as np

from .compiled import compiled
from .simd import splat, store

GOOD, COINCIDENT, STEP_LIMIT, BOUND, INACCURATE, OUT_OF_RANGE = range(6)


@compiled
def place(lanes, rows, ions, at, coming, count, first, positions, momenta, masses):
    """Put `count` events into the lanes: positions relative to the first ion, velocities."""
    for row in range(at.v, at.v + 3 * len(ions)):
        store(rows, row, splat(lanes, 0.0))
    for lane in range(count):
        event = coming + lane
        rows[at.event, lane] = event - first
        for i in range(len(ions)):
            for axis in range(3):
                near = positions[event, i, axis] - positions[event, 0, axis]
                rows[at.x + 3 * i + axis, lane] = near
        if len(momenta):
            for axis in range(3):
                drift = centre_velocity(momenta, masses, event, axis)
                for i in range(len(ions)):
                    velocity = momenta[event, i, axis] / masses[i] - drift
                    rows[at.v + 3 * i + axis, lane] = velocity


@compiled
def set_charges(rows, at, lane, charges, event):
    """Put the products of an event's charges into a lane."""
    pair = at.pairs
    for i in range(1, charges.shape[1]):
        for j in range(i):
            rows[pair, lane] = charges[event, i] * charges[event, j]
            pair += 1


@compiled
def aim(rows, ions, along, at, coming, count, charges, directions):
    """Put into the lanes along which directions `count` events are differentiated."""
    number, size = directions.shape[1], 3 * len(ions)
    for lane in range(count):
        event = coming + lane
        own = event if len(charges) > 1 else 0
        change = at.charge_changes
        for column in range(number):
            for k in range(size):
                body = len(ions) * (1 + column) + k // 3
                moving = directions[event, column, size + k]
                rows[at.x + 3 * body + k % 3, lane] = directions[event, column, k]
                rows[at.v + 3 * body + k % 3, lane] = (
                    moving * rows[at.inverse_masses + body, lane]
                )
            for i in range(1, len(ions) if len(along.charges) else 0):
                for j in range(i):
                    a, b = charges[own, i], charges[own, j]
                    da = directions[event, column, 2 * size + i]
                    db = directions[event, column, 2 * size + j]
                    rows[change, lane] = da * b + a * db
                    change += 1


@compiled
def centre_velocity(momenta, masses, event, axis):
    """Return a component of the velocity of the centre of mass."""
    total, mass = 0.0, 0.0
    for i in range(masses.size):
        total += momenta[event, i, axis]
        mass += masses[i]
    return total / mass


@compiled
def write(rows, ions, along, at, mask, first, momenta, masses, tolerance, results):
    """Write momenta and errors of the lanes of `mask`, with the motion of the centre."""
    out_momenta, status, energy_error, error_estimate, changes = results
    lane = 0
    while mask >> lane:
        if mask >> lane & 1:
            event = first + int(rows[at.event, lane])
            for i in range(len(ions)):
                for axis in range(3):
                    out_momenta[event, i, axis] = rows[at.end + 3 * i + axis, lane]
            if len(momenta):
                for axis in range(3):
                    drift = centre_velocity(momenta, masses, event, axis)
                    for i in range(len(ions)):
                        out_momenta[event, i, axis] += masses[i] * drift
            for column in range(len(along.columns)):
                row = at.end + 3 * len(ions) * (1 + column)
                for i in range(len(ions)):
                    for axis in range(3):
                        changes[event, column, i, axis] = rows[row + 3 * i + axis, lane]
            energy_error[event] = rows[at.trial, lane]
            error_estimate[event] = rows[at.trial + 1, lane]
            status[event] = GOOD if rows[at.trial + 1, lane] <= tolerance else INACCURATE
        lane += 1


@compiled
def decline(rows, ions, at, mask, coming, momenta, charges, directions, results):
    """Finish events that make no steps: without forces, or without a result."""
    out_momenta, status, energy_error, error_estimate, changes = results
    lane = 0
    while mask >> lane:
        if mask >> lane & 1:
            event = coming + lane
            own = event if len(charges) > 1 else 0
            charged = 0
            for i in range(len(ions)):
                charged += charges[own, i] != 0.0
            if is_coincident(rows, ions, at, lane):
                status[event] = COINCIDENT
            elif charged > 1:
                status[event] = BOUND if rows[at.energy, lane] < 0.0 else OUT_OF_RANGE
            else:
                for i in range(len(ions)):
                    for axis in range(3):
                        kept = momenta[event, i, axis] if len(momenta) else 0.0
                        out_momenta[event, i, axis] = kept
                        for column in range(directions.shape[1]):
                            size = 3 * out_momenta.shape[1]
                            moved = directions[event, column, size + 3 * i + axis]
                            changes[event, column, i, axis] = moved
                energy_error[event] = 0.0
                error_estimate[event] = 0.0
        lane += 1


@compiled
def is_coincident(rows, ions, at, lane):
    """Return whether two ions in a lane are at the same place."""
    for i in range(1, len(ions)):
        for j in range(i):
            same = 0
            for axis in range(3):
                here = rows[at.x + 3 * i + axis, lane]
                same += np.isfinite(here) and here == rows[at.x + 3 * j + axis, lane]
            if same == 3:
                return True
    return False


@compiled
def stop(rows, ions, at, mask, first, rounding, results):
    """Give up the lanes of `mask`; their momenta stay what they were, not a number."""
    lane = 0
    while mask >> lane:
        if mask >> lane & 1:
            event = first + int(rows[at.event, lane])
            bound = is_bound(rows, ions, at, lane, rounding)
            results[1][event] = BOUND if bound else STEP_LIMIT
        lane += 1


@compiled
def is_bound(rows, ions, at, lane, rounding):
    """Return whether some pair of ions in a lane has no energy of relative motion to part.

    Two that fall on each other have kinetic and potential energies that cancel; what is left
    are roundings, of coordinates that are much larger than the distance. A hundred of them are
    allowed for, one for each step of the fall.
    """
    pair = at.pairs
    for i in range(1, len(ions)):
        for j in range(i):
            square, speed, far = 0.0, 0.0, 0.0
            for axis in range(3):
                a, b = 3 * i + axis, 3 * j + axis
                far = max(far, abs(rows[at.x + a, lane]))
                square += (rows[at.x + a, lane] - rows[at.x + b, lane]) ** 2
                speed += (rows[at.v + a, lane] - rows[at.v + b, lane]) ** 2
            light = rows[at.inverse_masses + i, lane] + rows[at.inverse_masses + j, lane]
            inverse = 1.0 / np.sqrt(square)
            slack = 100.0 * rounding * (1.0 + far * inverse)
            if 0.5 * speed / light + (1.0 + slack) * rows[pair, lane] * inverse < 0.0:
                return True
            pair += 1
    return False
