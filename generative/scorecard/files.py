"""Files in, a scorecard out, ready for JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import InvalidDataError
from generative import trajectories
from generative.gram import environments as surroundings
from generative.structures import Structure, read
from generative.structures.measures import bond_cutoff, bond_lengths, coordination

from .environments import Card, environments
from .invariants import Invariants
from .whole import whole

SILICON_CLASH, CLASH_SHARE = 2.0, 0.85  #: Å; of the shortest bond of the reference
NEIGHBOURS, CUTOFF = 8, 4.0  #: of an environment, and its radius in Å, unless a file says it

_TRAJECTORIES = {".h5", ".hdf5"}
_FRAMES = 1000  #: of a trajectory that are compared
_ANYWHERE = 1e9  #: Å, where every atom of a structure has its environment


@dataclass(frozen=True)
class Found:
    """The structures of a file.

    Attributes
    ----------
    path : Path
    structures : list of Structure
    """

    path: Path
    structures: list[Structure]

    @classmethod
    def real(cls, path: Path) -> "Found":
        """Read a file of real structures, or a trajectory of ours."""
        if path.suffix.lower() not in _TRAJECTORIES:
            return cls(path, read(path))
        runs = trajectories.read(path)
        each = max(_FRAMES // len(runs), 1)
        return cls(
            path,
            [
                Structure(
                    positions=run.positions[t],
                    cell=run.cell,
                    periodic=run.periodic,
                    numbers=run.numbers,
                )
                for run in runs
                for t in np.unique(np.linspace(0, len(run.positions) - 1, each).astype(int))
            ],
        )

    @classmethod
    def drawn(cls, path: Path) -> "Found":
        """Read a file of structures that a model has drawn, which may be anything."""
        return cls(path, read(path, check=False, overlap=True))

    @property
    def of_environments(self) -> bool:
        """Return whether these are environments, whose first atom is the centre.

        Raises
        ------
        InvalidDataError
            If some are and others not, or the centre is not among the atoms.
        """
        said = {bool(s.info.get("environment", False)) for s in self.structures}
        if len(said) > 1:
            msg = f"{self.path}: environments and whole structures are not scored together"
            raise InvalidDataError(msg)
        if any(s.info.get("centre", "atom") != "atom" for s in self.structures):
            msg = (
                f"{self.path}: environments about a centroid, without the central atom, are "
                "not scored; train with centre=atom"
            )
            raise InvalidDataError(msg)
        return said.pop()

    def environments(self, neighbours: int, cutoff: float) -> tuple[np.ndarray, int]:
        """Return environments (m, n, 3), and how many atoms have none."""
        if not self.of_environments:
            found = surroundings.of(self.structures, neighbours=neighbours, cutoff=cutoff)
            return found["neighbours"], int(found["left_out"].sum())
        sizes = {len(s) for s in self.structures}
        if sizes != {neighbours + 1}:
            counts = ", ".join(map(str, sorted(n - 1 for n in sizes)))
            msg = f"{self.path}: environments of {counts} neighbours, expected {neighbours}"
            raise InvalidDataError(msg)
        x = np.array([s.positions for s in self.structures])
        return x[:, 1:] - x[:, :1], 0


def some_environments(path: Path, number: int, seed: int) -> np.ndarray:
    """Return environments (n, 8, 3) of a file at random, or as they are if it holds such."""
    held = Found.drawn(path)
    sizes = {len(s) - 1 for s in held.structures}
    neighbours = sizes.pop() if held.of_environments and len(sizes) == 1 else NEIGHBOURS
    x, _ = held.environments(neighbours, CUTOFF)
    if not len(x):
        msg = f"{path}: no atom has {neighbours} neighbours within {CUTOFF:g} Å"
        raise InvalidDataError(msg)
    return x[np.random.default_rng(seed).permutation(len(x))[:number]]


def score(
    file: Path, reference: Path, training: Path | None = None, *, clash: float | None = None
) -> dict[str, Any]:
    """Return the scorecard of a file of generated environments or structures.

    Parameters
    ----------
    file : path
        What was generated. It says which of its frames are environments (``environment=T``).
    reference : path
        Real structures, or environments, that the generator has not seen.
    training : path, optional
        What it has seen.
    clash : float, optional
        Å, below which two atoms are too close: 2 Å for silicon, else 0.85 of the shortest
        bond of the reference.

    Returns
    -------
    dict
        `metrics` and `floors`, with `stderr` and `floors_stderr` of the same keys, and what
        they were measured by. Not-a-number: there is no such number here.

    Raises
    ------
    InvalidDataError
        If a file is not what it is to be, or there is too little in it.
    """
    drawn, real = Found.drawn(file), Found.real(reference)
    known = None if training is None else Found.real(training)
    bond = bond_cutoff(real.structures)
    limit = _clash(real, bond) if clash is None else clash
    single = drawn.of_environments
    if not single and (real.of_environments or (known and known.of_environments)):
        msg = f"{file} has whole structures; compare them with whole structures"
        raise InvalidDataError(msg)
    about: dict[str, Any] = {
        "file": str(file),
        "reference": str(reference),
        "training": None if training is None else str(training),
        "kind": "environments" if single else "structures",
        "draws": len(drawn.structures),
        "clash_distance": limit,
        "bond_cutoff": bond,
    }
    try:
        said, card, floors = _environments(drawn, real, known, bond, limit)
        if not single:
            seen = None if known is None else known.structures
            more, others = whole(
                drawn.structures, real.structures, seen, cutoff=bond, clash=limit
            )
            card = _merged(more, card)
            for name, row in others.items():
                floors[name] = _merged(row, floors.get(name, Card({}, {})))
            card = _merged(card, _notes(drawn.structures))
    except InvalidDataError:
        raise
    except ValueError as error:
        raise InvalidDataError(str(error)) from error
    said |= {"metrics": card.metrics, "stderr": card.stderr}
    said["floors"] = {name: row.metrics for name, row in floors.items()}
    said["floors_stderr"] = {name: row.stderr for name, row in floors.items()}
    return about | said


def distributions(files: Sequence[Path], reference: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return what is to be drawn of files and of the reference, which comes first.

    Parameters
    ----------
    files, reference : path
        As of `score`.

    Returns
    -------
    dict of dict of arrays
        By file: ``bonds``, ``outer``, ``between`` in Å, ``angles`` in degrees.

    Raises
    ------
    InvalidDataError
        As of `score`.
    """
    real, drawn = Found.real(reference), [Found.drawn(file) for file in files]
    of_clusters = [found for found in drawn if found.of_environments]
    neighbours, cutoff = NEIGHBOURS, _ANYWHERE
    if of_clusters:
        neighbours = len(of_clusters[0].structures[0]) - 1
        cutoff = float(of_clusters[0].structures[0].info.get("cutoff", CUTOFF))
    shell = _shell(real, bond_cutoff(real.structures), neighbours)
    groups = {}
    for found in (real, *drawn):
        seen = Invariants.of(found.environments(neighbours, cutoff)[0], shell)
        names = ("bonds", "outer", "between", "angles")
        groups[str(found.path)] = {name: getattr(seen, name) for name in names}
    return groups


def _environments(
    drawn: Found, real: Found, known: Found | None, bond: float, limit: float
) -> tuple[dict[str, Any], Card, dict[str, Card]]:
    """Return what the environments are, their card, and the rows beside it."""
    single = drawn.of_environments
    neighbours, cutoff = NEIGHBOURS, _ANYWHERE
    if single:
        neighbours = len(drawn.structures[0]) - 1
        cutoff = float(drawn.structures[0].info.get("cutoff", CUTOFF))
    elif not all(s.periodic.all() or len(s) > neighbours for s in drawn.structures):
        return {"environments": 0}, Card({}, {}), {}
    made, left = drawn.environments(neighbours, cutoff)
    true, _ = real.environments(neighbours, cutoff)
    seen = None if known is None else known.environments(neighbours, cutoff)[0]
    shell = _shell(real, bond, neighbours)
    said = {
        "environments": len(made),
        "reference_environments": len(true),
        "left_out": left,
        "neighbours": neighbours,
        "shell": shell,
    }
    return said, *environments(made, true, seen, shell=shell, clash=limit)


def _shell(real: Found, bond: float, neighbours: int) -> int:
    """Return how many neighbours are bonded to an atom of the reference, as a rule."""
    bonds = [coordination(s, bond) for s in real.structures]
    counted = [n[0] for n in bonds] if real.of_environments else np.concatenate(bonds)
    return int(np.clip(round(float(np.mean(counted))), 1, neighbours))


def _clash(real: Found, bond: float) -> float:
    """Return the distance in Å below which two atoms are too close."""
    if all((s.numbers == 14).all() for s in real.structures):
        return SILICON_CLASH
    shortest = [bond_lengths(s, bond).min(initial=np.inf) for s in real.structures]
    return CLASH_SHARE * float(min(shortest))


def _notes(structures: Sequence[Structure]) -> Card:
    """Return the means of what the generator wrote beside each structure."""
    metrics = {"nll_per_coordinate": np.nan, "redraws": np.nan, "unfinished": np.nan}
    for name in metrics:
        values = [s.info[name] for s in structures if name in s.info]
        if len(values) == len(structures):
            metrics[name] = float(np.mean(np.asarray(values, float)))
    return Card(metrics, {})


def _merged(one: Card, other: Card) -> Card:
    return Card({**one.metrics, **other.metrics}, {**one.stderr, **other.stderr})
