"""Whether draws are as uncertain as they should be: coverage, ranks, weights.

A level is the probability that a sampler gives to the region up to the truth: a number for
each event, uniform between 0 and 1 where the sampler is calibrated. There are three kinds of
regions: central intervals of one number (`central_levels`), the region of highest density
(`density_levels`), and balls about a random point (`tarp_levels`), which see what single
numbers hide. `coverage` counts how many levels lie within 50, 68, 90 and 95 %.

Calibration is necessary, not sufficient: draws from the prior are calibrated. `sharpness` is
what remains to be compared.

Notes
-----
A truth among n draws has n + 1 possible ranks. The rank is spread over its interval by a
uniform number, so that levels of a calibrated sampler are uniform exactly, whatever n; draws
that tie with the truth share theirs.

References
----------
S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration,
arXiv:1804.06788 (2018).
P. Lemos et al., Sampling-based accuracy testing of posterior estimators for general inference,
ICML 2023, arXiv:2302.03026.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import kstest

LEVELS = (0.50, 0.68, 0.90, 0.95)


@dataclass(frozen=True)
class Coverage:
    """How often regions of stated probability hold the truth."""

    levels: tuple[float, ...]
    shares: tuple[float, ...]  #: of events, one for each level
    errors: tuple[float, ...]  #: binomial standard deviations, were the sampler calibrated

    @property
    def deviation(self) -> float:
        """Return the largest difference of share and level, in standard deviations."""
        rows = zip(self.levels, self.shares, self.errors, strict=True)
        return max(abs(share - level) / error for level, share, error in rows)


def coverage(levels, wanted: tuple[float, ...] = LEVELS) -> Coverage:
    """Count the events whose level is within each of the wanted ones.

    Parameters
    ----------
    levels : (m,) array
        NaN where an event has none; these do not count.
    """
    known = np.asarray(levels, float)
    known = known[np.isfinite(known)]
    if not len(known):
        msg = "no event has a level"
        raise ValueError(msg)
    shares = tuple(float((known <= level).mean()) for level in wanted)
    errors = tuple(float(np.sqrt(p * (1 - p) / len(known))) for p in wanted)
    return Coverage(tuple(wanted), shares, errors)


def ranks(draws, true) -> np.ndarray:
    """Return how many of the draws (m, n, ...) are below the truth (m, ...)."""
    x, y = np.asarray(draws, float), np.asarray(true, float)
    return (x < y[:, None]).sum(axis=1)


def pit(draws, true, rng: np.random.Generator, weights=None) -> np.ndarray:
    """Return the share of the draws below the truth, uniform where all is well.

    Parameters
    ----------
    draws : (m, n, ...) array
    true : (m, ...) array
    rng : numpy.random.Generator
    weights : (m, n) array, optional

    Returns
    -------
    (m, ...) array
        Probability integral transform, from 0 to 1.
    """
    x, y = np.asarray(draws, float), np.asarray(true, float)[:, None]
    share = rng.random(y[:, 0].shape)
    if weights is None:
        below, ties = (x < y).sum(axis=1), (x == y).sum(axis=1)
        return (below + share * (ties + 1)) / (x.shape[1] + 1)
    w = np.asarray(weights, float).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    # the truth counts as a draw of the effective number of them
    own = (w**2).sum(axis=1)
    below, ties = (w * (x < y)).sum(axis=1), (w * (x == y)).sum(axis=1)
    return (below + share * (ties + own)) / (1 + own)


def uniformity(levels) -> float:
    """Return the probability of levels (m,) that deviate from uniform as much, or more."""
    return float(kstest(np.asarray(levels, float), "uniform").pvalue)


def central_levels(draws, true, rng: np.random.Generator, weights=None) -> np.ndarray:
    """Return the level of the central interval that ends at the truth; as `pit`."""
    return np.abs(2 * pit(draws, true, rng, weights) - 1)


def density_levels(log_density, log_density_true, rng: np.random.Generator) -> np.ndarray:
    """Return the probability (m,) of the region where the density is above that at the truth.

    Parameters
    ----------
    log_density : (m, n) array
        Of the draws, under the sampler.
    log_density_true : (m,) array
        Of the truth, under the sampler, in the same coordinates.
    """
    negative = -np.asarray(log_density, float), -np.asarray(log_density_true, float)
    return pit(*negative, rng)


def tarp_levels(draws, true, references, rng: np.random.Generator, weights=None) -> np.ndarray:
    """Return the share (m,) of draws that are nearer to a random point than the truth is.

    Parameters
    ----------
    draws : (m, n, d) array
    true : (m, d) array
    references : (m, d) array
        Points that know nothing of the truth of their event: truths of other events, say.
    """
    x, y, r = (np.asarray(a, float) for a in (draws, true, references))
    far = np.linalg.norm(x - r[:, None], axis=2), np.linalg.norm(y - r, axis=1)
    return pit(*far, rng, weights)


def effective_sample_size(weights) -> np.ndarray:
    """Return 1 / Σ w² (m,) of weights (m, n) that add up to one."""
    return 1 / (np.asarray(weights, float) ** 2).sum(axis=1)


def sharpness(draws, weights=None) -> np.ndarray:
    """Return the standard deviation (m,) of draws (m, n, d), the root of its sum over d."""
    x = np.asarray(draws, float)
    x = x.reshape(*x.shape[:2], -1)
    n = x.shape[1]
    w = np.full(x.shape[:2], 1 / n) if weights is None else np.asarray(weights, float)
    mean = np.einsum("mn,mnd->md", w, x)
    square = np.einsum("mn,mnd->m", w, (x - mean[:, None]) ** 2)
    left = 1 - (w**2).sum(axis=1)  # as n - 1 instead of n
    return np.sqrt(np.divide(square, left, out=np.zeros(len(x)), where=left > 1e-12))
