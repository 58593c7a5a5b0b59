"""A crystal of table salt, learned one coordinate at a time.

    python examples/repap.py [--events 3000] [--epochs 3] [--out .]

Eight ions on springs in a periodic cube at 300 K: normal about their places, with a covariance
that is known. So the least that any model can say about a coordinate, in nats, is known too,
and the table shows how near the network comes; beside it are floors and simpler models. Two
figures follow: the radial distributions, and the density along the axes as it is predicted.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from coulex.plot_structures import projected_densities, radial_distributions
from generative.recipe import Training
from generative.repap.frames import Frames
from generative.repap.judge import WIDTH, densities, judge
from generative.repap.model import Repap, RepapOptions
from generative.repap.representation import Sequences
from generative.structures.rdf import rdf
from generative.train import fit
from generative.trajectories import Trajectory

LATTICE = 5.64  #: Å
SPRING = 0.8  #: eV/Å² between neighbours
HOLD = 0.4  #: eV/Å² to the place of each ion
KT = 0.02585  #: eV, 300 K


def salt(frames, seed=0):
    """Return a trajectory of NaCl whose frames are independent."""
    places = np.stack(np.unravel_index(np.arange(8), (2, 2, 2)), 1)
    numbers = np.where(places.sum(1) % 2, 17, 11)
    stiffness = np.eye(24) * HOLD
    for i, j in zip(*np.triu_indices(8, 1), strict=True):
        along = np.abs(places[i] - places[j])
        if along.sum() == 1:  # neighbours, by two faces of the cell
            for a in range(3):
                k = 2 * SPRING * (1.0 if along[a] else 0.2)
                for p, q, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                    stiffness[3 * p + a, 3 * q + a] += sign * k
    factor = np.linalg.cholesky(KT * np.linalg.inv(stiffness))
    z = np.random.default_rng(seed).normal(size=(frames, 24))
    positions = (places + 0.5) * LATTICE / 2 + (z @ factor.T).reshape(frames, 8, 3)
    return Trajectory(positions, np.eye(3) * LATTICE, np.ones(3, bool), numbers)


def main():
    """Train, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=3000, help="frames")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args()

    source = Frames([salt(args.events)])
    print(*source.notes, sep="\n")
    seen = Sequences.fit(source.for_training(1))
    print(f"order {seen.order}, augmentation {seen.augment}")
    torch.manual_seed(1)
    model = Repap(RepapOptions(cells=100, width=32, orders=16), seen)
    training = Training(epochs=args.epochs, batch_size=64, learning_rate=1e-3, ema=0.99)
    result = fit(model, source, training)
    print(f"{result.samples:,} frames learned in {result.seconds:.0f} s")

    rows = judge(model, source, n=500)
    print(f"\n{'':12}{'Err RDF':>9}{'nats':>8}{'spread':>8}{'redraws':>9}")
    for name, row in rows.items():
        cells = [row.get(k) for k in ("err_rdf", "nll_per_coordinate", "spread", "redraws")]
        said = [f"{v:.3f}" if v is not None else "-" for v in cells]
        print(f"{name:12}{said[0]:>9}{said[1]:>8}{said[2]:>8}{said[3]:>9}")

    drawn, _ = model.draw(torch.zeros(1, 0), 500, torch.Generator().manual_seed(1))
    real = seen.encode(source.read(0, source.n_events), np.random.default_rng(0))[0]
    scattered = np.random.default_rng(0).random((500, 8, 3)) * LATTICE
    frames = {"trajectory": real, "drawn": drawn[0].double().numpy(), "random": scattered}
    curves = {}
    for name, some in frames.items():
        # over images of the cell, whose half ends at the nearest neighbours
        r, curves[name] = rdf(some, LATTICE, WIDTH, cell=np.eye(3) * LATTICE)
    radial_distributions(r, curves, below="NaCl").savefig(args.out / "salt-radial.png")
    figure = projected_densities(np.full(3, LATTICE), *densities(model, source))
    figure.savefig(args.out / "salt-densities.png")


if __name__ == "__main__":
    main()
