"""Draws of any sampler, weighted to the exact posterior by the simulator.

A geometry x drawn with density q(x) stands for prior(x) L(P | x) / q(x) of the posterior,
where L is the density of the measured momenta P, given those of x. Densities of geometries are
in mass-weighted Cartesian coordinates relative to the centre of mass, in the frame of P.

Every Cartesian component of p_i has independent Gaussian noise of variance v_i = f² |p_i|²,
p_i without noise; then the sum is taken out by variance, which leaves what noise is given that
it adds up to zero. So P has as many free components as there are ions but one, along each
axis, with the covariance diag(v) - v vᵀ/Σv.

The effective number of draws, 1/Σw², says what the weights are worth: near the number of draws
the sampler is nearly the posterior; near one, a single draw has all the weight and nothing is
known.
"""

import numpy as np

from coulex.ensemble import Ensemble
from coulex.explosions import simulate
from coulex.molecule import Molecule

from .prior import log_density


def log_likelihood(positions, momenta, masses, charges, *, noise, threads=None) -> np.ndarray:
    """Return the logarithm of the density of measured momenta, given geometries.

    Parameters
    ----------
    positions : (k, n, ions, 3) array
        In bohr, n geometries for each event, in the frame of its momenta.
    momenta : (k, ions, 3) array
        As measured, in atomic units, without a sum.
    masses : (ions,) array
    charges : (ions,) or (k, ions) array
    noise : float
        Standard deviation of each component of a momentum, relative to its length.
    threads : int, optional

    Returns
    -------
    (k, n) array
        -inf where a geometry cannot be simulated.

    Raises
    ------
    ValueError
        If the noise is not positive, or shapes disagree.
    """
    x, p = np.asarray(positions, float), np.asarray(momenta, float)
    if not noise > 0:
        msg = f"noise must be positive, got {noise}: without it, geometries have no weights"
        raise ValueError(msg)
    if x.ndim != 4 or p.shape != (len(x), *x.shape[2:]):
        msg = f"positions (k, n, ions, 3) and momenta (k, ions, 3), got {x.shape}, {p.shape}"
        raise ValueError(msg)
    there = np.isfinite(x).all(axis=(2, 3))
    own, q = np.nonzero(there)[0], np.asarray(charges, float)
    run = simulate(x[there], masses, q if q.ndim == 1 else q[own], threads=threads)
    gap = (p[own] - run.momenta)[:, :-1]  # the last follows from the sum
    covariance = _covariance(run.momenta, noise)[:, :-1, :-1]
    good = (run.status == 0) & np.isfinite(covariance).all(axis=(1, 2))
    sign, log = np.linalg.slogdet(covariance[good])
    good[good] = sign > 0
    solved = np.linalg.solve(covariance[good], gap[good])
    out, found = np.full(there.shape, -np.inf), np.full(len(own), -np.inf)
    free = 3 * gap.shape[1]
    found[good] = -0.5 * (
        (gap[good] * solved).sum(axis=(1, 2)) + 3 * log[sign > 0] + free * np.log(2 * np.pi)
    )
    out[there] = found
    return out


def _covariance(momenta, noise) -> np.ndarray:
    """Return the covariance (m, ions, ions) of noise without its sum, along one axis."""
    variance = noise**2 * (momenta**2).sum(axis=2)
    share = variance / variance.sum(axis=1, keepdims=True)
    return variance[:, :, None] * (np.eye(variance.shape[1]) - share[:, None])


def normalised(log_weights) -> np.ndarray:
    """Return weights (k, n) that add up to one; NaN for events of which all are zero."""
    log = np.asarray(log_weights, float)
    log = np.where(np.isnan(log), -np.inf, log)
    with np.errstate(invalid="ignore"):
        w = np.exp(log - log.max(axis=1, keepdims=True))
        return w / w.sum(axis=1, keepdims=True)


def log_weights(
    positions,
    log_q,
    momenta,
    masses,
    charges,
    *,
    noise,
    prior: tuple[Ensemble, Molecule] | None = None,
    threads=None,
) -> np.ndarray:
    """Return log(prior x likelihood / q) (k, n) of draws, up to a constant of each event.

    Parameters
    ----------
    positions, momenta, masses, charges, noise, threads
        As of `log_likelihood`.
    log_q : (k, n) array
        Logarithm of the density that the draws have been drawn with.
    prior : (Ensemble, Molecule), optional
        Without it all positions are as probable.

    Raises
    ------
    ValueError
        As `log_likelihood`; if shapes disagree or the prior has no density.
    """
    x, q = np.asarray(positions, float), np.asarray(log_q, float)
    if q.shape != x.shape[:2]:
        msg = f"log_q must be {x.shape[:2]}, got {q.shape}"
        raise ValueError(msg)
    log = log_likelihood(x, momenta, masses, charges, noise=noise, threads=threads)
    possible = np.isfinite(log) & np.isfinite(q)
    if prior is not None:
        log[possible] += log_density(*prior, x[possible])
    log[possible] -= q[possible]
    log[~possible] = -np.inf
    return log
