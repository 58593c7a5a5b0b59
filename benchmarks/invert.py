"""What an inversion finds, how well and how fast, beside what people do now.

    python benchmarks/invert.py [--case OCS] [--events N] [--peers 20] [--json FILE]

Events are simulated from rest at tolerance 1e-13, and inverted on one thread. The truth counts
as found when a solution lies within 1e-6 Å of it (root mean square, after Kabsch). Peers get
our simulator, one geometry at a time, unknowns free of gauge (the first ion at the origin, the
second on the x axis, the third in the xy plane), the equilibrium of the molecule or random
starts from the same ensemble, and much more time; they count as right within 1e-3 Å.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import least_squares, minimize

import coulex
from coulex import frames
from coulex.kernels import simd
from coulex.units import ANGSTROM

HIT, ROUGH_HIT = 1e-6, 1e-3  # Å


@dataclass(frozen=True)
class Case:
    """An ensemble of a molecule, with charges, to invert."""

    molecule: coulex.Molecule
    ensemble: coulex.Ensemble
    events: int


def box(low, high):
    """Return OCS with bonds of 0.8 to 3 Å, and so many degrees."""
    bonds = (0.8 * ANGSTROM, 3.0 * ANGSTROM)
    return coulex.Box(first_bond=bonds, second_bond=bonds, angle_degrees=(low, high))


def cases():
    """Return all cases by name."""

    def charged(name, charge):
        molecule = coulex.Molecule.named(name)
        return molecule.with_charges(dict.fromkeys(molecule.symbols, charge))

    def shaken(sigma):
        return coulex.Gaussian(sigma=sigma * ANGSTROM)

    ocs = charged("OCS", 2)
    return {
        "OCS": Case(ocs, box(90, 180), 100_000),
        "OCS 150-160": Case(ocs, box(150, 160), 20_000),
        "OCS 165-180": Case(ocs, box(165, 180), 20_000),
        "CHBrClF": Case(charged("CHBrClF", 1), shaken(0.2), 4000),
        "CH4": Case(charged("CH4", 1), shaken(0.2), 4000),
        "2-iodopyridine": Case(charged("2-iodopyridine", 1), shaken(0.1), 300),
    }


def events(case, seed=1):
    """Return geometries and the momenta of their explosions."""
    x, _ = case.ensemble.sample(case.molecule, seed=seed, first=0, count=case.events)
    run = coulex.simulate(x, case.molecule.ion_masses, case.molecule.charges, tolerance=1e-13)
    if run.status.any():
        raise RuntimeError(run.failures())
    return x, run.momenta


def ours(case, x, momenta):
    """Return the row of `coulex.invert`."""
    arguments = (case.molecule.ion_masses, case.molecule.charges)
    options = {"prior": (case.ensemble, case.molecule), "threads": 1}
    begin = time.perf_counter()
    coulex.invert(momenta[:16], *arguments, **options)  # kernels and tables
    ready = time.perf_counter() - begin
    begin = time.process_time()
    found = coulex.invert(momenta, *arguments, **options)
    seconds = time.process_time() - begin
    event, count = found.solution_event, len(x)
    _, error = frames.kabsch(found.solution_positions, x[event])
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, event, error / ANGSTROM)
    first = np.zeros(len(event), bool)
    first[np.flatnonzero(np.diff(event, prepend=-1))] = True
    hit = nearest < HIT
    inside = np.isfinite(log_density(case, found.solution_positions))
    residual = np.full(count, np.inf)
    np.minimum.at(residual, event, found.solution_residual)
    return {
        "events": count,
        "solved": float((residual < 1e-9).mean()),
        "truth_among": float(hit.mean()),
        "most_probable_right": float((error[first] / ANGSTROM < HIT).sum() / count),
        "several": float((found.n_solutions > 1).mean()),
        "several_in_ensemble": float((np.bincount(event[inside], minlength=count) > 1).mean()),
        "error_99": float(np.quantile(nearest[hit], 0.99)),
        "largest_residual": float(found.solution_residual.max(initial=0)),
        "ms_per_event": 1e3 * seconds / count,
        "ready_seconds": ready,
    }


def log_density(case, positions):
    """Return the density of the ensemble, whose support tells what lies in it."""
    from coulex.inverse.prior import log_density

    return log_density(case.ensemble, case.molecule, positions)


class Peer:
    """The residual that people minimize, of a geometry without its gauge."""

    def __init__(self, case, momenta):
        self.masses, self.charges = case.molecule.ion_masses, case.molecule.charges
        self.root = np.sqrt(self.masses)[:, None]
        self.momenta = momenta
        self.size = np.linalg.norm(momenta / self.root)
        self.calls = 0
        # all coordinates but those that are zero
        self.free = np.delete(np.arange(momenta.size), [0, 1, 2, 4, 5, 8])

    def unknowns(self, positions):
        """Return the coordinates of a geometry that are not zero in the gauge."""
        away = (positions - positions[0])[None]
        frame = frames.recoil_frame(away, reference=1, second=2)
        return frames.rotate(away, frame).ravel()[self.free]

    def positions(self, unknowns):
        """Return the geometry (ions, 3) of the unknowns."""
        x = np.zeros(self.momenta.size)
        x[self.free] = unknowns
        return x.reshape(-1, 3)

    def residual(self, unknowns):
        """Return p/sqrt(m) after Kabsch, less the measured, relative; large where it fails."""
        self.calls += 1
        x = self.positions(unknowns)[None]
        p = coulex.simulate(x, self.masses, self.charges, tolerance=1e-9, threads=1).momenta
        if not np.isfinite(p).all():
            return np.full(self.momenta.size, 10.0)
        seen, wanted = p[0] / self.root, self.momenta / self.root
        left, _, right = np.linalg.svd(seen.T @ wanted)
        left[:, -1] *= np.sign(np.linalg.det(left @ right))
        return ((seen @ (left @ right) - wanted) / self.size).ravel()


def nelder_mead(case, x, momenta, _rng):
    """Minimize the squared residual from the equilibrium by the simplex."""
    peer = Peer(case, momenta)
    result = minimize(
        lambda u: float((peer.residual(u) ** 2).sum()),
        peer.unknowns(case.molecule.positions),
        method="Nelder-Mead",
        options={"maxfev": 400 * x.size, "xatol": 1e-6, "fatol": 1e-16, "adaptive": True},
    )
    return peer.positions(result.x), peer.calls


def multi_start(case, _x, momenta, rng):
    """Take the best of least squares by finite differences from ten random starts."""
    peer, best, least = Peer(case, momenta), None, np.inf
    for number in range(10):
        drawn, _ = case.ensemble.sample(
            case.molecule, seed=int(rng.integers(1 << 31)), first=number, count=1
        )
        start = peer.unknowns(drawn[0])
        result = least_squares(peer.residual, start, xtol=1e-12, ftol=1e-12)
        if result.cost < least:
            best, least = peer.positions(result.x), result.cost
        if least < 1e-18:
            break
    return best, peer.calls


def theirs(method, case, x, momenta):
    """Return the row of a peer."""
    rng = np.random.default_rng(2)
    begin, right, calls = time.process_time(), 0, 0
    for geometry, p in zip(x, momenta, strict=True):
        found, called = method(case, geometry, p, rng)
        calls += called
        _, error = frames.kabsch(found, geometry)
        right += error / ANGSTROM < ROUGH_HIT
    seconds = time.process_time() - begin
    return {
        "events": len(x),
        "right": float(right / len(x)),
        "calls": calls / len(x),
        "ms_per_event": 1e3 * seconds / len(x),
    }


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = cases()
    parser.add_argument("--case", action="append", choices=list(every))
    parser.add_argument("--events", type=int, help="fewer than a case has")
    parser.add_argument("--peers", type=int, default=20, help="events that peers get")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {simd.instruction_set()}, one thread"
    )
    print(
        f"python {platform.python_version()}, coulex {coulex.__version__}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}"
    )
    results = {}
    for name in options.case or every:
        case = every[name]
        if options.events:
            case = Case(case.molecule, case.ensemble, min(options.events, case.events))
        x, momenta = events(case)
        row = results[name] = {"coulex": ours(case, x, momenta)}
        print(f"\n{name}: {case.ensemble.describe()}", flush=True)
        for key, value in row["coulex"].items():
            print(f"  {key:22s} {value:.6g}")
        few = slice(0, options.peers)
        for method in (nelder_mead, multi_start) if options.peers else ():
            row[method.__name__] = theirs(method, case, x[few], momenta[few])
            told = ", ".join(f"{k} {v:.4g}" for k, v in row[method.__name__].items())
            slower = row[method.__name__]["ms_per_event"] / row["coulex"]["ms_per_event"]
            print(f"  {method.__name__}: {told}; {slower:.3g} times our time", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
