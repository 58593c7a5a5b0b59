"""The scorecard of whole structures: RDF, close pairs, coordination, angles, environments.

Notes
-----
The RDF has shells of 0.05 Å up to half the least width of a cell, 10 Å at most, and
err_rdf = Σ_k (g_k - g_true_k)² / k. An RDF is a mean over atoms, which are drawn anew for the
errors and halved for the noise floor of a single structure.
"""

from collections.abc import Sequence

import numpy as np

from generative.structures import Structure
from generative.structures.measures import bond_angles, close_pairs, coordination, density
from generative.structures.neighbours import complete, pairs
from generative.structures.rdf import err_rdf, rdf_rmse

from .environments import Card

SHELL, LONGEST = 0.05, 10.0  #: Å, the width of a shell and the end of an RDF at most

_REPEATS = 20


def whole(
    generated: Sequence[Structure],
    reference: Sequence[Structure],
    training: Sequence[Structure] | None,
    *,
    cutoff: float,
    clash: float,
    seed: int = 0,
) -> tuple[Card, dict[str, Card]]:
    """Return the scorecard of generated structures, and the rows beside it.

    Parameters
    ----------
    generated, reference : sequence of Structure
        All periodic, or all clusters.
    training : sequence of Structure or None
        What the generator learned from, or another real structure.
    cutoff : float
        Å, up to which two atoms are bonded.
    clash : float
        Å, below which two atoms are close.
    seed : int

    Returns
    -------
    card : Card
    floors : dict of Card
        noise_floor: training data against the reference, or one half of its atoms against the
        other. random: atoms anywhere in the cells of the generated structures.

    Raises
    ------
    ValueError
        If some are periodic and others not.
    """
    rng = np.random.default_rng(seed)
    sets = [generated, reference] + ([] if training is None else [training])
    r_max = longest([s for structures in sets for s in structures])
    true = _Radial.of(reference, r_max)

    def card(structures: Sequence[Structure]) -> Card:
        made = _Radial.of(structures, r_max)
        metrics, stderr = made.against(true, rng)
        measured = _measured(structures, cutoff, clash)
        return Card(metrics | measured[0], stderr | measured[1])

    floors = {"random": card([scattered(s, rng) for s in generated])}
    if training is not None:
        return card(generated), {"noise_floor": card(training), **floors}
    one, other = true.halves(rng)
    metrics, stderr = one.against(other, rng)
    measured = _measured(reference, cutoff, clash)
    floor = Card(metrics | measured[0], stderr | measured[1])
    return card(generated), {"noise_floor": floor, **floors}


class _Radial:
    """The RDF of structures, kept atom by atom."""

    def __init__(self, counts: np.ndarray, expected: np.ndarray, structure: np.ndarray):
        self.counts, self.expected, self.structure = counts, expected, structure

    @classmethod
    def of(cls, structures: Sequence[Structure], r_max: float) -> "_Radial":
        shells = int(np.floor(r_max / SHELL * (1 + 1e-12)))
        edges = SHELL * np.arange(shells + 1)
        counts, expected = [], []
        for s in structures:
            near = pairs(s.positions, s.cell, s.periodic, SHELL * shells)
            place = np.minimum((near.distance / SHELL).astype(int), shells - 1)
            flat = np.bincount(near.i * shells + place, minlength=len(s) * shells)
            counts.append(flat.reshape(len(s), shells))
            size = np.diff(edges**3) * 4 / 3 * np.pi / s.volume if s.periodic.all() else SHELL
            expected.append(np.full((len(s), shells), (len(s) - 1) * size))
        number = np.repeat(np.arange(len(structures)), [len(s) for s in structures])
        return cls(np.concatenate(counts), np.concatenate(expected), number)

    def g(self, atoms=slice(None)) -> np.ndarray:
        """Return the RDF, of some atoms."""
        return self.counts[atoms].sum(axis=0) / self.expected[atoms].sum(axis=0)

    def halves(self, rng: np.random.Generator) -> tuple["_Radial", "_Radial"]:
        """Split structures, or the atoms of a single one, at random."""
        number = self.structure if self.structure[-1] else np.arange(len(self.counts))
        chosen = np.isin(number, rng.permutation(number[-1] + 1)[: (number[-1] + 1) // 2])
        return self._part(chosen), self._part(~chosen)

    def against(self, true: "_Radial", rng) -> tuple[dict[str, float], dict[str, float]]:
        """Return the differences of two RDFs, and their errors."""
        g, right = self.g(), true.g()
        kinds = {"err_rdf": err_rdf, "rdf_rmse": rdf_rmse}
        halves = []
        for _ in range(_REPEATS):
            # of m, a half without replacement varies as much as all m do
            one, other = self.halves(rng)[0].g(), true.halves(rng)[0].g()
            halves.append([of(one, other) for of in kinds.values()])
        errors = np.std(halves, axis=0, ddof=1)
        return (
            {name: of(g, right) for name, of in kinds.items()},
            {name: float(error) for name, error in zip(kinds, errors, strict=True)},
        )

    def _part(self, chosen: np.ndarray) -> "_Radial":
        return _Radial(self.counts[chosen], self.expected[chosen], self.structure[chosen])


def _measured(structures, cutoff: float, clash: float):
    """Return what structures are like, and the errors of means over atoms."""
    bonds = np.concatenate([coordination(s, cutoff) for s in structures])
    angles = np.concatenate([bond_angles(s, cutoff) for s in structures])
    usual = np.bincount(bonds).argmax()
    root = np.sqrt(max(len(bonds), 1))
    metrics = {
        "close_pairs": close_pairs(structures, clash),
        "coordination": float(bonds.mean()),
        "most_common_coordination": float((bonds == usual).mean()),
        "angle_mean": float(angles.mean()) if angles.size else np.nan,
        "angle_spread": float(angles.std()) if angles.size else np.nan,
    }
    stderr = {
        "coordination": float(bonds.std() / root),
        "most_common_coordination": float((bonds == usual).std() / root),
    }
    if all(s.periodic.all() for s in structures):
        metrics["density"] = float(np.mean([density(s) for s in structures]))
    return metrics, stderr


def longest(structures: Sequence[Structure]) -> float:
    """Return how far an RDF reaches: half the least width of a cell, or of the clusters."""
    widths = []
    for s in structures:
        if s.periodic.all():
            _, inverse = complete(s.cell, s.periodic)
            widths.append(0.5 / np.linalg.norm(inverse, axis=0).max())
        elif s.periodic.any():
            msg = "a structure repeats in 3 directions or in none to be scored"
            raise ValueError(msg)
    if widths and len(widths) < len(structures):
        msg = f"{len(widths)} of {len(structures)} structures are periodic: all or none"
        raise ValueError(msg)
    return min([LONGEST, *widths])


def scattered(s: Structure, rng: np.random.Generator) -> Structure:
    """Return as many atoms at random in the same cell, or in the box around a cluster."""
    if s.periodic.all():
        x = rng.uniform(size=(len(s), 3)) @ s.cell
    else:
        x = rng.uniform(s.positions.min(axis=0), s.positions.max(axis=0), (len(s), 3))
    return Structure(positions=x, cell=s.cell, periodic=s.periodic, numbers=s.numbers)
