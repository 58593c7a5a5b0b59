"""Making a file of events, from the lock of the target to the table of what came out."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from coulex import dataset, explosions
from coulex.dataset import Target
from coulex.dataset.files import free_bytes
from coulex.errors import CoulexError, OutputError
from coulex.events import column, of_dataset
from coulex.production import FAILED_SHARE, Production, Work, run
from coulex.summary import Summary, summarise

from .output import Interrupted, Stop, print_json, progress, say
from .report import print_table, report


@dataclass(frozen=True)
class Order:
    """What is to be made, where, and which part of it by this process."""

    production: Production
    out: Path
    command: str  #: makes the same numbers again
    shard_events: int = 1 << 20
    job: tuple[int, int] = (1, 1)

    def target(self, *, resume: bool, overwrite: bool) -> Target:
        """Return the target, to be entered."""
        return Target(
            self.out,
            self.production.configuration(),
            {"command": self.command, "commit": commit()},
            self.production.n,
            shard_events=self.shard_events,
            resume=resume,
            overwrite=overwrite,
            job=self.job,
        )


def produce(
    order: Order, *, threads: int, resume: bool, overwrite: bool, json: bool
) -> Summary | None:
    """Make what is missing of a file, and print what came out.

    Returns
    -------
    Summary or None
        None in a job array whose other jobs are not done yet.

    Raises
    ------
    Interrupted
        If a signal came; what is finished is kept.
    CoulexError
        If the target cannot be written, or more than 1e-6 of the events failed.
    """
    production = order.production
    with Stop() as stop, order.target(resume=resume, overwrite=overwrite) as target:
        target.check_space(production.predicted_bytes() // production.n)
        missing = sum(shard.count for shard in target.missing())
        compile_seconds = _compile(production) if missing else 0.0
        with progress(missing, "exploding") as tick:
            work = run(
                production, target, threads=threads_of(threads), progress=tick, stop=stop
            )
        left = len(target.missing())
        complete = not work.stopped and target.finalize()
    if work.stopped:  # raised out here: for the target, this is no failure
        msg = (
            f"interrupted: {left} shards of {order.out} left, what is finished is kept; "
            "the same command with --resume continues it"
        )
        raise Interrupted(msg, stop.code)
    if not complete:
        say(
            f"job {order.job[0]} of {order.job[1]} has made its shards; the last of the jobs, "
            f"or `coulex data finalize {order.out}`, completes {order.out}"
        )
        if json:
            job = f"{order.job[0]}/{order.job[1]}"
            print_json({"file": str(order.out), "job": job, "complete": False})
        return None
    return _tell(order, work, compile_seconds, json=json)


def _tell(order: Order, work: Work, compile_seconds: float, *, json: bool) -> Summary:
    """Print what the finished file holds; fail if too many events did."""
    data = dataset.open(order.out)
    errors = {name: column(data, name) for name in ("energy_error", "error_estimate")}
    summary = summarise(of_dataset(data), errors)
    made = report(summary) | {
        "file": str(order.out),
        "seed": order.production.seed,
        "computed_now": work.events,
        "seconds": work.seconds,
        "events_per_second": work.events / work.seconds if work.events else None,
        "compile_seconds": compile_seconds,
        "command": order.command,
    }
    if json:
        print_json(made)
    else:
        print_table(of_dataset(data).name, summary, made)
    failed = summary.events - summary.good
    if failed > FAILED_SHARE * summary.events:
        reasons = [
            f"{count} {' - '.join(filter(None, explosions.STATUS[code]))}"
            for code, count in summary.status_counts.items()
            if code
        ]
        if summary.not_finite:
            reasons.append(f"{summary.not_finite} good, but with momenta that are not finite")
        msg = f"{failed} of {summary.events} events failed: {'; '.join(reasons)}"
        raise CoulexError(msg)
    return summary


def predict(order: Order, *, json: bool) -> None:
    """Say what a run would write, and whether there is room for it."""
    production, folder = order.production, order.out.parent
    if not folder.is_dir():
        msg = f"cannot write {order.out}: {folder} is not a folder; make it first"
        raise OutputError(msg)
    shards = -(-production.n // order.shard_events)
    prediction: dict[str, Any] = {
        "file": str(order.out),
        "events": production.n,
        "shards": shards,
        "bytes": production.predicted_bytes(),
        "free_bytes": free_bytes(folder),
        "command": order.command,
    }
    if json:
        print_json(prediction)
        return
    print(
        f"{production.n:,} events in {shards:,} shards would take "
        f"{prediction['bytes']:,} bytes in {order.out}; "
        f"{prediction['free_bytes']:,} bytes are free"
    )


def _compile(production: Production) -> float:
    """Have the kernels ready, saying so, and return the seconds that it took."""
    say("preparing the kernels (compiled once, up to half a minute)")
    begin = perf_counter()
    production.events(0, 1, threads=1)
    seconds = perf_counter() - begin
    say(f"kernels ready after {seconds:.1f} s")
    return seconds


def threads_of(asked: int) -> int:
    """Return how many threads to use: never more than the process has processors."""
    available = explosions.available_threads()
    if asked > available:
        say(f"{asked} threads asked for, {available} processors: using {available}")
    return min(asked or available, available)


def commit() -> str | None:
    """Return the commit of a source checkout, None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    found = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None
