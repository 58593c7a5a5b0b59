"""The table of what came out of a simulation, and the same as an object for JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from coulex.explosions import STATUS
from coulex.summary import Summary


def report(summary: Summary) -> dict[str, Any]:
    """Return the numbers of a summary by name; statuses by their meaning."""
    numbers = asdict(summary)
    counts = numbers.pop("status_counts")
    return numbers | {"status": {status_name(code): n for code, n in counts.items()}}


def status_name(code: int) -> str:
    """Return the meaning of a status, as the tables say it."""
    return STATUS[code][0] if code in STATUS else f"status {code}"


def print_table(title: str, summary: Summary, made: dict[str, Any]) -> None:
    """Print the table of a run on standard output."""
    console = Console(highlight=False)
    console.print(_whole(title, summary, made))
    console.print(_ions(summary))


def _whole(title: str, summary: Summary, made: dict[str, Any]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column()
    table.add_row("events", f"{summary.events:,}")
    for code, count in summary.status_counts.items():
        table.add_row(f"  {status_name(code)}", f"{count:,}")
    if summary.not_finite:
        table.add_row("  good but not finite", f"{summary.not_finite:,}")
    ker = f"{summary.ker_ev_mean:.3f} ± {summary.ker_ev_sd:.3f} eV"
    table.add_row("KER, mean ± sd", ker)
    table.add_row("KER, median", f"{summary.ker_ev_median:.3f} eV")
    table.add_row("largest energy error", f"{summary.largest_energy_error:.1e}")
    table.add_row("largest error estimate", f"{summary.largest_error_estimate:.1e}")
    speed = made["events_per_second"]
    table.add_row("events per second", f"{speed:,.0f}" if speed else "nothing left to compute")
    table.add_row("seconds to compile", f"{made['compile_seconds']:.1f}, apart")
    table.add_row("seed", str(made["seed"]))
    table.add_row("file", made["file"])
    return table


def _ions(summary: Summary) -> Table:
    table = Table()
    table.add_column("ion")
    for heading in ("energy (eV)", "share of KER", "|p| (a.u.)"):
        table.add_column(heading, justify="right")
    rows = zip(
        summary.ions,
        summary.kinetic_energy_ev,
        summary.energy_share,
        summary.momentum,
        strict=True,
    )
    for ion, energy_ev, share, momentum in rows:
        percent = f"{100 * share:.2f} %" if share == share else "-"  # no KER, no shares
        table.add_row(ion, f"{energy_ev:.3f}", percent, f"{momentum:.2f}")
    return table
