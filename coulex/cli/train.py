"""`coulex train`: files of events or structures in, a folder with a model out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options as o
from .output import Interrupted, Stop, print_json, progress, say
from .simulate import canonical_command, check_choice

if TYPE_CHECKING:
    from generative.production import Order

_MODEL, _DATA, _TRAINING = "Model", "What it sees", "Training"

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Of events: gaussian, mlp, cvae, cvae-two-stage, cinn, cinn-latent, flow. Of "
        "structures: gram-vae, gram-diffusion, gram-equivariant, gram-graph, repap.",
    ),
]
DataFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="What to learn from: events, or structures."),
]
Folder = Annotated[
    Path, typer.Option("-o", "--out", metavar="DIR", help="Appears when it is whole.")
]
Preset = Annotated[
    str | None, o.option(_MODEL, "published: the recipe of the publication.", metavar="NAME")
]
Settings = Annotated[
    str | None,
    o.option(_MODEL, "Options of the model: width=256,blocks=4.", "--set", metavar="K=V,..."),
]
Frame = Annotated[
    Literal["given", "recoil"] | None, o.option(_DATA, "As in the file; of the momenta.")
]
Coordinates = Annotated[
    Literal["positions", "centred", "jacobi", "shape"] | None,
    o.option(_DATA, "Of the geometry; see docs/networks.md."),
]
Conditions = Annotated[
    str | None,
    o.option(_DATA, "Features of the momenta, such as scale-free,log-ker.", metavar="A,B"),
]
Identical = Annotated[
    Literal["as-given", "canonical", "augment"] | None,
    o.option(_DATA, "Identical ions: as in the file; in an order; in all."),
]
See = Annotated[
    str | None,
    o.option(_DATA, "Any of it, as of structures: neighbours=8,context=8.", metavar="K=V,..."),
]
NoiseRange = Annotated[
    Any,
    o.option(
        _DATA,
        "Noise of the momenta, relative, drawn anew: 0.01:0.05.",
        parser=o.interval,
        metavar="LOW:HIGH",
    ),
]
Epochs = Annotated[int | None, o.option(_TRAINING, "At most.", parser=o.count, metavar="N")]
BatchSize = Annotated[
    int | None, o.option(_TRAINING, "Events in a step.", parser=o.count, metavar="N")
]
LearningRate = Annotated[float | None, o.option(_TRAINING, "Of Adam, at its largest.")]
Patience = Annotated[
    int | None, o.option(_TRAINING, "Epochs without a better one; 0: any.", min=0)
]
Ema = Annotated[
    float | None, o.option(_TRAINING, "Decay of the running mean of parameters that is kept.")
]
Device = Annotated[str, o.option(_TRAINING, "cpu, cuda, cuda:1.", metavar="DEVICE")]
Mixed = Annotated[Literal["float32", "bf16"] | None, o.option(_TRAINING, "Of the arithmetic.")]
Compiled = Annotated[
    bool, o.option(_TRAINING, "By torch.compile; on a GPU captured as graphs.", "--compile")
]


def train(
    context: typer.Context,
    model: ModelName,
    files: DataFiles,
    out: Folder,
    preset: Preset = None,
    settings: Settings = None,
    frame: Frame = None,
    coordinates: Coordinates = None,
    conditions: Conditions = None,
    identical: Identical = None,
    noise: NoiseRange = None,
    see: See = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    patience: Patience = None,
    ema: Ema = None,
    precision: Mixed = None,
    compiled: Compiled = False,
    device: Device = "cpu",
    seed: o.Seed = 1,
    threads: o.Threads = 0,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Train a generative model: of geometries given momenta, or of atomic structures.

    Under torchrun the processes share each batch.
    """
    check_choice(resume, overwrite)
    sight = {"frame": frame, "coordinates": coordinates, "identical": identical}
    sight |= {"conditions": conditions and tuple(conditions.split(",")), "noise": noise}
    sight = {k: v for k, v in sight.items() if v is not None} | settings_of(see)
    course = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    course |= {"patience": patience, "ema": ema, "precision": precision, "seed": seed}
    course |= {"compiled": compiled or None}
    course = {k: v for k, v in course.items() if v is not None}
    order = _order(context, model, files, out, preset, settings_of(settings), sight, course)
    _start(device, threads)
    _run(order, device=device, resume=resume, overwrite=overwrite, json=json)


def _order(
    context: typer.Context,
    name: str,
    files: list[Path],
    out: Path,
    preset: str | None,
    settings: dict[str, Any],
    sight: dict[str, Any],
    course: dict[str, Any],
) -> "Order":
    """Return what is to be done, from preset and flags."""
    from generative.files import representation_class
    from generative.model import model_class
    from generative.production import Order
    from generative.recipe import Training

    from .molecule import usage
    from .produce import commit

    with usage():
        kind = model_class(name)
        choices = kind.options_type.preset(preset, **settings)
        chosen = preset or "default"
        training = Training(**(choices.TRAINING.get(chosen, {}) | course))
        seen = representation_class(kind.sees)
        sight = choices.REPRESENTATION.get(chosen, {}) | sight
        source = seen.source(files, **sight)
        representation = seen.fit(source.for_training(training.seed), **sight)
        about = {"command": canonical_command(context), "commit": commit()}
        return Order(
            name=name,
            options=choices,
            representation=representation,
            training=training,
            source=source,
            folder=out,
            about=about
            | {"data_file": ", ".join(file.name for file in files), "preset": preset},
        )


def settings_of(text: str | None) -> dict[str, Any]:
    """Read "width=256,hidden=128:128,latent=prior" as numbers, lists and words."""
    found: dict[str, Any] = {}
    for pair in (text or "").split(",") if text else []:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            msg = f"expected K=V pairs such as width=256,blocks=4, got {text!r}"
            raise typer.BadParameter(msg)
        parts = [_value(part) for part in value.split(":")]
        found[key.replace("-", "_")] = tuple(parts) if len(parts) > 1 else parts[0]
    return found


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _start(device: str, threads: int) -> None:
    """Have the device and the threads ready, or refuse."""
    import torch

    from generative import parallel

    from .produce import threads_of

    if device.partition(":")[0] not in ("cpu", "cuda"):
        msg = f"--device must be cpu, cuda or cuda:1, got {device}"
        raise typer.BadParameter(msg)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        msg = f"--device {device}: {first}; there is no silent change to the CPU"
        raise typer.BadParameter(msg) from error
    torch.set_num_threads(threads_of(threads))
    parallel.start(device)


def _run(order: "Order", *, device: str, resume: bool, overwrite: bool, json: bool) -> None:
    import torch

    from generative import parallel
    from generative.production import run

    from .molecule import usage

    leader = parallel.rank_and_world()[0] == 0
    noun = order.representation.noun
    say(
        f"training {order.name} on {order.source.n_events:,} {noun}, of which some are kept "
        "for validation and test"
    )
    for note in order.source.notes:
        say(note)
    total = order.training.epochs * order.source.n_events * 0.7
    try:
        with usage(), Stop() as stop, progress(int(total), "training") as tick:
            _, result, summary = run(
                *(order,),
                device=device,
                resume=resume,
                overwrite=overwrite,
                progress=tick,
                stop=stop,
            )
    except RuntimeError as error:
        # of a GPU it is an error of its own, of the CPU's allocator one of many
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(
            error
        ):
            raise
        first = str(error).splitlines()[0]
        msg = f"out of memory ({first}); lower --batch-size or the sizes of the model"
        raise MemoryError(msg) from error
    finally:
        parallel.end()
    if not result.finished:
        done = len(result.history.rows)
        msg = f"interrupted in epoch {done}; the same command with --resume continues it"
        raise Interrupted(msg, stop.code)
    if leader:
        _tell(order, summary, json=json)


def _tell(order: "Order", summary: dict[str, Any], *, json: bool) -> None:
    """Draw the learning curves, and print what came out."""
    from coulex.plot_learning import learning
    from generative.production import CURVES

    from .plot import save

    save(learning([order.folder]), order.folder / CURVES)
    made = summary | {"folder": str(order.folder), "seed": order.training.seed}
    if json:
        print_json(made)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{order.name}, {summary['parameters']:,} parameters", title_justify="left"
    )
    table.add_column("part")
    noun = order.representation.noun
    table.add_column(noun, justify="right")
    # those of each latent would fill the screen; metrics.csv has them
    names = [n for n in summary["losses"]["train"] if not n.rpartition("_")[2].isdigit()]
    for name in names:
        table.add_column(name, justify="right")
    for part, losses in summary["losses"].items():
        cells = [f"{losses[name]:.5g}" if name in losses else "-" for name in names]
        table.add_row(part, f"{summary['events'][part]:,}", *cells)
    console = Console(highlight=False)
    console.print(table)
    constant = summary["constant"]
    if any(constant.values()):
        console.print(
            f"{constant['samples']} numbers of samples and {constant['conditions']} of "
            "conditions never vary: shifted, not scaled"
        )
    if summary["left_out"]:
        console.print(
            f"{summary['left_out']:,} {noun} {order.representation.flaw} were left out"
        )
    console.print(
        f"{summary['epochs']} epochs, the best {summary['best_epoch']}; "
        f"{summary['seconds']:.0f} s, {summary['samples_per_second']:,.0f} {noun} per second\n"
        f"{order.folder}: model, metrics.csv, learning.png, README.md"
    )
