"""What a network is worth to an inversion, as a table and for JSON."""

import math
from typing import TYPE_CHECKING, Any

from .output import say

if TYPE_CHECKING:
    from coulex.dataset import Dataset
    from coulex.inverse.comparison import Way
    from coulex.reconstruction import Reconstruction

_ENOUGH = 0.05  # of the draws that must be effective
_EVENTS = 500  # that are inverted with the network and without it


def compared(reconstruction: "Reconstruction", data: "Dataset", threads: int) -> "list[Way]":
    """Return what the network is worth, on the first events of a file that can be inverted."""
    import numpy as np

    from coulex.inverse.comparison import compare
    from coulex.inverse.solutions import FOLD, SEVERAL, SOLVED

    assert reconstruction.sampler is not None
    count = min(data.n_events, 4 * _EVENTS)
    solvable = np.isin(data.read("status", 0, count), (SOLVED, SEVERAL, FOLD))
    if reconstruction.noise is not None:
        solvable |= np.isfinite(data.read("estimate_misfit", 0, count))
    rows = np.flatnonzero(solvable)[:_EVENTS]
    if not len(rows):
        return []
    charges = (
        data.read("charges", 0, count)[rows] if data.grows("charges") else data["charges"]
    )
    truth = None
    if "initial_positions" in data:
        truth = data.read("initial_positions", 0, count)[rows]
    return compare(
        data.read("momenta", 0, count)[rows],
        data["masses"],
        charges,
        reconstruction.sampler,
        prior=reconstruction.prior,
        truth=truth,
        tolerance=reconstruction.tolerance,
        noise=reconstruction.noise,
        threads=threads,
    )


def say_outside(data: "Dataset") -> int:
    """Warn of events that a network never saw the like of, and return how many there are."""
    number = int(data["outside_training"].sum())
    if number:
        say(
            f"warning: {number} of {data.n_events} events are unlike all that the model was "
            "trained on; outside_training flags them"
        )
    return number


def say_weights(data: "Dataset", samples: int) -> dict[str, Any]:
    """Say what weighted draws are worth, and return it, ready for JSON."""
    import numpy as np

    share = data["sample_effective"] / samples
    known = share[share > 0]
    if not len(known):
        say("warning: no event has draws that explain its momenta")
        return {"samples": samples, "events": 0}
    median, low = (float(np.quantile(known, q)) for q in (0.5, 0.01))
    few = int((share < _ENOUGH).sum())
    say(
        f"{samples} weighted draws of each event: {100 * median:.3g} % effective in the "
        f"median, {100 * low:.2g} % at the 1st percentile"
    )
    if few:
        say(
            f"warning: of {few} of {len(share)} events less than {100 * _ENOUGH:g} % are: "
            "believe their estimates, not their draws"
        )
    about = {"samples": samples, "events": len(known), "too_few": few}
    return about | {"effective_share": median, "effective_share_percentile_1": low}


def print_ways(ways: "list[Way]") -> None:
    """Print the sampler alone, with the solver, and the solver without it."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    grid.add_column(f"first {ways[0].events:,} events", no_wrap=True)
    for heading in ("solved", "truth", "Δp/p", "error Å", "ESS", "ms each"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for way in ways:
        share = "-" if math.isnan(way.found) else f"{100 * way.found:.1f} %"
        effective = "-" if math.isnan(way.effective) else f"{100 * way.effective:.0f} %"
        numbers = (way.residual, way.error_angstrom)
        small = ["-" if math.isnan(number) else f"{number:.1e}" for number in numbers]
        grid.add_row(
            *(way.name, "-" if way.solved is None else f"{way.solved:,}"),
            *(share, *small, effective),
            f"{way.milliseconds:.2f}",
        )
    Console(highlight=False).print(grid)
