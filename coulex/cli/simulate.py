"""`coulex simulate`: a molecule in, the momenta of its explosions out."""

import shlex
from pathlib import Path

import typer

from . import molecule as m
from . import options as o

#: options that do not change a single number: they stay out of the command in the file
_NOT_RECORDED = {
    *("out", "job", "shard_size", "threads", "config", "json", "overwrite", "resume"),
    "dry_run",
}


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
    check_choice(resume, overwrite)
    geometry = {"sigma": sigma, "radius": radius, "min_distance": min_distance}
    geometry |= {"first_bond": first_bond, "second_bond": second_bond, "angle": angle}
    m.check_needs(ensemble, geometry)
    of_file = {"units": units, "ignore_cell": ignore_cell}
    m.check_file_options(molecule, of_file | {"min_distance": min_distance}, ensemble)
    believed = min(m.CLOSEST, min_distance or m.CLOSEST)
    of_file["min_distance_angstrom"] = believed
    read, frames = m.read(molecule, ensemble == "frames", of_file)
    from coulex.production import Production

    from .produce import Order, predict, produce

    with m.usage():
        production = Production(
            molecule=m.charged(m.weighed(read, masses, isotopes), charges, allow_attraction),
            ensemble=m.ensemble(ensemble, geometry, frames),
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


def check_choice(resume: bool, overwrite: bool) -> None:
    """Refuse two options of which each says what to do with what is there."""
    if resume and overwrite:
        msg = "--resume continues a run, --overwrite starts it anew; give one of them"
        raise typer.BadParameter(msg)


def canonical_command(context: typer.Context) -> str:
    """Return the command that makes the same numbers, without where and how fast."""
    words = ["coulex", str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name in _NOT_RECORDED or value is None or value == parameter.default:
            continue
        if name == "molecule" or isinstance(value, Path):
            value = Path(value).name  # where a file lies does not matter
        if isinstance(value, list):  # of files
            words += [Path(one).name for one in value]
        elif parameter.param_type_name == "argument":
            words.append(value)
        elif value is True:
            words.append(parameter.opts[0])
        else:
            text = ":".join(repr(end) for end in value) if isinstance(value, tuple) else value
            words += [parameter.opts[0], str(text)]
    return shlex.join(words)
