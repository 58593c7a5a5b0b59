"""Environments of amorphous silicon: learned, drawn, bridged, and completed.

    python examples/environments.py [--structure FILE] [--events 512] [--epochs 60] [--out .]

Without a file a glass of 512 atoms is made by melting and cooling (the extra `md`, a few
minutes; with fewer events a quick one), and where that is not installed, a shaken crystal
stands in for it, which says nothing of glasses. An autoencoder learns the environments of half
of the atoms. Then

- a scorecard says how its draws compare with the other half, floors beside it;
- a way between two environments is drawn, through the latents and as a straight line;
- two of eight neighbours are hidden and searched for.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk

from coulex.plot_motifs import completions, ways
from generative import Arrays, Training, fit, model_class
from generative.gram import environments, interpolate
from generative.gram.finding import hidden, rates
from generative.gram.infill import infill
from generative.gram.representation import Environments
from generative.scorecard.environments import environments as scorecard
from generative.silicon import MissingExtraError, Quench, glass
from generative.structures import Structure, read

ROWS = ("w_bond", "w_angle", "w_pair", "clash", "novelty", "coverage")


def main():
    """Learn, draw, go from one to another, complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structure", type=Path)
    parser.add_argument(
        "--events", type=int, default=512, help="atoms of a glass, at most 512"
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()

    structures = read(options.structure) if options.structure else [made(options.events)]
    every = environments.of(structures)["neighbours"]
    every = np.random.default_rng(1).permutation(every)
    known, new = np.array_split(every, 2)
    model = trained(known, options.epochs)

    drawn = model.sample(torch.zeros(len(new), 0), 1, torch.Generator().manual_seed(1))
    card, floors = scorecard(drawn[:, 0].numpy(), new, known, shell=4, clash=2.0)
    rows = {"drawn": card, **{name: floors[name] for name in ("noise_floor", "memoriser")}}
    print(f"{'':>12}" + "".join(f"{name:>10}" for name in ROWS))
    for name, row in rows.items():
        print(f"{name:>12}" + "".join(f"{row.metrics[key]:10.3g}" for key in ROWS))

    a, b = new[:1], new[1:2]
    strips = {
        "latents": interpolate.latent(model, a, b, 7)[0],
        "straight": interpolate.geodesic(a, b, 7)[0],
    }
    ways(strips).savefig(options.out / "ways.png")

    told, missing = hidden(new[:100], 6, np.random.default_rng(1))
    found = infill(model, told, 10, torch.Generator().manual_seed(1))[:, :, 6:]
    share = rates(found, missing)
    print(
        f"both of 2 hidden atoms within 0.5 Å: {share['first']:.0%} by the first completion,"
    )
    print(f"{share['best']:.0%} by one of ten, of {len(told)} environments")
    completions(told[:3], missing[:3], {"searched": found[:3, :1]}).savefig(
        options.out / "completions.png"
    )


def made(atoms):
    """Return a glass, or a shaken crystal."""
    try:
        return glass(Quench(atoms=min(atoms, 512), cooling=250.0 if atoms >= 512 else 20.0))
    except MissingExtraError as error:
        print(f"{error}: a shaken crystal stands in")
    crystal = bulk("Si", cubic=True) * (4, 4, 4)
    crystal.rattle(0.08, seed=1)
    return Structure(
        positions=crystal.positions,
        cell=crystal.cell.array,
        periodic=np.ones(3, bool),
        numbers=crystal.numbers,
    )


def trained(known, epochs):
    """Return an autoencoder of environments (m, 8, 3)."""
    kind = model_class("gram-vae")
    torch.manual_seed(1)
    model = kind(kind.options_type(), Environments.fit({"neighbours": known}))
    training = Training(epochs=epochs, batch_size=32, learning_rate=2e-3, ema=0.99)
    result = fit(model, Arrays({"neighbours": known}), training)
    print(f"{len(known)} environments, {result.seconds:.0f} s of training")
    return model


if __name__ == "__main__":
    main()
