"""How good drawn structures are: beside floors, baselines, and the trajectory itself.

The RDF that all are compared with is that of the whole trajectory, as published; `held_out`
says how far the part that was kept for tests is from it, which is the trajectory's own drift.
Nats are of the test part, for one coordinate on the cells of the model's grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import process_time
from typing import Any

import numpy as np
import torch

from generative.structures import Structure
from generative.structures.measures import close_pairs
from generative.structures.rdf import err_rdf, rdf, rdf_rmse

from . import baselines
from .frames import Frames
from .model import Repap
from .representation import Sequences

WIDTH = 0.05  #: Å, of a shell of the RDF

_REFERENCE = 4000  #: frames of the trajectory that its RDF is taken from
_SCORED = 1000  #: frames of the test part that nats are averaged over
_PROJECTED = 500  #: frames whose density is predicted
_ENERGIES, _RELAXED = 200, 50  #: structures of a row
_BLOCKS = 10  #: consecutive parts of the test part, for the error of nats

Energies = Callable[[Sequence[Structure]], np.ndarray]


@dataclass(frozen=True)
class Yardstick:
    """What structures in a box are measured against.

    Attributes
    ----------
    seen : Sequences
        The box, and the atoms in it.
    g : (shells,) array
        RDF of the trajectory, from shells of `WIDTH` up to half the box.
    spread : (3 atoms,) array or None
        Deviation of each coordinate, Å, where atoms keep their places.
    close : float
        Distance below which a pair counts as close, Å.
    """

    seen: Sequences
    g: np.ndarray
    spread: np.ndarray | None
    close: float

    @classmethod
    def of(cls, frames: np.ndarray, seen: Sequences, close: float) -> "Yardstick":
        """Take it from frames (m, atoms, 3) of a trajectory, in the box."""
        kept = seen.order != "spatial" and seen.augment == "none"
        width = spread(frames, np.array(seen.lengths)) if kept else None
        return cls(seen, radial(frames, seen)[1], width, close)

    def measure(
        self,
        frames: np.ndarray,
        energies: Energies | None = None,
        relaxed: Energies | None = None,
    ) -> dict[str, float]:
        """Return what there is to say of frames (m, atoms, 3), Å."""
        g, structures = radial(frames, self.seen)[1], self.seen.decode(frames)
        row = {
            "err_rdf": err_rdf(g, self.g),
            "rdf_rmse": rdf_rmse(g, self.g),
            "close_pairs": close_pairs(structures, self.close),
        }
        if self.spread is not None:
            wide = spread(frames, np.array(self.seen.lengths))
            row["spread"] = float((wide / self.spread).mean())
        if energies is not None:
            row["energy"] = float(np.median(energies(structures[:_ENERGIES])))
        if relaxed is not None:
            row["relaxed"] = float(np.median(relaxed(structures[:_RELAXED])))
        return row


def radial(frames: np.ndarray, seen: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Return r (shells,) and the RDF of frames (m, atoms, 3) up to half the box."""
    cell = np.diag(seen.lengths) if seen.periodic else None
    return rdf(frames, min(seen.lengths) / 2, WIDTH, cell=cell)


def judge(
    model: Repap,
    source: Frames,
    *,
    n: int = 1000,
    seed: int = 1,
    close: float = 2.0,
    energies: Energies | None = None,
    relaxed: Energies | None = None,
    ways: dict[str, dict[str, Any]] | None = None,
) -> dict[str, dict[str, float]]:
    """Compare a model with its data, with floors and with baselines.

    Parameters
    ----------
    model : Repap
    source : Frames
        The trajectory.
    n : int
        Structures of each row.
    seed : int
    close : float
        Distance below which a pair counts as close, Å.
    energies, relaxed : callable, optional
        Energy of each structure, eV per atom: as it is, and in the nearest minimum; of some
        structures of a row.
    ways : dict of dict, optional
        Rows of the model, each with its ways of drawing (`generate.How`); by default "model"
        with redraws, and "no_repair" without.

    Returns
    -------
    dict of dict
        By row: `err_rdf`, `rdf_rmse`, `close_pairs` (a share of all pairs), and, where they
        are defined, `nll_per_coordinate` with what stands beside it, `spread` (deviation of
        coordinates over that of the trajectory), `redraws` and `unfinished` per structure,
        `structures_per_second` (of this process), `energy` and `relaxed` (medians).
    """
    rng = np.random.default_rng(seed)
    seen, lengths = model.sequences, np.array(model.sequences.lengths)
    plain = _Plain(model, source)
    whole = plain.frames(thinned(source.positions, _REFERENCE))
    against = Yardstick.of(whole, seen, close)
    train, test = source.frames("train"), plain.frames(thinned(source.frames("test"), n))
    picked = plain.frames(train[rng.integers(0, len(train), n)])
    scored = plain.frames(thinned(source.frames("test"), _SCORED)) / lengths
    rows = {
        "noise_floor": picked,
        "held_out": test,
        "grid": baselines.on_grid(picked / lengths, model.grid) * lengths,
    }
    made: dict[str, dict[str, float]] = {}
    for name, frames in rows.items():
        made[name] = against.measure(frames, energies, relaxed)
    every = plain.frames(train) / lengths
    for name, kind in baselines.BASELINES.items():
        baseline = kind(every, model.grid)
        frames = baseline.draw(n, rng) * lengths
        made[name] = against.measure(frames, energies, relaxed)
        made[name] |= {"nll_per_coordinate": baseline.nats(scored)}
    nats = nll_per_coordinate(model, source, seed=seed)
    if ways is None:
        ways = {"no_repair": {"redraws": 0}, "model": {}}
    for name, how in ways.items():
        begin = process_time()
        drawn, notes = model.draw(
            torch.zeros(1, 0), n, torch.Generator().manual_seed(seed), **how
        )
        rate = n / (process_time() - begin)
        frames = drawn[0].double().numpy()
        made[name] = against.measure(frames, energies, relaxed) | nats
        made[name] |= {key: float(value.mean()) for key, value in notes.items()}
        made[name] |= {"structures_per_second": rate}
    return made


def nll_per_coordinate(model: Repap, source: Frames, *, seed: int = 1) -> dict[str, float]:
    """Say how likely the test part of a trajectory is, in nats of a coordinate on its cells.

    Returns
    -------
    dict
        `nll_per_coordinate`, the mean of -log p over frames, and `nll_error`, that of the
        mean over consecutive blocks, as frames in a row are alike; both without the share
        `impossible` of frames of probability 0, with atoms nearer than training knows them.
    """
    frames = thinned(source.frames("test"), _SCORED)
    arrays = {**source.constants, "positions": frames}
    x, c = model.sequences.encode(arrays, np.random.default_rng(seed))
    score = model.log_prob(torch.from_numpy(x).float(), torch.from_numpy(c).float())
    cell = np.log(np.array(model.sequences.lengths) / model.grid.cells).mean()
    nats = -score.value.double().numpy() / (3 * model.atoms) - cell
    possible = nats[np.isfinite(nats)]
    said = {"nll_per_coordinate": float("inf"), "nll_error": float("nan")}
    if len(possible):
        said["nll_per_coordinate"] = float(possible.mean())
    if len(possible) > 1:
        parts = np.array_split(possible, min(_BLOCKS, len(possible)))
        means = np.array([part.mean() for part in parts])
        said["nll_error"] = float(means.std(ddof=1) / len(means) ** 0.5)
    return said | {"impossible": 1 - len(possible) / len(nats)}


def projections(model: Repap, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the density of atoms along each axis: as predicted, and as it is.

    Parameters
    ----------
    model : Repap
    x : (m, atoms, 3) tensor
        Structures; each coordinate is predicted from those before it.

    Returns
    -------
    predicted, true : (3, cells) array
        1/Å; each adds up to 1 along an axis.
    """
    with torch.no_grad():
        log_p = torch.cat([model.log_cells(part) for part in x.split(100)])
    predicted = log_p.exp().mean((0, 1)).double().numpy()
    cell = model.grid.cell(x / model.lengths)
    true = torch.nn.functional.one_hot(cell, model.grid.cells).double().mean((0, 1)).numpy()
    per_length = model.grid.cells / model.lengths.double().numpy()[:, None]
    return predicted * per_length, true * per_length


def densities(model: Repap, source: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Return `projections` of the test part of a trajectory."""
    frames = _Plain(model, source).frames(thinned(source.frames("test"), _PROJECTED))
    return projections(model, torch.from_numpy(frames).float())


def spread(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the deviation (3 atoms,) of coordinates about their circular means, Å."""
    turns = np.exp(2j * np.pi * frames / lengths).mean(0)
    off = frames - np.angle(turns) / (2 * np.pi) * lengths
    off -= np.rint(off / lengths) * lengths
    return off.std(0).ravel()


class _Plain:
    """Frames in the box and in order, as they are: neither turned nor shifted."""

    def __init__(self, model: Repap, source: Frames):
        self._seen = replace(model.sequences, augment="none")
        self._constants = source.constants

    def frames(self, positions: np.ndarray) -> np.ndarray:
        arrays = {**self._constants, "positions": positions}
        return self._seen.encode(arrays, np.random.default_rng(0))[0]


def thinned(frames: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many frames, evenly spaced in time."""
    return frames[np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int)]
