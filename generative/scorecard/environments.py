"""The scorecard of environments: generated ones against real ones of another structure.

Notes
-----
w_bond, w_outer, w_pair, w_angle: Wasserstein distances, in Å and degrees, between the pooled
distributions of the distances of bonded neighbours and of the others, of the distances between
neighbours, and of the angles between bonds. The `shell` nearest atoms count as bonded, as many
as the reference has bonds in the mean (4 in silicon).

clash: the share of environments with two atoms (the central one too) closer than a limit.

novelty: the mean distance of a generated environment from the nearest one in training, over
that of real environments that were not in training. A copy of the training data has 0, copies
with a little noise nearly 0, and a generator that has learned the distribution about 1; more
means environments that are not real. Without training data the reference takes their place,
and its own environments are compared with the others of it.

coverage: the share of real environments in whose neighbourhood, as far as the fifth nearest
other real one, there is a generated one; 1 - 2^-5 = 0.97 at best, in the mean, of as many
generated as real ones (Naeem et al., ICML 2020).

mmd, auc: of `generative.two_sample`, on sorted distances over their deviation in the
reference; the classifier sees radii, angles and some distances.

Distances are those of sorted distances, `Invariants.distances`. Errors are of drawing
environments anew, as if they were independent; those of one cell overlap, and know less.

References
----------
M. F. Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import wasserstein_distance

from generative import two_sample
from generative.gram.canonical import Template, label

from .invariants import Invariants

KEYS = ("w_bond", "w_angle", "w_pair", "w_outer", "clash", "novelty", "coverage", "mmd", "auc")
NEIGHBOURHOOD = 5  #: real environments around a real one that say what is near to it
JITTER = 0.02  #: Å of noise on the copies of the row "jittered"

_POOLED = 20_000  #: environments whose distances and angles are pooled, at most
_MOST = 2000  #: of those that are looked at one by one
_FEWER = 1000  #: of those that each pair of is looked at
_TRAINING = 20_000  #: in training, at most
_REPEATS = 20
_TEMPLATE = 2000  #: environments that the Gaussian is fitted to


@dataclass(frozen=True)
class Card:
    """Numbers by the keys of a scorecard, and their standard errors."""

    metrics: dict[str, float]
    stderr: dict[str, float]


@dataclass(frozen=True)
class Scale:
    """What all rows of a scorecard are measured by."""

    real: Invariants
    training: np.ndarray  #: sorted distances (m, d) that novelty is measured from
    usual: np.ndarray  #: distance of each real environment from the nearest in training
    clash: float  #: Å


def environments(
    generated: np.ndarray,
    reference: np.ndarray,
    training: np.ndarray | None,
    *,
    shell: int,
    clash: float,
    seed: int = 0,
) -> tuple[Card, dict[str, Card]]:
    """Return the scorecard of generated environments, and the rows beside it.

    Parameters
    ----------
    generated, reference : (m, n, 3), (k, n, 3) array
        Vectors from the centre to the neighbours in Å, in any order and orientation.
    training : (l, n, 3) array or None
        What the generator learned from; half of the reference, if nobody knows.
    shell : int
        Neighbours that are bonded.
    clash : float
        Å, below which two atoms clash.
    seed : int

    Returns
    -------
    card : Card
    floors : dict of Card
        noise_floor: training data, or one half of the reference against the other.
        memoriser: copies of training data; jittered: the same with noise of 0.02 Å.
        gaussian: a normal distribution of positions in canonical order and frame, as fitted to
        training data. nearest: for each real environment the nearest one in training, which
        no generator can know.

    Raises
    ------
    ValueError
        If there are fewer than 20 environments of a kind, or their sizes differ.
    """
    sets = [generated, reference] + ([] if training is None else [training])
    if len({np.shape(x)[1:] for x in sets}) != 1 or min(map(len, sets)) < 20:
        shapes = ", ".join(str(np.shape(x)) for x in sets)
        msg = f"20 environments of one size are needed of each kind, got {shapes}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    reference = rng.permutation(reference)
    scale, source = _scale(reference, training, shell, clash, rng)
    drawn = Invariants.of(rng.permutation(generated)[:_POOLED], shell)
    return _card(drawn, scale, rng), _floors(source, scale, len(drawn), training is None, rng)


def _scale(reference, training, shell: int, clash: float, rng) -> tuple[Scale, np.ndarray]:
    """Return what rows are measured by, and the training data that floors are made of."""
    real = Invariants.of(reference[:_POOLED], shell)
    source = reference[:_TRAINING] if training is None else rng.permutation(training)
    known = Invariants.of(source[:_TRAINING], shell).distances
    if training is None:
        usual = _own_distances(known)
    else:
        usual = KDTree(known).query(real.distances[:_MOST])[0]
    return Scale(real, known, usual, clash), source[:_TRAINING]


def _floors(
    source: np.ndarray, scale: Scale, count: int, halves: bool, rng
) -> dict[str, Card]:
    """Return the rows beside a scorecard, of as many environments as were generated."""
    shell = scale.real.shell
    if halves:
        half = len(source) // 2
        noise, apart = (Invariants.of(x, shell) for x in (source[:half], source[half:]))
        against = replace(scale, real=apart, usual=_own_distances(apart.distances[:_MOST]))
    else:
        noise, against = Invariants.of(source, shell), scale
    floor = _card(noise, against, rng, own=_own_distances(noise.distances[:_MOST]))
    copies = source[rng.integers(len(source), size=count)]
    shaken = copies + JITTER * rng.normal(size=copies.shape)
    wanted = scale.real.distances[:_MOST]
    which = np.asarray(KDTree(scale.training).query(wanted, k=2)[1])
    lookup = source[which[:, 1 if halves else 0]]
    made = {
        "memoriser": copies,
        "jittered": shaken,
        "gaussian": _gaussian(source[:_TEMPLATE], count, rng),
        "nearest": lookup,
    }
    rows = {name: _card(Invariants.of(x, shell), scale, rng) for name, x in made.items()}
    return {"noise_floor": floor} | rows


def _gaussian(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from a normal distribution of positions in canonical order and frame."""
    laid = label(x, Template.fit(x)).x.reshape(len(x), -1)
    drawn = rng.multivariate_normal(laid.mean(axis=0), np.cov(laid.T), count, method="svd")
    return drawn.reshape(-1, *x.shape[1:])


def _own_distances(known: np.ndarray) -> np.ndarray:
    """Return the distance of each point from the nearest other one."""
    return KDTree(known).query(known, k=2)[0][:, 1]


def _card(drawn: Invariants, scale: Scale, rng, own: np.ndarray | None = None) -> Card:
    """Return the numbers of one row; `own` are distances from training, if known otherwise."""
    real = scale.real
    metrics, stderr = {}, {}
    pooled = {"w_bond": "bonds", "w_angle": "angles", "w_pair": "between", "w_outer": "outer"}
    for key, name in pooled.items():
        a, b = getattr(drawn, name), getattr(real, name)
        metrics[key], stderr[key] = _wasserstein(a, b, rng)
    metrics["clash"], stderr["clash"] = _mean(drawn.closest < scale.clash)
    far = KDTree(scale.training).query(drawn.distances[:_MOST])[0] if own is None else own
    mean, error = _mean(far)
    usual, usual_error = _mean(scale.usual)
    metrics["novelty"] = mean / usual if usual > 0 else np.nan
    stderr["novelty"] = float(np.hypot(error / usual, mean * usual_error / usual**2))
    metrics["coverage"], stderr["coverage"] = _mean(_covered(drawn, real))
    spread = np.maximum(real.distances.std(axis=0), 1e-12)
    a, b = drawn.distances[:_FEWER] / spread, real.distances[:_FEWER] / spread
    metrics["mmd"], stderr["mmd"] = _compared(two_sample.mmd, a, b, rng, _REPEATS // 2)
    a, b = drawn.fingerprint[:_FEWER], real.fingerprint[:_FEWER]
    metrics["auc"], stderr["auc"] = _compared(
        lambda one, two: two_sample.auc(one, two, rng), a, b, rng, _REPEATS // 4
    )
    return Card(metrics, stderr)


def _compared(
    statistic: Callable[[np.ndarray, np.ndarray], float], a, b, rng, repeats: int
) -> tuple[float, float]:
    """Return a statistic of two samples, and its error."""
    return statistic(a, b), two_sample.bootstrap(statistic, a, b, rng, repeats=repeats)


def _wasserstein(a: np.ndarray, b: np.ndarray, rng) -> tuple[float, float]:
    """Return the Wasserstein distance of pooled numbers (m, k), (n, k), and its error.

    The error is that of fewer environments, and falls by the root of their number.
    """

    def pooled(one: np.ndarray, two: np.ndarray) -> float:
        return float(wasserstein_distance(one.ravel(), two.ravel()))

    if a.shape[1] == 0:
        return np.nan, np.nan
    few, other = a[:_MOST], b[:_MOST]
    error = two_sample.bootstrap(pooled, few, other, rng, repeats=_REPEATS)
    more = (1 / len(a) + 1 / len(b)) / (1 / len(few) + 1 / len(other))
    return pooled(a, b), float(error * np.sqrt(more))


def _covered(drawn: Invariants, real: Invariants) -> np.ndarray:
    """Return which real environments have a generated one near, of as many of either."""
    count = min(len(drawn), len(real), _MOST)
    known, made = real.distances[:count], drawn.distances[:count]
    near = min(NEIGHBOURHOOD, count - 1)
    radius = KDTree(known).query(known, k=near + 1)[0][:, -1]
    return KDTree(made).query(known)[0] <= radius


def _mean(values) -> tuple[float, float]:
    """Return a mean and its standard error."""
    return float(np.mean(values)), float(np.std(values) / np.sqrt(max(len(values) - 1, 1)))
