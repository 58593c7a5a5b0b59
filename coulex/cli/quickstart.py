"""`coulex quickstart`: what the package does, shown on one molecule."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite
from .output import say

_EVENTS, _SIGMA_ANGSTROM = 100_000, 0.05


def quickstart(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Made if needed.")
    ] = Path("quickstart"),
    overwrite: Overwrite = False,
) -> None:
    """Simulate 100,000 explosions of OCS with charges 2,2,2, and draw three figures."""
    from coulex.errors import OutputError

    if out.exists() and not out.is_dir():
        msg = f"{out} is a file; quickstart makes a folder: choose another name with -o"
        raise OutputError(msg)
    file = out / "ocs.h5"
    if file.exists() and not overwrite:
        msg = f"{file} exists; --overwrite it, or choose another folder with -o"
        raise OutputError(msg)
    from coulex import dataset, plot
    from coulex.ensemble import Gaussian
    from coulex.events import of_dataset
    from coulex.molecule import Molecule
    from coulex.production import Production
    from coulex.units import ANGSTROM

    from .plot import save
    from .produce import Order, produce

    production = Production(
        molecule=Molecule.named("OCS").with_charges([2, 2, 2]),
        ensemble=Gaussian(sigma=_SIGMA_ANGSTROM * ANGSTROM),
        n=_EVENTS,
    )
    command = (
        f"coulex simulate OCS -n {_EVENTS} --charges 2,2,2 "
        f"--ensemble gaussian --sigma {_SIGMA_ANGSTROM}"
    )
    say(f"{command} -o {file}")
    out.mkdir(parents=True, exist_ok=True)
    # What an interrupted quickstart has left is continued.
    produce(
        Order(production, file, command),
        threads=0,
        resume=not overwrite,
        overwrite=overwrite,
        json=False,
    )
    events = of_dataset(dataset.open(file))
    for draw in (plot.ker, plot.newton, plot.dalitz):
        save(draw(events), out / f"{draw.__name__}.png")
