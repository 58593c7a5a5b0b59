"""A measured list: momenta of OCS with 1 % of noise, from a CSV file to bonds with errors.

    python examples/measured_list.py [--events 1000] [--out .]

A list as a laboratory has it is written first: a row per event, momenta in kg m/s, 1 % of
Gaussian noise on every component, no geometry. It is imported, and the most probable geometry
of each event is found under a Gaussian prior about the molecule. Bonds and angle come with
standard deviations; the last column says whether to believe these. Since the list was made
here, how often the truth lies within them can be told.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.constants import physical_constants

import coulex
from coulex.dataset import exchange
from coulex.inverse import estimate
from coulex.inverse.solutions import ESTIMATE_STATUS
from coulex.units import ANGSTROM

NOISE = 0.01
UNIT = physical_constants["atomic unit of momentum"][0]


def main():
    """Write the list, read it, and print the first rows and the coverage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    count = min(options.events, 5000)

    ocs = coulex.Molecule.named("OCS").with_charges([2, 2, 2])
    prior = coulex.Gaussian(sigma=0.08 * ANGSTROM)
    truth, _ = prior.sample(ocs, seed=1, first=0, count=count)
    momenta = coulex.simulate(truth, ocs.ion_masses, ocs.charges).momenta
    rng = np.random.default_rng(1)
    sigma = NOISE * np.linalg.norm(momenta, axis=2, keepdims=True)
    measured = momenta + sigma * rng.standard_normal(momenta.shape)
    file = options.out / "measured.csv"
    names = ",".join(f"p{ion}{axis}" for ion in ("o", "c", "s") for axis in "xyz")
    np.savetxt(
        file, measured.reshape(count, 9) * UNIT, delimiter=",", header=names, comments=""
    )

    source = exchange.read_source(file, momentum_units="kg m/s")
    momenta = np.concatenate([block["momenta"] for block in source.blocks(count)])
    found = estimate(
        momenta,
        ocs.ion_masses,
        ocs.charges,
        noise=NOISE,
        prior=(prior, ocs),
        symbols=ocs.symbols,
    )
    best = found.estimate
    print("event  " + "  ".join(f"{c.column:>20s}" for c in best.coordinates))
    for event in range(min(8, count)):
        row = zip(best.values[event], best.deviations[event], strict=True)
        told = "  ".join(f"{value:11.3f} ± {sd:6.3f}" for value, sd in row)
        print(f"{event:5d}  {told}  {ESTIMATE_STATUS[best.status[event]][0]}")

    true = np.stack([c.values(truth) for c in best.coordinates], axis=1)
    off = np.abs(best.values - true) / best.deviations
    for name, chosen in (("linear", best.linear), ("flagged", ~best.linear)):
        inside = (off[chosen] < 1).mean(axis=0)
        told = ", ".join(f"{share:.2f}" for share in inside)
        print(f"{chosen.sum()} {name}: within one standard deviation {told} (0.68 expected)")


if __name__ == "__main__":
    main()
