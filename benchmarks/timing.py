"""Timing in turn, and tables of what was measured, for benchmarks of networks."""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "zuko", "FrEIA", "numpy", "h5py")


class Clock:
    """Seconds: of the CPU, or on a GPU of the wall, after all work is done."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def __call__(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def in_turn(
    calls: dict[str, Callable[[], None]], clock: Clock, *, rounds: int, seconds: float
):
    """Return the seconds (rounds,) of one call of each, all timed in turn."""
    repeats = {}
    for name, call in calls.items():
        call()
        begin = clock()
        call()
        repeats[name] = max(1, round(seconds / max(clock() - begin, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = clock()
            for _ in range(repeats[name]):
                call()
            found[name].append((clock() - begin) / repeats[name])
    return found


def rates(seconds: list[float], samples: int) -> dict[str, float]:
    """Return samples per second: median, slowest, fastest."""
    each = [samples / s for s in seconds]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def table(
    title: str, rows: dict[str, dict], columns: dict[str, Callable[[dict], str]]
) -> None:
    """Print rows, a dash where a number is missing."""
    print(f"\n{title}\n")
    print(f"| {' | '.join(['', *columns])} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        cells = []
        for column in columns.values():
            try:
                cells.append(column(row))
            except KeyError:
                cells.append("-")
        print(f"| {name} | {' | '.join(cells)} |")


def rate(key: str) -> Callable[[dict], str]:
    """Return a column of samples per second."""

    def cell(row: dict) -> str:
        r = row[key]
        return f"{r['median']:,.0f} ({r['low']:,.0f}-{r['high']:,.0f})"

    return cell


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers were measured with."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(
            line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line
        )
        keys = {key.strip(): value.strip() for key, value in lines.items()}
        name = f"{keys.get('model name')}, family {keys.get('cpu family')}"
        name += f" model {keys.get('model')}"
    found = {"processor": name, "python": platform.python_version()}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
