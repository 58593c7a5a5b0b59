"""`coulex quickstart`: what the package does, shown on one molecule, as commands to repeat."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite
from .output import say

_EVENTS, _EPOCHS = "1e5", 6
_ENSEMBLE = "gaussian --sigma 0.05"
_NOISE = 0.01

#: each with the name of what it makes
_COMMANDS = {
    "ocs.h5": "simulate OCS -n {events} --charges 2,2,2 --ensemble {ensemble}",
    "ker.png": "plot ker {out}/ocs.h5",
    "newton.png": "plot newton {out}/ocs.h5",
    "dalitz.png": "plot dalitz {out}/ocs.h5",
    "solutions.h5": "invert {out}/ocs.h5 --all --prior {ensemble}",
    "geometry.png": "plot geometry {out}/solutions.h5",
    "folds.png": "plot folds OCS --charges 2,2,2",
    "flow": "train flow {out}/ocs.h5 --epochs {epochs} --learning-rate 3e-3",
    "draws.h5": "sample {out}/flow -n 200 --condition {out}/ocs.h5 --events 500 "
    "--add-noise {noise}",
    "corner.png": "plot corner {out}/draws.h5",
}
_AT_LAST = "score {out}/draws.h5 --model {out}/flow"
_GOES_ON = ("simulate", "invert", "train", "sample")  #: what an interruption leaves half done


def quickstart(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Made if needed.")
    ] = Path("quickstart"),
    overwrite: Overwrite = False,
) -> None:
    """Simulate 100,000 explosions of OCS, invert them, and train a network on them.

    Each step is a command of its own, which is shown; what an interruption has left is
    continued.
    """
    from coulex.errors import OutputError

    if out.exists() and not out.is_dir():
        msg = f"{out} is a file; quickstart makes a folder: choose another name with -o"
        raise OutputError(msg)
    if all((out / name).exists() for name in _COMMANDS) and not overwrite:
        msg = f"{out} is complete; --overwrite it, or choose another folder with -o"
        raise OutputError(msg)
    out.mkdir(parents=True, exist_ok=True)
    for name, command in _COMMANDS.items():
        made = out / name
        if made.exists() and not overwrite:
            continue
        words = _words(command, out) + ["-o", str(made)]
        if overwrite:
            words.append("--overwrite")
        elif words[0] in _GOES_ON:
            words.append("--resume")
        _run(words)
    _run(_words(_AT_LAST, out))


def _words(command: str, out: Path) -> list[str]:
    """Return a command as words; the folder is one of them, whatever its name."""
    values = {"events": _EVENTS, "ensemble": _ENSEMBLE, "epochs": _EPOCHS, "noise": _NOISE}
    return [
        word.replace("{out}", str(out))
        for word in shlex.split(command.format(out="{out}", **values))
    ]


def _run(words: list[str]) -> None:
    """Show and run one command; a failure ends with its own exit code."""
    from typer.main import get_command

    from . import app

    say(f"\n$ coulex {shlex.join(words)}")
    code = get_command(app).main(words, prog_name="coulex", standalone_mode=False)
    if code:
        raise typer.Exit(code)
