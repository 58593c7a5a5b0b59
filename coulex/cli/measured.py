"""Momenta out of a file, for all that is done with measured momenta."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import molecule as m
from .data import constants_of
from .output import say

if TYPE_CHECKING:
    from coulex.dataset import Dataset
    from coulex.dataset.exchange import Source

_TABLES = (".csv", ".txt", ".dat", ".npz", ".xyz", ".extxyz")


def check_out(out: Path, file: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse an output that cannot be made before the momenta are read."""
    from coulex.errors import OutputError

    if not out.parent.is_dir():
        msg = f"cannot write {out}: {out.parent} is no folder; make it first"
        raise OutputError(msg)
    if out.exists() and file.exists() and out.samefile(file):
        msg = f"the momenta come from {file}, which cannot be the output too"
        raise OutputError(msg)
    if out.exists() and not (overwrite or resume):
        msg = f"{out} exists; --overwrite it, or choose another name"
        raise OutputError(msg)


def momenta_of(
    file: Path, declared: dict[str, Any], charges: str | None, masses: str
) -> tuple["Source", dict[str, Any], dict[str, Any]]:
    """Return the events of a file, what they share, and where they come from."""
    from coulex import dataset, reconstruction
    from coulex.dataset import exchange
    from coulex.dataset.files import file_digest
    from coulex.dataset.plan import MANIFEST
    from coulex.errors import InvalidDataError

    origin: dict[str, Any] = {}
    if file.suffix.lower() in _TABLES:
        positions, momenta = declared["position_columns"], declared["columns"]
        source = exchange.read_source(
            file,
            position_units=declared["position_units"],
            momentum_units=declared["momentum_units"],
            columns=exchange.parse_columns(momenta) if momenta else None,
            position_columns=exchange.parse_columns(positions) if positions else None,
        )
    else:
        idle = [name for name, value in declared.items() if value is not None]
        if idle:
            msg = f"{m.flag(idle[0])} is for tables and npz files; {file} declares its own"
            raise typer.BadParameter(msg)
        data = dataset.open(file)
        source = reconstruction.measured(data)
        if "molecule" in data.configuration:
            origin["molecule"] = data.configuration["molecule"]
        _say_what_is_assumed(data)
    if "momenta" not in source.by_event:
        msg = f"{file} holds no momenta"
        raise InvalidDataError(msg)
    with m.usage():
        constants = dict(source.constants)
        if charges != "unknown":
            constants |= constants_of(source, charges, masses, file)
    known = {n: a for n, a in constants.items() if n in ("masses", "charges", "numbers")}
    origin["measured"] = {
        "format": source.format,
        "sha256": file_digest(file / MANIFEST if file.is_dir() else file),
        **{name: value for name, value in declared.items() if value is not None},
    }
    return source, known, origin


def _say_what_is_assumed(data: "Dataset") -> None:
    """Say that the ions are taken to start at rest, where a file says otherwise."""
    moving = data.configuration.get("start", "at rest") != "at rest"
    if moving or "initial_momenta" in data:
        say(f"{data.path}: its ions did not start at rest, and are inverted as if they had")
