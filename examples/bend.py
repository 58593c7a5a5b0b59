"""A forward study: how the momenta of OCS tell a bend from a stretch.

    python examples/bend.py [--events 20000] [--out .]

OCS, charges 2,2,2, at three bending angles and three lengths of the C-S bond, each shaken a
little. KER and the angle between the momenta of O and S are printed with their spread, and
drawn: the KER follows the stretch, the angle follows the bend.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import coulex
from coulex.units import ANGSTROM, EV

CHARGES = np.array([2.0, 2.0, 2.0])


def geometry(bond_cs_angstrom, angle_degrees):
    """Return OCS (3, 3) in bohr with r_CO 1.1562 Å."""
    angle = np.radians(angle_degrees)
    sulphur = bond_cs_angstrom * np.array([np.cos(angle), np.sin(angle), 0])
    return np.array([[1.1562, 0, 0], [0, 0, 0], sulphur]) * ANGSTROM


def main():
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()

    masses = coulex.Molecule.named("OCS").with_charges([2, 2, 2]).ion_masses
    rng = np.random.default_rng(1)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    print("r_CS (Å)  angle (°)   KER (eV)         angle of p_O and p_S (°)")
    for bond, colour in ((1.46, "C0"), (1.56, "C1"), (1.66, "C2")):
        for bend in (160, 170, 180):
            shakes = rng.normal(scale=0.03 * ANGSTROM, size=(options.events, 3, 3))
            momenta = coulex.simulate(geometry(bond, bend) + shakes, masses, CHARGES).momenta
            ker = (momenta**2).sum(axis=2) @ (0.5 / masses) / EV
            oxygen, sulphur = momenta[:, 0], momenta[:, 2]
            cosine = (oxygen * sulphur).sum(axis=1)
            cosine /= np.linalg.norm(oxygen, axis=1) * np.linalg.norm(sulphur, axis=1)
            between = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            print(
                f"{bond:8.2f}  {bend:8d}   {ker.mean():6.2f} ± {ker.std():.2f}    "
                f"{between.mean():6.2f} ± {between.std():.2f}"
            )
            axes.plot(between[:2000], ker[:2000], ".", color=colour, markersize=1, alpha=0.3)
            axes.plot(between.mean(), ker.mean(), "o", color=colour, markeredgecolor="black")
            axes.annotate(
                f"{bend}°", (between.mean(), ker.mean()), (4, 4), textcoords="offset points"
            )
        axes.plot([], [], "o", color=colour, label=f"{bond} Å")
    axes.set_xlabel("angle between the momenta of O and S (°)")
    axes.set_ylabel("KER (eV)")
    axes.legend(title="r_CS; numbers: bend")
    figure.savefig(options.out / "bend.png", dpi=150)


if __name__ == "__main__":
    main()
