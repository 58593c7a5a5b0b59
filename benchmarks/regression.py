"""How near to the truth a network alone comes: a plain regressor against exact momenta.

    python benchmarks/regression.py [--case NAME] [--floor N] [--json FILE] [--quick]
    torchrun --standalone --nproc-per-node 2 benchmarks/regression.py ...      on two cores

Events are simulated from rest, without noise. The network sees the shape of the momenta in the
recoil frame and gives the shape of the molecule; the size follows from the kinetic energy. It
is judged on events of another seed, about the centre of mass. A standardised error is that of
each component over its deviation, of those that vary: in the frame of the file where molecules
have one orientation, else in the recoil frame.

`--floor` inverts the first events of these with the exact solver and the ensemble as a prior,
and prints the errors of the mean over all geometries that they have: where there are several,
no answer has a smaller squared error.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import coulex
from coulex import frames
from coulex.units import ANGSTROM
from generative import parallel
from generative.data import Arrays
from generative.geometry import Geometry
from generative.mlp import Mlp, MlpOptions
from generative.recipe import Training
from generative.sampler import Sampler
from generative.train import fit

TEST_EVENTS, TEST_SEED = 20_000, 2
CONSTANTS = ("masses", "charges", "numbers")


@dataclass(frozen=True)
class Case:
    """An ensemble of a molecule, a network and its training."""

    molecule: coulex.Molecule
    ensemble: coulex.Ensemble
    orientation: str
    events: int
    options: MlpOptions
    training: Training
    goal: str


def cases() -> dict[str, Case]:
    """Return all cases by name."""

    def charged(name, charge):
        molecule = coulex.Molecule.named(name)
        return molecule.with_charges(dict.fromkeys(molecule.symbols, charge))

    ocs = coulex.Box(first_bond=(2.1, 4.3), second_bond=(2.9, 6.1), angle_degrees=(165, 180))
    short = Training(
        epochs=5, batch_size=1024, learning_rate=2e-3, optimizer="muon", patience=0
    )
    long = replace(short, epochs=8, batch_size=2048, learning_rate=4e-3)
    small, large = MlpOptions(width=128), MlpOptions(width=256, loss="median")
    return {
        "OCS": Case(
            *(charged("OCS", 2), ocs, "given", 1_000_000, small, short),
            goal="standardised MSE 1e-5",
        ),
        "OCS, any orientation": Case(
            *(charged("OCS", 2), ocs, "random", 1_000_000, small, short),
            goal="median error of an atom 0.0015 Å",
        ),
        "CHBrClF": Case(
            *(charged("CHBrClF", 1), coulex.Gaussian(sigma=0.2 * ANGSTROM), "random"),
            *(2_000_000, large, long),
            goal="error of an atom 0.01 bohr",
        ),
    }


def events(case: Case, seed: int, count: int) -> dict[str, np.ndarray]:
    """Return geometries and momenta as a file would hold them."""
    x, p = case.ensemble.sample(case.molecule, seed=seed, first=0, count=count)
    x, p = coulex.ensemble.orient(x, p, how=case.orientation, seed=seed, first=0)
    run = coulex.simulate(x, case.molecule.ion_masses, case.molecule.charges)
    good = run.status == 0
    m = case.molecule
    return {
        **{"initial_positions": x[good], "momenta": run.momenta[good]},
        **{"masses": m.ion_masses, "charges": m.charges, "numbers": m.numbers},
    }


def errors(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return errors of positions (m, ions, 3) about their centre of mass, in bohr."""
    off = found - true
    deviation = true.std(axis=0)
    varies = deviation > 1e-9 * deviation.max()
    distance = np.linalg.norm(off, axis=2)
    return {
        "mse_standardised": float(
            ((off / np.where(varies, deviation, 1)) ** 2)[:, varies].mean()
        ),
        "atom_mean": float(distance.mean()),
        "atom_median": float(np.median(distance)),
        "atom_99": float(np.quantile(distance, 0.99)),
        "atom_rms": float(np.sqrt((distance**2).mean())),
    }


def train(case: Case, arrays) -> tuple[Mlp, dict[str, float]]:
    """Return a trained network and what it cost."""
    geometry = Geometry.fit(
        arrays, coordinates="shape", size="ker", conditions=("scale-free",)
    )
    torch.manual_seed(case.training.seed)
    model = Mlp(case.options, geometry)
    begin, busy = time.perf_counter(), time.process_time()
    result = fit(model, Arrays(arrays, CONSTANTS), case.training)
    return model, {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - busy,
        "samples": result.samples,
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation_loss": result.history.best_loss(),
    }


def predictions(model: Mlp, arrays) -> np.ndarray:
    """Return positions (m, ions, 3) of the momenta of a set."""
    drawn, _ = Sampler(model)(
        arrays["momenta"],
        1,
        charges=arrays["charges"],
        masses=arrays["masses"],
        noise=None,
        rng=np.random.default_rng(0),
    )
    return drawn[:, 0]


def floor(case: Case, model: Mlp, arrays, count: int) -> dict[str, dict[str, float]]:
    """Return the errors of the mean over all geometries, and of the most probable one."""
    m, arrays = case.molecule, {**arrays, "momenta": arrays["momenta"][:count]}
    x = arrays["initial_positions"][:count]
    p = coulex.simulate(x, m.ion_masses, m.charges, tolerance=1e-13).momenta
    found = coulex.invert(p, m.ion_masses, m.charges, prior=(case.ensemble, m))
    event, weight = found.solution_event, found.solution_weight
    mean = np.zeros(x.shape)
    np.add.at(mean, event, weight[:, None, None] * about_centre(found.solution_positions, m))
    solved = np.bincount(event, minlength=len(x)) > 0
    true, mean, best = (
        in_frame(case, model, arrays, y)[solved] for y in (x, mean, found.positions)
    )
    return {
        "mean of all solutions": errors(mean, true),
        "most probable solution": errors(best, true),
    }


def in_frame(case: Case, model: Mlp, arrays, positions) -> np.ndarray:
    """Return positions about the centre of mass, in the frame in which they are judged."""
    x = about_centre(positions, case.molecule)
    if case.orientation == "given":
        return x
    first, second = model.representation.axes
    return frames.rotate(
        x, frames.recoil_frame(arrays["momenta"], reference=first, second=second)
    )


def about_centre(x, molecule):
    """Return positions about their centre of mass."""
    return x - frames.centre_of_mass(x, molecule.ion_masses)[:, None]


def measured(case: Case, *, floor_events: int, quick: bool) -> dict[str, dict]:
    """Return rows by name, and the cost."""
    if quick:
        case = replace(case, events=20_000, training=replace(case.training, epochs=1))
    arrays = events(case, seed=1, count=case.events)
    test = events(case, seed=TEST_SEED, count=2000 if quick else TEST_EVENTS)
    model, cost = train(case, arrays)
    turned = [in_frame(case, model, p, p["initial_positions"]) for p in (arrays, test)]
    middle, true = turned[0].mean(axis=0), turned[1]
    rows = {"mean of the training": errors(np.broadcast_to(middle, true.shape), true)}
    rows["network alone"] = errors(in_frame(case, model, test, predictions(model, test)), true)
    if floor_events and parallel.rank_and_world()[0] == 0:
        rows |= floor(case, model, test, floor_events)
    return {"rows": rows, "cost": cost, "goal": case.goal}


def report(name: str, result: dict) -> None:
    """Print what a case came to."""
    cost = result["cost"]
    print(
        f"\n{name}; goal: {result['goal']}\n"
        f"  {cost['parameters']:,} parameters, {cost['samples']:,} samples, "
        f"{cost['seconds']:.0f} s ({cost['cpu_seconds']:.0f} s of each core)\n"
        f"  {'':24s}{'MSE/σ²':>10s}{'mean':>10s}{'median':>10s}{'99 %':>10s}{'rms':>10s} bohr"
        f"{'median':>10s} Å"
    )
    for label, e in result["rows"].items():
        atom = [e[key] for key in ("atom_mean", "atom_median", "atom_99", "atom_rms")]
        print(
            f"  {label:24s}{e['mse_standardised']:10.2e}"
            + "".join(f"{value:10.2e}" for value in atom)
            + f"{'':5s}{e['atom_median'] / ANGSTROM:10.2e}"
        )


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=[*cases()], help="one of them alone")
    parser.add_argument("--floor", type=int, default=0, metavar="N", help="events to invert")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    o = parser.parse_args()
    parallel.start("cpu")
    rank, world = parallel.rank_and_world()
    machine = platform.processor() or platform.machine()
    if rank == 0:
        threads = f"{world} processes of {torch.get_num_threads()} threads"
        print(f"{machine}, torch {torch.__version__}, {threads}", flush=True)
    results = {}
    for name, case in cases().items():
        if o.case in (None, name):
            results[name] = measured(case, floor_events=o.floor, quick=o.quick)
            if rank == 0:
                report(name, results[name])
    if o.json and rank == 0:
        o.json.write_text(json.dumps(results, indent=1))
    parallel.end()


if __name__ == "__main__":
    main()
