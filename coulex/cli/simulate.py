"""`coulex simulate`: a molecule in, the momenta of its explosions out."""

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import options as o
from .output import say

if TYPE_CHECKING:
    from coulex.ensemble import Ensemble
    from coulex.molecule import Molecule

#: what each ensemble needs, by the names of the options; no other option is accepted with it
_NEEDS = {
    "equilibrium": (),
    "gaussian": ("sigma",),
    "sphere": ("radius", "min_distance"),
    "box": ("first_bond", "second_bond", "angle"),
    "frames": (),
}

#: options that do not change a single number: they stay out of the command in the file
_NOT_RECORDED = {
    *("out", "job", "shard_size", "threads", "config", "json", "overwrite", "resume"),
    "dry_run",
}

_CLOSEST = 0.1  # Å between two atoms of a structure that is believed


def simulate(
    context: typer.Context,
    molecule: o.MoleculeName,
    n: o.Count,
    out: o.Out,
    charges: o.Charges = None,
    masses: o.Masses = "isotope",
    isotopes: o.Isotopes = None,
    allow_attraction: o.AllowAttraction = False,
    units: o.Units = None,
    ignore_cell: o.IgnoreCell = False,
    ensemble: o.EnsembleName = "equilibrium",
    sigma: o.Sigma = None,
    radius: o.Radius = None,
    min_distance: o.MinDistance = None,
    first_bond: o.FirstBond = None,
    second_bond: o.SecondBond = None,
    angle: o.Angle = None,
    orientation: o.Orientation = "given",
    at_rest: o.AtRest = False,  # noqa: ARG001, recorded with the command
    precision: o.Precision = "float64",
    tolerance: o.Tolerance = None,
    max_steps: o.MaxSteps = 10_000,
    portable: o.Portable = False,
    seed: o.Seed = 1,
    threads: o.Threads = 0,
    job: o.Job = None,
    shard_size: o.ShardSize = 1 << 20,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    json: o.Json = False,
) -> None:
    """Simulate the Coulomb explosions of a molecule."""
    _check_choice(resume, overwrite)
    geometry = {"sigma": sigma, "radius": radius, "min_distance": min_distance}
    geometry |= {"first_bond": first_bond, "second_bond": second_bond, "angle": angle}
    _check_needs(ensemble, geometry)
    of_file = {"units": units, "ignore_cell": ignore_cell}
    _check_file_options(molecule, of_file | {"min_distance": min_distance}, ensemble)
    believed = min(_CLOSEST, min_distance or _CLOSEST)
    of_file["min_distance_angstrom"] = believed
    read, frames = _read(molecule, ensemble == "frames", of_file)
    from coulex.production import Production

    from .produce import Order, predict, produce

    with _usage():
        production = Production(
            molecule=_charged(_weighed(read, masses, isotopes), charges, allow_attraction),
            ensemble=_ensemble(ensemble, geometry, frames),
            n=n,
            orientation=orientation,
            seed=seed,
            precision=precision,
            tolerance=tolerance,
            max_steps=max_steps,
            allow_attraction=allow_attraction,
            portable=portable,
        )
    order = Order(production, out, canonical_command(context), shard_size, job or (1, 1))
    if dry_run:
        predict(order, json=json)
        return
    produce(order, threads=threads, resume=resume, overwrite=overwrite, json=json)


@contextmanager
def _usage() -> Iterator[None]:
    """Let a ValueError count as a mistake in the command, but not what is said of data."""
    from coulex.errors import CoulexError

    try:
        yield
    except CoulexError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_needs(ensemble: str, geometry: dict[str, Any]) -> None:
    """Refuse an ensemble without its options, and options without their ensemble."""
    needs = _NEEDS[ensemble]
    least = geometry["min_distance"]
    if least is not None and not 0 < least < math.inf:
        msg = f"--min-distance must be positive and finite, got {least}"
        raise typer.BadParameter(msg)
    missing = [_flag(name) for name in needs if geometry[name] is None]
    if missing:
        msg = f"--ensemble {ensemble} needs {', '.join(missing)}"
        raise typer.BadParameter(msg)
    strange = [
        name
        for name, value in geometry.items()
        if value is not None and name not in (*needs, "min_distance")
    ]
    if strange:
        home = next(e for e, names in _NEEDS.items() if strange[0] in names)
        msg = f"{_flag(strange[0])} belongs to --ensemble {home}, not to {ensemble}"
        raise typer.BadParameter(msg)


def _check_choice(resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        msg = "--resume continues a run, --overwrite starts it anew; give one of them"
        raise typer.BadParameter(msg)


def _is_file(text: str) -> bool:
    """Return whether a molecule is given by a structure file, not by its name."""
    return Path(text).exists() or Path(text).suffix != "" or "/" in text


def _check_file_options(text: str, of_file: dict[str, Any], ensemble: str) -> None:
    """Refuse the options of structure files with a molecule of the library."""
    idle = [name for name, value in of_file.items() if value not in (None, False)]
    if ensemble == "sphere" and "min_distance" in idle:
        idle.remove("min_distance")
    if idle and not _is_file(text):
        msg = f"{_flag(idle[0])} is for structure files, and {text} is none"
        raise typer.BadParameter(msg)


def _read(text: str, wants_frames: bool, settings: dict[str, Any]) -> tuple["Molecule", Any]:
    """Return a molecule of the library or of a file, and the frames where they are wanted."""
    from coulex.molecule import Molecule

    is_file = _is_file(text)
    if wants_frames and not is_file:
        msg = f"--ensemble frames needs a structure file, got {text!r}"
        raise typer.BadParameter(msg)
    if wants_frames:
        return Molecule.read_frames(text, **settings)
    if is_file:
        molecule = Molecule.read(text, **settings)
        _say_which_frame(text, settings)
        return molecule, None
    with _usage():
        return Molecule.named(text), None


def _say_which_frame(path: str, settings: dict[str, Any]) -> None:
    """Say that the last structure of a file is taken, where there are several."""
    from coulex.structure import read_structures

    units, ignore_cell = settings["units"], settings["ignore_cell"]
    count = len(read_structures(path, units=units, ignore_cell=ignore_cell))
    if count > 1:
        say(f"{path} holds {count} structures: taking the last; --ensemble frames takes all")


def _weighed(molecule: "Molecule", masses: str, isotopes: str | None) -> "Molecule":
    """Return the molecule with its masses chosen."""
    if isotopes is None:
        return molecule.with_average_masses() if masses == "average" else molecule
    if masses == "average":
        msg = "--isotopes and --masses average exclude each other"
        raise typer.BadParameter(msg)
    chosen: dict[str | int, int] = {}
    for pair in isotopes.split(","):
        key, _, mass_number = (part.strip() for part in pair.partition("="))
        if not mass_number.isdecimal():
            msg = f"--isotopes: expected C=13 or 0=18, got {pair!r}"
            raise typer.BadParameter(msg)
        atom = int(key) if key.isdecimal() else key
        if atom in chosen:
            msg = f"--isotopes: {key} is named twice"
            raise typer.BadParameter(msg)
        chosen[atom] = int(mass_number)
    return molecule.with_isotopes(chosen)


def _charged(molecule: "Molecule", text: str | None, allow_attraction: bool) -> "Molecule":
    """Return the molecule with its charges; a charge that is no number is no usage error."""
    from coulex.errors import InvalidDataError
    from coulex.molecule import parse_charges

    if text is None:
        return molecule
    given = parse_charges(text)
    try:
        return molecule.with_charges(given, allow_attraction=allow_attraction)
    except ValueError as error:
        values = list(given.values()) if isinstance(given, dict) else given
        if all(value - value == 0 for value in values if isinstance(value, float)):
            raise
        raise InvalidDataError(str(error)) from error


def _ensemble(name: str, geometry: dict[str, Any], frames: Any) -> "Ensemble":
    """Return the ensemble, lengths turned from Å into bohr."""
    from coulex.ensemble import ENSEMBLES
    from coulex.units import ANGSTROM

    settings: dict[str, Any] = {}
    for option in _NEEDS[name]:
        value = geometry[option]
        if option == "angle":
            settings["angle_degrees"] = value
        elif isinstance(value, tuple):
            settings[option] = tuple(end * ANGSTROM for end in value)
        else:
            settings[option] = value * ANGSTROM
    if name == "frames":
        settings["positions"] = frames
    return ENSEMBLES[name](**settings)


def canonical_command(context: typer.Context) -> str:
    """Return the command that makes the same numbers, without where and how fast."""
    words = ["coulex", str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name in _NOT_RECORDED or value is None or value == parameter.default:
            continue
        if name == "molecule":
            words.append(Path(value).name)
        elif value is True:
            words.append(parameter.opts[0])
        else:
            text = ":".join(repr(end) for end in value) if isinstance(value, tuple) else value
            words += [parameter.opts[0], str(text)]
    return shlex.join(words)
