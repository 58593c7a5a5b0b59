"""A data set for training: float32 explosions of CHBrClF, written once, mapped into memory.

    python examples/training_data.py [--events 1000000] [--out .]

Five different ions keep the handedness of the molecule in their momenta. The file is what
`coulex simulate` writes; its arrays are contiguous, so that a training loop reads batches of
them through the page cache, without loading the file.
"""

import argparse
from pathlib import Path

import numpy as np

import coulex
from coulex.dataset import Target
from coulex.production import run
from coulex.units import ANGSTROM


def main():
    """Write the file, and read a shuffled batch back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()

    production = coulex.Production(
        molecule=coulex.Molecule.named("CHBrClF").with_charges([1, 1, 1, 1, 1]),
        ensemble=coulex.Gaussian(sigma=0.2 * ANGSTROM),
        orientation="recoil",
        n=options.events,
        precision="float32",
    )
    path = options.out / "chbrclf.h5"
    provenance = {"command": "examples/training_data.py"}
    with Target(path, production.configuration(), provenance, production.n) as target:
        work = run(production, target)
        target.finalize()
    print(f"{work.events} events in {work.seconds:.1f} s")

    data = coulex.open(path)
    (momenta,), (positions,) = data.map("momenta"), data.map("initial_positions")
    batch = np.sort(np.random.default_rng(1).choice(data.n_events, 512, replace=False))
    print("a batch:", momenta[batch].shape, momenta.dtype, positions[batch].shape)


if __name__ == "__main__":
    main()
