"""Networks: trained on simulated explosions, asked about new ones, proven by the solver.

    python examples/networks.py [--events 100000] [--epochs 10] [--out .]

For OCS, then for CHBrClF: a file of events is simulated; a regressor learns one geometry for
each event's momenta, and a flow a distribution of geometries, given momenta with noise and its
level. Both are asked about events that they never saw. The solver then starts from what the
flow draws: what it returns is proven by simulating it again, whatever the network said.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import coulex
from coulex import frames
from coulex.dataset import Target
from coulex.production import run
from coulex.units import ANGSTROM
from generative import Events, Geometry, Sampler, Training, fit, load, model_class

#: charges of the ions, displacement of each atom in Å, noise that the flow is asked about
CASES = {"OCS": ([2, 2, 2], 0.05, 0.01), "CHBrClF": ([1, 1, 1, 1, 1], 0.2, 0.01)}


def main():
    """Study both molecules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    for name, (charges, sigma, noise) in CASES.items():
        molecule = coulex.Molecule.named(name).with_charges(charges)
        ensemble = coulex.Gaussian(sigma=sigma * ANGSTROM)
        path = options.out / f"train_{name.lower()}.h5"
        simulate(path, molecule, ensemble, options.events)
        networks = {}
        for kind in ("mlp", "flow"):
            folder = options.out / f"{kind}_{name.lower()}"
            networks[kind] = train(kind, path, folder, options.epochs)
        judge(networks, molecule, ensemble, noise)


def simulate(path, molecule, ensemble, n):
    """Write a file of explosions, unless it is there."""
    production = coulex.Production(molecule=molecule, ensemble=ensemble, n=n)
    provenance = {"command": "examples/networks.py"}
    target = Target(path, production.configuration(), provenance, n, resume=path.exists())
    with target:
        run(production, target)
        target.finalize()


def train(kind, path, folder, epochs):
    """Return a model of geometries, trained on a file and kept in a folder."""
    network = model_class(kind)
    options = network.options_type()
    events = Events(path, Geometry.needs, Geometry.optional)
    seen = options.REPRESENTATION.get("default", {})
    geometry = Geometry.fit(events.for_training(seed=1), **seen)
    torch.manual_seed(1)
    model = network(options, geometry)
    batch_size = min(512, events.n_events // 10)
    result = fit(model, events, Training(epochs=epochs, batch_size=batch_size))
    folder.mkdir(exist_ok=True)
    model.save(folder, data=str(path.name))
    loss = result.history.best_loss()
    print(f"{kind}, {path.name}: loss {loss:.4g} after {result.seconds:.0f} s")
    return Sampler(load(folder))


def judge(networks, molecule, ensemble, noise):
    """Print how far draws are from the truth, alone and as starts of the solver."""
    truth, _ = ensemble.sample(
        molecule, seed=2, first=0, count=200
    )  # another seed: new events
    masses, charges = molecule.ion_masses, molecule.charges
    momenta = coulex.simulate(truth, masses, charges, tolerance=1e-13).momenta
    ions = {"masses": masses, "charges": charges}
    for kind, sampler in networks.items():
        level = None if sampler.geometry.noise is None else noise
        drawn, _ = sampler(momenta, 50, noise=level, rng=np.random.default_rng(1), **ions)
        _, error = frames.kabsch(drawn.mean(axis=1), truth)
        print(f"  {kind} alone: median error {np.median(error) / ANGSTROM:.4f} Å")
    for what, sampler in (("without a network", None), ("from the flow", networks["flow"])):
        found = coulex.invert(
            momenta, masses, charges, prior=(ensemble, molecule), sampler=sampler
        )
        near = frames.kabsch(found.solution_positions, truth[found.solution_event])[1] < 1e-6
        right = np.bincount(found.solution_event[near], minlength=len(truth)) > 0
        print(f"  solver {what}: truth among the solutions of {right.sum()} of {len(right)}")


if __name__ == "__main__":
    main()
