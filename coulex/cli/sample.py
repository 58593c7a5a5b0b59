"""`coulex sample`: a model in, what it draws out: for each event of a file, or structures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options as o
from .comparing import say_outside
from .data import ColumnNames, MomentumUnits, PositionColumns, PositionUnits
from .measured import check_out, momenta_of
from .output import Interrupted, Stop, print_json, progress, say
from .sample_structures import FOR_STRUCTURES, StructureDraws, draw_structures
from .simulate import canonical_command, check_choice
from .train import settings_of

if TYPE_CHECKING:
    import numpy as np

    from coulex.drawing import Drawing
    from generative.sampler import Sampler

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A model, by `coulex train`.")]
Draws = Annotated[
    int, typer.Option("-n", parser=o.count, metavar="N", help="Draws for each event.")
]
Condition = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Momenta: .h5, a folder, .csv or .npz; of models with a context, structures.",
    ),
]
Part = Annotated[
    Literal["test", "validation", "train", "all"] | None,
    typer.Option(
        help="Of the events that the model was trained on.",
        show_default="test for the file that it was trained on, all of others",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        *("-o", "--out"),
        metavar="FILE.h5|DIR|FILE.extxyz",
        help="Events in a file, or in shards in a folder; structures in a file.",
    ),
]
How = Annotated[
    str | None,
    typer.Option(metavar="K=V,...", help="Ways of drawing of a model of structures."),
]
Events = Annotated[
    Any,
    typer.Option(parser=o.count, metavar="N", help="The first so many events; else all."),
]
AddNoise = Annotated[
    float | None,
    typer.Option(
        help="Add noise to the momenta, relative to the length of each.", min=0.0, max=1.0
    ),
]


def sample(
    context: typer.Context,
    model: Folder,
    n: Draws,
    out: Out,
    condition: Condition = None,
    part: Part = None,
    events: Events = None,
    noise: o.Noise = None,
    add_noise: AddNoise = None,
    charges: o.Charges = None,
    masses: o.Masses = "isotope",
    momentum_units: MomentumUnits = None,
    columns: ColumnNames = None,
    position_units: PositionUnits = None,
    position_columns: PositionColumns = None,
    how: How = None,
    seed: o.Seed = 1,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Draw from a model: geometries for every event of a file of momenta, or structures."""
    check_choice(resume, overwrite)
    if _of_structures(model):
        _refuse_others(context)
        request = StructureDraws(model, condition, n, settings_of(how), seed)
        draw_structures(request, out, canonical_command(context), overwrite, json)
        return
    o.event_file(out)
    if how is not None:
        msg = "--how is for models of structures; this one is of momenta"
        raise typer.BadParameter(msg)
    if condition is None:
        msg = "--condition FILE is needed: the momenta to draw geometries for"
        raise typer.BadParameter(msg)
    if noise is not None and add_noise is not None:
        msg = "--noise is of momenta that have it, --add-noise adds it; give one of them"
        raise typer.BadParameter(msg)
    level = noise if add_noise is None else add_noise
    if level is not None and not 0 < level < 1:
        msg = f"noise must be above 0 and below 1, got {level:g}"
        raise typer.BadParameter(msg)
    check_out(out, condition, overwrite=overwrite, resume=resume)
    declared = {
        "momentum_units": momentum_units,
        "columns": columns,
        "position_units": position_units,
        "position_columns": position_columns,
    }
    source, constants, origin = momenta_of(condition, declared, charges, masses)
    from coulex.drawing import Drawing, some_of
    from generative.sampler import load

    sampler, described = load(model)
    sampler.check(*(constants.get(name) for name in ("masses", "charges", "numbers")))
    keep, chosen = _part(model, sampler, condition, part)
    drawing = Drawing(
        source=some_of(source, keep, events),
        constants=constants,
        origin={**origin, **_made_by(condition), "part": chosen},
        sampler=sampler,
        described=described,
        draws=n,
        outside=sampler.outside,
        noise=level,
        add_noise=add_noise is not None,
        seed=seed,
    )
    if not drawing.source.n_events:
        msg = f"{condition} has no event to draw for"
        raise ValueError(msg)
    ways = {"resume": resume, "overwrite": overwrite}
    made = _run(drawing, out, canonical_command(context), **ways)
    made |= {"part": chosen and chosen["name"], "model": described["model"], "seed": seed}
    _tell(made, json=json)


def _of_structures(model: Path) -> bool:
    from generative.files import read_about

    return read_about(model)["representation"]["kind"] != "geometry"


def _refuse_others(context: typer.Context) -> None:
    """Refuse options that structures have no use for."""
    for name in context.params:
        given = context.get_parameter_source(name)
        if name not in FOR_STRUCTURES and given is not None and given.name == "COMMANDLINE":
            msg = f"--{name.replace('_', '-')} is for models of momenta"
            raise typer.BadParameter(msg)


def _made_by(file: Path) -> dict[str, Any]:
    """Return how a simulated file drew its geometries: the prior of what is drawn here."""
    from coulex import dataset
    from coulex.dataset.plan import is_single

    if not (file.is_dir() or is_single(file)):
        return {}
    said = dataset.open(file).configuration
    return {name: said[name] for name in ("ensemble", "start") if name in said}


def _part(
    folder: Path, sampler: "Sampler", file: Path, part: str | None
) -> "tuple[Callable[[int, int], np.ndarray] | None, dict[str, Any] | None]":
    """Return which events to keep, so that none that was trained on is taken for new."""
    from coulex import dataset
    from coulex.dataset.plan import is_single
    from generative.data import PARTS, Events, part_of
    from generative.files import read_about

    about, trained = read_about(folder)["about"], False
    if file.is_dir() or is_single(file):
        held = dataset.open(file)
        names = sampler.geometry.needs, sampler.geometry.optional  # what training read
        if all(name in held for name in names[0]):
            source = Events(file, *names)
            drawn_by = source.drawn_by
            trained = source.identity == about.get("data")
            if not trained and drawn_by is not None and drawn_by == about.get("data_drawn_by"):
                say(f"{file} was drawn as the data of the model were, with the same seed")
                trained = True
    if not trained:
        if part not in (None, "all"):
            msg = f"--part {part} is of the file that the model was trained on, not of {file}"
            raise typer.BadParameter(msg)
        return None, None
    part, seed = part or "test", int(about["training"]["seed"])
    if part != "test":
        say(f"the model was trained on {file}: its draws for part {part} prove nothing")
    else:
        say(
            f"the model was trained on {file}: drawing for the events that were left for "
            "tests; others are made by another --seed"
        )
    if part == "all":
        return None, {"name": part, "seed": seed}
    number = list(PARTS).index(part)
    return (lambda first, count: part_of(seed, first, count) == number), {
        "name": part,
        "seed": seed,
    }


def _run(
    drawing: "Drawing", out: Path, command: str, *, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Make what is missing of a file, and return what came out."""
    from coulex import dataset
    from coulex.dataset import Target
    from coulex.filling import fill

    from .produce import commit

    target = Target(
        out,
        drawing.configuration(),
        {"command": command, "commit": commit()},
        drawing.source.n_events,
        shard_events=drawing.shard_events,
        resume=resume,
        overwrite=overwrite,
    )
    with Stop() as stop, target:
        target.check_space(drawing.bytes_per_event())
        left = sum(shard.count for shard in target.missing())
        with progress(left, "drawing") as tick:
            ends = {"block": drawing.block, "progress": tick, "stop": stop}
            done, seconds, stopped = fill(
                target, drawing.source, drawing.constants, drawing.events, **ends
            )
        if not stopped:
            target.finalize()
    if stopped:
        msg = (
            f"interrupted: what is finished of {out} is kept; "
            "the same command with --resume continues it"
        )
        raise Interrupted(msg, stop.code)
    data = dataset.open(out)
    numbers = data["n_solutions"]
    return {
        "file": str(out),
        "events": data.n_events,
        "draws": drawing.draws,
        "without_draws": int((numbers == 0).sum()),
        "not_finite": int((drawing.draws - numbers[numbers > 0]).sum()),
        "outside_training": say_outside(data),
        "has_density": "solution_log_density" in data,
        "noise": drawing.noise,
        "seconds": seconds,
        "draws_per_second": done * drawing.draws / seconds if done else None,
        "command": command,
    }


def _tell(made: dict[str, Any], *, json: bool) -> None:
    """Print what was drawn; fail if nothing was."""
    from coulex.errors import CoulexError

    if made["not_finite"]:
        say(f"warning: {made['not_finite']} draws are not finite, and left out")
    if json:
        print_json(made)
    else:
        print(
            f"{made['file']}: {made['draws']} draws for each of "
            f"{made['events'] - made['without_draws']:,} events"
        )
        if made["without_draws"]:
            say(f"{made['without_draws']} events have no momenta, and no draws")
    if made["without_draws"] == made["events"]:
        msg = f"none of {made['events']} events has momenta to draw for"
        raise CoulexError(msg)
