"""Molecules and ensembles from what is typed: the options of simulate and of a prior."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .output import say

if TYPE_CHECKING:
    from coulex.ensemble import Ensemble
    from coulex.molecule import Molecule

#: what each ensemble needs, by the names of the options; no other option is accepted with it
NEEDS = {
    "equilibrium": (),
    "gaussian": ("sigma",),
    "sphere": ("radius", "min_distance"),
    "box": ("first_bond", "second_bond", "angle"),
    "frames": (),
}


CLOSEST = 0.1  #: Å between two atoms of a structure that is believed


@contextmanager
def usage() -> Iterator[None]:
    """Let a ValueError count as a mistake in the command, but not what is said of data."""
    from coulex.errors import CoulexError

    try:
        yield
    except CoulexError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def flag(name: str) -> str:
    """Return the option of a parameter."""
    return "--" + name.replace("_", "-")


def check_needs(name: str, geometry: dict[str, Any], *, option: str = "--ensemble") -> None:
    """Refuse an ensemble without its options, and options without their ensemble."""
    needs = NEEDS[name]
    least = geometry["min_distance"]
    if least is not None and not 0 < least < math.inf:
        msg = f"--min-distance must be positive and finite, got {least}"
        raise typer.BadParameter(msg)
    missing = [flag(name) for name in needs if geometry[name] is None]
    if missing:
        msg = f"{option} {name} needs {', '.join(missing)}"
        raise typer.BadParameter(msg)
    strange = [
        key
        for key, value in geometry.items()
        if value is not None and key not in (*needs, "min_distance")
    ]
    if strange:
        home = next(e for e, names in NEEDS.items() if strange[0] in names)
        msg = f"{flag(strange[0])} belongs to {option} {home}, not to {name}"
        raise typer.BadParameter(msg)


def is_file(text: str) -> bool:
    """Return whether a molecule is given by a structure file, not by its name."""
    return Path(text).exists() or Path(text).suffix != "" or "/" in text


def check_file_options(text: str, of_file: dict[str, Any], ensemble: str) -> None:
    """Refuse the options of structure files with a molecule of the library."""
    idle = [name for name, value in of_file.items() if value not in (None, False)]
    if ensemble == "sphere" and "min_distance" in idle:
        idle.remove("min_distance")
    if idle and not is_file(text):
        msg = f"{flag(idle[0])} is for structure files, and {text} is none"
        raise typer.BadParameter(msg)


def read(text: str, wants_frames: bool, settings: dict[str, Any]) -> tuple["Molecule", Any]:
    """Return a molecule of the library or of a file, and the frames where they are wanted."""
    from coulex.molecule import Molecule

    from_file = is_file(text)
    if wants_frames and not from_file:
        msg = f"--ensemble frames needs a structure file, got {text!r}"
        raise typer.BadParameter(msg)
    if wants_frames:
        return Molecule.read_frames(text, **settings)
    if from_file:
        molecule = Molecule.read(text, **settings)
        _say_which_frame(text, settings)
        return molecule, None
    with usage():
        return Molecule.named(text), None


def _say_which_frame(path: str, settings: dict[str, Any]) -> None:
    """Say that the last structure of a file is taken, where there are several."""
    from coulex.structure import read_structures

    units, ignore_cell = settings["units"], settings["ignore_cell"]
    count = len(read_structures(path, units=units, ignore_cell=ignore_cell))
    if count > 1:
        say(f"{path} holds {count} structures: taking the last; --ensemble frames takes all")


def weighed(molecule: "Molecule", masses: str, isotopes: str | None) -> "Molecule":
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


def charged(molecule: "Molecule", text: str | None, allow_attraction: bool) -> "Molecule":
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


def described(said: dict[str, Any]) -> "Molecule":
    """Return the molecule that a file's configuration describes."""
    from coulex.molecule import Molecule

    return Molecule(
        name=said["name"],
        symbols=tuple(said["symbols"]),
        positions=said["positions"],
        masses=said["masses"],
        charges=said["charges"],
        mass_numbers=said["mass_numbers"] and tuple(said["mass_numbers"]),
    )


def ensemble(name: str, geometry: dict[str, Any], frames: Any) -> "Ensemble":
    """Return the ensemble, lengths turned from Å into bohr."""
    from coulex.ensemble import ENSEMBLES
    from coulex.units import ANGSTROM

    settings: dict[str, Any] = {}
    for option in NEEDS[name]:
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
