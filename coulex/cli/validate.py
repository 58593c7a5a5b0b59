"""`coulex validate`: the geometries of a file explode again; and the table of that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .output import print_json

if TYPE_CHECKING:
    from coulex.dataset import Dataset
    from coulex.inverse.validate import RoundTrip

_ERRORS = (
    "Residuals are relative, of the whole vector of momenta, in the frame as given; errors "
    "of positions are root mean squares over the ions after the best proper rotation."
)


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file with geometries.")],
    limit: o.Limit = 1e-6,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Simulate the geometries of a file again, and print the round-trip table.

    A geometry is a solution, or what stands in `positions`, or else in `initial_positions`.
    """
    from coulex import dataset, round_trip

    from .produce import threads_of

    data = dataset.open(file)
    if not limit > 0:
        msg = f"--limit must be positive, got {limit}"
        raise typer.BadParameter(msg)
    table = round_trip.check(data, limit_angstrom=limit, threads=threads_of(threads))
    tell(data, table, {"file": str(file)}, json=json)


def tell(data: "Dataset", table: "RoundTrip", made: dict[str, Any], *, json: bool) -> None:
    """Print the round-trip table of a file.

    Raises
    ------
    CoulexError
        If a solution does not give the momenta that it is said to explain.
    """
    from coulex.errors import CoulexError

    if json:
        print_json({**made, **table.describe()})
    else:
        _print(data, table, made)
    if table.not_reproduced:
        msg = (
            f"{table.not_reproduced} of {table.solutions} geometries do not give the momenta "
            f"that they explain, when they are simulated again; do not use {data.path}"
        )
        raise CoulexError(msg)


def _print(data: "Dataset", table: "RoundTrip", made: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = data.configuration.get("molecule", {}).get("name") or data.path.stem
    grid = Table(
        title=f"{title}: round trip",
        show_header=False,
        title_justify="left",
        title_style="bold",
        caption=_ERRORS,
        caption_justify="left",
    )
    grid.add_column(style="dim")
    grid.add_column()
    for name, value in table.rows():
        grid.add_row(name, value)
    if not data.configuration.get("inversion", {}).get("all", True):
        grid.add_row("in the file", "the most probable of each event; --all keeps all")
    if "estimate" in made:
        for name, number in made["estimate"]["status"].items():
            grid.add_row(f"estimates: {name}", f"{number:,}")
        for name, value in made["estimate"]["deviations"].items():
            grid.add_row(f"median σ of {name}", f"{value:.3g}")
    if made.get("events_per_second"):
        grid.add_row("events inverted per second", f"{made['events_per_second']:,.0f}")
    grid.add_row("file", made["file"])
    Console(highlight=False).print(grid)
