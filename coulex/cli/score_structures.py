"""The part of `coulex score` for files of structures: a table, or one JSON object."""

from pathlib import Path
from time import perf_counter
from typing import Any

import typer

from .output import print_json

_DATASETS = {".h5", ".hdf5", ""}

_WHOLE = {
    "err_rdf": "Err RDF",
    "rdf_rmse": "RMSE RDF",
    "close_pairs": "close pairs",
    "coordination": "bonds",
    "most_common_coordination": "usual bonds",
    "angle_mean": "angle/°",
    "angle_spread": "spread/°",
    "density": "g/cm³",
}
_ENVIRONMENTS = {
    "w_bond": "W bond/Å",
    "w_outer": "W outer/Å",
    "w_pair": "W pair/Å",
    "w_angle": "W angle/°",
    "clash": "clash",
    "novelty": "novelty",
    "coverage": "coverage",
    "mmd": "MMD²",
    "auc": "AUC",
}
_COLUMNS = {
    "noise_floor": "noise floor",
    "memoriser": "memoriser",
    "jittered": "+0.02 Å",
    "nearest": "nearest",
    "gaussian": "Gaussian",
    "random": "random",
}


def of_structures(file: Path) -> bool:
    """Return whether a file is one of structures, by its name."""
    return file.suffix.lower() not in _DATASETS


def score_structures(
    file: Path, reference: Path | None, training: Path | None, clash: float | None, json: bool
) -> None:
    """Score a file of environments or structures, and print how it compares."""
    if reference is None:
        msg = "structures are compared with real ones: name a file by --reference"
        raise typer.BadParameter(msg)
    if clash is not None and not 0 < clash < float("inf"):
        msg = f"--clash is a distance in Å, got {clash}"
        raise typer.BadParameter(msg)
    from generative.scorecard.files import score

    begin = perf_counter()
    said = score(file, reference, training, clash=clash)
    said["seconds"] = perf_counter() - begin
    if json:
        print_json(said)
    else:
        _print(said)


def _print(said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.measure import Measurement

    console, tables = Console(highlight=False), []
    if said["kind"] == "structures":
        many = "structure" if said["draws"] == 1 else "structures"
        tables.append(_table(f"{said['file']}: {said['draws']:,} {many}", _WHOLE, said))
    if said["environments"]:
        about = f"{said['environments']:,} environments of {said['neighbours']} neighbours"
        tables.append(_table(f"{said['file']}: {about}", _ENVIRONMENTS, said))
    for table in tables:
        # a line too long for the window goes on below, but no number of it is cut
        wide = Measurement.get(console, console.options.update(width=200), table).maximum
        Console(highlight=False, width=max(console.width, wide)).print(table)
    for line in _notes(said):
        console.print(line, soft_wrap=True)


def _table(title: str, rows: dict[str, str], said: dict[str, Any]) -> Any:
    """Return what is measured in rows, of this file and beside it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    beside = {
        label: said["floors"][name]
        for name, label in _COLUMNS.items()
        if name in said["floors"] and any(key in said["floors"][name] for key in rows)
    }
    for label in ("", "this file", *beside):
        grid.add_column(label, justify="right" if label else "left", no_wrap=True)
    for key, label in rows.items():
        cells = [_cell(said["metrics"].get(key), said["stderr"].get(key))]
        cells += [_cell(row.get(key)) for row in beside.values()]
        if set(cells) != {"-"}:
            grid.add_row(label, *cells)
    return grid


def _cell(value: float | None, error: float | None = None) -> str:
    if value is None or value != value:
        return "-"
    small = 0 < abs(value) < 1e-3
    text = f"{value:.1e}" if small else f"{value:.3g}"
    if error:
        text += f" ± {error:.0e}" if error < 1e-3 else f" ± {error:.1g}"
    return text.replace("e-0", "e-")


def _notes(said: dict[str, Any]) -> list[str]:
    """Return what the tables cannot say."""
    against = said["reference"]
    lines = [
        f"against {against}; two atoms clash below {said['clash_distance']:.3g} Å, bonds are "
        f"up to {said['bond_cutoff']:.3g} Å"
    ]
    if said["training"] is None:
        lines.append(
            "no --training: novelty, copies and the noise floor are of the reference itself, "
            "half of it against the other half"
        )
    else:
        lines.append(
            f"novelty, copies and the noise floor are of the training data, {said['training']}"
        )
    if said["environments"]:
        lines.append(
            f"bonds and angles of an environment: its {said['shell']} nearest; AUC 0.5: not "
            "to be told apart; errors take environments as independent"
        )
    for name in ("redraws", "unfinished", "nll_per_coordinate"):
        value = said["metrics"].get(name)
        if value is not None and value == value:
            lines.append(f"{name.replace('_', ' ')}: {value:.4g} in the mean")
    return lines
