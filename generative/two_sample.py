"""Whether two sets of samples come from one distribution.

Three statistics of samples a (m, d) and b (n, d): the energy distance, the maximum mean
discrepancy with a Gaussian kernel, and the area under the curve of a classifier that is to
tell them apart (0.5: it cannot). `bootstrap` gives any of them an error.

Notes
-----
Energy distance: 2 E|a - b| - E|a - a'| - E|b - b'|, without the pairs of a sample with itself,
so that its mean is 0 for equal distributions. The classifier is a logistic regression on the
coordinates, their squares and products: it sees differences of means and covariances, and not
all others. It is fitted on one half of the samples and judged on the other, both ways.

References
----------
G. J. Székely and M. L. Rizzo, J. Stat. Plan. Inference 143, 1249 (2013).
https://doi.org/10.1016/j.jspi.2013.03.018
A. Gretton et al., J. Mach. Learn. Res. 13, 723 (2012).
D. Lopez-Paz and M. Oquab, Revisiting classifier two-sample tests, ICLR 2017.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

_RIDGE = 1e-3  #: keeps the classifier finite where the samples can be told apart
_NEWTON_STEPS = 25


def energy_distance(a, b) -> float:
    """Return the energy distance of samples (m, d) and (n, d), in the unit of the samples."""
    a, b = _two(a, b)
    return float(2 * cdist(a, b).mean() - _within(cdist(a, a)) - _within(cdist(b, b)))


def mmd(a, b, *, width: float | None = None) -> float:
    """Return the squared maximum mean discrepancy, unbiased.

    Parameters
    ----------
    a, b : (m, d), (n, d) array
    width : float, optional
        Of the kernel exp(-|x - y|² / 2 width²); the median distance of the samples when
        omitted.
    """
    a, b = _two(a, b)
    across, one, two = cdist(a, b), cdist(a, a), cdist(b, b)
    if width is None:
        width = float(np.median(across))
    if not width > 0:
        msg = f"the width of the kernel must be positive, got {width}"
        raise ValueError(msg)

    def kernel(r: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * (r / width) ** 2)

    return float(_within(kernel(one)) + _within(kernel(two)) - 2 * kernel(across).mean())


def auc(a, b, rng: np.random.Generator) -> float:
    """Return the probability that a classifier puts a sample of `b` above one of `a`."""
    a, b = _two(a, b)
    x = np.concatenate([a, b])
    label = np.repeat([0.0, 1.0], [len(a), len(b)])
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)
    one, two = np.triu_indices(x.shape[1])
    features = np.concatenate([np.ones((len(x), 1)), x, x[:, one] * x[:, two]], axis=1)
    half = np.zeros(len(x), bool)
    for kind in (0.0, 1.0):
        mine = rng.permutation(np.flatnonzero(label == kind))
        half[mine[: len(mine) // 2]] = True
    areas = []
    for chosen in (half, ~half):
        theta = _logistic(features[chosen], label[chosen])
        areas.append(_area(features[~chosen] @ theta, label[~chosen]))
    return float(np.mean(areas))


def bootstrap(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    a,
    b,
    rng: np.random.Generator,
    *,
    repeats: int = 100,
) -> float:
    """Return the standard error of a statistic of two samples, by drawing them again.

    Half of each sample is drawn, without replacement: a sample that came twice would have
    distance 0 to itself.
    """
    a, b = _two(a, b)
    values = []
    for _ in range(repeats):
        halves = [s[rng.permutation(len(s))[: max(len(s) // 2, 1)]] for s in (a, b)]
        values.append(statistic(*halves))
    # of m, a half without replacement varies by (1/(m/2) - 1/m) = 1/m: as much as all m do
    return float(np.std(values, ddof=1))


def _within(between: np.ndarray) -> float:
    """Return the mean over different pairs of a square matrix."""
    n = len(between)
    return float((between.sum() - np.trace(between)) / (n * (n - 1)))


def _logistic(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the coefficients of a logistic regression, by Newton's method."""
    theta = np.zeros(x.shape[1])
    penalty = _RIDGE * len(x) * np.eye(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (p - label) + penalty @ theta
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + penalty, gradient)
        theta -= step
        if np.abs(step).max() < 1e-8:
            break
    return theta


def _area(score: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the curve of true against false positives."""
    above = rankdata(score)[label == 1]
    m, n = len(above), int((label == 0).sum())
    return float((above.sum() - m * (m + 1) / 2) / (m * n))


def _two(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 4:
        msg = f"samples must be (m, d) and (n, d) with m, n >= 4, got {a.shape}, {b.shape}"
        raise ValueError(msg)
    return a, b
