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
    """Simulate 100,000 explosions of OCS, invert them, and draw five figures."""
    from coulex.errors import OutputError

    if out.exists() and not out.is_dir():
        msg = f"{out} is a file; quickstart makes a folder: choose another name with -o"
        raise OutputError(msg)
    file = out / "ocs.h5"
    if file.exists() and not overwrite:
        msg = f"{file} exists; --overwrite it, or choose another folder with -o"
        raise OutputError(msg)
    solved = out / "solutions.h5"
    from coulex import dataset, plot, plot_folds, plot_geometry
    from coulex.ensemble import Gaussian
    from coulex.events import of_dataset
    from coulex.molecule import Molecule
    from coulex.production import Production
    from coulex.reconstruction import Reconstruction
    from coulex.units import ANGSTROM

    from .invert import momenta_of, reconstruct
    from .plot import save
    from .produce import Order, produce

    molecule = Molecule.named("OCS").with_charges([2, 2, 2])
    shaken = Gaussian(sigma=_SIGMA_ANGSTROM * ANGSTROM)
    production = Production(molecule=molecule, ensemble=shaken, n=_EVENTS)
    ensemble = f"gaussian --sigma {_SIGMA_ANGSTROM}"
    command = f"coulex simulate OCS -n {_EVENTS} --charges 2,2,2 --ensemble {ensemble}"
    say(f"{command} -o {file}")
    out.mkdir(parents=True, exist_ok=True)
    # What an interrupted quickstart has left is continued.
    again = {"resume": not overwrite, "overwrite": overwrite, "json": False}
    produce(Order(production, file, command), threads=0, **again)
    events = of_dataset(dataset.open(file))
    for draw in (plot.ker, plot.newton, plot.dalitz):
        save(draw(events), out / f"{draw.__name__}.png")

    command = f"coulex invert {file.name} --all --prior {ensemble}"
    say(f"{command} -o {solved}")
    source, constants, origin = momenta_of(file, {}, None, "isotope")
    believed = (shaken, molecule)
    inversion = Reconstruction(
        source=source, constants=constants, origin=origin, keep_all=True, prior=believed
    )
    reconstruct(inversion, solved, command, threads=0, **again)
    save(plot_geometry.geometry(dataset.open(solved)), out / "geometry.png")
    save(plot_folds.draw(plot_folds.folds(molecule)), out / "folds.png")
