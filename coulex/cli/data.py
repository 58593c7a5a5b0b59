"""`coulex data`: look at files of events, check them, finish them, convert them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options as o
from .output import Commands, print_json, say

if TYPE_CHECKING:
    from coulex.dataset import Dataset
    from coulex.dataset.exchange import Source

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Check and convert event files.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file, or a folder of shards.")]
PositionUnits = Annotated[
    Literal["angstrom", "bohr"] | None,
    typer.Option(help="Of the positions, unless the file declares it."),
]
MomentumUnits = Annotated[
    Literal["au", "kg m/s"] | None,
    typer.Option(help="Of the momenta, unless the file declares it."),
]
ColumnNames = Annotated[
    str | None,
    typer.Option(
        metavar="C=X,Y,Z;...",
        help="Columns of the momenta, by name or number from 1: C=px1,py1,pz1;O=px2,py2,pz2.",
    ),
]
PositionColumns = Annotated[
    str | None, typer.Option(metavar="C=X,Y,Z;...", help="The same for the positions.")
]


@app.command()
def info(file: File, json: o.Json = False) -> None:
    """Say what a file holds; its headers are checked, the numbers are not."""
    from coulex import dataset

    found = _describe(dataset.open(file))
    if json:
        print_json(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for key in ("file", "events", "ions", "atoms", "files", "status"):
        table.add_row(key, _as_text(found[key]))
    for name, array in found["arrays"].items():
        shape = ", ".join(map(str, array["shape"]))
        table.add_row(name, f"({shape}) {array['type']}, {array['units']}")
    for part in ("configuration", "provenance"):
        for key, value in found[part].items():
            table.add_row(f"{part}.{key}", _as_text(value))
    Console().print(table)


@app.command()
def verify(file: File, json: o.Json = False) -> None:
    """Read everything and compare every checksum; exit with 4 if one differs."""
    from coulex import dataset

    data = dataset.verify(file)
    foreign = data.foreign
    if json:
        print_json({"file": str(file), "events": data.n_events, "checksums": not foreign})
    elif foreign:
        say(f"{file}: {data.n_events} events; not written by coulex, so it has no checksums")
    else:
        print(f"{file}: {data.n_events} events, every checksum is right")


@app.command()
def finalize(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.h5|DIR", help="The output of the jobs.")
    ],
    json: o.Json = False,
) -> None:
    """Complete an output whose shards are all there; exit with 3 if some are missing."""
    from coulex import dataset

    done = dataset.finalize(file)
    data = dataset.open(done)
    if json:
        print_json({"file": str(done), "events": data.n_events})
    else:
        print(f"{done}: {data.n_events} events")


@app.command(name="import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help=".csv, .npz, .extxyz or foreign .h5")
    ],
    out: o.Out,
    charges: o.Charges = None,
    masses: o.Masses = "isotope",
    position_units: PositionUnits = None,
    momentum_units: MomentumUnits = None,
    columns: ColumnNames = None,
    position_columns: PositionColumns = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Read events of others into a file of ours; units are declared, never guessed."""
    from coulex.dataset import exchange
    from coulex.dataset.files import file_digest

    found = exchange.read_source(
        source,
        position_units=position_units,
        momentum_units=momentum_units,
        columns=exchange.parse_columns(columns) if columns else None,
        position_columns=exchange.parse_columns(position_columns)
        if position_columns
        else None,
    )
    constants = constants_of(found, charges, masses, source)
    configuration = {
        "imported": {
            "format": found.format,
            "sha256": file_digest(source) if source.is_file() else None,
            "position_units": position_units,
            "momentum_units": momentum_units,
            "columns": columns,
            "position_columns": position_columns,
        },
        "symbols": list(found.symbols),
        **{name: value.tolist() for name, value in constants.items()},
    }
    provenance = {"command": _command(source, configuration["imported"], charges, masses)}
    exchange.import_events(
        found, out, constants, configuration, provenance, overwrite=overwrite
    )
    if json:
        print_json({"file": str(out), "events": found.n_events, "atoms": list(found.symbols)})
    else:
        print(f"{out}: {found.n_events} events of {' '.join(found.symbols)}")


@app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE")],
    format: Annotated[  # noqa: A002, the option's name
        Literal["csv", "npz", "extxyz"] | None,
        typer.Option(help="What the suffix of FILE says, unless given."),
    ] = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Write events to csv, npz or extxyz, in atomic units (positions of extxyz in Å).

    Solutions become a table with a row for each: bonds in Å, angles in degrees.
    """
    from coulex import dataset
    from coulex.dataset import exchange
    from coulex.dataset.solutions import has_solutions

    data = dataset.open(file)
    written = exchange.export_events(data, out, kind=format, overwrite=overwrite)
    left_out = data.n_events - written
    if left_out:
        why = "no solution" if has_solutions(data) else "a status other than 0"
        say(f"{left_out} of {data.n_events} events have {why}: left out")
    if json:
        print_json({"file": str(out), "events": written, "left_out": left_out})
    else:
        print(f"{out}: {written} events")


def _describe(data: "Dataset") -> dict[str, Any]:
    """Return what `info` prints."""
    import numpy as np

    from coulex.dataset.exchange.labels import symbols_of
    from coulex.dataset.solutions import has_solutions
    from coulex.inverse.solutions import STATUS

    counts: dict[str, int] = {}
    names = {code: name for code, (name, _) in STATUS.items()} if has_solutions(data) else {}
    if "status" in data:
        for _, block in data.blocks(["status"], 2**20):
            for code, count in zip(
                *np.unique(block["status"], return_counts=True), strict=True
            ):
                name = names.get(int(code), str(code))
                counts[name] = counts.get(name, 0) + int(count)
    return {
        "file": str(data.path),
        "events": data.n_events,
        "ions": data.ions,
        "atoms": list(symbols_of(data["numbers"])) if "numbers" in data else [],
        "files": len(data.parts),
        "status": counts,
        "arrays": {
            name: {
                "shape": list(data.shape(name)),
                "type": str(data.parts[0].columns[name].dtype),
                "units": data.units[name],
            }
            for name in data.names
        },
        "configuration": data.configuration,
        "provenance": data.provenance,
    }


def _command(source: Path, declared: dict[str, Any], charges: str | None, masses: str) -> str:
    """Return the command that makes the same file, without where."""
    words = ["coulex", "data", "import", source.name]
    given = {**declared, "charges": charges, "masses": masses if masses != "isotope" else None}
    for name, value in given.items():
        if value is not None and name not in ("format", "sha256"):
            words += ["--" + name.replace("_", "-"), value]
    return shlex.join(words)


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_as_text(inner)}" for key, inner in value.items())
    if isinstance(value, list) and not any(isinstance(inner, list | dict) for inner in value):
        return " ".join(map(str, value))
    return str(value)


def constants_of(
    found: "Source", charges: str | None, masses: str, path: Path
) -> dict[str, Any]:
    """Return the masses, numbers and charges that the source does not hold itself."""
    import numpy as np

    from coulex.errors import InvalidDataError
    from coulex.molecule import Molecule, parse_charges

    held = set(found.constants) | set(found.by_event)
    if charges is None:
        if {"charges", "masses"} <= held:
            return {}
        msg = f"{path} does not hold both charges and masses; say --charges C=2,O=2,S=2"
        raise InvalidDataError(msg)
    given = parse_charges(charges)
    symbols = found.symbols or (tuple(given) if isinstance(given, dict) else ())
    if not symbols or "total" in symbols:
        msg = f"{path} does not name its atoms; name them in order: --charges C=2,O=2,S=2"
        raise InvalidDataError(msg)
    molecule = Molecule.of(symbols, np.zeros((len(symbols), 3)))
    if masses == "average":
        molecule = molecule.with_average_masses()
    # data may have any signs; who computes with them says what does not go
    molecule = molecule.with_charges(given, allow_attraction=True)
    return {
        "masses": np.asarray(molecule.ion_masses, np.float64),
        "charges": np.asarray(molecule.charges, np.float64),
        "numbers": np.asarray(molecule.numbers, np.int32),
    }
