"""The published table of CVAE and cINN, measured again: as published, and as they should be.

    python benchmarks/published_table.py [--set NAME] [--recipe NAME] [--json FILE] [--quick]

Sets are those of `published_data`, 10,000 events each, split 70/15/15. Published recipes see
raw components of positions and momenta; corrected ones the frame of the momenta. All predict
the test part, one draw for an event, as was published, and the mean of 32. Beside them stand
the mean of the training positions, draws of the exact posterior, and the least squared error
that anybody can reach (`floor`).

With --json, rows are added to those that the file holds, so that pieces can be run one by one;
the table is of all rows.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_data import CHARGES, MASSES, PUBLISHED, REASONS, SETS, Set, centred

from generative import metrics
from generative.data import PARTS, Arrays, part_of
from generative.geometry import Geometry
from generative.model import Model, model_class
from generative.recipe import Training, TrainingError
from generative.representation import as_batch
from generative.sampler import Sampler
from generative.train import fit

EVENTS, DRAWS, SEED = 10_000, 32, 1

RAW = {"frame": "given", "coordinates": "positions", "conditions": ("momenta",)}
#: where positions are in no frame that the momenta know, size and shape are all these tell
LOST = {"frame": "given", "coordinates": "jacobi", "size": "drawn"}


@dataclass(frozen=True)
class Recipe:
    """A model, and how it is trained."""

    model: str
    preset: str | None  #: "published", or None: corrected
    changes: tuple[tuple[str, Any], ...] = ()  #: of the options of the model

    def training(self, **changes: Any) -> Training:
        """Return how it is fitted."""
        return Training(**(self._own("TRAINING") | {"seed": SEED} | changes))

    def representation(self, arrays: dict[str, np.ndarray], *, together: bool) -> Geometry:
        """Return what it sees."""
        own = self._own("REPRESENTATION")
        if self.preset:
            return Geometry.fit(arrays, **RAW | own)
        if not together:
            told = own.get("conditions", ("scale-free",))
            own = own | LOST | {"conditions": tuple(dict.fromkeys((*told, "log-ker")))}
        return Geometry.fit(arrays, **own)

    def build(self, representation: Geometry) -> Model:
        """Return the untrained model."""
        kind = model_class(self.model)
        torch.manual_seed(SEED)
        return kind(
            kind.options_type.preset(self.preset, **dict(self.changes)), representation
        )

    def _own(self, table: str) -> dict[str, Any]:
        options = model_class(self.model).options_type
        return getattr(options, table).get(self.preset or "default", {})


RECIPES = {
    "cvae-two-stage, published": Recipe("cvae-two-stage", "published"),
    "cvae, published": Recipe("cvae", "published"),
    "cinn-latent, published": Recipe("cinn-latent", "published"),
    "cinn, published": Recipe("cinn", "published"),
    "cvae, weak KL": Recipe("cvae", "published", (("kl_weight", 1e-3),)),
    "mlp": Recipe("mlp", None),
    "cvae": Recipe("cvae", None),
    "cinn": Recipe("cinn", None),
    "flow": Recipe("flow", None),
}


def measure(recipe: Recipe, data: Set, *, draws: int = DRAWS, **training: Any) -> dict:
    """Train a recipe on a set, and return how far its predictions of the test part are off."""
    part = part_of(SEED, 0, len(data.positions))
    train, test = (part == list(PARTS).index(name) for name in ("train", "test"))
    learned = data.arrays | {
        "initial_positions": data.positions[train],
        "momenta": data.momenta[train],
    }
    model = recipe.build(recipe.representation(learned, together=data.together))
    source = Arrays(data.arrays, constants=("charges", "masses", "numbers"))
    begin, note = time.process_time(), ""
    try:
        result = fit(model, source, recipe.training(**training))
        epochs = len(result.history.rows)
    except TrainingError as error:
        epochs, note = 0, str(error).split(";")[0]
    seconds = time.process_time() - begin
    ions = {"charges": CHARGES, "masses": MASSES}
    drawn, _ = Sampler(model)(
        data.momenta[test], draws, **ions, noise=None, rng=np.random.default_rng(SEED)
    )
    raw = model.representation.coordinates == "positions"
    positions = data.positions if raw else centred(data.positions)
    spread = positions[train].std(axis=0)
    return {
        **errors(drawn, positions[test], spread),
        **latents(model.eval(), data.momenta[test], positions[test]),
        "origin": "as in the file" if raw else "centre of mass",
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epochs,
        "seconds": seconds,
        "note": note,
    }


@torch.no_grad()
def latents(model: Model, momenta: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return how much latents say of events, and the error where they may say it."""
    if not hasattr(model, "reconstruction"):
        return {}
    seen = model.representation
    x, condition = seen.encode_positions(true, momenta), seen.encode_momenta(momenta)
    batch = as_batch(x, condition)
    torch.manual_seed(SEED)
    parts = {key: float(value) for key, value in model.loss(batch).items()}
    back = model.reconstruction(*batch).double().numpy()
    positions, _ = seen.decode(back[:, None], momenta)
    told = {key: parts[key] for key in ("kl", "active_units") if key in parts}
    return told | {"mse_true_latent": metrics.point_errors(positions[:, 0], true).mse}


def errors(drawn: np.ndarray, true: np.ndarray, spread: np.ndarray) -> dict[str, float]:
    """Return the errors of draws (m, n, ions, 3), one by one and of their mean."""
    one = metrics.point_errors(drawn[:, 0], true, spread=spread)
    mean = metrics.point_errors(metrics.mean_of(drawn), true, spread=spread)
    return {
        "mse": one.mse,
        "mae": one.mae,
        "mre": one.mre,
        "mse_standardised": one.mse_standardised,
        "mse_of_mean": mean.mse,
        "crps": float(metrics.crps(drawn, true).mean()),
        "distance_mae": float(metrics.distance_errors(drawn[:, 0], true).mean()),
    }


def references(data: Set) -> dict[str, dict[str, float]]:
    """Return the rows of predicting the mean of training positions, and of the posterior."""
    part = part_of(SEED, 0, len(data.positions))
    train, test = (part == list(PARTS).index(name) for name in ("train", "test"))
    rows = {}
    for about, moved, floor in (
        ("", lambda x: x, data.floor),
        (", centred", centred, data.floor_centred),
    ):
        true, learned = moved(data.positions[test]), moved(data.positions[train])
        mean = np.broadcast_to(learned.mean(axis=0), (len(true), 1, *true.shape[1:]))
        rows[f"the mean{about}"] = errors(mean, true, learned.std(axis=0))
        if data.posterior and floor:
            exact = moved(data.posterior(np.random.default_rng(SEED), DRAWS)[test])
            rows[f"exact posterior{about}"] = errors(exact, true, learned.std(axis=0))
    return rows


COLUMNS = {
    "mse": "MSE",
    "mae": "MAE",
    "mre": "MRE",
    "mse_standardised": "standardised",
    "mse_of_mean": "MSE of mean",
    "crps": "CRPS",
    "distance_mae": "distances",
}


LATENTS = {
    "kl": "KL (nats)",
    "active_units": "active units",
    "mse_true_latent": "MSE, true latent",
    "mse": "MSE, drawn latent",
    "mse_of_mean": "MSE of mean",
    "crps": "CRPS",
}


def table(rows: dict[str, dict[str, dict]], sets: dict[str, Set]) -> str:
    """Return the table of each set, and what its latents say, in Markdown."""
    lines = []
    for name, data in sets.items():
        lines += [
            "",
            f"**{name}**: {data.says} ({data.published or 'no published file'}). Floor "
            f"{data.floor:.3g} bohr², about the centre of mass {data.floor_centred:.3g}.",
            "",
        ]
        known = PUBLISHED[data.published]
        ours = {
            row: {"published": known.get(row, "")} | values
            for row, values in (references(data) | rows.get(name, {})).items()
        }
        cost = {"epochs": "epochs", "seconds": "CPU s"}
        lines += markdown({"published": "published"} | COLUMNS | cost, ours)
        lines += ["", *(f"- {reason}" for reason in REASONS[name])]
        told = {row: values for row, values in ours.items() if "mse_true_latent" in values}
        if told:
            lines += ["", *markdown(LATENTS, told)]
    return "\n".join(lines)


def markdown(columns: dict[str, str], rows: dict[str, dict]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for row, values in rows.items():
        cells = (values.get(key, "") for key in columns)
        told = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"| {row} | {' | '.join(told)} |")
    return lines


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", choices=list(SETS))
    parser.add_argument("--recipe", action="append", choices=list(RECIPES))
    parser.add_argument("--epochs", type=int, help="fewer than a recipe has")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps, to see that it runs"
    )
    options = parser.parse_args()
    events = 2000 if options.quick else EVENTS
    epochs = 1 if options.quick else options.epochs
    changes = {"epochs": epochs} if epochs else {}
    print(
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
    )
    path = Path(options.json) if options.json else None
    rows = json.loads(path.read_text()) if path and path.exists() else {}
    sets = {name: SETS[name](np.random.default_rng(SEED), events) for name in SETS}
    for name in options.set or list(sets)[: 2 if options.quick else None]:
        for recipe in options.recipe or RECIPES:
            print(f"{name}: {recipe}", flush=True)
            row = measure(RECIPES[recipe], sets[name], **changes)
            rows.setdefault(name, {})[recipe] = row
            if path:
                path.write_text(json.dumps(rows, indent=1))
    print(table(rows, {name: data for name, data in sets.items() if name in rows}))


if __name__ == "__main__":
    main()
