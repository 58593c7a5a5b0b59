"""Environments as published and corrected, side by side: what they reach, and what it costs.

    python benchmarks/gram.py [--train FILE] [--judge FILE] [--models NAME,...] [--json FILE]
        [--epochs N] [--quick]

Trains each model by the one loop on the atoms of one structure, and judges it on those of
another: reconstruction (R² of all entries of G about their own means, and the root mean square
distance of atoms after the best rotation), the scorecard of draws, and infilling with 7, 6 and
5 known atoms, any of 8, in the frame of the known ones. Times are of one core; the rows of
floors are those of `coulex score`. Without files, two cells of silicon that are shaken, which
proves that all runs and nothing else; --quick makes everything small.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generative import scorecard
from generative.data import Stream
from generative.gram.finding import hidden, rates
from generative.gram.gram import gram, upper
from generative.gram.infill import infill
from generative.gram.representation import Environments, Surroundings
from generative.gram.synchronise import rmsd
from generative.model import Model, model_class
from generative.recipe import Training
from generative.train import fit

KNOWN, DRAWS = (7, 6, 5), 10
SHELL, CLASH = 4, 2.0  #: of silicon: bonds, and Å
EDGE = 5.431  #: Å, of the cubic cell of silicon


@dataclass(frozen=True)
class Row:
    """A model, how it is trained, and how it sees environments."""

    name: str
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "VAE as published": Row("gram-vae", "published"),
    "VAE, canonical labels": Row("gram-vae"),
    "VAE, 21 latents": Row("gram-vae", "large"),
    "diffusion": Row("gram-diffusion"),
}
GOALS = {
    "r2": ".90 with 8 latents, .99 with 21",
    "rmsd": ".32 Å with 8 latents, .10 with 21",
    "clash": "VAE .15, best .01",
    "w_bond": ".006 Å",
    "w_angle": "≤ .17°",
    "w_pair": ".015 Å",
    "novelty": ".95-1.1",
    "coverage": "≥ .93",
    "fill_7": ".90",
    "fill_6": ".70",
    "fill_5": ".45",
}


def main() -> None:
    """Train, judge, print."""
    options = arguments()
    torch.set_num_threads(1)
    small = options.quick
    train, judge = (
        source(path, seed) for path, seed in ((options.train, 1), (options.judge, 2))
    )
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread; ", end="")
    print(f"trained on {options.train or 'shaken silicon'} ({train.n_events} atoms), ", end="")
    print(f"judged on {options.judge or 'shaken silicon'} ({judge.n_events})")
    wanted = options.models.split(",") if options.models else list(ROWS)
    table: dict[str, dict[str, float]] = {}
    for label in wanted:
        table[label], floors = measured(ROWS[label], train, judge, options.epochs, small)
        table |= {f"({name})": row for name, row in floors.items()}
        print(f"{label}: {json.dumps(table[label])}", flush=True)
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Gram models: what they reach, what they cost"
    )
    parser.add_argument("--train", type=Path, help="structure file")
    parser.add_argument("--judge", type=Path, help="another structure file")
    parser.add_argument("--models", help=", ".join(ROWS))
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def source(path: Path | None, seed: int) -> Surroundings:
    """Return the environments of a structure file, or of shaken silicon."""
    if path is not None:
        made = Environments.source([path])
    else:
        from generative.gram.environments import everywhere

        made = Surroundings(
            everywhere([shaken(seed)], neighbours=8, cutoff=4.5, centre="atom", context=0)
        )
    assert isinstance(made, Surroundings)
    return made


def shaken(seed: int):
    """Return 216 atoms of silicon, each moved by 0.15 Å on an axis."""
    from generative.structures import Structure

    corner = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    basis = np.concatenate([corner, corner + 1]) / 4
    shifts = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = EDGE * (basis + shifts).reshape(-1, 3)
    positions += np.random.default_rng(seed).normal(0, 0.15, positions.shape)
    return Structure(
        positions=positions,
        cell=3 * EDGE * np.eye(3),
        periodic=np.ones(3, bool),
        numbers=np.full(len(positions), 14),
    )


def measured(
    row: Row, train: Surroundings, judge: Surroundings, epochs: int | None, small: bool
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Train a model and return its numbers, and those of the floors."""
    kind = model_class(row.name)
    options = kind.options_type.preset(row.preset, **row.options)
    key = row.preset or "default"
    recipe = dict(kind.options_type.TRAINING.get(key, {}))
    if epochs or small:
        recipe["epochs"] = epochs or 2
    if small:
        recipe["batch_size"] = 32
    training = Training(**recipe)
    representation = Environments.fit(
        train.for_training(training.seed), **kind.options_type.REPRESENTATION.get(key, {})
    )
    torch.manual_seed(training.seed)
    model = kind(options, representation)
    begin = time.process_time()
    result = fit(model, train, training)
    seconds = time.process_time() - begin
    model.eval()
    numbers = {"train_s": seconds, "samples_per_s": result.samples / seconds}
    known, real = (everything(s, representation) for s in (train, judge))
    numbers |= reconstructed(model, real)
    n = 500 if small else 5000
    begin = time.process_time()
    drawn = model.sample(real.new_zeros(1, 0), n, generator())[0].double().numpy()
    numbers["draws_per_s"] = n / max(time.process_time() - begin, 1e-9)
    card, floors = scorecard.environments(
        drawn, real.double().numpy(), known.double().numpy(), shell=SHELL, clash=CLASH
    )
    numbers |= card.metrics
    if hasattr(model, "infill"):
        numbers |= filled(model, real.double().numpy()[: 20 if small else 500])
    return numbers, {name: floor.metrics for name, floor in floors.items()}


def everything(of: Surroundings, representation: Environments) -> torch.Tensor:
    """Return all environments of a source that are good, (m, 8, 3)."""
    stream = Stream(of, representation, "all", seed=1)
    return torch.cat([batch.x for batch in stream.batches(1 << 14)])


@torch.no_grad()
def reconstructed(model: Model, x: torch.Tensor) -> dict[str, float]:
    """Return how well an autoencoder gives back what it is shown."""
    if not hasattr(model, "reconstruction"):
        return {}
    again = model.reconstruction(x, x.new_zeros(len(x), 0)).double()  # type: ignore[operator]
    g, h = upper(gram(x.double())), upper(gram(again))
    missed = ((g - h) ** 2).sum() / ((g - g.mean(0)) ** 2).sum()
    return {"r2": 1 - float(missed), "rmsd": float(rmsd(x.double(), again).mean())}


def filled(model: Model, x: np.ndarray) -> dict[str, float]:
    """Return the shares of environments completed, by one draw and by the best of ten."""
    out = {}
    for k in KNOWN:
        known, missing = hidden(x, k, np.random.default_rng(k))
        drawn = infill(model, known, DRAWS, generator())[:, :, k:]
        share = rates(drawn, missing)
        out |= {f"fill_{k}": share["first"], f"best_{k}": share["best"]}
    return out


def generator() -> torch.Generator:
    """Return the random numbers of all draws."""
    return torch.Generator().manual_seed(1)


def show(table: dict[str, dict[str, float]]) -> None:
    """Print the table: numbers down, models across, goals last."""
    keys = list(dict.fromkeys(key for row in table.values() for key in row))
    print(f"\n| | {' | '.join(table)} | goal |\n|---|{'---|' * (len(table) + 1)}")
    for key in keys:
        cells = [f"{row[key]:.4g}" if key in row else "-" for row in table.values()]
        print(f"| {key} | {' | '.join(cells)} | {GOALS.get(key, '')} |")


if __name__ == "__main__":
    main()
