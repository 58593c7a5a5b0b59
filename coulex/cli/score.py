"""`coulex score`: draws in, their scorecard out; of events here, of structures beside it."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .output import print_json, say
from .score_structures import of_structures, score_structures

if TYPE_CHECKING:
    from coulex.dataset import Dataset

_MOST = 10_000

_HEADINGS = {"mse": "MSE", "mae": "MAE", "mre": "MRE", "mse_standardised": "MSE/σ²"}
_HEADINGS |= {"distance_mae": "Δr", "momentum_residual": "Δp/p", "crps": "CRPS", "nll": "NLL"}
_COLUMNS = (
    "Components in bohr, in the frame of the model; MSE/σ² in units of their own variance; Δr "
    "of distances; Δp/p of momenta, simulated again, median. network: the mean of its draws "
    "(NLL, CRPS and Δp/p: of all draws)."
)

Reference = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where the truth is, if not in the file of draws; real structures.",
    ),
]
Training = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Of structures: what the model has learned from."),
]
Clash = Annotated[
    float | None,
    typer.Option(
        metavar="Å",
        help="Of structures: atoms are too close below it.",
        show_default="2 for Si, else 0.85 of a bond",
    ),
]
Events = Annotated[int, typer.Option(parser=o.count, metavar="N", help="Of momenta: at most.")]
Model = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The model of the draws, for the NLL of the truth."),
]


def score(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Draws, by `coulex sample`; structures.")
    ],
    reference: Reference = None,
    model: Model = None,
    training: Training = None,
    clash: Clash = None,
    events: Events = _MOST,
    threads: o.Threads = 0,
    json: o.Json = False,
) -> None:
    """Compare draws with the truth, and with what is possible.

    Of geometries for momenta: beside the network stand the mean geometry, the geometry of
    another event, the truth itself, and the exact posterior where the ensemble of the events
    is known: solutions of the inversion, or, with noise, draws weighted by the simulator.

    Of structures or environments of atoms: how far they are from a real structure, beside
    other real data, copies of the training, and simple models.
    """
    if of_structures(file):
        if model is not None:
            msg = "--model is for draws of momenta; structures are compared by themselves"
            raise typer.BadParameter(msg)
        score_structures(file, reference, training, clash, json)
        return
    if training is not None or clash is not None:
        msg = "--training and --clash are for structures; these are draws of momenta"
        raise typer.BadParameter(msg)
    from coulex import dataset

    from .judging import judged, read
    from .produce import threads_of

    begin, used = perf_counter(), threads_of(threads)
    data = dataset.open(file)
    other = None if reference is None else dataset.open(reference)
    drawn = read(data, other, events)
    said = judged(drawn, model, used)
    said = {"file": str(file), "reference": str(reference or file), **said}
    said["seconds"] = perf_counter() - begin
    if json:
        print_json(said)
    else:
        _print(data, said)


def _print(data: "Dataset", said: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    name = data.configuration.get("molecule", {}).get("name") or data.path.stem
    noise = said["noise"]
    about = f"{said['events']:,} events, {said['draws']} draws of each"
    about += f", noise {100 * noise:g} %" if noise else ", without noise"
    grid = Table(
        title=f"{name}: {about}",
        title_justify="left",
        title_style="bold",
        caption=_COLUMNS,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    grid.add_column("", no_wrap=True)
    for heading in _HEADINGS.values():
        grid.add_column(heading, justify="right", no_wrap=True)
    floors = said["floors"]
    rows = {
        "mean": floors["mean"],
        "other event": floors["random"],
        "network": said["metrics"],
        "  one draw": said["one_draw"],
        f"  best of {said['draws']}": said["best_of"],
        "exact": floors.get("exact"),
        "truth": floors["noise_floor"],
    }
    for label, row in rows.items():
        if row is not None:
            grid.add_row(label, *(_number(row[key]) for key in _HEADINGS))
    console = Console(highlight=False)
    console.print(grid)
    for line in _notes(said):
        console.print(line)


def _number(value: float) -> str:
    text = f"{value:.2g}" if abs(value) < 10 else f"{value:.1f}"
    return "-" if value != value else text.replace("e-0", "e-")


def _coverage(found: dict[str, Any]) -> list[str]:
    """Return what draws cover, all distances in one line if there are many."""
    distances = [one for name, one in found.items() if name.startswith("distance")]
    shown = {name.replace("_", " "): one for name, one in found.items()}
    if len(distances) > 3:
        count = len(distances)
        mean = [
            sum(row) / count for row in zip(*(d["shares"] for d in distances), strict=True)
        ]
        others = {n: one for n, one in shown.items() if not n.startswith("distance")}
        shown = {f"mean of {count} distances": {**distances[0], "shares": mean}} | others
    lines = []
    for name, one in shown.items():
        pairs = zip(one["levels"], one["shares"], strict=True)
        shares = ", ".join(f"{100 * share:.1f} in {100 * level:g}" for level, share in pairs)
        lines.append(f"coverage, {name}: {shares} %")
    return lines


def _notes(said: dict[str, Any]) -> list[str]:
    """Return what the table cannot say."""
    from coulex.units import ANGSTROM

    from .judging import ENOUGH

    atoms = said["atom_error"]["network"]
    lines = [
        f"error of an ion, mean of draws: median {atoms['median'] / ANGSTROM:.2g} Å, "
        f"99 % {atoms['percentile_99'] / ANGSTROM:.2g} Å, after the best rotation"
    ]
    if said["mre_undefined"]:
        lines.append(
            f"MRE leaves out {said['mre_undefined']:,} components that are 0: they have no "
            "relative error"
        )
    nll = said["nll"]
    lines.append(
        f"NLL: {nll['kind']}, per event, in {nll['coordinates']}, noise {said['noise']:g}"
        if nll["kind"]
        else f"no NLL: {nll['why']}"
    )
    exact = said["exact"]
    if "why" in exact:
        lines.append(f"no exact posterior: {exact['why']}")
    elif "effective_share" in exact:
        median, low = exact["effective_share"], exact["effective_share_percentile_1"]
        lines.append(
            f"weights: {100 * median:.3g} % of the draws are effective in the median, "
            f"{100 * low:.2g} % at the 1st percentile; "
            f"RMSE of the network over the exact {said['rmse_over_exact']:.3f}"
        )
        if exact["too_few"]:
            lines.append(
                f"  {exact['too_few']:,} events have less than {100 * ENOUGH:g} %: their "
                "exact posterior is not known; draw more"
            )
    else:
        lines.append(
            f"exact: {exact['several']:,} events have several solutions, "
            f"{exact['unsolved']:,} none was found of"
        )
    lines += _coverage(said["calibration"]["coverage"])
    tests = said["two_sample"]
    lines.append(
        "one draw of each event against the truths: "
        + ", ".join(
            f"{name.replace('_', ' ')} {one['value']:.3g} ± {one['stderr']:.2g}"
            for name, one in tests.items()
        )
    )
    if said["left_out"]:
        say(f"{said['left_out']:,} events are left out: draws or the truth are missing")
    return lines
