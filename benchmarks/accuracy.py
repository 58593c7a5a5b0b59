"""How the errors of `coulex.simulate` compare with the tolerance asked for, and its estimates.

    python benchmarks/accuracy.py [--events 100000]

The constants of `coulex/accuracy.py` were set by this table: for every tolerance the largest
error among the events reported good has to stay below it. The judge is the tightest setting,
which in turn agrees with an independent Taylor integrator to 1e-12 (tests).
"""

import argparse

import cases
import numpy as np

import coulex

TOLERANCES = {
    "float64": (1e-3, 1e-4, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12),
    "float32": (3e-3, 3e-4, 3e-5),
}


def relative(momenta, reference):
    """Return the error of the whole vector of momenta of each event, (n,)."""
    difference = (momenta - reference).reshape(len(reference), -1)
    size = np.linalg.norm(reference.reshape(len(reference), -1), axis=1)
    return np.linalg.norm(difference, axis=1) / size


def main():
    """Print the table, case by case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--case", action="append", help="OCS, CH4, or N=2 to N=12")
    options = parser.parse_args()
    for name in options.case or ("OCS", "CH4", "N=10"):
        case = cases.case(name)
        positions = case.draw(np.random.default_rng(1), options.events)
        judge = coulex.simulate(positions, case.masses, case.charges, tolerance=1e-13).momenta
        print(f"{name}: {options.events} events, seed 1")
        print("precision  tolerance  median   99 %     largest  largest/tolerance  not good")
        for precision, tolerances in TOLERANCES.items():
            for tolerance in tolerances:
                run = coulex.simulate(
                    positions,
                    case.masses,
                    case.charges,
                    tolerance=tolerance,
                    precision=precision,
                )
                good = run.status == 0
                error = relative(run.momenta[good].astype(float), judge[good])
                median, most, largest = np.quantile(error, [0.5, 0.99, 1])
                print(
                    f"{precision}    {tolerance:.0e}      {median:.1e}  {most:.1e}  "
                    f"{largest:.1e}  {largest / tolerance:17.2f}  {(~good).sum():8d}"
                )


if __name__ == "__main__":
    main()
