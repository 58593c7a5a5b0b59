"""Draws weighted by the simulator: its likelihood, and two proposals of one posterior."""

import numpy as np
import pytest
from geometries import CHARGES, MASSES, OCS, exact
from scipy.stats import multivariate_normal

import coulex
from coulex.ensemble import Gaussian
from coulex.frames import random_rotations, rotate
from coulex.inverse.posterior import log_likelihood, log_weights

NOISE = 0.02
PRIOR = (Gaussian(sigma=0.1), OCS)


def centred(x, masses=MASSES):
    return x - np.einsum("...ik,i->...k", x, masses)[..., None, :] / masses.sum()


def drawn(seed, count):
    x, _ = PRIOR[0].sample(OCS, seed=seed, first=0, count=count)
    return centred(rotate(x, random_rotations(seed, 0, count)))


def noisy(x, seed):
    p = exact(x)
    size = np.linalg.norm(p, axis=2, keepdims=True)
    noise = NOISE * size * np.random.default_rng(seed).normal(size=p.shape)
    return p + noise - noise.sum(axis=1, keepdims=True) * size**2 / (size**2).sum(1)[:, None]


def test_likelihood_is_that_of_a_gaussian_whose_sum_is_taken_out():
    x = drawn(3, 4)
    p = noisy(x, 1)
    found = log_likelihood(x[:, None], p, MASSES, CHARGES, noise=NOISE)[:, 0]
    for event, truth in enumerate(exact(x)):
        share = (truth**2).sum(axis=1) / (truth**2).sum()
        take = np.kron(np.eye(3) - share[:, None] * np.ones(3), np.eye(3))
        sigma = NOISE * np.repeat(np.linalg.norm(truth, axis=1), 3)
        covariance = (take @ np.diag(sigma**2) @ take.T)[:6, :6]
        expected = multivariate_normal.logpdf(
            p[event].ravel()[:6], truth.ravel()[:6], covariance
        )
        assert found[event] == pytest.approx(expected, rel=1e-6)


def test_a_draw_without_momenta_has_no_weight():
    x = np.stack([drawn(3, 2), np.full((2, 3, 3), np.nan), np.zeros((2, 3, 3))], axis=1)
    p = noisy(x[:, 0], 1)
    log = log_weights(x, np.zeros((2, 3)), p, MASSES, CHARGES, noise=NOISE, prior=PRIOR)
    assert np.isfinite(log[:, 0]).all()
    assert (log[:, 1:] == -np.inf).all()


def proposals(p, widths, count):
    """Draw from Gaussians about the most probable geometry, wider than linear theory says."""
    estimate = coulex.invert(p[None], MASSES, CHARGES, noise=NOISE, prior=PRIOR).estimate
    # mass-weighted coordinates without the motion of the centre
    free = np.linalg.svd(np.sqrt(MASSES / MASSES.sum())[None])[2][1:]
    to_free = np.kron(free * np.sqrt(MASSES), np.eye(3))
    from_free = np.kron((free / np.sqrt(MASSES)).T, np.eye(3))
    covariance = to_free @ estimate.covariance[0].reshape(9, 9) @ to_free.T
    for seed, width in enumerate(widths):
        law = multivariate_normal(np.zeros(6), width**2 * covariance)
        steps = law.rvs(count, random_state=seed)
        yield (
            estimate.positions[0] + (steps @ from_free.T).reshape(-1, 3, 3),
            law.logpdf(steps),
        )


def test_two_proposals_have_one_posterior():
    """And that of linear theory, a little wider, is not far from it."""
    p = noisy(drawn(5, 1), 2)[0]
    means, errors, evidences = [], [], []
    for x, log_q in proposals(p, (1.2, 1.6), 20_000):
        log = log_weights(
            x[None], log_q[None], p[None], MASSES, CHARGES, noise=NOISE, prior=PRIOR
        )[0]
        w = np.exp(log - log.max())
        w /= w.sum()
        assert 1 / (w**2).sum() > 2000
        bond = np.linalg.norm(x[:, 0] - x[:, 1], axis=1)
        means.append(w @ bond)
        errors.append(np.sqrt(w**2 @ (bond - means[-1]) ** 2))
        evidences.append(np.log(np.exp(log - log.max()).mean()) + log.max())
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)
    assert abs(evidences[0] - evidences[1]) < 0.1  # four deviations of 1/sqrt(ESS)


def test_what_is_wrong_is_said():
    x = drawn(3, 2)
    with pytest.raises(ValueError, match="noise must be positive"):
        log_likelihood(x[:, None], exact(x), MASSES, CHARGES, noise=0.0)
    with pytest.raises(ValueError, match="positions"):
        log_likelihood(x, exact(x), MASSES, CHARGES, noise=0.1)
    with pytest.raises(ValueError, match="log_q"):
        log_weights(x[:, None], np.zeros(2), exact(x), MASSES, CHARGES, noise=0.1)
