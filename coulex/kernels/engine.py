"""From positions to asymptotic momenta: many explosions, with the lanes kept full.

An event starts, makes steps until most of its energy is kinetic, and leaves for infinity in
one last step. Events need different numbers of steps, and a lane that waits is a lane lost; so
all three are done for as many events as there are lanes; between them events stand in pools:

    start -> ready -> lanes (step by step) -> leaving -> infinity -> momenta
               ^--------------- tail not accurate enough ----'

What an event goes through depends on nothing but itself, so its momenta are the same bits
whatever its neighbours, its block or its thread.
"""

from typing import NamedTuple

from .compiled import compiled
from .coulomb import energies, forces
from .events import aim, decline, place, set_charges, stop, write
from .nystroem import step
from .pools import count_bits, lowest_bits, pull, push
from .simd import (
    bits,
    fma,
    from_bits,
    lane_count,
    load,
    rough_rsqrt,
    select,
    splat,
    sqrt,
    store,
)
from .tail import straight_lines, to_infinity


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
    rounding: float  #: relative, of a number
    range: float  #: squares of rates lie between its inverse and itself
    max_steps: int
    refill: int  #: lanes that wait before new events come in


@compiled
def explode(
    lanes, ions, along, rows, spare, ready, leaving, at, settings, pair, ladder,
    positions, momenta, masses, charges, directions, first, last, results,
):  # fmt: skip
    """Follow events `first` to `last` to infinity, into the arrays of `results`.

    `along` has an entry for each of the directions (events, directions, 3 ions of positions,
    momenta, charges) along which the momenta are differentiated.
    """
    width = lane_count(lanes)
    full = (1 << width) - 1
    furnish(rows, ions, along, at, width, masses, charges)
    furnish(spare, ions, along, at, width, masses, charges)
    waiting, gone = 0, 0  # events in the pools `ready` and `leaving`
    active, parked = 0, 0  # lanes that make steps, and that are to leave
    coming = first

    while True:
        free = width - count_bits(active)
        if free >= settings.refill or not active:
            gone = push(lanes, rows, at.kept, parked, leaving, gone)
            parked = 0
            if waiting < free and coming < last:
                batch = min(width, last - coming)
                place(lanes, spare, ions, at, coming, batch, first, positions, momenta, masses)
                if len(charges) > 1:
                    for lane in range(batch):
                        set_charges(spare, at, lane, charges, coming + lane)
                if len(along.columns):
                    aim(spare, ions, along, at, coming, batch, charges, directions)
                exploding = start(lanes, spare, ions, along, at, settings) & ((1 << batch) - 1)
                idle = ~exploding & ((1 << batch) - 1)
                if idle:
                    decline(
                        spare, ions, at, idle, coming, momenta, charges, directions, results
                    )
                waiting = push(lanes, spare, at.kept, exploding, ready, waiting)
                coming += batch
            filled = lowest_bits(full & ~active, min(free, waiting))
            waiting = pull(lanes, rows, at.kept, filled, ready, waiting)
            active |= filled
        if active:
            leaves, stuck = advance(lanes, rows, ions, along, at, active, settings, pair)
            active &= ~leaves & ~stuck
            parked |= leaves
            if stuck:
                stop(rows, ions, at, stuck, first, settings.rounding, results)
        elif not gone and not waiting and not parked and coming >= last:
            return
        if gone >= width or (gone and not active and not waiting and coming >= last):
            batch = min(width, gone)
            inside = (1 << batch) - 1
            gone = pull(lanes, spare, at.kept, inside, leaving, gone)
            done = leave(lanes, spare, ions, along, at, settings, ladder) & inside
            waiting = push(lanes, spare, at.kept, inside & ~done, ready, waiting)
            write(
                spare,
                ions,
                along,
                at,
                done,
                first,
                momenta,
                masses,
                settings.tolerance,
                results,
            )


@compiled
def furnish(rows, ions, along, at, width, masses, charges):
    """Put into every lane what all events share: masses, and charges where they do."""
    for lane in range(width):
        for body in range(len(ions) * (1 + len(along.columns))):
            mass = masses[body % len(ions)]
            rows[at.masses + body, lane] = mass
            rows[at.inverse_masses + body, lane] = 1.0 / mass
        if len(charges) == 1:
            set_charges(rows, at, lane, charges, 0)


@compiled
def start(lanes, rows, ions, along, at, settings):
    """Complete the state of events that have positions, velocities and charges.

    Returns the lanes in which there is an explosion: forces, no two ions at one point, and the
    energy to part; ions that part have kinetic energy alone, so less than none keeps a pair
    bound.
    """
    centre(lanes, rows, ions, at)
    forces(lanes, rows, ions, along, at, at.x, at.f, splat(lanes, 1.0))
    potential, moduli, fastest, crowding = energies(
        lanes, rows, ions, at.x, at.v, at.pairs, at.inverse_masses
    )
    kinetic = twice_kinetic(lanes, rows, ions, at, at.v)
    first = settings.first_step / sqrt(fastest)
    store(rows, at.step, first)
    store(rows, at.floor, 1e-9 * first)
    energy = fma(splat(lanes, 2.0), potential, kinetic)
    scale = fma(splat(lanes, 2.0), moduli, kinetic)
    store(rows, at.energy, energy)
    store(rows, at.scale, scale)
    store(rows, at.reach, splat(lanes, settings.reach))
    store(rows, at.error, splat(lanes, 0.0))
    store(rows, at.rounding, settings.rounding * sqrt(crowding))
    store(rows, at.potential, potential)
    store(rows, at.steps, splat(lanes, 0.0))
    in_range = (fastest > 1.0 / settings.range) & (fastest < settings.range)
    return bits(in_range & (energy > -100.0 * settings.rounding * scale))


@compiled
def centre(lanes, rows, ions, at):
    """Move positions to the frame of the centre of mass."""
    total = splat(lanes, 0.0)
    for i in range(len(ions)):
        total = total + load(lanes, rows, at.masses + i)
    for axis in range(3):
        middle = splat(lanes, 0.0)
        for i in range(len(ions)):
            mass = load(lanes, rows, at.masses + i)
            middle = fma(mass, load(lanes, rows, at.x + 3 * i + axis), middle)
        middle = middle / total
        for i in range(len(ions)):
            row = at.x + 3 * i + axis
            store(rows, row, load(lanes, rows, row) - middle)


@compiled
def twice_kinetic(lanes, rows, ions, at, v):
    """Return twice the kinetic energy of the velocities in rows `v`."""
    total = splat(lanes, 0.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        for row in range(v + 3 * i, v + 3 * i + 3):
            total = fma(mass * load(lanes, rows, row), load(lanes, rows, row), total)
    return total


@compiled
def advance(lanes, rows, ions, along, at, active, settings, pair):
    """Make a step in every lane; return the lanes that may leave, and those that are stuck."""
    h = load(lanes, rows, at.step)
    scale = load(lanes, rows, at.scale)
    stretch, potential, weighted, whole = step(lanes, rows, ions, along, at, h, pair)
    ratio = weighted / (scale * (settings.step_tolerance * settings.step_tolerance))
    moving = from_bits(lanes, active)
    good = moving & (ratio <= 1.0)

    size = 3 * len(ions) * (1 + len(along.columns))
    last = at.f + size * (len(pair.stages) - 1)
    for k in range(size):
        x = select(good, load(lanes, rows, at.trial + k), load(lanes, rows, at.x + k))
        v = select(good, load(lanes, rows, at.end + k), load(lanes, rows, at.v + k))
        f = select(good, load(lanes, rows, last + k), load(lanes, rows, at.f + k))
        store(rows, at.x + k, x)
        store(rows, at.v + k, v)
        store(rows, at.f + k, f)
    h = select(moving, h * growth(lanes, ratio, settings.order), h)
    h = select(good, h * stretch, h)  # the step grows with the ions
    error = load(lanes, rows, at.error)
    steps = load(lanes, rows, at.steps) + 1.0
    store(rows, at.step, h)
    store(rows, at.error, select(good, error + sqrt(whole), error))
    store(rows, at.steps, steps)

    near = 0.5 * scale * load(lanes, rows, at.reach)
    rise = size_of(potential, near) / size_of(load(lanes, rows, at.potential), near)
    rounding = load(lanes, rows, at.rounding)
    store(rows, at.rounding, select(good & (rise > 1.0), rise * rounding, rounding))
    store(rows, at.potential, select(good, potential, load(lanes, rows, at.potential)))
    leaves = bits(good & (potential <= near) & (potential >= -near))
    stuck = (h < load(lanes, rows, at.floor)) | (steps >= float(settings.max_steps))
    return leaves, active & ~leaves & bits(stuck)


@compiled
def size_of(a, least):
    """Return the modulus of `a`, or `least` if that is more."""
    a = select(a < 0.0, -a, a)
    return select(a < least, least, a)


@compiled
def growth(lanes, ratio, order):
    """Return the factor on the step for the square of error over tolerance, within [0.2, 5].

    The power of the error is close to 1 over the order of its estimate, -3/16, -1/8 or -3/32,
    and made of rough reciprocal square roots: it need not be exact.
    """
    ratio = select(ratio < 1e-30, splat(lanes, 1e-30), ratio)
    a = rough_rsqrt(rough_rsqrt(rough_rsqrt(ratio)))  # ratio**(-1/8)
    b = rough_rsqrt(a)  # 1/16
    c = rough_rsqrt(b)  # -1/32
    factor = a * b
    if order == 6:
        factor = factor * c
    if order == 12:
        factor = c * c * rough_rsqrt(c)
    factor = 0.9 * factor
    factor = select(factor > 0.2, factor, splat(lanes, 0.2))  # not a number: 0.2
    return select(factor < 5.0, factor, splat(lanes, 5.0))


@compiled
def leave(lanes, rows, ions, along, at, settings, ladder):
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
    moved = to_infinity(lanes, rows, ions, along, at, ladder)

    drift = twice_kinetic(lanes, rows, ions, at, at.end) / energy - 1.0
    store(rows, at.trial, drift)
    size = splat(lanes, 0.0)
    for i in range(len(ions)):
        mass = load(lanes, rows, at.masses + i)
        for k in range(3 * i, 3 * i + 3):
            momentum = mass * load(lanes, rows, at.end + k)
            size = fma(momentum, momentum, size)
            store(rows, at.end + k, momentum)
    for i in range(len(ions), len(ions) * (1 + len(along.columns))):
        mass = load(lanes, rows, at.masses + i)
        for row in range(at.end + 3 * i, at.end + 3 * i + 3):
            store(rows, row, mass * load(lanes, rows, row))
    summed = settings.step_weight * load(lanes, rows, at.error)
    error = (summed + settings.tail_weight * sqrt(moved)) / sqrt(size)
    error = error + load(lanes, rows, at.rounding)
    # Energy is quadratic in the momenta: they are wrong by half of its error at least.
    away = size_of(drift, 0.0 * drift)
    # either may be no number, and has to stay so
    error = select(error >= away, error, select(away > error, away, error + away))
    store(rows, at.trial + 1, error)
    reach = load(lanes, rows, at.reach)
    store(rows, at.reach, 0.3 * reach)
    sure = moved <= size * (settings.tail_tolerance * settings.tail_tolerance)
    return bits(sure | (reach <= settings.least_reach))
