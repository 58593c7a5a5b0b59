"""Where a search for geometries starts, for four ions and more.

A source of starts is a function of the indices of events and of the number of the start. What
it returns may have any size, place and orientation: the solver sees to these.
"""

import numpy as np

from coulex import random
from coulex.ensemble import Ensemble
from coulex.molecule import Molecule

_SEED = 20260101  #: of all that is random here: an inversion is a function of its input


def guesses(momenta, masses):
    """Return starts that are made of the momenta: ions lie where they fly to.

    Distances from the centre follow a power of the ion's speed, which changes from start to
    start, as random displacements do, from the second start on.
    """
    velocity = momenta / masses[:, None]
    speed = np.linalg.norm(velocity, axis=2, keepdims=True)
    typical = np.sqrt((speed**2).mean(axis=1, keepdims=True))
    powers = (-0.7, -0.4, -1.0, -0.2)

    def starts(event, number):
        size = momenta.shape[1] * 3
        v, fast = velocity[event] / typical[event], speed[event] / typical[event]
        x = v * np.maximum(fast, 1e-3) ** powers[number % len(powers)]
        drawn = random.normal(_SEED + number, 0, len(momenta), size, random.GEOMETRY)
        return x + min(0.05 + 0.1 * number, 0.6) * drawn[event].reshape(x.shape)

    return starts


def anywhere(momenta, masses):
    """Return starts for who knows nothing: a guess made of the momenta, then random shapes.

    Shapes of normal positions find more solutions of an event than guesses do: these lead to
    the same few again and again.
    """
    guess, shape = guesses(momenta, masses), momenta.shape[1:]

    def starts(event, number):
        if number == 0:
            return guess(event, number)
        drawn = random.normal(_SEED - number, 0, len(momenta), shape[0] * 3, random.GEOMETRY)
        return drawn[event].reshape(-1, *shape)

    return starts


def of_prior(ensemble: Ensemble, molecule: Molecule, *, otherwise):
    """Return starts at the molecule, in its ensemble, and now and then elsewhere."""

    def starts(event, number):
        if number == 0 and molecule.positions.any():
            return np.tile(molecule.positions, (len(event), 1, 1))
        if number % 4 == 3:
            return otherwise(event, number // 4)
        drawn, _ = ensemble.sample(molecule, seed=_SEED + number, first=0, count=len(event))
        return drawn

    return starts


def of_sampler(sampler, momenta, masses, charges, *, otherwise):
    """Return starts that a sampler draws, all at once, and others when they are used up."""
    rng = np.random.default_rng(_SEED)
    draws = 8
    x, _ = sampler(momenta, draws, charges=charges, masses=masses, noise=None, rng=rng)
    x = np.asarray(x, float)
    if x.shape != (len(momenta), draws, *momenta.shape[1:]):
        msg = f"the sampler must return ({len(momenta)}, {draws}, ions, 3), got {x.shape}"
        raise ValueError(msg)

    def starts(event, number):
        if number >= draws:
            return otherwise(event, number - draws)
        drawn = x[event, number]
        bad = ~np.isfinite(drawn).all(axis=(1, 2))
        if bad.any():
            drawn[bad] = otherwise(event[bad], number)
        return drawn

    return starts
