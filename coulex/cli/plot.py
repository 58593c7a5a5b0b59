"""`coulex plot`: files of events in, a figure out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .output import say

if TYPE_CHECKING:
    from coulex.events import Events

app = typer.Typer(no_args_is_help=True, help="Draw files of events.")

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Overlaid.")]
File = Annotated[Path, typer.Argument(metavar="FILE")]
Ions = Annotated[
    str | None,
    typer.Option(metavar="1,2,3", help="Which three ions, counted from 1, in which order."),
]

_SUFFIXES = (".png", ".pdf", ".svg")


@app.command()
def ker(files: Files, out: o.Figure, overwrite: o.Overwrite = False) -> None:
    """Draw the kinetic-energy release, and the energies of the single ions."""
    _check(out, overwrite)
    from coulex import plot

    save(plot.ker(*_distinct([_events(file) for file in files], files)), out)


@app.command()
def newton(
    file: File, out: o.Figure, ions: Ions = None, overwrite: o.Overwrite = False
) -> None:
    """Draw two ions in the frame of a third, whose momentum points along +x."""
    _check(out, overwrite)
    three = _three(ions)
    from coulex import plot

    save(plot.newton(_events(file), ions=three), out)


@app.command()
def dalitz(
    file: File, out: o.Figure, ions: Ions = None, overwrite: o.Overwrite = False
) -> None:
    """Draw how three ions share the kinetic-energy release."""
    _check(out, overwrite)
    three = _three(ions)
    from coulex import plot

    save(plot.dalitz(_events(file), ions=three), out)


@app.command()
def geometry(file: File, out: o.Figure, overwrite: o.Overwrite = False) -> None:
    """Draw bonds and angles of solutions, and of the truth where the file knows it."""
    _check(out, overwrite)
    from coulex import dataset, plot_geometry

    save(plot_geometry.geometry(dataset.open(file)), out)


@app.command()
def folds(
    molecule: o.MoleculeName,
    out: o.Figure,
    charges: o.Charges = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Draw where three ions have several geometries of the same momenta, and the folds."""
    _check(out, overwrite)
    from coulex import plot_folds

    from . import molecule as m
    from .output import print_json

    settings = {"units": None, "ignore_cell": False, "min_distance_angstrom": m.CLOSEST}
    about, _ = m.read(molecule, False, settings)
    with m.usage():
        found = plot_folds.folds(m.charged(about, charges, False))
    save(plot_folds.draw(found), out)
    ratio, degrees = found.equilibrium()
    if json:
        said = {"file": str(out), "bond_ratio": ratio, "angle_degrees": degrees}
        most = {"most_solutions": int(found.solutions.max())}
        print_json({**said, "fold_degrees": found.angles(ratio), **most})


Draws = Annotated[Path, typer.Argument(metavar="FILE", help="Draws, by `coulex sample`.")]
Models = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Trained models.")]


@app.command()
def predicted(file: Draws, out: o.Figure, overwrite: o.Overwrite = False) -> None:
    """Draw bonds and angles of the mean of draws against the true ones."""
    _check(out, overwrite)
    from coulex import dataset, plot_draws

    save(plot_draws.predicted(dataset.open(file)), out)


@app.command()
def corner(
    file: Draws,
    out: o.Figure,
    event: Annotated[int, typer.Option(min=0, help="Which one, from 0.")] = 0,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw how bonds and angles of the draws of one event go together."""
    _check(out, overwrite)
    from coulex import dataset, plot_corner

    save(plot_corner.corner(dataset.open(file), event=event), out)


@app.command()
def calibration(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of draws.")],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw how often the draws of an event are below the truth, and what they cover."""
    _check(out, overwrite)
    from coulex import dataset, plot_draws

    save(plot_draws.calibration([dataset.open(file) for file in files]), out)


@app.command()
def learning(folders: Models, out: o.Figure, overwrite: o.Overwrite = False) -> None:
    """Draw training and validation loss of every epoch."""
    _check(out, overwrite)
    from coulex import plot_learning

    save(plot_learning.learning(folders), out)


@app.command()
def latents(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A trained autoencoder.")],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw the latents of the training, and how much each of them says."""
    _check(out, overwrite)
    from coulex import plot_learning

    save(plot_learning.latents(folder), out)


@app.command()
def environments(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Draws of structures, overlaid.")
    ],
    reference: Annotated[Path, typer.Option(metavar="FILE", help="Real structures.")],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw distances and angles around atoms against those of a real structure."""
    _check(out, overwrite)
    from coulex import plot_environments
    from generative.scorecard.files import distributions

    groups = distributions(files, reference)
    names = _short([Path(name) for name in groups])
    save(plot_environments.environments(dict(zip(names, groups.values(), strict=True))), out)


@app.command()
def motifs(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Structures, a row for each file.")
    ],
    out: o.Figure,
    number: Annotated[int, typer.Option("-n", min=1, max=12, help="In a row.")] = 6,
    seed: o.Seed = 1,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw some environments of atoms in three dimensions."""
    _check(out, overwrite)
    from coulex import plot_motifs
    from generative.scorecard.files import some_environments

    rows = {
        name: some_environments(file, number, seed)
        for name, file in zip(_short(files), files, strict=True)
    }
    save(plot_motifs.ways(rows), out)


@app.command()
def spectrum(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Models gram-vae, overlaid.")
    ],
    reference: Annotated[Path, typer.Option(metavar="FILE", help="Real structures.")],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw the eigenvalues of Gram matrices, real ones and the same encoded and decoded."""
    _check(out, overwrite)
    from coulex import plot_environments
    from generative.files import load
    from generative.gram.vae import decoded_spectra

    from .molecule import usage

    names = _short([reference, *folders])
    groups: dict[str, Any] = {}
    for name, folder in zip(names[1:], folders, strict=True):
        with usage():
            real, groups[name] = decoded_spectra(load(folder), reference)
        groups = {names[0]: real} | groups
    save(plot_environments.spectra(groups), out)


@app.command()
def radial(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Draws of structures, overlaid.")
    ],
    reference: Annotated[
        Path, typer.Option(metavar="FILE", help="Real structures, or a trajectory.")
    ],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw radial distributions of structures, of real ones and of atoms at random."""
    _check(out, overwrite)
    from coulex import plot_structures
    from generative.scorecard.curves import RANDOM, radial_curves

    from .molecule import usage

    with usage():
        r, curves = radial_curves(files, reference)
    names = [*_short([reference, *files]), RANDOM]
    named = dict(zip(names, curves.values(), strict=True))
    save(plot_structures.radial_distributions(r, named), out)


@app.command()
def densities(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A model repap.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="A trajectory; its test part.")
    ],
    out: o.Figure,
    overwrite: o.Overwrite = False,
) -> None:
    """Draw the density of atoms along the axes, as predicted by a model and as it is."""
    _check(out, overwrite)
    from coulex import plot_structures
    from generative.files import load
    from generative.repap import judge
    from generative.repap.model import Repap

    read = load(model)
    if not isinstance(read, Repap):
        msg = f"{model} is a model {read.name}; densities are of repap"
        raise typer.BadParameter(msg)
    source = type(read.sequences).source(files)
    predicted, true = judge.densities(read, source)
    lengths = read.lengths.numpy()
    save(plot_structures.projected_densities(lengths, predicted, true), out)


def _short(paths: list[Path]) -> list[str]:
    """Return names that tell paths apart: without folders where that is enough."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _events(file: Path) -> "Events":
    from coulex import dataset
    from coulex.events import of_dataset

    return of_dataset(dataset.open(file))


def _distinct(events: list["Events"], files: list[Path]) -> list["Events"]:
    """Tell overlaid files apart by their paths where molecule and charges are the same."""
    from dataclasses import replace

    if len({e.name for e in events}) == len(events):
        return events
    return [
        replace(e, name=f"{file}: {e.name}") for e, file in zip(events, files, strict=True)
    ]


def _three(text: str | None) -> tuple[int, ...] | None:
    """Read "1,2,3" into numbers from 0."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(set(parts)) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        msg = f"--ions: expected three different numbers such as 1,2,3, got {text!r}"
        raise typer.BadParameter(msg)
    return tuple(int(part) - 1 for part in parts)


def _check(out: Path, overwrite: bool) -> None:
    """Refuse an output that cannot be made, before anything is read."""
    if out.suffix.lower() not in _SUFFIXES:
        msg = f"{out}: a figure ends in {', '.join(_SUFFIXES)}"
        raise typer.BadParameter(msg)
    from coulex.errors import OutputError

    if not out.parent.is_dir():
        msg = f"cannot write {out}: {out.parent} is not a folder; make it first"
        raise OutputError(msg)
    if out.exists() and not overwrite:
        msg = f"{out} exists; --overwrite it, or choose another name"
        raise OutputError(msg)


def save(figure, out: Path) -> None:
    """Write a figure, and say so."""
    from coulex import plot

    plot.save(figure, out)
    say(f"wrote {out}")
