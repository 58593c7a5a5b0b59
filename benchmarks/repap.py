"""RePAP beside its floors and baselines, at the price of its training; and how fast it is.

    python benchmarks/repap.py melt.h5 --models runs/published runs/best --energies
    python benchmarks/repap.py --quick

The trajectory is one of `coulex make silicon-trajectory`, or any that ASE reads; each model is
a folder of `coulex train repap`. RDFs are compared with that of the whole trajectory, 1000
structures a row; nats are of the frames kept for tests, for one coordinate on the cells of the
grid of each model, and so compare on one grid only. `--other` names another run, whose
distance says how far two runs are from each other; `--outside` names trajectories that nothing
was learned from, whose nats are printed.

Speeds: training and drawing, of the published network and of the default, in CPU seconds of
one thread; on a GPU (`--device cuda`) in seconds of the wall.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import Clock, in_turn, machine, rate, rates, table

from generative.files import load, read_about
from generative.recipe import Training
from generative.repap.frames import Frames
from generative.repap.judge import Yardstick, judge, nll_per_coordinate, thinned
from generative.repap.model import Repap, RepapOptions
from generative.repap.representation import Sequences
from generative.representation import Batch
from generative.train import fit
from generative.trajectories import Trajectory

CLOSE = 2.0  #: Å

COLUMNS = {
    "Err RDF": "err_rdf",
    "RMSE RDF": "rdf_rmse",
    "pairs < 2 Å": "close_pairs",
    "nats": "nll_per_coordinate",
    "impossible": "impossible",
    "spread": "spread",
    "redraws": "redraws",
    "unfinished": "unfinished",
    "eV/atom": "energy",
    "relaxed": "relaxed",
    "structures/s": "structures_per_second",
    "training/s": "training_seconds",
}


def main():
    """Measure what was asked for."""
    args = arguments()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    found = {"machine": machine(device)}
    if args.quick:
        source = crystal()
        with tempfile.TemporaryDirectory() as folder:
            models = quick_models(source, Path(folder))
            found["quality"] = quality(source, models, args)
    elif args.trajectory:
        source = Frames.of(args.trajectory)
        found["quality"] = quality(source, args.models, args)
    else:
        source = crystal(atoms=30)
    found["speed"] = speed(source, device, args)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trajectory", nargs="*", type=Path)
    parser.add_argument("--models", nargs="*", type=Path, default=[])
    parser.add_argument("--other", type=Path, help="another run, to compare with")
    parser.add_argument("--outside", nargs="*", type=Path, default=[], help="of other states")
    parser.add_argument("--energies", action="store_true", help="by EDIP; needs LAMMPS")
    parser.add_argument("-n", type=int, default=1000, help="structures of each row")
    parser.add_argument("--sharpening", type=float, default=1.15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="seconds, on a made-up crystal")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.n = 100
    return args


def quality(source, folders, args):
    """Print and return the table of a trajectory."""
    energies = relaxed = None
    if args.energies:
        from generative.silicon import energies, relax

        def relaxed(structures):
            return relax(structures, "edip")[0]

    rows = {}
    for folder in folders:
        model = load(folder)
        near = {"closest": CLOSE, "sharpening": args.sharpening}
        ways = {f"{folder.name}, no redraws": {"redraws": 0}, folder.name: {}}
        ways[f"{folder.name}, sharpened, none < {CLOSE:g} Å"] = near
        found = judge(
            model, source, n=args.n, close=CLOSE, energies=energies, relaxed=relaxed, ways=ways
        )
        floors = {k: v for k, v in found.items() if k not in ways}
        cells = model.grid.cells
        rows |= {f"{k} ({cells} cells)": v for k, v in floors.items()}
        seconds = read_about(folder)["about"].get("summary", {}).get("seconds")
        for name in ways:
            rows[name] = found[name] | ({"training_seconds": seconds} if seconds else {})
        for file in args.outside:
            strange = nll_per_coordinate(model, Frames.of([file]))
            rows[f"{folder.name} on {file.stem}"] = strange
    if args.other and folders:
        rows["another run"] = other_run(load(folders[-1]), source, args)
    print(
        f"\n{source.n_events:,} frames, worth {source.effective:.0f} independent ones; "
        f"correlation times {', '.join(f'{t:.0f}' for t in source.times)} frames, gaps "
        f"between parts {', '.join(map(str, source.gaps))}"
    )
    table("quality", rows, {k: cell(v) for k, v in COLUMNS.items()})
    return rows


def other_run(model, source, args):
    """Return how far another run is from a trajectory."""
    seen, other = model.sequences, Frames.of([args.other])
    rng = np.random.default_rng(0)

    def frames(run, n):
        plain = Sequences.of({**seen.describe(), "augment": "none"})
        arrays = {**run.constants, "positions": thinned(run.positions, n)}
        return plain.encode(arrays, rng)[0]

    return Yardstick.of(frames(source, 4000), seen, CLOSE).measure(frames(other, args.n))


def cell(key):
    """Return a column of numbers."""

    def shown(row):
        value = row[key]
        if key in ("nll_per_coordinate", "energy", "relaxed"):
            return f"{value:.3f}"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

    return shown


def speed(source, device, args):
    """Print and return rates of training and drawing."""
    training, drawing = {}, {}
    clock = Clock(device)
    for name, options, batch in (
        ("published", RepapOptions.preset("published"), 32),
        ("default", RepapOptions(), 32),
    ):
        order = {"order": "mean-distance", "augment": "none"} if name == "published" else {}
        seen = Sequences.fit(source.for_training(1), **order)
        torch.manual_seed(0)
        model = Repap(options, seen).to(device)
        x, c = seen.encode(source.read(0, 256), np.random.default_rng(0))
        held = Batch(*(torch.from_numpy(a).float().to(device) for a in (x, c)))
        model.standardise(iter([held]))
        some = Batch(*(t[:batch] for t in held))
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def step(model=model, some=some, optimizer=optimizer):
            model.zero_grad()
            model.loss(some)["loss"].backward()
            optimizer.step()

        n = 50 if args.quick else 500
        generator = torch.Generator(device).manual_seed(0)

        def draw(model=model, n=n, generator=generator):
            model.sample(torch.zeros(1, 0, device=model.first.device), n, generator)

        training[name], drawing[name] = (step, batch), (draw, n)
    found = {}
    seconds = 0.2 if args.quick else 3.0
    for kind, calls in (("training", training), ("drawing", drawing)):
        timed = in_turn({k: v[0] for k, v in calls.items()}, clock, rounds=3, seconds=seconds)
        for name, each in timed.items():
            found.setdefault(name, {})[kind] = rates(each, calls[name][1])
    columns = {
        "training, frames/s": rate("training"),
        "drawing, structures/s": rate("drawing"),
    }
    table(f"speed on {device}", found, columns)
    return found


def crystal(frames=600, atoms=8, seed=0):
    """Return a made-up trajectory: atoms normal about their places."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.unravel_index(np.arange(atoms), (4, 4, 2)), 1) * 2.5 + 1.2
    off = 0.12 * rng.normal(size=(frames, atoms, 3))
    cell = np.diag([10.0, 10.0, 5.0])
    numbers = np.full(atoms, 14)
    return Frames([Trajectory(places + off, cell, np.ones(3, bool), numbers)])


def quick_models(source, folder):
    """Train both kinds for a moment."""
    made = []
    for name, options in (
        ("published", {"network": "lstm", "head": "sigmoid-mse", "cells": 50, "width": 16}),
        ("best", {"cells": 100, "width": 16, "orders": 8}),
    ):
        seen = Sequences.fit(source.for_training(1), order="mean-distance", augment="none")
        torch.manual_seed(0)
        model = Repap(RepapOptions(**options), seen)
        result = fit(model, source, Training(epochs=2, batch_size=32, learning_rate=3e-3))
        made.append(folder / name)
        made[-1].mkdir()
        model.save(made[-1], summary={"seconds": result.seconds})
    return made


if __name__ == "__main__":
    main()
