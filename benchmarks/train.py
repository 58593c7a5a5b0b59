"""How fast networks train and draw, beside other libraries of the same size.

    python benchmarks/train.py [--quick] [--compile] [--device cuda] [--json FILE]

Three tables, simulation not among them:

- affine couplings (20 of two layers of 128; 9 numbers given 9; batches of 512) of this
  package, of a plain program, and of zuko and FrEIA where they are installed. They first learn
  the same linear relation with noise, whose likelihood is known; then they are timed in turn;
- every model of this package: steps as they are, with `--compile` compiled, and draws;
- batches from a store against what reading the store takes.

On the CPU everything runs on one thread and counts CPU seconds, the median of several rounds
(in brackets the slowest and the fastest); on a GPU the clock counts, and compiled steps are
captured as graphs. `--quick` takes less than a minute and is for seeing that all of it runs;
`--compile` takes minutes more.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import flows
import torch
from timing import Clock, in_turn, machine, rate, rates, table

from generative.data import Events, Stream
from generative.geometry import Geometry
from generative.model import HOMES, model_class
from generative.representation import Batch, Representation

SIZE, CONDITION, COUPLINGS, WIDTH, BATCH = 9, 9, 20, 128, 512
NOISE = 0.3  #: of the relation that all learn


@dataclass(frozen=True)
class Numbers(Representation):
    """Nine numbers given nine, for models that are only timed."""

    kind = "numbers"
    needs = ()
    shape = (SIZE,)
    condition_size = CONDITION

    def encode(self, arrays, rng):  # noqa: ARG002
        raise NotImplementedError

    def describe(self):
        return {}

    @classmethod
    def of(cls, description):  # noqa: ARG003
        return cls()

    @classmethod
    def fit(cls, arrays, **options):  # noqa: ARG003
        return cls()


def linear(n: int, device: torch.device, seed: int) -> Batch:
    """Return samples that are linear in their conditions, and noise."""
    random = torch.Generator().manual_seed(seed)
    c = torch.randn(n, CONDITION, generator=random)
    slope = torch.randn(CONDITION, SIZE, generator=torch.Generator().manual_seed(0)) / 3
    x = c @ slope + NOISE * torch.randn(n, SIZE, generator=random)
    return Batch(x.to(device), c.to(device))


def step_of(module: torch.nn.Module, loss: Callable[[Batch], torch.Tensor], batch: Batch):
    """Return a function that makes one step of Adam."""
    device = batch.x.device
    optimizer = torch.optim.Adam(
        module.parameters(), lr=1e-3, fused=device.type in ("cpu", "cuda")
    )

    def step(given: Batch = batch) -> None:
        optimizer.zero_grad()
        loss(given).backward()
        optimizer.step()

    return step


def peak(device: torch.device, clock: Clock, rounds: int) -> dict[str, float]:
    """Return GFLOP/s of products of matrices: large ones, and those of a layer."""
    calls, work = {}, {}
    for name, (n, k, m) in {
        "1024 x 1024 x 1024": (1024, 1024, 1024),
        f"{WIDTH} x {WIDTH} x {BATCH}": (WIDTH, WIDTH, BATCH),
    }.items():
        a, b = torch.randn(n, k, device=device), torch.randn(k, m, device=device)
        out = torch.empty(n, m, device=device)
        calls[name] = lambda a=a, b=b, out=out: torch.mm(a, b, out=out)
        work[name] = 2e-9 * n * k * m
    found = in_turn(calls, clock, rounds=rounds, seconds=0.1)
    return {name: work[name] / min(seconds) for name, seconds in found.items()}


def libraries(device: torch.device, clock: Clock, *, quick: bool) -> dict[str, dict]:
    """Learn with every library, then time steps and draws of all in turn."""
    fresh = linear(8192, device, 1)
    teach = [linear(BATCH, device, 2 + i) for i in range(60 if quick else 200)]
    rows, steps, draws = {}, {}, {}
    c = torch.randn(4096, CONDITION, device=device)
    for name, make in flows.LIBRARIES.items():
        torch.manual_seed(0)
        try:
            module, log_prob, draw = make(SIZE, CONDITION, COUPLINGS, WIDTH)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        module.to(device)
        step = step_of(module, lambda b, f=log_prob: -f(b.x, b.condition).mean(), teach[0])
        for batch in teach:
            step(batch)
        with torch.no_grad():
            nll = -float(log_prob(*fresh).mean())
        rows[name] = {"parameters": sum(p.numel() for p in module.parameters()), "nll": nll}
        steps[name] = step
        draws[name] = torch.no_grad()(lambda f=draw: f(c))
    exact = SIZE * (0.5 + 0.5 * math.log(2 * math.pi) + math.log(NOISE))
    for name, row in rows.items():
        # far less than the untrained 13 nats of a standard normal: all solve the same problem
        if not -0.2 < row["nll"] - exact < 2.5:
            msg = f"{name} learned {row['nll']:.2f} nats, exact are {exact:.2f}"
            raise SystemExit(msg)
    some = {"rounds": 3 if quick else 7, "seconds": 0.1 if quick else 0.5}
    for key, calls, n in (("train", steps, BATCH), ("draw", draws, len(c))):
        for name, seconds in in_turn(calls, clock, **some).items():
            rows[name][key] = rates(seconds, n)
    return rows | {"exact": {"nll": exact}}


def models(
    device: torch.device, clock: Clock, *, quick: bool, compiling: bool
) -> dict[str, dict]:
    """Time steps of every model of geometries, eager and compiled, and draws."""
    rows = {}
    batch = linear(BATCH, device, 1)
    for kind in map(model_class, HOMES):
        name = kind.name
        if kind.sees != "geometry":
            continue
        for preset in (None, *kind.options_type.PRESETS):
            torch.manual_seed(0)
            model = kind(kind.options_type.preset(preset), Numbers()).to(device)
            row = {"parameters": sum(p.numel() for p in model.parameters())}
            generator = torch.Generator(device).manual_seed(0)

            def draw(model=model, generator=generator):
                model.sample(batch.condition[:64], 32, generator)

            calls = {"train": step_of(model, lambda b, m=model: m.loss(b)["loss"], batch)}
            if compiling:
                begin = time.perf_counter()
                compiled = _compiled(model, batch)
                row["compile_s"] = time.perf_counter() - begin
                if compiled is not None:
                    calls["compiled"] = compiled
            some = {"rounds": 1 if quick else 5, "seconds": 0.02 if quick else 0.2}
            for key, seconds in in_turn(calls, clock, **some).items():
                row[key] = rates(seconds, BATCH)
            model.eval()
            row["draw"] = rates(in_turn({"draw": draw}, clock, **some)["draw"], 64 * 32)
            rows[f"{name} ({preset or 'default'})"] = row
    return rows


def _compiled(model: torch.nn.Module, batch: Batch):
    """Return a compiled step that has run once, or None where there is no compiler for it."""
    mode = "reduce-overhead" if batch.x.device.type == "cuda" else None
    loss = torch.compile(model.loss, mode=mode)
    step = step_of(model, lambda b: loss(b)["loss"], batch)
    try:
        step()
    except Exception as error:  # noqa: BLE001, whatever a compiler raises
        print(f"{model.name} does not compile: {type(error).__name__}")
        return None
    return step


def loader(clock: Clock, *, quick: bool) -> dict[str, dict[str, float]]:
    """Time passes over a store of OCS: reading it, and batches for three representations."""
    n = 20_000 if quick else 400_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ocs.h5"
        write(path, n)
        source = Events(path, Geometry.needs)
        arrays = source.read(0, min(n, 1 << 14))
        seen = {
            "centred": Geometry.fit(arrays, coordinates="centred"),
            "shape": Geometry.fit(arrays, coordinates="shape"),
            "shape, noise drawn anew": Geometry.fit(
                arrays,
                coordinates="shape",
                noise=(0.01, 0.05),
                conditions=("scale-free", "log-ker", "noise"),
            ),
        }

        def read():
            for first in range(0, n, 1 << 13):
                source.read(first, min(1 << 13, n - first))

        def batches(stream):
            for _ in stream.batches(BATCH, epoch=0):
                pass

        calls = {"reading the store": read}
        for name, representation in seen.items():
            new = partial(Stream, source, representation, "all", seed=1)
            kept = new()
            calls[f"{name}, first epoch"] = lambda new=new: batches(new())
            if not representation.draws:  # and fits into memory: it is kept
                calls[f"{name}, later epochs"] = lambda kept=kept: batches(kept)
        found = in_turn(calls, clock, rounds=1 if quick else 3, seconds=0.1)
    return {name: rates(seconds, n) for name, seconds in found.items()}


def write(path: Path, n: int) -> None:
    """Simulate a store of OCS."""
    command = "simulate OCS --charges C=2,O=2,S=2 --ensemble gaussian --sigma 0.1 --at-rest"
    coulex = Path(sys.executable).with_name("coulex")
    out = ["-n", str(n), "-o", str(path), "--threads", "1", "--json"]
    subprocess.run([coulex, *command.split(), *out], check=True, capture_output=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    parser.add_argument("--compile", action="store_true", help="compiled steps too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    clock = Clock(device)
    result = {"machine": machine(device), "device": str(device), "quick": given.quick}
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    result["gflops"] = peak(device, clock, 3 if given.quick else 9)
    best = max(result["gflops"].values())
    print("; ".join(f"{k}: {v:.1f} GFLOP/s" for k, v in result["gflops"].items()))

    rows = result["libraries"] = libraries(device, clock, quick=given.quick)
    ours = rows["coulex"]["train"]["median"]
    title = f"{COUPLINGS} couplings of {WIDTH} x {WIDTH}, {SIZE} + {CONDITION} numbers"
    table(
        f"{title}, batches of {BATCH}, {device}; per second",
        rows,
        {
            "parameters": lambda r: f"{r['parameters']:,}",
            "NLL learned": lambda r: f"{r['nll']:.2f}",
            "samples trained": rate("train"),
            "ours over it": lambda r: f"{ours / r['train']['median']:.2f}",
            # forward, and back to both factors of each product
            "of the fastest product": lambda r: (
                f"{6e-9 * r['parameters'] * r['train']['median'] / best:.0%}"
            ),
            "draws": rate("draw"),
        },
    )
    result["models"] = models(*(device, clock), quick=given.quick, compiling=given.compile)
    table(
        f"Every model, {SIZE} + {CONDITION} numbers, batches of {BATCH}, {device}; per second",
        result["models"],
        {
            "parameters": lambda r: f"{r['parameters']:,}",
            "samples trained": rate("train"),
            "compiled": rate("compiled"),
            "compilation, s": lambda r: f"{r['compile_s']:.0f}",
            "draws": rate("draw"),
        },
    )
    if device.type == "cpu":
        result["loader"] = loader(clock, quick=given.quick)
        table("Events of a store of OCS; per second", result["loader"], {"events": _median})
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


def _median(row: dict) -> str:
    return f"{row['median']:,.0f}"


if __name__ == "__main__":
    main()
