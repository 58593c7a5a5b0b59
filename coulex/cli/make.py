"""`coulex make`: data for the models of structures, where there is no file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from . import molecule as m
from . import options as o
from .output import Commands, Interrupted, Stop, check_new_file, print_json, progress, say
from .simulate import canonical_command

if TYPE_CHECKING:
    from generative.silicon import Recording
    from generative.structures import Structure
    from generative.trajectories import Trajectory

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Make data for other models.")

_RDF = (8.0, 0.05)  # up to, and width of the shells, Å
_PEAKS = 2  # of the RDF are named
_PROMINENT = 0.3  # what counts as a peak stands out by this much
_MEASURED = 200  # frames of each run that are measured
_FEW = 50  # independent frames: too few to hold some back

Made = TypeVar("Made")

PotentialName = Annotated[
    Literal["edip", "sw", "tersoff"],
    typer.Option(help="EDIP; Stillinger-Weber, a negative control; Tersoff."),
]
Density = Annotated[float, typer.Option(help="g/cm³.", min=0.1)]
Cooling = Annotated[float, typer.Option(help="From melt to glass, ps.", min=0.001)]


@app.command()
def silicon(
    context: typer.Context,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.extxyz")],
    atoms: Annotated[int, typer.Option(parser=o.count, metavar="N")] = 512,
    potential: PotentialName = "edip",
    density: Density = 2.29,
    cooling: Cooling = 250.0,
    seed: o.Seed = 1,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Melt silicon, cool it to a glass, and relax that: 5 minutes for 512 atoms with EDIP."""
    check_new_file(out, (".extxyz", ".xyz"), overwrite)
    from generative.silicon import Quench, glass
    from generative.structures import write

    with m.usage():
        quench = Quench(
            atoms=atoms, potential=potential, density=density, cooling=cooling, seed=seed
        )
    made = _in_time(quench.picoseconds, lambda tick, stop: glass(quench, tick, stop))
    command = _command(context)
    write(out, [made], [dict(made.info) | {"command": command}])
    found = _measures([made]) | {"energy_per_atom": made.info["energy_per_atom"]}
    found |= {"pressure_gpa": made.info["pressure_gpa"], "seed": seed, "file": str(out)}
    _tell(f"amorphous silicon, {potential}, {atoms} atoms", found, command, json=json)


@app.command()
def silicon_trajectory(
    context: typer.Context,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.h5")],
    temperature: Annotated[float, typer.Option(help="K.", min=1.0)],
    frames: Annotated[int, typer.Option(parser=o.count, metavar="N")] = 40_000,
    interval: Annotated[float, typer.Option(help="Between frames, fs.")] = 10.0,
    runs: Annotated[
        int, typer.Option(parser=o.count, metavar="N", help="From the same glass or melt.")
    ] = 1,
    atoms: Annotated[int, typer.Option(parser=o.count, metavar="N")] = 30,
    potential: PotentialName = "edip",
    density: Density = 2.29,
    cooling: Cooling = 100.0,
    seed: o.Seed = 1,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Record silicon at a temperature: 1 minute for 40,000 frames of 30 atoms.

    Runs have velocities and random forces of their own; another seed is another glass.
    """
    check_new_file(out, (".h5", ".hdf5"), overwrite)
    from generative.silicon import Quench, Recording
    from generative.trajectories import write

    with m.usage():
        quench = Quench(
            atoms=atoms,
            potential=potential,
            density=density,
            temperature=temperature,
            cooling=cooling,
            seed=seed,
        )
        recording = Recording(quench=quench, frames=frames, interval=interval, runs=runs)
    made = _in_time(recording.picoseconds, recording.run)
    command = _command(context)
    for run in made:
        run.provenance["command"] = command
    write(out, made)
    found = _course(recording, made) | {"seed": seed, "file": str(out)}
    if found["energy_effective_frames"] < _FEW:
        say(
            f"warning: its energy is worth {found['energy_effective_frames']:.0f} independent "
            "frames: it drifts, or is too short; more --frames, more --runs or another --seed"
        )
    _tell(
        f"silicon at {temperature:g} K, {potential}, {atoms} atoms", found, command, json=json
    )


def _command(context: typer.Context) -> str:
    return canonical_command(context).replace("coulex", "coulex make", 1)


def _in_time(
    picoseconds: float,
    work: Callable[[Callable[[float], None], Callable[[], bool]], Made],
) -> Made:
    """Do work that takes picoseconds, with a bar; a signal ends it between two pieces."""
    from generative.silicon import Stopped

    with Stop() as stop, progress(round(picoseconds), "picoseconds") as tick:
        try:
            return work(tick, stop)
        except Stopped as error:
            msg = "interrupted: nothing is written; the same command starts again"
            raise Interrupted(msg, stop.code) from error


def _measures(structures: "list[Structure]") -> dict[str, Any]:
    """Return what structures of silicon are like, by name."""
    import numpy as np
    from scipy.signal import find_peaks

    from generative.structures import measures
    from generative.structures.rdf import rdf

    bonds = np.concatenate([measures.bond_lengths(s) for s in structures])
    angles = np.concatenate([measures.bond_angles(s) for s in structures])
    neighbours = np.concatenate([measures.coordination(s) for s in structures])
    r, g = rdf(structures, *_RDF)
    peaks, _ = find_peaks(g, prominence=_PROMINENT)
    return {
        "density": measures.density(structures[0]),
        "coordination": float(neighbours.mean()),
        "four_fold": float((neighbours == 4).mean()),
        "bond": [float(bonds.mean()), float(bonds.std())],
        "angle": [float(angles.mean()), float(angles.std())],
        "rdf_peaks": [[float(r[k]), float(g[k])] for k in peaks[:_PEAKS]],
    }


def _course(recording: "Recording", runs: "list[Trajectory]") -> dict[str, Any]:
    """Return what runs are like, and how many independent frames they are worth."""
    import numpy as np

    from generative.correlation import effective
    from generative.structures import Structure

    worth = [effective(run) for run in runs]
    energy = np.array([run.energy for run in runs]) / recording.quench.atoms
    centres = [run.positions.mean(axis=1) for run in runs]
    moved = np.concatenate([run.positions[-1] - run.positions[0] for run in runs])
    frames = [
        Structure(positions=x, cell=run.cell, periodic=run.periodic, numbers=run.numbers)
        for run in runs
        for x in run.positions[:: max(1, recording.frames // _MEASURED)]
    ]
    picosecond = recording.interval / 1000
    found: dict[str, Any] = {
        "runs": recording.runs,
        "frames": recording.frames,
        "temperature": float(np.mean([r.provenance["mean_temperature"] for r in runs])),
        "energy_per_atom": float(energy.mean()),
        "centre_of_mass_drift": float(max(np.ptp(c, axis=0).max() for c in centres)),
        "rms_displacement": float(np.sqrt((moved**2).sum(axis=1).mean())),
    }
    for name in worth[0]:
        found[f"{name}_time_ps"] = float(np.mean([w[name][0] for w in worth])) * picosecond
        found[f"{name}_effective_frames"] = float(np.sum([w[name][1] for w in worth]))
    return found | _measures(frames)


#: how each number is said
_SAID: dict[str, tuple[str, Callable[[Any], str]]] = {
    "runs": ("runs", str),
    "frames": ("frames of each", "{:,}".format),
    "temperature": ("temperature, mean", "{:.1f} K".format),
    "density": ("density", "{:.3f} g/cm³".format),
    "energy_per_atom": ("potential energy per atom", "{:.4f} eV".format),
    "pressure_gpa": ("pressure", "{:.2f} GPa".format),
    "coordination": ("neighbours within 2.85 Å", "{:.3f}".format),
    "four_fold": ("  of atoms with four", "{:.1%}".format),
    "bond": ("bond, mean ± sd", lambda v: f"{v[0]:.3f} ± {v[1]:.3f} Å"),
    "angle": ("angle, mean ± sd", lambda v: f"{v[0]:.2f} ± {v[1]:.2f}°"),
    "rdf_peaks": (
        "peaks of the RDF",
        lambda v: ", ".join(f"{g:.2f} at {r:.3f} Å" for r, g in v),
    ),
    "coordinates_time_ps": ("autocorrelation of coordinates", "{:.3g} ps".format),
    "coordinates_effective_frames": ("  frames they are worth", "{:,.0f}".format),
    "energy_time_ps": ("autocorrelation of the energy", "{:.3g} ps".format),
    "energy_effective_frames": ("  frames it is worth", "{:,.0f}".format),
    "centre_of_mass_drift": ("centre of mass moves by", "{:.1e} Å".format),
    "rms_displacement": ("displacement, first to last, rms", "{:.2f} Å, unwrapped".format),
    "seed": ("seed", str),
    "file": ("file", str),
}


def _tell(title: str, found: dict[str, Any], command: str, *, json: bool) -> None:
    """Print what was made."""
    if json:
        print_json(found | {"command": command})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column()
    for name, (label, text) in _SAID.items():
        if name in found:
            table.add_row(label, text(found[name]))
    Console(highlight=False).print(table)
