"""The part of `coulex sample` for models of structures: draws become frames of a file."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from .output import Interrupted, Stop, check_new_file, print_json, progress, say

if TYPE_CHECKING:
    import numpy as np
    import torch

    from generative.model import Model

#: parameters of `coulex sample` that have a meaning here
FOR_STRUCTURES = {
    "model",
    "n",
    "out",
    "condition",
    "how",
    "seed",
    "config",
    "overwrite",
    "json",
}

_TOGETHER = 500  #: draws between two looks at the clock and at signals


class StructureDraws(NamedTuple):
    """What is to be drawn."""

    model: Path
    condition: Path | None
    n: int
    how: dict[str, Any]
    seed: int


def draw_structures(
    request: StructureDraws, out: Path, command: str, overwrite: bool, json: bool
) -> None:
    """Draw structures into a file, and say how it went."""
    import numpy as np

    from generative.files import load, read_about
    from generative.structures import write

    from .molecule import usage

    check_new_file(out, (".extxyz", ".xyz"), overwrite)
    about, model = read_about(request.model), load(request.model)
    with usage():
        conditions = _conditions(model, request.condition, request.n)
    begin = perf_counter()
    with usage():
        x, notes = _drawn(model, conditions, request)
    seconds = perf_counter() - begin
    structures = model.representation.decode(x)
    origin = {"model": about["name"], "sha256": about["sha256"], "seed": request.seed}
    info = [
        {**s.info, **origin, "command": command} | {k: rows[i] for k, rows in notes.items()}
        for i, s in enumerate(structures)
    ]
    write(out, structures, info)
    made = {"file": str(out), "draws": len(structures), **origin, "seconds": seconds}
    made |= {"draws_per_second": len(structures) / seconds}
    made |= {name: float(np.mean(rows)) for name, rows in notes.items()}
    if json:
        print_json(made | {"command": command})
        return
    print(f"{out}: {len(structures):,} draws, {made['draws_per_second']:,.0f} a second")
    for name in notes:
        say(f"{name.replace('_', ' ')}: {made[name]:.4g} in the mean")


def _conditions(model: "Model", file: Path | None, n: int) -> "torch.Tensor":
    """Return the condition of each of n draws."""
    import numpy as np
    import torch

    size = model.condition_size
    if not size:
        if file is not None:
            msg = f"{model.name} draws without a condition; leave --condition out"
            raise ValueError(msg)
        return torch.zeros(n, 0)
    if file is None:
        msg = f"--condition FILE is needed: {model.name} has learned with a context"
        raise ValueError(msg)
    seen: Any = model.representation
    _, conditions = seen.encode(seen.whole(file), np.random.default_rng(0))
    rows = np.arange(n) % len(conditions)
    return torch.from_numpy(np.ascontiguousarray(conditions[rows], np.float32))


def _drawn(
    model: "Model", conditions: "torch.Tensor", request: StructureDraws
) -> "tuple[np.ndarray, dict[str, np.ndarray]]":
    """Return draws (n, ...) and notes (n,), one for each condition."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(request.seed % 2**63)
    samples, notes = [], []
    with Stop() as stop, progress(request.n, "drawing") as tick:
        for rows in conditions.split(_TOGETHER):
            x, note = model.draw(rows, 1, generator, **request.how)
            samples.append(x[:, 0].double().numpy())
            notes.append({name: value[:, 0].double().numpy() for name, value in note.items()})
            tick(len(rows))
            if stop():
                msg = "interrupted: nothing is written; the same command starts again"
                raise Interrupted(msg, stop.code)
    names = notes[0]
    return np.concatenate(samples), {
        name: np.concatenate([note[name] for note in notes]) for name in names
    }
