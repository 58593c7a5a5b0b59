"""Invert what `coulex simulate` makes at rest, and see whether the truth is found.

    python benchmarks/round_trips.py [--quick] [--seconds 60] [--case OCS]

Three ions: 100,000 events each, of more as many as the seconds allow; in float64 simulated at
tolerance 1e-13. Prints a table, each row once with the ensemble as prior and once without
(single geometries and frames are no prior). The truth is found within 1e-6 Å (root mean
square); float32 has an error of its own, and the truth is what lies within 100 times that.
"""

import argparse
import time

import numpy as np

import coulex
from coulex import frames
from coulex.production import Production
from coulex.units import ANGSTROM

BLOCK = 1000


def productions():
    """Return runs of `coulex simulate` by name, and whether their ensemble is a prior."""

    def ion(name, *charges):
        molecule = coulex.Molecule.named(name)
        return molecule.with_charges(charges or [1] * len(molecule.symbols))

    def shaken(sigma):
        return coulex.Gaussian(sigma=sigma * ANGSTROM)

    def in_sphere(radius, least):
        return coulex.Sphere(radius=radius * ANGSTROM, min_distance=least * ANGSTROM)

    bonds = (0.8 * ANGSTROM, 3.0 * ANGSTROM)
    box = coulex.Box(first_bond=bonds, second_bond=bonds, angle_degrees=(90, 180))
    ocs, one = ion("OCS", 2, 2, 2), coulex.Equilibrium()
    track, _ = shaken(0.1).sample(ocs, seed=9, first=0, count=100_000)
    made = {
        "OCS, one geometry": (ocs, one, {}),
        "OCS, one geometry, recoil": (ocs, one, {"orientation": "recoil"}),
        "H2O, one geometry": (ion("H2O"), one, {}),
        "OCS, gaussian 0.1": (ocs, shaken(0.1), {}),
        "OCS, gaussian 0.1, random": (ocs, shaken(0.1), {"orientation": "random"}),
        "OCS, gaussian 0.1, recoil": (ocs, shaken(0.1), {"orientation": "recoil"}),
        "OCS, box 0.8-3, 90-180": (ocs, box, {}),
        "OCS, sphere 3": (ocs, in_sphere(3, 0.5), {}),
        "OCS, frames": (ocs, coulex.Frames(positions=track), {}),
        "OCS, charges 1,4,2": (ion("OCS", 1, 4, 2), shaken(0.1), {}),
        "OCS, charges 1.3,0.6,2.2": (ion("OCS", 1.3, 0.6, 2.2), shaken(0.1), {}),
        "OCS, gaussian 0.1, float32": (ocs, shaken(0.1), {"precision": "float32"}),
        "SO2, gaussian 0.1": (ion("SO2"), shaken(0.1), {}),
        "CO2, sphere 3": (ion("CO2"), in_sphere(3, 0.5), {}),
        "C2H2, one geometry": (ion("C2H2"), one, {}),
        "C2H2, gaussian 0.1": (ion("C2H2"), shaken(0.1), {}),
        "NH3, gaussian 0.1": (ion("NH3"), shaken(0.1), {}),
        "BF3, one geometry": (ion("BF3"), one, {}),
        "BF3, gaussian 0.1": (ion("BF3"), shaken(0.1), {}),
        "CH4, one geometry": (ion("CH4"), one, {}),
        "CH4, sphere 2": (ion("CH4"), in_sphere(2, 0.5), {}),
        "CHBrClF, gaussian 0.2": (ion("CHBrClF"), shaken(0.2), {"orientation": "recoil"}),
        "CHBrClF, charges 2.5,1,2,2,1": (ion("CHBrClF", 2.5, 1, 2, 2, 1), shaken(0.1), {}),
        "CHBrClF, float32": (ion("CHBrClF"), shaken(0.1), {"precision": "float32"}),
        "C2H4, gaussian 0.1": (ion("C2H4"), shaken(0.1), {}),
        "2-iodopyridine, gaussian 0.1": (ion("2-iodopyridine"), shaken(0.1), {}),
    }
    return {name: (Production(molecule=m, ensemble=e, n=1, tolerance=None if o.get("precision")
            else 1e-13, **o), hasattr(e, "radius") or hasattr(e, "sigma") or e is box)
            for name, (m, e, o) in made.items()}  # fmt: skip


def row(production, prior, events, seconds):
    """Invert until the events or the seconds are used up; return counts and sizes."""
    molecule = production.molecule
    small = production.precision == "float32"
    options = {"prior": (production.ensemble, molecule)} if prior else {}
    options |= {"threads": 1, "project": small}
    count = solved = hits = 0
    worst, used = 0.0, 0.0
    size = min(BLOCK if len(molecule.symbols) < 8 else 50, events)
    while count < events and used < seconds:
        made = production.events(count, size)
        x, p = made["initial_positions"].astype(float), made["momenta"].astype(float)
        if not count:
            coulex.invert(p[:2], molecule.ion_masses, molecule.charges, **options)
        begin = time.process_time()
        found = coulex.invert(p, molecule.ion_masses, molecule.charges, **options)
        used += time.process_time() - begin
        event = found.solution_event
        _, error = frames.kabsch(found.solution_positions, x[event])
        near = np.full(size, np.inf)
        np.minimum.at(near, event, error / ANGSTROM)
        limit = 100 * made["error_estimate"].max() if small else 1e-6
        count, solved = count + size, solved + (found.n_solutions > 0).sum()
        hits += (near < limit).sum()
        worst = max(worst, found.solution_residual.max(initial=0.0))
    return count, solved / count, hits / count, worst, 1e3 * used / count


def main():
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a hundred events each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a row, at most")
    parser.add_argument("--case", default="", help="only rows with this in their name")
    given = parser.parse_args()
    print(
        "| run | prior | events | solved % | truth found % | worst residual | ms per event |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (production, has_prior) in productions().items():
        for prior in [True, False] if has_prior else [False]:
            if given.case not in name:
                continue
            made = row(production, prior, 100 if given.quick else 100_000, given.seconds)
            count, solved, hits, worst, each = made
            print(f"| {name} | {'yes' if prior else 'no'} | {count:,} | {100 * solved:.2f} "
                  f"| {100 * hits:.2f} | {worst:.0e} | {each:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
