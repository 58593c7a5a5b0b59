"""The `coulex` command: one file per subcommand, each a thin shell over a few functions."""

from typing import Annotated

import typer

from coulex import __version__

from .data import app as data
from .infill import infill
from .invert import invert
from .make import app as make
from .output import Commands, plain_warnings
from .plot import app as plot
from .quickstart import quickstart
from .sample import sample
from .score import score
from .simulate import simulate
from .train import train
from .validate import validate

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(simulate)
app.command()(invert)
app.command()(train)
app.command()(sample)
app.command()(infill)
app.command()(score)
app.command()(validate)
app.add_typer(plot, name="plot")
app.add_typer(data, name="data")
app.add_typer(make, name="make")
app.command()(quickstart)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"coulex {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[  # noqa: ARG001, its callback acts
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    """Simulate Coulomb explosions, find the geometry behind a measured one, and draw both.

    Exit codes: 0 done, 1 invalid data or numerical failure, 2 usage, 3 incomplete but
    resumable, 4 corrupt or mismatched file, 130 or 143 interrupted and resumable.
    """


def main() -> None:
    """Run the command line."""
    plain_warnings()
    app()
