"""The options that commands share, and how what is typed becomes numbers."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def count(text: str | int) -> int:
    """Read a positive whole number; 1e6 and 1_000_000 are the same."""
    text = str(text)  # typer passes defaults through as well
    try:
        value = float(text)
    except ValueError:
        value = 0.5
    if not 1 <= value < 2**63 or value != int(value):
        msg = f"expected a whole number of at least 1, such as 1e6 or 1_000_000, got {text!r}"
        raise typer.BadParameter(msg)
    return int(text.replace("_", "")) if text.replace("_", "").isdecimal() else int(value)


def seed(text: str | int) -> int:
    """Read a seed: 64 bits without sign."""
    plain = str(text).replace("_", "")
    if not plain.isdecimal() or int(plain) >= 2**64:
        msg = f"expected a whole number from 0 to 2^64 - 1, got {text!r}"
        raise typer.BadParameter(msg)
    return int(plain)


def shard(text: str) -> tuple[int, int]:
    """Read "3/64": the third of 64 jobs, counted from one."""
    left, _, right = text.partition("/")
    if not (left.isdecimal() and right.isdecimal() and 1 <= int(left) <= int(right)):
        msg = f"expected i/n with 1 <= i <= n, such as 3/64, got {text!r}"
        raise typer.BadParameter(msg)
    return int(left), int(right)


def interval(text: str) -> tuple[float, float]:
    """Read "0.8:3", two ends of a range."""
    ends = text.split(":")
    try:
        low, high = (float(end) for end in ends)
    except ValueError as error:
        msg = f"expected low:high, such as 0.8:3, got {text!r}"
        raise typer.BadParameter(msg) from error
    if not low <= high:
        msg = f"expected low <= high, got {text!r}"
        raise typer.BadParameter(msg)
    return low, high


def _config(context: typer.Context, path: Path | None) -> Path | None:
    """Let a TOML file stand in for flags that are not given."""
    if path is None:
        return None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise typer.BadParameter(msg) from error
    except ValueError as error:
        msg = f"{path} is not TOML: {error}"
        raise typer.BadParameter(msg) from error
    names = {_key(p): p for p in context.command.params if p.name not in ("config", "help")}
    given = {key.replace("-", "_"): value for key, value in content.items()}
    unknown = sorted(set(given) - set(names))
    if unknown:
        known = ", ".join(sorted(name.replace("_", "-") for name in names))
        msg = f"{path} has unknown keys {', '.join(unknown)}; known are {known}"
        raise typer.BadParameter(msg)
    context.default_map = {
        names[key].name: _as_typed(value, names[key]) for key, value in given.items()
    }
    return path


def _key(parameter: Any) -> str:
    """Return what an option is called on the command line: "shard", not "job"."""
    return max(parameter.opts, key=len).lstrip("-").replace("-", "_")


def event_file(path: Path) -> Path:
    """Return a path whose name says whether a file or a folder is meant; refuse others."""
    kind = path.suffix.lower()
    if kind in ("", ".h5", ".hdf5") or kind[1:].isdecimal():  # run0.05 is a folder
        return path
    msg = f"{path}: a file of events ends in .h5 or .hdf5, a folder of shards has no suffix"
    raise typer.BadParameter(msg)


def _as_typed(value: Any, parameter: Any) -> Any:
    """Return a TOML value as it would be typed: [2, 2, 2] as "2,2,2", ends as "0.8:3"."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        between = ":" if parameter.metavar == _range["metavar"] else ","
        return between.join(str(inner) for inner in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items())
    return str(value)


def option(panel: str, text: str, *flags: str, **settings: Any) -> Any:
    """Return an option that the help lists in a panel of its own."""
    return typer.Option(*flags, help=text, rich_help_panel=panel, **settings)


_PHYSICS, _GEOMETRY, _ACCURACY = "Molecule", "Geometries", "Accuracy"
_RUN, _FILES = "Running", "Output"
_range = {"parser": interval, "metavar": "LOW:HIGH"}

MoleculeName = Annotated[
    str, typer.Argument(metavar="MOLECULE", help="A name such as OCS, or a structure file.")
]
Count = Annotated[
    int, typer.Option("-n", parser=count, metavar="N", help="Events, such as 1e6.")
]
Out = Annotated[
    Path,
    typer.Option(
        *("-o", "--out"),
        callback=event_file,
        metavar="FILE.h5|DIR",
        help="A file, or shards in a folder.",
    ),
]
Figure = Annotated[
    Path, typer.Option("-o", "--out", metavar="FILE", help="fig.png, .pdf, .svg")
]

Charges = Annotated[
    str | None,
    option(_PHYSICS, "2,2,2 or C=2,O=2,S=2 or total=6; else 1 each.", metavar="CHARGES"),
]
Masses = Annotated[
    Literal["isotope", "average"],
    option(_PHYSICS, "Most abundant isotope, or natural average."),
]
Isotopes = Annotated[
    str | None,
    option(_PHYSICS, "Others, by element or atom from 0: C=13,0=18.", metavar="X=A"),
]
AllowAttraction = Annotated[
    bool, option(_PHYSICS, "Accept charges of both signs.", "--allow-attraction")
]
Units = Annotated[
    Literal["angstrom", "bohr"] | None, option(_PHYSICS, "Of the structure file.")
]
IgnoreCell = Annotated[
    bool, option(_PHYSICS, "Take a periodic structure as isolated.", "--ignore-cell")
]
EnsembleName = Annotated[
    Literal["equilibrium", "gaussian", "sphere", "box", "frames"],
    option(_GEOMETRY, "How geometries are drawn; frames are those of the structure file."),
]
Sigma = Annotated[
    float | None, option(_GEOMETRY, "gaussian: displacement along each axis, Å.")
]
Radius = Annotated[float | None, option(_GEOMETRY, "sphere: radius, Å.")]
MinDistance = Annotated[
    float | None,
    option(_GEOMETRY, "sphere: least distance, Å; of a structure that is read: 0.1."),
]
FirstBond = Annotated[Any, option(_GEOMETRY, "box: central to first other atom, Å.", **_range)]
SecondBond = Annotated[
    Any, option(_GEOMETRY, "box: central to second other atom, Å.", **_range)
]
Angle = Annotated[Any, option(_GEOMETRY, "box: between the bonds, degrees.", **_range)]
PriorName = Annotated[
    Literal["gaussian", "sphere", "box"] | None,
    option(_GEOMETRY, "How probable a geometry was before; weighs several solutions."),
]
PriorMolecule = Annotated[
    str | None,
    option(_GEOMETRY, "Of the prior, if the file does not say; a name or a file."),
]
Orientation = Annotated[
    Literal["given", "random", "recoil"],
    option(_GEOMETRY, "As read; uniform; or the first ion's momentum along +x."),
]
AtRest = Annotated[
    bool, option(_GEOMETRY, "No initial momenta; today the only start.", "--at-rest")
]
Precision = Annotated[
    Literal["float64", "float32"], option(_ACCURACY, "float32 is several times faster.")
]
Tolerance = Annotated[
    float | None,
    option(_ACCURACY, "Relative error of the momenta; else 1e-9, in float32 3e-4."),
]
MaxSteps = Annotated[int, option(_ACCURACY, "After which an event is given up.", min=1)]
Portable = Annotated[
    bool, option(_ACCURACY, "The same bits on every processor; slower.", "--portable")
]
Job = Annotated[
    Any,
    option(
        _RUN,
        "Make shards i, i+n, ... only: job i of n.",
        "--shard",
        parser=shard,
        metavar="I/N",
    ),
]
ShardSize = Annotated[
    int, option(_RUN, "Events in a shard.", parser=count, metavar="N", show_default="2^20")
]
DryRun = Annotated[
    bool, option(_FILES, "Say what would be written, and write nothing.", "--dry-run")
]
Config = Annotated[
    Path | None,
    option(
        *(_RUN, "Take options from this file; flags override."),
        is_eager=True,
        callback=_config,
        metavar="TOML",
    ),
]
Seed = Annotated[int, option(_RUN, "Of the random numbers.", parser=seed, metavar="INT")]
Threads = Annotated[
    int, option(_RUN, "At most; 0: all processors that the process may use.", min=0)
]
All = Annotated[bool, option(_FILES, "Keep all solutions, not the most probable.", "--all")]
Project = Annotated[
    bool, option(_ACCURACY, "Take out a sum of the momenta that is not zero.", "--project")
]
Model = Annotated[
    Path | None,
    option(_ACCURACY, "By `coulex train`: searches start at its draws.", metavar="DIR"),
]
Samples = Annotated[
    Any,
    option(
        _ACCURACY,
        "With --model and --noise: draws to weigh by the simulator, for each event.",
        parser=count,
        metavar="N",
    ),
]
MaxCharge = Annotated[
    int | None,
    option(_PHYSICS, "Of an ion, with --charges unknown: all up to it are ranked.", min=1),
]
Noise = Annotated[
    float | None,
    option(
        _ACCURACY,
        "Of each component of a momentum, relative to its length: 0.01 is 1 %.",
        min=0.0,
        max=1.0,
    ),
]
Limit = Annotated[
    float,
    option(_ACCURACY, "Error in Å up to which a solution is the truth.", min=0.0),
]
Json = Annotated[bool, option(_FILES, "Print one JSON object.", "--json")]
Overwrite = Annotated[bool, option(_FILES, "Replace what is there.", "--overwrite")]
Resume = Annotated[bool, option(_FILES, "Continue what is there.", "--resume")]
