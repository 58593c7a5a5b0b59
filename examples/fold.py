"""Forward and back: OCS bends through the fold, where one explosion has several geometries.

    python examples/fold.py [--events 2000] [--out .]

OCS with charges 2,2,2 is bent from 180° to 140°. At each angle the explosion is simulated,
inverted without any other knowledge, and the geometries that come back are counted: all of
them, and those with carbon in the middle. The table has how far the fold is away and what 1 %
of noise on the momenta does to the angle; then an ensemble goes through the same.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import coulex
from coulex import frames
from coulex.inverse import identify
from coulex.units import ANGSTROM

CHARGES = np.array([2.0, 2.0, 2.0])


def bent(angle_degrees):
    """Return OCS (n, 3, 3) in bohr with the bonds of the molecule."""
    angle = np.radians(np.asarray(angle_degrees, float))
    x = np.zeros((len(angle), 3, 3))
    x[:, 0, 0] = 1.1562
    x[:, 2, 0], x[:, 2, 1] = 1.5614 * np.cos(angle), 1.5614 * np.sin(angle)
    return x * ANGSTROM


def angles(positions):
    """Return the angle O-C-S in degrees."""
    return np.degrees(frames.angle(positions[:, 0], positions[:, 1], positions[:, 2]))


def main():
    """Print the table and draw what came back over what went in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    masses = coulex.Molecule.named("OCS").with_charges([2, 2, 2]).ion_masses

    bends = np.array([179.0, 175, 170, 166, 163, 161, 158, 150, 140])
    x = bent(bends)
    momenta = coulex.simulate(x, masses, CHARGES, tolerance=1e-13).momenta
    found = coulex.invert(momenta, masses, CHARGES)
    known = identify(x, masses, CHARGES, symbols=("O", "C", "S"))
    print("angle (°)  all  C in the middle            to the fold (Å)  ± (°) per percent")
    for event, bend in enumerate(bends):
        back = angles(found.solution_positions[found.solution_event == event])
        middle = ", ".join(f"{a:.2f}" for a in np.sort(back[back > 90]))
        print(
            f"{bend:9.0f}  {len(back):3d}  {middle:25s}  "
            f"{known.fold_distance[event] / ANGSTROM:15.3f}  {known.deviations[event, 2]:.2f}"
        )

    drawn = np.random.default_rng(1).uniform(140, 180, options.events)
    momenta = coulex.simulate(bent(drawn), masses, CHARGES, tolerance=1e-13).momenta
    found = coulex.invert(momenta, masses, CHARGES)
    back = angles(found.solution_positions)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    sign = found.solution_sign > 0
    for chosen, colour, name in ((sign, "C0", "det J > 0"), (~sign, "C1", "det J < 0")):
        axes.plot(drawn[found.solution_event[chosen]], back[chosen], ".", color=colour,
                  markersize=2, label=name)  # fmt: skip
    axes.set_xlabel("angle O-C-S that exploded (°)")
    axes.set_ylabel("angle of every geometry that explains it (°)")
    axes.legend(markerscale=4)
    figure.savefig(options.out / "fold.png", dpi=150)


if __name__ == "__main__":
    main()
