"""Left or right: the handedness of CHBrClF, molecule by molecule, from five momenta.

    python examples/chirality.py [--events 200] [--out .]

A racemic mixture: every other molecule is a mirror image. Each explodes from its own shaken
geometry, in a random orientation. The search starts from both hands, and all geometries that
explain the momenta are weighed by a prior that holds both to be equally probable. Geometries
are only ever turned, never mirrored, so the hand that comes back is the one that exploded.
"""

import argparse
from pathlib import Path

import numpy as np

import coulex
from coulex import frames
from coulex.inverse.prior import log_density
from coulex.units import ANGSTROM

MIRROR = np.array([1.0, 1.0, -1.0])


def hand(positions):
    """Return the sign of the triple product of H, Br and Cl about F."""
    away = positions[:, 1:4] - positions[:, 4:]
    return np.sign(np.einsum("ni,ni->n", away[:, 0], np.cross(away[:, 1], away[:, 2])))


def main():
    """Print how often the hand is right, and write the probabilities."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    count = min(options.events, 200)

    molecule = coulex.Molecule.named("CHBrClF").with_charges([1, 1, 1, 1, 1])
    masses, charges = molecule.ion_masses, molecule.charges
    shaken = coulex.Gaussian(sigma=0.1 * ANGSTROM)
    x, _ = shaken.sample(molecule, seed=1, first=0, count=count)
    x[1::2] *= MIRROR
    x = frames.rotate(x, frames.random_rotations(1, 0, count))
    momenta = coulex.simulate(x, masses, charges, tolerance=1e-13).momenta

    def both_hands(momenta, n, **_):
        drawn = [shaken.sample(molecule, seed=2 + k, first=0, count=len(momenta))[0]
                 for k in range(n)]  # fmt: skip
        drawn = np.stack(drawn, axis=1)
        drawn[:, 1::2] *= MIRROR
        return drawn, None

    # With patience, so that starts of either hand come home several times.
    search = coulex.Search(patience=4)
    found = coulex.invert(momenta, masses, charges, sampler=both_hands, search=search)
    geometry, event = found.solution_positions, found.solution_event
    prior = np.logaddexp(
        log_density(shaken, molecule, geometry),
        log_density(shaken, molecule, geometry * MIRROR),
    )
    top = np.full(count, -np.inf)
    np.maximum.at(top, event, prior)
    weight = found.solution_weight * np.exp(prior - top[event])
    right = hand(geometry) == hand(x)[event]
    total = np.bincount(event, weight, count)
    probability = np.bincount(event, weight * right, count) / np.where(total > 0, total, 1)

    _, error = frames.kabsch(geometry, x[event])
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, event, error / ANGSTROM)
    print(f"{count} molecules, {len(event)} geometries")
    print(f"truth among them: {(nearest < 1e-6).mean():.3f}")
    print(f"the true hand is the more probable one: {(probability > 0.5).mean():.3f}")
    print(f"and its probability, on average: {probability.mean():.3f}")
    np.savetxt(
        options.out / "chirality.csv", probability, header="probability of the true hand"
    )


if __name__ == "__main__":
    main()
