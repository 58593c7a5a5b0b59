"""How far predictions are from the truth: of one geometry for an event, or of many draws.

Arrays are (m, ions, 3) for one geometry of each of m events, (m, n, ions, 3) for n draws, in
bohr and in one frame. What depends on the frame and the origin (`point_errors`, `crps`) is
told apart from what does not (`distance_errors`, `atom_errors`). Draws may carry weights
(m, n) that add up to one for each event.

Notes
-----
The continuous ranked probability score of draws x with weights w, at the truth y, is

    Σ w_i |x_i - y| - ½ Σ w_i w_j |x_i - x_j| / (1 - Σ w_i²).

The denominator makes it fair: of draws of the true distribution its mean does not depend on
their number. Of a distribution that is known in full (all its points) it is left out. The
energy score is the same with the distance of whole geometries. Both are the distance itself
where there is one prediction, and fall as predictions improve.

References
----------
T. Gneiting and A. E. Raftery, J. Am. Stat. Assoc. 102, 359 (2007).
https://doi.org/10.1198/016214506000001437
C. A. T. Ferro, Q. J. R. Meteorol. Soc. 140, 1917 (2014). https://doi.org/10.1002/qj.2270
"""

from dataclasses import dataclass

import numpy as np

from coulex.frames import kabsch

_ROUNDING = 1e-12  #: share of the size that is 0 but for a rotation
_PAIRS_AT_ONCE = 1 << 22  #: distances of draws that are held in memory together


@dataclass(frozen=True)
class PointErrors:
    """Errors of components of positions, as published; they depend on frame and origin."""

    mse: float  #: bohr²
    mae: float  #: bohr
    mre: float  #: mean of |error / true value| where that is not 0
    mre_undefined: int  #: components whose true value is 0: they have no relative error
    mse_standardised: float  #: in units of each component's own variance
    constant: int  #: components that do not vary: they are left out of `mse_standardised`


def point_errors(predicted, true, *, spread=None) -> PointErrors:
    """Compare components of positions.

    Parameters
    ----------
    predicted, true : (m, ions, 3) array
        In bohr, in one frame.
    spread : (ions, 3) array, optional
        Standard deviations that errors are measured by; those of `true` when omitted.

    Raises
    ------
    ValueError
        If shapes differ or there are no events.
    """
    guess, true = _alike(predicted, true)
    spread = true.std(axis=0) if spread is None else np.asarray(spread, float)
    error = guess - true
    size = np.abs(true).max()
    defined = np.abs(true) > _ROUNDING * size
    varies = spread > _ROUNDING * size
    relative = np.abs(error[defined] / true[defined])
    return PointErrors(
        mse=float((error**2).mean()),
        mae=float(np.abs(error).mean()),
        mre=float(relative.mean()) if relative.size else np.nan,
        mre_undefined=int((~defined).sum()),
        mse_standardised=float(((error[:, varies] / spread[varies]) ** 2).mean())
        if varies.any()
        else np.nan,
        constant=int((~varies).sum()),
    )


def distances(positions) -> np.ndarray:
    """Return the distances (..., pairs) of all pairs of ions of geometries (..., ions, 3)."""
    x = np.asarray(positions, float)
    one, two = np.triu_indices(x.shape[-2], 1)
    return np.linalg.norm(x[..., one, :] - x[..., two, :], axis=-1)


def distance_errors(predicted, true) -> np.ndarray:
    """Return |r' - r| (m, pairs) of every pair of ions: free of frame and origin."""
    guess, true = _alike(predicted, true)
    return np.abs(distances(guess) - distances(true))


def atom_errors(predicted, true) -> np.ndarray:
    """Return how far (m, ions) each ion is from its true place, after the best rotation.

    Rotations are proper: the mirror image of four ions and more stays an error.
    """
    guess, true = _alike(predicted, true)
    rotations, _ = kabsch(guess, true)
    guess = guess - guess.mean(axis=1, keepdims=True)
    true = true - true.mean(axis=1, keepdims=True)
    return np.linalg.norm(guess @ np.swapaxes(rotations, 1, 2) - true, axis=2)


def mean_of(draws, weights=None) -> np.ndarray:
    """Return the mean (m, ...) of draws (m, n, ...)."""
    x = np.asarray(draws, float)
    return x.mean(axis=1) if weights is None else np.einsum("mn,mn...->m...", weights, x)


def best_of(draws, true) -> np.ndarray:
    """Return, of the draws (m, n, ions, 3) of each event, the one nearest to the truth."""
    x, y = np.asarray(draws, float), np.asarray(true, float)
    square = ((x - y[:, None]) ** 2).sum(axis=(2, 3))
    return x[np.arange(len(x)), square.argmin(axis=1)]


def crps(draws, true, weights=None, *, fair: bool = True) -> np.ndarray:
    """Return the continuous ranked probability score of every component.

    Parameters
    ----------
    draws : (m, n, ...) array
    true : (m, ...) array
    weights : (m, n) array, optional
        All alike when omitted.
    fair : bool
        False where the draws are all points of the distribution.

    Returns
    -------
    (m, ...) array, in the unit of the draws; with a single draw its distance.
    """
    x, y = np.asarray(draws, float), np.asarray(true, float)
    shape = y.shape
    x, y = x.reshape(*x.shape[:2], -1), y.reshape(len(y), -1)
    w = _weights(weights, x)
    order = np.argsort(x, axis=1, kind="stable")
    x = np.take_along_axis(x, order, axis=1)
    w = np.take_along_axis(np.broadcast_to(w[:, :, None], x.shape), order, axis=1)
    before = np.cumsum(w, axis=1) - w
    # ½ ΣΣ w w' |x - x'| = Σ w_i x_i (weight before i - weight behind i)
    spread = (w * x * (2 * before + w - 1)).sum(axis=1)
    off = (w * np.abs(x - y[:, None])).sum(axis=1)
    return (off - spread / _fairness(weights, x, fair)[:, None]).reshape(shape)


def energy_score(draws, true, weights=None, *, fair: bool = True) -> np.ndarray:
    """Return the energy score (m,) of whole geometries; parameters as of `crps`."""
    x, y = np.asarray(draws, float), np.asarray(true, float)
    x, y = x.reshape(*x.shape[:2], -1), y.reshape(len(y), -1)
    w = _weights(weights, x)
    off = (w * np.linalg.norm(x - y[:, None], axis=2)).sum(axis=1)
    spread, step = np.empty(len(x)), max(1, _PAIRS_AT_ONCE // max(x.shape[1] ** 2, 1))
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        gap = _pairwise(x[part])
        spread[part] = 0.5 * np.einsum("mi,mj,mij->m", w[part], w[part], gap)
    return off - spread / _fairness(weights, x, fair)


def _pairwise(x) -> np.ndarray:
    """Return the distances (m, n, n) of points (m, n, d)."""
    x = x - x.mean(axis=1, keepdims=True)  # what cancels is then no larger than distances
    square = (x**2).sum(axis=2)
    product = x @ np.swapaxes(x, 1, 2)
    gap = np.sqrt(np.maximum(square[:, :, None] + square[:, None] - 2 * product, 0.0))
    own = np.arange(x.shape[1])
    gap[:, own, own] = 0.0
    return gap


def _weights(weights, x) -> np.ndarray:
    if weights is None:
        return np.full(x.shape[:2], 1 / x.shape[1])
    w = np.asarray(weights, float)
    if w.shape != x.shape[:2]:
        msg = f"weights must be {x.shape[:2]}, got {w.shape}"
        raise ValueError(msg)
    return w


def _fairness(weights, x, fair: bool) -> np.ndarray:
    """Return 1 - Σ w² (m,); 1 where there is nothing to correct."""
    if not fair:
        return np.ones(len(x))
    left = 1 - (_weights(weights, x) ** 2).sum(axis=1)
    return np.where(left > 1e-12, left, 1.0)  # a single point has no spread


def _alike(predicted, true) -> tuple[np.ndarray, np.ndarray]:
    guess, true = np.asarray(predicted, float), np.asarray(true, float)
    if guess.shape != true.shape or true.ndim != 3 or true.shape[2] != 3 or not len(true):
        msg = f"both must be (m, ions, 3) with m > 0, got {guess.shape} and {true.shape}"
        raise ValueError(msg)
    return guess, true
