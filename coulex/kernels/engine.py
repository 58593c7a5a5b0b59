"""From positions to asymptotic momenta: many explosions, with the lanes kept full.

An event starts, makes steps until most of its energy is kinetic, and leaves for infinity in one
last step. Events need different numbers of steps, and a lane that waits is a lane lost; so all
three are done for as many events as there are lanes, and between them events stand in pools:

    start -> ready -> lanes (step by step) -> leaving -> infinity -> momenta
               ^--------------- tail not accurate enough ----'

What an event goes through depends on nothing but itself, so its momenta are the same bits
whatever its neighbours, its block or its thread.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .coulomb import energies, forces
from .nystroem import step
from .simd import (bits, fma, from_bits, lane_count, load, put, rough_rsqrt, select, splat, sqrt, store, take)
from .tail import straight_lines, to_infinity

GOOD, COINCIDENT, STEP_LIMIT, BOUND, INACCURATE = range(5)


class Layout(NamedTuple):
    """Which rows of the scratch array hold what; those up to `kept` are an event's state."""

    x: int
    v: int
    step: int  #: length of the next step
    floor: int  #: shortest step
    energy: int  #: twice the total energy
    scale: int  #: twice the energy that errors are measured by
    reach: int  #: share of potential energy at which the tail is tried
    error: int  #: sum of the error estimates of all steps, momentum
    steps: int
    event: int
    pairs: int  #: products of charges
    f: int  #: forces, followed by those of all stages or nodes
    trial: int
    end: int
    masses: int
    inverse_masses: int
    kept: int
    total: int


def layout(ions, vectors, *, own_charges):
    """Return the rows for `ions` ions and `vectors` force vectors (stages, or nodes twice)."""
    size, pairs = 3 * ions, ions * (ions - 1) // 2
    state = 2 * size
    f = state + 8 + (pairs if own_charges else 0)
    behind = f + (1 + vectors) * size
    common = behind + 2 * size + 2 * ions
    return Layout(
        0, size, *range(state, state + 8),
        pairs=state + 8 if own_charges else common,
        f=f, trial=behind, end=behind + size,
        masses=behind + 2 * size, inverse_masses=behind + 2 * size + ions,
        kept=f + size, total=common + pairs,
    )  # fmt: skip


class Settings(NamedTuple):
    """What steers steps and tail; all errors are relative to the whole vector of momenta."""

    tolerance: float  #: an event with a larger error estimate is not good
    step_tolerance: float  #: of the estimate of one step, mass-weighted
    first_step: float  #: in times of the fastest pair
    order: int  #: of the pair: how the step follows the error
    reach: float  #: the tail is tried at this share of potential energy
    least_reach: float  #: and is not refused any more at this one
    tail_tolerance: float  #: of the last change in the tail
    step_weight: float  #: error of the result per sum of the steps' estimates
    tail_weight: float  #: error of the tail per last change
    max_steps: int
    refill: int  #: lanes that wait before new events come in


@compiled
def count_bits(number):
    """Return how many bits are set."""
    count = 0
    while number:
        number &= number - 1
        count += 1
    return count


@compiled
def lowest_bits(number, count):
    """Return the `count` lowest of the bits that are set."""
    kept = 0
    for _ in range(count):
        bit = number & -number
        kept |= bit
        number ^= bit
    return kept


@compiled
def push(lanes, rows, kept, mask, pool, count):
    """Append the events in the lanes of `mask` to a pool; return how many it then holds."""
    chosen = from_bits(lanes, mask)
    for row in range(kept):
        put(pool, row, count, load(lanes, rows, row), chosen)
    return count + count_bits(mask)


@compiled
def pull(lanes, rows, kept, mask, pool, count):
    """Move the last events of a pool to the lanes of `mask`; return how many it then holds."""
    chosen = from_bits(lanes, mask)
    count -= count_bits(mask)
    for row in range(kept):
        store(rows, row, take(pool, row, count, chosen, load(lanes, rows, row)))
    return count


@compiled
def place(lanes, rows, ions, at, first, count, positions, momenta, masses):
    """Put positions, relative to the first ion, and velocities of events into the lanes."""
    for row in range(at.v, at.v + 3 * len(ions)):
        store(rows, row, splat(lanes, 0.0))
    for lane in range(count):
        for i in range(len(ions)):
            for axis in range(3):
                centre = positions[first + lane, 0, axis]
                rows[at.x + 3 * i + axis, lane] = positions[first + lane, i, axis] - centre
        if len(momenta):
            for axis in range(3):
                drift = centre_velocity(momenta, masses, first + lane, axis)
                for i in range(len(ions)):
                    velocity = momenta[first + lane, i, axis] / masses[i] - drift
                    rows[at.v + 3 * i + axis, lane] = velocity


@compiled
def centre_velocity(momenta, masses, event, axis):
    """Return a component of the velocity of the centre of mass."""
    total, mass = 0.0, 0.0
    for i in range(masses.size):
        total += momenta[event, i, axis]
        mass += masses[i]
    return total / mass


@compiled
def write(rows, ions, at, mask, first, momenta, masses, tolerance, results):
    """Write momenta and errors of the lanes of `mask`, with the motion of the centre."""
    out_momenta, status, energy_error, error_estimate = results
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
            energy_error[event] = rows[at.trial, lane]
            error_estimate[event] = rows[at.trial + 1, lane]
            status[event] = GOOD if rows[at.trial + 1, lane] <= tolerance else INACCURATE
        lane += 1


@compiled
def set_charges(rows, at, lane, charges, event):
    """Put the products of an event's charges into a lane."""
    pair = at.pairs
    for i in range(1, charges.shape[1]):
        for j in range(i):
            rows[pair, lane] = charges[event, i] * charges[event, j]
            pair += 1


@compiled
def twice_kinetic(lanes, rows, ions, at, v):
    """Return twice the kinetic energy of the velocities in rows `v`."""
    total = splat(lanes, 0.0)
    for i in range(len(ions)):
        x, y, z = (
            load(lanes, rows, v + 3 * i),
            load(lanes, rows, v + 3 * i + 1),
            load(lanes, rows, v + 3 * i + 2),
        )
        total = fma(load(lanes, rows, at.masses + i), fma(x, x, fma(y, y, z * z)), total)
    return total


@compiled
def centre(lanes, rows, ions, at):
    """Move positions to the frame of the centre of mass."""
    total = splat(lanes, 0.0)
    for i in range(len(ions)):
        total = total + load(lanes, rows, at.masses + i)
    for axis in range(3):
        middle = splat(lanes, 0.0)
        for k in range(len(ions)):
            mass = load(lanes, rows, at.masses + k)
            middle = fma(mass, load(lanes, rows, at.x + 3 * k + axis), middle)
        middle = middle / total
        for k in range(len(ions)):
            row = at.x + 3 * k + axis
            store(rows, row, load(lanes, rows, row) - middle)


@compiled
def start(lanes, rows, ions, at, settings):
    """Complete the state of events that have positions, velocities and charges.

    Returns the lanes that explode, and those with two ions at one point.
    """
    centre(lanes, rows, ions, at)
    forces(lanes, rows, ions, at.x, at.pairs, at.f, splat(lanes, 1.0))
    potential, moduli, fastest = energies(lanes, rows, ions, at.x, at.pairs, at.inverse_masses)
    kinetic = twice_kinetic(lanes, rows, ions, at, at.v)
    first = settings.first_step / sqrt(fastest)
    store(rows, at.step, first)
    store(rows, at.floor, 1e-9 * first)
    store(rows, at.energy, fma(splat(lanes, 2.0), potential, kinetic))
    store(rows, at.scale, fma(splat(lanes, 2.0), moduli, kinetic))
    store(rows, at.reach, splat(lanes, settings.reach))
    store(rows, at.error, splat(lanes, 0.0))
    store(rows, at.steps, splat(lanes, 0.0))
    return bits((fastest > 0.0) & (first > 0.0)), bits(fastest >= 0.0)


@compiled
def growth(lanes, ratio, order):
    """Return the factor on the step for the square of error over tolerance, within [0.2, 5]."""
    ratio = select(ratio > 1e-30, ratio, splat(lanes, 1e-30))
    a = rough_rsqrt(rough_rsqrt(rough_rsqrt(ratio)))  # ratio**(-1/8)
    b = rough_rsqrt(a)  # 1/16
    c = rough_rsqrt(b)  # -1/32
    factor = a * b  # error**(-1/8)
    if order == 6:
        factor = factor * c  # error**(-3/16)
    if order == 12:
        factor = c * c * rough_rsqrt(c)  # error**(-3/32)
    factor = 0.9 * factor
    factor = select(factor > 0.2, factor, splat(lanes, 0.2))  # not a number: 0.2
    return select(factor < 5.0, factor, splat(lanes, 5.0))


@compiled
def advance(lanes, rows, ions, at, active, settings, pair):
    """Make a step in every lane; return the lanes that may leave, and those that cannot go on."""
    h = load(lanes, rows, at.step)
    scale = load(lanes, rows, at.scale)
    stretch, kinetic, weighted, whole = step(lanes, rows, ions, at, h, pair)
    limit = scale * (settings.step_tolerance * settings.step_tolerance)
    ratio = weighted / limit
    moving = from_bits(lanes, active)
    good = moving & (ratio <= 1.0)

    last = at.f + 3 * len(ions) * (len(pair.stages) - 1)
    for k in range(3 * len(ions)):
        x = select(good, load(lanes, rows, at.trial + k), load(lanes, rows, at.x + k))
        v = select(good, load(lanes, rows, at.end + k), load(lanes, rows, at.v + k))
        f = select(good, load(lanes, rows, last + k), load(lanes, rows, at.f + k))
        store(rows, at.x + k, x)
        store(rows, at.v + k, v)
        store(rows, at.f + k, f)
    h = select(moving, h * growth(lanes, ratio, settings.order), h)
    h = select(good, h * stretch, h)
    error = load(lanes, rows, at.error)
    steps = load(lanes, rows, at.steps) + 1.0
    store(rows, at.step, h)
    store(rows, at.error, select(good, error + sqrt(whole), error))
    store(rows, at.steps, steps)

    left = load(lanes, rows, at.energy) - kinetic
    near = scale * load(lanes, rows, at.reach)
    leaves = bits(good & (left <= near) & (left >= -near))
    stuck = (h < load(lanes, rows, at.floor)) | (steps >= float(settings.max_steps))
    return leaves, active & ~leaves & bits(stuck)


@compiled
def leave(lanes, rows, ions, at, settings, ladder):
    """Take every lane to infinity; return the lanes whose result is accepted.

    Momenta end up in rows `at.end`; the relative errors of energy (of the result) and momenta
    (estimated) in the first two rows of `at.trial`.
    """
    energy = load(lanes, rows, at.energy)
    kinetic = twice_kinetic(lanes, rows, ions, at, at.v)
    faster = sqrt(select(energy > 0.0, energy, kinetic) / kinetic)
    for k in range(3 * len(ions)):
        store(rows, at.end + k, faster * load(lanes, rows, at.v + k))
    straight_lines(lanes, rows, ions, at)
    moved = to_infinity(lanes, rows, ions, at, ladder)

    store(rows, at.trial, twice_kinetic(lanes, rows, ions, at, at.end) / energy - 1.0)
    size = splat(lanes, 0.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        for k in range(3 * i, 3 * i + 3):
            momentum = mass * load(lanes, rows, at.end + k)
            size = fma(momentum, momentum, size)
            store(rows, at.end + k, momentum)
    sure = moved <= size * (settings.tail_tolerance * settings.tail_tolerance)
    final = load(lanes, rows, at.reach) <= settings.least_reach
    summed = settings.step_weight * load(lanes, rows, at.error)
    error = (summed + settings.tail_weight * sqrt(moved)) / sqrt(size)
    store(rows, at.trial + 1, error)
    store(rows, at.reach, 0.3 * load(lanes, rows, at.reach))
    return bits(sure | final)


@compiled
def is_bound(rows, ions, at, lane):
    """Return whether some pair of ions in a lane has negative energy of relative motion."""
    pair = at.pairs
    for i in range(1, len(ions)):
        for j in range(i):
            square, speed = 0.0, 0.0
            for k in range(3):
                square += (rows[at.x + 3 * i + k, lane] - rows[at.x + 3 * j + k, lane]) ** 2
                speed += (rows[at.v + 3 * i + k, lane] - rows[at.v + 3 * j + k, lane]) ** 2
            light = rows[at.inverse_masses + i, lane] + rows[at.inverse_masses + j, lane]
            if 0.5 * speed / light + rows[pair, lane] / np.sqrt(square) < 0.0:
                return True
            pair += 1
    return False


@compiled
def explode(
    lanes, ions, rows, spare, ready, leaving, at, settings, pair, ladder,
    positions, momenta, masses, charges, first, last, results,
):  # fmt: skip
    """Follow events `first` to `last` to infinity, into the arrays of `results`."""
    out_momenta, status = results[:2]
    width = lane_count(lanes)
    full = (1 << width) - 1
    waiting, gone = 0, 0  # events in the pools `ready` and `leaving`
    active, parked, coming = 0, 0, first  # lanes that make steps, and that are to leave
    for lane in range(width):
        for i in range(len(ions)):
            for part in (rows, spare):
                part[at.masses + i, lane] = masses[i]
                part[at.inverse_masses + i, lane] = 1.0 / masses[i]
        if len(charges) == 1:
            set_charges(rows, at, lane, charges, 0)
            set_charges(spare, at, lane, charges, 0)

    while True:
        free = width - count_bits(active)
        if free >= settings.refill or not active:
            gone = push(lanes, rows, at.kept, parked, leaving, gone)
            parked = 0
            if waiting < free and coming < last:
                batch = min(width, last - coming)
                place(lanes, spare, ions, at, coming, batch, positions, momenta, masses)
                for lane in range(batch):
                    spare[at.event, lane] = coming + lane - first
                    if len(charges) > 1:
                        set_charges(spare, at, lane, charges, coming + lane)
                apart, defined = start(lanes, spare, ions, at, settings)
                for lane in range(batch if apart != full else 0):
                    if not apart >> lane & 1:
                        event = coming + lane
                        if defined >> lane & 1 and spare[at.scale, lane] * 0.0 == 0.0:
                            forceless(event, momenta, results)
                        else:
                            out_momenta[event] = np.nan
                            status[event] = COINCIDENT
                waiting = push(lanes, spare, at.kept, apart & ((1 << batch) - 1), ready, waiting)
                coming += batch
            filled = lowest_bits(full & ~active, min(free, waiting))
            waiting = pull(lanes, rows, at.kept, filled, ready, waiting)
            active |= filled
        if active:
            leaves, stuck = advance(lanes, rows, ions, at, active, settings, pair)
            active &= ~leaves & ~stuck
            parked |= leaves
            for lane in range(width if stuck else 0):
                if stuck >> lane & 1:
                    event = first + int(rows[at.event, lane])
                    out_momenta[event] = np.nan
                    status[event] = BOUND if is_bound(rows, ions, at, lane) else STEP_LIMIT
        elif not gone and not waiting and not parked and coming >= last:
            return
        if gone >= width or (gone and not active and not waiting and coming >= last):
            batch = min(width, gone)
            inside = (1 << batch) - 1
            gone = pull(lanes, spare, at.kept, inside, leaving, gone)
            done = leave(lanes, spare, ions, at, settings, ladder) & inside
            waiting = push(lanes, spare, at.kept, inside & ~done, ready, waiting)
            write(spare, ions, at, done, first, momenta, masses, settings.tolerance, results)


@compiled
def forceless(event, momenta, results):
    """Let an event without any force keep its momenta."""
    out_momenta, _, energy_error, error_estimate = results
    energy_error[event] = 0.0
    error_estimate[event] = 0.0
    for i in range(out_momenta.shape[1]):
        for axis in range(3):
            out_momenta[event, i, axis] = momenta[event, i, axis] if len(momenta) else 0.0
