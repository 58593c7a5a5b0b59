"""`coulex infill`: atoms put where they are missing, in environments or a structure."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options as o
from .molecule import usage
from .output import check_new_file, print_json, say
from .simulate import canonical_command

if TYPE_CHECKING:
    import numpy as np

    from generative.model import Model
    from generative.structures import Structure

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A model, by `coulex train`.")]
Incomplete = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Clusters, the atom in the middle first; or a structure with a vacancy.",
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FILE.extxyz")]
Fixed = Annotated[
    Any,
    typer.Option(
        parser=o.count,
        metavar="K",
        help="Hide all but K neighbours of whole environments, and tell how many are found.",
    ),
]
Missing = Annotated[
    Literal["any", "farthest", "nearest"],
    typer.Option(help="Which neighbours to hide: at random, or by their distance."),
]
Number = Annotated[
    int, typer.Option("-n", parser=o.count, metavar="N", help="Completions of each.")
]
Draws = Annotated[
    int,
    typer.Option(
        parser=o.count, metavar="N", help="Draws of each, of which the most agreed are taken."
    ),
]
Most = Annotated[
    int,
    typer.Option(
        parser=o.count, metavar="N", help="Environments, at random if there are more."
    ),
]
_AGREED = 0.1  #: share of the draws of two atoms about a vacancy, for it to be believed

PotentialName = Annotated[
    Literal["edip", "sw", "tersoff"] | None,
    typer.Option(help="Also tell energies of silicon, with and without the atom put in."),
]
Lookup = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Structures to look up environments in: a baseline."),
]


def infill(
    context: typer.Context,
    model: Folder,
    file: Incomplete,
    out: Out,
    fixed: Fixed = None,
    missing: Missing = "any",
    n: Number = 10,
    draws: Draws = 100,
    events: Most = 500,
    library: Lookup = None,
    potential: PotentialName = None,
    seed: o.Seed = 1,
    config: o.Config = None,  # noqa: ARG001, its callback acts
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Put missing atoms into environments, or one into a structure with a vacancy."""
    import numpy as np

    from generative.files import load
    from generative.structures import read, write

    check_new_file(out, (".extxyz", ".xyz"), overwrite)
    if n > draws:
        msg = f"{n} completions cannot be chosen from {draws} draws; raise --draws"
        raise typer.BadParameter(msg)
    loaded = load(model)
    if loaded.sees != "environment":
        msg = f"{loaded.name} is no model of environments: it sees a {loaded.sees}"
        raise typer.BadParameter(msg)
    structures = read(file)
    seen: Any = loaded.representation
    seen.check_element(np.concatenate([s.numbers for s in structures]), str(file))
    command, begin = canonical_command(context), perf_counter()
    with usage():
        if fixed is None and any(s.periodic.any() for s in structures):
            if len(structures) != 1 or library is not None:
                msg = "a vacancy is filled in one structure, without a library"
                raise ValueError(msg)
            frames, notes, found = _vacancy(loaded, structures[0], draws, seed)
            if potential is not None:
                found |= _energies(structures[0], frames[0], potential)
        elif potential is not None:
            msg = "energies are those of a structure whose vacancy is filled"
            raise ValueError(msg)
        else:
            known, hidden, outer = _environments(
                loaded, file, structures, fixed, missing, events, seed
            )
            frames, notes, found = _completed(loaded, known, hidden, outer, n, draws, seed)
            if library is not None:
                found |= _looked_up(loaded, known, hidden, n, library)
    found |= {"file": str(out), "seed": seed, "seconds": perf_counter() - begin}
    write(out, frames, [note | {"command": command} for note in notes])
    if json:
        print_json(found | {"command": command})
        return
    _tell(found)


def _environments(
    model: "Model",
    file: Path,
    structures: "list[Structure]",
    fixed: int | None,
    missing: str,
    most: int,
    seed: int,
) -> "tuple[np.ndarray, np.ndarray | None, np.ndarray]":
    """Return known atoms (m, k, 3), hidden ones if any were hidden, and outer ones."""
    import numpy as np

    from generative.gram.finding import hidden

    r: Any = model.representation
    rng = np.random.default_rng(seed)
    if r.centre != "atom":
        msg = "missing neighbours are those of an atom; this model sees them from a centroid"
        raise ValueError(msg)
    if any(s.periodic.any() for s in structures):
        arrays = r.whole(file)
        whole, outer = arrays["neighbours"], arrays["outer"]
    else:
        sizes = {len(s) for s in structures}
        if len(sizes) != 1:
            msg = f"environments must have the same number of atoms, got {sorted(sizes)}"
            raise ValueError(msg)
        every = np.array([s.positions - s.positions[0] for s in structures])[:, 1:]
        inner = every.shape[1] - r.context
        if fixed is not None and inner != r.neighbours:
            msg = f"whole environments have {r.neighbours} neighbours (and {r.context} outer "
            msg += f"ones) about the first atom, got {every.shape[1]}"
            raise ValueError(msg)
        if not 0 < inner <= r.neighbours - (fixed is None):
            msg = (
                f"environments of {r.neighbours} that lack some have 1 to {r.neighbours - 1}, "
            )
            msg += f"got {every.shape[1]} atoms about the first one; --fixed hides some"
            raise ValueError(msg)
        whole, outer = every[:, :inner], every[:, inner:]
    if len(whole) > most:
        rows = np.sort(rng.permutation(len(whole))[:most])
        whole, outer = whole[rows], outer[rows]
    if fixed is None:
        return whole, None, outer
    known, rest = hidden(whole, fixed, rng, which=missing)
    return known, rest, outer


def _completed(
    model: "Model",
    known: "np.ndarray",
    hidden: "np.ndarray | None",
    outer: "np.ndarray",
    n: int,
    draws: int,
    seed: int,
) -> "tuple[list[Structure], list[dict[str, Any]], dict[str, Any]]":
    """Return completed clusters, notes on each, and what is to be told."""
    import numpy as np
    import torch

    from generative.gram.finding import ranked, rates
    from generative.gram.infill import infill

    generator = torch.Generator().manual_seed(seed % 2**63)
    k = known.shape[1]
    searched = not hasattr(model, "infill")
    number = n if searched else draws
    drawn = infill(model, known, number, generator, outer=outer)
    best = drawn
    if not searched:
        best = drawn[np.arange(len(drawn))[:, None], ranked(drawn[:, :, k:], n)]
    found: dict[str, Any] = {"environments": len(known), "known": k, "completions": n}
    found |= {"missing": drawn.shape[2] - k, "searched": searched}
    if hidden is not None:
        if not searched:
            found["draws"] = rates(drawn[:, :n, k:], hidden)
        found["chosen"] = rates(best[:, :, k:], hidden)
    frames = model.representation.decode(best.reshape(-1, *best.shape[2:]))  # type: ignore[operator]
    said = frames[0].info
    notes = [
        {**said, "row": i, "completion": j, "known": k}
        for i in range(len(best))
        for j in range(best.shape[1])
    ]
    return frames, notes, found


def _looked_up(
    model: "Model", known: "np.ndarray", hidden: "np.ndarray | None", n: int, file: Path
) -> dict[str, Any]:
    """Return how often the environments of a file find what is hidden."""
    from generative.gram.finding import rates
    from generative.gram.lookup import Library

    if hidden is None:
        msg = "a library is a baseline for what --fixed hides"
        raise ValueError(msg)
    r: Any = model.representation
    k = known.shape[1]
    held = Library(r.whole(file)["neighbours"], k, proper=r.mirror == "SO3")
    return {"lookup": rates(held.lookup(known, n)[:, :, k:], hidden)}


def _vacancy(
    model: "Model", structure: "Structure", draws: int, seed: int
) -> "tuple[list[Structure], list[dict[str, Any]], dict[str, Any]]":
    """Return the structure with one atom more, a note, and what is to be told."""
    from dataclasses import replace

    import numpy as np
    import torch

    from generative.gram.vacancy import bonds_of, place_missing, underbonded

    generator = torch.Generator().manual_seed(seed % 2**63)
    bond, bonds = bonds_of(structure)
    groups = underbonded(structure, bond, bonds)
    around = groups[0] if groups else np.zeros(0, int)
    made = place_missing(model, structure, around, draws=draws, generator=generator)
    whole = replace(
        structure,
        positions=np.concatenate([structure.positions, made.position[None]]),
        numbers=np.append(structure.numbers, structure.numbers[around[0]]),
    )
    found = {
        "around": made.around.tolist(),
        "bond": bond,
        "bonds": bonds,
        "position": made.position.tolist(),
        "agreement": made.agreement.tolist(),
        "groups": len(groups),
    }
    return [whole], [{"placed": len(structure)}], found


def _energies(before: "Structure", after: "Structure", potential: str) -> dict[str, Any]:
    """Return energies in eV per atom: with the vacancy, filled, and relaxed from there."""
    from generative.silicon import energies, relax

    with_vacancy, filled = energies([before, after], potential)
    relaxed, _ = relax([after], potential)
    told = {"vacancy": with_vacancy, "filled": filled, "relaxed": relaxed[0]}
    return {"energy_per_atom": {name: float(value) for name, value in told.items()}}


def _tell(found: dict[str, Any]) -> None:
    """Print a table."""
    if "position" in found:
        x, y, z = found["position"]
        print(f"{found['file']}: an atom at {x:.3f} {y:.3f} {z:.3f} Å")
        print(f"{'atom':>8}  draws within 0.5 Å of it")
        for atom, share in zip(found["around"], found["agreement"], strict=True):
            print(f"{atom:8d}  {share:6.1%}")
        for name, value in found.get("energy_per_atom", {}).items():
            print(f"{name:>8}  {value:.4f} eV per atom")
        if sorted(found["agreement"])[-2:][0] < _AGREED:
            say(
                "warning: hardly any draws agree with this place: the model is too poor, or "
                "nothing is missing there, as about a surface or in a liquid"
            )
        if found["groups"] > 1:
            say(f"{found['groups'] - 1} other groups of atoms lack bonds, and are left alone")
        return
    print(
        f"{found['file']}: {found['completions']} completions of each of "
        f"{found['environments']:,} environments; {found['known']} atoms known, "
        f"{found['missing']} missing"
    )
    titles = {"draws": "draws", "chosen": "most agreed", "lookup": "lookup"}
    if found["searched"]:
        titles["chosen"] = "search"
    rows = {title: found[key] for key, title in titles.items() if key in found}
    if rows:
        print(f"{'all within 0.5 Å':18}{'first':>14}{'best of all':>13}{'each atom':>11}")
    for title, r in rows.items():
        first = r["one"] if title == "draws" else r["first"]
        print(
            f"{title:18}{first:8.3f} ±{r['error']:5.3f}{r['best']:12.3f}{r['coverage']:11.3f}"
        )
