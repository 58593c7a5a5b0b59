"""Events per second of `coulex.simulate`, beside other programs on the same events.

    python benchmarks/simulate.py
    python benchmarks/simulate.py --case N=6 --thread 1 --thread 2 --json out.json
    python benchmarks/simulate.py --scan --json scan.json       (ours alone, 2 to 12 ions)
    python benchmarks/simulate.py --peer "NAME=COMMAND" ...     (protocol: peers.external)

All programs are first judged against the reference of `cases`; one that disagrees stops the
run. Then they are timed in turn, several rounds over, each on as many events as fill a set
time, and the median round counts. One thread is timed by its CPU seconds, several by the
clock. The first call, which may compile or find code cached on disk, is listed apart. The
last column says how many times as fast as a peer ours is: our fastest setting on one thread
without a failed event whose median, 99th percentile and largest error are no worse.

The scan times each number of ions by the clock, with one thread, with two, and with two
processes of one thread each: what two threads could reach. Beyond compiling it takes some
three minutes.
"""

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import cases
import llvmlite.binding as llvm
import numpy as np
import peers
import typer

PACKAGES = ("coulex", "numba", "numpy", "heyoka", "numbalsoda", "scipy")
MOST_EVENTS = 200_000


@dataclass(frozen=True)
class Program:
    """One setting of one program: how to prepare it, and how many events to judge it by."""

    name: str
    setting: str
    prepare: Callable
    threads: int = 1
    judged: int | None = None  #: all events of the reference where None


@dataclass
class Row:
    """What was measured of one program."""

    program: str
    setting: str
    threads: int
    judged: int
    first_call_s: float
    error_median: float
    error_99: float
    error_largest: float
    failed: int
    events: int = 0
    events_per_s: float = 0.0

    @property
    def errors(self):
        """Median, 99th percentile and largest."""
        return np.array([self.error_median, self.error_99, self.error_largest])


def programs(tolerances, threads, externals, quick):
    """List what is to be timed; ours first."""
    for count in threads:
        for tolerance in (3e-4,) if quick else (3e-4, 2e-3, 5e-3):
            name = f"float32 {tolerance:.0e}"
            yield Program("coulex", name, _ours("float32", tolerance, count), count)
        for tolerance in tolerances:
            name = f"float64 {tolerance:.0e}"
            yield Program("coulex", name, _ours("float64", tolerance, count), count)
    for tolerance in (1e-10,) if quick else (1e-7, 1e-10, 1e-12):
        # The tail's error, about 0.1 epsilon³, then stays below the integrator's.
        settings = {"tolerance": tolerance, "epsilon": tolerance ** (1 / 3)}
        for peer in (peers.heyoka, peers.numbalsoda):
            name = f"{tolerance:.0e} + tail"
            yield Program(peer.__name__, name, partial(peer, **settings))
    yield Program("scipy", "RK45 to 1e10", peers.scipy, judged=5 if quick else 20)
    for external in externals:
        name, command = external.split("=", 1)
        yield Program(name, "", partial(peers.external, command=command))


def _ours(precision, tolerance, threads):
    settings = {"precision": precision, "tolerance": tolerance, "threads": threads}
    return partial(peers.coulex, **settings)


def judge(program, case, reference):
    """Run a program on events with known momenta; return its row and `solve`.

    Raises
    ------
    RuntimeError
        If the median error exceeds 1e-3: then it does not solve the same problem.
    """
    start = time.perf_counter()
    solve = program.prepare(case.masses, case.charges)
    solve(reference.positions[:2])
    first_call = time.perf_counter() - start
    momenta, _ = solve(reference.positions[: program.judged])
    error = cases.errors(momenta, reference.momenta[: len(momenta)])
    good = error[np.isfinite(error)]
    if not good.size or np.median(good) > 1e-3:
        msg = f"{program.name} {program.setting} disagrees with the reference on {case.name}"
        raise RuntimeError(msg)
    quantiles = (float(np.quantile(good, p)) for p in (0.5, 0.99, 1.0))
    row = Row(
        program.name,
        program.setting,
        program.threads,
        len(error),
        first_call,
        *quantiles,
        failed=len(error) - len(good),
    )
    return row, solve


def time_in_turn(entries, positions, seconds, rounds):
    """Fill in how many events per second each of (row, solve) does."""
    rates = [[] for _ in entries]
    for row, solve in entries:
        # A few events tell little of the speed of many, so the number grows in three goes.
        row.events = row.judged
        for _ in range(3):
            _, spent = solve(positions[: row.events])
            wanted = row.events * seconds / max(spent, 1e-6)
            row.events = int(np.clip(wanted, min(row.judged, 8), len(positions)))
    for _ in range(rounds):
        for (row, solve), rate in zip(entries, rates, strict=True):
            _, spent = solve(positions[: row.events])
            rate.append(row.events / spent)
    for (row, _), rate in zip(entries, rates, strict=True):
        row.events_per_s = statistics.median(rate)


def ratio(row, rows):
    """Return our speed over that of `row` at errors no worse, and our setting."""
    able = [
        ours
        for ours in rows
        if ours.program == "coulex"
        and ours.threads == 1
        and not ours.failed
        and (ours.errors <= row.errors).all()
    ]
    if not able:
        return None
    best = max(able, key=lambda ours: ours.events_per_s)
    return best.events_per_s / row.events_per_s, best.setting


def table(rows):
    """Return the lines to print."""
    yield (
        f"{'program':12} {'setting':16} {'threads':>7} {'events':>7} {'events/s':>10}"
        f"  {'error: median':>13} {'99 %':>8} {'largest':>8} {'first call':>10}  coulex"
    )
    for row in rows:
        line = f"{row.program:12} {row.setting:16} {row.threads:7d} {row.events:7d}"
        line += f" {row.events_per_s:10.3g}  {row.error_median:13.1e} {row.error_99:8.1e}"
        line += f" {row.error_largest:8.1e} {row.first_call_s:8.2f} s"
        if row.program != "coulex" and any(ours.program == "coulex" for ours in rows):
            times = ratio(row, rows)
            line += f"  {times[0]:.3g}x ({times[1]})" if times else "  not as accurate"
        if row.failed:
            line += f"  {row.failed} of {row.judged} failed"
        yield line


def machine():
    """Describe the processor and the versions."""
    features = llvm.get_host_cpu_features()
    widest = next((s for s in ("avx512f", "avx2", "neon", "sse2") if features.get(s)), "?")
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if "model name" in x), model)
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": f"{model} ({llvm.get_host_cpu_name()})",
        "instruction_set": widest,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def run_case(name, listed, judged, seconds, rounds, seed):
    """Judge, time and print one case; return its record."""
    case = cases.case(name)
    rng = np.random.default_rng(seed)
    reference = cases.reference(case, case.draw(rng, judged))
    print(f"\n{name}: {' '.join(case.symbols)}, {judged} events judged by {reference.source}")
    print(f"(largest doubt {reference.doubt:.0e}); {rounds} rounds of {seconds:g} s each")
    entries, absent = [], {}
    for program in listed:
        try:
            entries.append(judge(program, case, reference))
        except ImportError as error:
            absent[program.name] = error
    for program, error in absent.items():
        print(f"{program}: left out, {error}")
    time_in_turn(entries, case.draw(rng, MOST_EVENTS), seconds, rounds)
    rows = [row for row, _ in entries]
    print(*table(rows), sep="\n", flush=True)
    records = [asdict(row) for row in rows]
    for record, row in zip(records, rows, strict=True):
        record["coulex_ratio"] = None if row.program == "coulex" else ratio(row, rows)
    return {
        "case": name,
        "ions": len(case.symbols),
        "reference": reference.source,
        "reference_doubt": reference.doubt,
        "rows": records,
    }


SCAN_SECONDS = 0.5


def rate(name, precision, threads, seed, gate=None):
    """Return how many events per second `simulate` does; at `gate` processes start at once."""
    case = cases.case(name)
    positions = case.draw(np.random.default_rng(seed), 2000)
    solve = peers.coulex(case.masses, case.charges, precision, None, threads)
    solve(positions)
    start = time.perf_counter()
    solve(positions)
    copies = max(1, int(0.2 * SCAN_SECONDS / (time.perf_counter() - start)))
    positions = np.tile(positions, (min(copies, 100), 1, 1))
    if gate:
        gate.wait(600)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SCAN_SECONDS:
        solve(positions)
        done += len(positions)
    return done / (time.perf_counter() - start)


def rate_of_two(name, precision, seed):
    """Return what two processes of one thread each do together."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        gate = manager.Barrier(2)
        arguments = [(name, precision, 1, seed, gate)] * 2
        return sum(pool.starmap(rate, arguments, chunksize=1))


def scan(seed, sizes):
    """Time and print ours by number of ions; return the records."""
    print(
        "\nions precision     1 thread    2 threads  2 processes   threads/one  processes/one"
    )
    records = []
    for ions in sizes:
        for precision in ("float32", "float64"):
            name = f"N={ions}"
            one, two = (rate(name, precision, threads, seed) for threads in (1, 2))
            apart = rate_of_two(name, precision, seed)
            print(
                f"{ions:4d} {precision} {one:13.3g}{two:13.3g}{apart:13.3g}"
                f"{two / one:14.2f}{apart / one:15.2f}",
                flush=True,
            )
            records.append(
                {
                    "ions": ions,
                    "precision": precision,
                    "events_per_s": {"1 thread": one, "2 threads": two, "2 processes": apart},
                }
            )
    return records


def main(
    case: Annotated[list[str], typer.Option(help="OCS, CH4, N=2 ... N=12")] = [],  # noqa: B006
    tolerance: Annotated[list[float], typer.Option(help="of our float64")] = [],  # noqa: B006
    thread: Annotated[list[int], typer.Option(help="number of threads of ours")] = [1],  # noqa: B006
    peer: Annotated[list[str], typer.Option(help="NAME=COMMAND, see peers.external")] = [],  # noqa: B006
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write results here")
    ] = None,
    by_ions: Annotated[
        bool, typer.Option("--scan", help="ours alone, 2 to 12 ions, threads and processes")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds, for CI")] = False,
    seed: int = 1,
) -> None:
    """Time `coulex.simulate` beside heyoka, numbalsoda, scipy and outside programs."""
    for name in peer:
        if "=" not in name:
            msg = f"expected NAME=COMMAND, got {name!r}"
            raise typer.BadParameter(msg, param_hint="--peer")
    here = machine()
    print(f"{here['processor']}, {here['instruction_set']}, {here['cores']} cores")
    print(
        *(f"{name} {v or 'not installed'}" for name, v in here["versions"].items()), sep=", "
    )
    if by_ions:
        records = scan(seed, (2, 3) if quick else range(2, 13))
        if json_file:
            report = {"machine": here, "seed": seed, "scan": records}
            json_file.write_text(json.dumps(report, indent=1) + "\n")
        return
    case = case or (["OCS"] if quick else ["OCS", "CH4", "N=10"])
    tolerance = tolerance or (
        [1e-9] if quick else [1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9, 1e-10, 1e-12]
    )
    listed = list(programs(tolerance, thread, peer, quick))
    judged, seconds, rounds = (200, 0.05, 3) if quick else (2000, 0.3, 7)
    results = [run_case(name, listed, judged, seconds, rounds, seed) for name in case]
    if json_file:
        report = {"machine": here, "seed": seed, "threads": thread, "cases": results}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
