"""`coulex invert`: momenta in, the geometries that explain them out."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import molecule as m
from . import options as o
from .comparing import compared, print_ways, say_outside, say_weights
from .data import ColumnNames, MomentumUnits, PositionColumns, PositionUnits
from .measured import check_out, momenta_of
from .output import Interrupted, Stop, progress, say
from .simulate import canonical_command, check_choice
from .validate import tell

if TYPE_CHECKING:
    from coulex.dataset.exchange import Source
    from coulex.ensemble import Ensemble
    from coulex.inverse.validate import RoundTrip
    from coulex.molecule import Molecule
    from coulex.reconstruction import Reconstruction, Work

_RANKED = 200  # events that charges are told from


def invert(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Momenta: .h5, a folder, .csv or .npz.")
    ],
    out: o.Out,
    charges: o.Charges = None,
    max_charge: o.MaxCharge = None,
    masses: o.Masses = "isotope",
    momentum_units: MomentumUnits = None,
    columns: ColumnNames = None,
    position_units: PositionUnits = None,
    position_columns: PositionColumns = None,
    prior: o.PriorName = None,
    molecule: o.PriorMolecule = None,
    sigma: o.Sigma = None,
    radius: o.Radius = None,
    min_distance: o.MinDistance = None,
    first_bond: o.FirstBond = None,
    second_bond: o.SecondBond = None,
    angle: o.Angle = None,
    noise: o.Noise = None,
    model: o.Model = None,
    samples: o.Samples = None,
    project: o.Project = False,
    all_: o.All = False,
    threads: o.Threads = 0,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Find the geometries from which ions at rest fly apart with the momenta of a file."""
    check_choice(resume, overwrite)
    if noise is not None and not 0 < noise < 1:
        msg = f"--noise must be above 0 and below 1, got {noise:g}"
        raise typer.BadParameter(msg)
    if samples is not None and (noise is None or model is None):
        msg = "--samples are draws of a --model, weighed by the --noise of the momenta"
        raise typer.BadParameter(msg)
    geometry = {"sigma": sigma, "radius": radius, "min_distance": min_distance}
    geometry |= {"first_bond": first_bond, "second_bond": second_bond, "angle": angle}
    _check_prior(prior, molecule, geometry)
    check_out(out, file, overwrite=overwrite, resume=resume)
    declared = {
        "momentum_units": momentum_units,
        "columns": columns,
        "position_units": position_units,
        "position_columns": position_columns,
    }
    unknown = _are_unknown(charges, max_charge, prior)
    source, constants, origin = momenta_of(file, declared, charges, masses)
    from coulex.reconstruction import Reconstruction

    with m.usage():
        believed = _prior(prior, molecule, geometry, origin, source)
        if unknown and believed and max_charge:
            constants, said = _ranked(source, believed, max_charge, threads)
            origin["ranking"] = said
    if believed is None and model is None and len(constants.get("masses", ())) > 3:
        say(
            "no --prior: geometries of any shape are searched for, which is slow; some may be "
            "missed, and the weights do not say which one is likely"
        )
    reconstruction = Reconstruction(
        source=source,
        constants=constants,
        origin=origin,
        project=project,
        noise=noise,
        keep_all=all_,
        prior=believed,
        samples=samples or 0,
        **(_started_by(model, constants, samples) if model else {}),
    )
    command = canonical_command(context)
    reconstruct(
        reconstruction,
        out,
        command,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        json=json,
    )


def _started_by(
    folder: Path, constants: dict[str, Any], samples: int | None
) -> dict[str, Any]:
    """Return a model as a source of starts, if it is of these ions."""
    from coulex.errors import InvalidDataError
    from generative.sampler import load

    sampler, described = load(folder)
    sampler.check(*(constants.get(name) for name in ("masses", "charges", "numbers")))
    if samples and not sampler.has_density:
        msg = f"{folder} has no density of positions: it gives starts, and no --samples"
        raise InvalidDataError(msg)
    return {"sampler": sampler, "described": described, "outside": sampler.outside}


def _are_unknown(charges: str | None, max_charge: int | None, prior: str | None) -> bool:
    """Return whether charges are to be found, and refuse what does not go with that."""
    if charges != "unknown":
        if max_charge is not None:
            msg = "--max-charge goes with --charges unknown"
            raise typer.BadParameter(msg)
        return False
    if max_charge is None:
        msg = "--charges unknown needs --max-charge, the highest that an ion may have"
        raise typer.BadParameter(msg)
    if prior is None:
        msg = "--charges unknown needs a --prior: any charges have a geometry"
        raise typer.BadParameter(msg)
    return True


def _ranked(
    source: "Source", prior: "tuple[Ensemble, Molecule]", max_charge: int, threads: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ions have in common, of the most probable charges, and how it was told."""
    import numpy as np

    from coulex.errors import InvalidDataError
    from coulex.inverse import rank_charges
    from coulex.reconstruction import relative_sums, without_sum

    from .produce import threads_of

    molecule = prior[1]
    block = next(source.blocks(_RANKED), None)
    momenta = np.empty((0, 0, 3)) if block is None else block["momenta"].astype(float)
    good = np.asarray(np.isfinite(momenta).all(axis=(1, 2)))
    momenta = momenta[good & (relative_sums(np.where(good[:, None, None], momenta, 0)) < 1e-6)]
    if not len(momenta):
        msg = "no event has momenta to tell charges from"
        raise InvalidDataError(msg)
    momenta = without_sum(momenta, molecule.masses)
    said = rank_charges(momenta, prior=prior, up_to=max_charge, threads=threads_of(threads))
    best = (said.log_evidence == said.log_evidence.max(axis=1, keepdims=True)).mean(axis=0)
    say(f"charges by their evidence under the prior, from {len(momenta)} events")
    for charge, share, probability in list(
        zip(said.charges, best, said.probability, strict=True)
    )[:6]:
        named = ", ".join(f"{s} {q:g}" for s, q in zip(molecule.symbols, charge, strict=True))
        say(
            f"  {named}: probability {probability:.3g}, first in {100 * share:.0f} % of events"
        )
    for one, two in said.ambiguous:
        names = (f"{molecule.symbols[ion]}{charge}+" for ion, charge in (one, two))
        say(f"  {' and '.join(names)} have the same m/q")
    charged = molecule.with_charges(said.charges[0].tolist())
    constants = {
        "masses": np.asarray(charged.ion_masses, np.float64),
        "charges": np.asarray(charged.charges, np.float64),
        "numbers": np.asarray(charged.numbers, np.int32),
    }
    about = {
        "up_to": max_charge,
        "events": len(momenta),
        "probability": float(said.probability[0]),
        "first_in": float(best[0]),
    }
    return constants, about


def _check_prior(prior: str | None, molecule: str | None, geometry: dict[str, Any]) -> None:
    """Refuse a prior without its options, and options without a prior."""
    if prior is not None:
        m.check_needs(prior, geometry, option="--prior")
        if molecule is not None:
            of_file = {"min_distance": geometry["min_distance"]}
            m.check_file_options(molecule, of_file, prior)
        elif prior != "sphere" and geometry["min_distance"] is not None:
            msg = f"--min-distance is for a sphere or a structure file, not for {prior}"
            raise typer.BadParameter(msg)
        return
    given = {**geometry, "molecule": molecule}
    idle = [name for name, value in given.items() if value is not None]
    if idle:
        msg = f"{m.flag(idle[0])} is an option of a prior; name it: --prior gaussian"
        raise typer.BadParameter(msg)


def _prior(
    name: str | None,
    molecule: str | None,
    geometry: dict[str, Any],
    origin: dict[str, Any],
    source: "Source",
) -> "tuple[Ensemble, Molecule] | None":
    """Return the ensemble that weighs the solutions, and its molecule."""
    if name is None:
        return None
    import numpy as np

    from coulex.molecule import Molecule

    if molecule is not None:
        believed = min(m.CLOSEST, geometry["min_distance"] or m.CLOSEST)
        settings = {"units": None, "ignore_cell": False, "min_distance_angstrom": believed}
        about, _ = m.read(molecule, False, settings)
    elif "molecule" in origin:
        about = m.described(origin["molecule"])
    elif name == "sphere" and source.symbols:  # of which only the number of atoms counts
        about = Molecule.of(source.symbols, np.zeros((len(source.symbols), 3)))
    else:
        msg = f"--prior {name} is about a molecule; name it: --molecule OCS"
        raise typer.BadParameter(msg)
    return m.ensemble(name, geometry, None), about


def reconstruct(
    reconstruction: "Reconstruction",
    out: Path,
    command: str,
    *,
    threads: int,
    resume: bool,
    overwrite: bool,
    json: bool,
) -> None:
    """Make what is missing of a file, and print its round trip."""
    from coulex import dataset
    from coulex.dataset import Target, estimates
    from coulex.reconstruction import SHARD_EVENTS, run
    from coulex.round_trip import check

    from .produce import commit, threads_of

    used, n_events = threads_of(threads), reconstruction.source.n_events
    target = Target(
        out,
        reconstruction.configuration(),
        {"command": command, "commit": commit()},
        n_events,
        shard_events=SHARD_EVENTS,
        resume=resume,
        overwrite=overwrite,
    )
    with Stop() as stop, target:
        target.check_space(reconstruction.bytes_per_event())
        left = sum(shard.count for shard in target.missing())
        seconds = _prepare(reconstruction, used) if left else 0.0
        with progress(left, "inverting") as tick:
            work = run(reconstruction, target, threads=used, progress=tick, stop=stop)
        if not work.stopped:
            target.finalize()
    if work.stopped:
        msg = (
            f"interrupted: what is finished of {out} is kept; "
            "the same command with --resume continues it"
        )
        raise Interrupted(msg, stop.code)
    _say_sums(work, reconstruction)
    data = dataset.open(out)
    table = check(data, threads=used)
    made = {
        "file": str(out),
        "inverted_now": work.events,
        "seconds": work.seconds,
        "prepare_seconds": seconds,
        "events_per_second": work.events / work.seconds if work.events else None,
        "largest_momentum_sum": work.largest_sum if work.events else math.nan,
        "command": command,
    }
    if reconstruction.noise is not None:
        made["estimate"] = asdict(estimates.summary(data))
    ways = []
    if reconstruction.sampler:
        ways = compared(reconstruction, data, used)
        made["comparison"] = [way.describe() for way in ways]
        made["outside_training"] = say_outside(data)
    if reconstruction.samples:
        made["posterior"] = say_weights(data, reconstruction.samples)
    tell(data, table, made, json=json)
    if ways and not json:
        print_ways(ways)
    _fail_if_nothing_can_be_said(table)


def _prepare(reconstruction: "Reconstruction", threads: int) -> float:
    """Have everything ready, saying so, and return the seconds that it took."""
    from coulex.reconstruction import prepare

    say("preparing kernels and tables (made once for each molecule)")
    seconds = prepare(reconstruction, threads=threads)
    say(f"ready after {seconds:.1f} s")
    return seconds


def _say_sums(work: "Work", reconstruction: "Reconstruction") -> None:
    """Warn of momenta that do not add up to zero."""
    if not work.sums:
        return
    from coulex.reconstruction import SUM_TOLERANCE

    what = "taken out" if reconstruction.project else f"taken out up to {SUM_TOLERANCE:g}"
    if reconstruction.noise is not None and not reconstruction.project:
        what = "taken out as far as noise explains them"
    say(
        f"warning: the momenta of {work.sums} of {work.events} events do not add up to zero: "
        f"|Σp| up to {work.largest_sum:.1e} of |p|, {what}"
    )


def _fail_if_nothing_can_be_said(table: "RoundTrip") -> None:
    """Raise if momenta were left out for their sum, or no event has a geometry."""
    from coulex.errors import CoulexError
    from coulex.inverse.solutions import MOMENTUM_SUM, STATUS

    off = table.status.get(STATUS[MOMENTUM_SUM][0], 0)
    if off:
        msg = (
            f"{off} of {table.events} events have momenta that do not add up to zero: an ion "
            "is missing, or they are not in the frame of the molecule; --project takes the "
            "sum out"
        )
        raise CoulexError(msg)
    if table.failed == table.events:
        msg = f"none of {table.events} events has a geometry"
        raise CoulexError(msg)
